"""Code sizes of factory strings, and factory strings of indexes, as ``faiss.contrib.factory_tools`` does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .. import downcast_index, downcast_VectorTransform

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


#: Names of scalar quantizers by their qtype. Those of the uniform kinds are no factory strings.
_SQ_NAMES = {
    "QT_8bit": "SQ8",
    "QT_4bit": "SQ4",
    "QT_8bit_uniform": "SQ8u",
    "QT_4bit_uniform": "SQ4u",
    "QT_6bit": "SQ6",
    "QT_fp16": "SQfp16",
    "QT_bf16": "SQbf16",
    "QT_8bit_direct": "SQ8_direct",
    "QT_8bit_direct_signed": "SQ8_direct_signed",
    "QT_0bit": "SQ0",
    "QT_1bit_tqmse": "SQtqmse1",
    "QT_2bit_tqmse": "SQtqmse2",
    "QT_3bit_tqmse": "SQtqmse3",
    "QT_4bit_tqmse": "SQtqmse4",
    "QT_8bit_tqmse": "SQtqmse8",
    "QT_2bit_tq": "SQtq2",
    "QT_3bit_tq": "SQtq3",
    "QT_4bit_tq": "SQtq4",
    "QT_5bit_tq": "SQtq5",
}


def _sq_name(index: Any) -> str:
    for name, string in _SQ_NAMES.items():
        if getattr(type(index.sq), name, None) == index.sq.qtype:
            return string
    raise NotImplementedError(f"scalar quantizer of qtype {index.sq.qtype}")


def _rabitq_name(index: Any) -> str:
    nb_bits = index.rabitq.nb_bits
    return "RaBitQ" if nb_bits == 1 else f"RaBitQ{nb_bits}"


def _pq_name(index: Any) -> str:
    return f"PQ{index.pq.M}x{index.pq.nbits}"


def get_hnsw_M(index: Any) -> int:
    """Return the M that an HNSW index was built with."""
    return index.hnsw.cum_nneighbor_per_level.at(1) // 2


def _hnsw_name(index: Any) -> str:
    prefix = f"HNSW{get_hnsw_M(index)}"
    storage = None if index.storage is None else reverse_index_factory(index.storage)
    # flat storage goes without saying
    return prefix if storage in (None, "Flat") else f"{prefix},{storage}"


def _pca_name(transform: Any) -> str:
    assert transform.eigen_power == 0, f"PCA with eigen_power {transform.eigen_power}, expected 0"
    return f"PCA{'R' if transform.random_rotation else ''}{transform.d_out}"


#: Rules by class name; the first class on an object's MRO that has a rule counts.
_TRANSFORMS: dict[str, Callable[[Any], str]] = {
    "OPQMatrix": lambda transform: f"OPQ{transform.M}_{transform.d_out}",
    "ITQTransform": lambda transform: f"ITQ{transform.itq.d_out}",
    "PCAMatrix": _pca_name,
}


def _pre_transform_name(index: Any) -> str:
    if index.chain.size() != 1:
        raise NotImplementedError(f"{index.chain.size()} transforms before an index")
    prefix = _by_class(_TRANSFORMS, downcast_VectorTransform(index.chain.at(0)))
    return f"{prefix},{reverse_index_factory(index.index)}"


def _refine_name(index: Any) -> str:
    return f"{reverse_index_factory(index.base_index)},Refine({reverse_index_factory(index.refine_index)})"


def _lsh_name(index: Any) -> str:
    return f"LSH{'r' if index.rotate_data else ''}{'t' if index.train_thresholds else ''}"


#: What stands before the comma, from the quantizer of an IVF index.
_QUANTIZERS: dict[str, Callable[[int, Any], str]] = {
    "IndexFlat": lambda nlist, quantizer: f"IVF{nlist}",
    "MultiIndexQuantizer": lambda nlist, quantizer: f"IMI{quantizer.pq.M}x{quantizer.pq.nbits}",
    "IndexHNSW": lambda nlist, quantizer: f"IVF{nlist}_HNSW{get_hnsw_M(quantizer)}",
    "Index": lambda nlist, quantizer: f"IVF{nlist}({reverse_index_factory(quantizer)})",
}


def _ivf_name(codec: Callable[[Any], str]) -> Callable[[Any], str]:
    def name(index: Any) -> str:
        return f"{_by_class(_QUANTIZERS, downcast_index(index.quantizer), index.nlist)},{codec(index)}"

    return name


_INDEXES: dict[str, Callable[[Any], str]] = {
    "IndexFlat": lambda index: "Flat",
    "IndexIVFFlat": _ivf_name(lambda index: "Flat"),
    "IndexIVFScalarQuantizer": _ivf_name(_sq_name),
    "IndexIVFPQR": _ivf_name(lambda index: f"PQ{index.pq.M}+{index.refine_pq.M}"),
    "IndexIVFPQ": _ivf_name(_pq_name),
    "IndexIVFPQFastScan": _ivf_name(lambda index: f"{_pq_name(index)}fs"),
    "IndexIVFRaBitQ": _ivf_name(_rabitq_name),
    "IndexPreTransform": _pre_transform_name,
    "IndexHNSW": _hnsw_name,
    "IndexRefine": _refine_name,
    "IndexPQFastScan": lambda index: f"{_pq_name(index)}fs",
    "IndexPQ": _pq_name,
    "IndexLSH": _lsh_name,
    "IndexScalarQuantizer": _sq_name,
    "IndexRaBitQ": _rabitq_name,
    "IndexIDMap2": lambda index: f"IDMap2,{reverse_index_factory(index.index)}",
    "IndexIDMap": lambda index: f"IDMap,{reverse_index_factory(index.index)}",
}


def _by_class(rules: dict[str, Callable[..., str]], thing: Any, *before: Any) -> str:
    for the_class in type(thing).__mro__:
        if the_class.__name__ in rules:
            return rules[the_class.__name__](*before, thing)
    raise NotImplementedError(f"no factory string for {type(thing).__name__}")


def reverse_index_factory(index: Any) -> str:
    """Return the factory string that an index may have been built with.

    Raises
    ------
    NotImplementedError
        If the index, or a part of it, has none.
    """
    return _by_class(_INDEXES, downcast_index(index))
