"""Other libraries to measure beside: what each can do of the cases, through its public interface.

The rival's code is not part of this project: a rival is measured where it is installed. Its task gets the same
vectors as this library's, and where it has an inverted file, the same centroids and lists.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device_work
from .cases import Case, Workload
from .data import database, queries
from .registry import prepare
from .work import Task, index_bytes

Adapter = Callable[[Workload, str], Task]


@dataclasses.dataclass(frozen=True)
class Rival:
    """A library, what installs it, what it can do (by the names of `registry`), and what is to be known of it."""

    module: str
    install: str
    work: dict[str, Adapter]
    note: str = ""


def _torch() -> Any:
    import torch

    return torch


def _tensor(x: Any, device: str) -> Any:
    return _torch().from_numpy(np.ascontiguousarray(x)).to(device)


def _numpy(results: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tensor.cpu().numpy() for tensor in results)


def _lists(workload: Workload) -> tuple[Any, Any, Any, Any]:
    """Return centroids, offsets of lists, vectors and ids in the order of the lists, of the index carried over."""
    import faiss

    index: Any = faiss.deserialize_index(index_bytes(workload))
    lists = index.invlists
    ids = [faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)) for i in range(index.nlist)]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in ids])])
    order = np.concatenate(ids)
    return index.quantizer.reconstruct_n(0, index.nlist), offsets, database(workload)[order], order


# torch-ivf: IndexIVFFlat and IndexFlatL2 / IndexFlatIP on tensors, state_dict for the trained index


def torch_ivf_search(workload: Workload, device: str) -> Task:
    """Search torch-ivf's IVF-Flat with the lists of the case, path "auto"."""
    from torch_ivf.index import IndexIVFFlat

    centroids, offsets, vectors, ids = _lists(workload)
    index = IndexIVFFlat(workload.d, metric=workload.metric.lower(), nlist=workload.nlist, device=device)
    index.load_state_dict(
        {
            "centroids": _tensor(centroids, device),
            "list_offsets": _tensor(offsets, device),
            "packed_embeddings": _tensor(vectors, device),
            "list_ids": _tensor(ids, device),
        }
    )
    index.nprobe, index.search_mode = workload.nprobe, workload.path or "auto"
    xq = _tensor(queries(workload), device)
    return lambda: _numpy(index.search(xq, workload.k))


def torch_ivf_flat(workload: Workload, device: str) -> Task:
    """Search torch-ivf's flat index."""
    module = importlib.import_module("torch_ivf.index")
    index = getattr(module, f"IndexFlat{workload.metric}")(workload.d, device=device)
    index.add(_tensor(database(workload), device))
    xq = _tensor(queries(workload), device)
    return lambda: _numpy(index.search(xq, workload.k))


def torch_ivf_kmeans(workload: Workload, device: str) -> Task:
    """Cluster by torch-ivf."""
    from torch_ivf.nn import kmeans

    xb = _tensor(database(workload), device)

    def cluster() -> tuple[Any]:
        generator = _torch().Generator().manual_seed(1234)
        found = kmeans(xb, workload.nlist, max_iter=workload.niter, tol=-1.0, generator=generator)
        return (found.centroids.cpu().numpy(),)

    return cluster


# flash-kmeans: FlashKMeans on tensors of shape (n, d)


def flash_kmeans(workload: Workload, device: str) -> Task:
    """Cluster by flash-kmeans."""
    from flash_kmeans import FlashKMeans

    xb = _tensor(database(workload), device)
    gpu = device != "cpu"

    def cluster() -> tuple[Any]:
        torch = _torch()
        found = FlashKMeans(
            workload.d, workload.nlist, niter=workload.niter, tol=-1.0, use_triton=gpu, device=torch.device(device)
        )
        found.train(xb)
        return (found.centroids_b.reshape(workload.nlist, workload.d).cpu().numpy(),)

    return cluster


# flashlib: flash_knn, IvfFlatIndex with flash_ivf_flat_search, flash_kmeans


def flashlib_search(workload: Workload, device: str) -> Task:
    """Search flashlib's IVF-Flat with the lists of the case."""
    search = flashlib_device_ivf(workload, device)
    return lambda: _numpy(search())


def flashlib_device_ivf(workload: Workload, device: str) -> Task:
    """Do that, with results that stay on the device."""
    from flashlib import IvfFlatIndex, flash_ivf_flat_search

    centroids, offsets, vectors, ids = _lists(workload)
    index = IvfFlatIndex(
        centroids=_tensor(centroids, device),
        data=_tensor(vectors, device),
        ids=_tensor(ids, device),
        list_offsets=_tensor(offsets, device),
        metric="l2",
        D=workload.d,
        Dp=workload.d,
        nlist=workload.nlist,
        nprobe=workload.nprobe,
        max_list_len=int(np.diff(offsets).max()),
    )
    xq = _tensor(queries(workload), device)
    return lambda: flash_ivf_flat_search(index, xq, workload.k)


def flashlib_flat(workload: Workload, device: str) -> Task:
    """Search all vectors by flashlib."""
    from flashlib.primitives.knn import flash_knn_dispatch

    xb, xq = _tensor(database(workload), device), _tensor(queries(workload), device)
    return lambda: _numpy(flash_knn_dispatch(xq, xb, workload.k))


def flashlib_kmeans(workload: Workload, device: str) -> Task:
    """Cluster by flashlib."""
    from flashlib import flash_kmeans as cluster_by_flashlib

    xb = _tensor(database(workload), device)

    def cluster() -> tuple[Any]:
        _torch().manual_seed(1234)
        _, centroids, *_ = cluster_by_flashlib(xb, workload.nlist, max_iters=workload.niter, tol=-1.0)
        return (centroids.reshape(workload.nlist, workload.d).cpu().numpy(),)

    return cluster


# flash-kmeans and flashlib on vectors of a device


def _flash(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _flash_kmeans_of(module: str, name: str) -> Adapter:
    def prepare_task(workload: Workload, device: str) -> Task:
        x = device_work.vectors(workload, device)
        sets, start = x.view(workload.sets, workload.nb, workload.d), device_work.first_centroids(workload, x)
        cluster = _flash(module, name)
        settings = {"max_iters": workload.niter, "tol": -1.0}
        return lambda: (cluster(sets, workload.nlist, init_centroids=start, **settings)[1].cpu(),)

    return prepare_task


def _flash_kmeans_of_host(module: str) -> Adapter:
    def prepare_task(workload: Workload, device: str) -> Task:
        x = device_work.vectors_of_host(workload, device)
        start = device_work.first_centroids(workload, x)[0].to(device)
        cluster = _flash(module, "kmeans_largeN")
        settings = {"max_iters": workload.niter, "tol": -1.0, "device": _torch().device(device)}
        return lambda: (cluster(x, workload.nlist, init_centroids=start, **settings)[1].cpu(),)

    return prepare_task


def flash_kmeans_nearest(workload: Workload, device: str) -> Task:
    """Find the closest centroids of vectors of a device by flash-kmeans, which is given the squares of the vectors."""
    x = device_work.vectors(workload, device)
    start, squares = device_work.first_centroids(workload, x), x.float().square().sum(1).to(x.dtype)[None]
    assign = _flash("flash_kmeans.assign_euclid_triton", "euclid_assign_triton")
    return lambda: (assign(x[None], start, x_sq=squares)[0],)


def flashlib_nearest(workload: Workload, device: str) -> Task:
    """Find the closest centroids of vectors of a device by flashlib's Triton kernel."""
    x = device_work.vectors(workload, device)
    start = device_work.first_centroids(workload, x)
    assign = _flash("flashlib.primitives.kmeans", "euclid_assign_triton")
    return lambda: (assign(x[None], start)[0],)


def flashlib_device_flat(workload: Workload, device: str) -> Task:
    """Search all vectors of a device by flashlib."""
    from flashlib.primitives.knn import flash_knn_dispatch

    xb, xq = device_work.database_and_queries(workload, device)
    return lambda: flash_knn_dispatch(xq, xb, workload.k)


def _flash_on_device(module: str, kmeans: str, nearest: Adapter) -> dict[str, Adapter]:
    """Return what is done with vectors of a device."""
    return {
        "device_kmeans": _flash_kmeans_of(module, kmeans),
        "device_batch_kmeans": _flash_kmeans_of(module, kmeans),
        "host_kmeans": _flash_kmeans_of_host(module),
        "device_nearest": nearest,
    }


WITHOUT_GPU = "without a GPU this is its plain torch form"

RIVALS = {
    "torch-ivf": Rival(
        "torch_ivf",
        "python -m pip install torch-ivf (Python 3.12 or later)",
        {"ivf_search": torch_ivf_search, "flat_search": torch_ivf_flat, "kmeans": torch_ivf_kmeans},
    ),
    "flash-kmeans": Rival(
        "flash_kmeans",
        "python -m pip install flash-kmeans triton",
        {"kmeans": flash_kmeans, **_flash_on_device("flash_kmeans", "batch_kmeans_Euclid", flash_kmeans_nearest)},
        WITHOUT_GPU,
    ),
    "flashlib": Rival(
        "flashlib",
        "python -m pip install flashlib (with triton)",
        {
            "ivf_search": flashlib_search,
            "flat_search": flashlib_flat,
            "kmeans": flashlib_kmeans,
            "device_flat": flashlib_device_flat,
            "device_ivf": flashlib_device_ivf,
            **_flash_on_device("flashlib.primitives.kmeans", "flash_kmeans", flashlib_nearest),
        },
        WITHOUT_GPU,
    ),
    "torch": Rival(
        "torch",
        "python -m pip install torch",
        {"device_flat": device_work.torch_flat, "device_hamming": device_work.torch_hamming},
        "what one would write in plain torch",
    ),
}
NAMES = ("faiss-cpu", *RIVALS)


class CannotDo(Exception):
    """A rival has nothing that does a case."""


def missing(name: str) -> str | None:
    """Return what to install, if a rival cannot be imported."""
    module, install = ("faiss", "python -m pip install faiss-cpu") if name == "faiss-cpu" else _of(name)
    try:
        importlib.import_module(module)
    except ImportError as error:
        return f"{name} is not installed ({error}): {install}"
    return None


def _of(name: str) -> tuple[str, str]:
    return RIVALS[name].module, RIVALS[name].install


def set_threads(name: str, threads: int) -> None:
    """Let a rival use so many threads."""
    if name == "faiss-cpu":
        importlib.import_module("faiss").omp_set_num_threads(threads)
    else:
        _torch().set_num_threads(threads)


def prepare_rival(name: str, case: Case) -> Task:
    """Return a rival's task for a case.

    Raises
    ------
    CannotDo
        If the rival has nothing that does it.
    """
    if name == "faiss-cpu":
        return prepare(case, importlib.import_module("faiss"))
    rival = RIVALS[name]
    if case.work not in rival.work or (case.workload.metric != "L2" and name == "flashlib"):
        raise CannotDo(f"{name} has no {case.work} by {case.workload.metric}")
    if case.measure != "times":
        raise CannotDo(f"{case.name} is measured beside faiss-cpu alone")
    return rival.work[case.work](case.workload, case.device)
