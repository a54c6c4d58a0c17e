"""Verification: true distances for the candidates that passed the screen, with a certificate per query.

The certificate of a query: every candidate whose screened score is within the scorer's margin of the k-th smallest
one has had its true distance computed. The k-th true score is then at most that k-th screened score plus half the
margin, and whatever was left out has a true score above it. Where the screened scores are lower bounds of the true
ones, the k-th true score itself lies under the bounds of all that were left out. A query without its certificate is
done again with more of its candidates, at last with all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...constants import FLT_MAX
from . import topk
from .scorers import Scorer

#: Candidates verified beyond k at the first try.
SLACK = 8

#: The same, beyond 2 k, where the scores are lower bounds in a coarser arithmetic.
BOUNDED_SLACK = 24


def verified_topk(
    scorer: Scorer,
    queries: Tensor,
    scores: Tensor,
    positions: Tensor,
    ids: Tensor | None,
    k: int,
    similarity: bool,
    largest_scores: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the k closest candidates of each query by true distance.

    Parameters
    ----------
    scorer : Scorer
    queries : Tensor, int64, shape (n,)
    scores : Tensor, float32, shape (n, width)
        Screened scores of all candidates of these queries, +inf where there is none.
    positions : Tensor, int64, shape (n, width) or (width,)
        Stored rows of the candidates; any valid row where there is none.
    ids : Tensor, int64, or None
        The id of each stored row; None where the row is the id.
    k : int
    similarity : bool
        Whether a larger distance is closer.
    largest_scores : callable, optional
        Given where `scores` are lower bounds of the true ones: what the score of a row at a distance of a query is at
        most (queries and distances, (n,), -> (n,)).

    Returns
    -------
    distances : Tensor, float32, shape (n, k)
        Sorted, ties by id; +-FLT_MAX where there are fewer than k candidates.
    positions : Tensor, int64, shape (n, k)
        Stored rows; -1 where there are fewer.
    """
    missing = -torch.finfo(torch.float32).max if similarity else torch.finfo(torch.float32).max
    if scorer.exact:
        keys, found = _smallest(scores, positions, ids, k)
        found = found.masked_fill_(keys == FLT_MAX, -1)
        return topk.pad(keys.neg_() if similarity else keys, k, missing), topk.pad(found, k, -1)
    distances = scores.new_empty(len(queries), k)
    found = positions.new_empty(len(queries), k)
    pending = torch.arange(len(queries), dtype=torch.int64, device=scores.device)
    verified = k + SLACK if largest_scores is None else 2 * k + BOUNDED_SLACK
    while len(pending):
        whole = len(pending) == len(queries)
        pending_scores = scores if whole else scores[pending]
        pending_positions = positions if whole or positions.ndim == 1 else positions[pending]
        some_scores, columns = topk.smallest(pending_scores, verified)
        some_positions = positions[columns] if positions.ndim == 1 else pending_positions.gather(1, columns)
        D, where = _closest(scorer, queries[pending], some_scores, some_positions, ids, k, similarity)
        distances[pending] = topk.pad(D, k, missing)
        found[pending] = topk.pad(where, k, -1)
        if verified >= scores.shape[1]:
            break
        if largest_scores is None:
            kth = some_scores.sort(dim=1).values[:, k - 1]  # of kthvalue CUDA has no deterministic form
            uncertain = (some_scores.amax(1) <= kth + scorer.margin[queries[pending]]) & (kth < float("inf"))
        else:
            last = some_scores.amax(1)
            uncertain = (last <= largest_scores(queries[pending], D[:, -1])) & (last < float("inf"))
        pending = pending[uncertain]
        verified *= 4
    return distances, found


def _smallest(scores: Tensor, positions: Tensor, ids: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Sort the k smallest scores, (n, width), which are distances: (n, min(k, width)) of them, and their positions.

    Of equal scores the lowest ids are kept. Scores of few distinct values tie by the hundred.
    """

    def ids_at(where: Tensor) -> Tensor:
        return where if ids is None else ids[where]

    positions = positions.expand(scores.shape)
    if not scores.shape[1]:
        return scores, positions
    best, columns = topk.smallest(scores, k + SLACK)
    found = positions.gather(1, columns)
    kth = best.sort(dim=1).values[:, min(k, best.shape[1]) - 1]
    tied = (best.amax(1) <= kth) & (kth < float("inf"))
    if best.shape[1] < scores.shape[1] and bool(tied.any()):
        rows = tied.nonzero().view(-1)
        some = positions[rows]
        equal = scores[rows] == kth[rows, None]
        last = torch.iinfo(torch.int64).max
        where = torch.where(equal, ids_at(some), last).topk(best.shape[1], dim=1, largest=False).indices
        # the lowest ids of those that tie, beside those that are smaller
        smaller = best[rows].masked_fill(best[rows] == kth[rows, None], float("inf"))
        others = kth[rows, None].expand(where.shape).masked_fill(~equal.gather(1, where), float("inf"))
        values = torch.cat([smaller, others], 1)
        both = torch.cat([found[rows], some.gather(1, where)], 1)
        values, order = topk.sort_rows(values, ids_at(both), best.shape[1])
        best[rows], found[rows] = values, both.gather(1, order)
    best = best.masked_fill(~(best < FLT_MAX), FLT_MAX)
    best, order = topk.sort_rows(best, ids_at(found), min(k, best.shape[1]))
    return best, found.gather(1, order)


def _closest(
    scorer: Scorer,
    queries: Tensor,
    scores: Tensor,
    positions: Tensor,
    ids: Tensor | None,
    k: int,
    similarity: bool,
) -> tuple[Tensor, Tensor]:
    """Sort candidates by true distance: (n, width) -> two of (n, min(k, width)), missing ones last."""
    missing = torch.finfo(torch.float32).max
    keys = scorer.distances(queries, positions)
    if similarity:
        keys = keys.neg_()
    # faiss keeps a result only if it is closer than its filler: no NaN, and no distance of FLT_MAX or more
    none = ~(keys < missing) | (scores == float("inf"))
    keys = keys.masked_fill_(none, missing)
    keys, columns = topk.sort_rows(keys, positions if ids is None else ids[positions], min(k, keys.shape[1]))
    positions = positions.gather(1, columns).masked_fill_(keys == missing, -1)
    return (keys.neg_() if similarity else keys), positions
