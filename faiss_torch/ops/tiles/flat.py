"""Exact search over all stored rows by tiles, screened in the arithmetic of the tiles."""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime import chunks
from ..scoring.candidates import Candidates
from ..scoring.scorers import Scorer
from . import scan as tile_scan
from .scan import CHUNK_BITS, Scan, Visits
from .tile_set import ListTiles, Screen, TilesFor, arithmetic_for
from .verify import RANGE_NEIGHBOURS, ByScores, verified, within_radius

#: Stored rows of one tile.
RUN = 1024

#: Fewer rows than this for each of the k wanted are not worth a screen.
FEWEST_ROWS_A_NEIGHBOUR = 64

#: Fewer rows in all are not worth a screen.
FEWEST_ROWS = 16384

#: The part of the tiles at which a first look is taken, and how many at most.
FIRST_SHARE, FIRST_TILES = 1 / 8, 64

#: Queries that are searched at a time.
QUERIES_A_SEARCH = 4096

#: Deviations by which the number of neighbours among the first tiles is taken for larger than expected: at four, one
#: query in many thousand is searched twice.
DEVIATIONS = 4.0


def tiles_of(scorer: Scorer, n: int, k: int, tiles_for: TilesFor | None) -> ListTiles | None:
    """Return tiles of all rows, or None where the search is not to be screened by tiles.

    Parameters
    ----------
    scorer : Scorer
    n : int
        Rows in use.
    k : int
    tiles_for : callable or None
        See `tiles.tile_set.TilesFor`.
    """
    name = arithmetic_for(scorer)
    if name is None or tiles_for is None or n < max(FEWEST_ROWS, FEWEST_ROWS_A_NEIGHBOUR * k):
        return None
    begins = torch.arange(0, n, RUN, dtype=torch.int64, device="cpu")
    runs = torch.arange(len(begins), dtype=torch.int64, device="cpu")
    return tiles_for(begins, (n - begins).clamp_(max=RUN), runs, scorer.nq, name)


def search(
    scorer: Scorer, tiles: ListTiles, k: int, metric_type: int, guesses: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k closest rows: as `tiles.lists.search`."""
    distances = scorer.xq.new_empty(scorer.nq, k)
    positions = torch.empty(scorer.nq, k, dtype=torch.int64, device="cpu")
    left = torch.empty(scorer.nq, dtype=torch.bool, device="cpu")
    for some in chunks.slices(scorer.nq, QUERIES_A_SEARCH):
        part = scorer
        if scorer.nq > QUERIES_A_SEARCH:
            part = scorer.of_queries(torch.arange(some.start, some.stop, dtype=torch.int64, device="cpu"))
        bounds = None if guesses is None else guesses[some]
        distances[some], positions[some], left[some] = _search(part, tiles, k, metric_type, bounds)
    return distances, positions, left


def _search(
    scorer: Scorer, tiles: ListTiles, k: int, metric_type: int, guesses: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    nq, tile_set = scorer.nq, tiles.tile_set
    screen = Screen(tile_set, scorer.xq)
    columns = tile_set.facts.columns
    total = int(columns.sum())
    scan = Scan(screen, k, torch.full((nq,), total, dtype=torch.int64, device="cpu"))
    everyone = torch.arange(nq, dtype=torch.int64, device="cpu")
    visits = _everything(nq, len(columns))
    looks = None
    if guesses is not None:
        scan.guesses = guesses
    else:
        kept = nq * total <= tile_scan.KEPT_SCORES
        every = 1 if kept else max(1, len(columns) // max(8, min(FIRST_TILES, int(len(columns) * FIRST_SHARE))))
        chosen = torch.arange(0, len(columns), every, dtype=torch.int64, device="cpu")
        widths = columns[chosen] >> CHUNK_BITS
        # each query once for each tile
        entries = everyone.repeat(len(chosen))
        spans = [(tile, i * nq, (i + 1) * nq) for i, tile in enumerate(chosen.tolist())]
        places = (widths.cumsum(0) - widths).repeat_interleave(nq)
        rank = k if kept else _rank(k, float(columns[chosen].sum()) / total)
        looks = scan.first_look(Visits(entries, entries, spans), places, int(widths.sum()), rank, kept)
    found = scan.second_look(visits, looks)

    def again(queries: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return search(scorer.of_queries(queries), tiles, k, metric_type, bounds)

    return verified(scan, scorer, found, None, k, metric_type, again)


def _rank(k: int, share: float) -> int:
    """Of the rows that were looked at, which one's score to take for the k-th of all."""
    expected = k * share
    return min(k, int(expected + DEVIATIONS * expected**0.5) + 2)


def _everything(nq: int, ntiles: int) -> Visits:
    """All queries look at all tiles."""
    everyone = torch.arange(nq, dtype=torch.int64, device="cpu")
    return Visits(everyone, everyone, [(tile, 0, nq) for tile in range(ntiles)])


def candidates(scorer: Scorer, tiles: ListTiles, radius: float, by_scores: ByScores) -> list[Candidates]:
    """Return all rows that may be within a radius: see `tiles.verify.within_radius`."""
    columns = tiles.tile_set.facts.columns
    rows = torch.full((scorer.nq,), int(columns.sum()), dtype=torch.int64, device="cpu")
    scan = Scan(Screen(tiles.tile_set, scorer.xq), RANGE_NEIGHBOURS, rows)
    return within_radius(scan, scorer, _everything(scorer.nq, len(columns)), radius, by_scores)
