"""The types of indexes, one literal row each, and the texts that `index_factory` reads.

The factory reads the table (`build` makes an index from a text), and so do the reverse factory (`describe`), copies to
GPUs (`gpu`, `gpu_config`), and the tests that look for what a type lacks.

To add a type, take its line out of `NOT_OFFERED`, which has the other texts of faiss, and make it a row of `KINDS`: the
rows of scalar quantizers are examples. Classes for GPUs are names, which `devices/gpu_indexes.py` looks up in
itself and in `devices/options.py`: they stand on a higher floor. A type that no text makes has a row without a pattern.
The order of rows matters for `Part.END` alone: the first of two that fit is the outer index.

Source of the texts: faiss ``index_factory.cpp``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .indexes.base import Index
from .indexes.composite.id_map import IndexIDMap, IndexIDMap2
from .indexes.composite.replicas import IndexReplicas
from .indexes.composite.shards import IndexShards, IndexShardsIVF
from .indexes.composite.split_vectors import IndexSplitVectors
from .indexes.flat.flat import IndexFlat, IndexFlat1D, IndexFlatIP, IndexFlatL2
from .indexes.flat.scalar_quantizer import IndexScalarQuantizer
from .indexes.ivf.base import IndexIVF
from .indexes.ivf.flat import IndexIVFFlat
from .indexes.ivf.flat_dedup import IndexIVFFlatDedup
from .indexes.ivf.scalar_quantizer import IndexIVFScalarQuantizer
from .indexes.random import IndexRandom
from .parts.codecs.scalar_quantizer import ScalarQuantizer


class Part(enum.Enum):
    """Where the text of a type stands in a description."""

    #: At either end, with a comma: ``IDMap,`` or ``,IDMap``. Such an index is outside all others.
    END = enum.auto()
    #: Behind the index that it is made of: ``,RFlat``.
    SUFFIX = enum.auto()
    #: Before the index that it is made of: ``PCA64,``.
    PREFIX = enum.auto()
    #: The description is nothing else.
    WHOLE = enum.auto()
    #: The coarse quantizer of an inverted file, before the comma.
    COARSE = enum.auto()
    #: The code of an inverted file, behind the comma.
    CODE = enum.auto()
    #: No text makes the type.
    NONE = enum.auto()


class Wanted(NamedTuple):
    """What an index is to be.

    Attributes
    ----------
    d : int
        The width of the vectors.
    metric_type : int
    own_invlists : bool
        Whether an inverted file gets lists of its own.
    match : re.Match
        The text of the type, matched by its pattern.
    inner : tuple of Index
        What it is made of: the index that it wraps, then the one in parentheses (``index`` in the pattern); of an
        inverted file, the quantizer.
    nlist : int
        The number of lists of an inverted file.
    """

    d: int
    metric_type: int
    own_invlists: bool
    match: re.Match[str]
    inner: tuple[Index, ...]
    nlist: int


class Kind(NamedTuple):
    """A type of index.

    Attributes
    ----------
    cls : type
    part : Part
    pattern : str
        Of its text. A group named ``index`` is a description of its own.
    example : str
        A whole description that makes an index of this type; empty where there is none.
    build : callable, optional
        Makes an empty index.
    describe : callable, optional
        Returns the description that makes such an index; None where there is none.
    gpu : str
        The class of a copy on a GPU; empty where it keeps its class there.
    gpu_config : str
        The class of that copy's configuration.
    """

    cls: type[Index]
    part: Part = Part.NONE
    pattern: str = ""
    example: str = ""
    build: Callable[[Wanted], Index] | None = None
    describe: Callable[[Any], str] | None = None
    gpu: str = ""
    gpu_config: str = ""


class Absent(NamedTuple):
    """A type that faiss makes from a text, and this version does not: its name, and its text as in `Kind`."""

    name: str
    part: Part
    pattern: str


_GRAPH = "HNSW[0-9]*|NSG[0-9]+"

#: How an inverted file begins: the number of its lists, in units of one, k or M, and the description of its quantizer,
#: with an underscore or in parentheses; Flat goes without saying.
COARSE = rf"IVF([0-9]+)([kM]?)(?:_({_GRAPH})|\((.+)\))?"


def describe(index: Any) -> str:
    """Return the description that makes an index of this kind.

    Parameters
    ----------
    index : Index

    Returns
    -------
    str
        Such as ``IVF256,Flat``.

    Raises
    ------
    NotImplementedError
        If no description makes such an index.
    """
    kinds = (kind for cls in type(index).__mro__ for kind in KINDS if kind.cls is cls)
    own = next((kind.describe for kind in kinds), None)
    if own is None:
        raise NotImplementedError(f"no index_factory string makes a {type(index).__name__}")
    return own(index)


def coarse(index: IndexIVF) -> str:
    """What stands before the comma in the description of an inverted file."""
    quantizer = describe(index.quantizer)
    if quantizer == "Flat":
        return f"IVF{index.nlist}"
    return f"IVF{index.nlist}_{quantizer}" if re.fullmatch(_GRAPH, quantizer) else f"IVF{index.nlist}({quantizer})"


def ivf_arguments(wanted: Wanted) -> tuple[Index, int, int]:
    """What the constructors of inverted files begin with."""
    return wanted.inner[0], wanted.d, wanted.nlist


def _owner(wrapper: Any) -> Any:
    """A wrapper that owns what it wraps, as faiss's factory makes it."""
    wrapper.own_fields = True
    return wrapper


#: The texts of scalar quantizers, and the types that they stand for, as attributes of ScalarQuantizer.
SQ_TYPES = {
    "SQ8": "QT_8bit",
    "SQ4": "QT_4bit",
    "SQ6": "QT_6bit",
    "SQfp16": "QT_fp16",
    "SQbf16": "QT_bf16",
    "SQ8_direct": "QT_8bit_direct",
    "SQ8_direct_signed": "QT_8bit_direct_signed",
    "SQ0": "QT_0bit",
    "SQtqmse1": "QT_1bit_tqmse",
    "SQtqmse2": "QT_2bit_tqmse",
    "SQtqmse3": "QT_3bit_tqmse",
    "SQtqmse4": "QT_4bit_tqmse",
    "SQtqmse8": "QT_8bit_tqmse",
    "SQtq2": "QT_2bit_tq",
    "SQtq3": "QT_3bit_tq",
    "SQtq4": "QT_4bit_tq",
    "SQtq5": "QT_5bit_tq",
}

_SQ = "|".join(SQ_TYPES)


def _qtype(wanted: Wanted) -> int:
    """The number of the quantizer type that a text asks for."""
    number: int = getattr(ScalarQuantizer, SQ_TYPES[wanted.match[0]])
    return number


def sq_text(sq: ScalarQuantizer) -> str:
    """The text of a scalar quantizer.

    Raises
    ------
    NotImplementedError
        If there is none.
    """
    for text, name in SQ_TYPES.items():
        if getattr(ScalarQuantizer, name) == sq.qtype:
            return text
    raise NotImplementedError(f"no index_factory string makes a scalar quantizer of type {sq.qtype}")


KINDS: tuple[Kind, ...] = (
    Kind(
        IndexFlat,
        Part.WHOLE,
        "Flat",
        example="Flat",
        build=lambda wanted: IndexFlat(wanted.d, wanted.metric_type),
        describe=lambda index: "Flat",
        gpu="GpuIndexFlat",
        gpu_config="GpuIndexFlatConfig",
    ),
    Kind(IndexFlatL2, describe=lambda index: "Flat", gpu="GpuIndexFlatL2", gpu_config="GpuIndexFlatConfig"),
    Kind(IndexFlatIP, describe=lambda index: "Flat", gpu="GpuIndexFlatIP", gpu_config="GpuIndexFlatConfig"),
    Kind(IndexFlat1D, describe=lambda index: "Flat"),
    Kind(
        IndexIVFFlat,
        Part.CODE,
        "Flat",
        example="IVF16,Flat",
        build=lambda wanted: IndexIVFFlat(*ivf_arguments(wanted), wanted.metric_type, wanted.own_invlists),
        describe=lambda index: f"{coarse(index)},Flat",
        gpu="GpuIndexIVFFlat",
        gpu_config="GpuIndexIVFFlatConfig",
    ),
    Kind(
        IndexIVFFlatDedup,
        Part.CODE,
        "FlatDedup",
        example="IVF16,FlatDedup",
        build=lambda wanted: IndexIVFFlatDedup(*ivf_arguments(wanted), wanted.metric_type, wanted.own_invlists),
        describe=lambda index: f"{coarse(index)},FlatDedup",
    ),
    Kind(
        IndexScalarQuantizer,
        Part.WHOLE,
        _SQ,
        example="SQ8",
        build=lambda wanted: IndexScalarQuantizer(wanted.d, _qtype(wanted), wanted.metric_type),
        describe=lambda index: sq_text(index.sq),
    ),
    Kind(
        IndexIVFScalarQuantizer,
        Part.CODE,
        _SQ,
        example="IVF16,SQ8",
        build=lambda wanted: IndexIVFScalarQuantizer(
            *ivf_arguments(wanted), _qtype(wanted), wanted.metric_type, True, wanted.own_invlists
        ),
        describe=lambda index: f"{coarse(index)},{sq_text(index.sq)}",
        gpu="GpuIndexIVFScalarQuantizer",
        gpu_config="GpuIndexIVFScalarQuantizerConfig",
    ),
    Kind(
        IndexIDMap2,
        Part.END,
        "IDMap2",
        example="IDMap2,Flat",
        build=lambda wanted: _owner(IndexIDMap2(wanted.inner[0])),
        describe=lambda index: f"IDMap2,{describe(index.index)}",
    ),
    Kind(
        IndexIDMap,
        Part.END,
        "IDMap",
        example="IDMap,Flat",
        build=lambda wanted: _owner(IndexIDMap(wanted.inner[0])),
        describe=lambda index: f"IDMap,{describe(index.index)}",
    ),
    Kind(IndexShards),
    Kind(IndexShardsIVF),
    Kind(IndexReplicas),
    Kind(IndexSplitVectors),
    Kind(IndexRandom),
)

_PQ = "PQ([0-9]+)(x[0-9]+)?(np)?"
_FAST = "(_[0-9]+)?"  # vectors of a block
_STEPS = "[0-9]+x[0-9]+(?:_[0-9]+x[0-9]+)*"  # of additive quantizers
_SPLITS = "([0-9]+)x([0-9]+)x([0-9]+)"  # of products of these
_NORM = "(?:_N(none|float|qint8|qint4|cqint8|cqint4|lsq2x4|rq2x4))?"  # how their norms are kept
_HNSW = "HNSW([0-9]*)[,_]"
_NSG = "NSG([0-9]*)[,_]"

#: The other texts of faiss-cpu 1.15.1. `gaps` says why a type is not offered.
NOT_OFFERED: tuple[Absent, ...] = (
    Absent("IndexRefineFlat", Part.SUFFIX, "RFlat"),
    Absent("IndexRefine", Part.SUFFIX, r"Refine\((?P<index>.+)\)"),
    Absent("IndexRefinePanorama", Part.SUFFIX, r"RefinePanorama\((?P<index>.+)\)"),
    Absent("PCAMatrix", Part.PREFIX, "PCA(W?)(R?)([0-9]+)"),
    Absent("OPQMatrix", Part.PREFIX, "OPQ([0-9]+)(_[0-9]+)?"),
    Absent("ITQTransform", Part.PREFIX, "ITQ([0-9]+)?"),
    Absent("RandomRotationMatrix", Part.PREFIX, "RR([0-9]+)?"),
    Absent("HadamardRotation", Part.PREFIX, "HR([0-9]+)?"),
    Absent("NormalizationTransform", Part.PREFIX, "L2[nN]orm"),
    Absent("RemapDimensionsTransform", Part.PREFIX, "Pad([0-9]+)"),
    Absent("IndexRowwiseMinMax", Part.PREFIX, "MinMax"),
    Absent("IndexRowwiseMinMaxFP16", Part.PREFIX, "MinMaxFP16"),
    Absent("IndexFlatL2Panorama", Part.WHOLE, "FlatL2Panorama([0-9]+)(_[0-9]+)?"),
    Absent("IndexFlatIPPanorama", Part.WHOLE, "FlatIPPanorama([0-9]+)(_[0-9]+)?"),
    Absent("IndexLSH", Part.WHOLE, "LSH([0-9]*)(r?)(t?)"),
    Absent("IndexLattice", Part.WHOLE, "ZnLattice([0-9]+)x([0-9]+)_([0-9]+)"),
    Absent("IndexPQ", Part.WHOLE, _PQ),
    Absent("IndexPQFastScan", Part.WHOLE, f"PQ([0-9]+)x4fs{_FAST}"),
    Absent("IndexResidualQuantizer", Part.WHOLE, f"RQ{_STEPS}{_NORM}"),
    Absent("ResidualCoarseQuantizer", Part.WHOLE, f"RCQ{_STEPS}{_NORM}"),
    Absent("IndexLocalSearchQuantizer", Part.WHOLE, f"LSQ([0-9]+)x([0-9]+){_NORM}"),
    Absent("LocalSearchCoarseQuantizer", Part.WHOLE, f"LSCQ([0-9]+)x([0-9]+){_NORM}"),
    Absent("IndexProductResidualQuantizer", Part.WHOLE, f"PRQ{_SPLITS}{_NORM}"),
    Absent("IndexProductLocalSearchQuantizer", Part.WHOLE, f"PLSQ{_SPLITS}{_NORM}"),
    Absent("IndexResidualQuantizerFastScan", Part.WHOLE, f"RQ([0-9]+)x4fs{_FAST}{_NORM}"),
    Absent("IndexLocalSearchQuantizerFastScan", Part.WHOLE, f"LSQ([0-9]+)x4fs{_FAST}{_NORM}"),
    Absent("IndexProductResidualQuantizerFastScan", Part.WHOLE, f"PRQ([0-9]+)x([0-9]+)x4fs{_FAST}{_NORM}"),
    Absent("IndexProductLocalSearchQuantizerFastScan", Part.WHOLE, f"PLSQ([0-9]+)x([0-9]+)x4fs{_FAST}{_NORM}"),
    Absent("IndexRaBitQ", Part.WHOLE, "RaBitQ([1-9])?"),
    Absent("IndexRaBitQFastScan", Part.WHOLE, f"RaBitQfs([1-9])?{_FAST}"),
    Absent("IndexEDEN", Part.WHOLE, "EDEN([1-8])?(BIASED|BIAS)?"),
    Absent("IndexHNSWFlat", Part.WHOLE, "HNSW([0-9]*)(?:[,_](?:Flat)?)?"),
    Absent("IndexHNSWFlatPanorama", Part.WHOLE, f"{_HNSW}FlatPanorama([0-9]+)?"),
    Absent("IndexHNSWSQ", Part.WHOLE, f"{_HNSW}({_SQ})"),
    Absent("IndexHNSWPQ", Part.WHOLE, f"{_HNSW}{_PQ}"),
    Absent("IndexHNSW2Level", Part.WHOLE, rf"{_HNSW}(2x)?([0-9]+)\+PQ([0-9]+)?"),
    Absent("IndexHNSWRaBitQ", Part.WHOLE, f"{_HNSW}RaBitQ([1-9])?"),
    Absent("IndexNSGFlat", Part.WHOLE, "NSG([0-9]*)(?:[,_](?:Flat)?)?"),
    Absent("IndexNSGSQ", Part.WHOLE, f"{_NSG}({_SQ})"),
    Absent("IndexNSGPQ", Part.WHOLE, f"{_NSG}{_PQ}"),
    Absent("Index2Layer", Part.WHOLE, "Residual([0-9]+)(x[0-9]+)?,PQ([0-9]+)(x[0-9]+)?"),
    Absent("MultiIndexQuantizer", Part.COARSE, "IMI2x([0-9]+)"),
    Absent("IndexIVFFlatPanorama", Part.CODE, "FlatPanorama([0-9]+)?(_[0-9]+)?"),
    Absent("IndexIVFPQ", Part.CODE, _PQ),
    Absent("IndexIVFPQR", Part.CODE, r"PQ([0-9]+)\+([0-9]+)"),
    Absent("IndexIVFPQFastScan", Part.CODE, f"PQ([0-9]+)x4fs(r?){_FAST}"),
    Absent("IndexIVFResidualQuantizer", Part.CODE, f"RQ{_STEPS}{_NORM}"),
    Absent("IndexIVFLocalSearchQuantizer", Part.CODE, f"LSQ{_STEPS}{_NORM}"),
    Absent("IndexIVFProductResidualQuantizer", Part.CODE, f"PRQ{_SPLITS}{_NORM}"),
    Absent("IndexIVFProductLocalSearchQuantizer", Part.CODE, f"PLSQ{_SPLITS}{_NORM}"),
    Absent("IndexIVFResidualQuantizerFastScan", Part.CODE, f"RQ([0-9]+)x4fs(r?){_FAST}{_NORM}"),
    Absent("IndexIVFLocalSearchQuantizerFastScan", Part.CODE, f"LSQ([0-9]+)x4fs(r?){_FAST}{_NORM}"),
    Absent("IndexIVFProductResidualQuantizerFastScan", Part.CODE, f"PRQ([0-9]+)x([0-9]+)x4fs(r?){_FAST}{_NORM}"),
    Absent("IndexIVFProductLocalSearchQuantizerFastScan", Part.CODE, f"PLSQ([0-9]+)x([0-9]+)x4fs(r?){_FAST}{_NORM}"),
    Absent("IndexIVFSpectralHash", Part.CODE, "(ITQ|PCA|PCAR)([0-9]+)?,SH([-0-9.e]+)?([gcm])?"),
    Absent("IndexIVFRaBitQ", Part.CODE, "RaBitQ([1-9])?"),
    Absent("IndexIVFRaBitQFastScan", Part.CODE, f"RaBitQfs([1-9])?{_FAST}"),
    Absent("IndexIVFEDEN", Part.CODE, "EDEN([1-8])?(BIASED|BIAS)?"),
)
