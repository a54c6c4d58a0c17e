"""Stopping a long computation from outside: by Ctrl-C, and by faiss's interrupt callbacks.

The threads that work for a call share its `Call`. Whoever waits for them is interrupted, or finds that the installed
callback wants to stop, and says so there. All loops over tiles, lists, portions and iterations call `check`, which then
raises `Stopped`: only between two steps, so that what is worked on stays whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar, TypeVar

Result = TypeVar("Result")

#: Seconds after which who waits for a call asks the callback again.
ASKED_EVERY = 0.1

_working = threading.local()


class Stopped(BaseException):
    """Ends the work of a thread for a call that is to stop; the caller is told what stopped it."""


class Call:
    """One call, for which several threads may work.

    Parameters
    ----------
    outer : Call, optional
        The call that this one is a part of: it stops when that does.

    Attributes
    ----------
    stopped : bool
        Whether it is to stop.
    shields : int
        How many parts of it that are to end first are running.
    """

    __slots__ = ("outer", "shields", "stopped")

    def __init__(self, outer: Call | None = None) -> None:
        self.outer = outer
        self.stopped = False
        self.shields = 0

    def is_to_stop(self) -> bool:
        """Whether its threads may stop now, and are to."""
        if self.shields:
            return False
        return self.stopped or (self.outer is not None and self.outer.is_to_stop())


def current_call() -> Call | None:
    """Return the call that this thread works for."""
    return getattr(_working, "call", None)


def work_for(call: Call | None, asks: bool = False) -> None:
    """Say which call this thread works for from now on, and whether it asks the callback, as nobody waits for it."""
    _working.call, _working.asks = call, asks


def check() -> None:
    """Stop here if the call that this thread works for is to stop.

    Raises
    ------
    Stopped
        In a thread that works for a call.
    RuntimeError
        In one that nobody waits for, if the installed callback wants to stop.
    """
    call = current_call()
    if call is None:
        InterruptCallback.check()
    elif call.is_to_stop():
        raise Stopped
    elif _working.asks and not call.shields:
        InterruptCallback.check()


def checked(task: Callable[[], Result]) -> Result:
    """Run one step of a loop: `check` first."""
    check()
    return task()


@contextmanager
def shielded() -> Iterator[None]:
    """Let nothing stop what is in the block, which would be left half done: `check` does nothing there."""
    before, asks = current_call(), getattr(_working, "asks", False)
    call = before or Call()
    work_for(call, asks)
    call.shields += 1
    try:
        yield
    finally:
        call.shields -= 1
        work_for(before, asks)


class InterruptCallback:
    """Asked during long computations whether to stop; one object is installed at a time."""

    _instance: ClassVar[InterruptCallback | None] = None

    def want_interrupt(self) -> bool:
        """Whether the computation is to stop."""
        raise NotImplementedError

    @staticmethod
    def install(callback: InterruptCallback | None) -> None:
        """Have a callback asked from now on, in place of the present one; None for no callback."""
        InterruptCallback._instance = callback

    @staticmethod
    def clear_instance() -> None:
        """Have no callback asked any more."""
        InterruptCallback._instance = None

    @staticmethod
    def is_interrupted() -> bool:
        """Whether the installed callback wants the computation to stop."""
        instance = InterruptCallback._instance
        return instance is not None and instance.want_interrupt()

    @staticmethod
    def check() -> None:
        """Raise RuntimeError if the installed callback wants the computation to stop."""
        if InterruptCallback._instance is not None and InterruptCallback.is_interrupted():
            raise RuntimeError("computation interrupted")

    @staticmethod
    def get_period_hint(flops: int) -> int:
        """How many iterations of `flops` operations may pass between two checks, as faiss recommends."""
        if InterruptCallback._instance is None:
            return 1 << 30
        return max(100_000_000 // (flops + 1), 1)


class PythonInterruptCallback(InterruptCallback):
    """The callback installed at import: it leaves stopping to Python's own interrupt."""

    def want_interrupt(self) -> bool:
        """Always False: KeyboardInterrupt arrives without being asked for."""
        return False

    @staticmethod
    def reset() -> None:
        """Install such a callback."""
        InterruptCallback.install(PythonInterruptCallback())


class TimeoutCallback(InterruptCallback):
    """Stops a computation after some seconds, once.

    Attributes
    ----------
    timeout : float
        Seconds from `start`; 0 for no limit.
    start : float
        When the time began to run.
    """

    def __init__(self) -> None:
        self.timeout = 0.0
        self.start = time.monotonic()

    def set_timeout(self, timeout_in_seconds: float) -> None:
        """Let the time run from now.

        Raises
        ------
        TypeError
            If it is no number.
        """
        if isinstance(timeout_in_seconds, str) or not hasattr(timeout_in_seconds, "__float__"):
            given = f"{timeout_in_seconds!r} ({type(timeout_in_seconds).__name__})"
            raise TypeError(f"TimeoutCallback: expected a number of seconds, got {given}")
        self.timeout = float(timeout_in_seconds)
        self.start = time.monotonic()

    def want_interrupt(self) -> bool:
        """Whether the time is over; asked again after that, False."""
        if self.timeout == 0 or time.monotonic() - self.start <= self.timeout:
            return False
        self.timeout = 0.0
        return True

    @staticmethod
    def reset(timeout_in_seconds: float) -> None:
        """Install such a callback and let its time run from now."""
        callback = TimeoutCallback()
        callback.set_timeout(timeout_in_seconds)
        InterruptCallback.install(callback)


class TimeoutGuard:
    """A ``with`` block whose computations stop with RuntimeError after some seconds.

    Parameters
    ----------
    timeout_in_seconds : float
    """

    def __init__(self, timeout_in_seconds: float) -> None:
        self.timeout = timeout_in_seconds

    def __enter__(self) -> None:
        TimeoutCallback.reset(self.timeout)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        PythonInterruptCallback.reset()


PythonInterruptCallback.reset()
