"""Lists that are read list by list: from a file, or from other lists.

Where a storage in memory speaks of rows, here the position of an entry is its place, ``list_no << 32 | offset``. A
search copies the lists that it probes to memory, in portions, and is done there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import interrupts
from ...ops.runtime import workers
from ...ops.scoring.ragged import entries_at, order_after_removal, rank_in_run
from ...threads import omp_get_max_threads
from ..selectors import IDSelector
from .deferred import add_found
from .storage import ListStorage

if TYPE_CHECKING:
    from .inverted_lists import InvertedLists

_OFFSET = 0xFFFFFFFF

#: Lists that one task copies to memory.
LISTS_A_TASK = 64


class ListsByPlace:
    """What an index does with lists, written with the reading and writing of single lists.

    Attributes
    ----------
    sizes : Tensor, int64, CPU, shape (nlist,)
        Entries of each list.
    device : torch.device
        Where the entries are.
    """

    nlist: int
    code_size: int
    sizes: Tensor
    device: torch.device = torch.device("cpu")
    storage_dtype: torch.dtype = torch.float32

    # what a subclass gives

    def list_codes(self, list_no: int) -> Tensor:
        """Return a list's codes: uint8, shape (list_size, code_size)."""
        raise RuntimeError(f"{type(self).__name__} has no codes to read")

    def list_ids(self, list_no: int) -> Tensor:
        """Return a list's ids: int64, shape (list_size,)."""
        raise RuntimeError(f"{type(self).__name__} has no ids to read")

    def add_to_lists(self, list_nos: Tensor, ids: Tensor, codes: Tensor) -> Tensor:
        """Append entries to their lists, in order, and return their offsets: see `ListStorage.add_to_lists`."""
        raise RuntimeError(f"{type(self).__name__} cannot be written to")

    def write_entries(self, list_no: int, offset: int, ids: Tensor, codes: Tensor) -> None:
        """Replace the entries of a list from an offset on, which are there."""
        raise RuntimeError(f"{type(self).__name__} cannot be written to")

    def resize(self, list_no: int, new_size: int) -> None:
        """Change the number of entries of a list."""
        raise RuntimeError(f"{type(self).__name__} cannot be written to")

    # what a search reads

    def elsewhere(self) -> InvertedLists | None:
        """Return the lists that a search copies portions of to memory; None where it can read them as they are."""
        return self  # type: ignore[return-value]

    def loaded(self, list_nos: Tensor, device: torch.device | None = None) -> ListStorage:
        """Return a storage in memory of which these lists are filled; all others are empty there.

        Parameters
        ----------
        list_nos : Tensor, int64, any shape
            Repetitions and -1 are allowed.
        device : torch.device, optional
            Of the storage.
        """
        wanted = torch.zeros(self.nlist, dtype=torch.bool, device="cpu")
        wanted[list_nos[list_nos >= 0].cpu()] = True
        sizes = self.sizes * wanted
        storage = ListStorage(self.nlist, self.code_size, self.device if device is None else device)
        storage.reserve(sizes)

        def copy(some: Tensor) -> None:
            for list_no in some.tolist():
                storage.list_codes(list_no).copy_(self.list_codes(list_no))
                storage.list_ids(list_no).copy_(self.list_ids(list_no))

        workers.map_over_workers(copy, sizes.nonzero().view(-1).split(LISTS_A_TASK), omp_get_max_threads())
        return storage

    def ids_at(self, positions: Tensor) -> Tensor:
        """Return the ids at places, -1 for place -1."""
        found = torch.full((positions.numel(),), -1, dtype=torch.int64, device="cpu")
        self._gather(self.list_ids, positions, found)
        return found.view(positions.shape).to(positions.device)

    def codes_at(self, positions: Tensor) -> Tensor:
        """Return the codes at places: (...) -> (..., code_size)."""
        found = torch.zeros((positions.numel(), self.code_size), dtype=torch.uint8, device="cpu")
        self._gather(self.list_codes, positions, found)
        return found.view(*positions.shape, self.code_size).to(positions.device)

    def _gather(self, read: Callable[[int], Tensor], places: Tensor, found: Tensor) -> None:
        """Fill in what `read` gives for the lists of places, at their offsets, list by list."""
        flat = places.reshape(-1).cpu()
        ordered, order = flat.sort()
        list_nos, counts = torch.unique_consecutive(ordered >> 32, return_counts=True)
        for list_no, rows in zip(list_nos.tolist(), order.split(counts.tolist()), strict=True):
            if list_no >= 0:
                values = read(list_no)
                found[rows] = values[(flat[rows] & _OFFSET).to(values.device)].cpu()

    def list_nos_at(self, positions: Tensor) -> Tensor:
        """Return the list of each place."""
        return positions >> 32

    def positions_of(self, places: Tensor) -> Tensor:
        """Return places as they are.

        Raises
        ------
        RuntimeError
            If a place is outside its list.
        """
        list_nos = places >> 32
        if bool((list_nos >= self.nlist).any()) or bool(((places & _OFFSET) >= self.sizes[list_nos]).any()):
            raise RuntimeError("a place of the direct map is outside the inverted lists")
        return places

    def all_ids_and_places(self) -> tuple[Tensor, Tensor]:
        """Return every id, list by list, and its place: CPU, int64."""
        sizes = self.sizes
        list_nos = torch.repeat_interleave(torch.arange(self.nlist, dtype=torch.int64, device="cpu"), sizes)
        ids = [self.list_ids(list_no).cpu() for list_no in sizes.nonzero().view(-1).tolist()]
        places = (list_nos << 32) | rank_in_run(list_nos, sizes)
        return torch.cat([torch.empty(0, dtype=torch.int64, device="cpu"), *ids]), places

    # what an index changes

    def written_to(self) -> ListStorage | ListsByPlace:
        """The lists that changes of these go to: they themselves, unless they show others."""
        return self

    def make_room_for(self, counts: Tensor) -> None:
        """Prepare for so many more entries in each list; lists that are not in memory grow as they come."""

    def add_later(self, ids: Tensor, codes: Tensor, assign: Callable[[Tensor], Tensor], products: int) -> None:
        """Append entries to the lists that `assign` finds; at once, for nothing waits in such lists."""
        add_found(self, ids, codes, assign)

    def remove_entries(self, sel: IDSelector) -> int:
        """Remove the selected ids from all lists: see `ListStorage.remove_entries`."""
        removed = 0
        for list_no in self.sizes.nonzero().view(-1).tolist():
            ids, codes = self.list_ids(list_no), self.list_codes(list_no)
            order = order_after_removal(sel.mask(ids))
            moved = (order != torch.arange(len(order), dtype=torch.int64, device=order.device)).nonzero().view(-1)
            if len(moved):
                first = int(moved[0])
                self.write_entries(list_no, first, ids[order[first:]], codes[order[first:]])
            if len(order) < len(ids):
                removed += len(ids) - len(order)
                self.resize(list_no, len(order))
        return removed

    def rename_ids(self, new_ids: dict[int, int]) -> None:
        """Give entries other ids: {old id: new id}."""
        if not new_ids:
            return
        old = torch.tensor(list(new_ids), dtype=torch.int64, device="cpu")
        for list_no in self.sizes.nonzero().view(-1).tolist():
            ids = self.list_ids(list_no)
            for offset in torch.isin(ids, old.to(ids.device)).nonzero().view(-1).tolist():
                new = torch.tensor([new_ids[int(ids[offset])]], dtype=torch.int64, device=ids.device)
                self.write_entries(list_no, offset, new, self.list_codes(list_no)[offset, None])

    def renumber_ids(self, numbers: Tensor) -> None:
        """Give every entry of id i the id ``numbers[i]``: see `ListStorage.renumber_ids`."""
        for list_no in self.sizes.nonzero().view(-1).tolist():
            ids = self.list_ids(list_no)
            self.write_entries(list_no, 0, entries_at(numbers.to(ids.device), ids), self.list_codes(list_no))

    def remove_entry(self, list_no: int, offset: int) -> int | None:
        """Remove one entry, whose place the last of the list takes: see `ListStorage.remove_entry`."""
        last = int(self.sizes[list_no]) - 1
        moved = None
        if offset < last:
            ids, codes = self.list_ids(list_no)[last:].clone(), self.list_codes(list_no)[last:].clone()
            moved = int(ids[0])
            self.write_entries(list_no, offset, ids, codes)
        self.resize(list_no, last)
        return moved

    def move_entries(self, sources: Tensor, targets: Tensor, sizes: dict[int, int]) -> None:
        """Let entries take the places of others, and cut lists: see `ListStorage.move_entries`."""
        ids, codes = self.ids_at(sources), self.codes_at(sources)
        with interrupts.shielded():
            for i, place in enumerate(targets.tolist()):
                self.write_entries(place >> 32, place & _OFFSET, ids[i, None], codes[i, None])
            for list_no, size in sizes.items():
                self.resize(list_no, size)

    def moved(self, device: torch.device, dtype: torch.dtype | None = None) -> Callable[[], None]:
        """Return a function that does nothing: the entries stay, and a search loads them to where it computes.

        Raises
        ------
        RuntimeError
            If the codes are to be stored in another dtype.
        """
        if dtype is not None and dtype != self.storage_dtype:
            raise RuntimeError(f"{type(self).__name__} are read where they are, as float32: they take no {dtype}")
        return lambda: None
