"""Triton kernels: the only place that imports triton. ``ops`` has a form of each in plain torch, and asks `chosen`."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os

import torch

#: Devices that triton compiles for ("cuda" is ROCm's name too).
DEVICES = ("cuda", "xpu")

#: What kernels need, for messages.
NEEDED = "they need triton, and a GPU of CUDA, ROCm or XPU (or TRITON_INTERPRET=1)"

_log = logging.getLogger("faiss_torch")
_given_up: set[str] = set()


def available(device: torch.device) -> bool:
    """Whether kernels can run on a device: on the CPU triton interprets them, for tests."""
    interpreted = os.environ.get("TRITON_INTERPRET", "0") == "1"
    return (device.type in DEVICES or interpreted) and _is_installed()


def chosen(kernel: str, device: torch.device) -> bool:
    """Whether a kernel is what computes on a device where nothing else is asked for."""
    return device.type in DEVICES and available(device) and kernel not in _given_up


def give_up(kernel: str, error: Exception) -> None:
    """Have plain torch stand in for a kernel from now on, and say so once in the log."""
    if kernel not in _given_up:
        _given_up.add(kernel)
        _log.warning("the Triton kernel %s fails, plain torch stands in: %s: %s", kernel, type(error).__name__, error)


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None
