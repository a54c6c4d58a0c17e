"""What is done on a GPU alone, with vectors that are made there, or in page-locked memory, in any number.

In k-means all sides start from the same centroids and make the same number of iterations. Figures of a record beside
the ratio: the time of one iteration, and the share of what the card's own matrix product in 16 bits and its own copy of
memory reach.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import compare
from .cases import Case, Workload
from .data import queries
from .work import ivf_index

Task = Callable[[], Any]

#: Vectors that are made, or looked at, at a time.
BLOCK = 1 << 20

#: Queries whose neighbours are compared with those of faiss.
COMPARED = 64

#: Vectors whose labels are compared with those of float64.
LOOKED_AT = 4096


def _made(workload: Workload, device: str, room: torch.Tensor) -> torch.Tensor:
    """Fill room of shape (n, d) with standard normal vectors, made on a device."""
    generator = torch.Generator(device).manual_seed(1)
    for begin in range(0, len(room), BLOCK):
        part = room[begin : begin + BLOCK]
        part.copy_(torch.randn(part.shape, generator=generator, device=device))
    return room


@functools.lru_cache(maxsize=1)
def vectors(workload: Workload, device: str) -> torch.Tensor:
    """Return vectors on a device: shape (sets * nb, d)."""
    shape = (workload.sets * workload.nb, workload.d)
    return _made(workload, device, torch.empty(shape, dtype=getattr(torch, workload.dtype), device=device))


@functools.lru_cache(maxsize=1)
def vectors_of_host(workload: Workload, device: str) -> torch.Tensor:
    """Return vectors in memory of the host, page-locked where there is a GPU: shape (nb, d)."""
    dtype, pinned = getattr(torch, workload.dtype), device != "cpu"
    room = torch.empty((workload.nb, workload.d), dtype=dtype, pin_memory=pinned)
    return _made(workload, device, room)


def first_centroids(workload: Workload, x: torch.Tensor) -> torch.Tensor:
    """Return vectors to start from, spread over all, in the dtype of `x`: shape (sets, nlist, d)."""
    step = workload.nb // workload.nlist
    sets = x.view(workload.sets, workload.nb, workload.d)
    return sets[:, : step * workload.nlist : step].contiguous()


def device_kmeans(faiss: Any, workload: Workload, device: str) -> Task:
    """Cluster vectors of a device by so many iterations."""
    return _kmeans(faiss, workload, device, vectors(workload, device))


def host_kmeans(faiss: Any, workload: Workload, device: str) -> Task:
    """Cluster vectors of the host on a device."""
    return _kmeans(faiss, workload, device, vectors_of_host(workload, device))


def _kmeans(faiss: Any, workload: Workload, device: str, x: torch.Tensor) -> Task:
    settings = {"max_points_per_centroid": workload.nb, "min_points_per_centroid": 1, "early_stop_threshold": -1.0}
    start = first_centroids(workload, x)[0].float()

    def cluster() -> tuple[Any]:
        kmeans = faiss.Kmeans(workload.d, workload.nlist, niter=workload.niter, gpu=int(device != "cpu"), **settings)
        kmeans.train(x, init_centroids=start)
        return (kmeans.centroids.cpu(),)

    return cluster


def device_batch_kmeans(faiss: Any, workload: Workload, device: str) -> Task:
    """Cluster several sets of vectors of a device at once."""
    x = vectors(workload, device)
    sets, start = x.view(workload.sets, workload.nb, workload.d), first_centroids(workload, x).float()

    def cluster() -> tuple[Any]:
        found = faiss.batch_kmeans(sets, workload.nlist, niter=workload.niter, init_centroids=start)
        return (found[0].cpu(),)

    return cluster


def device_nearest(faiss: Any, workload: Workload, device: str) -> Task:
    """Find the closest centroid of vectors of a device."""
    from faiss_torch.ops.clustering.nearest import nearest_labels

    x = vectors(workload, device)
    centroids = first_centroids(workload, x)[0].float()
    return lambda: (nearest_labels(x, centroids, faiss.METRIC_L2),)


@functools.lru_cache(maxsize=1)
def database_and_queries(workload: Workload, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 vectors on a device: shapes (nb, d) and (nq, d)."""
    made = _made(workload, device, torch.empty(workload.nb + workload.nq, workload.d, device=device))
    return made[: workload.nb], made[workload.nb :]


@functools.lru_cache(maxsize=1)
def codes_and_queries(workload: Workload, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes of d bits on a device: shapes (nb, d / 8) and (nq, d / 8)."""
    generator = torch.Generator(device).manual_seed(1)
    shape = (workload.nb + workload.nq, workload.d // 8)
    made = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator, device=device)
    return made[: workload.nb], made[workload.nb :]


def device_flat(faiss: Any, workload: Workload, device: str) -> Task:
    """Search all vectors of a device for queries that are there."""
    xb, xq = database_and_queries(workload, device)
    index = faiss.IndexFlatL2(workload.d).to(device)
    index.add(xb)
    return lambda: index.search(xq, workload.k)


def device_ivf(faiss: Any, workload: Workload, device: str) -> Task:
    """Search an IVF-Flat index of a device for queries that are there; faiss has both in memory of the host."""
    index, xq = ivf_index(faiss, workload, device), queries(workload)
    if faiss.__name__ == "faiss":
        return lambda: index.search(xq, workload.k)
    there = torch.from_numpy(np.ascontiguousarray(xq)).to(device)
    return lambda: index.search(there, workload.k)


def device_hamming(faiss: Any, workload: Workload, device: str) -> Task:
    """Find the nearest codes of a device for queries that are there."""
    xb, xq = codes_and_queries(workload, device)
    return lambda: faiss.knn_hamming(xq, xb, workload.k)


def torch_flat(workload: Workload, device: str) -> Task:
    """Do it by torch's product and topk, in tiles of queries."""
    xb, xq = database_and_queries(workload, device)
    halves = xb.square().sum(1).mul_(0.5)

    def search() -> tuple[torch.Tensor, torch.Tensor]:
        found = [torch.addmm(halves, part, xb.T, alpha=-1).topk(workload.k, largest=False) for part in xq.split(512)]
        scores, I = (torch.cat(each) for each in zip(*found, strict=True))
        return scores.mul(2).add_(xq.square().sum(1, keepdim=True)), I

    return search


def torch_hamming(workload: Workload, device: str) -> Task:
    """Do it by torch's xor and a table of the bits of a byte, in tiles of codes."""
    xb, xq = codes_and_queries(workload, device)
    table = torch.tensor([number.bit_count() for number in range(256)], dtype=torch.uint8, device=device)

    def of_query(query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [table[(part ^ query).int()].sum(1, dtype=torch.int32) for part in xb.split(BLOCK)]
        return torch.cat(parts).topk(workload.k, largest=False)

    def search() -> tuple[torch.Tensor, torch.Tensor]:
        D, I = (torch.stack(each) for each in zip(*map(of_query, xq), strict=True))
        return D, I

    return search


WORK: dict[str, Callable[..., Task]] = {
    "device_flat": device_flat,
    "device_ivf": device_ivf,
    "device_hamming": device_hamming,
    "device_kmeans": device_kmeans,
    "host_kmeans": host_kmeans,
    "device_batch_kmeans": device_batch_kmeans,
    "device_nearest": device_nearest,
}


# what results are worth


def labels_right(workload: Workload, device: str, labels: torch.Tensor) -> float:
    """Return the share of labels that are those of float64, or as close within a millionth."""
    x = vectors(workload, device)
    rows = torch.arange(0, len(x), max(1, len(x) // LOOKED_AT), device=x.device)
    centroids, part = first_centroids(workload, x)[0].double(), x[rows].double()
    distances = torch.cat(
        [torch.cdist(each, centroids, compute_mode="donot_use_mm_for_euclid_dist") for each in part.split(256)]
    )
    found = distances.gather(1, labels.view(-1)[rows].long()[:, None])[:, 0]
    return float((found <= distances.amin(1) * (1 + 1e-6)).double().mean())


def same_labels(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Say whether our labels are those of float64; rivals round to 16 bits, so theirs are not asked for."""
    right = labels_right(workload, "cuda" if ours[0].is_cuda else "cpu", ours[0])
    return None if right == 1 else f"{1 - right:.2%} of the labels are not those of float64"


def same_distances(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare the distances of neighbours, which are integers."""
    return None if torch.equal(theirs[0].cpu().int(), ours[0].cpu().int()) else "distances differ"


def same_neighbours(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Say whether ours are the exact neighbours of some queries; rivals may round, so theirs are not asked for."""
    xb, xq = database_and_queries(workload, "cuda" if ours[0].is_cuda else "cpu")
    for number in range(0, len(xq), max(1, len(xq) // 64)):
        distances = (xb - xq[number]).square_().sum(1)
        exact = distances.topk(workload.k, largest=False)[0]
        if not torch.allclose(distances[ours[1][number]].sort()[0], exact, rtol=1e-5):
            return f"query {number} has other neighbours"
    return None


@functools.lru_cache(maxsize=2)
def _found_by_faiss(workload: Workload) -> tuple[Any, Any]:
    import faiss

    return ivf_index(faiss, workload, "cpu").search(queries(workload)[:COMPARED], workload.k)


def same_in_lists(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Say whether ours are what faiss finds in the same lists for some queries; rivals round, and are not asked."""
    expected, found = _found_by_faiss(workload.with_(path=None)), (each[:COMPARED].cpu().numpy() for each in ours[:2])
    return compare.same_neighbours(expected, tuple(found), workload)


def device_objective(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare what centroids are worth, by distances to them of the first vectors of the first set."""
    from faiss_torch import METRIC_L2
    from faiss_torch.ops.clustering.nearest import nearest

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = _made(workload, device, torch.empty(min(BLOCK, workload.nb), workload.d, device=device))
    reference, found = (
        float(nearest(x, each[0].to(device).float().reshape(-1, workload.nlist, workload.d)[0], METRIC_L2)[0].sum())
        for each in (theirs, ours)
    )
    return None if found <= 1.005 * reference else f"the objective is {found:.6g}, the other's {reference:.6g}"


COMPARISONS: dict[str, compare.Comparison] = {
    "labels": same_labels,
    "device_objective": device_objective,
    "device_neighbours": same_neighbours,
    "device_distances": same_distances,
    "device_lists": same_in_lists,
}


# what the card can do


@functools.cache
def peaks() -> dict[str, float]:
    """Return what a GPU reaches: operations a second of a product of matrices in bfloat16, and bytes a second of a copy
    of memory, those read and those written."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source, target = (torch.empty(1 << 30, device="cuda", dtype=torch.uint8) for _ in range(2))
    return {
        "product": 2 * 8192**3 / min(gpu_seconds(lambda: a @ b)),
        "copy": 2 * len(source) / min(gpu_seconds(lambda: target.copy_(source))),
    }


def gpu_seconds(task: Task, repeats: int = 8) -> list[float]:
    """Return the seconds that the GPU worked on each run of a task."""
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        task()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return times


def shares_of_peak(case: Case, seconds: float) -> dict[str, Any]:
    """Return what is made of the card in one run of a case: the time of an iteration, and shares of its peaks."""
    workload = case.workload
    if case.work == "device_flat":
        share = 2 * workload.nq * workload.nb * workload.d / seconds / peaks()["product"]
        return {"share_of_product": round(share, 4), "peaks": peaks()}
    if case.work == "device_ivf":
        rows = workload.nq * workload.nprobe * workload.nb / workload.nlist
        return {"share_of_product": round(2 * rows * workload.d / seconds / peaks()["product"], 4), "peaks": peaks()}
    if case.work == "device_hamming":
        share = workload.nb * workload.d / 8 / seconds / peaks()["copy"]
        return {"share_of_copy": round(share, 4), "peaks": peaks()}
    turns = 1 if case.work == "device_nearest" else workload.niter
    n = workload.sets * workload.nb
    read = n * workload.d * np.dtype(workload.dtype).itemsize * (1 if case.work == "device_nearest" else 2)
    peak = peaks()
    return {
        "seconds_of_iteration": seconds / turns,
        "share_of_product": round(2 * n * workload.d * workload.nlist * turns / seconds / peak["product"], 4),
        "share_of_copy": round(read * turns / seconds / peak["copy"], 4),
        "peaks": peak,
    }
