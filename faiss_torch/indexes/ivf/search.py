"""How an IVF index searches: settings, probes, statistics, and lists that are not in memory.

How lists in memory are searched is `ops.search.inverted`; what is stored there is a codec's business.
"""

from __future__ import annotations

import time
from typing import ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ... import border, kernels
from ...attributes import Size
from ...border import Array
from ...constants import METRIC_L2
from ...ops.byte_sums import lists as list_byte_sums
from ...ops.runtime import workers
from ...ops.scoring.residual import Residuals
from ...ops.scoring.scorers import Scorer
from ...ops.scoring.stored import Lists
from ...ops.search import inverted, paths
from ...ops.search.inverted import Neighbours, Request
from ...ops.search.inverted_range import Within, within
from ...parts.codecs.codec import Codec
from ...parts.lists import portions
from ...parts.lists.inverted_lists import InvertedLists
from ...parts.lists.storage import ListStorage
from ...parts.params import SearchParameters, SearchParametersIVF
from ...parts.selectors import IDSelector
from ..base import Index
from ..c_verbs import IndexIVFCVerbs
from .level1_quantizer import IndexIVFInterface
from .stats import indexIVF_stats

#: Fewer queries take as long among equal entries as among others.
QUERIES_WORTH_A_LOOK = 16

#: Distances and positions, (n, k), and the lists in which results stand there.
Positions: TypeAlias = tuple[Tensor, Tensor, InvertedLists]


class _Settings(NamedTuple):
    """The settings of one search: those of the call, or those of the index."""

    nprobe: int
    max_codes: int
    sel: IDSelector | None
    quantizer_params: SearchParameters | None
    ensure_topk_full: bool
    max_empty_result_buckets: int


class _Searching(Index, IndexIVFInterface, IndexIVFCVerbs):
    """The searching part of `IndexIVF`, which describes the attributes."""

    PARALLEL_MODE_NO_HEAP_INIT = 1024

    invlists: InvertedLists | None
    own_invlists: bool
    code_size: Size
    by_residual: bool
    parallel_mode: int
    search_mode: str
    auto_search_avg_group_threshold: float
    last_path: paths.Path | None

    _objects: ClassVar[dict[str, type]] = {"invlists": InvertedLists}

    def __init__(self, quantizer: Index | None, d: int, nlist: int, code_size: int, metric: int = METRIC_L2) -> None:
        super().__init__(d, metric)
        self._init_level1(quantizer, nlist)
        self.nprobe = 1
        self.max_codes = 0
        self.code_size = code_size
        self.invlists = None
        self.own_invlists = False
        self.parallel_mode = 0
        self.search_mode = "auto"
        self.auto_search_avg_group_threshold = 8.0
        self.last_path = None

    def _require_lists(self) -> InvertedLists:
        if self.invlists is None:
            raise RuntimeError("the IVF index has no inverted lists")
        return self.invlists

    def _held_lists(self) -> InvertedLists:
        """The lists from which entries can be read; they may be in a file, and stay there."""
        lists = self._require_lists()
        elsewhere = lists.elsewhere()
        return lists if elsewhere is None else elsewhere

    def _lists_here(self) -> Lists | None:
        """The lists as the engine reads them; None where they are not in memory."""
        storage = self._require_lists()
        if storage.elsewhere() is not None:
            return None
        assert isinstance(storage, ListStorage)
        return self._lists(storage)

    def _codec(self) -> Codec:
        """What codes mean: a subclass says it."""
        raise RuntimeError(f"{type(self).__name__} has no codec")

    def _lists(self, storage: ListStorage) -> Lists:
        return storage.lists_for_scan(self.metric_type, self._codec())

    def _scorer(self, x: Tensor, lists: Lists) -> Scorer:
        residuals = Residuals.of(self._centroids(), lists) if self._holds_residuals() else None
        return self._codec().scorer(x, lists.stored, self.metric_type, self.metric_arg, residuals)

    def _holds_residuals(self) -> bool:
        """Whether codes stand for differences to centroids."""
        return self.by_residual

    def _centroids(self) -> Tensor:
        """The centroids of the lists: float32, (nlist, d)."""
        return self._require_quantizer()._reconstruct_n(0, self.nlist)

    def _decode(self, codes: Tensor, list_nos: Tensor) -> Tensor:
        """Vectors of codes in their lists: float32, (n, d)."""
        found = self._codec().decode(codes)
        return found.add_(self._centroids_of(list_nos)) if self._holds_residuals() else found

    def _centroids_of(self, list_nos: Tensor) -> Tensor:
        """The centroids of some lists, zeros for list -1."""
        found = self._centroids().index_select(0, list_nos.clamp(min=0))
        return found.masked_fill_((list_nos < 0)[:, None], 0.0)

    def _settings(self, params: SearchParameters | None) -> _Settings:
        if params is None:
            settings = _Settings(self.nprobe, self.max_codes, None, None, False, 0)
        elif isinstance(params, SearchParametersIVF):
            if params.inverted_list_context is not None:
                raise RuntimeError("these inverted lists read no inverted_list_context: leave it None")
            settings = _Settings(
                params.nprobe,
                params.max_codes,
                params.sel,
                params.quantizer_params,
                params.ensure_topk_full,
                params.max_empty_result_buckets,
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
        if settings.ensure_topk_full and mode not in (0, 3):
            raise RuntimeError(f"ensure_topk_full is supported for parallel_mode 0 or 3, got {self.parallel_mode}")
        return settings if settings.nprobe <= self.nlist else settings._replace(nprobe=self.nlist)

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        return self._labelled(*self._search_positions(x, k, params), params)

    def _labelled(
        self, distances: Tensor, positions: Tensor, held: InvertedLists, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor]:
        """Distances and ids of what was found at positions of lists."""
        return distances, held.ids_at(positions)

    def _search_positions(self, x: Tensor, k: int, params: SearchParameters | None) -> Positions:
        """Search, and return where in the lists the results stand instead of their ids."""
        self._require_trained()
        settings = self._less_equal_ones(self._settings(params), x.shape[0], k)
        found = self._search_by_kernels(x, k, settings)
        if found is None and x.shape[0] <= list_byte_sums.FEW_QUERIES and self._takes_few_queries(x.shape[0], settings):
            found = self._search_few(x, k, settings)
        return self._search_probed(x, k, settings) if found is None else found

    def _less_equal_ones(self, settings: _Settings, nq: int, k: int) -> _Settings:
        """Settings that leave out, of many equal entries, those that are no results."""
        if settings.sel is not None or settings.max_codes or nq < QUERIES_WORTH_A_LOOK:
            return settings
        lists = self._lists_here()
        if lists is None or lists.needed_for is None or not lists.stored.finite:
            return settings
        return settings._replace(sel=lists.needed_for(k))

    def _search_probed(self, x: Tensor, k: int, settings: _Settings) -> Positions:
        """Choose the probes, and scan their lists."""
        start = time.perf_counter()
        if settings.max_codes:  # which lists these suffice for depends on their order
            _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        else:
            probes = self._probe_in_any_order(x, settings.nprobe, settings.quantizer_params)
        indexIVF_stats.took(quantization=time.perf_counter() - start)
        return self._scan(x, probes, k, settings)

    def _search_by_kernels(self, x: Tensor, k: int, settings: _Settings) -> Positions | None:
        """As `_search_probed`, by kernels that the host waits for once, where all that this takes is at hand."""
        if not kernels.chosen("list_minima", x.device) or settings.sel is not None or settings.max_codes:
            return None
        start = time.perf_counter()
        centroids = self._centroids_for_kernels(x, settings.nprobe, settings.quantizer_params)
        lists = self._lists_here() if centroids is not None and len(x) else None
        if centroids is None or lists is None:
            return None
        request = self._request(x, k, settings)
        found = inverted.probe_and_search_by_kernels(request, lists, self.ntotal, centroids, settings.nprobe)
        return self._completed(found, x, k, settings, start)

    def _search_few(self, x: Tensor, k: int, settings: _Settings) -> Positions | None:
        """As `_search_probed`, at once, where there are few queries and all that this takes is at hand."""
        start = time.perf_counter()
        centroids = self._small_set_of_centroids(x, settings.nprobe, settings.quantizer_params)
        lists = None if centroids is None else self._lists_here()
        if centroids is None or lists is None:
            return None
        request = Request(x, k, self.metric_type, self._scorer, inverted.FEW_QUERIES_PATH)
        found = inverted.probe_and_search_few(request, lists, self.ntotal, centroids, settings.nprobe)
        return self._completed(found, x, k, settings, start)

    def _completed(
        self, probed: inverted.Probed | None, x: Tensor, k: int, settings: _Settings, start: float
    ) -> Positions | None:
        """Search what is left of a search that chose its lists as well."""
        if probed is None:
            return None
        found, left = probed
        self.last_path = found.path
        n_left = 0 if left is None else int(left.sum())
        indexIVF_stats.count(x.shape[0] - n_left, *found.looked)
        indexIVF_stats.took(search=time.perf_counter() - start)
        if left is not None and n_left:
            found.distances[left], found.positions[left], _ = self._search_probed(x[left], k, settings)
        return found.distances, found.positions, self._require_lists()

    def _request(self, x: Tensor, k: int, settings: _Settings) -> Request:
        """What the engine is asked for; the path is chosen."""
        sel = settings.sel
        return Request(
            x,
            k,
            self.metric_type,
            self._scorer,
            self._choose_path(len(x), settings.nprobe),
            self.search_mode == "matrix",
            self._are_few(len(x), settings),
            settings.max_codes,
            settings.ensure_topk_full,
            None if sel is None else sel.mask,
            sel is None or sel.takes_any_id,
        )

    def _takes_few_queries(self, nq: int, settings: _Settings) -> bool:
        """Whether few queries may be searched one by one in whole lists."""
        return settings.sel is None and self._are_few(nq, settings)

    def _are_few(self, nq: int, settings: _Settings) -> bool:
        """Whether queries, filtered or not, are so few that blocks may screen them."""
        if settings.max_codes or self.search_mode == "csr":
            return False
        if self.search_mode == "matrix":  # query by query, however many there are
            nq = min(nq, 1)
        mean_size = self.ntotal / max(1, self.nlist)
        return list_byte_sums.are_few(nq, settings.nprobe, self.nlist, mean_size, self.d, self.device)

    def _choose_path(self, nq: int, nprobe: int) -> paths.Path:
        return paths.choose_path(
            self.search_mode,
            nq,
            nprobe,
            self.nlist,
            self.device.type,
            self.auto_search_avg_group_threshold,
            self.ntotal / max(1, self.nlist),
        )

    def _scan(self, x: Tensor, probes: Tensor, k: int, settings: _Settings) -> Positions:
        """Return the k nearest rows of the lists to be probed: distances and positions, (n, k), and what holds them."""
        start = time.perf_counter()
        request = self._request(x, k, settings)
        held = self._held_lists()
        lists = self._lists_here()
        if lists is None:
            found = self._nearest_elsewhere(request, held, probes, settings)
        else:
            found = inverted.nearest(request, lists, probes)
        self.last_path = found.path
        indexIVF_stats.count(len(x), *found.looked)
        indexIVF_stats.took(search=time.perf_counter() - start)
        return found.distances, found.positions, held

    def _nearest_elsewhere(
        self, request: Request, held: InvertedLists, probes: Tensor, settings: _Settings
    ) -> Neighbours:
        """As `inverted.nearest`, of lists of which portions are brought to memory."""
        sel = settings.sel if settings.max_codes else None
        rows, looked = inverted.rows_to_scan(request, portions.to_scan(held, probes, sel), probes)
        path = request.path

        def scan(storage: ListStorage, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal path
            found = inverted.nearest(request.of(queries), self._lists(storage), probes[queries], rows)
            path = found.path
            return found.distances, found.positions

        distances, positions = portions.search(held, probes, rows, request.k, self.metric_type, scan)
        return Neighbours(distances, positions, looked, path)

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        self._require_trained()
        settings = self._settings(params)
        if settings.max_empty_result_buckets:
            _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        else:
            probes = self._probe_in_any_order(x, settings.nprobe, settings.quantizer_params)
        return self._range_scan(x, probes, radius, settings)

    def _range_scan(
        self, x: Tensor, probes: Tensor, radius: float, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return lims, distances and ids of all rows of the lists to be probed that are within a radius."""
        most_empty = settings.max_empty_result_buckets
        if most_empty and self.parallel_mode != 0:
            raise RuntimeError(f"max_empty_result_buckets is for parallel_mode 0, got {self.parallel_mode}")
        # as in faiss, max_codes does not bound a range search
        request = self._request(x, 0, settings._replace(max_codes=0))
        lists, held = self._lists_here(), self._held_lists()
        if lists is not None:
            found = within(request, radius, lists, probes, max_empty_lists=most_empty)
            self._note(len(x), found)
            return found.lims, found.distances, held.ids_at(found.positions)

        def scan(storage: ListStorage, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # a query gives up by what all its lists hold, and not those of one portion
            part = within(request.of(queries), radius, self._lists(storage), probes[queries], rows)
            self.last_path = part.path
            return part.lims, part.distances, part.positions

        rows, looked = inverted.rows_to_scan(request, portions.to_scan(held, probes, None), probes)
        self.last_path = request.path
        indexIVF_stats.count(len(x), *looked)
        return portions.range_search(held, probes, rows, scan, most_empty)

    def _note(self, nq: int, found: Within) -> None:
        self.last_path = found.path
        indexIVF_stats.count(nq, *found.looked)

    def _given_probes(
        self, kind: border.Kind, n: int, Iq: Array, Dq: Array | None, params: SearchParameters | None
    ) -> Tensor:
        """Check what the caller of a preassigned search gave beside the queries, and return the lists: (n, nprobe)."""
        if params is not None:
            raise AssertionError("params not supported")
        self._require_trained()
        kind.require(Iq, "Iq")
        probes = border.integers_in(Iq, self.device)
        if tuple(probes.shape) != (n, self.nprobe):
            raise AssertionError(f"Iq has shape {tuple(probes.shape)}, expected (n, nprobe) = {(n, self.nprobe)}")
        self._check_list_nos(probes)
        if Dq is not None and tuple(Dq.shape) != tuple(probes.shape):
            raise AssertionError(f"Dq has shape {tuple(Dq.shape)}, expected that of Iq, {tuple(probes.shape)}")
        return probes

    @workers.conducted
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
        probes = self._given_probes(kind, len(vectors), Iq, Dq, params)
        distances, labels = self._labelled(*self._scan(vectors, probes, k, self._settings(None)), None)
        return kind.into(distances, D), kind.into(labels, I)

    @workers.conducted
    def range_search_preassigned(
        self, x: Array, thresh: float, Iq: Array, Dq: Array | None, *, params: SearchParameters | None = None
    ) -> tuple[Array, Array, Array]:
        """Range search in lists that the caller chose: see `search_preassigned` and `range_search`."""
        vectors, kind = self._vectors(x)
        probes = self._given_probes(kind, len(vectors), Iq, Dq, params)
        return self._ranges_out(kind, *self._range_scan(vectors, probes, float(thresh), self._settings(None)))

    @workers.conducted
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
        distances, positions, held = self._search_positions(vectors, k, params)
        there = positions >= 0
        rows = positions[there]
        parts = [self._encode_list_nos(held.list_nos_at(rows))] if include_listnos else []
        found = torch.full((n, k, width), 255, dtype=torch.uint8, device=self.device)
        found[there] = torch.cat([*parts, held.codes_at(rows)], dim=-1)
        return kind.into(distances, D), kind.into(held.ids_at(positions), I), kind.into(found, codes)

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        distances, positions, held = self._search_positions(x, k, params)
        recons = x.new_full((*positions.shape, self.d), float("nan"))
        found = positions >= 0
        recons[found] = self._decode_rows(held, positions[found])
        return distances, held.ids_at(positions), recons

    def _decode_rows(self, held: InvertedLists, positions: Tensor) -> Tensor:
        return self._decode(held.codes_at(positions), held.list_nos_at(positions))
