"""Which devices are GPUs: what faiss's GPU numbers stand for."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterable

import torch

from ..torch_devices import accelerators, existing_device

#: Names the GPUs of a whole program, separated by commas, such as ``cuda:1,cuda:0`` or ``cpu,cpu``.
VARIABLE = "FAISS_TORCH_DEVICES"

#: What to do where there are no GPUs.
ADVICE = f'call set_gpu_devices(["cpu"]), or set {VARIABLE}=cpu, to let other devices of torch stand for GPUs'


class _State:
    """The devices that `set_gpu_devices` named; None where it named none."""

    chosen: tuple[torch.device, ...] | None = None


def set_gpu_devices(devices: Iterable[torch.device | str] | None) -> None:
    """Say which devices faiss's GPU numbers stand for: number i is the i-th of them (an extension).

    Parameters
    ----------
    devices : iterable of torch.device or str, or None
        Any devices of torch; one may be named several times, so that ``["cpu", "cpu"]`` are two GPUs for a test. An
        empty list means that there are none. None goes back to the default: the devices of the environment variable
        ``FAISS_TORCH_DEVICES`` where it is set, else all accelerators that torch has.

    Raises
    ------
    RuntimeError
        If torch cannot use one of the devices; the list stays as it was.
    TypeError
        If it is one device and no list.
    """
    if isinstance(devices, (str, torch.device)):
        raise TypeError(f"set_gpu_devices takes a list of devices, got {devices!r}: write [{str(devices)!r}]")
    _State.chosen = None if devices is None else tuple(existing_device(device) for device in devices)


@functools.cache
def _devices_named(text: str) -> tuple[torch.device, ...]:
    """The devices of a value of the environment variable."""
    try:
        return tuple(existing_device(name.strip()) for name in text.split(","))
    except RuntimeError as error:
        raise RuntimeError(f"{VARIABLE}={text}: {error}") from error


def gpu_devices() -> tuple[torch.device, ...]:
    """Return the devices that are GPUs, in the order of their numbers.

    Raises
    ------
    RuntimeError
        If ``FAISS_TORCH_DEVICES`` names a device that torch cannot use.
    """
    if _State.chosen is not None:
        return _State.chosen
    named = os.environ.get(VARIABLE, "")
    return _devices_named(named) if named else accelerators()


def gpus_named() -> bool:
    """Whether there are GPUs, without a look at whether the devices named can be used."""
    if _State.chosen is not None:
        return bool(_State.chosen)
    return bool(os.environ.get(VARIABLE) or accelerators())


def no_gpus() -> RuntimeError:
    """Return the error of an operation that needs a GPU where there is none."""
    return RuntimeError(f"there are no GPUs: {ADVICE}")


def gpu_device(device: int) -> torch.device:
    """Return the device that a GPU number stands for.

    Raises
    ------
    RuntimeError
        If there is no such GPU; the message names those there are.
    TypeError
        If it is no integer.
    """
    devices, number = gpu_devices(), operator.index(device)
    if 0 <= number < len(devices):
        return devices[number]
    if not devices:
        raise no_gpus()
    there = ", ".join(f"{number} ({found})" for number, found in enumerate(devices))
    raise RuntimeError(f"there is no GPU {device}: expected one of {there}")


def gpu_number(device: torch.device, preferred: int = 0) -> int:
    """Return the number of the GPU that a device is: the preferred one where it fits, -1 where none does."""
    devices = gpu_devices()
    if 0 <= preferred < len(devices) and devices[preferred] == device:
        return preferred
    return devices.index(device) if device in devices else -1


def current_gpu() -> int:
    """Return the number of the GPU that is torch's current one, as by ``torch.cuda.set_device``; else 0."""
    if not torch.cuda.is_initialized():
        return 0
    return max(0, gpu_number(torch.device("cuda", torch.cuda.current_device())))


def get_num_gpus() -> int:
    """Return the number of GPUs: torch's accelerators, or the devices that stand for GPUs (see `set_gpu_devices`)."""
    return len(gpu_devices())


def gpu_sync_all_devices() -> None:
    """Wait until all work on the GPUs is done."""
    for device in gpu_devices():
        synchronize(device)


def synchronize(device: torch.device) -> None:
    """Wait until all work on a device is done."""
    if device.type == "mps":
        torch.mps.synchronize()
    elif device.type in ("cuda", "xpu"):
        getattr(torch, device.type).synchronize(device)


def gpu_profiler_start() -> None:
    """Start CUDA's profiler; without CUDA, do nothing."""
    if torch.cuda.is_available():
        torch.cuda.profiler.start()


def gpu_profiler_stop() -> None:
    """Stop CUDA's profiler; without CUDA, do nothing."""
    if torch.cuda.is_available():
        torch.cuda.profiler.stop()
