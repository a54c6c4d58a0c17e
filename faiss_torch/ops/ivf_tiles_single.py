"""The scan of inverted lists by tiles for one query at a time: what `tile_scan` does, in as few operations as can be.

In a search of one query each operation costs a few microseconds, whatever it computes, and a product of one query with
a tile about ten, for the tile comes from memory. So the scores of all tiles stand one behind the other, are reduced,
guessed from and looked through at once, and all survivors are verified.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..constants import FLT_MAX
from ..threads import omp_get_max_threads
from . import topk, workers
from .distances import METRICS
from .screen import Scorer
from .tile_kernels import CHUNK_BITS, guesses, survivors
from .tile_scan import CHUNK, LARGEST_LIMIT
from .tile_screen import ListTiles, Screen
from .tile_verify import at_most


def search(
    scorer: Scorer,
    screen: Screen,
    list_tiles: ListTiles,
    query: int,
    probes: Tensor,
    ids: Tensor,
    k: int,
    metric_type: int,
) -> tuple[Tensor, Tensor, bool]:
    """Return the k closest rows of the lists that one query probes.

    Parameters
    ----------
    scorer : Scorer
        Gives true distances.
    screen : Screen
    list_tiles : ListTiles
    query : int
        Which of the scorer's queries.
    probes : Tensor, int64, shape (nprobe,)
        Lists of one tile each.
    ids : Tensor, int64, shape (capacity,)
        The id of each stored row.
    k, metric_type : int

    Returns
    -------
    distances : Tensor, float32, shape (k,)
    positions : Tensor, int64, shape (k,)
    certain : bool
        Whether this is the result.
    """
    tile_set = list_tiles.tile_set
    tiles = list_tiles.firsts.index_select(0, probes)
    tile_nos = tiles.tolist()
    scores = _scores(screen, query, tile_nos)
    minima = scores.amin(1)
    chunks = tile_set.columns.index_select(0, tiles) >> CHUNK_BITS
    terms = screen.terms[query].expand(len(tile_nos), -1)
    guess = float("inf")
    if len(minima) >= k:
        values, _ = guesses(minima, terms, tiles, chunks, chunks, tile_set.upper, tile_set.steps)
        guess = float(values.topk(k, largest=False).values[-1])
    wanted = terms[:, 0] * guess
    _, _, positions, _ = survivors(
        scores,
        minima,
        terms,
        wanted,
        chunks,
        tiles,
        chunks,
        tile_set.lower,
        tile_set.steps,
        tile_set.begins,
        tile_set.rows,
        LARGEST_LIMIT,
        CHUNK_BITS,
    )
    if len(tile_set.hidden):
        always = [tile_set.begins[tile] + tile_set.tiles[tile].always for tile in tile_nos if _leaves_out(screen, tile)]
        positions = torch.cat([positions[~torch.isin(positions, tile_set.hidden)], *always])
    return _verified(scorer, screen, query, positions, ids, k, metric_type, guess)


def _leaves_out(screen: Screen, tile: int) -> bool:
    return screen.tile_set.tiles[tile].always is not None


def _scores(screen: Screen, query: int, tiles: list[int]) -> Tensor:
    """Computed scores of the tiles, one behind the other: (nchunk, CHUNK)."""
    arithmetic = screen.tile_set.arithmetic
    widths = [screen.tile_set.widths[tile] for tile in tiles]
    ends = list(itertools.accumulate(widths, initial=0))
    scores = torch.empty(ends[-1], dtype=arithmetic.score_dtype)
    codes = screen.codes[query].repeat(len(tiles), 1)
    step = -(-len(tiles) // omp_get_max_threads())

    def multiply(first: int) -> None:
        some = [screen.tile_set.tiles[tile] for tile in tiles[first : first + step]]
        arithmetic.multiply(codes, some, [1] * len(some), 1, scores[ends[first] :])

    workers.map_over_workers(multiply, range(0, len(tiles), step), omp_get_max_threads())
    return scores.view(-1, CHUNK)


def _verified(
    scorer: Scorer, screen: Screen, query: int, positions: Tensor, ids: Tensor, k: int, metric_type: int, guess: float
) -> tuple[Tensor, Tensor, bool]:
    """Sort survivors by true distance, equal ones by id; and whether no other row can be closer than the k-th."""
    similarity = METRICS[metric_type].similarity
    queries = torch.tensor([query])
    distances = scorer.distances(queries, positions[None])
    keys = distances.neg_() if similarity else distances
    keys, columns = topk.sort_rows(keys, ids.index_select(0, positions)[None], min(k, len(positions)))
    positions = positions.index_select(0, columns[0])
    missing = ~(keys[0] < FLT_MAX)
    if len(positions) < k or bool(missing.any()):
        positions = topk.pad(positions.masked_fill_(missing, -1)[None], k, -1)[0]
        keys = topk.pad(keys.masked_fill(missing, FLT_MAX), k, FLT_MAX)
    distances = keys.neg() if similarity else keys
    return distances[0], positions, float(at_most(screen.tile_set, scorer, distances[:, -1], queries)) <= guess
