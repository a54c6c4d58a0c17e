"""Clustering: k-means by turns of assignment, which an index does, and update of the centroids.

The order of the steps, of the random numbers and of the messages is faiss's (``faiss/Clustering.cpp``), so the same
data, parameters and seed give the same centroids up to float rounding.
"""

from __future__ import annotations

import sys
import time
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import border
from ...attributes import Size
from ...border import Array
from ...constants import ClusteringInitMethod_RANDOM, is_similarity_metric
from ...interrupts import InterruptCallback
from ...ops.clustering import initialization as initializations
from ...ops.clustering import steps
from ...ops.clustering.centroid_update import ClusterSums
from ...ops.clustering.lloyd import Lloyd, Options, Turn, runs_ahead
from ...ops.clustering.one_dimension import kmeans1d
from ...ops.runtime import workers
from ...wrapper.pointers import Pointer, table
from ...wrapper.vectors import Float32Vector
from .assignment import Assignment, Clock, ClusteringIndex
from .initialization import ClusteringInitialization
from .parameters import ClusteringIterationStats, ClusteringIterationStatsVector, ClusteringParameters
from .training_set import TrainingSet

#: What the seeds of the tries of `nredo` differ by.
_REDO_SEED_STEP = 15486557


class Clustering(ClusteringParameters):
    """k-means on top of an index.

    Parameters
    ----------
    d : int
        Dimensions.
    k : int
        Clusters.
    cp : ClusteringParameters, optional
        Settings; each is also an attribute.

    Attributes
    ----------
    centroids : Float32Vector
        k * d values after training. What is in it before (at most k centroids) is where training starts.
    iteration_stats : ClusteringIterationStatsVector
        One entry per iteration.
    """

    d: Size
    k: Size

    _objects: ClassVar[dict[str, type]] = {
        "centroids": Float32Vector,
        "iteration_stats": ClusteringIterationStatsVector,
    }

    def __init__(self, d: int, k: int, cp: ClusteringParameters | None = None) -> None:
        super().__init__()
        self._copy_parameters(cp)
        self.d = d
        self.k = k
        self.centroids = Float32Vector()
        self.iteration_stats = ClusteringIterationStatsVector()

    @border.crossing
    def train(self, x: Array, index: ClusteringIndex, weights: Array | None = None) -> None:
        """Cluster vectors.

        Parameters
        ----------
        x : array or what numpy makes one of, shape (n, d)
        index : ClusteringIndex
            Assigns vectors to centroids; it holds the centroids afterwards.
        weights : array, shape (n,), optional
            How much each vector counts in its cluster's mean.

        Raises
        ------
        AssertionError
            If the width is not d, or the number of weights not n.
        RuntimeError
            If there are fewer vectors than clusters, the index has another dimension, or a vector is not finite.
        """
        workers.conduct(lambda: self._train_on(x, index, weights), index.device, (x, weights))

    def _train_on(self, x: Array, index: ClusteringIndex, weights: Array | None) -> None:
        vectors, kind = border.training_vectors_in(x, self.d)
        self._check_sizes(len(vectors), index)
        checked_weights = self._weights_in(weights, len(vectors), kind, index.device)
        self.train_set(TrainingSet(vectors, checked_weights, index.device), index)

    @border.crossing
    def train_encoded(
        self, x: Array, codec: ClusteringIndex, index: ClusteringIndex, weights: Array | None = None
    ) -> None:
        """Cluster vectors that are encoded; they are decoded block by block.

        Parameters
        ----------
        x : array, uint8, shape (n, codec.sa_code_size())
        codec : ClusteringIndex
        index, weights
            As in `train`.

        Raises
        ------
        AssertionError, RuntimeError
            As `train`, and a RuntimeError if the codec has another dimension.
        """
        workers.conduct(lambda: self._train_encoded_on(x, codec, index, weights), index.device, (x, weights))

    def _train_encoded_on(
        self, x: Array, codec: ClusteringIndex, index: ClusteringIndex, weights: Array | None
    ) -> None:
        if codec.d != self.d:
            raise RuntimeError(f"codec has {codec.d} dimensions, expected {self.d}")
        codes, kind = border.codes_in(x, codec.sa_code_size(), codec.device)
        self._check_sizes(len(codes), index)
        checked_weights = self._weights_in(weights, len(codes), kind, index.device)
        data = TrainingSet(codes, checked_weights, index.device, codec.sa_decode, self.decode_block_size)
        self.train_set(data, index)

    def train_c(self, n: int, x: Pointer, index: ClusteringIndex, x_weights: Pointer | None = None) -> None:
        """`train` on x, float32 [n, d], with x_weights, float32 [n], or None."""
        weights = None if x_weights is None else table(x_weights, (n,), "float32", "train_c")
        self.train(table(x, (n, self.d), "float32", "train_c"), index, weights)

    def train_encoded_c(
        self,
        nx: int,
        x_in: Pointer,
        codec: ClusteringIndex,
        index: ClusteringIndex,
        weights: Pointer | None = None,
    ) -> None:
        """`train_encoded` on x_in, uint8 [nx, codec.sa_code_size()], with weights, float32 [nx], or None."""
        name = "train_encoded_c"
        given = None if weights is None else table(weights, (nx,), "float32", name)
        self.train_encoded(table(x_in, (nx, codec.sa_code_size()), "uint8", name), codec, index, given)

    def post_process_centroids(self) -> None:
        """Normalise the centroids if `spherical`, then round them if `int_centroids`."""
        centroids = border.tensor_of(self.centroids.array).reshape(-1, self.d)
        self.centroids.assign(self._post_processed(centroids).reshape(-1).numpy())

    def _check_sizes(self, n: int, index: ClusteringIndex) -> None:
        if n < self.k:
            raise RuntimeError(
                f"number of training points ({n}) should be at least as large as number of clusters ({self.k})"
            )
        if self.k <= 0 or self.max_points_per_centroid <= 0:
            raise RuntimeError(
                f"expected at least one cluster and one point per centroid, got k={self.k} and "
                f"max_points_per_centroid={self.max_points_per_centroid}"
            )
        if index.d != self.d:
            raise RuntimeError(f"index has {index.d} dimensions, expected those of the data, {self.d}")
        if self.centroids.size() % self.d != 0 or self.centroids.size() > self.k * self.d:
            raise RuntimeError(
                f"size of provided input centroids, {self.centroids.size()}, is not a multiple of the dimension "
                f"{self.d} up to {self.k} centroids"
            )

    def _weights_in(self, weights: Array | None, n: int, kind: border.Kind, device: torch.device) -> Tensor | None:
        if weights is None:
            return None
        weights = border.array_like(weights)
        kind.require(weights, "weights")
        if tuple(weights.shape) != (n,):
            raise AssertionError(f"weights have shape {tuple(weights.shape)}, expected ({n},)")
        return border.floats_in(weights, device)

    def _post_processed(self, centroids: Tensor) -> Tensor:
        return steps.post_processed(centroids, self.spherical, self.int_centroids)

    def _say(self, text: str, end: str = "\n") -> None:
        if self.verbose:
            print(text, end=end, flush=True)

    def train_set(self, given: TrainingSet, index: ClusteringIndex) -> None:
        """Cluster a training set (an extension: what `train` and `train_encoded` do with theirs).

        Parameters
        ----------
        given : TrainingSet
            Of vectors of d components.
        index : ClusteringIndex
            As in `train`.

        Raises
        ------
        RuntimeError
            As in `train`.
        """
        start = time.perf_counter()
        self._check_sizes(len(given), index)
        if self.check_input_data_for_NaNs and not given.finite():
            raise RuntimeError("input contains NaN's or Inf's")
        data = self._subsampled(given)
        if len(data) == self.k:
            self._say(f"Number of training points ({self.k}) same as number of clusters, just copying")
            centroids = given.vectors(torch.arange(self.k, dtype=torch.int64, device="cpu"))
            self.iteration_stats.push_back(ClusteringIterationStats(imbalance_factor=1.0))
            index.reset()
            index.add(centroids)
            self._store(centroids)
            return
        self._say(
            f"Clustering {len(data)} points in {self.d}D to {self.k} clusters, "
            f"redo {self.nredo} times, {self.niter} iterations"
        )
        if data.decode is not None:
            self._say(f"Input data encoded in {data.x.shape[1]} bytes per vector")
        given_centroids = border.tensor_of(self.centroids.array.copy()).reshape(-1, self.d).to(index.device)
        if len(given_centroids):
            frozen = "" if self.frozen_centroids else "not "
            self._say(f"  Using {len(given_centroids)} centroids provided as input ({frozen}frozen)")
        self._say(f"  Preprocessing in {time.perf_counter() - start:.2f} s")

        clock = Clock()
        assignment = Assignment(data, index, self.update_index, self.memory_budget)
        seed = steps.actual_seed(self.seed)
        lower_is_better = not is_similarity_metric(index.metric_type)
        best: tuple[float, Tensor, list[ClusteringIterationStats]] | None = None
        # the centroids given are only where the first try starts: each later one starts from what the last one left
        start_centroids = given_centroids
        for redo in range(self.nredo):
            if self.nredo > 1:
                self._say(f"Outer iteration {redo} / {self.nredo}")
            centroids = self._initial_centroids(data, start_centroids, seed + 1 + redo * _REDO_SEED_STEP)
            obj, centroids = self._iterate(assignment, centroids, len(given_centroids), clock)
            start_centroids = centroids[: len(given_centroids)]
            if best is None or (obj < best[0] if lower_is_better else obj > best[0]):
                if self.nredo > 1:
                    self._say("Objective improved: keep new clusters")
                best = obj, centroids, list(self.iteration_stats)
        if best is None:
            return
        if self.nredo > 1:
            self.iteration_stats = ClusteringIterationStatsVector(best[2])
            index.reset()
            index.add(best[1])
        self._store(best[1])

    def _store(self, centroids: Tensor) -> None:
        self.centroids.assign(centroids.detach().cpu().reshape(-1).numpy())

    def _subsampled(self, data: TrainingSet) -> TrainingSet:
        n, wanted = len(data), self.k * self.max_points_per_centroid
        if n > wanted:
            self._say(f"Sampling a subset of {wanted} / {n} for training")
            chosen = steps.subsample(n, wanted, steps.actual_seed(self.seed), self.use_faster_subsampling)
            return data.subset(torch.from_numpy(chosen))
        if n < self.k * self.min_points_per_centroid:
            print(
                f"WARNING clustering {n} points to {self.k} centroids: please provide at least "
                f"{self.k * self.min_points_per_centroid} training points",
                file=sys.stderr,
            )
        return data

    def _initial_centroids(self, data: TrainingSet, given: Tensor, seed: int) -> Tensor:
        wanted = self.k - len(given)
        if wanted == 0:
            return self._post_processed(given.clone())
        if self.init_method == ClusteringInitMethod_RANDOM:
            permutation = initializations.init_random(len(data), self.k, seed)
            chosen = torch.from_numpy(permutation[len(given) :])
        else:
            initialization = ClusteringInitialization(self.d, wanted)
            initialization.method = self.init_method
            initialization.seed = seed
            initialization.afkmc2_chain_length = self.afkmc2_chain_length
            chosen = initialization.choose(data.vectors(), given if len(given) else None)
        fresh = data.vectors(chosen)
        return self._post_processed(torch.cat([given, fresh]))

    def _iterate(self, assignment: Assignment, centroids: Tensor, n_given: int, clock: Clock) -> tuple[float, Tensor]:
        """Run one try: the last objective and the centroids, which are in the index as well."""
        assignment.begin(centroids)
        frozen, threshold = n_given if self.frozen_centroids else 0, self.early_stop_threshold
        metric_type = assignment.index.metric_type
        options = Options(metric_type, self.niter, self.spherical, self.int_centroids, frozen, threshold)
        known = self.iteration_stats.size()
        try:
            if runs_ahead(assignment.whole):
                try:
                    return self._iterate_ahead(assignment, centroids, options, clock)
                except torch.cuda.OutOfMemoryError:
                    if self.iteration_stats.size() > known:
                        raise
            # step by step, what there is no room for is done in parts
            return self._iterate_step_by_step(assignment, centroids, options, clock)
        finally:
            assignment.store()
            self._say("")

    def _iterate_step_by_step(
        self, assignment: Assignment, centroids: Tensor, options: Options, clock: Clock
    ) -> tuple[float, Tensor]:
        """Wait for each iteration before the next."""
        obj = 0.0
        for i in range(self.niter):
            previous = obj
            found = assignment.turn(clock)
            InterruptCallback.check()
            obj = found.obj
            centroids, nsplit = self._updated(found.clusters, len(assignment.data), centroids, options.frozen)
            self._tell(i, Turn(obj, steps.imbalance_factor(found.clusters.counts), nsplit), clock)
            centroids = options.post_processed(centroids)
            assignment.move(centroids)
            if i > 0 and previous != 0 and abs(previous - obj) / abs(previous) <= self.early_stop_threshold:
                self._say(f"\n  Converged at iteration {i}: objective did not change")
                break
        return obj, centroids

    def _iterate_ahead(
        self, assignment: Assignment, centroids: Tensor, options: Options, clock: Clock
    ) -> tuple[float, Tensor]:
        """Let the device go ahead, and look now and then at what it did."""
        x, weights = assignment.whole, assignment.shares[0].weights
        assert x is not None
        lloyd = Lloyd(x[None], centroids[None], None if weights is None else weights[None], options)
        turns, told = lloyd.turns[0], 0
        for _ in lloyd.run():
            InterruptCallback.check()
            clock.search = clock.total()  # the device does not say when it assigned
            for i in range(told, len(turns)):
                self._tell(i, turns[i], clock)
            told = len(turns)
        if told < self.niter:
            self._say(f"\n  Converged at iteration {told - 1}: objective did not change")
        assignment.move(lloyd.centroids[0])
        return turns[-1].obj if turns else 0.0, lloyd.centroids[0]

    def _tell(self, i: int, turn: Turn, clock: Clock) -> None:
        """Take note of an iteration, and tell of it."""
        stats = ClusteringIterationStats(turn.obj, clock.total(), clock.search, turn.imbalance_factor, turn.nsplit)
        self.iteration_stats.push_back(stats)
        self._say(
            f"  Iteration {i} ({stats.time:.2f} s, search {stats.time_search:.2f} s): "
            f"objective={turn.obj:g} imbalance={turn.imbalance_factor:.3f} nsplit={turn.nsplit}       ",
            end="\r",
        )

    @staticmethod
    def _updated(clusters: ClusterSums, n: int, centroids: Tensor, n_frozen: int) -> tuple[Tensor, int]:
        """Move each centroid that is not frozen to the mean of its vectors: new centroids, and clusters split."""
        hassign = clusters.sizes[n_frozen:]
        if not len(hassign):
            return centroids, 0
        moved = steps.means(clusters.sums[n_frozen:], hassign)
        nsplit = 0
        if bool((hassign == 0).any()):
            nsplit = steps.split_in_place(moved, hassign, n)
        return torch.cat([centroids[:n_frozen], moved]), nsplit


class Clustering1D(Clustering):
    """Exact k-means of numbers; it needs no index.

    Parameters
    ----------
    k : int
    cp : ClusteringParameters, optional
    """

    def __init__(self, k: int, cp: ClusteringParameters | None = None) -> None:
        super().__init__(1, k, cp)

    @border.crossing
    def train_exact(self, x: Array) -> None:
        """Cluster numbers.

        Parameters
        ----------
        x : array, shape (n, 1)

        Raises
        ------
        AssertionError
            If the width is not 1.
        RuntimeError
            If there are fewer numbers than clusters, or some are not finite.
        """
        numbers = border.vectors_in(border.array_like(x), 1, torch.device("cpu"))[0].reshape(-1).numpy()
        wanted = self.k * self.max_points_per_centroid
        if len(numbers) > wanted > 0:
            self._say(f"Sampling a subset of {wanted} / {len(numbers)} for training")
            seed = steps.actual_seed(self.seed)
            numbers = numbers[steps.subsample(len(numbers), wanted, seed, self.use_faster_subsampling)]
        centroids, balance = kmeans1d(np.ascontiguousarray(numbers), self.k)
        self.centroids.assign(centroids)
        self.iteration_stats.push_back(ClusteringIterationStats(imbalance_factor=balance))

    def train_exact_c(self, n: int, x: Pointer) -> None:
        """`train_exact` on x, float32 [n]."""
        self.train_exact(table(x, (n, 1), "float32", "train_exact_c"))
