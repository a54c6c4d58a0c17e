"""Scalar quantisation: each component of a vector by itself, in few bits, as faiss computes it.

A component in a range [vmin, vmin + vdiff] becomes one of 2 ** bits integers; an integer c stands for the middle of its
part of the range, ``vmin + (c + 1/2) / (2 ** bits - 1) * vdiff``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: faiss's numbers of the ways to choose a range.
RS_MINMAX, RS_MEANSTD, RS_QUANTILES, RS_OPTIM = range(4)

#: Steps of the search for the best range, at most, and how many of them may change nothing.
MOST_STEPS, STEPS_WITHOUT_CHANGE = 2000, 16


def encode(x: Tensor, vmin: Tensor, vdiff: Tensor, levels: int) -> Tensor:
    """Quantise vectors.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
        What is beyond the range is cut to it; NaN becomes 0.
    vmin, vdiff : Tensor, float32, shape (d,) or (1,)
    levels : int
        The largest integer.

    Returns
    -------
    Tensor, uint8, shape (n, d)
    """
    share = x.sub(vmin).div_(vdiff).masked_fill_(vdiff == 0, 0.0).nan_to_num_(nan=0.0).clamp_(0.0, 1.0)
    if levels == 255:
        return share.mul_(255.0).to(torch.uint8)
    # faiss multiplies these by a double; an integer of few bits times a float32 has no more bits than that
    return share.to(torch.float64).mul_(levels).to(torch.uint8)


def decode(integers: Tensor, vmin: Tensor, vdiff: Tensor, levels: int) -> Tensor:
    """Return what integers stand for, to the bit as faiss: uint8, (n, d) -> float32, (n, d).

    Of widths that are multiples of 8 faiss computes with one rounding, of others with two.
    """
    share = integers.to(torch.float32).add_(0.5).div_(levels)
    if integers.shape[1] % 8:
        return share.mul_(vdiff).add_(vmin)
    return share.to(torch.float64).mul_(vdiff).add_(vmin).to(torch.float32)


def halves(x: Tensor) -> Tensor:
    """Round to float16 as faiss does: of two that are equally near, to the larger in magnitude."""
    rounded = x.to(torch.float16)
    following = (rounded.view(torch.int16) + 1).view(torch.float16)
    twice = rounded.to(torch.float32).add_(following)
    return torch.where((twice == 2 * x) & rounded.isfinite(), following, rounded)


def brain_floats(x: Tensor) -> Tensor:
    """Round to bfloat16 as faiss does: of two that are equally near, to the larger in magnitude."""
    upper = (x.contiguous().view(torch.int32) + 0x8000).bitwise_right_shift_(16)
    return torch.where(x.isnan(), x.to(torch.bfloat16), upper.to(torch.int16).view(torch.bfloat16))


def steps_of(vmin: Tensor, vdiff: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return the scale and the offset by which an integer becomes a component, but for rounding."""
    scale = vdiff / levels
    return scale, vmin + 0.5 * scale


def range_of_all(x: Tensor, rangestat: int, rangestat_arg: float, levels: int) -> tuple[float, float]:
    """Choose one range for all components: vmin and vdiff. See `range_of` for the parameters."""
    if rangestat != RS_MINMAX:
        return range_of(x.reshape(-1).cpu().numpy(), rangestat, rangestat_arg, levels)
    least, most = torch.aminmax(x)
    return _widened(np.float32(least.item()), np.float32(most.item()), rangestat_arg)


def ranges_of_components(x: Tensor, rangestat: int, rangestat_arg: float, levels: int) -> tuple[Tensor, Tensor]:
    """Choose a range for each component: vmin and vdiff, float32, (d,). See `range_of` for the parameters."""
    if rangestat == RS_MINMAX:
        least, most = x.amin(0), x.amax(0)
        more = (most - least) * rangestat_arg
        least, most = least - more, most + more
        return least, most - least
    values = x.cpu().numpy()
    ranges = np.empty((2, x.shape[1]), np.float32)
    for i in range(x.shape[1]):
        component = values[:, i].copy()
        component[0] = 0  # faiss leaves the first vector out
        ranges[:, i] = range_of(component, rangestat, rangestat_arg, levels)
    vmin, vdiff = torch.from_numpy(ranges).to(x.device)
    return vmin, vdiff


def _widened(least: np.float32, most: np.float32, share: float) -> tuple[float, float]:
    more = np.float32(most - least) * np.float32(share)
    least, most = np.float32(least - more), np.float32(most + more)
    return float(least), float(np.float32(most - least))


def range_of(x: np.ndarray, rangestat: int, rangestat_arg: float, levels: int) -> tuple[float, float]:
    """Choose a range for values, in faiss's arithmetic and order.

    Parameters
    ----------
    x : numpy.ndarray, float32, shape (n,)
    rangestat : int
        ``RS_minmax``: from the smallest to the largest, wider by a share of that at both ends. ``RS_meanstd``: so many
        standard deviations around the mean. ``RS_quantiles``: between two quantiles. ``RS_optim``: the one with the
        smallest squared error, by steps from the smallest and the largest.
    rangestat_arg : float
    levels : int
        The largest integer.

    Returns
    -------
    vmin, vdiff : float

    Raises
    ------
    RuntimeError
        If there is no such way to choose.
    """
    n, argument = len(x), np.float32(rangestat_arg)
    if rangestat == RS_MINMAX:
        return _widened(x.min(), x.max(), rangestat_arg)
    if rangestat == RS_MEANSTD:
        total, squares = (np.cumsum(values, dtype=np.float64)[-1] for values in (x, x * x))
        mean = np.float32(total / n)
        variance = np.float32(squares / n - float(mean * mean))
        deviation = np.float32(1.0) if variance <= 0 else np.sqrt(variance)
        vmin, vmax = mean - deviation * argument, mean + deviation * argument
    elif rangestat == RS_QUANTILES:
        place = max(0, int(argument * np.float32(n)))
        place = n // 2 if place > n - place else place
        ordered = np.partition(x, (place, n - 1 - place))
        vmin, vmax = ordered[place], ordered[n - 1 - place]
    elif rangestat == RS_OPTIM:
        vmin, vmax = _best_range(x, levels)
    else:
        raise RuntimeError(f"rangestat is {rangestat}, expected one of the RS_ numbers")
    return float(vmin), float(np.float32(vmax - vmin))


def _best_range(x: np.ndarray, levels: int) -> tuple[np.float32, np.float32]:
    """Alternate between integers and the line through them, in float32 sums one value after the other."""

    def total(values: np.ndarray) -> np.float32:
        return np.cumsum(values, dtype=np.float32)[-1]

    n = np.float32(len(x))
    offset, step = x.min(), (x.max() - x.min()) / np.float32(levels)
    sum_x, last_error, unchanged = total(x), np.float32(-1), 0
    for _ in range(MOST_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):
            integers = np.floor(((x - offset) / step).astype(np.float64) + 0.5).astype(np.float32)
        integers = np.clip(np.nan_to_num(integers), 0, levels).astype(np.float32)
        error = total(np.square(x - (integers * step + offset)))
        unchanged = unchanged + 1 if error == last_error else 0
        if unchanged == STEPS_WITHOUT_CHANGE:
            break
        last_error = error
        sum_n, sum_nn, sum_nx = total(integers), total(integers * integers), total(integers * x)
        with np.errstate(divide="ignore", invalid="ignore"):
            determinant = sum_n * sum_n - sum_nn * n
            offset = (sum_n * sum_nx - sum_nn * sum_x) / determinant
            step = (sum_n * sum_x - n * sum_nx) / determinant
    return offset, offset + step * np.float32(levels)
