"""Replacing a file at once, or writing where none can be replaced."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from . import drafts
from .files import FileIOWriter, Path, naming_the_path, open_file
from .streams import BLOCK_SIZE


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[FileIOWriter]:
    """A writer whose file takes the place of `path` when the block ends well, and disappears when it does not.

    The bytes are collected in a draft beside the old file, so that the old one stays whole whatever happens. A link
    stays one, and the file keeps its owner, its permissions and its attributes.

    Where the draft cannot take the file's place without changing these, or the file has several names or stands in
    a folder that we may not write to, its bytes are copied over those of the file when they are all there. What
    is not a regular file (a pipe, ``/dev/null``) is written directly.

    Raises
    ------
    RuntimeError
        If the path cannot be written; the message names it and the reason.
    """
    name = os.fsdecode(path)
    with naming_the_path(name, "writing"):
        old = _status(name)
    if old is None or stat.S_ISREG(old.st_mode):
        with naming_the_path(name, "writing"):
            target = _Target(name, old)
        writer: FileIOWriter = _DraftWriter(target.draft, name)
    else:
        target = None
        writer = FileIOWriter(name)
    try:
        yield writer
        if target is None:
            writer.close()
        else:
            writer.flush()
            with naming_the_path(name, "writing"):
                target.take_the_draft()
    finally:
        if target is not None:
            target.remove_the_draft()
        with contextlib.suppress(RuntimeError):
            writer.close()


class _DraftWriter(FileIOWriter):
    """Writes to a draft, and speaks of the file that it is for."""

    def __init__(self, draft: BinaryIO, name: str) -> None:
        self._file, self.name = draft, name


def _status(name: str) -> os.stat_result | None:
    """What the system knows of a file; None if there is none yet."""
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None


def _behind_links(name: str) -> str | None:
    """Where the file is that a name leads to; None if the name is that of an open file (``/dev/stdout``)."""
    while os.path.islink(name):
        folder = os.path.dirname(name)
        if os.path.realpath(folder).startswith("/proc/"):
            return None
        name = os.path.join(folder, os.readlink(name))
    return name


def _unnamed_file() -> BinaryIO:
    """A file without a name, where temporary files are; in memory if there is no place for them."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return io.BytesIO()


class _Target:
    """A regular file that gets new bytes, or a file that is new.

    Attributes
    ----------
    draft : file
        Where the new bytes are collected.
    """

    def __init__(self, name: str, old: os.stat_result | None) -> None:
        self.name = name
        self.is_new = old is None
        self._draft_path: str | None = None
        path = _behind_links(name)
        if old is not None:
            os.close(os.open(name, os.O_WRONLY))  # the system says whether it may be written
        elif not os.path.basename(path or name):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path is None:
            self.draft = _unnamed_file()
            return
        self._path = path
        try:
            # others learn nothing from a draft of a file that they may not read
            self._draft_path, self.draft = drafts.create(path, 0o666 if self.is_new else 0o600)
        except OSError:
            if self.is_new:
                raise
            self.draft = _unnamed_file()

    def take_the_draft(self) -> None:
        """Give the file the bytes of the draft, which are all written."""
        with contextlib.suppress(io.UnsupportedOperation):
            os.close(os.dup(self.draft.fileno()))  # a network drive says at closing what it could not write
        if self._draft_path is None or not self._replace(self._draft_path):
            self._copy()

    def remove_the_draft(self) -> None:
        """Remove the draft, if it still stands beside the file.

        It stays open until then: once it is closed, and so without a lock, its name may be another writer's.
        """
        if self._draft_path is None:
            return
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self.draft.close()  # an open file cannot be removed
            elif not drafts.stands_at(self.draft, self._draft_path):
                return
            os.unlink(self._draft_path)

    def _replace(self, draft_path: str) -> bool:
        """Put the draft in the place of the file; whether that was possible with nothing else changed."""
        if not drafts.stands_at(self.draft, draft_path):
            return False
        old = _status(self._path)
        if old is not None and not self.is_new and not (old.st_nlink == 1 and self._make_alike(old, draft_path)):
            return False
        if os.name == "nt":
            self.draft.close()  # an open file cannot be renamed
        try:
            os.replace(draft_path, self._path)
        except OSError as error:
            # another's file in a folder where only owners rename, or a mounted file
            if self.is_new or os.name == "nt" or error.errno not in (errno.EPERM, errno.EACCES, errno.EBUSY):
                raise
            return False
        self._draft_path = None
        return True

    def _make_alike(self, old: os.stat_result, draft_path: str) -> bool:
        """Give the draft the owner, the attributes and the mode of the file; whether it could be given them."""
        draft = self.draft.fileno() if os.chmod in os.supports_fd else draft_path
        new = os.stat(draft)
        try:
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                os.chown(draft, old.st_uid, old.st_gid)
            _copy_attributes(self._path, draft)
            if stat.S_IMODE(os.stat(draft).st_mode) != stat.S_IMODE(old.st_mode):
                os.chmod(draft, stat.S_IMODE(old.st_mode))
        except OSError:
            return False
        return True

    def _copy(self) -> None:
        """Write the draft over the bytes of the file."""
        size = self.draft.seek(0, os.SEEK_END)
        self.draft.seek(0)
        flags = os.O_WRONLY | (os.O_CREAT if self.is_new else 0) | getattr(os, "O_BINARY", 0)
        with open_file(os.open(self.name, flags, 0o666), "wb") as file:
            _make_room(file.fileno(), size)
            shutil.copyfileobj(self.draft, file, BLOCK_SIZE)
            file.truncate()


def _copy_attributes(source: str, target: int | str) -> None:
    """Give a file the extended attributes of another (access control lists are such), and no others."""
    if not hasattr(os, "listxattr"):
        return
    try:
        wanted = {name: os.getxattr(source, name) for name in os.listxattr(source)}
        there = {name: os.getxattr(target, name) for name in os.listxattr(target)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for name in there.keys() - wanted.keys():
        os.removexattr(target, name)
    for name, value in wanted.items():
        if there.get(name) != value:
            os.setxattr(target, name, value)


def _make_room(descriptor: int, size: int) -> None:
    """Have the system set room aside for a file, so that a full disk shows before anything is overwritten."""
    before = os.fstat(descriptor).st_size
    if not hasattr(os, "posix_fallocate") or size <= before:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.ftruncate(descriptor, before)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
