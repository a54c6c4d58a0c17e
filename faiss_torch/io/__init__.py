"""Index files: faiss's own bytes, read and written.

The records in `records` say which bytes stand for which index, `fields` how each part of them is read and
written, and `streams` where they come from and go to.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from ..constants import IO_FLAG_MMAP, IO_FLAG_MMAP_IFC
from ..indexes.base import Index
from ..ops.runtime import pools, torch_state
from ..parts.lists.inverted_lists import InvertedLists
from ..wrapper.array_conversions import copy_array_to_vector
from .files import FileIOReader, FileIOWriter, MappedFileIOReader, Path
from .list_fields import read_lists, write_lists
from .primitives import (
    Sink,
    Source,
    get_deserialization_loop_limit,
    get_deserialization_vector_byte_limit,
    set_deserialization_loop_limit,
    set_deserialization_vector_byte_limit,
)
from .records.table import read_record, write_record
from .replacement import replacing
from .streams import (
    BufferedIOReader,
    BufferedIOWriter,
    IOReader,
    IOWriter,
    PyCallbackIOReader,
    PyCallbackIOWriter,
    VectorIOReader,
    VectorIOWriter,
    ZeroCopyIOReader,
)

AnyIndex = TypeVar("AnyIndex")

__all__ = [
    "BufferedIOReader",
    "BufferedIOWriter",
    "FileIOReader",
    "FileIOWriter",
    "IOReader",
    "IOWriter",
    "PyCallbackIOReader",
    "PyCallbackIOWriter",
    "VectorIOReader",
    "VectorIOWriter",
    "ZeroCopyIOReader",
    "clone_index",
    "deserialize_index",
    "get_deserialization_loop_limit",
    "get_deserialization_vector_byte_limit",
    "read_InvertedLists",
    "read_index",
    "serialize_index",
    "set_deserialization_loop_limit",
    "set_deserialization_vector_byte_limit",
    "write_InvertedLists",
    "write_index",
]


def _write(write: Callable[[Sink], None], target: Path | IOWriter, io_flags: int) -> None:
    """Run a writing function on a writer, or on a new file that takes the place of the one at a path."""
    if isinstance(target, IOWriter):
        write(Sink(target, io_flags, write_record))
        target.flush()
        return
    with replacing(target) as writer:
        write(Sink(writer, io_flags, write_record))


@contextlib.contextmanager
def _reading(origin: Path | IOReader, io_flags: int) -> Iterator[Source]:
    """What to read from, for a reader or a path; a file is mapped where the flags ask for it."""
    pools.require_modules()
    wants_lists_mapped = io_flags & IO_FLAG_MMAP == IO_FLAG_MMAP
    if isinstance(origin, FileIOReader) and wants_lists_mapped:
        mapped = MappedFileIOReader(origin.name)
        mapped.pos = origin.tell()
        yield Source(mapped, io_flags, read_record)
        origin.seek(mapped.pos)
    elif isinstance(origin, IOReader):
        if wants_lists_mapped:
            raise RuntimeError(f"IO_FLAG_MMAP needs a file, not a {type(origin).__name__}")
        yield Source(origin, io_flags, read_record)
    elif wants_lists_mapped or io_flags & IO_FLAG_MMAP_IFC:
        yield Source(MappedFileIOReader(origin), io_flags, read_record)
    else:
        with contextlib.closing(FileIOReader(origin)) as reader:
            yield Source(reader, io_flags, read_record)


def write_index(index: Index | None, target: Path | IOWriter, io_flags: int = 0) -> None:
    """Write an index in faiss's format.

    Parameters
    ----------
    index : Index or None
        None is written as the four bytes ``null``.
    target : str, path-like or IOWriter
        A file at a path is replaced at once when all is written; until then, and if writing fails, the old
        file stays as it is. It keeps its owner and mode. A file with several names (hard links), or in a folder
        where none can be made, is overwritten when all is there; pipes and devices are written as faiss does.
    io_flags : int
        ``IO_FLAG_*``; none has an effect on the index types offered.

    Raises
    ------
    RuntimeError
        If the index is of a type without a format, or the path cannot be written; the message names it and
        the reason.
    """
    _write(lambda sink: sink.index(index, "index"), target, io_flags)


@torch_state.lasting
def read_index(origin: Path | IOReader, io_flags: int = 0) -> Index:
    """Read an index that was written by faiss or by `write_index`.

    Parameters
    ----------
    origin : str, path-like or IOReader
    io_flags : int
        ``IO_FLAG_MMAP`` leaves inverted lists in the file until a search looks at them; they cannot be
        changed then. ``IO_FLAG_MMAP_IFC`` does so for the vectors of flat indexes too.
        ``IO_FLAG_SKIP_IVF_DATA`` alone is refused, as in faiss. The other flags have no effect on the index
        types offered.

    Returns
    -------
    Index
        None for the four bytes ``null``.

    Raises
    ------
    RuntimeError
        If the path cannot be read, the data are damaged, or the index is of a type that is not offered. The
        message names the file and the field.
    """
    with _reading(origin, io_flags) as source:
        return source.index("index")


def serialize_index(index: Index | None, io_flags: int = 0) -> np.ndarray:
    """The bytes that `write_index` writes, as an array [n] of uint8."""
    writer = VectorIOWriter()
    write_index(index, writer, io_flags)
    return writer.data.array


@torch_state.lasting
def deserialize_index(data: np.ndarray, io_flags: int = 0) -> Index:
    """The index in an array [n] of uint8; see `read_index`.

    Raises
    ------
    AttributeError
        If `data` is not an array.
    AssertionError
        If its elements are not uint8.
    RuntimeError
        If the data are damaged.
    """
    reader = VectorIOReader()
    copy_array_to_vector(data, reader.data)
    return read_index(reader, io_flags)


def clone_index(index: AnyIndex) -> AnyIndex:
    """A copy of an index that shares nothing with it, of the same class and with all settings."""
    return copy.deepcopy(index)


def write_InvertedLists(invlists: InvertedLists | None, target: Path | IOWriter) -> None:
    """Write inverted lists alone; None as ``il00``. See `write_index` for paths and errors."""
    _write(lambda sink: write_lists(sink, invlists), target, 0)


@torch_state.lasting
def read_InvertedLists(origin: Path | IOReader, io_flags: int = 0) -> InvertedLists | None:
    """Read what `write_InvertedLists` wrote; see `read_index` for flags and errors."""
    with _reading(origin, io_flags) as source:
        return read_lists(source)
