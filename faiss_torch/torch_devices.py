"""The devices that torch has, and whether one can be used."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch


def accelerators() -> tuple[torch.device, ...]:
    """Return all accelerators of torch: CUDA's and ROCm's (both "cuda"), Intel's, Apple's and DirectML's."""
    found = []
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            found += [torch.device(kind, number) for number in range(backend.device_count())]
    if torch.backends.mps.is_available():
        found.append(torch.device("mps", 0))
    return (*found, *_directml_devices())


@functools.cache
def _directml_devices() -> tuple[torch.device, ...]:
    """The devices of the package torch_directml, where it is installed."""
    if importlib.util.find_spec("torch_directml") is None:
        return ()
    directml: Any = importlib.import_module("torch_directml")
    return tuple(directml.device(number) for number in range(directml.device_count()))


def existing_device(device: torch.device | str) -> torch.device:
    """Return a device with its number, after having put a value on it.

    Raises
    ------
    RuntimeError
        If torch cannot use it; the message says why, and which devices there are.
    """
    try:
        given = torch.device(device)
        value = torch.zeros(1, dtype=torch.float32, device=given)
        value.cpu()  # a device without memory, such as "meta", gives nothing back
    except (RuntimeError, AssertionError, TypeError) as error:
        there = ", ".join(map(str, (torch.device("cpu"), *accelerators())))
        reason = str(error).partition("\n")[0][:200]
        raise RuntimeError(f"device {str(device)!r} cannot be used ({reason}): torch has {there} here") from error
    return given if given.type == "cpu" else value.device
