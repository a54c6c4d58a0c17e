"""The closest centroid of vectors for which float32 leaves several: in float64, and ties go to the lowest id."""

from __future__ import annotations

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ..runtime import chunks

#: Up to this many differences, the comparison takes all of them at once.
FEW_DIFFERENCES = 1 << 18

#: Bytes of float64 scores that are alive at a time.
DOUBLE_BYTES = 16 << 20


def nearest_in_double(x: Tensor, centroids: Tensor, metric_type: int) -> Tensor:
    """Return the labels of the best float64 scores.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    centroids : Tensor, float32, float16 or bfloat16, shape (k, d)
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    Tensor, int64, shape (n,)
        The lowest id among the best that rounding cannot tell apart, and -1 where no score is finite (+inf is good
        enough for the inner product).
    """
    device = x.device
    if device.type == "mps":  # has no float64
        x, centroids = x.cpu(), centroids.cpu()
    k, d = centroids.shape
    if x.numel() * k <= FEW_DIFFERENCES:
        return _by_definition(x, centroids, metric_type).to(device)
    wide = centroids.double()
    shift = torch.zeros_like(wide[0])
    if metric_type == METRIC_L2:  # data far from the origin would lose digits in the products
        mean = wide.mean(0)
        shift = mean.masked_fill(~mean.isfinite(), 0.0)
        wide -= shift
    halves = wide.square().sum(1).mul_(0.5) if metric_type == METRIC_L2 else torch.zeros_like(wide[:, 0])
    ids = torch.arange(k, dtype=torch.int64, device=x.device)
    labels = torch.empty(len(x), dtype=torch.int64, device=x.device)
    norms = torch.linalg.vector_norm(wide, dim=1)
    for rows in chunks.slices(len(x), chunks.rows_within(8 * k, DOUBLE_BYTES)):
        part = x[rows].double() - shift
        scores = torch.addmm(-halves, part, wide.T)
        refused = ~scores.isfinite() if metric_type == METRIC_L2 else ~(scores > float("-inf"))
        scores.masked_fill_(refused, float("-inf"))
        margins = torch.outer(torch.linalg.vector_norm(part, dim=1), norms).add_(halves)
        margins.mul_((d + 4) * 2.0**-53).nan_to_num_(nan=0.0, posinf=0.0)
        least = (scores - margins).amax(1, keepdim=True)
        near = (scores + margins >= least) & (scores > float("-inf"))
        found = torch.where(near, ids, k).amin(1)
        several = ((near.sum(1) > 1) & (least[:, 0] < float("inf"))).nonzero().view(-1)
        if len(several):
            number, others = near[several].nonzero(as_tuple=True)
            found[several] = best_of_pairs(x[rows][several], centroids, number, others, metric_type)
        labels[rows] = found.masked_fill_(found == k, -1)
    return labels.to(device)


def _by_definition(x: Tensor, centroids: Tensor, metric_type: int) -> Tensor:
    """Do what `nearest_in_double` does from all differences, or products, in float64: for very few vectors."""
    k, d = centroids.shape
    wide = x.double()[:, None]
    keys = (wide - centroids).square_().sum(-1) if metric_type == METRIC_L2 else -(wide * centroids).sum(-1)
    refused = ~keys.isfinite() if metric_type == METRIC_L2 else ~(keys < float("inf"))
    keys = keys.masked_fill_(refused, float("inf"))
    best = keys.amin(1, keepdim=True)
    # of products, the terms may be larger than their sum
    size = best if metric_type == METRIC_L2 else (wide * centroids).abs_().sum(-1).amax(1, keepdim=True)
    margin = (size * (2 * (d + 4) * 2.0**-53)).nan_to_num_(posinf=0.0)
    found = torch.where(keys <= best + margin, torch.arange(k, dtype=torch.int64, device=x.device), k).amin(1)
    return found.masked_fill(best[:, 0] == float("inf"), -1)


def best_of_pairs(x: Tensor, centroids: Tensor, rows: Tensor, labels: Tensor, metric_type: int) -> Tensor:
    """Return the best of some centroids for each vector.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    centroids : Tensor, float32, float16 or bfloat16, shape (k, d)
        Those compared are finite, as `x`.
    rows, labels : Tensor, int64, shape (pairs,)
        Which vector is compared with which centroid; there is a pair of every vector.
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    Tensor, int64, shape (n,)
        As `nearest_in_double`.
    """
    d = x.shape[1]
    keys = torch.empty(len(rows), dtype=torch.float64, device=x.device)
    sizes = keys if metric_type == METRIC_L2 else torch.empty_like(keys)
    for part in chunks.slices(len(rows), chunks.rows_within(16 * d, DOUBLE_BYTES)):
        vectors, others = x[rows[part]].double(), centroids[labels[part]].double()
        if metric_type == METRIC_L2:
            keys[part] = vectors.sub_(others).square_().sum(1)
        else:
            keys[part] = vectors.mul_(others).sum(1).neg_()
            sizes[part] = vectors.abs_().sum(1)
    best = keys.new_full((len(x),), float("inf")).scatter_reduce_(0, rows, keys, "amin")
    size = torch.zeros_like(best).scatter_reduce_(0, rows, sizes, "amax")
    most = best + size * (2 * (d + 4) * 2.0**-53)
    near = torch.where(keys <= most[rows], labels, len(centroids))
    return labels.new_full((len(x),), len(centroids)).scatter_reduce_(0, rows, near, "amin")
