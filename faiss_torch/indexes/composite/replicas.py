"""IndexReplicas: the same index several times, so that queries can be shared out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import interrupts
from ...ops.runtime import chunks
from ...parts.params import SearchParameters
from ...parts.selectors import IDSelector
from ..base import Index
from ..flat.flat import FlatAssignment, IndexFlat
from .threaded import ThreadedIndexBase, flags_behind_dimension


class IndexReplicas(ThreadedIndexBase):
    """Each replica holds all vectors, and searches for its share of the queries.

    Called as ``(d, threaded)``, or as ``(threaded)``: the dimension is then that of the first replica.

    Parameters
    ----------
    d : int
    threaded : bool
        Whether the replicas work at the same time (default True).
    """

    def __init__(self, d: int | bool = 0, threaded: bool | None = None) -> None:
        dimension, in_threads = flags_behind_dimension(d, threaded)
        super().__init__(dimension, in_threads is None or bool(in_threads))

    def add_replica(self, index: Index) -> None:
        """Take in another replica: see `addIndex`."""
        self.addIndex(index)

    def remove_replica(self, index: Index) -> None:
        """Give a replica back: see `removeIndex`."""
        self.removeIndex(index)

    def _check_fits(self, index: Index) -> None:
        super()._check_fits(index)
        if self._indices and index.ntotal != self._indices[0].ntotal:
            raise RuntimeError(
                f"IndexReplicas: newly added index has {index.ntotal} vectors, those here "
                f"{self._indices[0].ntotal}: replicas hold the same ones"
            )

    def _ntotal_of_all(self) -> int:
        first = self._indices[0].ntotal
        for index in self._indices[1:]:
            if index.ntotal != first:
                raise RuntimeError(f"IndexReplicas: replicas hold {first} and {index.ntotal} vectors")
        return first

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        self._require_some()
        with interrupts.shielded():  # all replicas, or none
            if ids is None:
                self._change_each(lambda no, index: index.add(x))
            else:
                self._change_each(lambda no, index: index.add_with_ids(x, ids))

    def _remove_ids(self, sel: IDSelector) -> int:
        self._require_some()
        with interrupts.shielded():
            return self._change_each(lambda no, index: index.remove_ids(sel))[0]

    def _keeps_ids(self) -> bool:
        self._require_some()
        return self._indices[0]._keeps_ids()

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        self._change_each(lambda no, index: index._renumber(numbers, ntotal))

    def assignments(self) -> list[FlatAssignment]:
        """Return how each replica finds the nearest of its vectors; none where that takes a search."""
        found = [each for index in self._indices if isinstance(index, IndexFlat) for each in index.assignments()]
        return found if len(found) == self.count() else []

    def _reconstruct(self, keys: Tensor) -> Tensor:
        self._require_some()
        return self._indices[0].reconstruct_batch(keys)

    def _shares(self, x: Tensor) -> list[Tensor]:
        """The queries of each replica that has some; of the first one where there are none at all."""
        self._require_some()
        return [x[share] for share in chunks.slices(len(x), -(-len(x) // self.count()))] if len(x) else [x]

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        shares = self._shares(x)

        def search_share(no: int, index: Index) -> Any:
            return index.search(shares[no], k, params=params) if no < len(shares) else None

        found = [result for result in self._on_each(search_share) if result is not None]
        return torch.cat([distances for distances, _ in found]), torch.cat([labels for _, labels in found])

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        shares = self._shares(x)

        def search_share(no: int, index: Index) -> Any:
            return index.range_search(shares[no], radius, params=params) if no < len(shares) else None

        found = [result for result in self._on_each(search_share) if result is not None]
        counts = torch.cat([lims.diff() for lims, _, _ in found])
        lims = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return lims, torch.cat([part[1] for part in found]), torch.cat([part[2] for part in found])


#: faiss's older name of it.
IndexProxy = IndexReplicas
