"""k-means of vectors that are in several places: several processes, or several objects of one process.

The processes are those of ``torch.distributed``, on one machine or several. All run the same program, and each holds
its own vectors, which stay where they are; what is exchanged are the sums of the clusters::

    torch.distributed.init_process_group("nccl")
    kmeans = DistributedKmeans(d, 1000, gpu=1)
    kmeans.train(vectors_of_this_process)  # kmeans.centroids are the same in every process

The other classes are data for `contrib.clustering.kmeans`. faiss has the first of them in its program for distributed
k-means, where it talks to servers::

    data = DatasetAssignDistributed(vectors_of_this_process)
    centroids = kmeans(1000, data)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .. import Kmeans, border
from ..ops.clustering.centroid_update import ClusterSums
from ..ops.runtime import workers
from ..parts.clustering.clustering import Clustering
from ..parts.clustering.training_set import TrainingSet
from .torch.clustering import DatasetAssign

Array = np.ndarray


class DistributedKmeans(Kmeans):
    """k-means of the vectors of all processes of a ``torch.distributed`` group.

    The centroids are those that `Kmeans` finds for the vectors of all processes, one behind the other in the order of
    the ranks, up to rounding: it draws the same initial centroids, subsamples and splits as that does.

    Parameters
    ----------
    d, k : int
        Dimensions, and clusters.
    group : torch.distributed.ProcessGroup, optional
        The default is that of all processes.
    **kwargs
        As for `Kmeans`; `init_method` is ClusteringInitMethod_RANDOM.

    Attributes
    ----------
    group : torch.distributed.ProcessGroup or None
    """

    def __init__(self, d: int, k: int, group: Any = None, **kwargs: Any) -> None:
        super().__init__(d, k, **kwargs)
        self.group = group

    def train(self, x: Array | Tensor, weights: Any = None, init_centroids: Any = None) -> float:
        """Cluster the vectors of all processes; the results are in the attributes, the same in each process.

        Every process calls this at the same time.

        Parameters
        ----------
        x : array, shape (n, d)
            The vectors of this process. n may differ, and be 0.
        weights : array, shape (n,), optional
            Theirs; all processes give weights, or none does.
        init_centroids : array, float32, shape (m, d), optional
            Centroids to start from, m <= k, the same in each process.

        Returns
        -------
        float
            The objective of all vectors at the last iteration.

        Raises
        ------
        AssertionError
            If a width is not d, or the settings are those of progressive clustering.
        RuntimeError
            If there are fewer vectors than clusters, some are not finite, or the first centroids are not drawn at
            random.
        """
        if hasattr(self, "fac"):
            raise AssertionError("progressive_dim_steps cannot be combined with several processes")
        return super().train(x, weights, init_centroids)

    def _cluster(self, clustering: Clustering, x: Array | Tensor, weights: Any) -> None:
        vectors, kind = border.training_vectors_in(x, self.d)
        device = self.index.device
        if weights is not None:
            kind.require(weights, "weights")
            weights = border.floats_in(weights, device)
        data = _DistributedTrainingSet(vectors, weights, device, self.group)
        workers.conduct(lambda: clustering.train_set(data, self.index), device, (x, weights))


class _DistributedTrainingSet(TrainingSet):
    """The training vectors of all processes, of which this one has a part."""

    is_part = True

    def __init__(self, x: Tensor, weights: Tensor | None, device: torch.device, group: Any) -> None:
        super().__init__(x, weights, device)
        self._group = group
        self._where = torch.device("cpu") if dist.get_backend(group) == "gloo" else device
        sizes = [torch.zeros(1, dtype=torch.int64, device=self._where) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, torch.tensor([len(x)], dtype=torch.int64, device=self._where), group=group)
        before = sum(int(size) for size in sizes[: dist.get_rank(group)])
        #: the numbers of the vectors of this process among those of all, rising
        self._numbers = torch.arange(before, before + len(x), dtype=torch.int64, device="cpu")
        self._total = sum(int(size) for size in sizes)

    def __len__(self) -> int:
        return self._total

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        """Return what all processes together make of their values, on the device that these are on."""
        shared = values.to(self._where, copy=True).contiguous()
        dist.all_reduce(shared, operation, group=self._group)
        return shared.to(values.device)

    def finite(self) -> bool:
        """Whether the vectors of all processes hold neither NaN nor infinity."""
        here = torch.tensor(int(super().finite()), dtype=torch.int64, device="cpu")
        return bool(self._reduced(here, dist.ReduceOp.MIN))

    def subset(self, positions: Tensor) -> TrainingSet:
        """Some of the vectors with their weights, each in the process that has it."""
        begin, n = int(self._numbers[0]) if len(self._numbers) else 0, len(self._numbers)
        own = ((positions >= begin) & (positions < begin + n)).nonzero().view(-1)
        rows = positions[own] - begin
        part = copy.copy(self)
        part.x = self.x[rows.to(self.x.device)]
        part.weights = None if self.weights is None else self.weights[rows.to(self.weights.device)]
        part._numbers, part._total = own, len(positions)
        return part

    def vectors(self, positions: Tensor | None = None) -> Tensor:
        """Some of the vectors of all processes as float32 on the device."""
        if positions is None:
            raise RuntimeError("vectors of several processes need init_method=ClusteringInitMethod_RANDOM")
        places = torch.searchsorted(self._numbers, positions.cpu())
        own = (places < len(self._numbers)).nonzero().view(-1)
        own = own[self._numbers[places[own]] == positions.cpu()[own]]
        found = torch.zeros(len(positions), self.x.shape[1], dtype=torch.float32, device=self.device)
        found[own.to(self.device)] = super().vectors(places[own])
        return self._reduced(found)

    def combined(self, clusters: ClusterSums, obj: float) -> tuple[ClusterSums, float]:
        """Return what all processes know of the clusters, and the objective of all vectors."""
        total = self._reduced(torch.tensor(obj, dtype=torch.float64, device="cpu"))
        return ClusterSums(*(self._reduced(each) for each in clusters)), float(total.float())


class DatasetAssignDispatch:
    """The vectors of several `DatasetAssign` objects, one behind the other.

    Parameters
    ----------
    xes : sequence of DatasetAssign
        Objects with these methods, whose arrays are numpy's.
    in_parallel : bool
        Whether to ask them from one thread each.
    """

    def __init__(self, xes: Sequence[Any], in_parallel: bool) -> None:
        self.xes = list(xes)
        self.d = self.xes[0].dim()
        self.imap: Callable[..., Any] = ThreadPoolExecutor(len(self.xes)).map if in_parallel else map
        self.sizes = [x.count() for x in self.xes]
        self.cs = np.cumsum([0, *self.sizes])

    def count(self) -> int:
        """Return the number of vectors."""
        return int(self.cs[-1])

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.d

    def get_subset(self, indices: Array) -> Array:
        """Return some of the vectors."""
        found = np.zeros((len(indices), self.d), dtype=np.float32)
        owners = np.searchsorted(self.cs[1:], indices, side="right")

        def fetch(i: int) -> None:
            found[owners == i] = self.xes[i].get_subset(indices[owners == i] - self.cs[i])

        list(self.imap(fetch, range(len(self.xes))))
        return found

    def assign_to(self, centroids: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
        """Assign the vectors to their nearest centroids: see `contrib.clustering.DatasetAssign`."""

        def assign(i: int) -> tuple[Array, Array, Array]:
            own = None if weights is None else weights[self.cs[i] : self.cs[i + 1]]
            return self.xes[i].assign_to(centroids, own)

        I, D, sums = zip(*self.imap(assign, range(len(self.xes))), strict=True)
        return np.hstack(I), np.hstack(D), np.sum(sums, axis=0)


class DatasetAssignDistributed(DatasetAssign):
    """The vectors of all processes of a ``torch.distributed`` group, in the order of their ranks.

    Every process holds its own vectors, and all call the same methods in the same order, as they do when all run
    `kmeans` with the same arguments; each then gets the same results.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
        The vectors of this process, on a device that the group's backend works with; n may differ.
    group : torch.distributed.ProcessGroup, optional
        The default is that of all processes.
    """

    def __init__(self, x: Tensor, group: Any = None) -> None:
        super().__init__(x)
        self.group = group
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size(group))]
        dist.all_gather(counts, torch.tensor([len(x)], dtype=torch.int64, device=x.device), group=group)
        self.sizes = [int(count) for count in counts]
        self.begin = sum(self.sizes[: dist.get_rank(group)])

    def count(self) -> int:
        """Return the number of vectors of all processes."""
        return sum(self.sizes)

    def get_subset(self, indices: np.ndarray) -> Tensor:
        """Return some of the vectors of all processes."""
        wanted = torch.from_numpy(indices).to(self.x.device) - self.begin
        own = (wanted >= 0) & (wanted < len(self.x))
        found = self.x.new_zeros(len(wanted), self.dim())
        found[own] = self.x[wanted[own]]
        dist.all_reduce(found, group=self.group)
        return found

    def assign_to(self, centroids: Tensor, weights: Tensor | None = None) -> tuple[np.ndarray, Tensor, Tensor]:
        """Assign the vectors of all processes; `weights` are those of this process's own."""
        I, D, sums = super().assign_to(centroids, weights)
        dist.all_reduce(sums, group=self.group)
        return self._gathered(torch.from_numpy(I).to(D.device)).cpu().numpy(), self._gathered(D), sums

    def _gathered(self, own: Tensor) -> Tensor:
        """What all processes have, one behind the other; they send as many elements as the one with most."""
        padded = own.new_zeros(max(self.sizes))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in self.sizes]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:n] for part, n in zip(parts, self.sizes, strict=True)])
