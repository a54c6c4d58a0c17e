"""The closest centroid of the vectors for which 16-bit products leave several: in float32, then in float64.

Which vectors these are, and how many, stands on the device: programs that are always as many share them, so nothing
waits for the host. Of the float64 differences, all that rounding cannot tell apart are as close, and the lowest id is
taken: what ``ops.nearest_double`` does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning


class Left(NamedTuple):
    """Vectors of b sets that are to be looked at again.

    Attributes
    ----------
    rows : Tensor, int32, shape (b, n)
        Their numbers in the set, in any order, and then anything.
    counts : Tensor, int32, shape (b,)
        How many there are.
    """

    rows: Tensor
    counts: Tensor

    @staticmethod
    def none(b: int, n: int, device: torch.device) -> Left:
        """Room for n of each set."""
        rows = torch.empty(b, n, dtype=torch.int32, device=device)
        return Left(rows, torch.zeros(b, dtype=torch.int32, device=device))


@triton.jit
def leave(left_ptr, count_ptr, rows, uncertain):
    """Append vectors to those that are to be looked at again."""
    ones = uncertain.to(tl.int32)
    count = tl.sum(ones, 0)
    if count > 0:
        begin = tl.atomic_add(count_ptr, count)
        places = begin + tl.cumsum(ones, 0) - 1
        tl.store(left_ptr + places, rows.to(tl.int32), mask=uncertain)


@triton.jit
def _float_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    labels_ptr,
    left_ptr,
    count_ptr,
    again_ptr,
    again_count_ptr,
    n,
    k,
    d,
    x_batch,
    x_stride,
    c_batch,
    c_stride,
    h_batch,
    rounding,
    least,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * x_batch
    c_ptr += batch * c_batch
    h_ptr += batch * h_batch
    labels_ptr += batch * n
    left_ptr += batch * n
    again_ptr += batch * n
    c_norm, h_largest = tl.load(facts_ptr + batch * 4 + 1), tl.load(facts_ptr + batch * 4 + 3)
    count = tl.load(count_ptr + batch)
    inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_N), tl.num_programs(0)):
        places = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        there = places < count
        rows = tl.load(left_ptr + places, mask=there, other=0).to(tl.int64)
        best = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
        second = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
        first_of = tl.zeros([BLOCK_N, BLOCK_K], tl.int32)
        squares = tl.zeros([BLOCK_N], tl.float32)
        for first in range(0, k, BLOCK_K):
            known = first + lanes < k
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            squares = tl.zeros([BLOCK_N], tl.float32)
            for begin in range(0, d, BLOCK_D):
                inside = begin + inner < d
                x_places = x_ptr + rows[:, None] * x_stride + (begin + inner)[None, :]
                x = tl.load(x_places, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
                c_places = c_ptr + (first + lanes)[None, :].to(tl.int64) * c_stride + (begin + inner)[:, None]
                c = tl.load(c_places, mask=known[None, :] & inside[:, None], other=0.0).to(tl.float32)
                products = tl.dot(x, c, products, input_precision="ieee")
                squares += tl.sum(x * x, 1)
            h = tl.load(h_ptr + first + lanes, mask=known, other=float("inf"))
            scores = h[None, :] - products
            second = tl.minimum(second, tl.maximum(scores, best))
            first_of = tl.where(scores < best, first, first_of)
            best = tl.minimum(best, scores)
        smallest = tl.min(best, 1)
        ids = first_of + lanes[None, :]
        labels = tl.min(tl.where(best == smallest[:, None], ids, 2147483647), 1)
        gap = tl.min(tl.where(ids == labels[:, None], second, best), 1) - smallest
        error = rounding * (tl.sqrt(squares) * c_norm + h_largest) + least
        certain = (gap > 2.0 * error) & (tl.abs(smallest) < 1e37)
        tl.store(labels_ptr + rows, labels.to(tl.int64), mask=there & certain)
        leave(again_ptr, again_count_ptr + batch, rows, there & (certain == 0))


@triton.jit
def _keys(x_ptr, c_ptr, rows, there, ids, known, d, x_stride, c_stride, L2: tl.constexpr):
    """Squared distances in float64, or negated inner products, and the size of their terms; +inf without a centroid."""
    keys = tl.zeros([rows.shape[0], ids.shape[0]], tl.float64)
    sizes = tl.zeros([rows.shape[0], ids.shape[0]], tl.float64)
    for component in range(0, d):
        x = tl.load(x_ptr + rows * x_stride + component, mask=there, other=0.0).to(tl.float64)[:, None]
        c = tl.load(c_ptr + ids.to(tl.int64) * c_stride + component, mask=known, other=0.0).to(tl.float64)[None, :]
        if L2:
            keys += (x - c) * (x - c)
        else:
            keys -= x * c
            sizes += tl.abs(x * c)
    refused = ((keys < float("inf")) == 0) | (known == 0)[None, :]
    keys = tl.where(refused, float("inf"), keys)
    if L2:
        sizes = keys
    return keys, tl.where(refused, 0.0, sizes)


@triton.jit
def _double_kernel(
    x_ptr,
    c_ptr,
    labels_ptr,
    left_ptr,
    count_ptr,
    n,
    k,
    d,
    x_batch,
    x_stride,
    c_batch,
    c_stride,
    rounding,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    L2: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * x_batch
    c_ptr += batch * c_batch
    labels_ptr += batch * n
    left_ptr += batch * n
    count = tl.load(count_ptr + batch)
    lanes = tl.arange(0, BLOCK_K)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_N), tl.num_programs(0)):
        places = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        there = places < count
        rows = tl.load(left_ptr + places, mask=there, other=0).to(tl.int64)
        best = tl.full([BLOCK_N], float("inf"), tl.float64)
        largest = tl.zeros([BLOCK_N], tl.float64)
        for first in range(0, k, BLOCK_K):
            ids = first + lanes
            keys, sizes = _keys(x_ptr, c_ptr, rows, there, ids, ids < k, d, x_stride, c_stride, L2)
            best = tl.minimum(best, tl.min(keys, 1))
            largest = tl.maximum(largest, tl.max(sizes, 1))
        if L2:
            largest = best
        margin = largest * rounding
        most = best + tl.where(margin < float("inf"), margin, 0.0)
        found = tl.zeros([BLOCK_N], tl.int32) + k
        for first in range(0, k, BLOCK_K):
            ids = first + lanes
            keys, sizes = _keys(x_ptr, c_ptr, rows, there, ids, ids < k, d, x_stride, c_stride, L2)
            near = tl.where(keys <= most[:, None], ids[None, :], k)
            found = tl.minimum(found, tl.min(near, 1))
        close = best < 3.4028234663852886e38
        tl.store(labels_ptr + rows, tl.where(close, found, -1).to(tl.int64), mask=there)


def settle(x: Tensor, centroids: Tensor, h: Tensor, facts: Tensor, l2: bool, labels: Tensor, left: Left) -> None:
    """Find the closest centroids of the vectors left.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (b, n, d)
        Vectors of b sets, each in one piece of memory.
    centroids : Tensor, float32, float16 or bfloat16, shape (b, k, d)
        The same.
    h : Tensor, float32, shape (b, k) or more
        Half the squared norms of the centroids for L2, zeros for the inner product.
    facts : Tensor, float32, shape (b, 4)
        The largest of the centroids' norms stands at 1, that of |h| at 3.
    l2 : bool
    labels : Tensor, int64, shape (b, n)
        Those of the vectors left are written: the closest centroid, the first of several, or -1 where nothing is closer
        than the largest float32.
    left : Left
    """
    b, n, d = x.shape
    k = centroids.shape[1]
    blocks = tuning.EXACT
    again = Left.none(b, n, x.device)
    programs = min(triton.cdiv(n, blocks.vectors), max(1, blocks.programs // b))
    options: dict[str, Any] = {"num_warps": blocks.warps}
    strides = (x.stride(0), x.stride(1), centroids.stride(0), centroids.stride(1))
    _float_kernel[(programs, b)](
        x,
        centroids,
        h,
        facts,
        labels,
        *left,
        *again,
        n,
        k,
        d,
        *strides,
        h.stride(0),
        (d + 16) * 2.0**-23,
        d * 2.0**-125,  # what is lost below the smallest normal float32
        BLOCK_N=blocks.vectors,
        BLOCK_K=blocks.centroids,
        BLOCK_D=blocks.components,
        **options,
    )
    _double_kernel[(programs, b)](
        x,
        centroids,
        labels,
        *again,
        n,
        k,
        d,
        *strides,
        2 * (d + 4) * 2.0**-53,
        BLOCK_N=blocks.double_vectors,
        BLOCK_K=blocks.double_centroids,
        L2=l2,
        **options,
    )
