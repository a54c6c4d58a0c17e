"""Tiles in int8: one integer product a tile, which is exact.

A tile has one step size, a query its own. The bias goes through the product too, as a sum of digits behind the
components, which a query weighs all the same::

    a row    [-x' / step                  | digits of B ]   B = (bias - offset) / (ratio * step), rounded down
    a query  [ q' / (step of the query)   | f  f  ...  f]   f = ratio / (step of the query), an integer

so that ``computed * step * (step of the query) + offset`` is the score, but for rounding.
"""

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ..runtime.scripted import scripted
from .tile import Frame, Queries, Tile, centred, columns_for, framed_queries

#: The largest code: -128 is not used.
LARGEST = 127

#: The weight of the digits in a query as large as the frame's typical vector: its step can then be chosen to 1 %.
TYPICAL_WEIGHT = 100


def ratio_of(frame: Frame) -> float:
    """Step of the bias, as a multiple of a tile's step."""
    return max(frame.size, 1e-30) / LARGEST * TYPICAL_WEIGHT


def digits_of(frame: Frame) -> int:
    """Digits of the bias: the spread of the biases, in steps, grows with the root of d; products go by fours."""
    digits = 8 * max(1, round(frame.d**0.5 / 12))
    return digits + -(frame.d + digits) % 4


def make_tile(frame: Frame, vectors: Tensor) -> Tile:
    """Round stored rows: float32, (n, d), finite, n at least 1."""
    n, d = vectors.shape
    rows = centred(frame, vectors)
    step = max(rows.largest / LARGEST, 1e-30)
    rounded = (rows.x * (-1.0 / step)).round_().clamp_(-LARGEST, LARGEST)
    residual = float(torch.add(rows.x, rounded, alpha=step).square_().sum(1).amax()) ** 0.5
    digits = digits_of(frame)
    codes = torch.zeros(d + digits, columns_for(n), dtype=torch.int8, device="cpu")
    codes[:d, :n] = rounded.T
    codes[d:, n:] = LARGEST
    offset = 0.0
    if frame.metric_type == METRIC_L2:
        bias = rows.squares * 0.5
        unit = ratio_of(frame) * step
        offset = float(bias.min()) + LARGEST * digits * unit
        # a bit less, so that rounding to float32 does not put one on the next integer
        codes[d:, :n] = in_digits(((bias - offset) / unit).sub_(0.01).floor_(), digits)
    if rows.always is not None:
        codes[d:, rows.always] = LARGEST
    return Tile(codes, None, step, offset, float(rows.squares.max()) ** 0.5, residual, rows.always)


def in_digits(values: Tensor, digits: int) -> Tensor:
    """Write integers as sums of digits from -127 to 127: float32 (n,) -> (digits, n); larger ones are cut off."""
    values = values.clamp_(-LARGEST * digits, LARGEST * digits)
    each = torch.div(values, digits, rounding_mode="floor")
    rest = values - each * digits
    return each + (torch.arange(digits, dtype=torch.int64, device="cpu")[:, None] < rest)


def encode_queries(frame: Frame, xq: Tensor) -> Queries:
    """Round queries: float32, (nq, d), finite."""
    return Queries(*encoded(framed_queries(frame, xq), ratio_of(frame), digits_of(frame)))


@scripted
def encoded(x: Tensor, ratio: float, digits: int, largest: int = LARGEST) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Round framed queries, given what `ratio_of` and `digits_of` a frame are: the fields of `tiles.tile.Queries`."""
    weights = (ratio * largest / x.abs().amax(1, keepdim=True).clamp_(min=1e-30 * largest)).floor_().clamp_(1, largest)
    steps = ratio / weights
    rounded = (x / steps).round_().clamp_(-largest, largest)
    codes = torch.cat([rounded, weights.expand(-1, digits)], 1).to(torch.int8)
    rounded *= steps
    norms = torch.linalg.vector_norm(rounded, dim=1)
    return codes, steps.view(-1), norms, torch.linalg.vector_norm(rounded.sub_(x), dim=1)
