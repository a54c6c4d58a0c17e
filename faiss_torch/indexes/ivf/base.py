"""IndexIVF: the whole life cycle of an inverted file; a subclass gives the codec.

A subclass writes ``_codec()``; training it is ``_train_encoder(x, list_nos)``. With ``by_residual`` codes are of the
differences to the centroids.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ... import border, interrupts
from ...border import Array
from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...ops.clustering import steps
from ...ops.runtime import chunks, workers
from ...parts.lists.deferred import DeferredListStorage
from ...parts.lists.direct_map import DirectMap
from ...parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ...parts.selectors import IDSelector, IDSelectorArray
from ..base import Index
from ..flat.flat import FlatAssignment
from .search import _Searching

#: faiss's seed for the choice of vectors that a codec is trained on.
SUBSAMPLING_SEED = 1234


class IndexIVF(_Searching):
    """Vectors in inverted lists; a search looks at the lists nearest to the query.

    Parameters
    ----------
    quantizer : Index
        Any index; its vectors are the centroids of the lists.
    d, nlist, code_size : int
    metric : int
    own_invlists : bool
        Whether to make inverted lists at once.

    Attributes
    ----------
    nprobe, max_codes : int
        See `IndexIVFInterface`.
    invlists : ArrayInvertedLists
    direct_map : DirectMap
    code_size : int
    by_residual : bool
        Whether codes are of the difference to the centroid.
    parallel_mode : int
        Taken as in faiss; results do not depend on it.
    search_mode : str
        "auto" (default), "matrix" (query-major) or "csr" (list-major). An extension; see docs/how_it_works.md.
    auto_search_avg_group_threshold : float
        On accelerators "auto" takes csr from this average group size (times nlist / 512).
    last_path : ops.search.paths.Path or None
        The path that the last search took and why.
    """

    direct_map: DirectMap

    _objects: ClassVar[dict[str, type]] = {"direct_map": DirectMap}

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        code_size: int = 0,
        metric: int = METRIC_L2,
        own_invlists: bool = True,
    ) -> None:
        super().__init__(quantizer, d, nlist, code_size, metric)
        self.own_invlists = own_invlists
        self.by_residual = True
        self.direct_map = DirectMap()
        self.is_trained = False
        if quantizer is None:  # an empty object, for a reader to fill
            return
        if nlist <= 0:
            raise RuntimeError(f"an IVF index needs at least one list, got nlist={nlist}")
        if quantizer.d != d:
            raise RuntimeError(f"the quantizer has {quantizer.d} dimensions, expected {d}")
        if own_invlists:
            self.invlists = ArrayInvertedLists(self.nlist, self.code_size, self.device)
        self.is_trained = bool(quantizer.is_trained and quantizer.ntotal == nlist)
        self.cp.spherical = metric == METRIC_INNER_PRODUCT

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        if dtype is not None:
            return super()._moved(device, dtype)  # which refuses it
        return self._moved_with_lists(device, None)

    def _moved_with_lists(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        """`_moved` with the dtype in which the lists are to hold codes that are float vectors."""
        switches = [super()._moved(device, None)]
        if self.quantizer is not None:
            switches.append(self.quantizer._moved(device, None))
        if self.invlists is not None:
            switches.append(self.invlists.moved(device, dtype))

        def switch() -> None:
            for part in switches:
                part()

        return switch

    def _encode(self, x: Tensor, list_nos: Tensor) -> Tensor:
        """Codes of vectors in their lists: uint8, (n, code_size)."""
        codec = self._codec()
        if not self._holds_residuals():
            return codec.encode(x)
        codes = torch.empty(len(x), self.code_size, dtype=torch.uint8, device=x.device)
        for part in chunks.slices(len(x), chunks.rows_within(4 * self.d)):
            codes[part] = codec.encode(x[part] - self._centroids_of(list_nos[part]))
        return codes

    # hooks of subclasses

    def _train_encoder(self, x: Tensor) -> None:
        """Train the codec on vectors, or on differences to centroids; some need no training."""

    def _train_encoder_num_vectors(self) -> int:
        """How many vectors the codec is trained on, at most; 0 where it needs none."""
        return 0

    def _as_stored(self, x: Tensor) -> Tensor:
        """Vectors with the values that they have once they are stored: their list is that of these values."""
        return x

    # training and adding

    def _train(self, x: Tensor) -> None:
        if self.verbose:
            print("Training level-1 quantizer")
        self.train_q1(x, self.verbose, self.metric_type)
        wanted = self._train_encoder_num_vectors()
        if wanted:
            if self.verbose:
                print("Training residual" if self.by_residual else "Training vectors")
            if len(x) > wanted:
                x = x[torch.from_numpy(steps.subsample(len(x), wanted, SUBSAMPLING_SEED, False)).to(x.device)]
            self._train_encoder(x - self._centroids_of(self._assign_lists(x)) if self._holds_residuals() else x)
        self.is_trained = True

    def _assign_lists(self, x: Tensor) -> Tensor:
        list_nos = self._require_quantizer().assign(x, 1).view(-1)
        self._check_list_nos(list_nos)
        return list_nos

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        lists = self._require_lists()
        self.direct_map.check_can_add(ids is not None)
        x = self._as_stored(x)
        assignment = self._later_assignment()
        if assignment is not None and self.direct_map.no():
            ntotal, n = self.ntotal, x.shape[0]
            given = self._ids_or_next(ids, n)
            try:
                self.ntotal = ntotal + n
                lists.add_later(given, x.view(torch.uint8), assignment, assignment.products)
            except BaseException:  # then it added nothing
                self.ntotal = ntotal
                raise
            return
        list_nos = self._assign_lists(x)
        self._add_to_lists(list_nos, ids, self._encode(x, list_nos))

    @workers.conducted
    def add_core(
        self, n: int, x: Array, xids: Array | None, precomputed_idx: Array, inverted_list_context: object = None
    ) -> None:
        """Add vectors to lists that the caller chose; arrays, or pointers as in faiss.

        Parameters
        ----------
        n : int
        x : array of float32, shape (n, d)
        xids : array of int64, shape (n,), or None
        precomputed_idx : array of int64, shape (n,)
            The list of each vector; -1 for none.
        inverted_list_context
            Without effect.
        """
        vectors = border.floats_in(border.at_pointer(x, n * self.d), self.device).reshape(n, self.d)
        list_nos = border.integers_in(border.at_pointer(precomputed_idx, n), self.device).reshape(n)
        ids = None if xids is None else border.integers_in(border.at_pointer(xids, n), self.device).reshape(n)
        self._require_trained()
        self._check_list_nos(list_nos)
        self.direct_map.check_can_add(ids is not None)
        self._add_to_lists(list_nos, ids, self._encode(vectors, list_nos))

    def _adds_briefly(self, n: int) -> bool:
        lists = self.invlists
        if not isinstance(lists, DeferredListStorage) or not self.direct_map.no():
            return False
        return lists.can_write_down(n) and self._knows_later_assignment()

    def _knows_later_assignment(self) -> bool:
        """Whether `_later_assignment` has nothing to compute."""
        return False

    def _later_assignment(self) -> FlatAssignment | None:
        """What finds the lists of codes whenever it is called, where the codes are enough for that."""
        return None

    def _ids_or_next(self, ids: Tensor | None, n: int) -> Tensor:
        return torch.arange(self.ntotal, self.ntotal + n, dtype=torch.int64, device=self.device) if ids is None else ids

    def _add_to_lists(self, list_nos: Tensor, ids: Tensor | None, codes: Tensor) -> None:
        """Store codes; those of list -1 (vectors without a nearest centroid) are counted and left out."""
        given = self._ids_or_next(ids, len(codes))
        offsets = torch.zeros(len(codes), dtype=torch.int64, device="cpu")
        kept = list_nos >= 0
        lists = self._require_lists()
        if bool(kept.all()):
            offsets = lists.add_to_lists(list_nos, given, codes)
        else:
            offsets[kept.cpu()] = lists.add_to_lists(list_nos[kept], given[kept], codes[kept])
        with interrupts.shielded():
            if not self.direct_map.no():
                self.direct_map.add(given.cpu(), list_nos.cpu(), offsets)
            self.ntotal += len(codes)

    def _add_sa_codes(self, codes: Tensor, ids: Tensor | None) -> None:
        self._require_trained()
        self.direct_map.check_can_add(ids is not None)
        self._add_to_lists(self._decode_list_nos(codes), ids, codes[:, self.coarse_code_size() :].contiguous())

    def _reset(self) -> None:
        self.direct_map.clear()
        self._require_lists().reset()
        self.ntotal = 0

    def _remove_ids(self, sel: IDSelector) -> int:
        removed = self.direct_map.remove_ids(sel, self._require_lists())
        self.ntotal -= removed
        return removed

    @workers.conducted
    def update_vectors(self, keys: Array, x: Array) -> None:
        """Replace the vectors of ids.

        Parameters
        ----------
        keys : array of int64, shape (n,)
        x : array, shape (n, d)

        Raises
        ------
        RuntimeError
            If the index has no direct map, or an id is not there.
        """
        vectors, kind = self._vectors(x)
        kind.require(keys, "keys")
        if tuple(keys.shape) != (len(vectors),):
            raise AssertionError(
                f"not same nb of vectors as keys: {len(vectors)} vectors, keys of shape {tuple(keys.shape)}"
            )
        ids = border.integers_in(keys, torch.device("cpu"))
        if self.direct_map.no():
            raise RuntimeError("update_vectors needs a direct map: call make_direct_map() or set_direct_map_type()")
        self.direct_map.get_many(ids)
        vectors = self._as_stored(vectors)
        list_nos = self._assign_lists(vectors)
        if bool((list_nos < 0).any()):
            raise RuntimeError("update_vectors: a new vector has no nearest centroid (is it finite?)")
        codes = self._encode(vectors, list_nos)
        if self.direct_map.type == DirectMap.Hashtable:
            if len(ids.unique()) < len(ids):
                raise RuntimeError("update_vectors: with a direct map of type Hashtable each id can be given once")
            with interrupts.shielded():
                self._remove_ids(IDSelectorArray(ids))
                self._add_to_lists(list_nos, ids.to(self.device), codes)
            return
        with interrupts.shielded():
            self.direct_map.update_codes(self._require_lists(), ids.numpy(), list_nos.tolist(), codes)

    # reading back

    def _reconstruct(self, keys: Tensor) -> Tensor:
        places = self.direct_map.get_many(keys.cpu())
        lists = self._held_lists()
        return self._decode_rows(lists, lists.positions_of(places).to(self.device))

    def _reconstruct_n(self, n0: int, ni: int) -> Tensor:
        recons = torch.full((ni, self.d), float("nan"), dtype=torch.float32, device=self.device)
        lists = self._held_lists()
        ids, places = lists.all_ids_and_places()
        wanted = (ids >= n0) & (ids < n0 + ni)
        if bool(wanted.any()):
            positions = lists.positions_of(places[wanted]).to(self.device)
            recons[(ids[wanted] - n0).to(self.device)] = self._decode_rows(lists, positions)
        return recons

    @workers.conducted
    def reconstruct_from_offset(self, list_no: int, offset: int, recons: Array) -> None:
        """Write the vector at a place in the lists to `recons`, float32, shape (d,), an array or a pointer.

        Raises
        ------
        RuntimeError
            If there is no such place.
        """
        code = self._require_lists().get_single_code(list_no, offset).view(self.code_size)
        codes = border.tensor_of(code).to(self.device).view(1, -1)
        _write(recons, self._decode(codes, torch.tensor([list_no], dtype=torch.int64, device=self.device))[0])

    @workers.conducted
    def encode_vectors(self, n: int, x: Array, list_nos: Array, codes: Array, include_listno: bool = False) -> None:
        """Write the codes that vectors have in lists to `codes`; arrays, or pointers as in faiss.

        Parameters
        ----------
        n : int
        x : array of float32, shape (n, d)
        list_nos : array of int64, shape (n,)
        codes : array of uint8, shape (n, code_size), or (n, sa_code_size()) with the list numbers
        include_listno : bool
            Whether the list number stands in front of each code.
        """
        vectors = border.floats_in(border.at_pointer(x, n * self.d), self.device).reshape(n, self.d)
        numbers = border.integers_in(border.at_pointer(list_nos, n), self.device).reshape(n)
        self._require_trained()
        self._check_list_nos(numbers)
        found = self._encode(vectors, numbers)
        if include_listno:
            found = torch.cat([self._encode_list_nos(numbers.clamp(min=0)), found], dim=1)
        _write(codes, found)

    @workers.conducted
    def decode_vectors(self, n: int, codes: Array, list_nos: Array, x: Array) -> None:
        """Write the vectors that codes in lists stand for to `x`: the inverse of `encode_vectors`."""
        given = border.at_pointer(codes, n * self.code_size)
        given = given if isinstance(given, Tensor) else border.tensor_of(given)
        numbers = border.integers_in(border.at_pointer(list_nos, n), self.device).reshape(n)
        self._require_trained()
        self._check_list_nos(numbers)
        _write(x, self._decode(given.to(self.device).reshape(n, self.code_size), numbers))

    def sa_code_size(self) -> int:
        return self.code_size + self.coarse_code_size()

    def _sa_encode(self, x: Tensor) -> Tensor:
        list_nos = self._assign_lists(x)
        return torch.cat([self._encode_list_nos(list_nos.clamp(min=0)), self._encode(x, list_nos)], dim=1)

    def _sa_decode(self, codes: Tensor) -> Tensor:
        return self._decode(codes[:, self.coarse_code_size() :].contiguous(), self._decode_list_nos(codes))

    # lists, maps, merging

    def get_list_size(self, list_no: int) -> int:
        """Return the number of vectors in a list."""
        return self._require_lists().list_size(list_no)

    def make_direct_map(self, new_maintain_direct_map: bool = True) -> None:
        """Keep a direct map of type Array, or none."""
        self.set_direct_map_type(DirectMap.Array if new_maintain_direct_map else DirectMap.NoMap)

    @workers.conducted
    def set_direct_map_type(self, type: int) -> None:
        """Keep a direct map of a type: see `DirectMap.set_type`."""
        self.direct_map.set_type(type, self._require_lists(), self.ntotal)

    def replace_invlists(self, il: InvertedLists, own: bool = False) -> None:
        """Use other inverted lists, with the same nlist and code_size."""
        if il is not None and (il.nlist, il.code_size) != (self.nlist, self.code_size):
            raise RuntimeError(
                f"inverted lists of nlist={il.nlist}, code_size={il.code_size} given, "
                f"expected nlist={self.nlist}, code_size={self.code_size}"
            )
        self.invlists = il
        self.own_invlists = own

    def check_ids_sorted(self) -> bool:
        """Return whether the ids of every list are in ascending order."""
        ids, places = self._require_lists().all_ids_and_places()
        descends = ids[1:] < ids[:-1]
        return not bool((descends & ((places[1:] >> 32) == (places[:-1] >> 32))).any())

    def check_compatible_for_merge(self, otherIndex: Index) -> None:
        if type(otherIndex) is not type(self):
            raise RuntimeError(
                f"can only merge a {type(self).__name__} with its like, not with a {type(otherIndex).__name__}"
            )
        mine = (self.d, self.nlist, self.code_size, self.metric_type)
        theirs = (otherIndex.d, otherIndex.nlist, otherIndex.code_size, otherIndex.metric_type)
        if mine != theirs:
            raise RuntimeError(f"cannot merge: (d, nlist, code_size, metric) {theirs} into {mine}")
        if not (self.direct_map.no() and otherIndex.direct_map.no()):
            raise RuntimeError("cannot merge indexes that have a direct map")
        self._require_trained()
        otherIndex._require_trained()
        centroids, others = (index._require_quantizer().reconstruct_n(0, self.nlist) for index in (self, otherIndex))
        if not (centroids == others).all():
            raise RuntimeError("cannot merge: the coarse quantizers should be the same, their centroids differ")

    def _merge_from(self, other: IndexIVF, add_id: int) -> None:
        self._require_lists().merge_from(other._require_lists(), add_id)
        self.ntotal += other.ntotal
        other.ntotal = 0

    def _keeps_ids(self) -> bool:
        return True

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        if not self.direct_map.no():
            raise RuntimeError("cannot renumber the vectors of an index that has a direct map")
        self._require_lists().renumber_ids(numbers)
        self.ntotal = ntotal

    @workers.conducted
    def copy_subset_to(self, other: IndexIVF, subset_type: int, a1: int, a2: int) -> None:
        """Copy a subset of the vectors to another index with the same lists.

        Parameters
        ----------
        other : IndexIVF
        subset_type, a1, a2 : int
            See `ArrayInvertedLists.copy_subset_to`.
        """
        if not other.direct_map.no():
            raise RuntimeError("cannot copy to an index that has a direct map")
        other.ntotal += self._require_lists().copy_subset_to(other._require_lists(), subset_type, a1, a2)


def _write(target: Array, found: Tensor) -> None:
    """Write to the array or the pointer that a caller gave."""
    given = border.at_pointer(target, found.numel())
    if math.prod(given.shape) != found.numel():
        raise AssertionError(f"room for {tuple(found.shape)} elements expected, {tuple(given.shape)} given")
    border.write(found, given)
