"""What the tests of index files share: both libraries, and small indexes of every kind."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import faiss_torch


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"files_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


samples_module = _load("samples")


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """The module that builds small indexes."""
    return samples_module


@pytest.fixture(scope="session")
def faiss_cpu() -> Any:
    """faiss itself."""
    return pytest.importorskip("faiss")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of committed files."""
    return Path(__file__).parent / "golden"


@pytest.fixture(params=list(samples_module.SAMPLES))
def sample(request: pytest.FixtureRequest) -> str:
    """The name of each sample."""
    return request.param


@pytest.fixture(params=samples_module.SEARCHABLE)
def searchable(request: pytest.FixtureRequest) -> str:
    """The name of each sample that a search can look into."""
    return request.param


@pytest.fixture(scope="session")
def read_bytes() -> Any:
    """Reads an index of faiss_torch from bytes."""
    return lambda data: faiss_torch.deserialize_index(np.frombuffer(data, "uint8"))


@pytest.fixture(scope="session")
def written() -> Any:
    """Writes an index of faiss_torch to bytes."""
    return lambda index: faiss_torch.serialize_index(index).tobytes()
