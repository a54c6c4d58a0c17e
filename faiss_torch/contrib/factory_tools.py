"""Code sizes of factory strings, and factory strings of indexes, as ``faiss.contrib.factory_tools`` does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .. import reverse_index_factory

__all__ = ["get_code_size", "get_hnsw_M", "reverse_index_factory"]

#: Bits per dimension of the scalar quantizers.
_SQ_BITS = {"SQ8": 8, "SQ4": 4, "SQ6": 6, "SQfp16": 16, "SQbf16": 16}

#: How the rest of a factory string, the last group, is to be measured: pattern, and a function of d and the
#: match that returns the bytes of a vector. The first pattern that matches counts.
_CODE_SIZES: tuple[tuple[str, Callable[[int, re.Match], int]], ...] = (
    (r"Flat", lambda d, m: d * 4),
    (r"(.*),RFlat", lambda d, m: d * 4 + get_code_size(d, m[1])),
    (r"IVF\d+(?:_HNSW\d+)?,(.*)", lambda d, m: get_code_size(d, m[1])),
    (r"IVF\d+\(.*\)?,(.*)", lambda d, m: get_code_size(d, m[1])),
    (r"IMI\d+x\d+,(.*)", lambda d, m: get_code_size(d, m[1])),
    (r"(.*),Refine\((.*)\)", lambda d, m: get_code_size(d, m[1]) + get_code_size(d, m[2])),
    (r"PQ(\d+)x(\d+)(?:fs|fsr)?", lambda d, m: (int(m[1]) * int(m[2]) + 7) // 8),
    (r"PQ(\d+)\+(\d+)", lambda d, m: int(m[1]) + int(m[2])),
    (r"PQ(\d+)", lambda d, m: int(m[1])),
    # the links of the lowest level; the levels above hold few vectors
    (r"HNSW(\d+)(?:,Flat)?", lambda d, m: d * 4 + int(m[1]) * 2 * 4),
    (r"HNSW(\d+),(.*)", lambda d, m: get_code_size(d, m[2]) + int(m[1]) * 2 * 4),
    ("|".join(_SQ_BITS), lambda d, m: (d * _SQ_BITS[m[0]] + 7) // 8),
    (r"PCAR?(\d+),(.*)", lambda d, m: get_code_size(int(m[1]), m[2])),
    (r"OPQ\d+_(\d+),(.*)", lambda d, m: get_code_size(int(m[1]), m[2])),
    (r"OPQ\d+,(.*)", lambda d, m: get_code_size(d, m[1])),
    (r"RR(\d+),(.*)", lambda d, m: get_code_size(int(m[1]), m[2])),
)


def get_code_size(d: int, indexkey: str) -> int:
    """Return the bytes that an index with this factory string needs for a vector of `d` dimensions.

    Raises
    ------
    RuntimeError
        If the string is not understood.
    """
    for pattern, size in _CODE_SIZES:
        match = re.fullmatch(pattern, indexkey)
        if match:
            return size(d, match)
    raise RuntimeError(f"cannot parse {indexkey}")


def get_hnsw_M(index: Any) -> int:
    """Return the M that an HNSW index was built with."""
    return index.hnsw.cum_nneighbor_per_level.at(1) // 2
