"""Exact search over all stored rows: k nearest neighbours and range search.

The k nearest are found by the minima of blocks (`block_minima`, on GPUs by kernels), on the CPU by tiles and blocks in
8 bits (`tiles.flat`, `byte_sums.flat`). Nothing of size nq x nb is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...constants import FLT_MAX
from ...threads import omp_get_max_threads
from ..byte_sums import flat as flat_byte_sums
from ..byte_sums.blocks import BlocksFor
from ..gpu import flat as gpu_flat
from ..gpu import search as gpu_search
from ..gpu.search import Found, RoundedFor
from ..runtime import chunks, workers
from ..scoring import topk
from ..scoring.candidates import Candidates, in_range
from ..scoring.distances import METRICS, distance
from ..scoring.outlying import without_outlying
from ..scoring.scorers import (
    Scorer,
    Visit,
    make_scorer,
    margin_factor,
    minima_of_blocks,
    products,
    survivors,
)
from ..scoring.small import (
    FEW_FACTORS,
    closest_by_score,
    closest_of_few,
    nearest_by_score,
    search_all,
    search_by_definition,
    small_set,
)
from ..scoring.stored import BLOCK, Stored
from ..scoring.verify import SLACK
from ..tiles import flat as flat_tiles
from ..tiles.tile_set import TilesFor
from . import minima

#: Queries for which waking a worker is worth while: in a search, and in `closest`, which does less for each.
QUERIES_A_WORKER, CLOSEST_A_WORKER = 8, 32

#: Up to this many rows, `closest` scores all of them at once.
FEW_ROWS = 8192

#: Up to so many queries, fewer where there are enough rows for tiles, the search goes by the scores of all rows at
#: once, if these have so many components at most, and those that are verified too.
MANY_SCORED, FEW_SCORED, SCORED_COMPONENTS = 64, 16, 1 << 22

#: Factors in all pairs of a query and a row for which waking a worker is worth while.
FACTORS_A_WORKER = 1 << 24

#: Queries of one task, by device type.
TASK_QUERIES = {"cpu": 256}
ACCELERATOR_TASK_QUERIES = 4096


#: Gives the scorer of queries, float32, (nq, d), against what is stored.
ScorerOf = Callable[[Tensor, Stored], Scorer]


def _scorer_of(metric_type: int, metric_arg: float) -> ScorerOf:
    return lambda xq, stored: make_scorer(xq, stored, metric_type, metric_arg)


def knn_reference(xq: Tensor, xb: Tensor, k: int, metric_type: int, metric_arg: float = 0.0) -> tuple[Tensor, Tensor]:
    """The plain version: all distances of one query at a time, sorted; ties to the lowest id.

    Parameters
    ----------
    xq : Tensor, shape (nq, d)
    xb : Tensor, shape (nb, d)
        Both float32 or float64.

    Returns
    -------
    distances : Tensor, shape (nq, k)
        +-FLT_MAX where there are fewer than k.
    ids : Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    """
    largest = torch.finfo(torch.float32).max
    similarity = METRICS[metric_type].similarity
    distances = xq.new_full((len(xq), k), -largest if similarity else largest)
    ids = torch.full((len(xq), k), -1, dtype=torch.int64, device=xq.device)
    for i, q in enumerate(xq):
        keys = distance(q, xb, metric_type, metric_arg)
        keys = -keys if similarity else keys
        keys, order = keys.masked_fill(~(keys < largest), float("inf")).sort(stable=True)
        n = min(k, int((keys < largest).sum()))
        distances[i, :n] = -keys[:n] if similarity else keys[:n]
        ids[i, :n] = order[:n]
    return distances, ids


def knn(
    xq: Tensor,
    stored: Stored,
    n: int,
    k: int,
    metric_type: int,
    metric_arg: float = 0.0,
    tiles_for: TilesFor | None = None,
    blocks_for: BlocksFor | None = None,
    rounded_for: RoundedFor | None = None,
    impl: str = "auto",
    scorer_of: ScorerOf | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the k nearest stored rows of each query.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
    stored : Stored
        Its capacity is at least `n` rounded up to a multiple of `BLOCK`.
    n : int
        Rows in use; of ``stored.rows`` where only some vectors are scanned.
    k : int
        At least 1; may exceed `n`.
    metric_type, metric_arg
        The metric.
    tiles_for : callable, optional
        Gives tiles of the rows, where all of them are scanned: see `tiles.flat.tiles_of`.
    blocks_for : callable, optional
        Gives blocks of them, likewise: see `flat_byte_sums.search`.
    rounded_for : RoundedFor, optional
        Gives them as the kernels take them: see `gpu_flat.search_by_kernels`.
    impl : str
        Whether kernels search: one of `kernels.IMPLEMENTATIONS`.
    scorer_of : callable, optional
        Gives the scorer of queries against what is stored; the default is that of vectors.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
        Sorted; +-FLT_MAX where there are fewer than k.
    ids : Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    """
    scored = scorer_of or _scorer_of(metric_type, metric_arg)
    similarity = METRICS[metric_type].similarity
    largest = torch.finfo(torch.float32).max
    if n == 0 or len(xq) == 0:
        none = torch.full((len(xq), k), -1, dtype=torch.int64, device=xq.device)
        return xq.new_full((len(xq), k), -largest if similarity else largest), none
    if len(xq) * n * xq.shape[1] <= FEW_FACTORS:
        distances, ids = search_by_definition(xq, stored, n, k, metric_type, metric_arg)
        return distances, stored.stored_rows(ids)
    found = _by_kernels(xq, stored, n, k, metric_type, rounded_for, impl)
    if found is None:
        found = flat_byte_sums.search(xq, stored, n, k, metric_type, blocks_for)
    if found is None:
        found = _by_all_scores(xq, stored, n, k, metric_type)
    if found is None:
        scorer = scored(xq, stored)
        tiles = flat_tiles.tiles_of(scorer, n, k, tiles_for)
        if tiles is None:
            return _by_scores(scorer, n, k, metric_type, metric_arg)
        found = flat_tiles.search(scorer, tiles, k, metric_type)
    distances, ids, left = found
    if left is not None and bool(left.any()):
        again = left.nonzero().view(-1)
        scorer = scored(xq[again], stored)
        distances[again], ids[again] = _by_scores(scorer, n, k, metric_type, metric_arg)
    return distances, ids


def _by_all_scores(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Search few rows for few queries by the scores of all of them, as `knn`; None where there are many of
    either."""
    nq, d = xq.shape
    most = MANY_SCORED if n < flat_tiles.FEWEST_ROWS else FEW_SCORED
    if xq.device.type != "cpu" or nq > most or not k < n or max(n, nq * k) * d > SCORED_COMPONENTS:
        return None
    small = small_set(stored, n, metric_type)
    if small is None:
        return None
    factor = margin_factor(d, xq.device)
    if nq * n * d < FACTORS_A_WORKER:
        distances, ids, certain, all_certain = nearest_by_score(xq, small, k, factor)
        return distances, ids, None if all_certain else ~certain
    parts = _over_queries(lambda some: nearest_by_score(xq[some], small, k, factor)[:3], nq, xq.device, n)
    distances, ids, certain = (torch.cat(each) for each in zip(*parts, strict=True))
    return distances, ids, None if bool(certain.all()) else ~certain


def _by_kernels(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, rounded_for: RoundedFor | None, impl: str
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Search by kernels where there are some: distances, stored rows, and which queries are left."""
    rounded = None
    if k <= gpu_search.MOST_NEIGHBOURS:
        rounded = gpu_search.rounded_of("block_minima", stored, metric_type, rounded_for, impl)
    if rounded is None:
        return None
    assert rounded_for is not None

    def search(queries: Tensor, slack: int = 1) -> Found | None:
        return gpu_flat.search_by_kernels(queries, stored, n, k, metric_type, rounded, impl, slack)

    results = rounded_for.graphs.search(xq, (n, k, metric_type), (rounded,), search, n * xq.shape[1])
    if results is None:
        return None
    found = gpu_search.with_more_slack(Found(*results), lambda queries, slack: search(xq[queries], slack))
    return found.distances, stored.stored_rows(found.positions), found.left


def closest(
    xq: Tensor,
    stored: Stored,
    n: int,
    k: int,
    metric_type: int,
    metric_arg: float = 0.0,
    rounded_for: RoundedFor | None = None,
) -> Tensor:
    """Return which stored rows are the k nearest of each query, in the order of their scores.

    It is what `knn` finds, but that rows whose distances are the same but for rounding may stand in any order. Nothing
    is computed but scores where few rows are stored and these tell the k nearest from the others.

    Parameters
    ----------
    xq, stored, n, k, metric_type, metric_arg, rounded_for
        As for `knn`.

    Returns
    -------
    Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    """
    small = small_set(stored, n, metric_type) if rounded_for is None and k < n <= FEW_ROWS and len(xq) else None
    if small is None:
        return knn(xq, stored, n, k, metric_type, metric_arg, rounded_for=rounded_for)[1]
    factor = margin_factor(xq.shape[1], xq.device)
    if len(xq) < CLOSEST_A_WORKER:
        ids, certain = closest_of_few(xq, small, k, factor)
    else:

        def part(queries: slice) -> tuple[Tensor, Tensor]:
            x = xq[queries]
            return closest_by_score(x, products(x.neg(), small.vectors, small.bias), small, k, factor)

        parts = _over_queries(part, len(xq), xq.device, len(small.bias), CLOSEST_A_WORKER)
        ids, certain = (torch.cat(each) for each in zip(*parts, strict=True))
    if not bool(certain.all()):
        again = (~certain).nonzero().view(-1)
        ids[again] = knn(xq[again], stored, n, k, metric_type, metric_arg)[1]
    return ids


def _by_scores(scorer: Scorer, n: int, k: int, metric_type: int, metric_arg: float) -> tuple[Tensor, Tensor]:
    """Search with scores of the vectors themselves, but for those that are much larger than the others."""
    similarity = METRICS[metric_type].similarity
    parted = without_outlying(scorer.stored, n) if scorer.by_products else None
    if parted is None:
        return _knn(scorer, n, k, similarity)
    rest, rows = parted
    distances, ids = knn(scorer.xq, rest, n, k, metric_type, metric_arg)
    everyone = torch.arange(scorer.nq, dtype=torch.int64, device=rows.device)
    apart = scorer.distances(everyone, rows.expand(scorer.nq, -1))
    keys = torch.cat([distances, apart], 1)
    ids = torch.cat([ids, rows.expand(scorer.nq, -1)], 1)
    keys, columns = topk.sort_rows(keys.neg_() if similarity else keys, ids, k)
    none = keys >= FLT_MAX
    keys, ids = keys.masked_fill_(none, FLT_MAX), ids.gather(1, columns).masked_fill_(none, -1)
    return keys.neg_() if similarity else keys, ids


def _knn(scorer: Scorer, n: int, k: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Do it with scores of the vectors themselves."""
    xq = scorer.xq
    rows = -(-n // BLOCK) * BLOCK
    # with few blocks for the k wanted, the detour over minima saves nothing
    few = rows <= 4 * BLOCK * (k + SLACK)
    # what is stored for each query: all scores, or minima
    width = rows if few else 0 if xq.device.type == "cpu" else rows // BLOCK
    budget = chunks.TEMPORARY_BYTES if few else gpu_search.MINIMA_BYTES

    def part(queries: slice) -> tuple[Tensor, Tensor]:
        group = torch.arange(queries.start, queries.stop, dtype=torch.int64, device=xq.device)
        if few:
            return search_all(scorer, group, rows, k, similarity)
        return minima.search(scorer, group, rows, k, similarity)

    parts = _over_queries(part, len(xq), xq.device, width, budget=budget)
    return torch.cat([D for D, _ in parts]), scorer.stored.stored_rows(torch.cat([ids for _, ids in parts]))


def _over_queries(  # type: ignore[no-untyped-def]
    part,
    nq: int,
    device: torch.device,
    width: int,
    least: int = QUERIES_A_WORKER,
    budget: int = chunks.TEMPORARY_BYTES,
) -> list:
    """Run a function over slices of the queries, with worker threads where there are several slices."""
    threads = omp_get_max_threads()
    step = TASK_QUERIES.get(device.type, ACCELERATOR_TASK_QUERIES)
    if width:
        step = min(step, chunks.rows_within(8 * width, budget))
    if device.type == "cpu" and threads > 1 and nq >= least * threads:
        step = min(step, -(-nq // threads))
    return workers.map_over_workers(part, chunks.slices(nq, step), threads)


def range_search(
    xq: Tensor,
    stored: Stored,
    n: int,
    radius: float,
    metric_type: int,
    metric_arg: float = 0.0,
    tiles_for: TilesFor | None = None,
    rounded_for: RoundedFor | None = None,
    impl: str = "auto",
    scorer_of: ScorerOf | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all stored rows within a radius of each query.

    Parameters
    ----------
    xq, stored, n, metric_type, metric_arg, tiles_for, rounded_for, impl, scorer_of
        As for `knn`.
    radius : float

    Returns
    -------
    lims : Tensor, int64, shape (nq + 1,)
    distances : Tensor, float32, shape (lims[nq],)
    ids : Tensor, int64, shape (lims[nq],)
        Ascending within a query.
    """
    scorer = (scorer_of or _scorer_of(metric_type, metric_arg))(xq, stored)

    def by_scores(queries: Tensor) -> list[Candidates]:
        return _within(scorer.of_queries(queries), n, radius)

    tiles = flat_tiles.tiles_of(scorer, n, 1, tiles_for)
    by_kernels = None
    if n and scorer.nq and scorer.by_products:
        rounded = gpu_search.rounded_of("block_minima", stored, metric_type, rounded_for, impl)
        if rounded is not None:
            by_kernels = gpu_flat.candidates_by_kernels(xq, stored, n, radius, metric_type, rounded, impl)
    if by_kernels is not None:
        found = by_kernels.completed(by_scores, 1)
    elif tiles is not None:
        found = flat_tiles.candidates(scorer, tiles, radius, by_scores)
    else:
        found = _within(scorer, n, radius)
    lims, distances, ids = in_range(Candidates.concatenate(found, xq.device), 1, scorer, radius, metric_type)
    return lims, distances, stored.stored_rows(ids)


def _within(scorer: Scorer, n: int, radius: float) -> list[Candidates]:
    """Find the rows whose scores say that they may be within a radius."""
    device = scorer.xq.device
    rows = -(-n // BLOCK) * BLOCK
    thresholds = scorer.score_of(radius) + scorer.margin
    tile = minima.tile_rows(device, scorer.nq)

    def part(queries: slice) -> Candidates:
        group = torch.arange(queries.start, queries.stop, dtype=torch.int64, device=device)
        buffer = workers.workspace(tile * len(group), device)
        found = []
        for some in chunks.slices(rows, tile):
            scores = scorer.block(Visit(0, some.start, some.stop, group), buffer)
            row, column, values = survivors(scores, minima_of_blocks(scores, BLOCK), thresholds[group])
            found.append(Candidates(group[column], row + some.start, values))
        return Candidates.concatenate(found, device)

    return _over_queries(part, scorer.nq, device, 0)
