"""Stopping long calls from outside: by Ctrl-C, by a time limit, by a callback."""

from __future__ import annotations

import gc
import signal
import threading
import time

import numpy as np
import pytest
import torch


@pytest.fixture
def clustering(faiss):
    """A clustering that ends after many seconds."""
    cp = faiss.ClusteringParameters()
    cp.niter = 3000
    cp.early_stop_threshold = -1.0
    return faiss.Clustering(16, 200, cp)


def vectors():
    return np.random.RandomState(0).rand(8000, 16).astype("float32")


def test_timeout(faiss, clustering):
    index = faiss.IndexFlatL2(16)
    with faiss.TimeoutGuard(0.05), pytest.raises(RuntimeError):
        clustering.train(vectors(), index)
    assert clustering.iteration_stats.size() < 3000
    # and after it everything goes on
    assert faiss.Kmeans(16, 4, niter=3).train(vectors()) > 0


def test_a_time_that_is_no_number(faiss):
    with pytest.raises(TypeError):
        faiss.TimeoutCallback.reset("a")
    with pytest.raises(TypeError), faiss.TimeoutGuard("a"):
        pass
    faiss.PythonInterruptCallback.reset()


def test_training_an_inverted_file(faiss):
    index = faiss.index_factory(16, "IVF200,Flat")
    index.cp.niter = 3000
    index.cp.early_stop_threshold = -1.0
    with faiss.TimeoutGuard(0.05), pytest.raises(RuntimeError):
        index.train(vectors())
    assert not index.is_trained


def test_callback_of_ones_own(ours):
    class After(ours.InterruptCallback):
        asked = 0

        def want_interrupt(self):
            After.asked += 1
            return After.asked == 3

    clustering = ours.Clustering(16, 200)
    ours.InterruptCallback.install(After())
    try:
        with pytest.raises(RuntimeError, match="computation interrupted"):
            clustering.train(vectors(), ours.IndexFlatL2(16))
    finally:
        ours.PythonInterruptCallback.reset()
    assert clustering.iteration_stats.size() == 2


def test_the_index_holds_the_last_centroids_after_an_interrupt(ours):
    x = vectors()

    class AfterThree(ours.InterruptCallback):
        calls = 0

        def want_interrupt(self):
            self.calls += 1
            return self.calls > 3

    interrupted = ours.IndexFlatL2(16)
    ours.InterruptCallback.install(AfterThree())
    try:
        with pytest.raises(RuntimeError):
            ours.Clustering(16, 50).train(x, interrupted)
    finally:
        ours.InterruptCallback.clear_instance()
    three = ours.ClusteringParameters()
    three.niter = 3
    whole = ours.IndexFlatL2(16)
    ours.Clustering(16, 50, three).train(x, whole)
    np.testing.assert_array_equal(interrupted.reconstruct_n(0, 50), whole.reconstruct_n(0, 50))


@pytest.fixture
def interrupted_after():
    """Presses Ctrl-C some seconds after the call; a process that was started in the background ignores interrupts."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("this system sends no signals to threads")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.get_ident()
    timers = []

    def press(seconds: float) -> None:
        timers.append(threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)))
        timers[-1].start()

    yield press
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=[1, 2])
def threads(ours, request):
    before = ours.omp_get_max_threads()
    ours.omp_set_num_threads(request.param)
    yield request.param
    ours.omp_set_num_threads(before)


def flat(ours, x):
    index = ours.IndexFlatL2(x.shape[1])
    index.add(x)
    return index


def test_an_interrupt_ends_a_training_that_would_take_minutes(ours, interrupted_after, threads):
    cp = ours.ClusteringParameters()
    cp.niter = 1_000_000
    cp.early_stop_threshold = -1.0
    clustering = ours.Clustering(16, 200, cp)
    interrupted_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        clustering.train(vectors(), ours.IndexFlatL2(16))
    assert 0 < clustering.iteration_stats.size() < 1_000_000
    # it is raised once, and everything goes on
    assert ours.Kmeans(16, 4, niter=3).train(vectors()) > 0


@pytest.mark.slow
def test_an_interrupt_ends_a_search_that_would_take_minutes(ours, interrupted_after, threads):
    x = vectors()
    index = ours.IndexFlat(16, ours.METRIC_BrayCurtis)
    index.add(x)
    queries = np.broadcast_to(x[:1], (3_000_000, 16))
    interrupted_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        index.search(queries, 3)
    assert index.search(x[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("threaded", [True, False])
def test_an_interrupt_ends_the_searches_of_shards(ours, interrupted_after, threaded):
    x = vectors()
    shards = ours.IndexShards(16, threaded, True)
    for _ in range(2):
        shards.add_shard(ours.IndexFlat(16, ours.METRIC_BrayCurtis))
    shards.add(x)
    interrupted_after(0.5)
    with pytest.raises(KeyboardInterrupt):
        shards.search(np.broadcast_to(x[:1], (3_000_000, 16)), 3)
    assert shards.search(x[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_time_limit_ends_a_search(ours):
    x = vectors()
    index = ours.IndexFlat(16, ours.METRIC_BrayCurtis)
    index.add(x)
    with ours.TimeoutGuard(0.3), pytest.raises(RuntimeError, match="interrupted"):
        index.search(np.broadcast_to(x[:1], (3_000_000, 16)), 3)
    assert index.search(x[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


def test_an_exception_of_a_callback_is_the_callers(ours):
    class Broken(ours.InterruptCallback):
        def want_interrupt(self):
            raise ZeroDivisionError

    index = ours.IndexFlat(16, ours.METRIC_BrayCurtis)
    index.add(vectors())
    ours.InterruptCallback.install(Broken())
    try:
        with pytest.raises(ZeroDivisionError):
            index.search(np.broadcast_to(vectors()[:1], (3_000_000, 16)), 3)
    finally:
        ours.PythonInterruptCallback.reset()


@pytest.mark.slow
def test_interrupts_of_brief_calls_leave_the_callers_thread_as_it_was(ours):
    """Many calls of one query, interrupted at every point of theirs that there is."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no timers that send signals")
    x = vectors()
    index, lists = flat(ours, x), ours.index_factory(16, "IVF20,Flat")
    lists.train(x)
    lists.add(x)
    calls = [lambda: index.search(x[:1], 3), lambda: lists.search(x[:1], 3), lambda: index.add(x[:1])]
    for call in calls * 3:
        call()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    delays = np.random.RandomState(0).uniform(3e-5, 1e-3, 600)
    interrupted = 0
    gc.disable()  # an interrupt is lost in what others have called by it
    expected = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        for i, delay in enumerate(delays):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                for _ in range(8):
                    calls[i % 3]()
                time.sleep(1)
            except KeyboardInterrupt:
                interrupted += 1
            assert (torch.get_num_threads(), torch.is_grad_enabled()) == expected
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == len(delays)
    assert index.search(x[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]
    assert len(index.search(x[:5], index.ntotal)[1][0]) == index.ntotal
