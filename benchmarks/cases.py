"""What is measured: one row for each case, and what the two implementations do in it.

A task gets an implementation's module (faiss or faiss_torch), does its work once and returns what is to be
compared. What is not to be timed happens in ``prepare``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Task = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Standard normal vectors, and how they are indexed and searched."""

    nb: int = 262_144
    d: int = 128
    nlist: int = 512
    nprobe: int = 32
    nq: int = 2048
    k: int = 20
    niter: int = 25

    def scaled(self, scale: float) -> Workload:
        """Return the same in small, to try a benchmark out."""

        def smaller(n: int, least: int) -> int:
            return max(least, int(n * scale))

        return dataclasses.replace(
            self,
            nb=smaller(self.nb, 1000),
            nq=min(self.nq, smaller(self.nq, 4)),
            nlist=smaller(self.nlist, 8),
            nprobe=smaller(self.nprobe, 4),
        )


@functools.cache
def normal_vectors(n: int, d: int, seed: int) -> Array:
    """Return standard normal float32 vectors, shape (n, d)."""
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def database(workload: Workload) -> Array:
    """Return the vectors to be indexed."""
    return normal_vectors(workload.nb, workload.d, 1)


def queries(workload: Workload) -> Array:
    """Return the vectors to be searched for."""
    return normal_vectors(workload.nq, workload.d, 2)


@functools.cache
def index_bytes(nb: int, d: int, nlist: int) -> Array:
    """Return an IVF-Flat index over the database, trained and filled by faiss, as the bytes of its file."""
    import faiss

    vectors = normal_vectors(nb, d, 1)
    index = faiss.index_factory(d, f"IVF{nlist},Flat")
    index.train(vectors)
    index.add(vectors)
    return faiss.serialize_index(index)


def on_device(faiss: Any, index: Any, device: str) -> Any:
    """Move an index of this library to a device; faiss-cpu's stays where it is."""
    if faiss.__name__ == "faiss" or device == "cpu":
        return index
    return index.to(device)


def ivf_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search an IVF-Flat index whose lists are the same for both implementations."""
    index = faiss.deserialize_index(index_bytes(workload.nb, workload.d, workload.nlist))
    index = on_device(faiss, index, device)
    index.nprobe = workload.nprobe
    xq = queries(workload)
    return lambda: (*index.search(xq, workload.k), getattr(index, "last_path", None))


def flat_search(faiss: Any, workload: Workload, device: str) -> Task:
    """Search a flat index."""
    index = on_device(faiss, faiss.IndexFlatL2(workload.d), device)
    index.add(database(workload))
    xq = queries(workload)
    return lambda: (*index.search(xq, workload.k), getattr(index, "last_path", None))


def selected(faiss: Any, workload: Workload, share: float) -> Any:
    """Return a selector of a share of the ids, chosen at random."""
    ids = np.random.default_rng(3).permutation(workload.nb)[: max(workload.k, int(share * workload.nb))]
    return faiss.IDSelectorBatch(ids)


def ivf_filtered_search(faiss: Any, workload: Workload, device: str, share: float) -> Task:
    """Search an IVF-Flat index for vectors that a selector selects."""
    index = faiss.deserialize_index(index_bytes(workload.nb, workload.d, workload.nlist))
    index = on_device(faiss, index, device)
    xq, sel = queries(workload), selected(faiss, workload, share)
    params = faiss.SearchParametersIVF(nprobe=workload.nprobe, sel=sel)
    return lambda: (*index.search(xq, workload.k, params=params), getattr(index, "last_path", None))


def flat_filtered_search(faiss: Any, workload: Workload, device: str, share: float) -> Task:
    """Search a flat index for vectors that a selector selects."""
    index = on_device(faiss, faiss.IndexFlatL2(workload.d), device)
    index.add(database(workload))
    xq, sel = queries(workload), selected(faiss, workload, share)
    params = faiss.SearchParameters(sel=sel)
    return lambda: (*index.search(xq, workload.k, params=params), None)


def ivf_build(faiss: Any, workload: Workload, device: str) -> Task:
    """Train an IVF-Flat index and add the database to it."""
    xb = database(workload)

    def build() -> tuple[Array, Array]:
        index = on_device(faiss, faiss.index_factory(workload.d, f"IVF{workload.nlist},Flat"), device)
        index.train(xb)
        index.add(xb)
        sizes = np.array([index.invlists.list_size(i) for i in range(index.nlist)])
        return index.quantizer.reconstruct_n(0, index.nlist), sizes

    return build


def ivf_add(faiss: Any, workload: Workload, device: str, calls: int) -> Task:
    """Add the database, in so many calls, to an index whose centroids are the same for both implementations."""
    index = faiss.deserialize_index(index_bytes(workload.nb, workload.d, workload.nlist))
    index = on_device(faiss, index, device)
    parts = np.array_split(database(workload), calls)

    def add() -> tuple[Array]:
        index.reset()
        for part in parts:
            index.add(part)
        return (np.array([index.invlists.list_size(i) for i in range(index.nlist)]),)

    return add


def kmeans(faiss: Any, workload: Workload, device: str) -> Task:
    """Cluster the database."""
    xb = database(workload)

    def cluster() -> tuple[Array, Array]:
        clustering = faiss.Kmeans(workload.d, workload.nlist, niter=workload.niter, gpu=device != "cpu")
        clustering.train(xb)
        return clustering.centroids, clustering.obj

    return cluster


def same_neighbours(theirs: tuple, ours: tuple) -> str | None:
    """Compare results of a search, but for ties and rounding; return what is wrong, or None."""
    from faiss_torch.contrib.evaluation import check_ref_knn_with_draws

    try:
        check_ref_knn_with_draws(*theirs[:2], *ours[:2], rtol=1e-5, atol=1e-4)
    except AssertionError as difference:
        return str(difference)
    return None


def same_centroids(theirs: tuple, ours: tuple) -> str | None:
    """Compare centroids, and list sizes or objectives; return what is wrong, or None.

    Rounding may move a vector on the border between two centroids to the other one, which moves both: a small
    share of the centroids may differ.
    """
    differing = 1 - np.mean(np.isclose(theirs[0], ours[0], rtol=1e-4, atol=1e-4).all(axis=1))
    if differing > 0.05:
        return f"{differing:.1%} of the centroids differ"
    if len(theirs[1]) == len(ours[1]) and np.abs(np.subtract(theirs[1], ours[1])).sum() > 1e-3 * np.sum(theirs[1]):
        return "list sizes or objectives differ by more than 0.1%"
    return None


def same_sizes(theirs: tuple, ours: tuple) -> str | None:
    """Compare list sizes, in which rounding may put a vector between two centroids with the other one."""
    differing = np.abs(theirs[0] - ours[0]).sum() / 2
    if theirs[0].sum() != ours[0].sum() or differing > 1e-4 * theirs[0].sum():
        return f"{differing:g} vectors are in other lists"
    return None


@dataclasses.dataclass(frozen=True)
class Case:
    """A name, what is done, on which workload, and how results are compared."""

    name: str
    prepare: Callable[[Any, Workload, str], Task]
    compare: Callable[[tuple, tuple], str | None]
    workload: Workload
    repeats: int = 5
    suite: str = "cpu"

    @property
    def device(self) -> str:
        """Where this library works; faiss-cpu always works on the CPU."""
        return "cuda" if self.suite == "gpu" else "cpu"


S = Workload()
MILLION = dataclasses.replace(S, nb=1_000_000)
SMALL = dataclasses.replace(S, nb=20_480, niter=10)

CASES = (
    Case("ivf_build", ivf_build, same_centroids, S),
    Case("ivf_add_one_call", functools.partial(ivf_add, calls=1), same_sizes, MILLION),
    Case("ivf_add_1000_calls", functools.partial(ivf_add, calls=1000), same_sizes, MILLION),
    Case("ivf_search_nq19600", ivf_search, same_neighbours, dataclasses.replace(S, nq=19_600)),
    Case("ivf_search_nq2048", ivf_search, same_neighbours, S, repeats=9),
    Case("ivf_search_nq512", ivf_search, same_neighbours, dataclasses.replace(S, nq=512), repeats=15),
    Case("ivf_search_nq32", ivf_search, same_neighbours, dataclasses.replace(S, nq=32), repeats=31),
    Case("ivf_search_nq1", ivf_search, same_neighbours, dataclasses.replace(S, nq=1), repeats=101),
    Case("flat_search_nq2048", flat_search, same_neighbours, dataclasses.replace(S, k=10), repeats=7),
    *(
        Case(
            f"{kind}_filtered_{percent}_percent_nq{nq}",
            functools.partial(search, share=percent / 100),
            same_neighbours,
            dataclasses.replace(S, nq=nq),
            repeats,
        )
        for kind, search, nq, repeats in (
            ("ivf", ivf_filtered_search, 2048, 7),
            ("ivf", ivf_filtered_search, 32, 31),
            ("ivf", ivf_filtered_search, 1, 101),
            ("flat", flat_filtered_search, 64, 7),
        )
        for percent in (50, 1)
    ),
    Case("kmeans_20480", kmeans, same_centroids, SMALL, repeats=7),
    Case("gpu_ivf_build", ivf_build, same_centroids, S, suite="gpu"),
    Case("gpu_ivf_search_nq19600", ivf_search, same_neighbours, dataclasses.replace(S, nq=19_600), suite="gpu"),
    Case("gpu_flat_search_nq2048", flat_search, same_neighbours, dataclasses.replace(S, k=10), suite="gpu"),
)
