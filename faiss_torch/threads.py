"""How many threads a call may use: a value of this library's own.

``omp_set_num_threads`` must not change ``torch.set_num_threads`` of the program around it, so the value is kept
here and applied inside the library's calls only.
"""

from __future__ import annotations

import threading

import torch

from .attributes import integer

_inside = threading.local()


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
    of_call: int | None = getattr(_inside, "threads", None)
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
    _inside.threads = num_threads
