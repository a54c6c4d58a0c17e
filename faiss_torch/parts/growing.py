"""A tensor that grows at its end at amortised cost."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ops.runtime import chunks, torch_state
from ..ops.scoring.stored import BLOCK

#: How much more room a second allocation takes than is needed. On the CPU, room that is not in use is address space
#: and no memory; on an accelerator it is memory.
CPU_GROWTH = 4.0
ACCELERATOR_GROWTH = 1.5


#: A process that is forked off has its own pages, and address space alone is not counted as memory.
_PRIVATE: dict[str, Any] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)}
    if hasattr(mmap, "MAP_PRIVATE")
    else {}
)


@torch_state.lasting
def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, all_used: bool = False) -> Tensor:
    """Return zeros; on the CPU in pages that the system hands out, zeroed, when they are first written.

    ``torch.zeros`` writes every page, and numpy asks for huge ones, of which one touched byte takes 2 MiB. Where there
    is no memory left it is a RuntimeError, as it is of torch.

    Parameters
    ----------
    shape, dtype, device
    all_used : bool
        Whether all of it is going to be written: then huge pages are asked for, of which the system hands out 512
        times fewer (a third of the time of copying 128 MiB to new pages).
    """
    elements = math.prod(shape)
    if device.type != "cpu" or elements == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    try:
        pages = mmap.mmap(-1, elements * dtype.itemsize, **_PRIVATE)
    except (OSError, ValueError, OverflowError) as error:
        raise RuntimeError(f"no memory for {elements * dtype.itemsize} bytes: {error}") from error
    advice = getattr(mmap, "MADV_HUGEPAGE" if all_used else "MADV_NOHUGEPAGE", None)
    if advice is not None:
        with contextlib.suppress(OSError):  # a kernel that has no huge pages knows no such advice
            pages.madvise(advice)
    return torch.frombuffer(pages, dtype=dtype).view(shape)  # keeps the map alive


class GrowingTensor:
    """Rows of one shape and dtype, with room for more.

    Attributes
    ----------
    room : Tensor, shape (capacity, *row_shape)
        All rows, those not in use too. The capacity is a multiple of `BLOCK`, and rows that were never used are
        zero, so that a scan may read past the end up to the next multiple.
    size : int
        Rows in use.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.room = zeros((0, *row_shape), dtype, device)
        self.size = 0

    @property
    def rows(self) -> Tensor:
        """The rows in use: a view."""
        return self.room[: self.size]

    def resize(self, size: int) -> None:
        """Change the number of rows in use; new ones hold what their room held.

        A first call takes just what is needed, later ones `CPU_GROWTH` times as much as before, so that a thousand
        small calls cost about as much as a large one.
        """
        self._make_room(size)
        self.size = size

    def _make_room(self, size: int) -> None:
        if size > len(self.room):
            growth = CPU_GROWTH if self.room.device.type == "cpu" else ACCELERATOR_GROWTH
            first = len(self.room) == 0
            wanted = size if first else max(size, int(len(self.room) * growth))
            capacity = -(-wanted // BLOCK) * BLOCK
            room = zeros((capacity, *self.room.shape[1:]), self.room.dtype, self.room.device, all_used=first)
            chunks.copy(room[: self.size], self.rows)
            self.room = room

    def append(self, values: Tensor) -> None:
        """Add rows at the end. Where that is stopped, some of them are there, for `cut` to take back."""
        begin = self.size
        self._make_room(begin + len(values))
        for part in chunks.slices(len(values), chunks.rows_within(self.room[:1].nbytes)):
            self.size = begin + part.stop
            self.room[begin + part.start : self.size] = values[part]

    def cut(self, size: int) -> None:
        """Take back the rows from number `size` on."""
        if size == 0:
            self.room = self.room[:0]
        self.room[size : self.size] = 0
        self.size = size

    def replace(self, values: Tensor) -> None:
        """Hold these rows and no others. They are not copied where their number is a multiple of `BLOCK`."""
        room = torch_state.kept(values)
        if len(values) % BLOCK:
            capacity = -(-len(values) // BLOCK) * BLOCK
            room = zeros((capacity, *values.shape[1:]), values.dtype, values.device, all_used=True)
            chunks.copy(room[: len(values)], values)
        self.room, self.size = room, len(values)

    def to(self, device: torch.device) -> None:
        """Move to a device, without the room that is not in use."""
        self.replace(self.rows.to(device))

    def emptied(self) -> GrowingTensor:
        """Return another one for such rows, without any."""
        return GrowingTensor(tuple(self.room.shape[1:]), self.room.dtype, self.room.device)

    def __getstate__(self) -> dict[str, object]:
        # a pickle or a copy holds what is in use
        room = torch.empty_like(self.rows)
        chunks.copy(room, self.rows)
        return {"room": room, "size": self.size}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.replace(self.room)


def copied(
    table: GrowingTensor,
    device: torch.device,
    width: int | None = None,
    convert: Callable[[Tensor], Tensor] | None = None,
) -> GrowingTensor:
    """Return a copy on a device, with no room for more; what is converted goes there piece by piece.

    Parameters
    ----------
    table : GrowingTensor
        Of rows with one dimension.
    device : torch.device
    width : int, optional
        Of the rows of the copy, if it is another one.
    convert : callable, optional
        Makes rows of the copy from rows of the table.
    """
    rows = table.rows
    result = GrowingTensor((rows.shape[1] if width is None else width,), rows.dtype, device)
    result.resize(len(rows))
    if convert is None:
        chunks.copy(result.rows, rows)
        return result
    for part in chunks.slices(len(rows), chunks.rows_within(rows.shape[1] * rows.dtype.itemsize)):
        result.room[part] = convert(rows[part])
    return result
