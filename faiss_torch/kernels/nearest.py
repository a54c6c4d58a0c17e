"""The closest centroid of each vector by 16-bit matrix products, with a proof for all but a few.

One program holds a tile of vectors and streams tiles of centroids past it, as Flash-KMeans does (Yang et al., 2026):
no score is stored. The score of a pair is ``h - <x, c>``, where h is |c|^2 / 2 for L2 and 0 for the inner product:
smaller is closer. The best and the second best are kept for each place of a tile, and brought together when all tiles
have passed; the last bits of a score are the number of its tile. So a score costs five operations beside its product.

A label is certain where the second best score is further behind than twice the bound of `rounding`. The other vectors
are left to `nearest_exact`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .nearest_exact import Left, leave, settle
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bound, measured, numbered, scaled

#: Sets that are done at once: CUDA starts no more programs side by side in the second place.
MOST_SETS = 65535


@triton.jit
def _nearest_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    labels_ptr,
    left_ptr,
    count_ptr,
    active_ptr,
    n,
    k,
    d,
    x_batch,
    x_stride,
    c_batch,
    c_stride,
    rounding,
    least,
    kept,
    numbering,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ONE_CHUNK: tl.constexpr,
    EXPONENT: tl.constexpr,
    SOME: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    if SOME:
        if tl.load(active_ptr + batch) == 0:
            return
    x_ptr += batch * x_batch
    c_ptr += batch * c_batch
    h_ptr += batch * k
    facts_ptr += batch * 4
    shift_ptr += batch * d
    labels_ptr += batch * n
    left_ptr += batch * n
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = rows < n
    inner = tl.arange(0, BLOCK_D)
    lanes = tl.arange(0, BLOCK_K)
    x_begins = x_ptr + rows * x_stride
    x_rows = x_begins[:, None] + inner[None, :]
    c_rows = c_ptr + lanes[None, :].to(tl.int64) * c_stride + inner[:, None]
    scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT)
    factor = -unscale * tl.load(facts_ptr)
    best = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
    second = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
    if ONE_CHUNK:
        x = tl.load(x_rows, mask=there[:, None] & (inner < d)[None, :], other=0.0)
        shift = tl.load(shift_ptr + inner, mask=inner < d, other=0.0)
        rounded = scaled(x, shift, scale)[1]
        for tile in range(0, tl.cdiv(k, BLOCK_K)):
            c = tl.load(c_rows + tl.cast(tile, tl.int64) * BLOCK_K * c_stride)
            h = tl.load(h_ptr + tile * BLOCK_K + lanes)
            scores = numbered(tl.dot(rounded, c) * factor[:, None] + h[None, :], tile, kept)
            second = tl.minimum(second, tl.maximum(scores, best))
            best = tl.minimum(best, scores)
    else:
        for tile in range(0, tl.cdiv(k, BLOCK_K)):
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                x = tl.load(x_rows + begin, mask=there[:, None] & (begin + inner < d)[None, :], other=0.0)
                shift = tl.load(shift_ptr + begin + inner, mask=begin + inner < d, other=0.0)
                rounded = scaled(x, shift, scale)[1]
                c = tl.load(c_rows + tl.cast(tile, tl.int64) * BLOCK_K * c_stride + begin)
                products = tl.dot(rounded, c, products)
            h = tl.load(h_ptr + tile * BLOCK_K + lanes)
            scores = numbered(products * factor[:, None] + h[None, :], tile, kept)
            second = tl.minimum(second, tl.maximum(scores, best))
            best = tl.minimum(best, scores)

    smallest = tl.min(best, 1)
    lane = tl.min(tl.where(best == smallest[:, None], lanes[None, :], BLOCK_K), 1)
    labels = (smallest.to(tl.int32, bitcast=True) & ~kept) * BLOCK_K + lane
    next_one = tl.min(tl.where(lanes[None, :] == lane[:, None], second, best), 1)
    gap = next_one - smallest

    error = bound(norm, residual, facts_ptr, rounding, least)
    error += tl.maximum(tl.abs(smallest), tl.abs(next_one)) * numbering
    # NaN, and infinity less infinity, are not greater than anything; of longer vectors the distance may not be finite
    certain = (gap > 2.0 * error) & (tl.abs(smallest) < 1e37) & (norm < 1e18)
    tl.store(labels_ptr + rows, labels.to(tl.int64), mask=there)
    leave(left_ptr, count_ptr + batch, rows, there & (certain == 0))


def screen(x: Tensor, rounded: Rounded, active: Tensor | None = None) -> tuple[Tensor, list[Left]]:
    """Find the closest centroid of each vector for which 16-bit products prove it.

    Parameters
    ----------
    x, active
        As in `nearest`, of b sets.
    rounded : Rounded
        Their centroids.

    Returns
    -------
    labels : Tensor, int64, shape (b, n)
        Where a vector is not left, exact arithmetic has the same label, and no tie, and the score is finite by far.
    steps : list of Left
        The first has the vectors whose labels mean nothing; the others are for `settle`.
    """
    b, n, d = x.shape
    labels = torch.empty(b, n, dtype=torch.int64, device=x.device)
    steps = Left.none(b, n, x.device)
    blocks = tuning.nearest_blocks(d)
    centroids, h, facts, shift, _ = rounded
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    _nearest_kernel[(triton.cdiv(n, blocks.vectors), b)](
        x,
        centroids,
        h,
        facts,
        shift,
        labels,
        *steps[0],
        labels if active is None else active,
        n,
        centroids.shape[1],
        d,
        x.stride(0),
        x.stride(1),
        centroids.stride(0),
        centroids.stride(1),
        *Margins.make(d, centroids.shape[1] // blocks.centroids),
        BLOCK_N=blocks.vectors,
        BLOCK_K=blocks.centroids,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        ONE_CHUNK=d <= blocks.components,
        EXPONENT=EXPONENT_OF_LARGEST,
        SOME=active is not None,
        **options,
    )
    return labels, steps


def nearest(x: Tensor, centroids: Tensor, l2: bool, active: Tensor | None = None) -> Tensor:
    """Find the closest centroid of each vector, without waiting for the device.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d) or (b, n, d)
        Vectors, or b sets of them.
    centroids : Tensor, float32, float16 or bfloat16, shape (k, d) or (b, k, d)
        At least one, or one of each set; on the same device.
    l2 : bool
        Whether the distance counts, or else the inner product.
    active : Tensor, bool, shape (b,), optional
        Which sets are wanted; the labels of the others mean nothing.

    Returns
    -------
    Tensor, int64, shape (n,) or (b, n)
        Ties go to the lowest id; -1 where nothing is closer than the largest float32.
    """
    if x.dim() == 2:
        return nearest(x[None], centroids[None], l2)[0]
    if len(x) > MOST_SETS:
        every = torch.ones(len(x), dtype=torch.bool, device=x.device) if active is None else active
        parts = zip(x.split(MOST_SETS), centroids.split(MOST_SETS), every.split(MOST_SETS), strict=True)
        return torch.cat([nearest(vectors, own, l2, part) for vectors, own, part in parts])
    x = x if x.stride(2) == 1 else x.contiguous()
    if x.shape[0] * x.shape[1] == 0:
        return torch.empty(x.shape[:2], dtype=torch.int64, device=x.device)
    centroids = centroids if centroids.stride(2) == 1 else centroids.contiguous()
    rounded = Rounded.make(centroids, l2)
    labels, steps = screen(x, rounded, active)
    settle(x, centroids, rounded, l2, labels, steps)
    return labels
