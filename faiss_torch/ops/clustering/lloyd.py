"""Lloyd's iterations of k-means, of several sets at once, without waiting for the device after each of them.

What an iteration leaves stays on the device: the objectives, which sets are done, which have an empty cluster. The
host looks at it after one iteration, then after two more, four, and so on; a set that was done earlier, or waits for
the host to split a cluster, is left as it was by the iterations queued behind. On CUDA the iterations behind the first
are one graph that is replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ... import kernels
from ..runtime import cuda_graphs
from . import steps
from .centroid_update import centroid_update
from .nearest import labels_of_sets

#: Iterations that are queued before the host looks at what they gave, at most.
MOST_AHEAD = 8

#: Iterations left, at least, for which recording a graph is worth its time.
LEAST_RECORDED = 4

#: Kernels that make an iteration without waiting for the device.
WITHOUT_WAITING = ("nearest", "centroid_update")


class Options(NamedTuple):
    """How k-means is done: see ``ClusteringParameters``.

    Attributes
    ----------
    metric_type : int
    niter : int
    spherical, int_centroids : bool
    frozen : int
        So many first centroids stay.
    early_stop_threshold : float
    """

    metric_type: int
    niter: int
    spherical: bool = False
    int_centroids: bool = False
    frozen: int = 0
    early_stop_threshold: float = 0.0

    def post_processed(self, centroids: Tensor) -> Tensor:
        """Normalise or round centroids, (..., d), if that is asked for."""
        return steps.post_processed(centroids, self.spherical, self.int_centroids)


def runs_ahead(x: Tensor | None) -> bool:
    """Whether `Lloyd` is the way to cluster vectors: they are in one place, whose device need not be waited for."""
    return x is not None and all(kernels.chosen(each, x.device) for each in WITHOUT_WAITING)


class Turn(NamedTuple):
    """One iteration of one set.

    Attributes
    ----------
    obj : float
    imbalance_factor : float
    nsplit : int
        Clusters that were split.
    """

    obj: float
    imbalance_factor: float
    nsplit: int


class Lloyd:
    """k-means of sets of vectors from given centroids.

    Parameters
    ----------
    x : Tensor, float32, float16 or bfloat16, shape (b, n, d)
        Finite; n > k.
    centroids : Tensor, float32, shape (b, k, d)
        The first ones, already post-processed.
    weights : Tensor, float32, shape (b, n), or None
    options : Options

    Attributes
    ----------
    centroids : Tensor, float32, shape (b, k, d)
        Of the last iteration.
    turns : list of list of Turn
        The iterations of each set that the host knows of.
    """

    def __init__(self, x: Tensor, centroids: Tensor, weights: Tensor | None, options: Options) -> None:
        b = len(x)
        self._x, self._weights, self._options = x.contiguous(), weights, options
        self.centroids = centroids.clone(memory_format=torch.contiguous_format)
        self.turns: list[list[Turn]] = [[] for _ in range(b)]
        device = x.device
        # Apple's GPUs have no float64
        self._wide = torch.float32 if device.type == "mps" else torch.float64
        k = centroids.shape[1]
        self._first_cluster = torch.arange(0, b * k, k, dtype=torch.int64, device=device)[:, None]
        # what an iteration changes is written in place: a graph knows it by its address
        self._active = torch.full((b,), options.niter > 0, dtype=torch.bool, device=device)
        self._waiting = torch.zeros(b, dtype=torch.bool, device=device)
        self._lost = torch.zeros(b, dtype=torch.bool, device=device)
        self._number = torch.zeros(b, dtype=torch.int64, device=device)
        self._obj, self._previous = torch.zeros(2, b, dtype=torch.float32, device=device)
        # the last place takes what is not to be kept
        self._history = torch.zeros(b, options.niter + 1, 2, dtype=torch.float32, device=device)
        self._moved = torch.zeros_like(self.centroids)
        self._sizes = torch.zeros(centroids.shape[:2], dtype=torch.float32, device=device)

    def run(self) -> Iterator[None]:
        """Iterate until all sets are done; each time that the host has looked, it is the caller's turn.

        Raises
        ------
        RuntimeError
            If a vector has no closest centroid.
        """
        step: Callable[[], None] = self._step
        left, ahead = self._options.niter, 1
        while left:
            for _ in range(min(ahead, left)):
                step()
            left = self._look()
            yield
            if step == self._step and left >= LEAST_RECORDED:
                step = self._recorded()
            ahead = min(2 * ahead, MOST_AHEAD)

    def _step(self, impl: str = "auto") -> None:
        """Queue one iteration of the sets that are active."""
        b, n, d = self._x.shape
        k, options, active = self.centroids.shape[1], self._options, self._active
        labels = labels_of_sets(self._x, self.centroids, options.metric_type, active, impl)
        if b > 1:
            labels = torch.where((labels >= 0) & active[:, None], labels + self._first_cluster, -1)
        weights = None if self._weights is None else self._weights.view(-1)
        vectors, centroids = self._x.reshape(b * n, d), self.centroids.view(b * k, d)
        found = centroid_update(vectors, labels.view(-1), b * k, weights, centroids, options.metric_type, impl)
        moved = steps.means(found.sums, found.sizes).view(b, k, d)
        sizes, counts = found.sizes.view(b, k), found.counts.view(b, k)
        moved[:, : options.frozen] = self.centroids[:, : options.frozen]
        empty = (sizes[:, options.frozen :] == 0).any(1)
        obj = found.costs.view(b, k).to(self._wide).sum(1).float()
        balance = counts.to(self._wide).square().sum(1).mul_(k / n**2).float()
        place = torch.where(active, self._number, options.niter)[:, None, None].expand(b, 1, 2)
        self._history.scatter_(1, place, torch.stack([obj, balance], 1)[:, None])
        torch.where(active, obj, self._obj, out=self._obj)
        torch.where(active[:, None], sizes, self._sizes, out=self._sizes)
        torch.where(active[:, None, None], moved, self._moved, out=self._moved)
        self._lost.logical_or_((counts.sum(1) < n) & active)
        self._waiting.logical_or_(active & empty)
        self._end(active & ~empty, options.post_processed(moved))

    def _end(self, ended: Tensor, centroids: Tensor) -> None:
        """End the iteration of some sets, which have these centroids now; the sets that wait are no longer active."""
        torch.where(ended[:, None, None], centroids, self.centroids, out=self.centroids)
        change = (self._previous - self._obj).abs() / self._previous.abs()
        stays = (change <= self._options.early_stop_threshold) & (self._number > 0)
        torch.where(ended, self._obj, self._previous, out=self._previous)
        self._number.add_(ended)
        goes_on = (self._number < self._options.niter) & ~stays & ~self._lost
        torch.logical_and(ended, goes_on, out=self._active)

    def _look(self) -> int:
        """Wait for what is queued, split clusters where some are empty, and return how many iterations are left."""
        if bool(self._lost.any()):
            raise RuntimeError(
                "invalid cluster assignment: some vectors have no closest centroid, since values are not finite or "
                "distances are larger than the largest float32"
            )
        waiting = self._waiting.nonzero().view(-1).tolist()
        splits = {number: self._split(number) for number in waiting}
        if waiting:
            active = self._active.clone()
            self._end(self._waiting, self._options.post_processed(self._moved))
            self._active.logical_or_(active)
            self._waiting.zero_()
        active_sets, numbers = self._active.tolist(), self._number.tolist()
        history = self._history.tolist()
        for number, turns in enumerate(self.turns):
            turns += [Turn(obj, balance, 0) for obj, balance in history[number][len(turns) : numbers[number]]]
            if number in splits:
                turns[-1] = turns[-1]._replace(nsplit=splits[number])
        unfinished = [number for number, active in zip(numbers, active_sets, strict=True) if active]
        return self._options.niter - min(unfinished) if unfinished else 0

    def _split(self, number: int) -> int:
        """Split clusters of a set that waits for that; return how many."""
        moving = slice(self._options.frozen, None)
        return steps.split_in_place(self._moved[number, moving], self._sizes[number, moving], self._x.shape[1])

    def _recorded(self) -> Callable[[], None]:
        """Return what does the next iteration: on CUDA a graph of it."""
        if not runs_ahead(self._x):
            return self._step
        # plain torch in a kernel's place would wait for the device
        return cuda_graphs.recorded(lambda: self._step("triton"), self._x.device) or self._step
