"""The kinds of field that index files are made of, reading and writing side by side in each.

A field moves one part of an object between its attribute and the stream. ``read(source, owner)`` checks
what it finds before it allocates or sets anything, and ``write(sink, owner)`` is its mirror image. ``rows``
says the same in words, for docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..constants import METRIC_L2, METRIC_NAMES
from ..wrapper.vectors import Int64Vector, MaybeOwnedVectorUInt8
from .primitives import Sink, Source

#: The largest d that a file may have; faiss's own limit.
MAX_D = 1 << 20

#: Names of the number types, by their letter in the `struct` module.
TYPE_NAMES = {
    "i": "int32",
    "I": "uint32",
    "q": "int64",
    "Q": "uint64",
    "f": "float32",
    "?": "bool",
    "B": "uint8",
}


class Row(NamedTuple):
    """A line of the description: type of the bytes, what it is called, what it means."""

    type: str
    name: str
    meaning: str = ""


class Field:
    """A part of a record. Subclasses give `read`, `write` and `rows`.

    Parameters
    ----------
    name : str
        The attribute of the owner, and the name in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, source: Source, owner: Any) -> None:
        """Take the field's value from the stream into the owner."""
        raise NotImplementedError

    def write(self, sink: Sink, owner: Any) -> None:
        """Put the field's value from the owner onto the stream."""
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """The field in words."""
        raise NotImplementedError


class Scalar(Field):
    """One number, stored in the attribute of its name.

    Parameters
    ----------
    name : str
    code : str
        A letter of the `struct` module.
    least, most : int, optional
        Bounds of what is accepted.
    """

    def __init__(self, name: str, code: str, least: int | None = None, most: int | None = None) -> None:
        super().__init__(name)
        self.code = code
        self.least = least
        self.most = most

    def read(self, source: Source, owner: Any) -> None:
        value = source.scalar(self.code, self.name)
        if self.least is not None and value < self.least:
            source.fail(self.name, f"{value} is below {self.least}")
        if self.most is not None and value > self.most:
            source.fail(self.name, f"{value} is above {self.most}")
        setattr(owner, self.name, value)

    def write(self, sink: Sink, owner: Any) -> None:
        sink.scalar(self.code, getattr(owner, self.name), self.name)

    def rows(self) -> list[Row]:
        bounds = [f"at least {self.least}"] if self.least is not None else []
        bounds += [f"at most {self.most}"] if self.most is not None else []
        return [Row(TYPE_NAMES[self.code], self.name, ", ".join(bounds))]


def i32(name: str, least: int | None = None, most: int | None = None) -> Scalar:
    """A signed number of 32 bits."""
    return Scalar(name, "i", least, most)


def i64(name: str, least: int | None = None) -> Scalar:
    """A signed number of 64 bits."""
    return Scalar(name, "q", least)


def u64(name: str) -> Scalar:
    """An unsigned number of 64 bits."""
    return Scalar(name, "Q")


class Boolean(Field):
    """A byte that is 0 or 1; anything else is damage."""

    def read(self, source: Source, owner: Any) -> None:
        value = source.scalar("B", self.name)
        if value > 1:
            source.fail(self.name, f"{value} is not a boolean (0 or 1)")
        setattr(owner, self.name, bool(value))

    def write(self, sink: Sink, owner: Any) -> None:
        sink.scalar("?", getattr(owner, self.name), self.name)

    def rows(self) -> list[Row]:
        return [Row("bool", self.name, "one byte, 0 or 1")]


class Constant(Field):
    """A number that is always written so and never looked at.

    Parameters
    ----------
    name : str
    code : str
        A letter of the `struct` module.
    value : int
    """

    def __init__(self, name: str, code: str, value: int) -> None:
        super().__init__(name)
        self.code = code
        self.value = value

    def read(self, source: Source, owner: Any) -> None:
        source.scalar(self.code, self.name)

    def write(self, sink: Sink, owner: Any) -> None:
        sink.scalar(self.code, self.value, self.name)

    def rows(self) -> list[Row]:
        return [Row(TYPE_NAMES[self.code], f"({self.name})", f"always {self.value}; ignored by readers")]


class Metric(Field):
    """The metric, and its argument for those beyond inner product and L2."""

    def read(self, source: Source, owner: Any) -> None:
        metric_type = source.scalar("i", self.name)
        if metric_type not in METRIC_NAMES:
            source.fail(self.name, f"there is no metric of number {metric_type}")
        owner.metric_type = metric_type
        if metric_type > METRIC_L2:
            owner.metric_arg = source.scalar("f", "metric_arg")

    def write(self, sink: Sink, owner: Any) -> None:
        sink.scalar("i", owner.metric_type, self.name)
        if owner.metric_type > METRIC_L2:
            sink.scalar("f", owner.metric_arg, "metric_arg")

    def rows(self) -> list[Row]:
        numbers = ", ".join(f"{number} {name.removeprefix('METRIC_')}" for number, name in METRIC_NAMES.items())
        return [
            Row("int32", self.name, numbers),
            Row("float32", "metric_arg", f"only where {self.name} is above {METRIC_L2}"),
        ]


class Derived(Field):
    """An attribute that is not in the file but follows from others.

    Parameters
    ----------
    name : str
    formula : str
        How, in words.
    compute : callable
        Gives the value from the owner.
    """

    def __init__(self, name: str, formula: str, compute: Callable[[Any], Any]) -> None:
        super().__init__(name)
        self.formula = formula
        self.compute = compute

    def read(self, source: Source, owner: Any) -> None:
        setattr(owner, self.name, self.compute(owner))

    def write(self, sink: Sink, owner: Any) -> None:
        """Nothing: the value is not in the file."""

    def rows(self) -> list[Row]:
        return [Row("(nothing)", self.name, f"= {self.formula}")]


class Rule(Field):
    """What the fields before must satisfy together.

    Parameters
    ----------
    name : str
        The field that is named when the rule is broken.
    text : str
        The rule in words.
    holds : callable
        Whether the owner satisfies it.
    """

    def __init__(self, name: str, text: str, holds: Callable[[Any], bool]) -> None:
        super().__init__(name)
        self.text = text
        self.holds = holds

    def read(self, source: Source, owner: Any) -> None:
        if not self.holds(owner):
            source.fail(self.name, f"broken rule: {self.text}")

    def write(self, sink: Sink, owner: Any) -> None:
        """Nothing: a rule has no bytes."""

    def rows(self) -> list[Row]:
        return [Row("(rule)", self.name, self.text)]


class FloatCodes(Field):
    """The vectors of a flat index: their number of floats, then the floats."""

    def read(self, source: Source, owner: Any) -> None:
        count = source.size(4, self.name)
        if count != owner.ntotal * owner.d:
            source.fail(self.name, f"{count} floats, but ntotal = {owner.ntotal} vectors have d = {owner.d} each")
        owner.codes = MaybeOwnedVectorUInt8(source.array("u1", 4 * count, self.name, shared=True))

    def write(self, sink: Sink, owner: Any) -> None:
        codes = owner.codes.array
        sink.scalar("Q", codes.size // 4, self.name)
        sink.array(codes)

    def rows(self) -> list[Row]:
        return [
            Row("uint64", f"size of {self.name}", "ntotal * d, in floats"),
            Row("float32[ntotal, d]", self.name, "the vectors, row by row"),
        ]


class Ids(Field):
    """The id of each vector: their number, then the ids."""

    def read(self, source: Source, owner: Any) -> None:
        count = source.size(8, self.name)
        if count != owner.ntotal:
            source.fail(self.name, f"{count} ids for ntotal = {owner.ntotal} vectors")
        setattr(owner, self.name, Int64Vector(source.array("<i8", count, self.name)))

    def write(self, sink: Sink, owner: Any) -> None:
        ids = getattr(owner, self.name).array
        sink.scalar("Q", ids.size, self.name)
        sink.array(ids)

    def rows(self) -> list[Row]:
        return [
            Row("uint64", f"size of {self.name}", "ntotal"),
            Row("int64[ntotal]", self.name, "the id of each vector, in order"),
        ]


class NestedIndex(Field):
    """A whole index inside another one, its fourcc included; None is the fourcc ``null``."""

    def read(self, source: Source, owner: Any) -> None:
        setattr(owner, self.name, source.index(self.name))

    def write(self, sink: Sink, owner: Any) -> None:
        sink.index(getattr(owner, self.name), self.name)

    def rows(self) -> list[Row]:
        return [Row("index", self.name, "a record of its own, or the four bytes `null`")]


class DirectMapField(Field):
    """From ids to places in the inverted lists: a type, an array, and pairs where the type is Hashtable.

    faiss's order of the pairs is that of its hash table. The order read is kept, so a file is written as it
    was.
    """

    def read(self, source: Source, owner: Any) -> None:
        with source.inside(self.name):
            direct_map = getattr(owner, self.name)
            map_type = source.scalar("B", "type")
            if map_type not in (direct_map.NoMap, direct_map.Array, direct_map.Hashtable):
                source.fail("type", f"{map_type} is none of 0 (NoMap), 1 (Array), 2 (Hashtable)")
            direct_map.type = map_type
            count = source.size(8, "array")
            direct_map.array = Int64Vector(source.array("<i8", count, "array"))
            if map_type == direct_map.Hashtable:
                count = source.size(16, "hashtable")
                pairs = source.array("<i8", 2 * count, "hashtable")
                direct_map.hashtable = dict(zip(pairs[0::2].tolist(), pairs[1::2].tolist(), strict=True))

    def write(self, sink: Sink, owner: Any) -> None:
        with sink.inside(self.name):
            direct_map = getattr(owner, self.name)
            sink.scalar("B", direct_map.type, "type")
            sink.scalar("Q", len(direct_map.array), "array")
            sink.array(direct_map.array.array)
            if direct_map.type == direct_map.Hashtable:
                pairs = np.array(list(direct_map.hashtable.items()), np.int64).reshape(-1)
                sink.scalar("Q", pairs.size // 2, "hashtable")
                sink.array(pairs)

    def rows(self) -> list[Row]:
        place = "list_no << 32 | offset"
        return [
            Row("uint8", f"{self.name}.type", "0 NoMap, 1 Array, 2 Hashtable"),
            Row("uint64", f"size of {self.name}.array", "0 unless the type is Array"),
            Row("int64[]", f"{self.name}.array", f"by id: {place}, or -1"),
            Row("uint64", f"size of {self.name}.hashtable", "only where the type is Hashtable"),
            Row("int64[][2]", f"{self.name}.hashtable", f"pairs of id and {place}, in any order"),
        ]


class Instances(Field):
    """Which ids stand for vectors equal to a stored one: pairs, the stored vector's id first."""

    def read(self, source: Source, owner: Any) -> None:
        count = source.size(8, self.name)
        if count % 2:
            source.fail(self.name, f"{count} numbers are not a whole number of pairs")
        pairs = source.array("<i8", count, self.name)
        instances: dict[int, list[int]] = {}
        for stored, other in zip(pairs[0::2].tolist(), pairs[1::2].tolist(), strict=True):
            instances.setdefault(stored, []).append(other)
        setattr(owner, self.name, instances)

    def write(self, sink: Sink, owner: Any) -> None:
        instances: dict[int, list[int]] = getattr(owner, self.name)
        pairs = [(stored, other) for stored, others in instances.items() for other in others]
        sink.scalar("Q", 2 * len(pairs), self.name)
        sink.array(np.array(pairs, np.int64).reshape(-1))

    def rows(self) -> list[Row]:
        return [
            Row("uint64", f"size of {self.name}", "2 for each pair"),
            Row("int64[][2]", self.name, "pairs of a stored vector's id and the id of an equal vector"),
        ]
