"""Stored rows as the kernels of a search take them, kept from search to search and caught up with what changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...ops.gpu.search import rewritten_rows, rounded_rows

#: Stands for rows that a device has no room for.
_NO_ROOM = object()

#: Room of a second copy, as a multiple of what it needs.
ROOM_GROWTH = 1.25

#: Where more than this share of the room has changed, all are rounded anew.
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
        self._room_growth = 1.0
        self._changed: list[Tensor | slice] = []
        self._n_changed = 0

    def changed(self, rows: Tensor | slice) -> None:
        """Take note of rows that were written, or removed: int64, or a slice."""
        if self._rounded is None:
            return
        self._changed.append(rows)
        self._n_changed += rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        if self._rounded is _NO_ROOM or self._n_changed > SHARE_REWRITTEN * self._rounded.h.shape[1]:
            self._forget()

    def _forget(self) -> None:
        """Have all rows rounded anew, with room for more: what has grown will grow again."""
        self._rounded, self._changed, self._n_changed = None, [], 0
        self._room_growth = ROOM_GROWTH

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
                    rounded = rounded_rows(vectors, self._metric_type, bias, int(self._room_growth * len(vectors)))
            except torch.OutOfMemoryError:
                rounded = _NO_ROOM
            if vectors.is_cuda:  # another thread may read it in another stream, which does not wait for this one
                torch.cuda.current_stream(vectors.device).synchronize()
            self._rounded, self._changed, self._n_changed = rounded, [], 0
        return None if self._rounded is _NO_ROOM else self._rounded

    def _caught_up(self, vectors: Tensor, bias: Tensor) -> Any:
        """The rows of before with those rewritten that have changed; None where all are to be rounded anew."""
        if self._rounded is None:
            return None
        changed = [
            torch.arange(rows.start, rows.stop, dtype=torch.int64, device=bias.device)
            if isinstance(rows, slice)
            else rows
            for rows in self._changed
        ]
        rows = torch.cat(changed)
        rounded = rewritten_rows(self._rounded, rows[rows < len(bias)], vectors, self._metric_type, bias)
        if rounded is None:
            self._forget()  # its memory is free for the new ones
        return rounded
