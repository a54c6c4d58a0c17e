"""Fixtures of the usage tests."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch


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
