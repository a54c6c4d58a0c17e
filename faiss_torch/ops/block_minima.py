"""Exact search of all stored rows by the smallest scores of blocks of them.

The k blocks with the smallest minima hold k different rows, so no row beyond the k-th smallest minimum can be among the
k nearest: only the blocks under it, plus the margin of the screen, are looked at again. The minima come from float32
products of tiles (`by_products`, `search`). On GPUs all is done by kernels (`search_by_kernels`): there the minima are
of lower bounds, from 16 bits, a few more than k blocks are looked at again, and a query is certain where its k-th score
is below the bounds of all others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import kernels
from ..constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..threads import omp_get_max_threads
from . import chunks, lists, memory, topk, workers
from .collect import Candidates
from .graphs import Graphs
from .screen import BLOCK, Scorer, Stored, multiplies
from .verify import verified_topk

Result = TypeVar("Result")

#: Stored rows of one tile, by device type. On a CPU the tile stays in a core's cache.
TILE_ROWS = {"cpu": 2048}
ACCELERATOR_TILE_ROWS = 16384

#: Bytes of the candidates that are looked at again at a time.
CANDIDATE_BYTES = {"cpu": 8 << 20}

#: Bytes of minima on an accelerator.
MINIMA_BYTES = 1 << 30

#: Neighbours that a query is expected to have within a radius.
RANGE_NEIGHBOURS = 64

#: Norms of rows whose scores with queries do not overflow where half of the squared norms of these do not.
LARGEST_NORM = 1e18

#: The slack of a second try.
MORE_SLACK = 8

#: Neighbours that kernels find, at most.
MOST_NEIGHBOURS = 4096


class RoundedFor(NamedTuple):
    """Gives the rows of a scan as the kernels take them.

    Attributes
    ----------
    make : callable
        Takes what is scanned; returns a `kernels.rounding.Rounded`, the same as before where that has not changed.
    graphs : Graphs
        Recorded searches of the rows.
    """

    make: Callable[[Stored], Any]
    graphs: Graphs


class Minima(NamedTuple):
    """The smallest scores of blocks of rows.

    Attributes
    ----------
    scores : Tensor, float32, shape (n, blocks)
        Of a block without rows as large as can be: +inf, or what `rows_of` makes nothing of.
    margins : Tensor, float32, shape (n,)
        How far apart two scores of a query must be for their order to be certain.
    block : int
        Rows of a block.
    rows_of : callable
        Takes queries and their blocks, int64 (pairs,) each; returns the rows of the blocks, int64 (pairs, block), and
        which of them there are, bool.
    """

    scores: Tensor
    margins: Tensor
    block: int
    rows_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def tile_rows(device: torch.device) -> int:
    """Return how many stored rows make a tile of products."""
    return TILE_ROWS.get(device.type, ACCELERATOR_TILE_ROWS)


def by_products(scorer: Scorer, group: Tensor, rows: int) -> Minima:
    """Find the minima of all blocks of `BLOCK` rows for a group of queries, int64 (n,)."""
    tile = tile_rows(group.device)
    minima = scorer.margin.new_empty(len(group), rows // BLOCK)

    def reduce_tile(part: slice) -> None:
        scores = scorer.tile(part.start, part.stop, group)
        blocks = scores.reshape(len(group), BLOCK, (part.stop - part.start) // BLOCK)
        torch.amin(blocks, 1, out=minima[:, part.start // BLOCK : part.stop // BLOCK])

    # inside a task over queries this goes on in its own worker; one task of few queries shares out the rows
    workers.map_over_workers(reduce_tile, chunks.slices(rows, tile), omp_get_max_threads())
    rows_of = functools.partial(_rows_of_tiles, rows=rows, tile=tile, block=BLOCK, n=rows)
    return Minima(minima, scorer.margin[group], BLOCK, rows_of)


def rounded_rows(vectors: Tensor, metric_type: int, bias: Tensor) -> Any:
    """Round stored rows for the kernels; what is stored in less than float32 they take as it is.

    Parameters
    ----------
    vectors : Tensor, shape (n, d)
    metric_type : int
    bias : Tensor, float32, shape (n,)
        Rows where it is +inf may hold anything.
    """
    from ..kernels.block_minima import rounded_rows as rounded
    from ..kernels.rounding import Rounded

    if vectors.dtype != torch.float32:
        return Rounded.as_stored(vectors, bias)
    return rounded(vectors, metric_type == METRIC_L2, bias)


class Found(NamedTuple):
    """What kernels find, without a host that waits.

    Attributes
    ----------
    distances : Tensor, float32, shape (nq, k)
        As of `verify.verified_topk`.
    positions : Tensor, int64, shape (nq, k)
        Rows of the scan, or -1.
    left : Tensor, bool, shape (nq,)
        The queries for which this is not what a search finds: it has to be done in another way.
    """

    distances: Tensor
    positions: Tensor
    left: Tensor


class Rows(NamedTuple):
    """Stored rows that kernels can search.

    Attributes
    ----------
    stored : Stored
    n : int
        Rows in use.
    metric_type : int
    rounded : object
        From `rounded_of`.
    """

    stored: Stored
    n: int
    metric_type: int
    rounded: Any


def rounded_of(
    kernel: str, stored: Stored, metric_type: int, rounded_for: RoundedFor | None, impl: str = "auto"
) -> Any:
    """Return stored rows as a kernel takes them, or None where it is not to be used.

    Parameters
    ----------
    kernel : str
        "block_minima" or "list_minima".
    stored : Stored
    metric_type : int
    rounded_for : RoundedFor or None
    impl : str
        One of `kernels.IMPLEMENTATIONS`.

    Raises
    ------
    RuntimeError
        If the kernel is asked for where it cannot run.
    """
    if rounded_for is None or not multiplies(stored, metric_type) or not stored.largest_norm < LARGEST_NORM:
        return None
    return kernels.run(kernel, stored.bias.device, impl, lambda: rounded_for.make(stored), lambda: None)


def search_by_kernels(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, rounded: Any, impl: str = "auto", slack: int = 1
) -> Found | None:
    """Find the k nearest of n stored rows; None where a kernel fails.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
        At least one query.
    stored : Stored
    n, k, metric_type : int
    rounded : object
        From `rounded_of`.
    impl : str
    slack : int
        See `blocks_wanted`.
    """
    from ..kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], k)
    width = -(-n // rows) + kernel.BLOCKS
    wanted = blocks_wanted(k, slack, width)
    query_bytes = 4 * width + 4 * wanted[1] * rows

    def part(queries: slice) -> Found | None:
        def by_kernels() -> Found:
            return _of_blocks(xq[queries], stored, n, k, metric_type, rounded, rows, wanted)

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return joined(in_portions(part, len(xq), query_bytes))


def blocks_wanted(k: int, slack: int, width: int) -> tuple[int, int]:
    """Return how many of so many blocks of a query are looked at again: those wanted, and with equal ones at most.

    Of a million normal vectors of 128 components few queries have more than two or three blocks that could hold one of
    their k nearest, beside the k that do; of vectors stored in bfloat16, k / 10 more.
    """
    from ..kernels.smallest import folded_slack

    wanted = k + slack * max(8, k // 4)
    return wanted, wanted + max(8, wanted // 8) + folded_slack(wanted, width)


def with_more_slack(found: Found, search_again: Callable[[Tensor, int], Found | None]) -> Found:
    """Search again for the queries that are left, with more blocks; this waits for the device.

    Parameters
    ----------
    found : Found
        What comes back, with what is found now written to it.
    search_again : callable
        Takes queries, int64, (n,), and a slack, and returns what is found for these.
    """
    if not bool(found.left.any()):
        return found
    again = found.left.nonzero().view(-1)
    more = search_again(again, MORE_SLACK)
    if more is not None:
        found.distances[again], found.positions[again], found.left[again] = more
    return found


def in_portions(part: Callable[[slice], Result | None], nq: int, query_bytes: int) -> list[Result] | None:
    """Search for so many queries at a time as memory suffices for; None where it is of one of the parts."""
    found = list[Result]()
    for some in chunks.slices(nq, chunks.rows_within(query_bytes, MINIMA_BYTES)):

        def search_part(queries: slice, begin: int = some.start) -> Result | None:
            return part(slice(begin + queries.start, begin + queries.stop))

        for each in memory.halved_if_short(search_part, some.stop - some.start, "queries"):
            if each is None:
                return None
            found.append(each)
    return found


def joined(parts: list[Found] | None) -> Found | None:
    """Join what was found for parts of the queries."""
    if parts is None or len(parts) == 1:
        return None if parts is None else parts[0]
    return Found(*(torch.cat(each) for each in zip(*parts, strict=True)))


class Within(NamedTuple):
    """What kernels find of the rows within a radius.

    Attributes
    ----------
    candidates : list of Candidates
        Rows that may be within it; of the queries that are not left, all.
    left : Tensor, bool, shape (nq,)
        The queries of which nothing is known.
    """

    candidates: list[Candidates]
    left: Tensor

    @staticmethod
    def joined(parts: list[Within] | None) -> Within | None:
        """Join what was found for parts of the queries."""
        if parts is None:
            return None
        return Within([each for part in parts for each in part.candidates], torch.cat([part.left for part in parts]))

    def completed(self, by_scores: Callable[[Tensor], list[Candidates]], per_query: int) -> list[Candidates]:
        """Return the candidates of all queries: see `tile_verify.within_radius` for `by_scores`."""
        if not bool(self.left.any()):
            return self.candidates
        again = self.left.nonzero().view(-1)
        return self.candidates + [each.renumbered(again, per_query) for each in by_scores(again)]


def candidates_by_kernels(
    xq: Tensor, stored: Stored, n: int, radius: float, metric_type: int, rounded: Any, impl: str = "auto"
) -> Within | None:
    """Find the rows that may be within a radius; None where a kernel fails.

    Parameters
    ----------
    xq, stored, n, metric_type, rounded, impl
        As of `search_by_kernels`.
    radius : float
    """
    from ..kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], RANGE_NEIGHBOURS)

    def part(queries: slice) -> Within | None:
        def by_kernels() -> Within:
            minima, halves = kernel.block_minima(xq[queries], rounded, rows)
            largest = largest_scores(radius, halves, xq.shape[1], metric_type)
            query, column = (minima <= largest[:, None]).nonzero(as_tuple=True)
            firsts = first_rows(column, kernel.BLOCKS, rows)
            found = rows_within(query + queries.start, firsts, torch.full_like(firsts, n), rows, kernel.BLOCKS, stored)
            return Within([found], ~(halves < float("inf")))

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return Within.joined(in_portions(part, len(xq), 4 * (-(-n // rows) + kernel.BLOCKS)))


def largest_scores(radius: float, halves: Tensor, d: int, metric_type: int) -> Tensor:
    """Return what the scores of rows within a radius are at most, for queries of these halved squared norms: (nq,)."""
    if metric_type == METRIC_INNER_PRODUCT:
        return torch.full_like(halves, -radius)
    return (radius / 2 - halves) + (d + 16) * 2.0**-22 * (abs(radius) / 2 + halves)


def first_rows(columns: Tensor, blocks: int, rows: int) -> Tensor:
    """Return the first rows of blocks: block j of a tile with so many holds its rows j, j + blocks, j + 2 blocks ..."""
    return columns // blocks * (blocks * rows) + columns % blocks


def rows_within(keys: Tensor, firsts: Tensor, ends: Tensor, rows: int, stride: int, stored: Stored) -> Candidates:
    """Return the rows of blocks, each with its block's key: those below its end that may be found."""
    positions = firsts[:, None] + torch.arange(0, rows * stride, stride, device=firsts.device)
    there = positions < ends[:, None]
    there &= stored.bias[positions.masked_fill(~there, 0)] < float("inf")
    found = positions[there]
    return Candidates(keys[:, None].expand_as(positions)[there], found, stored.bias.new_zeros(len(found)))


def _of_blocks(
    xq: Tensor,
    stored: Stored,
    n: int,
    k: int,
    metric_type: int,
    rounded: Any,
    rows: int,
    wanted: tuple[int, int],
) -> Found:
    from ..kernels import block_minima as kernel
    from ..kernels.block_rows import Blocks, closest
    from ..kernels.smallest import smallest

    minima, halves = kernel.block_minima(xq, rounded, rows)
    columns, counts, bounds = smallest(minima, *wanted)
    firsts = first_rows(columns.long(), kernel.BLOCKS, rows)
    blocks = Blocks(firsts, torch.full_like(firsts, n), counts, bounds, halves, rows, kernel.BLOCKS)
    similarity = metric_type == METRIC_INNER_PRODUCT
    return Found(*closest(xq, stored.vectors, stored.bias, stored.rows, None, blocks, k, similarity))


def search(
    scorer: Scorer, group: Tensor, minima: Minima, k: int, similarity: bool, ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Look again at the blocks that may hold a neighbour.

    Parameters
    ----------
    scorer : Scorer
    group : Tensor, int64, shape (g,)
        Queries.
    minima : Minima
        Theirs.
    k : int
    similarity : bool
    ids : Tensor, int64, or None
        The id of each stored row, which decides between equal distances; None where that is the row.

    Returns
    -------
    distances : Tensor, float32, shape (g, k)
    positions : Tensor, int64, shape (g, k)
        As in `verify.verified_topk`.
    """
    thresholds = topk.smallest(minima.scores, k)[0].amax(1) + minima.margins
    query, block = ((minima.scores <= thresholds[:, None]) & (minima.scores < float("inf"))).nonzero(as_tuple=True)
    counts = torch.bincount(query, minlength=len(group))
    distances = scorer.margin.new_empty(len(group), k)
    found = group.new_empty(len(group), k)
    width = max(1, int(counts.max()))
    begins = counts.cumsum(0) - counts
    row_bytes = 4 * minima.block * width * (scorer.xq.shape[1] + 4)
    budget = CANDIDATE_BYTES.get(group.device.type, MINIMA_BYTES)
    for some in chunks.slices(len(group), chunks.rows_within(row_bytes, budget)):
        pairs = slice(int(begins[some.start]), int(begins[some.stop - 1] + counts[some.stop - 1]))
        positions, present = _of_queries(*minima.rows_of(query[pairs], block[pairs]), counts[some])
        scores = scorer.gathered(group[some], positions).masked_fill_(~present, float("inf"))
        distances[some], found[some] = verified_topk(scorer, group[some], scores, positions, ids, k, similarity)
    return distances, found


def _of_queries(rows: Tensor, there: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out rows of blocks, (pairs, block), by their queries, which have so many: (n, width * block) each."""
    width, block = max(1, int(counts.max())), rows.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(counts), device=rows.device), counts, output_size=len(rows))
    target = (owner, lists.rank_in_run(owner, counts))
    positions = rows.new_zeros(len(counts), width, block)
    present = torch.zeros(len(counts), width, block, dtype=torch.bool, device=rows.device)
    positions[target], present[target] = rows.masked_fill(~there, 0), there
    return positions.view(len(counts), -1), present.view(len(counts), -1)


def _rows_of_tiles(
    queries: Tensor, blocks: Tensor, *, rows: int, tile: int, block: int, n: int
) -> tuple[Tensor, Tensor]:
    """Rows of blocks: block j of a tile with m blocks holds its rows j, j + m, j + 2 m ...; the first n are there."""
    begin = blocks * block // tile * tile
    stride = (rows - begin).clamp_(max=tile) // block
    first = blocks - begin // block + begin
    positions = first[:, None] + torch.arange(block, device=blocks.device) * stride[:, None]
    return positions, positions < n
