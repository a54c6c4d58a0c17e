"""The scan of inverted lists for few queries: in blocks of codes, without the interpreter's lock.

Few queries seldom look at the same list, and then a product is one query with one list. Of all rows in the blocks of
the lists that a query looks at, a weighted sum gives lower bounds of their scores (`byte_sums.blocks`), as quickly as a
quarter of the vectors' bytes come from memory. The rows with the k smallest bounds, and some more, are verified. Where
the next bound does not prove that nothing else can be closer, all rows are verified whose bounds leave that possible.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...threads import omp_get_max_threads
from ..runtime import chunks, torch_state, workers
from ..scoring.scorers import margin_factor
from ..scoring.small import SmallSet
from ..scoring.stored import Lists, Stored
from ..tiles.tile_set import FEWEST_COMPONENTS
from .blocks import BLOCK_ROWS, LARGEST_NORM, MOST_COMPONENTS, CodeBlocks
from .loops import MOST_ROWS, Storage, probe_and_search_lists, search_lists
from .measured import sums_lines

Found = TypeVar("Found")

#: So many queries for each list, on average, are few: with 512 lists of 512 rows and 32 probes 192 queries; tiles are
#: as quick for 256. Sums take less time the fewer components there are, tiles hardly: twice as many are few where
#: vectors have half of these components, or less.
FEW_QUERIES_A_LIST, MANY_COMPONENTS = 12, 128

#: Up to so many queries choose their lists in the same scripted function that searches these.
FEW_QUERIES = 192

#: Another worker is woken for so many queries, and no more than so many are searched in one call of a function.
QUERIES_A_WORKER, QUERIES_A_CALL = 2, 4096

#: The share of used rows in blocks below which a screen by them is not worth while.
SMALLEST_SHARE_USED = 0.25


def are_few(nq: int, nprobe: int, nlist: int, mean_size: float, d: int, device: torch.device) -> bool:
    """Whether so many queries, which look at lists of so many rows, are for blocks: few of them look at one list."""
    few = FEW_QUERIES_A_LIST * min(2.0, max(1.0, MANY_COMPONENTS / max(1, d)))
    if nq == 0 or nq * nprobe > few * nlist or nprobe * mean_size > MOST_ROWS / 2:
        return False
    return sums_lines(device)


def suits(lists: Lists, scanned: int, pairs: int, metric_type: int) -> bool:
    """Whether a search of few queries is to be screened by blocks.

    Parameters
    ----------
    lists : Lists
    scanned, pairs : int
        The rows of all probed lists together, and the probes.
    metric_type : int
    """
    if lists.blocks_for is None or scanned < SMALLEST_SHARE_USED * BLOCK_ROWS * pairs:
        return False
    return suits_rows(lists.stored, metric_type)


def suits_rows(stored: Stored, metric_type: int) -> bool:
    """Whether stored rows may be screened by blocks."""
    return (
        FEWEST_COMPONENTS <= stored.vectors.shape[1] <= MOST_COMPONENTS
        and metric_type in (METRIC_L2, METRIC_INNER_PRODUCT)
        and stored.finite
        and stored.largest_norm <= LARGEST_NORM
    )


def search(
    xq: Tensor, lists: Lists, blocks: CodeBlocks, probes: Tensor, k: int, metric_type: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the k closest rows of the probed lists.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
    lists : Lists
        Of vectors stored in float32, all of them or (where there are `counts`) those that a filter leaves.
    blocks : CodeBlocks
        Of the probed lists at least.
    probes : Tensor, int64, shape (nq, nprobe)
        -1 for no list.
    k, metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
        Stored rows, -1 where there are fewer than k.
    left : Tensor, bool, shape (nq,), or None
        Queries without a certificate, if any: what stands in their rows is not their result.
    """
    probes = probes.masked_fill(probes < 0, blocks.counts.shape[0] - 1)
    return search_storage(xq, probes, blocks, _storage(lists, metric_type), k)


def search_storage(
    xq: Tensor, probes: Tensor, blocks: CodeBlocks, storage: Storage, k: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `search`, of a storage; the probes are those of `byte_sums.loops.search_lists`."""
    found = _over_queries(lambda queries: search_lists(xq[queries], probes[queries], blocks, storage, k), xq.shape[0])
    distances, positions, certain = (_together(each) for each in zip(*found, strict=True))
    return distances, positions, None if bool(certain.all()) else ~certain


def probe_and_search(
    xq: Tensor, centroids: SmallSet, nprobe: int, lists: Lists, blocks: CodeBlocks, k: int, metric_type: int
) -> tuple[Tensor, Tensor, Tensor | None, int, int]:
    """Return the k closest rows of the lists of the nearest centroids.

    Parameters
    ----------
    xq, lists, blocks, k, metric_type
        As for `search`; the blocks are those of all lists.
    centroids : SmallSet
        More than `nprobe`; those of the lists, in their order.
    nprobe : int

    Returns
    -------
    distances, positions, left
        As `search`.
    nlist, ndis : int
        How many lists that have rows were looked at, and how many rows these have, by the queries that are not left.
    """
    factor = margin_factor(xq.shape[1], xq.device)
    what = centroids, nprobe, factor, lists.sizes, blocks, _storage(lists, metric_type), k
    found = _over_queries(lambda queries: probe_and_search_lists(xq[queries], *what), xq.shape[0])
    distances, positions, certain, all_certain, nlist, ndis = zip(*found, strict=True)
    left = None if all(all_certain) else ~torch.cat(certain)
    return _together(distances), _together(positions), left, sum(nlist), sum(ndis)


def _storage(lists: Lists, metric_type: int) -> Storage:
    stored, similarity = lists.stored, metric_type == METRIC_INNER_PRODUCT
    bias = None if lists.counts is None else stored.bias
    return Storage(stored.vectors, lists.ids, stored.largest_norm, similarity, bias)


def _over_queries(task: Callable[[slice], Found], nq: int) -> list[Found]:
    """Call a function with slices of the queries, in workers where there are several."""

    def in_inference_mode(queries: slice) -> Found:
        return torch_state.in_inference_mode(lambda: task(queries))  # where operations take a tenth less

    threads = omp_get_max_threads()
    step = min(max(QUERIES_A_WORKER, -(-nq // threads)), QUERIES_A_CALL)
    if step >= nq:
        return [in_inference_mode(slice(0, nq))]
    return workers.map_over_workers(in_inference_mode, chunks.slices(nq, step), threads)


def _together(parts: tuple[Tensor, ...]) -> Tensor:
    """Put parts behind each other: a copy, for what is made in inference mode cannot be changed outside."""
    return parts[0].clone() if len(parts) == 1 else torch.cat(parts)
