"""The smallest score of each block of stored rows, for each query: the screen of an exact search, in 16 bits.

One program multiplies a tile of queries with a tile of rows, a few rows of each block at a time, and keeps the smallest
lower bound of a score of each block in registers: it costs three operations beside the product, and only one of a block
is stored.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bounded, measured, scaled, slope

#: Blocks of a tile: block j of a tile holds its rows j, j + BLOCKS, j + 2 BLOCKS ...
BLOCKS = 64

#: Rows of a block, at most; a power of two.
MOST_ROWS = 64


@triton.jit
def _minima_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    norms_ptr,
    minima_ptr,
    halves_ptr,
    n,
    d,
    columns,
    blocks,
    x_stride,
    c_stride,
    rounding,
    least,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
    ONE_CHUNK: tl.constexpr,
    WHOLE: tl.constexpr,
    FACTOR: tl.constexpr,
    EXPONENT: tl.constexpr,
):
    # programs that run side by side read the same rows
    groups = tl.cdiv(n, BLOCK_N)
    tile = tl.program_id(0) // groups
    queries = (tl.program_id(0) % groups).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = queries < n
    inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
    first = tile.to(tl.int64) * (ROWS_OF_BLOCK * BLOCK_K) + lanes
    x_begins = x_ptr + queries * x_stride
    c_rows = c_ptr + first[None, :] * c_stride + inner[:, None]
    scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT, FACTOR)
    factor, slopes = -unscale * tl.load(facts_ptr), slope(norm, residual, rounding)
    best = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
    if ONE_CHUNK:
        x = tl.load(x_begins[:, None] + inner[None, :], mask=there[:, None] & (inner < d)[None, :], other=0.0)
        shift = tl.load(shift_ptr + inner, mask=inner < d, other=0.0)
        rounded = scaled(x, shift, scale, FACTOR)[1]
    for row in range(0, ROWS_OF_BLOCK):
        known = first + row * BLOCK_K < columns
        c_places = c_rows + row * BLOCK_K * c_stride
        if ONE_CHUNK:
            if WHOLE:
                c = tl.load(c_places)
            else:
                c = tl.load(c_places, mask=known[None, :] & (inner < d)[:, None], other=0)
            products = tl.dot(rounded, c.to(FACTOR))
        else:
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                inside = begin + inner < d
                x = tl.load(
                    x_begins[:, None] + (begin + inner)[None, :], mask=there[:, None] & inside[None, :], other=0.0
                )
                shift = tl.load(shift_ptr + begin + inner, mask=inside, other=0.0)
                if WHOLE:
                    c = tl.load(c_places + begin)
                else:
                    c = tl.load(c_places + begin, mask=known[None, :] & inside[:, None], other=0)
                products = tl.dot(scaled(x, shift, scale, FACTOR)[1], c.to(FACTOR), products)
        h = tl.load(h_ptr + first + row * BLOCK_K, mask=known, other=float("inf"))
        norms = tl.load(norms_ptr + first + row * BLOCK_K, mask=known, other=0.0)
        best = tl.minimum(best, bounded(products, factor, slopes, h, norms, rounding, least, 1))
    places = tile * BLOCK_K + lanes
    tl.store(minima_ptr + queries[:, None] * blocks + places[None, :], best, mask=there[:, None])
    if tile == 0:
        tl.store(halves_ptr + queries, norm * norm * 0.5, mask=there)


def rounded_rows(vectors: Tensor, l2: bool, bias: Tensor, room: int = 0) -> Rounded:
    """Round stored vectors, (n, d), for `block_minima`: whole tiles of them, with room for so many rows at least.

    What is no row has an h of +inf.
    """
    return Rounded.make(vectors[None], l2, MOST_ROWS * BLOCKS, bias, room)


def rows_of_block(n: int, d: int, k: int) -> int:
    """Return how many rows are best for a block in a search of n rows for k of them.

    A query costs about 2 n / rows minima that are written and read, and k * rows vectors that are read again.
    """
    wanted = math.sqrt(2 * n / (max(1, k) * d))
    return min(MOST_ROWS, 1 << max(0, round(math.log2(max(1.0, wanted)))))


def block_minima(x: Tensor, rows: Rounded, count: int, rows_of_block: int) -> tuple[Tensor, Tensor]:
    """Find a lower bound of the smallest score of each block.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d)
        At least one query.
    rows : Rounded
        From `rounded_rows`, or as they are stored.
    count : int
        So many of them are in use.
    rows_of_block : int
        A power of two, up to `MOST_ROWS`.

    Returns
    -------
    minima : Tensor, float32, shape (n, blocks)
        +inf for a block without rows.
    halves : Tensor, float32, shape (n,)
        |x|^2 / 2 of each query, taken from where the rows' h is: a score and this are half of the squared distance.
        Not finite for a query whose minima mean nothing.
    """
    n, d = x.shape
    x = x if x.stride(1) == 1 else x.contiguous()
    centroids, h, facts, shift, norms = rows
    columns = centroids.shape[1]
    blocks = tuning.minima_blocks(d)
    tiles = triton.cdiv(count, rows_of_block * BLOCKS)
    minima = torch.empty(n, tiles * BLOCKS, dtype=torch.float32, device=x.device)
    halves = torch.empty(n, dtype=torch.float32, device=x.device)
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    margins = Margins.make(d, 1)
    _minima_kernel[(triton.cdiv(n, blocks.vectors) * tiles,)](
        x,
        centroids,
        h,
        facts,
        shift,
        norms,
        minima,
        halves,
        n,
        d,
        columns,
        minima.shape[1],
        x.stride(0),
        centroids.stride(1),
        margins.rounding,
        margins.least,
        BLOCK_N=blocks.vectors,
        BLOCK_K=BLOCKS,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        ROWS_OF_BLOCK=rows_of_block,
        ONE_CHUNK=d <= blocks.components,
        WHOLE=centroids.shape[2] % blocks.components == 0 and tiles * rows_of_block * BLOCKS <= columns,
        FACTOR=rows.factor,
        EXPONENT=EXPONENT_OF_LARGEST,
        **options,
    )
    return minima, halves
