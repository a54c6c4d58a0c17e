"""Blocks of codes of stored vectors, for searches of few queries."""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops.byte_sums.blocks import BLOCK_ROWS, LINE_BYTES, MORE_LINES, CodeBlocks, make_blocks
from ...ops.runtime import chunks, workers
from ...ops.scoring.ragged import ranges, rank_in_run
from ...ops.scoring.stored import Stored
from ...ops.tiles.tile import Frame
from ...threads import omp_get_max_threads
from ..growing import GrowingTensor
from .copies import ScreenCopies

#: Bytes of vectors that a worker encodes at a time.
ENCODED_BYTES = 1 << 21


class ScreenBlocks(ScreenCopies[CodeBlocks]):
    """Blocks of lists.

    Each list has room for its blocks. One that outgrows it gets new room at the end, and when half of all room has been
    left behind, all blocks move together. Block 0 is empty.

    Parameters
    ----------
    metric_type : int
    """

    def __init__(self, metric_type: int) -> None:
        super().__init__(metric_type)
        cpu = torch.device("cpu")
        self._codes: GrowingTensor | None = None
        self._rows = GrowingTensor((), torch.int64, cpu)
        self._firsts = torch.empty(0, dtype=torch.int64, device="cpu")
        self._rooms = torch.empty(0, dtype=torch.int64, device="cpu")

    def _follow(self, nlist: int) -> None:
        more = self._rooms.new_zeros(max(0, nlist - len(self._rooms)))
        self._firsts = torch.cat([self._firsts[:nlist], more])
        self._rooms = torch.cat([self._rooms[:nlist], more])

    def _tables(self, frame: Frame) -> tuple[GrowingTensor, GrowingTensor]:
        """The tensors of which each block has a row."""
        if self._codes is None:
            self._codes = GrowingTensor(((frame.d + MORE_LINES) * LINE_BYTES,), torch.uint8, frame.shift.device)
        return self._codes, self._rows

    def _copy(self, frame: Frame, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        counts = _blocks_for(sizes[list_nos])
        self._make_room(frame, list_nos, counts)
        codes, rows = self._tables(frame)
        blocks = ranges(self._firsts[list_nos], counts)
        place = torch.arange(len(list_nos), dtype=torch.int64, device="cpu").repeat_interleave(counts)
        offsets = rank_in_run(place, counts) * BLOCK_ROWS
        used = (sizes[list_nos][place] - offsets).clamp_(max=BLOCK_ROWS)
        rows.room[blocks] = begins[list_nos][place] + offsets
        inside = torch.arange(BLOCK_ROWS, dtype=torch.int64, device="cpu")

        def encode(part: slice) -> None:
            at = rows.room[blocks[part], None] + torch.minimum(inside, used[part, None] - 1)
            vectors = stored.at(at.view(-1)).view(*at.shape, frame.d)
            codes.room[blocks[part]] = make_blocks(frame, vectors, used[part]).flatten(1)

        step = chunks.rows_within(BLOCK_ROWS * frame.d * 4, ENCODED_BYTES)
        workers.map_over_workers(encode, chunks.slices(len(blocks), step), omp_get_max_threads())

    def _make_room(self, frame: Frame, list_nos: Tensor, counts: Tensor) -> None:
        """Give each of some lists room for its blocks."""
        grown = counts > self._rooms[list_nos]
        list_nos, counts = list_nos[grown], counts[grown]
        tables = self._tables(frame)
        self._rooms[list_nos] = 0
        size, wanted = max(1, tables[0].size), int(counts.sum())
        empty = tables[0].size == 0
        if size + wanted > 2 * (1 + int(self._rooms.sum()) + wanted):
            kept = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), ranges(self._firsts, self._rooms)])
            for table in tables:
                table.replace(table.rows[kept])
            self._firsts = 1 + self._rooms.cumsum(0) - self._rooms
            size = len(kept)
        for table in tables:
            table.resize(size + wanted)
        if empty:
            nothing = torch.zeros(1, BLOCK_ROWS, frame.d, dtype=torch.float32, device="cpu")
            tables[0].room[0] = make_blocks(frame, nothing, torch.zeros(1, dtype=torch.int64, device="cpu")).view(-1)
        self._firsts[list_nos] = size + counts.cumsum(0) - counts
        self._rooms[list_nos] = counts

    def _collect(self, begins: Tensor, sizes: Tensor, made: Tensor) -> CodeBlocks:
        frame = self._frame
        assert frame is not None
        codes, rows = self._tables(frame)
        none = sizes.new_zeros(1)  # the entry of no list
        return CodeBlocks(
            codes.room.view(-1, LINE_BYTES),
            rows.room,
            torch.cat([self._firsts, none]),
            torch.cat([_blocks_for(sizes).masked_fill_(~made, 0), none]),
            frame.shift,
            frame.rounding,
        )


def _blocks_for(sizes: Tensor) -> Tensor:
    """How many blocks lists of these sizes have."""
    return torch.div(sizes + (BLOCK_ROWS - 1), BLOCK_ROWS, rounding_mode="floor")
