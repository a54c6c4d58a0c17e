"""What k-means works on: the index that assigns, and the training vectors, plain or encoded."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..border import Array


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
