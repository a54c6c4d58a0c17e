"""Stored rows as the kernels of a search take them, kept from search to search and caught up with what changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.kernel_search import rewritten_rows, rounded_rows

#: Stands for rows that a device has no room for.
_NO_ROOM = object()

#: Room of a second copy, as a multiple of what it needs.
ROOM_GROWTH = 1.25

#: Where more than this share of the rows has changed, all are rounded anew.
SHARE_REWRITTEN = 0.5


class KernelRows:
    """The rows of one storage, rounded for the kernels at the first search, and where they change.

    Parameters
    ----------
    metric_type : int
    """

    def __init__(self, metric_type: int) -> None:
        self._metric_type = metric_type
        self._rounded: Any = None
        self._changed: list[Tensor | slice] = []

    def changed(self, rows: Tensor | slice) -> None:
        """Take note of rows that were written, or removed: int64, or a slice."""
        if self._rounded is _NO_ROOM:
            self._rounded = None
        if self._rounded is not None:
            self._changed.append(rows)

    def current(self, vectors: Tensor, bias: Tensor) -> Any:
        """Return the rows as they are now: a new object where they have changed; None where there is no room for them.

        Parameters
        ----------
        vectors : Tensor, float32, float16 or bfloat16, shape (n, d)
        bias : Tensor, float32, shape (n,)
            +inf for rows that are not to be found.
        """
        if self._rounded is None or self._changed:
            try:
                rounded = self._caught_up(vectors, bias)
                if rounded is None:
                    # rows that have grown before will grow again
                    room = len(vectors) if self._rounded is None else int(ROOM_GROWTH * len(vectors))
                    self._rounded = None  # and its memory is free
                    rounded = rounded_rows(vectors, self._metric_type, bias, room)
                self._rounded = rounded
            except torch.OutOfMemoryError:
                self._rounded = _NO_ROOM
            self._changed = []
            if vectors.is_cuda:  # another thread may read it in another stream, which does not wait for this one
                torch.cuda.current_stream(vectors.device).synchronize()
        return None if self._rounded is _NO_ROOM else self._rounded

    def _caught_up(self, vectors: Tensor, bias: Tensor) -> Any:
        """The rows of before with those rewritten that have changed; None where all are better rounded anew."""
        if self._rounded is None:
            return None
        changed = [
            torch.arange(rows.start, rows.stop, device=bias.device) if isinstance(rows, slice) else rows
            for rows in self._changed
        ]
        rows = torch.cat(changed)
        rows = rows[rows < len(bias)]
        if len(rows) > SHARE_REWRITTEN * len(bias):
            return None
        return rewritten_rows(self._rounded, rows, vectors, self._metric_type, bias)
