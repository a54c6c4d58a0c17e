"""Collectors: what happens to the candidates that a scan lets through.

A scan gives every collector the same three columns (pair or query, stored row, score). `top_k_of` keeps the k
closest of each query; `in_range` keeps all within a radius. Both verify, so what they return is true distances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..runtime import chunks, workers
from .distances import METRICS
from .scorers import Scorer
from .verify import verified_topk

#: Queries that one task of `top_k_of` finishes.
QUERIES_A_TASK = 512

#: The most queries whose numbers are int16.
LARGEST_INT16 = 1 << 15

#: Bytes of scores and positions that one task of `top_k_of` pads its queries to.
PADDED_BYTES = 32 << 20


class Candidates(NamedTuple):
    """Candidates of many queries, in any order.

    Attributes
    ----------
    keys : Tensor, int64
        A number that sorts by query: the query, or ``query * nprobe + rank`` of the list it was found in.
    positions : Tensor, int64
        Stored rows.
    scores : Tensor, float32
        Screened scores.
    """

    keys: Tensor
    positions: Tensor
    scores: Tensor

    @staticmethod
    def concatenate(parts: list[Candidates], device: torch.device) -> Candidates:
        """Join the candidates of several tiles or workers."""
        if not parts:
            nothing = torch.empty(0, dtype=torch.int64, device=device)
            return Candidates(nothing, nothing, torch.empty(0, dtype=torch.float32, device=device))
        return Candidates(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def queries(self, per_query: int) -> Tensor:
        """Return the query of each."""
        return self.keys if per_query == 1 else torch.div(self.keys, per_query, rounding_mode="floor")

    def chosen(self, mask: Tensor) -> Candidates:
        """Return those that a mask chooses."""
        return Candidates(self.keys[mask], self.positions[mask], self.scores[mask])

    def renumbered(self, queries: Tensor, per_query: int) -> Candidates:
        """Return them with other queries: query i becomes ``queries[i]``."""
        old = self.queries(per_query)
        return self._replace(keys=self.keys + (queries[old] - old) * per_query)


def top_k_of(
    candidates: Candidates,
    per_query: int,
    scorer: Scorer,
    ids: Tensor | None,
    k: int,
    metric_type: int,
    largest_scores: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the k closest candidates of each query.

    Parameters
    ----------
    candidates : Candidates
    per_query : int
        How many keys a query has: its key divided by this is the query.
    scorer : Scorer
    ids : Tensor or None
        The id of each stored row; None where the row is the id.
    k : int
    metric_type : int
    largest_scores
        As in `verify.verified_topk`.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
        As in `verify.verified_topk`.
    """
    similarity = METRICS[metric_type].similarity
    nq = scorer.nq
    if nq == 1 and len(candidates.keys):
        scores, rows = candidates.scores[None], candidates.positions[None]
        return verified_topk(scorer, torch.zeros_like(rows[0, :1]), scores, rows, ids, k, similarity, largest_scores)
    queries = candidates.queries(per_query)
    # narrow keys sort in a third of the time
    order = queries.to(torch.int16 if nq <= LARGEST_INT16 else torch.int32).argsort(stable=True)
    counts = torch.bincount(queries, minlength=nq)
    begins = counts.cumsum(0) - counts
    # queries with similar numbers of candidates are padded together, so that one query with many costs no other
    by_count = counts.argsort()
    sorted_counts = counts.index_select(0, by_count)
    distances = candidates.scores.new_empty(nq, k)
    found = queries.new_empty(nq, k)
    nothing = not len(queries)

    def part(rows: slice) -> None:
        some = by_count[rows]
        lengths = sorted_counts[rows]
        width = max(1, int(lengths[-1]))
        # each query's own, and behind them those of the next ones, which do not count
        columns = torch.arange(width, dtype=torch.int64, device=some.device)
        source = (begins.index_select(0, some)[:, None] + columns).clamp_(max=max(0, len(queries) - 1)).view(-1)
        source = torch.zeros_like(source) if nothing else order.index_select(0, source)
        padded = candidates.scores.new_empty(len(source)) if nothing else candidates.scores.index_select(0, source)
        padded = padded.view(-1, width).masked_fill_(columns >= lengths[:, None], float("inf"))
        rows_found = source if nothing else candidates.positions.index_select(0, source)
        distances[some], found[some] = verified_topk(
            scorer, some, padded, rows_found.view(-1, width), ids, k, similarity, largest_scores
        )

    workers.map_over_workers(part, _tasks(sorted_counts.tolist()), omp_get_max_threads())
    return distances, found


def _tasks(sorted_counts: list[int]) -> list[slice]:
    """Cut queries, sorted by their number of candidates, so that each padded piece stays within its budget."""
    tasks = []
    end = len(sorted_counts)
    while end > 0:
        rows = min(QUERIES_A_TASK, chunks.rows_within(12 * max(1, sorted_counts[end - 1]), PADDED_BYTES))
        tasks.append(slice(max(0, end - rows), end))
        end -= rows
    return tasks


def in_range(
    candidates: Candidates,
    per_query: int,
    scorer: Scorer,
    radius: float,
    metric_type: int,
    max_empty_lists: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all candidates within a radius: below it, or above it for a similarity.

    Parameters
    ----------
    candidates, per_query, scorer
        As in `top_k_of`.
    radius : float
    metric_type : int
    max_empty_lists : int
        Once this many lists in a row, in the order of the keys of a query, have given it nothing, what later ones
        give is left out; 0 for no limit.

    Returns
    -------
    lims : Tensor, int64, shape (nq + 1,)
        The results of query i are ``[lims[i]:lims[i + 1]]``.
    distances : Tensor, float32
    positions : Tensor, int64
        Stored rows, by key and then ascending.
    """
    queries = candidates.queries(per_query)
    similarity = METRICS[metric_type].similarity
    if scorer.exact:
        distances = candidates.scores.neg() if similarity else candidates.scores
    else:
        distances = _distances(candidates, queries, scorer)
    inside = distances > radius if similarity else distances < radius
    keys, positions, distances = candidates.keys[inside], candidates.positions[inside], distances[inside]
    queries = queries[inside]
    if max_empty_lists:
        kept = before_giving_up(keys, scorer.nq, per_query, max_empty_lists)
        keys, positions, distances, queries = keys[kept], positions[kept], distances[kept], queries[kept]
    order = positions.argsort(stable=True)
    order = order[keys[order].argsort(stable=True)]
    lims = torch.zeros(scorer.nq + 1, dtype=torch.int64, device=keys.device)
    lims[1:] = torch.bincount(queries, minlength=scorer.nq).cumsum(0)
    return lims, distances[order], positions[order]


def _distances(candidates: Candidates, queries: Tensor, scorer: Scorer) -> Tensor:
    """The true distance of each candidate."""
    distances = torch.empty_like(candidates.scores)

    def part(rows: slice) -> None:
        distances[rows] = scorer.distances(queries[rows], candidates.positions[rows, None]).squeeze(1)

    workers.map_over_workers(part, chunks.slices(len(queries), 1 << 16), omp_get_max_threads())
    return distances


def before_giving_up(keys: Tensor, nq: int, per_query: int, max_empty_lists: int) -> Tensor:
    """Return which results are of lists that a query looks at before it gives up.

    Parameters
    ----------
    keys : Tensor, int64, shape (n,)
        ``query * per_query + rank`` of the list that each result was found in.
    nq, per_query : int
    max_empty_lists : int
        A query gives up behind so many lists in a row in which it found nothing.

    Returns
    -------
    Tensor, bool, shape (n,)
    """
    if max_empty_lists >= per_query:
        return torch.ones_like(keys, dtype=torch.bool)
    results = torch.bincount(keys, minlength=nq * per_query).view(nq, per_query)
    # so many lists in a row are empty if the running number of results is the same before and behind them
    running = torch.nn.functional.pad(results.cumsum(1), (1, 0))
    gives_up = running[:, max_empty_lists:] == running[:, :-max_empty_lists]
    gave_up = gives_up.cumsum(1) > 0
    return ~torch.nn.functional.pad(gave_up, (max_empty_lists - 1, 0), value=False).view(-1)[keys]
