"""Which columns of each row hold its k smallest values, without a host that waits.

One program finds the k-th smallest value of a row by bisection of its bits, in registers, and lists all that are not
larger. A row too wide for that is folded first: the k-th smallest of the minima of columns j, j + BLOCK, j + 2 BLOCK
... is no smaller, and hardly larger where k is small beside BLOCK.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning


@triton.jit
def _ordered(values):
    """Integers in the order of floats; it is its own inverse."""
    return values ^ ((values >> 31) & 0x7FFFFFFF)


@triton.jit
def _loaded(values_ptr, columns, length, INTEGERS: tl.constexpr):
    """Values as floats; the largest int16 is +inf."""
    if INTEGERS:
        integers = tl.load(values_ptr + columns, mask=columns < length, other=32767)
        values = tl.where(integers == 32767, float("inf"), integers.to(tl.float32))
    else:
        values = tl.load(values_ptr + columns, mask=columns < length, other=float("inf"))
    return values


@triton.jit
def _smallest_kernel(
    values_ptr,
    lengths_ptr,
    columns_ptr,
    counts_ptr,
    bounds_ptr,
    width,
    k,
    most,
    BLOCK: tl.constexpr,
    LENGTHS: tl.constexpr,
    FIRST: tl.constexpr,
    INTEGERS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    values_ptr += row * width
    lanes = tl.arange(0, BLOCK)
    length = width
    if LENGTHS:
        length = tl.minimum(width, tl.load(lengths_ptr + row))
    folded = tl.full([BLOCK], float("inf"), tl.float32)
    for begin in range(0, width, BLOCK):
        folded = tl.minimum(folded, _loaded(values_ptr, begin + lanes, length, INTEGERS))
    keys = _ordered(folded.to(tl.int32, bitcast=True))
    # from the first to the last of what is not NaN
    low, high = tl.full([], -2139095041, tl.int32), tl.full([], 2139095040, tl.int32)
    while low < high:
        middle = (low & high) + ((low ^ high) >> 1)
        enough = tl.sum((keys <= middle).to(tl.int32), 0) >= k
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle + 1)
    bound = _ordered(low).to(tl.float32, bitcast=True)
    tl.store(bounds_ptr + row, bound)
    found, equal = tl.zeros([], tl.int32), tl.zeros([], tl.int32)
    left = k
    if FIRST:
        for begin in range(0, width, BLOCK):
            left -= tl.sum((_loaded(values_ptr, begin + lanes, length, INTEGERS) < bound).to(tl.int32), 0)
    for begin in range(0, width, BLOCK):
        values = _loaded(values_ptr, begin + lanes, length, INTEGERS)
        if FIRST:
            ties = ((values == bound) & (values < float("inf"))).to(tl.int32)
            chosen = ((values < bound) | ((ties > 0) & (equal + tl.cumsum(ties, 0) <= left))).to(tl.int32)
            equal += tl.sum(ties, 0)
        else:
            chosen = ((values <= bound) & (values < float("inf"))).to(tl.int32)
        places = found + tl.cumsum(chosen, 0) - 1
        columns = (begin + lanes).to(tl.int32)
        tl.store(columns_ptr + row * most + places, columns, mask=(chosen > 0) & (places < most))
        found += tl.sum(chosen, 0)
    tl.store(counts_ptr + row, found)


def folded_slack(k: int, width: int) -> int:
    """Return how many more than k values of a row are listed, at most and but for equal ones, since it is folded.

    Of k columns, k^2 / 2 BLOCK pairs are expected to be folded to the same place.
    """
    if width <= tuning.SMALLEST_VALUES:
        return 0
    expected = k * k / (2 * tuning.SMALLEST_VALUES)
    return int(1.25 * expected + 6 * expected**0.5) + 8


def smallest(
    values: Tensor, k: int, most: int, lengths: Tensor | None = None, first: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """List the columns of each row whose values are not larger than its k-th smallest.

    Parameters
    ----------
    values : Tensor, float32 or int16, shape (n, width)
        +inf, or the largest int16, where there is none.
    k : int
        At least 1.
    most : int
        Columns that are listed, at most.
    lengths : Tensor, int32, shape (n,), optional
        So many values of each row count.
    first : bool
        Whether of several that are as large as the k-th the first ones are listed, so that there are k.

    Returns
    -------
    columns : Tensor, int32, shape (n, most)
        Ascending; behind the count there are zeros.
    counts : Tensor, int32, shape (n,)
        How many there are, which may be more than are listed.
    bounds : Tensor, float32, shape (n,)
        What they do not exceed: the k-th smallest, or in a row too wide for one program hardly more; +inf where there
        are fewer than k.
    """
    n, width = values.shape
    device = values.device
    columns = torch.zeros(n, most, dtype=torch.int32, device=device)
    counts = torch.empty(n, dtype=torch.int32, device=device)
    bounds = torch.empty(n, dtype=torch.float32, device=device)
    block = min(tuning.SMALLEST_VALUES, triton.next_power_of_2(width))
    _smallest_kernel[(n,)](
        values,
        counts if lengths is None else lengths,
        columns,
        counts,
        bounds,
        width,
        k,
        most,
        BLOCK=block,
        LENGTHS=lengths is not None,
        FIRST=first,
        INTEGERS=values.dtype == torch.int16,
        num_warps=tuning.warps_of(block),
    )
    return columns, counts, bounds
