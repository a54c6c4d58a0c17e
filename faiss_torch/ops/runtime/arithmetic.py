"""The arithmetic that screens: which of those below the machine does fastest, measured once, or pinned.

============  ======================================================================================================
``int8``      integer products of rounded vectors (`tiles.int8`): on x86 with VNNI four times the rate of float32; and
              for few queries on lists, weighted sums of 8-bit lines (`byte_sums.blocks`)
``bf16``      products of vectors rounded to bfloat16 (`tiles.bf16`)
``float32``   products of the vectors themselves
``none``      no screen: the metric's definition for every pair
============  ======================================================================================================

Results do not depend on it, for what a screen lets through is verified. Pin it by the environment variable
``FAISS_TORCH_SCREEN``, or with `pinned`.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import time
from collections.abc import Callable, Iterator

import torch

NAMES = ("int8", "bf16", "float32", "none")

#: How much faster than float32 an arithmetic has to be: its copies of vectors take memory, its survivors time.
WORTHWHILE = 1.5

#: Queries, rows and components of the product that is measured.
_QUERIES, _ROWS, _COMPONENTS = 256, 512, 128

#: Bytes of address space that are to be free when something is measured.
_ROOM = 64 << 20


class _Pin:
    """The name that `pinned` set."""

    name: str | None = None


def chosen(device: torch.device) -> str:
    """Return the name of the arithmetic that screens on a device.

    Raises
    ------
    RuntimeError
        If the environment variable FAISS_TORCH_SCREEN is none of the names.
    """
    name = pinned_name()
    if name is not None:
        return name
    measurable = device.type == "cpu" and (_fastest.cache_info().currsize or has_room())
    return _fastest() if measurable else "float32"


def pinned_name() -> str | None:
    """Return the name that is pinned, None if none is; errors as `chosen`."""
    name = _Pin.name or os.environ.get("FAISS_TORCH_SCREEN") or None
    if name is not None and name not in NAMES:
        raise RuntimeError(f"FAISS_TORCH_SCREEN is {name!r}, expected one of {', '.join(NAMES)}")
    return name


@contextlib.contextmanager
def pinned(name: str) -> Iterator[None]:
    """Screen in one arithmetic, in all threads, until the context ends.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    """
    if name not in NAMES:
        raise RuntimeError(f"got the arithmetic {name!r}, expected one of {', '.join(NAMES)}")
    before, _Pin.name = _Pin.name, name
    try:
        yield
    finally:
        _Pin.name = before


def has_room() -> bool:
    """Whether there is room to measure, and to make the copies that searches in the arithmetic take.

    oneDNN ends the process, or computes no more products of a kind, where it finds none for what it compiles.
    """
    try:
        mmap.mmap(-1, _ROOM).close()
    except (OSError, ValueError):
        return False
    return True


@functools.cache
def _fastest() -> str:
    """Measure: a few milliseconds, at the first search that could make use of it."""
    x = torch.linspace(-1, 1, _QUERIES * _COMPONENTS, dtype=torch.float32, device="cpu").view(_QUERIES, _COMPONENTS)
    y = torch.linspace(-1, 1, _ROWS * _COMPONENTS, dtype=torch.float32, device="cpu").view(_COMPONENTS, _ROWS)
    plain = seconds(lambda: torch.mm(x, y))
    if int8_is_exact():
        x8, y8 = (each.mul(127).to(torch.int8) for each in (x, y))
        if seconds(lambda: torch._int_mm(x8, y8)) * WORTHWHILE < plain:
            return "int8"
    x16, y16 = x.bfloat16(), y.bfloat16()
    if seconds(lambda: torch.mm(x16, y16).float()) * WORTHWHILE < plain:
        return "bf16"
    return "float32"


def int8_is_exact() -> bool:
    """Whether torch multiplies int8 matrices to int32, and exactly: older processors add pairs in 16 bits."""
    x = torch.full((8, 64), 127, dtype=torch.int8, device="cpu")
    x[1::2] = -127
    try:
        product = torch._int_mm(x, x.T.contiguous())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.equal(product, (x.long() @ x.T.long()).to(torch.int32))


def seconds(task: Callable[[], object]) -> float:
    """The least seconds that a task takes, or inf where it fails: oneDNN may have no primitive for it."""
    times = [float("inf")]
    with contextlib.suppress(RuntimeError):
        task()
        task()
        for _ in range(5):
            start = time.perf_counter()
            task()
            times.append(time.perf_counter() - start)
    return min(times)
