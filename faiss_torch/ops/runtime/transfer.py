"""Vectors carried to a device while it works on others.

To CUDA they go through a ring of buffers: a thread copies the next rows to page-locked memory, where they are not there
already, and a stream of its own carries them over, behind the work on the rows before.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor

from . import chunks

#: Portions that are on the device, or on their way, at a time.
SLOTS = 3

#: Bytes that are carried at a time, at most.
PORTION_BYTES = 64 << 20


def copied(x: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return vectors, (n, d), on a device and in a dtype, without a copy of all of them in between."""
    room = torch.empty(x.shape, dtype=dtype, device=device)
    with Carrier.of_all(x, dtype, device) as carrier:
        for part, vectors in carrier:
            room[part].copy_(vectors)
    return room


class Carrier:
    """Carries rows to a device, slice by slice, the next ones ahead: a context, and an iterable to go through once.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Anywhere.
    slices : sequence of slice
        The rows, in the order in which they are wanted.
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, x: Tensor, slices: Sequence[slice], dtype: torch.dtype, device: torch.device) -> None:
        self._x, self._slices, self._dtype, self._device = x, slices, dtype, device
        self._ring: _Ring | None = None

    @staticmethod
    def of_all(x: Tensor, dtype: torch.dtype, device: torch.device) -> Carrier:
        """Carry all rows, `PORTION_BYTES` at a time."""
        rows = chunks.rows_within(x.shape[1] * dtype.itemsize, PORTION_BYTES)
        return Carrier(x, list(chunks.slices(len(x), rows)), dtype, device)

    def __enter__(self) -> Carrier:
        if self._device.type == "cuda" and self._x.device.type == "cpu" and self._slices:
            self._ring = _Ring(self._x, self._slices, self._dtype, self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield each slice and its rows on the device, which may be overwritten when the next ones are asked for."""
        if self._ring is not None:
            yield from self._ring.portions()
            return
        for rows in self._slices:
            yield rows, self._x[rows].to(self._device, self._dtype)


class _Ring:
    """Buffers on both sides, used in turn, and the thread that fills them."""

    def __init__(self, x: Tensor, slices: Sequence[slice], dtype: torch.dtype, device: torch.device) -> None:
        self._x, self._slices, self._device = x, slices, device
        shape = (max(part.stop - part.start for part in slices), x.shape[1])
        ready = x.dtype == dtype and x.is_contiguous() and x.is_pinned()
        slots = range(min(SLOTS, len(slices)))
        self._host = None if ready else [torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True) for _ in slots]
        self._room = [torch.empty(shape, dtype=dtype, device=device) for _ in slots]
        self._carried = [torch.cuda.Event() for _ in slots]
        self._used = [torch.cuda.Event() for _ in slots]
        self._stream = torch.cuda.Stream(device)
        # the buffers may be memory that queued work still reads
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="faiss_torch transfer")
        self._coming: collections.deque[Future[Tensor]] = collections.deque()
        for number in slots:
            self._ask_for(number)

    def _ask_for(self, number: int) -> None:
        self._coming.append(self._thread.submit(self._carry, number))

    def _carry(self, number: int) -> Tensor:
        """Queue the copy of one slice; runs in the thread."""
        slot, source = number % len(self._room), self._x[self._slices[number]]
        if self._host is not None:
            self._carried[slot].synchronize()  # what was in the buffer has gone
            source = self._host[slot][: len(source)].copy_(source)
        room = self._room[slot][: len(source)]
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[slot])
            room.copy_(source, non_blocking=True)
            self._carried[slot].record(self._stream)
        return room

    def portions(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield each slice and its rows on the device."""
        for number, rows in enumerate(self._slices):
            slot = number % len(self._room)
            vectors = self._coming.popleft().result()
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._carried[slot])
            yield rows, vectors
            self._used[slot].record(torch.cuda.current_stream(self._device))
            if number + len(self._room) < len(self._slices):
                self._ask_for(number + len(self._room))

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown(cancel_futures=True)
        self._stream.synchronize()
