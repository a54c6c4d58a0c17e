"""index_factory: an index from a text such as ``IVF256,Flat``.

A description is read from the outside in, by three tables of rules: a whole index (``Flat``), the coarse
quantizer of an inverted file (``IVF256``, or ``IVF256(...)`` with any index in the parentheses), and the code
of its vectors (what stands behind the comma). A new index type is a row in one of them.

Source of the grammar: faiss ``index_factory.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .attributes import integer
from .constants import METRIC_INNER_PRODUCT, METRIC_L2, metric_type_from_int
from .indexes.base import Index
from .indexes.composite.id_map import IndexIDMap, IndexIDMap2
from .indexes.flat.flat import IndexFlat
from .indexes.ivf.base import IndexIVF
from .indexes.ivf.flat import IndexIVFFlat
from .indexes.ivf.flat_dedup import IndexIVFFlatDedup

_MULTIPLIERS = {"": 1, "k": 1 << 10, "M": 1 << 20}

#: faiss reads the numbers of a description as C ints.
_LARGEST_NUMBER = 2**31 - 1


class Wanted(NamedTuple):
    """What all parts of one description share.

    Attributes
    ----------
    d : int
        The width of the vectors.
    metric_type : int
    own_invlists : bool
        Whether an inverted file gets lists of its own.
    nested : tuple of str
        The texts in parentheses, which a rule sees as ``Index0``, ``Index1`` ...
    """

    d: int
    metric_type: int
    own_invlists: bool
    nested: tuple[str, ...]


class Coarse(NamedTuple):
    """A coarse quantizer and the number of lists."""

    quantizer: Index
    nlist: int


class IndexRule(NamedTuple):
    """A whole index, by a pattern for its whole text."""

    pattern: str
    build: Callable[[Wanted, re.Match[str]], Index]


class CoarseRule(NamedTuple):
    """A coarse quantizer, by a pattern for what stands before the first comma."""

    pattern: str
    build: Callable[[Wanted, re.Match[str]], Coarse]


class CodeRule(NamedTuple):
    """The code of an inverted file, by a pattern for what stands behind the first comma."""

    pattern: str
    build: Callable[[Wanted, re.Match[str], Coarse], IndexIVF]


def _nlist(match: re.Match[str]) -> int:
    if int(match[1]) > _LARGEST_NUMBER:
        raise RuntimeError(f"could not parse index string: {match[1]} in {match[0]!r} is too large a number")
    return int(match[1]) * _MULTIPLIERS[match[2]]


def _flat(wanted: Wanted, match: re.Match[str]) -> Index:
    return IndexFlat(wanted.d, wanted.metric_type)


def _flat_quantizer(wanted: Wanted, match: re.Match[str]) -> Coarse:
    return Coarse(IndexFlat(wanted.d, wanted.metric_type), _nlist(match))


def _nested_quantizer(wanted: Wanted, match: re.Match[str]) -> Coarse:
    return Coarse(_parse(wanted.nested[int(match[3])], wanted._replace(own_invlists=True, nested=())), _nlist(match))


def _ivf_flat(wanted: Wanted, match: re.Match[str], coarse: Coarse) -> IndexIVF:
    return IndexIVFFlat(coarse.quantizer, wanted.d, coarse.nlist, wanted.metric_type, wanted.own_invlists)


def _ivf_flat_dedup(wanted: Wanted, match: re.Match[str], coarse: Coarse) -> IndexIVF:
    return IndexIVFFlatDedup(coarse.quantizer, wanted.d, coarse.nlist, wanted.metric_type, wanted.own_invlists)


def _wrapped_by(cls: type[IndexIDMap]) -> Callable[[Wanted, re.Match[str]], Index]:
    def build(wanted: Wanted, match: re.Match[str]) -> Index:
        text = _with_parentheses(match[1] or match[2], wanted.nested)
        index = cls(_parse(text, wanted._replace(own_invlists=True, nested=())))
        index.own_fields = True
        return index

    return build


INDEX_RULES = (
    # in front of an index or behind it; the first of two rules that match is the outer index
    IndexRule("(.+),IDMap2|IDMap2,(.+)", _wrapped_by(IndexIDMap2)),
    IndexRule("(.+),IDMap|IDMap,(.+)", _wrapped_by(IndexIDMap)),
    IndexRule("Flat", _flat),
)

COARSE_RULES = (
    CoarseRule("IVF([0-9]+)([kM]?)", _flat_quantizer),
    CoarseRule(r"IVF([0-9]+)([kM]?)\(Index([0-9])\)", _nested_quantizer),
)

CODE_RULES = (
    CodeRule("Flat", _ivf_flat),
    CodeRule("FlatDedup", _ivf_flat_dedup),
)

#: What the tables above read, for messages.
OFFERED = (
    "Flat; IVF{nlist},Flat; IVF{nlist},FlatDedup; IVF{nlist}(...),Flat with an index in the parentheses; "
    "IDMap,... or IDMap2,... of one of these"
)


def index_factory(d: int, description: str, metric: int = METRIC_L2, own_invlists: bool = True) -> Index:
    """Make an index from a description.

    Parameters
    ----------
    d : int
        The width of the vectors.
    description : str
        Such as ``Flat``, ``IVF256,Flat``, ``IVF1k(IVF32,Flat),Flat``; spaces are passed over.
    metric : int
        One of the ``METRIC_*`` numbers.
    own_invlists : bool
        Whether an inverted file gets lists of its own; without them they are given later.

    Returns
    -------
    Index

    Raises
    ------
    RuntimeError
        If a part of the description is not understood; the message says which.
    TypeError
        If `d` is not an integer or the description not a text.
    """
    if not isinstance(description, str):
        raise TypeError(f"index_factory: expected a text as description, not {type(description).__name__}")
    if isinstance(d, float) or not hasattr(d, "__index__"):
        raise TypeError(f"index_factory: expected an integer as dimension, not {type(d).__name__}")
    wanted = Wanted(integer(d, "d"), metric_type_from_int(metric), own_invlists, ())
    return _parse(re.sub(r"\s", "", description), wanted)


def _parse(description: str, wanted: Wanted) -> Index:
    normal, nested = _split_parentheses(description)
    wanted = wanted._replace(nested=nested)
    for rule in INDEX_RULES:
        match = re.fullmatch(rule.pattern, normal)
        if match:
            return rule.build(wanted, match)
    coarse_text, _, code_text = normal.partition(",")
    coarse_matches = ((rule, re.fullmatch(rule.pattern, coarse_text)) for rule in COARSE_RULES)
    coarse_rule, coarse_match = next((found for found in coarse_matches if found[1]), (None, None))
    if coarse_rule is None or coarse_match is None:
        raise _not_understood(description, _with_parentheses(coarse_text, nested))
    code_matches = ((rule, re.fullmatch(rule.pattern, code_text)) for rule in CODE_RULES)
    code_rule, code_match = next((found for found in code_matches if found[1]), (None, None))
    if code_rule is None or code_match is None:
        missing = "the code behind a comma is missing" if not code_text else ""
        raise _not_understood(description, _with_parentheses(code_text, nested), missing)
    coarse = coarse_rule.build(wanted, coarse_match)
    return _set_ivf_fields(code_rule.build(wanted, code_match, coarse))


def _set_ivf_fields(index: IndexIVF) -> IndexIVF:
    """What faiss sets on every inverted file that its factory makes."""
    # a flat quantizer is filled by k-means; others are trained on all data (2), as k-means cannot use them
    index.quantizer_trains_alone = 0 if isinstance(index.quantizer, IndexFlat) else 2
    index.cp.spherical = index.metric_type == METRIC_INNER_PRODUCT
    index.own_fields = True
    return index


def _split_parentheses(description: str) -> tuple[str, tuple[str, ...]]:
    """Replace what stands in parentheses by Index0 ...: ``IVF8(Flat),Flat`` gives ``IVF8(Index0),Flat``."""
    outside: list[str] = []
    nested: list[str] = []
    depth = begin = 0
    for position, character in enumerate(description):
        if character == "(":
            depth += 1
            if depth == 1:
                outside.append(f"{description[begin:position]}(Index{len(nested)})")
                begin = position + 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                nested.append(description[begin:position])
                begin = position + 1
        if depth < 0:
            break
    if depth != 0:
        raise RuntimeError(f"could not parse index string {description!r}: unbalanced parentheses")
    return "".join(outside) + description[begin:], tuple(nested)


def _with_parentheses(text: str, nested: tuple[str, ...]) -> str:
    """Put back what `_split_parentheses` replaced."""
    return re.sub(r"\(Index([0-9]+)\)", lambda match: f"({nested[int(match[1])]})", text)


def _not_understood(description: str, part: str, reason: str = "") -> RuntimeError:
    what = reason or f"could not understand {part!r}"
    where = "" if part == description else f" in {description!r}"
    return RuntimeError(f"could not parse index string: {what}{where}. This version reads {OFFERED}")


#: The descriptions of inverted files' codes, by class; a subclass stands before its base.
CODE_NAMES: tuple[tuple[type[IndexIVF], str], ...] = (
    (IndexIVFFlatDedup, "FlatDedup"),
    (IndexIVFFlat, "Flat"),
)


def reverse_index_factory(index: Index) -> str:
    """The description that makes an index of this kind.

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
    if isinstance(index, IndexFlat):
        return "Flat"
    if isinstance(index, IndexIDMap):
        return f"{'IDMap2' if isinstance(index, IndexIDMap2) else 'IDMap'},{reverse_index_factory(index.index)}"
    if isinstance(index, IndexIVF):
        nested = "" if isinstance(index.quantizer, IndexFlat) else f"({reverse_index_factory(index.quantizer)})"
        for index_class, name in CODE_NAMES:
            if isinstance(index, index_class):
                return f"IVF{index.nlist}{nested},{name}"
    raise NotImplementedError(f"no index_factory string makes a {type(index).__name__}")
