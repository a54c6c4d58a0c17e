"""ParameterSpace and GpuParameterSpace: setting search parameters by name, and looking for the best ones."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..attributes import CheckedAttributes, Size
from ..border import Array
from ..indexes.base import Index
from ..indexes.composite.shards import IndexShardsIVF
from ..indexes.composite.threaded import ThreadedIndexBase
from ..indexes.ivf.base import IndexIVF
from ..ops.random import rand_perm
from ..threads import omp_get_max_threads
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, table
from ..wrapper.vectors import Float64Vector, ObjectVector
from .ivflib import inner_index
from .operating_points import AutoTuneCriterion, OperatingPoint, OperatingPoints

#: How many values of nprobe `GpuParameterSpace` tries, in powers of two.
GPU_NPROBE_VALUES = 12


class _Parameter(NamedTuple):
    """A parameter that can be set by name on indexes of a class."""

    name: str
    index_class: type
    set: Callable[[Any, float], None]


def _set_nprobe(index: IndexIVF, value: float) -> None:
    index.nprobe = int(value)


def _set_max_codes(index: IndexIVF, value: float) -> None:
    index.max_codes = int(value) if math.isfinite(value) else 0


#: The parameters by name. Those that begin with ``quantizer_`` go to the coarse quantizer of an IVF index.
PARAMETERS = (
    _Parameter("nprobe", IndexIVF, _set_nprobe),
    _Parameter("max_codes", IndexIVF, _set_max_codes),
)

_QUANTIZER = "quantizer_"
_SETTING = re.compile(
    r"(?P<name>[^=]{1,99})=(?P<value>[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|nan))", re.IGNORECASE
)


class ParameterRange(Owned, CheckedAttributes):
    """The values that a parameter may take, from the fastest to the most accurate.

    Attributes
    ----------
    name : str
    values : Float64Vector
    """

    _objects: ClassVar[dict[str, type]] = {"values": Float64Vector}

    def __init__(self) -> None:
        self.name = ""
        self.values = Float64Vector()


class ParameterRangeVector(ObjectVector[ParameterRange]):
    """A vector of `ParameterRange`."""

    element: ClassVar[type] = ParameterRange


class ParameterSpace(Owned, CheckedAttributes):
    """The search parameters of an index.

    Attributes
    ----------
    parameter_ranges : ParameterRangeVector
        The parameters to try; a combination of values has a number, the first parameter varying fastest.
    verbose : int
        Whether `explore` prints what it does (1), and parameters are named when set (2).
    n_experiments : int
        How many combinations `explore` tries; 0 for all.
    batchsize : int
        How many queries `explore` searches at a time.
    thread_over_batches : bool
        Whether `explore` searches the batches in parallel.
    min_test_duration : float
        `explore` repeats a search until it took that many seconds.
    """

    verbose: int
    n_experiments: int
    batchsize: Size
    thread_over_batches: bool
    min_test_duration: float

    _objects: ClassVar[dict[str, type]] = {"parameter_ranges": ParameterRangeVector}

    def __init__(self) -> None:
        self.parameter_ranges = ParameterRangeVector()
        self.verbose = 1
        self.n_experiments = 500
        self.batchsize = 1 << 30
        self.thread_over_batches = False
        self.min_test_duration = 0.0

    def n_combinations(self) -> int:
        """The number of combinations of all values."""
        return math.prod(len(each.values) for each in self.parameter_ranges)

    def _positions(self, cno: int) -> list[int]:
        """Which value of each parameter a combination has."""
        positions = []
        for each in self.parameter_ranges:
            cno, position = divmod(cno, len(each.values))
            positions.append(position)
        return positions

    def combination_ge(self, c1: int, c2: int) -> bool:
        """Whether combination c1 has in every parameter at least the value of c2."""
        return all(a >= b for a, b in zip(self._positions(c1), self._positions(c2), strict=True))

    def combination_name(self, cno: int) -> str:
        """A combination as text, such as ``nprobe=4,quantizer_efSearch=16``."""
        chosen = zip(self.parameter_ranges, self._positions(cno), strict=True)
        return ",".join(f"{each.name}={each.values.at(position):g}" for each, position in chosen)

    def display(self) -> None:
        """Print the parameters and their values."""
        print(f"ParameterSpace, {len(self.parameter_ranges)} parameters, {self.n_combinations()} combinations:")
        for each in self.parameter_ranges:
            print(f"   {each.name}: [{', '.join(f'{value:g}' for value in each.values)}]")

    def add_range(self, name: str) -> ParameterRange:
        """The range of a parameter, made if it is not there."""
        for each in self.parameter_ranges:
            if each.name == name:
                return each
        added = ParameterRange()
        added.name = name
        self.parameter_ranges.push_back(added)
        return added

    def initialize(self, index: Index) -> None:
        """Fill in ranges for an index: for IVF, nprobe in powers of two below nlist, and its quantizer's."""
        inner = inner_index(index)
        if inner is not None:
            self.initialize(inner)
            return
        if isinstance(index, IndexIVF):
            nprobe = self.add_range("nprobe")
            for exponent in range(13):
                if 1 << exponent < index.nlist:
                    nprobe.values.push_back(1 << exponent)
            of_quantizer = ParameterSpace()
            of_quantizer.initialize(index.quantizer)
            for each in of_quantizer.parameter_ranges:
                self.add_range(_QUANTIZER + each.name).values.assign(each.values.array)

    def set_index_parameters(self, index: Index, description: str | int) -> None:
        """Set several parameters.

        Parameters
        ----------
        index : Index
        description : str or int
            Settings such as ``"nprobe=8,max_codes=1000"``, separated by commas or spaces, or the number of a
            combination.

        Raises
        ------
        RuntimeError
            If a setting cannot be read, or there is no such parameter.
        """
        if isinstance(description, str):
            for setting in re.split("[ ,]+", description.strip(" ,")) if description.strip(" ,") else []:
                match = _SETTING.match(setting)
                if match is None:
                    raise RuntimeError(
                        f"could not interpret parameters {setting!r} in {description!r}: expected name=number"
                    )
                self.set_index_parameter(index, match["name"], float(match["value"]))
            return
        for each, position in zip(self.parameter_ranges, self._positions(description), strict=True):
            self.set_index_parameter(index, each.name, each.values.at(position))

    def set_index_parameter(self, index: Index, name: str, val: float) -> None:
        """Set one parameter, on the index or on the one that it wraps.

        Raises
        ------
        RuntimeError
            If the index has no such parameter.
        """
        if self.verbose > 1:
            print(f"    set_index_parameter {name}={val:g}")
        if name == "verbose":
            index.verbose = bool(int(val))
        inner = inner_index(index)
        if inner is not None:
            self.set_index_parameter(inner, name, val)
            return
        if isinstance(index, IndexShardsIVF) and name.startswith(_QUANTIZER) and name != f"{_QUANTIZER}nprobe":
            # the shards have no part in the search of the quantizer
            self.set_index_parameter(index.quantizer, name.removeprefix(_QUANTIZER), val)
            return
        if isinstance(index, ThreadedIndexBase):
            index.runOnIndex(lambda no, sub_index: self.set_index_parameter(sub_index, name, val))
            return
        if name == "verbose":
            return
        for parameter in PARAMETERS:
            if parameter.name == name and isinstance(index, parameter.index_class):
                parameter.set(index, float(val))
                return
        if name.startswith(_QUANTIZER) and isinstance(index, IndexIVF):
            self.set_index_parameter(index.quantizer, name.removeprefix(_QUANTIZER), val)
            return
        raise RuntimeError(
            f"ParameterSpace::set_index_parameter: could not set parameter {name} on {type(index).__name__}"
        )

    def update_bounds(
        self, cno: int, op: OperatingPoint, upper_bound_perf: float, lower_bound_t: float
    ) -> tuple[float, float]:
        """Tighten the bounds (perf at most, time at least) of a combination by a point that was measured.

        A combination that is at least as large in every parameter is assumed to be slower and more accurate.

        Returns
        -------
        tuple of float
            The two bounds, which faiss writes behind pointers.
        """
        if self.combination_ge(cno, op.cno):
            lower_bound_t = max(lower_bound_t, op.t)
        if self.combination_ge(op.cno, cno):
            upper_bound_perf = min(upper_bound_perf, op.perf)
        return upper_bound_perf, lower_bound_t

    def explore(self, index: Index, xq: Array, crit: AutoTuneCriterion) -> OperatingPoints:
        """Measure combinations of parameters on an index.

        Parameters
        ----------
        index : Index
            Its parameters are changed.
        xq : array, shape (nq, d)
            The queries of the criterion.
        crit : AutoTuneCriterion
            What to measure.

        Returns
        -------
        OperatingPoints

        Raises
        ------
        AssertionError
            If the queries are not those of the criterion in number or width.
        RuntimeError
            If fewer than 3 of several combinations are to be tried.
        """
        if tuple(xq.shape) != (crit.nq, index.d):
            raise AssertionError(f"explore: expected queries ({crit.nq}, {index.d}), got {tuple(xq.shape)}")
        ops = OperatingPoints()
        self._explore_into(ops, index, xq, crit)
        return ops

    def explore_c(self, index: Index, nq: int, xq: Pointer, crit: AutoTuneCriterion, ops: OperatingPoints) -> None:
        """`explore` with xq, float32 [nq, d], adding to operating points that there are."""
        queries = table(xq, (nq, index.d), "float32", "explore_c")
        if nq != crit.nq:
            raise RuntimeError(f"explore_c: {nq} queries given, with a criterion of {crit.nq}")
        self._explore_into(ops, index, queries, crit)

    def _explore_into(self, ops: OperatingPoints, index: Index, xq: Array, crit: AutoTuneCriterion) -> None:
        for cno in self._plan():
            if self.n_experiments and self._hopeless(cno, ops):
                continue
            self.set_index_parameters(index, cno)
            D, I, seconds = self._timed_search(index, xq, crit.nnn)
            perf = crit.evaluate(D, I)
            name = self.combination_name(cno)
            keep = ops.add(perf, seconds, name, cno)
            if self.verbose:
                print(f"  cno={cno} {name} perf={perf:.3f} t={seconds:.3f} s {'*' if keep else ''}")

    def _plan(self) -> list[int]:
        """The combinations to try: the fastest and the most accurate first, then the others as in faiss."""
        combinations = self.n_combinations()
        if self.n_experiments == 0:
            return list(range(combinations))
        experiments = min(self.n_experiments, combinations)
        if combinations == 1:
            return [0]
        if experiments <= 2:
            raise RuntimeError(f"explore: expected at least 3 experiments, got {experiments}")
        others = rand_perm(combinations - 2, 1234) + 1
        return [0, combinations - 1, *others.tolist()][:experiments]

    def _hopeless(self, cno: int, ops: OperatingPoints) -> bool:
        """Whether something measured is as fast as the combination can be, and as accurate."""
        perf, t = 1.0, 0.0
        for point in ops.all_pts:
            perf, t = self.update_bounds(cno, point, perf, t)
        return ops.t_for_perf(perf) <= t

    def _timed_search(self, index: Index, xq: Array, k: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Search in batches, again and again until it took long enough: results and seconds per run."""
        parts = [xq[begin : begin + self.batchsize] for begin in range(0, len(xq), self.batchsize)]
        runs = 0
        begin = time.perf_counter()
        while True:
            if self.thread_over_batches:
                with ThreadPoolExecutor(omp_get_max_threads()) as pool:
                    found = list(pool.map(lambda part: index.search(part, k), parts))
            else:
                found = [index.search(part, k) for part in parts]
            runs += 1
            seconds = time.perf_counter() - begin
            if seconds >= self.min_test_duration:
                break
        D, I = (np.concatenate([np.asarray(part[i]) for part in found]) for i in (0, 1))
        return D, I, seconds / runs


class GpuParameterSpace(ParameterSpace):
    """The search parameters of an index on one or several GPUs."""

    def initialize(self, index: Index) -> None:
        """Fill in ranges for an index, or for the first of replicas or shards.

        nprobe takes powers of two below nlist, up to 2048, as in faiss. `set_index_parameter` takes any, and sets it in
        all replicas or shards.
        """
        if isinstance(index, ThreadedIndexBase) and not isinstance(index, IndexShardsIVF):
            if index.count():
                self.initialize(index.at(0))
            return
        super().initialize(index)
        if isinstance(index, IndexIVF):
            nprobe = self.add_range("nprobe").values
            nprobe.resize(min(len(nprobe), GPU_NPROBE_VALUES))
