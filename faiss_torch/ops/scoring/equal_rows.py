"""Equal rows: which stored rows are the same to the last bit.

Ties never clear a margin: where thousands of rows are equal, a screen lets all of them through, or no query has its
certificate. But of equal rows only those with the lowest ids can be among the k nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime import chunks

#: Rows that are looked at to see whether some are equal, and the share of these above which all are looked at.
SAMPLE, REPEATED = 1024, 0.1

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


class Rows(NamedTuple):
    """Stored rows among which equal ones are looked for.

    Attributes
    ----------
    vectors : Tensor, float32, float16 or bfloat16, shape (capacity, d), or codes, uint8
    order : Tensor, int64, shape (n,)
        The rows in use, in the order of their ids.
    groups : Tensor, int64, shape (n,), or None
        Only rows of one group count as equal: the list of each.
    """

    vectors: Tensor
    order: Tensor
    groups: Tensor | None = None


def are_repeated(rows: Rows) -> bool:
    """Whether a sample of the rows holds many that are equal."""
    every = max(1, len(rows.order) // SAMPLE)
    sums = _sums(Rows(rows.vectors, rows.order[::every], None if rows.groups is None else rows.groups[::every]))
    return len(torch.unique(sums)) < (1 - REPEATED) * len(sums)


def _sums(rows: Rows) -> Tensor:
    """Weighted sums of each row's bits, which are the same for equal rows and hardly for others: int64, (n,)."""
    d = rows.vectors.shape[1]
    generator = torch.Generator("cpu").manual_seed(1)
    weights = torch.randint(-(1 << 62), 1 << 62, (d + 1,), dtype=torch.int64, device="cpu", generator=generator)
    weights = weights.to(rows.vectors.device)
    sums = weights.new_zeros(len(rows.order)) if rows.groups is None else rows.groups * weights[d]
    bits = rows.vectors.view(_INTEGERS[rows.vectors.dtype.itemsize])
    for part in chunks.slices(len(rows.order), chunks.rows_within(16 * d)):
        sums[part] += (bits.index_select(0, rows.order[part]).to(torch.int64) * weights[:d]).sum(1)
    return sums


def _runs(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return an order in which equal rows stand side by side, first ones first, and where the run of each begins."""
    sums = _sums(rows)
    by_sum = sums.argsort(stable=True)
    equal = torch.zeros_like(by_sum, dtype=torch.bool)
    pairs = (sums[by_sum[1:]] == sums[by_sum[:-1]]).nonzero().view(-1)
    for part in chunks.slices(len(pairs), chunks.rows_within(8 * rows.vectors.shape[1])):
        first, second = by_sum[pairs[part]], by_sum[pairs[part] + 1]
        same = (rows.vectors[rows.order[first]] == rows.vectors[rows.order[second]]).all(1)
        if rows.groups is not None:
            same &= rows.groups[first] == rows.groups[second]
        equal[pairs[part] + 1] = same
    places = torch.arange(len(by_sum), dtype=torch.int64, device=by_sum.device)
    return by_sum, places.masked_fill(equal, 0).cummax(0).values


def ranks_among_equals(rows: Rows) -> Tensor:
    """Return how many rows that are equal to a row come before it, in the order of the rows: int64, (n,)."""
    side_by_side, begins = _runs(rows)
    ranks = torch.empty_like(begins)
    ranks[side_by_side] = torch.arange(len(begins), dtype=torch.int64, device=begins.device) - begins
    return ranks


class Different(NamedTuple):
    """The different ones among rows.

    Attributes
    ----------
    firsts : Tensor, int64, shape (m,)
        The first row of each kind.
    kinds : Tensor, int64, shape (n,)
        Which kind each row is of.
    """

    firsts: Tensor
    kinds: Tensor


def different_ones(x: Tensor) -> Different | None:
    """Return the different ones among rows, (n, d), or None where few are equal."""
    rows = Rows(x, torch.arange(len(x), dtype=torch.int64, device=x.device))
    if not len(x) or not are_repeated(rows):
        return None
    side_by_side, begins = _runs(rows)
    firsts, numbers = begins.unique(return_inverse=True)
    return Different(side_by_side[firsts], torch.empty_like(numbers).index_copy_(0, side_by_side, numbers))
