"""Scalars and vectors on a stream, and the limits that a size has to pass before anything is allocated.

Numbers are little-endian; a vector is its number of elements (uint64) and then the elements.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from ..wrapper.vectors import UInt8Vector
from .streams import BLOCK_SIZE, IOReader, IOWriter, VectorIOReader

#: Indexes inside indexes, the outermost one included; faiss's own limit.
MAX_NESTING = 50

#: Lists that an index may have beyond one for each byte of its file: an empty list takes no byte there.
MAX_UNBACKED_LISTS = 1 << 20

#: Bytes that are read or written at a time.
_PIECE = 16 * BLOCK_SIZE


class _Limits:
    """What a caller may set for files that come from strangers; the defaults are faiss's."""

    def __init__(self) -> None:
        self.loop = 0
        self.vector_bytes = 1 << 40


_limits = _Limits()


def get_deserialization_loop_limit() -> int:
    """The largest number of lists that reading accepts; 0 where there is no such limit."""
    return _limits.loop


def set_deserialization_loop_limit(value: int) -> None:
    """Set the largest number of lists that reading accepts; 0 takes the limit away."""
    _limits.loop = int(value)


def get_deserialization_vector_byte_limit() -> int:
    """The number of bytes that a single vector in a file must stay below."""
    return _limits.vector_bytes


def set_deserialization_vector_byte_limit(value: int) -> None:
    """Set the number of bytes that a single vector in a file must stay below."""
    _limits.vector_bytes = int(value)


def printable(fourcc: bytes) -> str:
    """A four-character code for a message; bytes that are not ASCII are escaped."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in fourcc)


class _Place:
    """Where in the nested structure reading or writing stands, for messages and for the nesting limit."""

    def __init__(self, name: str, io_flags: int) -> None:
        self.name = name or "memory"
        self.io_flags = io_flags
        self._path: list[str] = []
        self._nesting = 0

    def fail(self, field: str, reason: str) -> NoReturn:
        """Raise a RuntimeError that names the file and the field."""
        raise RuntimeError(f"{self.name}: {'.'.join([*self._path, field])}: {reason}")

    @contextlib.contextmanager
    def inside(self, field: str) -> Iterator[None]:
        """Fields in this block belong to `field`."""
        self._path.append(field)
        yield
        self._path.pop()

    @contextlib.contextmanager
    def index_inside(self, field: str) -> Iterator[None]:
        """As `inside`, for an index; indexes nested too deep are refused."""
        if self._nesting == MAX_NESTING:
            self.fail(field, f"indexes are nested more than {MAX_NESTING} deep")
        self._nesting += 1
        with self.inside(field):
            yield
        self._nesting -= 1


class Source(_Place):
    """Reads numbers and vectors from a reader.

    Parameters
    ----------
    reader : IOReader
    io_flags : int
        ``IO_FLAG_*``, for the fields that heed them.
    read_index : callable, optional
        Reads an index from a source, for the fields that hold one.
    """

    def __init__(self, reader: IOReader, io_flags: int = 0, read_index: Callable[[Source], Any] | None = None) -> None:
        super().__init__(reader.name, io_flags)
        self.reader = reader
        self._read_index = read_index
        self._consumed = 0

    def index(self, field: str) -> Any:
        """The index that follows, or None."""
        assert self._read_index is not None, "this source was made for something that holds no index"
        with self.index_inside(field):
            return self._read_index(self)

    def raw(self, n: int, field: str) -> bytes:
        """Exactly `n` bytes, few."""
        data = self.reader.read_bytes(n)
        self._consumed += len(data)
        if len(data) < n:
            self.fail(field, f"the data end here: {n} bytes expected, {len(data)} found")
        return data

    def scalar(self, code: str, field: str) -> Any:
        """One number; `code` is a letter of the `struct` module."""
        layout = struct.Struct("<" + code)
        return layout.unpack(self.raw(layout.size, field))[0]

    def size(self, itemsize: int, field: str) -> int:
        """A number of elements (uint64), checked against what is left, for `itemsize` bytes each."""
        count = self.scalar("Q", f"size of {field}")
        self.require(count, itemsize, field)
        return count

    def require(self, count: int, itemsize: int, field: str) -> None:
        """Raise unless `count` elements of `itemsize` bytes can follow."""
        nbytes = count * itemsize
        left = self.reader.bytes_left()
        if left is not None and nbytes > left:
            self.fail(field, f"{count} elements of {itemsize} bytes expected, but only {left} bytes are left")
        if nbytes >= _limits.vector_bytes:
            self.fail(field, f"{nbytes} bytes are not below the limit of {_limits.vector_bytes} for one vector")

    def require_lists(self, nlist: int, field: str) -> None:
        """Raise if there are more lists than a file of this length accounts for."""
        if 0 < _limits.loop < nlist:
            self.fail(field, f"{nlist} exceeds the deserialization_loop_limit of {_limits.loop}")
        most = MAX_UNBACKED_LISTS + self._consumed + (self.reader.bytes_left() or 0)
        if nlist > most:
            self.fail(field, f"{nlist} inverted lists are more than a file of this length accounts for ({most})")

    def array(self, dtype: str, count: int, field: str, shared: bool = False) -> np.ndarray:
        """`count` elements in memory of their own, or if `shared` over the reader's memory where it has
        them there.

        Where the reader does not know how much is left, memory grows with what arrives.
        """
        itemsize = np.dtype(dtype).itemsize
        self.require(count, itemsize, field)
        nbytes = count * itemsize
        viewed = self.reader.view(nbytes) if shared and nbytes else None
        if viewed is not None:
            self._consumed += nbytes
            return viewed.view(dtype)
        if self.reader.bytes_left() is None:
            return self._arriving(nbytes, field).view(dtype)
        array = np.empty(nbytes, np.uint8)
        self.fill(array, field)
        return array.view(dtype)

    def fill(self, target: np.ndarray, field: str) -> None:
        """Read into an array [n] of bytes that is there already."""
        got = 0
        while got < target.size:  # in pieces, since nothing interrupts the reading of one
            part = target[got : got + _PIECE]
            n = self.reader.read_into(part.data)
            got += n
            if n < part.size:
                break
        self._consumed += got
        if got < target.size:
            self.fail(field, f"the data end here: {target.size} bytes expected, {got} found")

    @contextlib.contextmanager
    def arrived(self, nbytes: int, field: str) -> Iterator[None]:
        """In this block the next `nbytes` bytes are known to be there.

        Where the reader knows how much it has left, that is all it takes; otherwise the bytes are fetched
        first.
        """
        self.require(nbytes, 1, field)
        if self.reader.bytes_left() is not None:
            yield
            return
        memory = VectorIOReader()
        memory.data = UInt8Vector(self._arriving(nbytes, field))
        reader, self.reader = self.reader, memory
        yield
        self.reader = reader

    def _arriving(self, nbytes: int, field: str) -> np.ndarray:
        array = np.empty(min(nbytes, BLOCK_SIZE), np.uint8)
        self.fill(array, field)
        while array.size < nbytes:
            grown = np.empty(min(nbytes, 2 * array.size), np.uint8)
            grown[: array.size] = array
            self.fill(grown[array.size :], field)
            array = grown
        return array


class Sink(_Place):
    """Writes numbers and vectors to a writer.

    Parameters
    ----------
    writer : IOWriter
    io_flags : int
        ``IO_FLAG_*``, for the fields that heed them.
    write_index : callable, optional
        Writes an index to a sink, for the fields that hold one.
    """

    def __init__(
        self, writer: IOWriter, io_flags: int = 0, write_index: Callable[[Sink, Any], None] | None = None
    ) -> None:
        super().__init__(writer.name, io_flags)
        self.writer = writer
        self._write_index = write_index

    def index(self, index: Any, field: str) -> None:
        """An index, or None."""
        assert self._write_index is not None, "this sink was made for something that holds no index"
        with self.index_inside(field):
            self._write_index(self, index)

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write_bytes(data)

    def scalar(self, code: str, value: Any, field: str) -> None:
        """One number; `code` is a letter of the `struct` module."""
        try:
            self.raw(struct.pack("<" + code, value))
        except struct.error as error:
            self.fail(field, f"{value!r} cannot be stored: {error}")

    def array(self, values: np.ndarray) -> None:
        """The elements, without their number."""
        if values.size:
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            for begin in range(0, data.size, _PIECE):  # since nothing interrupts the writing of one
                self.writer.write_bytes(data[begin : begin + _PIECE].data)
