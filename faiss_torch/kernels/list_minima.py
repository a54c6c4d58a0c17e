"""The smallest score of each block of the rows of probed lists: the list-major scan of inverted lists, in 16 bits.

A pair is a query and a list that it probes. Pairs stand in the order of their lists; one program takes some pairs of
one list, and reads that list once for all of them. As in `block_minima` a score costs two operations beside its
product, and two more for where a query's rows of the list end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .order import owner_of, sorted_by
from .rounding import EXPONENT_OF_LARGEST, Margins, Rounded, bound, measured, scaled

#: Rows of a block, and blocks of a tile: block j of a tile holds its rows j, j + BLOCKS, j + 2 BLOCKS ...
ROWS, BLOCKS = 8, 64


class Pairs(NamedTuple):
    """Queries and the lists that they probe.

    Attributes
    ----------
    probes : Tensor, int64, shape (nq, nprobe)
        Any number where `limits` is 0.
    limits : Tensor, int64, shape (nq, nprobe)
        So many first rows of the list count.
    places : Tensor, int64, shape (nq, nprobe)
        Where the minima of each pair begin among those of its query.
    width : int
        Minima of a query, at most.
    """

    probes: Tensor
    limits: Tensor
    places: Tensor
    width: int

    @staticmethod
    def make(probes: Tensor, limits: Tensor) -> Pairs:
        """Lay out the minima of pairs; this waits for the device once."""
        counts = (limits + ROWS * BLOCKS - 1) // (ROWS * BLOCKS) * BLOCKS
        ends = counts.cumsum(1)
        return Pairs(probes, limits, ends - counts, int(ends[:, -1].max()))


@triton.jit
def _list_minima_kernel(
    x_ptr,
    c_ptr,
    h_ptr,
    facts_ptr,
    shift_ptr,
    order_ptr,
    starts_ptr,
    pieces_ptr,
    begins_ptr,
    limits_ptr,
    places_ptr,
    minima_ptr,
    errors_ptr,
    nlist,
    nprobe,
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
    EXPONENT: tl.constexpr,
):
    piece = tl.program_id(0)
    if piece < tl.load(pieces_ptr + nlist):
        list_no = owner_of(pieces_ptr, piece, nlist)
        first = tl.load(starts_ptr + list_no) + (piece - tl.load(pieces_ptr + list_no)) * BLOCK_N
        places = first + tl.arange(0, BLOCK_N)
        there = places < tl.load(starts_ptr + list_no + 1)
        pairs = tl.load(order_ptr + places, mask=there, other=0)
        queries = pairs // nprobe
        limits = tl.where(there, tl.load(limits_ptr + pairs, mask=there, other=0), 0)
        outs = minima_ptr + queries * width + tl.load(places_ptr + pairs, mask=there, other=0)
        most = tl.max(limits, 0)
        begin = tl.load(begins_ptr + list_no)
        inner, lanes = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_K)
        x_begins = x_ptr + queries * x_stride
        scale, unscale, norm, residual = measured(x_begins, shift_ptr, there, d, BLOCK_P, EXPONENT)
        factor = -unscale * tl.load(facts_ptr)
        for tile in range(0, tl.cdiv(most, ROWS_OF_BLOCK * BLOCK_K)):
            best = tl.full([BLOCK_N, BLOCK_K], float("inf"), tl.float32)
            for row in range(0, ROWS_OF_BLOCK):
                inside = (tile * ROWS_OF_BLOCK + row) * BLOCK_K + lanes
                known = inside < most
                products = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
                for part in range(0, d, BLOCK_D):
                    mask = there[:, None] & (part + inner < d)[None, :]
                    x = tl.load(x_begins[:, None] + (part + inner)[None, :], mask=mask, other=0.0)
                    shift = tl.load(shift_ptr + part + inner, mask=part + inner < d, other=0.0)
                    c_places = c_ptr + (begin + inside)[None, :] * c_stride + (part + inner)[:, None]
                    c = tl.load(c_places, mask=known[None, :], other=0.0)
                    products = tl.dot(scaled(x, shift, scale)[1], c, products)
                h = tl.load(h_ptr + begin + inside, mask=known, other=0.0)
                scores = products * factor[:, None] + h[None, :]
                best = tl.minimum(best, tl.where(inside[None, :] < limits[:, None], scores, float("inf")))
            kept = tile * ROWS_OF_BLOCK * BLOCK_K < limits
            tl.store(outs[:, None] + (tile * BLOCK_K + lanes)[None, :], best, mask=kept[:, None])
        tl.store(errors_ptr + queries, bound(norm, residual, facts_ptr, rounding, least), mask=there)


def list_minima(x: Tensor, rows: Rounded, begins: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Find the smallest score of each block of the probed lists.

    Parameters
    ----------
    x : Tensor, float32, shape (nq, d)
    rows : Rounded
        All rows of the lists.
    begins : Tensor, int64, shape (nlist,)
        Where each list begins among the rows; on the device.
    pairs : Pairs

    Returns
    -------
    minima : Tensor, float32, shape (nq, width)
        +inf for a block without rows.
    errors : Tensor, float32, shape (nq,)
        How far a query's scores may be from the exact ones; 0 for one that probes nothing.
    """
    nq, d = x.shape
    nlist, nprobe = len(begins), pairs.probes.shape[1]
    x = x if x.stride(1) == 1 else x.contiguous()
    centroids, h, facts, shift = rows
    blocks = tuning.LIST_MINIMA
    minima = torch.full((nq, pairs.width), float("inf"), dtype=torch.float32, device=x.device)
    errors = torch.zeros(nq, dtype=torch.float32, device=x.device)
    order, starts = sorted_by(torch.where(pairs.limits > 0, pairs.probes, -1).view(-1), nlist)
    tiles = (starts.diff() + blocks.vectors - 1) // blocks.vectors
    pieces = torch.nn.functional.pad(tiles.cumsum(0), (1, 0)).int()
    margins = Margins.make(d, 1)
    options: dict[str, Any] = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    _list_minima_kernel[(triton.cdiv(nq * nprobe, blocks.vectors) + nlist,)](
        x,
        centroids,
        h,
        facts,
        shift,
        order,
        starts,
        pieces,
        begins,
        pairs.limits.contiguous(),
        pairs.places.contiguous(),
        minima,
        errors,
        nlist,
        nprobe,
        pairs.width,
        d,
        x.stride(0),
        centroids.stride(1),
        margins.rounding,
        margins.least,
        BLOCK_N=blocks.vectors,
        BLOCK_K=BLOCKS,
        BLOCK_D=min(blocks.components, max(16, triton.next_power_of_2(d))),
        BLOCK_P=16,
        ROWS_OF_BLOCK=ROWS,
        EXPONENT=EXPONENT_OF_LARGEST,
        **options,
    )
    return minima, errors
