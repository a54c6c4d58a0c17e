"""Tiles of stored vectors: made when a search has use for them, and kept until the vectors change."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from ..ops import workers
from ..ops.lists import ranges
from ..ops.screen import BLOCK, Stored
from ..ops.tile_screen import ARITHMETICS, ListTiles, TileSet
from ..ops.tiles import Frame, Tile, make_frame
from ..threads import omp_get_max_threads

#: Rows of a tile: a longer list has several.
TILE_ROWS = 2048

#: A tile is made when so many times its rows have been, or are about to be, scanned: about what making it costs.
SCANS_WORTH_A_TILE = 4

#: Vectors of which the frame is made.
SAMPLE = 16384


def _blocks(rows: Tensor) -> Tensor:
    return torch.div(rows, BLOCK, rounding_mode="floor")


class ScreenTiles:
    """Tiles of the lists, or of the runs of one length, in which stored rows are scanned.

    Parameters
    ----------
    metric_type : int
    arithmetic : str
        A key of `tile_screen.ARITHMETICS`.
    """

    def __init__(self, metric_type: int, arithmetic: str) -> None:
        self.metric_type = metric_type
        self.arithmetic = arithmetic
        self._frame: Frame | None = None
        self._tiles: list[list[Tile] | None] = []
        # where the lists stand, and where each was when its tiles were made: -1 where it has none
        nowhere = torch.empty(0, dtype=torch.int64)
        self._begins, self._sizes, self._made_begins, self._made_sizes = nowhere, nowhere, nowhere, nowhere
        self._ready = torch.empty(0, dtype=torch.bool)  # whether each list has its tiles; in front, for list -1, True
        self._rows_scanned = 0
        self._collected: ListTiles | None = None
        self._changed: list[Tensor] = []
        self._making = threading.Lock()

    def changed(self, rows: Tensor | slice) -> None:
        """Take note that other vectors stand in some rows: int64 or a slice."""
        some = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        if len(some):
            self._changed.append(_blocks(some).unique())

    def for_search(
        self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor, times: int
    ) -> ListTiles | None:
        """Return the tiles of all lists that are to be scanned, or None where making them does not pay yet.

        Parameters
        ----------
        stored : Stored
        begins, sizes : Tensor, int64, shape (nlist,)
            Where the lists stand.
        list_nos : Tensor, int64, shape (n,)
            The lists that are to be scanned, each as often as it stands here; -1 for none.
        times : int
            How often all of this is to be done.
        """
        with self._making:
            if self._are_ready(begins, sizes, list_nos):
                return self._collected
            return workers.conduct(
                lambda: self._update(stored, begins, sizes, list_nos, times), begins.device, to_its_end=True
            )

    def _are_ready(self, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> bool:
        """Whether the tiles of all these lists are there, and those of today."""
        return (
            self._collected is not None
            and not self._changed
            and torch.equal(begins, self._begins)
            and torch.equal(sizes, self._sizes)
            and bool(self._ready.index_select(0, list_nos + 1).all())
        )

    def _update(self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor, times: int) -> ListTiles | None:
        """Forget what is out of date and make what pays: see `for_search`."""
        self._forget_changed(begins, sizes)
        if self._collected is None or not bool(self._ready.index_select(0, list_nos + 1).all()):
            visits = torch.bincount(list_nos + 1, minlength=len(sizes) + 1)[1:] * times
            missing = ((visits > 0) & ~self._are_made()).nonzero().view(-1)
            if len(missing):
                self._rows_scanned += int((visits * sizes).sum())
                if self._rows_scanned < SCANS_WORTH_A_TILE * int(sizes[missing].sum()):
                    return None
                self._rows_scanned = 0
                self._make(stored, begins, sizes, missing)
            self._collected = self._collect(begins, sizes)
        return self._collected

    def _forget_changed(self, begins: Tensor, sizes: Tensor) -> None:
        """Forget the tiles of lists in which a row has changed, or that are somewhere else."""
        if not self._changed and torch.equal(begins, self._begins) and torch.equal(sizes, self._sizes):
            return
        self._collected = None
        self._begins, self._sizes = begins.clone(), sizes.clone()
        more = sizes.new_full((max(0, len(sizes) - len(self._tiles)),), -1)
        self._tiles = self._tiles[: len(sizes)] + [None] * len(more)
        self._made_begins = torch.cat([self._made_begins[: len(sizes)], more])
        self._made_sizes = torch.cat([self._made_sizes[: len(sizes)], more])
        changed, self._changed = self._changed, []
        if changed:
            blocks = torch.cat(changed).unique()
            ends = begins + sizes + (BLOCK - 1)
            first, behind = (torch.searchsorted(blocks, _blocks(each)) for each in (begins, ends))
            self._made_sizes[first < behind] = -1

    def _are_made(self) -> Tensor:
        """Whether each list has its tiles: bool, (nlist,)."""
        return (self._made_sizes == self._sizes) & (self._made_begins == self._begins)

    def _make(self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        frame = self._frame
        if frame is None:
            rows = ranges(begins, sizes)
            frame = self._frame = make_frame(stored.at(rows[:: max(1, len(rows) // SAMPLE)]), self.metric_type)
        make_tile = ARITHMETICS[self.arithmetic].make_tile

        def make(list_no: int) -> None:
            begin, end = int(begins[list_no]), int(begins[list_no] + sizes[list_no])
            self._tiles[list_no] = [
                make_tile(frame, stored.part(first, min(first + TILE_ROWS, end)))
                for first in range(begin, end, TILE_ROWS)
            ]

        workers.map_over_workers(make, list_nos.tolist(), omp_get_max_threads())
        self._made_begins[list_nos], self._made_sizes[list_nos] = begins[list_nos], sizes[list_nos]

    def _collect(self, begins: Tensor, sizes: Tensor) -> ListTiles:
        made = self._are_made()
        self._ready = torch.cat([made.new_ones(1), made])
        tiles = [of_list or [] if is_made else [] for of_list, is_made in zip(self._tiles, made.tolist(), strict=True)]
        counts = torch.tensor([len(of_list) for of_list in tiles])
        firsts = counts.cumsum(0) - counts
        offsets = (torch.arange(int(counts.sum())) - firsts.repeat_interleave(counts)) * TILE_ROWS
        rows = (sizes.repeat_interleave(counts) - offsets).clamp_(max=TILE_ROWS)
        assert self._frame is not None
        tile_set = TileSet.make(
            ARITHMETICS[self.arithmetic],
            self._frame,
            [tile for of_list in tiles for tile in of_list],
            begins.repeat_interleave(counts) + offsets,
            rows,
        )
        return ListTiles(tile_set, firsts, counts)
