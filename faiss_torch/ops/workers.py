"""Threads of the CPU: a conductor for each call, and workers for its loops over tiles, lists or blocks.

One worker per core with single-threaded torch operations inside is faster than a parallel region in every small
operation, and it degrades gently when another process wants the cores (a parallel region waits for its slowest
thread in every operation, and its idle threads spin for milliseconds on cores that the workers want). So every
public call on the CPU runs on a conductor, a thread in which torch has one thread, and its loops are shared out
between it and workers, which are the same. A call from inside a call goes on in the thread that it is in, and one that
is over sooner than another thread has woken in the caller's, where `one_thread` can make that the same.

torch keeps its number of intra-operation threads in two places: OpenMP's and MKL's values of the calling thread,
and one process-wide number that a thread copies when it first computes. The threads here set all of them to one;
the process-wide number is put back at once, so that neither the caller nor any thread that the program starts later
sees a change.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .. import border
from .. import threads as call_threads
from . import one_thread, streams, torch_state

Item = TypeVar("Item")
Result = TypeVar("Result")
Verb = TypeVar("Verb", bound=Callable[..., Any])

#: torch works with one thread on this many elements and fewer (at::internal::GRAIN_SIZE).
SERIAL_ELEMENTS = 32768

#: Elements of a workspace that a thread keeps.
LARGEST_WORKSPACE = 13 << 20

_inside = call_threads.inside
_lock = threading.Lock()
_pools: dict[int, _Pool] = {}
_idle_conductors: list[_Pool] = []
_busy_conductors: list[object] = []


class _Loop:
    """Functions that several threads run, each taking the next one when it is free; an error ends the loop.

    Attributes
    ----------
    results : list
        What each function returned, in the order of the functions.
    """

    def __init__(self, tasks: Sequence[Callable[[], Any]]) -> None:
        self.results: list[Any] = [None] * len(tasks)
        self._tasks = tasks
        self._next, self._running = 0, 0
        self._error: BaseException | None = None
        self._counting = threading.Lock()
        self._ended = threading.Lock()  # held until no task runs and none is left
        self._ended.acquire()

    def work(self) -> None:
        """Run tasks as long as there are some. A thread that comes too late finds none, and nobody waits for it."""
        while True:
            with self._counting:
                i = self._next
                if i == len(self._tasks):
                    return
                self._next += 1
                self._running += 1
            try:
                self.results[i] = self._tasks[i]()
            except BaseException as error:
                self._error = self._error or error
                self._stop()
            with self._counting:
                self._running -= 1
                if self._running == 0 and self._next == len(self._tasks):
                    self._ended.release()

    def _stop(self) -> None:
        """Have no other task started."""
        with self._counting:
            self._next = len(self._tasks)

    def run_on(self, pool: _Pool, threads: int, take_part: bool = False) -> list[Any]:
        """Run the loop on threads of a pool, and on the calling one too where it is to take part.

        When the caller is interrupted no new task starts; those that run end first, so that what they work on is
        whole.
        """
        try:
            for _ in range(threads):
                pool.jobs.put(self.work)
            if take_part:
                self.work()
            self._ended.acquire()
        except BaseException:
            self._stop()
            while self._running:
                with suppress(BaseException):  # of several interrupts the first one is raised
                    self._ended.acquire()
            raise
        if self._error is not None:
            raise self._error
        return self.results


class _Pool:
    """A fixed number of threads that run jobs from one queue, each with torch set to a single thread."""

    def __init__(self, threads: int, role: str) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.role = role
        starter = threading.Thread(target=self._start, args=(threads,), name="faiss_torch starter")
        starter.start()
        starter.join()

    def _start(self, threads: int) -> None:
        # A fresh thread takes torch's process-wide number over when it first asks for it, and setting the number
        # from here changes no other thread's own OpenMP and MKL values.
        process_wide = torch.get_num_threads()
        ready = threading.Barrier(threads + 1)
        for i in range(threads):
            name = f"faiss_torch {self.role} {i}"
            threading.Thread(target=self._work, args=(ready,), name=name, daemon=True).start()
        ready.wait()
        torch.set_num_threads(process_wide)

    def _work(self, ready: threading.Barrier) -> None:
        torch.get_num_threads()  # the thread takes the process-wide number over now, and not after the next line
        torch.set_num_threads(1)
        torch_state.settle_thread()
        _inside.role = self.role
        ready.wait()
        while True:
            self.jobs.get()()


def _pool(threads: int) -> _Pool:
    with _lock:
        if threads not in _pools:
            _pools[threads] = _Pool(threads, "worker")
        return _pools[threads]


def _forget_pools() -> None:
    # The child of a fork has none of its parent's threads.
    global _lock
    _lock = threading.Lock()
    _pools.clear()
    _idle_conductors.clear()
    _busy_conductors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def _in_normal_mode(task: Callable[[], Result], device: torch.device) -> Result:
    """Run a function in the calling thread as if the program had left torch's settings alone."""
    if torch_state.is_ordinary(device):
        return task()
    with torch_state.ordinary(device):
        return task()


def conduct(
    task: Callable[[], Result],
    device: torch.device,
    given: Iterable[object] = (),
    brief: bool = False,
    to_its_end: bool = False,
) -> Result:
    """Run one function on a conductor: its own torch operations have one thread, its loops may use workers.

    Parameters
    ----------
    task : callable
        A function without arguments. Inside a call, or where a call may use one thread only and torch has one, it
        runs in the calling thread.
    device : torch.device
        Where it computes. On an accelerator, whose streams belong to the calling thread, it runs there too.
    given : iterable
        What the caller gave. Tensors among it that are on an accelerator may not be written yet: the conductor reads
        them in the caller's streams.
    brief : bool
        Whether waking a conductor would take longer than what the function does, and the function leaves everything as
        it was if it is interrupted. It then runs in the calling thread, as on a conductor where `one_thread` can see to
        that; elsewhere what it does should be too little for several threads.
    to_its_end : bool
        Whether the function changes something that an interrupt would leave half done. Inside a brief call it then runs
        on a conductor all the same.

    Returns
    -------
    object
        What the function returned.

    Raises
    ------
    BaseException
        What the function raised. An interrupt of the waiting caller is raised once the function has ended, so that
        what it works on is whole.
    """
    if hasattr(_inside, "role") and not (to_its_end and getattr(_inside, "brief", False)):
        return task()
    threads = call_threads.omp_get_max_threads()
    if threads <= 1 and torch.get_num_threads() == 1:
        return _in_normal_mode(task, device)
    if brief and device.type == "cpu":
        return _in_calling_thread(task, threads)
    if device.type != "cpu":
        _inside.role = "worker"  # its loops stay in this thread too
        try:
            return _in_normal_mode(task, device)
        finally:
            del _inside.role
    entries = streams.current({each.device for each in given if isinstance(each, Tensor) and not each.is_cpu})

    def on_conductor() -> Result:
        call_threads.inside_call(threads)
        with streams.entered(entries) if entries else nullcontext():
            return _in_normal_mode(task, device)

    try:
        conductor = _idle_conductors.pop()
    except IndexError:
        conductor = _Pool(1, "conductor")
    try:
        _busy_conductors.append(conductor)
        return _Loop([on_conductor]).run_on(conductor, 1)[0]
    finally:
        with suppress(ValueError):  # an interrupt may have come before it was there
            _busy_conductors.remove(conductor)
        _idle_conductors.append(conductor)


def _in_calling_thread(task: Callable[[], Result], threads: int) -> Result:
    """Run a function in the calling thread as if that were a conductor."""
    this: object = object()
    try:
        _busy_conductors.append(this)
        _inside.role, _inside.brief = "conductor", True
        call_threads.inside_call(threads)
        with one_thread.entered(), torch.no_grad():
            return _in_normal_mode(task, torch.device("cpu"))
    finally:
        call_threads.inside_call(None)
        _inside.brief = False
        _inside.__dict__.pop("role", None)
        with suppress(ValueError):
            _busy_conductors.remove(this)


def conducted(verb: Verb) -> Verb:
    """Decorate a method of an object that has a device: on the CPU it runs on a conductor."""

    @functools.wraps(verb)
    def on_conductor(self: Any, *args: Any, **kwargs: Any) -> Any:
        return conduct(lambda: verb(self, *args, **kwargs), self.device, (*args, *kwargs.values()))

    return cast(Verb, border.crossing(on_conductor))


def workspace(elements: int, device: torch.device, purpose: str = "scores") -> Tensor:
    """Return a float32 buffer of at least that many elements: on the CPU one that this thread keeps.

    Fresh large buffers cost page faults in every call, for which the threads of a process wait for each other. The
    buffer is the caller's until this thread asks for one with the same purpose.
    """
    if device.type != "cpu":
        return torch.empty(elements, dtype=torch.float32, device=device)
    buffers: dict[str, Tensor] = _inside.__dict__.setdefault("buffers", {})
    buffer = buffers.get(purpose)
    if buffer is None or len(buffer) < elements:
        buffer = torch.empty(elements, dtype=torch.float32, device="cpu")
        if elements <= LARGEST_WORKSPACE:
            buffers[purpose] = buffer
    return buffer


def run(tasks: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    """Run functions on worker threads, each of which computes with one thread of its own.

    A conductor works along: it is awake already, and one worker fewer has to be woken.

    Parameters
    ----------
    tasks : sequence of callables
        Functions without arguments. Each is run once; they are started in the order given, the next one by the
        worker that is free first.
    threads : int
        The number of workers; one fewer for each other call that a conductor is busy with. With one worker, or one
        task, or inside a task that is being run here, the functions run one after the other in the calling thread.

    Returns
    -------
    list
        What each function returned, in the order of the functions.

    Raises
    ------
    BaseException
        The first exception that a task raised; tasks that had not been started by then are not run.
    """
    role = getattr(_inside, "role", None)
    if role == "conductor":  # the calls that run at the same time share the cores
        threads = threads + 1 - len(_busy_conductors)
    threads = min(threads, len(tasks))
    if threads <= 1 or role == "worker":
        return [task() for task in tasks]
    if role is None:
        return _Loop(tasks).run_on(_pool(threads), threads)
    _inside.role = "worker"
    try:
        return _Loop(tasks).run_on(_pool(threads - 1), threads - 1, take_part=True)
    finally:
        _inside.role = role


def map_over_workers(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Apply a function to items on worker threads.

    Parameters
    ----------
    function : callable
        Takes one item. It runs in several threads at once.
    items : iterable
        What the function is applied to.
    threads : int
        The number of workers, as in `run`.

    Returns
    -------
    list
        What the function returned for each item, in their order.
    """
    return run([lambda item=item: function(item) for item in items], threads)  # type: ignore[misc]
