"""Linear maps learned from data: principal components."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..random import rand_perm


class PrincipalComponents(NamedTuple):
    """What `pca` finds.

    Attributes
    ----------
    mean : Tensor, float32, shape (d,)
    eigenvalues : Tensor, float32, shape (d,)
        Descending; of the scatter matrix, so not divided by n. Zeros beyond the n-th where n < d.
    matrix : Tensor, float32, shape (min(n, d), d)
        The eigenvectors as rows.
    """

    mean: Tensor
    eigenvalues: Tensor
    matrix: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Turn vectors (n, d) into coordinates."""
        return (x - self.mean) @ self.matrix.T

    def reverse(self, y: Tensor) -> Tensor:
        """Turn coordinates back into vectors (n, d)."""
        return y @ self.matrix + self.mean


def pca(x: Tensor, max_points: int | None = None, seed: int = 1234) -> PrincipalComponents:
    """Find the principal components of vectors (the steps of faiss's ``PCAMatrix``).

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    max_points : int, optional
        Use at most so many vectors; default 1000 d, as in faiss.
    seed : int
        Of the choice among them.

    Returns
    -------
    PrincipalComponents
        The signs of the eigenvectors are those of the LAPACK in use.
    """
    n, d = x.shape
    max_points = 1000 * d if max_points is None else max_points
    if n > max_points:
        x = x[torch.from_numpy(rand_perm(n, seed, max_points)).long().to(x.device)]
        n = max_points
    mean = x.mean(0)
    centred = x - mean
    eigenvalues = x.new_zeros(d)
    if n >= d:
        values, vectors = _eigen(centred.T @ centred)
        eigenvalues.copy_(values)
        return PrincipalComponents(mean, eigenvalues, vectors.T.contiguous())
    values, vectors = _eigen(centred @ centred.T)
    eigenvalues[:n] = values
    rows = vectors.T @ centred
    return PrincipalComponents(mean, eigenvalues, torch.nn.functional.normalize(rows, dim=1))


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors as columns, computed in float64 on the CPU."""
    values, vectors = torch.linalg.eigh(matrix.double().cpu())
    return values.flip(0).float().to(matrix.device), vectors.flip(1).float().to(matrix.device)
