"""The scan of inverted lists by tiles: list-major, screened in the arithmetic of the tiles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..scoring.candidates import Candidates
from ..scoring.ragged import ranges
from ..scoring.scorers import Scorer
from ..scoring.stored import SHORT_LIST, Lists
from . import scan as tile_scan
from .scan import CHUNK, CHUNK_BITS, Scan, Visits
from .tile_set import ListTiles, Screen, Span, arithmetic_for
from .verify import RANGE_NEIGHBOURS, ByScores, at_most, verified, within_radius

#: Chunks that a query looks at, for each of the k wanted, before its k-th score is guessed: more give a better guess.
CHUNKS_A_NEIGHBOUR = 4

#: Less is not worth a screen: chunks for each of the k wanted, rows of a list.
FEWEST_CHUNKS_A_NEIGHBOUR = 1
FEWEST_ROWS_OF_A_LIST = 8

#: Queries that are searched first, to see by how much the guesses of all are too large.
PILOTS = 64

#: The queries whose guesses a pilot lowers, at least.
QUERIES_A_PILOT = 8

#: Short lists are scanned by tiles only where they have so many queries each.
GROUP_OF_A_SHORT_LIST = 4


def tiles_of(scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, k: int) -> ListTiles | None:
    """Return the tiles of probed lists, or None where the search is not to be screened by tiles.

    Parameters
    ----------
    scorer : Scorer
    lists : Lists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query and how many rows each has.
    k : int
    """
    name = arithmetic_for(scorer)
    if name is None or lists.tiles_for is None or scorer.nq == 0:
        return None
    total, nprobed = int(rows.sum()), int((rows > 0).sum())
    if total < FEWEST_ROWS_OF_A_LIST * nprobed or total < FEWEST_CHUNKS_A_NEIGHBOUR * CHUNK * k * scorer.nq:
        return None
    list_nos = probes.reshape(-1)
    if total < SHORT_LIST * nprobed and nprobed < GROUP_OF_A_SHORT_LIST * len(list_nos.unique()):
        return None
    return lists.tiles_for(lists.begins, lists.sizes, list_nos, 1, name)


class _Pairs(NamedTuple):
    """Pairs of a query and a tile that it looks at, by query: n in all.

    Attributes
    ----------
    queries, keys, tiles : Tensor, int64, shape (n,)
    before : Tensor, int64, shape (n,)
        How many chunks the query looks at before this tile.
    chunks_of_query : Tensor, int64, shape (nq,)
    """

    queries: Tensor
    keys: Tensor
    tiles: Tensor
    before: Tensor
    chunks_of_query: Tensor


def _one_each(list_tiles: ListTiles, probes: Tensor) -> bool:
    """Whether each of these probes is of a list that has one tile."""
    return bool((probes >= 0).all()) and bool((list_tiles.counts.index_select(0, probes) == 1).all())


def _pairs(list_tiles: ListTiles, probes: Tensor) -> _Pairs:
    """Lay out which tiles each query looks at, in the order of its probes."""
    nq, nprobe = probes.shape
    flat = probes.reshape(-1)
    keys = torch.arange(len(flat), dtype=torch.int64, device="cpu")
    queries = torch.arange(nq, dtype=torch.int64, device="cpu").repeat_interleave(nprobe, output_size=len(flat))
    if _one_each(list_tiles, flat):
        tiles = list_tiles.firsts.index_select(0, flat)
        chunks = (list_tiles.tile_set.facts.columns.index_select(0, tiles) >> CHUNK_BITS).view(nq, nprobe)
        running = chunks.cumsum(1)
        return _Pairs(queries, keys, tiles, (running - chunks).view(-1), running[:, -1])
    present = flat.clamp(min=0)
    counts = list_tiles.counts.index_select(0, present).masked_fill_(flat < 0, 0)
    keys, queries = (torch.repeat_interleave(each, counts) for each in (keys, queries))
    tiles = ranges(list_tiles.firsts.index_select(0, present), counts)
    chunks = list_tiles.tile_set.facts.columns.index_select(0, tiles) >> CHUNK_BITS
    of_query = torch.zeros(nq, dtype=torch.int64, device="cpu").index_add_(0, queries, chunks)
    running = chunks.cumsum(0) - chunks
    before = running - (of_query.cumsum(0) - of_query).index_select(0, queries)
    return _Pairs(queries, keys, tiles, before, of_query)


def _by_tile(pairs: _Pairs, chosen: Tensor | None) -> tuple[Visits, Tensor]:
    """Sort pairs, or the chosen ones, by tile; and how many chunks their queries look at before."""
    queries, keys, tiles, before, _ = pairs
    if chosen is not None:
        queries, keys, tiles, before = (each.index_select(0, chosen) for each in (queries, keys, tiles, before))
    sorted_tiles, order = tiles.to(torch.int32).sort(stable=True)
    present, counts = torch.unique_consecutive(sorted_tiles, return_counts=True)
    spans: list[Span] = []
    first = 0
    for tile, count in zip(present.tolist(), counts.tolist(), strict=True):
        spans.append((tile, first, first + count))
        first += count
    return Visits(queries.index_select(0, order), keys.index_select(0, order), spans), before.index_select(0, order)


def search(
    scorer: Scorer,
    list_tiles: ListTiles,
    probes: Tensor,
    ids: Tensor,
    k: int,
    metric_type: int,
    guesses: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k closest rows of the probed lists.

    Parameters
    ----------
    scorer : Scorer
        Gives true distances.
    list_tiles : ListTiles
        Of the probed lists at least.
    probes : Tensor, int64, shape (nq, nprobe)
        -1 for no list.
    ids : Tensor, int64, shape (capacity,)
        The id of each stored row.
    k, metric_type : int
    guesses : Tensor, float32, shape (nq,), optional
        What the k-th scores are at most.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
        Stored rows, -1 where there are fewer than k.
    left : Tensor, bool, shape (nq,)
        Queries without a certificate: what stands in their rows is not their result.
    """
    screen = Screen(list_tiles.tile_set, scorer.xq)

    def again(queries: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return search(scorer.of_queries(queries), list_tiles, probes[queries], ids, k, metric_type, bounds)

    pairs = _pairs(list_tiles, probes)
    pairs = pairs._replace(keys=pairs.queries)  # in which of its lists a row stands is of no interest
    of_query = pairs.chunks_of_query
    scan = Scan(screen, k, of_query << CHUNK_BITS)
    visits, places = _by_tile(pairs, None)
    looks = None
    if guesses is not None:
        scan.guesses = guesses
    elif int(of_query.sum()) << CHUNK_BITS <= tile_scan.KEPT_SCORES:
        looks = scan.first_look(visits, places, int(of_query.max()), k, kept=True)
    else:
        wanted = CHUNKS_A_NEIGHBOUR * k
        longest = int(list_tiles.tile_set.facts.columns.max()) >> CHUNK_BITS
        first_visits, first_places = _by_tile(pairs, (pairs.before < wanted).nonzero().view(-1))
        scan.first_look(first_visits, first_places, min(int(of_query.max()), wanted + longest), k, kept=False)
        if scorer.nq >= QUERIES_A_PILOT * PILOTS:
            pilots = torch.arange(0, scorer.nq, scorer.nq // PILOTS, dtype=torch.int64, device="cpu")
            pilot = scorer.of_queries(pilots)
            found_by_pilots, _, _ = search(pilot, list_tiles, probes[pilots], ids, k, metric_type)
            scan.lower_guesses(pilots, at_most(list_tiles.tile_set, pilot, found_by_pilots[:, -1]))
    found = scan.second_look(visits, looks)
    return verified(scan, scorer, found, ids, k, metric_type, again)


def candidates(
    scorer: Scorer, list_tiles: ListTiles, probes: Tensor, radius: float, by_scores: ByScores
) -> list[Candidates]:
    """Return all rows of the probed lists that may be within a radius: see `tiles.verify.within_radius`."""
    pairs = _pairs(list_tiles, probes)
    visits, _ = _by_tile(pairs, None)
    screen, nprobe = Screen(list_tiles.tile_set, scorer.xq), probes.shape[1]
    scan = Scan(screen, RANGE_NEIGHBOURS, pairs.chunks_of_query << CHUNK_BITS, nprobe)
    return within_radius(scan, scorer, visits, radius, by_scores)
