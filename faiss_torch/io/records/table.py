"""Which bytes stand for which index: the list of records, read as the specification.

A record is a fourcc and the fields behind it. Reading looks the fourcc up; writing takes the first record,
along the class's bases, whose condition holds. The bytes are faiss's (``impl/index_write.cpp``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...indexes.composite.id_map import IndexIDMap, IndexIDMap2
from ...indexes.flat.flat import IndexFlat, IndexFlatIP, IndexFlatL2
from ...indexes.flat.scalar_quantizer import IndexScalarQuantizer
from ...indexes.ivf.flat import IndexIVFFlat
from ...indexes.ivf.flat_dedup import IndexIVFFlatDedup
from ...indexes.ivf.scalar_quantizer import IndexIVFScalarQuantizer
from ..codec_fields import Codes, ScalarQuantizerField
from ..fields import (
    MAX_D,
    Boolean,
    Constant,
    Derived,
    DirectMapField,
    Field,
    FloatCodes,
    Ids,
    Instances,
    Metric,
    NestedIndex,
    Rule,
    i32,
    i64,
    u64,
)
from ..legacy import LegacyListCodes, LegacyListIds
from ..list_fields import Lists
from ..not_offered import INDEXES_NOT_OFFERED
from ..primitives import Sink, Source, printable


@dataclass(frozen=True)
class Record:
    """The bytes of one kind of index.

    Attributes
    ----------
    fourcc : str
        The four characters in front.
    cls : type
        Indexes of this class and its subclasses are written so.
    fields : tuple of Field
        What follows the fourcc, in order.
    when : callable, optional
        Whether an index of the class is written so; a record without it always is.
    becomes : type, optional
        The class of what is read, where it is another one than `cls`.
    legacy : bool
        Whether the record is only read.
    """

    fourcc: str
    cls: type
    fields: tuple[Field, ...]
    when: Callable[[Any], bool] | None = None
    becomes: type | None = None
    legacy: bool = False


def metric_is(metric_type: int) -> Callable[[Any], bool]:
    """Whether an index has a certain metric."""
    return lambda index: index.metric_type == metric_type


def quantizer_fits(ivf: Any) -> bool:
    """Whether the quantizer, if there is one, takes vectors of the width of the index."""
    return ivf.quantizer is None or ivf.quantizer.d == ivf.d


def wrapped_index_fits(wrapper: Any) -> bool:
    """Whether a wrapper holds an index that is searched by the same vectors and holds as many."""
    index = wrapper.index
    return index is not None and (index.d, index.ntotal) == (wrapper.d, wrapper.ntotal)


header = (
    i32("d", least=0, most=MAX_D),
    i64("ntotal", least=0),
    Constant("unused", "q", 1 << 20),
    Constant("unused", "q", 1 << 20),
    Boolean("is_trained"),
    Metric("metric_type"),
    Rule("d", "an index with vectors has d > 0", lambda index: index.d > 0 or index.ntotal == 0),
)

flat = (*header, Derived("code_size", "4 * d", lambda index: 4 * index.d), FloatCodes("codes"))

any_ivf_start = (
    *header,
    u64("nlist"),
    u64("nprobe"),
    NestedIndex("quantizer"),
    Rule("quantizer", "the quantizer has the d of the index", quantizer_fits),
    Derived("own_fields", "True", lambda ivf: True),
)

ivf_start = (*any_ivf_start, Derived("code_size", "4 * d", lambda ivf: 4 * ivf.d))

ivf_header = (*ivf_start, DirectMapField("direct_map"))

legacy_ivf_header = (*ivf_start, LegacyListIds("ids"), DirectMapField("direct_map"))

id_map = (
    *header,
    NestedIndex("index"),
    Rule("index", "there is an index, of the same d and ntotal", wrapped_index_fits),
    Derived("own_fields", "True", lambda wrapper: True),
    Ids("id_map"),
)

ivf_sq_start = (
    *any_ivf_start,
    DirectMapField("direct_map"),
    ScalarQuantizerField("sq"),
    u64("code_size"),
    Rule("code_size", "that of the scalar quantizer", lambda ivf: ivf.code_size == ivf.sq.code_size),
)

RECORDS = (
    Record("IxF2", IndexFlat, flat, when=metric_is(METRIC_L2), becomes=IndexFlatL2),
    Record("IxFI", IndexFlat, flat, when=metric_is(METRIC_INNER_PRODUCT), becomes=IndexFlatIP),
    Record("IxFl", IndexFlat, flat),
    Record("IwFl", IndexIVFFlat, (*ivf_header, Lists("invlists"))),
    Record("IwFd", IndexIVFFlatDedup, (*ivf_header, Instances("instances"), Lists("invlists"))),
    Record("IxSQ", IndexScalarQuantizer, (*header, ScalarQuantizerField("sq"), Codes("codes"))),
    Record("IwSq", IndexIVFScalarQuantizer, (*ivf_sq_start, Boolean("by_residual"), Lists("invlists"))),
    Record("IxM2", IndexIDMap2, id_map),
    Record("IxMp", IndexIDMap, id_map),
    Record(
        "IwSQ",
        IndexIVFScalarQuantizer,
        (*ivf_sq_start, Derived("by_residual", "True", lambda ivf: True), Lists("invlists")),
        legacy=True,
    ),
    Record("IvFL", IndexIVFFlat, (*legacy_ivf_header, LegacyListCodes("codes", itemsize=1)), legacy=True),
    Record("IvFl", IndexIVFFlat, (*legacy_ivf_header, LegacyListCodes("codes", itemsize=4)), legacy=True),
)

_BY_FOURCC = {record.fourcc.encode(): record for record in RECORDS}


def record_for(index: Any) -> Record | None:
    """The record that an index is written by; None if there is none."""
    for cls in type(index).__mro__:
        for record in RECORDS:
            if record.cls is cls and not record.legacy and (record.when is None or record.when(index)):
                return record
    return None


def read_record(source: Source) -> Any:
    """The index that follows; None for the fourcc ``null``.

    Raises
    ------
    RuntimeError
        If the bytes are not those of an index offered; the message names the field.
    """
    fourcc = source.raw(4, "fourcc")
    if fourcc == b"null":
        return None
    if fourcc in INDEXES_NOT_OFFERED:
        name = INDEXES_NOT_OFFERED[fourcc]
        source.fail("fourcc", f"{printable(fourcc)} ({name}) is not offered by faiss_torch yet")
    record = _BY_FOURCC.get(fourcc)
    if record is None:
        source.fail("fourcc", f'"{printable(fourcc)}" is not the beginning of an index')
    index = (record.becomes or record.cls)()
    with source.inside(record.fourcc):
        for field in record.fields:
            field.read(source, index)
    return index


def write_record(sink: Sink, index: Any) -> None:
    """An index, or the fourcc ``null`` for None.

    Raises
    ------
    RuntimeError
        If no record fits the index.
    """
    if index is None:
        sink.raw(b"null")
        return
    record = record_for(index)
    if record is None:
        sink.fail("fourcc", f"a {type(index).__name__} cannot be written: there is no record of its class")
    sink.raw(record.fourcc.encode())
    with sink.inside(record.fourcc):
        for field in record.fields:
            field.write(sink, index)
