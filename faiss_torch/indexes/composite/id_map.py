"""IndexIDMap: ids of the caller's for an index that counts its vectors."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import border, interrupts
from ...ops.scoring import ragged
from ...parts.growing import GrowingTensor
from ...parts.params import SearchParameters
from ...parts.reverse_map import ReverseMap
from ...parts.selectors import IDSelector, IDSelectorRange
from ...wrapper.vectors import Int64Vector, NumberVector
from ..base import Index
from .threaded import ThreadedIndexBase


class IDSelectorTranslated(IDSelector):
    """Selects positions by the ids that stand there.

    Parameters
    ----------
    id_map : Int64Vector or IndexIDMap
        The id of each position; positions beyond it are not selected.
    sel : IDSelector
        Selects ids.
    """

    def __init__(self, id_map: Int64Vector | IndexIDMap, sel: IDSelector) -> None:
        if not isinstance(id_map, (Int64Vector, IndexIDMap)):
            raise TypeError(f"expected an IndexIDMap or an Int64Vector of ids, got {type(id_map).__name__}")
        if not isinstance(sel, IDSelector):
            raise TypeError(f"expected an IDSelector, got {type(sel).__name__}")
        self._owner = id_map
        self.sel = sel

    @property
    def id_map(self) -> Int64Vector:
        """The id of each position."""
        return self._owner.id_map if isinstance(self._owner, IndexIDMap) else self._owner

    @property
    def takes_any_id(self) -> bool:
        return True  # `sel` is asked about ids of the map alone

    def _table(self, device: torch.device) -> Tensor:
        owner = self._owner
        return (owner._ids.rows if isinstance(owner, IndexIDMap) else border.tensor_of(owner.array)).to(device)

    def mask(self, ids: Tensor) -> Tensor:
        table = self._table(ids.device)
        if not len(table):
            return torch.zeros_like(ids, dtype=torch.bool)
        within = ids.clamp(0, len(table) - 1)
        return self.sel.mask(table[within]).logical_and_(within == ids)

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        table = self._table(device)
        mask = torch.zeros(end - begin, dtype=torch.bool, device=device)
        first, last = max(begin, 0), min(end, len(table))
        if first < last:
            mask[first - begin : last - begin] = self.sel.mask(table[first:last])
        return mask


class _SelectorOfWrapped(IDSelectorTranslated):
    """What an IndexIDMap makes of a selector; the index that it wraps may be an IndexIDMap and have ids of its own."""


class _CopiedIds(Int64Vector):
    """The ids of an index on an accelerator: what is assigned goes there, for the memory is not shared."""

    def assign(self, values: np.ndarray) -> None:
        self._replace(np.array(values, dtype=self.dtype))

    def __setitem__(self, item: Any, value: Any) -> None:
        super().__setitem__(item, value)
        self._replace(self.array)


class IndexIDMap(Index):
    """Keeps an id for each vector of another index, which counts them from 0.

    Parameters
    ----------
    index : Index
        An empty index of any kind; add to it through this one alone.

    Attributes
    ----------
    index : Index
    own_fields : bool
        Without effect: ownership is Python's.
    storage_dtype : torch.dtype
        What `index` stores its vectors as (an extension; see `to`).
    id_map : Int64Vector
        The id of each vector of `index`; over this index's own memory on the CPU, a copy on an accelerator.

    Raises
    ------
    RuntimeError
        If the index holds vectors.
    """

    index: Any
    own_fields: bool
    _ids: GrowingTensor

    _objects: ClassVar[dict[str, type]] = {"index": Index}

    def __init__(self, index: Index | None = None) -> None:
        if index is not None and not isinstance(index, Index):
            raise TypeError(f"{type(self).__name__} wraps an index, got {type(index).__name__}")
        if index is not None and index.ntotal:
            raise RuntimeError(f"index must be empty on input, it holds {index.ntotal} vectors: add them with ids here")
        super().__init__(index.d if index is not None else 0)
        self.index = index
        self.own_fields = False
        if index is not None:
            self.metric_type = index.metric_type
            self.is_trained = index.is_trained
            self.verbose = index.verbose
            self.device = index.device
        self._ids = GrowingTensor((), torch.int64, self.device)

    @property
    def id_map(self) -> Int64Vector:
        vector_class = Int64Vector if self._ids.room.device.type == "cpu" else _CopiedIds
        return vector_class(self._ids.rows.cpu().numpy(), on_replace=self._set_ids)

    @id_map.setter
    def id_map(self, values: Any) -> None:
        if not isinstance(values, NumberVector):
            raise TypeError(
                f"id_map: expected Int64Vector, got {type(values).__name__}; "
                "copy_array_to_vector(array, x.id_map) puts an array there"
            )
        self._set_ids(values.array)

    def _set_ids(self, values: np.ndarray) -> None:
        self._ids.replace(border.tensor_of(values).clone().to(self.device))

    @property
    def storage_dtype(self) -> torch.dtype:
        return self._wrapped().storage_dtype  # type: ignore[attr-defined]

    def _wrapped(self) -> Index:
        if self.index is None:
            raise RuntimeError(f"{type(self).__name__} wraps no index")
        return self.index

    def _require_trained(self) -> None:
        self._wrapped()._require_trained()

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        own, wrapped = super()._moved(device, None), self._wrapped()._moved(device, dtype)
        ids = self._ids.rows.to(device)

        def switch() -> None:
            own()
            wrapped()
            self._keep_ids(ids)

        return switch

    # training, adding, removing

    def _train(self, x: Tensor) -> None:
        self._wrapped().train(x)
        self.is_trained = self.index.is_trained

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if ids is None:
            raise RuntimeError(f"add does not make sense with {type(self).__name__}, use add_with_ids")
        try:
            self._wrapped().add(x)
        except Exception:
            if isinstance(self.index, ThreadedIndexBase):
                # take back what the others added where one sub-index failed: it would be there without ids
                with contextlib.suppress(RuntimeError):
                    self.index.remove_ids(IDSelectorRange(self._ids.size, torch.iinfo(torch.int64).max))
            raise
        self._take_ids(ids)

    def _add_sa_codes(self, codes: Tensor, ids: Tensor | None) -> None:
        if ids is None:
            raise RuntimeError(f"add_sa_codes of {type(self).__name__} needs ids")
        self._wrapped().add_sa_codes(codes)
        self._take_ids(ids)

    def _take_ids(self, ids: Tensor) -> None:
        with interrupts.shielded():
            self._ids.append(ids)
            self.ntotal = self.index.ntotal

    def _reset(self) -> None:
        self._wrapped().reset()
        self._keep_ids(self._ids.rows.new_empty(0))

    def _keep_ids(self, ids: Tensor) -> None:
        self._ids.replace(ids)
        self.ntotal = self.index.ntotal

    def _remove_ids(self, sel: IDSelector) -> int:
        index, ids = self._wrapped(), self._ids.rows
        keep = ~sel.mask(ids)
        kept = ids[keep]
        if len(kept) < len(ids):
            with interrupts.shielded():
                index.remove_ids(IDSelectorTranslated(self, sel))
                index._renumber(keep.cumsum(0) - 1, len(kept))
                self._keep_ids(kept)
        return len(ids) - len(kept)

    def _keeps_ids(self) -> bool:
        return True

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        self._keep_ids(ragged.entries_at(numbers.to(self.device), self._ids.rows))

    # searching

    def _translated_params(self, params: SearchParameters | None) -> SearchParameters | None:
        """The settings for the wrapped index; the caller's object stays as it is."""
        if params is None or params.sel is None or type(params.sel) is IDSelectorTranslated:
            return params
        own = copy.copy(params)
        own.sel = _SelectorOfWrapped(self, params.sel)
        return own

    def _translate(self, positions: Tensor) -> Tensor:
        """The ids at positions; -1 where there is none."""
        return ragged.entries_at(self._ids.rows.to(positions.device), positions)

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        distances, positions = self._wrapped().search(x, k, params=self._translated_params(params))
        return distances, self._translate(positions)

    def _assign(self, x: Tensor, k: int) -> Tensor:
        return self._translate(self._wrapped().assign(x, k))

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        lims, distances, positions = self._wrapped().range_search(x, radius, params=self._translated_params(params))
        return lims, distances, self._translate(positions)

    # as a codec

    def sa_code_size(self) -> int:
        return self._wrapped().sa_code_size()

    def _sa_encode(self, x: Tensor) -> Tensor:
        return self._wrapped().sa_encode(x)

    def _sa_decode(self, codes: Tensor) -> Tensor:
        return self._wrapped().sa_decode(codes)

    # merging

    def check_compatible_for_merge(self, otherIndex: Index) -> None:
        if not isinstance(otherIndex, IndexIDMap):
            raise RuntimeError(
                f"can only merge a {type(self).__name__} with its like, not with a {type(otherIndex).__name__}"
            )
        self._wrapped().check_compatible_for_merge(otherIndex._wrapped())

    def _merge_from(self, other: IndexIDMap, add_id: int) -> None:
        index = self._wrapped()
        # an index that keeps ids, such as an inverted file, goes on counting; one that only counts takes no number
        index.merge_from(other.index, index.ntotal if index._keeps_ids() else 0)
        with interrupts.shielded():
            self._take_ids(other._ids.rows.to(self.device) + add_id)
            other._keep_ids(other._ids.rows.new_empty(0))


class IndexIDMap2(IndexIDMap):
    """IndexIDMap that also finds the vector of an id.

    Parameters
    ----------
    index : Index

    Attributes
    ----------
    rev_map : ReverseMap
        The position in `index` of each id; of an id that was added several times, the last one.
    """

    _rev_map: ReverseMap

    def __init__(self, index: Index | None = None) -> None:
        super().__init__(index)
        self._rev_map = ReverseMap(self._ids)

    @property
    def rev_map(self) -> ReverseMap:
        return self._rev_map

    def construct_rev_map(self) -> None:
        """Make the map from ids to positions anew, after `id_map` was written to."""
        self._rev_map.construct()

    def _keep_ids(self, ids: Tensor) -> None:
        super()._keep_ids(ids)
        self.construct_rev_map()

    def check_consistency(self) -> None:
        """Raise RuntimeError unless every id stands for one vector and is found at its position."""
        ids = self._ids.rows
        if len(ids) != self.ntotal:
            raise RuntimeError(f"id_map holds {len(ids)} ids, the index {self.ntotal} vectors")
        different = self._rev_map.size()
        if different != len(ids):
            raise RuntimeError(f"id_map holds {len(ids)} ids, of which only {different} are different")
        if not torch.equal(self._rev_map.find(ids), torch.arange(len(ids), dtype=torch.int64, device=ids.device)):
            raise RuntimeError("rev_map does not fit id_map: call construct_rev_map()")

    # reading back

    def _reconstruct(self, keys: Tensor) -> Tensor:
        positions = self._rev_map.find(keys)
        if bool((positions < 0).any()):
            raise RuntimeError(f"key {int(keys[positions < 0][0])} not found")
        return self._wrapped().reconstruct_batch(positions)

    def _check_rows(self, n0: int, ni: int) -> None:
        """Here n0 ... n0 + ni - 1 are ids, and `_reconstruct` says which is missing."""
        if ni < 0:
            raise RuntimeError(f"reconstruct_n: cannot give {ni} vectors")

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # through the wrapped index, which may know its results' vectors without a direct map
        own = self._translated_params(params)
        distances, positions, recons = self._wrapped().search_and_reconstruct(x, k, params=own)
        return distances, self._translate(positions), recons
