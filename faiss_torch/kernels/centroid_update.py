"""Sums of the vectors of each cluster: the centroid update of k-means, the same from run to run.

No float is added atomically. Vectors are read in the order of their clusters, cut to pieces that lie in one cluster
each; a second kernel adds up the pieces of a cluster, in their order. The vectors stay where they are: it is their
numbers that are sorted. Of few clusters no order is needed: a tile of vectors is multiplied with what says, by ones and
zeros, which cluster each is of, in parts that 16-bit products keep exact.

Beside the sums stands what each cluster costs: the distances of its vectors to where its centroid was, from the same
reading of the vectors.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import interpreted, tuning
from .order import owner_of, sorted_by

#: Tiles whose products tensor cores add up.
_TOGETHER = 8


@triton.jit
def _cost(x, c, L2: tl.constexpr):
    """What vectors and their centroids give, component by component: squared differences, or products."""
    if L2:
        return (x - c) * (x - c)
    return x * c


@triton.jit
def _pieces_kernel(
    x_ptr,
    order_ptr,
    weights_ptr,
    centroids_ptr,
    begins_ptr,
    pieces_ptr,
    sums_ptr,
    sizes_ptr,
    costs_ptr,
    k,
    d,
    x_stride,
    c_stride,
    PIECE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WEIGHTS: tl.constexpr,
    COSTS: tl.constexpr,
    L2: tl.constexpr,
):
    piece = tl.program_id(0)
    if piece < tl.load(pieces_ptr + k):
        cluster = owner_of(pieces_ptr, piece, k)
        begin = tl.load(begins_ptr + cluster) + (piece - tl.load(pieces_ptr + cluster)) * PIECE
        end = tl.minimum(begin + PIECE, tl.load(begins_ptr + cluster + 1))
        columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
        inside = columns < d
        rows = tl.arange(0, BLOCK_N)
        total = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        cost = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        size = tl.zeros([BLOCK_N], tl.float32)
        if COSTS:
            c = tl.load(centroids_ptr + cluster.to(tl.int64) * c_stride + columns, mask=inside, other=0.0).to(
                tl.float32
            )
        for first in range(begin, end, BLOCK_N):
            there = first + rows < end
            number = tl.load(order_ptr + first + rows, mask=there, other=0).to(tl.int64)
            mask = there[:, None] & inside[None, :]
            x = tl.load(x_ptr + number[:, None] * x_stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
            if COSTS:
                cost += tl.where(mask, _cost(x, c[None, :], L2), 0.0)
            if WEIGHTS:
                weight = tl.load(weights_ptr + number, mask=there, other=0.0)
                size += weight
                total += x * weight[:, None]
            else:
                total += x
        tl.store(sums_ptr + piece.to(tl.int64) * d + columns, tl.sum(total, 0), mask=inside)
        chunk = tl.program_id(1)
        if COSTS:
            tl.store(costs_ptr + piece * tl.num_programs(1) + chunk, tl.sum(tl.sum(cost, 1), 0))
        if WEIGHTS:
            if chunk == 0:
                tl.store(sizes_ptr + piece, tl.sum(size, 0))


@triton.jit
def _clusters_kernel(
    parts_ptr,
    pieces_ptr,
    out_ptr,
    width,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Add up the rows of an array that belong to one cluster."""
    cluster = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    begin, end = tl.load(pieces_ptr + cluster), tl.load(pieces_ptr + cluster + 1)
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for first in range(begin, end, BLOCK_N):
        places = (first + rows).to(tl.int64)
        mask = (places < end)[:, None] & (columns < width)[None, :]
        total += tl.load(parts_ptr + places[:, None] * width + columns[None, :], mask=mask, other=0.0)
    tl.store(out_ptr + cluster.to(tl.int64) * width + columns, tl.sum(total, 0), mask=columns < width)


@triton.jit
def _few_kernel(
    x_ptr,
    labels_ptr,
    weights_ptr,
    centroids_ptr,
    sums_ptr,
    sizes_ptr,
    counts_ptr,
    costs_ptr,
    n,
    k,
    d,
    share_rows,
    x_stride,
    c_stride,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
    FACTOR: tl.constexpr,
    TOGETHER: tl.constexpr,
    WEIGHTS: tl.constexpr,
    COSTS: tl.constexpr,
    L2: tl.constexpr,
):
    share = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = columns < d
    lanes = tl.arange(0, BLOCK_K)
    total = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    size = tl.zeros([BLOCK_K], tl.float32)
    count = tl.zeros([BLOCK_K], tl.int32)
    cost = tl.zeros([BLOCK_K], tl.float32)
    for begin in range(0, share_rows, BLOCK_N * TOGETHER):
        # tensor cores cut off what does not fit: their sums are kept short
        part = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
        for first in range(begin, tl.minimum(begin + BLOCK_N * TOGETHER, share_rows), BLOCK_N):
            rows = share * share_rows + first + tl.arange(0, BLOCK_N)
            label = tl.load(labels_ptr + rows, mask=rows < n, other=-1)
            there = (label >= 0) & (label < k)
            mask = there[:, None] & inside[None, :]
            x = tl.load(x_ptr + rows[:, None] * x_stride + columns[None, :], mask=mask, other=0.0)
            member = (lanes[:, None] == label[None, :]) & there[None, :]
            count += tl.sum(member.to(tl.int32), 1)
            if COSTS:
                c_rows = centroids_ptr + label[:, None] * c_stride + columns[None, :]
                c = tl.load(c_rows, mask=mask, other=0.0).to(tl.float32)
                costs = tl.sum(_cost(x.to(tl.float32), c, L2), 1)
                cost += tl.sum(tl.where(member, costs[None, :], 0.0), 1)
            if WEIGHTS:
                weight = tl.load(weights_ptr + rows, mask=there, other=0.0)
                size += tl.sum(tl.where(member, weight[None, :], 0.0), 1)
                left = x.to(tl.float32) * weight[:, None]
            else:
                left = x
            ones = member.to(FACTOR)
            if PARTS == 1:
                part = tl.dot(ones, left.to(FACTOR), part)
            else:
                for _ in tl.static_range(PARTS):  # three of eight bits each are all of a float32
                    bits = left.to(tl.bfloat16)
                    part = tl.dot(ones, bits.to(FACTOR), part)
                    left -= bits.to(tl.float32)
        total += part
    places = share * k + lanes
    kept = lanes < k
    tl.store(sums_ptr + places[:, None] * d + columns[None, :], total, mask=kept[:, None] & inside[None, :])
    chunk = tl.program_id(1)
    if COSTS:
        tl.store(costs_ptr + places * tl.num_programs(1) + chunk, cost, mask=kept)
    if chunk == 0:
        tl.store(counts_ptr + places, count, mask=kept)
        if WEIGHTS:
            tl.store(sizes_ptr + places, size, mask=kept)


def centroid_update(
    x: Tensor, labels: Tensor, k: int, weights: Tensor | None, centroids: Tensor | None, l2: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum the vectors of each cluster.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (n, d)
        Finite where the label is one of a cluster.
    labels : Tensor, int64, shape (n,)
        The cluster of each vector; those outside 0 ... k - 1 are left out.
    k : int
    weights : Tensor, float32, shape (n,), or None
    centroids : Tensor, float32, shape (k, d), or None
        Where the centroids were, for the costs.
    l2 : bool
        Whether costs are squared distances; else they are inner products.

    Returns
    -------
    sums : Tensor, float32, shape (k, d)
        Of the vectors times their weights.
    sizes : Tensor, float32, shape (k,)
        Of the weights.
    counts : Tensor, int64, shape (k,)
        Vectors of each cluster.
    costs : Tensor, float32, shape (k,)
        Zeros without centroids.
    """
    x = x if x.stride(1) == 1 else x.contiguous()
    if len(x) == 0:
        nothing = x.new_zeros(k, dtype=torch.float32)
        return x.new_zeros(k, x.shape[1], dtype=torch.float32), nothing, nothing.long(), nothing.clone()
    if k <= tuning.FEW_CLUSTERS:
        return _of_few(x, labels, k, weights, centroids, l2)
    n, d = x.shape
    blocks = tuning.update_blocks(d)
    order, begins = sorted_by(labels, k)
    counts = begins.diff()
    pieces = torch.nn.functional.pad(((counts + blocks.piece - 1) // blocks.piece).cumsum(0), (1, 0)).int()
    most, chunks = triton.cdiv(n, blocks.piece) + k, triton.cdiv(d, blocks.components)
    parts = x.new_empty(most, d, dtype=torch.float32)
    part_sizes, part_costs = parts.new_empty(most, 1), parts.new_empty(most, chunks)
    options: dict[str, Any] = {"num_warps": blocks.warps}
    _pieces_kernel[(most, chunks)](
        x,
        order,
        x if weights is None else weights,
        x if centroids is None else centroids,
        begins,
        pieces,
        parts,
        part_sizes,
        part_costs,
        k,
        d,
        x.stride(0),
        0 if centroids is None else centroids.stride(0),
        PIECE=blocks.piece,
        BLOCK_N=blocks.vectors,
        BLOCK_D=blocks.components,
        WEIGHTS=weights is not None,
        COSTS=centroids is not None,
        L2=l2,
        **options,
    )
    sums = _of_clusters(parts, pieces, k, blocks)
    sizes = counts.float() if weights is None else _of_clusters(part_sizes, pieces, k, blocks)[:, 0]
    costs = sums.new_zeros(k) if centroids is None else _of_clusters(part_costs, pieces, k, blocks).sum(1)
    return sums, sizes, counts, costs


def _of_clusters(parts: Tensor, pieces: Tensor, k: int, blocks: tuning.UpdateBlocks) -> Tensor:
    """Add up the rows of each cluster's pieces: shape (k, width)."""
    width = parts.shape[1]
    out = parts.new_empty(k, width)
    block = min(blocks.components, max(16, triton.next_power_of_2(width)))
    _clusters_kernel[(k, triton.cdiv(width, block))](parts, pieces, out, width, BLOCK_N=blocks.vectors, BLOCK_D=block)
    return out


def _of_few(
    x: Tensor, labels: Tensor, k: int, weights: Tensor | None, centroids: Tensor | None, l2: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do it by products."""
    n, d = x.shape
    blocks = tuning.FEW_UPDATE
    most = min(blocks.shares, max(1, tuning.PARTS_BYTES // (4 * k * d)))
    share = blocks.vectors * triton.cdiv(triton.cdiv(n, blocks.vectors), most)
    shares, chunks = triton.cdiv(n, share), triton.cdiv(d, blocks.components)
    parts = x.new_empty(shares, k, d, dtype=torch.float32)
    part_sizes, part_counts = parts.new_empty(shares, k), parts.new_empty(shares, k, dtype=torch.int32)
    part_costs = parts.new_zeros(shares, k, chunks)
    factor = tl.float16 if weights is None and x.dtype == torch.float16 else tl.bfloat16
    if factor == tl.bfloat16 and interpreted():  # which has no products of bfloat16
        factor = tl.float32
    options: dict[str, Any] = {"num_warps": blocks.warps}
    _few_kernel[(shares, chunks)](
        x,
        labels,
        x if weights is None else weights,
        x if centroids is None else centroids,
        parts,
        part_sizes,
        part_counts,
        part_costs,
        n,
        k,
        d,
        share,
        x.stride(0),
        0 if centroids is None else centroids.stride(0),
        BLOCK_N=blocks.vectors,
        BLOCK_K=max(16, triton.next_power_of_2(k)),
        BLOCK_D=blocks.components,
        PARTS=1 if weights is None and x.dtype != torch.float32 else 3,
        FACTOR=factor,
        TOGETHER=_TOGETHER,
        WEIGHTS=weights is not None,
        COSTS=centroids is not None,
        L2=l2,
        **options,
    )
    counts = part_counts.sum(0)
    sizes = counts.float() if weights is None else part_sizes.sum(0)
    return parts.sum(0), sizes, counts, part_costs.sum((0, 2))
