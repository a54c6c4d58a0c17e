"""Exact search over all stored rows: k nearest neighbours and range search.

The k nearest: scores by tiles of stored rows, reduced on the fly to the minima of blocks. The k blocks with the
smallest minima hold k different rows, so no row beyond the k-th smallest minimum can be among the k nearest: only
the blocks under it (plus the margin of the screen) are looked at again. Nothing of size nq x nb is ever stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..threads import omp_get_max_threads
from . import chunks, flat_blocks, flat_tiles, lists, topk, workers
from .code_blocks import BlocksFor
from .collect import Candidates, in_range
from .distances import METRICS, distance
from .flat_small import FEW_FACTORS, closest_by_score, closest_of_few, search_all, search_by_definition, small_set
from .screen import BLOCK, Scorer, Stored, block_minima, make_scorer, margin_factor, products, survivors
from .tile_screen import TilesFor
from .verify import SLACK, verified_topk

#: Queries for which waking a worker is worth while: in a search, and in `closest`, which does less for each.
QUERIES_A_WORKER, CLOSEST_A_WORKER = 8, 32

#: Up to this many rows, `closest` scores all of them at once.
FEW_ROWS = 8192

#: Stored rows of one tile, and queries of one task, by device type. On a CPU the tile stays in a core's cache.
TILE_ROWS = {"cpu": 2048}
TASK_QUERIES = {"cpu": 256}
ACCELERATOR_TILE_ROWS = 16384
ACCELERATOR_TASK_QUERIES = 4096


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
        Gives tiles of the rows, where all of them are scanned: see `flat_tiles.tiles_of`.
    blocks_for : callable, optional
        Gives blocks of them, likewise: see `flat_blocks.search`.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
        Sorted; +-FLT_MAX where there are fewer than k.
    ids : Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    """
    similarity = METRICS[metric_type].similarity
    largest = torch.finfo(torch.float32).max
    if n == 0 or len(xq) == 0:
        none = torch.full((len(xq), k), -1, dtype=torch.int64, device=xq.device)
        return xq.new_full((len(xq), k), -largest if similarity else largest), none
    if len(xq) * n * xq.shape[1] <= FEW_FACTORS:
        distances, ids = search_by_definition(xq, stored, n, k, metric_type, metric_arg)
        return distances, stored.stored_rows(ids)
    found = flat_blocks.search(xq, stored, n, k, metric_type, blocks_for)
    scorer = make_scorer(xq, stored, metric_type, metric_arg)
    if found is None:
        tiles = flat_tiles.tiles_of(scorer, n, k, tiles_for)
        if tiles is None:
            return _knn(scorer, n, k, similarity)
        found = flat_tiles.search(scorer, tiles, k, metric_type)
    distances, ids, left = found
    if left is not None and bool(left.any()):
        again = left.nonzero().view(-1)
        distances[again], ids[again] = _knn(scorer.of_queries(again), n, k, similarity)
    return distances, ids


def closest(xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, metric_arg: float = 0.0) -> Tensor:
    """Return which stored rows are the k nearest of each query, in the order of their scores.

    It is what `knn` finds, but that rows whose distances are the same but for rounding may stand in any order. Nothing
    is computed but scores where few rows are stored and these tell the k nearest from the others.

    Parameters
    ----------
    xq, stored, n, k, metric_type, metric_arg
        As for `knn`.

    Returns
    -------
    Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    """
    small = small_set(stored, n, metric_type) if k < n <= FEW_ROWS and len(xq) else None
    if small is None:
        return knn(xq, stored, n, k, metric_type, metric_arg)[1]
    factor = margin_factor(xq.shape[1])
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


def _knn(scorer: Scorer, n: int, k: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Do it with scores of the vectors themselves."""
    xq = scorer.xq
    rows = -(-n // BLOCK) * BLOCK
    # with few blocks for the k wanted, the detour over minima saves nothing
    few = rows <= 4 * BLOCK * (k + SLACK)

    def part(queries: slice) -> tuple[Tensor, Tensor]:
        group = torch.arange(queries.start, queries.stop, device=xq.device)
        search = search_all if few else _search_blocks
        return search(scorer, group, rows, k, similarity)

    parts = _over_queries(part, len(xq), xq.device, few and rows)
    return torch.cat([D for D, _ in parts]), scorer.stored.stored_rows(torch.cat([ids for _, ids in parts]))


def _over_queries(  # type: ignore[no-untyped-def]
    part, nq: int, device: torch.device, width: int, least: int = QUERIES_A_WORKER
) -> list:
    """Run a function over slices of the queries, with worker threads where there are several slices."""
    threads = omp_get_max_threads()
    step = TASK_QUERIES.get(device.type, ACCELERATOR_TASK_QUERIES)
    if width:
        step = min(step, chunks.rows_within(8 * width))
    if device.type == "cpu" and threads > 1 and nq >= least * threads:
        step = min(step, -(-nq // threads))
    return workers.map_over_workers(part, chunks.slices(nq, step), threads)


def _search_blocks(scorer: Scorer, group: Tensor, rows: int, k: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Score by tiles, keep the minima of blocks, look again at the blocks that may hold a neighbour."""
    tile = TILE_ROWS.get(group.device.type, ACCELERATOR_TILE_ROWS)
    minima = scorer.margin.new_empty(len(group), rows // BLOCK)

    def reduce_tile(part: slice) -> None:
        scores = scorer.tile(part.start, part.stop, group)
        # block j of a tile with m blocks holds its rows j, j + m, j + 2 m ... (see `screen.block_minima`)
        blocks = scores.reshape(len(group), BLOCK, (part.stop - part.start) // BLOCK)
        torch.amin(blocks, 1, out=minima[:, part.start // BLOCK : part.stop // BLOCK])

    # inside a task over queries this goes on in its own worker; one task of few queries shares out the rows
    workers.map_over_workers(reduce_tile, chunks.slices(rows, tile), omp_get_max_threads())
    thresholds = topk.smallest(minima, k)[0].amax(1) + scorer.margin[group]
    query, block = ((minima <= thresholds[:, None]) & (minima < float("inf"))).nonzero(as_tuple=True)
    counts = torch.bincount(query, minlength=len(group))
    distances = scorer.margin.new_empty(len(group), k)
    ids = group.new_empty(len(group), k)
    width = int(counts.max())
    begins = counts.cumsum(0) - counts
    d_bytes = 4 * BLOCK * max(1, width) * (scorer.xq.shape[1] + 4)
    for some in chunks.slices(len(group), chunks.rows_within(d_bytes, 8 << 20)):
        pairs = slice(int(begins[some.start]), int(begins[some.stop - 1] + counts[some.stop - 1]))
        positions, present = _rows_of_blocks(block[pairs], counts[some], rows, tile)
        scores = scorer.gathered(group[some], positions).masked_fill_(~present, float("inf"))
        distances[some], ids[some] = verified_topk(scorer, group[some], scores, positions, None, k, similarity)
    return distances, ids


def _rows_of_blocks(blocks: Tensor, counts: Tensor, rows: int, tile: int) -> tuple[Tensor, Tensor]:
    """Lay out the rows of each query's blocks: (n, width * BLOCK) rows, and which of them there are."""
    width = max(1, int(counts.max()))
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=len(blocks))
    padded = blocks.new_zeros(len(counts), width)
    present = torch.zeros(len(counts), width, dtype=torch.bool, device=blocks.device)
    target = (owner, lists.rank_in_run(owner, counts))
    padded[target] = blocks
    present[target] = True
    begin = padded * BLOCK // tile * tile
    stride = (rows - begin).clamp_(max=tile) // BLOCK
    first = padded - begin // BLOCK + begin
    inner = torch.arange(BLOCK, device=blocks.device)
    positions = first[..., None] + inner * stride[..., None]
    return positions.view(len(counts), -1), present[..., None].expand(-1, -1, BLOCK).reshape(len(counts), -1)


def range_search(
    xq: Tensor,
    stored: Stored,
    n: int,
    radius: float,
    metric_type: int,
    metric_arg: float = 0.0,
    tiles_for: TilesFor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all stored rows within a radius of each query.

    Parameters
    ----------
    xq, stored, n, metric_type, metric_arg, tiles_for
        As for `knn`.
    radius : float

    Returns
    -------
    lims : Tensor, int64, shape (nq + 1,)
    distances : Tensor, float32, shape (lims[nq],)
    ids : Tensor, int64, shape (lims[nq],)
        Ascending within a query.
    """
    scorer = make_scorer(xq, stored, metric_type, metric_arg)

    def by_scores(queries: Tensor) -> list[Candidates]:
        return _within(scorer.of_queries(queries), n, radius)

    tiles = flat_tiles.tiles_of(scorer, n, 1, tiles_for)
    found = _within(scorer, n, radius) if tiles is None else flat_tiles.candidates(scorer, tiles, radius, by_scores)
    lims, distances, ids = in_range(Candidates.concatenate(found, xq.device), 1, scorer, radius, metric_type)
    return lims, distances, stored.stored_rows(ids)


def _within(scorer: Scorer, n: int, radius: float) -> list[Candidates]:
    """Find the rows whose scores say that they may be within a radius."""
    device = scorer.xq.device
    rows = -(-n // BLOCK) * BLOCK
    thresholds = scorer.score_of(radius) + scorer.margin
    tile = TILE_ROWS.get(device.type, ACCELERATOR_TILE_ROWS)

    def part(queries: slice) -> Candidates:
        group = torch.arange(queries.start, queries.stop, device=device)
        buffer = workers.workspace(tile * len(group), device)
        found = []
        for some in chunks.slices(rows, tile):
            scores = scorer.block(some.start, some.stop, group, buffer)
            row, column, values = survivors(scores, block_minima(scores, BLOCK), thresholds[group])
            found.append(Candidates(group[column], row + some.start, values))
        return Candidates.concatenate(found, device)

    return _over_queries(part, scorer.nq, device, 0)
