"""Readers and writers: where the bytes of an index come from and go to.

The classes and their names are faiss's (``impl/io.h`` and the Python callbacks beside it). Reading and
writing are sequential, so an index passes through a pipe or a socket. A reader says how many bytes it has
left where it can know that; the fields above compare every size with it before they allocate.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, pointed
from ..wrapper.vectors import UInt8Vector

#: Block size of callbacks and buffers, faiss's own.
BLOCK_SIZE = 1024 * 1024


def _memory(pointer: Any, n: int) -> np.ndarray:
    """The first `n` bytes at a pointer, over the caller's memory."""
    if not isinstance(pointer, Pointer):
        raise TypeError(f"expected a pointer (swig_ptr), not {type(pointer).__name__}")
    return pointer.view(-(-n // pointer.dtype.itemsize)).view(np.uint8)[:n]


class IOReader(Owned):
    """Where bytes come from. A subclass gives `read_into`, and `bytes_left` or `view` where it can.

    Attributes
    ----------
    name : str
        What error messages call it: the path for files.
    """

    name = ""

    def read_into(self, target: memoryview) -> int:
        """Fill `target` from the front; return how many bytes came, fewer at the end only."""
        raise NotImplementedError(f"{type(self).__name__} does not read")

    def bytes_left(self) -> int | None:
        """How many bytes are left to read; None where that cannot be known."""
        return None

    def view(self, n: int) -> np.ndarray | None:
        """The next `n` bytes (no more than are left) without a copy; None where they are not in memory."""
        return None

    def read_bytes(self, n: int) -> bytes:
        """Up to `n` bytes, fewer at the end only."""
        target = bytearray(n)
        return bytes(target[: self.read_into(memoryview(target))])

    def __call__(self, pointer: Pointer, size: int, nitems: int) -> int:
        """Read `nitems` items of `size` bytes to a pointer, as C's fread; return how many items came."""
        nbytes = int(size) * int(nitems)
        if nbytes == 0:
            return 0
        return self.read_into(_memory(pointer, nbytes).data) // int(size)

    def filedescriptor(self) -> int:
        """The number of the open file.

        Raises
        ------
        RuntimeError
            If there is no file behind.
        """
        raise RuntimeError(f"{type(self).__name__} does not support memory mapping: there is no file behind it")


class IOWriter(Owned):
    """Where bytes go. A subclass gives `write_bytes`, and `flush` if it holds bytes back.

    Attributes
    ----------
    name : str
        What error messages call it: the path for files.
    """

    name = ""

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Take all of `data`, or raise."""
        raise NotImplementedError(f"{type(self).__name__} does not write")

    def flush(self) -> None:
        """Pass on what is held back."""

    def __call__(self, pointer: Pointer, size: int, nitems: int) -> int:
        """Write `nitems` items of `size` bytes from a pointer, as C's fwrite; return how many items went."""
        self.write_bytes(_memory(pointer, int(size) * int(nitems)).data)
        return int(nitems)

    def filedescriptor(self) -> int:
        """The number of the open file.

        Raises
        ------
        RuntimeError
            If there is no file behind.
        """
        raise RuntimeError(f"{type(self).__name__} does not support memory mapping: there is no file behind it")


class VectorIOReader(IOReader):
    """Reads from a vector of bytes.

    Attributes
    ----------
    data : UInt8Vector
        What is read; `copy_array_to_vector` fills it.
    rp : int
        Position of the next byte.
    """

    def __init__(self) -> None:
        self.data = UInt8Vector()
        self.rp = 0

    def bytes_left(self) -> int:
        """How many bytes of `data` follow."""
        return max(0, len(self.data) - self.rp)

    def read_into(self, target: memoryview) -> int:
        """Copy from `data`."""
        n = min(len(target), self.bytes_left())
        target[:n] = self.data.array[self.rp : self.rp + n].data
        self.rp += n
        return n


class ZeroCopyIOReader(IOReader):
    """Reads from memory that the caller keeps, and gives what it can as views of it.

    Parameters
    ----------
    data : Pointer
        ``swig_ptr`` of an array of bytes.
    size : int
        How many bytes there are.
    """

    def __init__(self, data: Pointer, size: int) -> None:
        self._data = pointed(data, size, "uint8", "ZeroCopyIOReader")
        self.rp_ = 0

    def reset(self) -> None:
        """Start again at the first byte."""
        self.rp_ = 0

    def bytes_left(self) -> int:
        """How many bytes follow."""
        return self._data.size - self.rp_

    def view(self, n: int) -> np.ndarray:
        """The next `n` bytes, over the caller's memory."""
        self.rp_ += n
        return self._data[self.rp_ - n : self.rp_]

    def read_into(self, target: memoryview) -> int:
        """Copy from the caller's memory."""
        n = min(len(target), self.bytes_left())
        target[:n] = self.view(n).data
        return n


class PyCallbackIOReader(IOReader):
    """Reads by calling a function.

    Parameters
    ----------
    callback : callable
        Takes a number of bytes, returns that many bytes or fewer; an empty result is the end.
    bs : int
        The most that is asked for in one call.
    """

    name = "PyCallbackIOReader"

    def __init__(self, callback: Callable[[int], bytes], bs: int = BLOCK_SIZE) -> None:
        self.callback = callback
        self.bs = bs

    def read_into(self, target: memoryview) -> int:
        """Call until `target` is full or nothing more comes; what the function raises goes to the caller."""
        done = 0
        while done < len(target):
            wanted = min(self.bs, len(target) - done)
            got = self.callback(wanted)
            if not isinstance(got, (bytes, bytearray, memoryview)):
                raise RuntimeError(f"read callback did not return a bytes object but {type(got).__name__}")
            if len(got) > wanted:
                raise RuntimeError(f"read callback returned {len(got)} bytes (asked {wanted})")
            if len(got) == 0:
                break
            target[done : done + len(got)] = got
            done += len(got)
        return done


class BufferedIOReader(IOReader):
    """Makes few large reads out of many small ones.

    Parameters
    ----------
    reader : IOReader
        What is read from.
    bsz : int
        Bytes per read.
    """

    def __init__(self, reader: IOReader, bsz: int = BLOCK_SIZE) -> None:
        self.reader = reader
        self.name = reader.name
        self.bsz = bsz
        self._block = memoryview(b"")

    def bytes_left(self) -> int | None:
        """What stands in the buffer and what the reader behind has left."""
        behind = self.reader.bytes_left()
        return None if behind is None else len(self._block) + behind

    def read_into(self, target: memoryview) -> int:
        """Copy from the buffer, filling it when it is empty."""
        done = 0
        while done < len(target):
            if not self._block:
                self._block = memoryview(self.reader.read_bytes(self.bsz))
                if not self._block:
                    break
            n = min(len(self._block), len(target) - done)
            target[done : done + n] = self._block[:n]
            self._block = self._block[n:]
            done += n
        return done


class VectorIOWriter(IOWriter):
    """Writes to a vector of bytes."""

    def __init__(self) -> None:
        self._data = UInt8Vector()
        self._pending = bytearray()

    @property
    def data(self) -> UInt8Vector:
        """What was written so far."""
        if self._pending:
            before = len(self._data)
            self._data.resize(before + len(self._pending))
            self._data.array[before:] = np.frombuffer(self._pending, np.uint8)
            self._pending = bytearray()
        return self._data

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Append to the vector."""
        self._pending += data


class PyCallbackIOWriter(IOWriter):
    """Writes by calling a function.

    Parameters
    ----------
    callback : callable
        Takes bytes, all of them: what it returns is not looked at, as in faiss. The ``write`` of a raw file
        (``open(path, "wb", buffering=0)``) alone may take fewer, and is called again with the rest.
    bs : int
        The most that is given in one call.
    """

    name = "PyCallbackIOWriter"

    def __init__(self, callback: Callable[[bytes], Any], bs: int = BLOCK_SIZE) -> None:
        self.callback = callback
        self.bs = bs

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Call until all of `data` is taken; what the function raises goes to the caller."""
        rest = memoryview(data).cast("B")
        while rest:
            block = bytes(rest[: self.bs])
            answer = self.callback(block)
            rest = rest[self._taken(block, answer) :]

    def _taken(self, block: bytes, answer: Any) -> int:
        """How many bytes of a block the function took, from what it returned."""
        if not isinstance(getattr(self.callback, "__self__", None), io.RawIOBase):
            return len(block)
        if not answer:
            raise RuntimeError(f"write callback took none of {len(block)} bytes")
        return answer


class BufferedIOWriter(IOWriter):
    """Makes few large writes out of many small ones.

    Parameters
    ----------
    writer : IOWriter
        What is written to.
    bsz : int
        Bytes per write.
    """

    def __init__(self, writer: IOWriter, bsz: int = BLOCK_SIZE) -> None:
        self.writer = writer
        self.name = writer.name
        self.bsz = bsz
        self._pending = bytearray()

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Append to the buffer and pass on whole blocks."""
        rest = memoryview(data).cast("B")
        while rest:
            n = min(len(rest), self.bsz - len(self._pending))
            self._pending += rest[:n]
            rest = rest[n:]
            if len(self._pending) == self.bsz:
                self._pass_on()

    def _pass_on(self) -> None:
        block, self._pending = self._pending, bytearray()
        self.writer.write_bytes(memoryview(block))

    def flush(self) -> None:
        """Pass on the last block too; also done when the writer goes away."""
        if getattr(self, "_pending", None):
            self._pass_on()
        self.writer.flush()

    def __del__(self) -> None:
        if getattr(self, "_pending", None):
            self._pass_on()
