"""Initial centroids for k-means, with faiss's own random numbers (``faiss/impl/ClusteringInitialization.cpp``).

Each function returns the positions of the training vectors that become centroids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...constants import METRIC_L2
from ...threads import omp_get_max_threads
from ..random import MersenneTwister64, rand_perm
from ..runtime import chunks, workers
from .nearest import nearest

#: Rows that one task compares with a centroid: what stays in a core's cache.
_TASK_ROWS = 2048


def init_random(n: int, k: int, seed: int) -> np.ndarray:
    """Choose k of n vectors uniformly: int64 [k]."""
    return rand_perm(n, seed, k).astype(np.int64)


def init_kmeans_plus_plus(x: Tensor, k: int, seed: int, existing: Tensor | None) -> np.ndarray:
    """Choose each vector with a probability proportional to its squared distance from those chosen before.

    Source: D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    k : int
        At most n.
    seed : int
    existing : Tensor, float32, shape (m, d), or None
        Centroids that are there already; without any, the first is drawn uniformly.

    Returns
    -------
    numpy.ndarray, int64, shape (k,)
    """
    rng = MersenneTwister64(seed)
    chosen, distances = _first_distances(x, existing, rng)
    while len(chosen) < k:
        chosen.append(_sample(np.cumsum(distances), rng))
        if len(chosen) < k:
            np.minimum(distances, _squared_distances(x, chosen[-1]), out=distances)
    return np.array(chosen, dtype=np.int64)


def init_afkmc2(x: Tensor, k: int, seed: int, existing: Tensor | None, chain_length: int) -> np.ndarray:
    """Choose vectors as `init_kmeans_plus_plus` does, approximately, by a Markov chain for each.

    Source: O. Bachem, M. Lucic, S. H. Hassani, A. Krause, "Fast and Provably Good Seedings for k-Means", NIPS 2016.
    The numbers that a chain draws do not depend on which proposals it accepts, so the proposals of a chain are
    drawn first and compared with the centroids at once.

    Parameters
    ----------
    chain_length : int
        Proposals for each centroid.
    x, k, seed, existing
        As in `init_kmeans_plus_plus`.

    Returns
    -------
    numpy.ndarray, int64, shape (k,)
    """
    rng = MersenneTwister64(seed)
    chosen, distances = _first_distances(x, existing, rng)
    n = len(x)
    total = float(np.cumsum(distances)[-1])
    q = (0.5 * distances / total if total > 0 else np.zeros(n)) + 0.5 / n

    centroids = x.new_empty((0 if existing is None else len(existing)) + k, x.shape[1])
    taken = 0
    if existing is not None:
        centroids[: len(existing)] = existing
        taken = len(existing)
    for i in chosen:
        centroids[taken] = x[i]
        taken += 1
    cumulated = np.cumsum(q)
    while len(chosen) < k:
        chosen.append(_run_chain(x, centroids[:taken], q, cumulated, rng, set(chosen), chain_length))
        centroids[taken] = x[chosen[-1]]
        taken += 1
    return np.array(chosen, dtype=np.int64)


def _run_chain(
    x: Tensor,
    centroids: Tensor,
    q: np.ndarray,
    cumulated: np.ndarray,
    rng: MersenneTwister64,
    known: set[int],
    chain_length: int,
) -> int:
    """Return the last state of one Markov chain (Metropolis-Hastings with proposals from q)."""
    candidates, thresholds = _proposals(cumulated, rng, known, chain_length)
    index = torch.tensor(candidates, dtype=torch.int64, device=x.device)
    distances = nearest(x[index], centroids, METRIC_L2)[0].double().tolist()
    current = 0
    for proposed in range(1, len(candidates)):
        numerator = distances[proposed] * q[candidates[current]]
        denominator = distances[current] * q[candidates[proposed]]
        # a chain that stands on a centroid stays there
        if distances[current] > 0 and thresholds[proposed - 1] < min(1.0, numerator / denominator):
            current = proposed
    return candidates[current]


def _proposals(
    cumulated: np.ndarray, rng: MersenneTwister64, known: set[int], chain_length: int
) -> tuple[list[int], list[float]]:
    """Draw the first state of a chain and its proposals, each with its number for acceptance; vectors that are
    centroids already are passed over."""
    start = _sample(cumulated, rng)
    while start in known:
        start = _sample(cumulated, rng)
    candidates, thresholds = [start], []
    for _ in range(chain_length):
        proposed = _sample(cumulated, rng)
        if proposed not in known:
            candidates.append(proposed)
            thresholds.append(rng.uniform_real())
    return candidates, thresholds


def _first_distances(x: Tensor, existing: Tensor | None, rng: MersenneTwister64) -> tuple[list[int], np.ndarray]:
    """Return the vectors chosen so far (one drawn uniformly, or none where centroids exist) and every vector's
    squared distance to the nearest centroid, float64 [n]."""
    if existing is not None and len(existing):
        return [], nearest(x, existing, METRIC_L2)[0].cpu().numpy().astype(np.float64)
    first = rng.uniform_int(len(x))
    return [first], _squared_distances(x, first)


def _squared_distances(x: Tensor, i: int) -> np.ndarray:
    """The squared distances of all vectors to vector i, by differences: float64 [n]."""
    center = x[i].clone()

    def compare(rows: slice) -> Tensor:
        return (x[rows] - center).square_().sum(1)

    if x.device.type != "cpu":
        return compare(slice(None)).cpu().numpy().astype(np.float64)
    parts = workers.map_over_workers(compare, chunks.slices(len(x), _TASK_ROWS), omp_get_max_threads())
    return np.concatenate([part.numpy() for part in parts]).astype(np.float64)


def _sample(cumulated: np.ndarray, rng: MersenneTwister64) -> int:
    """Draw a position with the probabilities whose cumulated sum is given, uniformly where they are all zero."""
    total = float(cumulated[-1])
    if total <= 0:
        return rng.uniform_int(len(cumulated))
    position = int(np.searchsorted(cumulated, rng.uniform_real(total), side="left"))
    return min(position, len(cumulated) - 1)
