"""What is done: functions that get an implementation's module and prepare a task.

A task does its work once and returns what is to be compared. What is not to be timed happens before. The task of a
search takes the queries of its next call each time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .cases import Workload
from .data import Array, database, queries

Task = Callable[[], Any]

#: Results that a query of a range search has on average.
IN_RANGE = 100


def metric_of(workload: Workload) -> int:
    """Return faiss's number for a workload's metric."""
    return {"L2": 1, "IP": 0}[workload.metric]


@functools.lru_cache(maxsize=2)
def _index_bytes(workload: Workload) -> Array:
    import faiss

    vectors = database(workload)
    index = faiss.index_factory(workload.d, f"IVF{workload.nlist},Flat", metric_of(workload))
    index.train(vectors)
    index.add(vectors)
    return faiss.serialize_index(index)


def index_bytes(workload: Workload) -> Array:
    """Return an IVF-Flat index over the database, trained and filled by faiss, as the bytes of its file."""
    # what the index does not depend on is left out, so that cases which share an index find it
    return _index_bytes(workload.with_(nprobe=1, nq=1, k=1, niter=1, path=None))


def on_device(faiss: Any, index: Any, device: str) -> Any:
    """Move an index of this library to a device; faiss-cpu's stays where it is."""
    if faiss.__name__ == "faiss" or device == "cpu":
        return index
    return index.to(device)


def ivf_index(faiss: Any, workload: Workload, device: str) -> Any:
    """Return an IVF-Flat index whose lists are the same for both implementations."""
    index = on_device(faiss, faiss.deserialize_index(index_bytes(workload)), device)
    index.nprobe = workload.nprobe
    if workload.path is not None and faiss.__name__ != "faiss":
        index.search_mode = workload.path
    return index


def flat_index(faiss: Any, workload: Workload, device: str) -> Any:
    """Return a flat index."""
    index = on_device(faiss, faiss.IndexFlat(workload.d, metric_of(workload)), device)
    index.add(database(workload))
    return index


def batches(workload: Workload) -> Iterator[Array]:
    """Return the queries of one call after the other, without end."""
    calls = workload.calls
    return itertools.cycle(np.array_split(queries(workload.with_(nq=workload.nq * calls)), calls))


def ivf_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search an IVF-Flat index."""
    index, xq = ivf_index(faiss, workload, device), batches(workload)
    return lambda: (*index.search(next(xq), workload.k), getattr(index, "last_path", None))


def flat_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search a flat index."""
    index, xq = flat_index(faiss, workload, device), batches(workload)
    return lambda: (*index.search(next(xq), workload.k), getattr(index, "last_path", None))


@functools.lru_cache(maxsize=4)
def radius(workload: Workload, kind: str) -> float:
    """Return the radius within which a query has about a hundred results, from faiss's own distances."""
    import faiss

    index = (ivf_index if kind == "ivf" else flat_index)(faiss, workload, "cpu")
    xq = queries(workload)[:512]
    # queries differ in how many results they have: enough of each are looked at for the mean over all
    distances = np.sort(index.search(xq, min(2000, workload.nb))[0], axis=None)
    if workload.metric == "IP":
        distances = distances[::-1]
    return float(distances[min(IN_RANGE * len(xq), len(distances) // 2)])


def ivf_range_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search the probed lists of an IVF-Flat index for all within a radius."""
    index, xq, limit = ivf_index(faiss, workload, device), batches(workload), radius(workload, "ivf")
    return lambda: (*index.range_search(next(xq), limit), limit)


def flat_range_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search a flat index for all within a radius."""
    index, xq, limit = flat_index(faiss, workload, device), batches(workload), radius(workload, "flat")
    return lambda: (*index.range_search(next(xq), limit), limit)


def selected(faiss: Any, workload: Workload, share: float) -> Any:
    """Return a selector of a share of the ids, chosen at random."""
    ids = np.random.default_rng(3).permutation(workload.nb)[: max(workload.k, int(share * workload.nb))]
    return faiss.IDSelectorBatch(ids)


def ivf_filtered_search(faiss: Any, workload: Workload, device: str, share: float) -> Task:
    """Search an IVF-Flat index for vectors that a selector selects."""
    index = ivf_index(faiss, workload, device)
    xq, sel = batches(workload), selected(faiss, workload, share)
    params = faiss.SearchParametersIVF(nprobe=workload.nprobe, sel=sel)
    return lambda: (*index.search(next(xq), workload.k, params=params), getattr(index, "last_path", None))


def flat_filtered_search(faiss: Any, workload: Workload, device: str, share: float) -> Task:
    """Search a flat index for vectors that a selector selects."""
    index = flat_index(faiss, workload, device)
    xq, sel = batches(workload), selected(faiss, workload, share)
    params = faiss.SearchParameters(sel=sel)
    return lambda: index.search(next(xq), workload.k, params=params)


def list_sizes(index: Any) -> Array:
    """Return how many vectors each inverted list has."""
    return np.array([index.invlists.list_size(i) for i in range(index.nlist)])


def ivf_build(faiss: Any, workload: Workload, device: str) -> Task:
    """Train an IVF-Flat index and add the database to it."""
    xb = database(workload)

    def build() -> tuple[Array, Array]:
        index = on_device(faiss, faiss.index_factory(workload.d, f"IVF{workload.nlist},Flat"), device)
        index.train(xb)
        index.add(xb)
        return index.quantizer.reconstruct_n(0, index.nlist), list_sizes(index)

    return build


def ivf_add(faiss: Any, workload: Workload, device: str, calls: int) -> Task:
    """Add the database, in so many calls, to an index whose centroids are the same for both implementations."""
    index = on_device(faiss, faiss.deserialize_index(index_bytes(workload)), device)
    parts = np.array_split(database(workload), calls)

    def add() -> tuple[Array]:
        index.reset()
        for part in parts:
            index.add(part)
        return (list_sizes(index),)

    return add


def kmeans(faiss: Any, workload: Workload, device: str, theirs: str = "Kmeans") -> Task:
    """Cluster the database; faiss does it by the class named."""
    xb = database(workload)
    name = theirs if faiss.__name__ == "faiss" else "Kmeans"
    gpu = {"gpu": True} if device != "cpu" else {}

    def cluster() -> tuple[Array, Array]:
        clustering = getattr(faiss, name)(workload.d, workload.nlist, niter=workload.niter, **gpu)
        clustering.train(xb)
        return clustering.centroids, clustering.obj

    return cluster


@functools.lru_cache(maxsize=4)
def exact_neighbours(workload: Workload) -> Array:
    """Return the ids of a workload's exact neighbours, shape (nq, k), by faiss."""
    import faiss

    return flat_index(faiss, workload, "cpu").search(queries(workload), workload.k)[1]


def recall(workload: Workload, I: Array) -> float:
    """Return the share of the k exact neighbours that a search found."""
    exact = exact_neighbours(workload.with_(nprobe=1, path=None))
    return share_found(exact, I)


def share_found(exact: Array, I: Array) -> float:
    """Return the share of the ids in the rows of one array that stand in the same row of another."""
    return float(np.mean([np.isin(row, found).mean() for row, found in zip(exact, I, strict=True)]))


#: What a case can do. Memory and the import are measured in processes of their own (`own_process`).
WORK: dict[str, Callable[..., Task]] = {
    "ivf_search": ivf_search,
    "flat_search": flat_search,
    "ivf_range_search": ivf_range_search,
    "flat_range_search": flat_range_search,
    "ivf_filtered_search": ivf_filtered_search,
    "flat_filtered_search": flat_filtered_search,
    "ivf_build": ivf_build,
    "ivf_add": ivf_add,
    "kmeans": kmeans,
}
