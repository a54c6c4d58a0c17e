"""How much memory a device has left, and what is done when that was not enough."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

#: Bytes that are free where nobody can say.
UNKNOWN = 1 << 30

#: How often work is cut in half before an out-of-memory error is raised.
HALVINGS = 2


def free_bytes(device: torch.device) -> int:
    """Return the bytes that torch can still allocate on a device; for the CPU, half of its memory."""
    if device.type == "cpu":
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (AttributeError, ValueError, OSError):  # Windows has no sysconf
            return UNKNOWN
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # what torch keeps for itself and does not use is free for torch
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return UNKNOWN


def halved_if_short(work: Callable[[slice], Result], n: int, what: str) -> list[Result]:
    """Do work on rows; where the memory of the device does not suffice, on half as many at a time, and again.

    Parameters
    ----------
    work : callable
        Takes a slice of rows. What it allocated is free again when it raises.
    n : int
        Number of rows.
    what : str
        What the rows are, for the message.

    Returns
    -------
    list
        What the work returned for each slice, in order.

    Raises
    ------
    RuntimeError
        If memory does not suffice for a quarter of the rows at a time.
    """
    rows, done, results = n, 0, list[Result]()
    for left in range(HALVINGS, -1, -1):
        try:
            while done < n:
                part = slice(done, min(n, done + rows))
                results.append(work(part))
                done = part.stop
            break
        except torch.cuda.OutOfMemoryError as error:
            if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
                raise  # there is no other try while a graph is recorded
            if left == 0 or rows == 1:
                raise RuntimeError(f"out of memory: no room for {rows} of {n} {what} at a time") from error
        # not in the handler: there the error holds the frames, and these what was allocated
        rows = -(-rows // 2)
        torch.cuda.empty_cache()
    return results
