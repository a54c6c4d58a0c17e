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
import logging
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import torch

from ... import forks

Function = TypeVar("Function", bound=Callable[..., Any])

_log = logging.getLogger("faiss_torch")


class _Scripting:
    """Lets one thread script at a time, and knows whether the log has a failure."""

    lock = forks.Lock()
    said = False


_scripting = _Scripting()


def scripted(function: Function) -> Function:
    """Decorate a function of tensors, numbers and lists of them, written in what TorchScript understands.

    It is compiled at its first call, with the scripted functions that it calls. Its annotations have to be evaluated:
    no ``from __future__ import annotations`` in its module.
    """
    compiled = _Compiled(function)

    def call(*arguments: Any) -> Any:
        return compiled(*arguments)

    # TorchScript looks up what a called function needs among the names of its wrapper
    with_its_names = FunctionType(call.__code__, function.__globals__, function.__name__, None, call.__closure__)
    return cast(Function, functools.update_wrapper(with_its_names, function))


class _Compiled:
    """A function, compiled when it is first called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            with _scripting.lock:
                if self._compiled is None:
                    self._compiled = _script(self._function)
        return self._compiled(*arguments)


def _script(function: Callable[..., Any]) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deprecation
        try:
            return cast("Callable[..., Any]", torch.jit.script(function))
        except Exception as error:
            _say_once(function, error)
            return function


def _say_once(function: Callable[..., Any], error: Exception) -> None:
    """Say in the log that plain Python stands in, at the first function alone: there are many."""
    if not _scripting.said:
        _scripting.said = True
        reason = f"{type(error).__name__}: {error}"
        _log.warning("TorchScript refuses %s, plain Python stands in and is slower: %s", function.__name__, reason)
