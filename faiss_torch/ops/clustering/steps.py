"""The steps of k-means around the assignment: means, splitting of empty clusters, subsampling, balance.

They follow faiss (``faiss/impl/ClusteringHelpers.cpp``), so that the same data and seed give the same centroids up
to float rounding.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..random import RandomGenerator, SplitMix64RandomGenerator, rand_perm
from ..runtime import chunks, workers

#: The relative change that makes two clusters of one: a bit above the machine epsilon of float16.
_SPLIT_EPSILON = np.float32(1 / 1024)

#: Rows that one task looks at for values that are not finite.
_CHECKED_ROWS = 16384


def actual_seed(seed: int) -> int:
    """Return the seed to draw with: the one given, or the clock's where it is negative."""
    return seed if seed >= 0 else time.time_ns()


def all_finite(x: Tensor) -> bool:
    """Whether a matrix, as float32, holds neither NaN nor infinity."""
    if x.numel() == 0 or not x.dtype.is_floating_point:
        return True

    # what has more bits may be too large for float32, and older torch looks at no 16 bits on the CPU
    cast = x.dtype.itemsize > 4 or (x.device.type == "cpu" and x.dtype != torch.float32)

    def finite(rows: slice) -> bool:
        # both are NaN where one value is
        smallest, largest = torch.aminmax(x[rows].to(torch.float32) if cast else x[rows])
        return bool(smallest.isfinite() & largest.isfinite())

    if x.device.type != "cpu":
        return finite(slice(None))
    return all(workers.map_over_workers(finite, chunks.slices(len(x), _CHECKED_ROWS), omp_get_max_threads()))


def subsample(n: int, wanted: int, seed: int, faster: bool) -> np.ndarray:
    """Choose training vectors as faiss does.

    Parameters
    ----------
    n, wanted : int
        How many there are, and how many are to be chosen.
    seed : int
        Not negative.
    faster : bool
        Draw by splitmix64, with repetitions, instead of the beginning of a permutation.

    Returns
    -------
    numpy.ndarray, int64, shape (wanted,)

    Raises
    ------
    RuntimeError
        If a permutation would have more than 2**31 - 1 entries.
    """
    if faster:
        draws = SplitMix64RandomGenerator(seed).draw(wanted) & np.uint64(0x7FFFFFFFFFFFFFFF)
        return (draws % np.uint64(n)).astype(np.int64)
    if n > 0x7FFFFFFF:
        raise RuntimeError(f"{n} training vectors are too many to permute: set use_faster_subsampling=True")
    return rand_perm(n, seed, wanted).astype(np.int64)


def means(sums: Tensor, hassign: Tensor) -> Tensor:
    """Divide the sums of clusters by their weights; empty clusters keep zeros: shape (k, d)."""
    return sums * torch.where(hassign == 0, 0.0, 1 / hassign)[:, None]


def split_clusters(centroids: np.ndarray, hassign: np.ndarray, n: int) -> int:
    """Give each empty cluster one half of a large one, as faiss does with its seed 1234.

    A donor is drawn by going round the clusters until a random number is below the cluster's share, or is the
    largest cluster after 10 k numbers. Both halves get the donor's centroid, moved apart by 1/1024 of each
    coordinate.

    Parameters
    ----------
    centroids : numpy.ndarray, float32, shape (k, d)
        Changed in place.
    hassign : numpy.ndarray, float32, shape (k,)
        The weights of the clusters, changed in place.
    n : int
        Number of training vectors, more than k.

    Returns
    -------
    int
        How many clusters were split.

    Raises
    ------
    RuntimeError
        If there are not more vectors than clusters.
    """
    k, d = centroids.shape
    if n <= k:
        raise RuntimeError(f"splitting clusters needs more training vectors than clusters, got {n} for {k}")
    up = np.where(np.arange(d) % 2 == 0, 1 + _SPLIT_EPSILON, 1 - _SPLIT_EPSILON).astype(np.float32)
    down = np.where(np.arange(d) % 2 == 0, 1 - _SPLIT_EPSILON, 1 + _SPLIT_EPSILON).astype(np.float32)
    stream = _Floats(RandomGenerator(1234))
    empty = np.flatnonzero(hassign == 0)
    for ci in empty:
        shares = ((hassign.astype(np.float64) - 1.0) / np.float64(np.float32(n - k))).astype(np.float32)
        for _ in range(10):
            hit = stream.first_below(shares)
            if hit is not None:
                cj = hit
                break
        else:
            cj = int(hassign.argmax())
        centroids[ci] = centroids[cj] * up
        centroids[cj] *= down
        hassign[ci] = hassign[cj] / 2
        hassign[cj] -= hassign[ci]
    return len(empty)


def split_in_place(centroids: Tensor, hassign: Tensor, n: int) -> int:
    """Do what `split_clusters` does with tensors on any device; the sizes stay as they are."""
    host = centroids.cpu().numpy()
    nsplit = split_clusters(host, hassign.cpu().numpy().copy(), n)
    centroids.copy_(torch.from_numpy(host))
    return nsplit


class _Floats:
    """The stream of ``rand_float`` of a generator, with numbers that were drawn ahead but not used kept."""

    def __init__(self, generator: RandomGenerator) -> None:
        self._generator = generator
        self._ahead = np.empty(0, dtype=np.float32)

    def first_below(self, limits: np.ndarray) -> int | None:
        """Compare the next numbers with limits one by one; return the first position below, using up to there."""
        k = len(limits)
        missing = k - len(self._ahead)
        if missing > 0:
            drawn = self._generator.draw(max(missing, 1024)).astype(np.float32) / np.float32(0xFFFFFFFF)
            self._ahead = np.concatenate([self._ahead, drawn])
        below = np.flatnonzero(self._ahead[:k] < limits)
        used = int(below[0]) + 1 if len(below) else k
        self._ahead = self._ahead[used:]
        return int(below[0]) if len(below) else None


def imbalance_factor(hist: Tensor) -> float:
    """Return how unevenly vectors are spread over lists: 1 if evenly, k if all are in one.

    Parameters
    ----------
    hist : Tensor, int64, shape (k,)
        The number of vectors of each list.
    """
    sizes = hist.double()
    total = float(sizes.sum())
    return float(sizes.square().sum()) * len(hist) / (total * total) if total else float("nan")


def objective(distances: Tensor, before: float = 0.0) -> float:
    """Add distances up as faiss does: one after the other in float32, to what comes before.

    The rounding of this sum grows with n and is part of the objective that faiss reports and compares to stop.
    """
    total = np.float32(before)
    values = distances.reshape(-1).cpu().numpy()
    for rows in chunks.slices(len(values), 1 << 20):
        part = values[rows].copy()
        part[0] += total
        total = np.cumsum(part, dtype=np.float32)[-1]
    return float(total)


def renorm_L2(x: Tensor) -> Tensor:
    """Divide each row by its L2 norm; rows of zeros stay: (n, d) -> (n, d)."""
    squares = x.square().sum(1, keepdim=True)
    return x * torch.where(squares > 0, 1 / squares.sqrt(), 1.0)


def post_processed(centroids: Tensor, spherical: bool, int_centroids: bool) -> Tensor:
    """Normalise centroids, (..., d), then round them, as far as that is asked for."""
    if spherical:
        centroids = renorm_L2(centroids.reshape(-1, centroids.shape[-1])).view_as(centroids)
    return round_half_away(centroids) if int_centroids else centroids


def round_half_away(x: Tensor) -> Tensor:
    """Round to integers, halves away from zero as C's ``roundf`` does."""
    whole = x.trunc()
    return torch.where((x - whole).abs() >= 0.5, whole + x.sign(), whole)
