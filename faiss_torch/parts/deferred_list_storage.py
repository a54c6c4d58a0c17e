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

from ..ops import workers
from .growing import zeros
from .list_storage import STORAGE_ATTRIBUTES, ListStorage

if TYPE_CHECKING:
    from .lists_by_place import ListsByPlace

#: Bytes of the entries that wait, at most.
WAITING_BYTES = 32 << 20

#: Products of factors that it takes to find their lists, at most: a tenth of a second on two cores.
WAITING_PRODUCTS = 1 << 33

#: The entries of a call wait if there is room for this many calls of its size.
SMALLEST_CALLS = 16


class _Waiting:
    """Entries that are written down, and the function that finds their lists."""

    def __init__(self, room: int, code_size: int, device: torch.device, assign: Callable[[Tensor], Tensor]) -> None:
        self.ids = zeros((room,), torch.int64, device)
        self.codes = zeros((room, code_size), torch.uint8, device)
        self.assign = assign
        self.count = 0
        self.placed: dict[str, Any] = {}  # the attributes of the storage, set aside

    def can_take(self, n: int, assign: Callable[[Tensor], Tensor]) -> bool:
        return self.assign == assign and self.count + n <= len(self.ids)

    def append(self, ids: Tensor, codes: Tensor) -> None:
        rows = slice(self.count, self.count + len(ids))
        wide = torch.float32 if codes.shape[1] % 4 == 0 else torch.uint8  # copies faster than bytes
        self.ids[rows] = ids
        self.codes.view(wide)[rows] = codes.view(wide)
        self.count += len(ids)


class DeferredListStorage(ListStorage):
    """The codes and ids of lists; small additions may wait. Parameters and attributes as in `ListStorage`."""

    def _nothing_waits(self) -> None:
        self._waiting: _Waiting | None = None
        self._placing = threading.RLock()

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
        with self._placing:
            waiting = self._waiting
            if waiting is not None and waiting.count and not waiting.can_take(len(ids), assign):
                self._place(waiting)
            if len(ids) * SMALLEST_CALLS > room:
                add_found(self, ids, codes, assign)
                return
            if waiting is None or len(waiting.ids) != room:
                waiting = self._waiting = _Waiting(room, self.code_size, self.device, assign)
            waiting.assign = assign
            waiting.append(ids, codes)
            if not waiting.placed:
                waiting.placed = {name: getattr(self, name) for name in STORAGE_ATTRIBUTES}
                for name in STORAGE_ATTRIBUTES:
                    del self.__dict__[name]

    def __getattr__(self, name: str) -> Any:
        waiting: _Waiting | None = self.__dict__.get("_waiting")
        if name not in STORAGE_ATTRIBUTES or waiting is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        with self._placing:
            if name not in self.__dict__:  # another thread may have placed them meanwhile
                self._place(waiting)
            return self.__dict__[name]

    def _place(self, waiting: _Waiting) -> None:
        """Place what waits. Other threads see the storage with all of it, or wait for it."""
        storage = ListStorage(self.nlist, self.code_size, self.device)
        storage.storage_dtype = self.storage_dtype
        storage.__dict__.update(waiting.placed)
        ids, codes = waiting.ids[: waiting.count], waiting.codes[: waiting.count]
        # a conductor ends what it has begun, whatever interrupts the caller
        workers.conduct(lambda: add_found(storage, ids, codes, waiting.assign), self.device)
        waiting.count = 0
        waiting.placed = {}
        self.__dict__.update({name: storage.__dict__[name] for name in STORAGE_ATTRIBUTES})

    def moved(self, device: torch.device, dtype: torch.dtype | None = None) -> Callable[[], None]:
        switch = super().moved(device, dtype)  # which has everything placed

        def switch_and_forget() -> None:
            switch()
            if self._waiting is not None and not self._waiting.count:
                self._waiting = None  # its room is on the old device

        return switch_and_forget

    def reserve(self, sizes: Tensor, rooms: Tensor | None = None, capacity: int = 0) -> None:
        self._waiting = None
        super().reserve(sizes, rooms, capacity)

    def __getstate__(self) -> dict[str, object]:
        state = super().__getstate__()  # which has everything placed
        return {name: value for name, value in state.items() if name not in ("_waiting", "_placing")}

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
