"""Stopping a long computation from outside: faiss's interrupt callbacks.

Python's own interrupt (Ctrl-C) arrives between two tensor operations without any help. What is here serves
``TimeoutGuard`` and callbacks of one's own: each iteration of a clustering calls `check`.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import ClassVar


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
        """Let the time run from now."""
        self.timeout = timeout_in_seconds
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
