"""Exact search of data that come block by block, as ``faiss.contrib.exhaustive_search`` does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import METRIC_L2, Index, IndexFlat, ResultHeap, get_num_gpus, is_similarity_metric, knn

__all__ = [
    "apply_maxres",
    "exponential_query_iterator",
    "knn",
    "knn_ground_truth",
    "range_ground_truth",
    "range_search_gpu",
    "range_search_max_results",
    "threshold_radius",
    "threshold_radius_nres",
]

LOG = logging.getLogger(__name__)
Array = np.ndarray
RangeResult = tuple[Array, Array, Array]


def _on_gpus(index: Any, ngpu: int, shard: bool) -> Any:
    """Return the index spread over `ngpu` GPUs, or as it is where that is 0; -1 means all there are."""
    if ngpu == -1:
        ngpu = get_num_gpus()
    if ngpu == 0:
        return index
    from .. import GpuMultipleClonerOptions, index_cpu_to_all_gpus

    LOG.info("running on %d GPUs", ngpu)
    options = GpuMultipleClonerOptions()
    options.shard = shard
    return index_cpu_to_all_gpus(index, co=options, ngpu=ngpu)


def _is_binary(index: Any) -> bool:
    # binary indexes are no subclasses of Index
    return not isinstance(index, Index)


def knn_ground_truth(
    xq: Array,
    db_iterator: Iterable[Array],
    k: int,
    metric_type: int = METRIC_L2,
    shard: bool = False,
    ngpu: int = -1,
) -> tuple[Array, Array]:
    """Find the exact nearest neighbours among vectors that come in blocks and need not fit in memory
    together.

    Parameters
    ----------
    xq : array, shape (nq, d)
    db_iterator : iterable of array, shape (any, d)
        The database vectors; ids count on from block to block.
    k : int
    metric_type : int
    shard : bool
        Whether several GPUs share the vectors rather than the queries.
    ngpu : int
        GPUs to use, -1 for all there are.

    Returns
    -------
    D : array, float32, shape (nq, k)
    I : array, int64, shape (nq, k)
    """
    nq, d = xq.shape
    heap = ResultHeap(nq, k, keep_max=is_similarity_metric(metric_type))
    index = _on_gpus(IndexFlat(d, metric_type), ngpu, shard)
    start, done = time.time(), 0
    for block in db_iterator:
        index.add(block)
        D, I = index.search(xq, k)
        heap.add_result(D, np.where(I >= 0, I + done, I))
        index.reset()
        done += len(block)
        LOG.info("%d database vectors, %.3f s", done, time.time() - start)
    heap.finalize()
    return heap.D, heap.I


def range_search_gpu(xq: Array, r2: float, index_gpu: Any, index_cpu: Any, gpu_k: int = 1024) -> RangeResult:
    """Search a range by a k-NN search, and by a range search for the queries that it does not answer in full.

    Parameters
    ----------
    xq : array, shape (nq, d)
    r2 : float
        The radius.
    index_gpu : index
        Needs only ``search``.
    index_cpu : index, array or None
        Answers the queries with more than `gpu_k` results: an index with ``range_search``, or the database
        vectors. With None, a query has at most `gpu_k` results.
    gpu_k : int

    Returns
    -------
    lims, D, I : array
    """
    binary = _is_binary(index_gpu)
    keep_max = is_similarity_metric(index_gpu.metric_type)
    r2 = int(r2) if binary else float(r2)
    k = min(index_gpu.ntotal, gpu_k)
    D, I = index_gpu.search(xq, k)
    if binary:
        D = D.astype(np.int16)
    inside = D > r2 if keep_max else D < r2
    rows = [(D[q, inside[q]], I[q, inside[q]]) for q in range(len(xq))]
    unfinished = np.flatnonzero(inside[:, k - 1]) if index_cpu is not None else np.empty(0, dtype=np.int64)
    if len(unfinished):
        LOG.debug("%d of %d queries have more than %d results", len(unfinished), len(xq), k)
        if isinstance(index_cpu, np.ndarray):
            index_cpu = _index_over(index_cpu, binary, index_gpu.metric_type)
        lims, D_rest, I_rest = index_cpu.range_search(xq[unfinished], r2)
        for place, q in enumerate(unfinished):
            row = slice(int(lims[place]), int(lims[place + 1]))
            rows[q] = D_rest[row].astype(D.dtype), I_rest[row]
    return (
        np.cumsum([0] + [len(ids) for _, ids in rows]),
        np.concatenate([distances for distances, _ in rows]),
        np.concatenate([ids for _, ids in rows]),
    )


def _index_over(vectors: Array, binary: bool, metric_type: int) -> Any:
    if binary:
        from .. import IndexBinaryFlat

        index = IndexBinaryFlat(vectors.shape[1] * 8)
    else:
        index = IndexFlat(vectors.shape[1], metric_type)
    index.add(vectors)
    return index


def range_ground_truth(
    xq: Array,
    db_iterator: Iterable[Array],
    threshold: float,
    metric_type: int = METRIC_L2,
    shard: bool = False,
    ngpu: int = -1,
) -> RangeResult:
    """Find all vectors inside a radius among vectors that come in blocks and need not fit in memory together.

    Parameters
    ----------
    xq : array, shape (nq, d)
    db_iterator : iterable of array, shape (any, d)
    threshold : float
        The radius.
    metric_type, shard, ngpu
        As for `knn_ground_truth`.

    Returns
    -------
    lims : array, uint64, shape (nq + 1,)
    D : array, float32
    I : array, int64
    """
    xq = np.ascontiguousarray(xq, dtype=np.float32)
    nq, d = xq.shape
    if ngpu == -1:
        ngpu = get_num_gpus()
    index = _on_gpus(IndexFlat(d, metric_type), ngpu, shard)
    # pieces of results, each with the query of every entry
    pieces_q, pieces_D, pieces_I = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    start, done = time.time(), 0
    for block in db_iterator:
        index.add(block)
        if ngpu > 0:
            lims, D, I = range_search_gpu(xq, threshold, index, block)
        else:
            lims, D, I = index.range_search(xq, threshold)
        index.reset()
        sizes: Array = np.diff(lims.astype(np.int64))
        pieces_q.append(np.repeat(np.arange(nq), sizes))
        pieces_D.append(D)
        pieces_I.append(I + done)
        done += len(block)
        LOG.info("%d database vectors, %.3f s", done, time.time() - start)
    of_query = np.concatenate(pieces_q)
    order = np.argsort(of_query, kind="stable")
    lims = np.zeros(nq + 1, dtype=np.uint64)
    lims[1:] = np.cumsum(np.bincount(of_query, minlength=nq))
    return lims, np.concatenate(pieces_D)[order], np.concatenate(pieces_I)[order]


def _inside(dis: Array, thresh: float, keep_max: bool) -> Array:
    return dis > thresh if keep_max else dis < thresh


def threshold_radius_nres(nres: Array, dis: Array, ids: Array, thresh: float, keep_max: bool = False) -> RangeResult:
    """Restrict results, given with their number per query, to those inside a radius."""
    kept = _inside(dis, thresh, keep_max)
    running = np.concatenate(([0], np.cumsum(kept)))
    ends = np.cumsum(nres.astype(np.int64))
    new_nres = running[ends] - running[ends - nres.astype(np.int64)]
    return new_nres.astype(nres.dtype), dis[kept], ids[kept]


def threshold_radius(lims: Array, dis: Array, ids: Array, thresh: float, keep_max: bool = False) -> RangeResult:
    """Restrict a range search result to those inside a radius."""
    kept = _inside(dis, thresh, keep_max)
    running = np.concatenate(([0], np.cumsum(kept)))
    return running[lims.astype(np.int64)].astype(lims.dtype), dis[kept], ids[kept]


def apply_maxres(res_batches: list[RangeResult], target_nres: int, keep_max: bool = False) -> tuple[float, int]:
    """Shrink the radius so that at most `target_nres` results remain.

    Parameters
    ----------
    res_batches : list of tuple
        ``(nres, dis, ids)`` of each batch; changed in place.
    target_nres : int
        Below the present number of results.

    Returns
    -------
    radius : float, or int where distances are integers
    totres : int
        Results that remain.
    """
    distances = np.concatenate([dis for _, dis, _ in res_batches])
    assert len(distances) > target_nres, f"{len(distances)} results, expected more than {target_nres}"
    place = len(distances) - 1 - target_nres if keep_max else target_nres
    radius = np.partition(distances, place)[place].item()
    res_batches[:] = [
        threshold_radius_nres(nres, dis, ids, radius, keep_max=keep_max) for nres, dis, ids in res_batches
    ]
    totres = sum(len(dis) for _, dis, _ in res_batches)
    LOG.debug("radius %s, %d results", radius, totres)
    return radius, totres


def range_search_max_results(
    index: Any,
    query_iterator: Iterable[Array],
    radius: float,
    max_results: int | None = None,
    min_results: int | None = None,
    shard: bool = False,
    ngpu: int = 0,
    clip_to_min: bool = False,
) -> tuple[float, Array, Array, Array]:
    """Search a range for many queries and shrink the radius whenever there are too many results in all.

    Parameters
    ----------
    index : index
    query_iterator : iterable of array, shape (any, d)
        See `exponential_query_iterator`.
    radius : float
        The radius to begin with.
    max_results : int
        Results in all that make the radius shrink; by default 1.5 times `min_results`.
    min_results : int
        Results that it leaves then; by default 0.8 times `max_results`. One of the two has to be given.
    shard, ngpu
        As for `knn_ground_truth`; with 0 GPUs the index is searched where it is.
    clip_to_min : bool
        Whether to leave no more than `min_results` at the end.

    Returns
    -------
    radius : float
        The radius at the end.
    lims, D, I : array
        The result at that radius.
    """
    binary = _is_binary(index)
    keep_max = is_similarity_metric(index.metric_type)
    if min_results is None:
        assert max_results is not None, "expected max_results or min_results"
        min_results = int(0.8 * max_results)
    if max_results is None:
        max_results = int(min_results * 1.5)
    index_gpu = _on_gpus(index, ngpu, shard)

    totres = 0
    res_batches: list[RangeResult] = []
    for xqi in query_iterator:
        if index_gpu is index:
            lims, D, I = index.range_search(xqi, radius)
        else:
            lims, D, I = range_search_gpu(xqi, radius, index_gpu, index)
        if binary:
            # range search gives Hamming distances as floats
            D = D.astype(np.int16)
        res_batches.append((np.diff(lims), D, I))
        totres += len(D)
        if totres > max_results:
            LOG.info("%d results are more than %d: the radius shrinks", totres, max_results)
            radius, totres = apply_maxres(res_batches, min_results, keep_max=keep_max)
    if clip_to_min and totres > min_results:
        radius, totres = apply_maxres(res_batches, min_results, keep_max=keep_max)

    nres, distances, ids = (np.concatenate(parts) for parts in zip(*res_batches, strict=True))
    lims = np.zeros(len(nres) + 1, dtype=np.uint64)
    lims[1:] = np.cumsum(nres)
    return radius, lims, distances, ids


def exponential_query_iterator(xq: Array, start_bs: int = 32, max_bs: int = 20000) -> Iterator[Array]:
    """Yield queries in batches that double in size: the radius is adjusted before results are many."""
    start, size = 0, start_bs
    while start < len(xq):
        yield xq[start : start + size]
        start += size
        if size < max_bs:
            size *= 2
