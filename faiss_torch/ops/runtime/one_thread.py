"""One thread for torch's operations in the calling thread alone.

``torch.set_num_threads`` changes the number of the whole process. OpenMP and MKL keep a number for each thread, which
torch follows, and have functions to set it: where the libraries that torch was linked with can be found by name, these
are called. Elsewhere (Windows, builds with other thread pools) there is no such way, and `available` says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class _Runtime(NamedTuple):
    """The functions of the libraries that torch is linked with."""

    omp_get_max_threads: Callable[[], int]
    omp_set_num_threads: Callable[[int], None]
    mkl_get_max_threads: Callable[[], int]
    mkl_set_num_threads_local: Callable[[int], int]


def _find_runtime() -> _Runtime | None:
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        library: Any = ctypes.CDLL(torch._C.__file__)  # a name is looked for in all that it is linked with
        get_mkl, set_mkl = lambda: 0, lambda _: 0
        if torch.backends.mkl.is_available():
            get_mkl, set_mkl = library.MKL_Get_Max_Threads, library.MKL_Set_Num_Threads_Local
        runtime = _Runtime(library.omp_get_max_threads, library.omp_set_num_threads, get_mkl, set_mkl)
    except (AttributeError, OSError):
        return None
    return runtime if torch.get_num_threads() == runtime.omp_get_max_threads() else None


_runtime = _find_runtime()


def available() -> bool:
    """Whether there is a way."""
    return _runtime is not None


class Threads(NamedTuple):
    """How many threads OpenMP and MKL use for the operations of one thread."""

    omp: int
    mkl: int


ONE = Threads(1, 1)


def threads_here() -> Threads | None:
    """Return what the calling thread uses, or None where there is no way to set it."""
    if _runtime is None:
        return None
    torch.get_num_threads()  # a thread takes the process-wide number over when it first asks: now, not later
    return Threads(_runtime.omp_get_max_threads(), _runtime.mkl_get_max_threads())


def set_threads_here(threads: Threads | None) -> None:
    """Set what the calling thread uses, if there is a way."""
    if _runtime is not None and threads is not None:
        _runtime.omp_set_num_threads(threads.omp)
        _runtime.mkl_set_num_threads_local(threads.mkl)
