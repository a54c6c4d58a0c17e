"""What searches by kernels have in common, flat ones and those of inverted lists.

The host queues kernels and does not look at what they find. For each query they say whether it is certain; one that is
not is *left*: it is searched again with more blocks, and then without kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ... import kernels
from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..runtime import chunks, memory
from ..runtime.cuda_graphs import Graphs
from ..scoring.candidates import Candidates
from ..scoring.scorers import multiplies
from ..scoring.stored import Stored

Result = TypeVar("Result")

#: Bytes of minima that are stored at a time.
MINIMA_BYTES = 1 << 30

#: Neighbours that kernels find, at most.
MOST_NEIGHBOURS = 4096

#: Neighbours that a query is expected to have within a radius.
RANGE_NEIGHBOURS = 64

#: Norms of rows whose scores with queries do not overflow where half of the squared norms of these do not.
LARGEST_NORM = 1e18

#: The slack of a second try.
MORE_SLACK = 8


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


def rounded_rows(vectors: Tensor, metric_type: int, bias: Tensor, room: int = 0) -> Any:
    """Round stored rows for the kernels; what is stored in less than float32 they take as it is.

    Parameters
    ----------
    vectors : Tensor, shape (n, d)
    metric_type : int
    bias : Tensor, float32, shape (n,)
        Rows where it is +inf may hold anything.
    room : int
        Rows that there is to be room for, where they are copied: see `rewritten_rows`.
    """
    from ...kernels.block_minima import rounded_rows as rounded
    from ...kernels.rounding import Rounded

    if vectors.dtype != torch.float32:
        return Rounded.as_stored(vectors, bias)
    return rounded(vectors, metric_type == METRIC_L2, bias, room)


def rewritten_rows(rounded: Any, rows: Tensor, vectors: Tensor, metric_type: int, bias: Tensor) -> Any:
    """Round some of the rows anew; None where that cannot be done without the others.

    Parameters
    ----------
    rounded : object
        From `rounded_rows`; what it holds is written to.
    rows : Tensor, int64
    vectors, metric_type, bias
        As of `rounded_rows`, of all rows: there may be more than there were.
    """
    if vectors.dtype != torch.float32:
        return rounded.extended(rows, vectors, bias)
    return rounded.rewritten(rows, vectors, bias, metric_type == METRIC_L2)


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


def blocks_wanted(k: int, slack: int, width: int) -> tuple[int, int]:
    """Return how many of so many blocks of a query are looked at again: those wanted, and with equal ones at most.

    Of a million normal vectors of 128 components few queries have more than two or three blocks that could hold one of
    their k nearest, beside the k that do; of vectors stored in bfloat16, k / 10 more.
    """
    from ...kernels.smallest import folded_slack

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
        """Return the candidates of all queries: see `tiles.verify.within_radius` for `by_scores`."""
        if not bool(self.left.any()):
            return self.candidates
        again = self.left.nonzero().view(-1)
        return self.candidates + [each.renumbered(again, per_query) for each in by_scores(again)]


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
    positions = firsts[:, None] + torch.arange(0, rows * stride, stride, dtype=torch.int64, device=firsts.device)
    there = positions < ends[:, None]
    there &= stored.bias[positions.masked_fill(~there, 0)] < float("inf")
    found = positions[there]
    return Candidates(keys[:, None].expand_as(positions)[there], found, stored.bias.new_zeros(len(found)))
