"""What a case does and how its results are compared, by the names that it has for them."""

from __future__ import annotations

from typing import Any

from . import compare, work
from .cases import Case

#: Work of `device_work`, which imports torch and is therefore imported when it is needed.
ON_DEVICE = (
    "device_kmeans",
    "host_kmeans",
    "device_batch_kmeans",
    "device_nearest",
    "device_flat",
    "device_ivf",
    "device_hamming",
)

#: Comparisons of `device_work`.
COMPARED_ON_DEVICE = ("labels", "device_objective", "device_neighbours", "device_distances", "device_lists")


def prepare(case: Case, faiss: Any) -> work.Task:
    """Return the task of a case for an implementation's module."""
    if case.work in ON_DEVICE:
        from . import device_work

        return device_work.WORK[case.work](faiss, case.workload, case.device)
    return work.WORK[case.work](faiss, case.workload, case.device, **dict(case.options))


def comparison(name: str) -> compare.Comparison:
    """Return the comparison that a case names."""
    if name in COMPARED_ON_DEVICE:
        from . import device_work

        return device_work.COMPARISONS[name]
    return compare.COMPARISONS[name]
