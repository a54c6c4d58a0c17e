"""Measure this library beside faiss-cpu, in one process and on the same data, and keep a record.

    python -m benchmarks.run                              # all cases of the suite "cpu"
    python -m benchmarks.run --case ivf_search_nq2048
    python -m benchmarks.run --scale 0.02                 # in small, without a record
    python -m benchmarks.run --only faiss                 # one implementation alone, without a record

Each case runs once on both sides to warm up and to compare the results; then the two take turns, with a pause
before each run, and the medians are compared. A record is appended to records.jsonl only if the results
agreed.

Both libraries bring an OpenMP runtime. After a parallel region its idle threads go on spinning for a while,
and would take the cores from the other library: they are told to sleep, for both alike, before the libraries
are loaded. Whether that harms faiss can be seen: a record also has faiss's median in a process of its own,
where nothing is told to its threads ("faiss_alone").
"""

from __future__ import annotations

import os
import sys

if "--only" not in sys.argv:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import dataclasses
import importlib
import json
import pathlib
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from .cases import CASES, Case, Task
from .env import environment

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records.jsonl"
IMPLEMENTATIONS = ("faiss", "faiss_torch")
PAUSE = 0.05


def seconds(task: Task, device: str) -> float:
    """Return the time of one run."""
    synchronize: Callable[[], Any] = int
    if device != "cpu":
        import torch

        synchronize = torch.cuda.synchronize
    time.sleep(PAUSE)
    synchronize()
    start = time.perf_counter()
    task()
    synchronize()
    return time.perf_counter() - start


def measure(
    case: Case, implementations: tuple[str, ...], threads: int
) -> tuple[dict[str, list[float]], str | None, Any]:
    """Run a case.

    Returns
    -------
    times : dict of list
        Seconds of each run, by implementation.
    difference : str or None
        What is wrong with the results.
    path : object
        The path that this library's search took, and its reason, if it tells.
    """
    tasks: dict[str, Task] = {}
    results = {}
    for name in implementations:
        module = importlib.import_module(name)
        module.omp_set_num_threads(threads)
        tasks[name] = case.prepare(module, case.workload, case.device)
        results[name] = tasks[name]()
    difference = case.compare(results["faiss"], results["faiss_torch"]) if len(results) == 2 else None
    ours = results.get("faiss_torch", ())
    path = ours[2] if len(ours) > 2 else None
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(case.repeats):
        for name, task in tasks.items():
            times[name].append(seconds(task, case.device))
    return times, difference, path


def seconds_alone(case: Case, threads: int) -> float:
    """Return faiss's median in a process of its own, where nothing is told to its threads."""
    command = [sys.executable, "-m", "benchmarks.run", "--only", "faiss", "--case", case.name, "--json"]
    command += ["--repeats", str(case.repeats), "--threads", str(threads)]
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return statistics.median(json.loads(done.stdout)["faiss"])


def record_of(case: Case, times: dict[str, list[float]], faiss_alone: float, path: Any, threads: int) -> dict[str, Any]:
    """Return what is kept of a measurement; the ratio is faiss's time, side by side, over this library's."""
    medians = {name: statistics.median(runs) for name, runs in times.items()}
    return {
        "case": case.name,
        "ratio": round(medians["faiss"] / medians["faiss_torch"], 3),
        "median_seconds": {name: round(median, 6) for name, median in medians.items()},
        "faiss_alone": round(faiss_alone, 6),
        "seconds": {name: [round(run, 6) for run in runs] for name, runs in times.items()},
        "path": path,
        "workload": dataclasses.asdict(case.workload),
        "threads": threads,
        "environment": environment(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that the arguments choose and return 1 if the results of any differed."""
    parser = argparse.ArgumentParser(description="Benchmarks beside faiss-cpu")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="may be repeated")
    parser.add_argument("--suite", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", choices=IMPLEMENTATIONS, help="measure one alone; nothing is recorded")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: in small; nothing is recorded")
    parser.add_argument("--repeats", type=int, help="runs of each side, instead of the case's own number")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--json", action="store_true", help="with --only: print the seconds of each run as JSON")
    options = parser.parse_args(arguments)

    implementations = (options.only,) if options.only else IMPLEMENTATIONS
    chosen = [case for case in CASES if (case.name in options.case if options.case else case.suite == options.suite)]
    failed = False
    for case in chosen:
        if options.scale != 1:
            case = dataclasses.replace(case, workload=case.workload.scaled(options.scale))
        if options.repeats:
            case = dataclasses.replace(case, repeats=options.repeats)
        times, difference, path = measure(case, implementations, options.threads)
        medians = "  ".join(f"{name} {statistics.median(runs) * 1e3:9.2f} ms" for name, runs in times.items())
        if options.only:
            print(json.dumps(times) if options.json else f"{case.name:24} {medians}", flush=True)
            continue
        ratio = statistics.median(times["faiss"]) / statistics.median(times["faiss_torch"])
        print(f"{case.name:24} {medians}  {ratio:6.2f} times  {path or ''}", flush=True)
        if difference:
            failed = True
            print(f"results differ, nothing is recorded: {difference}", file=sys.stderr)
        elif options.scale == 1 and not options.no_record:
            alone = seconds_alone(case, options.threads)
            record = record_of(case, times, alone, path, options.threads)
            with RECORDS.open("a") as records:
                records.write(json.dumps(record) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
