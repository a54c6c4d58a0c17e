"""Exact search of few stored rows, such as the centroids of inverted lists: in few operations.

In a call of one query or ten, an operation costs a few microseconds, whatever it computes. Very few pairs of a query
and a row are compared by the metric's definition. Otherwise all rows are scored, the best are verified, and
`verify.verified_topk` is asked only for the queries that are left uncertain.
"""

import torch
from torch import Tensor

from ..constants import FLT_MAX
from . import topk
from .distances import METRICS, distance
from .screen import Scorer, Stored
from .scripted import scripted
from .verify import SLACK, verified_topk

#: Up to this many factors in all pairs of a query and a row, they are compared by the metric's definition.
FEW_FACTORS = 1 << 17


def search_by_definition(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, metric_arg: float
) -> tuple[Tensor, Tensor]:
    """Compute all distances and sort them. Parameters and returns as in `flat.knn`; its ids are rows of the scan."""
    similarity = METRICS[metric_type].similarity
    keys = distance(xq[:, None], stored.part(0, n), metric_type, metric_arg)
    if similarity:
        keys = keys.neg_()
    # a bias of +inf, which takes a row out, becomes NaN; what is not closer than the filler is none either
    keys = keys.add_(stored.bias[:n], alpha=0).nan_to_num_(nan=FLT_MAX, posinf=FLT_MAX, neginf=float("-inf"))
    keys, ids = keys.sort(dim=1, stable=True)
    keys, ids = keys[:, :k], ids[:, :k]
    ids = ids.masked_fill(keys >= FLT_MAX, -1)
    return topk.pad(keys.neg() if similarity else keys, k, -FLT_MAX if similarity else FLT_MAX), topk.pad(ids, k, -1)


@scripted
def _closest_by_score(scores: Tensor, margin: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best, columns = scores.topk(k + 1, dim=1, largest=False)
    return columns[:, :k], best[:, k] - best[:, k - 1] > margin


def closest_by_score(scorer: Scorer, group: Tensor, rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Find which rows are the k closest, without their distances.

    Parameters
    ----------
    scorer, group, rows, k
        As for `search_all`; k is less than the number of rows that can be found.

    Returns
    -------
    columns : Tensor, int64, shape (n, k)
        By their scores: which of them is closer is not certain.
    certain : Tensor, bool, shape (n,)
        Whether no other row is as close.
    """
    return _closest_by_score(scorer.tile(0, rows, group), scorer.margin.index_select(0, group), k)


def search_all(scorer: Scorer, group: Tensor, rows: int, k: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Score every row and select.

    Parameters
    ----------
    scorer : Scorer
    group : Tensor, int64, shape (n,)
        The queries.
    rows : int
        The rows of the scan.
    k : int
    similarity : bool

    Returns
    -------
    distances, ids
        As `verify.verified_topk`, where the row is the id.
    """
    scores = scorer.tile(0, rows, group)

    def verified(some: Tensor) -> tuple[Tensor, Tensor]:
        everything = torch.arange(rows, device=group.device)
        return verified_topk(scorer, group[some], scores[some], everything, None, k, similarity)

    if k + SLACK >= rows:
        return verified(torch.arange(group.shape[0], device=group.device))
    best, columns = scores.topk(k + SLACK, dim=1, largest=False)
    positions = columns.sort(dim=1).values  # of equal distances the sort below leaves the lowest id in front
    keys = scorer.distances(group, positions)
    keys, order = (keys.neg_() if similarity else keys).sort(dim=1, stable=True)
    keys, ids = keys[:, :k], positions.gather(1, order)[:, :k]
    # all that is within the margin of the k-th best must be among them, and they must be k results at least; a row
    # that is not to be found, whose score is +inf, leaves its query to `verified_topk`
    last = best[:, -1].nan_to_num(posinf=float("-inf"))
    certain = (best[:, k - 1] + scorer.margin.index_select(0, group) < last) & (keys[:, -1] < FLT_MAX)
    distances = keys.neg() if similarity else keys
    if not bool(certain.all()):
        again = (~certain).nonzero().view(-1)
        distances[again], ids[again] = verified(again)
    return distances, ids
