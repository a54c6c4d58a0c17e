"""Block sizes of the kernels, as rows of data.

A row holds for widths up to `widest`. None has a benchmark record yet: they are chosen by what can be seen without a
GPU, that compiled for sm_90 hardly a register is spilled to memory, and that two blocks of `nearest` at d = 128 and 256
fit on a multiprocessor, so that one multiplies while the other compares. ``python -m benchmarks.tune`` times others on
a GPU.
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
    NearestBlocks(widest=16, vectors=128, centroids=64, components=16, warps=8, stages=3),
    NearestBlocks(widest=32, vectors=128, centroids=64, components=32, warps=8, stages=3),
    NearestBlocks(widest=64, vectors=128, centroids=64, components=64, warps=8, stages=3),
    NearestBlocks(widest=128, vectors=128, centroids=32, components=128, warps=4, stages=3),
    NearestBlocks(widest=256, vectors=64, centroids=64, components=256, warps=4, stages=2),
    NearestBlocks(widest=1 << 30, vectors=64, centroids=32, components=64, warps=4, stages=3),
)


#: Of `block_minima`; its `centroids` are `block_minima.BLOCKS`, and its widths and components are those of `NEAREST`.
MINIMA = (
    NearestBlocks(widest=16, vectors=128, centroids=64, components=16, warps=8, stages=3),
    NearestBlocks(widest=32, vectors=128, centroids=64, components=32, warps=8, stages=3),
    NearestBlocks(widest=64, vectors=128, centroids=64, components=64, warps=8, stages=3),
    NearestBlocks(widest=128, vectors=128, centroids=64, components=128, warps=8, stages=3),
    NearestBlocks(widest=256, vectors=64, centroids=64, components=256, warps=4, stages=2),
    NearestBlocks(widest=1 << 30, vectors=64, centroids=64, components=64, warps=4, stages=3),
)


#: Of `list_minima`; its `centroids` are `list_minima.BLOCKS`.
LIST_MINIMA = (
    NearestBlocks(widest=32, vectors=64, centroids=64, components=32, warps=8, stages=3),
    NearestBlocks(widest=64, vectors=64, centroids=64, components=64, warps=8, stages=3),
    NearestBlocks(widest=128, vectors=64, centroids=64, components=128, warps=8, stages=3),
    NearestBlocks(widest=1 << 30, vectors=64, centroids=64, components=64, warps=8, stages=3),
)

#: Rows of a block of lists whose minima are compared with a threshold at once, and not stored.
THRESHOLD_ROWS = 4


#: Of `hamming` where it multiplies.
HAMMING = NearestBlocks(widest=1 << 30, vectors=128, centroids=64, components=128, warps=8, stages=3)

#: Codes of a block of `hamming`.
HAMMING_ROWS = 64

#: Blocks of codes that one program of `hamming` counts.
COUNTED_BLOCKS = 32

#: Values that one program of `smallest` holds in registers, at most; a power of two.
SMALLEST_VALUES = 16_384

#: Candidates of a query, and components of them, that one program of `block_rows` reads at a time.
DISTANCE_ROWS, DISTANCE_COMPONENTS = 32, 128

#: Pairs of candidates that `block_rows` compares at a time.
RANKED_PAIRS = 8192


def warps_of(values: int) -> int:
    """Return how many warps hold so many values in registers."""
    return min(16, max(1, values // 512))


def list_blocks(d: int) -> NearestBlocks:
    """Return the block sizes of `list_minima` for vectors of d components."""
    return next(row for row in LIST_MINIMA if d <= row.widest)


def minima_blocks(d: int) -> NearestBlocks:
    """Return the block sizes of `block_minima` for vectors of d components."""
    return next(row for row in MINIMA if d <= row.widest)


def nearest_blocks(d: int) -> NearestBlocks:
    """Return the block sizes for vectors of d components."""
    return next(row for row in NEAREST if d <= row.widest)


class UpdateBlocks(NamedTuple):
    """Block sizes of `centroid_update`.

    Attributes
    ----------
    widest : int
        Components of the vectors that the row is for, at most.
    piece : int
        Vectors of one cluster that one program adds up, at most.
    vectors, components : int
        Of one tile; powers of two.
    warps : int
    """

    widest: int
    piece: int
    vectors: int
    components: int
    warps: int


UPDATE = (
    UpdateBlocks(widest=32, piece=512, vectors=64, components=32, warps=4),
    UpdateBlocks(widest=64, piece=256, vectors=32, components=64, warps=4),
    UpdateBlocks(widest=1 << 30, piece=256, vectors=32, components=128, warps=4),
)


def update_blocks(d: int) -> UpdateBlocks:
    """Return the block sizes for vectors of d components."""
    return next(row for row in UPDATE if d <= row.widest)


class FewUpdateBlocks(NamedTuple):
    """Block sizes of `centroid_update` where it multiplies.

    Attributes
    ----------
    vectors, components : int
        Of one tile; powers of two, 16 or more.
    shares : int
        Parts that the vectors are cut to, at most; the sums of each are stored.
    warps : int
    """

    vectors: int
    components: int
    shares: int
    warps: int


FEW_UPDATE = FewUpdateBlocks(vectors=64, components=64, shares=1024, warps=8)

#: Up to so many clusters, `centroid_update` multiplies instead of sorting.
FEW_CLUSTERS = 128

#: Bytes of the sums that it stores of all parts, at most.
PARTS_BYTES = 64 << 20


class ExactBlocks(NamedTuple):
    """Block sizes of what looks again at vectors that `nearest` left.

    Attributes
    ----------
    vectors, centroids, components : int
        Of one tile in float32; powers of two, 16 or more.
    double_vectors, double_centroids : int
        Of one tile in float64; powers of two.
    programs : int
        At most so many share the vectors.
    warps : int
    """

    vectors: int
    centroids: int
    components: int
    double_vectors: int
    double_centroids: int
    programs: int
    warps: int


EXACT = ExactBlocks(
    vectors=64, centroids=32, components=32, double_vectors=16, double_centroids=64, programs=1024, warps=4
)
