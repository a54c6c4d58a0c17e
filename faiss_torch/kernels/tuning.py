"""Block sizes of the kernels, as rows of data.

A row holds for widths up to `widest`. Rows are for unknown cards as long as no benchmark record says better: each with
a record names it. None has one yet.
"""

from __future__ import annotations

from typing import NamedTuple


class NearestBlocks(NamedTuple):
    """Block sizes of `nearest`.

    Attributes
    ----------
    widest : int
        Components of the vectors that the row is for, at most.
    vectors, centroids, components : int
        Of one tile; powers of two, 16 or more.
    warps, stages : int
    """

    widest: int
    vectors: int
    centroids: int
    components: int
    warps: int
    stages: int


NEAREST = (
    NearestBlocks(widest=16, vectors=128, centroids=64, components=16, warps=4, stages=3),
    NearestBlocks(widest=32, vectors=128, centroids=64, components=32, warps=4, stages=3),
    NearestBlocks(widest=64, vectors=128, centroids=64, components=64, warps=4, stages=3),
    NearestBlocks(widest=128, vectors=128, centroids=64, components=128, warps=8, stages=3),
    NearestBlocks(widest=256, vectors=64, centroids=64, components=256, warps=8, stages=2),
    NearestBlocks(widest=1 << 30, vectors=128, centroids=64, components=64, warps=8, stages=3),
)


def nearest_blocks(d: int) -> NearestBlocks:
    """Return the block sizes for vectors of d components."""
    return next(row for row in NEAREST if d <= row.widest)
