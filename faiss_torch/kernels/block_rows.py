"""The closest of the rows of chosen blocks, by their distances in float32, and whether no other row is as close.

Three kernels, none of which waits for the host: the distances of all rows of each query's blocks, those that are not
larger than the k-th smallest of them (`smallest`), and these in order, by counting for each how many come before it.
The last one has a certificate for the query too: the score of the k-th is below the lower bounds of all other rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..constants import FLT_MAX
from . import tuning
from .smallest import folded_slack, smallest

#: Rows as close as the k-th that a query may have beyond it, at least.
TIES = 32


class Blocks(NamedTuple):
    """Blocks of stored rows for each query.

    Attributes
    ----------
    firsts : Tensor, int64, shape (nq, most)
        The first row of each block; its others follow at a distance of `stride`.
    ends : Tensor, int64, shape (nq, most)
        Rows of the block that are not below this do not count.
    counts : Tensor, int32, shape (nq,)
        How many blocks a query has; of more than `most`, not all are there.
    bounds : Tensor, float32, shape (nq,)
        Lower bounds of the scores of all rows that are in no block; +inf where there are none.
    halves : Tensor, float32, shape (nq,)
        Half the squared norms of the queries, from the origin of those bounds.
    rows, stride : int
        Rows of a block, and how far apart they are.
    """

    firsts: Tensor
    ends: Tensor
    counts: Tensor
    bounds: Tensor
    halves: Tensor
    rows: int
    stride: int


@triton.jit
def _distances_kernel(
    x_ptr,
    c_ptr,
    bias_ptr,
    rows_ptr,
    firsts_ptr,
    ends_ptr,
    counts_ptr,
    distances_ptr,
    d,
    most,
    stride,
    x_stride,
    c_stride,
    largest,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
    SOME: tl.constexpr,
    L2: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    candidates = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    blocks = candidates // ROWS_OF_BLOCK
    chosen = blocks < tl.minimum(tl.load(counts_ptr + query), most)
    sums = tl.full([BLOCK_R], float("inf"), tl.float32)
    if tl.max(chosen.to(tl.int32), 0) > 0:
        positions = tl.load(firsts_ptr + query * most + blocks, mask=chosen, other=0)
        positions += candidates % ROWS_OF_BLOCK * stride
        there = chosen & (positions < tl.load(ends_ptr + query * most + blocks, mask=chosen, other=0))
        there &= tl.load(bias_ptr + positions, mask=there, other=float("inf")) < float("inf")
        places = positions
        if SOME:
            places = tl.load(rows_ptr + positions, mask=there, other=0)
        inner = tl.arange(0, BLOCK_D)
        parts = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
        for begin in range(0, d, BLOCK_D):
            inside = begin + inner < d
            x = tl.load(x_ptr + query * x_stride + begin + inner, mask=inside, other=0.0).to(tl.float32)
            c_places = c_ptr + places[:, None] * c_stride + (begin + inner)[None, :]
            c = tl.load(c_places, mask=there[:, None] & inside[None, :], other=0).to(tl.float32)
            if L2:
                c = tl.where(there[:, None], c - x[None, :], 0.0)
                parts += c * c
            else:
                parts -= c * x[None, :]
        sums = tl.sum(parts, 1)
        # no NaN, and no distance of FLT_MAX or more, is a result
        sums = tl.where(there & (sums < largest), sums, float("inf"))
    width = most * ROWS_OF_BLOCK
    tl.store(distances_ptr + query * width + candidates, sums, mask=candidates < width)


@triton.jit
def _ranked_kernel(
    distances_ptr,
    columns_ptr,
    counts_ptr,
    firsts_ptr,
    block_counts_ptr,
    bounds_ptr,
    halves_ptr,
    ids_ptr,
    out_ptr,
    positions_ptr,
    left_ptr,
    blocks,
    most,
    k,
    stride,
    missing,
    rounding,
    BLOCK: tl.constexpr,
    OTHERS: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
    IDS: tl.constexpr,
    L2: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    distances_ptr += query * blocks * ROWS_OF_BLOCK
    firsts_ptr += query * blocks
    columns_ptr += query * most
    found = tl.load(counts_ptr + query)
    count = tl.minimum(found, most)
    lanes = tl.arange(0, BLOCK)
    known = lanes < count
    columns = tl.load(columns_ptr + lanes, mask=known, other=0)
    distances = tl.load(distances_ptr + columns, mask=known, other=0.0)
    positions = tl.load(firsts_ptr + columns // ROWS_OF_BLOCK) + columns % ROWS_OF_BLOCK * stride
    numbers = positions
    if IDS:
        numbers = tl.load(ids_ptr + positions, mask=known, other=0)
    ranks = tl.zeros([BLOCK], tl.int32)
    for begin in range(0, count, OTHERS):
        others = begin + tl.arange(0, OTHERS)
        there = others < count
        other_columns = tl.load(columns_ptr + others, mask=there, other=0)
        other_distances = tl.load(distances_ptr + other_columns, mask=there, other=float("inf"))
        other_numbers = tl.load(firsts_ptr + other_columns // ROWS_OF_BLOCK) + other_columns % ROWS_OF_BLOCK * stride
        if IDS:
            other_numbers = tl.load(ids_ptr + other_numbers, mask=there, other=0)
        # an id may be there twice: no two rows may have the same rank
        first = (other_numbers[None, :] == numbers[:, None]) & (others[None, :] < lanes[:, None])
        first |= other_numbers[None, :] < numbers[:, None]
        before = other_distances[None, :] < distances[:, None]
        before |= (other_distances[None, :] == distances[:, None]) & first
        ranks += tl.sum(before.to(tl.int32), 1)
    ranks = tl.where(known, ranks, lanes)
    out = tl.where(known, distances, missing)
    tl.store(out_ptr + query * k + ranks, out if L2 else -out, mask=ranks < k)
    tl.store(positions_ptr + query * k + ranks, tl.where(known, positions, -1), mask=ranks < k)
    halves, bound = tl.load(halves_ptr + query), tl.load(bounds_ptr + query)
    kth = tl.sum(tl.where(ranks == k - 1, out, 0.0), 0)
    if L2:
        kth = (0.5 * kth - halves) + rounding * (0.5 * kth + halves)
    certain = (bound == float("inf")) | (kth < bound)
    # the norm of a query that is not finite is not either
    certain = certain & (found <= most) & (tl.load(block_counts_ptr + query) <= blocks) & (halves < float("inf"))
    tl.store(left_ptr + query, (certain == 0).to(tl.int8))


def closest(
    x: Tensor,
    vectors: Tensor,
    bias: Tensor,
    rows: Tensor | None,
    ids: Tensor | None,
    blocks: Blocks,
    k: int,
    similarity: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the k closest rows of each query's blocks.

    Parameters
    ----------
    x : Tensor, float32, shape (nq, d)
        At least one query.
    vectors : Tensor, any dtype of numbers, shape (capacity, d)
    bias : Tensor, float32
        +inf for rows that are not to be found.
    rows : Tensor, int64, or None
        Where only some vectors are scanned, which: row j is then ``vectors[rows[j]]``.
    ids : Tensor, int64, or None
        The id of each row, which decides between equal distances; None where that is the row.
    blocks : Blocks
    k : int
    similarity : bool
        Whether it is the inner product that counts, and not the distance.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
        In order; +-FLT_MAX where there are fewer than k.
    positions : Tensor, int64, shape (nq, k)
        Rows; -1 there.
    left : Tensor, bool, shape (nq,)
        The queries of which this is not certain.
    """
    nq, d = x.shape
    most = blocks.firsts.shape[1]
    width = most * blocks.rows
    x = x if x.stride(1) == 1 else x.contiguous()
    found = torch.empty(nq, width, dtype=torch.float32, device=x.device)
    candidates = min(tuning.DISTANCE_ROWS, triton.next_power_of_2(width))
    _distances_kernel[(nq, triton.cdiv(width, candidates))](
        x,
        vectors,
        bias,
        blocks.firsts if rows is None else rows,
        blocks.firsts,
        blocks.ends,
        blocks.counts,
        found,
        d,
        most,
        blocks.stride,
        x.stride(0),
        vectors.stride(0),
        FLT_MAX,
        BLOCK_R=candidates,
        BLOCK_D=min(tuning.DISTANCE_COMPONENTS, triton.next_power_of_2(d)),
        ROWS_OF_BLOCK=blocks.rows,
        SOME=rows is not None,
        L2=not similarity,
    )
    return ranked(found, blocks, ids, k, similarity, (d + 16) * 2.0**-22, max(TIES, most - k))


def ranked(
    distances: Tensor,
    blocks: Blocks,
    ids: Tensor | None,
    k: int,
    similarity: bool,
    rounding: float = 0.0,
    ties: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Put the k closest rows of each query's blocks in order.

    Parameters
    ----------
    distances : Tensor, float32, shape (nq, most * rows)
        Of all rows of the blocks; for a similarity, times -1. +inf where there is none.
    blocks : Blocks
    ids, k, similarity
        As of `closest`, which says what is returned.
    rounding : float
        The relative error of a squared distance and a squared norm.
    ties : int
        Rows as close as the k-th that a query may have beyond it; 0 where the first of them are wanted, as they are
        listed.
    """
    nq, most = blocks.firsts.shape
    most_rows = k + ties + folded_slack(k, distances.shape[1])
    columns, counts, _ = smallest(distances, k, most_rows, first=not ties)
    out = torch.empty(nq, k, dtype=torch.float32, device=distances.device)
    positions = torch.empty(nq, k, dtype=torch.int64, device=distances.device)
    left = torch.empty(nq, dtype=torch.bool, device=distances.device)
    block = triton.next_power_of_2(most_rows)
    _ranked_kernel[(nq,)](
        distances,
        columns,
        counts,
        blocks.firsts,
        blocks.counts,
        blocks.bounds,
        blocks.halves,
        blocks.firsts if ids is None else ids,
        out,
        positions,
        left.view(torch.int8),
        most,
        most_rows,
        k,
        blocks.stride,
        FLT_MAX,
        rounding,
        BLOCK=block,
        OTHERS=max(1, min(32, tuning.RANKED_PAIRS // block)),
        ROWS_OF_BLOCK=blocks.rows,
        IDS=ids is not None,
        L2=not similarity,
        num_warps=tuning.warps_of(block),
    )
    return out, positions, left
