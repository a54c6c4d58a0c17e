"""Kmeans, faiss's simple interface to clustering, and the functions around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..border import Array, Kind, array_like, crossing, floats_in, tensor_of
from ..devices.available import get_num_gpus
from ..devices.cloning import index_cpu_to_all_gpus
from ..devices.options import GpuMultipleClonerOptions
from ..indexes.base import Index
from ..indexes.flat.flat import IndexFlatIP, IndexFlatL2
from ..ops.clustering import one_dimension as exact
from ..parts.clustering.clustering import Clustering
from ..parts.clustering.parameters import ClusteringParameters
from ..parts.clustering.progressive import ProgressiveDimClustering, ProgressiveDimClusteringParameters
from ..wrapper.pointers import Pointer, pointed


class ProgressiveDimIndexFactory:
    """Makes the indexes that ProgressiveDimClustering assigns with."""

    def __call__(self, dim: int) -> Index:
        """Return an empty index of a number of dimensions."""
        return IndexFlatL2(dim)


class GpuProgressiveDimIndexFactory(ProgressiveDimIndexFactory):
    """Makes them on the first GPUs.

    Parameters
    ----------
    ngpu : int
        How many GPUs.

    Attributes
    ----------
    options : GpuMultipleClonerOptions
        How an index is put on the GPUs.
    ncall : int
        How many indexes were made.

    Raises
    ------
    RuntimeError
        If there are not as many GPUs.
    """

    def __init__(self, ngpu: int) -> None:
        if not 1 <= ngpu <= get_num_gpus():
            raise RuntimeError(f"{ngpu} GPUs asked for: expected 1 ... {get_num_gpus()}, see set_gpu_devices")
        self.options = GpuMultipleClonerOptions()
        self.ncall = 0
        self._ngpu = ngpu

    def __call__(self, dim: int) -> Index:
        """Return an empty index of a number of dimensions."""
        self.ncall += 1
        return index_cpu_to_all_gpus(IndexFlatL2(dim), self.options, self._ngpu)


class Kmeans:
    """k-means clustering of vectors.

    Parameters
    ----------
    d : int
        Dimensions.
    k : int
        Clusters.
    gpu : bool or int
        Number of GPUs to use, True or -1 for all; without a GPU the CPU is used.
    **kwargs
        Any setting of ``ClusteringParameters``; with `progressive_dim_steps`, of
        ``ProgressiveDimClusteringParameters``.

    Attributes
    ----------
    centroids : array, float32, shape (k, d)
        None before training; numpy or torch as the training vectors.
    obj : numpy.ndarray, float64
        The objective at each iteration.
    iteration_stats : list of dict
        obj, time, time_search, imbalance_factor and nsplit of each iteration.
    index : Index
        Holds the centroids after training.
    cp : ClusteringParameters
        The settings.

    Raises
    ------
    AttributeError
        If a keyword is not a setting.
    RuntimeError
        If there are GPUs, and not as many as asked for.
    """

    def __init__(self, d: int, k: int, **kwargs: Any) -> None:
        self.d = d
        self.reset(k)
        self.gpu: bool | int = False
        self.cp: ClusteringParameters
        if "progressive_dim_steps" in kwargs:
            self.cp = ProgressiveDimClusteringParameters()
        else:
            self.cp = ClusteringParameters()
        for name, value in kwargs.items():
            if name == "gpu":
                self.gpu = get_num_gpus() if value is True or value == -1 else value
            else:
                getattr(self.cp, name)
                setattr(self.cp, name, value)
        self.set_index()

    def set_index(self) -> None:
        """Make the index that training assigns with, as the settings ask for."""
        on_gpus = bool(self.gpu) and get_num_gpus() > 0
        if isinstance(self.cp, ProgressiveDimClusteringParameters):
            self.fac = GpuProgressiveDimIndexFactory(int(self.gpu)) if on_gpus else ProgressiveDimIndexFactory()
            return
        self.index: Index = IndexFlatIP(self.d) if self.cp.spherical else IndexFlatL2(self.d)
        if on_gpus:
            self.index = index_cpu_to_all_gpus(self.index, ngpu=int(self.gpu))

    def reset(self, k: int | None = None) -> None:
        """Prepare for another training, possibly with another number of clusters."""
        if k is not None:
            self.k = int(k)
        self.centroids: Array | None = None
        self.obj: np.ndarray | None = None
        self.iteration_stats: list[dict[str, Any]] | None = None

    @crossing
    def train(self, x: Array, weights: Array | None = None, init_centroids: Array | None = None) -> float:
        """Cluster vectors; the results are in the attributes.

        Parameters
        ----------
        x : array or what numpy makes one of, shape (n, d)
        weights : array or what numpy makes one of, shape (n,), optional
            How much each vector counts.
        init_centroids : array, float32, shape (m, d), optional
            Centroids to start from, m <= k.

        Returns
        -------
        float
            The objective at the last iteration, 0 without iterations.

        Raises
        ------
        AssertionError
            If a width is not d, or something is given that progressive clustering cannot use.
        RuntimeError
            If there are fewer vectors than clusters, or some are not finite.
        """
        x = array_like(x)
        if len(x.shape) != 2:
            raise ValueError(f"expected vectors of shape (n, {self.d}), got shape {tuple(x.shape)}")
        if x.shape[1] != self.d:
            raise AssertionError(f"vectors have {x.shape[1]} dimensions, expected {self.d}")
        clustering = (
            self._train_progressively(x, weights, init_centroids)
            if isinstance(self.cp, ProgressiveDimClusteringParameters)
            else self._train(x, weights, init_centroids)
        )
        self.centroids = Kind(x).out(tensor_of(clustering.centroids.array.reshape(self.k, self.d)))
        stats = list(clustering.iteration_stats)
        self.obj = np.array([entry.obj for entry in stats])
        self.iteration_stats = [
            {field: getattr(entry, field) for field in ("obj", "time", "time_search", "imbalance_factor", "nsplit")}
            for entry in stats
        ]
        return self.obj[-1] if len(self.obj) else 0.0

    def _train(self, x: Array, weights: Array | None, init_centroids: Array | None) -> Clustering:
        clustering = Clustering(self.d, self.k, self.cp)
        if init_centroids is not None:
            init_centroids = array_like(init_centroids)
            count, width = init_centroids.shape
            if width != self.d:
                raise AssertionError(f"init_centroids have {width} dimensions, expected {self.d}")
            if init_centroids.dtype not in (np.float32, torch.float32):
                raise AssertionError(f"init_centroids are {init_centroids.dtype}, expected float32")
            given = floats_in(init_centroids, torch.device("cpu"))
            clustering.centroids.assign(given.reshape(count * width).numpy())
        self._cluster(clustering, x, weights)
        return clustering

    def _cluster(self, clustering: Clustering, x: Array, weights: Array | None) -> None:
        clustering.train(x, self.index, weights)

    def _train_progressively(
        self, x: Array, weights: Array | None, init_centroids: Array | None
    ) -> ProgressiveDimClustering:
        for name, given in (("weights", weights is not None), ("init_centroids", init_centroids is not None)):
            if given:
                raise AssertionError(f"progressive_dim_steps cannot be combined with {name}")
        if self.cp.spherical:
            raise AssertionError("progressive_dim_steps cannot be combined with spherical")
        clustering = ProgressiveDimClustering(self.d, self.k, self.cp)  # type: ignore[arg-type]
        clustering.train(len(x), x, self.fac)
        return clustering

    @crossing
    def assign(self, x: Array) -> tuple[Array, Array]:
        """Find the nearest centroid of vectors.

        Parameters
        ----------
        x : array, shape (n, d)

        Returns
        -------
        D : array, float32, shape (n,)
        I : array, int64, shape (n,)

        Raises
        ------
        AssertionError
            Before training.
        """
        if self.centroids is None:
            raise AssertionError("should train before assigning")
        self.index.reset()
        self.index.add(self.centroids)
        D, I = self.index.search(array_like(x), 1)
        return D.reshape(-1), I.reshape(-1)


def kmeans_clustering(d: int, n: int, k: int, x: Pointer, centroids: Pointer) -> float:
    """Cluster vectors with the default settings.

    Parameters
    ----------
    d, n, k : int
        Dimensions, vectors, clusters.
    x : Pointer to float32
        n * d values.
    centroids : Pointer to float32
        Where to put k * d values.

    Returns
    -------
    float
        The objective at the last iteration.
    """
    clustering = Clustering(d, k)
    clustering.verbose = d * n * k > 1 << 30
    clustering.train(pointed(x, n * d, "float32", "kmeans_clustering").reshape(n, d), IndexFlatL2(d))
    pointed(centroids, k * d, "float32", "kmeans_clustering")[:] = clustering.centroids.array
    return clustering.iteration_stats.at(clustering.iteration_stats.size() - 1).obj


def kmeans1d(x: Pointer, n: int, nclusters: int, centroids: Pointer) -> float:
    """Cluster numbers exactly.

    Parameters
    ----------
    x : Pointer to float32
        n values.
    n, nclusters : int
    centroids : Pointer to float32
        Where to put nclusters values.

    Returns
    -------
    float
        The imbalance factor of the clusters.
    """
    found, balance = exact.kmeans1d(pointed(x, n, "float32", "kmeans1d"), nclusters)
    pointed(centroids, nclusters, "float32", "kmeans1d")[:] = found
    return balance


def smawk(nrows: int, ncols: int, x: Pointer, argmins: Pointer) -> None:
    """Find the row minima of a totally monotone matrix: the lowest position of each.

    Parameters
    ----------
    nrows, ncols : int
    x : Pointer to float32
        nrows * ncols values.
    argmins : Pointer to int64
        Where to put nrows positions.
    """
    matrix = pointed(x, nrows * ncols, "float32", "smawk").reshape(nrows, ncols)
    pointed(argmins, nrows, "int64", "smawk")[:] = matrix.argmin(1)
