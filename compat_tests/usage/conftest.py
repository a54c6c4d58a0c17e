"""Fixtures of the usage tests."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch

import faiss_torch

PACKAGE_PARENT = pathlib.Path(faiss_torch.__file__).resolve().parents[1]

# as sitecustomize, it makes the real faiss impossible to import
WITHOUT_FAISS = """
    import importlib.abc, sys

    class NoFaiss(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path=None, target=None):
            if fullname == "faiss":
                raise ModuleNotFoundError("No module named 'faiss'", name=fullname)

    sys.meta_path.insert(0, NoFaiss())
"""


@pytest.fixture(params=[("cpu", "cpu"), pytest.param(("cuda", "cuda"), marks=pytest.mark.gpu)], ids=["cpu", "cuda"])
def gpus(request: pytest.FixtureRequest, ours: ModuleType) -> Iterator[ModuleType]:
    """faiss_torch with two GPUs, for which the CPU, or one real GPU, stands twice."""
    if "cuda" in request.param and not torch.cuda.is_available():
        pytest.skip("no GPU")
    ours.set_gpu_devices(request.param)
    yield ours
    ours.set_gpu_devices(None)


@pytest.fixture
def no_gpus(ours: ModuleType) -> Iterator[ModuleType]:
    """faiss_torch without GPUs, whatever the machine has."""
    ours.set_gpu_devices([])
    yield ours
    ours.set_gpu_devices(None)


@pytest.fixture
def python(tmp_path: pathlib.Path) -> Callable[..., str]:
    """Return a function that runs python in a folder of its own and gives back what it printed."""

    def run(*arguments: str, without_faiss: bool = False, status: int = 0, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        paths = [str(PACKAGE_PARENT)]
        if without_faiss:
            hook = tmp_path / "hook"
            hook.mkdir(exist_ok=True)
            (hook / "sitecustomize.py").write_text(textwrap.dedent(WITHOUT_FAISS))
            paths.insert(0, str(hook))
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run
