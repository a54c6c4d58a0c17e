"""IndexIVF: the whole life cycle of an inverted file; a subclass gives the code.

A subclass writes ``_encode(x, list_nos)``, ``_decode(codes, list_nos)``, ``_lists(storage, sel)`` (the stored lists as
the engine reads them) and ``_scorer(x, lists)``; training its encoder is ``_train_encoder(x, list_nos)``.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import border, threads
from ..border import Array
from ..constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L2
from ..ops import chunks, collect, ivf_csr, ivf_matrix, ivf_scan
from ..ops.distances import METRICS
from ..ops.screen import Scorer
from ..parts.direct_map import DirectMap
from ..parts.inverted_lists import ArrayInvertedLists
from ..parts.list_storage import ListStorage
from ..parts.params import SearchParameters, SearchParametersIVF
from ..parts.selectors import IDSelector, IDSelectorArray
from .base import Index
from .ivf_stats import indexIVF_stats
from .level1_quantizer import IndexIVFInterface

#: Pairs of a query and a list that are searched at a time.
PAIRS_A_SEARCH = 1 << 20


class _Settings(NamedTuple):
    """The settings of one search: those of the call, or those of the index."""

    nprobe: int
    max_codes: int
    sel: IDSelector | None
    quantizer_params: SearchParameters | None
    ensure_topk_full: bool


class IndexIVF(Index, IndexIVFInterface):
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
    last_path : ops.ivf_scan.Path or None
        The path that the last search took and why.
    """

    PARALLEL_MODE_NO_HEAP_INIT = 1024

    invlists: Any
    own_invlists: bool
    code_size: int
    by_residual: bool
    parallel_mode: int
    direct_map: DirectMap
    search_mode: str
    auto_search_avg_group_threshold: float
    last_path: ivf_scan.Path | None

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        code_size: int = 0,
        metric: int = METRIC_L2,
        own_invlists: bool = True,
    ) -> None:
        super().__init__(d, metric)
        self._init_level1(quantizer, nlist)
        self.nprobe = 1
        self.max_codes = 0
        self.code_size = int(code_size)
        self.own_invlists = own_invlists
        self.invlists = None
        self.by_residual = True
        self.parallel_mode = 0
        self.direct_map = DirectMap()
        self.search_mode = "auto"
        self.auto_search_avg_group_threshold = 8.0
        self.last_path = None
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

    def _to(self, device: torch.device) -> None:
        super()._to(device)
        if self.quantizer is not None:
            self.quantizer.to(device)
        if self.invlists is not None:
            self.invlists.to(device)

    def _require_lists(self) -> ArrayInvertedLists:
        if self.invlists is None:
            raise RuntimeError("the IVF index has no inverted lists")
        return self.invlists

    # hooks of the codecs

    def _encode(self, x: Tensor, list_nos: Tensor) -> Tensor:
        """Codes of vectors in their lists: uint8, (n, code_size)."""
        raise RuntimeError(f"{type(self).__name__} has no codec")

    def _decode(self, codes: Tensor, list_nos: Tensor) -> Tensor:
        """Vectors of codes: float32, (n, d)."""
        raise RuntimeError(f"{type(self).__name__} has no codec")

    def _train_encoder(self, x: Tensor, list_nos: Tensor | None) -> None:
        """Train the codec; most need none."""

    def _lists(self, storage: ListStorage, sel: IDSelector | None) -> ivf_scan.Lists:
        raise RuntimeError(f"search is not implemented for {type(self).__name__}")

    def _scorer(self, x: Tensor, lists: ivf_scan.Lists) -> Scorer:
        raise RuntimeError(f"search is not implemented for {type(self).__name__}")

    # training and adding

    def _train(self, x: Tensor) -> None:
        if self.verbose:
            print("Training level-1 quantizer")
        self.train_q1(x, self.verbose, self.metric_type)
        self._train_encoder(x, None)
        self.is_trained = True

    def _assign_lists(self, x: Tensor) -> Tensor:
        return self._probe(x, 1, None)[1].view(-1)

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        self._require_lists()
        self.direct_map.check_can_add(ids is not None)
        list_nos = self._assign_lists(x)
        self._add_to_lists(list_nos, ids, self._encode(x, list_nos))

    @threads.applied()
    def add_core(self, n: int, x: Array, xids: Array | None, coarse_idx: Array, context: Any = None) -> None:
        """Add vectors to lists that the caller chose; arrays, or pointers as in faiss.

        Parameters
        ----------
        n : int
        x : array of float32, shape (n, d)
        xids : array of int64, shape (n,), or None
        coarse_idx : array of int64, shape (n,)
            The list of each vector; -1 for none.
        context
            Without effect.
        """
        vectors = border.floats_in(border.at_pointer(x, n * self.d), self.device).reshape(n, self.d)
        list_nos = border.integers_in(border.at_pointer(coarse_idx, n), self.device).reshape(n)
        ids = None if xids is None else border.integers_in(border.at_pointer(xids, n), self.device).reshape(n)
        self._require_trained()
        self._check_list_nos(list_nos)
        self.direct_map.check_can_add(ids is not None)
        self._add_to_lists(list_nos, ids, self._encode(vectors, list_nos))

    def _add_to_lists(self, list_nos: Tensor, ids: Tensor | None, codes: Tensor) -> None:
        """Store codes; those of list -1 (vectors without a nearest centroid) are counted and left out."""
        given = torch.arange(self.ntotal, self.ntotal + len(codes), device=self.device) if ids is None else ids
        offsets = torch.zeros(len(codes), dtype=torch.int64)
        kept = list_nos >= 0
        lists = self._require_lists()
        if bool(kept.all()):
            offsets = lists.add_to_lists(list_nos, given, codes)
        else:
            offsets[kept.cpu()] = lists.add_to_lists(list_nos[kept], given[kept], codes[kept])
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
        if self.direct_map.type == DirectMap.Hashtable:
            self._remove_ids(IDSelectorArray(ids))
            self._add(vectors, ids.to(self.device))
            return
        list_nos = self._assign_lists(vectors)
        if bool((list_nos < 0).any()):
            raise RuntimeError("update_vectors: a new vector has no nearest centroid (is it finite?)")
        codes = self._encode(vectors, list_nos)
        self.direct_map.update_codes(self._require_lists(), ids.numpy(), list_nos.tolist(), codes)

    # searching

    def _settings(self, params: SearchParameters | None) -> _Settings:
        if params is None:
            settings = _Settings(self.nprobe, self.max_codes, None, None, False)
        elif isinstance(params, SearchParametersIVF):
            if params.max_empty_result_buckets:
                raise RuntimeError("max_empty_result_buckets is not offered")
            settings = _Settings(
                params.nprobe, params.max_codes, params.sel, params.quantizer_params, params.ensure_topk_full
            )
        else:
            raise RuntimeError(f"IVF search takes SearchParametersIVF, got {type(params).__name__}")
        if settings.nprobe <= 0:
            raise RuntimeError(f"nprobe must be positive, got {settings.nprobe}")
        mode = self.parallel_mode & ~self.PARALLEL_MODE_NO_HEAP_INIT
        if mode not in (0, 1, 2, 3):
            raise RuntimeError(f"parallel_mode {self.parallel_mode} is not supported, expected 0, 1, 2 or 3")
        if settings.max_codes and mode not in (0, 3):
            raise RuntimeError(f"max_codes is supported for parallel_mode 0 or 3, got {self.parallel_mode}")
        return settings._replace(nprobe=min(settings.nprobe, self.nlist))

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        distances, positions, storage = self._search_positions(x, k, params)
        return distances, storage.ids_at(positions)

    def _search_positions(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, ListStorage]:
        """Search, and return where in the storage of the lists the results stand instead of their ids."""
        self._require_trained()
        settings = self._settings(params)
        start = time.perf_counter()
        _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        indexIVF_stats.quantization_time += 1e3 * (time.perf_counter() - start)
        return self._scan(x, probes, k, settings)

    def _scan(self, x: Tensor, probes: Tensor, k: int, settings: _Settings) -> tuple[Tensor, Tensor, ListStorage]:
        """Return the k nearest rows of the lists to be probed: distances and positions, (n, k), and their storage."""
        start = time.perf_counter()
        storage = self._require_lists().loaded(probes)
        lists = self._lists(storage, settings.sel)
        path = self._choose_path(len(x), settings.nprobe)
        scan = ivf_csr.search if path.name == "csr" else ivf_matrix.search
        step = max(1, PAIRS_A_SEARCH // settings.nprobe)
        distances, positions = x.new_empty(len(x), k), probes.new_empty(len(x), k)
        if not bool(lists.sizes.any()):  # there is no storage to read
            missing = -FLT_MAX if METRICS[self.metric_type].similarity else FLT_MAX
            return distances.fill_(missing), positions.fill_(-1), storage
        for some in chunks.slices(len(x), step):
            rows = self._rows_to_scan(probes[some], lists, settings, k)
            scorer = self._scorer(x[some], lists)
            distances[some], positions[some] = scan(scorer, lists, probes[some], rows, k, self.metric_type)
        indexIVF_stats.search_time += 1e3 * (time.perf_counter() - start)
        return distances, positions, storage

    def _choose_path(self, nq: int, nprobe: int) -> ivf_scan.Path:
        self.last_path = ivf_scan.choose_path(
            self.search_mode, nq, nprobe, self.nlist, self.device.type, self.auto_search_avg_group_threshold
        )
        return self.last_path

    def _rows_to_scan(self, probes: Tensor, lists: ivf_scan.Lists, settings: _Settings, k: int) -> Tensor:
        if settings.ensure_topk_full:
            rows = ivf_scan.allowed_rows(probes, lists.sizes, 0)
            if settings.max_codes:
                before = rows.cumsum(1) - rows
                rows = rows.masked_fill(before >= max(settings.max_codes, k), 0)
        else:
            rows = ivf_scan.allowed_rows(probes, lists.sizes, settings.max_codes)
        indexIVF_stats.nq += len(probes)
        indexIVF_stats.nlist += int((rows > 0).sum())
        indexIVF_stats.ndis += int(rows.sum())
        return rows

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        self._require_trained()
        settings = self._settings(params)
        _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        return self._range_scan(x, probes, radius, settings)

    def _range_scan(
        self, x: Tensor, probes: Tensor, radius: float, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        storage = self._require_lists().loaded(probes)
        lists = self._lists(storage, settings.sel)
        path = self._choose_path(len(x), settings.nprobe)
        scan = ivf_csr.candidates if path.name == "csr" else ivf_matrix.candidates
        lims, distances, positions = [torch.zeros(1, dtype=torch.int64, device=x.device)], [], []
        for some in chunks.slices(len(x), max(1, PAIRS_A_SEARCH // settings.nprobe)):
            # as in faiss, max_codes does not bound a range search
            rows = self._rows_to_scan(probes[some], lists, settings._replace(max_codes=0), 0)
            scorer = self._scorer(x[some], lists)
            thresholds = scorer.score_of(radius) + scorer.margin
            found = collect.Candidates.concatenate(scan(scorer, lists, probes[some], rows, thresholds), x.device)
            part = collect.in_range(found, settings.nprobe, scorer, radius, self.metric_type)
            lims.append(part[0][1:] + lims[-1][-1])
            distances.append(part[1])
            positions.append(part[2])
        if not distances:
            return lims[0], x.new_empty(0), probes.new_empty(0)
        return torch.cat(lims), torch.cat(distances), storage.ids_at(torch.cat(positions))

    def _given_probes(self, Iq: Array, n: int) -> Tensor:
        probes = border.integers_in(Iq, self.device)
        if tuple(probes.shape) != (n, self.nprobe):
            raise AssertionError(f"Iq has shape {tuple(probes.shape)}, expected (n, nprobe) = {(n, self.nprobe)}")
        self._check_list_nos(probes)
        return probes

    def _check_coarse(self, Dq: Array | None, probes: Tensor) -> None:
        if Dq is not None and tuple(Dq.shape) != tuple(probes.shape):
            raise AssertionError(f"Dq has shape {tuple(Dq.shape)}, expected that of Iq, {tuple(probes.shape)}")

    @threads.applied()
    def search_preassigned(
        self,
        x: Array,
        k: int,
        Iq: Array,
        Dq: Array | None,
        *,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
    ) -> tuple[Array, Array]:
        """Search lists that the caller chose.

        Parameters
        ----------
        x : array, shape (n, d)
        k : int
        Iq : array of int64, shape (n, nprobe)
            The lists of each query; -1 for none.
        Dq : array of float32, shape (n, nprobe), or None
            Distances to their centroids.
        params
            Must be None, as in faiss.

        Returns
        -------
        D, I : arrays, shape (n, k)
            As `search`.
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        kind.check_output(D, (len(vectors), k), "D")
        kind.check_output(I, (len(vectors), k), "I", "int64")
        if params is not None:
            raise AssertionError("params not supported")
        self._require_trained()
        kind.require(Iq, "Iq")
        probes = self._given_probes(Iq, len(vectors))
        self._check_coarse(Dq, probes)
        distances, positions, storage = self._scan(vectors, probes, k, self._settings(None))
        return kind.into(distances, D), kind.into(storage.ids_at(positions), I)

    @threads.applied()
    def range_search_preassigned(
        self, x: Array, thresh: float, Iq: Array, Dq: Array | None, *, params: SearchParameters | None = None
    ) -> tuple[Array, Array, Array]:
        """Range search in lists that the caller chose: see `search_preassigned` and `range_search`."""
        vectors, kind = self._vectors(x)
        if params is not None:
            raise AssertionError("params not supported")
        self._require_trained()
        kind.require(Iq, "Iq")
        probes = self._given_probes(Iq, len(vectors))
        self._check_coarse(Dq, probes)
        return self._ranges_out(kind, *self._range_scan(vectors, probes, float(thresh), self._settings(None)))

    @threads.applied()
    def search_and_return_codes(
        self,
        x: Array,
        k: int,
        *,
        include_listnos: bool = False,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
        codes: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Search, and return the stored codes of the results too.

        Returns
        -------
        D, I : arrays, shape (n, k)
            As `search`.
        codes : array of uint8, shape (n, k, code_size)
            With `include_listnos` the list number stands in front, coarse_code_size() bytes; 255 in all bytes where
            there is no result.
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        width = self.code_size + (self.coarse_code_size() if include_listnos else 0)
        n = len(vectors)
        kind.check_output(D, (n, k), "D")
        kind.check_output(I, (n, k), "I", "int64")
        kind.check_output(codes, (n, k, width), "codes", "uint8")
        distances, positions, storage = self._search_positions(vectors, k, params)
        found = storage.codes_at(positions)
        if include_listnos:
            found = torch.cat([self._encode_list_nos(storage.list_nos_at(positions)), found], dim=-1)
        found = found.masked_fill((positions < 0)[..., None], 255)
        return kind.into(distances, D), kind.into(storage.ids_at(positions), I), kind.into(found, codes)

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        distances, positions, storage = self._search_positions(x, k, params)
        recons = x.new_full((*positions.shape, self.d), float("nan"))
        found = positions >= 0
        recons[found] = self._decode_rows(storage, positions[found])
        return distances, storage.ids_at(positions), recons

    # reading back

    def _decode_rows(self, storage: ListStorage, positions: Tensor) -> Tensor:
        return self._decode(storage.codes_at(positions), storage.list_nos_at(positions))

    def _reconstruct(self, keys: Tensor) -> Tensor:
        places = self.direct_map.get_many(keys.cpu())
        lists = self._require_lists()
        return self._decode_rows(lists, lists.positions_of(places).to(self.device))

    def _reconstruct_n(self, n0: int, ni: int) -> Tensor:
        recons = torch.full((ni, self.d), float("nan"), device=self.device)
        lists = self._require_lists()
        ids, places = lists.all_ids_and_places()
        wanted = (ids >= n0) & (ids < n0 + ni)
        if bool(wanted.any()):
            positions = lists.positions_of(places[wanted]).to(self.device)
            recons[(ids[wanted] - n0).to(self.device)] = self._decode_rows(lists, positions)
        return recons

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

    def set_direct_map_type(self, type: int) -> None:
        """Keep a direct map of a type: see `DirectMap.set_type`."""
        self.direct_map.set_type(type, self._require_lists(), self.ntotal)

    def replace_invlists(self, invlists: ArrayInvertedLists, own: bool = False) -> None:
        """Use other inverted lists, with the same nlist and code_size."""
        if invlists is not None and (invlists.nlist, invlists.code_size) != (self.nlist, self.code_size):
            raise RuntimeError(
                f"inverted lists of nlist={invlists.nlist}, code_size={invlists.code_size} given, "
                f"expected nlist={self.nlist}, code_size={self.code_size}"
            )
        self.invlists = invlists
        self.own_invlists = own

    def check_ids_sorted(self) -> bool:
        """Return whether the ids of every list are in ascending order."""
        ids, places = self._require_lists().all_ids_and_places()
        descends = ids[1:] < ids[:-1]
        return not bool((descends & ((places[1:] >> 32) == (places[:-1] >> 32))).any())

    def check_compatible_for_merge(self, other: Index) -> None:
        if type(other) is not type(self):
            raise RuntimeError(
                f"can only merge a {type(self).__name__} with its like, not with a {type(other).__name__}"
            )
        mine = (self.d, self.nlist, self.code_size, self.metric_type)
        theirs = (other.d, other.nlist, other.code_size, other.metric_type)
        if mine != theirs:
            raise RuntimeError(f"cannot merge: (d, nlist, code_size, metric) {theirs} into {mine}")
        if not (self.direct_map.no() and other.direct_map.no()):
            raise RuntimeError("cannot merge indexes that have a direct map")
        self._require_trained()
        other._require_trained()
        centroids, others = (index._require_quantizer().reconstruct_n(0, self.nlist) for index in (self, other))
        if not (centroids == others).all():
            raise RuntimeError("cannot merge: the coarse quantizers should be the same, their centroids differ")

    def _merge_from(self, other: IndexIVF, add_id: int) -> None:
        self._require_lists().merge_from(other._require_lists(), add_id)
        self.ntotal += other.ntotal
        other.ntotal = 0

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
