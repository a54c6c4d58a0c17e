"""Read and write vectors in the formats ``.fvecs``, ``.ivecs`` and ``.bvecs``, as ``faiss.contrib.vecs_io``
does.

A file is a row of records. A record is the number of dimensions ``d`` as a little-endian int32, followed by
``d`` values: float32 (fvecs), int32 (ivecs) or uint8 (bvecs). The formats are described at
http://corpus-texmex.irisa.fr/.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import numpy as np

Array = np.ndarray
_LITTLE_INT32 = np.dtype("<i4")
_CHUNK_NAME = re.compile(r"chunk_.*\.bvecs")


def ivecs_read(fname: str) -> Array:
    """Read an ivecs file: int32, shape (n, d)."""
    with open(fname, "rb") as file:
        words = np.frombuffer(file.read(), dtype=_LITTLE_INT32).astype(np.int32, copy=False)
    return words.reshape(-1, words[0] + 1)[:, 1:].copy()


def fvecs_read(fname: str) -> Array:
    """Read an fvecs file: float32, shape (n, d)."""
    return ivecs_read(fname).view(np.float32)


def ivecs_mmap(fname: str) -> Array:
    """Map an ivecs file into memory: int32, shape (n, d), on little-endian machines."""
    assert sys.byteorder == "little", "a file of little-endian values cannot be mapped on a big-endian machine"
    words = np.memmap(fname, dtype=np.int32, mode="r")
    return words.reshape(-1, words[0] + 1)[:, 1:]


def fvecs_mmap(fname: str) -> Array:
    """Map an fvecs file into memory: float32, shape (n, d), on little-endian machines."""
    return ivecs_mmap(fname).view(np.float32)


def bvecs_mmap(fname: str) -> Array:
    """Map a bvecs file into memory: uint8, shape (n, d)."""
    content = np.memmap(fname, dtype=np.uint8, mode="r")
    d = int(np.array(content[:4]).view(_LITTLE_INT32)[0])
    return content.reshape(-1, d + 4)[:, 4:]


def ivecs_write(fname: str, m: Array) -> None:
    """Write an array of shape (n, d), cast to int32, as an ivecs file."""
    n, d = m.shape
    words = np.empty((n, d + 1), dtype=_LITTLE_INT32)
    words[:, 0] = d
    words[:, 1:] = m
    with open(fname, "wb") as file:
        file.write(words.data)


def fvecs_write(fname: str, m: Array) -> None:
    """Write an array of shape (n, d), cast to float32, as an fvecs file."""
    ivecs_write(fname, np.ascontiguousarray(m, dtype=np.float32).view(np.int32))


def bvecs_iter(filepath: str, batch_size: int = 100_000) -> Iterator[Array]:
    """Yield the vectors of a bvecs file in batches: uint8, shape (batch_size, d) or fewer at the end.

    The file is mapped into memory: a batch is read when it is used.
    """
    vectors = bvecs_mmap(filepath)
    for start in range(0, len(vectors), batch_size):
        yield vectors[start : start + batch_size]


def _chunk_paths(chunk_folder: str) -> list[str]:
    """Return the files ``chunk_0000.bvecs``, ``chunk_0001.bvecs`` ... of a folder, in order, none missing."""
    paths = sorted(
        entry.path for entry in os.scandir(chunk_folder) if entry.is_file() and _CHUNK_NAME.fullmatch(entry.name)
    )
    if not paths:
        raise ValueError(f"No chunk files found in {chunk_folder}")
    numbers = []
    for path in paths:
        number = os.path.basename(path).split("_")[1].split(".")[0]
        if not number.isdecimal():
            raise ValueError(f"Invalid chunk filename format: {os.path.basename(path)}")
        numbers.append(int(number))
    if sorted(numbers) != list(range(len(numbers))):
        missing = sorted(set(range(len(numbers))) - set(numbers))
        raise ValueError(f"Gap detected in chunk sequence: found {sorted(numbers)}, missing {missing}")
    return paths


def bvecs_iter_chunked(chunk_folder: str, batch_size: int = 100_000) -> Iterator[Array]:
    """Yield the vectors of a folder of bvecs files in batches that may reach over the ends of files.

    Parameters
    ----------
    chunk_folder : str
        Holds ``chunk_0000.bvecs``, ``chunk_0001.bvecs`` and so on, all of one number of dimensions.
    batch_size : int
        Vectors in a batch; the last has what remains.

    Raises
    ------
    ValueError
        If there is no such file, a name has no number, or a number is missing.
    """
    pending: list[Array] = []
    count = 0
    for path in _chunk_paths(chunk_folder):
        vectors = bvecs_mmap(path)
        while len(vectors):
            part, vectors = vectors[: batch_size - count], vectors[batch_size - count :]
            pending.append(part)
            count += len(part)
            if count == batch_size:
                yield pending[0] if len(pending) == 1 else np.vstack(pending)
                pending, count = [], 0
    if pending:
        yield np.vstack(pending)
