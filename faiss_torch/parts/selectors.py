"""IDSelector: which ids an operation applies to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..attributes import CheckedAttributes, Int64, integer
from ..border import Array, integers_in, tensor_of
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, pointed

_CPU = torch.device("cpu")


#: A table of which ids are selected has at most this many entries, or this many for each id that takes part.
SMALL_TABLE = 1 << 20
TABLE_ENTRIES_AN_ID = 64

#: Which bits each value of a byte has, lowest first: uint8, (256, 8).
_BYTES = torch.arange(256, dtype=torch.int64, device="cpu")
_BITS_OF_BYTES = (_BYTES[:, None] >> _BYTES[:8] & 1).to(torch.uint8)


def _given(arguments: tuple[Any, ...], dtype: str, name: str) -> Any:
    """Read the two call forms of faiss: ``(array)`` and ``(n, swig_ptr(array))``."""
    if len(arguments) not in (1, 2):
        raise TypeError(f"{name} takes an array, or a number of elements and a pointer; got {len(arguments)} arguments")
    if len(arguments) == 1:
        return arguments[0]
    n, pointer = arguments
    if not isinstance(pointer, Pointer):
        raise TypeError(f"{name}: after a number of elements, expected swig_ptr(array), got {type(pointer).__name__}")
    if n < 0:
        raise OverflowError(f"{name}: a number of elements cannot be {n}")
    return pointed(pointer, int(n), dtype, name)


class IDSelector(Owned):
    """Selects ids; the base of all selectors. A subclass writes `mask`, and may write a faster `mask_of_range`."""

    @property
    def takes_any_id(self) -> bool:
        """Whether `mask` may be asked about any number, and not just about ids of vectors that there are."""
        return False

    def mask(self, ids: Tensor) -> Tensor:
        """Return which of the ids are selected.

        Parameters
        ----------
        ids : Tensor, int64

        Returns
        -------
        Tensor, bool, of the same shape and on the same device
            A new one, which the caller may change.
        """
        raise NotImplementedError

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        """Return which of the ids begin, begin + 1, ... end - 1 are selected: bool, (end - begin,)."""
        return self.mask(torch.arange(begin, end, dtype=torch.int64, device=device))

    def is_member(self, id: int) -> bool:
        """Return whether one id is selected."""
        return bool(self.mask(torch.tensor([integer(id, "id")], dtype=torch.int64, device="cpu"))[0])


class _IDSelectorOfAny(IDSelector):
    """Selects from all numbers."""

    @property
    def takes_any_id(self) -> bool:
        return True


class _Table(NamedTuple):
    """Which of the ids lowest, lowest + 1, ... are selected; no others are."""

    lowest: int
    selected: Tensor

    @staticmethod
    def of_ids(ids: Tensor, lowest: int, entries: int) -> _Table:
        selected = torch.zeros(entries, dtype=torch.bool, device=ids.device)
        return _Table(lowest, selected.index_fill_(0, ids - lowest, True))

    def mask(self, ids: Tensor) -> Tensor:
        if not len(self.selected):
            return torch.zeros_like(ids, dtype=torch.bool)
        within = ids.clamp(self.lowest, self.lowest + len(self.selected) - 1)
        found = self.selected.index_select(0, (within - self.lowest).view(-1)).view(ids.shape)
        return found.logical_and_(within == ids)

    def mask_of_range(self, begin: int, end: int) -> Tensor:
        mask = torch.zeros(end - begin, dtype=torch.bool, device=self.selected.device)
        first, last = max(begin, self.lowest), min(end, self.lowest + len(self.selected))
        if first < last:
            mask[first - begin : last - begin] = self.selected[first - self.lowest : last - self.lowest]
        return mask


class IDSelectorRange(_IDSelectorOfAny, CheckedAttributes):
    """Ids in [imin, imax).

    Parameters
    ----------
    imin, imax : int
    assume_sorted : bool
        Whether the ids of lists are known to be in order; taken and kept, the result is the same.
    """

    imin: Int64
    imax: Int64
    assume_sorted: bool

    def __init__(self, imin: int, imax: int, assume_sorted: bool = False) -> None:
        self.imin, self.imax, self.assume_sorted = imin, imax, assume_sorted

    def find_sorted_ids_bounds(self, list_size: int, ids: Pointer, jmin: Pointer, jmax: Pointer) -> None:
        """Write which part of ids in ascending order is selected: from the first to before the second of two uint64."""
        name = "find_sorted_ids_bounds"
        bounds = np.searchsorted(pointed(ids, list_size, "int64", name), [self.imin, max(self.imin, self.imax)])
        for out, bound in zip((jmin, jmax), bounds if bounds[0] < bounds[1] else (0, 0), strict=True):
            pointed(out, 1, "uint64", name)[0] = bound

    def mask(self, ids: Tensor) -> Tensor:
        return (ids >= self.imin).logical_and_(ids < self.imax)

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        mask = torch.zeros(end - begin, dtype=torch.bool, device=device)
        first, last = max(begin, self.imin), min(end, self.imax)
        if first < last:
            mask[first - begin : last - begin] = True
        return mask


class _ListedIds:
    """Ids that do not change, and what was made of them for each device."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self.lowest, self.highest = (int(bound) for bound in ids.aminmax()) if len(ids) else (0, -1)
        self._tables: dict[torch.device, _Table] = {}
        self._sorted: dict[torch.device, Tensor] = {}

    def table(self, asked: int, device: torch.device) -> _Table | None:
        """Return the ids as a table, or None where it would be large for so few ids and so few asked about."""
        entries = self.highest - self.lowest + 1
        if entries > max(SMALL_TABLE, TABLE_ENTRIES_AN_ID * (len(self.ids) + asked)):
            return None
        if device not in self._tables:
            self._tables[device] = _Table.of_ids(self.ids.to(device), self.lowest, entries)
        return self._tables[device]

    def mask(self, ids: Tensor) -> Tensor:
        table = self.table(ids.numel(), ids.device)
        if table is not None:
            return table.mask(ids)
        if ids.device not in self._sorted:
            self._sorted[ids.device] = self.ids.to(ids.device).sort().values
        listed = self._sorted[ids.device]
        place = torch.searchsorted(listed, ids.contiguous()).clamp_(max=len(listed) - 1)
        return listed[place] == ids

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        table = self.table(end - begin, device)
        if table is not None:
            return table.mask_of_range(begin, end)
        inside = self.ids[(self.ids >= begin) & (self.ids < end)]
        return _Table.of_ids(inside.to(device), begin, end - begin).selected


class _IDSelectorListed(_IDSelectorOfAny):
    _listed: _ListedIds

    def __init__(self, *arguments: Any) -> None:
        self._ids = integers_in(_given(arguments, "int64", type(self).__name__), _CPU).reshape(-1)
        self.n = len(self._ids)
        self._listed = _ListedIds(self._ids.clone())

    @property
    def ids(self) -> Pointer:
        """A pointer to the ids, int64."""
        return Pointer(self._ids.numpy())

    def mask(self, ids: Tensor) -> Tensor:
        return self._current().mask(ids)

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        return self._current().mask_of_range(begin, end, device)

    def _current(self) -> _ListedIds:
        return self._listed


class IDSelectorArray(_IDSelectorListed):
    """Ids in an array: ``IDSelectorArray(ids)`` or ``IDSelectorArray(n, swig_ptr(ids))``.

    The array stays the caller's, and what is written to it later counts, if it is of int64.
    """

    def _current(self) -> _ListedIds:
        listed = self._listed
        if not torch.equal(listed.ids, self._ids):
            listed = self._listed = _ListedIds(self._ids.clone())
        return listed


class IDSelectorBatch(_IDSelectorListed):
    """Ids in a set: ``IDSelectorBatch(ids)`` or ``IDSelectorBatch(n, swig_ptr(ids))``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ids = self._listed.ids  # and not the caller's


class IDSelectorBitmap(_IDSelectorOfAny):
    """Ids whose bit is set: ``IDSelectorBitmap(bytes)`` or ``IDSelectorBitmap(n, swig_ptr(bytes))``.

    Bit i is ``(bytes[i >> 3] >> (i & 7)) & 1``; ids outside are not selected. The bytes stay the caller's, and what is
    written to them later counts.
    """

    def __init__(self, *arguments: Array | Pointer) -> None:
        given = _given(arguments, "uint8", "IDSelectorBitmap")
        if not isinstance(given, (np.ndarray, Tensor)):
            raise ValueError(f"IDSelectorBitmap: expected an array of uint8, got {type(given).__name__}")
        if str(given.dtype).removeprefix("torch.") != "uint8":
            raise TypeError(f"IDSelectorBitmap: expected an array of uint8, got one of {given.dtype}")
        self._bytes = (tensor_of(np.ascontiguousarray(given)) if isinstance(given, np.ndarray) else given).reshape(-1)
        self.n = len(self._bytes)

    def _unpacked(self, first: int, last: int, device: torch.device) -> Tensor:
        """The bits of bytes first ... last - 1: bool, (8 * (last - first),)."""
        # looked up: the eight of each byte are one int64 of bytes
        eights = _BITS_OF_BYTES.to(device).view(torch.int64).view(-1)
        return eights.index_select(0, self._bytes[first:last].to(device).int()).view(torch.uint8).view(torch.bool)

    def mask(self, ids: Tensor) -> Tensor:
        if 8 * self.n <= TABLE_ENTRIES_AN_ID * ids.numel():
            return _Table(0, self._unpacked(0, self.n, ids.device)).mask(ids)
        byte = ids >> 3
        inside = (ids >= 0) & (byte < self.n)
        bits = self._bytes.to(ids.device)[byte.clamp_(0, self.n - 1)] >> (ids & 7).to(torch.uint8)
        return inside & (bits & 1).bool()

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        first, last = (min(max(0, bound), self.n) for bound in (begin >> 3, (end + 7) >> 3))
        return _Table(8 * first, self._unpacked(first, last, device)).mask_of_range(begin, end)


class IDSelectorAll(_IDSelectorOfAny):
    """Every id."""

    def mask(self, ids: Tensor) -> Tensor:
        return torch.ones_like(ids, dtype=torch.bool)

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        return torch.ones(end - begin, dtype=torch.bool, device=device)


def _require_selector(given: Any, owner: str) -> IDSelector:
    if not isinstance(given, IDSelector):
        raise TypeError(f"{owner}: expected an IDSelector, got {type(given).__name__}")
    return given


class PyCallbackIDSelector(IDSelector):
    """Ids for which a function returns true: it is called for every id that is looked at, one by one.

    Parameters
    ----------
    callback : callable
        Takes an int, returns a bool.
    """

    def __init__(self, callback: Callable[[int], bool]) -> None:
        self.callback = callback

    def mask(self, ids: Tensor) -> Tensor:
        chosen = [bool(self.callback(id)) for id in ids.reshape(-1).tolist()]
        return torch.tensor(chosen, dtype=torch.bool, device=ids.device).reshape(ids.shape)


class IDSelectorNot(IDSelector):
    """Ids that another selector does not select."""

    def __init__(self, sel: IDSelector) -> None:
        self.sel = _require_selector(sel, "IDSelectorNot")

    @property
    def takes_any_id(self) -> bool:
        return self.sel.takes_any_id

    def mask(self, ids: Tensor) -> Tensor:
        return self.sel.mask(ids).logical_not_()

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        return self.sel.mask_of_range(begin, end, device).logical_not_()


class _IDSelectorPair(IDSelector):
    def __init__(self, lhs: IDSelector, rhs: IDSelector) -> None:
        self.lhs = _require_selector(lhs, type(self).__name__)
        self.rhs = _require_selector(rhs, type(self).__name__)

    @property
    def takes_any_id(self) -> bool:
        return self.lhs.takes_any_id and self.rhs.takes_any_id

    @staticmethod
    def _joined(left: Tensor, right: Tensor) -> Tensor:
        """The mask of this pair from those of its two selectors."""
        raise NotImplementedError

    def mask(self, ids: Tensor) -> Tensor:
        return self._joined(self.lhs.mask(ids), self.rhs.mask(ids))

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        return self._joined(self.lhs.mask_of_range(begin, end, device), self.rhs.mask_of_range(begin, end, device))


class IDSelectorAnd(_IDSelectorPair):
    """Ids that both selectors select."""

    @staticmethod
    def _joined(left: Tensor, right: Tensor) -> Tensor:
        return left.logical_and_(right)


class IDSelectorOr(_IDSelectorPair):
    """Ids that either selector selects."""

    @staticmethod
    def _joined(left: Tensor, right: Tensor) -> Tensor:
        return left.logical_or_(right)


class IDSelectorXOr(_IDSelectorPair):
    """Ids that one of the two selectors selects and the other does not."""

    @staticmethod
    def _joined(left: Tensor, right: Tensor) -> Tensor:
        return left.logical_xor_(right)


def selector_of(x: Any) -> IDSelector:
    """Return a selector for what ``remove_ids`` was given: a selector, or a 1-d array of ids.

    Raises
    ------
    AttributeError
        If it is neither (a list has no ``ndim``), as in faiss.
    AssertionError
        If the array is not one-dimensional.
    """
    if isinstance(x, IDSelector):
        return x
    if x.ndim != 1:
        raise AssertionError(f"expected a 1-dimensional array of ids, got {x.ndim} dimensions")
    return IDSelectorArray(x)
