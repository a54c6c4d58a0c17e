"""k-means of several sets of vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import border
from ..border import Array, crossing
from ..constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..interrupts import InterruptCallback
from ..ops.clustering import steps
from ..ops.clustering.initialization import init_random
from ..ops.clustering.lloyd import Lloyd, Options
from ..ops.clustering.nearest import labels_of_sets
from ..ops.runtime import workers


@crossing
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
        b sets. They stay on their device; dtypes other than float32, float16 and bfloat16 are cast to float32.
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
    options = Options(METRIC_INNER_PRODUCT if spherical else METRIC_L2, niter, spherical)
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")

    def train() -> tuple[Array, Array, Array]:
        vectors, kind = border.training_vectors_in(x.reshape(b * n, d), d)
        if vectors.dtype not in (torch.float16, torch.bfloat16):
            vectors = vectors.to(torch.float32)
        if not steps.all_finite(vectors):
            raise RuntimeError("input contains NaN's or Inf's")
        sets = vectors.view(b, n, d)
        if init_centroids is None:
            chosen = torch.from_numpy(init_random(n, k, steps.actual_seed(seed) + 1)[:k])
            centroids = sets[:, chosen.to(device)].to(torch.float32)
        else:
            kind.require(init_centroids, "init_centroids")
            centroids = border.floats_in(init_centroids, device).clone()
        return tuple(kind.out(each) for each in _clustered(sets, centroids, options))

    return workers.conduct(train, device, (x, init_centroids))


def _clustered(x: Tensor, centroids: Tensor, options: Options) -> tuple[Tensor, Tensor, Tensor]:
    """Cluster sets, (b, n, d): see `batch_kmeans`."""
    centroids, objectives = options.post_processed(centroids), x.new_empty(len(x), 0, dtype=torch.float32)
    if x.shape[1] > centroids.shape[1]:  # as many vectors as clusters are their own centroids
        lloyd = Lloyd(x, centroids, None, options)
        for _ in lloyd.run():
            InterruptCallback.check()
        centroids, longest = lloyd.centroids, max(map(len, lloyd.turns), default=0)
        rows = [[turn.obj for turn in turns] for turns in lloyd.turns]
        rows = [row + row[-1:] * (longest - len(row)) for row in rows]
        objectives = objectives.new_tensor(rows).view(len(x), longest)
    return centroids, labels_of_sets(x, centroids, options.metric_type), objectives
