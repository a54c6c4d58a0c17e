"""Scores of codes of 8 bits by products of integers: the codes themselves are multiplied, and nothing is decoded.

With a row ``o + s * c``, component by component, the product with a query is ``<q, o> + <q s, c>``. The steps s so go
into the query, which is rounded to two digits of 8 bits, ``q s = unit (128 high + low)``. What that leaves is less than
the rounding of float32 would be in a few components, and goes into the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ..runtime import arithmetic, workers
from ..scoring.residual import Residuals, ResidualScorer
from ..scoring.scorers import ProductScorer, Scorer, Visit
from ..scoring.stored import Stored

#: The low digit counts units, the high one so many; a rounded component has this many units at most.
DIGIT, LARGEST = 128, 127 * 128

#: Codes are taken as signed bytes: less by so much.
MIDDLE = 128

#: Components of a vector, at most: with more, a sum of products might not fit into 32 bits.
WIDEST = 1024

#: Up to so many queries each column is a product of its own, which is quicker for so few.
FEW_COLUMNS = 3


class Steps(NamedTuple):
    """What a component of a code stands for: ``offset + scale * (code - MIDDLE)``.

    Attributes
    ----------
    scale, offset : Tensor, float32, shape (d,)
    """

    scale: Tensor
    offset: Tensor

    def margin(self, norms: Tensor, largest: Tensor) -> Tensor:
        """How much farther apart scores have to be, as `scorers.margin_of`.

        Parameters
        ----------
        norms : Tensor, float32, shape (nq,)
            What the norms of multiplied vectors are at most.
        largest : Tensor, float32, shape (nq,)
            What components of these, times the scale, are at most.
        """
        d = len(self.scale)
        rounding = largest * (d * MIDDLE / LARGEST)
        return rounding + norms * (torch.linalg.vector_norm(self.scale) * MIDDLE * 16 * 2.0**-24)

    def digits_of(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Round multiplied vectors, float32, (g, d): their high and low digits, int8, (2, g, d); their units, (g,)."""
        moved = group * self.scale
        unit = moved.abs().amax(1).div_(LARGEST).clamp_(min=1e-30)
        whole = moved.div_(unit[:, None]).round_()
        high = (whole / DIGIT).round_()
        low = whole.sub_(high, alpha=DIGIT)
        return torch.stack([high, low]).to(torch.int8), unit


def _signed(codes: Tensor) -> Tensor:
    """Codes as signed bytes, in a buffer that this thread keeps."""
    room = workers.workspace(-(-codes.numel() // 4), codes.device, "codes").view(torch.uint8)
    out = room[: codes.numel()].view(codes.shape)
    return torch.bitwise_xor(codes, MIDDLE, out=out).view(torch.int8)


def _products(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Room for integer products, int32, that this thread keeps."""
    elements = math.prod(shape)
    return workers.workspace(elements, device, "products")[:elements].view(torch.int32).view(shape)


def write_scores(
    steps: Steps, codes: Tensor, group: Tensor, bias: Tensor, constant: Tensor | None, out: Tensor
) -> Tensor:
    """Write ``bias - vectors @ group.T + constant`` for the vectors of codes.

    Parameters
    ----------
    steps : Steps
    codes : Tensor, uint8, shape (n, d)
    group : Tensor, float32, shape (g, d)
    bias : Tensor, float32, shape (n,)
    constant : Tensor, float32, shape (g,), or None
    out : Tensor, float32, shape (n, g)

    Returns
    -------
    Tensor
        `out`.
    """
    digits, unit = steps.digits_of(group)
    signed, own = _signed(codes), group @ steps.offset
    own = own.neg_() if constant is None else constant - own
    columns = digits.view(-1, group.shape[1])
    if len(group) <= FEW_COLUMNS:
        products = _products((len(columns), len(codes), 1), codes.device)
        for column, found in zip(columns, products, strict=True):
            torch._int_mm(signed, column[:, None], out=found)
        products = products[..., 0].T
    else:
        products = _products((len(codes), len(columns)), codes.device)
        torch._int_mm(signed, columns.T.contiguous(), out=products)
    high, low = products.split(len(group), dim=1)
    out.copy_(low.add_(high, alpha=DIGIT))
    return torch.addcmul(bias[:, None], out, unit, value=-1.0, out=out).add_(own)


def write_rows(
    steps: Steps,
    stored: Stored,
    visits: Sequence[Visit],
    group: Tensor,
    constant: Tensor | None,
    out: Tensor,
) -> None:
    """Write the scores of one query for the rows of visits: as `write_scores`, in few operations for each.

    Parameters
    ----------
    steps : Steps
    stored : Stored
    visits : sequence of Visit
    group : Tensor, float32, shape (1, d), or one for each visit
        What the rows are multiplied with.
    constant : Tensor, float32, shape (visits,), or None
    out : Tensor, float32, shape (rows of all,)
    """
    digits, unit = steps.digits_of(group)
    own = group @ steps.offset
    own = own.neg_() if constant is None else constant - own
    products = _products((2, len(out), 1), out.device)
    first = 0
    for i, visit in enumerate(visits):
        high, low = digits[:, i if len(unit) > 1 else 0]
        signed, last = _signed(stored.codes(visit.begin, visit.end)), first + visit.rows
        torch._int_mm(signed, high[:, None], out=products[0, first:last])
        torch._int_mm(signed, low[:, None], out=products[1, first:last])
        first = last
    sums = products[1, :, 0].add_(products[0, :, 0], alpha=DIGIT)
    bias = torch.cat([stored.bias[visit.begin : visit.end] for visit in visits])
    if len(own) > 1 or len(unit) > 1:
        sizes = torch.tensor([visit.rows for visit in visits], dtype=torch.int64, device=out.device)
        unit, own = (each.expand(len(visits)).repeat_interleave(sizes) for each in (unit, own))
    torch.addcmul(bias.add_(own), sums.to(torch.float32), unit, value=-1.0, out=out)


class StepsScorer(ProductScorer):
    """Scores by products of integers; true distances by decoded vectors. Parameters as of `ProductScorer`."""

    by_products = False

    def __init__(self, xq: Tensor, stored: Stored, metric_type: int, steps: Steps) -> None:
        super().__init__(xq, stored, metric_type)
        self.steps = steps
        largest = (xq * steps.scale).abs_().amax(1) if len(xq) else xq.new_zeros(0)
        self.margin = self.margin + steps.margin(torch.linalg.vector_norm(xq, dim=1), largest)

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        out = buffer[: visit.rows * len(visit.queries)].view(visit.rows, len(visit.queries))
        group = self.xq.index_select(0, visit.queries)
        codes, bias = self.stored.codes(visit.begin, visit.end), self.bias[visit.begin : visit.end]
        return write_scores(self.steps, codes, group, bias, None, out)

    def tile(self, visit: Visit) -> Tensor:
        if len(visit.queries) == 1:
            out = self.xq.new_empty(1, visit.rows)
            self.rows_of([visit], out[0])
            return out
        group = self.xq.index_select(0, visit.queries)
        digits, unit = self.steps.digits_of(group)
        signed = _signed(self.stored.codes(visit.begin, visit.end))
        products = _products((2 * len(group), visit.rows), signed.device)
        torch._int_mm(digits.view(-1, group.shape[1]), signed.T, out=products)
        high, low = products.split(len(group))
        sums = low.add_(high, alpha=DIGIT).to(torch.float32)
        bias = self.bias[visit.begin : visit.end]
        sums = torch.addcmul(bias, sums, unit[:, None], value=-1.0, out=sums)
        return sums.sub_((group @ self.steps.offset)[:, None])

    def rows_of(self, visits: Sequence[Visit], out: Tensor) -> None:
        write_rows(self.steps, self.stored, visits, self.xq.index_select(0, visits[0].queries), None, out)

    def of_queries(self, queries: Tensor) -> StepsScorer:
        return StepsScorer(self.xq.index_select(0, queries), self.stored, self.metric_type, self.steps)


class ResidualStepsScorer(ResidualScorer):
    """The same of differences to centroids. Parameters as of `ResidualScorer`."""

    def __init__(self, xq: Tensor, stored: Stored, residuals: Residuals, metric_type: int, steps: Steps) -> None:
        super().__init__(xq, stored, residuals, metric_type)
        self.steps = steps
        norms = torch.linalg.vector_norm(xq, dim=1)
        largest = (xq * steps.scale).abs_().amax(1) if len(xq) else xq.new_zeros(0)
        if metric_type == METRIC_L2:
            norms = norms + residuals.largest_norm
            largest = largest + (residuals.centroids * steps.scale).abs_().amax()
        self.margin = self.margin + steps.margin(norms, largest)

    def block(self, visit: Visit, buffer: Tensor) -> Tensor:
        out = buffer[: visit.rows * len(visit.queries)].view(visit.rows, len(visit.queries))
        codes, bias = self.stored.codes(visit.begin, visit.end), self.bias[visit.begin : visit.end]
        group, constant = self._of_list(visit)
        return write_scores(self.steps, codes, group, bias, constant, out)

    def rows_of(self, visits: Sequence[Visit], out: Tensor) -> None:
        q = self.xq.index_select(0, visits[0].queries)
        list_nos = torch.tensor([visit.list_no for visit in visits], dtype=torch.int64, device=out.device)
        centroids = self.residuals.centroids.index_select(0, list_nos)
        if self.metric_type == METRIC_L2:
            group = q - centroids
            write_rows(self.steps, self.stored, visits, group, group.square().sum(1).mul_(0.5), out)
        else:
            write_rows(self.steps, self.stored, visits, q, (centroids @ q[0]).neg_(), out)

    def of_queries(self, queries: Tensor) -> ResidualStepsScorer:
        xq = self.xq.index_select(0, queries)
        return ResidualStepsScorer(xq, self.stored, self.residuals, self.metric_type, self.steps)


def by_integers(scorer: Scorer, steps: Steps) -> Scorer:
    """Return a scorer that does by products of integers what another does by decoded vectors, where that is faster."""
    d = scorer.xq.shape[1]
    if d > WIDEST or scorer.xq.device.type != "cpu" or arithmetic.chosen(scorer.xq.device) != "int8":
        return scorer
    if type(scorer) is ProductScorer:
        return StepsScorer(scorer.xq, scorer.stored, scorer.metric_type, steps)
    if type(scorer) is ResidualScorer:
        return ResidualStepsScorer(scorer.xq, scorer.stored, scorer.residuals, scorer.metric_type, steps)
    return scorer
