"""Quantisers of torch tensors, as ``faiss.contrib.torch.quantization`` has them."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import knn
from . import clustering


class Quantizer:
    """Encodes vectors; the base of all quantisers here.

    Parameters
    ----------
    d : int
    code_size : int
        Bytes of a code.
    """

    def __init__(self, d: int, code_size: int) -> None:
        self.d = d
        self.code_size = code_size

    def train(self, x: Tensor) -> None:
        """Train on vectors: (n, d)."""

    def encode(self, x: Tensor) -> Tensor:
        """Encode vectors: (n, d) -> uint8, (n, code_size)."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes: uint8, (n, code_size) -> (n, d)."""
        raise NotImplementedError


class VectorQuantizer(Quantizer):
    """Encodes a vector by the number of its nearest centroid; in faiss it has a name and does nothing.

    Parameters
    ----------
    d : int
    k : int
        Centroids. A code has as many bytes as the largest number needs, the lowest byte first.

    Attributes
    ----------
    codebook : Tensor, shape (k, d)
    """

    codebook: Tensor

    def __init__(self, d: int, k: int) -> None:
        assert k >= 1, f"k is {k}, expected 1 or more centroids"
        super().__init__(d, -(-(int(k) - 1).bit_length() // 8))
        self.k = int(k)

    def train(self, x: Tensor) -> None:
        """Cluster vectors: (n, d)."""
        self.codebook = clustering.kmeans(self.k, clustering.DatasetAssign(x))

    def encode(self, x: Tensor) -> Tensor:
        """Encode vectors: (n, d) -> uint8, (n, code_size)."""
        nearest = knn(x, self.codebook, 1)[1]
        shifts = 8 * torch.arange(self.code_size, dtype=torch.int64, device=nearest.device)
        return nearest.bitwise_right_shift(shifts).bitwise_and(255).to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes: uint8, (n, code_size) -> (n, d)."""
        shifts = 8 * torch.arange(self.code_size, dtype=torch.int64, device=codes.device)
        return self.codebook[codes.long().bitwise_left_shift(shifts).sum(1)]


class ProductQuantizer(Quantizer):
    """Encodes each of M parts of a vector by the number of its nearest centroid.

    Parameters
    ----------
    d : int
    M : int
        Parts; it divides d.
    nbits : int
        8.

    Attributes
    ----------
    codebook : Tensor, shape (M, 256, d // M)
    """

    codebook: Tensor

    def __init__(self, d: int, M: int, nbits: int) -> None:
        assert d % M == 0, f"{d} dimensions cannot be cut into {M} parts"
        assert nbits == 8, f"nbits is {nbits}, expected 8"
        super().__init__(d, M)
        self.M = M
        self.nbits = nbits

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [part.contiguous() for part in x.split(self.d // self.M, dim=1)]

    def train(self, x: Tensor) -> None:
        """Cluster the parts of vectors: (n, d)."""
        clusters = [clustering.kmeans(2**self.nbits, clustering.DatasetAssign(part)) for part in self._parts(x)]
        self.codebook = torch.stack(clusters)

    def encode(self, x: Tensor) -> Tensor:
        """Encode vectors: (n, d) -> uint8, (n, M)."""
        nearest = [knn(part, self.codebook[m], 1)[1] for m, part in enumerate(self._parts(x))]
        return torch.cat(nearest, dim=1).to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes: uint8, (n, M) -> (n, d)."""
        return torch.cat([self.codebook[m, codes[:, m].long()] for m in range(self.M)], dim=1)
