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
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ... import border, forks, interrupts
from ... import threads as call_threads
from ...interrupts import Call
from . import one_thread, pools, streams, torch_state
from .pools import Ending, Loop, Pool

Item = TypeVar("Item")
Result = TypeVar("Result")
Verb = TypeVar("Verb", bound=Callable[..., Any])

#: torch works with one thread on this many elements and fewer (at::internal::GRAIN_SIZE).
SERIAL_ELEMENTS = 32768

#: Elements of a workspace that a thread keeps.
LARGEST_WORKSPACE = 13 << 20

#: What torch's error says where the system has no more memory, which Python and faiss call a MemoryError.
NO_MEMORY = "can't allocate memory"

_inside = call_threads.inside
_worker_pools: dict[int, Pool] = {}
_idle_conductors: list[Pool] = []
_running: dict[int, Call] = {}


class _Starting:
    """Lets one thread start workers at a time."""

    lock = forks.Lock()


_starting = _Starting()


def _new_pool(threads: int, role: str) -> Pool:
    def prepare() -> None:
        _inside.role = role

    return Pool(threads, prepare, f"faiss_torch {role}")


def _pool(threads: int) -> Pool:
    with _starting.lock:
        if threads not in _worker_pools:
            _worker_pools[threads] = _new_pool(threads, "worker")
        return _worker_pools[threads]


def _forget_threads() -> None:
    # The child of a fork has none of its parent's threads.
    pools.forget()
    _worker_pools.clear()
    _idle_conductors.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
pools.at_exit(lambda: list(_running.values()))


def _in_normal_mode(task: Callable[[], Result], device: torch.device) -> Result:
    """Run a function in the calling thread as if the program had left torch's settings alone."""
    try:
        if torch_state.is_ordinary(device):
            return task()
        with torch_state.ordinary(device):
            return task()
    except RuntimeError as error:
        if NO_MEMORY not in str(error):
            raise
        raise MemoryError(str(error).rpartition("] ")[2]) from error


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
    MemoryError
        If the system has not as much memory as a tensor of the function takes.
    BaseException
        What the function raised. An interrupt of the waiting caller is raised once the function has ended, so that
        what it works on is whole.
    """
    if hasattr(_inside, "role") and not (to_its_end and getattr(_inside, "brief", False)):
        return task()
    if Ending.is_elsewhere():
        Ending.park()
    pools.require_modules()
    threads = call_threads.omp_get_max_threads()
    if device.type != "cpu":
        _inside.role = "worker"  # its loops stay in this thread too
        try:
            return _in_normal_mode(task, device)
        finally:
            del _inside.role
    try:
        if brief or Ending.thread is not None:
            return _in_calling_thread(task, threads)
        entries = streams.current({each.device for each in given if isinstance(each, Tensor) and not each.is_cpu})

        def on_conductor() -> Result:
            call_threads.inside_call(threads)
            with streams.entered(entries) if entries else nullcontext():
                return _in_normal_mode(task, device)

        return _on_conductor(on_conductor)
    finally:
        if Ending.is_elsewhere():
            Ending.park()


def have_one_thread() -> bool:
    """Whether a call may use one thread only, and torch has one: the caller's is as good as a conductor then."""
    return call_threads.omp_get_max_threads() <= 1 and torch.get_num_threads() == 1


def _on_conductor(task: Callable[[], Result]) -> Result:
    """Run a function on a conductor that is idle, or on a new one."""
    call = Call(interrupts.current_call())
    try:
        conductor = _idle_conductors.pop()
    except IndexError:
        conductor = _new_pool(1, "conductor")

    def leave() -> None:
        _running.pop(id(call), None)
        if conductor not in _idle_conductors:
            _idle_conductors.append(conductor)

    try:
        _running[id(call)] = call
        return Loop([task], call).run_on(conductor, 1)[0]
    finally:
        try:
            leave()
        except BaseException:
            leave()
            raise


def _in_calling_thread(task: Callable[[], Result], threads: int) -> Result:
    """Run a function in the calling thread as if that were a conductor."""
    outside = interrupts.current_call()
    call = Call(outside)
    own_threads, grad = one_thread.threads_here(), torch.is_grad_enabled()

    def leave() -> None:
        one_thread.set_threads_here(own_threads)
        torch.set_grad_enabled(grad)
        call_threads.inside_call(None)
        interrupts.work_for(outside)
        _inside.brief = False
        _inside.__dict__.pop("role", None)
        _running.pop(id(call), None)

    try:
        _running[id(call)] = call
        _inside.role, _inside.brief = "conductor", True
        interrupts.work_for(call, asks=True)
        call_threads.inside_call(threads)
        torch.set_grad_enabled(False)
        one_thread.set_threads_here(one_thread.ONE)
        return _in_normal_mode(task, torch.device("cpu"))
    finally:
        # An interrupt may come into `leave`, which is then done once more. None comes between the work and here: Python
        # looks for one where a function is entered or has returned, and in loops.
        try:
            leave()
        except BaseException:
            leave()
            raise


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
        threads = threads + 1 - len(_running)
    threads = min(threads, len(tasks))
    if threads <= 1 or role == "worker" or Ending.thread is not None:
        return [interrupts.checked(task) for task in tasks]
    loop = Loop(tasks, interrupts.current_call() or Call())
    if role is None:
        return loop.run_on(_pool(threads), threads)
    _inside.role = "worker"
    try:
        return loop.run_on(_pool(threads - 1), threads - 1, take_part=True)
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
