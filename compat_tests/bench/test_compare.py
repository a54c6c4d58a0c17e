"""What counts as the same result, and figures that are made of runs."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_neighbours():
    """Ties and rounding are the same; other ids or distances are not."""
    from benchmarks.workloads.cases import S
    from benchmarks.workloads.compare import same_neighbours

    D, I = np.array([[1.0, 2.0, 3.0]], dtype=np.float32), np.array([[5, 6, 7]])
    assert same_neighbours((D, I), (D * np.float32(1 + 1e-6), I), S) is None
    assert same_neighbours((D, I), (D, I[:, [1, 0, 2]]), S) is not None
    assert same_neighbours((D, I), (D * np.float32(1.01), I), S) is not None
    tied = np.array([[1.0, 1.0, 3.0]], dtype=np.float32)
    assert same_neighbours((tied, I), (tied, I[:, [1, 0, 2]]), S) is None
    nothing = np.array([[1.0, np.finfo(np.float32).max]], dtype=np.float32)
    assert same_neighbours((nothing, I[:, :2]), (nothing + np.float32(0.01), I[:, :2]), S) is not None


def test_in_range():
    """The order inside a query does not matter; what lies at the radius may be on one side only."""
    from benchmarks.workloads.cases import S
    from benchmarks.workloads.compare import same_in_range

    def results(*rows):
        lims = np.cumsum([0, *(len(row) for row in rows)]).astype(np.uint64)
        D = np.array([D for row in rows for D, _ in row], dtype=np.float32)
        return lims, D, np.array([i for row in rows for _, i in row]), 5.0

    theirs = results([(1.0, 3), (2.0, 4)], [], [(4.0, 3)])
    assert same_in_range(theirs, results([(2.0, 4), (1.0, 3)], [], [(4.0, 3)]), S) is None
    assert same_in_range(theirs, results([(2.0, 4), (1.0, 3)], [], [(4.0, 3), (4.99999, 8)]), S) is None
    assert "one side" in same_in_range(theirs, results([(2.0, 4), (1.0, 3)], [], [(4.0, 3), (4.5, 8)]), S)
    assert "one side" in same_in_range(theirs, results([(2.0, 4)], [], [(4.0, 3)]), S)
    assert "one side" in same_in_range(theirs, results([(2.0, 4), (1.0, 3)], [(4.0, 3)], []), S)
    assert "distances" in same_in_range(theirs, results([(2.1, 4), (1.0, 3)], [], [(4.0, 3)]), S)
    assert "twice" in same_in_range(theirs, results([(2.0, 4), (2.0, 4), (1.0, 3)], [], [(4.0, 3)]), S)


def test_centroids_and_sizes():
    """A few centroids may differ, list sizes and objectives hardly."""
    from benchmarks.workloads.cases import S
    from benchmarks.workloads.compare import same_centroids, same_sizes

    centroids, sizes = np.ones((100, 4)), np.full(100, 10)
    moved = centroids.copy()
    moved[:2] += 1
    assert same_centroids((centroids, sizes), (moved, sizes), S) is None
    moved[:20] += 1
    assert same_centroids((centroids, sizes), (moved, sizes), S) is not None
    assert same_centroids((centroids, sizes), (centroids, sizes + 1), S) is not None
    large = np.full(100, 1000)
    other = large.copy()
    other[:2] += [1, -1]
    assert same_sizes((large,), (other,), S) is None
    other[:2] += [50, -50]
    assert same_sizes((large,), (other,), S) is not None
    assert same_sizes((large,), (large - 1,), S) is not None


def test_objectives():
    """Other centroids are as good if the vectors are as near to them."""
    from benchmarks.workloads.cases import Workload
    from benchmarks.workloads.compare import as_good_an_objective
    from benchmarks.workloads.data import database

    small = Workload(nb=2000, d=4)
    good = database(small)[:50]
    assert as_good_an_objective((good,), (good[::-1],), small) is None
    assert as_good_an_objective((good,), (good[:40],), small) is not None
    assert as_good_an_objective((good[:40],), (good,), small) is None
    assert as_good_an_objective((good,), (np.full_like(good, np.nan),), small) is not None


def test_share_found():
    """Recall is the share of the exact ids that stand in the same row."""
    from benchmarks.workloads.work import share_found

    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert share_found(exact, np.array([[4, 3, 9, 9], [1, 2, 3, 4]])) == 0.25


def test_figures():
    """Every quantity, by hand; the range is that of the quartiles."""
    from benchmarks.workloads.goals import figure

    def of(quantity, runs, **more):
        return figure({"quantity": quantity, "seconds": runs, **more})

    speed = of("speed", {"faiss": [4.0, 4.0, 8.0], "faiss_torch": [1.0, 2.0, 4.0]})
    assert (speed.value, speed.low, speed.high) == (2.0, 4 / 3, 4.0)
    assert speed.share_of(4) == 0.5
    assert of("speed", {"torch-ivf": [6.0], "faiss_torch": [2.0]}, rival="torch-ivf").value == 3
    assert of("busy", {"faiss_torch": [1.0], "faiss_torch busy": [2.0]}).share_of(2.5) == 1.25
    assert of("two_threads", {"faiss_torch": [1.0], "faiss_torch two threads": [0.5]}).value == 2
    assert of("import", {"faiss": [9.0], "faiss_torch": [0.2]}).text == "0.20 s"
    memory = figure({"quantity": "memory", "bytes": {"faiss": [200], "faiss_torch": [300]}})
    assert (memory.value, memory.share_of(1.5)) == (1.5, 1.0)
    assert figure({"quantity": "peak", "bytes": {"faiss": [0], "faiss_torch": [3 << 20]}}).text == "3.00 MiB"
