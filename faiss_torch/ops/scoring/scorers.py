"""Screening: scores by matrix product, and how far they may be from the truth.

A score orders the candidates of one query: smaller is closer. With ``bias = |x|^2 / 2`` for L2 and 0 for the inner
product, ``score = bias - <q, x>`` has the order of the distance, and a bias of +inf takes a row out: the unused
rows of a list and the rows that a selector refuses need no other test.

Screening is followed by `verify`, which computes true distances for the few candidates that pass, so that the
result is that of exact float32 search. Both scorers below give the interface that the scans use: ``block`` (a
range of stored rows against a group of queries), ``rows_of`` (a range against one query), ``distances`` (true
distances of gathered candidates), ``margin`` (how far apart two scores must be for their order to be certain).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..runtime import arithmetic, chunks, workers
from ..runtime.torch_state import bits_of_factors
from .bounds import gathered_distances, margins
from .distances import METRICS, distance, temporary_bytes
from .stored import Stored, rows_to_gather

#: From this many rows on, oneDNN's products are worth their set-up.
ONEDNN_ROWS = 128


def margin_of(x: Tensor, largest_norm: float, largest_bias: float) -> Tensor:
    """How far apart two computed scores of a vector must be for their order to be that of the exact scores.

    |computed - exact| <= gamma * (|q| |x| + bias) with gamma = (d + 4) u, whatever the order of the sum (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1), or 3 u more where the factors themselves are
    rounded first; the margin is twice that.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    largest_norm, largest_bias : float
        Upper bounds of what they are compared with.

    Returns
    -------
    Tensor, float32, shape (n,)
    """
    return margins(x, largest_norm, largest_bias, margin_factor(x.shape[1], x.device))


def margin_factor(d: int, device: torch.device) -> float:
    """Return 2 gamma of `margin_of`, on a device where the program may have allowed factors to be rounded."""
    bits = bits_of_factors(device)
    return 2 * ((d + 4) * 2.0**-24 + (0.0 if bits == 24 else 3 * 2.0**-bits))


def decoding_factor(d: int) -> float:
    """Return by how much margins grow where components of rows may be two roundings from the truth."""
    return 1 + 8 / (d + 4)


def products(x: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    """Return ``bias + x @ rows.T``.

    On the CPU by oneDNN where torch has it: on AMD's newer processors it is twice as fast as MKL, and equal elsewhere.
    It compiles one primitive for every shape and keeps about a thousand, so this is for tiles of few shapes.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    rows : Tensor, float32, shape (m, d)
    bias : Tensor, float32, shape (m,)

    Returns
    -------
    Tensor, float32, shape (n, m)
    """
    if x.device.type == "cpu" and len(x) >= ONEDNN_ROWS and _has_onednn():
        # where there was once no memory to compile a primitive, oneDNN has none of that shape ever after
        with contextlib.suppress(RuntimeError):
            return torch.ops.mkldnn._linear_pointwise(x, rows, bias, "none", [], "")
    return torch.addmm(bias, x, rows.T)


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Visit(NamedTuple):
    """Stored rows of one list, and the queries that look at them.

    Attributes
    ----------
    list_no : int
        0 where the rows are in no list.
    begin, end : int
        The rows ``[begin, end)``.
    queries : Tensor, int64, shape (group,)
    """

    list_no: int
    begin: int
    end: int
    queries: Tensor

    @property
    def rows(self) -> int:
        """How many rows these are."""
        return self.end - self.begin


def parts_of(visits: Sequence[Visit], out: Tensor) -> Sequence[Tensor]:
    """Cut what has a place for the rows of all visits into those of each."""
    return out.split([visit.rows for visit in visits])


class Scorer(Protocol):
    """The queries of one search against stored rows.

    Attributes
    ----------
    xq : Tensor, float32, shape (nq, d)
    stored : Stored
    margin : Tensor, float32, shape (nq,)
        How far apart two scores must be for their order to be certain.
    nq : int
    exact : bool
        Whether scores are the distances themselves, negated for a similarity: then nothing is verified.
    by_products : bool
        Whether scores are products of float vectors, which tiles, sums of bytes and kernels may screen as well.
    """

    xq: Tensor
    stored: Stored
    margin: Tensor
    nq: int
    exact: bool
    by_products: bool

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        """Scores of a visit: a view of `buffer`, shape (rows, group)."""

    def tile(self, visit: Visit) -> Tensor:
        """Scores of a visit, shape (group, rows): for tiles of few shapes."""

    def rows_of(self, visits: Sequence[Visit], out: Tensor) -> None:
        """Scores of visits of one query, one behind the other, written to `out`, shape (rows of all,)."""

    def gathered(self, queries: Tensor, positions: Tensor) -> Tensor:
        """Scores of gathered rows: `queries` (n,), `positions` (n, m) -> (n, m)."""

    def distances(self, queries: Tensor, positions: Tensor) -> Tensor:
        """True distances of gathered rows, in the metric's own sign: (n,), (n, m) -> (n, m)."""

    def score_of(self, radius: float) -> Tensor:
        """The score of a distance for each query, without the margin: (nq,)."""

    def of_queries(self, queries: Tensor) -> Scorer:
        """The same for some of the queries: int64, (n,)."""


class ProductScorer:
    """L2 and inner product by matrix product.

    Scores are computed by products, and distances by differences.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
        Finite.
    stored : Stored
        Finite.
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    """

    exact, by_products = False, True

    def __init__(self, xq: Tensor, stored: Stored, metric_type: int) -> None:
        self.xq = xq
        self.nq = len(xq)
        self.stored, self.bias = stored, stored.bias
        self.metric_type = metric_type
        largest = stored.largest_norm
        self.margin = margin_of(xq, largest, largest * largest / 2 if metric_type == METRIC_L2 else 0.0)
        if stored.decode is not None:
            self.margin = self.margin * decoding_factor(xq.shape[1])

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        _, begin, end, queries = visit
        out = buffer[: visit.rows * len(queries)].view(visit.rows, len(queries))
        if len(queries) == 1:
            self._rows_of(visit, out[:, 0])
            return out
        group = self.xq.index_select(0, queries)
        vectors = self.stored.part(begin, end)
        return torch.addmm(self.bias[begin:end, None], vectors, group.T, alpha=-1, out=out)

    def tile(self, visit: Visit) -> Tensor:
        _, begin, end, queries = visit
        if len(queries) == 1:
            out = self.xq.new_empty(1, visit.rows)
            self._rows_of(visit, out[0])
            return out
        return products(self.xq.index_select(0, queries).neg_(), self.stored.part(begin, end), self.bias[begin:end])

    def rows_of(self, visits: Sequence[Visit], out: Tensor) -> None:
        for visit, part in zip(visits, parts_of(visits, out), strict=True):
            self._rows_of(visit, part)

    def _rows_of(self, visit: Visit, out: Tensor) -> None:
        _, begin, end, queries = visit
        q = self.xq[int(queries[0])]
        if not self.stored.is_made_up:
            torch.addmv(self.bias[begin:end], self.stored.vectors[begin:end], q, alpha=-1, out=out)
            return
        for part in chunks.slices(visit.rows, rows_to_gather(4 * self.xq.shape[1], self.xq.device)):
            first, last = begin + part.start, begin + part.stop
            torch.addmv(self.bias[first:last], self.stored.part(first, last), q, alpha=-1, out=out[part])

    def gathered(self, queries: Tensor, positions: Tensor) -> Tensor:
        # a batch of matrix-vector products takes four times as long as this
        products = self.stored.at(positions).mul_(self.xq.index_select(0, queries)[:, None]).sum(-1)
        return self.bias[positions].sub_(products)

    def distances(self, queries: Tensor, positions: Tensor) -> Tensor:
        row_elements = self.xq.shape[1] * positions.shape[1]
        step = max(1, min(len(queries), rows_to_gather(4 * row_elements, self.xq.device)))
        similarity = self.metric_type == METRIC_INNER_PRODUCT
        if not self.stored.is_made_up:
            buffer = workers.workspace(step * row_elements, self.xq.device, "rows")
            return gathered_distances(self.stored.vectors, self.xq, queries, positions, step, buffer, similarity)
        out = self.xq.new_empty(positions.shape)
        for rows in chunks.slices(len(queries), step):
            x = self.stored.at(positions[rows])
            q = self.xq.index_select(0, queries[rows])[:, None]
            out[rows] = (x.mul_(q) if similarity else x.sub_(q).square_()).sum(-1)
        return out

    def score_of(self, radius: float) -> Tensor:
        if self.metric_type == METRIC_INNER_PRODUCT:
            return self.xq.new_full((self.nq,), -radius)
        return self.xq.square().sum(-1).neg_().add_(radius).mul_(0.5)

    def of_queries(self, queries: Tensor) -> ProductScorer:
        return ProductScorer(self.xq.index_select(0, queries), self.stored, self.metric_type)


class MetricScorer:
    """Any metric, and any data, by its definition: the scores are the distances themselves."""

    exact, by_products = True, False

    def __init__(self, xq: Tensor, stored: Stored, metric_type: int, metric_arg: float = 0.0) -> None:
        self.xq = xq
        self.nq = len(xq)
        self.stored, self.bias = stored, stored.bias
        self.metric_type, self.metric_arg = metric_type, metric_arg
        self.margin = xq.new_zeros(len(xq))
        self._pair_bytes = temporary_bytes(xq.shape[1], metric_type)

    def _rows(self, list_no: int, begin: int, end: int) -> Tensor:
        """Vectors of rows [begin, end) of a list: float32, (end - begin, d)."""
        return self.stored.part(begin, end, exactly=True)

    def _rows_at(self, positions: Tensor) -> Tensor:
        return self.stored.at(positions)

    def _score(self, values: Tensor, bias: Tensor) -> Tensor:
        if METRICS[self.metric_type].similarity:
            values = values.neg()
        return values.masked_fill_(values.isnan() | bias.isinf(), float("inf"))

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        list_no, begin, _, queries = visit
        out = buffer[: visit.rows * len(queries)].view(visit.rows, len(queries))
        group = self.xq.index_select(0, queries)
        for part in chunks.slices(visit.rows, rows_to_gather(self._pair_bytes * len(queries), group.device)):
            x = self._rows(list_no, begin + part.start, begin + part.stop)[:, None]
            bias = self.bias[begin + part.start : begin + part.stop, None]
            out[part] = self._score(distance(group[None], x, self.metric_type, self.metric_arg), bias)
        return out

    def tile(self, visit: Visit) -> Tensor:
        return self.block(visit, self.xq.new_empty(visit.rows * len(visit.queries))).T

    def rows_of(self, visits: Sequence[Visit], out: Tensor) -> None:
        for visit, part in zip(visits, parts_of(visits, out), strict=True):
            self._rows_of(visit, part)

    def _rows_of(self, visit: Visit, out: Tensor) -> None:
        begin, q = visit.begin, self.xq[int(visit.queries[0])]
        for part in chunks.slices(visit.rows, rows_to_gather(self._pair_bytes, self.xq.device)):
            x = self._rows(visit.list_no, begin + part.start, begin + part.stop)
            bias = self.bias[begin + part.start : begin + part.stop]
            out[part] = self._score(distance(q, x, self.metric_type, self.metric_arg), bias)

    def gathered(self, queries: Tensor, positions: Tensor) -> Tensor:
        return self._score(self.distances(queries, positions), self.bias[positions])

    def distances(self, queries: Tensor, positions: Tensor) -> Tensor:
        out = self.xq.new_empty(positions.shape)
        rows = rows_to_gather(self._pair_bytes * positions.shape[1], self.xq.device)
        for part in chunks.slices(len(queries), rows):
            x = self._rows_at(positions[part])
            out[part] = distance(self.xq[queries[part], None], x, self.metric_type, self.metric_arg)
        return out

    def score_of(self, radius: float) -> Tensor:
        return self.xq.new_full((self.nq,), -radius if METRICS[self.metric_type].similarity else radius)

    def of_queries(self, queries: Tensor) -> MetricScorer:
        return MetricScorer(self.xq.index_select(0, queries), self.stored, self.metric_type, self.metric_arg)


def multiplies(stored: Stored, metric_type: int) -> bool:
    """Whether queries whose products stay finite can be scored by products."""
    return metric_type in (METRIC_L2, METRIC_INNER_PRODUCT) and arithmetic.pinned_name() != "none" and stored.finite


def make_scorer(xq: Tensor, stored: Stored, metric_type: int, metric_arg: float = 0.0) -> Scorer:
    """Return the fastest scorer that is exact for these data.

    The product needs finite values whose products stay finite; everything else goes by the metric's definition.
    """
    if multiplies(stored, metric_type):
        scorer = ProductScorer(xq, stored, metric_type)
        if bool((scorer.margin < float("inf")).all()):  # neither is a query's that is not finite
            return scorer
    return MetricScorer(xq, stored, metric_type, metric_arg)


def minima_of_blocks(scores: Tensor, block: int) -> Tensor:
    """Reduce scores to the minima of blocks of rows.

    Parameters
    ----------
    scores : Tensor, shape (rows, group)
        `rows` a multiple of `block`.

    Returns
    -------
    Tensor, shape (rows // block, group)
        Block j holds the rows j, j + nblock, j + 2 nblock ...: a minimum over an outer axis reads memory in order
        and costs a tenth of one over neighbouring rows.
    """
    if block == 1:
        return scores
    return scores.view(block, len(scores) // block, scores.shape[1]).amin(0)


def survivors(scores: Tensor, minima: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the scores that do not exceed their query's threshold.

    Parameters
    ----------
    scores : Tensor, shape (rows, group)
    minima : Tensor, shape (nblock, group)
        The `minima_of_blocks` of the scores: only blocks that pass are looked at again.
    thresholds : Tensor, shape (group,)
        +inf lets all through but the rows that are not to be found.

    Returns
    -------
    rows, columns : Tensor, int64
    values : Tensor
    """
    nblock, group = minima.shape
    block = len(scores) // nblock
    hits = (minima <= thresholds).view(-1).nonzero().view(-1)
    values = scores.view(block, nblock * group).index_select(1, hits)
    columns = hits % group
    keep = (values <= thresholds[columns]) & (values < float("inf"))
    inner, hit = keep.nonzero(as_tuple=True)
    rows = inner * nblock + torch.div(hits, group, rounding_mode="floor")[hit]
    return rows, columns[hit], values[inner, hit]
