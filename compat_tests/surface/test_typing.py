"""A type checker sees the names and their signatures."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import faiss_torch

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "docs" / "examples" / "typed_program.py"

#: A line for each mistake.
MISTAKES = """
import numpy as np
import faiss_torch as faiss
index: faiss.IndexFlat = faiss.IndexIVF()
faiss.IndexFlatL2("8")
index.search(np.zeros((1, 8)), "four")
index.nprobe.bit_length()
params: int = faiss.SearchParametersIVF(nprobe=3)
faiss.swig_ptr(3)
size: str = faiss.Float32Vector().size()
"""


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, set[int]]:
    """The lines of both programs in which ``mypy --strict`` finds an error; one run, for it takes seconds."""
    pytest.importorskip("mypy")
    mistakes = tmp_path_factory.mktemp("typing") / "mistakes.py"
    mistakes.write_text(MISTAKES)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file="]
    done = subprocess.run([*command, PROGRAM, mistakes], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr
    found: dict[str, set[int]] = {PROGRAM.name: set(), mistakes.name: set()}
    for line in done.stdout.splitlines():
        place, error, _ = line.partition(": error:")
        if error:
            path, _, number = place.rpartition(":")
            found[pathlib.Path(path).name].add(int(number))
    return found


def test_a_program_passes(errors):
    assert errors["typed_program.py"] == set()


def test_mistakes_are_found(errors):
    assert errors["mistakes.py"] == set(range(4, 11))


def test_the_package_says_that_it_is_typed():
    assert (pathlib.Path(faiss_torch.__file__).parent / "py.typed").exists()


def test_the_program_runs():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(faiss_torch.__file__).parents[1])}
    command = [sys.executable, PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    printed = done.stdout.splitlines()
    assert printed[0].startswith("[[   0"), done.stderr
    assert printed[-1] == "1000 True"
