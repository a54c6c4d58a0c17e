"""ProgressiveDimClustering: k-means in growing dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ... import border
from ...attributes import Size
from ...border import Array
from ...ops.runtime import workers
from ...ops.transforms.linear import pca
from ...wrapper.pointers import Pointer
from ...wrapper.vectors import Float32Vector
from .assignment import ClusteringIndex
from .clustering import Clustering
from .parameters import ClusteringIterationStatsVector, ClusteringParameters


class ProgressiveDimClusteringParameters(ClusteringParameters):
    """Settings of k-means in growing dimensions; `niter` (10) is per step.

    Attributes
    ----------
    progressive_dim_steps : int
        Number of steps.
    apply_pca : bool
        Rotate the vectors to their principal components first.
    """

    progressive_dim_steps: int
    apply_pca: bool

    def __init__(self) -> None:
        super().__init__()
        self.niter = 10
        self.progressive_dim_steps = 10
        self.apply_pca = True


class ProgressiveDimClustering(ProgressiveDimClusteringParameters):
    """k-means in the first dimension, then in exponentially growing numbers of dimensions up to d.

    Source: S. Liu, H. Lu, J. Shao, "Improved Residual Vector Quantization for High-dimensional Approximate Nearest
    Neighbor Search", AAAI 2015, https://arxiv.org/abs/1509.05195.

    Parameters
    ----------
    d : int
        Dimensions.
    k : int
        Clusters.
    cp : ProgressiveDimClusteringParameters, optional
        Settings; each is also an attribute.

    Attributes
    ----------
    centroids : Float32Vector
        k * d values after training.
    iteration_stats : ClusteringIterationStatsVector
        The iterations of all steps.
    """

    d: Size
    k: Size

    _objects: ClassVar[dict[str, type]] = {
        "centroids": Float32Vector,
        "iteration_stats": ClusteringIterationStatsVector,
    }

    def __init__(self, d: int, k: int, cp: ProgressiveDimClusteringParameters | None = None) -> None:
        super().__init__()
        for name, value in vars(cp).items() if cp is not None else ():
            setattr(self, name, value)
        self.d = d
        self.k = k
        self.centroids = Float32Vector()
        self.iteration_stats = ClusteringIterationStatsVector()

    def train(self, n: int, x: Array | Pointer, factory: Callable[[int], ClusteringIndex]) -> None:
        """Cluster vectors.

        Parameters
        ----------
        n : int
            Number of vectors.
        x : pointer or array, float32, shape (n, d)
        factory : ProgressiveDimIndexFactory
            Called with a number of dimensions, it gives an empty index for the assignment.

        Raises
        ------
        RuntimeError
            As ``Clustering.train``.
        """
        x, device = border.at_pointer(x, n * self.d), border.default_device()
        workers.conduct(lambda: self._train(border.floats_in(x, device).reshape(n, self.d), factory), device, (x,))

    def _train(self, given: Tensor, factory: Callable[[int], ClusteringIndex]) -> None:
        components = None
        if self.apply_pca:
            self._say("Training PCA transform")
            components = pca(given)
            self._say("Apply PCA")
            given = components.apply(given)
        centroids = given.new_empty(self.k, 0)
        for step in range(self.progressive_dim_steps):
            dimensions = int(self.d ** ((1.0 + step) / self.progressive_dim_steps))
            self._say(f"Progressive dim step {step}: cluster in dimension {dimensions}")
            clustering = Clustering(dimensions, self.k, self)
            if step > 0:  # start from the centroids of the last step, with zeros in the new dimensions
                start = torch.nn.functional.pad(centroids, (0, dimensions - centroids.shape[1]))
                clustering.centroids.assign(start.cpu().reshape(-1).numpy())
            clustering.train(given[:, :dimensions], factory(dimensions))
            centroids = border.tensor_of(clustering.centroids.array).reshape(self.k, dimensions).to(given.device)
            for stats in clustering.iteration_stats:
                self.iteration_stats.push_back(stats)
        if components is not None:
            self._say("Revert PCA transform on centroids")
            centroids = components.reverse(centroids)
        self.centroids.assign(centroids.cpu().reshape(-1).numpy())

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text, flush=True)
