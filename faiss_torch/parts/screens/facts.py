"""What a search needs to know of stored rows beside their codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import forks, kernels
from ...constants import FLT_MAX
from ...ops.byte_sums.blocks import BlocksFor, CodeBlocks
from ...ops.gpu.search import RoundedFor
from ...ops.runtime import chunks
from ...ops.runtime.cuda_graphs import Graphs
from ...ops.scoring.small import SmallSet
from ...ops.scoring.stored import BLOCK, Stored, bias_of, rows_to_gather
from ...ops.tiles.tile_set import ListTiles, TilesFor
from ..codecs.codec import Codec
from ..codecs.floats import FLOATS
from ..growing import GrowingTensor
from .byte_sums import ScreenBlocks
from .copies import ScreenCopies
from .equal_rows import EqualRows
from .rounded import KernelRows
from .tiles import ScreenTiles


class RowFacts:
    """The bias of each stored row, and bounds over all rows; kept up to date as rows are written.

    Parameters
    ----------
    metric_type : int
        The bias depends on it.
    device : torch.device
    codec : Codec
        What the rows mean.

    Attributes
    ----------
    copies : dict of str to ScreenCopies
        What searches have made of the rows: tiles, by arithmetic, and "blocks".
    graphs : Graphs
        Recorded searches of the rows, since they last changed.
    equal : EqualRows
    small : SmallSet or None
        All rows, where a search has asked for them so since they last changed.
    tables : tuple or None
        Where lists begin and how long they are, and the same on the device, likewise: see `tables_there`.
    """

    copies: dict[str, ScreenCopies[Any]]
    _bounding = forks.Lock()

    def __init__(self, metric_type: int, device: torch.device, codec: Codec = FLOATS) -> None:
        self.metric_type, self.device, self.codec = metric_type, device, codec
        self.bias = GrowingTensor((), torch.float32, device)
        self.largest_norm = 0.0
        self.finite = True
        self.copies = {}
        self.graphs = Graphs()
        self.small: SmallSet | None = None
        self.equal = EqualRows()
        self._kernel_rows = KernelRows(metric_type)
        self.tables: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def resize(self, size: int) -> None:
        """Follow the storage's size. What a scan reads of new rows must be written, or removed, before it does."""
        self._forget(slice(0, 0))
        self.bias.resize(size)

    def serves(self, codec: Codec, metric_type: int) -> bool:
        """Whether this is what a search in a metric needs to know of rows of a codec."""
        return self.metric_type == metric_type and self.codec == codec

    def write(self, rows: Tensor | slice, vectors: Tensor) -> None:
        """Take note of vectors written to rows. Several threads may write different rows at once.

        Parameters
        ----------
        rows : Tensor of int64, or slice
        vectors : Tensor, shape (n, any)
            As `Codec.rows` gives them: of floats, or codes.
        """
        self._forget(rows)
        begin = rows.start if isinstance(rows, slice) else 0
        decode = self.codec.decoder()
        for part in chunks.slices(len(vectors), rows_to_gather(4 * max(1, vectors.shape[1]), vectors.device)):
            target = slice(begin + part.start, begin + part.stop) if isinstance(rows, slice) else rows[part]
            self._write(target, vectors[part].to(torch.float32) if decode is None else decode(vectors[part]))

    def _write(self, rows: Tensor | slice, vectors: Tensor) -> None:
        self._changed(rows)
        bias = bias_of(vectors, self.metric_type)
        # +inf would take the row out; what a value that is not finite means is for the metric's definition to say
        self.bias.room[rows] = bias.nan_to_num_(nan=0.0, posinf=FLT_MAX)
        largest = float(torch.linalg.vector_norm(vectors, dim=-1).max())
        bounded = largest < float("inf")  # NaN is not
        finite = bounded or bool(vectors.isfinite().all())
        with self._bounding:
            self.finite = self.finite and finite
            self.largest_norm = max(self.largest_norm, largest) if bounded else float("inf")

    def append(self, begin: int, vectors: Tensor) -> None:
        """Take note of vectors stored from row `begin` on, behind which nothing is stored."""
        end = begin + len(vectors)
        scanned = -(-end // BLOCK) * BLOCK
        self.resize(scanned)
        self.write(slice(begin, end), vectors)
        self.remove(slice(end, scanned))

    def remove(self, rows: Tensor | slice) -> None:
        """Take rows out of what can be found."""
        self._forget(rows)
        if self.copies:
            there = self.bias.room[rows] < float("inf")
            if isinstance(rows, slice):
                self._changed(there.nonzero().view(-1).add_(rows.start))
            else:
                self._changed(rows[there])
        self.bias.room[rows] = float("inf")

    def _forget(self, rows: Tensor | slice) -> None:
        """Forget what is of all rows at once, where some change."""
        self.small = self.tables = None
        self.equal.changed()
        self.graphs.clear()
        self._kernel_rows.changed(rows)

    def tables_there(self, begins: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return tables of lists, on the CPU, on the device of the rows; None where that is the CPU."""
        if self.device.type == "cpu":
            return None
        known = self.tables
        # sizes change in place, but not without a change of the rows
        if known is None or known[0][0] is not begins or known[0][1] is not sizes:
            known = self.tables = (begins, sizes), (begins.to(self.device), sizes.to(self.device))
        return known[1]

    def _changed(self, rows: Tensor | slice) -> None:
        for copies in self.copies.values():
            copies.changed(rows)

    def stored(self, vectors: Tensor) -> Stored:
        """Return what a scan reads of rows: as `Codec.rows` gives them, shape (capacity, any)."""
        decode = self.codec.decoder()
        exactly = None if decode is None else self.codec.decode
        return Stored(vectors, self.bias.room, self.largest_norm, self.finite, None, decode, exactly)

    def tiles_for(self, vectors: Tensor) -> TilesFor | None:
        """Return what gives a search tiles of the rows, or None where they are not to be had.

        Parameters
        ----------
        vectors : Tensor, float32, float16 or bfloat16, shape (capacity, d)
            Who stores them in less than float32 wants less memory, and not copies beside them.
        """
        if not _may_be_copied(vectors):
            return None

        def for_search(
            begins: Tensor, sizes: Tensor, list_nos: Tensor, times: int, arithmetic: str
        ) -> ListTiles | None:
            tiles = self._copies_of(arithmetic, lambda: ScreenTiles(self.metric_type, arithmetic))
            return tiles.for_search(self.stored(vectors), begins, sizes, list_nos, times)

        return for_search

    def blocks_for(self, vectors: Tensor) -> BlocksFor | None:
        """Return what gives a search blocks of the rows: as `tiles_for`."""
        if not _may_be_copied(vectors):
            return None

        def for_search(begins: Tensor, sizes: Tensor, list_nos: Tensor | None, times: int) -> CodeBlocks | None:
            blocks = self._copies_of("blocks", lambda: ScreenBlocks(self.metric_type))
            if list_nos is None:
                return blocks.of_all(begins, sizes)
            return blocks.for_search(self.stored(vectors), begins, sizes, list_nos, times)

        return for_search

    def rounded_for(self, vectors: Tensor) -> RoundedFor | None:
        """Return what gives a search on a GPU its rows in 16 bits, or None where there is no kernel for that.

        Parameters
        ----------
        vectors : Tensor, float32, float16 or bfloat16, shape (n, d)
            All rows; those in 16 bits are not copied.
        """
        if self.codec.decoder() is not None or not kernels.chosen("block_minima", vectors.device):
            return None

        filtered: dict[int, tuple[Tensor, Any]] = {}

        def rounded_for(stored: Stored) -> Any:
            known = self._kernel_rows.current(vectors, self.bias.room[: len(vectors)])
            if known is None or stored.bias is self.bias.room:
                return known
            # a search of many queries asks for the same several times
            if id(stored.bias) not in filtered:
                filtered[id(stored.bias)] = stored.bias, known.found_by(stored.bias, stored.rows)
            return filtered[id(stored.bias)][1]

        return RoundedFor(rounded_for, self.graphs)

    def _copies_of(self, name: str, make: Callable[[], ScreenCopies[Any]]) -> ScreenCopies[Any]:
        copies = self.copies.get(name)
        # another thread may do the same
        return self.copies.setdefault(name, make()) if copies is None else copies


def _may_be_copied(vectors: Tensor) -> bool:
    return vectors.device.type == "cpu" and vectors.dtype == torch.float32
