"""Scores of rows that are differences to the centroids of their lists.

With x = c + r the squared distance is ``|q - c - r|^2``. So the score of a row, ``|r|^2 / 2 - <q - c, r> +
|q - c|^2 / 2``, takes of its list one vector and one number for each query, and a row's bias does not depend on its
list. For the inner product it is ``-<q, r> - <q, c>``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..runtime import chunks
from .scorers import MetricScorer, ProductScorer, Scorer, Visit, decoding_factor, margin_factor, multiplies
from .stored import Lists, Stored, rows_to_gather


class Residuals(NamedTuple):
    """What stored rows are differences to.

    Attributes
    ----------
    centroids : Tensor, float32, shape (nlist, d)
    begins : Tensor, int64, shape (n,)
        Where the lists that hold something begin, ascending.
    list_nos : Tensor, int64, shape (n,)
        Their numbers.
    largest_norm : float
        An upper bound of the centroids' norms.
    """

    centroids: Tensor
    begins: Tensor
    list_nos: Tensor
    largest_norm: float

    @staticmethod
    def of(centroids: Tensor, lists: Lists) -> Residuals:
        """Those of the rows of lists."""
        held = lists.sizes.nonzero().view(-1)
        begins, order = lists.begins[held].sort()
        device = centroids.device
        largest = float(torch.linalg.vector_norm(centroids, dim=1).max()) if len(centroids) else 0.0
        return Residuals(centroids, begins.to(device), held[order].to(device), largest)

    def at(self, positions: Tensor) -> Tensor:
        """The centroids of the lists that rows are in: int64, (...) -> float32, (..., d)."""
        if not len(self.begins):
            return self.centroids.new_zeros(*positions.shape, self.centroids.shape[1])
        places = torch.searchsorted(self.begins, positions.reshape(-1), right=True).sub_(1).clamp_(min=0)
        found = self.centroids.index_select(0, self.list_nos[places])
        return found.view(*positions.shape, found.shape[1])


class ResidualScorer(ProductScorer):
    """L2 and inner product of differences, by matrix product. Parameters as of `ProductScorer`, and `residuals`."""

    by_products = False

    def __init__(self, xq: Tensor, stored: Stored, residuals: Residuals, metric_type: int) -> None:
        super().__init__(xq, stored, metric_type)
        self.residuals = residuals
        norms = torch.linalg.vector_norm(xq, dim=1)
        largest, factor = stored.largest_norm, margin_factor(xq.shape[1], xq.device) * decoding_factor(xq.shape[1])
        if metric_type == METRIC_L2:
            reach = norms + residuals.largest_norm
            self.margin = (reach * largest + (largest * largest + reach * reach) / 2) * factor
        else:
            self.margin = norms * (largest + residuals.largest_norm) * factor

    def _of_list(self, visit: Visit) -> tuple[Tensor, Tensor]:
        """What a list's rows are multiplied with, (group, d), and what is added to all scores of a query, (group,)."""
        group, centroid = self.xq.index_select(0, visit.queries), self.residuals.centroids[visit.list_no]
        if self.metric_type == METRIC_INNER_PRODUCT:
            return group, (group @ centroid).neg_()
        group = group.sub_(centroid)
        return group, group.square().sum(1).mul_(0.5)

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        _, begin, end, queries = visit
        out = buffer[: visit.rows * len(queries)].view(visit.rows, len(queries))
        group, constant = self._of_list(visit)
        torch.addmm(self.bias[begin:end, None], self.stored.part(begin, end), group.T, alpha=-1, out=out)
        return out.add_(constant)

    def tile(self, visit: Visit) -> Tensor:
        return self.block(visit, self.xq.new_empty(visit.rows * len(visit.queries))).T

    def _rows_of(self, visit: Visit, out: Tensor) -> None:
        group, constant = self._of_list(visit)
        for part in chunks.slices(visit.rows, rows_to_gather(4 * self.xq.shape[1], self.xq.device)):
            first, last = visit.begin + part.start, visit.begin + part.stop
            torch.addmv(self.bias[first:last], self.stored.part(first, last), group[0], alpha=-1, out=out[part])
        out.add_(constant)

    def gathered(self, queries: Tensor, positions: Tensor) -> Tensor:
        # +inf where the bias is: a row that is not to be found
        scores = self.distances(queries, positions)
        scores = scores.neg_() if self.metric_type == METRIC_INNER_PRODUCT else scores.mul_(0.5)
        return scores.masked_fill_(self.bias[positions].isinf(), float("inf"))

    def distances(self, queries: Tensor, positions: Tensor) -> Tensor:
        out = self.xq.new_empty(positions.shape)
        step = rows_to_gather(8 * self.xq.shape[1] * max(1, positions.shape[1]), self.xq.device)
        for rows in chunks.slices(len(queries), step):
            x = self.stored.at(positions[rows])
            q = self.xq.index_select(0, queries[rows])[:, None]
            centroids = self.residuals.at(positions[rows])
            if self.metric_type == METRIC_INNER_PRODUCT:
                out[rows] = x.add_(centroids).mul_(q).sum(-1)
            else:
                out[rows] = (q - centroids).sub_(x).square_().sum(-1)
        return out

    def score_of(self, radius: float) -> Tensor:
        if self.metric_type == METRIC_INNER_PRODUCT:
            return self.xq.new_full((self.nq,), -radius)
        return self.xq.new_full((self.nq,), radius / 2)

    def of_queries(self, queries: Tensor) -> ResidualScorer:
        return ResidualScorer(self.xq.index_select(0, queries), self.stored, self.residuals, self.metric_type)


class ResidualMetricScorer(MetricScorer):
    """Any metric, and any data, by its definition, of differences: parameters as of `MetricScorer`, and `residuals`."""

    def __init__(
        self, xq: Tensor, stored: Stored, residuals: Residuals, metric_type: int, metric_arg: float = 0.0
    ) -> None:
        super().__init__(xq, stored, metric_type, metric_arg)
        self.residuals = residuals

    def _rows(self, list_no: int, begin: int, end: int) -> Tensor:
        return self.stored.part(begin, end, exactly=True).add(self.residuals.centroids[list_no])

    def _rows_at(self, positions: Tensor) -> Tensor:
        return self.stored.at(positions).add_(self.residuals.at(positions))

    def of_queries(self, queries: Tensor) -> ResidualMetricScorer:
        xq = self.xq.index_select(0, queries)
        return ResidualMetricScorer(xq, self.stored, self.residuals, self.metric_type, self.metric_arg)


def make_residual_scorer(
    xq: Tensor, stored: Stored, residuals: Residuals, metric_type: int, metric_arg: float = 0.0
) -> Scorer:
    """Return the fastest scorer that is right for these data: as `scorers.make_scorer`, of differences."""
    if multiplies(stored, metric_type):
        scorer = ResidualScorer(xq, stored, residuals, metric_type)
        if bool((scorer.margin < float("inf")).all()):
            return scorer
    return ResidualMetricScorer(xq, stored, residuals, metric_type, metric_arg)
