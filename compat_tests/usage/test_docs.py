"""The examples of the documentation run, and what README quotes is what was recorded."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import faiss_torch

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def run(*arguments, **variables):
    """Run python and return what it printed."""
    paths = str(pathlib.Path(faiss_torch.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", ["changed_import.py", "torch_tensors.py"])
def test_short_example(example):
    """A short example runs and prints neighbours."""
    assert run(str(EXAMPLES / example)).count("[") >= 5


def test_two_devices():
    """The example on two GPUs, for which the CPU stands where there are none: all three find what the CPU finds."""
    lines = run(str(EXAMPLES / "two_devices.py")).splitlines()
    shares = dict(line.split() for line in lines[1:4])
    assert list(shares) == ["GpuIndexIVFFlat", "IndexReplicas", "IndexShards"]
    assert all(float(share) > 0.9 for share in shares.values())
    assert sum(map(int, lines[4].split(":")[1].split())) == 20_000
    assert lines[5] == "together again: IndexIVFFlat"


def test_semantic_search_beside_faiss():
    """The main example in small: a line of its table for each number of probes, faiss's figures beside."""
    program = str(EXAMPLES / "semantic_search.py")
    printed = run("-m", "faiss_torch", program, "--nb", "4000", "--nq", "100", "--nlist", "32", "--repeats", "1")
    lines = printed.split("nprobe", 1)[1].splitlines()[1:7]
    for nprobe, line in zip((1, 2, 4, 8, 16, 32), lines, strict=True):
        cells = line.split()
        assert int(cells[0]) == nprobe
        ours, theirs, same = float(cells[1]), float(cells[3]), float(cells[5].rstrip("%"))
        assert abs(ours - theirs) < 0.01
        assert same > 98
    assert float(lines[-1].split()[1]) == 1.0


def test_semantic_search_without_its_data(tmp_path):
    """Without the folder of embeddings the example takes synthetic vectors and says so."""
    program = str(EXAMPLES / "semantic_search.py")
    printed = run(
        *("-m", "faiss_torch", program, "--nb", "2000", "--nq", "50", "--nlist", "16", "--repeats", "1"),
        FAISS_TORCH_DATA=str(tmp_path),
    )
    assert "synthetic" in printed


def test_table_of_records_in_readme_is_up_to_date(monkeypatch):
    """README quotes the latest record of each case."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.reporting import table

    assert table.START in table.README.read_text()
    assert table.readme_with(table.table(table.latest())) == table.README.read_text()
