"""The benchmarks: results are compared, and only what agreed is recorded."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from faiss_torch import threads

pytest.importorskip("faiss")
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The benchmark program, with small cases under their own names and a file of records of its own."""
    monkeypatch.syspath_prepend(str(ROOT))
    # what a run sets is put back
    monkeypatch.setattr(threads._Limit, "threads", None)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    from benchmarks import cases, run

    small = tuple(dataclasses.replace(case, workload=case.workload.scaled(0.005), repeats=1) for case in cases.CASES)
    monkeypatch.setattr(run, "CASES", small)
    monkeypatch.setattr(run, "PAUSE", 0)
    monkeypatch.setattr(run, "seconds_alone", lambda case, threads: 1.0)
    monkeypatch.setattr(run, "RECORDS", tmp_path / "records.jsonl")
    return run


def test_every_case_agrees_with_faiss_and_is_recorded(bench):
    """All cases of the suite for the CPU, in small."""
    assert bench.main(["--threads", "1"]) == 0
    records = [json.loads(line) for line in bench.RECORDS.read_text().splitlines()]
    assert [record["case"] for record in records] == [case.name for case in bench.CASES if case.suite == "cpu"]
    for record in records:
        medians = record["median_seconds"]
        assert record["ratio"] == pytest.approx(medians["faiss"] / medians["faiss_torch"], rel=0.05)
        assert record["environment"]["versions"]["torch"]
        assert record["threads"] == 1


@pytest.mark.parametrize("option", [["--no-record"], ["--only", "faiss"], ["--scale", "0.9"]])
def test_nothing_is_recorded_on_demand(bench, option):
    """Runs to try something out leave no record."""
    assert bench.main(["--case", "ivf_search_nq32", *option]) == 0
    assert not bench.RECORDS.exists()


def test_one_implementation_alone(bench, capsys):
    """The seconds of each run, as another process reads them."""
    assert bench.main(["--case", "kmeans_20480", "--only", "faiss", "--json", "--repeats", "3"]) == 0
    assert [len(runs) for runs in json.loads(capsys.readouterr().out).values()] == [3]


def test_table(bench):
    """The latest record of each case, in the order of the cases."""
    from benchmarks import table

    assert "No measurement" in table.table(table.latest())
    for case in ("kmeans_20480", "flat_search_nq2048", "kmeans_20480"):
        assert bench.main(["--case", case]) == 0
    lines = table.table(table.latest()).splitlines()
    assert [line.split("`")[1] for line in lines if "`" in line] == ["flat_search_nq2048", "kmeans_20480"]
    assert lines[-1].startswith("Measured on: ")


def test_different_results_are_not_recorded(bench, monkeypatch, capsys):
    """A case whose results differ fails, and says how."""
    case = next(case for case in bench.CASES if case.name == "flat_search_nq2048")
    correct = case.prepare

    def wrong(faiss, workload, device):
        task = correct(faiss, workload, device)
        if faiss.__name__ == "faiss":
            return task
        return lambda: (task()[0], task()[1][:, ::-1])

    monkeypatch.setattr(bench, "CASES", (dataclasses.replace(case, prepare=wrong),))
    assert bench.main([]) == 1
    assert not bench.RECORDS.exists()
    assert "results differ" in capsys.readouterr().err


def test_comparisons(bench):
    """What counts as the same result."""
    from benchmarks.cases import same_centroids, same_neighbours

    D, I = np.array([[1.0, 2.0, 3.0]]), np.array([[5, 6, 7]])
    assert same_neighbours((D, I), (D * (1 + 1e-6), I)) is None
    assert same_neighbours((D, I), (D, I[:, [1, 0, 2]])) is not None
    assert same_neighbours((D, I), (D * 1.01, I)) is not None
    centroids, sizes = np.ones((100, 4)), np.full(100, 10)
    moved = centroids.copy()
    moved[:2] += 1
    assert same_centroids((centroids, sizes), (moved, sizes)) is None
    moved[:20] += 1
    assert same_centroids((centroids, sizes), (moved, sizes)) is not None
    assert same_centroids((centroids, sizes), (centroids, sizes + 1)) is not None
