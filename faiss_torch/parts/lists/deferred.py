"""DeferredListStorage: a list storage that places small additions together.

Finding the lists of a thousand vectors and storing them there costs twice as much a vector as for a hundred thousand.
So the entries of a small call are only written down. They are placed, in the lists that were nearest when they came,
when there are enough of them or when the storage is read.

While entries wait, the object has none of the attributes that hold placed ones, so that whoever reads one of these, in
whatever method, has the waiting ones placed first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import forks
from ...ops.runtime import chunks, workers
from ..growing import zeros
from .storage import STORAGE_ATTRIBUTES, ListStorage

if TYPE_CHECKING:
    from .by_place import ListsByPlace

#: Bytes of the entries that wait, at most.
WAITING_BYTES = 32 << 20

#: Products of factors that it takes to find their lists, at most: a tenth of a second on two cores.
WAITING_PRODUCTS = 1 << 33

#: The entries of a call wait if there is room for this many calls of its size.
SMALLEST_CALLS = 16


class _Waiting:
    """Entries that are written down, and the function that finds their lists."""

    def __init__(self, room: int, code_size: int, device: torch.device, assign: Callable[[Tensor], Tensor]) -> None:
        self.room = room
        self.ids = zeros((room,), torch.int64, device)
        self.codes = zeros((room, code_size), torch.uint8, device)
        self.wide = torch.float32 if code_size % 4 == 0 else torch.uint8  # copies faster than bytes
        self.assign = assign
        self.count = 0
        self.placed: dict[str, Any] = {}  # the attributes of the storage, set aside

    def can_take(self, n: int, assign: Callable[[Tensor], Tensor]) -> bool:
        return (self.assign is assign or self.assign == assign) and self.count + n <= self.room

    def append(self, ids: Tensor, codes: Tensor) -> None:
        n = ids.shape[0]  # which is twice as fast as len, and matters here
        begin, end = self.count, self.count + n
        self.ids[begin:end] = ids
        target, given = self.codes[begin:end].view(self.wide), codes.view(self.wide)
        # in pieces that torch copies in the calling thread
        for part in chunks.slices(n, chunks.rows_within(given.shape[1], workers.SERIAL_ELEMENTS)):
            target[part] = given[part]
        self.count = end


class DeferredListStorage(ListStorage):
    """The codes and ids of lists; small additions may wait. Parameters and attributes as in `ListStorage`."""

    _placing = forks.Lock(threading.RLock)

    def _nothing_waits(self) -> None:
        self._waiting: _Waiting | None = None

    def _make_empty(self) -> None:
        self._nothing_waits()
        super()._make_empty()

    def add_later(self, ids: Tensor, codes: Tensor, assign: Callable[[Tensor], Tensor], products: int) -> None:
        """Append entries; the lists of few are found later, together with those of other calls.

        Parameters
        ----------
        ids : Tensor, int64, shape (n,)
        codes : Tensor, uint8, shape (n, code_size)
        assign : callable
            Returns the list numbers of codes, -1 for those that are to be left out, and does the same whenever it is
            called. It equals another one that does the same.
        products : int
            Factors that are multiplied to find the list of one entry.
        """
        room = min(WAITING_BYTES // (self.code_size + 8), WAITING_PRODUCTS // max(1, products))
        n = ids.shape[0]
        with self._placing:
            waiting = self._waiting
            if waiting is not None and waiting.count and not waiting.can_take(n, assign):
                self._place(waiting)
            if n * SMALLEST_CALLS > room:
                add_found(self, ids, codes, assign)
                return
            if waiting is None or waiting.room != room:
                waiting = self._waiting = _Waiting(room, self.code_size, self.device, assign)
            waiting.assign = assign
            count = waiting.count
            try:
                waiting.append(ids, codes)
                self._set_placed_aside(waiting)
            except BaseException:
                waiting.count = count
                raise

    def _set_placed_aside(self, waiting: _Waiting) -> None:
        """Take the attributes that hold the placed entries away, until somebody asks for one."""
        if not waiting.placed:
            waiting.placed = {name: getattr(self, name) for name in STORAGE_ATTRIBUTES}
        for name in STORAGE_ATTRIBUTES:
            self.__dict__.pop(name, None)

    def can_write_down(self, n: int) -> bool:
        """Whether so many more entries may wait where others do already, without any being placed."""
        waiting = self._waiting
        if waiting is None or not waiting.count:
            return False
        return n * SMALLEST_CALLS <= waiting.room and waiting.count + n <= waiting.room

    def __getattr__(self, name: str) -> Any:
        waiting: _Waiting | None = self.__dict__.get("_waiting")
        if name not in STORAGE_ATTRIBUTES or waiting is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        with self._placing:
            if name not in self.__dict__:  # another thread may have placed them meanwhile
                self._place(waiting)
                self._waiting = None  # and its room, for who reads may have added all
            return self.__dict__[name]

    def _place(self, waiting: _Waiting) -> None:
        """Place what waits. Other threads see the storage with all of it, or wait for it."""

        def place() -> None:
            storage = ListStorage(self.nlist, self.code_size, self.device)
            storage.storage_dtype = self.storage_dtype
            storage.__dict__.update(waiting.placed)
            if waiting.count:
                add_found(storage, waiting.ids[: waiting.count], waiting.codes[: waiting.count], waiting.assign)
            waiting.count = 0
            waiting.placed = {}
            self.__dict__.update({name: storage.__dict__[name] for name in STORAGE_ATTRIBUTES})

        workers.conduct(place, self.device, to_its_end=True)

    def moved(self, device: torch.device, dtype: torch.dtype | None = None) -> Callable[[], None]:
        switch = super().moved(device, dtype)  # which has everything placed

        def switch_and_forget() -> None:
            switch()
            if self._waiting is not None and not self._waiting.count:
                self._waiting = None  # its room is on the old device

        return switch_and_forget

    def reserve(
        self, sizes: Tensor, rooms: Tensor | None = None, capacity: int = 0, all_used: bool | None = None
    ) -> None:
        self._waiting = None
        super().reserve(sizes, rooms, capacity, all_used)

    def __getstate__(self) -> dict[str, object]:
        state = super().__getstate__()  # which has everything placed
        return forks.without_locks({name: value for name, value in state.items() if name != "_waiting"})

    def __setstate__(self, state: dict[str, object]) -> None:
        self._nothing_waits()
        self.__dict__.update(state)


def add_found(
    storage: ListStorage | ListsByPlace, ids: Tensor, codes: Tensor, assign: Callable[[Tensor], Tensor]
) -> None:
    """Append entries to the lists that `assign` finds for them."""
    list_nos = assign(codes)
    kept = list_nos >= 0
    if not bool(kept.all()):
        list_nos, ids, codes = list_nos[kept], ids[kept], codes[kept]
    storage.add_to_lists(list_nos, ids, codes)
