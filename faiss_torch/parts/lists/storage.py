"""ListStorage: the entries of all inverted lists in one storage.

A list has a contiguous piece of the storage with some room, so that it can be read as one block. A list that outgrows
its room moves to the free end of the storage, with a multiple of the room that it needs; when the end is used up,
all lists move to a new storage in which each has that much room and the end is free again::

    storage   |list 0 ....|list 1 ..|   left behind   |list 2 ........|    free    |
    begins     0           48        (was list 2)      160             288 = end

So adding costs a few vectorised operations a call, and each vector is moved a constant number of times, whether the
calls are few or many. On the CPU, room that is not in use is address space and no memory. Lists that were filled by
one call, or read from a file, have no more room than they need.

Codes that are float32 vectors may be stored in another dtype (`ListStorage.moved`). Whoever gives or takes codes sees
float32 all the same; only what moves within the storage, and what a scan reads, is in the dtype that is stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import interrupts
from ...border import default_device
from ...ops.runtime import chunks, torch_state, workers
from ...ops.scoring.ragged import entries_at, moves_of_removal, ranges, rank_in_run
from ...ops.scoring.stored import BLOCK, Lists
from ...threads import omp_get_max_threads
from ..codecs.codec import Codec
from ..codecs.floats import FLOATS, recoded, stored_size
from ..growing import zeros
from ..screens.facts import RowFacts
from ..selectors import IDSelector

#: Room of a list that has grown, as a multiple of what it needs, and of the storage as a multiple of all rooms: on the
#: CPU, where what is not in use is no memory, and on accelerators.
CPU_ROOM_GROWTH, CPU_FREE_END = 8.0, 1.5
ACCELERATOR_ROOM_GROWTH, ACCELERATOR_FREE_END = 1.25, 1.25

#: On the CPU lists grow faster while all rooms take no more address space than this.
CPU_ROOM_BYTES, CPU_FIRST_ROOM_GROWTH = 16 << 30, 64.0

#: Bytes of codes that a worker writes at a time.
WRITTEN_BYTES = 1 << 20

#: The attributes that hold the entries.
STORAGE_ATTRIBUTES = ("sizes", "_codes", "_ids", "_begins", "_rooms", "_end", "_facts")


def _smallest_type(nlist: int) -> torch.dtype:
    """The smallest type of the usual ones that holds the number of each list."""
    return torch.int16 if nlist <= 1 << 15 else torch.int64


def _room_for(sizes: Tensor) -> Tensor:
    """Round numbers of rows up to whole blocks."""
    return torch.div(sizes + (BLOCK - 1), BLOCK, rounding_mode="floor") * BLOCK


def _enlarged(sizes: Tensor, growth: float) -> Tensor:
    return (sizes.double() * growth).long()


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
    storage_dtype : torch.dtype
        What codes that are float32 vectors are stored as.
    """

    storage_dtype: torch.dtype = torch.float32

    def __init__(self, nlist: int, code_size: int, device: torch.device | None = None) -> None:
        self.nlist = nlist
        self.code_size = code_size
        self.device = default_device() if device is None else device
        self._make_empty()

    def _make_empty(self) -> None:
        none = torch.zeros(3, self.nlist, dtype=torch.int64, device="cpu")
        self.sizes, self._begins, self._rooms = torch_state.kept(none)
        self._end = 0
        self._codes = zeros((0, self._stored_size), torch.uint8, self.device)
        self._ids = zeros((0,), torch.int64, self.device)
        self._facts: RowFacts | None = None

    @property
    def _stored_size(self) -> int:
        """Bytes that a code takes in the storage."""
        return stored_size(self.code_size, self.storage_dtype)

    # what a search reads

    def lists_for_scan(self, metric_type: int, codec: Codec = FLOATS) -> Lists:
        """Return the lists as the engine reads them, for codes of a codec."""
        vectors = codec.rows(self._codes)
        facts = self._facts
        if facts is None or not facts.serves(codec, metric_type):
            facts = RowFacts(metric_type, self.device, codec)
            facts.resize(len(vectors))
            if self._end == int(_room_for(self.sizes).sum()):  # in one piece; what was removed only widens the bounds
                facts.write(slice(0, self._end), vectors[: self._end])
            else:
                rows = self._rows_in_use()
                for part in chunks.slices(len(rows), chunks.rows_within(self.code_size)):
                    facts.write(rows[part], vectors[rows[part]])
            facts.remove(self._rows_behind())
            self._facts = facts  # only now, for another thread may search meanwhile
        return Lists(
            facts.stored(vectors),
            self._begins,
            self.sizes,
            self._ids,
            tiles_for=facts.tiles_for(vectors),
            blocks_for=facts.blocks_for(vectors),
            rounded_for=facts.rounded_for(vectors),
            needed_for=functools.partial(facts.equal.selector_for, vectors, self._begins, self.sizes, self._ids),
            there=facts.tables_there(self._begins, self.sizes),
        )

    def ids_at(self, positions: Tensor) -> Tensor:
        """Return the ids of storage rows, -1 for row -1."""
        return entries_at(self._ids, positions)

    def codes_at(self, positions: Tensor) -> Tensor:
        """Return the codes of storage rows: (...) -> (..., code_size)."""
        return recoded(self._codes[positions], self.storage_dtype, torch.float32)

    def list_nos_at(self, positions: Tensor) -> Tensor:
        """Return the list that each storage row belongs to."""
        # lists without room hold nothing, and may share their begin with any other
        held = self._rooms.nonzero().view(-1)
        begins, order = self._begins[held].sort()
        place = torch.searchsorted(begins.to(positions.device), positions, right=True) - 1
        return held[order].to(positions.device)[place]

    def places_at(self, positions: Tensor) -> Tensor:
        """Return the places ``list_no << 32 | offset`` of storage rows, -1 for row -1."""
        if not len(self._ids):
            return positions
        list_nos = self.list_nos_at(positions.clamp(min=0))
        places = (list_nos << 32) | (positions - self._begins.to(positions.device)[list_nos])
        return places.masked_fill_(positions < 0, -1)

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
        list_nos = torch.repeat_interleave(torch.arange(self.nlist, dtype=torch.int64, device="cpu"), self.sizes)
        places = (list_nos << 32) | rank_in_run(list_nos, self.sizes)
        return self._ids[self._rows_in_use()].cpu(), places

    def _rows_in_use(self) -> Tensor:
        return ranges(self._begins, self.sizes).to(self.device)

    def _rows_behind(self) -> Tensor:
        """The rows behind each list's last entry that a scan reads with it: those of its last block."""
        return ranges(self._begins + self.sizes, _room_for(self.sizes) - self.sizes).to(self.device)

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
        # numbers of 16 bits are sorted in half the time
        sorted_nos, order = list_nos.to(_smallest_type(self.nlist)).sort(stable=True)
        counts = torch.bincount(list_nos, minlength=self.nlist)
        self._make_room(self.sizes + counts)
        # the sorted entries stand one behind the other, but for a jump from list to list
        jumps = self._begins + self.sizes - (counts.cumsum(0) - counts)
        rows = torch.empty_like(list_nos)
        rows[order] = jumps[sorted_nos.int()].add_(torch.arange(len(list_nos), dtype=torch.int64, device="cpu"))
        try:
            self._write(rows.to(self.device), ids, codes)
        except BaseException:
            self._facts = None  # they know rows that nobody is to find
            raise
        offsets = rows.sub_(self._begins[list_nos])
        self.sizes += counts
        if self._facts is not None:
            self._facts.remove(self._rows_behind())
        return offsets

    def _write(self, rows: Tensor, ids: Tensor, codes: Tensor) -> None:
        self._write_stored(rows, ids, recoded(codes, torch.float32, self.storage_dtype))

    def _write_stored(self, rows: Tensor, ids: Tensor, stored: Tensor, source: Tensor | None = None) -> None:
        """Write ids, and codes as they are in the storage: the only place that changes codes.

        Parameters
        ----------
        rows : Tensor, int64, shape (n,)
            Where they go, each row once.
        ids : Tensor, int64
        stored : Tensor, uint8, shape (any, _stored_size)
        source : Tensor, int64, shape (n,), optional
            Which of the ids and codes these are, none of which stands in one of the rows; the default is all in order.
        """
        # wide elements copy faster than bytes
        wide = {0: torch.float32, 2: torch.int16}.get(self._stored_size % 4 if self._stored_size else 1, torch.uint8)
        codes, given = self._codes.view(wide), stored.view(wide)

        def write(part: slice) -> None:
            if source is None:
                some_ids, some = ids[part], given[part]
            else:
                some_ids, some = ids.index_select(0, source[part]), given.index_select(0, source[part])
            codes.index_copy_(0, rows[part], some)
            self._ids.index_copy_(0, rows[part], some_ids)
            if self._facts is not None:
                self._facts.write(rows[part], self._facts.codec.rows(some.view(torch.uint8)))

        on_cpu = self.device.type == "cpu"
        step = chunks.rows_within(self._stored_size + 8, WRITTEN_BYTES if on_cpu else chunks.TEMPORARY_BYTES)
        workers.map_over_workers(write, chunks.slices(len(rows), step), omp_get_max_threads() if on_cpu else 1)

    def make_room_for(self, counts: Tensor) -> None:
        """Give every list room for so many more entries, which may then come in any number of calls."""
        self._make_room(self.sizes + counts)

    def _make_room(self, wanted: Tensor) -> None:
        """Give every list room for at least this many entries."""
        short = (wanted > self._rooms).nonzero().view(-1)
        if not len(short):
            return
        growth = self._growth(wanted)
        # a first room is what it needs to be
        rooms = _room_for(torch.where(self._rooms[short] == 0, wanted[short], _enlarged(wanted[short], growth)))
        end = self._end + int(rooms.sum())
        if end > len(self._codes):
            self._move_all(wanted, growth)
            return
        begins = self._end + rooms.cumsum(0) - rooms
        source, target = (ranges(each, self.sizes[short]).to(self.device) for each in (self._begins[short], begins))
        if len(source):
            self._write_stored(target, self._ids, self._codes, source)
        # only now, for what is written may find no memory
        self._begins[short], self._rooms[short], self._end = begins, rooms, end

    def _growth(self, wanted: Tensor) -> float:
        """Room of lists that grow, as a multiple of what they need."""
        if self.device.type != "cpu":
            return ACCELERATOR_ROOM_GROWTH
        wanted_bytes = max(1, int(wanted.sum())) * (self.code_size + 8)
        return min(CPU_FIRST_ROOM_GROWTH, max(CPU_ROOM_GROWTH, CPU_ROOM_BYTES / wanted_bytes))

    def _move_all(self, wanted: Tensor, growth: float) -> None:
        """Move all lists to a new storage with room for at least this many entries."""
        old_ids, old_codes, sizes, old_rows = self._ids, self._codes, self.sizes, self._rows_in_use()
        before = {name: self.__dict__[name] for name in STORAGE_ATTRIBUTES}
        try:
            if len(old_rows):
                rooms = _room_for(_enlarged(wanted, growth))
                free_end = CPU_FREE_END if self.device.type == "cpu" else ACCELERATOR_FREE_END
                self.reserve(sizes, rooms, int(float(rooms.sum()) * free_end))
            else:
                self.reserve(sizes, _room_for(wanted), all_used=True)
            self._write_stored(self._rows_in_use(), old_ids, old_codes, old_rows)
        except BaseException:  # all or nothing, also where it is interrupted
            self.__dict__.update(before)
            raise

    def reserve(
        self, sizes: Tensor, rooms: Tensor | None = None, capacity: int = 0, all_used: bool | None = None
    ) -> None:
        """Start anew with lists of these sizes, whose entries are zero until they are written.

        Parameters
        ----------
        sizes : Tensor, int64, CPU, shape (nlist,)
        rooms : Tensor, int64, CPU, shape (nlist,), optional
            Room of each list; the default is what its size needs.
        capacity : int
            Rows of the storage, if more than the rooms take.
        all_used : bool, optional
            Whether all of the room is about to be used; the default is yes where each list has what its size needs.
        """
        all_used = rooms is None if all_used is None else all_used
        rooms = _room_for(sizes) if rooms is None else rooms
        end = int(rooms.sum())
        capacity = max(capacity, end)
        # what may find no memory comes first, so that the lists are unchanged then
        codes = zeros((capacity, self._stored_size), torch.uint8, self.device, all_used)
        ids = zeros((capacity,), torch.int64, self.device, all_used)
        self.sizes, self._rooms, self._begins = map(torch_state.kept, (sizes.clone(), rooms, rooms.cumsum(0) - rooms))
        self._end = end
        self._codes, self._ids, self._facts = codes, ids, None

    def list_codes(self, list_no: int) -> Tensor:
        """Return a list's codes: uint8, shape (list_size, code_size); a view if they are stored as float32."""
        return recoded(self._stored_codes(list_no), self.storage_dtype, torch.float32)

    def _stored_codes(self, list_no: int) -> Tensor:
        begin = int(self._begins[list_no])
        return self._codes[begin : begin + int(self.sizes[list_no])]

    def list_ids(self, list_no: int) -> Tensor:
        """Return a list's ids: a view, int64, shape (list_size,)."""
        begin = int(self._begins[list_no])
        return self._ids[begin : begin + int(self.sizes[list_no])]

    # removing

    def written_to(self) -> ListStorage:
        """The lists that changes of these go to: they themselves."""
        return self

    def remove_entries(self, sel: IDSelector) -> int:
        """Remove the selected ids from all lists; the last entries of a list take their places, as in faiss.

        Returns
        -------
        int
            How many entries were removed.
        """
        rows = self._rows_in_use()
        gaps, movers, left = moves_of_removal(sel.mask(self._ids[rows]).cpu(), self.sizes)
        removed = self.sizes - left
        target, source = rows[gaps.to(self.device)], rows[movers.to(self.device)]
        with interrupts.shielded():
            self._write_stored(target, self._ids, self._codes, source)
            if self._facts is not None:
                self._facts.remove(ranges(self._begins + left, removed).to(self.device))
            self.sizes -= removed
        return int(removed.sum())

    def move_entries(self, sources: Tensor, targets: Tensor, sizes: dict[int, int]) -> None:
        """Let entries take the places of others, and cut lists.

        Parameters
        ----------
        sources, targets : Tensor, int64, CPU, shape (n,)
            Places ``list_no << 32 | offset``; none stands in both.
        sizes : dict of int to int
            What is left of each list that is cut.
        """
        rows, origins = (self.positions_of(places).to(self.device) for places in (targets, sources))
        with interrupts.shielded():
            self._write_stored(rows, self._ids, self._codes, origins)
            for list_no, size in sizes.items():
                self._shrink(list_no, size)

    def _shrink(self, list_no: int, size: int) -> None:
        begin, old = int(self._begins[list_no]), int(self.sizes[list_no])
        self.sizes[list_no] = size
        if self._facts is not None:
            self._facts.remove(slice(begin + size, begin + old))

    def rename_ids(self, new_ids: dict[int, int]) -> None:
        """Give entries other ids: {old id: new id}."""
        rows = self._rows_in_use()
        for old, new in new_ids.items():
            self._ids[rows[self._ids[rows] == old]] = new

    def renumber_ids(self, numbers: Tensor) -> None:
        """Give all entries other ids: id i becomes ``numbers[i]``, and -1 where there is no such number."""
        rows = self._rows_in_use()
        self._ids[rows] = entries_at(numbers.to(self.device), self._ids[rows])

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
            ids, stored = self.list_ids(list_no)[last:].clone(), self._stored_codes(list_no)[last:].clone()
            self._write_stored(row.to(self.device), ids, stored)
        self._shrink(list_no, last)
        return moved

    def moved(self, device: torch.device, dtype: torch.dtype | None = None) -> Callable[[], None]:
        """Build the lists on a device, without the room that is not in use, and return what switches to them.

        Parameters
        ----------
        device : torch.device
        dtype : torch.dtype, optional
            What float32 codes are stored as from now on; the default is what they are stored as.

        Returns
        -------
        callable
            Until it is called, the lists are as they were.
        """
        wanted = self.storage_dtype if dtype is None else dtype
        if (device, wanted) == (self.device, self.storage_dtype):
            return lambda: None
        state = self._compact(device, wanted)
        return lambda: self.__dict__.update(state, device=device, storage_dtype=wanted)

    def to(self, device: torch.device) -> None:
        """Move the lists to a device, without the room that is not in use."""
        self.moved(device)()

    def copy_to(self, other: ListStorage) -> None:
        """Make other lists of the same shape a copy of these, on their device and in their dtype."""
        other.__dict__.update(self._compact(other.device, other.storage_dtype))

    def _compact(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What holds the entries, on a device, in a dtype, and with just the room that they need."""
        same = ListStorage(self.nlist, self.code_size, device)
        same.storage_dtype = dtype
        same.reserve(self.sizes)
        if dtype == self.storage_dtype and self._is_compact():
            chunks.copy(same._codes, self._codes[: self._end])
            chunks.copy(same._ids, self._ids[: self._end])
            return {name: same.__dict__[name] for name in STORAGE_ATTRIBUTES}
        rows, old_rows = same._rows_in_use(), self._rows_in_use()
        for part in chunks.slices(len(rows), chunks.rows_within(self.code_size + 8)):
            old = old_rows[part]
            stored = recoded(self._codes[old], self.storage_dtype, dtype)
            same._write_stored(rows[part], self._ids[old].to(device), stored.to(device))
        return {name: same.__dict__[name] for name in STORAGE_ATTRIBUTES}

    def _is_compact(self) -> bool:
        """Whether the lists stand one behind the other, each with just the room that it needs."""
        rooms = _room_for(self.sizes)
        return torch.equal(rooms, self._rooms) and torch.equal(rooms.cumsum(0) - rooms, self._begins)

    def __getstate__(self) -> dict[str, object]:
        # what the screen knows is made again when it is needed
        return {**self.__dict__, **self._compact(self.device, self.storage_dtype)}
