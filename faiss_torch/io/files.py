"""Files: reading, mapping and writing."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from .streams import IOReader, IOWriter

#: Python's `open`, which is a builtin no more when a ``__del__`` runs at the interpreter's exit.
open_file = io.open

#: What names a file.
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _private_pages(name: str) -> np.ndarray:
    """The bytes of a file; pages that somebody writes to are his own.

    The system sets no memory aside for such pages where it takes that advice, so that the file may be larger than
    memory.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):
        return np.memmap(name, np.uint8, mode="c")
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
    with open_file(name, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(pages, np.uint8)


class MappedFileIOReader(IOReader):
    """Reads from a file that stands in memory by mapping: pages are loaded when somebody looks at them.

    Whoever writes to such memory gets pages of his own; the file stays as it is.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    RuntimeError
        If the file cannot be opened or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.name = os.fsdecode(path)
        with naming_the_path(self.name, "reading"):
            status = os.stat(self.name)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise ValueError("only a regular file can be mapped")
            empty = status.st_size == 0  # an empty file cannot be mapped
            self._data = np.empty(0, np.uint8) if empty else _private_pages(self.name)
        self.pos = 0

    def bytes_left(self) -> int:
        """How many bytes of the file follow."""
        return self._data.size - self.pos

    def view(self, n: int) -> np.ndarray:
        """The next `n` bytes, over the file's pages."""
        self.pos += n
        return self._data[self.pos - n : self.pos]

    def read_into(self, target: memoryview) -> int:
        """Copy from the file's pages."""
        n = min(len(target), self.bytes_left())
        target[:n] = self.view(n).data
        return n


@contextlib.contextmanager
def naming_the_path(path: str, purpose: str) -> Iterator[None]:
    """Turn the system's errors into RuntimeErrors that name the path and the reason."""
    if not path:
        raise RuntimeError(f"could not open a file for {purpose}: the path is empty")
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RuntimeError(f"could not open {path} for {purpose}: {reason}") from error


class FileIOReader(IOReader):
    """Reads a file.

    Parameters
    ----------
    fname : str or path-like

    Raises
    ------
    RuntimeError
        If the file cannot be opened.
    """

    def __init__(self, fname: Path) -> None:
        self.name = os.fsdecode(fname)
        with naming_the_path(self.name, "reading"):
            self._file: BinaryIO = open_file(self.name, "rb")
        status = os.fstat(self._file.fileno())
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else None

    def bytes_left(self) -> int | None:
        """How many bytes of a regular file follow; None for a pipe or a device."""
        return None if self._size is None else max(0, self._size - self._file.tell())

    def read_into(self, target: memoryview) -> int:
        """Read from the file."""
        done = 0
        try:
            while done < len(target):
                n = self._file.readinto(target[done:])  # type: ignore[attr-defined]
                if not n:
                    break
                done += n
        except OSError as error:
            raise RuntimeError(f"read error in {self.name}: {error.strerror or error}") from error
        return done

    def tell(self) -> int:
        """Position of the next byte."""
        return self._file.tell()

    def seek(self, position: int) -> None:
        """Go to a byte, counted from the start."""
        self._file.seek(position)

    def filedescriptor(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file; also done when the reader goes away."""
        if hasattr(self, "_file"):
            self._file.close()

    __del__ = close


class FileIOWriter(IOWriter):
    """Writes a file, in place and from its start; `write_index` with a path replaces the file at once
    instead.

    Parameters
    ----------
    fname : str or path-like

    Raises
    ------
    RuntimeError
        If the file cannot be opened.
    """

    def __init__(self, fname: Path) -> None:
        self.name = os.fsdecode(fname)
        with naming_the_path(self.name, "writing"):
            self._file: BinaryIO = open_file(self.name, "wb")

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Write to the file."""
        with self._naming_the_file():
            self._file.write(data)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with self._naming_the_file():
            self._file.flush()

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RuntimeError(f"write error in {self.name}: {error.strerror or error}") from error

    def filedescriptor(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def close(self) -> None:
        """Write what is held back and close the file; also done when the writer goes away."""
        if hasattr(self, "_file"):
            with self._naming_the_file():
                self._file.close()

    __del__ = close
