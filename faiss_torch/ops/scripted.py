"""Functions that run without the interpreter's lock.

A thread that calls a torch operation from Python gives the lock back and has to get it again when the operation ends,
and a thread that has to wait for it sleeps: waking takes 50 microseconds on a virtual machine, more than a small
product. Two workers in a loop of such products were slower than one. A scripted function (``torch.jit.script``) takes
the lock once, whatever it does inside: the same loop took a third of the time on two cores.

TorchScript is deprecated and will go. A scripted function is therefore one that does the same as plain Python, and is
called as such where it cannot be scripted.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

_scripting = threading.Lock()


def scripted(function: Function) -> Function:
    """Decorate a function of tensors, numbers and lists of them, written in what TorchScript understands.

    It is compiled at its first call. Its annotations have to be those of `typing`, evaluated: no
    ``from __future__ import annotations`` in its module.
    """
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not compiled:
            with _scripting:
                if not compiled:
                    compiled.append(_script(function))
        return compiled[0](*arguments)

    return cast(Function, call)


def _script(function: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deprecation
        try:
            return cast("Callable[..., Any]", torch.jit.script(function))
        except Exception:
            return function
