"""The centroid update of k-means: sums of the vectors of each cluster, and their number.

The vectors are put in the order of their clusters (a stable sort, so that results do not depend on threads), and each
cluster is one bag of an embedding sum; faiss's ``compute_centroids`` (``faiss/Clustering.cpp``) does the same vector
by vector. On GPUs a Triton kernel does it (`kernels.centroid_update`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import kernels
from ...constants import METRIC_L2
from ...threads import omp_get_max_threads
from ..runtime import chunks, workers
from .nearest_int8 import keys_of


class ClusterSums(NamedTuple):
    """What an update knows of each cluster; those of parts of the vectors are added up.

    Attributes
    ----------
    sums : Tensor, float32, shape (k, d)
        Of its vectors times their weights.
    sizes : Tensor, float32, shape (k,)
        Of their weights: faiss's ``hassign``.
    counts : Tensor, int64, shape (k,)
        Vectors.
    costs : Tensor, float32, shape (k,)
        Sum of the distances of its vectors to where its centroid was; zeros where that is not asked for.
    """

    sums: Tensor
    sizes: Tensor
    counts: Tensor
    costs: Tensor

    @staticmethod
    def none(centroids: Tensor) -> ClusterSums:
        """Those of no vectors, for centroids, float32, (k, d)."""
        nothing = torch.zeros_like(centroids[:, 0])
        return ClusterSums(torch.zeros_like(centroids), nothing, nothing.long(), nothing.clone())

    def plus(self, other: ClusterSums) -> ClusterSums:
        """Those of the vectors of both."""
        return ClusterSums(*(one + another.to(one.device) for one, another in zip(self, other, strict=True)))


def centroid_update_reference(
    x: Tensor,
    labels: Tensor,
    k: int,
    weights: Tensor | None = None,
    centroids: Tensor | None = None,
    metric_type: int = METRIC_L2,
) -> ClusterSums:
    """Do what `centroid_update` does vector by vector, in float64 (its oracle)."""
    sums, sizes, costs = (torch.zeros(k, width, dtype=torch.float64, device="cpu") for width in (x.shape[1], 1, 1))
    counts = torch.zeros(k, dtype=torch.int64, device="cpu")
    for number, label in enumerate(labels.tolist()):
        if not 0 <= label < k:
            continue
        vector, weight = x[number].double().cpu(), 1.0 if weights is None else float(weights[number])
        sums[label] += weight * vector
        sizes[label] += weight
        counts[label] += 1
        if centroids is not None:
            centroid = centroids[label].double().cpu()
            cost = (vector - centroid).square() if metric_type == METRIC_L2 else vector * centroid
            costs[label] += cost.sum()
    found = ClusterSums(sums.float(), sizes[:, 0].float(), counts, costs[:, 0].float())
    return ClusterSums(*(each.to(x.device) for each in found))


def centroid_update(
    x: Tensor,
    labels: Tensor,
    k: int,
    weights: Tensor | None = None,
    centroids: Tensor | None = None,
    metric_type: int = METRIC_L2,
    impl: str = "auto",
) -> ClusterSums:
    """Sum the vectors of each cluster.

    Parameters
    ----------
    x : Tensor, float32 (float16 or bfloat16 too), shape (n, d)
        Finite.
    labels : Tensor, int64, shape (n,)
        The cluster of each vector; those outside 0 ... k - 1 are left out.
    k : int
    weights : Tensor, float32, shape (n,), optional
        None weighs every vector 1.
    centroids : Tensor, float32, shape (k, d), optional
        Where the centroids were: the costs are wanted.
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT, for the costs.
    impl : str
        One of `kernels.IMPLEMENTATIONS`.

    Returns
    -------
    ClusterSums
        The same from run to run; by a kernel, without waiting for the device.

    Raises
    ------
    RuntimeError
        If the kernel is asked for where it cannot run.
    """
    return kernels.run(
        "centroid_update",
        x.device,
        impl,
        lambda: ClusterSums(*_by_kernel(x, labels, k, weights, centroids, metric_type)),
        lambda: _by_bags(x, labels, k, weights, centroids, metric_type),
    )


def _by_kernel(
    x: Tensor, labels: Tensor, k: int, weights: Tensor | None, centroids: Tensor | None, metric_type: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from ...kernels.centroid_update import centroid_update as kernel

    return kernel(x, labels, k, weights, centroids, metric_type == METRIC_L2)


def _by_bags(
    x: Tensor, labels: Tensor, k: int, weights: Tensor | None, centroids: Tensor | None, metric_type: int
) -> ClusterSums:
    """Sum by plain torch."""
    threads = omp_get_max_threads() if x.device.type == "cpu" else 1
    known = torch.where((labels >= 0) & (labels < k), labels, k)
    order = _order(known, k)
    counts = torch.bincount(known, minlength=k + 1)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def bags(table: Tensor, weights: Tensor | None, clusters: slice) -> Tensor:
        begin, end = int(offsets[clusters.start]), int(offsets[clusters.stop])
        members = order[begin:end]
        own = None if weights is None else weights[members]
        return torch.nn.functional.embedding_bag(
            members, table, offsets[clusters] - begin, mode="sum", per_sample_weights=own
        )

    parts = chunks.slices(k, -(-k // max(1, 4 * threads)) if threads > 1 else k)
    table = x.to(torch.float32)
    sums = torch.cat(workers.map_over_workers(lambda part: bags(table, weights, part), parts, threads))
    sizes = counts[:k].float() if weights is None else bags(weights[:, None], None, slice(0, k))[:, 0]
    costs = torch.zeros_like(sizes)
    if centroids is not None:
        own = known.clamp(max=k - 1)
        keys = keys_of(table, centroids, own, metric_type)
        costs = bags((keys if metric_type == METRIC_L2 else keys.neg_())[:, None], None, slice(0, k))[:, 0]
    return ClusterSums(sums, sizes, counts[:k], costs)


def _order(labels: Tensor, largest: int) -> Tensor:
    """Return the stable order of cluster numbers up to a largest one: int64, (n,)."""
    if labels.device.type == "cpu" and largest < 1 << 15:  # numpy sorts 16-bit numbers by counting
        return torch.from_numpy(np.argsort(labels.to(torch.int16).numpy(), kind="stable"))
    return labels.argsort(stable=True)
