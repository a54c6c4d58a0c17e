"""IDSelector: which ids an operation applies to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..border import integers_in
from ..pointers import Pointer, pointed

_CPU = torch.device("cpu")


def _given_ids(arguments: tuple[Any, ...], dtype: str, name: str) -> Any:
    """Read the two call forms of faiss: ``(array)`` and ``(n, swig_ptr(array))``."""
    if len(arguments) == 1:
        return arguments[0]
    n, pointer = arguments
    return pointed(pointer, int(n), dtype, name).copy() if isinstance(pointer, Pointer) else pointer[:n]


class IDSelector:
    """Selects ids; the base of all selectors."""

    def mask(self, ids: Tensor) -> Tensor:
        """Return which of the ids are selected.

        Parameters
        ----------
        ids : Tensor, int64

        Returns
        -------
        Tensor, bool, of the same shape and on the same device
        """
        raise NotImplementedError

    def is_member(self, id: int) -> bool:
        """Return whether one id is selected."""
        return bool(self.mask(torch.tensor([id]))[0])


class IDSelectorRange(IDSelector):
    """Ids in [imin, imax).

    Parameters
    ----------
    imin, imax : int
    assume_sorted : bool
        Whether the ids of lists are known to be in order; taken and kept, the result is the same.
    """

    def __init__(self, imin: int, imax: int, assume_sorted: bool = False) -> None:
        self.imin, self.imax, self.assume_sorted = imin, imax, assume_sorted

    def mask(self, ids: Tensor) -> Tensor:
        return (ids >= self.imin) & (ids < self.imax)


class _IDSelectorListed(IDSelector):
    def __init__(self, *arguments: Any) -> None:
        self._ids = integers_in(_given_ids(arguments, "int64", type(self).__name__), _CPU).reshape(-1)
        self.n = len(self._ids)

    @property
    def ids(self) -> Pointer:
        """A pointer to the ids, int64."""
        return Pointer(self._ids.numpy())

    def mask(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, self._ids.to(ids.device))


class IDSelectorArray(_IDSelectorListed):
    """Ids in an array: ``IDSelectorArray(ids)`` or ``IDSelectorArray(n, swig_ptr(ids))``."""


class IDSelectorBatch(_IDSelectorListed):
    """Ids in a set: ``IDSelectorBatch(ids)`` or ``IDSelectorBatch(n, swig_ptr(ids))``."""


class IDSelectorBitmap(IDSelector):
    """Ids whose bit is set: ``IDSelectorBitmap(bytes)`` or ``IDSelectorBitmap(n, swig_ptr(bytes))``.

    Bit i is ``(bytes[i >> 3] >> (i & 7)) & 1``; ids outside are not selected.
    """

    def __init__(self, *arguments: Any) -> None:
        given = _given_ids(arguments, "uint8", "IDSelectorBitmap")
        self._bytes = torch.as_tensor(given).to(torch.uint8).reshape(-1)
        self.n = len(self._bytes)

    def mask(self, ids: Tensor) -> Tensor:
        byte = ids >> 3
        inside = (ids >= 0) & (byte < self.n)
        if self.n == 0:
            return inside
        bits = self._bytes.to(ids.device)[byte.clamp(0, self.n - 1)] >> (ids & 7).to(torch.uint8)
        return inside & (bits & 1).bool()


class IDSelectorAll(IDSelector):
    """Every id."""

    def mask(self, ids: Tensor) -> Tensor:
        return torch.ones_like(ids, dtype=torch.bool)


class IDSelectorNot(IDSelector):
    """Ids that another selector does not select."""

    def __init__(self, sel: IDSelector) -> None:
        self.sel = sel

    def mask(self, ids: Tensor) -> Tensor:
        return ~self.sel.mask(ids)


class _IDSelectorPair(IDSelector):
    def __init__(self, lhs: IDSelector, rhs: IDSelector) -> None:
        self.lhs, self.rhs = lhs, rhs


class IDSelectorAnd(_IDSelectorPair):
    """Ids that both selectors select."""

    def mask(self, ids: Tensor) -> Tensor:
        return self.lhs.mask(ids) & self.rhs.mask(ids)


class IDSelectorOr(_IDSelectorPair):
    """Ids that either selector selects."""

    def mask(self, ids: Tensor) -> Tensor:
        return self.lhs.mask(ids) | self.rhs.mask(ids)


class IDSelectorXOr(_IDSelectorPair):
    """Ids that one of the two selectors selects and the other does not."""

    def mask(self, ids: Tensor) -> Tensor:
        return self.lhs.mask(ids) ^ self.rhs.mask(ids)


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
