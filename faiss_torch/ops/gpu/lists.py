"""The scan of inverted lists on a GPU, by the smallest scores of blocks of their rows.

As in `block_minima`, of which this is the form for lists: a kernel finds the minima of blocks of the probed lists in
16 bits, and only the blocks that may hold a neighbour are looked at again. Where a query looks at many rows, its
nearest lists give a threshold first, and of the others only the minima below that are kept. See `kernels.list_minima`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import kernels
from ...constants import FLT_MAX, METRIC_INNER_PRODUCT
from ..scoring.stored import Lists, allowed_rows
from . import flat
from .search import (
    MOST_NEIGHBOURS,
    RANGE_NEIGHBOURS,
    Found,
    Rows,
    Within,
    blocks_wanted,
    first_rows,
    in_portions,
    joined,
    largest_scores,
    rounded_of,
    rows_within,
)

#: Share of the lists that give a threshold, and minima of them for each neighbour that is wanted.
FIRST_SHARE, MINIMA_A_NEIGHBOUR = 1 / 8, 4

#: Programs that share out a list, at most.
MOST_SHARES = 1024

#: Rows of a list that count for a threshold.
FIRST_ROWS = 4096

#: Blocks below the threshold that are kept, for each neighbour that is wanted, and at least.
HITS_A_NEIGHBOUR, LEAST_HITS = 16, 512


def probe_and_search(
    xq: Tensor, centroids: Rows, nprobe: int, lists: Lists, k: int, metric_type: int, by_list: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """Choose the lists of queries and search them, without waiting for the device.

    Parameters
    ----------
    xq, lists, k, metric_type, by_list
        As of `search`.
    centroids : Rows
        Of the lists; there are `nprobe` at least.
    nprobe : int

    Returns
    -------
    distances, positions, left : Tensor
        As of `search`.
    nlist, ndis : Tensor, int64, shape (nq,)
        Lists of each query that have rows, and the rows of all of these.
    """
    if max(k, nprobe) > MOST_NEIGHBOURS:
        return None
    stored, metric = centroids.stored, centroids.metric_type
    coarse = flat.search_by_kernels(xq, stored, centroids.n, nprobe, metric, centroids.rounded)
    if coarse is None:
        return None
    rows = allowed_rows(coarse.positions, lists.sizes_there, 0)
    found = search(xq, lists, coarse.positions, rows, k, metric_type, by_list)
    if found is None:
        return None
    return found.distances, found.positions, found.left | coarse.left, rows.count_nonzero(1), rows.sum(1)


class _Plan(NamedTuple):
    """How lists are scanned.

    Attributes
    ----------
    first : int
        So many of the lists give a threshold; 0 where the minima of all lists are stored.
    rows : int
        Rows of a block of those that are stored.
    """

    first: int
    rows: int


def search(
    xq: Tensor,
    lists: Lists,
    probes: Tensor,
    rows: Tensor,
    k: int,
    metric_type: int,
    by_list: bool = True,
    impl: str = "auto",
    slack: int = 1,
) -> Found | None:
    """Return the k closest rows of the probed lists; None where the kernels are not to be used, or fail.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
    lists : Lists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query, nearest first, and how many rows of each count.
    k : int
    metric_type : int
    by_list : bool
        Whether each list is read once for all queries that probe it; else each query reads its lists, which is faster
        where few queries share one.
    impl : str
        One of `kernels.IMPLEMENTATIONS`.
    slack : int
        See `gpu.search.blocks_wanted`.
    """
    rounded = None
    if k <= MOST_NEIGHBOURS:
        rounded = rounded_of("list_minima", lists.stored, metric_type, lists.rounded_for, impl)
    if rounded is None:
        return None
    nq, nprobe = probes.shape
    largest = int(lists.sizes.max())
    if not nq or not nprobe or not largest:
        missing = -FLT_MAX if metric_type == METRIC_INNER_PRODUCT else FLT_MAX
        nothing = torch.full((nq, k), -1, dtype=torch.int64, device=xq.device)
        left = torch.zeros(nq, dtype=torch.bool, device=xq.device)
        return Found(xq.new_full((nq, k), missing), nothing, left)
    plan = _plan(nprobe, float(lists.sizes.double().mean()), xq.shape[1], k, by_list)
    begins = lists.begins_there
    stored_lists, most = (plan.first, min(largest, FIRST_ROWS)) if plan.first else (nprobe, largest)
    hits = _hits_wanted(k, slack) if plan.first else 0
    width = stored_lists * (most // plan.rows + 64)
    query_bytes = 4 * (width + 3 * hits + blocks_wanted(k, slack, width)[1] * plan.rows)

    def part(queries: slice) -> Found | None:
        scan = _Scan(xq[queries], lists, rounded, begins, probes[queries], rows[queries], by_list)
        return kernels.run(
            "list_minima", xq.device, impl, lambda: scan.closest(plan, most, k, metric_type, slack), lambda: None
        )

    return joined(in_portions(part, nq, query_bytes))


def candidates(
    xq: Tensor,
    lists: Lists,
    probes: Tensor,
    rows: Tensor,
    radius: float,
    metric_type: int,
    by_list: bool = True,
    impl: str = "auto",
) -> Within | None:
    """Find the rows of the probed lists that may be within a radius; None as of `search`.

    Their keys are ``query * nprobe + rank``.
    """
    rounded = rounded_of("list_minima", lists.stored, metric_type, lists.rounded_for, impl)
    if rounded is None:
        return None
    nq, nprobe = probes.shape
    most = int(lists.sizes.max())
    if not nq or not nprobe or not most:
        return Within([], torch.zeros(nq, dtype=torch.bool, device=xq.device))
    rows_of_block = _rows_of_block(nprobe, float(lists.sizes.double().mean()), xq.shape[1], RANGE_NEIGHBOURS)
    begins = lists.begins_there

    def part(queries: slice) -> Within | None:
        scan = _Scan(xq[queries], lists, rounded, begins, probes[queries], rows[queries], by_list)
        return kernels.run(
            "list_minima",
            xq.device,
            impl,
            lambda: scan.within(rows_of_block, most, radius, metric_type, queries.start),
            lambda: None,
        )

    return Within.joined(in_portions(part, nq, 4 * nprobe * (most // rows_of_block + 64)))


def _plan(nprobe: int, mean_size: float, d: int, k: int, by_list: bool) -> _Plan:
    """Choose a threshold from the nearest lists where the others have many times as many rows as it needs."""
    rows = _rows_of_block(nprobe, mean_size, d, k)
    wanted = MINIMA_A_NEIGHBOUR * k
    size = max(1.0, min(mean_size, FIRST_ROWS))
    first = max(1, int(nprobe * FIRST_SHARE), -(-int(wanted * rows) // int(size)))
    return _Plan(first if by_list and 2 * first <= nprobe else 0, rows)


def _rows_of_block(nprobe: int, mean_size: float, d: int, k: int) -> int:
    from ...kernels import block_minima as kernel
    from ...kernels.list_minima import MOST_ROWS

    return min(MOST_ROWS, kernel.rows_of_block(int(nprobe * mean_size), d, k))


def _hits_wanted(k: int, slack: int) -> int:
    return slack * max(LEAST_HITS, HITS_A_NEIGHBOUR * k)


class _Scan(NamedTuple):
    """Queries and the lists that they probe."""

    xq: Tensor
    lists: Lists
    rounded: Any
    begins: Tensor
    probes: Tensor
    limits: Tensor
    by_list: bool

    def closest(self, plan: _Plan, most: int, k: int, metric_type: int, slack: int) -> Found:
        """Find the k closest rows: by thresholds, or of all blocks."""
        from ...kernels import list_minima as kernel
        from ...kernels import tuning
        from ...kernels.block_rows import Blocks, closest
        from ...kernels.smallest import smallest

        full: Tensor | None = None
        if not plan.first:
            rows = plan.rows
            minima, halves = self._minima(most, rows)
            columns, counts, bounds = smallest(minima, *blocks_wanted(k, slack, minima.shape[1]))
            ranks, inner = self._places(columns.long(), most, rows)
            firsts = self._begins().gather(1, ranks) + inner
        else:
            rows = tuning.THRESHOLD_ROWS
            width = _hits_wanted(k, slack)
            scan = kernel.Scan(self.xq, self.rounded, self._groups(), self.limits, rows)
            hits = kernel.minima_below(scan, self._thresholds(plan, most, k), width)
            halves, full = hits.halves, hits.counts > width
            columns, counts, bounds = smallest(hits.minima, *blocks_wanted(k, slack, width), hits.counts)
            names = hits.names.gather(1, columns.long())
            ranks, firsts = names // kernel.RANK, names % kernel.RANK
        ends = self._ends().gather(1, ranks)
        blocks = Blocks(firsts, ends, counts, bounds, halves, rows, kernel.BLOCKS)
        stored, similarity = self.lists.stored, metric_type == METRIC_INNER_PRODUCT
        found = Found(
            *closest(self.xq, stored.vectors, stored.bias, stored.rows, self.lists.ids, blocks, k, similarity)
        )
        return found if full is None else found._replace(left=found.left | full)

    def _thresholds(self, plan: _Plan, most: int, k: int) -> Tensor:
        """What no query's k-th smallest score exceeds: from upper bounds of the rows of its nearest lists."""
        from ...kernels.smallest import smallest

        nearest = self._replace(
            probes=self.probes[:, : plan.first].contiguous(),
            limits=self.limits[:, : plan.first].clamp(max=most),
        )
        return smallest(nearest._minima(most, plan.rows, upper=True)[0], k, 1)[2]

    def _minima(self, most: int, rows: int, upper: bool = False) -> tuple[Tensor, Tensor]:
        """The minima of all blocks of the lists, none of which has more rows than `most`, and half the squared norms of
        the queries."""
        from ...kernels import list_minima as kernel

        groups, shares = self._groups(), 1
        if not self.by_list:
            shares = min(MOST_SHARES, max(1, most // (rows * kernel.BLOCKS)))
        scan = kernel.Scan(self.xq, self.rounded, groups, self.limits, rows)
        return kernel.all_minima(scan, most, shares, upper)

    def _groups(self) -> Any:
        from ...kernels.list_minima import Groups

        if not self.by_list:
            return Groups.single(self.probes, self.begins)
        return Groups.by_list(self.probes, self.limits, self.begins, self.xq.shape[1])

    def within(self, rows: int, most: int, radius: float, metric_type: int, first_query: int) -> Within:
        """Find the rows that may be within a radius, of queries that are numbered from `first_query` on."""
        from ...kernels import list_minima as kernel

        minima, halves = self._minima(most, rows)
        largest = largest_scores(radius, halves, self.xq.shape[1], metric_type)
        query, column = (minima <= largest[:, None]).nonzero(as_tuple=True)
        ranks, inner = self._places(column, most, rows)
        keys = (query + first_query) * self.probes.shape[1] + ranks
        firsts, ends = self._begins()[query, ranks] + inner, self._ends()[query, ranks]
        found = rows_within(keys, firsts, ends, rows, kernel.BLOCKS, self.lists.stored)
        return Within([found], ~(halves < float("inf")))

    def _places(self, columns: Tensor, most: int, rows: int) -> tuple[Tensor, Tensor]:
        """The ranks of the lists of blocks, and their first rows in these, by their columns among all minima."""
        from ...kernels import list_minima as kernel

        blocks = kernel.blocks_of(most, rows)
        return columns // blocks, first_rows(columns % blocks, kernel.BLOCKS, rows)

    def _begins(self) -> Tensor:
        """The first row of each probed list."""
        return self.begins[self.probes.clamp(min=0)]

    def _ends(self) -> Tensor:
        """Where the rows end that a query looks at."""
        return self._begins() + self.limits
