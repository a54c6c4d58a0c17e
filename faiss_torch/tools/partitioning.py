"""Putting the smallest or largest values of an array in front, and small histograms, behind pointers."""

from __future__ import annotations

import numpy as np

from ..attributes import CheckedAttributes, Size
from ..constants import FLT_MAX
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, pointed


class PartitionStats(Owned, CheckedAttributes):
    """Cycles that faiss's partitioning takes; nothing is counted here, and both are what they were set to.

    Attributes
    ----------
    bisect_cycles : int
    compress_cycles : int
    """

    bisect_cycles: Size
    compress_cycles: Size

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set both to 0."""
        self.bisect_cycles = self.compress_cycles = 0


#: The counts that ``cvar.partition_stats`` shows.
partition_stats = PartitionStats()


def CMax_float_partition_fuzzy(
    vals: Pointer, ids: Pointer, n: int, q_min: int, q_max: int, q_out: Pointer | None
) -> float:
    """Put the q smallest of n float32 in front, with their ids.

    Parameters
    ----------
    vals : Pointer
        n values; reordered.
    ids : Pointer
        n int64; reordered as the values.
    n : int
    q_min, q_max : int
        q may be anything between the two.
    q_out : Pointer or None
        To a uint64, where q is put.

    Returns
    -------
    float
        A value not below the first q and not above the others; 0 where q_min is 0. Where q_max reaches n, FLT_MAX
        (-FLT_MAX for the largest, 65535 for uint16).

    Raises
    ------
    TypeError
        If something is not a pointer to what is expected.
    """
    return float(_partition("CMax_float_partition_fuzzy", vals, ids, n, q_min, q_max, q_out, False))


def CMin_float_partition_fuzzy(
    vals: Pointer, ids: Pointer, n: int, q_min: int, q_max: int, q_out: Pointer | None
) -> float:
    """Put the q largest of n float32 in front, with their ids; see `CMax_float_partition_fuzzy`."""
    return float(_partition("CMin_float_partition_fuzzy", vals, ids, n, q_min, q_max, q_out, True))


def CMax_uint16_partition_fuzzy(
    vals: Pointer, ids: Pointer, n: int, q_min: int, q_max: int, q_out: Pointer | None
) -> int:
    """Put the q smallest of n uint16 in front, with their ids; see `CMax_float_partition_fuzzy`."""
    return int(_partition("CMax_uint16_partition_fuzzy", vals, ids, n, q_min, q_max, q_out, False))


def CMin_uint16_partition_fuzzy(
    vals: Pointer, ids: Pointer, n: int, q_min: int, q_max: int, q_out: Pointer | None
) -> int:
    """Put the q largest of n uint16 in front, with their ids; see `CMax_float_partition_fuzzy`."""
    return int(_partition("CMin_uint16_partition_fuzzy", vals, ids, n, q_min, q_max, q_out, True))


def _partition(
    function: str,
    vals: Pointer,
    ids: Pointer,
    n: int,
    q_min: int,
    q_max: int,
    q_out: Pointer | None,
    largest: bool,
) -> float:
    dtype = "float32" if "float" in function else "uint16"
    values, labels = pointed(vals, n, dtype, function), pointed(ids, n, "int64", function)
    q = 0 if q_min == 0 else q_max if q_max >= n else q_min
    if q_out is not None:
        pointed(q_out, 1, "uint64", function)[0] = q
    if q == 0:
        return 0
    if q >= n:
        return 65535 if dtype == "uint16" else -FLT_MAX if largest else FLT_MAX
    keys = values if not largest else -values if dtype == "float32" else 65535 - values
    order = np.argpartition(keys, q)
    values[:], labels[:] = values[order], labels[order]
    return values[q].item()


def simd_histogram_8(data: Pointer, n: int, min: int, shift: int, hist: Pointer) -> None:
    """Count n uint16 in 8 bins of ``1 << shift`` values from `min` on, to `hist`, int32 [8].

    Values outside the bins are not counted. A negative shift stands for bins of one value from 0 on.
    """
    _histogram("simd_histogram_8", 8, data, n, min, shift, hist)


def simd_histogram_16(data: Pointer, n: int, min: int, shift: int, hist: Pointer) -> None:
    """Count n uint16 in 16 bins, to `hist`, int32 [16]; see `simd_histogram_8`."""
    _histogram("simd_histogram_16", 16, data, n, min, shift, hist)


def _histogram(function: str, bins: int, data: Pointer, n: int, first: int, shift: int, hist: Pointer) -> None:
    values = pointed(data, n, "uint16", function).astype(np.int64)
    found = values if shift < 0 else (values - first) >> shift
    inside = found[(found >= 0) & (found < bins)]
    pointed(hist, bins, "int32", function)[:] = np.bincount(inside, minlength=bins)
