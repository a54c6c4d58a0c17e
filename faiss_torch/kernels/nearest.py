"""The closest centroid of each vector by 16-bit matrix products, with a proof for all but a few.

One program holds a tile of vectors and streams tiles of centroids past it, as Flash-KMeans does (Yang et al., 2026):
no score is stored. The score of a pair is ``h - <x, c>``, where h is |c|^2 / 2 for L2 and 0 for the inner product:
smaller is closer. The best and the second best are kept for each place of a tile, and brought together when all tiles
have passed; the last bits of a score are the number of its tile. So a score costs five operations beside its product.

Vectors and centroids are rounded to float16, scaled by powers of two: each vector by its own, all centroids by one.
With x~ and c~ for the rounded ones, a computed score is off by at most

    |x - x~| |c| + |x~| |c - c~| + what float32 makes of the sum, and the last bits of the score

where the vector's norms are those of this vector, and the centroids' the largest. A label is certain where the second
best score is further behind than twice that. The others are left to `nearest_exact`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
def _numbered(scores, tile, kept):
    """Scores whose last bits are the number of their tile."""
    bits = scores.to(tl.int32, bitcast=True)
    return ((bits & kept) | tile).to(tl.float32, bitcast=True)


@triton.jit
def _power(largest, EXPONENT: tl.constexpr):
    """The power of two that brings what is as large as this below 2 ** EXPONENT: it, and what undoes it."""
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    power = tl.minimum(tl.maximum(EXPONENT - 1 + 127 - exponent, -126), 126)
    scale = ((127 + power) << 23).to(tl.float32, bitcast=True)
    return scale, ((127 - power) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _most(fact_ptr, values):
    """Note the largest of values that are not negative; their bits are in the same order, NaN above all."""
    tl.atomic_max(fact_ptr, tl.max(values.to(tl.int32, bitcast=True), 0))


@triton.jit
def _round_kernel(
    c_ptr,
    bias_ptr,
    largest_ptr,
    rounded_ptr,
    h_ptr,
    facts_ptr,
    k,
    d,
    columns,
    width,
    c_batch,
    c_stride,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EXPONENT: tl.constexpr,
    BIAS: tl.constexpr,
    L2: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    c_ptr += batch * c_batch
    facts_ptr += batch * 4
    lanes = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    inner = tl.arange(0, BLOCK_D)
    known = lanes < k
    scale, unscale = _power(tl.load(largest_ptr + batch), EXPONENT)
    squares = tl.zeros([BLOCK_K], tl.float32)
    residuals = tl.zeros([BLOCK_K], tl.float32)
    for begin in range(0, width, BLOCK_D):
        mask = known[:, None] & (begin + inner < d)[None, :]
        c_rows = c_ptr + lanes[:, None].to(tl.int64) * c_stride + (begin + inner)[None, :]
        c = tl.load(c_rows, mask=mask, other=0.0).to(tl.float32)
        rounded = (c * scale).to(tl.float16)
        out = rounded_ptr + (batch * columns + lanes[:, None]) * width + (begin + inner)[None, :]
        tl.store(out, rounded)
        errors = c - rounded.to(tl.float32) * unscale
        squares += tl.sum(c * c, 1)
        residuals += tl.sum(errors * errors, 1)
    if BIAS:
        h = tl.load(bias_ptr + batch * k + lanes, mask=known, other=0.0)
    elif L2:
        h = squares * 0.5
    else:
        h = tl.zeros([BLOCK_K], tl.float32)
    tl.store(h_ptr + batch * columns + lanes, tl.where(known, h, 3e38))
    tl.store(facts_ptr, unscale)
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 1, tl.sqrt(squares))
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 2, tl.sqrt(residuals))
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 3, tl.abs(h))


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
    labels_ptr += batch * n
    left_ptr += batch * n
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = rows < n
    inner = tl.arange(0, BLOCK_D)
    lanes = tl.arange(0, BLOCK_K)
    x_rows = x_ptr + rows[:, None] * x_stride + inner[None, :]
    c_rows = c_ptr + lanes[None, :].to(tl.int64) * c_stride + inner[:, None]

    # a few components at a time: a tile of floats takes more registers than all that follows
    few = tl.arange(0, BLOCK_P)
    x_few = x_ptr + rows[:, None] * x_stride + few[None, :]
    largest = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, d, BLOCK_P):
        x = tl.load(x_few + begin, mask=there[:, None] & (begin + few < d)[None, :], other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(x.to(tl.float32)), 1))
    scale, unscale = _power(largest, EXPONENT)
    squares = tl.zeros([BLOCK_N], tl.float32)
    residuals = tl.zeros([BLOCK_N], tl.float32)
    for begin in range(0, d, BLOCK_P):
        x = tl.load(x_few + begin, mask=there[:, None] & (begin + few < d)[None, :], other=0.0)
        exact, rounded = _scaled(x, scale)
        errors = exact - rounded.to(tl.float32)
        squares += tl.sum(exact * exact, 1)
        residuals += tl.sum(errors * errors, 1)

    factor = -unscale * tl.load(facts_ptr)
    best = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
    second = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
    if ONE_CHUNK:
        x = tl.load(x_rows, mask=there[:, None] & (inner < d)[None, :], other=0.0)
        rounded = _scaled(x, scale)[1]
        for tile in range(0, tl.cdiv(k, BLOCK_K)):
            c = tl.load(c_rows + tl.cast(tile, tl.int64) * BLOCK_K * c_stride)
            h = tl.load(h_ptr + tile * BLOCK_K + lanes)
            scores = _numbered(tl.dot(rounded, c) * factor[:, None] + h[None, :], tile, kept)
            second = tl.minimum(second, tl.maximum(scores, best))
            best = tl.minimum(best, scores)
    else:
        for tile in range(0, tl.cdiv(k, BLOCK_K)):
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                x = tl.load(x_rows + begin, mask=there[:, None] & (begin + inner < d)[None, :], other=0.0)
                rounded = _scaled(x, scale)[1]
                c = tl.load(c_rows + tl.cast(tile, tl.int64) * BLOCK_K * c_stride + begin)
                products = tl.dot(rounded, c, products)
            h = tl.load(h_ptr + tile * BLOCK_K + lanes)
            scores = _numbered(products * factor[:, None] + h[None, :], tile, kept)
            second = tl.minimum(second, tl.maximum(scores, best))
            best = tl.minimum(best, scores)

    smallest = tl.min(best, 1)
    lane = tl.min(tl.where(best == smallest[:, None], lanes[None, :], BLOCK_K), 1)
    labels = (smallest.to(tl.int32, bitcast=True) & ~kept) * BLOCK_K + lane
    next_one = tl.min(tl.where(lanes[None, :] == lane[:, None], second, best), 1)
    gap = next_one - smallest

    c_norm, c_residual, h_largest = tl.load(facts_ptr + 1), tl.load(facts_ptr + 2), tl.load(facts_ptr + 3)
    norm, residual = tl.sqrt(squares) * unscale, tl.sqrt(residuals) * unscale
    error = residual * c_norm + (norm + residual) * c_residual + rounding * (norm * c_norm + h_largest) + least
    error += tl.maximum(tl.abs(smallest), tl.abs(next_one)) * numbering
    # NaN, and infinity less infinity, are not greater than anything
    certain = (gap > 2.0 * error) & (tl.abs(smallest) < 1e37)
    tl.store(labels_ptr + rows, labels.to(tl.int64), mask=there)
    leave(left_ptr, count_ptr + batch, rows, there & (certain == 0))


class Rounded(NamedTuple):
    """Centroids of b sets as the screen takes them.

    Attributes
    ----------
    centroids : Tensor, float16, shape (b, columns, width)
        Whole tiles of centroids and of components, zeros where there are none.
    h : Tensor, float32, shape (b, columns)
        Theirs, very large where there is no centroid.
    facts : Tensor, float32, shape (b, 4)
        What undoes their scale; the largest of their norms, of their residuals' norms, and of |h|.
    """

    centroids: Tensor
    h: Tensor
    facts: Tensor

    @staticmethod
    def make(centroids: Tensor, bias: Tensor | None, l2: bool) -> Rounded:
        """Round centroids, (b, k, d): see `nearest`."""
        b, k, d = centroids.shape
        blocks = tuning.nearest_blocks(d)
        columns = triton.cdiv(k, blocks.centroids) * blocks.centroids
        width = triton.cdiv(d, blocks.components) * blocks.components
        rounded = torch.empty(b, columns, width, dtype=torch.float16, device=centroids.device)
        h = torch.empty(b, columns, dtype=torch.float32, device=centroids.device)
        facts = torch.zeros(b, 4, dtype=torch.float32, device=centroids.device)
        largest = torch.linalg.vector_norm(centroids, float("inf"), (1, 2), dtype=torch.float32)
        tile = min(blocks.centroids, 32)
        _round_kernel[(columns // tile, b)](
            centroids,
            centroids if bias is None else bias,
            largest,
            rounded,
            h,
            facts,
            k,
            d,
            columns,
            width,
            centroids.stride(0),
            centroids.stride(1),
            BLOCK_K=tile,
            BLOCK_D=min(blocks.components, 128),
            EXPONENT=_EXPONENT,
            BIAS=bias is not None,
            L2=l2,
        )
        return Rounded(rounded, h, facts)


def screen(x: Tensor, rounded: Rounded, active: Tensor | None = None) -> tuple[Tensor, Left]:
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
    left : Left
        The vectors whose labels mean nothing.
    """
    b, n, d = x.shape
    labels = torch.empty(b, n, dtype=torch.int64, device=x.device)
    left = Left.none(b, n, x.device)
    blocks = tuning.nearest_blocks(d)
    centroids, h, facts = rounded
    bits = max(0, (centroids.shape[1] // blocks.centroids - 1).bit_length())
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    _nearest_kernel[(triton.cdiv(n, blocks.vectors), b)](
        x,
        centroids,
        h,
        facts,
        labels,
        *left,
        labels if active is None else active,
        n,
        centroids.shape[1],
        d,
        x.stride(0),
        x.stride(1),
        centroids.stride(0),
        centroids.stride(1),
        (d + 16) * _ROUNDING,
        d * 2.0**-125,  # what is lost below the smallest normal float32
        -(1 << bits),
        2.0 ** (bits - 23),
        BLOCK_N=blocks.vectors,
        BLOCK_K=blocks.centroids,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        ONE_CHUNK=d <= blocks.components,
        EXPONENT=_EXPONENT,
        SOME=active is not None,
        **options,
    )
    return labels, left


def nearest(x: Tensor, centroids: Tensor, bias: Tensor | None, l2: bool, active: Tensor | None = None) -> Tensor:
    """Find the closest centroid of each vector, without waiting for the device.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d) or (b, n, d)
        Vectors, or b sets of them.
    centroids : Tensor, float32, float16 or bfloat16, shape (k, d) or (b, k, d)
        At least one, or one of each set; on the same device.
    bias : Tensor, float32, shape (k,) or (b, k), or None
        Half the squared norms of the centroids for L2, zeros for the inner product, where they are known.
    l2 : bool
    active : Tensor, bool, shape (b,), optional
        Which sets are wanted; the labels of the others mean nothing.

    Returns
    -------
    Tensor, int64, shape (n,) or (b, n)
        Ties go to the lowest id; -1 where nothing is closer than the largest float32.
    """
    if x.dim() == 2:
        return nearest(x[None], centroids[None], None if bias is None else bias[None], l2)[0]
    x = x if x.stride(2) == 1 else x.contiguous()
    if x.shape[0] * x.shape[1] == 0:
        return torch.empty(x.shape[:2], dtype=torch.int64, device=x.device)
    centroids = centroids if centroids.stride(2) == 1 else centroids.contiguous()
    rounded = Rounded.make(centroids, bias, l2)
    labels, left = screen(x, rounded, active)
    settle(x, centroids, rounded.h, rounded.facts, l2, labels, left)
    return labels
