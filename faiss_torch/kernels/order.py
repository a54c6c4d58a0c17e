"""The order of numbers that name clusters or lists, and the pieces that these are cut to."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Numbers that one program makes short.
_KEYS = 1024


@triton.jit
def _keys_kernel(labels_ptr, keys_ptr, n, k, BLOCK_N: tl.constexpr):
    """Labels as short numbers, those of no cluster as the last."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    label = tl.load(labels_ptr + rows, mask=rows < n, other=-1)
    key = tl.where((label >= 0) & (label < k), label, k)
    tl.store(keys_ptr + rows, key.to(keys_ptr.dtype.element_ty), mask=rows < n)


@triton.jit
def owner_of(pieces_ptr, piece, k):
    """Whose piece one is: the last of k clusters or lists whose pieces begin here or before."""
    low, high = tl.full([], 0, tl.int32), tl.full([], 0, tl.int32) + k
    while low + 1 < high:
        middle = (low + high) // 2
        if tl.load(pieces_ptr + middle) <= piece:
            low = middle
        else:
            high = middle
    return low


def sorted_by(labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sort positions by their labels.

    Parameters
    ----------
    labels : Tensor, int64, shape (n,)
        At least one; those outside 0 ... k - 1 come last.
    k : int

    Returns
    -------
    order : Tensor, int64, shape (n,)
        The positions, stable.
    begins : Tensor, int64, shape (k + 1,)
        Where each label begins in it, and the last one ends.
    """
    # a sort by digits reads short keys in fewer turns
    dtype = next(each for each in (torch.uint8, torch.int16, torch.int32) if k <= torch.iinfo(each).max)
    keys = torch.empty_like(labels, dtype=dtype)
    _keys_kernel[(triton.cdiv(len(labels), _KEYS),)](labels, keys, len(labels), k, BLOCK_N=_KEYS)
    keys, order = keys.sort(stable=True)
    return order, torch.searchsorted(keys, torch.arange(k + 1, device=labels.device, dtype=dtype))
