"""ClusteringInitialization: the choice of the first centroids by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import border
from ...attributes import CheckedAttributes, Int64, Size
from ...constants import (
    ClusteringInitMethod_AFK_MC2,
    ClusteringInitMethod_KMEANS_PLUS_PLUS,
    ClusteringInitMethod_RANDOM,
)
from ...ops.clustering import initialization as initializations
from ...ops.clustering import steps


class ClusteringInitialization(CheckedAttributes):
    """Chooses initial centroids among training vectors.

    Parameters
    ----------
    d : int
        Dimensions.
    k : int
        Number of centroids to choose.

    Attributes
    ----------
    method : int
        One of the ``ClusteringInitMethod_*`` numbers.
    seed : int
        Negative for one from the clock (AFK-MC2 and k-means++).
    afkmc2_chain_length : int
        Proposals for each centroid of AFK-MC2.
    """

    d: Size
    k: Size
    method: int
    seed: Int64
    afkmc2_chain_length: Size

    def __init__(self, d: int, k: int) -> None:
        self.d = d
        self.k = k
        self.method = ClusteringInitMethod_RANDOM
        self.seed = 1234
        self.afkmc2_chain_length = 50

    def init_centroids(
        self,
        n: int,
        x: border.Array,
        centroids: border.Array,
        n_existing_centroids: int = 0,
        existing_centroids: border.Array | None = None,
    ) -> None:
        """Write k training vectors into `centroids`.

        Parameters
        ----------
        n : int
            Number of training vectors.
        x : pointer or array, float32, shape (n, d)
        centroids : pointer or array, float32, shape (k, d)
            Where to put them.
        n_existing_centroids : int
        existing_centroids : pointer or array, float32, shape (n_existing_centroids, d), optional
            Centroids that the new ones should be far from (AFK-MC2 and k-means++).

        Raises
        ------
        RuntimeError
            If there are fewer vectors than centroids, or the method is unknown.
        """
        device = border.default_device()
        vectors = border.floats_in(border.at_pointer(x, n * self.d), device).reshape(n, self.d)
        existing = None
        if n_existing_centroids:
            if existing_centroids is None:
                raise RuntimeError(f"{n_existing_centroids} existing centroids announced, but none given")
            given = border.at_pointer(existing_centroids, n_existing_centroids * self.d)
            existing = border.floats_in(given, device).reshape(n_existing_centroids, self.d)
        chosen = vectors[self.choose(vectors, existing)]
        target = border.at_pointer(centroids, self.k * self.d)
        border.Kind(target).into(chosen.reshape(tuple(target.shape)), target)

    def choose(self, x: Tensor, existing: Tensor | None) -> Tensor:
        """Return the positions of the vectors chosen (an extension: tensors in and out).

        Parameters
        ----------
        x : Tensor, float32, shape (n, d)
        existing : Tensor, float32, shape (m, d), or None

        Returns
        -------
        Tensor, int64, shape (k,)
        """
        n = len(x)
        if n < self.k:
            raise RuntimeError(f"number of points ({n}) must be at least the number of centroids ({self.k})")
        if self.method == ClusteringInitMethod_RANDOM:
            chosen = initializations.init_random(n, self.k, self.seed)
        elif self.method == ClusteringInitMethod_KMEANS_PLUS_PLUS:
            seed = steps.actual_seed(self.seed)
            chosen = initializations.init_kmeans_plus_plus(x, self.k, seed, existing)
        elif self.method == ClusteringInitMethod_AFK_MC2:
            seed = steps.actual_seed(self.seed)
            chosen = initializations.init_afkmc2(x, self.k, seed, existing, self.afkmc2_chain_length)
        else:
            raise RuntimeError(f"unknown initialization method {self.method}: expected 0, 1 or 2")
        return torch.from_numpy(chosen).to(x.device)
