"""Variants of k-means, as ``faiss.contrib.clustering`` has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import torch

from .. import METRIC_L2, IndexFlatL2, Kmeans, downcast_index, knn

Array = np.ndarray


def print_nop(*arg: Any, **kwargs: Any) -> None:
    """Print nothing."""


def _shares(counts: Array, total: int) -> Array:
    """Divide `total` in proportion to the counts, so that the shares sum up to it."""
    ends = np.cumsum(counts) * total // counts.sum()
    return np.diff(ends, prepend=0)


def two_level_clustering(
    xt: Array, nc1: int, nc2: int, rebalance: bool = True, clustering_niter: int = 25, **args: Any
) -> tuple[Array, list]:
    """Cluster coarsely, then each coarse cluster by itself: much faster than one large k-means.

    Parameters
    ----------
    xt : array, float32, shape (n, d)
    nc1 : int
        Coarse clusters.
    nc2 : int
        Clusters in all.
    rebalance : bool
        Whether large coarse clusters are divided into more clusters than small ones.
    clustering_niter : int
        Iterations of the coarse clustering.
    **args
        Further arguments of `Kmeans`, for both levels.

    Returns
    -------
    centroids : array, float32, shape (nc2, d)
    iteration_stats : list
        Of the coarse clustering, then of each coarse cluster's.
    """
    d = xt.shape[1]
    log = print if args.get("verbose", False) else print_nop
    log(f"2-level clustering of {xt.shape}: {nc1} clusters at the first level, {nc2} in all")
    coarse = Kmeans(d, nc1, niter=clustering_niter, max_points_per_centroid=2000, **args)
    coarse.train(xt)
    stats = [coarse.iteration_stats]
    _, assign = coarse.assign(xt)
    sizes = np.bincount(assign, minlength=nc1)
    shares = _shares(sizes if rebalance else np.ones(nc1, dtype=np.int64), nc2)
    log(f"coarse clusters of {sizes.min()} to {sizes.max()} vectors, divided into {shares.min()} to {shares.max()}")
    centroids: list[Any] = []
    for c, members in enumerate(np.split(np.argsort(assign), np.cumsum(sizes)[:-1])):
        fine = Kmeans(d, int(shares[c]), **args)
        fine.train(xt[members])
        stats.append(fine.iteration_stats)
        centroids.append(fine.centroids)
    return np.vstack(centroids), stats


def train_ivf_index_with_2level(index: Any, xt: Array, **args: Any) -> None:
    """Train an IVF index, or one behind transforms, with centroids from `two_level_clustering`.

    Parameters
    ----------
    index : Index
        For L2 distances.
    xt : array, float32, shape (n, d)
    **args
        Further arguments of `two_level_clustering`.
    """
    index = downcast_index(index)
    if hasattr(index, "chain"):
        for i in range(index.chain.size()):
            transform = index.chain.at(i)
            transform.train(xt)
            xt = transform.apply(xt)
        train_ivf_index_with_2level(index.index, xt, **args)
        index.is_trained = True
        return
    assert index.metric_type == METRIC_L2, f"metric_type is {index.metric_type}, expected METRIC_L2"
    centroids, _ = two_level_clustering(xt, int(np.sqrt(index.nlist)), index.nlist, **args)
    index.quantizer.train(centroids)
    index.quantizer.add(centroids)
    # the quantizer is full: this trains the rest
    index.train(xt)


def balanced_assignment_with_penalties(
    x: Array, centroids: Array, alpha: float = 0.03, num_iter: int = 20, maxk: int = 100
) -> tuple[Array, dict[str, Any]]:
    """Assign vectors to centroids so that clusters come out of more even sizes.

    Each cluster has a penalty, whose square is added to its squared distances and which grows while the
    cluster is larger than the average: Tavenard et al., Balancing clusters to reduce response time
    variability in large scale image search, CBMI 2011.

    Parameters
    ----------
    x : array, float32, shape (n, d)
    centroids : array, float32, shape (nc, d)
    alpha : float
        How fast penalties grow, 0.01 to 0.1: evener clusters against a larger mean squared error.
    num_iter : int
    maxk : int
        The nearest centroids among which a vector's is chosen, at most nc.

    Returns
    -------
    assign : array, int64, shape (n,)
    stats : dict
        ``alpha``, the imbalance factor ``imf``, the mean squared error ``mse``, and the least and largest
        cluster size and penalty: ``binsize_min``, ``binsize_max``, ``penalty_min``, ``penalty_max``.
    """
    nc = len(centroids)
    distances, candidates = knn(x, centroids, maxk)
    penalties = np.ones(nc, dtype=np.float32)
    for _ in range(num_iter):
        best = (distances + (penalties**2)[candidates]).argmin(axis=1)
        assign = np.take_along_axis(candidates, best[:, None], axis=1).ravel()
        sizes = np.bincount(assign, minlength=nc)
        penalties *= (sizes * nc / len(x)) ** alpha
    return assign, {
        "alpha": alpha,
        "imf": imbalance_factor(nc, assign),
        "mse": ((x - centroids[assign]) ** 2).sum(1).mean(),
        "binsize_min": int(sizes.min()),
        "binsize_max": int(sizes.max()),
        "penalty_min": penalties.min(),
        "penalty_max": penalties.max(),
    }


class DatasetAssign:
    """Training vectors as `kmeans` sees them: a matrix.

    Other classes with these methods stand for other kinds of storage.
    """

    def __init__(self, x: Array) -> None:
        self.x = np.ascontiguousarray(x, dtype=np.float32)

    def count(self) -> int:
        """Return the number of vectors."""
        return self.x.shape[0]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.x.shape[1]

    def get_subset(self, indices: Array) -> Array:
        """Return some of the vectors, as a dense matrix."""
        return self.x[indices]

    def perform_search(self, centroids: Array) -> tuple[Array, Array]:
        """Return the squared distance and the number of each vector's nearest centroid."""
        return knn(self.x, centroids, 1)

    def assign_to(self, centroids: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
        """Assign the vectors to their nearest centroids.

        Returns
        -------
        I : array, int64, shape (n,)
        D : array, float32, shape (n,)
        sum_per_centroid : array, float32, shape (nc, d)
            The (weighted) sum of each centroid's vectors.
        """
        D, I = (result.ravel() for result in self.perform_search(centroids))
        weighted = self.x if weights is None else weights[:, None] * self.x
        sums = np.zeros(centroids.shape, dtype=np.float32)
        np.add.at(sums, I, weighted)
        return I, D, sums


class DatasetAssignGPU(DatasetAssign):
    """The same, with assignment on the GPU `gpu_id`, or on all where that is -1."""

    def __init__(self, x: Array, gpu_id: int, verbose: bool = False) -> None:
        from .. import StandardGpuResources, index_cpu_to_all_gpus, index_cpu_to_gpu

        super().__init__(x)
        index = IndexFlatL2(self.dim())
        if gpu_id >= 0:
            self.index = index_cpu_to_gpu(StandardGpuResources(), gpu_id, index)
        else:
            self.index = index_cpu_to_all_gpus(index)

    def perform_search(self, centroids: Array) -> tuple[Array, Array]:
        """Return the squared distance and the number of each vector's nearest centroid."""
        self.index.reset()
        self.index.add(centroids)
        return self.index.search(self.x, 1)


def sparse_assign_to_dense(
    xq: Any, xb: Array, xq_norms: Array | None = None, xb_norms: Array | None = None
) -> tuple[Array, Array]:
    """Find the nearest dense vector of each sparse one, by a matrix product.

    Parameters
    ----------
    xq : scipy.sparse matrix, shape (nq, d)
    xb : array, shape (nb, d)
    xq_norms, xb_norms : array, optional
        Squared norms, where they are known.

    Returns
    -------
    D, I : array, shape (nq,)
    """
    if xb_norms is None:
        xb_norms = (xb**2).sum(1)
    if xq_norms is None:
        xq_norms = np.asarray(xq.power(2).sum(1))
    scores = xb_norms - 2 * (xq @ xb.T)
    I = scores.argmin(axis=1)
    return scores[np.arange(len(I)), I] + xq_norms.ravel(), I


def sparse_assign_to_dense_blocks(
    xq: Any,
    xb: Array,
    xq_norms: Array | None = None,
    xb_norms: Array | None = None,
    qbs: int = 16384,
    bbs: int = 16384,
    nt: int | None = None,
) -> tuple[Array, Array]:
    """Do the same in blocks of `qbs` by `bbs` vectors, on `nt` threads (None for all cores)."""
    nq, nb = xq.shape[0], xb.shape[0]
    D = np.full(nq, np.inf, dtype=np.float32)
    I = np.full(nq, -1, dtype=np.int64)
    norms_q = np.asarray(xq.power(2).sum(1)) if xq_norms is None else xq_norms
    norms_b = (xb**2).sum(1) if xb_norms is None else xb_norms

    def handle_query_block(i: int) -> None:
        for j in range(0, nb, bbs):
            Dj, Ij = sparse_assign_to_dense(
                xq[i : i + qbs], xb[j : j + bbs], norms_q[i : i + qbs], norms_b[j : j + bbs]
            )
            nearer = Dj < D[i : i + qbs]
            D[i : i + qbs][nearer] = Dj[nearer]
            I[i : i + qbs][nearer] = Ij[nearer] + j

    starts = range(0, nq, qbs)
    if nt in (0, 1) or len(starts) <= 1:
        for start in starts:
            handle_query_block(start)
    else:
        with ThreadPool(nt) as pool:
            pool.map(handle_query_block, starts)
    return D, I


class DatasetAssignSparse(DatasetAssign):
    """Training vectors in a ``scipy.sparse.csr_matrix``."""

    def __init__(self, x: Any) -> None:
        assert type(x).__name__ == "csr_matrix", f"expected a scipy.sparse.csr_matrix, got {type(x).__name__}"
        self.x = x
        self.squared_norms = np.asarray(x.power(2).sum(1))

    def get_subset(self, indices: Array) -> Array:
        """Return some of the vectors, as a dense matrix."""
        return self.x[indices].toarray()

    def perform_search(self, centroids: Array) -> tuple[Array, Array]:
        """Return the squared distance and the number of each vector's nearest centroid."""
        return sparse_assign_to_dense_blocks(self.x, centroids, xq_norms=self.squared_norms)

    def assign_to(self, centroids: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
        """Assign the vectors to their nearest centroids; see `DatasetAssign.assign_to`."""
        from scipy import sparse

        D, I = self.perform_search(centroids)
        n = self.count()
        if weights is None:
            weights = np.ones(n, dtype=np.float32)
        members = sparse.csc_matrix((weights, I, np.arange(n + 1)), shape=(len(centroids), n))
        return I, D, (members @ self.x).toarray()


def imbalance_factor(k: int, assign: Array) -> float:
    """Return how uneven an assignment to `k` clusters is: 1 if all have one size, k if one has all."""
    sizes = np.bincount(assign, minlength=k).astype(np.float64)
    return float((sizes**2).sum() * k / sizes.sum() ** 2)


def check_if_torch(x: Any) -> bool:
    """Return whether an array is a torch tensor; raise NotImplementedError if it is no numpy array either."""
    if isinstance(x, torch.Tensor):
        return True
    if isinstance(x, np.ndarray):
        return False
    raise NotImplementedError(f"Unknown tensor type {type(x)}")


def reassign_centroids(hassign: Array, centroids: Any, rs: Any = None) -> int:
    """Split large clusters to give empty ones a centroid.

    Parameters
    ----------
    hassign : array, int, shape (k,)
        Sizes of the clusters; changed in place.
    centroids : array or tensor, shape (k, d)
        Changed in place.
    rs : numpy.random.RandomState, optional

    Returns
    -------
    int
        The number of empty clusters that were filled.
    """
    rs = np.random if rs is None else rs
    ones = torch.ones_like(centroids[0]) if check_if_torch(centroids) else np.ones_like(centroids[0])
    factor = ones
    factor[::2] += 1 / 1024.0
    factor[1::2] -= 1 / 1024.0
    empty = np.flatnonzero(hassign == 0)
    filled = len(empty)
    # one pass, unless more than half of the clusters are empty
    while len(empty):
        probabilities = np.maximum(hassign.astype(np.float64) - 1, 0)
        probabilities /= probabilities.sum()
        count = min(np.count_nonzero(probabilities), len(empty))
        for target, source in zip(empty[:count], rs.choice(len(hassign), size=count, p=probabilities), strict=True):
            centroid = centroids[source]
            centroids[target], centroids[source] = centroid * factor, centroid / factor
            hassign[target] = hassign[source] // 2
            hassign[source] -= hassign[target]
        empty = empty[count:]
    return filled


def kmeans(
    k: int,
    data: Any,
    niter: int = 25,
    seed: int = 1234,
    checkpoint: str | None = None,
    verbose: bool = True,
    return_stats: bool = False,
) -> Any:
    """Cluster vectors that are not, or not only, in a matrix.

    Parameters
    ----------
    k : int
    data : DatasetAssign
    niter : int
    seed : int
        For numpy's generator.
    checkpoint : str, optional
        A file that the centroids are written to after each iteration.
    verbose : bool
    return_stats : bool

    Returns
    -------
    centroids : array or tensor, shape (k, d)
    iteration_stats : list of dict
        Only with `return_stats`: ``obj``, ``time``, ``time_search``, ``imbalance_factor`` and ``nsplit``.
    """
    log: Callable = print if verbose else print_nop
    log(f"Clustering {data.count()} points in {data.dim()}D to {k} clusters, {niter} iterations seed {seed}")
    random = np.random.RandomState(seed)
    centroids = data.get_subset(random.choice(data.count(), size=k, replace=False))
    is_torch = check_if_torch(centroids)
    iteration_stats = []
    start, search_time = time.time(), 0.0
    for i in range(niter):
        before = time.time()
        assign, D, sums = data.assign_to(centroids)
        search_time += time.time() - before
        sizes = np.bincount(assign, minlength=k)
        divisors = np.maximum(sizes, 1).astype(np.float32)[:, None]
        centroids = sums / (torch.from_numpy(divisors).to(sums.device) if is_torch else divisors)
        stats = {
            "obj": D.sum().item(),
            "time": time.time() - start,
            "time_search": search_time,
            "imbalance_factor": imbalance_factor(k, assign),
            "nsplit": reassign_centroids(sizes, centroids, random),
        }
        log("  Iteration", i, " ".join(f"{name}={value:g}" for name, value in stats.items()))
        iteration_stats.append(stats)
        if checkpoint is not None:
            if is_torch:
                torch.save(centroids, checkpoint)
            else:
                np.save(checkpoint, centroids)
    return (centroids, iteration_stats) if return_stats else centroids
