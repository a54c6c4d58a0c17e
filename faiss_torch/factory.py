"""index_factory: an index from a text such as ``IVF256,Flat``.

A description is words with commas between them; a word may have a description in parentheses. It is read from the
outside in: what stands at either end (``IDMap``), suffixes (``RFlat``), prefixes (``PCA64``), a whole index
(``Flat``), and last an inverted file, which is a coarse part (``IVF256``) and a code. `kinds` has the words, those of
faiss that this version does not offer among them: a description is read to its end before anything is made, so that
the message says what is wrong with it.

Source of the grammar: faiss ``index_factory.cpp``.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from .constants import METRIC_INNER_PRODUCT, METRIC_L2, metric_type_from_int
from .gaps import GAPS
from .indexes.base import Index
from .indexes.flat.flat import IndexFlat
from .kinds import COARSE, KINDS, NOT_OFFERED, Absent, Kind, Part, Wanted, describe
from .placeholders import NotOffered

_MULTIPLIERS = {"": 1, "k": 1 << 10, "M": 1 << 20}

#: faiss reads the numbers of a description as C ints.
_LARGEST_NUMBER = 2**31 - 1

#: A type, and its word in a description.
Matched: TypeAlias = tuple[Kind | Absent, re.Match[str]]


class Parsed(NamedTuple):
    """A description that has been read.

    Attributes
    ----------
    text : str
    kind : Kind or Absent
        The type of the outermost index.
    match : re.Match
        Its word.
    inner : tuple of Parsed
        What the index is made of, as in `Wanted`.
    nlist : int
        As in `Wanted`; 0 where the quantizer's type decides it.
    """

    text: str
    kind: Kind | Absent
    match: re.Match[str]
    inner: tuple[Parsed, ...] = ()
    nlist: int = 0


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
        If a part of the description is not understood, or makes a type that is not offered; the message says which.
    TypeError
        If an argument is of another type, or an integer takes more than 32 bits.
    """
    if not isinstance(description, str):
        raise TypeError(f"index_factory: expected a text as description, not {type(description).__name__}")
    width, metric_type = _int32(d, "dimension"), metric_type_from_int(_int32(metric, "metric"))
    text = re.sub(r"\s", "", description)
    _check_numbers(text)
    parsed = _parsed(_words(text))
    _check_offered(parsed)
    return _built(parsed, width, metric_type, own_invlists)


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
    return describe(index)


def _int32(value: Any, name: str) -> int:
    """A C int; faiss's factory refuses a larger one as it refuses another type."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"index_factory: expected an integer as {name}, not {type(value).__name__}")
    number = operator.index(value)
    if not -(2**31) <= number < 2**31:
        raise TypeError(f"index_factory: expected an integer of 32 bits as {name}, not {number}")
    return number


# --- reading -------------------------------------------------------------------------------------------------------


def _check_numbers(text: str) -> None:
    for number in re.findall("[0-9]+", text):
        digits = number.lstrip("0")
        if len(digits) > 10 or int(digits or "0") > _LARGEST_NUMBER:
            raise _not_understood(text, f"{number} is too large a number")


def _words(text: str) -> list[str]:
    """The words of a description: ``IVF8(IVF2,Flat),Flat`` gives ``IVF8(IVF2,Flat)`` and ``Flat``."""
    words, depth, begin = [], 0, 0
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
        if character == "," and depth == 0:
            words.append(text[begin:position])
            begin = position + 1
    if depth != 0:
        raise _not_understood(text, "unbalanced parentheses")
    return [*words, text[begin:]]


def _matched(part: Part, text: str) -> Matched | None:
    """The type whose word, in a part of a description, is a text."""
    rows: Iterable[Kind | Absent] = itertools.chain(KINDS, NOT_OFFERED)
    for row in rows:
        match = re.fullmatch(row.pattern, text) if row.part is part else None
        if match:
            return row, match
    return None


def _parsed(words: list[str]) -> Parsed:
    return _wrapper(words) or _whole(words) or _inverted_file(words)


def _wrapper(words: list[str]) -> Parsed | None:
    """An index around another one, by the word at the end or at the beginning."""
    text = ",".join(words)
    for kind in KINDS:
        if kind.part is Part.END:
            for word, rest in ((words[-1], words[:-1]), (words[0], words[1:])):
                match = re.fullmatch(kind.pattern, word)
                if match:
                    return _around(text, (kind, match), rest)
    for part, word, rest in ((Part.SUFFIX, words[-1], words[:-1]), (Part.PREFIX, words[0], words[1:])):
        found = _matched(part, word)
        if found:
            return _around(text, found, rest)
    return None


def _around(text: str, found: Matched, rest: list[str]) -> Parsed:
    kind, match = found
    if not any(rest):
        raise _not_understood(text, f"there is no index beside {match[0]!r}")
    inner = [_parsed(rest)]
    if "index" in match.re.groupindex:
        inner.append(_parsed(_words(match["index"])))
    return Parsed(text, kind, match, tuple(inner))


def _whole(words: list[str]) -> Parsed | None:
    text = ",".join(words)
    found = _matched(Part.WHOLE, text)
    return Parsed(text, *found) if found else None


def _coarse(word: str) -> tuple[Parsed, int] | None:
    """The quantizer of an inverted file and the number of its lists; 0 where the quantizer's type decides it."""
    match = re.fullmatch(COARSE, word)
    if match:
        quantizer = match[3] or match[4] or "Flat"
        return _parsed(_words(quantizer)), int(match[1]) * _MULTIPLIERS[match[2]]
    found = _matched(Part.COARSE, word)
    return (Parsed(word, *found), 0) if found else None


def _inverted_file(words: list[str]) -> Parsed:
    text, code = ",".join(words), ",".join(words[1:])
    coarse = _coarse(words[0])
    if coarse is None:
        raise _not_understood(text, *_unknown(words))
    if not code:
        raise _not_understood(text, "the code behind a comma is missing")
    found = _matched(Part.CODE, code)
    if found is None:
        raise _not_understood(text, f"could not understand {code!r}", code)
    quantizer, nlist = coarse
    return Parsed(text, *found, (quantizer,), nlist)


def _unknown(words: list[str]) -> tuple[str, str]:
    """What is wrong with words that no index begins with, and the part that is wrong."""
    first, rest = words[0], ",".join(words[1:])
    if "" in words:
        return ("a word beside a comma is missing" if len(words) > 1 else "it is empty"), ""
    if rest and _matched(Part.WHOLE, first):
        return f"could not understand {rest!r} behind {first!r}", rest
    return f"could not understand {first!r}", first


def _not_understood(text: str, fault: str, part: str = "") -> RuntimeError:
    where = "" if part == text else f" in {text!r}"
    examples = "; ".join(kind.example for kind in KINDS if kind.example)
    return RuntimeError(f"could not parse index string: {fault}{where}. This version makes such as {examples}")


def _parts(parsed: Parsed) -> Iterator[Parsed]:
    """A description and those that it is made of, from the outside in."""
    yield parsed
    for inner in parsed.inner:
        yield from _parts(inner)


def _check_offered(parsed: Parsed) -> None:
    for part in _parts(parsed):
        if isinstance(part.kind, Absent):
            word, name = part.match[0], part.kind.name
            text = parsed.text if word == part.text else part.text
            where = "" if word == text else f" in {text!r}"
            raise NotOffered(
                f"could not parse index string: {word!r}{where} asks for {name}, which faiss_torch does not offer: "
                f"{GAPS[name]}"
            )


# --- building ------------------------------------------------------------------------------------------------------


def _built(parsed: Parsed, d: int, metric_type: int, own_invlists: bool = True) -> Any:
    """An index from its description; those inside it have lists of their own, as in faiss."""
    assert isinstance(parsed.kind, Kind)
    assert parsed.kind.build is not None
    inner = tuple(_built(each, d, metric_type) for each in parsed.inner)
    try:
        index = parsed.kind.build(Wanted(d, metric_type, own_invlists, parsed.match, inner, parsed.nlist))
    except NotOffered as error:
        raise NotOffered(
            f"could not parse index string: {parsed.text!r} asks for more than there is: {error}"
        ) from None
    if parsed.kind.part is Part.CODE:
        _set_ivf_fields(index)
    return index


def _set_ivf_fields(index: Any) -> None:
    """What faiss sets on every inverted file that its factory makes."""
    # a flat quantizer is filled by k-means; others are trained on all data (2), as k-means cannot use them
    index.quantizer_trains_alone = 0 if isinstance(index.quantizer, IndexFlat) else 2
    index.cp.spherical = index.metric_type == METRIC_INNER_PRODUCT
    index.own_fields = True
