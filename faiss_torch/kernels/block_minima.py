"""The smallest score of each block of stored rows, for each query: the screen of an exact search, in 16 bits.

One program multiplies a tile of queries with a tile of rows, a few rows of each block at a time, and keeps the smallest
score of each block in registers: a score costs two operations beside its product, and only one of `ROWS` is stored.
Scores are off by `rounding.bound` at most.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bound, measured, scaled

#: Rows of a block, and blocks of a tile: block j of a tile holds its rows j, j + BLOCKS, j + 2 BLOCKS ...
ROWS, BLOCKS = 64, 64


@triton.jit
def _minima_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    minima_ptr,
    errors_ptr,
    n,
    d,
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
    EXPONENT: tl.constexpr,
):
    # programs that run side by side read the same rows
    queries = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = queries < n
    inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
    first = tl.program_id(1).to(tl.int64) * (ROWS_OF_BLOCK * BLOCK_K)
    x_begins = x_ptr + queries * x_stride
    c_rows = c_ptr + (first + lanes)[None, :] * c_stride + inner[:, None]
    h_places = h_ptr + first + lanes
    scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT)
    factor = -unscale * tl.load(facts_ptr)
    best = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
    if ONE_CHUNK:
        x = tl.load(x_begins[:, None] + inner[None, :], mask=there[:, None] & (inner < d)[None, :], other=0.0)
        shift = tl.load(shift_ptr + inner, mask=inner < d, other=0.0)
        rounded = scaled(x, shift, scale)[1]
        for row in range(0, ROWS_OF_BLOCK):
            c = tl.load(c_rows + row * BLOCK_K * c_stride)
            h = tl.load(h_places + row * BLOCK_K)
            best = tl.minimum(best, tl.dot(rounded, c) * factor[:, None] + h[None, :])
    else:
        for row in range(0, ROWS_OF_BLOCK):
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                mask = there[:, None] & (begin + inner < d)[None, :]
                x = tl.load(x_begins[:, None] + (begin + inner)[None, :], mask=mask, other=0.0)
                shift = tl.load(shift_ptr + begin + inner, mask=begin + inner < d, other=0.0)
                c = tl.load(c_rows + row * BLOCK_K * c_stride + begin)
                products = tl.dot(scaled(x, shift, scale)[1], c, products)
            h = tl.load(h_places + row * BLOCK_K)
            best = tl.minimum(best, products * factor[:, None] + h[None, :])
    places = tl.program_id(1) * BLOCK_K + lanes
    tl.store(minima_ptr + queries[:, None] * blocks + places[None, :], best, mask=there[:, None])
    if tl.program_id(1) == 0:
        tl.store(errors_ptr + queries, bound(norm, residual, facts_ptr, rounding, least), mask=there)


def rounded_rows(vectors: Tensor, l2: bool) -> Rounded:
    """Round stored vectors, (n, d), for `block_minima`: whole tiles of them."""
    return Rounded.make(vectors[None], l2, ROWS * BLOCKS)


def block_minima(x: Tensor, rows: Rounded) -> tuple[Tensor, Tensor]:
    """Find the smallest score of each block.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d)
        At least one query.
    rows : Rounded
        From `rounded_rows`.

    Returns
    -------
    minima : Tensor, float32, shape (n, blocks)
        3e38 for a block without rows.
    errors : Tensor, float32, shape (n,)
        How far a query's scores may be from the exact ones.
    """
    n, d = x.shape
    x = x if x.stride(1) == 1 else x.contiguous()
    centroids, h, facts, shift = rows
    columns = centroids.shape[1]
    blocks = tuning.minima_blocks(d)
    minima = torch.empty(n, columns // ROWS, dtype=torch.float32, device=x.device)
    errors = torch.empty(n, dtype=torch.float32, device=x.device)
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    margins = Margins.make(d, 1)
    _minima_kernel[(triton.cdiv(n, blocks.vectors), columns // (ROWS * BLOCKS))](
        x,
        centroids,
        h,
        facts,
        shift,
        minima,
        errors,
        n,
        d,
        minima.shape[1],
        x.stride(0),
        centroids.stride(1),
        margins.rounding,
        margins.least,
        BLOCK_N=blocks.vectors,
        BLOCK_K=BLOCKS,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        ROWS_OF_BLOCK=ROWS,
        ONE_CHUNK=d <= blocks.components,
        EXPONENT=EXPONENT_OF_LARGEST,
        **options,
    )
    return minima, errors
