"""Criteria for search results, and the list of operating points that a search for parameters fills."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import ClassVar

import numpy as np
import torch

from ..attributes import CheckedAttributes, Int64
from ..border import Array, floats_in, integers_in
from ..wrapper.array_conversions import copy_array_to_vector
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, pointed, table
from ..wrapper.vectors import Float32Vector, Int64Vector, ObjectVector
from .results import eval_intersection


class AutoTuneCriterion(Owned, CheckedAttributes):
    """Measures search results against a ground truth: between 0 and 1, higher is better.

    Parameters
    ----------
    nq : int
        Number of queries.
    nnn : int
        Number of results per query.

    Attributes
    ----------
    gt_nnn : int
        Number of true neighbours per query.
    gt_D : Float32Vector
    gt_I : Int64Vector
        The ground truth, flat.
    """

    nq: Int64
    nnn: Int64
    gt_nnn: Int64

    _objects: ClassVar[dict[str, type]] = {"gt_D": Float32Vector, "gt_I": Int64Vector}

    def __init__(self, nq: int, nnn: int) -> None:
        self.nq = nq
        self.nnn = nnn
        self.gt_nnn = 0
        self.gt_D = Float32Vector()
        self.gt_I = Int64Vector()

    def set_groundtruth(self, D: Array | None, I: Array) -> None:
        """Set the true neighbours I [nq, gt_nnn], and their distances D [nq, gt_nnn] or None.

        Raises
        ------
        AssertionError
            If the shapes differ.
        """
        if D is not None and tuple(I.shape) != tuple(D.shape):
            raise AssertionError(f"set_groundtruth: D has shape {tuple(D.shape)}, I has {tuple(I.shape)}")
        self.nq, self.gt_nnn = I.shape
        cpu = torch.device("cpu")
        if D is not None:
            copy_array_to_vector(floats_in(D, cpu).numpy().reshape(-1), self.gt_D)
        copy_array_to_vector(integers_in(I, cpu).numpy().reshape(-1), self.gt_I)

    def set_groundtruth_c(self, gt_nnn: int, gt_D_in: Pointer | None, gt_I_in: Pointer) -> None:
        """`set_groundtruth` to gt_I_in, int64 [nq, gt_nnn], and gt_D_in, float32 [nq, gt_nnn], or None."""
        shape, name = (self.nq, gt_nnn), "set_groundtruth_c"
        distances = None if gt_D_in is None else table(gt_D_in, shape, "float32", name)
        self.set_groundtruth(distances, table(gt_I_in, shape, "int64", name))

    def evaluate_c(self, D: Pointer, I: Pointer) -> float:
        """`evaluate` of D, float32 [nq, nnn], and I, int64 [nq, nnn]."""
        shape = (self.nq, self.nnn)
        return self.evaluate(table(D, shape, "float32", "evaluate_c"), table(I, shape, "int64", "evaluate_c"))

    def evaluate(self, D: Array | Pointer, I: Array | Pointer) -> float:
        """Measure search results D, I [nq, nnn], arrays or pointers.

        Raises
        ------
        AssertionError
            If the shapes do not fit.
        RuntimeError
            If the ground truth was not set, or has too few neighbours.
        """
        D, I = self._results(D, "float32"), self._results(I, "int64")
        if tuple(I.shape) != tuple(D.shape) or tuple(I.shape) != (self.nq, self.nnn):
            raise AssertionError(
                f"evaluate: expected D and I of shape ({self.nq}, {self.nnn}), "
                f"got {tuple(D.shape)} and {tuple(I.shape)}"
            )
        wanted = self._true_neighbours()
        if self.gt_I.size() != self.nq * self.gt_nnn or self.gt_nnn < wanted:
            raise RuntimeError(
                f"ground truth not initialized: {self.gt_I.size()} labels for {self.nq} queries, "
                f"{wanted} per query needed"
            )
        truth = self.gt_I.array.reshape(self.nq, self.gt_nnn)
        return self._measure(integers_in(I, torch.device("cpu")).numpy(), truth)

    def _results(self, values: Array | Pointer, dtype: str) -> Array:
        if isinstance(values, Pointer):
            return pointed(values, self.nq * self.nnn, dtype, "evaluate").reshape(self.nq, self.nnn)
        return values

    def _true_neighbours(self) -> int:
        raise NotImplementedError

    def _measure(self, I: np.ndarray, truth: np.ndarray) -> float:
        raise NotImplementedError


class OneRecallAtRCriterion(AutoTuneCriterion):
    """The share of queries whose nearest neighbour is among the R results.

    Parameters
    ----------
    nq : int
        Number of queries.
    R : int
        Number of results per query.
    """

    def __init__(self, nq: int, R: int) -> None:
        super().__init__(nq, R)
        self.R = R

    def _true_neighbours(self) -> int:
        return 1

    def _measure(self, I: np.ndarray, truth: np.ndarray) -> float:
        return float((I[:, : self.R] == truth[:, :1]).any(1).sum() / self.nq)


class IntersectionCriterion(AutoTuneCriterion):
    """The share of the R nearest neighbours that is among the R results.

    Parameters
    ----------
    nq : int
        Number of queries.
    R : int
        Number of results per query.
    """

    def __init__(self, nq: int, R: int) -> None:
        super().__init__(nq, R)
        self.R = R

    def _true_neighbours(self) -> int:
        return self.R

    def _measure(self, I: np.ndarray, truth: np.ndarray) -> float:
        return eval_intersection(I[:, : self.R], truth[:, : self.R]) / (self.nq * self.R)


@dataclass
class OperatingPoint:
    """One setting of the parameters and what it gave.

    Attributes
    ----------
    perf : float
        What the criterion measured.
    t : float
        Search time in seconds.
    key : str
        The parameters.
    cno : int
        The number of their combination.
    """

    perf: float = 0.0
    t: float = 0.0
    key: str = ""
    cno: int = 0


class OperatingPointVector(ObjectVector[OperatingPoint]):
    """A vector of `OperatingPoint`."""

    element: ClassVar[type] = OperatingPoint


class OperatingPoints(Owned):
    """Operating points, and those among them that no other one beats in both perf and time.

    Attributes
    ----------
    all_pts : OperatingPointVector
    optimal_pts : OperatingPointVector
        Sorted by perf; the first one is "doing nothing", at no cost.
    """

    def __init__(self) -> None:
        self.all_pts = OperatingPointVector()
        self.optimal_pts = OperatingPointVector()
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self.all_pts.clear()
        self.optimal_pts.clear()
        self.optimal_pts.push_back(OperatingPoint(0.0, 0.0, "", -1))

    def add(self, perf: float, t: float, key: str, cno: int = 0) -> bool:
        """Add a point, and return whether it is optimal so far."""
        point = OperatingPoint(perf, t, key, cno)
        self.all_pts.push_back(point)
        optimal = list(self.optimal_pts)
        if perf == 0 or any(other.perf >= perf and other.t <= t for other in optimal):
            return False
        optimal = [other for other in optimal if not (other.perf <= perf and other.t >= t)]
        optimal.append(point)
        self.optimal_pts = OperatingPointVector(sorted(optimal, key=lambda other: other.perf))
        return True

    def merge_with(self, other: OperatingPoints, prefix: str = "") -> int:
        """Add the points of another list, with a prefix to their keys; return how many are optimal."""
        return sum(self.add(point.perf, point.t, prefix + point.key, point.cno) for point in other.all_pts)

    def t_for_perf(self, perf: float) -> float:
        """The time in which a measure is reached; 1e50 if none reaches it."""
        return min((point.t for point in self.optimal_pts if point.perf >= perf), default=1e50)

    def display(self, only_optimal: bool = True) -> None:
        """Print the points."""
        print(f"Tested {self.all_pts.size()} operating points, {self.optimal_pts.size()} ones are Pareto-optimal:")
        optimal = {point.cno for point in self.optimal_pts}
        for point in self.optimal_pts if only_optimal else self.all_pts:
            star = "*" if not only_optimal and point.cno in optimal else ""
            print(f"cno={point.cno} key={point.key} perf={point.perf:.4f} t={point.t:.3f} {star}")

    def all_to_gnuplot(self, fname: str | PathLike[str]) -> None:
        """Write all points to a file, one per line: perf, time, key."""
        with open(fname, "w") as file:
            file.writelines(f"{point.perf:g} {point.t:g} {point.key}\n" for point in self.all_pts)

    def optimal_to_gnuplot(self, fname: str | PathLike[str]) -> None:
        """Write the steps of the optimal points to a file: each perf from where the last one ended."""
        before = 0.0
        with open(fname, "w") as file:
            for point in self.optimal_pts:
                file.write(f"{before:g} {point.t:g}\n{point.perf:g} {point.t:g} {point.key}\n")
                before = point.perf
