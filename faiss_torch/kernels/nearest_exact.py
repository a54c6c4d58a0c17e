"""The closest centroid of the vectors for which 16-bit products leave several.

The products are made once more, and the best three kept: mostly only two centroids are left, which are compared by
float64 differences. Where three are, the products are made in float32, and where that leaves several, all differences
in float64. What rounding of these cannot tell apart is as close, and the lowest id is taken, as in
``ops.clustering.nearest_float64``.

Which vectors these are, and how many, stands on the device: programs that are always as many share them, so nothing
waits for the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bound, measured, numbered, scaled


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
    def none(b: int, n: int, device: torch.device) -> list[Left]:
        """Room for n of each set, once for each of the three steps that leave some."""
        rows = torch.empty(3, b, n, dtype=torch.int32, device=device)
        return [Left(*each) for each in zip(rows, torch.zeros(3, b, dtype=torch.int32, device=device), strict=True)]


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
def _pairs_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    exact_ptr,
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
    exact_batch,
    exact_stride,
    rounding,
    least,
    kept,
    numbering,
    double_rounding,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    EXPONENT: tl.constexpr,
    L2: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * x_batch
    c_ptr += batch * c_batch
    exact_ptr += batch * exact_batch
    h_ptr += batch * k
    facts_ptr += batch * 4
    shift_ptr += batch * d
    labels_ptr += batch * n
    left_ptr += batch * n
    again_ptr += batch * n
    count = tl.load(count_ptr + batch)
    inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
    few = tl.arange(0, BLOCK_P)
    c_rows = c_ptr + lanes[None, :].to(tl.int64) * c_stride + inner[:, None]
    for part in range(tl.program_id(0), tl.cdiv(count, BLOCK_N), tl.num_programs(0)):
        places = part * BLOCK_N + tl.arange(0, BLOCK_N)
        there = places < count
        rows = tl.load(left_ptr + places, mask=there, other=0).to(tl.int64)
        x_begins = x_ptr + rows * x_stride
        scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT)
        factor = -unscale * tl.load(facts_ptr)
        best = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
        second = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
        third = tl.full([BLOCK_N, BLOCK_K], 3e38, tl.float32)
        for tile in range(0, tl.cdiv(k, BLOCK_K)):
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                mask = there[:, None] & (begin + inner < d)[None, :]
                x = tl.load(x_begins[:, None] + (begin + inner)[None, :], mask=mask, other=0.0)
                c = tl.load(c_rows + tl.cast(tile, tl.int64) * BLOCK_K * c_stride + begin)
                shift = tl.load(shift_ptr + begin + inner, mask=begin + inner < d, other=0.0)
                products = tl.dot(scaled(x, shift, scale)[1], c, products)
            h = tl.load(h_ptr + tile * BLOCK_K + lanes)
            scores = numbered(products * factor[:, None] + h[None, :], tile, kept)
            behind = tl.maximum(scores, best)
            best = tl.minimum(best, scores)
            third = tl.minimum(third, tl.maximum(behind, second))
            second = tl.minimum(second, behind)

        smallest = tl.min(best, 1)
        lane = tl.min(tl.where(best == smallest[:, None], lanes[None, :], BLOCK_K), 1)
        first = lanes[None, :] == lane[:, None]
        others = tl.where(first, second, best)
        next_one = tl.min(others, 1)
        next_lane = tl.min(tl.where(others == next_one[:, None], lanes[None, :], BLOCK_K), 1)
        again = lanes[None, :] == next_lane[:, None]
        last = tl.min(tl.where(again, tl.where(first, third, second), others), 1)
        error = bound(norm, residual, facts_ptr, rounding, least) + tl.abs(last) * numbering
        error += tl.maximum(tl.abs(smallest), tl.abs(next_one)) * numbering
        # with fewer than two centroids one of them is none
        two = there & (last - smallest > 2.0 * error) & (tl.maximum(tl.abs(smallest), tl.abs(next_one)) < 1e37)
        two = two & (norm < 1e18)

        one_id = ((smallest.to(tl.int32, bitcast=True) & ~kept) * BLOCK_K + lane).to(tl.int64)
        other_id = ((next_one.to(tl.int32, bitcast=True) & ~kept) * BLOCK_K + next_lane).to(tl.int64)
        one_key = tl.zeros([BLOCK_N], tl.float64)
        other_key = tl.zeros([BLOCK_N], tl.float64)
        size = tl.zeros([BLOCK_N], tl.float64)
        for begin in range(0, d, BLOCK_P):
            mask = two[:, None] & (begin + few < d)[None, :]
            columns = (begin + few)[None, :]
            x = tl.load(x_begins[:, None] + columns, mask=mask, other=0.0).to(tl.float64)
            one = tl.load(exact_ptr + one_id[:, None] * exact_stride + columns, mask=mask, other=0.0).to(tl.float64)
            other = tl.load(exact_ptr + other_id[:, None] * exact_stride + columns, mask=mask, other=0.0).to(tl.float64)
            if L2:
                one_key += tl.sum((x - one) * (x - one), 1)
                other_key += tl.sum((x - other) * (x - other), 1)
            else:
                one_key -= tl.sum(x * one, 1)
                other_key -= tl.sum(x * other, 1)
                size += tl.sum(tl.maximum(tl.abs(x * one), tl.abs(x * other)), 1)
        if L2:
            size = tl.minimum(one_key, other_key)
        closer = tl.where(one_key < other_key, one_id, other_id)
        same = tl.abs(one_key - other_key) <= size * double_rounding
        label = tl.where(same, tl.minimum(one_id, other_id), closer)
        tl.store(labels_ptr + rows, label, mask=two)
        leave(again_ptr, again_count_ptr + batch, rows, there & (two == 0))


@triton.jit
def _float_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
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
    BLOCK_P: tl.constexpr,
    EXPONENT: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    x_ptr += batch * x_batch
    c_ptr += batch * c_batch
    h_ptr += batch * h_batch
    shift_ptr += batch * d
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
        norm = measured(x_ptr + rows * x_stride, shift_ptr, there, d, BLOCK_P, EXPONENT)[2]
        for first in range(0, k, BLOCK_K):
            known = first + lanes < k
            products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for begin in range(0, d, BLOCK_D):
                inside = begin + inner < d
                x_places = x_ptr + rows[:, None] * x_stride + (begin + inner)[None, :]
                x = tl.load(x_places, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
                c_places = c_ptr + (first + lanes)[None, :].to(tl.int64) * c_stride + (begin + inner)[:, None]
                c = tl.load(c_places, mask=known[None, :] & inside[:, None], other=0.0).to(tl.float32)
                shift = tl.load(shift_ptr + begin + inner, mask=inside, other=0.0)
                x -= shift[None, :]
                products = tl.dot(x, c - shift[:, None], products, input_precision="ieee")
            h = tl.load(h_ptr + first + lanes, mask=known, other=float("inf"))
            scores = h[None, :] - products
            second = tl.minimum(second, tl.maximum(scores, best))
            first_of = tl.where(scores < best, first, first_of)
            best = tl.minimum(best, scores)
        smallest = tl.min(best, 1)
        ids = first_of + lanes[None, :]
        labels = tl.min(tl.where(best == smallest[:, None], ids, 2147483647), 1)
        gap = tl.min(tl.where(ids == labels[:, None], second, best), 1) - smallest
        error = rounding * (norm * c_norm + h_largest) + least
        certain = (gap > 2.0 * error) & (tl.abs(smallest) < 1e37) & (norm < 1e18)
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


def settle(x: Tensor, centroids: Tensor, rounded: Rounded, l2: bool, labels: Tensor, steps: list[Left]) -> None:
    """Find the closest centroids of the vectors left.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (b, n, d)
        Vectors of b sets, each in one piece of memory.
    centroids : Tensor, float32, float16 or bfloat16, shape (b, k, d)
        The same.
    rounded : Rounded
        Those that left the vectors.
    l2 : bool
    labels : Tensor, int64, shape (b, n)
        Those of the vectors left are written: the closest centroid, the first of several, or -1 where nothing is closer
        than the largest float32.
    steps : list of Left
        The vectors that the screen left, and room for those that are left here, as from `Left.none`.
    """
    left, of_three, of_several = steps
    b, n, d = x.shape
    k = centroids.shape[1]
    blocks = tuning.EXACT
    programs = min(triton.cdiv(n, blocks.vectors), max(1, blocks.programs // b))
    options: dict[str, Any] = {"num_warps": blocks.warps}
    of_x, of_centroids = (x.stride(0), x.stride(1)), (centroids.stride(0), centroids.stride(1))
    double_rounding = 2 * (d + 4) * 2.0**-53
    tile = tuning.nearest_blocks(d).centroids
    columns = rounded.h.shape[1]
    _pairs_kernel[(programs, b)](
        x,
        *rounded[:4],
        centroids,
        labels,
        *left,
        *of_three,
        n,
        columns,
        d,
        *of_x,
        rounded.centroids.stride(0),
        rounded.centroids.stride(1),
        *of_centroids,
        *Margins.make(d, columns // tile),
        double_rounding,
        BLOCK_N=blocks.vectors,
        BLOCK_K=tile,
        BLOCK_D=min(64, tuning.nearest_blocks(d).components),
        BLOCK_P=16,
        EXPONENT=EXPONENT_OF_LARGEST,
        L2=l2,
        **options,
    )
    _float_kernel[(programs, b)](
        x,
        centroids,
        rounded.h,
        rounded.facts,
        rounded.shift,
        labels,
        *of_three,
        *of_several,
        n,
        k,
        d,
        *of_x,
        *of_centroids,
        columns,
        (d + 16) * 2.0**-23,
        d * 2.0**-97,  # what is lost below the smallest normal float32
        BLOCK_N=blocks.vectors,
        BLOCK_K=blocks.centroids,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        EXPONENT=EXPONENT_OF_LARGEST,
        **options,
    )
    _double_kernel[(programs, b)](
        x,
        centroids,
        labels,
        *of_several,
        n,
        k,
        d,
        *of_x,
        *of_centroids,
        double_rounding,
        BLOCK_N=blocks.double_vectors,
        BLOCK_K=blocks.double_centroids,
        L2=l2,
        **options,
    )
