"""Worker threads for loops over tiles, lists or blocks on the CPU.

One worker per core with single-threaded torch operations inside is faster than a parallel region in every small
operation, and it degrades gently when another process wants the cores (a parallel region waits for its slowest
thread in every operation). torch keeps its number of intra-operation threads in two places: OpenMP's and MKL's
values of the calling thread, and one process-wide number that a thread copies when it first computes. A worker
sets all of them to one; the process-wide number is put back at once, so that neither the caller nor any thread
that the program starts later sees a change.

The calling thread should not run parallel regions between two loops over workers: OpenMP's other threads then spin
for some milliseconds and take the cores from the workers. `alone` runs such a step on one worker.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_inside = threading.local()
_lock = threading.Lock()
_pools: dict[int, _Pool] = {}


class _Pool:
    """A fixed number of threads that run jobs from one queue, each with torch set to a single thread."""

    def __init__(self, threads: int) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        starter = threading.Thread(target=self._start, args=(threads,), name="faiss_torch starter")
        starter.start()
        starter.join()

    def _start(self, threads: int) -> None:
        # A fresh thread takes torch's process-wide number over when it first asks for it, and setting the number
        # from here changes no other thread's own OpenMP and MKL values.
        process_wide = torch.get_num_threads()
        ready = threading.Barrier(threads + 1)
        for i in range(threads):
            worker = threading.Thread(target=self._work, args=(ready,), name=f"faiss_torch worker {i}", daemon=True)
            worker.start()
        ready.wait()
        torch.set_num_threads(process_wide)

    def _work(self, ready: threading.Barrier) -> None:
        torch.get_num_threads()  # the thread takes the process-wide number over now, and not after the next line
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)  # a value of this thread
        _inside.worker = True
        ready.wait()
        while True:
            self.jobs.get()()


def _pool(threads: int) -> _Pool:
    with _lock:
        if threads not in _pools:
            _pools[threads] = _Pool(threads)
        return _pools[threads]


def _forget_pools() -> None:
    # The child of a fork has none of its parent's threads.
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def run(tasks: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    """Run functions on worker threads, each of which computes with one thread of its own.

    Parameters
    ----------
    tasks : sequence of callables
        Functions without arguments. Each is run once; they are started in the order given, the next one by the
        worker that is free first.
    threads : int
        The number of workers. With one worker, or one task, or inside a task that is being run here, the
        functions run one after the other in the calling thread, under its own torch settings.

    Returns
    -------
    list
        What each function returned, in the order of the functions.

    Raises
    ------
    BaseException
        The first exception that a task raised; tasks that had not been started by then are not run.
    """
    if min(threads, len(tasks)) <= 1 or getattr(_inside, "worker", False):
        return [task() for task in tasks]
    return _run_on(_pool(threads), tasks, min(threads, len(tasks)))


def alone(task: Callable[[], Result], threads: int) -> Result:
    """Run one function on a worker thread, so that OpenMP's threads stay asleep.

    Parameters
    ----------
    task : callable
        A function without arguments.
    threads : int
        The number of workers that the steps around it use. With one, or inside a worker, the function runs in the
        calling thread.

    Returns
    -------
    object
        What the function returned.
    """
    if threads <= 1 or getattr(_inside, "worker", False):
        return task()
    return _run_on(_pool(threads), [task], 1)[0]


def _run_on(pool: _Pool, tasks: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    results: list[Result | None] = [None] * len(tasks)
    errors: list[BaseException] = []
    following = iter(range(len(tasks)))
    taking = threading.Lock()
    done = threading.Semaphore(0)
    stopped = threading.Event()

    def job() -> None:
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
        finally:
            done.release()

    for _ in range(threads):
        pool.jobs.put(job)
    try:
        for _ in range(threads):
            done.acquire()
    except BaseException:
        stopped.set()  # an interrupt of the caller: no new task starts
        raise
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
