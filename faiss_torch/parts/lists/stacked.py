"""Inverted lists made of other inverted lists: stacked, sliced, masked, left out or capped.

The table of lists is seen as a sparse matrix, a row for each list. A stack says of which lists of its sources one of
its lists consists, and how many entries of them it shows; nothing is copied until a search loads what it probes. What
is added to the sources later shows in the stack.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NoReturn

import torch
from torch import Tensor

from ...border import Array, at_pointer, integers_in
from ..selectors import IDSelector
from .by_place import ListsByPlace
from .inverted_lists import InvertedLists
from .storage import ListStorage

_CPU = torch.device("cpu")

#: A source of a stack, and the number of the list in it.
Piece = tuple[InvertedLists, int]


class ReadOnlyInvertedLists(InvertedLists):
    """Lists that cannot be written to: all writing raises RuntimeError."""

    def require_writable(self) -> NoReturn:
        raise RuntimeError(f"{type(self).__name__} cannot be written to: add to the lists that it is made of")

    def add_to_lists(self, list_nos: Tensor, ids: Tensor, codes: Tensor) -> Tensor:
        self.require_writable()

    def write_entries(self, list_no: int, offset: int, ids: Tensor, codes: Tensor) -> None:
        self.require_writable()

    def resize(self, list_no: int, new_size: int) -> None:
        """Raise RuntimeError."""
        self.require_writable()

    def reset(self) -> None:
        """Raise RuntimeError."""
        self.require_writable()


class _Stack(ReadOnlyInvertedLists):
    """Lists that consist of pieces; a subclass gives `_pieces` and `_sizes`."""

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        """The lists of which one list consists, in order."""
        raise NotImplementedError

    def _sizes(self) -> Tensor:
        """The entries of each list: int64, CPU, shape (nlist,)."""
        raise NotImplementedError

    @property
    def sizes(self) -> Tensor:  # type: ignore[override]
        """Entries of each list: int64, CPU, shape (nlist,)."""
        return self._sizes()

    def list_size(self, list_no: int) -> int:
        """Return the number of entries of a list."""
        self._check_list(list_no)
        return sum(source.list_size(number) for source, number in self._pieces(list_no))

    def list_codes(self, list_no: int) -> Tensor:
        parts = [source.list_codes(number) for source, number in self._pieces(list_no)]
        return _joined(parts) if parts else torch.zeros(0, self.code_size, dtype=torch.uint8, device="cpu")

    def list_ids(self, list_no: int) -> Tensor:
        parts = [source.list_ids(number) for source, number in self._pieces(list_no)]
        return _joined(parts) if parts else torch.zeros(0, dtype=torch.int64, device="cpu")

    def prefetch_lists(self, list_nos: Array, nlist_in: int) -> None:
        """Let the sources prepare the lists that are about to be read."""
        wanted: dict[int, tuple[InvertedLists, list[int]]] = {}
        for list_no in integers_in(at_pointer(list_nos, nlist_in), _CPU).reshape(-1)[:nlist_in].tolist():
            if list_no >= 0:
                self._check_list(list_no)
                for source, number in self._pieces(list_no):
                    wanted.setdefault(id(source), (source, []))[1].append(number)
        for source, numbers in wanted.values():
            source.prefetch_lists(torch.tensor(numbers, dtype=torch.int64, device="cpu"), len(numbers))


def _joined(parts: list[Tensor]) -> Tensor:
    """The parts as one; not a copy if it is one, for a single entry may be all that is wanted of it."""
    return parts[0] if len(parts) == 1 else torch.cat([part.cpu() for part in parts])


def _several(n_il: int, ils: Sequence[InvertedLists]) -> list[InvertedLists]:
    """The sources in a vector's ``data()``, or any sequence.

    Raises
    ------
    RuntimeError
        If there are none, or not as many as said.
    """
    sources = list(ils)[: int(n_il)]
    if not sources or len(sources) < n_il:
        raise RuntimeError(f"{n_il} inverted lists asked for, {len(sources)} given, expected at least one")
    return sources


def _check_like(first: InvertedLists, other: InvertedLists, also_nlist: bool = True) -> None:
    same = first.code_size == other.code_size and (first.nlist == other.nlist or not also_nlist)
    if not same:
        raise RuntimeError(
            f"inverted lists of nlist={other.nlist}, code_size={other.code_size} do not fit to those of "
            f"nlist={first.nlist}, code_size={first.code_size}"
        )


class HStackInvertedLists(_Stack):
    """Each list is that of all sources, one behind the other.

    Parameters
    ----------
    n_il : int
    ils : sequence of InvertedLists
        The sources: ``InvertedListsPtrVector.data()``, or a list.
    """

    def __init__(self, n_il: int, ils: Sequence[InvertedLists]) -> None:
        self.ils = _several(n_il, ils)
        for source in self.ils:
            _check_like(self.ils[0], source)
        super().__init__(self.ils[0].nlist, self.ils[0].code_size)

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        return [(source, list_no) for source in self.ils]

    def _sizes(self) -> Tensor:
        return torch.stack([source.sizes for source in self.ils]).sum(0)


ConcatenatedInvertedLists = HStackInvertedLists


class VStackInvertedLists(_Stack):
    """The lists of the first source, then those of the second ...

    Parameters
    ----------
    n_il : int
    ils : sequence of InvertedLists
        The sources: ``InvertedListsPtrVector.data()``, or a list.
    """

    def __init__(self, n_il: int, ils: Sequence[InvertedLists]) -> None:
        self.ils = _several(n_il, ils)
        for source in self.ils:
            _check_like(self.ils[0], source, also_nlist=False)
        self.cumsz = [0, *accumulate(source.nlist for source in self.ils)]
        super().__init__(self.cumsz[-1], self.ils[0].code_size)

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        which = bisect_right(self.cumsz, list_no) - 1
        return [(self.ils[which], list_no - self.cumsz[which])]

    def _sizes(self) -> Tensor:
        return torch.cat([source.sizes for source in self.ils])


class SliceInvertedLists(_Stack):
    """Some lists of a source.

    Parameters
    ----------
    il_ : InvertedLists
    i0_, i1_ : int
        The lists i0 ... i1 - 1.

    Raises
    ------
    RuntimeError
        If the source does not have these lists.
    """

    def __init__(self, il_: InvertedLists, i0_: int, i1_: int) -> None:
        if not 0 <= i0_ <= i1_ <= il_.nlist:
            raise RuntimeError(f"the lists {i0_} ... {i1_ - 1} are not within the {il_.nlist} lists given")
        super().__init__(i1_ - i0_, il_.code_size)
        self.il, self.i0, self.i1 = il_, int(i0_), int(i1_)

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        return [(self.il, list_no + self.i0)]

    def _sizes(self) -> Tensor:
        return self.il.sizes[self.i0 : self.i1]


class MaskedInvertedLists(_Stack):
    """Each list is the one of the first source, unless it is empty: then that of the second.

    Parameters
    ----------
    il0_in, il1_in : InvertedLists
    """

    def __init__(self, il0_in: InvertedLists, il1_in: InvertedLists) -> None:
        _check_like(il0_in, il1_in)
        super().__init__(il0_in.nlist, il0_in.code_size)
        self.il0, self.il1 = il0_in, il1_in

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        return [(self.il0 if self.il0.list_size(list_no) else self.il1, list_no)]

    def _sizes(self) -> Tensor:
        first = self.il0.sizes
        return torch.where(first > 0, first, self.il1.sizes)


class StopWordsInvertedLists(_Stack):
    """The lists of a source; those of `maxsize` entries or more are shown empty.

    Parameters
    ----------
    il0_in : InvertedLists
    maxsize_in : int
    """

    def __init__(self, il0_in: InvertedLists, maxsize_in: int) -> None:
        super().__init__(il0_in.nlist, il0_in.code_size)
        self.il0, self.maxsize = il0_in, int(maxsize_in)

    def _pieces(self, list_no: int) -> Sequence[Piece]:
        return [(self.il0, list_no)] if self.il0.list_size(list_no) < self.maxsize else []

    def _sizes(self) -> Tensor:
        sizes = self.il0.sizes
        return sizes.masked_fill(sizes >= self.maxsize, 0)


class CappedInvertedLists(InvertedLists):
    """The lists of a source, of which only the first `maxsize` entries are shown. What is written goes to the source.

    Parameters
    ----------
    il : InvertedLists
    maxsize : int
    """

    def __init__(self, il: InvertedLists, maxsize: int) -> None:
        super().__init__(il.nlist, il.code_size)
        self.il0, self.maxsize = il, int(maxsize)

    @property
    def sizes(self) -> Tensor:  # type: ignore[override]
        """Entries shown of each list: int64, CPU, shape (nlist,)."""
        return self.il0.sizes.clamp(max=self.maxsize)

    def real_list_size(self, list_no: int) -> int:
        """Return how many entries a list of the source has."""
        return self.il0.list_size(list_no)

    def list_size(self, list_no: int) -> int:
        """Return how many entries of a list are shown."""
        return min(self.il0.list_size(list_no), self.maxsize)

    def list_codes(self, list_no: int) -> Tensor:
        return self.il0.list_codes(list_no)[: self.maxsize]

    def list_ids(self, list_no: int) -> Tensor:
        return self.il0.list_ids(list_no)[: self.maxsize]

    def prefetch_lists(self, list_nos: Array, nlist: int) -> None:
        """Let the source prepare the lists that are about to be read."""
        self.il0.prefetch_lists(list_nos, nlist)

    def require_writable(self) -> None:
        self.il0.require_writable()

    def add_to_lists(self, list_nos: Tensor, ids: Tensor, codes: Tensor) -> Tensor:
        return self.il0.add_to_lists(list_nos, ids.to(self.il0.device), codes.to(self.il0.device))

    def add_entries(self, list_no: int, n_entry: int, ids: object, code: object) -> int:
        """Append entries to a list of the source and return the offset of the first there."""
        return self.il0.add_entries(list_no, n_entry, ids, code)

    def write_entries(self, list_no: int, offset: int, ids: Tensor, codes: Tensor) -> None:
        self.il0.write_entries(list_no, offset, ids.to(self.il0.device), codes.to(self.il0.device))

    def update_entries(self, list_no: int, offset: int, n_entry: int, ids: object, code: object) -> None:
        """Replace entries of a list of the source, those that are not shown too."""
        self.il0.update_entries(list_no, offset, n_entry, ids, code)

    def resize(self, list_no: int, new_size: int) -> None:
        """Change the number of entries of a list of the source."""
        self.il0.resize(list_no, new_size)

    def reset(self) -> None:
        """Remove all entries of the source."""
        self.il0.reset()

    def remove_entries(self, sel: IDSelector) -> int:
        return self.il0.remove_entries(sel)  # which keeps what is not shown

    def remove_entry(self, list_no: int, offset: int) -> int | None:
        return self.il0.remove_entry(list_no, offset)

    def written_to(self) -> ListStorage | ListsByPlace:
        return self.il0.written_to()

    def rename_ids(self, new_ids: dict[int, int]) -> None:
        self.il0.rename_ids(new_ids)

    def renumber_ids(self, numbers: Tensor) -> None:
        self.il0.renumber_ids(numbers)
