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

from ..constants import METRIC_L2
from .int8_tiles import LARGEST, in_digits

#: Rows of a sample that chooses the shift and the ratio.
SAMPLE = 1024

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
    terms : Tensor, float32, shape (6, n)
        Divided by the step: room for the key of a good centroid; |x'|^2 for L2, |x'| for the inner product; 1;
        |x' - x~|; a bound of |x~|. And 1 itself.
    """

    codes: Tensor
    steps: Tensor
    norms: Tensor
    residuals: Tensor
    terms: Tensor

    @staticmethod
    def empty(frame: Frame, n: int, d: int) -> VectorCodes:
        """Room for the codes of n vectors."""
        steps, norms, residuals = torch.empty(3, n)
        codes = torch.empty(n, d + frame.digits, dtype=torch.int8)
        return VectorCodes(codes, steps, norms, residuals, torch.empty(6, n))

    def part(self, rows: slice) -> VectorCodes:
        """The codes of some rows."""
        by_rows = self.codes[rows], self.steps[rows], self.norms[rows], self.residuals[rows]
        return VectorCodes(*by_rows, self.terms[:, rows])

    def encode(self, frame: Frame, x: Tensor, often: bool) -> None:
        """Write the codes of vectors.

        Parameters
        ----------
        frame : Frame
        x : Tensor, float32, shape (n, d)
        often : bool
            Whether they will be used often, so that residuals are worth computing: they are smaller than their bound.
        """
        d = x.shape[1]
        moved = x if frame.shift is None else x - frame.shift
        torch.linalg.vector_norm(moved, dim=1, out=self.norms)
        least = torch.maximum(moved.amax(1).abs_(), moved.amin(1).abs_()).mul_((1 + 1e-6) / LARGEST)
        weights = torch.floor(frame.ratio / least).clamp_(max=LARGEST)
        torch.div(frame.ratio, weights, out=self.steps)
        rounded = (moved * (weights * (1 / frame.ratio))[:, None]).round_()
        self.codes[:, :d] = rounded
        self.codes[:, d:] = weights[:, None]
        if often:
            rounded.mul_(self.steps[:, None]).sub_(moved)
            torch.linalg.vector_norm(rounded, dim=1, out=self.residuals)
        else:
            torch.mul(self.steps, 0.5001 * d**0.5, out=self.residuals)
        size = self.norms.square() if frame.metric_type == METRIC_L2 else self.norms
        ones = torch.ones_like(size)
        torch.stack((ones, size, ones, self.residuals, self.norms + self.residuals, ones), out=self.terms)
        self.terms[:5] /= self.steps


class CentroidCodes(NamedTuple):
    """Centroids in int8, in the order of their largest component.

    Attributes
    ----------
    vectors : Tensor, float32, shape (k, d)
        The centroids themselves, in their own order.
    codes : Tensor, int8, shape (d + digits, columns)
        Columns beyond the k-th repeat the last one.
    labels : Tensor, int64, shape (columns,)
        The centroid in each column.
    places : Tensor, int64, shape (k,)
        The column of each centroid.
    steps, offsets : Tensor, float32, shape (blocks,)
    bounds : Tensor, float64, shape (6, blocks)
        A vector's `terms` times these are the least integer product of a centroid that may be closer.
    largest_norm : float
        Of all c'.
    """

    vectors: Tensor
    codes: Tensor
    labels: Tensor
    places: Tensor
    steps: Tensor
    offsets: Tensor
    bounds: Tensor
    largest_norm: float


def encode_centroids(frame: Frame, centroids: Tensor, block: int) -> CentroidCodes | None:
    """Round centroids, float32, (k, d), in blocks of that many; None where int8 cannot hold them."""
    k, d = centroids.shape
    moved = centroids if frame.shift is None else centroids - frame.shift
    largest, order = moved.abs().amax(1).sort()
    if not float(largest[-1]) < LARGEST_COMPONENT:
        return None
    blocks = -(-k // block)
    labels = torch.cat([order, order[-1:].expand(blocks * block - k)])
    places = torch.empty_like(order).index_copy_(0, order, torch.arange(k))
    moved = moved.index_select(0, labels)
    # sorted: the last of a block is its largest
    steps = largest[block - 1 :: block]
    steps = (steps if len(steps) == blocks else torch.cat([steps, largest[-1:]])) * ((1 + 1e-6) / LARGEST)
    steps.clamp_(min=1e-30)
    step = steps.repeat_interleave(block)[:, None]
    rounded = (moved / step).round_()
    codes = torch.empty(blocks * block, d + frame.digits, dtype=torch.int8)
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
    norm, residual = (each.view(blocks, block).amax(1) for each in (norms, residuals))
    inverse = 1 / steps.double()
    largest_norm = float(norm.max())
    # the score to beat is (|x'|^2 - key) / 2, or -key; less what float32 may have rounded
    gamma = (d + 16) * 2.0**-23
    if frame.metric_type == METRIC_L2:
        key, size, least = -0.5 - gamma, 0.5 - gamma, -gamma * largest_norm**2
    else:
        key, size, least = -1.0, -gamma * largest_norm, 0.0
    rounding = torch.full_like(inverse, -2)  # two units for that of the product with `terms`
    bounds = torch.stack(
        [key * inverse, size * inverse, (least - offsets) * inverse, -norm * inverse, -residual * inverse, rounding]
    )
    return CentroidCodes(centroids, codes.T.contiguous(), labels, places, steps, offsets, bounds, largest_norm)
