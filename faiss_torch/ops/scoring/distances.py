"""The eleven metrics, each defined once: faiss's formulas on broadcast tensors.

Source of the definitions: faiss ``utils/extra_distances.h`` and ``utils/distances.cpp``. Where faiss's result is
not a number (0/0 in Canberra, a missing value), so is ours: such a vector is never a neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ... import constants
from ...threads import omp_get_max_threads
from ..runtime import chunks, workers


def _l2(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return (x - y).square_().sum(-1)


def _inner_product(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return (x * y).sum(-1)


def _l1(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return (x - y).abs_().sum(-1)


def _linf(x: Tensor, y: Tensor, arg: float) -> Tensor:
    # faiss takes fmax, which passes over NaN
    return (x - y).abs_().nan_to_num_(nan=0.0, posinf=float("inf")).amax(-1)


def _lp(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return (x - y).abs_().pow_(arg).sum(-1)


def _canberra(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return ((x - y).abs_() / (x.abs() + y.abs())).sum(-1)


def _bray_curtis(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return (x - y).abs_().sum(-1) / (x + y).abs_().sum(-1)


def _jensen_shannon(x: Tensor, y: Tensor, arg: float) -> Tensor:
    middle = 0.5 * (x + y)
    return 0.5 * (-x * (middle / x).log_() - y * (middle / y).log_()).sum(-1)


def _jaccard(x: Tensor, y: Tensor, arg: float) -> Tensor:
    return torch.fmin(x, y).sum(-1) / torch.fmax(x, y).sum(-1)


def _nan_euclidean(x: Tensor, y: Tensor, arg: float) -> Tensor:
    difference = x - y
    present = ~(x.isnan() | y.isnan())
    count = present.sum(-1, dtype=x.dtype)
    total = torch.where(present, difference, 0.0).square_().sum(-1)
    # no dimension present: 0 / 0 * d is NaN, as in faiss
    return (difference.shape[-1] / count) * total


def _gower(x: Tensor, y: Tensor, arg: float) -> Tensor:
    present = ~(x.isnan() | y.isnan())
    numeric = (x >= 0) & (y >= 0)
    categorical = (x < 0) & (y < 0)
    invalid = present & ((numeric & ((x > 1) | (y > 1))) | ~(numeric | categorical))
    term = torch.where(numeric, (x - y).abs(), (x != y).to(x.dtype))
    mean = torch.where(present, term, 0.0).sum(-1) / present.sum(-1)
    return mean.masked_fill(invalid.any(-1), float("nan"))


class Metric(NamedTuple):
    """One row of `METRICS`.

    Attributes
    ----------
    similarity : bool
        Whether larger is closer.
    distance : callable
        ``distance(x, y, metric_arg)`` over the last dimension of two broadcastable tensors.
    temporaries : int
        How many tensors of the broadcast shape are alive at once, for the memory budget.
    """

    similarity: bool
    distance: Callable[[Tensor, Tensor, float], Tensor]
    temporaries: int


METRICS = {
    constants.METRIC_INNER_PRODUCT: Metric(True, _inner_product, 1),
    constants.METRIC_L2: Metric(False, _l2, 1),
    constants.METRIC_L1: Metric(False, _l1, 1),
    constants.METRIC_Linf: Metric(False, _linf, 1),
    constants.METRIC_Lp: Metric(False, _lp, 1),
    constants.METRIC_Canberra: Metric(False, _canberra, 3),
    constants.METRIC_BrayCurtis: Metric(False, _bray_curtis, 2),
    constants.METRIC_JensenShannon: Metric(False, _jensen_shannon, 4),
    constants.METRIC_Jaccard: Metric(True, _jaccard, 2),
    constants.METRIC_NaNEuclidean: Metric(False, _nan_euclidean, 4),
    constants.METRIC_GOWER: Metric(False, _gower, 6),
}


def distance(x: Tensor, y: Tensor, metric_type: int, metric_arg: float = 0.0) -> Tensor:
    """Distance between broadcast rows, over the last dimension.

    Parameters
    ----------
    x, y : Tensor, float32, shapes (..., d)
        Broadcast against each other: the caller cuts them to a memory budget (see `temporary_bytes`).
    metric_type : int
        One of the ``METRIC_*`` numbers.
    metric_arg : float
        The p of METRIC_Lp.

    Returns
    -------
    Tensor, float32, shape (...)
        Squared for L2 and NaNEuclidean.
    """
    return METRICS[metric_type].distance(x, y, metric_arg)


def temporary_bytes(d: int, metric_type: int) -> int:
    """Bytes of temporaries that one pair of vectors costs in `distance`."""
    return 4 * d * METRICS[metric_type].temporaries


def pairwise(xq: Tensor, xb: Tensor, metric_type: int, metric_arg: float = 0.0, out: Tensor | None = None) -> Tensor:
    """All distances between two sets of vectors.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
    xb : Tensor, float32, shape (nb, d)
    out : Tensor, optional, shape (nq, nb)
        Where to put the result.

    Returns
    -------
    Tensor, float32, shape (nq, nb)
        For L2 and inner product by matrix product, as in faiss (L2 then has the rounding of |x|^2 + |y|^2 - 2<x, y>,
        cut at zero).
    """
    if out is None:
        out = xq.new_empty(len(xq), len(xb))
    if metric_type in (constants.METRIC_INNER_PRODUCT, constants.METRIC_L2):
        columns, rows = len(xb), chunks.rows_within(4 * len(xb))
    else:
        columns = min(len(xb), chunks.rows_within(temporary_bytes(xq.shape[1], metric_type)))
        rows = chunks.rows_within(columns * temporary_bytes(xq.shape[1], metric_type))
    norms = xb.square().sum(-1) if metric_type == constants.METRIC_L2 else None

    def part(q: slice) -> None:
        if metric_type == constants.METRIC_INNER_PRODUCT:
            torch.mm(xq[q], xb.T, out=out[q])
        elif norms is not None:
            torch.addmm(norms, xq[q], xb.T, alpha=-2, out=out[q])
            out[q].add_(xq[q].square().sum(-1, keepdim=True)).clamp_(min=0)
        else:
            for b in chunks.slices(len(xb), max(1, columns)):
                out[q, b] = distance(xq[q, None], xb[None, b], metric_type, metric_arg)

    threads = omp_get_max_threads() if xq.device.type == "cpu" else 1
    step = max(1, min(rows, -(-len(xq) // threads)))
    workers.map_over_workers(part, chunks.slices(len(xq), step), threads)
    return out
