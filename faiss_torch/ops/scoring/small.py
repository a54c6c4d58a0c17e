"""Exact search of few stored rows, such as the centroids of inverted lists: in few operations.

In a call of one query or ten, an operation costs a few microseconds, whatever it computes. Very few pairs of a query
and a row are compared by the metric's definition. Otherwise all rows are scored, the best are verified, and
`verify.verified_topk` is asked only for the queries that are left uncertain.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import FLT_MAX, METRIC_INNER_PRODUCT
from ..runtime.scripted import scripted
from . import topk
from .bounds import margins
from .distances import METRICS, distance
from .scorers import Scorer, Visit, multiplies
from .stored import BLOCK, Stored
from .verify import SLACK, verified_topk

#: Up to this many factors in all pairs of a query and a row, they are compared by the metric's definition.
FEW_FACTORS = 1 << 16

#: Up to this many components of rows are compared by true distances where scores do not tell which are closer.
MOST_COMPARED = 1 << 21


def search_by_definition(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, metric_arg: float
) -> tuple[Tensor, Tensor]:
    """Compute all distances and sort them. Parameters and returns as in `flat.knn`; its ids are rows of the scan."""
    similarity = METRICS[metric_type].similarity
    keys = distance(xq[:, None], stored.part(0, n, exactly=True), metric_type, metric_arg)
    if similarity:
        keys = keys.neg_()
    # a bias of +inf, which takes a row out, becomes NaN; what is not closer than the filler is none either
    keys = keys.add_(stored.bias[:n], alpha=0).nan_to_num_(nan=FLT_MAX, posinf=FLT_MAX, neginf=float("-inf"))
    keys, ids = keys.sort(dim=1, stable=True)
    keys, ids = keys[:, :k], ids[:, :k]
    ids = ids.masked_fill(keys >= FLT_MAX, -1)
    return topk.pad(keys.neg() if similarity else keys, k, -FLT_MAX if similarity else FLT_MAX), topk.pad(ids, k, -1)


class SmallSet(NamedTuple):
    """Stored rows, so few that all of them are scored.

    Attributes
    ----------
    n : int
        Rows in use, the first ones.
    vectors : Tensor, float32, shape (capacity, d)
        Finite.
    bias : Tensor, float32, shape (capacity,)
    similarity : bool
        Whether they are compared by inner product, and not by L2 distance.
    largest_norm, largest_bias : float
        See `scoring.scorers.margin_of`.
    """

    n: int
    vectors: Tensor
    bias: Tensor
    similarity: bool
    largest_norm: float
    largest_bias: float


def small_set(stored: Stored, n: int, metric_type: int) -> SmallSet | None:
    """Return the first n rows of what is stored, or None where they cannot be scored as they are."""
    if stored.is_made_up or not multiplies(stored, metric_type):
        return None
    rows = -(-n // BLOCK) * BLOCK
    similarity, largest = metric_type == METRIC_INNER_PRODUCT, stored.largest_norm
    largest_bias = 0.0 if similarity else largest * largest / 2
    return SmallSet(n, stored.vectors[:rows], stored.bias[:rows], similarity, largest, largest_bias)


@scripted
def closest_by_score(
    xq: Tensor,
    scores: Tensor,
    small: SmallSet,
    k: int,
    factor: float,
    slack: int = SLACK,
    most_compared: int = MOST_COMPARED,
) -> tuple[Tensor, Tensor]:
    """Find which rows are the k closest, without their distances.

    Parameters
    ----------
    xq : Tensor, float32, shape (n, d)
    scores : Tensor, float32, shape (n, capacity)
        ``bias - xq @ vectors.T``.
    small : SmallSet
        Of more rows than k.
    k : int
    factor : float
        `scoring.scorers.margin_factor`.
    slack, most_compared
        The constants, which TorchScript sees as defaults.

    Returns
    -------
    columns : Tensor, int64, shape (n, k)
        In no particular order.
    certain : Tensor, bool, shape (n,)
        Whether no other row is as close; of queries that are not finite none is.
    """
    margin = margins(xq, small.largest_norm, small.largest_bias, factor)
    width = min(k + slack, small.n)
    best, columns = scores.topk(width, dim=1, largest=False)
    certain = best.select(1, k) - best.select(1, k - 1) > margin
    if bool(certain.all()):
        return columns.narrow(1, 0, k), certain
    again = certain.logical_not().nonzero().view(-1)
    if again.size(0) * width * xq.size(1) > most_compared:
        return columns.narrow(1, 0, k), certain
    # where the k-th is not certain, true distances tell which of the next ones are closer
    some = columns.index_select(0, again).clamp_(max=small.n - 1).sort(1)[0]  # of a NaN, unused rows may be the best
    x = small.vectors.index_select(0, some.view(-1)).view(again.size(0), width, -1)
    q = xq.index_select(0, again).unsqueeze(1)
    keys = x.mul_(q).sum(2).neg_() if small.similarity else x.sub_(q).square_().sum(2)
    nearest = keys.sort(dim=1, stable=True)[1][:, :k]
    columns = columns[:, :k].index_copy(0, again, some.gather(1, nearest))
    return columns, best[:, width - 1] - best[:, k - 1] > margin


@scripted
def closest_of_few(xq: Tensor, small: SmallSet, k: int, factor: float) -> tuple[Tensor, Tensor]:
    """As `closest_by_score`, for few queries, (n, d)."""
    return closest_by_score(xq, torch.addmm(small.bias, xq, small.vectors.t(), alpha=-1.0), small, k, factor)


@scripted
def scores_of_few(xq: Tensor, small: SmallSet) -> Tensor:
    """``bias - xq @ vectors.T``: float32, (n, capacity)."""
    if xq.size(0) == 1:
        return torch.addmv(small.bias, small.vectors, xq[0], alpha=-1.0).unsqueeze(0)
    return torch.addmm(small.bias, xq, small.vectors.t(), alpha=-1.0)


@scripted
def nearest_by_score(
    xq: Tensor, small: SmallSet, k: int, factor: float, slack: int = SLACK, largest: float = FLT_MAX
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Find the k closest rows and their distances, for few queries.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
    small : SmallSet
        Of more rows than k.
    k : int
    factor : float
        `scoring.scorers.margin_factor`.
    slack, largest
        The constants, which TorchScript sees as defaults.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    ids : Tensor, int64, shape (nq, k)
        The rows; ties go to the lowest one.
    certain : Tensor, bool, shape (nq,)
        Whether no other row is as close; of queries that are not finite none is.
    all_certain : bool
    """
    margin = margins(xq, small.largest_norm, small.largest_bias, factor)
    width = min(k + slack, small.n)
    best, columns = scores_of_few(xq, small).topk(width, dim=1, largest=False)
    some, by_row = columns.sort(1)
    hidden = best.gather(1, by_row).isinf()  # unused rows, and those that are not to be found
    some = some.clamp_(max=small.n - 1)  # of a NaN, unused rows may be the best
    x = small.vectors.index_select(0, some.view(-1)).view(xq.size(0), width, -1)
    q = xq.unsqueeze(1)
    keys = x.mul_(q).sum(2).neg_() if small.similarity else x.sub_(q).square_().sum(2)
    keys, order = keys.masked_fill_(hidden, largest).sort(dim=1, stable=True)
    keys = keys[:, :k].contiguous()
    gap = torch.full_like(margin, largest) if width == small.n else best.select(1, width - 1) - best.select(1, k - 1)
    certain = (gap > margin).logical_and_(keys.select(1, k - 1) < largest)
    ids = some.gather(1, order)[:, :k].contiguous()
    return keys.neg_() if small.similarity else keys, ids, certain, bool(certain.all())


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
    scores = scorer.tile(Visit(0, 0, rows, group))

    def verified(some: Tensor) -> tuple[Tensor, Tensor]:
        everything = torch.arange(rows, dtype=torch.int64, device=group.device)
        return verified_topk(scorer, group[some], scores[some], everything, None, k, similarity)

    if scorer.exact or k + SLACK >= rows:
        return verified(torch.arange(group.shape[0], dtype=torch.int64, device=group.device))
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
