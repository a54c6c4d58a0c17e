"""Threads that stay, and the loops that several of them run.

The threads end before the interpreter does: one that torch is computing in then would take the process down with it.
"""

from __future__ import annotations

import atexit
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from ... import interrupts
from ...interrupts import Call, InterruptCallback
from . import torch_state

#: Seconds that an ending interpreter gives to threads of the library, and to calls of daemon threads.
GRACE = 2.0

_pools: list[Pool] = []
_this = threading.local()


class Loop:
    """Functions that several threads run, each taking the next one when it is free; an error ends the loop.

    Parameters
    ----------
    tasks : sequence of callables
    call : Call
        What they are run for.

    Attributes
    ----------
    results : list
        What each function returned, in the order of the functions.
    """

    def __init__(self, tasks: Sequence[Callable[[], Any]], call: Call) -> None:
        self.results: list[Any] = [None] * len(tasks)
        self._tasks, self._call = tasks, call
        self._next = 0
        self._running: set[int] = set()  # the threads that run a task
        self._error: BaseException | None = None
        self._counting = threading.Lock()
        self._ended = threading.Lock()  # held until no task runs and none is left
        self._ended.acquire()

    def work(self) -> None:
        """Run tasks as long as there are some. A thread that comes too late finds none, and nobody waits for it."""
        before, thread = interrupts.current_call(), threading.get_ident()
        try:
            if before is not self._call:
                interrupts.work_for(self._call)
            while (i := self._take(thread)) is not None:
                interrupts.check()
                self.results[i] = self._tasks[i]()
                self._put_down(thread)
        except BaseException as error:
            self._error = self._error or error
            self._stop(thread)
        finally:
            if before is not self._call:
                interrupts.work_for(before)

    def _take(self, thread: int) -> int | None:
        with self._counting:
            i = self._next
            if i == len(self._tasks):
                return None
            self._running.add(thread)
            self._next += 1
            return i

    def _put_down(self, thread: int) -> None:
        with self._counting:
            self._running.discard(thread)
            if not self._running and self._next == len(self._tasks) and self._ended.locked():
                self._ended.release()

    def _stop(self, thread: int) -> None:
        """Have no other task started; this thread runs none."""
        self._next = len(self._tasks)
        self._put_down(thread)

    def run_on(self, pool: Pool, threads: int, take_part: bool = False) -> list[Any]:
        """Run the loop on threads of a pool, and on the calling one too where it is to take part.

        When the caller is interrupted no new task starts, and those that run end at their next `interrupts.check`, so
        that what they work on is whole. The interrupt is raised after that.
        """
        try:
            for _ in range(threads):
                pool.jobs.put(self.work)
            if take_part:
                self.work()
            self._wait()
            if self._error is not None:
                raise self._error
        except BaseException as error:
            self._call.stopped = self._call.stopped or not isinstance(error, Exception)
            self._stop(threading.get_ident())
            self._outlast()
            raise
        return self.results

    def _wait(self) -> None:
        if getattr(_this, "of_pool", False):
            self._ended.acquire()
            return
        while not self._ended.acquire(timeout=interrupts.ASKED_EVERY):
            try:
                InterruptCallback.check()
            except BaseException:
                self._call.stopped = True
                raise

    def _outlast(self) -> None:
        """Wait until no task runs; of several interrupts the first one is raised."""
        while self._running:
            with suppress(BaseException):
                self._ended.acquire(timeout=interrupts.ASKED_EVERY)


class Pool:
    """A fixed number of threads that run jobs from one queue, each with torch set to a single thread.

    Parameters
    ----------
    threads : int
    prepare : callable
        Called in each of the threads before it runs jobs.
    name : str
        Of the threads, before their number.

    Raises
    ------
    RuntimeError
        If the system does not let so many threads start.
    """

    def __init__(self, threads: int, prepare: Callable[[], None], name: str) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._prepare = prepare
        self._threads: list[threading.Thread] = []
        errors: list[BaseException] = []
        try:
            starter = threading.Thread(target=self._start, args=(threads, name, errors), name="faiss_torch starter")
            starter.start()
            starter.join()
        except (RuntimeError, MemoryError) as error:
            errors.append(error)
        if errors:
            self.end()
            raise RuntimeError(
                f"could not start {threads} thread(s) for a search ({errors[0]}): the system limits threads or memory"
            ) from errors[0]
        _pools.append(self)

    def _start(self, threads: int, name: str, errors: list[BaseException]) -> None:
        # A fresh thread takes torch's process-wide number over when it first asks for it, and setting the number
        # from here changes no other thread's own OpenMP and MKL values.
        process_wide = torch.get_num_threads()
        ready = threading.Barrier(threads + 1)
        try:
            for i in range(threads):
                thread = threading.Thread(target=self._work, args=(ready,), name=f"{name} {i}", daemon=True)
                thread.start()
                self._threads.append(thread)
            ready.wait()
        except BaseException as error:
            ready.abort()
            errors.append(error)
        finally:
            torch.set_num_threads(process_wide)

    def _work(self, ready: threading.Barrier) -> None:
        try:
            torch.get_num_threads()  # the thread takes the process-wide number over now, and not after the next line
            torch.set_num_threads(1)
            torch_state.settle_thread()
            _this.of_pool = True
            self._prepare()
            ready.wait()
        except BaseException:
            ready.abort()  # who waits there says what has happened
            return
        while (job := self.jobs.get()) is not None:
            job()
            del job  # and what it holds

    def end(self, seconds: float = 0.0) -> None:
        """Have the threads end when they have no more to do, and wait for them so long."""
        for _ in self._threads:
            self.jobs.put(None)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def forget() -> None:
    """Forget all threads: the child of a fork has none of its parent's."""
    _pools.clear()


class Ending:
    """The end of the interpreter.

    Attributes
    ----------
    thread : int or None
        The thread in which it ends; None before that.
    """

    thread: int | None = None

    @staticmethod
    def is_elsewhere() -> bool:
        """Whether the interpreter ends in another thread: this one, a daemon, is not to compute any more."""
        return Ending.thread is not None and Ending.thread != threading.get_ident()

    @staticmethod
    def park() -> None:
        """Stay here until the interpreter has ended."""
        while True:
            time.sleep(3600)


def require_modules() -> None:
    """Raise RuntimeError in ``__del__`` of what is left when the interpreter takes its modules apart.

    There torch ends the process when a tensor goes of which a view is left.
    """
    if sys.is_finalizing():
        raise RuntimeError(
            "the interpreter is taking its modules apart, and torch cannot compute any more: "
            "do this in a function that atexit has been given, and not in __del__"
        )


def end_all(running: Callable[[], Sequence[Call]]) -> None:
    """Have no call of another thread run any more, and end the threads of the library; `running` gives the calls."""
    Ending.thread = threading.get_ident()
    for call in running():
        call.stopped = True
    until = time.monotonic() + GRACE
    while running() and time.monotonic() < until:
        time.sleep(0.001)
    for pool in list(_pools):
        pool.end(max(0.0, until - time.monotonic()))


def at_exit(running: Callable[[], Sequence[Call]]) -> None:
    """Do `end_all` before the interpreter ends."""
    atexit.register(end_all, running)
