"""Drafts: files that stand beside another one until they take its place.

A killed process leaves its draft behind. So the names of a file's drafts are few and known: a writer takes the first
that is free, and removes what it finds under the others. A draft is locked as long as its writer lives, which is how
others tell it from what was left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from typing import BinaryIO

from .files import open_file

try:
    import fcntl
except ImportError:  # Windows: what was left behind stays
    fcntl = None  # type: ignore[assignment]

#: How many names are looked at for what was left behind, beside those that the writer tries.
NAMES = 64


def name_of(target: str, number: int) -> str:
    """The name of a draft of `target`; it is short, however long that of `target` is."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".faiss_torch_{zlib.crc32(os.fsencode(name)):08x}_{number}.tmp")


def create(target: str, mode: int) -> tuple[str, BinaryIO]:
    """Make a draft of `target`, with a mode that the umask may narrow; its path, and the open file."""
    for number in itertools.count():
        path = name_of(target, number)
        _remove_if_left_behind(path)
        try:
            file = open_file(path, "x+b", opener=lambda path, flags: os.open(path, flags, mode))
        except FileExistsError:
            continue  # another writer's
        with contextlib.suppress(OSError):  # a file system without locks: nobody else gets one either
            _lock(file.fileno(), wait=True)
        if stands_at(file, path):
            for other in range(number + 1, NAMES):
                _remove_if_left_behind(name_of(target, other))
            return path, file
        file.close()  # it was taken for left behind before it was locked
    raise AssertionError("numbers do not end")


def stands_at(file: BinaryIO, path: str) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, wait: bool) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_left_behind(path: str) -> None:
    """Remove a draft that nobody has locked."""
    if fcntl is None or not os.path.lexists(path):
        return
    access = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    with contextlib.suppress(OSError), open_file(os.open(path, access | os.O_NOFOLLOW), "rb") as file:
        _lock(file.fileno(), wait=False)
        if stands_at(file, path):
            os.unlink(path)
