"""Where the time of one run goes.

    python -m benchmarks.measuring.profile --case ivf_search_nq2048             # torch.profiler's table of operations
    python -m benchmarks.measuring.profile --case ivf_search_nq2048 --record    # time by step, for the report

The table has the operations of all threads. The steps are sampled: a thread looks a thousand times a second at where
this library's other threads are, and counts the function of this library that each is in, or has called torch from;
functions are grouped into steps by a table of modules. Nothing is added to the engine for it.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import collections
import dataclasses
import pathlib
import threading
import time
from types import FrameType
from typing import Any

from .. import records
from ..env import environment
from ..workloads.cases import CASES, Case
from ..workloads.registry import prepare
from ..workloads.work import Task

PACKAGE = f"{os.sep}faiss_torch{os.sep}"
PERIOD = 0.001

#: The step that a function of the engine belongs to, or all of a module; a module that is not here is its own step.
STEPS = {
    "ops.clustering.nearest": "assign",
    "ops.clustering.nearest_float64": "assign",
    "ops.clustering.nearest_int8": "assign",
    "ops.clustering.steps": "update centroids",
    "ops.scoring.small": "probe",
    "ops.scoring.ragged": "group by list",
    "ops.tiles.lists": "group by list",
    "ops.search.paths": "group by list",
    "ops.tiles.int8": "product",
    "ops.tiles.bf16": "product",
    "ops.tiles.tile_set": "product",
    "ops.scoring.scorers.products": "product",
    "ops.tiles.scan": "look at tiles",
    "ops.byte_sums.lists": "query by query",
    "ops.byte_sums.loops": "query by query",
    "ops.scoring.scorers": "look for survivors",
    "ops.scoring.scorers.at": "verify",
    "ops.scoring.scorers.distances": "verify",
    "ops.scoring.verify": "verify",
    "ops.tiles.verify": "verify",
    "ops.scoring.distances": "verify",
    "ops.scoring.candidates": "select",
    "ops.search.merge": "select",
    "ops.scoring.topk": "select",
    "border": "convert",
}
#: Modules of which a thread is in while it waits, or while it only hands work on.
WAITING = frozenset({"ops.runtime.workers", "ops.runtime.pools", "threads"})


def step_of(frame: FrameType | None) -> tuple[str, str] | None:
    """Return the step that a thread is at, and the function, or None for a thread that waits or is not ours."""
    while frame is not None:
        code = frame.f_code
        if PACKAGE in code.co_filename:
            module = code.co_filename.rpartition(PACKAGE)[2].removesuffix(".py").replace(os.sep, ".")
            if module in WAITING:
                return None
            if module == "ops.runtime.scripted":  # it runs what its caller wants
                frame = frame.f_back
                continue
            function = f"{module}.{code.co_name}"
            return STEPS.get(function) or STEPS.get(module, module), function
        frame = frame.f_back
    return None


class Sampler(threading.Thread):
    """Counts what this library's threads are doing, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.steps: collections.Counter[str] = collections.Counter()
        self.functions: collections.Counter[str] = collections.Counter()
        self._done = threading.Event()

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._done.wait(PERIOD):
            for thread, frame in sys._current_frames().items():
                found = step_of(frame) if thread != self.ident else None
                if found is not None:
                    self.steps[found[0]] += 1
                    self.functions[found[1]] += 1

    def stop(self) -> None:
        """Stop, and wait until it has."""
        self._done.set()
        self.join()


def sampled(task: Task, at_least: float = 2.0) -> tuple[dict[str, float], dict[str, float], float]:
    """Run a task again and again for some seconds.

    Returns
    -------
    steps, functions : dict of float
        Seconds of one run by step and by function, largest first. They add up to the time of the run: of a moment
        at which two threads work, each has half.
    seconds : float
        Of one run.
    """
    sampler = Sampler()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(PERIOD / 4)  # the sampler gets its turn in time
    sampler.start()
    start, runs = time.perf_counter(), 0
    try:
        while time.perf_counter() - start < at_least:
            task()
            runs += 1
        whole = (time.perf_counter() - start) / runs
    finally:
        sampler.stop()
        sys.setswitchinterval(interval)

    def seconds(counted: collections.Counter[str]) -> dict[str, float]:
        total = max(1, sum(counted.values()))
        return {name: round(whole * count / total, 6) for name, count in counted.most_common()}

    return seconds(sampler.steps), seconds(sampler.functions), round(whole, 6)


def operations(task: Task, rows: int = 25) -> str:
    """Return torch.profiler's table of one run, of all threads where this version of torch can."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    try:
        from torch._C._profiler import _ExperimentalConfig

        config = _ExperimentalConfig(profile_all_threads=True)
    except (ImportError, TypeError):
        print("this version of torch profiles the calling thread alone, not the workers", file=sys.stderr)
        config = None
    with profile(activities=activities, experimental_config=config) as profiled:
        task()
    return str(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows))


def record_of(case: Case, threads: int, steps: dict[str, float], functions: dict[str, float], whole: float) -> Any:
    """Return what is kept of a profile."""
    return {
        "profile": case.name,
        "steps": steps,
        "functions": dict(list(functions.items())[:20]),
        "seconds_of_run": whole,
        "threads": threads,
        "environment": environment(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Profile the case that the arguments name."""
    names = [case.name for case in CASES if case.measure == "times"]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measuring.profile", description="Where the time of a run goes"
    )
    parser.add_argument("--case", required=True, metavar="NAME")
    parser.add_argument("--threads", type=int, default=records.THREADS)
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: in small")
    parser.add_argument("--steps", action="store_true", help="print the time by step and function")
    parser.add_argument("--record", action="store_true", help="append the time by step to the records")
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS, help="the file of records")
    parser.add_argument("--rows", type=int, default=25, help="lines of torch.profiler's table")
    options = parser.parse_args(arguments)
    if options.case not in names:
        parser.error(f"there is no case {options.case!r} to profile")

    import faiss_torch

    case = next(case for case in CASES if case.name == options.case)
    faiss_torch.omp_set_num_threads(options.threads)
    task = prepare(dataclasses.replace(case, workload=case.workload.scaled(options.scale)), faiss_torch)
    task()
    if not (options.steps or options.record):
        print(operations(task, options.rows))
        return 0
    steps, functions, whole = sampled(task)
    for title, found in (("step", steps), ("function", functions)):
        print(f"{title:45} milliseconds of {1e3 * whole:.2f}")
        for name, seconds in list(found.items())[: options.rows]:
            print(f"{name:45} {1e3 * seconds:12.3f}")
    if options.record:
        records.append(record_of(case, options.threads, steps, functions, whole), options.records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
