"""The inverted lists of an index: the block that begins with ``ilar``, ``ilod`` for lists in a file of their own
(`on_disk_fields`), or ``il00`` where there are none.

In ``ilar`` all lists stand one behind the other, of each the codes and then the ids. Empty lists take no bytes; which
lists are empty is said by their sizes, in one of two ways: ``full`` (a size for each list) or ``sprs``
(pairs of list number and size), whichever faiss takes for the number of lists that hold something.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..border import default_device, tensor_of
from ..constants import IO_FLAG_MMAP, IO_FLAG_SKIP_IVF_DATA
from ..parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ..parts.lists.on_disk import OnDiskInvertedLists
from .fields import MAX_D, Field, Row
from .files import MappedFileIOReader
from .mapped_lists import MappedInvertedLists
from .not_offered import LISTS_NOT_OFFERED
from .on_disk_fields import read_on_disk, write_on_disk
from .primitives import Sink, Source, printable
from .streams import BLOCK_SIZE

#: The largest size of a code, in bytes, that a file may have: that of a float64 vector of the largest d.
MAX_CODE_SIZE = 8 * MAX_D


class Shape(NamedTuple):
    """What an index demands of its inverted lists."""

    nlist: int
    code_size: int


def read_lists(source: Source, demanded: Shape | None = None) -> InvertedLists | None:
    """The inverted lists that follow, or None for ``il00``.

    Under ``IO_FLAG_MMAP`` and ``IO_FLAG_MMAP_IFC`` they stand over the mapped file.
    """
    fourcc = source.raw(4, "fourcc")
    if fourcc == b"il00":
        print("read_InvertedLists: WARN! inverted lists not stored with IVF object", file=sys.stderr)
        return None
    if fourcc in LISTS_NOT_OFFERED:
        source.fail("fourcc", f"{printable(fourcc)} ({LISTS_NOT_OFFERED[fourcc]}) is not offered by faiss_torch yet")
    if fourcc == b"ilod":
        return read_on_disk(source, *_read_shape(source, demanded))
    if fourcc != b"ilar":
        source.fail("fourcc", f'"{printable(fourcc)}" is not known as inverted lists (expected ilar, ilod or il00)')
    if source.io_flags & IO_FLAG_MMAP == IO_FLAG_SKIP_IVF_DATA:
        source.fail("ilar", "IO_FLAG_SKIP_IVF_DATA alone cannot leave out these lists; IO_FLAG_MMAP maps them")
    shape = _read_shape(source, demanded)
    sizes = _read_sizes(source, shape.nlist)
    with source.arrived(sum(sizes.tolist()) * (shape.code_size + 8), "entries"):
        return _read_entries(source, shape, tensor_of(sizes.astype(np.int64)))


def _read_shape(source: Source, demanded: Shape | None) -> Shape:
    shape = Shape(source.scalar("Q", "nlist"), source.scalar("Q", "code_size"))
    for name, found, wanted in zip(Shape._fields, shape, demanded or shape, strict=True):
        if found != wanted:
            source.fail(name, f"{found}, but the index has {name} = {wanted}")
    source.require_lists(shape.nlist, "nlist")
    if shape.code_size > MAX_CODE_SIZE:
        source.fail("code_size", f"{shape.code_size} is above {MAX_CODE_SIZE}")
    return shape


def _read_entries(source: Source, shape: Shape, sizes: torch.Tensor) -> ArrayInvertedLists:
    """Codes and ids of every list; `sizes` was compared with the bytes left."""
    entry_size = shape.code_size + 8
    if isinstance(source.reader, MappedFileIOReader):
        nbytes = int(sizes.sum()) * entry_size
        return MappedInvertedLists(shape.code_size, sizes, source.array("u1", nbytes, "entries", shared=True))
    lists = ArrayInvertedLists(*shape, torch.device("cpu"))
    lists.reserve(sizes)
    views = ListViews(lists)
    for group in _groups(sizes.tolist(), BLOCK_SIZE // entry_size):
        if len(group) == 1:
            for part in views[group[0]]:
                source.fill(part.reshape(-1).view(np.uint8), f"entries of list {group[0]}")
            continue
        # small lists arrive together: a read costs more than a copy
        nbytes = int(sizes[group].sum()) * entry_size
        block = source.array("u1", nbytes, f"entries of lists {group[0]} to {group[-1]}")
        begin = 0
        for list_no in group:
            for part in views[list_no]:
                part[...] = block[begin : begin + part.nbytes].view(part.dtype).reshape(part.shape)
                begin += part.nbytes
    lists.to(default_device())
    return lists


class ListViews:
    """The codes and the ids of single lists, as numpy arrays over lists in main memory (or a copy there)."""

    def __init__(self, lists: ArrayInvertedLists) -> None:
        self._one_by_one = lists.elsewhere() is not None or lists.storage_dtype != torch.float32
        self._lists = lists
        if not self._one_by_one:
            self._codes = lists._codes.cpu().numpy()
            self._ids = lists._ids.cpu().numpy()
            self._begins = lists._begins.tolist()
            self._sizes = lists.sizes.tolist()

    def __getitem__(self, list_no: int) -> tuple[np.ndarray, np.ndarray]:
        if self._one_by_one:
            return self._lists.list_codes(list_no).cpu().numpy(), self._lists.list_ids(list_no).cpu().numpy()
        rows = slice(self._begins[list_no], self._begins[list_no] + self._sizes[list_no])
        return self._codes[rows], self._ids[rows]


def _groups(sizes: list[int], most: int) -> Iterator[list[int]]:
    """Lists that hold something, in order, in groups of one or of no more than `most` entries."""
    group: list[int] = []
    entries = 0
    for list_no, size in enumerate(sizes):
        if group and entries + size > most:
            yield group
            group, entries = [], 0
        if size:
            group.append(list_no)
            entries += size
    if group:
        yield group


def _read_sizes(source: Source, nlist: int) -> np.ndarray:
    """The size of every list, uint64 [nlist]."""
    form = source.raw(4, "list type")
    count = source.size(8, "sizes")
    if form == b"full":
        if count != nlist:
            source.fail("sizes", f"{count} sizes for {nlist} lists")
        return source.array("<u8", count, "sizes")
    if form != b"sprs":
        source.fail("list type", f'"{printable(form)}" is neither full nor sprs')
    if count % 2:
        source.fail("sizes", f"{count} numbers are not a whole number of pairs")
    pairs = source.array("<u8", count, "sizes")
    numbers = pairs[0::2]
    if numbers.size and int(numbers.max()) >= nlist:
        source.fail("sizes", f"list {int(numbers.max())} is named, but there are {nlist} lists")
    sizes = np.zeros(nlist, np.uint64)
    sizes[numbers] = pairs[1::2]
    return sizes


def write_lists(sink: Sink, lists: InvertedLists | None) -> None:
    """Inverted lists, or ``il00`` for None."""
    if lists is None:
        sink.raw(b"il00")
        return
    if isinstance(lists, OnDiskInvertedLists):
        write_on_disk(sink, lists)
        return
    if not isinstance(lists, ArrayInvertedLists):
        sink.fail(
            "fourcc",
            f"{type(lists).__name__} have no format: copy them into ArrayInvertedLists or OnDiskInvertedLists first",
        )
    sink.raw(b"ilar")
    sink.scalar("Q", lists.nlist, "nlist")
    sink.scalar("Q", lists.code_size, "code_size")
    sizes = lists.sizes.numpy().astype(np.uint64)
    filled = np.flatnonzero(sizes)
    if filled.size > lists.nlist // 2:
        sink.raw(b"full")
        stored_sizes = sizes
    else:
        sink.raw(b"sprs")
        stored_sizes = np.stack([filled.astype(np.uint64), sizes[filled]], axis=1).reshape(-1)
    sink.scalar("Q", stored_sizes.size, "sizes")
    sink.array(stored_sizes)
    views = ListViews(lists)
    for list_no in filled.tolist():
        for part in views[list_no]:
            sink.array(part)


class Lists(Field):
    """The inverted lists of an IVF index; number of lists and size of a code must be the index's."""

    def read(self, source: Source, owner: Any) -> None:
        with source.inside(self.name):
            source.require_lists(owner.nlist, "nlist of the index")
            lists = read_lists(source, Shape(owner.nlist, owner.code_size))
        setattr(owner, self.name, lists)
        owner.own_invlists = True

    def write(self, sink: Sink, owner: Any) -> None:
        with sink.inside(self.name):
            write_lists(sink, getattr(owner, self.name))

    def rows(self) -> list[Row]:
        return [
            Row(
                "char[4]", f"fourcc of {self.name}", "`ilar`; `il00` and nothing more if there are none; `ilod`: below"
            ),
            Row("uint64", f"{self.name}.nlist", "as above"),
            Row("uint64", f"{self.name}.code_size", "bytes of a code"),
            Row("char[4]", "list type", "`full` where more than half of the lists hold something, or `sprs`"),
            Row("uint64", "size of sizes", "full: nlist; sprs: 2 for each list that holds something"),
            Row("uint64[]", "sizes", "full: of each list; sprs: pairs of list number and size"),
            Row(
                "uint8[size, code_size], int64[size]",
                "entries",
                "of each list that holds something: codes, ids",
            ),
            Row("", "after `ilod`", "nlist and code_size, and then instead of the above:"),
            Row("uint64, uint64[nlist][3]", "lists", "number of lists; of each: size, capacity, offset in bytes"),
            Row("uint64, uint64[][2]", "slots", "number of free pieces; of each: offset and bytes"),
            Row("uint64, char[]", "filename", "length; the file that holds, of each list, room for codes, then ids"),
            Row("uint64", "totsize", "bytes of that file"),
        ]
