"""The k nearest in inverted lists: which screen serves a search, and what is done again without one.

Everything here is of lists in memory, of whatever codes: a `Request` says how its queries are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import FLT_MAX
from ...threads import omp_get_max_threads
from ..byte_sums import lists as list_byte_sums
from ..byte_sums.blocks import CodeBlocks
from ..gpu import lists as gpu_lists
from ..gpu.search import Found, Rows, rounded_of, with_more_slack
from ..runtime import chunks, workers
from ..scoring.distances import METRICS
from ..scoring.scorers import Scorer
from ..scoring.small import SmallSet
from ..scoring.stored import Lists, allowed_rows, rows_of_probes
from ..tiles import lists as list_tiles
from . import by_list, by_query, filtering
from .paths import Path

#: Pairs of a query and a list that are searched at a time: by tiles, and by scores, of which each list costs some forty
#: operations, however few queries look at it. Of 10,000 queries on 1,024 lists of 8-bit codes four times the pairs, and
#: tiles of four times the scores, took 2.5 s where it had been 4.8.
PAIRS_A_SEARCH, PAIRS_BY_SCORES = {"cpu": 1 << 17}, {"cpu": 1 << 19}
ACCELERATOR_PAIRS_A_SEARCH = 1 << 22

#: On the CPU each worker searches queries of its own where they are so many, or more, for a list: then nothing has to
#: wait for another worker. Fewer share the lists among the workers instead, so that each list is read once: after a
#: pause, when lists come from memory, 2,048 queries on 512 lists took 93 ms so, and 137 with queries of their own.
GROUP_OF_A_WORKER = 256

#: Scans of few queries, but of a single one, count so many times in the decision to make blocks.
SCANS_THAT_COUNT = 4

#: The path of few queries whose lists are screened by blocks.
FEW_QUERIES_PATH = Path("matrix", "lists of few queries are screened in int8")


class Request(NamedTuple):
    """What is searched for, and how.

    Attributes
    ----------
    xq : Tensor, float32, shape (nq, d)
    k : int
        0 where all within a radius are wanted.
    metric_type : int
    scorer_of : callable
        Gives the scorer of queries, float32, (n, d), against lists.
    path : Path
    whole_queries : bool
        Whether the caller asked for the query-major path: then nothing goes by lists.
    few : bool
        Whether there are so few queries that blocks may screen them.
    max_codes : int
        Rows that a query looks at, at most; 0 for no limit.
    ensure_topk_full : bool
        Whether a query looks at whole lists until it has seen so many rows, and k at least.
    selected : callable or None
        Returns which ids may be found: int64, (n,) -> bool, (n,).
    any_id : bool
        Whether `selected` may be asked about any number.
    """

    xq: Tensor
    k: int
    metric_type: int
    scorer_of: Callable[[Tensor, Lists], Scorer]
    path: Path
    whole_queries: bool = False
    few: bool = False
    max_codes: int = 0
    ensure_topk_full: bool = False
    selected: Callable[[Tensor], Tensor] | None = None
    any_id: bool = True

    def of(self, queries: Tensor | slice) -> Request:
        """The same for some of the queries."""
        return self._replace(xq=self.xq[queries])


class Looked(NamedTuple):
    """How many lists, and rows of them, queries looked at; tensors where a device has counted."""

    nlist: int | Tensor
    ndis: int | Tensor

    @staticmethod
    def at_all(parts: list[Looked]) -> Looked:
        """The sums."""
        return Looked(sum((part.nlist for part in parts), 0), sum((part.ndis for part in parts), 0))


class Neighbours(NamedTuple):
    """The k nearest rows of each query.

    Attributes
    ----------
    distances : Tensor, float32, shape (nq, k)
        +-FLT_MAX where there are fewer.
    positions : Tensor, int64, shape (nq, k)
        Stored rows; -1 where there are fewer.
    looked : Looked
    path : Path
        The one that was taken.
    """

    distances: Tensor
    positions: Tensor
    looked: Looked
    path: Path


def rows_to_scan(request: Request, lists: Lists, probes: Tensor) -> tuple[Tensor, Looked]:
    """How many rows of each probed list a query looks at; `max_codes` counts those that a filter leaves."""
    rows = allowed_rows(probes, lists.sizes_there, 0)
    found = rows if lists.counts is None else allowed_rows(probes, lists.counts, 0)
    seen = rows if lists.whole_sizes is None else allowed_rows(probes, lists.whole_sizes, 0)
    if request.max_codes and request.ensure_topk_full:
        enough = found.cumsum(1) - found >= max(request.max_codes, request.k)
        rows, found, seen = (each.masked_fill(enough, 0) for each in (rows, found, seen))
    elif request.max_codes and lists.counts is None:
        rows = found = seen = allowed_rows(probes, lists.sizes, request.max_codes)
    elif request.max_codes:
        rows, found = filtering.rows_within_budget(lists, probes, request.max_codes)
        seen = rows
    return rows, Looked(seen.count_nonzero(), found.sum())


def rows_left(rows: Tensor, probes: Tensor, lists: Lists) -> Tensor:
    """How many rows of each probed list a query looks at, where a filter may have left fewer of them."""
    return rows if lists.stored.rows is None else torch.minimum(rows, allowed_rows(probes, lists.sizes, 0))


def lists_to_scan(request: Request, lists: Lists, probes: Tensor) -> Lists:
    """Narrow lists to what may be found."""
    if request.selected is None:
        return lists
    # max_codes cuts lists by all their rows, so these have to stay where they are
    may_gather = not request.max_codes or request.ensure_topk_full
    return filtering.narrowed_lists(lists, probes, request.selected, may_gather, request.any_id)


def queries_at_a_time(nprobe: int, device: torch.device, by_tiles: bool) -> int:
    """How many queries are searched at a time."""
    pairs = PAIRS_A_SEARCH if by_tiles else PAIRS_BY_SCORES
    return max(1, pairs.get(device.type, ACCELERATOR_PAIRS_A_SEARCH) // nprobe)


def nearest(request: Request, lists: Lists, probes: Tensor, rows: Tensor | None = None) -> Neighbours:
    """Find the k nearest rows of the probed lists.

    Parameters
    ----------
    request : Request
    lists : Lists
    probes : Tensor, int64, shape (nq, nprobe)
        The lists of each query, nearest first; -1 for none.
    rows : Tensor, int64, shape (nq, nprobe), optional
        How many rows of each list a query looks at, where that is known: then nothing is counted.

    Returns
    -------
    Neighbours
    """
    if rows is not None or not request.few or request.selected is not None:
        return _scanned(request, lists, probes, rows)
    rows, *looked = rows_of_probes(probes, lists.sizes)
    blocks = _blocks_of(lists, probes, looked[1], request.metric_type)
    if blocks is None:
        return _scanned(request, lists, probes, rows)._replace(looked=Looked(*looked))
    found = list_byte_sums.search(request.xq, lists, blocks, probes, request.k, request.metric_type)
    distances, positions, left = found
    if left is not None:
        again = left.nonzero().view(-1)
        some = _scanned(request.of(again), lists, probes[again], rows[again])
        distances[again], positions[again] = some.distances, some.positions
    return Neighbours(distances, positions, Looked(*looked), FEW_QUERIES_PATH)


def _scanned(request: Request, lists: Lists, probes: Tensor, all_rows: Tensor | None) -> Neighbours:
    """As `nearest`, but not by blocks of whole lists."""
    xq, k, metric_type = request.xq, request.k, request.metric_type
    whole = lists
    lists = lists_to_scan(request, lists, probes)
    if all_rows is not None or request.max_codes:
        lists = lists.without_screens()  # which look at whole lists
    elif request.whole_queries:
        lists = lists._replace(tiles_for=None)
    distances, positions = xq.new_empty(len(xq), k), probes.new_empty(len(xq), k)
    looked: list[Looked] = []
    taken = [request.path]
    if not bool(lists.sizes.any()):  # there is no storage to read
        missing = -FLT_MAX if METRICS[metric_type].similarity else FLT_MAX
        if all_rows is None:
            looked.append(rows_to_scan(request, lists, probes)[1])
        distances, positions = distances.fill_(missing), positions.fill_(-1)
        return Neighbours(distances, positions, Looked.at_all(looked), request.path)

    blocks = None
    if lists.counts is not None and request.few:  # of which a filter leaves many rows
        blocks = _blocks_of(lists, probes, rows_of_probes(probes, lists.sizes)[2], metric_type)

    def search(some: slice) -> None:
        if all_rows is None:
            rows, seen = rows_to_scan(request, lists, probes[some])
            looked.append(seen)
        else:
            rows = rows_left(all_rows[some], probes[some], lists)
        distances[some], positions[some], path = _nearest(request.of(some), lists, probes[some], rows, blocks)
        taken.append(path)

    _over_queries(search, len(xq), probes.shape[1], len(whole.sizes), xq.device, lists.tiles_for is not None)
    return Neighbours(distances, lists.stored.stored_rows(positions), Looked.at_all(looked), taken[-1])


def _blocks_of(lists: Lists, probes: Tensor, scanned: int, metric_type: int) -> CodeBlocks | None:
    """Blocks of the probed lists, which have so many rows together, where they are to screen few queries."""
    if not list_byte_sums.suits(lists, scanned, probes.numel(), metric_type):
        return None
    assert lists.blocks_for is not None
    # without blocks each of several queries costs more than copying a list
    return lists.blocks_for(lists.begins, lists.sizes, probes.reshape(-1), min(len(probes), SCANS_THAT_COUNT))


def _over_queries(
    search: Callable[[slice], None], nq: int, nprobe: int, nlist: int, device: torch.device, by_tiles: bool
) -> None:
    """Call a function with slices of the queries: several at once, in workers, where there are enough of them and the
    search does not hold the interpreter's lock."""
    step = queries_at_a_time(nprobe, device, by_tiles)
    threads = omp_get_max_threads()
    if by_tiles and nq * nprobe >= GROUP_OF_A_WORKER * threads * nlist:
        rounds = -(-nq // (step * threads))
        workers.map_over_workers(search, chunks.slices(nq, -(-nq // (rounds * threads))), threads)
        return
    for some in chunks.slices(nq, step):
        search(some)


def _nearest(
    request: Request, lists: Lists, probes: Tensor, rows: Tensor, blocks: CodeBlocks | None
) -> tuple[Tensor, Tensor, Path]:
    """Distances and positions of the k nearest rows, (n, k): screened by blocks that are given, or by tiles where that
    pays."""
    xq, k, metric_type, path = request.xq, request.k, request.metric_type, request.path
    scan = by_list.search if path.name == "csr" else by_query.search
    left: Tensor | None
    by_kernels = _nearest_by_kernels(request, lists, probes, rows)
    if by_kernels is not None:
        distances, positions, left = by_kernels
    elif blocks is not None:
        path = FEW_QUERIES_PATH
        distances, positions, left = list_byte_sums.search(xq, lists, blocks, probes, k, metric_type)
    else:
        scorer = request.scorer_of(xq, lists)
        tiles = list_tiles.tiles_of(scorer, lists, probes, rows, k)
        if tiles is None:
            return *scan(scorer, lists, probes, rows, k, metric_type), path
        path = Path("csr", f"lists are screened in {tiles.tile_set.arithmetic.name}")
        distances, positions, left = list_tiles.search(scorer, tiles, probes, lists.ids, k, metric_type)
    if left is not None and bool(left.any()):
        again = left.nonzero().view(-1)
        some = request.scorer_of(xq[again], lists)
        distances[again], positions[again] = scan(some, lists, probes[again], rows[again], k, metric_type)
    return distances, positions, path


def _nearest_by_kernels(request: Request, lists: Lists, probes: Tensor, rows: Tensor) -> Found | None:
    def search(queries: Tensor | slice, slack: int) -> Found | None:
        what = probes[queries], rows[queries], request.k, request.metric_type, request.path.name == "csr"
        return gpu_lists.search(request.xq[queries], lists, *what, slack=slack)

    found = search(slice(None), 1)
    return None if found is None else with_more_slack(found, search)


class Probed(NamedTuple):
    """What a search found that chose its lists as well.

    Attributes
    ----------
    found : Neighbours
    left : Tensor, bool, shape (nq,), or None
        Queries that are left, and not counted.
    """

    found: Neighbours
    left: Tensor | None


def probe_and_search_few(
    request: Request, lists: Lists, ntotal: int, centroids: SmallSet, nprobe: int
) -> Probed | None:
    """Choose the lists of few queries among few centroids, and search them by blocks; None where that does not pay."""
    pairs = request.xq.shape[0] * nprobe
    if not list_byte_sums.suits(lists, pairs * ntotal // lists.sizes.shape[0], pairs, request.metric_type):
        return None
    assert lists.blocks_for is not None
    blocks = lists.blocks_for(lists.begins, lists.sizes, None, 1)
    if blocks is None:
        return None
    distances, positions, left, nlist, ndis = list_byte_sums.probe_and_search(
        request.xq, centroids, nprobe, lists, blocks, request.k, request.metric_type
    )
    return Probed(Neighbours(distances, positions, Looked(nlist, ndis), FEW_QUERIES_PATH), left)


def probe_and_search_by_kernels(
    request: Request, lists: Lists, ntotal: int, centroids: Rows, nprobe: int
) -> Probed | None:
    """Choose lists and search them by kernels, which the host waits for once; None where there are none."""
    metric_type, by_lists = request.metric_type, request.path.name == "csr"
    rounded = rounded_of("list_minima", lists.stored, metric_type, lists.rounded_for)
    if rounded is None or not bool(lists.sizes.any()):
        return None
    assert lists.rounded_for is not None

    def search(queries: Tensor) -> tuple[Tensor, ...] | None:
        return gpu_lists.probe_and_search(queries, centroids, nprobe, lists, request.k, metric_type, by_lists)

    what = (nprobe, request.k, metric_type, by_lists)
    basis = centroids.rounded, rounded, lists.ids, lists.there
    nlist = len(lists.sizes)
    read = request.xq.shape[1] * (nlist + nprobe * ntotal // nlist)
    found = lists.rounded_for.graphs.search(request.xq, what, basis, search, read)
    if found is None:
        return None
    distances, positions, left, nlists, ndis = found
    looked = Looked(nlists.masked_fill(left, 0).sum(), ndis.masked_fill(left, 0).sum())
    return Probed(Neighbours(distances, positions, looked, request.path), left)
