"""Worker threads and conductors: order, errors, and that nobody else's threads change."""

import contextlib
import signal
import threading
import time

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.ops.runtime import one_thread, workers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = faiss_torch.omp_get_max_threads()
    faiss_torch.omp_set_num_threads(2)
    yield
    faiss_torch.omp_set_num_threads(before)


def threads_of_a_new_thread() -> int:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def test_workers_leave_the_threads_of_others_alone():
    before, before_in_new_thread = torch.get_num_threads(), threads_of_a_new_thread()
    assert workers.run([torch.get_num_threads] * 4, 3) == [1] * 4
    assert workers.conduct(torch.get_num_threads, CPU) == 1
    assert torch.get_num_threads() == before
    assert threads_of_a_new_thread() == before_in_new_thread


def test_results_keep_the_order_of_the_tasks():
    assert workers.map_over_workers(lambda i: i * i, range(50), 3) == [i * i for i in range(50)]
    nested = workers.map_over_workers(lambda i: workers.map_over_workers(lambda j: i + j, [1, 2], 3), [0, 10], 3)
    assert nested == [[1, 2], [11, 12]]


def test_an_error_of_a_task_is_raised_and_the_workers_go_on():
    with pytest.raises(ZeroDivisionError):
        workers.map_over_workers(lambda i: 1 // i, [1, 0, 2], 2)
    with pytest.raises(ZeroDivisionError):
        workers.conduct(lambda: 1 // 0, CPU)
    assert workers.conduct(lambda: workers.map_over_workers(abs, [-1, 2], 2), CPU) == [1, 2]


def test_a_call_inside_a_call_stays_in_its_thread():
    def inner() -> bool:
        here = threading.current_thread()
        return workers.conduct(threading.current_thread, CPU) is here

    assert workers.conduct(threading.current_thread, CPU) is not threading.current_thread()
    assert workers.conduct(inner, CPU)
    assert workers.map_over_workers(lambda _: inner(), range(4), 2) == [True] * 4


def test_an_accelerator_is_served_by_the_calling_thread():
    assert workers.conduct(threading.current_thread, torch.device("cuda")) is threading.current_thread()


def test_the_loops_of_an_accelerators_call_stay_in_its_thread():
    def threads_of_a_loop() -> set[threading.Thread]:
        return set(workers.map_over_workers(lambda _: threading.current_thread(), range(4), 2))

    assert workers.conduct(threads_of_a_loop, torch.device("cuda")) == {threading.current_thread()}
    assert workers.conduct(threading.current_thread, CPU) is not threading.current_thread()


def test_a_conductor_knows_the_number_of_threads_of_its_call():
    for threads in (2, 3):
        faiss_torch.omp_set_num_threads(threads)
        assert workers.conduct(faiss_torch.omp_get_max_threads, CPU) == threads


def test_several_threads_call_at_once():
    barrier = threading.Barrier(4)

    def meet() -> None:
        barrier.wait(timeout=20)

    callers = [threading.Thread(target=lambda: workers.conduct(meet, CPU)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
    assert not barrier.broken


def test_a_workspace_is_kept_and_grows():
    def sizes_and_sharing() -> tuple[bool, bool, bool]:
        first = workers.workspace(100, CPU)
        again = workers.workspace(50, CPU)
        larger = workers.workspace(len(first) + 1, CPU)
        return first.data_ptr() == again.data_ptr(), len(first) >= 100, len(larger) > len(first)

    assert workers.conduct(sizes_and_sharing, CPU) == (True, True, True)


def test_a_worker_that_is_late_is_not_waited_for():
    both_wait, go_on = threading.Barrier(3), threading.Event()

    def wait(_: object) -> None:
        both_wait.wait(timeout=20)
        go_on.wait(timeout=20)

    # a first call holds its conductor and the only worker
    first = threading.Thread(target=lambda: workers.conduct(lambda: workers.map_over_workers(wait, [0, 1], 2), CPU))
    first.start()
    both_wait.wait(timeout=20)
    found: list[list[int]] = []
    second = threading.Thread(
        # of three threads, the first call takes one
        target=lambda: found.append(workers.conduct(lambda: workers.map_over_workers(abs, range(-3, 0), 3), CPU))
    )
    second.start()
    second.join(timeout=20)
    ended_before_the_first = list(found)
    go_on.set()
    first.join(timeout=20)
    assert ended_before_the_first == [[3, 2, 1]]
    assert workers.conduct(lambda: workers.map_over_workers(abs, [-1, 2], 2), CPU) == [1, 2]


def test_calls_at_the_same_time_share_the_cores():
    def threads_of_a_loop() -> int:
        meeting = threading.Barrier(2)

        def meet(_: object) -> int:
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(timeout=0.5)
            return threading.get_ident()

        return len(set(workers.map_over_workers(meet, range(2), 2)))

    begun, go_on = threading.Event(), threading.Event()

    def other_call() -> None:
        begun.set()
        go_on.wait(timeout=20)

    other = threading.Thread(target=lambda: workers.conduct(other_call, CPU))
    other.start()
    begun.wait(timeout=20)
    beside_another = workers.conduct(threads_of_a_loop, CPU)
    go_on.set()
    other.join(timeout=20)
    assert (beside_another, workers.conduct(threads_of_a_loop, CPU)) == (1, 2)


def test_after_an_error_no_task_is_started():
    started = []

    def fail(i: int) -> None:
        started.append(i)
        time.sleep(0.01)
        raise ValueError(i)

    with pytest.raises(ValueError):  # noqa: PT011
        workers.conduct(lambda: workers.map_over_workers(fail, range(50), 2), CPU)
    assert len(started) <= 2


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signals to threads")
@pytest.mark.parametrize("on_a_conductor", [True, False])
def test_an_interrupt_is_raised_when_what_runs_has_ended(on_a_conductor, interruptible):
    ended = []

    def task(i: int = 0) -> None:
        if i == 0:
            time.sleep(0.05)  # the caller waits by now
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        ended.append(i)

    def call() -> None:
        if on_a_conductor:
            workers.conduct(task, CPU)
        else:
            workers.map_over_workers(task, range(20), 2)

    with pytest.raises(KeyboardInterrupt):
        call()
    assert 1 <= len(ended) <= 4
    at_once = list(ended)
    time.sleep(0.15)
    assert ended == at_once  # nothing goes on behind the caller's back
    assert workers.conduct(lambda: workers.map_over_workers(abs, [-1, 2], 2), CPU) == [1, 2]


def test_what_is_brief_stays_in_the_calling_thread():
    assert workers.conduct(threading.current_thread, CPU, brief=True) is threading.current_thread()


@pytest.fixture(params=[1, 2])
def torch_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    faiss_torch.omp_set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_what_was_made_in_inference_mode_can_be_changed_outside(torch_threads, factory):
    xb = np.random.RandomState(1).rand(400, 8).astype("float32")
    index = faiss_torch.index_factory(8, factory)
    with torch.inference_mode():
        index.train(xb)
        for part in np.array_split(xb[:200], 3):
            index.add(part)
        index.search(xb[:3], 2)
    for part in np.array_split(xb[200:], 3):
        index.add(part)
    index.add(xb[:1])
    assert index.search(xb[[0, 399]], 1)[1].tolist() == [[0], [399]]


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_autocast_of_the_program_changes_nothing(torch_threads, factory):
    xb = np.random.RandomState(1).randn(3000, 16).astype("float32")
    index = faiss_torch.index_factory(16, factory)
    index.train(xb)
    index.add(xb)
    expected = index.search(xb[:200], 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = index.search(xb[:200], 5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


where_there_is_a_way = pytest.mark.skipif(
    not one_thread.available(), reason="this torch's threads cannot be set one by one"
)


@where_there_is_a_way
def test_one_thread_in_the_calling_thread_alone():
    before, x = torch.get_num_threads(), torch.randn(64, 64)
    own = one_thread.threads_here()
    one_thread.set_threads_here(one_thread.ONE)
    assert torch.get_num_threads() == 1
    assert one_thread.threads_here() == one_thread.ONE
    assert threads_of_a_new_thread() == before
    x @ x
    one_thread.set_threads_here(own)
    assert torch.get_num_threads() == before
    assert one_thread.threads_here() == own


@where_there_is_a_way
def test_a_brief_call_stays_in_its_thread_as_if_it_were_a_conductor():
    before, here = torch.get_num_threads(), threading.current_thread()
    seen = []

    def call():
        seen.append((threading.current_thread() is here, torch.get_num_threads(), torch.is_grad_enabled()))
        seen.append(faiss_torch.omp_get_max_threads())
        seen.append(workers.conduct(threading.current_thread, CPU) is here)
        seen.append(workers.conduct(threading.current_thread, CPU, to_its_end=True) is here)
        return workers.map_over_workers(lambda _: torch.get_num_threads(), range(4), 2)

    assert workers.conduct(call, CPU, brief=True) == [1, 1, 1, 1]
    assert seen == [(True, 1, False), 2, True, False]
    with pytest.raises(ZeroDivisionError):
        workers.conduct(lambda: 1 // 0, CPU, brief=True)
    assert (torch.get_num_threads(), torch.is_grad_enabled(), faiss_torch.omp_get_max_threads()) == (before, True, 2)
    assert workers.conduct(threading.current_thread, CPU) is not here  # nothing of the brief call is left


def test_searches_where_there_is_no_way_to_set_one_thread(monkeypatch):
    monkeypatch.setattr(one_thread, "_runtime", None)
    assert not one_thread.available()
    x = np.random.default_rng(0).random((50, 8), dtype=np.float32)
    index = faiss_torch.IndexFlatL2(8)
    index.add(x)
    assert index.search(x[:3], 1)[1].ravel().tolist() == [0, 1, 2]
    assert one_thread.threads_here() is None
    one_thread.set_threads_here(one_thread.threads_here())
    assert torch.get_num_threads() >= 1
