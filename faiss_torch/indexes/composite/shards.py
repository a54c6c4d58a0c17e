"""IndexShards: a database cut into parts, each in an index of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import interrupts
from ...ops.runtime import workers
from ...ops.scoring.distances import METRICS
from ...ops.search import merge
from ...parts.params import SearchParameters, SearchParametersIVF
from ...parts.selectors import IDSelector
from ..base import Index
from ..ivf.base import IndexIVF
from ..ivf.level1_quantizer import IndexIVFInterface, Level1Quantizer
from .threaded import ThreadedIndexBase, flags_behind_dimension


class IDSelectorShifted(IDSelector):
    """Selects the ids of a shard that another selector selects once they are shifted.

    Parameters
    ----------
    sel : IDSelector
    offset : int
        Added to the shard's ids.
    """

    def __init__(self, sel: IDSelector, offset: int) -> None:
        self.sel, self.offset = sel, offset

    def mask(self, ids: Tensor) -> Tensor:
        return self.sel.mask(ids + self.offset)

    def mask_of_range(self, begin: int, end: int, device: torch.device) -> Tensor:
        return self.sel.mask_of_range(begin + self.offset, end + self.offset, device)


def _shifted(params: SearchParameters | None, offset: int) -> SearchParameters | None:
    """The settings for a shard whose ids are shifted; the caller's object stays as it is."""
    if params is None or params.sel is None or offset == 0:
        return params
    own = copy.copy(params)
    own.sel = IDSelectorShifted(params.sel, offset)
    return own


class IndexShards(ThreadedIndexBase):
    """Searches all its shards and joins what they find.

    Called as ``(d, threaded, successive_ids)``, or as ``(threaded, successive_ids)``: the dimension is then that of
    the first shard.

    Parameters
    ----------
    d : int
    threaded : bool
        Whether the shards work at the same time (default False).
    successive_ids : bool
        Whether each shard counts its vectors from 0, so that its ids are shifted by the sizes of those before it
        (default); otherwise ids are those that the shards were given. A selector is about the ids that a search
        returns, in either case.

    Attributes
    ----------
    successive_ids : bool
    """

    successive_ids: bool

    def __init__(self, d: int | bool = 0, threaded: bool | None = None, successive_ids: bool | None = None) -> None:
        dimension, in_threads, successive = flags_behind_dimension(d, threaded, successive_ids)
        super().__init__(dimension, in_threads)
        self.successive_ids = successive is None or bool(successive)

    def add_shard(self, index: Index) -> None:
        """Take in another shard: see `addIndex`."""
        self.addIndex(index)

    def remove_shard(self, index: Index) -> None:
        """Give a shard back: see `removeIndex`."""
        self.removeIndex(index)

    def _offsets(self) -> list[int]:
        """What is added to the ids of each shard."""
        offsets = [0]
        for index in self._indices:
            offsets.append(offsets[-1] + (index.ntotal if self.successive_ids else 0))
        return offsets[:-1]

    # adding and removing

    def _slices(self, n: int) -> list[slice]:
        """The share of each shard in `n` vectors."""
        count = self.count()
        return [slice(no * n // count, (no + 1) * n // count) for no in range(count)]

    def _ids_for(self, n: int, ids: Tensor | None) -> Tensor | None:
        """The ids of new vectors; None where the shards count.

        Raises
        ------
        RuntimeError
            If the vectors cannot be added.
        """
        self._require_some()
        if not self.successive_ids:
            if ids is not None:
                return ids
            return torch.arange(self.ntotal, self.ntotal + n, dtype=torch.int64, device=self.device)
        if ids is not None:
            raise RuntimeError(
                "it makes no sense to pass in ids and request them to be shifted: add to shards with "
                "successive_ids=False"
            )
        if self.ntotal:
            raise RuntimeError(
                f"with successive_ids only one add() is supported, and there are {self.ntotal} vectors: "
                "use successive_ids=False, with shards that take ids"
            )
        return None

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        given, shares = self._ids_for(len(x), ids), self._slices(len(x))

        def add_share(no: int, index: Index) -> None:
            if given is None:
                index.add(x[shares[no]])
            else:
                index.add_with_ids(x[shares[no]], given[shares[no]])

        with interrupts.shielded():  # all shards, or none
            self._change_each(add_share)

    def _remove_ids(self, sel: IDSelector) -> int:
        self._require_some()
        if self.successive_ids and any(index._keeps_ids() for index in self._indices):
            raise RuntimeError(
                "remove_ids would leave gaps in the ids of shards that are counted on: use successive_ids=False"
            )
        offsets = self._offsets()

        def remove(no: int, index: Index) -> int:
            return index.remove_ids(IDSelectorShifted(sel, offsets[no]) if offsets[no] else sel)

        with interrupts.shielded():
            return sum(self._change_each(remove))

    def _keeps_ids(self) -> bool:
        return not self.successive_ids

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        if self.successive_ids:
            return
        totals, surplus = [], self.ntotal - ntotal
        for index in self._indices:
            # a removal does not find the vectors of an inverted file that are in no list, and leaves them counted
            in_no_list = index.ntotal - index._require_lists().compute_ntotal() if isinstance(index, IndexIVF) else 0
            totals.append(index.ntotal - min(surplus, in_no_list))
            surplus -= min(surplus, in_no_list)
        self._change_each(lambda no, index: index._renumber(numbers, totals[no]))

    # searching

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        self._require_some()
        offsets = self._offsets()
        found = self._on_each(lambda no, index: index.search(x, k, params=_shifted(params, offsets[no])))
        return self._merged(found, k, offsets)

    def _merged(self, found: list[Any], k: int, offsets: list[int]) -> tuple[Tensor, Tensor]:
        labels = [_shift(labels, offset) for (_, labels), offset in zip(found, offsets, strict=True)]
        similarity = METRICS[self.metric_type].similarity
        return merge.nearest_of_parts([distances for distances, _ in found], labels, k, similarity)

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        self._require_some()
        offsets = self._offsets()
        found = self._on_each(lambda no, index: index.range_search(x, radius, params=_shifted(params, offsets[no])))
        parts = [(lims, D, _shift(labels, offset)) for (lims, D, labels), offset in zip(found, offsets, strict=True)]
        return merge.ranges_of_parts(parts)


def _search_lists(
    index: IndexIVF, x: Tensor, k: int, probes: Tensor, params: SearchParameters | None
) -> tuple[Tensor, Tensor]:
    """Search lists that were found already, on the device of the inverted file; results on that of the queries."""
    distances, positions, storage = index._scan(x.to(index.device), probes.to(index.device), k, index._settings(params))
    return distances.to(x.device), storage.ids_at(positions).to(x.device)


def _shift(labels: Tensor, offset: int) -> Tensor:
    return torch.where(labels < 0, labels, labels + offset) if offset else labels


class IndexShardsIVF(IndexShards, Level1Quantizer):
    """Shards that are inverted files with the same centroids, which are looked for once for all shards.

    Parameters
    ----------
    quantizer : Index
        Finds the lists, for adding and for searching.
    nlist : int
    threaded : bool
    successive_ids : bool
        See `IndexShards`.
    """

    def __init__(
        self, quantizer: Index | None = None, nlist: int = 0, threaded: bool = False, successive_ids: bool = True
    ) -> None:
        super().__init__(0 if quantizer is None else quantizer.d, threaded, successive_ids)
        self._init_level1(quantizer, nlist)
        if quantizer is not None:
            self.is_trained = bool(quantizer.is_trained and quantizer.ntotal == nlist)

    def _check_fits(self, index: Index) -> None:
        if not isinstance(index, IndexIVFInterface):
            raise RuntimeError(f"can only add inverted files, got {type(index).__name__}")
        if index.nlist != self.nlist:
            raise RuntimeError(f"the new shard has nlist={index.nlist}, expected {self.nlist}")
        super()._check_fits(index)

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        shards = super()._moved(device, dtype)
        quantizer = self._require_quantizer()._moved(device, None)

        def switch() -> None:
            shards()
            quantizer()

        return switch

    def _train(self, x: Tensor) -> None:
        if self.verbose:
            print("Training level-1 quantizer")
        self.train_q1(x, self.verbose, self.metric_type)
        centroids = self._require_quantizer().reconstruct_n(0, self.nlist)

        def train_shard(no: int, index: Any) -> None:
            quantizer = index.quantizer
            if quantizer is not self.quantizer:
                quantizer.reset()
                if not quantizer.is_trained:
                    quantizer.train(centroids)
                quantizer.add(centroids)
            index.train(x)

        self._change_each(train_shard)
        self.is_trained = True

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if not all(isinstance(index, IndexIVF) for index in self._indices):
            super()._add(x, ids)
            return
        given, shares = self._ids_for(len(x), ids), self._slices(len(x))
        list_nos = self._require_quantizer().assign(x, 1).view(-1)

        def add_share(no: int, index: Any) -> None:
            share = shares[no]
            share_ids = None if given is None else given[share]
            index.add_core(share.stop - share.start, x[share], share_ids, list_nos[share])

        self._change_each(add_share)

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        self._require_some()
        if params is not None and not isinstance(params, SearchParametersIVF):
            raise RuntimeError(f"IndexShardsIVF takes SearchParametersIVF, got {type(params).__name__}")
        nprobe = min(self.nlist, self._nprobe() if params is None else params.nprobe)
        of_quantizer = None if params is None else params.quantizer_params
        _, probes = self._require_quantizer().search(x, nprobe, params=of_quantizer)
        offsets = self._offsets()

        def search_shard(no: int, index: Any) -> tuple[Tensor, Tensor]:
            own = _shifted(params, offsets[no])
            return workers.conduct(lambda: _search_lists(index, x, k, probes, own), index.device, (x, probes))

        return self._merged(self._on_each(search_shard), k, offsets)

    def _nprobe(self) -> int:
        given = {index.nprobe for index in self._indices}  # type: ignore[attr-defined]
        if len(given) > 1:
            raise RuntimeError(f"inconsistent nprobe: the shards have {sorted(given)}, set the same in all")
        return given.pop()
