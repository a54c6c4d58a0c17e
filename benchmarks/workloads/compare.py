"""When results of two implementations are the same; each comparison returns what is wrong, or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Workload
from .data import Array, database


def rounding(D: Array) -> float:
    """Return how far distances may be apart: what float32 leaves of sums as large as the largest of them."""
    found = np.abs(D[np.abs(D) < 1e38])  # a place without a result has the largest float32
    return 1e-6 * float(found.max(initial=0.0))


def same_neighbours(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare distances and ids of a search, but for ties and rounding."""
    from faiss_torch.contrib.evaluation import check_ref_knn_with_draws

    try:
        check_ref_knn_with_draws(theirs[0], theirs[1], ours[0], ours[1], rtol=1e-5, atol=rounding(theirs[0]))
    except AssertionError as difference:
        return str(difference)
    return None


def same_in_range(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare lims, distances and ids of a range search; rounding may let one side have what is at the radius."""
    radius = theirs[3]
    atol = rounding(theirs[1])
    tolerance = 1e-5 * abs(radius) + atol
    (keys, D), (our_keys, our_D) = _by_query_and_id(*theirs[:3]), _by_query_and_id(*ours[:3])
    if len(np.unique(our_keys)) != len(our_keys):
        return "a query has the same id twice"
    _, both, our_both = np.intersect1d(keys, our_keys, assume_unique=True, return_indices=True)
    if not np.allclose(D[both], our_D[our_both], rtol=1e-5, atol=atol):
        return "distances differ"
    alone = np.concatenate([np.delete(D, both), np.delete(our_D, our_both)])
    far = int((np.abs(alone - radius) > tolerance).sum())
    return f"{far} results that are not at the radius were found by one side only" if far else None


def _by_query_and_id(lims: Array, D: Array, I: Array) -> tuple[Array, Array]:
    """Return a number for each pair of query and id, and the distances."""
    sizes = np.asarray(lims)[1:].astype(np.int64) - np.asarray(lims)[:-1].astype(np.int64)
    query = np.repeat(np.arange(len(lims) - 1), sizes)
    return (query << 40) + np.asarray(I), np.asarray(D)


def same_centroids(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare centroids, and list sizes or objectives.

    Rounding may move a vector on the border between two centroids to the other one, which moves both: a small
    share of the centroids may differ.
    """
    differing = 1 - np.mean(np.isclose(theirs[0], ours[0], rtol=1e-4, atol=1e-4).all(axis=1))
    if differing > 0.05:
        return f"{differing:.1%} of the centroids differ"
    if len(theirs[1]) == len(ours[1]) and np.abs(np.subtract(theirs[1], ours[1])).sum() > 1e-3 * np.sum(theirs[1]):
        return "list sizes or objectives differ by more than 0.1%"
    return None


def objective(workload: Workload, centroids: Array) -> float:
    """Return the sum of the squared distances of a database to its nearest centroids, by faiss."""
    import faiss

    index = faiss.IndexFlatL2(workload.d)
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    return float(index.search(database(workload), 1)[0].sum(dtype=np.float64))


def as_good_an_objective(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare what the centroids are worth: ours must not be worse by more than half a percent.

    Over many iterations rounding leads k-means to other centroids, and other implementations begin with others.
    """
    reference, found = objective(workload, theirs[0]), objective(workload, ours[0])
    if not found <= 1.005 * reference:
        return f"the objective is {found:.6g}, the other's {reference:.6g}"
    return None


def same_sizes(theirs: tuple[Any, ...], ours: tuple[Any, ...], workload: Workload) -> str | None:
    """Compare list sizes, in which rounding may put a vector between two centroids with the other one."""
    differing = np.abs(theirs[0] - ours[0]).sum() / 2
    if theirs[0].sum() != ours[0].sum() or differing > 1e-4 * theirs[0].sum():
        return f"{differing:g} vectors are in other lists"
    return None


Comparison = Callable[[tuple[Any, ...], tuple[Any, ...], Workload], "str | None"]

#: "none" is for what has no results: memory, and the import.
COMPARISONS: dict[str, Comparison] = {
    "neighbours": same_neighbours,
    "range": same_in_range,
    "centroids": same_centroids,
    "objective": as_good_an_objective,
    "sizes": same_sizes,
    "none": lambda theirs, ours, workload: None,
}
