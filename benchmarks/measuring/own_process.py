"""What is measured in a process of its own: memory, and the time that an import takes.

    python -m benchmarks.measuring.own_process memory '{"module": "faiss", ...}'

prints a JSON object. Resident memory is read from /proc, so that it is measured on Linux alone.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATUS = pathlib.Path("/proc/self/status")


def _resident(line: str) -> int:
    """Return bytes of resident memory: now (VmRSS), or at most since the peak was set back (VmHWM)."""
    for text in STATUS.read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {line}")


def memory(module: str, index_file: str, workload: dict[str, Any], threads: int) -> dict[str, int]:
    """Return how resident memory grows in adding a database to a trained index, and in searching it.

    Returns
    -------
    dict
        "after_add": bytes by which the process has grown by the index; "peak_of_search": bytes above that at the
        height of the first search; "after_search": bytes by which it has grown in all.
    """
    from ..workloads.cases import Workload
    from ..workloads.data import database, queries

    given = Workload(**workload)
    xb, xq = database(given), queries(given)
    faiss = importlib.import_module(module)
    faiss.omp_set_num_threads(threads)
    # threads, and buffers that libraries make at the first use, are not the index's
    small = faiss.read_index(index_file)
    small.add(xb[:2000])
    small.search(xq[:50], given.k)
    del small
    index = faiss.read_index(index_file)
    index.nprobe = given.nprobe
    gc.collect()
    before = _resident("VmRSS")
    index.add(xb)
    gc.collect()
    added = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    index.search(xq, given.k)
    peak = _resident("VmHWM")
    gc.collect()
    return {
        "after_add": added - before,
        "peak_of_search": peak - added,
        "after_search": _resident("VmRSS") - before,
    }


def import_time(module: str, beside: str) -> dict[str, float]:
    """Return the seconds that importing a module takes when another one is there."""
    importlib.import_module(beside)
    start = time.perf_counter()
    importlib.import_module(module)
    return {"seconds": time.perf_counter() - start}


def keep_busy(core: int) -> dict[str, float]:
    """Keep one core busy until the process is ended, or its parent has gone."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))
    return {}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory, "import_time": import_time, "keep_busy": keep_busy}


def start(job: str, **arguments: Any) -> subprocess.Popen[str]:
    """Start a job in a process of its own, where nothing is told to OpenMP's idle threads."""
    command = [sys.executable, "-m", "benchmarks.measuring.own_process", job, json.dumps(arguments)]
    # an installed package has its bytecode, whatever this process may write
    left_out = ("OMP_WAIT_POLICY", "PYTHONDONTWRITEBYTECODE")
    variables = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(job: str, **arguments: Any) -> dict[str, Any]:
    """Run a job in a process of its own and return its result.

    Raises
    ------
    RuntimeError
        If it failed, with what it wrote.
    """
    process = start(job, **arguments)
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{job} in a process of its own failed: {err.strip()}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
