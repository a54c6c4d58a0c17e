"""IndexIVFFlat: inverted lists of the vectors themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..attributes import integer
from ..constants import METRIC_L2
from ..ops import ivf_scan
from ..ops.lists import entries_at
from ..ops.screen import Scorer, make_scorer
from ..parts.list_storage import ListStorage
from ..parts.params import SearchParameters
from ..parts.selectors import IDSelector
from .base import Index
from .flat import FlatAssignment, IndexFlat
from .ivf import IndexIVF


class IndexIVFFlat(IndexIVF):
    """Inverted lists of float32 vectors.

    Parameters
    ----------
    quantizer : Index
    d, nlist : int
    metric : int
        Any metric.
    own_invlists : bool

    Attributes
    ----------
    storage_dtype : torch.dtype
        What the vectors are stored as (an extension; see `to`).
    """

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        metric: int = METRIC_L2,
        own_invlists: bool = True,
    ) -> None:
        super().__init__(quantizer, d, nlist, 4 * integer(d, "d"), metric, own_invlists)
        self.by_residual = False

    @property
    def storage_dtype(self) -> torch.dtype:
        return torch.float32 if self.invlists is None else self.invlists.storage_dtype

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        return self._moved_with_lists(device, dtype)

    def _as_stored(self, x: Tensor) -> Tensor:
        return x.to(self.storage_dtype).to(torch.float32)

    def _encode(self, x: Tensor, list_nos: Tensor) -> Tensor:
        return x.view(torch.uint8)

    def _later_assignment(self) -> FlatAssignment | None:
        quantizer = self.quantizer
        if not isinstance(quantizer, IndexFlat) or quantizer.ntotal > self.nlist or quantizer.device != self.device:
            return None
        return quantizer.assignment()

    def _knows_later_assignment(self) -> bool:
        quantizer = self.quantizer
        return isinstance(quantizer, IndexFlat) and quantizer.known_assignment() is not None

    def _decode(self, codes: Tensor, list_nos: Tensor) -> Tensor:
        return codes.view(torch.float32).clone()

    def _lists(self, storage: ListStorage) -> ivf_scan.Lists:
        return storage.lists_for_scan(self.metric_type)

    def _scorer(self, x: Tensor, lists: ivf_scan.Lists) -> Scorer:
        return make_scorer(x, lists.stored, self.metric_type, self.metric_arg)


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
        super()._train(x[first == torch.arange(len(x), device=x.device)])

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        if not self.direct_map.no():
            raise RuntimeError("IndexIVFFlatDedup cannot add with a direct map")
        lists = self._require_lists()
        x = self._as_stored(x)
        list_nos = self._assign_lists(x)
        given = torch.arange(self.ntotal, self.ntotal + len(x), device=x.device) if ids is None else ids
        kept = (list_nos >= 0).nonzero().view(-1)
        x, list_nos, given = x[kept], list_nos[kept], given[kept]
        # the vectors already stored in these lists come first, so that equal ones are found among both at once
        rows, stored_ids, stored_list_nos = self._stored_in(list_nos.unique())
        everything = torch.cat([rows, x])
        all_ids = torch.cat([stored_ids, given])
        all_list_nos = torch.cat([stored_list_nos, list_nos])
        first = _first_of_equal(torch.cat([everything, all_list_nos[:, None].to(x.dtype)], dim=1))[len(rows) :]
        new = first == torch.arange(len(rows), len(everything), device=x.device)
        for original, duplicate in zip(all_ids[first[~new]].tolist(), given[~new].tolist(), strict=True):
            self.instances.setdefault(original, []).append(duplicate)
        lists.add_to_lists(list_nos[new], given[new], self._encode(x[new], list_nos[new]))
        self.ntotal += len(x)

    def _stored_in(self, list_nos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors, ids and list numbers of all entries of some lists."""
        lists = self._require_lists()
        rows = [lists.list_codes(i).view(torch.float32) for i in list_nos.tolist()]
        ids = [lists.list_ids(i) for i in list_nos.tolist()]
        sizes = torch.tensor([len(part) for part in ids], dtype=torch.int64, device=self.device)
        none = torch.empty(0, self.d, device=self.device)
        return (
            torch.cat([none, *rows]),
            torch.cat([torch.empty(0, dtype=torch.int64, device=self.device), *ids]),
            torch.repeat_interleave(list_nos, sizes),
        )

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        return self._with_instances(*super()._search(x, k, params))

    def _with_instances(self, distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Put the duplicates of each result behind it, and cut to k."""
        k = labels.shape[1]
        for i, row in enumerate(labels.tolist()):
            if not any(label in self.instances for label in row):
                continue
            row_distances = distances[i].tolist()
            expanded = [
                (distance, label)
                for distance, original in zip(row_distances, row, strict=True)
                for label in (original, *self.instances.get(original, ()))
            ][:k]
            distances[i] = torch.tensor([distance for distance, _ in expanded])
            labels[i] = torch.tensor([label for _, label in expanded])
        return distances, labels

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError("search_and_reconstruct is not supported in IndexIVFFlatDedup")

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError("range_search is not implemented for IndexIVFFlatDedup")

    def update_vectors(self, keys: object, x: object) -> None:
        """Not offered, as in faiss."""
        raise RuntimeError("update_vectors is not implemented for IndexIVFFlatDedup")

    def _reconstruct(self, keys: Tensor) -> Tensor:
        raise RuntimeError("reconstruct is not implemented for IndexIVFFlatDedup")

    def _remove_ids(self, sel: IDSelector) -> int:
        """Remove ids; where a stored one goes and a duplicate of it stays, the duplicate takes its entry."""
        if not self.direct_map.no():
            raise RuntimeError("IndexIVFFlatDedup cannot remove with a direct map")
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
        self.instances = instances
        lists = self._require_lists()
        lists.rename_ids(successors)
        keep = _Keep(sel, set(successors.values()))
        removed = lists.remove_entries(keep)
        self.ntotal -= removed
        return removed

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        super()._renumber(numbers, ntotal)
        numbers = numbers.cpu()
        self.instances = {
            int(entries_at(numbers, torch.tensor(original))): entries_at(numbers, torch.tensor(duplicates)).tolist()
            for original, duplicates in self.instances.items()
        }


class _Keep(IDSelector):
    """A selector less the ids that have just taken over an entry."""

    def __init__(self, sel: IDSelector, kept: set[int]) -> None:
        self.sel, self.kept = sel, torch.tensor(sorted(kept), dtype=torch.int64)

    def mask(self, ids: Tensor) -> Tensor:
        return self.sel.mask(ids) & ~torch.isin(ids, self.kept.to(ids.device))


def _first_of_equal(x: Tensor) -> Tensor:
    """Return for each row the number of the first row that equals it."""
    _, group = x.unique(dim=0, return_inverse=True)
    first = torch.full((len(x),), len(x), dtype=torch.int64, device=x.device)
    first.scatter_reduce_(0, group, torch.arange(len(x), device=x.device), "amin")
    return first[group]
