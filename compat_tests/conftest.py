"""Fixtures of the compatibility suite.

``faiss`` is the module under test: faiss-cpu itself, and faiss_torch on each device there is. A test that takes it
is ordinary faiss code, and must hold for all of them. ``--implementations=faiss,torch-cpu`` picks some.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

# OpenMP reads it once. The idle threads of faiss's runtime would spin beside the working ones of torch's.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import torch
from torch_settings import SETTINGS

IMPLEMENTATIONS = ("faiss", "torch-cpu", "torch-cuda")

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when kernels are defined


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--implementations",
        default="faiss,torch-cpu" + (",torch-cuda" if torch.cuda.is_available() else ""),
        help=f"comma-separated, of {', '.join(IMPLEMENTATIONS)}",
    )
    parser.addoption("--torch-setting", choices=SETTINGS, help="run the tests under a setting of torch's")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("torch_settings"):
        names = [pytest.param(None, id="ordinary"), "float64", "bfloat16", "meta"]
        metafunc.parametrize("torch_setting", names, indirect=True)
    if "faiss" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--implementations").split(",")
        marks = {"faiss": pytest.mark.slow, "torch-cuda": pytest.mark.gpu}
        metafunc.parametrize("faiss", [pytest.param(name, marks=marks.get(name, ())) for name in chosen], indirect=True)


@pytest.fixture
def faiss(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The module under test."""
    name = request.param
    if name == "faiss":
        return pytest.importorskip("faiss")
    if name not in IMPLEMENTATIONS:
        raise pytest.UsageError(f"--implementations: {name!r} is none of {', '.join(IMPLEMENTATIONS)}")
    monkeypatch.setenv("FAISS_TORCH_DEVICE", name.removeprefix("torch-"))
    import faiss_torch

    return faiss_torch


def pytest_collection_finish() -> None:
    """Undo what the import of contrib.torch_utils changes, which modules of tests import."""
    from faiss_torch import border

    border.Tensors.without_input = False


@pytest.fixture(autouse=True)
def numpy_without_input(monkeypatch: pytest.MonkeyPatch):
    """Keep what the import of contrib.torch_utils changes to the test that imports it."""
    from faiss_torch import border

    monkeypatch.setattr(border.Tensors, "without_input", False)


@pytest.fixture(autouse=True)
def torch_setting(request: pytest.FixtureRequest) -> Iterator[None]:
    """The setting of torch's that a test runs under, by option or for those that are marked ``torch_settings``."""
    name = getattr(request, "param", None) or request.config.getoption("--torch-setting")
    with SETTINGS[name]() if name else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def reference():
    """faiss-cpu, to compare with."""
    return pytest.importorskip("faiss")


@pytest.fixture
def ours():
    """faiss_torch on the CPU."""
    import faiss_torch

    return faiss_torch


def data_folder() -> pathlib.Path | None:
    """The folder of real embeddings, or None where there is none."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("FAISS_TORCH_DATA", beside)) / "debian_minilm"
    return folder if (folder / "base.npy").exists() else None


@pytest.fixture(scope="session")
def embeddings() -> tuple[np.ndarray, np.ndarray]:
    """Sentence embeddings (58,004 and 2,000 x 384), or clustered vectors of that shape where they are absent."""
    folder = data_folder()
    if folder is not None:
        return tuple(np.load(folder / name).astype("float32") for name in ("base.npy", "query.npy"))
    print("debian_minilm is absent: clustered synthetic vectors of its shape instead")
    rng = np.random.default_rng(1)
    centers = rng.standard_normal((300, 384))
    vectors = centers[rng.integers(300, size=60004)] + 0.7 * rng.standard_normal((60004, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")
    return vectors[:58004], vectors[58004:]
