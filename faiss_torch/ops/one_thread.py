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
    mkl_set_num_threads_local: Callable[[int], int]


def _find_runtime() -> _Runtime | None:
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        library: Any = ctypes.CDLL(torch._C.__file__)  # a name is looked for in all that it is linked with
        set_mkl = library.MKL_Set_Num_Threads_Local if torch.backends.mkl.is_available() else lambda _: 0
        runtime = _Runtime(library.omp_get_max_threads, library.omp_set_num_threads, set_mkl)
    except (AttributeError, OSError):
        return None
    return runtime if torch.get_num_threads() == runtime.omp_get_max_threads() else None


_runtime = _find_runtime()


def available() -> bool:
    """Whether there is a way."""
    return _runtime is not None


class entered:
    """Let torch's operations in the calling thread use one thread. Without effect where that is not `available`."""

    __slots__ = ("_mkl_threads", "_threads")

    def __enter__(self) -> None:
        if _runtime is not None:
            torch.get_num_threads()  # a thread takes the process-wide number over when it first asks: now, not later
            self._threads = _runtime.omp_get_max_threads()
            self._mkl_threads = _runtime.mkl_set_num_threads_local(1)
            _runtime.omp_set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        if _runtime is not None:
            _runtime.omp_set_num_threads(self._threads)
            _runtime.mkl_set_num_threads_local(self._mkl_threads)
