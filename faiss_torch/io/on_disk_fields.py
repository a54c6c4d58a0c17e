"""The block that begins with ``ilod``: where lists stand in a file of their own, and that file's name."""

from __future__ import annotations

import os

import numpy as np
import torch

from ..border import tensor_of
from ..constants import IO_FLAG_MMAP, IO_FLAG_ONDISK_SAME_DIR, IO_FLAG_READ_ONLY, IO_FLAG_SKIP_IVF_DATA
from ..parts.lists.on_disk import OnDiskInvertedLists
from .files import FileIOReader, MappedFileIOReader
from .primitives import Sink, Source

#: Bytes that a file of lists may have.
MAX_BYTES = 1 << 62


def read_on_disk(source: Source, nlist: int, code_size: int) -> OnDiskInvertedLists:
    """What follows nlist and code_size; the file that it names is mapped.

    ``IO_FLAG_READ_ONLY`` maps it for reading alone, ``IO_FLAG_ONDISK_SAME_DIR`` looks for it beside the index file, and
    ``IO_FLAG_SKIP_IVF_DATA`` (without the rest of ``IO_FLAG_MMAP``) does not map it.
    """
    lists = OnDiskInvertedLists(nlist, code_size)
    count = source.size(24, "lists")
    if count != nlist:
        source.fail("lists", f"{count} lists, but nlist = {nlist}")
    stands = source.array("<u8", 3 * count, "lists").reshape(count, 3)
    slots = source.array("<u8", 2 * source.size(16, "slots"), "slots").reshape(-1, 2)
    lists.filename = os.fsdecode(source.array("u1", source.size(1, "filename"), "filename").tobytes())
    lists.totsize = source.scalar("Q", "totsize")
    if lists.totsize > MAX_BYTES:
        source.fail("totsize", f"{lists.totsize} is above {MAX_BYTES}")
    _check(source, stands, slots, code_size, lists.totsize)
    columns = [tensor_of(np.ascontiguousarray(column)) for column in stands.view(np.int64).T]
    lists.stand(*columns)
    for offset, capacity in slots.tolist():
        lists.slots.free(offset, capacity)
    lists.read_only = bool(source.io_flags & IO_FLAG_READ_ONLY)
    if source.io_flags & IO_FLAG_ONDISK_SAME_DIR:
        if not isinstance(source.reader, (FileIOReader, MappedFileIOReader)):
            source.fail("filename", "IO_FLAG_ONDISK_SAME_DIR is only supported when reading from a file")
        lists.filename = os.path.join(os.path.dirname(source.reader.name), os.path.basename(lists.filename))
    if source.io_flags & IO_FLAG_MMAP != IO_FLAG_SKIP_IVF_DATA:
        lists.do_mmap()
    return lists


def _check(source: Source, stands: np.ndarray, slots: np.ndarray, code_size: int, totsize: int) -> None:
    """Raise unless all lists and free pieces are within the file."""
    sizes, capacities, offsets = stands.T
    for list_no in np.flatnonzero((sizes > capacities) | ((capacities > 0) & (offsets > totsize)))[:1].tolist():
        size, capacity, offset = stands[list_no].tolist()
        source.fail("lists", f"list {list_no} has size {size}, capacity {capacity}, offset {offset} of {totsize} bytes")
    # no product can overflow: what has room is compared by division
    room = np.where(capacities > 0, (np.uint64(totsize) - np.minimum(offsets, totsize)) // np.uint64(code_size + 8), 0)
    for list_no in np.flatnonzero(capacities > room)[:1].tolist():
        source.fail("lists", f"list {list_no} reaches beyond the {totsize} bytes of the file")
    begins, capacities = slots.T
    if bool(((begins > totsize) | (capacities > np.uint64(totsize) - np.minimum(begins, totsize))).any()):
        source.fail("slots", f"a free piece reaches beyond the {totsize} bytes of the file")


def write_on_disk(sink: Sink, lists: OnDiskInvertedLists) -> None:
    """What `read_on_disk` reads, with nlist and code_size before it."""
    sink.raw(b"ilod")
    sink.scalar("Q", lists.nlist, "nlist")
    sink.scalar("Q", lists.code_size, "code_size")
    sink.scalar("Q", lists.nlist, "lists")
    sink.array(torch.stack([lists.sizes, lists._capacities, lists._offsets], 1).numpy())
    sink.scalar("Q", len(lists.slots.offsets), "slots")
    sink.array(np.array([lists.slots.offsets, lists.slots.capacities], np.uint64).T)
    filename = os.fsencode(lists.filename)
    sink.scalar("Q", len(filename), "filename")
    sink.raw(filename)
    sink.scalar("Q", lists.totsize, "totsize")
