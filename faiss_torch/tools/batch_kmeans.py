"""k-means of several sets of vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import border
from ..border import Array
from ..constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..interrupts import InterruptCallback
from ..ops import kmeans, workers
from ..ops.kmeans_initialization import init_random
from ..ops.nearest import nearest_of_sets


def batch_kmeans(
    x: Array,
    k: int,
    *,
    niter: int = 25,
    seed: int = 1234,
    spherical: bool = False,
    init_centroids: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Cluster each of several sets of vectors (an extension: faiss has no such function).

    Each set gets the centroids that ``Kmeans(d, k, niter=niter, seed=seed, spherical=spherical,
    max_points_per_centroid=n)`` finds for it alone; the steps of all sets are done together, on a GPU by one kernel.

    Parameters
    ----------
    x : array, shape (b, n, d)
        b sets. It stays on its device; dtypes other than float32 are cast.
    k : int
        Clusters of each set.
    niter : int
        Iterations, at most: a set whose objective does not change any more is done.
    seed : int
        Of the permutation whose first k vectors are the first centroids.
    spherical : bool
        Whether centroids are normalised after each iteration, and vectors assigned by inner product.
    init_centroids : array, shape (b, k, d), optional
        Where to start instead.

    Returns
    -------
    centroids : array of float32, shape (b, k, d)
    labels : array of int64, shape (b, n)
        The cluster of each vector, of these centroids.
    obj : array of float32, shape (b, iterations)
        The objective of each iteration; the last one again where other sets took more of them.

    Raises
    ------
    ValueError
        If an array is not three-dimensional.
    AssertionError
        If `init_centroids` has another shape.
    RuntimeError
        If there are fewer vectors than clusters, niter is negative, or a value is not finite.
    """
    if len(x.shape) != 3:
        raise ValueError(f"expected an array of shape (b, n, d), got shape {tuple(x.shape)}")
    b, n, d = x.shape
    if k <= 0 or n < k or niter < 0:
        raise RuntimeError(f"expected 1 <= k <= n and niter >= 0, got k={k}, n={n} and niter={niter}")
    if init_centroids is not None and tuple(init_centroids.shape) != (b, k, d):
        raise AssertionError(f"init_centroids have shape {tuple(init_centroids.shape)}, expected {(b, k, d)}")
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")

    def train() -> tuple[Array, Array, Array]:
        vectors, kind = border.vectors_in(x.reshape(b * n, d), d, device)
        if not kmeans.all_finite(vectors):
            raise RuntimeError("input contains NaN's or Inf's")
        sets = vectors.view(b, n, d)
        if init_centroids is None:
            chosen = torch.from_numpy(init_random(n, k, kmeans.actual_seed(seed) + 1)[:k])
            centroids = sets[:, chosen.to(device)]
        else:
            kind.require(init_centroids, "init_centroids")
            centroids = border.floats_in(init_centroids, device).clone()
        return tuple(kind.out(each) for each in _iterate(sets, centroids, niter, spherical))

    return workers.conduct(train, device, (x, init_centroids))


def _iterate(x: Tensor, centroids: Tensor, niter: int, spherical: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the iterations on sets, (b, n, d): see `batch_kmeans`."""
    metric_type = METRIC_INNER_PRODUCT if spherical else METRIC_L2
    centroids = _post_processed(centroids, spherical)
    running = torch.arange(len(x), device=x.device)
    objectives: list[Tensor] = []
    if x.shape[1] > centroids.shape[1]:  # as many vectors as clusters are their own centroids
        for _ in range(niter):
            sets = x if len(running) == len(x) else x[running]
            distances, labels = nearest_of_sets(sets, centroids[running], metric_type)
            InterruptCallback.check()
            obj = torch.tensor([kmeans.objective(each) for each in distances], device=x.device)
            objectives.append(obj if not objectives else objectives[-1].index_copy(0, running, obj))
            centroids[running] = _post_processed(_updated(sets, labels, centroids.shape[1]), spherical)
            if len(objectives) > 1:
                running = running[objectives[-1][running] != objectives[-2][running]]
            if not len(running):
                break
    labels = nearest_of_sets(x, centroids, metric_type)[1]
    return centroids, labels, torch.stack(objectives, 1) if objectives else x.new_empty(len(x), 0)


def _updated(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the means of the clusters of sets, empty ones split: (b, k, d)."""
    b, n, d = x.shape
    clusters = labels + torch.arange(0, b * k, k, device=x.device)[:, None]
    sums, hassign = kmeans.compute_centroids(x.reshape(b * n, d), clusters.view(-1), b * k, None)
    moved, counts = kmeans.means(sums, hassign).view(b, k, d), hassign.view(b, k)
    for number in (counts == 0).any(1).nonzero().view(-1).tolist():
        host, host_counts = moved[number].cpu().numpy(), counts[number].cpu().numpy()
        kmeans.split_clusters(host, host_counts, n)
        moved[number] = torch.from_numpy(host).to(x.device)
    return moved


def _post_processed(centroids: Tensor, spherical: bool) -> Tensor:
    if not spherical:
        return centroids
    return kmeans.renorm_L2(centroids.flatten(0, 1)).view_as(centroids)
