"""Whether this machine sums lines of 8 bits quickly: measured once, or pinned."""

from __future__ import annotations

import functools

import torch

from ..runtime.arithmetic import has_room, pinned_name, seconds
from .blocks import BLOCK_ROWS, LINE_BYTES, weighted_sums

#: Sums of 8-bit lines that are measured, of how many lines each.
_SUMS, _LINES = 64, 128


def sums_lines(device: torch.device) -> bool:
    """Whether weighted sums of 8-bit lines (`byte_sums.blocks`) are to bound scores: right and quick, or pinned."""
    name = pinned_name()
    if device.type != "cpu" or name not in (None, "int8") or not (_sums_lines.cache_info().currsize or has_room()):
        return False
    return _sums_lines(name is None)


@functools.cache
def _sums_lines(quickly: bool) -> bool:
    """Compare torch's operation for them with a product of the same size in float32: not every build has fbgemm, which
    makes it quick."""
    numbers = torch.arange(_SUMS * _LINES * LINE_BYTES, dtype=torch.int64, device="cpu")
    lines = numbers.remainder(251).to(torch.uint8).view(_SUMS * _LINES, -1)
    facts = torch.tensor([0.5, -3.0], dtype=torch.float32, device="cpu").repeat(len(lines), 1)
    lines[:, BLOCK_ROWS:] = facts.view(torch.uint8)
    which = torch.arange(len(lines), dtype=torch.int64, device="cpu")
    begins = which[::_LINES].contiguous()
    weights = torch.linspace(-1, 1, len(lines), dtype=torch.float32, device="cpu")

    def sums() -> torch.Tensor:
        return weighted_sums(lines, which, begins, weights)

    try:
        found = sums()
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    values = (lines[:, :BLOCK_ROWS].float() * 0.5 - 3) * weights[:, None]
    if not torch.allclose(found, values.view(_SUMS, _LINES, -1).sum(1), rtol=1e-4, atol=0.05):
        return False
    x, q = weights.new_zeros(_SUMS * BLOCK_ROWS, _LINES), weights.new_zeros(_LINES)
    return not quickly or seconds(sums) < seconds(lambda: torch.mv(x, q))
