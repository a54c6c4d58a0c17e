"""Vectors and centroids in int8, and how far their products may be from the truth.

With x' = x - shift (shift is 0 for the inner product) and b = |c'|^2 / 2 for L2 and 0 for the inner product, the score
of a pair is <x', c'> - b: larger is closer. Vectors and centroids are rounded to int8, x' to x~ with a step of its own,
c' to c~ with a step for each block of centroids, and -b goes through the product as well, as a sum of digits
behind the components that a vector weighs by an integer::

    vector      [x' / step of the vector | w  w ... w ]    w = ratio / (step of the vector)
    centroid    [c' / step of the block  | digits of B]    B = (-b - offset of the block) / (ratio * step of the block)

so that ``integer product * (step of the vector) * (step of the block) + (offset of the block)`` is the score but for
rounding, of which is known (Cauchy and Schwarz)

    score <= computed score + |x' - x~| |c'| + |x~| |c' - c~|

Centroids are sorted by their largest component, so that those of a block have much the same: the few far ones of small
clusters, which need a long step, would spoil the bound for all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ..runtime import workers
from ..tiles.int8 import LARGEST, in_digits
from .int8_loops import CentroidCodes, encode

#: Rows of a sample that chooses the shift and the ratio.
SAMPLE = 1024

#: A shift that makes squared norms less by no more than this share is not worth computing differences.
SMALL_SHIFT = 0.01

#: Components of most vectors, and of centroids, are between these; then neither distances nor steps overflow.
LEAST_COMPONENT, LARGEST_COMPONENT = 1e-15, 1e12


class Frame(NamedTuple):
    """What vectors and centroids have in common.

    Attributes
    ----------
    shift : Tensor, float32, shape (d,), or None
    ratio : float
        Weight of a digit, times the step of the vector.
    digits : int
    metric_type : int
    """

    shift: Tensor | None
    ratio: float
    digits: int
    metric_type: int


def make_frame(x: Tensor, metric_type: int) -> Frame | None:
    """Choose a frame for vectors: float32, (n, d); None where int8 cannot hold them."""
    n, d = x.shape
    sample = x[:: max(1, n // SAMPLE)]
    shift = sample.mean(0) if metric_type == METRIC_L2 else None
    if shift is not None and float(shift.square().sum()) < SMALL_SHIFT * float(sample.square().sum(1).mean()):
        shift = None
    moved = sample if shift is None else sample - shift
    typical = float(moved.abs().amax(1).median())
    if not LEAST_COMPONENT < typical < LARGEST_COMPONENT:
        return None
    # a vector like the sample weighs a digit by about 100, so that its step can be chosen to a hundredth; the length of
    # codes is a multiple of four, as the processor's integer products like it
    return Frame(shift, typical / LARGEST * 100, 4 + -d % 4, metric_type)


class VectorCodes(NamedTuple):
    """Vectors in int8.

    Attributes
    ----------
    codes : Tensor, int8, shape (n, d + digits)
    steps : Tensor, float32, shape (n,)
    norms : Tensor, float32, shape (n,)
        |x'|
    residuals : Tensor, float32, shape (n,)
        |x' - x~|, or an upper bound; not finite where int8 cannot hold the vector.
    """

    codes: Tensor
    steps: Tensor
    norms: Tensor
    residuals: Tensor

    @staticmethod
    def empty(frame: Frame, n: int, d: int) -> VectorCodes:
        """Room for the codes of n vectors."""
        codes = torch.empty(n, d + frame.digits, dtype=torch.int8, device="cpu")
        return VectorCodes(codes, *torch.empty(3, n, dtype=torch.float32, device="cpu"))

    def part(self, rows: slice) -> VectorCodes:
        """The codes of some rows."""
        return VectorCodes(self.codes[rows], self.steps[rows], self.norms[rows], self.residuals[rows])

    def encode(self, frame: Frame, x: Tensor) -> None:
        """Write the codes of vectors: float32, (n, d)."""
        room = workers.workspace(2 * x.numel(), x.device, "differences")
        encode(x, frame.shift, frame.ratio, LARGEST, room, *self)


def encode_centroids(frame: Frame, centroids: Tensor, block: int) -> CentroidCodes | None:
    """Round centroids, float32, (k, d), in blocks of that many; None where int8 cannot hold them."""
    k, d = centroids.shape
    moved = centroids if frame.shift is None else centroids - frame.shift
    largest, order = moved.abs().amax(1).sort()
    if not float(largest[-1]) < LARGEST_COMPONENT:
        return None
    blocks = -(-k // block)
    labels = torch.cat([order, order[-1:].expand(blocks * block - k)])
    places = torch.empty_like(order).index_copy_(0, order, torch.arange(k, dtype=torch.int64, device="cpu"))
    moved = moved.index_select(0, labels)
    # sorted: the last of a block is its largest
    steps = largest[block - 1 :: block]
    steps = (steps if len(steps) == blocks else torch.cat([steps, largest[-1:]])) * ((1 + 1e-6) / LARGEST)
    steps.clamp_(min=1e-30)
    step = steps.repeat_interleave(block)[:, None]
    rounded = (moved / step).round_()
    codes = torch.empty(blocks * block, d + frame.digits, dtype=torch.int8, device="cpu")
    codes[:, :d] = rounded
    norms = torch.linalg.vector_norm(moved, dim=1)
    residuals = torch.linalg.vector_norm(rounded.mul_(step).sub_(moved), dim=1)
    offsets = torch.zeros_like(steps)
    codes[:, d:] = 0
    if frame.metric_type == METRIC_L2:
        bias = norms.square().mul_(-0.5).view(blocks, block)
        unit = steps * frame.ratio
        offsets = bias.amax(1) - unit * (LARGEST * frame.digits - 1)
        # rounded up, and at least the smallest: that only raises the computed score
        values = (bias - offsets[:, None]).div_(unit[:, None]).add_(1e-3).ceil_()
        codes[:, d:] = in_digits(values.view(-1), frame.digits).T
    # what is computed of them here is rounded, too
    gamma = 1 + (d + 16) * 2.0**-23
    norm, residual = (each.view(blocks, block).amax(1) * gamma for each in (norms, residuals))
    rounding = steps * (2 + len(codes[0]) * LARGEST**2 * 2.0**-21)
    lowest = -(2**25) if codes.shape[1] * LARGEST**2 <= 2**25 else -(2**31)
    of_blocks = steps, offsets, norm, residual, rounding
    return CentroidCodes(
        centroids, codes.T.contiguous(), labels, places, *of_blocks, largest_norm=float(norm.max()), lowest=lowest
    )
