"""The benchmark program, with small cases and a file of records of its own."""

from __future__ import annotations

import dataclasses
import pathlib
from types import ModuleType

import pytest

from faiss_torch import threads

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package ``benchmarks`` of the repository importable."""
    pytest.importorskip("faiss")
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def bench(benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> ModuleType:
    """The module ``benchmarks.run``: its cases are small, and what takes other processes is left out."""
    # what a run sets is put back
    monkeypatch.setattr(threads._Limit, "threads", None)
    for variable in ("OMP_WAIT_POLICY", "FAISS_TORCH_SCREEN"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    from benchmarks import records, run
    from benchmarks.measuring import green, measure
    from benchmarks.workloads import cases

    small = tuple(dataclasses.replace(case, workload=case.workload.scaled(0.005), repeats=2) for case in cases.CASES)
    monkeypatch.setattr(run, "CASES", small)
    monkeypatch.setattr(measure, "PAUSE", 0)
    monkeypatch.setattr(run, "seconds_alone", lambda case, threads: 1.0)
    monkeypatch.setattr(green, "passes", lambda tests: True)
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records.jsonl")
    return run
