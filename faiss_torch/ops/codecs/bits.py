"""Integers of few bits, one behind the other, lowest bits first: as faiss has them in memory and in files."""

from __future__ import annotations

import torch
from torch import Tensor

#: Integers that fill whole bytes together, whatever their number of bits.
GROUP = 8


def pack(values: Tensor, nbits: int) -> Tensor:
    """Pack integers.

    Parameters
    ----------
    values : Tensor, uint8, shape (n, d)
        Below ``2 ** nbits``.
    nbits : int
        1 to 8.

    Returns
    -------
    Tensor, uint8, shape (n, (d * nbits + 7) // 8)
        What is left of the last byte is 0.
    """
    n, d = values.shape
    if nbits == 8:
        return values
    if nbits == 4:
        pairs = torch.nn.functional.pad(values, (0, d % 2)).view(n, -1, 2)
        return pairs[..., 1].bitwise_left_shift(4).bitwise_or_(pairs[..., 0])
    groups = torch.nn.functional.pad(values, (0, -d % GROUP)).view(n, -1, GROUP).to(torch.int64)
    words = groups.bitwise_left_shift(_steps(GROUP, nbits, values.device)).sum(-1, keepdim=True)
    found = words.bitwise_right_shift(_steps(nbits, 8, values.device)).bitwise_and_(0xFF).to(torch.uint8)
    return found.view(n, -1)[:, : (d * nbits + 7) // 8].contiguous()


def unpack(codes: Tensor, nbits: int, d: int) -> Tensor:
    """Unpack d integers of each row: the inverse of `pack`, uint8, (n, any) -> uint8, (n, d)."""
    n = len(codes)
    if nbits == 8:
        return codes
    if nbits == 4:
        return torch.stack([codes & 15, codes >> 4], -1).view(n, -1)[:, :d]
    groups = -(-d // GROUP)
    wide = torch.nn.functional.pad(codes, (0, groups * nbits - codes.shape[1])).view(n, groups, nbits)
    words = wide.to(torch.int64).bitwise_left_shift(_steps(nbits, 8, codes.device)).sum(-1, keepdim=True)
    found = words.bitwise_right_shift(_steps(GROUP, nbits, codes.device)).bitwise_and_((1 << nbits) - 1)
    return found.to(torch.uint8).view(n, -1)[:, :d]


def _steps(count: int, width: int, device: torch.device) -> Tensor:
    return torch.arange(0, count * width, width, dtype=torch.int64, device=device)
