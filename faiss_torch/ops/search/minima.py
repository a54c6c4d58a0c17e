"""Exact search of all stored rows by the smallest scores of blocks of them.

The k blocks with the smallest minima hold k different rows, so no row beyond the k-th smallest minimum can be among the
k nearest: only the blocks under it, plus the margin of the screen, are looked at again. The minima come from float32
products of tiles (`search`). On GPUs all is done by kernels (`search_by_kernels`): there the minima are of lower
bounds, from 16 bits, a few more than k blocks are looked at again, and a query is certain where its k-th score is below
the bounds of all others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import kernels
from ...constants import METRIC_INNER_PRODUCT
from ...threads import omp_get_max_threads
from ..gpu.search import (
    MINIMA_BYTES,
    RANGE_NEIGHBOURS,
    Found,
    Within,
    blocks_wanted,
    first_rows,
    in_portions,
    joined,
    largest_scores,
    rows_within,
)
from ..runtime import chunks, workers
from ..scoring import ragged, topk
from ..scoring.scorers import BLOCK, Scorer, Stored
from ..scoring.verify import verified_topk

#: Stored rows of one tile, by device type. On a CPU the tile stays in a core's cache.
TILE_ROWS = {"cpu": 2048}
ACCELERATOR_TILE_ROWS = 16384

#: Bytes of the candidates that are looked at again at a time.
CANDIDATE_BYTES = {"cpu": 8 << 20}


def tile_rows(device: torch.device) -> int:
    """Return how many stored rows make a tile of products."""
    return TILE_ROWS.get(device.type, ACCELERATOR_TILE_ROWS)


def search(scorer: Scorer, group: Tensor, rows: int, k: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of a group of queries by products of tiles.

    Parameters
    ----------
    scorer : Scorer
    group : Tensor, int64, shape (g,)
        Queries.
    rows : int
        Rows of the scan, those that are not in use included: a multiple of `BLOCK`.
    k : int
    similarity : bool

    Returns
    -------
    distances : Tensor, float32, shape (g, k)
    positions : Tensor, int64, shape (g, k)
        As in `verify.verified_topk`.
    """
    minima = _minima(scorer, group, rows)
    thresholds = topk.smallest(minima, k)[0].amax(1) + scorer.margin[group]
    query, block = ((minima <= thresholds[:, None]) & (minima < float("inf"))).nonzero(as_tuple=True)
    counts = torch.bincount(query, minlength=len(group))
    distances = scorer.margin.new_empty(len(group), k)
    found = group.new_empty(len(group), k)
    width = max(1, int(counts.max()))
    begins = counts.cumsum(0) - counts
    row_bytes = 4 * BLOCK * width * (scorer.xq.shape[1] + 4)
    budget = CANDIDATE_BYTES.get(group.device.type, MINIMA_BYTES)
    for some in chunks.slices(len(group), chunks.rows_within(row_bytes, budget)):
        pairs = slice(int(begins[some.start]), int(begins[some.stop - 1] + counts[some.stop - 1]))
        positions, present = _of_queries(_rows_of_blocks(block[pairs], rows), counts[some])
        scores = scorer.gathered(group[some], positions).masked_fill_(~present, float("inf"))
        distances[some], found[some] = verified_topk(scorer, group[some], scores, positions, None, k, similarity)
    return distances, found


def _minima(scorer: Scorer, group: Tensor, rows: int) -> Tensor:
    """The minima of all blocks of `BLOCK` rows for a group of queries: float32, (g, blocks)."""
    tile = tile_rows(group.device)
    minima = scorer.margin.new_empty(len(group), rows // BLOCK)

    def reduce_tile(part: slice) -> None:
        scores = scorer.tile(part.start, part.stop, group)
        blocks = scores.reshape(len(group), BLOCK, (part.stop - part.start) // BLOCK)
        torch.amin(blocks, 1, out=minima[:, part.start // BLOCK : part.stop // BLOCK])

    # inside a task over queries this goes on in its own worker; one task of few queries shares out the rows
    workers.map_over_workers(reduce_tile, chunks.slices(rows, tile), omp_get_max_threads())
    return minima


def _rows_of_blocks(blocks: Tensor, rows: int) -> Tensor:
    """Rows of blocks, (pairs, BLOCK): block j of a tile with m blocks holds its rows j, j + m, j + 2 m ..."""
    tile = tile_rows(blocks.device)
    begin = blocks * BLOCK // tile * tile
    stride = (rows - begin).clamp_(max=tile) // BLOCK
    first = blocks - begin // BLOCK + begin
    return first[:, None] + torch.arange(BLOCK, dtype=torch.int64, device=blocks.device) * stride[:, None]


def _of_queries(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out rows of blocks, (pairs, BLOCK), by their queries, which have so many: (n, width * BLOCK), and which of
    these there are."""
    width, block = max(1, int(counts.max())), rows.shape[1]
    owner = torch.arange(len(counts), dtype=torch.int64, device=rows.device)
    owner = torch.repeat_interleave(owner, counts, output_size=len(rows))
    target = (owner, ragged.rank_in_run(owner, counts))
    positions = rows.new_zeros(len(counts), width, block)
    present = torch.zeros(len(counts), width, block, dtype=torch.bool, device=rows.device)
    positions[target], present[target] = rows, True
    return positions.view(len(counts), -1), present.view(len(counts), -1)


def search_by_kernels(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, rounded: Any, impl: str = "auto", slack: int = 1
) -> Found | None:
    """Find the k nearest of n stored rows; None where a kernel fails.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
        At least one query.
    stored : Stored
    n, k, metric_type : int
    rounded : object
        From `gpu.search.rounded_of`.
    impl : str
    slack : int
        See `gpu.search.blocks_wanted`.
    """
    from ...kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], k)
    width = -(-n // rows) + kernel.BLOCKS
    wanted = blocks_wanted(k, slack, width)
    query_bytes = 4 * width + 4 * wanted[1] * rows

    def part(queries: slice) -> Found | None:
        def by_kernels() -> Found:
            return _of_blocks(xq[queries], stored, n, k, metric_type, rounded, rows, wanted)

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return joined(in_portions(part, len(xq), query_bytes))


def candidates_by_kernels(
    xq: Tensor, stored: Stored, n: int, radius: float, metric_type: int, rounded: Any, impl: str = "auto"
) -> Within | None:
    """Find the rows that may be within a radius; None where a kernel fails.

    Parameters
    ----------
    xq, stored, n, metric_type, rounded, impl
        As of `search_by_kernels`.
    radius : float
    """
    from ...kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], RANGE_NEIGHBOURS)

    def part(queries: slice) -> Within | None:
        def by_kernels() -> Within:
            minima, halves = kernel.block_minima(xq[queries], rounded, n, rows)
            largest = largest_scores(radius, halves, xq.shape[1], metric_type)
            query, column = (minima <= largest[:, None]).nonzero(as_tuple=True)
            firsts = first_rows(column, kernel.BLOCKS, rows)
            found = rows_within(query + queries.start, firsts, torch.full_like(firsts, n), rows, kernel.BLOCKS, stored)
            return Within([found], ~(halves < float("inf")))

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return Within.joined(in_portions(part, len(xq), 4 * (-(-n // rows) + kernel.BLOCKS)))


def _of_blocks(
    xq: Tensor,
    stored: Stored,
    n: int,
    k: int,
    metric_type: int,
    rounded: Any,
    rows: int,
    wanted: tuple[int, int],
) -> Found:
    from ...kernels import block_minima as kernel
    from ...kernels.block_rows import Blocks, closest
    from ...kernels.smallest import smallest

    minima, halves = kernel.block_minima(xq, rounded, n, rows)
    columns, counts, bounds = smallest(minima, *wanted)
    firsts = first_rows(columns.long(), kernel.BLOCKS, rows)
    blocks = Blocks(firsts, torch.full_like(firsts, n), counts, bounds, halves, rows, kernel.BLOCKS)
    similarity = metric_type == METRIC_INNER_PRODUCT
    return Found(*closest(xq, stored.vectors, stored.bias, stored.rows, None, blocks, k, similarity))
