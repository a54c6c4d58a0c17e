"""The closest centroid of each vector by 16-bit matrix products, with a proof for all but a few.

One program holds a tile of vectors and streams tiles of centroids past it, as Flash-KMeans does (Yang et al., 2026):
no score is stored. The score of a pair is ``h - <x, c>``, where h is |c|^2 / 2 for L2 and 0 for the inner product:
smaller is closer. The best and the second best are kept for each place of a tile, and brought together when all tiles
have passed, so that a score costs six operations beside its product.

Vectors and centroids are rounded to float16, scaled by powers of two: each vector by its own, all centroids by one.
With x~ and c~ for the rounded ones, a computed score is off by at most

    |x - x~| |c| + |x~| |c - c~| + what float32 makes of the sum

where the vector's norms are those of this vector, and the centroids' the largest. A label is certain where the second
best score is further behind than twice that. The others are left to `nearest_exact`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .nearest_exact import Left, leave, settle

#: The relative error of one addition on tensor cores, which may cut off instead of rounding, and more.
_ROUNDING = 2.0**-22

#: Scaled components are less than 2 to this.
_EXPONENT = 14


@triton.jit
def _scaled(x, scale):
    """Vectors times powers of two, and these rounded."""
    x = x.to(tl.float32) * scale[:, None]
    return x, x.to(tl.float16)


@triton.jit
def _nearest_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
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
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
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
    labels_ptr += batch * n
    left_ptr += batch * n
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = rows < n
    inner = tl.arange(0, BLOCK_D)
    lanes = tl.arange(0, BLOCK_K)
    x_rows = x_ptr + rows[:, None] * x_stride + inner[None, :]
    c_rows = c_ptr + lanes[None, :].to(tl.int64) * c_stride + inner[:, None]

    # the power of two that scales each vector, from the exponent of its largest component
    largest = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, d, BLOCK_D):
        x = tl.load(x_rows + begin, mask=there[:, None] & (begin + inner < d)[None, :], other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(x.to(tl.float32)), 1))
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    power = tl.minimum(tl.maximum(EXPONENT - 1 + 127 - exponent, -126), 126)
    scale = ((127 + power) << 23).to(tl.float32, bitcast=True)
    unscale = ((127 - power) << 23).to(tl.float32, bitcast=True)

    squares = tl.zeros([BLOCK_N], tl.float32)
    residuals = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, d, BLOCK_D):
        x = tl.load(x_rows + begin, mask=there[:, None] & (begin + inner < d)[None, :], other=0.0)
        exact, rounded = _scaled(x, scale)
        errors = exact - rounded.to(tl.float32)
        squares += tl.sum(exact * exact, 1)
        residuals += tl.sum(errors * errors, 1)

    factor = -unscale * tl.load(facts_ptr)
    best = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
    second = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
    first_of = tl.zeros([BLOCK_N, BLOCK_K], tl.int32)
    if ONE_CHUNK:
        x = tl.load(x_rows, mask=there[:, None] & (inner < d)[None, :], other=0.0)
        rounded = _scaled(x, scale)[1]
        for first in range(0, k, BLOCK_K):
            c = tl.load(c_rows + tl.cast(first, tl.int64) * c_stride)
            h = tl.load(h_ptr + first + lanes)
            scores = tl.dot(rounded, c) * factor[:, None] + h[None, :]
            second = tl.minimum(second, tl.maximum(scores, best))
            first_of = tl.where(scores < best, first, first_of)
            best = tl.minimum(best, scores)
    else:
        for first in range(0, k, BLOCK_K):
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                x = tl.load(x_rows + begin, mask=there[:, None] & (begin + inner < d)[None, :], other=0.0)
                rounded = _scaled(x, scale)[1]
                c = tl.load(c_rows + tl.cast(first, tl.int64) * c_stride + begin)
                products = tl.dot(rounded, c, products)
            h = tl.load(h_ptr + first + lanes)
            scores = products * factor[:, None] + h[None, :]
            second = tl.minimum(second, tl.maximum(scores, best))
            first_of = tl.where(scores < best, first, first_of)
            best = tl.minimum(best, scores)

    smallest = tl.min(best, 1)
    ids = first_of + lanes[None, :]
    labels = tl.min(tl.where(best == smallest[:, None], ids, 2147483647), 1)
    others = tl.where(ids == labels[:, None], second, best)
    gap = tl.min(others, 1) - smallest

    c_norm, c_residual, h_largest = tl.load(facts_ptr + 1), tl.load(facts_ptr + 2), tl.load(facts_ptr + 3)
    norm, residual = tl.sqrt(squares) * unscale, tl.sqrt(residuals) * unscale
    error = residual * c_norm + (norm + residual) * c_residual + rounding * (norm * c_norm + h_largest) + least
    # NaN, and infinity less infinity, are not greater than anything
    certain = (gap > 2.0 * error) & (tl.abs(smallest) < 1e37)
    tl.store(labels_ptr + rows, labels.to(tl.int64), mask=there)
    leave(left_ptr, count_ptr + batch, rows, there & (certain == 0))


def screen(x: Tensor, centroids: Tensor, h: Tensor, active: Tensor | None = None) -> tuple[Tensor, Left, Tensor]:
    """Find the closest centroid of each vector for which 16-bit products prove it.

    Parameters
    ----------
    x, centroids, h, active
        As in `nearest`, all of b sets.

    Returns
    -------
    labels : Tensor, int64, shape (b, n)
        Below k. Where a vector is not left, exact arithmetic has the same label, and no tie, and the score is finite by
        far.
    left : Left
        The vectors whose labels mean nothing.
    facts : Tensor, float32, shape (b, 4)
        Those of `_rounded`.
    """
    b, n, d = x.shape
    labels = torch.empty(b, n, dtype=torch.int64, device=x.device)
    left = Left.none(b, n, x.device)
    blocks = tuning.nearest_blocks(d)
    rounded, h, facts = _rounded(centroids, h, blocks)
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    _nearest_kernel[(triton.cdiv(n, blocks.vectors), b)](
        x,
        rounded,
        h,
        facts,
        labels,
        *left,
        labels if active is None else active,
        n,
        rounded.shape[1],
        d,
        x.stride(0),
        x.stride(1),
        rounded.stride(0),
        rounded.stride(1),
        (d + 16) * _ROUNDING,
        d * 2.0**-125,  # what is lost below the smallest normal float32
        BLOCK_N=blocks.vectors,
        BLOCK_K=blocks.centroids,
        BLOCK_D=blocks.components,
        ONE_CHUNK=d <= blocks.components,
        EXPONENT=_EXPONENT,
        SOME=active is not None,
        **options,
    )
    return labels, left, facts


def nearest(x: Tensor, centroids: Tensor, h: Tensor, l2: bool, active: Tensor | None = None) -> Tensor:
    """Find the closest centroid of each vector, without waiting for the device.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d) or (b, n, d)
        Vectors, or b sets of them.
    centroids : Tensor, float32, float16 or bfloat16, shape (k, d) or (b, k, d)
        At least one, or one of each set; on the same device.
    h : Tensor, float32, shape (k,) or (b, k)
        Half the squared norms of the centroids for L2, zeros for the inner product.
    l2 : bool
    active : Tensor, bool, shape (b,), optional
        Which sets are wanted; the labels of the others mean nothing.

    Returns
    -------
    Tensor, int64, shape (n,) or (b, n)
        Ties go to the lowest id; -1 where nothing is closer than the largest float32.
    """
    if x.dim() == 2:
        return nearest(x[None], centroids[None], h[None], l2)[0]
    x = x if x.stride(2) == 1 else x.contiguous()
    if x.shape[0] * x.shape[1] == 0:
        return torch.empty(x.shape[:2], dtype=torch.int64, device=x.device)
    labels, left, facts = screen(x, centroids, h, active)
    settle(x, centroids, h, facts, l2, labels, left)
    return labels


def _rounded(centroids: Tensor, h: Tensor, blocks: tuning.NearestBlocks) -> tuple[Tensor, Tensor, Tensor]:
    """Round the centroids of b sets.

    Returns
    -------
    rounded : Tensor, float16, shape (b, columns, width)
        Whole tiles of centroids and of components, zeros where there are none.
    h : Tensor, float32, shape (b, columns)
        Theirs, +inf where there is no centroid.
    facts : Tensor, float32, shape (b, 4)
        What undoes their scale; the largest of their norms, of their residuals' norms, and of |h|.
    """
    k, d = centroids.shape[1:]
    c = torch.nn.functional.pad(centroids.float(), (0, -d % blocks.components, 0, -k % blocks.centroids))
    power = _EXPONENT - torch.frexp(c.abs().amax((1, 2), keepdim=True))[1].clamp(-100, 100)
    unscale = torch.ldexp(torch.ones_like(power, dtype=torch.float32), -power)
    rounded = torch.ldexp(c, power).half()
    residuals = torch.linalg.vector_norm(c - rounded.float() * unscale, dim=2)
    largest = [torch.linalg.vector_norm(c, dim=2).amax(1), residuals.amax(1), h.abs().amax(1)]
    facts = torch.stack([unscale.view(-1), *largest], 1)
    return rounded, torch.nn.functional.pad(h, (0, -k % blocks.centroids), value=float("inf")), facts
