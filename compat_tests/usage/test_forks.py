"""Everything works in the child of a fork, whatever its parent has done before: computed in several threads too."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import pickle
import signal
import threading
import time

import numpy as np
import operations
import pytest
import torch

import faiss_torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # of a fork in a process that has threads
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

#: Seconds after which a child is taken for one that waits for ever.
PATIENCE = 120


def in_child(function) -> int:
    """Run a function in a child, and return its exit status; one that does not end is killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL


def use_torch_in_several_threads() -> None:
    threads = [threading.Thread(target=lambda: torch.randn(700, 700) @ torch.randn(700, 700)) for _ in range(2)]
    for thread in threads:
        thread.start()
    torch.randn(2000, 2000) @ torch.randn(2000, 2000)
    for thread in threads:
        thread.join()


def test_every_operation(tmp_path: pathlib.Path) -> None:
    use_torch_in_several_threads()
    expected = operations.run(faiss_torch)
    given = tmp_path / "given"
    assert in_child(lambda: given.write_bytes(pickle.dumps(operations.run(faiss_torch)))) == 0
    found = pickle.loads(given.read_bytes())
    assert found.keys() == expected.keys()
    for name, results in expected.items():
        assert not isinstance(found[name], str), found[name]
        np.testing.assert_equal(found[name], results, name)


def large_vectors() -> np.ndarray:
    """So many that torch copies, sorts and sums them in several threads."""
    return np.random.RandomState(0).randn(20_000, 64).astype("float32")


def test_what_runs_in_the_thread_of_the_caller() -> None:
    x = large_vectors()
    index = faiss_torch.index_factory(64, "IVF16,Flat")
    index.train(x)
    index.add(x)
    use_torch_in_several_threads()

    def work() -> None:
        assert torch.get_num_threads() == threads
        index.make_direct_map()
        faiss_torch.normalize_L2(x)
        copy = pickle.loads(pickle.dumps(faiss_torch.clone_index(index)))
        assert copy.reconstruct_n(0, copy.ntotal).shape == x.shape
        faiss_torch.merge_knn_results(np.zeros((2, 9000, 8), "float32"), np.zeros((2, 9000, 8), "int64"))
        copy.set_direct_map_type(faiss_torch.DirectMap.NoMap)
        other = faiss_torch.clone_index(copy)
        copy.merge_from(other, copy.ntotal)
        copy.to("cpu", dtype=torch.float16)
        torch.randn(2000, 2000) @ torch.randn(2000, 2000)
        assert copy.search(index.reconstruct_n(0, 5), 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]

    threads = torch.get_num_threads()
    assert in_child(work) == 0
    assert torch.get_num_threads() == threads


def _with_a_direct_map(seed: int):
    x = large_vectors()
    index = faiss_torch.index_factory(64, "IVF16,Flat")
    index.train(x)
    index.add(x)
    index.make_direct_map()
    return index


def test_a_pool_gives_indexes_back() -> None:
    use_torch_in_several_threads()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        indexes = pool.map_async(_with_a_direct_map, range(3)).get(PATIENCE)
    assert [index.reconstruct(7).tolist() for index in indexes] == [large_vectors()[7].tolist()] * 3


def test_children_of_a_process_that_is_searching() -> None:
    x = large_vectors()
    flat, lists = faiss_torch.IndexFlatL2(64), faiss_torch.index_factory(64, "IVF16,Flat")
    for index in (flat, lists):
        index.train(x)
        index.add(x)
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            for index in (flat, lists):
                index.search(x[:1], 3)
                index.search(x[:600], 3)

    def work() -> None:
        for index in (flat, lists):
            for nq in (1, 600):
                assert index.search(x[:nq], 1)[0].max() < 1e-2

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [in_child(work) for _ in range(25)] == [0] * 25
    finally:
        ended.set()
        for thread in threads:
            thread.join()
