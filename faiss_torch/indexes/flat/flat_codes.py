"""IndexFlatCodes: indexes that store one code per vector, in the order of the ids.

A subclass writes ``_codec()``, which says what codes mean, and is searched by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import border
from ...attributes import Size
from ...constants import METRIC_L2
from ...ops.byte_sums.blocks import BlocksFor
from ...ops.gpu.search import RoundedFor
from ...ops.runtime import chunks, workers
from ...ops.scoring.scorers import Scorer
from ...ops.scoring.stored import Stored
from ...ops.search import flat
from ...ops.search.filtering import narrowed
from ...ops.tiles.tile_set import TilesFor
from ...parts.codecs.codec import Codec
from ...parts.growing import GrowingTensor, copied
from ...parts.params import SearchParameters
from ...parts.screens.facts import RowFacts
from ...parts.selectors import IDSelector
from ...wrapper.pointers import Pointer, table
from ...wrapper.vectors import MaybeOwnedVectorUInt8
from ..base import Index


class IndexFlatCodes(Index):
    """Base of the indexes whose vectors are a table of codes.

    Parameters
    ----------
    code_size : int
        Bytes of a code.
    d : int
    metric : int

    Attributes
    ----------
    code_size : int
    codes : MaybeOwnedVectorUInt8
        All codes, ``ntotal * code_size`` bytes; over the index's own memory on the CPU, a copy on an accelerator.
    """

    code_size: Size
    _codes: GrowingTensor
    _facts: RowFacts | None

    def __init__(self, code_size: int = 0, d: int = 0, metric: int = METRIC_L2) -> None:
        super().__init__(d, metric)
        self.code_size = code_size
        self._codes = GrowingTensor((self.code_size,), torch.uint8, self.device)
        self._facts = None

    def _codec(self) -> Codec:
        """What codes mean."""
        raise RuntimeError(f"{type(self).__name__} has no codec")

    @property
    def codes(self) -> MaybeOwnedVectorUInt8:
        rows = self._from_stored(self._codes.rows.cpu()).numpy().reshape(-1)
        self._codes_changed()  # who holds the memory may write to it
        return MaybeOwnedVectorUInt8(rows, on_replace=self._set_codes)

    @codes.setter
    def codes(self, values: Any) -> None:
        # an array stays its owner's, a vector's memory is taken over
        self._set_codes(values.copy() if isinstance(values, np.ndarray) else values.array)

    def _set_codes(self, values: np.ndarray) -> None:
        if values.size % max(1, self.code_size):
            raise RuntimeError(f"{values.size} bytes are no whole number of codes of {self.code_size} bytes")
        table = border.tensor_of(values).view(-1, max(1, self.code_size))
        stored = self._to_stored(table)
        self._codes = GrowingTensor((stored.shape[1],), torch.uint8, self.device)
        self._codes.replace(stored.to(self.device))
        self._codes_changed()

    def _codes_changed(self) -> None:
        """Forget whatever was derived from the codes."""
        self._facts = None

    def __getstate__(self) -> dict[str, object]:
        # what a search knows is made again when it is needed
        return {**super().__getstate__(), "_facts": None}

    # codes may be stored in another form than they are given and taken in

    def _to_stored(self, codes: Tensor) -> Tensor:
        """Codes as they are stored: uint8, (n, code_size) -> uint8, (n, any)."""
        return codes

    def _from_stored(self, stored: Tensor) -> Tensor:
        return stored

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        moved = super()._moved(device, dtype)
        codes = copied(self._codes, device)

        def switch() -> None:
            moved()
            self._codes = codes
            self._codes_changed()

        return switch

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if ids is not None:
            raise RuntimeError(f"add_with_ids is not implemented for {type(self).__name__}: wrap it in an IndexIDMap")
        self._add_sa_codes(self._sa_encode(x), None)

    def _add_sa_codes(self, codes: Tensor, ids: Tensor | None) -> None:
        self._append_stored(self._to_stored(codes))

    def _append_stored(self, stored: Tensor) -> None:
        try:
            self._codes.append(stored)
            self._codes_appended(self.ntotal, stored)
            self.ntotal = self._codes.size
        except BaseException:  # all or nothing, also where it is interrupted
            self._codes.cut(self.ntotal)
            self._codes_changed()
            raise

    def _codes_appended(self, begin: int, stored: Tensor) -> None:
        """Take note of new codes, in the form in which they are stored, from row `begin` on."""
        if self._facts is not None:
            self._facts.append(begin, self._facts.codec.rows(stored))

    def _reset(self) -> None:
        self._codes = self._codes.emptied()
        self.ntotal = 0
        self._codes_changed()

    def _remove_ids(self, sel: IDSelector) -> int:
        keep = ~sel.mask_of_range(0, self.ntotal, self.device)
        removed = self.ntotal - int(keep.sum())
        if removed:
            self._keep_rows(keep)
        return removed

    def _keep_rows(self, rows: Tensor) -> None:
        """Keep the chosen rows (a mask, or an order of rows)."""
        order = rows.nonzero().view(-1) if rows.dtype == torch.bool else rows
        self._codes.replace(chunks.taken(self._codes.rows, order))
        self.ntotal = self._codes.size
        self._codes_changed()

    @workers.conducted
    def permute_entries(self, perm: border.Array) -> None:
        """Reorder the vectors: number i becomes the old number ``perm[i]``."""
        order = border.integers_in(border.at_pointer(perm, self.ntotal), self.device)
        if tuple(order.shape) != (self.ntotal,):
            raise AssertionError(f"expected a permutation of {self.ntotal} entries, got shape {tuple(order.shape)}")
        if not torch.equal(order.sort().values, torch.arange(self.ntotal, dtype=torch.int64, device=self.device)):
            raise RuntimeError(f"expected a permutation of 0 ... {self.ntotal - 1}: some entries are missing")
        self._keep_rows(order)

    def permute_entries_c(self, perm: Pointer) -> None:
        """`permute_entries` by perm, int64 [ntotal]."""
        self.permute_entries(table(perm, (self.ntotal,), "int64", "permute_entries_c"))

    # searching

    @property
    def _rows_stored(self) -> Tensor:
        return self._codec().rows(self._codes.room)

    def _stored(self) -> Stored:
        """Return what the engine reads; what it needs to know of the rows is made at the first search."""
        facts, codec = self._facts, self._codec()
        if facts is None or not facts.serves(codec, self.metric_type):
            facts = RowFacts(self.metric_type, self.device, codec)
            facts.append(0, codec.rows(self._codes.rows))
            self._facts = facts  # only now, for another thread may search meanwhile
        return facts.stored(self._rows_stored)

    def _narrowed(self, params: SearchParameters | None, k: int | None = None) -> tuple[Stored, int]:
        """Return what a search is to read, for k neighbours or for all within a radius, and how many rows these are."""
        stored = self._stored()
        if params is not None and params.sel is not None:
            return narrowed(stored, params.sel.mask_of_range(0, self.ntotal, self.device))
        if k is None:
            return stored, self.ntotal
        assert self._facts is not None
        return self._facts.equal.narrowed(stored, self.ntotal, k)

    def _screens_for(self, stored: Stored) -> tuple[TilesFor | None, BlocksFor | None, RoundedFor | None]:
        """What gives a search tiles and blocks, where it is one of all vectors, and rows in 16 bits."""
        facts, rows = self._facts, self._rows_stored
        if facts is None or stored.bias is not facts.bias.room:
            return None, None, self._rounded_for()
        return facts.tiles_for(rows), facts.blocks_for(rows), self._rounded_for()

    def _rounded_for(self) -> RoundedFor | None:
        """What gives a search rows in 16 bits, where kernels search these."""
        facts = self._facts
        return None if facts is None else facts.rounded_for(self._rows_stored[: self.ntotal])

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        stored, n = self._narrowed(params, k)
        screens = self._screens_for(stored)
        return flat.knn(x, stored, n, k, self.metric_type, self.metric_arg, *screens, scorer_of=self._scorer)

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        stored, n = self._narrowed(params)
        tiles_for, _, rounded_for = self._screens_for(stored)
        metric = self.metric_type, self.metric_arg
        return flat.range_search(x, stored, n, radius, *metric, tiles_for, rounded_for, scorer_of=self._scorer)

    def _scorer(self, x: Tensor, stored: Stored) -> Scorer:
        return self._codec().scorer(x, stored, self.metric_type, self.metric_arg)

    def _sa_encode(self, x: Tensor) -> Tensor:
        return self._codec().encode(x)

    def _sa_decode(self, codes: Tensor) -> Tensor:
        return self._codec().decode(codes)

    def _codes_of(self, keys: Tensor) -> Tensor:
        if keys.numel() and not (0 <= int(keys.min()) and int(keys.max()) < self.ntotal):
            wrong = keys[(keys < 0) | (keys >= self.ntotal)]
            raise RuntimeError(f"id {int(wrong[0])} is outside 0 ... {self.ntotal - 1}")
        return self._from_stored(self._codes.rows[keys])

    def _reconstruct(self, keys: Tensor) -> Tensor:
        return self._sa_decode(self._codes_of(keys))

    def _reconstruct_n(self, n0: int, ni: int) -> Tensor:
        return self._sa_decode(self._from_stored(self._codes.rows[n0 : n0 + ni]))

    def sa_code_size(self) -> int:
        return self.code_size

    def check_compatible_for_merge(self, otherIndex: Index) -> None:
        if type(otherIndex) is not type(self):
            raise RuntimeError(
                f"can only merge a {type(self).__name__} with its like, not with a {type(otherIndex).__name__}"
            )
        if (otherIndex.d, otherIndex.code_size, otherIndex.metric_type) != (self.d, self.code_size, self.metric_type):
            raise RuntimeError(
                f"cannot merge an index of d={otherIndex.d}, code_size={otherIndex.code_size}, "
                f"metric {otherIndex.metric_type} "
                f"into one of d={self.d}, code_size={self.code_size}, metric {self.metric_type}"
            )

    def _merge_from(self, other: IndexFlatCodes, add_id: int) -> None:
        if add_id:
            raise RuntimeError("cannot set ids in a flat index: add_id must be 0")
        self._append_stored(self._stored_of(other))
        other._reset()

    def _stored_of(self, other: IndexFlatCodes) -> Tensor:
        """The codes of another index of this type, in the form in which this one stores them."""
        return other._codes.rows.to(self.device)
