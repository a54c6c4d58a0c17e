"""k-means of torch tensors, as ``faiss.contrib.torch.clustering`` has it.

Importing it imports ``torch_utils``, as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import knn
from .. import torch_utils  # noqa: F401
from ..clustering import kmeans

__all__ = ["DatasetAssign", "DatasetAssignGPU", "kmeans"]


class DatasetAssign:
    """Vectors in a tensor, on any device, for `kmeans`; other kinds of data offer the same methods.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def count(self) -> int:
        """Return the number of vectors."""
        return self.x.shape[0]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.x.shape[1]

    def get_subset(self, indices: np.ndarray) -> Tensor:
        """Return some of the vectors."""
        return self.x[torch.from_numpy(indices).to(self.x.device)]

    def perform_search(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared distance and the number of each vector's nearest centroid: two of (n, 1)."""
        return knn(self.x, centroids, 1)

    def assign_to(self, centroids: Tensor, weights: Tensor | None = None) -> tuple[np.ndarray, Tensor, Tensor]:
        """Assign the vectors to their nearest centroids.

        Returns
        -------
        I : numpy.ndarray, int64, shape (n,)
        D : Tensor, float32, shape (n,)
        sum_per_centroid : Tensor, float32, shape (nc, d)
            The (weighted) sum of each centroid's vectors.
        """
        D, I = (result.ravel() for result in self.perform_search(centroids))
        weighted = self.x if weights is None else self.x * weights[:, None]
        return I.cpu().numpy(), D, torch.zeros_like(centroids).index_add_(0, I, weighted)


class DatasetAssignGPU(DatasetAssign):
    """The same, with faiss's argument for the resources of a GPU, which are not needed here.

    Parameters
    ----------
    res : StandardGpuResources
    x : Tensor, float32, shape (n, d)
    """

    def __init__(self, res: Any, x: Tensor) -> None:
        super().__init__(x)
        self.res = res
