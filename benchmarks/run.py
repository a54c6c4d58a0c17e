"""Measure this library beside faiss-cpu or another rival, in one process and on the same data, and keep a record.

    python -m benchmarks.run                              # all cases of the suite "cpu"
    python -m benchmarks.run --suite sweeps               # what the plots are made of
    python -m benchmarks.run --case ivf_search_nq2048 --rival torch-ivf --threads 1
    python -m benchmarks.run --scale 0.02                 # in small, without a record
    python -m benchmarks.run --only faiss                 # one implementation alone, without a record
    python -m benchmarks.run --data /path/sift-128-euclidean.hdf5

Each case runs once on both sides to warm up and to compare the results; then the two take turns, with a pause
before each run, and the medians are compared. A run of few queries is up to 64 calls, each with queries of its own: who
searches for one vector searches for many, one after the other. Times are those of one call. A record is appended to
records.jsonl only if the results agreed, and only after the engine's tests have passed.

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
import json
import pathlib
import statistics
import subprocess
from typing import Any

from . import records
from .env import environment
from .measuring import green, own_data
from .measuring.measure import Measurement, measure
from .workloads import rivals
from .workloads.cases import CASES, SUITES, Case
from .workloads.data import read_dataset, source_of
from .workloads.goals import OURS, figure, quartiles

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMPLEMENTATIONS = ("faiss", OURS)

#: The engine's variable that says in which arithmetic it screens, and its values.
SCREEN = "FAISS_TORCH_SCREEN"
ARITHMETICS = ("int8", "bf16", "float32", "none")


def seconds_alone(case: Case, threads: int) -> float:
    """Return faiss's median in a process of its own, where nothing is told to its threads."""
    command = [sys.executable, "-m", "benchmarks.run", "--only", "faiss", "--case", case.name, "--json"]
    command += ["--repeats", str(max(3, min(9, case.repeats // 2))), "--threads", str(threads)]
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return statistics.median(json.loads(done.stdout.splitlines()[-1])["faiss"])


def screens_in(device: str) -> str:
    """Return the arithmetic that this library screens in: its own choice, if none is asked for."""
    import torch

    from faiss_torch.ops.runtime import arithmetic

    return arithmetic.chosen(torch.device(device))


def record_of(case: Case, rival: str, measured: Measurement, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is kept of a measurement.

    "figure" is what the goal is set for, with its range by the quartiles: for most cases the rival's time, side by
    side, over this library's.
    """
    digits = 8 if measured.unit == "seconds" else None
    runs = {side: [round(run, digits) for run in each] for side, each in measured.runs.items()}
    record: dict[str, Any] = {
        "case": case.name,
        "rival": rival,
        "quantity": case.quantity,
        f"median_{measured.unit}": {side: round(statistics.median(each), digits) for side, each in runs.items()},
        f"quartiles_{measured.unit}": {
            side: [round(run, digits) for run in quartiles(each)] for side, each in runs.items()
        },
        measured.unit: runs,
        **measured.more,
        "goal": dataclasses.asdict(case.goal) if case.goal else None,
        "point": dataclasses.asdict(case.point) if case.point else None,
        "workload": {**dataclasses.asdict(case.workload), "data": source_of(case.workload)},
        "threads": options.threads,
        "arithmetic": options.arithmetic,
        "screen": screens_in(case.device),
        "environment": environment(rival),
    }
    reached = figure(record)
    record["figure"] = [round(value, 4) for value in (reached.value, reached.low, reached.high)]
    if case.quantity == "speed":
        record["ratio"] = round(reached.value, 4)
    return record


def line_of(case: Case, measured: Measurement) -> str:
    """Return what is printed of a measurement."""
    unit, factor = ("ms", 1e3) if measured.unit == "seconds" else ("MiB", 1 / (1 << 20))
    medians = "  ".join(f"{side} {statistics.median(runs) * factor:.2f} {unit}" for side, runs in measured.runs.items())
    told = {name: value for name, value in measured.more.items() if value is not None}
    if "path" in told:
        told["path"] = told["path"].name
    more = "".join(f"  {name} {value}" for name, value in told.items())
    return f"{case.name:30} {medians}{more}"


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that are asked for, as they are to be measured."""
    cases = [case for case in CASES if (case.name in options.case if options.case else case.suite == options.suite)]
    if options.scale != 1:
        cases = [dataclasses.replace(case, workload=case.workload.scaled(options.scale)) for case in cases]
    if options.repeats:
        cases = [dataclasses.replace(case, repeats=options.repeats) for case in cases]
    return cases


def own_table(options: argparse.Namespace) -> int:
    """Measure a user's own vectors, print their table, and return 1 if any results differed."""
    try:
        dataset = read_dataset(options.data, options.nb)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    nlist = options.nlist or own_data.default_nlist(len(dataset.xb))
    measured = own_data.rows(dataset, nlist, options.k, options.threads, options.repeats or 3)
    print(own_data.table(dataset, measured, options.k), end="")
    return int(any(row["difference"] for row in measured))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description="Benchmarks beside faiss-cpu and other libraries"
    )
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", metavar="NAME", help="may be repeated; --list prints the names")
    parser.add_argument("--list", action="store_true", help="print the names of the cases of the suite")
    parser.add_argument("--suite", choices=SUITES, default="cpu")
    parser.add_argument("--rival", choices=rivals.NAMES, help="instead of those of the case, mostly faiss-cpu")
    parser.add_argument("--only", choices=IMPLEMENTATIONS, help="measure one alone; nothing is recorded")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: in small; nothing is recorded")
    parser.add_argument("--repeats", type=int, help="runs of each side, instead of the case's own number")
    parser.add_argument("--threads", type=int, help=f"of each side: {records.THREADS}, beside a GPU all cores")
    parser.add_argument(
        "--arithmetic",
        choices=ARITHMETICS,
        default=os.environ.get(SCREEN) or None,
        help="what the screen of this library computes in, instead of its own choice",
    )
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--no-tests", action="store_true", help="leave the tests out; nothing is recorded")
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS, help="the file of records")
    parser.add_argument("--json", action="store_true", help="with --only: print the seconds of each run as JSON")
    own = parser.add_argument_group("vectors of your own")
    own.add_argument(
        "--data", type=pathlib.Path, help="a folder of .fvecs or .bvecs files, or an .hdf5 file of ann-benchmarks"
    )
    own.add_argument("--nb", type=int, help="only so many of the database vectors")
    own.add_argument("--nlist", type=int, help="number of inverted lists (default: near 4 sqrt(nb))")
    own.add_argument("--k", type=int, default=10)
    options = parser.parse_args(arguments)
    for name in options.case or ():
        if name not in names:
            parser.error(f"there is no case {name!r}; --list prints the names")
    if options.threads is None:
        beside_gpu = all(name.startswith("gpu_") for name in options.case or (f"{options.suite}_",))
        options.threads = environment()["cores"] if beside_gpu else records.THREADS
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that the arguments choose and return 1 if the results of any differed."""
    options = parsed(arguments)
    cases = chosen_cases(options)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    asked_for = [options.rival] if options.rival else [] if options.only == OURS else ["faiss-cpu"]
    for name in asked_for:
        if (options.rival or any(name in case.rivals for case in cases)) and (install := rivals.missing(name)):
            raise SystemExit(install)
    if options.arithmetic:
        os.environ[SCREEN] = options.arithmetic  # processes that are started here have it too
    if options.data:
        return own_table(options)
    recording = options.scale == 1 and not (options.no_record or options.no_tests or options.only)
    if recording and not green.passes(green.selection(cases)):
        print("the tests fail: nothing is measured", file=sys.stderr)
        return 1
    failed = False
    for case in cases:
        for rival in sides_of(case, options):
            failed |= not measure_and_record(case, rival, options, recording)
    return int(failed)


def sides_of(case: Case, options: argparse.Namespace) -> list[str | None]:
    """Return the rivals that a case is measured beside; None alone where one side alone is asked for."""
    if options.only == OURS:
        return [None]
    return [options.rival] if options.rival else list(case.rivals)


def measure_and_record(case: Case, rival: str | None, options: argparse.Namespace, recording: bool) -> bool:
    """Measure a case beside a rival, tell of it and keep it; return whether that went well."""
    try:
        if rival is not None and (install := rivals.missing(rival)):
            raise rivals.CannotDo(install)
        measured = measure(case, rival, options.threads, ours=options.only != "faiss")
    except rivals.CannotDo as reason:
        print(f"{case.name:30} left out: {reason}", flush=True)
        return not options.case
    if options.json:
        print(json.dumps(measured.runs), flush=True)
        return True
    if options.only or rival is None:
        print(line_of(case, measured), flush=True)
        return True
    record = record_of(case, rival, measured, options)
    reached = figure(record)
    print(f"{line_of(case, measured)}  {reached.text} ({reached.spread})", flush=True)
    if measured.difference:
        print(f"results differ, nothing is recorded: {measured.difference}", file=sys.stderr)
        return False
    if recording:
        if case.suite == "cpu" and case.measure == "times" and rival == "faiss-cpu":
            record["faiss_alone"] = round(seconds_alone(case, options.threads), 8)
        records.append(record, options.records)
    return True


if __name__ == "__main__":
    sys.exit(main())
