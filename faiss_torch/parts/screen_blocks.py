"""Blocks of codes of stored vectors, for searches of few queries."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import workers
from ..ops.code_blocks import BLOCK_ROWS, CodeBlocks
from ..ops.int8_tiles import digits_of, make_tile, ratio_of
from ..ops.lists import ranges, rank_in_run
from ..ops.screen import Stored
from ..ops.tile_screen import Errors, doubt_of
from ..ops.tiles import Frame, Tile
from ..threads import omp_get_max_threads
from .growing import GrowingTensor
from .screen_copies import ScreenCopies


class ScreenBlocks(ScreenCopies[CodeBlocks]):
    """Blocks of lists.

    Each list has room for its blocks. One that outgrows it gets new room at the end, and when half of all room has been
    left behind, all blocks move together.

    Parameters
    ----------
    metric_type : int
    """

    def __init__(self, metric_type: int) -> None:
        super().__init__(metric_type)
        cpu = torch.device("cpu")
        self._codes: GrowingTensor | None = None
        self._steps, self._offsets = (GrowingTensor((), torch.float32, cpu) for _ in range(2))
        self._rows, self._used = (GrowingTensor((), torch.int64, cpu) for _ in range(2))
        self._norm_in_steps, self._residual_in_steps = 0.0, 0.0
        self._firsts = torch.empty(0, dtype=torch.int64)
        self._rooms = torch.empty(0, dtype=torch.int64)
        self._hidden: dict[int, Tensor] = {}

    def _follow(self, nlist: int) -> None:
        more = self._rooms.new_zeros(max(0, nlist - len(self._rooms)))
        self._firsts = torch.cat([self._firsts[:nlist], more])
        self._rooms = torch.cat([self._rooms[:nlist], more])

    def _tables(self, frame: Frame) -> tuple[GrowingTensor, ...]:
        """The tensors of which each block has a row."""
        if self._codes is None:
            width = frame.d + digits_of(frame)
            self._codes = GrowingTensor((BLOCK_ROWS * width,), torch.int8, frame.shift.device)
        return self._codes, self._steps, self._offsets, self._rows, self._used

    def _copy(self, frame: Frame, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        counts = _blocks_for(sizes[list_nos])
        codes = self._tables(frame)[0]
        self._make_room(frame, list_nos, counts)
        firsts = self._firsts[list_nos]

        def copy(place: int) -> list[Tile]:
            """Write the codes of a list, and return its tiles without them."""
            list_no, block = int(list_nos[place]), int(firsts[place])
            begin, end = int(begins[list_no]), int(begins[list_no] + sizes[list_no])
            tiles = []
            for first, tile in self._tiles_of(make_tile, frame, stored, begin, end):
                behind = block + tile.codes.shape[1] // BLOCK_ROWS
                codes.room[block:behind].view(-1, len(tile.codes)).copy_(tile.codes.T)
                hidden = None if tile.always is None else tile.always + first
                tiles.append(tile._replace(codes=tile.codes[:0], always=hidden))
                block = behind
            return tiles

        made = workers.map_over_workers(copy, range(len(list_nos)), omp_get_max_threads())
        for list_no, of_list in zip(list_nos.tolist(), made, strict=True):
            self._hidden.pop(list_no, None)
            hidden = [tile.always for tile in of_list if tile.always is not None]
            if hidden:
                self._hidden[list_no] = torch.cat(hidden)
        tiles = [tile for of_list in made for tile in of_list]
        if not tiles:
            return
        places = torch.arange(len(list_nos)).repeat_interleave(counts)
        offsets = rank_in_run(places, counts) * BLOCK_ROWS
        blocks = ranges(firsts, counts)
        self._rows.room[blocks] = begins[list_nos][places] + offsets
        self._used.room[blocks] = (sizes[list_nos][places] - offsets).clamp_(max=BLOCK_ROWS)
        blocks_of_tiles = torch.tensor([tile.codes.shape[1] for tile in tiles]) // BLOCK_ROWS
        errors = Errors.of(frame, tiles)
        self._steps.room[blocks] = errors.steps.repeat_interleave(blocks_of_tiles)
        self._offsets.room[blocks] = errors.offsets.repeat_interleave(blocks_of_tiles)
        self._norm_in_steps = max(self._norm_in_steps, float((errors.norms / errors.steps).max()))
        self._residual_in_steps = max(self._residual_in_steps, float((errors.residuals / errors.steps).max()))

    def _make_room(self, frame: Frame, list_nos: Tensor, counts: Tensor) -> None:
        """Give each of some lists room for its blocks."""
        grown = counts > self._rooms[list_nos]
        list_nos, counts = list_nos[grown], counts[grown]
        tables = self._tables(frame)
        self._rooms[list_nos] = 0
        size, wanted = tables[0].size, int(counts.sum())
        if size + wanted > 2 * (int(self._rooms.sum()) + wanted):
            kept = ranges(self._firsts, self._rooms)
            for table in tables:
                table.replace(table.rows[kept])
            self._firsts = self._rooms.cumsum(0) - self._rooms
            size = len(kept)
        for table in tables:
            table.resize(size + wanted)
        self._firsts[list_nos] = size + counts.cumsum(0) - counts
        self._rooms[list_nos] = counts

    def _collect(self, begins: Tensor, sizes: Tensor, made: Tensor) -> CodeBlocks:
        frame = self._frame
        assert frame is not None
        codes, steps, offsets, rows, used = self._tables(frame)
        none = sizes.new_zeros(1)  # the entry of no list
        counts = torch.cat([_blocks_for(sizes).masked_fill_(~made, 0), none])
        hidden = {list_no: some for list_no, some in sorted(self._hidden.items()) if bool(made[list_no])}
        hidden_counts = torch.zeros_like(counts)
        if hidden:
            hidden_counts[list(hidden)] = torch.tensor([len(some) for some in hidden.values()])
        return CodeBlocks(
            codes.room,
            steps.room,
            offsets.room,
            used.room,
            rows.room,
            torch.cat([self._firsts, none]),
            counts,
            torch.cat([none[:0], *hidden.values()]),
            hidden_counts.cumsum(0) - hidden_counts,
            hidden_counts,
            frame.shift,
            self._norm_in_steps,
            self._residual_in_steps,
            doubt_of(frame),
            frame.d + digits_of(frame),
            digits_of(frame),
            ratio_of(frame),
            frame.rounding,
        )


def _blocks_for(sizes: Tensor) -> Tensor:
    """How many blocks lists of these sizes have."""
    return torch.div(sizes + (BLOCK_ROWS - 1), BLOCK_ROWS, rounding_mode="floor")
