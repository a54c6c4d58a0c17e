"""Worker threads and conductors: order, errors, and that nobody else's threads change."""

import threading

import pytest
import torch

import faiss_torch
from faiss_torch.ops import workers

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
