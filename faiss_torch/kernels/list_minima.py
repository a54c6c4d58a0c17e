"""The smallest score of each block of the rows of probed lists, for each query: the scan of inverted lists, in 16 bits.

A pair is a query and a list that it probes. Pairs stand in groups of one list each; one program takes some pairs of a
group, and reads the list once for all of them. As in `block_minima` the minima are of lower bounds. What becomes of
them: all are stored, or those alone that do not exceed a threshold of their query, in any order. Thresholds come from
minima of upper bounds, of which the k-th smallest is no smaller than the k-th smallest score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .order import owner_of, sorted_by
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bounded, measured, scaled, slope

#: Blocks of a tile: block j of a tile holds its rows j, j + BLOCKS, j + 2 BLOCKS ...
BLOCKS = 64

#: Rows of a block, at most; a power of two.
MOST_ROWS = 8

#: Vectors of the smallest product.
FEWEST = 16

#: A block is named by the rank of its list among those that the query probes, times this, and its first row.
RANK = 1 << 48


class Groups(NamedTuple):
    """Pairs of queries and lists, as the scan takes them.

    Attributes
    ----------
    order : Tensor, int64, shape (nq * nprobe,)
        Pairs, ``query * nprobe + rank``, group by group.
    starts : Tensor, int64, shape (groups + 1,)
        Where each group begins among them.
    pieces : Tensor, int32, shape (groups + 1,)
        Programs before each group.
    begins : Tensor, int64, shape (groups,)
        The first row of the list of each group.
    vectors : int
        Pairs that one program takes, at most: a power of two, 16 or more.
    programs : int
        No fewer than there are.
    """

    order: Tensor
    starts: Tensor
    pieces: Tensor
    begins: Tensor
    vectors: int
    programs: int

    @staticmethod
    def by_list(probes: Tensor, limits: Tensor, begins: Tensor, d: int) -> Groups:
        """Group pairs by their lists, for vectors of d components; those whose limit is 0 are left out."""
        pairs, nlist, vectors = probes.numel(), len(begins), tuning.list_blocks(d).vectors
        order, starts = sorted_by(torch.where(limits > 0, probes, -1).reshape(-1), nlist)
        tiles = (starts.diff() + vectors - 1) // vectors
        pieces = torch.nn.functional.pad(tiles.cumsum(0), (1, 0)).int()
        return Groups(order, starts, pieces, begins, vectors, triton.cdiv(pairs, vectors) + min(nlist, pairs))

    @staticmethod
    def single(probes: Tensor, begins: Tensor) -> Groups:
        """Make each pair a group of its own: for few queries, whose lists would be sorted in vain."""
        numbers = torch.arange(probes.numel() + 1, dtype=torch.int64, device=probes.device)
        own_begins = begins[probes.reshape(-1).clamp(min=0)]
        return Groups(numbers, numbers, numbers.int(), own_begins, FEWEST, probes.numel())


@triton.jit
def _list_minima_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    norms_ptr,
    order_ptr,
    starts_ptr,
    pieces_ptr,
    begins_ptr,
    limits_ptr,
    thresholds_ptr,
    minima_ptr,
    names_ptr,
    counts_ptr,
    halves_ptr,
    groups,
    nprobe,
    blocks,
    width,
    d,
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
    THRESHOLDS: tl.constexpr,
    SIGN: tl.constexpr,
    FACTOR: tl.constexpr,
    EXPONENT: tl.constexpr,
):
    piece = tl.program_id(0)
    if piece < tl.load(pieces_ptr + groups):
        group = owner_of(pieces_ptr, piece, groups)
        first = tl.load(starts_ptr + group) + (piece - tl.load(pieces_ptr + group)) * BLOCK_N
        places = first + tl.arange(0, BLOCK_N)
        there = places < tl.load(starts_ptr + group + 1)
        pairs = tl.load(order_ptr + places, mask=there, other=0)
        queries = pairs // nprobe
        ranks = pairs % nprobe
        limits = tl.where(there, tl.load(limits_ptr + pairs, mask=there, other=0), 0)
        most = tl.max(limits, 0)
        begin = tl.load(begins_ptr + group)
        inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
        x_begins = x_ptr + queries * x_stride
        scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT, FACTOR)
        factor, slopes = -unscale * tl.load(facts_ptr), slope(norm, residual, rounding)
        if ONE_CHUNK:
            x = tl.load(x_begins[:, None] + inner[None, :], mask=there[:, None] & (inner < d)[None, :], other=0.0)
            shift = tl.load(shift_ptr + inner, mask=inner < d, other=0.0)
            rounded = scaled(x, shift, scale, FACTOR)[1]
        if THRESHOLDS:
            thresholds = tl.load(thresholds_ptr + queries, mask=there, other=float("-inf"))
        # a list is shared out among the programs of the second axis
        for tile in range(tl.program_id(1), tl.cdiv(most, ROWS_OF_BLOCK * BLOCK_K), tl.num_programs(1)):
            best = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
            for row in range(0, ROWS_OF_BLOCK):
                inside = (tile * ROWS_OF_BLOCK + row) * BLOCK_K + lanes
                known = inside < most
                c_places = c_ptr + (begin + inside)[None, :] * c_stride + inner[:, None]
                if ONE_CHUNK:
                    mask = known[None, :] if WHOLE else known[None, :] & (inner < d)[:, None]
                    c = tl.load(c_places, mask=mask, other=0)
                    products = tl.dot(rounded, c.to(FACTOR))
                else:
                    products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
                    for part in range(0, d, BLOCK_D):
                        of_part = part + inner < d
                        x_places = x_begins[:, None] + (part + inner)[None, :]
                        x = tl.load(x_places, mask=there[:, None] & of_part[None, :], other=0.0)
                        shift = tl.load(shift_ptr + part + inner, mask=of_part, other=0.0)
                        mask = known[None, :] if WHOLE else known[None, :] & of_part[:, None]
                        c = tl.load(c_places + part, mask=mask, other=0)
                        products = tl.dot(scaled(x, shift, scale, FACTOR)[1], c.to(FACTOR), products)
                h = tl.load(h_ptr + begin + inside, mask=known, other=float("inf"))
                norms = tl.load(norms_ptr + begin + inside, mask=known, other=0.0)
                scores = bounded(products, factor, slopes, h, norms, rounding, least, SIGN)
                best = tl.minimum(best, tl.where(inside[None, :] < limits[:, None], scores, float("inf")))
            if THRESHOLDS:
                hits = (best <= thresholds[:, None]) & (best < float("inf"))
                if tl.max(tl.max(hits.to(tl.int32), 1), 0) > 0:
                    slots = tl.atomic_add(counts_ptr + queries[:, None] + 0 * lanes[None, :], 1, mask=hits)
                    kept = hits & (slots < width)
                    outs = queries[:, None] * width + slots
                    names = ranks[:, None] * (1 << 48) + (begin + tile * ROWS_OF_BLOCK * BLOCK_K + lanes)[None, :]
                    tl.store(minima_ptr + outs, best, mask=kept)
                    tl.store(names_ptr + outs, names, mask=kept)
            else:
                outs = queries * width + ranks * blocks + tile * BLOCK_K
                kept = there & (tile * ROWS_OF_BLOCK * BLOCK_K < limits)
                tl.store(minima_ptr + outs[:, None] + lanes[None, :], best, mask=kept[:, None])
        tl.store(halves_ptr + queries, norm * norm * 0.5, mask=there)


def blocks_of(rows: int, rows_of_block: int) -> int:
    """Return how many blocks a list of so many rows is cut to."""
    return triton.cdiv(rows, rows_of_block * BLOCKS) * BLOCKS


class Scan(NamedTuple):
    """What is scanned.

    Attributes
    ----------
    x : Tensor, float32, shape (nq, d)
    rows : Rounded
        All rows of the lists.
    groups : Groups
    limits : Tensor, int64, shape (nq, nprobe)
        So many first rows of each list count.
    rows_of_block : int
        A power of two.
    """

    x: Tensor
    rows: Rounded
    groups: Groups
    limits: Tensor
    rows_of_block: int


def all_minima(scan: Scan, most: int, shares: int = 1, upper: bool = False) -> tuple[Tensor, Tensor]:
    """Find a lower bound of the smallest score of each block of the probed lists.

    Parameters
    ----------
    scan : Scan
    most : int
        No limit is larger.
    shares : int
        Programs that share out a list.
    upper : bool
        Whether the smallest upper bounds are wanted instead.

    Returns
    -------
    minima : Tensor, float32, shape (nq, nprobe * blocks_of(most, rows_of_block))
        +inf for a block without rows.
    halves : Tensor, float32, shape (nq,)
        As of `block_minima`; 0 for a query that probes nothing.
    """
    nq, nprobe = scan.limits.shape
    blocks = blocks_of(most, scan.rows_of_block)
    minima = scan.x.new_full((nq, nprobe * blocks), float("inf"))
    halves = scan.x.new_zeros(nq)
    unused = scan.groups.pieces
    _launch(scan, (halves, minima, unused, unused, halves), blocks, shares, False, upper)
    return minima, halves


class Hits(NamedTuple):
    """Blocks whose minima do not exceed the threshold of their query.

    Attributes
    ----------
    minima : Tensor, float32, shape (nq, width)
        In any order; behind the count anything.
    names : Tensor, int64, shape (nq, width)
        ``rank * RANK + first row``; behind the count zeros.
    counts : Tensor, int32, shape (nq,)
        How many there are, which may be more than the width.
    halves : Tensor, float32, shape (nq,)
        As of `all_minima`.
    """

    minima: Tensor
    names: Tensor
    counts: Tensor
    halves: Tensor


def minima_below(scan: Scan, thresholds: Tensor, width: int) -> Hits:
    """Find the blocks of the probed lists of which the lower bound does not exceed a threshold.

    Parameters
    ----------
    scan : Scan
    thresholds : Tensor, float32, shape (nq,)
    width : int
        Blocks of a query that are kept.
    """
    nq, device = len(scan.x), scan.x.device
    hits = Hits(
        scan.x.new_empty(nq, width),
        torch.zeros(nq, width, dtype=torch.int64, device=device),
        torch.zeros(nq, dtype=torch.int32, device=device),
        scan.x.new_zeros(nq),
    )
    _launch(scan, (thresholds, *hits), 0, 1, True, False)
    return hits


def _launch(
    scan: Scan, results: tuple[Tensor, ...], blocks_of_list: int, shares: int, thresholds: bool, upper: bool
) -> None:
    x, rows, groups, limits, rows_of_block = scan
    d = x.shape[1]
    x = x if x.stride(1) == 1 else x.contiguous()
    centroids, h, facts, shift, norms = rows
    blocks = tuning.list_blocks(d)
    margins = Margins.make(d, 1)
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    _list_minima_kernel[(groups.programs, shares)](
        x,
        centroids,
        h,
        facts,
        shift,
        norms,
        groups.order,
        groups.starts,
        groups.pieces,
        groups.begins,
        limits.contiguous(),
        *results,
        len(groups.begins),
        limits.shape[1],
        blocks_of_list,
        results[1].shape[1],
        d,
        x.stride(0),
        centroids.stride(1),
        margins.rounding,
        margins.least,
        BLOCK_N=groups.vectors,
        BLOCK_K=BLOCKS,
        BLOCK_D=blocks.components,
        BLOCK_P=16,
        ROWS_OF_BLOCK=rows_of_block,
        ONE_CHUNK=d <= blocks.components,
        WHOLE=centroids.shape[2] % blocks.components == 0,
        THRESHOLDS=thresholds,
        SIGN=-1 if upper else 1,
        FACTOR=rows.factor,
        EXPONENT=EXPONENT_OF_LARGEST,
        **options,
    )
