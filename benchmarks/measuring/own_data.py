"""A user's own vectors: ``python -m benchmarks.run --data /path/sift-128-euclidean.hdf5`` (or a folder of .fvecs).

An IVF-Flat index is built by both sides; then both search faiss's, carried over by bytes, at several nprobe.
"""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Callable
from typing import Any

from ..workloads.cases import Workload
from ..workloads.compare import same_neighbours
from ..workloads.data import Array, Dataset
from ..workloads.goals import OURS, number, quartiles
from ..workloads.work import metric_of, share_found
from .measure import seconds

NPROBE = (1, 2, 4, 8, 16, 32, 64, 128)
SIDES = ("faiss", OURS)


def default_nlist(nb: int) -> int:
    """Return a power of two near 4 sqrt(nb), with at least 39 vectors for each list."""
    return max(1, min(2 ** round(math.log2(4 * math.sqrt(nb))), 2 ** int(math.log2(max(1.0, nb / 39)))))


def ground_truth(dataset: Dataset, k: int) -> Array:
    """Return the ids of the exact neighbours, shape (nq, k): the file's own, or worked out by faiss."""
    if dataset.neighbours is not None and dataset.neighbours.shape[1] >= k:
        return dataset.neighbours[:, :k]
    import faiss

    index = faiss.IndexFlat(dataset.xb.shape[1], metric_of(Workload(metric=dataset.metric)))
    index.add(dataset.xb)
    return index.search(dataset.xq, k)[1]


def _built(module: Any, dataset: Dataset, nlist: int) -> Callable[[], Any]:
    def build() -> Any:
        metric = metric_of(Workload(metric=dataset.metric))
        index = module.index_factory(dataset.xb.shape[1], f"IVF{nlist},Flat", metric)
        index.train(dataset.xb)
        index.add(dataset.xb)
        return index

    return build


def rows(dataset: Dataset, nlist: int, k: int, threads: int, repeats: int = 3) -> list[dict[str, Any]]:
    """Measure building, and searching at several nprobe.

    Returns
    -------
    list of dict
        For each step its name, the seconds of each run by side, and for a search the recall of both sides and what
        is wrong with the results (None, if nothing is).
    """
    modules = {side: importlib.import_module(side) for side in SIDES}
    for module in modules.values():
        module.omp_set_num_threads(threads)
    built: dict[str, Any] = {}
    runs: dict[str, list[float]] = {}
    for side, module in modules.items():
        build = _built(module, dataset, nlist)
        runs[side] = [seconds(lambda side=side, build=build: built.update({side: build()}))]  # type: ignore[misc]
    found: list[dict[str, Any]] = [{"step": f"build IVF{nlist},Flat", "seconds": runs, "difference": None}]
    truth = ground_truth(dataset, k)
    indexes = {"faiss": built["faiss"]}
    indexes[OURS] = modules[OURS].deserialize_index(modules["faiss"].serialize_index(built["faiss"]))
    given = Workload(nb=len(dataset.xb), d=dataset.xb.shape[1], nlist=nlist, nq=len(dataset.xq), k=k)
    for nprobe in (n for n in NPROBE if n <= nlist):
        results, runs = {}, {side: [] for side in SIDES}
        for side, index in indexes.items():
            index.nprobe = nprobe
            results[side] = index.search(dataset.xq, k)
        for _ in range(repeats):
            for side, index in indexes.items():
                runs[side].append(seconds(lambda index=index: index.search(dataset.xq, k)))  # type: ignore[misc]
        found.append(
            {
                "step": f"search, nprobe={nprobe}",
                "nprobe": nprobe,
                "seconds": runs,
                "recall": {side: share_found(truth, I) for side, (_, I) in results.items()},
                "difference": same_neighbours(results["faiss"], results[OURS], given),
            }
        )
    return found


def table(dataset: Dataset, measured: list[dict[str, Any]], k: int) -> str:
    """Return what was measured as a table in Markdown."""
    nb, d = dataset.xb.shape
    nq = len(dataset.xq)
    lines = [
        f"{dataset.name}: {nb:,} vectors of {d} dimensions, {nq:,} queries, {dataset.metric}",
        "",
        f"| step | recall@{k}, faiss-cpu | faiss_torch | faiss-cpu | faiss_torch | times as fast (by quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for row in measured:
        theirs, ours = (row["seconds"][side] for side in SIDES)
        times = [statistics.median(theirs), statistics.median(ours)]
        (first, third), (our_first, our_third) = quartiles(theirs), quartiles(ours)
        recalls = [f"{row['recall'][side]:.4f}" for side in SIDES] if "recall" in row else ["", ""]
        cells = [f"{nq / time:,.0f} QPS" if "recall" in row else f"{time:.2f} s" for time in times]
        ratio = f"{number(times[0] / times[1])} ({number(first / our_third)} to {number(third / our_first)})"
        if row["difference"]:
            ratio = f"results differ: {row['difference']}"
        lines.append("| " + " | ".join([row["step"], *recalls, *cells, ratio]) + " |")
    return "\n".join(lines) + "\n"
