"""The numbers that faiss gives names to: metrics, numeric types, file flags.

The values are faiss's own (``MetricType.h``, ``Index.h``, ``index_io.h``): they stand in index files and in
client code, so they are part of the interface and not a choice of this library.
"""

from __future__ import annotations

import operator

METRIC_INNER_PRODUCT = 0
METRIC_L2 = 1
METRIC_L1 = 2
METRIC_Linf = 3
METRIC_Lp = 4
METRIC_Canberra = 20
METRIC_BrayCurtis = 21
METRIC_JensenShannon = 22
METRIC_Jaccard = 23
METRIC_NaNEuclidean = 24
METRIC_GOWER = 25

#: Every metric, in the order of its number.
METRIC_NAMES = {
    METRIC_INNER_PRODUCT: "METRIC_INNER_PRODUCT",
    METRIC_L2: "METRIC_L2",
    METRIC_L1: "METRIC_L1",
    METRIC_Linf: "METRIC_Linf",
    METRIC_Lp: "METRIC_Lp",
    METRIC_Canberra: "METRIC_Canberra",
    METRIC_BrayCurtis: "METRIC_BrayCurtis",
    METRIC_JensenShannon: "METRIC_JensenShannon",
    METRIC_Jaccard: "METRIC_Jaccard",
    METRIC_NaNEuclidean: "METRIC_NaNEuclidean",
    METRIC_GOWER: "METRIC_GOWER",
}

#: What faiss puts into D where there is no result (the largest finite float32).
FLT_MAX = 3.4028234663852886e38

Float32 = 0
Float16 = 1
UInt8 = 2
Int8 = 3

ClusteringInitMethod_RANDOM = 0
ClusteringInitMethod_KMEANS_PLUS_PLUS = 1
ClusteringInitMethod_AFK_MC2 = 2

IO_FLAG_SKIP_STORAGE = 1
IO_FLAG_READ_ONLY = 2
IO_FLAG_ONDISK_SAME_DIR = 4
IO_FLAG_SKIP_IVF_DATA = 8
IO_FLAG_SKIP_PRECOMPUTE_TABLE = 16
IO_FLAG_PQ_SKIP_SDC_TABLE = 32
IO_FLAG_MMAP = IO_FLAG_SKIP_IVF_DATA | 0x646F0000
IO_FLAG_MMAP_IFC = 1 << 9


def is_similarity_metric(metric_type: int) -> bool:
    """Whether a larger value of the metric means a closer vector.

    Parameters
    ----------
    metric_type : int
        One of the ``METRIC_*`` numbers.

    Returns
    -------
    bool
        True for the inner product and for Jaccard, as in faiss's ``MetricType.h``.
    """
    return metric_type in (METRIC_INNER_PRODUCT, METRIC_Jaccard)


def metric_type_from_int(metric_type: int) -> int:
    """Check that a number names a metric.

    Returns
    -------
    int
        The number given.

    Raises
    ------
    TypeError
        If it is no integer.
    RuntimeError
        If no metric has that number.
    """
    if operator.index(metric_type) not in METRIC_NAMES:
        known = ", ".join(f"{name} ({number})" for number, name in METRIC_NAMES.items())
        raise RuntimeError(f"invalid metric type {metric_type}: expected one of {known}")
    return int(metric_type)
