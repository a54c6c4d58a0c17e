"""Exact search of all stored rows by the smallest scores of blocks of them.

The k blocks with the smallest minima hold k different rows, so no row beyond the k-th smallest minimum can be among the
k nearest: only the blocks under it, plus the margin of the screen, are looked at again. The minima come from float32
products of tiles, or on GPUs from a Triton kernel in 16 bits (`kernels.block_minima`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import kernels
from ..constants import METRIC_L2
from ..threads import omp_get_max_threads
from . import chunks, lists, topk, workers
from .screen import BLOCK, ProductScorer, Scorer
from .verify import SLACK, verified_topk

#: Stored rows of one tile, by device type. On a CPU the tile stays in a core's cache.
TILE_ROWS = {"cpu": 2048}
ACCELERATOR_TILE_ROWS = 16384

#: Bytes of the candidates that are looked at again at a time.
CANDIDATE_BYTES = {"cpu": 8 << 20}

#: Bytes of minima on an accelerator.
MINIMA_BYTES = 256 << 20

#: Rows from which on the kernel is worth the rounding, in all and for each of the k wanted.
LEAST_ROWS, ROWS_A_NEIGHBOUR = 1 << 15, 256

#: Gives the rows rounded for the kernel: `kernels.block_minima.rounded_rows`.
RoundedFor = Callable[[], Any]


class Minima(NamedTuple):
    """The smallest scores of blocks of rows.

    Attributes
    ----------
    scores : Tensor, float32, shape (n, blocks)
        Of a block without rows as large as can be: +inf, or what `rows_of` makes nothing of.
    margins : Tensor, float32, shape (n,)
        How far apart two scores of a query must be for their order to be certain.
    block : int
        Rows of a block.
    rows_of : callable
        Takes queries and their blocks, int64 (pairs,) each; returns the rows of the blocks, int64 (pairs, block), and
        which of them there are, bool.
    """

    scores: Tensor
    margins: Tensor
    block: int
    rows_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def tile_rows(device: torch.device) -> int:
    """Return how many stored rows make a tile of products."""
    return TILE_ROWS.get(device.type, ACCELERATOR_TILE_ROWS)


def by_products(scorer: Scorer, group: Tensor, rows: int) -> Minima:
    """Find the minima of all blocks of `BLOCK` rows for a group of queries, int64 (n,)."""
    tile = tile_rows(group.device)
    minima = scorer.margin.new_empty(len(group), rows // BLOCK)

    def reduce_tile(part: slice) -> None:
        scores = scorer.tile(part.start, part.stop, group)
        blocks = scores.reshape(len(group), BLOCK, (part.stop - part.start) // BLOCK)
        torch.amin(blocks, 1, out=minima[:, part.start // BLOCK : part.stop // BLOCK])

    # inside a task over queries this goes on in its own worker; one task of few queries shares out the rows
    workers.map_over_workers(reduce_tile, chunks.slices(rows, tile), omp_get_max_threads())
    rows_of = functools.partial(_rows_of_tiles, rows=rows, tile=tile, block=BLOCK, n=rows)
    return Minima(minima, scorer.margin[group], BLOCK, rows_of)


def by_kernel(scorer: Scorer, group: Tensor, rounded: Any, n: int) -> Minima:
    """Find them by the kernel, in its own blocks, of n rows."""
    from ..kernels import block_minima as kernel

    minima, errors = kernel.block_minima(scorer.xq.index_select(0, group), rounded)
    rows, tile = kernel.ROWS * minima.shape[1], kernel.ROWS * kernel.BLOCKS
    rows_of = functools.partial(_rows_of_tiles, rows=rows, tile=tile, block=kernel.ROWS, n=n)
    return Minima(minima, 2 * errors, kernel.ROWS, rows_of)


def of_blocks(scorer: Scorer, group: Tensor, n: int, rounded: Any, impl: str = "auto") -> Minima:
    """Find the minima of the blocks of n rows for a group of queries: by the kernel where there are rounded rows."""

    def by_torch() -> Minima:
        return by_products(scorer, group, -(-n // BLOCK) * BLOCK)

    if rounded is None:
        return by_torch()
    device = group.device
    return kernels.run("block_minima", device, impl, lambda: by_kernel(scorer, group, rounded, n), by_torch)


def kernel_rows(scorer: Scorer, n: int, k: int, rounded_for: RoundedFor | None, impl: str = "auto") -> Any:
    """Return the stored rows rounded for the kernel, or None where it is not to be used.

    Parameters
    ----------
    scorer : Scorer
    n : int
        Rows in use.
    k : int
    rounded_for : callable or None
    impl : str
        One of `kernels.IMPLEMENTATIONS`.

    Raises
    ------
    RuntimeError
        If the kernel is asked for where it cannot run.
    """
    if rounded_for is None or not isinstance(scorer, ProductScorer) or scorer.stored.rows is not None:
        return None
    if impl == "auto" and n < max(LEAST_ROWS, ROWS_A_NEIGHBOUR * (k + SLACK)):
        return None
    return kernels.run("block_minima", scorer.xq.device, impl, rounded_for, lambda: None)


def rounded_rows(vectors: Tensor, metric_type: int, bias: Tensor | None = None) -> Any:
    """Round stored vectors, (n, d), for the kernels; those whose bias is +inf may be anything, and are not."""
    from ..kernels.block_minima import rounded_rows as rounded

    if bias is not None and bool(bias.isinf().any()):
        vectors = vectors.masked_fill(bias.isinf()[:, None], 0.0)
    return rounded(vectors, metric_type == METRIC_L2)


def search(
    scorer: Scorer, group: Tensor, minima: Minima, k: int, similarity: bool, ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Look again at the blocks that may hold a neighbour.

    Parameters
    ----------
    scorer : Scorer
    group : Tensor, int64, shape (g,)
        Queries.
    minima : Minima
        Theirs.
    k : int
    similarity : bool
    ids : Tensor, int64, or None
        The id of each stored row, which decides between equal distances; None where that is the row.

    Returns
    -------
    distances : Tensor, float32, shape (g, k)
    positions : Tensor, int64, shape (g, k)
        As in `verify.verified_topk`.
    """
    thresholds = topk.smallest(minima.scores, k)[0].amax(1) + minima.margins
    query, block = ((minima.scores <= thresholds[:, None]) & (minima.scores < float("inf"))).nonzero(as_tuple=True)
    counts = torch.bincount(query, minlength=len(group))
    distances = scorer.margin.new_empty(len(group), k)
    found = group.new_empty(len(group), k)
    width = max(1, int(counts.max()))
    begins = counts.cumsum(0) - counts
    row_bytes = 4 * minima.block * width * (scorer.xq.shape[1] + 4)
    budget = CANDIDATE_BYTES.get(group.device.type, MINIMA_BYTES)
    for some in chunks.slices(len(group), chunks.rows_within(row_bytes, budget)):
        pairs = slice(int(begins[some.start]), int(begins[some.stop - 1] + counts[some.stop - 1]))
        positions, present = _of_queries(*minima.rows_of(query[pairs], block[pairs]), counts[some])
        scores = scorer.gathered(group[some], positions).masked_fill_(~present, float("inf"))
        distances[some], found[some] = verified_topk(scorer, group[some], scores, positions, ids, k, similarity)
    return distances, found


def _of_queries(rows: Tensor, there: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out rows of blocks, (pairs, block), by their queries, which have so many: (n, width * block) each."""
    width, block = max(1, int(counts.max())), rows.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(counts), device=rows.device), counts, output_size=len(rows))
    target = (owner, lists.rank_in_run(owner, counts))
    positions = rows.new_zeros(len(counts), width, block)
    present = torch.zeros(len(counts), width, block, dtype=torch.bool, device=rows.device)
    positions[target], present[target] = rows.masked_fill(~there, 0), there
    return positions.view(len(counts), -1), present.view(len(counts), -1)


def _rows_of_tiles(
    queries: Tensor, blocks: Tensor, *, rows: int, tile: int, block: int, n: int
) -> tuple[Tensor, Tensor]:
    """Rows of blocks: block j of a tile with m blocks holds its rows j, j + m, j + 2 m ...; the first n are there."""
    begin = blocks * block // tile * tile
    stride = (rows - begin).clamp_(max=tile) // block
    first = blocks - begin // block + begin
    positions = first[:, None] + torch.arange(block, device=blocks.device) * stride[:, None]
    return positions, positions < n
