"""Exact search of all stored rows by the smallest scores of blocks of them.

The k blocks with the smallest minima hold k different rows, so no row beyond the k-th smallest minimum can be among the
k nearest: only the blocks under it, plus the margin of the screen, are looked at again. The minima come from float32
products of tiles (`search`). On GPUs all is done by kernels (`search_by_kernels`): there the minima are of lower
bounds, from 16 bits, a few more than k blocks are looked at again, and a query is certain where its k-th score is below
the bounds of all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..gpu.search import (
    MINIMA_BYTES,
)
from ..runtime import chunks, workers
from ..scoring import ragged, topk
from ..scoring.scorers import Scorer, Visit
from ..scoring.stored import BLOCK
from ..scoring.verify import verified_topk

#: Stored rows of one tile, by device type. On a CPU the tile stays in a core's cache.
TILE_ROWS = {"cpu": 2048}
ACCELERATOR_TILE_ROWS = 16384

#: For fewer queries than this the operations of a tile take as long as its rows, and tiles have so many times the rows.
FEW_QUERIES, TIMES = 8, 16

#: Bytes of the candidates that are looked at again at a time.
CANDIDATE_BYTES = {"cpu": 8 << 20}


def tile_rows(device: torch.device, nq: int) -> int:
    """Return how many stored rows make a tile of products with so many queries."""
    rows = TILE_ROWS.get(device.type, ACCELERATOR_TILE_ROWS)
    return rows * TIMES if nq < FEW_QUERIES and device.type == "cpu" else rows


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
    tile = tile_rows(group.device, len(group))
    minima = _minima(scorer, group, rows, tile)
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
        positions, present = _of_queries(_rows_of_blocks(block[pairs], rows, tile), counts[some])
        scores = scorer.gathered(group[some], positions).masked_fill_(~present, float("inf"))
        distances[some], found[some] = verified_topk(scorer, group[some], scores, positions, None, k, similarity)
    return distances, found


def _minima(scorer: Scorer, group: Tensor, rows: int, tile: int) -> Tensor:
    """The minima of all blocks of `BLOCK` rows for a group of queries: float32, (g, blocks)."""
    minima = scorer.margin.new_empty(len(group), rows // BLOCK)

    def reduce_tile(part: slice) -> None:
        scores = scorer.tile(Visit(0, part.start, part.stop, group))
        blocks = scores.reshape(len(group), BLOCK, (part.stop - part.start) // BLOCK)
        torch.amin(blocks, 1, out=minima[:, part.start // BLOCK : part.stop // BLOCK])

    # inside a task over queries this goes on in its own worker; one task of few queries shares out the rows
    workers.map_over_workers(reduce_tile, chunks.slices(rows, tile), omp_get_max_threads())
    return minima


def _rows_of_blocks(blocks: Tensor, rows: int, tile: int) -> Tensor:
    """Rows of blocks, (pairs, BLOCK): block j of a tile with m blocks holds its rows j, j + m, j + 2 m ..."""
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
