"""How an IVF index searches for neighbours: settings, probes, and the path. `ivf.verbs` has what else reads lists.

A codec gives ``_lists(storage)`` (the stored lists as the engine reads them), ``_scorer(x, lists)``, ``_decode``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ... import kernels
from ...attributes import Size
from ...constants import FLT_MAX, METRIC_L2
from ...ops.byte_sums import lists as list_byte_sums
from ...ops.byte_sums.blocks import CodeBlocks
from ...ops.gpu import lists as gpu_lists
from ...ops.gpu.search import Found, rounded_of, with_more_slack
from ...ops.runtime import chunks, workers
from ...ops.scoring.distances import METRICS
from ...ops.scoring.scorers import Scorer
from ...ops.scoring.stored import Lists, allowed_rows, rows_of_probes
from ...ops.search import by_list as ivf_csr
from ...ops.search import by_query, filtering, paths
from ...ops.tiles import lists as list_tiles
from ...parts.lists import portions
from ...parts.lists.inverted_lists import InvertedLists
from ...parts.lists.storage import ListStorage
from ...parts.params import SearchParameters, SearchParametersIVF
from ...parts.selectors import IDSelector
from ...threads import omp_get_max_threads
from ..base import Index
from ..c_verbs import IndexIVFCVerbs
from .level1_quantizer import IndexIVFInterface
from .stats import indexIVF_stats

#: Pairs of a query and a list that are searched at a time.
PAIRS_A_SEARCH = {"cpu": 1 << 17}
ACCELERATOR_PAIRS_A_SEARCH = 1 << 22

#: On the CPU each worker searches queries of its own where they are so many, or more, for a list: then nothing has to
#: wait for another worker. Fewer share the lists among the workers instead, so that each list is read once: after a
#: pause, when lists come from memory, 2,048 queries on 512 lists took 93 ms so, and 137 with queries of their own.
GROUP_OF_A_WORKER = 256

#: Fewer queries take as long among equal entries as among others.
QUERIES_WORTH_A_LOOK = 16

#: Scans of few queries, but of a single one, count so many times in the decision to make blocks.
SCANS_THAT_COUNT = 4

#: The path of few queries whose lists are screened by blocks.
FEW_QUERIES_PATH = paths.Path("matrix", "lists of few queries are screened in int8")


class _Settings(NamedTuple):
    """The settings of one search: those of the call, or those of the index."""

    nprobe: int
    max_codes: int
    sel: IDSelector | None
    quantizer_params: SearchParameters | None
    ensure_topk_full: bool
    max_empty_result_buckets: int


def _rows_left(rows: Tensor, probes: Tensor, lists: Lists) -> Tensor:
    """How many rows of each probed list a query looks at, where a filter may have left fewer of them."""
    return rows if lists.stored.rows is None else torch.minimum(rows, allowed_rows(probes, lists.sizes, 0))


class _IVFSearch(Index, IndexIVFInterface, IndexIVFCVerbs):
    """The searching part of `IndexIVF`, which describes the attributes."""

    PARALLEL_MODE_NO_HEAP_INIT = 1024

    invlists: Any
    own_invlists: bool
    code_size: Size
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

    def _require_lists(self) -> Any:
        if self.invlists is None:
            raise RuntimeError("the IVF index has no inverted lists")
        return self.invlists

    def _held_lists(self) -> Any:
        """The lists from which entries can be read; they may be in a file, and stay there."""
        lists = self._require_lists()
        elsewhere = lists.elsewhere()
        return lists if elsewhere is None else elsewhere

    def _lists(self, storage: ListStorage) -> Lists:
        raise RuntimeError(f"search is not implemented for {type(self).__name__}")

    def _decode(self, codes: Tensor, list_nos: Tensor) -> Tensor:
        """Vectors of codes: float32, (n, d)."""
        raise RuntimeError(f"{type(self).__name__} has no codec")

    def _scorer(self, x: Tensor, lists: Lists) -> Scorer:
        raise RuntimeError(f"search is not implemented for {type(self).__name__}")

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
        self, distances: Tensor, positions: Tensor, storage: Any, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor]:
        """Distances and ids of what was found at positions of the storage."""
        return distances, storage.ids_at(positions)

    def _search_positions(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, ListStorage | InvertedLists]:
        """Search, and return where in the storage of the lists the results stand instead of their ids."""
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
        storage = self._require_lists()
        if storage.elsewhere() is not None:
            return settings
        lists = self._lists(storage)
        if lists.needed_for is None or not lists.stored.finite:
            return settings
        return settings._replace(sel=lists.needed_for(k))

    def _search_probed(
        self, x: Tensor, k: int, settings: _Settings
    ) -> tuple[Tensor, Tensor, ListStorage | InvertedLists]:
        """Choose the probes, and scan their lists."""
        start = time.perf_counter()
        if settings.max_codes:  # which lists these suffice for depends on their order
            _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        else:
            probes = self._probe_in_any_order(x, settings.nprobe, settings.quantizer_params)
        indexIVF_stats.quantization_time += 1e3 * (time.perf_counter() - start)
        return self._scan(x, probes, k, settings)

    def _search_by_kernels(
        self, x: Tensor, k: int, settings: _Settings
    ) -> tuple[Tensor, Tensor, ListStorage | InvertedLists] | None:
        """As `_search_probed`, by kernels that the host waits for once, where all that this takes is at hand."""
        if not kernels.chosen("list_minima", x.device) or settings.sel is not None or settings.max_codes:
            return None
        start = time.perf_counter()
        storage = self._require_lists()
        centroids = self._centroids_for_kernels(x, settings.nprobe, settings.quantizer_params)
        if centroids is None or not len(x) or storage.elsewhere() is not None:
            return None
        lists = self._lists(storage)
        rounded = rounded_of("list_minima", lists.stored, self.metric_type, lists.rounded_for)
        if rounded is None or not bool(lists.sizes.any()):
            return None
        assert lists.rounded_for is not None
        by_list = self._choose_path(len(x), settings.nprobe).name == "csr"

        def search(queries: Tensor) -> tuple[Tensor, ...] | None:
            return gpu_lists.probe_and_search(queries, centroids, settings.nprobe, lists, k, self.metric_type, by_list)

        what = (settings.nprobe, k, self.metric_type, by_list)
        basis = centroids.rounded, rounded, lists.ids, lists.there
        read = self.d * (self.nlist + settings.nprobe * self.ntotal // self.nlist)
        found = lists.rounded_for.graphs.search(x, what, basis, search, read)
        if found is None:
            return None
        distances, positions, left, nlist, ndis = found
        n_left = int(left.sum())
        indexIVF_stats.count(len(x) - n_left, nlist.masked_fill(left, 0).sum(), ndis.masked_fill(left, 0).sum())
        indexIVF_stats.search_time += 1e3 * (time.perf_counter() - start)
        if n_left:
            again = left.nonzero().view(-1)
            distances[again], positions[again], _ = self._search_probed(x[again], k, settings)
        return distances, positions, storage

    def _search_few(
        self, x: Tensor, k: int, settings: _Settings
    ) -> tuple[Tensor, Tensor, ListStorage | InvertedLists] | None:
        """As `_search_probed`, at once, where there are few queries and all that this takes is at hand."""
        start = time.perf_counter()
        storage = self._require_lists()
        centroids = self._small_set_of_centroids(x, settings.nprobe, settings.quantizer_params)
        if centroids is None or storage.elsewhere() is not None:
            return None
        lists = self._lists(storage)
        pairs = x.shape[0] * settings.nprobe
        if not list_byte_sums.suits(lists, pairs * self.ntotal // self.nlist, pairs, self.metric_type):
            return None
        assert lists.blocks_for is not None
        blocks = lists.blocks_for(lists.begins, lists.sizes, None, 1)
        if blocks is None:
            return None
        if self.last_path is not FEW_QUERIES_PATH:
            self.last_path = FEW_QUERIES_PATH
        distances, positions, left, nlist, ndis = list_byte_sums.probe_and_search(
            x, centroids, settings.nprobe, lists, blocks, k, self.metric_type
        )
        if left is not None:
            distances[left], positions[left], _ = self._search_probed(x[left], k, settings)
        indexIVF_stats.count(x.shape[0] if left is None else int(left.logical_not().sum()), nlist, ndis)
        indexIVF_stats.search_time += 1e3 * (time.perf_counter() - start)
        return distances, positions, storage

    def _scan(
        self, x: Tensor, probes: Tensor, k: int, settings: _Settings
    ) -> tuple[Tensor, Tensor, ListStorage | InvertedLists]:
        """Return the k nearest rows of the lists to be probed: distances and positions, (n, k), and what holds them."""
        start = time.perf_counter()
        path = self._choose_path(len(x), settings.nprobe)
        held: ListStorage | InvertedLists = self._require_lists()
        elsewhere = self._require_lists().elsewhere()
        if elsewhere is None and self._takes_few_queries(len(x), settings):
            distances, positions = self._scan_for_few(x, probes, k, settings, path, held)
        elif elsewhere is None:
            distances, positions = self._scan_loaded(x, probes, k, settings, path, held)
        else:

            def scan(storage: ListStorage, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
                return self._scan_loaded(x[queries], probes[queries], k, settings, path, storage, rows)

            budgeted: Lists | InvertedLists = elsewhere
            if settings.max_codes and settings.sel is not None:
                budgeted = portions.ids_to_scan(elsewhere, probes, settings.sel)
            held, all_rows = elsewhere, self._rows_to_scan(probes, budgeted, settings, k)
            distances, positions = portions.search(elsewhere, probes, all_rows, k, self.metric_type, scan)
        indexIVF_stats.search_time += 1e3 * (time.perf_counter() - start)
        return distances, positions, held

    def _takes_few_queries(self, nq: int, settings: _Settings) -> bool:
        """Whether few queries may be searched one by one in whole lists: see `_scan_for_few`."""
        return settings.sel is None and self._are_few(nq, settings)

    def _are_few(self, nq: int, settings: _Settings) -> bool:
        """Whether queries, filtered or not, are so few that blocks may screen them."""
        if settings.max_codes or self.search_mode == "csr":
            return False
        if self.search_mode == "matrix":  # query by query, however many there are
            nq = min(nq, 1)
        mean_size = self.ntotal / max(1, self.nlist)
        return list_byte_sums.are_few(nq, settings.nprobe, self.nlist, mean_size, self.d, self.device)

    def _scan_for_few(
        self, x: Tensor, probes: Tensor, k: int, settings: _Settings, path: paths.Path, storage: Any
    ) -> tuple[Tensor, Tensor]:
        """As `_scan_loaded`, for few queries: screened by blocks where that pays."""
        lists = self._lists(storage)
        rows, nprobed, scanned = rows_of_probes(probes, lists.sizes)
        indexIVF_stats.count(len(x), nprobed, scanned)
        blocks = self._blocks_of(lists, probes, scanned)
        if blocks is None:
            return self._scan_loaded(x, probes, k, settings, path, storage, rows)
        self.last_path = FEW_QUERIES_PATH
        distances, positions, left = list_byte_sums.search(x, lists, blocks, probes, k, self.metric_type)
        if left is not None:
            again = left.nonzero().view(-1)
            some = x[again], probes[again], k, settings, path, storage, rows[again]
            distances[again], positions[again] = self._scan_loaded(*some)
        return distances, positions

    def _scan_loaded(
        self,
        x: Tensor,
        probes: Tensor,
        k: int,
        settings: _Settings,
        path: paths.Path,
        storage: Any,
        all_rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `_scan`, of lists in memory; `all_rows` says how many rows count, where that is known already."""
        lists = self._lists_to_scan(storage, probes, settings)
        if all_rows is not None or settings.max_codes:
            lists = lists.without_screens()  # which look at whole lists
        elif path.name == "matrix" == self.search_mode:
            lists = lists._replace(tiles_for=None)
        distances, positions = x.new_empty(len(x), k), probes.new_empty(len(x), k)
        if not bool(lists.sizes.any()):  # there is no storage to read
            if all_rows is None:
                self._rows_to_scan(probes, lists, settings, k)  # which counts what was looked at
            missing = -FLT_MAX if METRICS[self.metric_type].similarity else FLT_MAX
            return distances.fill_(missing), positions.fill_(-1)

        blocks = None
        if lists.counts is not None and self._are_few(len(x), settings):  # of which a filter leaves many rows
            blocks = self._blocks_of(lists, probes, rows_of_probes(probes, lists.sizes)[2])

        def search(some: slice) -> None:
            if all_rows is None:
                rows = self._rows_to_scan(probes[some], lists, settings, k)
            else:
                rows = _rows_left(all_rows[some], probes[some], lists)
            distances[some], positions[some] = self._nearest(x[some], lists, probes[some], rows, k, path, blocks)

        self._over_queries(search, len(x), settings.nprobe, lists.tiles_for is not None)
        return distances, lists.stored.stored_rows(positions)

    def _blocks_of(self, lists: Lists, probes: Tensor, scanned: int) -> CodeBlocks | None:
        """Blocks of the probed lists, which have so many rows together, where they are to screen few queries."""
        if not list_byte_sums.suits(lists, scanned, probes.numel(), self.metric_type):
            return None
        assert lists.blocks_for is not None
        # without blocks each of several queries costs more than copying a list
        return lists.blocks_for(lists.begins, lists.sizes, probes.reshape(-1), min(len(probes), SCANS_THAT_COUNT))

    def _queries_at_a_time(self, nprobe: int) -> int:
        return max(1, PAIRS_A_SEARCH.get(self.device.type, ACCELERATOR_PAIRS_A_SEARCH) // nprobe)

    def _over_queries(self, search: Callable[[slice], None], nq: int, nprobe: int, by_tiles: bool) -> None:
        """Call a function with slices of the queries: several at once, in workers, where there are enough of them and
        the search does not hold the interpreter's lock."""
        step = self._queries_at_a_time(nprobe)
        threads = omp_get_max_threads()
        if by_tiles and nq * nprobe >= GROUP_OF_A_WORKER * threads * self.nlist:
            rounds = -(-nq // (step * threads))
            workers.map_over_workers(search, chunks.slices(nq, -(-nq // (rounds * threads))), threads)
            return
        for some in chunks.slices(nq, step):
            search(some)

    def _nearest(
        self,
        x: Tensor,
        lists: Lists,
        probes: Tensor,
        rows: Tensor,
        k: int,
        path: paths.Path,
        blocks: CodeBlocks | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Distances and positions of the k nearest rows, (n, k): screened by blocks that are given, or by tiles where
        that pays."""
        scan = ivf_csr.search if path.name == "csr" else by_query.search
        left: Tensor | None
        by_kernels = self._nearest_by_kernels(x, lists, probes, rows, k, path)
        if by_kernels is not None:
            distances, positions, left = by_kernels
        elif blocks is not None:
            self.last_path = FEW_QUERIES_PATH
            distances, positions, left = list_byte_sums.search(x, lists, blocks, probes, k, self.metric_type)
        else:
            scorer = self._scorer(x, lists)
            tiles = list_tiles.tiles_of(scorer, lists, probes, rows, k)
            if tiles is None:
                return scan(scorer, lists, probes, rows, k, self.metric_type)
            self.last_path = paths.Path("csr", f"lists are screened in {tiles.tile_set.arithmetic.name}")
            distances, positions, left = list_tiles.search(scorer, tiles, probes, lists.ids, k, self.metric_type)
        if left is not None and bool(left.any()):
            again = left.nonzero().view(-1)
            some = self._scorer(x[again], lists)
            distances[again], positions[again] = scan(some, lists, probes[again], rows[again], k, self.metric_type)
        return distances, positions

    def _nearest_by_kernels(
        self, x: Tensor, lists: Lists, probes: Tensor, rows: Tensor, k: int, path: paths.Path
    ) -> Found | None:
        def search(queries: Tensor | slice, slack: int) -> Found | None:
            what = probes[queries], rows[queries], k, self.metric_type, path.name == "csr"
            return gpu_lists.search(x[queries], lists, *what, slack=slack)

        found = search(slice(None), 1)
        return None if found is None else with_more_slack(found, search)

    def _lists_to_scan(self, storage: ListStorage, probes: Tensor, settings: _Settings) -> Lists:
        lists = self._lists(storage)
        if settings.sel is None:
            return lists
        # max_codes cuts lists by all their rows, so these have to stay where they are
        may_gather = not settings.max_codes or settings.ensure_topk_full
        return filtering.narrowed_lists(lists, probes, settings.sel.mask, may_gather, settings.sel.takes_any_id)

    def _choose_path(self, nq: int, nprobe: int) -> paths.Path:
        self.last_path = paths.choose_path(
            self.search_mode,
            nq,
            nprobe,
            self.nlist,
            self.device.type,
            self.auto_search_avg_group_threshold,
            self.ntotal / max(1, self.nlist),
        )
        return self.last_path

    def _rows_to_scan(self, probes: Tensor, lists: Any, settings: _Settings, k: int) -> Tensor:
        """How many rows of each probed list a query looks at; `max_codes` counts those that a filter leaves."""
        counts, whole_sizes = getattr(lists, "counts", None), getattr(lists, "whole_sizes", None)
        rows = allowed_rows(probes, getattr(lists, "sizes_there", lists.sizes), 0)
        found = rows if counts is None else allowed_rows(probes, counts, 0)
        seen = rows if whole_sizes is None else allowed_rows(probes, whole_sizes, 0)
        if settings.max_codes and settings.ensure_topk_full:
            enough = found.cumsum(1) - found >= max(settings.max_codes, k)
            rows, found, seen = (each.masked_fill(enough, 0) for each in (rows, found, seen))
        elif settings.max_codes and counts is None:
            rows = found = seen = allowed_rows(probes, lists.sizes, settings.max_codes)
        elif settings.max_codes:
            rows, found = filtering.rows_within_budget(lists, probes, settings.max_codes)
            seen = rows
        indexIVF_stats.count(len(probes), seen.count_nonzero(), found.sum())
        return rows
