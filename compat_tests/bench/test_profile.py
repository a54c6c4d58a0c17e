"""Where the time of a run goes."""

from __future__ import annotations

import json
import pathlib

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")
CASE = ("--case", "ivf_search_nq512", "--scale", "0.01", "--threads", "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A tenth of a second of samples; what a run sets is put back."""
    from benchmarks.measuring import profile
    from faiss_torch import threads

    monkeypatch.setattr(threads._Limit, "threads", None)
    whole = profile.sampled
    monkeypatch.setattr(profile, "sampled", lambda task: whole(task, 0.3))


def test_operations(capsys):
    """torch.profiler's table of one run, with what the workers do."""
    from benchmarks.measuring import profile

    assert profile.main([*CASE]) == 0
    printed = capsys.readouterr()
    assert "Self CPU" in printed.out
    assert "aten::" in printed.out or "calling thread alone" in printed.err


def test_steps(capsys, tmp_path):
    """The steps of a run add up to it, and are recorded if that is asked for."""
    from benchmarks import records
    from benchmarks.measuring import profile

    path = tmp_path / "records.jsonl"
    assert profile.main([*CASE, "--record", "--records", str(path)]) == 0
    (found,) = records.profiles(path).values()
    assert found["profile"] == "ivf_search_nq512"
    assert sum(found["steps"].values()) == pytest.approx(found["seconds_of_run"], rel=0.01)
    assert {"query by query", "group by list", "select"} & found["steps"].keys()
    assert all("." in name for name in found["functions"])
    assert "milliseconds of" in capsys.readouterr().out
    assert profile.main([*CASE, "--steps", "--records", str(path)]) == 0
    assert len(path.read_text().splitlines()) == 1
    json.loads(path.read_text())


def test_a_case_that_has_no_run():
    """Memory and the import are not profiled."""
    from benchmarks.measuring import profile

    with pytest.raises(SystemExit):
        profile.main(["--case", "import_time"])


def test_the_steps_name_modules_that_there_are():
    """A module that is moved or renamed takes its step along."""
    import faiss_torch
    from benchmarks.measuring.profile import STEPS

    package = pathlib.Path(faiss_torch.__file__).parent
    modules = {".".join(file.relative_to(package).with_suffix("").parts) for file in package.rglob("*.py")}
    assert {name for name in STEPS if not {name, name.rpartition(".")[0]} & modules} == set()
