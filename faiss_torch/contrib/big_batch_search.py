"""Search an IVF index list by list for many queries, as ``faiss.contrib.big_batch_search`` does."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .. import (
    IndexFlat,
    ResultHeap,
    copy_array_to_vector,
    get_mem_usage_kb,
    is_similarity_metric,
    knn,
    pairwise_distances,
)
from .inspect_tools import get_invlist

LOG = logging.getLogger(__name__)
Array = np.ndarray
_METHODS = ("index", "pairwise_distances", "knn_function")


def _flat_helper(index: Any) -> tuple[Any, Callable[[Array], Array], bool]:
    return IndexFlat(index.d, index.metric_type), lambda codes: codes.view(np.float32), False


def _pq_helper(index: Any) -> tuple[Any, Callable[[Array], Array], bool]:
    from .. import IndexPQ

    helper = IndexPQ(index.d, index.pq.M, index.pq.nbits, index.metric_type)
    helper.pq = index.pq
    helper.is_trained = True
    return helper, helper.pq.decode, index.by_residual


def _sq_helper(index: Any) -> tuple[Any, Callable[[Array], Array], bool]:
    from .. import IndexScalarQuantizer

    helper = IndexScalarQuantizer(index.d, index.sq.qtype, index.metric_type)
    helper.sq = index.sq
    helper.is_trained = True
    return helper, helper.sq.decode, index.by_residual


#: By class name: an index without lists for the same codes, what decodes them, and whether they encode
#: residuals.
_HELPERS: dict[str, Callable[[Any], tuple[Any, Callable[[Array], Array], bool]]] = {
    "IndexIVFFlat": _flat_helper,
    "IndexIVFPQ": _pq_helper,
    "IndexIVFScalarQuantizer": _sq_helper,
}


class BlockComputer:
    """Compares a list's queries with its vectors.

    Parameters
    ----------
    index : IndexIVFFlat, IndexIVFPQ or IndexIVFScalarQuantizer
    method, pairwise_distances, knn
        See `big_batch_search`.
    """

    def __init__(
        self,
        index: Any,
        method: str = "knn_function",
        pairwise_distances: Callable = pairwise_distances,
        knn: Callable = knn,
    ) -> None:
        helper = _HELPERS.get(type(index).__name__)
        if helper is None:
            raise RuntimeError(f"index type {type(index).__name__} not supported, expected one of {list(_HELPERS)}")
        self.index = index
        self.method = method
        self.pairwise_distances = pairwise_distances
        self.knn = knn
        self.index_help, decode, self.by_residual = helper(index)
        self.decode_func = None if method == "index" else decode

    def block_search(
        self, xq_l: Array, xb_l: Array, list_ids: Array, k: int, **extra_args: Any
    ) -> tuple[Array | None, Array | None]:
        """Return distances and, unless they are of the whole list, places in it; None for nothing."""
        metric_type = self.index.metric_type
        if xq_l.size == 0 or xb_l.size == 0:
            return None, None
        if self.method == "index":
            copy_array_to_vector(xb_l, self.index_help.codes)
            self.index_help.ntotal = len(list_ids)
            return self.index_help.search(xq_l, k)
        if self.method == "pairwise_distances":
            return self.pairwise_distances(xq_l, xb_l, metric=metric_type), None
        return self.knn(xq_l, xb_l, k, metric=metric_type, **extra_args)


class Progress:
    """What is printed while a search is under way, in faiss's words.

    Parameters
    ----------
    nlist : int
    verbose : int
        1: the steps of the search. 0, 2: a line for each list, written over the one before. 3: one below the other.
        From 2 on the steps too.
    """

    def __init__(self, nlist: int, verbose: int) -> None:
        self.nlist = nlist
        self.verbose = verbose
        self.start = self.last_line = time.time()
        self._seconds = dict.fromkeys(("prep q", "prep b", "comp", "res", "wait in", "wait out"), 0.0)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the name of a step, and behind it how long it took."""
        if self.verbose > 0:
            print(name, end="\r", flush=True)
        start = time.time()
        yield
        if self.verbose > 0:
            print(f"{name}: {time.time() - start:.3f} s")

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that a block takes to what the lines say."""
        start = time.time()
        yield
        with self._lock:
            self._seconds[what] += time.time() - start

    def report(self, l: int) -> None:
        """Print how far the search is, when list `l` is done."""
        now = time.time()
        many_a_second = l > 1000 and now < self.last_line + 1
        if self.verbose == 1 or (self.verbose == 2 and many_a_second):
            return
        self.last_line = now
        seconds = now - self.start
        times = " ".join(f"{what} {took:.3f}" for what, took in self._seconds.items())
        eta = datetime.timedelta(seconds=seconds * self.nlist / (l + 1) - seconds)
        print(
            f"[{seconds:.1f} s] list {l}/{self.nlist} times {times} eta {eta} mem {get_mem_usage_kb()}",
            end="\r" if self.verbose <= 2 else "\n",
            flush=True,
        )


class BigBatchSearcher:
    """What a search holds: queries by list, and the results so far."""

    def __init__(
        self,
        index: Any,
        xq: Array,
        k: int,
        computer: BlockComputer,
        q_assign: Array | None,
        use_float16: bool,
        progress: Progress,
    ) -> None:
        self.index = index
        self.xq = xq
        self.k = k
        self.computer = computer
        self.use_float16 = use_float16
        self.progress = progress
        self.rh = ResultHeap(len(xq), k, keep_max=is_similarity_metric(index.metric_type))
        if q_assign is None:
            with progress.step("coarse quantization"):
                q_assign = index.quantizer.search(xq, index.nprobe)[1]
        with progress.step("bucket sort"):
            order = np.argsort(q_assign, axis=None, kind="stable")
            self.query_ids = order // q_assign.shape[1]
            self.bucket_lims = np.searchsorted(q_assign.ravel()[order], np.arange(index.nlist + 1))
            if progress.verbose > 0:
                print("  number of -1s:", self.bucket_lims[0])

    def prepare_bucket(self, l: int) -> tuple[Array, Array, Array, Array]:
        """Return a list's queries (numbers and vectors) and its entries (ids, and vectors or codes)."""
        with self.progress.timed("prep q"):
            q_subset = self.query_ids[self.bucket_lims[l] : self.bucket_lims[l + 1]]
            xq_l = self.xq[q_subset]
            if self.computer.by_residual:
                xq_l = xq_l - self.index.quantizer.reconstruct(l)
        with self.progress.timed("prep b"):
            list_ids, codes = get_invlist(self.index.invlists, l)
            decode = self.computer.decode_func
            xb_l = codes.ravel() if decode is None else decode(codes)
            if self.use_float16:
                xq_l, xb_l = xq_l.astype(np.float16), xb_l.astype(np.float16)
        return q_subset, xq_l, list_ids, xb_l

    def add_results(self, q_subset: Array, D: Array | None, list_ids: Array, I: Array | None) -> None:
        """Merge a list's results into those so far."""
        if D is not None:
            with self.progress.timed("res"):
                ids = list_ids if I is None else np.where(I >= 0, list_ids[I], -1)
                self.rh.add_result_subset(q_subset, D, ids)

    def _sizes(self) -> tuple:
        return self.xq.shape, self.index.nprobe, self.index.nlist

    def write_checkpoint(self, fname: str, completed: set[int]) -> None:
        """Write the results so far, and the lists that they are from; the file is whole at every moment."""
        with open(fname + ".tmp", "wb") as f:
            pickle.dump({"sizes": self._sizes(), "completed": completed, "rh": (self.rh.D, self.rh.I)}, f, -1)
        os.replace(fname + ".tmp", fname)

    def read_checkpoint(self, fname: str) -> set[int]:
        """Take the results so far from a file and return the lists that they are from."""
        with open(fname, "rb") as f:
            checkpoint = pickle.load(f)
        sizes = checkpoint["sizes"]
        assert sizes == self._sizes(), f"checkpoint of a search with sizes {sizes}, expected {self._sizes()}"
        self.rh.D[:], self.rh.I[:] = checkpoint["rh"]
        return checkpoint["completed"]


def _windowed(submit: Callable[[int], Future], lists: Iterable[int], window: int) -> Iterator[Any]:
    """Yield results in order, with at most `window` of them under way."""
    pending: deque[Future] = deque()
    for l in lists:
        pending.append(submit(l))
        if len(pending) >= window:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def big_batch_search(
    index: Any,
    xq: Array,
    k: int,
    method: str = "knn_function",
    pairwise_distances: Callable = pairwise_distances,
    knn: Callable = knn,
    verbose: int = 0,
    threaded: int = 0,
    use_float16: bool = False,
    prefetch_threads: int = 1,
    computation_threads: int = 1,
    q_assign: Array | None = None,
    checkpoint: str | None = None,
    checkpoint_freq: float = 7200,
    start_list: int = 0,
    end_list: int | None = None,
    crash_at: int = -1,
) -> tuple[Array, Array]:
    """Search an IVF index by visiting each inverted list once, with all queries that probe it.

    Parameters
    ----------
    index : IndexIVFFlat, IndexIVFPQ or IndexIVFScalarQuantizer
    xq : array, float32, shape (nq, d)
    k : int
    method : str
        "index": a flat index of the list's codes; "pairwise_distances": all distances of the decoded vectors;
        "knn_function": a search of the decoded vectors.
    pairwise_distances, knn : callable
        The functions for the last two methods.
    verbose : int
        What is printed: see `Progress`. As in faiss, 0 prints a line for each list, and 1 none.
    threaded : int
        0: one list after the other; 1: the next list is prepared meanwhile; 2: `prefetch_threads` threads
        prepare lists and `computation_threads` compare.
    use_float16 : bool
        Whether to convert queries and vectors to float16.
    prefetch_threads, computation_threads : int
        For ``threaded=2``. With more than one thread that compares, `knn` gets its number as ``thread_id=``.
    q_assign : array, int, shape (nq, nprobe), optional
        The lists to probe, by default the nearest ones.
    checkpoint : str, optional
        A file from which the search goes on if it exists, and which is written every `checkpoint_freq`
        seconds.
    checkpoint_freq : float
    start_list, end_list : int
        The lists to visit; all of them with a checkpoint.
    crash_at : int
        The list at which to raise ZeroDivisionError, to try checkpoints.

    Returns
    -------
    D : array, float32, shape (nq, k)
    I : array, int64, shape (nq, k)
    """
    assert method in _METHODS, f"method is {method!r}, expected one of {_METHODS}"
    computer = BlockComputer(index, method, pairwise_distances, knn)
    progress = Progress(index.nlist, verbose)
    searcher = BigBatchSearcher(index, xq, k, computer, q_assign, use_float16, progress)
    end_list = index.nlist if end_list is None else end_list
    completed: set[int] = set()
    if checkpoint is not None:
        assert (start_list, end_list) == (0, index.nlist), "a checkpoint is for all lists"
        if os.path.exists(checkpoint):
            completed = searcher.read_checkpoint(checkpoint)
            LOG.info("%d lists are done in %s", len(completed), checkpoint)
    lists = [l for l in range(start_list, end_list) if l not in completed]

    workers = computation_threads if threaded > 1 else 1
    numbers = iter(range(workers))
    worker = threading.local()

    def number_worker() -> None:
        worker.number = next(numbers)

    def compare(l: int, bucket: tuple[Array, Array, Array, Array]) -> tuple:
        q_subset, xq_l, list_ids, xb_l = bucket
        extra = {"thread_id": worker.number} if workers > 1 else {}
        with progress.timed("comp"):
            return l, q_subset, list_ids, computer.block_search(xq_l, xb_l, list_ids, k, **extra)

    def prepared(bucket: Future) -> tuple[Array, Array, Array, Array]:
        with progress.timed("wait in"):
            return bucket.result()

    last_checkpoint = time.time()

    def collect(results: Iterator[tuple]) -> None:
        nonlocal last_checkpoint
        for l, q_subset, list_ids, (D, I) in results:
            if l == crash_at:
                raise ZeroDivisionError(f"crash_at={crash_at}")
            searcher.add_results(q_subset, D, list_ids, I)
            completed.add(l)
            progress.report(l)
            if checkpoint is not None and time.time() - last_checkpoint > checkpoint_freq:
                searcher.write_checkpoint(checkpoint, completed)
                last_checkpoint = time.time()

    if threaded == 0:
        collect(compare(l, searcher.prepare_bucket(l)) for l in lists)
    else:
        with (
            ThreadPoolExecutor(prefetch_threads if threaded > 1 else 1) as prepare_pool,
            ThreadPoolExecutor(workers, initializer=number_worker) as compare_pool,
        ):

            def submit(l: int) -> Future:
                bucket = prepare_pool.submit(searcher.prepare_bucket, l)
                return compare_pool.submit(lambda: compare(l, prepared(bucket)))

            collect(_windowed(submit, lists, prefetch_threads + workers + 1))
    with progress.step("finalize heap"):
        searcher.rh.finalize()
    return searcher.rh.D, searcher.rh.I
