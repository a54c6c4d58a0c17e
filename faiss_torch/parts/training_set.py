"""What k-means works on: the training vectors, plain or encoded, and the index that assigns them to centroids."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..border import Array
from ..ops.nearest import Carried


class ClusteringIndex(Protocol):
    """What clustering needs of an index; every ``Index`` has it."""

    d: int
    ntotal: int
    is_trained: bool
    metric_type: int
    device: torch.device

    def train(self, x: Array) -> None:
        """Train on vectors (n, d)."""

    def add(self, x: Array) -> None:
        """Store vectors (n, d)."""

    def reset(self) -> None:
        """Remove all vectors."""

    def search(self, x: Array, k: int) -> tuple[Array, Array]:
        """Find the k nearest of the stored vectors: distances and labels, (n, k) each."""

    def sa_code_size(self) -> int:
        """Bytes of a code."""

    def sa_decode(self, codes: Array) -> Array:
        """Decode codes (n, sa_code_size()) to vectors (n, d)."""


class TrainingSet:
    """Training vectors, plain or encoded; both kinds are read by slices of rows.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d); or uint8, shape (n, code_size)
    weights : Tensor, float32, shape (n,), or None
    codec : Index or None
        Decodes `x`.
    block : int
        Rows decoded at a time.
    device : torch.device
        Where decoded vectors go.
    """

    def __init__(
        self, x: Tensor, weights: Tensor | None, codec: ClusteringIndex | None, block: int, device: torch.device
    ) -> None:
        self.x = x
        self.weights = weights
        self.codec = codec
        self.block = block
        self.device = device

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, positions: Tensor) -> TrainingSet:
        """Some of the vectors with their weights."""
        weights = None if self.weights is None else self.weights[positions]
        return TrainingSet(self.x[positions], weights, self.codec, self.block, self.device)

    def vectors(self, positions: slice | Tensor = slice(None)) -> Tensor:
        """Vectors as float32."""
        if self.codec is None:
            return self.x[positions]
        return self.codec.sa_decode(self.x[positions]).to(self.device)

    def blocks(self) -> list[slice]:
        """Rows to be read together: all of them, unless they have to be decoded."""
        n = len(self.x)
        if self.codec is None:
            return [slice(0, n)]
        return [slice(begin, min(begin + self.block, n)) for begin in range(0, n, self.block)]


class Assignment:
    """The assignment of training vectors to the nearest centroids by an index, in one iteration after the other.

    A flat index says how it assigns, and then the centroids are stored in it at the end only, and one assignment
    leaves something to the next. Any other index stores the centroids of each iteration and is searched.

    Parameters
    ----------
    data : TrainingSet
    index : ClusteringIndex
        What it holds is replaced.
    centroids : Tensor, float32, shape (k, d)
        The first ones.
    update_index : bool
        Train the index with the centroids of each iteration.
    """

    def __init__(self, data: TrainingSet, index: ClusteringIndex, centroids: Tensor, update_index: bool) -> None:
        if index.ntotal != 0:
            index.reset()
        if not index.is_trained:
            index.train(centroids)
        index.add(centroids)
        self._data, self._index, self._centroids, self._update_index = data, index, centroids, update_index
        self._is_stored = True
        self._carried = Carried()
        self._flat = None
        if data.codec is None and not update_index:
            self._flat = getattr(index, "assignment", lambda: None)()

    def search(self) -> tuple[Tensor, Tensor]:
        """Find the nearest centroid of each vector: distances and labels, shape (n,) each."""
        if self._flat is not None:
            return self._flat.nearest(self._data.vectors(), self._centroids, self._carried)
        parts = [self._index.search(self._data.vectors(rows), 1) for rows in self._data.blocks()]
        if len(parts) == 1:
            return parts[0][0].reshape(-1), parts[0][1].reshape(-1)
        return torch.cat([D.reshape(-1) for D, _ in parts]), torch.cat([I.reshape(-1) for _, I in parts])

    def move(self, centroids: Tensor) -> None:
        """Take other centroids."""
        self._centroids, self._is_stored = centroids, False
        if self._flat is None:
            self.store()

    def store(self) -> None:
        """Store the centroids in the index, if they are not there."""
        if self._is_stored:
            return
        self._index.reset()
        if self._update_index:
            self._index.train(self._centroids)
        self._index.add(self._centroids)
        self._is_stored = True
