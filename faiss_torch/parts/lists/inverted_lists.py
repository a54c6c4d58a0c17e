"""InvertedLists: the codes and ids of each list, with faiss's names, and the form of them that is in memory.

A subclass gives ``sizes``, ``list_codes``, ``list_ids``, and if it can be written to, ``add_to_lists``,
``write_entries`` and ``resize``. What an index does with lists is written with these in `ListsByPlace`, and once more
in `ListStorage` for lists that are in one storage.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from ... import interrupts
from ...attributes import integer, size
from ...border import Array, at_pointer, integers_in, tensor_of
from ...ops.runtime import chunks
from ...ops.scoring.ragged import ranges
from ...wrapper.ownership import Owned
from ...wrapper.pointers import Pointer
from ...wrapper.vectors import ObjectVector
from .by_place import ListsByPlace
from .deferred import DeferredListStorage

_CPU = torch.device("cpu")


class InvertedLists(Owned, ListsByPlace):
    """A table of lists of (id, code).

    Attributes
    ----------
    nlist : int
    code_size : int
        Bytes of a code.
    use_iterator : bool
        False: these lists are read as blocks.
    """

    INVALID_CODE_SIZE = (1 << 64) - 1
    SUBSET_TYPE_ID_RANGE = 0
    SUBSET_TYPE_ID_MOD = 1
    SUBSET_TYPE_ELEMENT_RANGE = 2
    SUBSET_TYPE_INVLIST_FRACTION = 3
    SUBSET_TYPE_INVLIST = 4

    def __init__(self, nlist: int, code_size: int) -> None:
        self.nlist = size(nlist, "nlist")
        self.code_size = size(code_size, "code_size")
        self.use_iterator = False

    # reading single lists

    def list_size(self, list_no: int) -> int:
        """Return the number of entries of a list."""
        self._check_list(list_no)
        return int(self.sizes[list_no])

    def _check_list(self, list_no: int) -> None:
        if not 0 <= integer(list_no, "list_no") < self.nlist:
            raise RuntimeError(f"list number {list_no} is outside 0 ... {self.nlist - 1}")

    def is_empty(self, list_no: int, inverted_list_context: object = None) -> bool:
        """Return whether a list has no entries."""
        return self.list_size(list_no) == 0

    def get_codes(self, list_no: int) -> Pointer:
        """Return a pointer to a list's codes, ``list_size * code_size`` bytes (a copy on an accelerator)."""
        self._check_list(list_no)
        return Pointer(self.list_codes(list_no).cpu().numpy().reshape(-1))

    def get_ids(self, list_no: int) -> Pointer:
        """Return a pointer to a list's ids, int64 (a copy on an accelerator)."""
        self._check_list(list_no)
        return Pointer(self.list_ids(list_no).cpu().numpy())

    def get_single_id(self, list_no: int, offset: int) -> int:
        """Return one id."""
        self._check_offset(list_no, offset)
        return int(self.list_ids(list_no)[offset])

    def get_single_code(self, list_no: int, offset: int) -> Pointer:
        """Return a pointer to one code."""
        self._check_offset(list_no, offset)
        return Pointer(self.list_codes(list_no)[offset].cpu().numpy())

    def _check_offset(self, list_no: int, offset: int) -> None:
        if not 0 <= offset < self.list_size(list_no):
            raise RuntimeError(f"offset {offset} is outside list {list_no} of {self.list_size(list_no)} entries")

    def release_codes(self, list_no: int, codes: Pointer) -> None:
        """Do nothing: the pointer from `get_codes` needs no release."""

    def release_ids(self, list_no: int, ids: Pointer) -> None:
        """Do nothing: the pointer from `get_ids` needs no release."""

    def prefetch_lists(self, list_nos: Array, nlist_in: int) -> None:
        """Prepare lists that are about to be read; nothing to do for most kinds.

        Parameters
        ----------
        list_nos : pointer to int64, or array
            -1 is passed over.
        nlist_in : int
            How many they are.
        """

    # writing single lists

    def add_entry(self, list_no: int, theid: int, code: object, inverted_list_context: object = None) -> int:
        """Append one entry and return its offset; `code` is a pointer or an array of code_size bytes."""
        return self.add_entries(list_no, 1, torch.tensor([theid], dtype=torch.int64, device="cpu"), code)

    def add_entries(self, list_no: int, n_entry: int, ids: object, code: object) -> int:
        """Append entries (pointers as from swig_ptr, or arrays) to a list and return the offset of the first."""
        self._check_list(list_no)
        given_ids, given_codes = self._entries(n_entry, ids, code)
        first = self.list_size(list_no)
        self.add_to_lists(torch.full((n_entry,), list_no, dtype=torch.int64, device="cpu"), given_ids, given_codes)
        return first

    def update_entry(self, list_no: int, offset: int, id: int, code: object) -> None:
        """Replace one entry."""
        self.update_entries(list_no, offset, 1, torch.tensor([id], dtype=torch.int64, device="cpu"), code)

    def update_entries(self, list_no: int, offset: int, n_entry: int, ids: object, code: object) -> None:
        """Replace entries offset ... offset + n_entry - 1 of a list."""
        self._check_list(list_no)
        if n_entry:
            self._check_offset(list_no, offset)
            self._check_offset(list_no, offset + n_entry - 1)
            self.write_entries(list_no, offset, *self._entries(n_entry, ids, code))

    def _entries(self, n: int, ids: Any, codes: Any) -> tuple[Tensor, Tensor]:
        given = at_pointer(codes, n * self.code_size)
        given = given if isinstance(given, Tensor) else tensor_of(given)
        given_ids = integers_in(at_pointer(ids, n), self.device).reshape(n)
        return given_ids, given.to(self.device).reshape(n, self.code_size)

    def reset(self) -> None:
        """Remove all entries."""
        for list_no in self.sizes.nonzero().view(-1).tolist():
            self.resize(list_no, 0)

    # whole tables

    def compute_ntotal(self) -> int:
        """Return the number of entries of all lists."""
        return int(self.sizes.sum())

    def imbalance_factor(self) -> float:
        """Return 1 for lists of equal sizes, more the less equal they are (the cost of a scan against that)."""
        sizes = self.sizes
        total = float(sizes.sum())
        return float(sizes.double().square().sum()) * self.nlist / (total * total) if total else float("nan")

    def print_stats(self) -> None:
        """Print how many lists have which number of entries, as powers of two."""
        sizes = self.sizes
        top = int(sizes.max()) if self.nlist else 0
        counts = torch.bincount(sizes.clamp(min=1).double().log2().floor().long()[sizes > 0])
        empty = int((sizes == 0).sum())
        print(f"list_sizes: {empty} empty, largest {top}")
        for power, count in enumerate(counts.tolist()):
            print(f"list size in [{1 << power}, {2 << power}): {count} instances")
        sys.stdout.flush()

    def require_writable(self) -> None:
        """Raise RuntimeError if these lists cannot be written to."""

    def merge_from(self, oivf: InvertedLists, add_id: int) -> None:
        """Move all entries of other lists to the ends of these, with `add_id` added to their ids.

        Raises
        ------
        RuntimeError
            If the lists differ in number or code size, or one of both cannot be written to.
        """
        self._check_same_shape(oivf)
        self.require_writable()
        oivf.require_writable()
        _, places = oivf.all_ids_and_places()
        self._append(oivf, places, add_id)
        oivf.reset()

    def _append(self, other: InvertedLists, places: Tensor, add_id: int = 0) -> None:
        """Append copies of other lists' entries, given by their places, to the lists of the same numbers."""
        self.make_room_for(torch.bincount(places >> 32, minlength=self.nlist))
        sizes = self.sizes.clone()
        try:
            for part in chunks.slices(len(places), chunks.rows_within(self.code_size + 8)):
                rows = other.positions_of(places[part]).to(other.device)
                ids = other.ids_at(rows).to(self.device) + add_id
                self.add_to_lists(places[part] >> 32, ids, other.codes_at(rows).to(self.device))
        except BaseException:  # all or nothing, also where it is interrupted
            with interrupts.shielded():
                for list_no in (self.sizes > sizes).nonzero().view(-1).tolist():
                    self.resize(list_no, int(sizes[list_no]))
            raise

    def _check_same_shape(self, other: InvertedLists) -> None:
        if (self.nlist, self.code_size) != (other.nlist, other.code_size):
            raise RuntimeError(
                f"inverted lists differ: nlist {other.nlist} and code_size {other.code_size} given, "
                f"expected {self.nlist} and {self.code_size}"
            )

    def copy_subset_to(self, other: InvertedLists, subset_type: int, a1: int, a2: int) -> int:
        """Append a subset of the entries to other lists.

        Parameters
        ----------
        other : InvertedLists
        subset_type : int
            ``SUBSET_TYPE_ID_RANGE``: ids in [a1, a2). ``SUBSET_TYPE_ID_MOD``: ids with ``id % a1 == a2``.
            ``SUBSET_TYPE_ELEMENT_RANGE``: about the a1-th to the a2-th of all entries, spread evenly over the lists.
            ``SUBSET_TYPE_INVLIST_FRACTION``: part a2 of a1 equal parts of each list. ``SUBSET_TYPE_INVLIST``: the
            lists a1 ... a2 - 1.

        Returns
        -------
        int
            How many entries were copied.
        """
        self._check_same_shape(other)
        other.require_writable()
        ids, places = self.all_ids_and_places()
        list_nos, offsets, sizes = places >> 32, places & 0xFFFFFFFF, self.sizes
        if subset_type == self.SUBSET_TYPE_ID_RANGE:
            chosen = (ids >= a1) & (ids < a2)
        elif subset_type == self.SUBSET_TYPE_ID_MOD:
            chosen = ids.fmod(a1) == a2
        elif subset_type == self.SUBSET_TYPE_ELEMENT_RANGE:
            ends = sizes.cumsum(0)
            total = max(1, int(ends[-1]))
            zero = torch.zeros(1, dtype=torch.int64, device="cpu")
            first = torch.div(ends * a1, total, rounding_mode="floor").diff(prepend=zero)
            last = torch.div(ends * a2, total, rounding_mode="floor").diff(prepend=zero)
            chosen = (offsets >= first[list_nos]) & (offsets < last[list_nos])
        elif subset_type == self.SUBSET_TYPE_INVLIST_FRACTION:
            first = torch.div(sizes * a2, a1, rounding_mode="floor")
            last = torch.div(sizes * (a2 + 1), a1, rounding_mode="floor")
            chosen = (offsets >= first[list_nos]) & (offsets < last[list_nos])
        elif subset_type == self.SUBSET_TYPE_INVLIST:
            chosen = (list_nos >= a1) & (list_nos < a2)
        else:
            raise RuntimeError(f"subset type {subset_type} is not one of 0 ... 4")
        other._append(self, places[chosen])
        return int(chosen.sum())


class ArrayInvertedLists(DeferredListStorage, InvertedLists):
    """Inverted lists in memory: see `ListStorage` and `DeferredListStorage` for how they are kept.

    Parameters
    ----------
    nlist : int
    code_size : int
    device : torch.device, optional
        Where codes and ids live; the default is `border.default_device`.
    """

    def __init__(self, nlist: int, code_size: int, device: torch.device | None = None) -> None:
        InvertedLists.__init__(self, nlist, code_size)
        DeferredListStorage.__init__(self, nlist, code_size, device)

    def elsewhere(self) -> InvertedLists | None:
        """Return None: a search reads these lists as they are."""
        return None

    def write_entries(self, list_no: int, offset: int, ids: Tensor, codes: Tensor) -> None:
        begin = int(self._begins[list_no]) + offset
        self._write(torch.arange(begin, begin + len(ids), dtype=torch.int64, device=self.device), ids, codes)

    def resize(self, list_no: int, new_size: int) -> None:
        """Change the number of entries of a list; new entries are zero until they are updated."""
        self._check_list(list_no)
        old = self.list_size(list_no)
        if new_size <= old:
            self._shrink(list_no, new_size)
            return
        n = new_size - old
        zero_codes = torch.zeros(n, self.code_size, dtype=torch.uint8, device="cpu")
        self.add_entries(list_no, n, torch.zeros(n, dtype=torch.int64, device="cpu"), zero_codes)

    def reset(self) -> None:
        """Remove all entries."""
        self._make_empty()

    def permute_invlists(self, map: Array) -> None:
        """Reorder the lists: list i becomes the old list ``map[i]``; an array, or a pointer to nlist int64."""
        order = integers_in(at_pointer(map, self.nlist), _CPU)
        self.sizes, self._begins, self._rooms = self.sizes[order], self._begins[order], self._rooms[order]

    def remove_first(self, counts: Tensor) -> None:
        """Remove the first entries of each list.

        Parameters
        ----------
        counts : Tensor, int64, CPU, shape (nlist,)
            How many of each, at most its size.
        """
        left = self.sizes - counts
        rows = ranges(self._begins + counts, left).to(self.device)
        ids, codes = self._ids[rows], self.codes_at(rows)
        self.reset()
        list_nos = torch.arange(self.nlist, dtype=torch.int64, device="cpu")
        self.add_to_lists(torch.repeat_interleave(list_nos, left), ids, codes)


class InvertedListsPtrVector(ObjectVector):
    """A vector of inverted lists: what stacked lists, and merging, take several in."""

    element = InvertedLists

    def data(self) -> list[InvertedLists]:
        """Return the lists in the vector, as the functions take them that ask for a pointer to several."""
        return self._items

    def resize(self, n: int) -> None:
        """Set the number of elements; new ones are None until something is put there."""
        del self._items[n:]
        self._items.extend([None] * (n - len(self._items)))
