"""OnDiskInvertedLists: inverted lists in a mapped file, which may be larger than memory.

A list is a piece of the file: room for `capacity` codes, and then for as many ids::

    file      |codes of list 4 ...|ids of list 4 ...|  free  |codes of list 0 ...|ids ...|  free  |
    offset     ^ lists.at(4).offset                           ^ lists.at(0).offset

The pages belong to the system, which reads them when somebody looks at them and takes them back when it wants the
memory for something else. A list that outgrows its room moves to a free piece with room for the next power of two; the
file doubles when there is none.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...border import Array, at_pointer, integers_in, tensor_of
from ...ops.runtime import chunks, torch_state
from ...ops.scoring.ragged import rank_in_run
from ...wrapper.pointers import Pointer
from ...wrapper.vectors import ObjectVector
from .file_slots import FreeSlots
from .inverted_lists import InvertedLists
from .storage import ListStorage

_CPU = torch.device("cpu")

#: faiss's offset of a list that has no room; here it is kept as -1.
INVALID_OFFSET = (1 << 64) - 1

#: Bytes of the file when it first gets any.
FIRST_SIZE = 32

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class OnDiskOneList:
    """Where a list stands in the file.

    Attributes
    ----------
    size : int
        Entries.
    capacity : int
        Entries that there is room for.
    offset : int
        Byte of the file at which its codes begin; 2**64 - 1 if it has no room.
    """

    def __init__(self) -> None:
        self.size = 0
        self.capacity = 0
        self.offset = INVALID_OFFSET


class OnDiskOneListVector(ObjectVector):
    """A vector of `OnDiskOneList`."""

    element = OnDiskOneList


class _ListsOf(OnDiskOneListVector):
    """What `OnDiskInvertedLists.lists` shows: objects are made when they are asked for."""

    def __init__(self, owner: OnDiskInvertedLists) -> None:
        super().__init__()
        self._items = range(owner.nlist)  # type: ignore[assignment]
        self._owner = owner

    def at(self, n: int) -> OnDiskOneList:
        """Where list ``n`` stands."""
        list_no = super().at(n)
        one = OnDiskOneList()
        one.size = int(self._owner.sizes[list_no])
        one.capacity = int(self._owner._capacities[list_no])
        one.offset = int(self._owner._offsets[list_no]) % (1 << 64)
        return one


class OnDiskInvertedLists(InvertedLists):
    """Inverted lists in a file.

    Parameters
    ----------
    nlist : int
    code_size : int
    filename : str or path-like
        The file; it is made, or made anew, when the first entry comes.

    Attributes
    ----------
    filename : str
    totsize : int
        Bytes of the file.
    read_only : bool
        Whether writing is refused.
    prefetch_nthread : int
        Taken as in faiss; `prefetch_lists` leaves reading ahead to the system.
    """

    def __init__(self, nlist: int = 0, code_size: int = 0, filename: str | os.PathLike[str] = "") -> None:
        super().__init__(nlist, code_size)
        self.filename = os.fsdecode(filename)
        self.totsize = 0
        self.read_only = False
        self.prefetch_nthread = 32
        self.slots = FreeSlots()
        self._slots_are_free = False
        none = torch.zeros(self.nlist, dtype=torch.int64, device="cpu")
        self.stand(none, none.clone(), torch.full_like(none, -1))
        self._bytes: np.ndarray | None = None

    def stand(self, sizes: Tensor, capacities: Tensor, offsets: Tensor) -> None:
        """Say where all lists stand: three of int64, CPU, shape (nlist,), the offset -1 for no room."""
        self.sizes, self._capacities, self._offsets = map(torch_state.kept, (sizes, capacities, offsets))

    @property
    def lists(self) -> OnDiskOneListVector:
        """Where each list stands in the file."""
        return _ListsOf(self)

    # the file

    def do_mmap(self) -> None:
        """Map the file, which has `totsize` bytes or more.

        Raises
        ------
        RuntimeError
            If it cannot be opened, or is shorter.
        """
        if not self.totsize:
            self._bytes = None
            return
        try:
            there = os.stat(self.filename).st_size
            if there < self.totsize:
                raise RuntimeError(
                    f"{self.filename} has {there} bytes, but its inverted lists take {self.totsize}: it is truncated"
                )
            mode = "r" if self.read_only else "r+"
            self._bytes = np.memmap(self.filename, np.uint8, mode=mode, shape=(self.totsize,))  # type: ignore[call-overload]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            purpose = "reading" if self.read_only else "reading and writing (IO_FLAG_READ_ONLY needs reading alone)"
            raise RuntimeError(f"could not open {self.filename} for {purpose}: {reason}") from error

    def _grow(self, new_size: int) -> None:
        """Make the file larger; what is new is free."""
        old_size = self.totsize
        try:
            with open(self.filename, "r+b" if old_size else "wb") as file:
                file.truncate(new_size)
        except OSError as error:
            reason = error.strerror if self.filename else "the lists have no filename"
            raise RuntimeError(f"could not resize {self.filename} to {new_size} bytes: {reason or error}") from error
        try:
            self.totsize = new_size
            self.do_mmap()
        except RuntimeError:
            self.totsize = old_size
            raise
        self.slots.free(old_size, new_size - old_size)

    def _allocate(self, nbytes: int) -> int:
        if not self._slots_are_free:  # faiss says after a merge, and in its files, that the lists' own room is free
            ends = self._offsets + self._capacities * self._entry_size
            self.slots.exclude(zip(self._offsets.tolist(), ends.tolist(), strict=True))
            self._slots_are_free = True
        offset = self.slots.allocate(nbytes)
        if offset is None:
            new_size = 2 * self.totsize or FIRST_SIZE
            while new_size - self.totsize < nbytes:
                new_size *= 2
            self._grow(new_size)
            offset = self.slots.allocate(nbytes)
            assert offset is not None
        return offset

    def _mapped(self) -> np.ndarray:
        if self._bytes is None:
            raise RuntimeError(f"the lists of {self.filename} were read without their data: do_mmap() maps them")
        return self._bytes

    @property
    def _entry_size(self) -> int:
        return self.code_size + 8

    # reading

    def list_codes(self, list_no: int) -> Tensor:
        return tensor_of(self._codes_of(list_no)).view(-1, self.code_size)

    def list_ids(self, list_no: int) -> Tensor:
        return tensor_of(self._ids_of(list_no))

    def _codes_of(self, list_no: int) -> np.ndarray:
        return self._piece(int(self._offsets[list_no]), int(self.sizes[list_no]) * self.code_size)

    def _ids_of(self, list_no: int) -> np.ndarray:
        start = int(self._offsets[list_no]) + int(self._capacities[list_no]) * self.code_size
        return self._piece(start, int(self.sizes[list_no]) * 8).view(np.int64)

    def _piece(self, start: int, nbytes: int) -> np.ndarray:
        return self._mapped()[start : start + nbytes] if nbytes else np.empty(0, np.uint8)

    def get_codes(self, list_no: int) -> Pointer:
        """Return a pointer into the file to a list's codes, ``list_size * code_size`` bytes."""
        self._check_list(list_no)
        return Pointer(self._codes_of(list_no))

    def get_ids(self, list_no: int) -> Pointer:
        """Return a pointer into the file to a list's ids, int64."""
        self._check_list(list_no)
        return Pointer(self._ids_of(list_no))

    def loaded(self, list_nos: Tensor, device: torch.device | None = None) -> ListStorage:
        self.prefetch_lists(list_nos.reshape(-1), list_nos.numel())
        return super().loaded(list_nos, device)

    def prefetch_lists(self, list_nos: Array, nlist_in: int) -> None:
        """Ask the system to read lists ahead, where it takes such advice."""
        wanted = integers_in(at_pointer(list_nos, nlist_in), _CPU).reshape(-1)[:nlist_in].unique()
        pages = getattr(self._bytes, "_mmap", None)
        if pages is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for list_no in wanted[wanted >= 0].tolist():
            self._check_list(list_no)
            if self.sizes[list_no]:
                start = int(self._offsets[list_no]) // mmap.PAGESIZE * mmap.PAGESIZE
                end = int(self._offsets[list_no]) + int(self._capacities[list_no]) * self._entry_size
                with contextlib.suppress(OSError):
                    pages.madvise(mmap.MADV_WILLNEED, start, end - start)

    # writing

    def require_writable(self) -> None:
        if self.read_only:
            raise RuntimeError(f"the inverted lists of {self.filename} are read-only")

    def add_to_lists(self, list_nos: Tensor, ids: Tensor, codes: Tensor) -> Tensor:
        self.require_writable()
        list_nos = list_nos.cpu()
        sorted_nos, order = list_nos.sort(stable=True)
        counts = torch.bincount(sorted_nos, minlength=self.nlist)
        offsets = torch.empty_like(list_nos)
        offsets[order] = self.sizes[sorted_nos] + rank_in_run(sorted_nos, counts)
        wanted = self.sizes + counts
        for list_no in (wanted > self._capacities).nonzero().view(-1).tolist():
            self._move(list_no, int(wanted[list_no]))
        # in the order of the file
        self._write(sorted_nos, offsets[order], ids.cpu()[order], codes.cpu()[order])
        self.sizes += counts
        return offsets

    def write_entries(self, list_no: int, offset: int, ids: Tensor, codes: Tensor) -> None:
        self.require_writable()
        places = torch.arange(offset, offset + len(ids), dtype=torch.int64, device="cpu")
        self._write(torch.full_like(places, list_no), places, ids.cpu(), codes.cpu())

    def _write(self, list_nos: Tensor, offsets: Tensor, ids: Tensor, codes: Tensor) -> None:
        """Write entries to where they belong, in the widest words that codes and ids are made of."""
        if not len(ids):
            return
        width = math.gcd(self.code_size, 8)
        if bool((self._offsets[list_nos] % width).any()):
            width = 1  # a file may be laid out so
        mapped = self._mapped()
        words = tensor_of(mapped[: len(mapped) // width * width]).view(_WORDS[width])
        starts = torch.div(self._offsets[list_nos], width, rounding_mode="floor")
        code_words, id_words = self.code_size // width, 8 // width
        id_starts = starts + self._capacities[list_nos] * code_words + offsets * id_words
        code_starts = starts + offsets * code_words
        for part in chunks.slices(len(ids), chunks.rows_within(8 * code_words)):
            for at, n, values in ((code_starts, code_words, codes), (id_starts, id_words, ids)):
                target = (at[part, None] + torch.arange(n, dtype=torch.int64, device="cpu")).view(-1)
                words[target] = values[part].contiguous().view(torch.uint8).view(-1).view(_WORDS[width])

    def _move(self, list_no: int, size: int) -> None:
        """Give a list room for the power of two from `size` on."""
        old_capacity, old_offset = int(self._capacities[list_no]), int(self._offsets[list_no])
        capacity = 1 << (size - 1).bit_length() if size else 0
        offset = self._allocate(capacity * self._entry_size) if capacity else -1
        n = min(size, int(self.sizes[list_no]))
        if n:
            mapped = self._mapped()
            for shift, new_shift, nbytes in (
                (0, 0, n * self.code_size),
                (old_capacity * self.code_size, capacity * self.code_size, n * 8),
            ):
                source, target = old_offset + shift, offset + new_shift
                mapped[target : target + nbytes] = mapped[source : source + nbytes]
        self._capacities[list_no], self._offsets[list_no] = capacity, offset
        self.slots.free(old_offset, old_capacity * self._entry_size)

    def resize(self, list_no: int, new_size: int) -> None:
        """Change the number of entries of a list; a list that shrinks to half of its room gets a smaller one.

        New entries hold what stood in the file, until they are updated.
        """
        self.require_writable()
        self._check_list(list_no)
        capacity = int(self._capacities[list_no])
        if not capacity // 2 < new_size <= capacity:
            self._move(list_no, new_size)
        self.sizes[list_no] = new_size

    def merge_from_multiple(
        self, ils: Sequence[InvertedLists], n_il: int, shift_ids: bool = False, verbose: bool = False
    ) -> int:
        """Fill these lists, which are empty, with the entries of several others, without room to grow.

        Parameters
        ----------
        ils : sequence of InvertedLists
            The others: ``InvertedListsPtrVector.data()``, or a list.
        n_il : int
            How many they are.
        shift_ids : bool
            Whether to add to the ids of each the number of entries of those before it. (faiss adds the number of its
            own and of those between, which is the same where all have as many.)
        verbose : bool
            Whether to say when it is done.

        Returns
        -------
        int
            How many entries there are now.

        Raises
        ------
        RuntimeError
            If these lists are not empty, or the others do not fit.
        """
        if self.totsize:
            raise RuntimeError(f"{self.filename} has lists already: merge_from_multiple needs an empty one")
        self.require_writable()
        sources = list(ils)[: int(n_il)]
        for source in sources:
            self._check_same_shape(source)
        source_sizes = torch.stack([self.sizes, *(source.sizes for source in sources)])[1:]
        sizes = source_sizes.sum(0)
        nbytes = int(sizes.sum()) * self._entry_size
        if not nbytes:
            return 0
        self._grow(nbytes)
        entries = sizes.cumsum(0) - sizes
        self.stand(sizes.clone(), sizes, entries * self._entry_size)
        totals = source_sizes.sum(1)
        shifts = (totals.cumsum(0) - totals) * int(shift_ids)
        begins = source_sizes.cumsum(0) - source_sizes
        for list_no in sizes.nonzero().view(-1).tolist():
            codes, ids = self.list_codes(list_no), self.list_ids(list_no)
            for source, begin, n, shift in zip(
                sources, begins[:, list_no].tolist(), source_sizes[:, list_no].tolist(), shifts.tolist(), strict=True
            ):
                if n:
                    codes[begin : begin + n] = source.list_codes(list_no)
                    ids[begin : begin + n] = source.list_ids(list_no).cpu() + shift
        if verbose:
            print(f"merged {self.nlist} lists of {len(sources)} inverted lists into {self.filename}")
        return int(sizes.sum())

    def merge_from_1(self, il: InvertedLists, verbose: bool = False) -> int:
        """Fill these lists, which are empty, with the entries of another: see `merge_from_multiple`."""
        return self.merge_from_multiple([il], 1, False, verbose)

    def crop_invlists(self, l0: int, l1: int) -> None:
        """Keep only the lists l0 ... l1 - 1; the file stays as it is."""
        if not 0 <= l0 <= l1 <= self.nlist:
            raise RuntimeError(f"the lists {l0} ... {l1 - 1} are not within the {self.nlist} lists there are")
        kept = slice(l0, l1)
        self.stand(self.sizes[kept].clone(), self._capacities[kept].clone(), self._offsets[kept].clone())
        self.nlist = l1 - l0

    # copies

    def __deepcopy__(self, memo: dict[int, Any]) -> OnDiskInvertedLists:
        raise RuntimeError(
            f"clone not supported for OnDiskInvertedLists: two of them would write to {self.filename}. "
            "Write the index and read it with IO_FLAG_READ_ONLY, or merge_from_1 into another file"
        )

    def __getstate__(self) -> dict[str, Any]:
        # a pickle names the file, as an index file does
        return {**self.__dict__, "_bytes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.do_mmap()
