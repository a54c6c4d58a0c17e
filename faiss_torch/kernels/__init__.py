"""Triton kernels: the only place that imports triton. ``ops`` has a form of each in plain torch; `run` chooses."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

#: Devices that triton compiles for ("cuda" is ROCm's name too).
DEVICES = ("cuda", "xpu")

#: What computes: "auto" is the kernel on those devices where there is Triton, and plain torch elsewhere.
IMPLEMENTATIONS = ("auto", "torch", "triton")

#: What kernels need, for messages.
NEEDED = "they need triton, and a GPU of CUDA, ROCm or XPU (or TRITON_INTERPRET=1)"

_log = logging.getLogger("faiss_torch")
_given_up: set[str] = set()


def available(device: torch.device) -> bool:
    """Whether kernels can run on a device: on the CPU triton interprets them, for tests."""
    return (device.type in DEVICES or interpreted()) and _is_installed()


def interpreted() -> bool:
    """Whether triton interprets kernels instead of compiling them."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def chosen(kernel: str, device: torch.device) -> bool:
    """Whether a kernel is what computes on a device where nothing else is asked for."""
    return device.type in DEVICES and available(device) and kernel not in _given_up


def capturing(device: torch.device) -> bool:
    """Whether what is queued on a device is being recorded as a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def give_up(kernel: str, error: Exception) -> None:
    """Have plain torch stand in for a kernel from now on, and say so once in the log."""
    if kernel not in _given_up:
        _given_up.add(kernel)
        _log.warning("the Triton kernel %s fails, plain torch stands in: %s: %s", kernel, type(error).__name__, error)


def run(
    kernel: str, device: torch.device, impl: str, by_kernel: Callable[[], Result], by_torch: Callable[[], Result]
) -> Result:
    """Compute by a kernel or by plain torch.

    Parameters
    ----------
    kernel : str
        Its name.
    device : torch.device
    impl : str
        One of `IMPLEMENTATIONS`. Where it is "auto" and the kernel fails, plain torch stands in.
    by_kernel, by_torch : callable

    Raises
    ------
    RuntimeError
        If `impl` is another one, or "triton" where the kernel cannot run, or fails.
    """
    if impl not in IMPLEMENTATIONS:
        raise RuntimeError(f"{kernel}: got impl={impl!r}, expected one of {', '.join(IMPLEMENTATIONS)}")
    if impl == "torch" or (impl == "auto" and not chosen(kernel, device)):
        return by_torch()
    if not available(device):
        raise RuntimeError(f"{kernel}: no Triton kernels for tensors on {device}: {NEEDED}")
    try:
        with _current(device):  # where Triton launches
            return by_kernel()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if impl == "triton" or capturing(device):
            raise RuntimeError(f"{kernel}: the Triton kernel fails: {error}") from error
        give_up(kernel, error)
    return by_torch()


def _current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Make a device the current one of its kind."""
    if device.type not in DEVICES or device.type == "cpu":
        return contextlib.nullcontext()
    return getattr(torch, device.type).device(device)


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None
