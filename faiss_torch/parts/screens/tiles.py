"""Tiles of stored vectors, for searches that look at a list with many queries."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...ops.runtime import workers
from ...ops.scoring.stored import Stored
from ...ops.tiles.tile import Frame, Tile
from ...ops.tiles.tile_set import ARITHMETICS, ListTiles, TileSet
from ...threads import omp_get_max_threads
from .copies import ScreenCopies


class ScreenTiles(ScreenCopies[ListTiles]):
    """Tiles of lists.

    Parameters
    ----------
    metric_type : int
    arithmetic : str
        A key of `tiles.tile_set.ARITHMETICS`.
    """

    #: Rows of a tile: a longer list has several.
    TILE_ROWS: ClassVar[int] = 2048

    def __init__(self, metric_type: int, arithmetic: str) -> None:
        super().__init__(metric_type)
        self.arithmetic = arithmetic
        self._tiles: list[list[Tile]] = []

    def _follow(self, nlist: int) -> None:
        self._tiles = self._tiles[:nlist] + [[] for _ in range(nlist - len(self._tiles))]

    def _copy(self, frame: Frame, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        make_tile = ARITHMETICS[self.arithmetic].make_tile

        def copy(list_no: int) -> None:
            begin, end = int(begins[list_no]), int(begins[list_no] + sizes[list_no])
            firsts = range(begin, end, self.TILE_ROWS)
            parts = (stored.part(first, min(first + self.TILE_ROWS, end)) for first in firsts)
            self._tiles[list_no] = [make_tile(frame, part) for part in parts]

        workers.map_over_workers(copy, list_nos.tolist(), omp_get_max_threads())

    def _collect(self, begins: Tensor, sizes: Tensor, made: Tensor) -> ListTiles:
        tiles = [of_list if is_made else [] for of_list, is_made in zip(self._tiles, made.tolist(), strict=True)]
        counts = torch.tensor([len(of_list) for of_list in tiles], dtype=torch.int64, device="cpu")
        firsts = counts.cumsum(0) - counts
        numbers = torch.arange(int(counts.sum()), dtype=torch.int64, device="cpu")
        offsets = (numbers - firsts.repeat_interleave(counts)) * self.TILE_ROWS
        rows = (sizes.repeat_interleave(counts) - offsets).clamp_(max=self.TILE_ROWS)
        assert self._frame is not None
        tile_set = TileSet.make(
            ARITHMETICS[self.arithmetic],
            self._frame,
            [tile for of_list in tiles for tile in of_list],
            begins.repeat_interleave(counts) + offsets,
            rows,
        )
        return ListTiles(tile_set, firsts, counts)
