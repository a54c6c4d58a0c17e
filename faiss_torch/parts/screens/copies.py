"""Copies of stored vectors for screens, list by list: made when a search has use for them, kept until they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ... import forks
from ...ops.runtime import workers
from ...ops.runtime.scripted import scripted
from ...ops.scoring.ragged import ranges
from ...ops.scoring.stored import BLOCK, Stored
from ...ops.tiles.tile import Frame, make_frame

Copies = TypeVar("Copies")

#: A list is copied when so many times its rows have been, or are about to be, scanned: about what copying it costs.
SCANS_WORTH_A_COPY = 4

#: Once so much of all rows is copied, the lists that no search has asked for are copied with the next ones.
SHARE_THAT_TAKES_THE_REST = 0.5

#: Vectors of which the frame is made.
SAMPLE = 16384


def _blocks(rows: Tensor) -> Tensor:
    return torch.div(rows, BLOCK, rounding_mode="floor")


@scripted
def _same(begins: Tensor, sizes: Tensor, begins_then: Tensor, sizes_then: Tensor) -> bool:
    return torch.equal(begins, begins_then) and torch.equal(sizes, sizes_then)


@scripted
def _all_ready(ready: Tensor, list_nos: Tensor) -> bool:
    return bool(ready.index_select(0, list_nos + 1).all())


class ScreenCopies(ABC, Generic[Copies]):
    """Copies of the lists, or of the runs of one length, in which stored rows are scanned.

    Parameters
    ----------
    metric_type : int
    """

    _making = forks.Lock()

    def __init__(self, metric_type: int) -> None:
        self.metric_type = metric_type
        self._frame: Frame | None = None
        # where the lists stand, and where each was when it was copied: -1 where it was not
        nowhere = torch.empty(0, dtype=torch.int64, device="cpu")
        self._begins, self._sizes, self._made_begins, self._made_sizes = nowhere, nowhere, nowhere, nowhere
        # whether each list has its copy; in front, for list -1, True
        self._ready = torch.empty(0, dtype=torch.bool, device="cpu")
        self._rows_scanned = 0
        self._collected: Copies | None = None
        self._complete = False
        self._changed: list[Tensor] = []

    @abstractmethod
    def _follow(self, nlist: int) -> None:
        """Follow the number of lists. Those that are new have no copy."""

    @abstractmethod
    def _copy(self, frame: Frame, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        """Copy some lists, int64, (n,), each there once: see `for_search`."""

    @abstractmethod
    def _collect(self, begins: Tensor, sizes: Tensor, made: Tensor) -> Copies:
        """Return what a search reads of the lists that have copies: bool, (nlist,)."""

    def changed(self, rows: Tensor | slice) -> None:
        """Take note that other vectors stand in some rows: int64 or a slice."""
        some = torch.arange(rows.start, rows.stop, dtype=torch.int64, device="cpu") if isinstance(rows, slice) else rows
        if len(some):
            self._changed.append(_blocks(some).unique())

    def for_search(self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor, times: int) -> Copies | None:
        """Return the copies of all lists that are to be scanned, or None where making them does not pay yet.

        Parameters
        ----------
        stored : Stored
        begins, sizes : Tensor, int64, shape (nlist,)
            Where the lists stand.
        list_nos : Tensor, int64, shape (n,)
            The lists that are to be scanned, each as often as it stands here; -1 for none.
        times : int
            How often all of this is to be done.
        """
        with self._making:
            if self._are_ready(begins, sizes, list_nos):
                return self._collected
            return workers.conduct(
                lambda: self._update(stored, begins, sizes, list_nos, times), begins.device, to_its_end=True
            )

    def of_all(self, begins: Tensor, sizes: Tensor) -> Copies | None:
        """Return the copies of all lists, or None where some are not made: see `for_search`."""
        with self._making:
            return self._collected if self._complete and self._is_of(begins, sizes) else None

    def _is_of(self, begins: Tensor, sizes: Tensor) -> bool:
        """Whether nothing has changed, and the lists stand where they stood."""
        return not self._changed and _same(begins, sizes, self._begins, self._sizes)

    def _are_ready(self, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> bool:
        """Whether the copies of all these lists are there, and those of today."""
        return self._collected is not None and self._is_of(begins, sizes) and _all_ready(self._ready, list_nos)

    def _update(self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor, times: int) -> Copies | None:
        """Forget what is out of date and make what pays: see `for_search`."""
        self._forget_changed(begins, sizes)
        if self._collected is None or not _all_ready(self._ready, list_nos):
            visits = torch.bincount(list_nos + 1, minlength=len(sizes) + 1)[1:] * times
            missing = ((visits > 0) & ~self._are_made()).nonzero().view(-1)
            if len(missing):
                self._rows_scanned += int((visits * sizes).sum())
                if self._rows_scanned < SCANS_WORTH_A_COPY * int(sizes[missing].sum()):
                    return None
                self._rows_scanned = 0
                made = self._are_made()
                if int(sizes[made].sum()) > SHARE_THAT_TAKES_THE_REST * int(sizes.sum()):
                    missing = (~made).nonzero().view(-1)
                self._make(stored, begins, sizes, missing)
            made = self._are_made()
            self._ready = torch.cat([made.new_ones(1), made])
            self._complete = bool(made.all())
            self._collected = self._collect(begins, sizes, made)
        return self._collected

    def _forget_changed(self, begins: Tensor, sizes: Tensor) -> None:
        """Forget the copies of lists in which a row has changed, or that are somewhere else."""
        if self._is_of(begins, sizes):
            return
        self._collected, self._complete = None, False
        more = sizes.new_full((max(0, len(sizes) - len(self._sizes)),), -1)
        self._begins, self._sizes = begins.clone(), sizes.clone()
        self._follow(len(sizes))
        self._made_begins = torch.cat([self._made_begins[: len(sizes)], more])
        self._made_sizes = torch.cat([self._made_sizes[: len(sizes)], more])
        changed, self._changed = self._changed, []
        if changed:
            blocks = torch.cat(changed).unique()
            ends = begins + sizes + (BLOCK - 1)
            first, behind = (torch.searchsorted(blocks, _blocks(each)) for each in (begins, ends))
            self._made_sizes[first < behind] = -1

    def _are_made(self) -> Tensor:
        """Whether each list has its copy: bool, (nlist,)."""
        return (self._made_sizes == self._sizes) & (self._made_begins == self._begins)

    def _make(self, stored: Stored, begins: Tensor, sizes: Tensor, list_nos: Tensor) -> None:
        if self._frame is None:
            rows = ranges(begins, sizes)
            self._frame = make_frame(stored.at(rows[:: max(1, len(rows) // SAMPLE)]), self.metric_type)
        self._copy(self._frame, stored, begins, sizes, list_nos)
        self._made_begins[list_nos], self._made_sizes[list_nos] = begins[list_nos], sizes[list_nos]
