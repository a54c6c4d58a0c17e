"""How many threads a call may use: a value of this library's own.

``omp_set_num_threads`` must not change ``torch.set_num_threads`` of the program around it, so the value is kept
here and applied inside the library's calls only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


class _Limit:
    """The number set by ``omp_set_num_threads``; None follows torch's own setting."""

    threads: int | None = None


def omp_set_num_threads(num_threads: int) -> None:
    """Set the number of threads that this library's calls use.

    Parameters
    ----------
    num_threads : int
        At least 1. The calling program's ``torch.get_num_threads()`` stays as it is.

    Raises
    ------
    RuntimeError
        If the number is below 1.
    """
    if num_threads < 1:
        raise RuntimeError(f"omp_set_num_threads: expected at least 1 thread, got {num_threads}")
    _Limit.threads = int(num_threads)


def omp_get_max_threads() -> int:
    """Return the number of threads that this library's calls use."""
    return torch.get_num_threads() if _Limit.threads is None else _Limit.threads


def omp_get_num_threads() -> int:
    """Return 1, as OpenMP does outside a parallel region."""
    return 1


def check_openmp() -> bool:
    """Return whether parallel regions have the number of threads that was asked for (always, here)."""
    return True


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Run a block, or as a decorator a function, with the library's number of threads in torch."""
    wanted = omp_get_max_threads()
    before = torch.get_num_threads()
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
