"""IndexSplitVectors: each sub-index sees a part of the dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...attributes import Int64
from ...parts.params import SearchParameters
from ...wrapper.vectors import ObjectVector
from ..base import Index
from .threaded import on_each


class IndexSplitVectors(Index):
    """Finds the nearest combination of vectors: one from each sub-index, for its part of the dimensions.

    The labels of the parts are joined as digits are: ``label0 + ntotal0 * (label1 + ntotal1 * ...)``. A search is for
    one neighbour, k = 1.

    Parameters
    ----------
    d : int
        The dimensions of all parts together.
    threaded : bool
        Whether the sub-indexes work at the same time. The results are the same.

    Attributes
    ----------
    threaded : bool
    own_fields : bool
        Without effect: ownership is Python's.
    sub_indexes : ObjectVector
    sum_d : int
        The dimensions of the sub-indexes so far.
    """

    threaded: bool
    own_fields: bool
    sub_indexes: ObjectVector
    sum_d: Int64

    def __init__(self, d: int = 0, threaded: bool = False) -> None:
        super().__init__(d)
        self.threaded = bool(threaded)
        self.own_fields = False
        self.sub_indexes = ObjectVector()
        self.sum_d = 0

    def add_sub_index(self, index: Index) -> None:
        """Take in the index of the next dimensions.

        Raises
        ------
        RuntimeError
            If its metric or its number of vectors is not that of the others.
        """
        if not isinstance(index, Index):
            raise TypeError(f"expected an index, got {type(index).__name__}")
        for present in self.sub_indexes:
            self._check_alike(present, index)
        self.sub_indexes.push_back(index)
        self.sync_with_sub_indexes()

    def _check_alike(self, first: Index, index: Index) -> None:
        mine, other = (first.metric_type, first.ntotal), (index.metric_type, index.ntotal)
        if mine != other:
            raise RuntimeError(f"sub-indexes differ in (metric_type, ntotal): {mine} and {other}")

    def sync_with_sub_indexes(self) -> None:
        """Take over metric, state and number of vectors from the sub-indexes.

        Raises
        ------
        RuntimeError
            If they do not agree.
        """
        if not len(self.sub_indexes):
            return
        first = self.sub_indexes[0]
        for index in self.sub_indexes:
            self._check_alike(first, index)
        self.sum_d = sum(index.d for index in self.sub_indexes)
        self.metric_type, self.is_trained, self.ntotal = first.metric_type, first.is_trained, first.ntotal
        self.device = first.device

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        switches = [super()._moved(device, None), *(index._moved(device, dtype) for index in self.sub_indexes)]

        def switch() -> None:
            for part in switches:
                part()

        return switch

    def _train(self, x: Tensor) -> None:
        raise RuntimeError("train is not implemented for IndexSplitVectors: train its sub-indexes")

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        if params is not None:
            raise RuntimeError("search params are not supported for IndexSplitVectors")
        if k != 1:
            raise RuntimeError(f"IndexSplitVectors is searched for one neighbour, k = 1, got k = {k}")
        if self.sum_d != self.d or not len(self.sub_indexes):
            raise RuntimeError(f"the sub-indexes have {self.sum_d} dimensions together, expected {self.d}")
        indexes = list(self.sub_indexes)
        parts = x.split([index.d for index in indexes], dim=1)
        found = on_each(indexes, lambda no, index: index.search(parts[no], 1), self.threaded, self.device)
        distances, labels = found[0]
        factor = 1
        missing = torch.zeros_like(labels, dtype=torch.bool)
        for before, (part_distances, part_labels) in zip(indexes, found[1:], strict=False):
            factor *= before.ntotal
            missing |= (labels < 0) | (part_labels < 0)
            distances, labels = distances + part_distances, labels + factor * part_labels
        return distances.masked_fill(missing, float("nan")), labels.masked_fill(missing, -1)
