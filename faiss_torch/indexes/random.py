"""IndexRandom: results that are made up, to measure what stands around a search."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attributes import Int64
from ..constants import METRIC_L2
from ..ops import random_rows
from ..ops.scoring.distances import METRICS
from ..parts.params import SearchParameters
from .base import Index

#: What faiss adds to the seed for `reconstruct`.
_RECONSTRUCT_SEED = 123332


class IndexRandom(Index):
    """Counts vectors without keeping them; the same query gets the same results, which are faiss's.

    Parameters
    ----------
    d : int
    ntotal : int
        How many vectors to begin with.
    seed : int
    mt : int
        One of the ``METRIC_*`` numbers; for a similarity, distances descend from 0, otherwise they ascend.

    Attributes
    ----------
    seed : int
    """

    seed: Int64

    def __init__(self, d: int = 0, ntotal: int = 0, seed: int = 1234, mt: int = METRIC_L2) -> None:
        super().__init__(d, mt)
        self.ntotal = ntotal
        if self.ntotal < 0:
            raise RuntimeError(f"an index cannot have {ntotal} vectors")
        self.seed = seed

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if ids is not None:
            raise RuntimeError("add_with_ids is not implemented for IndexRandom: wrap it in an IndexIDMap")
        self.ntotal += len(x)

    def _reset(self) -> None:
        self.ntotal = 0

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        if params is not None:
            raise RuntimeError("search params are not supported for IndexRandom")
        if k > self.ntotal:
            raise RuntimeError(f"IndexRandom finds different vectors: k = {k} is above ntotal = {self.ntotal}")
        seeds = random_rows.checksums(x) + self.seed
        return random_rows.random_results(seeds, k, self.ntotal, METRICS[self.metric_type].similarity)

    def _reconstruct(self, keys: Tensor) -> Tensor:
        if not keys.numel():
            return torch.empty(0, self.d, dtype=torch.float32, device=keys.device)
        return random_rows.unit_floats(random_rows.words_of(keys + (self.seed + _RECONSTRUCT_SEED), self.d))
