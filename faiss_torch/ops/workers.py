"""Threads of the CPU: one conductor for each call, and workers for its loops over tiles, lists or blocks.

One worker per core with single-threaded torch operations inside is faster than a parallel region in every small
operation, and it degrades gently when another process wants the cores (a parallel region waits for its slowest
thread in every operation, and its idle threads spin for milliseconds on cores that the workers want). So every
public call on the CPU runs on a conductor, a thread in which torch has one thread, and its loops are shared out
between it and workers, which are the same. A call from inside a call goes on in the thread that it is in.

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
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .. import threads as call_threads
from . import streams

Item = TypeVar("Item")
Result = TypeVar("Result")
Verb = TypeVar("Verb", bound=Callable[..., Any])

#: Elements of a workspace that a thread keeps.
LARGEST_WORKSPACE = 1 << 22

_inside = threading.local()
_lock = threading.Lock()
_pools: dict[int, _Pool] = {}
_idle_conductors: list[_Pool] = []


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
        torch.set_grad_enabled(False)  # a value of this thread
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def conduct(task: Callable[[], Result], device: torch.device, given: Iterable[object] = ()) -> Result:
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
    threads = call_threads.omp_get_max_threads()
    if hasattr(_inside, "role") or (threads <= 1 and torch.get_num_threads() == 1):
        return task()
    if device.type != "cpu":
        _inside.role = "worker"  # its loops stay in this thread too
        try:
            return task()
        finally:
            del _inside.role
    entries = streams.current({each.device for each in given if isinstance(each, Tensor)})
    try:
        conductor = _idle_conductors.pop()
    except IndexError:
        conductor = _Pool(1, "conductor")

    def on_conductor() -> Result:
        call_threads.inside_call(threads)
        with streams.entered(entries):
            return task()

    try:
        return _run_on(conductor, [on_conductor], 1)[0]
    finally:
        _idle_conductors.append(conductor)


def conducted(verb: Verb) -> Verb:
    """Decorate a method of an object that has a device: on the CPU it runs on a conductor."""

    @functools.wraps(verb)
    def on_conductor(self: Any, *args: Any, **kwargs: Any) -> Any:
        return conduct(lambda: verb(self, *args, **kwargs), self.device, (*args, *kwargs.values()))

    return cast(Verb, on_conductor)


def workspace(elements: int, device: torch.device) -> Tensor:
    """Return a float32 buffer of at least that many elements: on the CPU one that this thread keeps.

    Fresh large buffers cost page faults in every call. The buffer is the caller's until this thread asks again.
    """
    if device.type != "cpu":
        return torch.empty(elements, device=device)
    buffer: Tensor | None = getattr(_inside, "buffer", None)
    if buffer is None or len(buffer) < elements:
        buffer = torch.empty(elements, dtype=torch.float32)
        if elements <= LARGEST_WORKSPACE:
            _inside.buffer = buffer
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
        The number of workers. With one worker, or one task, or inside a task that is being run here, the
        functions run one after the other in the calling thread.

    Returns
    -------
    list
        What each function returned, in the order of the functions.

    Raises
    ------
    BaseException
        The first exception that a task raised; tasks that had not been started by then are not run.
    """
    threads = min(threads, len(tasks))
    role = getattr(_inside, "role", None)
    if threads <= 1 or role == "worker":
        return [task() for task in tasks]
    if role is None:
        return _run_on(_pool(threads), tasks, threads)
    _inside.role = "worker"
    try:
        return _run_on(_pool(threads - 1), tasks, threads - 1, take_part=True)
    finally:
        _inside.role = role


def _run_on(pool: _Pool, tasks: Sequence[Callable[[], Result]], threads: int, take_part: bool = False) -> list[Result]:
    """Run functions on threads of a pool, and on the calling one too where it is to take part."""
    results: list[Result | None] = [None] * len(tasks)
    errors: list[BaseException] = []
    following = iter(range(len(tasks)))
    taking = threading.Lock()
    done = threading.Semaphore(0)
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                with taking:
                    i = next(following, None)
                if i is None:
                    break
                results[i] = tasks[i]()
        except BaseException as error:
            errors.append(error)
            stopped.set()

    def job() -> None:
        work()
        done.release()

    for _ in range(threads):
        pool.jobs.put(job)
    if take_part:
        work()
    interrupt: BaseException | None = None
    for _ in range(threads):
        while True:
            try:
                done.acquire()
                break
            except BaseException as error:
                interrupt = error
                stopped.set()  # no new task starts; those that run end first, so that what they work on is whole
    if interrupt is not None:
        raise interrupt
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]


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
