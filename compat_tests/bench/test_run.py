"""The program of the benchmarks: results are compared, and only what agreed, after green tests, is recorded."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

OWN_PROCESSES = {"memory_after_add", "memory_peak_of_search", "import_time"}


def recorded(bench):
    """The records that were made."""
    from benchmarks import records

    return records.read(records.RECORDS)


@pytest.mark.slow
def test_every_case_agrees_with_faiss_and_is_recorded(bench, monkeypatch):
    """All cases of the suite for the CPU, in small."""
    own = tuple(case for case in bench.CASES if case.suite == "cpu" and case.measure not in OWN_PROCESSES)
    monkeypatch.setattr(bench, "CASES", own)
    assert bench.main(["--threads", "1"]) == 0
    records = recorded(bench)
    assert [record["case"] for record in records] == [case.name for case in own]
    for case, record in zip(own, records, strict=True):
        medians = record["median_seconds"]
        if case.quantity == "speed":
            assert record["ratio"] == pytest.approx(medians["faiss"] / medians["faiss_torch"], rel=0.05)
            assert record["figure"][1] <= record["figure"][0] <= record["figure"][2]
            assert record["faiss_alone"] == 1
        assert record["environment"]["versions"]["torch"]
        assert record["threads"] == 1
        assert record["arithmetic"] is None
        assert record["screen"] in bench.ARITHMETICS
        assert set(record["recall"]) == {"faiss", "faiss_torch"} if case.recall else "recall" not in record
        assert record["goal"] == (dataclasses.asdict(case.goal) if case.goal else None)


@pytest.mark.slow
def test_sweeps(bench, monkeypatch):
    """A few points of the sweeps: a path that is asked for is taken, and each record knows its place."""
    names = {"sweep_nq_ivf_matrix_64", "sweep_nq_ivf_csr_64", "sweep_recall_debian_minilm_8", "sweep_nb_flat_65536"}
    monkeypatch.setattr(bench, "CASES", tuple(case for case in bench.CASES if case.name in names))
    assert bench.main(["--suite", "sweeps"]) == 0
    found = {record["case"]: record for record in recorded(bench)}
    assert set(found) == names
    assert found["sweep_nq_ivf_matrix_64"]["path"][0] == "matrix"
    assert found["sweep_nq_ivf_csr_64"]["path"][0] == "csr"
    assert found["sweep_recall_debian_minilm_8"]["recall"]["faiss"] > 0.1
    assert found["sweep_nb_flat_65536"]["point"] == {"sweep": "nb", "line": "flat", "x": 65_536}
    assert "faiss_alone" not in found["sweep_nb_flat_65536"]


@pytest.mark.parametrize("option", [["--no-record"], ["--only", "faiss"], ["--scale", "0.9"], ["--no-tests"]])
def test_nothing_is_recorded_on_demand(bench, option):
    """Runs to try something out leave no record."""
    assert bench.main(["--case", "ivf_search_nq32", *option]) == 0
    assert recorded(bench) == []


def test_records_in_a_file_of_ones_own(bench, tmp_path):
    """The file of records can be named."""
    path = tmp_path / "mine.jsonl"
    assert bench.main(["--case", "flat_search_nq1", "--records", str(path)]) == 0
    assert recorded(bench) == []
    assert [json.loads(line)["case"] for line in path.read_text().splitlines()] == ["flat_search_nq1"]


def test_no_figure_on_red(bench, monkeypatch, capsys):
    """Where the tests fail, nothing is measured."""
    from benchmarks.measuring import green

    asked = []
    monkeypatch.setattr(green, "passes", lambda tests: asked.append(tests))
    assert bench.main(["--case", "flat_search_nq1"]) == 1
    assert asked == [["engine", "agree/test_flat.py"]]
    assert recorded(bench) == []
    assert "tests fail" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("body", "passes"), [("assert True", True), ("assert False", False)])
def test_whether_tests_pass(benchmarks, monkeypatch, tmp_path, capfd, body, passes):
    """The tests are really run, in a process of their own."""
    from benchmarks.measuring import green

    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    monkeypatch.setattr(green, "TESTS", tmp_path)
    monkeypatch.setattr(green, "ROOT", tmp_path)
    assert green.passes(["test_it.py"]) is passes
    assert ("1 passed" if passes else "1 failed") in capfd.readouterr().out


def test_the_tests_that_are_named_exist(benchmarks):
    """The selection is about files that are there, and depends on what is measured."""
    from benchmarks.measuring import green
    from benchmarks.workloads.cases import CASES

    everything = green.selection(CASES)
    assert len(everything) == 1 + len(green.AGREE)
    assert all((green.TESTS / name).exists() for name in everything)
    assert green.selection(case for case in CASES if case.name == "import_time") == ["engine"]


def test_one_implementation_alone(bench, capsys):
    """The seconds of each run, as another process reads them."""
    assert bench.main(["--case", "kmeans_20480", "--only", "faiss", "--json", "--repeats", "3"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert [(side, len(each)) for side, each in runs.items()] == [("faiss", 3)]


def test_different_results_are_not_recorded(bench, monkeypatch, capsys):
    """A case whose results differ fails, and says how."""
    from benchmarks.workloads import work

    correct = work.flat_search

    def wrong(faiss, workload, device):
        task = correct(faiss, workload, device)
        if faiss.__name__ == "faiss":
            return task
        return lambda: (task()[0], task()[1][:, ::-1])

    monkeypatch.setitem(work.WORK, "flat_search", wrong)
    assert bench.main(["--case", "flat_search_nq2048"]) == 1
    assert recorded(bench) == []
    assert "results differ" in capsys.readouterr().err


def test_a_case_that_is_unknown(bench, capsys):
    """A wrong name is refused, with the way to the right ones, and these are printed."""
    with pytest.raises(SystemExit):
        bench.main(["--case", "ivf_serch"])
    assert "--list" in capsys.readouterr().err
    assert bench.main(["--list"]) == 0
    assert "ivf_search_nq1\n" in capsys.readouterr().out


@pytest.mark.parametrize("rival", ["torch-ivf", "flash-kmeans", "flashlib"])
def test_a_rival_that_is_not_installed(bench, monkeypatch, rival):
    """The message says what to install."""
    from benchmarks.workloads import rivals

    monkeypatch.setitem(sys.modules, rivals.RIVALS[rival].module, None)
    with pytest.raises(SystemExit, match=f"pip install {rival}"):
        bench.main(["--case", "kmeans_20480", "--rival", rival])
    assert recorded(bench) == []


@pytest.mark.parametrize("rival", ["torch-ivf", "flash-kmeans", "flashlib"])
@pytest.mark.parametrize("name", ["ivf_search_nq128", "ivf_debian_minilm_ip", "flat_search_nq32", "kmeans_20480"])
def test_a_rival_that_is_installed(bench, monkeypatch, rival, name):
    """Where a rival is there, it finds what this library finds, or has nothing that does the case."""
    from benchmarks.workloads import rivals

    pytest.importorskip(rivals.RIVALS[rival].module)
    case = next(case for case in bench.CASES if case.name == name)
    done = bench.main(["--case", name, "--rival", rival])
    able = case.work in rivals.RIVALS[rival].work and not (rival == "flashlib" and case.workload.metric == "IP")
    assert [record["rival"] for record in recorded(bench)] == ([rival] if able else [])
    assert done == int(not able)


def test_what_a_rival_cannot_do(bench, monkeypatch, capsys):
    """A case that a rival has nothing for is left out; one that is asked for by name makes the run fail."""
    from benchmarks.workloads import rivals

    stand_in = dataclasses.replace(rivals.RIVALS["flashlib"], module="json", work={})
    monkeypatch.setitem(rivals.RIVALS, "flashlib", stand_in)
    assert bench.main(["--case", "ivf_range_search_nq2048", "--case", "import_time", "--rival", "flashlib"]) == 1
    printed = capsys.readouterr().out
    assert "flashlib has no ivf_range_search by L2" in printed
    assert "beside faiss-cpu alone" in printed
    monkeypatch.setattr(bench, "CASES", tuple(case for case in bench.CASES if case.name == "flat_search_nq1"))
    assert bench.main(["--rival", "flashlib"]) == 0


@pytest.mark.parametrize("name", ["int8", "bf16", "float32", "none"])
def test_an_arithmetic_that_is_asked_for(bench, name):
    """The engine screens in it, and the record says so; such a record is none that the goals are about."""
    from benchmarks import records
    from faiss_torch.ops.runtime import arithmetic

    assert bench.ARITHMETICS == arithmetic.NAMES
    assert bench.main(["--case", "ivf_search_nq512", "--case", "flat_search_nq32", "--arithmetic", name]) == 0
    assert [(record["arithmetic"], record["screen"]) for record in recorded(bench)] == [(name, name)] * 2
    assert records.measurements(records.RECORDS) == {}
    assert arithmetic.pinned_name() == name


def test_jobs_in_processes_of_their_own(benchmarks, tmp_path):
    """Memory grows by about the vectors that are added; an import takes time; what fails says why."""
    import faiss

    from benchmarks.measuring import own_process

    workload = {"nb": 20_000, "d": 64, "nq": 50, "k": 5, "nlist": 16, "nprobe": 4}
    index = faiss.index_factory(64, "IVF16,Flat")
    index.train(np.random.default_rng(0).standard_normal((2000, 64), dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "trained.index"))
    arguments = {"index_file": str(tmp_path / "trained.index"), "workload": workload, "threads": 1}
    if own_process.STATUS.exists():
        found = own_process.result("memory", module="faiss", **arguments)
        vectors = 20_000 * (64 * 4 + 8)
        assert 0.5 * vectors < found["after_add"] < 3 * vectors
        assert 0 <= found["peak_of_search"] < vectors
    assert 0 < own_process.result("import_time", module="decimal", beside="os")["seconds"] < 60
    with pytest.raises(RuntimeError, match="no_such_module"):
        own_process.result("import_time", module="no_such_module", beside="os")


@pytest.mark.slow
def test_a_busy_core(benchmarks):
    """The process that keeps a core busy uses it, until it is ended."""
    import time

    from benchmarks.measuring import own_process

    other = own_process.start("keep_busy", core=min(__import__("os").sched_getaffinity(0)))
    try:
        time.sleep(1.5)
        assert other.poll() is None
        status = own_process.pathlib.Path(f"/proc/{other.pid}/stat")
        if status.exists():
            ticks = sum(map(int, status.read_text().rsplit(")", 1)[1].split()[11:13]))
            assert ticks > 10  # hundredths of a second
    finally:
        other.kill()
        other.communicate()
