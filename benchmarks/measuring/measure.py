"""How a case is measured: both sides in turn, memory and import in processes of their own, with a busy core, by two
threads."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..workloads import rivals
from ..workloads.cases import Case
from ..workloads.compare import Comparison
from ..workloads.goals import OURS, rival_key
from ..workloads.registry import ON_DEVICE, comparison, prepare
from ..workloads.work import Task, index_bytes, recall
from . import own_process

PAUSE = 0.05


@dataclasses.dataclass
class Measurement:
    """What a measurement gave.

    Attributes
    ----------
    runs : dict of list
        Seconds, or bytes, of each run, by side.
    difference : str or None
        What is wrong with the results.
    unit : str
        "seconds" or "bytes".
    more : dict
        What else goes to the record.
    """

    runs: dict[str, list[float]]
    difference: str | None = None
    unit: str = "seconds"
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


def seconds(task: Task, device: str = "cpu", calls: int = 1) -> float:
    """Return the time of one call, where so many are timed together."""
    synchronize: Callable[[], Any] = int
    if device != "cpu":
        import torch

        synchronize = torch.cuda.synchronize
    time.sleep(PAUSE)
    synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        task()
    synchronize()
    return (time.perf_counter() - start) / calls


def _tasks(case: Case, rival: str | None, ours: bool, threads: int) -> dict[str, Task]:
    """Return the tasks of the sides."""
    tasks = {}
    if rival is not None:
        rivals.set_threads(rival, threads)
        tasks[rival_key(rival)] = rivals.prepare_rival(rival, case)
    if ours:
        module = importlib.import_module("faiss_torch")
        module.omp_set_num_threads(threads)
        tasks[OURS] = prepare(case, module)
    return tasks


def _comparison(case: Case, sides: Iterable[str]) -> Comparison:
    """Return how results are compared: only faiss draws the same numbers for the same seed."""
    other = case.work == "kmeans" and "faiss" not in sides
    return comparison("objective" if other else case.compare)


def _compared(case: Case, tasks: dict[str, Task]) -> tuple[str | None, dict[str, Any]]:
    """Run each side once, to warm up, and return what is wrong with the results, and what a record tells of them."""
    results = {side: task() for side, task in tasks.items()}
    difference = None
    if len(results) == 2:
        theirs, found = results.values()
        difference = _comparison(case, results)(theirs, found, case.workload)
    more: dict[str, Any] = {}
    if case.work.endswith("_search") and len(results.get(OURS, ())) == 3 and results[OURS][2] is not None:
        more["path"] = results[OURS][2]
    if case.recall:
        more["recall"] = {
            side: round(recall(case.workload, np.asarray(found[1].cpu() if hasattr(found[1], "cpu") else found[1])), 5)
            for side, found in results.items()
        }
    if case.compare == "labels":
        from ..workloads.device_work import labels_right

        more["labels_right"] = {
            side: round(labels_right(case.workload, case.device, found[0]), 6) for side, found in results.items()
        }
    if "range" in case.work and OURS in results:
        more["results"] = len(results[OURS][2])
    return difference, more


def times(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Time the sides in turn."""
    tasks = _tasks(case, rival, ours, threads)
    difference, more = _compared(case, tasks)
    runs: dict[str, list[float]] = {side: [] for side in tasks}
    for _ in range(case.repeats):
        for side, task in tasks.items():
            runs[side].append(seconds(task, case.device, case.calls))
    if case.calls > 1:
        more["calls"] = case.calls
    if case.work in ON_DEVICE and case.device != "cpu" and OURS in runs:
        from ..workloads.device_work import shares_of_peak

        more |= shares_of_peak(case, statistics.median(runs[OURS]))
    return Measurement(runs, difference, more=more)


def busy(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Time each side when the machine is quiet, and while another process keeps one core busy."""
    tasks = _tasks(case, rival, ours, threads)
    difference, more = _compared(case, tasks)
    runs: dict[str, list[float]] = {}
    for side, task in tasks.items():
        runs[side] = [seconds(task) for _ in range(case.repeats)]
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    other = own_process.start("keep_busy", core=core)
    try:
        time.sleep(1)
        if other.poll() is not None:
            raise RuntimeError("the process that should keep a core busy has ended")
        for side, task in tasks.items():
            runs[f"{side} busy"] = [seconds(task) for _ in range(case.repeats)]
    finally:
        other.kill()
        other.communicate()
    return Measurement(runs, difference, more=more)


#: Searches that each of two threads makes.
SEARCHES = 8


def two_threads(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Time one Python thread that searches an index so many times, and two that share these searches."""
    tasks = _tasks(case, rival, ours, threads)
    difference, more = _compared(case, tasks)
    runs: dict[str, list[float]] = {}
    for side, task in tasks.items():

        def alone(task: Task = task) -> None:
            for _ in range(2 * SEARCHES):
                task()

        def together(task: Task = task) -> None:
            def half() -> None:
                for _ in range(SEARCHES):
                    task()

            pair = [threading.Thread(target=half) for _ in range(2)]
            for thread in pair:
                thread.start()
            for thread in pair:
                thread.join()

        runs[side], runs[f"{side} two threads"] = [], []
        for _ in range(case.repeats):
            runs[side].append(seconds(alone))
            runs[f"{side} two threads"].append(seconds(together))
    return Measurement(runs, difference, more=more)


def _modules(rival: str | None, ours: bool) -> list[str]:
    if rival not in {None, "faiss-cpu"}:
        raise rivals.CannotDo("memory and the import are measured beside faiss-cpu alone")
    return (["faiss"] if rival else []) + ([OURS] if ours else [])


def _memory(case: Case, rival: str | None, threads: int, ours: bool, what: str) -> Measurement:
    modules = _modules(rival, ours)
    if not own_process.STATUS.exists():
        raise rivals.CannotDo("resident memory is read from /proc, which this system lacks")
    import faiss

    runs: dict[str, list[float]] = {module: [] for module in modules}
    after: dict[str, list[float]] = {module: [] for module in modules}
    with tempfile.TemporaryDirectory() as folder:
        trained = str(pathlib.Path(folder) / "trained.index")
        index = faiss.deserialize_index(index_bytes(case.workload))
        index.reset()
        faiss.write_index(index, trained)
        arguments = {"index_file": trained, "workload": dataclasses.asdict(case.workload), "threads": threads}
        for _ in range(case.repeats):
            for module in modules:
                found = own_process.result("memory", module=module, **arguments)
                runs[module].append(found[what])
                after[module].append(found["after_search"])
    return Measurement(runs, unit="bytes", more={"bytes_after_search": after})


def memory_after_add(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Measure by how much a process grows when the database is added to a trained index."""
    return _memory(case, rival, threads, ours, "after_add")


def memory_peak_of_search(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Measure by how much a process grows beyond the index at the height of its first search."""
    return _memory(case, rival, threads, ours, "peak_of_search")


def import_time(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Time the import: of this library beyond torch's, of faiss beyond numpy's."""
    beside = {OURS: "torch", "faiss": "numpy"}
    runs: dict[str, list[float]] = {module: [] for module in _modules(rival, ours)}
    for module in runs:
        own_process.result("import_time", module=module, beside=beside[module])  # files are read once
    for _ in range(case.repeats):
        for module in runs:
            runs[module].append(own_process.result("import_time", module=module, beside=beside[module])["seconds"])
    return Measurement(runs)


MEASURES: dict[str, Callable[..., Measurement]] = {
    "times": times,
    "busy": busy,
    "two_threads": two_threads,
    "memory_after_add": memory_after_add,
    "memory_peak_of_search": memory_peak_of_search,
    "import_time": import_time,
}


def measure(case: Case, rival: str | None, threads: int, ours: bool = True) -> Measurement:
    """Measure a case: beside a rival, or one side alone (``rival=None`` or ``ours=False``)."""
    return MEASURES[case.measure](case, rival, threads, ours)
