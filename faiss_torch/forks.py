"""What the child of a fork needs to go on working: locks that no thread holds, and threads of OpenMP.

A child has the thread that forked and no other. A lock that another thread of the parent held is held for ever there,
and OpenMP (GNU's, which torch uses on Linux) waits in its next parallel region for threads that are gone. So locks are
made anew in a child, and OpenMP gives its threads back before a fork: it starts others when it next needs some, in the
parent and in the child. Where it cannot (before GCC 9), operations of the child's first thread use one thread.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

#: OpenMP's ``omp_pause_hard``.
_PAUSE_HARD = 2

#: The end of the names under which objects keep their locks.
_OF_A_PROCESS = " of a process"


class Lock:
    """An attribute of a class that is a lock of each of its objects, which a child of a fork finds free.

    Parameters
    ----------
    make : callable
        ``threading.Lock`` or ``threading.RLock``.
    """

    def __init__(self, make: Callable[[], Any] = threading.Lock) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._kept_as = name + _OF_A_PROCESS

    def __get__(self, owner: Any, cls: type) -> Any:
        known = owner.__dict__.get(self._kept_as)
        if known is None or known[0] != _Forks.number:
            made = _Forks.number, self._make()
            if known is None:  # another thread may do the same
                known = owner.__dict__.setdefault(self._kept_as, made)
            else:  # nobody shares it yet: a child begins with one thread
                known = owner.__dict__[self._kept_as] = made
        return known[1]


def without_locks(state: dict[str, Any]) -> dict[str, Any]:
    """Return what an object holds but for its locks, which can be neither copied nor pickled."""
    return {name: value for name, value in state.items() if not name.endswith(_OF_A_PROCESS)}


class _Forks:
    """How many forks lie between this process and the one that imported the library."""

    number = 0


def _openmp() -> Any:
    """The library that holds torch's OpenMP, on the system where that does not survive a fork by itself."""
    if sys.platform != "linux" or "OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        return ctypes.CDLL(torch._C.__file__)  # a name is looked for in all that it is linked with
    except OSError:
        return None


def _before_fork() -> None:
    if hasattr(_library, "omp_pause_resource_all"):
        _library.omp_pause_resource_all(_PAUSE_HARD)


def _in_child() -> None:
    _Forks.number += 1
    if hasattr(_library, "omp_set_num_threads") and not hasattr(_library, "omp_pause_resource_all"):
        _library.omp_set_num_threads(1)


_library = _openmp()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
