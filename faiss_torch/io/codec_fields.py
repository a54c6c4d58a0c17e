"""The fields of codecs, and codes that are bytes."""

from __future__ import annotations

from typing import Any

from ..parts.codecs.scalar_quantizer import ScalarQuantizer
from ..wrapper.vectors import Float32Vector, MaybeOwnedVectorUInt8
from .fields import Field, Row
from .primitives import Sink, Source


class Codes(Field):
    """The codes of a flat index: their number of bytes, then the bytes."""

    def read(self, source: Source, owner: Any) -> None:
        count = source.size(1, self.name)
        if count != owner.ntotal * owner.code_size:
            source.fail(self.name, f"{count} bytes, but ntotal = {owner.ntotal} codes have {owner.code_size} each")
        owner.codes = MaybeOwnedVectorUInt8(source.array("u1", count, self.name, shared=True))

    def write(self, sink: Sink, owner: Any) -> None:
        codes = owner.codes.array
        sink.scalar("Q", codes.size, self.name)
        sink.array(codes)

    def rows(self) -> list[Row]:
        return [
            Row("uint64", f"size of {self.name}", "ntotal * code_size"),
            Row("uint8[ntotal, code_size]", self.name, "the codes, row by row"),
        ]


class ScalarQuantizerField(Field):
    """A scalar quantizer: its type, how its ranges were chosen, its sizes, and its ranges."""

    def read(self, source: Source, owner: Any) -> None:
        qtype, rangestat = source.scalar("i", "qtype"), source.scalar("i", "rangestat")
        argument = source.scalar("f", "rangestat_arg")
        d, code_size = source.scalar("Q", "d"), source.scalar("Q", "code_size")
        if d != owner.d:
            source.fail("d", f"the scalar quantizer has d = {d}, but the index has d = {owner.d}")
        try:
            sq = ScalarQuantizer(d, qtype)
        except RuntimeError as error:
            source.fail("qtype", str(error))
        if code_size != sq.code_size:
            source.fail("code_size", f"{code_size}, but codes of this type take {sq.code_size} bytes")
        sq.rangestat, sq.rangestat_arg = rangestat, argument
        count = source.size(4, "trained")
        if count not in ((0, sq.numbers_to_learn()) if not owner.is_trained else (sq.numbers_to_learn(),)):
            source.fail("trained", f"{count} numbers, expected {sq.numbers_to_learn()}")
        sq.trained = Float32Vector(source.array("<f4", count, "trained"))
        setattr(owner, self.name, sq)
        owner.code_size = code_size

    def write(self, sink: Sink, owner: Any) -> None:
        sq = getattr(owner, self.name)
        sink.scalar("i", sq.qtype, "qtype")
        sink.scalar("i", sq.rangestat, "rangestat")
        sink.scalar("f", sq.rangestat_arg, "rangestat_arg")
        sink.scalar("Q", sq.d, "d")
        sink.scalar("Q", sq.code_size, "code_size")
        trained = sq.trained.array
        sink.scalar("Q", trained.size, "trained")
        sink.array(trained)

    def rows(self) -> list[Row]:
        return [
            Row("int32", "qtype", "one of ScalarQuantizer.QT_*"),
            Row("int32", "rangestat", "one of ScalarQuantizer.RS_*"),
            Row("float32", "rangestat_arg", ""),
            Row("uint64", "d", "that of the index"),
            Row("uint64", "code_size", "bytes of a code"),
            Row("uint64", "size of trained", "0, 2 or 2 * d"),
            Row("float32[size]", "trained", "the smallest values, then the differences to the largest"),
        ]
