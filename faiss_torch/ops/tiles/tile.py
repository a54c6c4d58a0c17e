"""Tiles: copies of stored vectors in an arithmetic that multiplies fast, and how far their scores are from the truth.

With x' = x - shift (and q' = q - shift for L2, where it changes no distance), the score of a stored vector is
``bias - <q', x'>``; the bias is |x'|^2 / 2 for L2 and 0 for the inner product. It has the order of the distance. Where
q~ and x~ are what the rounded queries and vectors stand for,

    score >= computed score - (|q' - q~| |x'| + |q~| |x' - x~|)

by Cauchy and Schwarz, and a bias that is rounded down or cut off only lowers the computed score, which the inequality
allows. A tile knows the largest |x'| and |x' - x~| of its rows, a query its own two norms. The few rows of a tile whose
residual would spoil it for all are left out of it and named in `always`: every query that looks at the tile has to look
at them.

``tiles.int8`` and ``tiles.bf16`` are two texts of one concept: ``make_tile`` and ``encode_queries``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ...constants import METRIC_L2
from ..scoring import bounds

#: Rows of a tile come in multiples of this, for which a processor has whole registers.
MULTIPLE = 64

#: A row is left out of its tile when its largest component exceeds this many times the median of the rows' largest.
OUTLYING = 2.0

#: Vectors count for the shift whose largest component is up to so many times the median of those of all.
USUAL = 8.0


class Frame(NamedTuple):
    """What all tiles of one storage, and the queries, have in common.

    Attributes
    ----------
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    shift : Tensor, float32, shape (d,)
    size : float
        The largest component of a typical vector, less the shift.
    """

    metric_type: int
    shift: Tensor
    size: float

    @property
    def d(self) -> int:
        return len(self.shift)

    @property
    def rounding(self) -> float:
        """A bound of the relative error of a float32 sum of d products, of their factors, and of what follows."""
        return (self.d + 16) * 2.0**-23


class Tile(NamedTuple):
    """Some stored rows in an arithmetic.

    Attributes
    ----------
    codes : Tensor, shape (width, columns)
        One stored row a column. Columns that are not used have a large score.
    bias : Tensor, float32, shape (columns,), or None
        What is added to a product, where the codes do not hold it.
    step, offset : float
        A score is ``computed * step * (the query's step) + offset``.
    norm, residual : float
        Upper bounds of |x'| and |x' - x~|.
    always : Tensor, int64, or None
        Rows that are not in the tile.
    """

    codes: Tensor
    bias: Tensor | None
    step: float
    offset: float
    norm: float
    residual: float
    always: Tensor | None


class Queries(NamedTuple):
    """Queries in an arithmetic.

    Attributes
    ----------
    codes : Tensor, shape (nq, width)
    steps, norms, residuals : Tensor, float32, shape (nq,)
        Step, and upper bounds of |q~| and |q' - q~|.
    """

    codes: Tensor
    steps: Tensor
    norms: Tensor
    residuals: Tensor


class Centred(NamedTuple):
    """Stored rows less the shift, without those that would spoil the tile.

    Attributes
    ----------
    x : Tensor, float32, shape (n, d)
        Zero where a row is left out.
    largest : float
        The largest component.
    squares : Tensor, float32, shape (n,)
    always : Tensor, int64, or None
    """

    x: Tensor
    largest: float
    squares: Tensor
    always: Tensor | None


def make_frame(sample: Tensor, metric_type: int) -> Frame:
    """Choose a frame for vectors like a sample: float32, (n, d), finite, n at least 1."""
    largest = sample.abs().amax(1)
    usual = largest <= USUAL * largest.median()  # a row that is much larger would be most of the mean
    shift = sample[usual].mean(0)
    return Frame(metric_type, shift, float((sample - shift).abs().amax(1).median()))


def centred(frame: Frame, vectors: Tensor) -> Centred:
    """Take the shift from stored rows, and out the few that are much larger than the others."""
    x = vectors - frame.shift
    largest = x.abs().amax(1)
    limit = OUTLYING * float(largest.median())
    always = None
    if float(largest.max()) > limit:
        outlying = (largest > limit).nonzero().view(-1)
        if len(outlying) <= len(x) // 8:
            always = outlying
            x[always] = 0.0
            largest[always] = 0.0
    return Centred(x, float(largest.max()), x.square().sum(1), always)


def framed_queries(frame: Frame, xq: Tensor) -> Tensor:
    """Return q': queries less the shift for L2, and as they are for the inner product."""
    return xq - frame.shift if frame.metric_type == METRIC_L2 else xq


def columns_for(n: int) -> int:
    """Columns of a tile of n rows."""
    return -(-n // MULTIPLE) * MULTIPLE


def largest_scores(frame: Frame, xq: Tensor, largest_norm: float, distances: Tensor) -> Tensor:
    """Return what the scores of rows at these true distances are at most.

    Parameters
    ----------
    frame : Frame
    xq : Tensor, float32, shape (n, d)
    largest_norm : float
        An upper bound of the stored vectors' norms.
    distances : Tensor, float32, shape (n,)
        Computed in float32, in the metric's own sign.
    """
    similarity = frame.metric_type != METRIC_L2
    return bounds.largest_scores(xq, frame.shift, distances, largest_norm, frame.rounding, similarity)
