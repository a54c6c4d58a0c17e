"""ListStorage: the entries of all inverted lists in one growing storage.

A list has a contiguous piece of the storage with some room; a list that outgrows its room moves to the end of the
storage with twice the room, and when more than half of the storage is left behind by such moves, it is laid out
anew. Adding so costs a few vectorised operations a call and amortised constant time a vector, and each list can be
read as one block::

    storage   |list 0 ....|list 1 ..|   left behind   |list 2 ........|
    begins     0           48        (was list 2)      160
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..border import default_device
from ..ops import ivf_scan
from ..ops.lists import ranges, rank_in_run
from ..ops.screen import BLOCK
from .growing import GrowingTensor
from .row_facts import RowFacts
from .selectors import IDSelector


def _room_for(sizes: Tensor) -> Tensor:
    """Round numbers of rows up to whole blocks."""
    return torch.div(sizes + (BLOCK - 1), BLOCK, rounding_mode="floor") * BLOCK


class ListStorage:
    """The codes and ids of `nlist` lists.

    Parameters
    ----------
    nlist : int
    code_size : int
        Bytes of a code.
    device : torch.device, optional
        Where codes and ids live; the default is `border.default_device`.

    Attributes
    ----------
    sizes : Tensor, int64, CPU, shape (nlist,)
        Entries of each list.
    """

    def __init__(self, nlist: int, code_size: int, device: torch.device | None = None) -> None:
        self.nlist = nlist
        self.code_size = code_size
        self.device = default_device() if device is None else device
        self._make_empty()

    def _make_empty(self) -> None:
        self.sizes = torch.zeros(self.nlist, dtype=torch.int64)
        self._begins = torch.zeros(self.nlist, dtype=torch.int64)
        self._rooms = torch.zeros(self.nlist, dtype=torch.int64)
        self._codes = GrowingTensor((self.code_size,), torch.uint8, self.device)
        self._ids = GrowingTensor((), torch.int64, self.device)
        self._facts: RowFacts | None = None

    # what a search reads

    def loaded(self, list_nos: Tensor) -> ListStorage:
        """Return a storage that has at least these lists in memory: this one.

        Parameters
        ----------
        list_nos : Tensor, int64
            -1 is passed over.
        """
        return self

    def lists_for_scan(self, metric_type: int, sel: IDSelector | None = None) -> ivf_scan.Lists:
        """Return the lists as the engine reads them, for codes that are float32 vectors.

        Parameters
        ----------
        metric_type : int
        sel : IDSelector, optional
            Only ids that it selects are to be found.
        """
        vectors = self._codes.room.view(torch.float32)
        facts = self._facts
        if facts is None or facts.metric_type != metric_type:
            facts = RowFacts(metric_type, self.device)
            facts.resize(self._codes.size)
            rows = self._rows_in_use()
            facts.write(rows, vectors[rows])
            self._facts = facts  # only now, for another thread may search meanwhile
        hidden = None
        if sel is not None:
            hidden = ~sel.mask(self._ids.room)
        return ivf_scan.Lists(facts.stored(vectors, hidden), self._begins, self.sizes, self._ids.room)

    def ids_at(self, positions: Tensor) -> Tensor:
        """Return the ids of storage rows, -1 for row -1."""
        if not len(self._ids.room):
            return positions
        return self._ids.room[positions.clamp(min=0)].masked_fill_(positions < 0, -1)

    def codes_at(self, positions: Tensor) -> Tensor:
        """Return the codes of storage rows: (...) -> (..., code_size)."""
        return self._codes.room[positions]

    def list_nos_at(self, positions: Tensor) -> Tensor:
        """Return the list that each storage row belongs to."""
        # lists without room hold nothing, and may share their begin with any other
        held = self._rooms.nonzero().view(-1)
        begins, order = self._begins[held].sort()
        place = torch.searchsorted(begins.to(positions.device), positions, right=True) - 1
        return held[order].to(positions.device)[place]

    def positions_of(self, places: Tensor) -> Tensor:
        """Return the storage rows of places ``list_no << 32 | offset``.

        Raises
        ------
        RuntimeError
            If a place is outside its list.
        """
        list_nos, offsets = places >> 32, places & 0xFFFFFFFF
        if bool((list_nos >= self.nlist).any()) or bool((offsets >= self.sizes[list_nos]).any()):
            raise RuntimeError("a place of the direct map is outside the inverted lists")
        return self._begins[list_nos] + offsets

    def all_ids_and_places(self) -> tuple[Tensor, Tensor]:
        """Return every id, list by list, and its place ``list_no << 32 | offset``: CPU, int64."""
        list_nos = torch.repeat_interleave(torch.arange(self.nlist), self.sizes)
        places = (list_nos << 32) | rank_in_run(list_nos, self.sizes)
        return self._ids.room[self._rows_in_use()].cpu(), places

    def _rows_in_use(self) -> Tensor:
        return ranges(self._begins, self.sizes).to(self.device)

    # adding

    def add_to_lists(self, list_nos: Tensor, ids: Tensor, codes: Tensor) -> Tensor:
        """Append entries to their lists, in order.

        Parameters
        ----------
        list_nos : Tensor, int64, shape (n,)
            In 0 ... nlist - 1.
        ids : Tensor, int64, shape (n,)
        codes : Tensor, uint8, shape (n, code_size)

        Returns
        -------
        Tensor, int64, CPU, shape (n,)
            The offset of each entry in its list.
        """
        list_nos = list_nos.cpu()
        sorted_nos, order = list_nos.sort(stable=True)
        counts = torch.bincount(sorted_nos, minlength=self.nlist)
        offsets = torch.empty_like(list_nos)
        offsets[order] = self.sizes[sorted_nos] + rank_in_run(sorted_nos, counts)
        self._make_room(self.sizes + counts)
        rows = (self._begins[list_nos] + offsets).to(self.device)
        self._write(rows, ids, codes)
        self.sizes += counts
        return offsets

    def _write(self, rows: Tensor, ids: Tensor, codes: Tensor) -> None:
        # wide elements copy faster than bytes
        wide = torch.float32 if self.code_size % 4 == 0 else torch.uint8
        self._codes.room.view(wide).index_copy_(0, rows, codes.view(wide))
        self._ids.room.index_copy_(0, rows, ids)
        if self._facts is not None:
            self._facts.write(rows, codes.view(torch.float32))

    def _make_room(self, wanted: Tensor) -> None:
        """Give every list room for at least this many entries."""
        short = (wanted > self._rooms).nonzero().view(-1)
        if not len(short):
            return
        # a list's first room is what it needs, later ones twice as much as before
        rooms = _room_for(torch.maximum(wanted[short], 2 * self._rooms[short]))
        new_rooms = self._rooms.clone()
        new_rooms[short] = rooms
        if self._codes.size + int(rooms.sum()) > 2 * int(new_rooms.sum()):
            self._lay_out(new_rooms)
            return
        begins = self._codes.size + rooms.cumsum(0) - rooms
        source = ranges(self._begins[short], self.sizes[short]).to(self.device)
        target = ranges(begins, self.sizes[short]).to(self.device)
        end = self._codes.size + int(rooms.sum())
        self._codes.resize(end)
        self._ids.resize(end)
        if self._facts is not None:
            self._facts.resize(end)
        self._begins[short], self._rooms[short] = begins, rooms
        if len(source):
            self._write(target, self._ids.room[source], self._codes.room[source])

    def _lay_out(self, rooms: Tensor) -> None:
        """Move all lists to a new storage in which each has the given room."""
        rows = self._rows_in_use()
        ids, codes, sizes = self._ids.room[rows], self._codes.room[rows], self.sizes
        self.reserve(sizes, rooms)
        rows = self._rows_in_use()
        self._write(rows, ids, codes)

    def reserve(self, sizes: Tensor, rooms: Tensor | None = None) -> None:
        """Start anew with lists of these sizes, whose entries are zero until they are written.

        Parameters
        ----------
        sizes : Tensor, int64, CPU, shape (nlist,)
        rooms : Tensor, int64, CPU, shape (nlist,), optional
            Room of each list; the default is what its size needs.
        """
        self._make_empty()
        self._rooms = _room_for(sizes) if rooms is None else rooms
        self._begins = self._rooms.cumsum(0) - self._rooms
        self.sizes = sizes.clone()
        total = int(self._rooms.sum())
        self._codes.resize(total)
        self._ids.resize(total)

    def list_codes(self, list_no: int) -> Tensor:
        """Return a list's codes: a view, uint8, shape (list_size, code_size)."""
        begin = int(self._begins[list_no])
        return self._codes.room[begin : begin + int(self.sizes[list_no])]

    def list_ids(self, list_no: int) -> Tensor:
        """Return a list's ids: a view, int64, shape (list_size,)."""
        begin = int(self._begins[list_no])
        return self._ids.room[begin : begin + int(self.sizes[list_no])]

    # removing

    def remove_entries(self, sel: IDSelector) -> int:
        """Remove the selected ids from all lists; the last entries of a list take their places, as in faiss.

        Returns
        -------
        int
            How many entries were removed.
        """
        rows = self._rows_in_use()
        selected = sel.mask(self._ids.room[rows]).cpu()
        list_nos = torch.repeat_interleave(torch.arange(self.nlist), self.sizes)
        removed = torch.bincount(list_nos[selected], minlength=self.nlist)
        for list_no in removed.nonzero().view(-1).tolist():
            self._remove_from_list(list_no, selected[list_nos == list_no])
        return int(removed.sum())

    def _remove_from_list(self, list_no: int, selected: Tensor) -> None:
        """Fill the gaps in faiss's order: each gap takes the list's last entry, which may itself be selected."""
        keep = list(range(len(selected)))
        gone = selected.tolist()
        i, end = 0, len(keep)
        while i < end:
            if gone[keep[i]]:
                end -= 1
                keep[i] = keep[end]
            else:
                i += 1
        source = torch.tensor(keep[:end], dtype=torch.int64, device=self.device)
        begin = int(self._begins[list_no])
        rows = torch.arange(begin, begin + end, device=self.device)
        self._write(rows, self.list_ids(list_no)[source], self.list_codes(list_no)[source])
        self._shrink(list_no, end)

    def _shrink(self, list_no: int, size: int) -> None:
        begin, old = int(self._begins[list_no]), int(self.sizes[list_no])
        self.sizes[list_no] = size
        if self._facts is not None:
            self._facts.remove(slice(begin + size, begin + old))

    def rename_ids(self, new_ids: dict[int, int]) -> None:
        """Give entries other ids: {old id: new id}."""
        rows = self._rows_in_use()
        for old, new in new_ids.items():
            self._ids.room[rows[self._ids.room[rows] == old]] = new

    def remove_entry(self, list_no: int, offset: int) -> int | None:
        """Remove one entry; the list's last entry takes its place.

        Returns
        -------
        int or None
            The id of the entry that moved, None if it was the last one that was removed.
        """
        last = int(self.sizes[list_no]) - 1
        moved = None
        if offset < last:
            moved = int(self.list_ids(list_no)[last])
            row = self._begins[list_no, None] + offset
            ids, codes = self.list_ids(list_no)[last:].clone(), self.list_codes(list_no)[last:].clone()
            self._write(row.to(self.device), ids, codes)
        self._shrink(list_no, last)
        return moved

    def to(self, device: torch.device) -> None:
        """Move the lists to a device."""
        self.device = device
        self._codes.to(device)
        self._ids.to(device)
        self._facts = None

    def __getstate__(self) -> dict[str, object]:
        # what the screen knows is made again when it is needed
        return {**self.__dict__, "_facts": None}
