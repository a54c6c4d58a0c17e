"""k-means of vectors that are in several places: several objects of one process, or several processes.

Both classes are data for `contrib.clustering.kmeans`. faiss has the first in its program for distributed k-means, where
it talks to servers. Here the processes are those of ``torch.distributed``, which all run the same program::

    torch.distributed.init_process_group("gloo")
    data = DatasetAssignDistributed(vectors_of_this_process)
    centroids = kmeans(1000, data)  # the same in every process
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .torch.clustering import DatasetAssign

Array = np.ndarray


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
        dist.all_gather(counts, torch.tensor([len(x)], device=x.device), group=group)
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
