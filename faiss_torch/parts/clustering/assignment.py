"""The assignment of training vectors to centroids by an index, and what k-means makes of it, iteration by iteration."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ... import interrupts, threads
from ...border import Array
from ...interrupts import Call
from ...ops.clustering import steps
from ...ops.clustering.centroid_update import ClusterSums, centroid_update
from ...ops.clustering.nearest import Carried
from ...ops.runtime import memory, streams
from ...ops.scoring.equal_rows import Different, different_ones
from .training_set import TrainingSet


class ClusteringIndex(Protocol):
    """What clustering needs of an index; every ``Index`` has it."""

    d: int
    ntotal: int
    is_trained: bool
    metric_type: int
    device: torch.device

    def train(self, x: Array) -> None:
        """Train on vectors (n, d)."""

    def add(self, x: Array) -> None:
        """Store vectors (n, d)."""

    def reset(self) -> None:
        """Remove all vectors."""

    def search(self, x: Array, k: int) -> tuple[Array, Array]:
        """Find the k nearest of the stored vectors: distances and labels, (n, k) each."""

    def sa_code_size(self) -> int:
        """Bytes of a code."""

    def sa_decode(self, codes: Array) -> Array:
        """Decode codes (n, sa_code_size()) to vectors (n, d)."""


class Flat(Protocol):
    """How a flat index assigns: ``indexes.flat.flat.FlatAssignment``."""

    device: torch.device
    dtype: torch.dtype

    def nearest(self, x: Tensor, centroids: Tensor, carried: Carried | None) -> tuple[Tensor, Tensor]:
        """Find the nearest centroids: distances and labels."""

    def labels(self, x: Tensor, centroids: Tensor) -> Tensor:
        """Find the nearest centroids, without waiting where a device does not need that: labels."""


#: What vectors have to be for equal ones to be assigned together.
FLOATS = (torch.float32, torch.float16, torch.bfloat16)

#: Fewer centroids are compared as fast as equal ones among them are found.
FEWEST_CENTROIDS = 128


class Clock:
    """Seconds since the start, and how many of them were spent in searches."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.search = 0.0

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Count the seconds of a block as search."""
        begin = time.perf_counter()
        yield
        self.search += time.perf_counter() - begin


class Found(NamedTuple):
    """What an iteration finds.

    Attributes
    ----------
    clusters : ClusterSums
    obj : float
        The objective.
    """

    clusters: ClusterSums
    obj: float


class Assignment:
    """The assignment of training vectors to the nearest centroids by an index, in one iteration after the other.

    A flat index says how it assigns, and then the centroids are stored in it at the end only, and one assignment
    leaves something to the next. Replicas of a flat index on several devices take a share of the vectors each, which
    stay there. Any other index stores the centroids of each iteration and is searched.

    Parameters
    ----------
    data : TrainingSet
    index : ClusteringIndex
        What it holds is replaced.
    update_index : bool
        Train the index with the centroids of each iteration.
    budget : int or None
        Bytes that vectors may take on a device.

    Attributes
    ----------
    shares : list of TrainingSet
        The vectors of each device.
    """

    def __init__(self, data: TrainingSet, index: ClusteringIndex, update_index: bool, budget: int | None) -> None:
        self.data, self.index = data, index
        self.shares: list[TrainingSet] = []
        self._update_index, self._budget = update_index, budget
        self._flats: list[Flat] = []
        self._devices: list[torch.device] = []
        self._is_stored = True

    def begin(self, centroids: Tensor) -> None:
        """Start with first centroids, float32, (k, d)."""
        index = self.index
        if index.ntotal != 0:
            index.reset()
        if not index.is_trained:
            index.train(centroids)
        index.add(centroids)
        self._centroids, self._is_stored = centroids, True
        if self.data.decode is None and not self._update_index:
            self._flats = getattr(index, "assignments", list)()
        devices = [flat.device for flat in self._flats] or [index.device]
        if devices != self._devices:
            self.shares, self._devices = self.data.shared_out(devices, self._budget), devices
            self._different = [self._different_ones(share) for share in self.shares]
        self._carried = [Carried() for _ in self.shares]

    def _different_ones(self, share: TrainingSet) -> Different | None:
        """The different vectors of a share, if many are equal: these alone are assigned."""
        x = share.whole
        if x is None or x.device.type != "cpu" or not self._flats or x.dtype not in FLOATS:
            return None
        return different_ones(x)

    @property
    def whole(self) -> Tensor | None:
        """All vectors, where one device has them at once and k-means on it needs to know nothing else."""
        if self.data.is_part or len(self.shares) > 1 or not self._flats or self._flats[0].dtype != torch.float32:
            return None
        return self.shares[0].whole

    def turn(self, clock: Clock) -> Found:
        """Assign all vectors, and sum up those of each cluster.

        Raises
        ------
        RuntimeError
            If the index gives labels that are not those of centroids.
        """
        if len(self.shares) == 1 or all(share.device.type == "cpu" for share in self.shares):
            found = [self._of_share(number, clock) for number in range(len(self.shares))]
        else:
            entries = streams.current({share.device for share in self.shares})
            call = Call(interrupts.current_call())

            def in_streams(number: int) -> Found:
                interrupts.work_for(call)
                with streams.entered(entries), threads.working_for_call():
                    return self._of_share(number, Clock())

            with clock.searching(), ThreadPoolExecutor(len(self.shares)) as pool:
                try:
                    found = list(pool.map(in_streams, range(len(self.shares))))
                except BaseException:
                    call.stopped = True
                    raise
        clusters = functools.reduce(ClusterSums.plus, (each.clusters for each in found))
        obj = float(np.sum([each.obj for each in found], dtype=np.float32))
        clusters, obj = self.data.combined(clusters, obj)
        known, n = int(clusters.counts.sum()), len(self.data)
        if known != n:
            raise RuntimeError(
                f"invalid cluster assignment: the index gave {n - known} of {n} vectors labels outside "
                f"0 ... {len(clusters.counts) - 1}"
            )
        return Found(clusters, obj)

    def _of_share(self, number: int, clock: Clock) -> Found:
        """Do a turn for the vectors of one device."""
        share = self.shares[number]
        flat = self._flats[number] if self._flats else None
        centroids = self._centroids.to(share.device)
        carried = self._carried[number] if share.whole is not None else None
        clusters, obj = ClusterSums.none(centroids), 0.0
        for rows, vectors in share.portions():
            weights = None if share.weights is None else share.weights[rows]

            def work(
                part: slice, vectors: Tensor = vectors, weights: Tensor | None = weights
            ) -> tuple[ClusterSums, Tensor | None]:
                own = None if weights is None else weights[part]
                whole = part.stop - part.start == len(vectors)
                different = self._different[number] if whole else None
                return self._of_rows(flat, vectors[part], own, centroids, carried if whole else None, different, clock)

            for found, distances in memory.halved_if_short(work, len(vectors), "training vectors"):
                clusters = clusters.plus(found)
                if distances is not None:
                    obj = steps.objective(distances, obj)
        by_costs = flat is not None and share.device.type != "cpu"
        return Found(clusters, float(clusters.costs.sum()) if by_costs else obj)

    def _of_rows(
        self,
        flat: Flat | None,
        x: Tensor,
        weights: Tensor | None,
        centroids: Tensor,
        carried: Carried | None,
        different: Different | None,
        clock: Clock,
    ) -> tuple[ClusterSums, Tensor | None]:
        """Assign vectors and sum them up; their distances, unless the costs of the clusters are what they sum up to."""
        k = len(centroids)
        if flat is not None and x.device.type != "cpu":
            with clock.searching():
                labels = flat.labels(x, centroids)
            return centroid_update(x, labels, k, weights, centroids, self.index.metric_type), None
        with clock.searching():
            if flat is None:
                distances, labels = (found.reshape(-1) for found in self.index.search(x, 1))
            else:
                some = x if different is None else x.index_select(0, different.firsts)
                distances, labels = _nearest(flat, some, centroids, carried)
                if different is not None:
                    distances, labels = distances[different.kinds], labels[different.kinds]
        return centroid_update(x, labels, k, weights), distances

    def move(self, centroids: Tensor) -> None:
        """Take other centroids."""
        self._centroids, self._is_stored = centroids, False
        if not self._flats:
            self.store()

    def store(self) -> None:
        """Store the centroids in the index, if they are not there."""
        if self._is_stored:
            return
        self.index.reset()
        if self._update_index:
            self.index.train(self._centroids)
        self.index.add(self._centroids)
        self._is_stored = True


def _nearest(flat: Flat, x: Tensor, centroids: Tensor, carried: Carried | None) -> tuple[Tensor, Tensor]:
    """Find the nearest centroids; of equal ones, a tie for every vector, the first one alone is looked at."""
    different = different_ones(centroids) if len(centroids) >= FEWEST_CENTROIDS else None
    if different is None:
        return flat.nearest(x, centroids, carried)
    firsts = different.firsts.sort().values
    distances, labels = flat.nearest(x, centroids[firsts], None)
    return distances, torch.where(labels >= 0, firsts[labels], labels)
