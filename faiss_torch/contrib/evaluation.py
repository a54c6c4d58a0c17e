"""Compare results of searches, and find good search parameters, as ``faiss.contrib.evaluation`` does.

A range search result is a triple: ``lims`` (nq + 1), ``D`` and ``I``, where the results of query ``q`` are at
``lims[q]:lims[q + 1]``.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from .. import omp_get_max_threads, omp_set_num_threads

Array = np.ndarray


def knn_intersection_measure(I1: Array, I2: Array) -> float:
    """Return the share of ids that two tables of neighbours have in common, row by row.

    Parameters
    ----------
    I1, I2 : array, shape (nq, rank)

    Raises
    ------
    AssertionError
        If the shapes differ.
    """
    assert I1.shape == I2.shape, f"tables of shapes {I1.shape} and {I2.shape}: expected equal shapes"
    return sum(np.intersect1d(row1, row2).size for row1, row2 in zip(I1, I2, strict=True)) / I1.size


# Precision and recall of range search


def _kept_lims(lims: Array, kept: Array) -> Array:
    """Return the limits of a range search result after the entries where `kept` is False are taken out."""
    running = np.concatenate(([0], np.cumsum(kept)))
    return running[lims.astype(np.int64)].astype(lims.dtype)


def _rows(lims: Array) -> list[slice]:
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(lims)]


def _queries(lims: Array) -> Array:
    """Return the query of each entry of a range search result."""
    sizes: Array = np.diff(lims.astype(np.int64))
    return np.repeat(np.arange(len(sizes)), sizes)


def filter_range_results(lims: Array, D: Array, I: Array, thresh: float) -> tuple[Array, Array, Array]:
    """Restrict a range search result to distances below `thresh`."""
    kept = D < thresh
    return _kept_lims(lims, kept), D[kept], I[kept]


def range_PR(lims_ref: Array, Iref: Array, lims_new: Array, Inew: Array, mode: str = "overall") -> tuple[float, float]:
    """Return precision and recall of a range search result against a reference, by ids alone.

    Parameters
    ----------
    lims_ref, Iref, lims_new, Inew : array
        Both results, for the same queries.
    mode : str
        "overall" counts over all queries together, "average" takes the mean over queries.
    """
    assert lims_ref.size == lims_new.size, (
        f"results for {lims_ref.size - 1} and {lims_new.size - 1} queries: expected the same queries"
    )
    pairs = zip(_rows(lims_ref), _rows(lims_new), strict=True)
    ninter = np.array([np.intersect1d(Iref[ref], Inew[new]).size for ref, new in pairs], dtype=np.int64)
    return counts_to_PR(np.diff(lims_ref), np.diff(lims_new), ninter, mode=mode)


def counts_to_PR(ngt: Array, nres: Array, ninter: Array, mode: str = "overall") -> tuple[float, float]:
    """Return precision and recall from counts.

    Parameters
    ----------
    ngt, nres, ninter : array, shape (nq,)
        For each query: results in the reference, results found, and results found that are in the reference.
    mode : str
        "overall" or "average". A query without results has precision 1; one without a reference has recall 1
        if it has no results either, else 0.

    Raises
    ------
    AssertionError
        If `mode` is neither.
    """
    if mode == "overall":
        ngt, nres, ninter = (np.array([counts.sum()]) for counts in (ngt, nres, ninter))
    elif mode != "average":
        raise AssertionError(f"mode is {mode!r}, expected 'overall' or 'average'")
    precisions = np.where(nres > 0, ninter / np.maximum(nres, 1), 1.0)
    recalls = np.where(ngt > 0, ninter / np.maximum(ngt, 1), nres == 0)
    return precisions.mean(), recalls.mean()


def sort_range_res_2(lims: Array, D: Array, I: Array) -> tuple[Array, Array]:
    """Sort a range search result by distance inside each query.

    Returns
    -------
    I, D : array
        In this order.
    """
    order = np.lexsort((D, _queries(lims)))
    return I[order], D[order]


def sort_range_res_1(lims: Array, I: Array) -> Array:
    """Sort the ids of a range search result inside each query."""
    return I[np.lexsort((I, _queries(lims)))]


def range_PR_multiple_thresholds(
    lims_ref: Array,
    Iref: Array,
    lims_new: Array,
    Dnew: Array,
    Inew: Array,
    thresholds: Array,
    mode: str = "overall",
    do_sort: str = "ref,new",
) -> tuple[Array, Array]:
    """Return precision and recall of a range search result cut at each of several thresholds.

    Parameters
    ----------
    lims_ref, Iref : array
        The reference; sorted by id inside each query unless "ref" is in `do_sort`.
    lims_new, Dnew, Inew : array
        The result; sorted by distance inside each query unless "new" is in `do_sort`.
    thresholds : array, shape (nt,)
        Distances below which results count, ascending.
    mode : str
        See `counts_to_PR`.

    Returns
    -------
    precisions, recalls : array, shape (nt,)
    """
    if "ref" in do_sort:
        Iref = sort_range_res_1(lims_ref, Iref)
    if "new" in do_sort:
        Inew, Dnew = sort_range_res_2(lims_new, Dnew, Inew)
    assert lims_ref.size == lims_new.size, (
        f"results for {lims_ref.size - 1} and {lims_new.size - 1} queries: expected the same queries"
    )
    nq = lims_ref.size - 1
    nres = np.zeros((nq, len(thresholds)), dtype=np.int64)
    ninter = np.zeros_like(nres)
    for q, (ref, new) in enumerate(zip(_rows(lims_ref), _rows(lims_new), strict=True)):
        nres[q] = np.searchsorted(Dnew[new], thresholds)
        correct = np.concatenate(([0], np.cumsum(np.isin(Inew[new], Iref[ref]))))
        ninter[q] = correct[nres[q]]
    ngt = np.diff(lims_ref.astype(np.int64))
    curve = [counts_to_PR(ngt, nres[:, t], ninter[:, t], mode=mode) for t in range(len(thresholds))]
    precisions, recalls = np.array(curve, dtype=np.float64).reshape(-1, 2).T
    return precisions, recalls


# Comparison with a reference, for tests


def _groups_of_near_values(row1: Array, row2: Array, tolerance: float) -> tuple[Array, Array]:
    """Number the values of two rows so that neighbours closer than the tolerance share a number."""
    values = np.sort(np.concatenate((row1, row2)))
    firsts = values[np.concatenate(([True], np.diff(values) > tolerance))]
    return np.searchsorted(firsts, row1, side="right") - 1, np.searchsorted(firsts, row2, side="right") - 1


def check_ref_knn_with_draws(
    Dref: Array, Iref: Array, Dnew: Array, Inew: Array, rtol: float = 1e-5, atol: float = 0
) -> None:
    """Raise AssertionError unless two results of a search are the same but for the order of ties.

    Parameters
    ----------
    Dref, Iref, Dnew, Inew : array, shape (nq, k)
        Distances must agree within `rtol` and `atol`. Inside a group of equal distances the ids must be the
        same set; the last group of a row may go on beyond k, so that its ids are not compared.
    """
    np.testing.assert_allclose(Dref, Dnew, rtol=rtol, atol=atol)
    for q in range(len(Iref)):
        if np.array_equal(Iref[q], Inew[q]):
            continue
        tolerance = rtol * Dref[q].max() + atol
        groups, _ = _groups_of_near_values(Dref[q], Dnew[q], tolerance)
        for group in np.unique(groups):
            if group == groups[-1]:
                continue
            here = groups == group
            expected, found = set(Iref[q, here].tolist()), set(Inew[q, here].tolist())
            assert expected == found, f"query {q}: ids {found} at a distance where {expected} were expected"


def check_ref_range_results(Lref: Array, Dref: Array, Iref: Array, Lnew: Array, Dnew: Array, Inew: Array) -> None:
    """Raise AssertionError unless two range search results are the same but for the order in a query."""
    np.testing.assert_array_equal(Lref, Lnew)
    for q, row in enumerate(_rows(np.asarray(Lref))):
        order_ref, order_new = np.argsort(Iref[row]), np.argsort(Inew[row])
        np.testing.assert_array_equal(Iref[row][order_ref], Inew[row][order_new], err_msg=f"ids of query {q}")
        np.testing.assert_array_almost_equal(
            Dref[row][order_ref], Dnew[row][order_new], decimal=5, err_msg=f"distances of query {q}"
        )


# Operating points


class OperatingPoints:
    """Search parameters with the performance and the time measured for them; keeps those that are Pareto
    optimal.

    A point is a triple ``(key, perf, t)``. Subclasses say what a key is.

    Attributes
    ----------
    operating_points : list of tuple
        The optimal points: no other is at least as good in both respects.
    suboptimal_points : list of tuple
        The others.
    """

    def __init__(self) -> None:
        self.operating_points: list[tuple[Any, float, float]] = []
        self.suboptimal_points: list[tuple[Any, float, float]] = []

    def compare_keys(self, k1: Any, k2: Any) -> int:
        """Return 1 if every parameter of `k1` is at least that of `k2`, -1 in the reverse case, else 0."""
        raise NotImplementedError

    def do_nothing_key(self) -> Any:
        """Return the key of the parameters that cost nothing and find nothing."""
        raise NotImplementedError

    def is_pareto_optimal(self, perf_new: float, t_new: float) -> bool:
        """Return whether no kept point is at least as good and at least as fast."""
        return not any(perf >= perf_new and t <= t_new for _, perf, t in self.operating_points)

    def predict_bounds(self, key: Any) -> tuple[float, float]:
        """Return the highest performance and the lowest time that `key` can have, by the points so far."""
        max_perf, min_time = 1.0, 0.0
        for key2, perf, t in self.operating_points + self.suboptimal_points:
            order = self.compare_keys(key, key2)
            if order > 0:
                min_time = max(min_time, t)
            if order < 0:
                max_perf = min(max_perf, perf)
        return max_perf, min_time

    def should_run_experiment(self, key: Any) -> bool:
        """Return whether measuring `key` may give an optimal point."""
        return self.is_pareto_optimal(*self.predict_bounds(key))

    def add_operating_point(self, key: Any, perf: float, t: float) -> bool:
        """Add a measured point and return whether it is optimal; points that it outdoes become suboptimal."""
        if not self.is_pareto_optimal(perf, t):
            self.suboptimal_points.append((key, perf, t))
            return False
        outdone = [point for point in self.operating_points if perf >= point[1] and t <= point[2]]
        self.operating_points = [point for point in self.operating_points if point not in outdone]
        self.suboptimal_points += outdone
        self.operating_points.append((key, perf, t))
        return True


class OperatingPointsWithRanges(OperatingPoints):
    """Operating points whose parameters are each taken from a list of values, from fast to exact.

    A key is an int array: for each parameter, in order, the place of its value in the list.

    Attributes
    ----------
    ranges : list of tuple
        ``(name, values)`` for each parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[str, list]] = []

    def add_range(self, name: str, values: list) -> None:
        """Add a parameter."""
        self.ranges.append((name, values))

    def compare_keys(self, k1: Array, k2: Array) -> int:
        """Return 1 if every parameter of `k1` is at least that of `k2`, -1 in the reverse case, else 0."""
        if np.all(k1 >= k2):
            return 1
        return -1 if np.all(k2 >= k1) else 0

    def do_nothing_key(self) -> Array:
        """Return the key of the first value of each parameter."""
        return np.zeros(len(self.ranges), dtype=int)

    def num_experiments(self) -> int:
        """Return the number of keys."""
        return int(np.prod([len(values) for _, values in self.ranges]))

    def sample_experiments(self, n_autotune: int, rs: Any = np.random) -> list[int]:
        """Return numbers of experiments in random order, the cheapest and the dearest first.

        Parameters
        ----------
        n_autotune : int
            How many, at least 2; 0 for all.
        rs : object
            Accepted for faiss's sake: the order comes from the seed 123.
        """
        assert n_autotune == 0 or n_autotune >= 2, f"n_autotune is {n_autotune}, expected 0 or at least 2"
        total = self.num_experiments()
        random = np.random.RandomState(123)
        if n_autotune == 0 or total < n_autotune:
            between = random.permutation(total - 2)
        else:
            between = random.choice(total - 2, size=n_autotune - 2, replace=False)
        return [0, total - 1, *(int(number) + 1 for number in between)]

    def cno_to_key(self, cno: int) -> Array:
        """Return the key of an experiment's number; the first parameter runs fastest."""
        sizes = [len(values) for _, values in self.ranges]
        assert 0 <= cno < self.num_experiments(), f"experiment {cno} of {self.num_experiments()}"
        return np.array(np.unravel_index(cno, sizes, order="F"), dtype=int)

    def get_parameters(self, k: Array) -> dict[str, Any]:
        """Return the values that a key stands for, by name."""
        return {name: values[place] for (name, values), place in zip(self.ranges, k, strict=True)}

    def restrict_range(self, name: str, max_val: float) -> None:
        """Remove the values of a parameter that are not below `max_val`.

        Raises
        ------
        RuntimeError
            If there is no such parameter.
        """
        for known, values in self.ranges:
            if known == name:
                values[:] = [value for value in values if value < max_val]
                return
        raise RuntimeError(f"parameter {name} not found among {[known for known, _ in self.ranges]}")


# Timing


class TimerIter:
    """One loop of a `RepeatTimer`."""

    def __init__(self, timer: RepeatTimer) -> None:
        self.timer = timer
        self.runs = timer.runs
        self.ts: list[float] = []
        if timer.nt >= 0:
            omp_set_num_threads(timer.nt)

    def __next__(self) -> None:
        timer = self.timer
        self.runs -= 1
        self.ts.append(time.time())
        if self.runs >= 0 and self.ts[-1] - self.ts[0] <= timer.max_secs:
            return
        if timer.nt >= 0:
            omp_set_num_threads(timer.remember_nt)
        times = np.diff(self.ts)
        # a loop that ran out of time has no runs to spare for warming up
        timer.times = times[timer.warmup :] if len(times) == timer.runs else times
        raise StopIteration


class RepeatTimer:
    """Time the body of a loop::

        timer = RepeatTimer(warmup=1, nt=1, runs=6)
        for _ in timer:
            index.search(xq, k)
        print(f"{timer.ms():.1f} +- {timer.ms_std():.1f} ms")

    Parameters
    ----------
    warmup : int
        Runs at the start that do not count.
    nt : int
        Threads to use, by ``omp_set_num_threads``; -1 leaves them as they are.
    runs : int
        Runs in all, more than `warmup`.
    max_secs : float
        The loop ends after the run in which this time is over.
    """

    def __init__(self, warmup: int = 0, nt: int = -1, runs: int = 1, max_secs: float = np.inf) -> None:
        assert warmup < runs, f"{warmup} runs for warming up of {runs} runs: expected fewer"
        self.warmup = warmup
        self.nt = nt
        self.runs = runs
        self.max_secs = max_secs
        self.remember_nt = omp_get_max_threads()
        self.times: Array = np.empty(0)

    def __iter__(self) -> TimerIter:
        return TimerIter(self)

    def ms(self) -> float:
        """Return the mean time of a run in milliseconds."""
        return np.mean(self.times) * 1000

    def ms_std(self) -> float:
        """Return the standard deviation of a run's time in milliseconds."""
        return np.std(self.times) * 1000 if len(self.times) > 1 else 0.0

    def nruns(self) -> int:
        """Return the number of runs that count: fewer than asked for where time ran out."""
        return len(self.times)
