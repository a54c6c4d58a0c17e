"""The example of lists that are larger than memory, in small."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import faiss_torch

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_example_of_lists_on_disk():
    program = str(ROOT / "docs" / "examples" / "lists_on_disk.py")
    arguments = ["--nb", "30000", "--nq", "200", "--nlist", "64", "--batch", "7000", "--memory", "1000"]
    done = subprocess.run(
        [sys.executable, program, *arguments],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(faiss_torch.__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "added 30000 vectors" in done.stdout
    assert done.stdout.rstrip().endswith("results are the same")
