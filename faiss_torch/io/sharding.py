"""Distributing the centroids of an IVF index over index files."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from ..indexes.composite.id_map import IndexIDMap2
from ..indexes.ivf.base import IndexIVF
from . import write_index


class ShardingFunction:
    """Says which shard a centroid belongs to; the base of all such functions."""

    def __call__(self, i: int, shard_count: int) -> int:
        """Return the shard of centroid `i`."""
        raise NotImplementedError


class DefaultShardingFunction(ShardingFunction):
    """Centroid i belongs to shard ``i % shard_count``."""

    def __call__(self, i: int, shard_count: int) -> int:
        return i % shard_count


class PyCallbackShardingFunction(ShardingFunction):
    """Calls a Python function.

    Parameters
    ----------
    callback : callable
        Takes the number of a centroid and that of shards, and returns a shard.
    """

    def __init__(self, callback: Callable[[int, int], int]) -> None:
        self.callback = callback

    def __call__(self, i: int, shard_count: int) -> int:
        return self.callback(i, shard_count)


def shard_ivf_index_centroids(
    index: IndexIVF,
    shard_count: int = 20,
    filename_template: str = "shard.%d.index",
    sharding_function: Callable[[int, int], int] | None = None,
    generate_ids: bool = False,
) -> None:
    """Write copies of an IVF index to files, each with a part of the centroids.

    Parameters
    ----------
    index : IndexIVF
        Its quantizer holds the centroids.
    shard_count : int
        How many files.
    filename_template : str
        Holds ``%d``, for the number of the shard.
    sharding_function : callable, optional
        A `ShardingFunction`, or any function of the number of a centroid and that of shards that returns a shard; the
        default is `DefaultShardingFunction`.
    generate_ids : bool
        Whether the quantizers are wrapped in `IndexIDMap2`, so that a centroid keeps its number.

    Raises
    ------
    RuntimeError
        If there are no centroids, the template holds no ``%d``, or a shard is not one of 0 ... shard_count - 1.
    """
    ncentroids = index.quantizer.ntotal
    if ncentroids == 0:
        raise RuntimeError("no centroids to shard: the quantizer is empty")
    if "%d" not in filename_template:
        raise RuntimeError(f"filename_template {filename_template!r} must hold %d, for the number of the shard")
    function = DefaultShardingFunction() if sharding_function is None else sharding_function
    shards = np.array([function(i, shard_count) for i in range(ncentroids)])
    if shards.min() < 0 or shards.max() >= shard_count:
        raise RuntimeError(
            f"sharding_function gave shards from {shards.min()} to {shards.max()}, expected 0 ... {shard_count - 1}"
        )
    centroids = index.quantizer.reconstruct_n(0, ncentroids)
    shard = copy.deepcopy(index)
    shard.quantizer.reset()
    if generate_ids:
        shard.quantizer = IndexIDMap2(shard.quantizer)
    for i in range(shard_count):
        members = np.flatnonzero(shards == i)
        shard.quantizer.reset()
        if generate_ids:
            shard.quantizer.add_with_ids(centroids[members], members)
        else:
            shard.quantizer.add(centroids[members])
        write_index(shard, filename_template % i)
