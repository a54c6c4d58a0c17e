"""How many threads a call may use: a value of this library's own.

``omp_set_num_threads`` must not change ``torch.set_num_threads`` of the program around it, so the value is kept
here and applied inside the library's calls only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from .attributes import integer

#: What a thread knows of the call of this library that it works for.
inside = threading.local()


class _Limit:
    """The number set by ``omp_set_num_threads``; None follows torch's own setting."""

    threads: int | None = None


def omp_set_num_threads(num_threads: int) -> None:
    """Set the number of threads that this library's calls use.

    Parameters
    ----------
    num_threads : int
        The calling program's ``torch.get_num_threads()`` stays as it is. A number below 1 counts as 1, as in faiss.

    Raises
    ------
    TypeError
        If it is no integer.
    """
    _Limit.threads = max(1, integer(num_threads, "omp_set_num_threads"))


def omp_get_max_threads() -> int:
    """Return the number of threads that this library's calls use."""
    of_call: int | None = getattr(inside, "threads", None)
    if of_call is not None:
        return of_call
    return torch.get_num_threads() if _Limit.threads is None else _Limit.threads


def omp_get_num_threads() -> int:
    """Return 1, as OpenMP does outside a parallel region."""
    return 1


def check_openmp() -> bool:
    """Return whether parallel regions have the number of threads that was asked for (always, here)."""
    return True


def inside_call(num_threads: int | None) -> None:
    """Say in a thread how many threads the call that it works for may use; None where it works for no call."""
    inside.threads = num_threads


def in_call() -> bool:
    """Return whether this thread works for a call, so that what comes in is the library's own."""
    return hasattr(inside, "role") or getattr(inside, "for_call", False)


@contextlib.contextmanager
def working_for_call() -> Iterator[None]:
    """Have this thread work for a call in a block."""
    before = getattr(inside, "for_call", False)
    inside.for_call = True
    try:
        yield
    finally:
        inside.for_call = before
