"""IndexIVFFlatDedup: inverted lists in which equal vectors stand once."""

from __future__ import annotations

from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from ... import interrupts
from ...border import Array
from ...constants import METRIC_L2
from ...ops.scoring.ragged import entries_at
from ...parts.params import SearchParameters
from ...parts.selectors import IDSelector
from ..base import Index
from .base import IndexIVF
from .flat import IndexIVFFlat
from .search import _Settings


class IndexIVFFlatDedup(IndexIVFFlat):
    """IndexIVFFlat that stores equal vectors once.

    Parameters
    ----------
    As `IndexIVFFlat`.

    Attributes
    ----------
    instances : dict of int to list of int
        For a stored id, the ids of the equal vectors that were added later (faiss's multimap).
    """

    instances: dict[int, list[int]]

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        metric: int = METRIC_L2,
        own_invlists: bool = True,
    ) -> None:
        super().__init__(quantizer, d, nlist, metric, own_invlists)
        self.instances = {}

    def _train(self, x: Tensor) -> None:
        first = _first_of_equal(x)
        super()._train(x[first == torch.arange(len(x), dtype=torch.int64, device=x.device)])

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if not self.direct_map.no():
            raise RuntimeError("IndexIVFFlatDedup cannot add with a direct map")
        lists = self._require_lists()
        x = self._as_stored(x)
        list_nos = self._assign_lists(x)
        n0 = self.ntotal
        given = torch.arange(n0, n0 + len(x), dtype=torch.int64, device=x.device) if ids is None else ids
        kept = (list_nos >= 0).nonzero().view(-1)
        x, list_nos, given = x[kept], list_nos[kept], given[kept]
        # the vectors already stored in these lists come first, so that equal ones are found among both at once
        rows, stored_ids, stored_list_nos = self._stored_in(list_nos.unique())
        everything = torch.cat([rows, x])
        all_ids = torch.cat([stored_ids, given])
        all_list_nos = torch.cat([stored_list_nos, list_nos])
        first = _first_of_equal(torch.cat([everything, all_list_nos[:, None].to(x.dtype)], dim=1))[len(rows) :]
        new = first == torch.arange(len(rows), len(everything), dtype=torch.int64, device=x.device)
        lists.add_to_lists(list_nos[new], given[new], self._encode(x[new], list_nos[new]))
        for original, duplicate in zip(all_ids[first[~new]].tolist(), given[~new].tolist(), strict=True):
            self.instances.setdefault(original, []).append(duplicate)
        self.ntotal += len(x)

    def _stored_in(self, list_nos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors, ids and list numbers of all entries of some lists."""
        lists = self._require_lists()
        rows = [lists.list_codes(i).view(torch.float32) for i in list_nos.tolist()]
        ids = [lists.list_ids(i) for i in list_nos.tolist()]
        sizes = torch.tensor([len(part) for part in ids], dtype=torch.int64, device=self.device)
        none = torch.empty(0, self.d, dtype=torch.float32, device=self.device)
        return (
            torch.cat([none, *rows]),
            torch.cat([torch.empty(0, dtype=torch.int64, device=self.device), *ids]),
            torch.repeat_interleave(list_nos, sizes),
        )

    def _settings(self, params: SearchParameters | None) -> _Settings:
        settings = super()._settings(params)
        if settings.sel is None or not self.instances:
            return settings
        return settings._replace(sel=_SelectorOfStored(settings.sel, self.instances))

    def _labelled(
        self, distances: Tensor, positions: Tensor, storage: Any, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor]:
        """Put the instances of each result beside it, by id, and cut to k."""
        distances, labels = super()._labelled(distances, positions, storage, params)
        instances = self._instances_to_find(self._settings(params).sel)
        k = labels.shape[1]
        for i, row in enumerate(labels.tolist()):
            if not any(label in instances for label in row):
                continue
            found = zip(distances[i].tolist(), row, strict=True)
            expanded = [
                (distance, label)
                for distance, equal in groupby(found, key=itemgetter(0))
                for label in sorted(label for _, original in equal for label in instances.get(original, [original]))
            ][:k]
            distances[i] = torch.tensor([distance for distance, _ in expanded], dtype=torch.float32, device="cpu")
            labels[i] = torch.tensor([label for _, label in expanded], dtype=torch.int64, device="cpu")
        return distances, labels

    def _instances_to_find(self, sel: IDSelector | None) -> dict[int, list[int]]:
        """For a stored id, all ids of its vector that a search may find."""
        if isinstance(sel, _SelectorOfStored):
            return sel.selected
        return {original: [original, *duplicates] for original, duplicates in self.instances.items()}

    def _range_scan(
        self, x: Tensor, probes: Tensor, radius: float, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        lims, distances, labels = super()._range_scan(x, probes, radius, settings)
        instances = self._instances_to_find(settings.sel)
        found = [instances.get(label, [label]) for label in labels.tolist()]
        ends = torch.tensor([0, *accumulate(map(len, found))], dtype=torch.int64, device=x.device)
        copies = ends.diff()
        every = torch.tensor([label for one in found for label in one], dtype=torch.int64, device=x.device)
        return ends[lims], torch.repeat_interleave(distances, copies), every

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError("search_and_reconstruct is not supported in IndexIVFFlatDedup")

    def search_and_return_codes(
        self,
        x: object,
        k: object,
        *,
        include_listnos: object = False,
        params: object = None,
        D: object = None,
        I: object = None,
        codes: object = None,
    ) -> tuple[Array, Array, Array]:
        """Not offered, as in faiss."""
        raise RuntimeError("search_and_return_codes is not supported in IndexIVFFlatDedup")

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError("range_search is not implemented for IndexIVFFlatDedup")

    def update_vectors(self, keys: object, x: object) -> None:
        """Not offered, as in faiss."""
        raise RuntimeError("update_vectors is not implemented for IndexIVFFlatDedup")

    def reconstruct_from_offset(self, list_no: int, offset: int, recons: object) -> None:
        """Not offered, as in faiss."""
        raise RuntimeError("reconstruct_from_offset is not implemented for IndexIVFFlatDedup")

    def _reconstruct(self, keys: Tensor) -> Tensor:
        raise RuntimeError("reconstruct is not implemented for IndexIVFFlatDedup")

    def _reconstruct_n(self, n0: int, ni: int) -> Tensor:
        raise RuntimeError("reconstruct_n is not implemented for IndexIVFFlatDedup")

    def _reset(self) -> None:
        super()._reset()
        self.instances = {}

    def _count_instances(self) -> int:
        return sum(map(len, self.instances.values()))

    def _remove_ids(self, sel: IDSelector) -> int:
        """Remove ids; where a stored one goes and an instance of it stays, the instance takes its entry."""
        if not self.direct_map.no():
            raise RuntimeError("IndexIVFFlatDedup cannot remove with a direct map")
        before = self._count_instances()
        successors = {}
        instances: dict[int, list[int]] = {}
        for original, duplicates in self.instances.items():
            staying = [duplicate for duplicate in duplicates if not sel.is_member(duplicate)]
            if sel.is_member(original):
                if not staying:
                    continue
                successors[original] = staying[0]
                original, staying = staying[0], staying[1:]
            if staying:
                instances[original] = staying
        lists = self._require_lists()
        with interrupts.shielded():
            self.instances = instances
            lists.rename_ids(successors)
            removed = lists.remove_entries(sel) + before - self._count_instances()
            self.ntotal -= removed
        return removed

    def _merge_from(self, other: IndexIVFFlatDedup, add_id: int) -> None:  # type: ignore[override]
        super()._merge_from(other, add_id)
        for original, duplicates in other.instances.items():
            theirs = [duplicate + add_id for duplicate in duplicates]
            self.instances.setdefault(original + add_id, []).extend(theirs)
        other.instances = {}

    def copy_subset_to(self, other: IndexIVF, subset_type: int, a1: int, a2: int) -> None:
        """As for other IVF indexes; refused where equal vectors stand once, since all ids but one would be lost."""
        if self.instances:
            raise RuntimeError(f"cannot copy a subset: {self._count_instances()} ids have no entry of their own")
        super().copy_subset_to(other, subset_type, a1, a2)

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        super()._renumber(numbers, ntotal)
        numbers = numbers.cpu()
        self.instances = {
            int(entries_at(numbers, numbers.new_tensor(original))): entries_at(
                numbers, numbers.new_tensor(duplicates)
            ).tolist()
            for original, duplicates in self.instances.items()
        }


class _SelectorOfStored(IDSelector):
    """Selects the stored ids whose vectors have a selected id.

    Attributes
    ----------
    selected : dict of int to list of int
        For each stored id that has instances, those of its ids that are selected, itself among them.
    """

    def __init__(self, sel: IDSelector, instances: dict[int, list[int]]) -> None:
        self.sel = sel
        self.selected = {}
        for original, duplicates in instances.items():
            ids = torch.tensor([original, *duplicates], dtype=torch.int64, device="cpu")
            self.selected[original] = ids[sel.mask(ids)].tolist()
        originals = [original for original, ids in self.selected.items() if ids]
        self._originals = torch.tensor(originals, dtype=torch.int64, device="cpu")

    def mask(self, ids: Tensor) -> Tensor:
        return self.sel.mask(ids) | torch.isin(ids, self._originals.to(ids.device))


def _first_of_equal(x: Tensor) -> Tensor:
    """Return for each row the number of the first row that equals it."""
    _, group = x.unique(dim=0, return_inverse=True)
    first = torch.full((len(x),), len(x), dtype=torch.int64, device=x.device)
    first.scatter_reduce_(0, group, torch.arange(len(x), dtype=torch.int64, device=x.device), "amin")
    return first[group]
