"""Exact k-means in one dimension by dynamic programming.

Sources: A. Grønlund, K. G. Larsen, A. Mathiasen, J. S. Nielsen, S. Schneider, M. Song, "Fast Exact k-Means, k-Medians
and Bregman Divergence Clustering in 1D", https://arxiv.org/abs/1701.07204. With the values sorted, let D[c][m] be
the least cost of the values 0 ... m in c + 1 clusters, and T[c][m] where the last of these clusters begins. T[c][m]
does not decrease with m, so a row of T is found by halving: the middle row first, whose answer bounds the search on
both sides. All rows of one depth are searched together.
"""

from __future__ import annotations

import numpy as np


def kmeans1d(x: np.ndarray, nclusters: int) -> tuple[np.ndarray, float]:
    """Find the best clusters of numbers.

    Every cluster has at least one number, so duplicates are no special case.

    Parameters
    ----------
    x : numpy.ndarray, float32, shape (n,)
        Finite.
    nclusters : int
        At least 1 and at most n.

    Returns
    -------
    centroids : numpy.ndarray, float32, shape (nclusters,)
        Ascending, but a copy of `x` where there are as many clusters as numbers (as in faiss).
    imbalance_factor : float
        Of the cluster sizes; 0 in that case.

    Raises
    ------
    RuntimeError
        If there are fewer numbers than clusters, or some are not finite.
    """
    n = len(x)
    if not 1 <= nclusters <= n:
        raise RuntimeError(f"kmeans1d: expected between 1 and {n} clusters for {n} numbers, got {nclusters}")
    if not np.isfinite(x).all():
        raise RuntimeError("kmeans1d: input contains NaN's or Inf's")
    if n == nclusters:
        return x.astype(np.float32), 0.0
    values = np.sort(x).astype(np.float64)
    costs = _Costs(values)
    rows = np.arange(n)
    best = costs(np.zeros(n, dtype=np.int64), rows)
    starts = np.zeros((nclusters, n), dtype=np.int64 if n > 0x7FFFFFFF else np.int32)
    for c in range(1, nclusters):
        starts[c, c:], best[c:] = _best_starts(best, costs, c)

    sizes = np.empty(nclusters, dtype=np.int64)
    centroids = np.empty(nclusters, dtype=np.float32)
    end = n
    for c in range(nclusters - 1, -1, -1):
        start = int(starts[c, end - 1])
        centroids[c] = values[start:end].mean()
        sizes[c] = end - start
        end = start
    return centroids, float(np.square(sizes.astype(np.float64)).sum() * nclusters / float(n) ** 2)


class _Costs:
    """The squared deviation of values i ... j from their mean, for arrays of i and j."""

    def __init__(self, values: np.ndarray) -> None:
        centred = values - values.mean()  # the cost is a difference of sums: keep them small
        self._sums = np.concatenate([[0.0], np.cumsum(centred)])
        self._squares = np.concatenate([[0.0], np.cumsum(centred * centred)])

    def __call__(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        total = self._sums[j + 1] - self._sums[i]
        return np.maximum(self._squares[j + 1] - self._squares[i] - total * total / (j - i + 1), 0.0)


def _best_starts(previous: np.ndarray, costs: _Costs, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Find where cluster c begins best, for each last value m = c ... n - 1.

    Parameters
    ----------
    previous : numpy.ndarray, float64, shape (n,)
        D[c - 1].

    Returns
    -------
    starts : numpy.ndarray, int64, shape (n - c,)
        T[c][c:]; the lowest of equally good ones.
    best : numpy.ndarray, float64, shape (n - c,)
        D[c][c:].
    """
    n = len(previous)
    starts = np.full(n + 1, n - 1, dtype=np.int64)  # the last entry bounds the rows on the right
    starts[:c] = c
    best = np.empty(n)
    step = 1 << (n - c).bit_length()
    while step >= 1:
        rows = np.arange(c + step - 1, n, 2 * step)
        if len(rows):
            left = np.where(rows - step >= c, starts[np.maximum(rows - step, 0)], c)
            right = np.minimum(starts[np.minimum(rows + step, n)], rows)
            widths = right - left + 1
            ends = np.cumsum(widths)
            row_of = np.repeat(np.arange(len(rows)), widths)
            candidates = np.arange(ends[-1]) - np.repeat(ends - widths - left, widths)
            values = previous[candidates - 1] + costs(candidates, rows[row_of])
            best[rows] = np.minimum.reduceat(values, ends - widths)
            hits = np.flatnonzero(values == best[rows][row_of])
            first = hits[np.unique(row_of[hits], return_index=True)[1]]
            starts[rows] = candidates[first]
        step //= 2
    return starts[c:n], best[c:]
