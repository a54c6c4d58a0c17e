"""A screen of tiles: what `tiles.scan` multiplies and what it knows of the products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime import arithmetic
from ..scoring.scorers import Scorer
from . import bf16, int8
from .loops import TileFacts, query_terms
from .scan_loops import Spans
from .tile import Frame, Queries, Tile


class Arithmetic(NamedTuple):
    """How one arithmetic rounds."""

    name: str
    make_tile: Callable[[Frame, Tensor], Tile]
    encode_queries: Callable[[Frame, Tensor], Queries]
    score_dtype: torch.dtype


ARITHMETICS = {
    "int8": Arithmetic("int8", int8.make_tile, int8.encode_queries, torch.int32),
    "bf16": Arithmetic("bf16", bf16.make_tile, bf16.encode_queries, torch.float32),
}

#: Vectors of fewer components are not worth a screen, and sums of more could exceed an int32.
FEWEST_COMPONENTS, MOST_COMPONENTS = 16, 1 << 16

#: A span of one tile and the entries [first, last) of a `tiles.scan.Visits` that look at it.
Span = tuple[int, int, int]


def arithmetic_for(scorer: Scorer) -> str | None:
    """Return the name of the arithmetic of the tiles that a search could be screened by, or None."""
    name = arithmetic.chosen(scorer.xq.device)
    wide_enough = FEWEST_COMPONENTS <= scorer.xq.shape[1] <= MOST_COMPONENTS
    return name if wide_enough and name in ARITHMETICS and scorer.by_products else None


def _chosen(values: list[Tensor], places: list[int]) -> list[Tensor]:
    return list(itemgetter(*places)(values)) if len(places) > 1 else [values[place] for place in places]


def doubt_of(frame: Frame) -> float:
    """Which part of the possible error of a score is likely: errors of d components add up to about the root of d."""
    return min(1.0, 4 / frame.d**0.5)


class Errors(NamedTuple):
    """How far scores of some tiles may be from the truth: float32, (n,).

    What float32 makes of squares, norms and sums is little beside the residuals, and part of these.

    Attributes
    ----------
    steps : Tensor
    offsets : Tensor
        Less the rounding of a bias.
    norms, residuals : Tensor
        Upper bounds, which are multiplied with a query's residual and its norm.
    """

    steps: Tensor
    offsets: Tensor
    norms: Tensor
    residuals: Tensor

    @staticmethod
    def of(frame: Frame, tiles: Sequence[Tile]) -> Errors:
        """Those of tiles."""
        of_tiles = [(tile.step, tile.offset, tile.norm, tile.residual) for tile in tiles]
        numbers = torch.tensor(of_tiles, dtype=torch.float32, device="cpu")
        steps, offsets, norms, residuals = numbers.view(-1, 4).T.contiguous()
        rounding = frame.rounding
        return Errors(
            steps,
            offsets - norms.square() * rounding,
            norms * (1 + rounding),
            residuals * (1 + rounding) + norms * rounding,
        )


class TileSet(NamedTuple):
    """Tiles of one storage.

    Attributes
    ----------
    arithmetic : Arithmetic
    frame : Frame
    tiles : sequence of Tile
    facts : TileFacts
    codes, biases : list of Tensor
        Of each tile; biases only where the arithmetic has some.
    widths : list of int
        The columns of each tile.
    """

    arithmetic: Arithmetic
    frame: Frame
    tiles: Sequence[Tile]
    facts: TileFacts
    codes: list[Tensor]
    biases: list[Tensor]
    widths: list[int]

    @staticmethod
    def make(arithmetic: Arithmetic, frame: Frame, tiles: Sequence[Tile], begins: Tensor, rows: Tensor) -> TileSet:
        """Collect tiles; `begins` and `rows` are int64, shape (ntiles,)."""
        errors, doubt = Errors.of(frame, tiles), doubt_of(frame)
        each = errors.steps[:, None]
        lower = torch.stack([-errors.offsets, errors.norms, errors.residuals], 1) / each
        upper = torch.stack([-errors.offsets, errors.norms * -doubt, errors.residuals * -doubt], 1) / each
        columns = torch.tensor([tile.codes.shape[1] for tile in tiles], dtype=torch.int64, device="cpu")
        hidden = [begins[i] + tile.always for i, tile in enumerate(tiles) if tile.always is not None]
        none = torch.empty(0, dtype=torch.int64, device="cpu")
        all_hidden = torch.cat([none, *hidden])
        facts = TileFacts(begins, rows, columns, errors.steps, lower, upper, all_hidden)
        codes = [tile.codes for tile in tiles]
        biases = [tile.bias for tile in tiles if tile.bias is not None]
        return TileSet(arithmetic, frame, tiles, facts, codes, biases, columns.tolist())

    def codes_of(self, tiles: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the codes of some tiles, and their biases where the arithmetic has some."""
        return _chosen(self.codes, tiles), _chosen(self.biases, tiles) if self.biases else []

    def always(self, tile: int) -> Tensor:
        """Return the stored rows that are not in a tile: int64."""
        rows = self.tiles[tile].always
        return self.facts.hidden[:0] if rows is None else rows + self.facts.begins[tile]


class ListTiles(NamedTuple):
    """Tiles of inverted lists.

    Attributes
    ----------
    tile_set : TileSet
    firsts, counts : Tensor, int64, shape (nlist,)
        List j has the tiles ``[firsts[j], firsts[j] + counts[j])``.
    """

    tile_set: TileSet
    firsts: Tensor
    counts: Tensor


#: Gives the tiles of all lists that a search is to scan, or None where making them does not pay yet. It takes where the
#: lists begin and their sizes, int64, (nlist,); the lists that are to be scanned, int64, (n,), each as often as it
#: stands there, -1 for none; how often all of that is to be done; and a key of `ARITHMETICS`.
TilesFor = Callable[[Tensor, Tensor, Tensor, int, str], ListTiles | None]


class Screen:
    """The queries of one search against tiles.

    For a query and a tile, ``true score >= (computed - terms[:3] @ lower) * terms[3] * steps``; and with `upper` in the
    place of `lower`, the right side is a guess of the true score that is seldom too small.

    Parameters
    ----------
    tile_set : TileSet
    xq : Tensor, float32, shape (nq, d)
        Finite.

    Attributes
    ----------
    codes : Tensor, shape (nq, width)
    terms : Tensor, float32, shape (nq, 4)
    """

    def __init__(self, tile_set: TileSet, xq: Tensor) -> None:
        self.tile_set = tile_set
        queries = tile_set.arithmetic.encode_queries(tile_set.frame, xq)
        self.codes = queries.codes
        self.terms = query_terms(queries.steps, queries.norms, queries.residuals)

    def spans(self, batch: Sequence[Span]) -> Spans:
        """Return spans with what their products need."""
        tiles, firsts, lasts = (list(each) for each in zip(*batch, strict=True))
        return Spans(tiles, firsts, lasts, *self.tile_set.codes_of(tiles))
