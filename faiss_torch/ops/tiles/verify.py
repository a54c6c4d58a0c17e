"""Verification of what a scan of tiles lets through: true distances, and the certificates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...constants import FLT_MAX, METRIC_INNER_PRODUCT
from ..runtime import chunks
from ..scoring.candidates import Candidates, top_k_of
from ..scoring.scorers import Scorer
from .scan import Scan, Visits
from .tile import largest_scores
from .tile_set import TileSet

#: A range search gives up queries with more survivors than a search for so many neighbours may have.
RANGE_NEIGHBOURS = 64

#: Searches some queries again, given what their k-th scores are at most: see `verified`.
Again = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

#: Finds the candidates of some queries without tiles: see `within_radius`.
ByScores = Callable[[Tensor], list[Candidates]]


def at_most(tile_set: TileSet, scorer: Scorer, distances: Tensor, queries: Tensor | None = None) -> Tensor:
    """Return what the scores of rows at a true distance of each query, or of some, are at most: (n,) -> (n,)."""
    xq = scorer.xq if queries is None else scorer.xq.index_select(0, queries)
    return largest_scores(tile_set.frame, xq, scorer.stored.largest_norm, distances)


def at_most_of_rows(tile_set: TileSet, scorer: Scorer, queries: Tensor, distances: Tensor, rows: Tensor) -> Tensor:
    """Return what the scores of the rows that queries have found are at most, by the norms of these rows.

    Of inner products the rounding grows with the norm: by that of the largest row of all, a row that is much larger
    than the others would take every query its certificate.

    Parameters
    ----------
    tile_set : TileSet
    scorer : Scorer
    queries : Tensor, int64, shape (n,)
    distances : Tensor, float32, shape (n, k)
    rows : Tensor, int64, shape (n, k)
    """
    frame, xq = tile_set.frame, scorer.xq.index_select(0, queries)
    norms = torch.linalg.vector_norm(scorer.stored.at(rows), dim=-1)
    reach = torch.linalg.vector_norm(xq, dim=1, keepdim=True) * norms
    rest = largest_scores(frame, xq, 0.0, torch.zeros_like(distances[:, 0]))
    return (rest[:, None] + frame.rounding * reach - distances).amax(1)


def verified(
    scan: Scan,
    scorer: Scorer,
    found: list[Candidates],
    ids: Tensor | None,
    k: int,
    metric_type: int,
    search_again: Again,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k closest of what a scan found.

    A query has its certificate when its k-th true score is no larger than its guess was. If it is larger, it is a bound
    of the k-th score all the same, with which the query is searched again.

    Parameters
    ----------
    scan : Scan
    scorer : Scorer
        Gives true distances.
    found : list of Candidates
        With lower bounds as their scores.
    ids : Tensor, int64, or None
        The id of each stored row; None where the row is the id.
    k, metric_type : int
    search_again : callable
        Takes queries, int64, (n,), and bounds, and returns what this function does.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
    left : Tensor, bool, shape (nq,)
        Queries that are left without a certificate.
    """
    tile_set = scan.screen.tile_set

    def of_queries(queries: Tensor, distances: Tensor) -> Tensor:
        return at_most(tile_set, scorer, distances, queries)

    candidates = Candidates.concatenate(found, scorer.xq.device)
    distances, positions = top_k_of(candidates, scan.per_query, scorer, ids, k, metric_type, of_queries)
    kth = distances[:, -1]
    bounds = at_most(tile_set, scorer, kth)
    left = ~(bounds <= scan.guesses)
    if metric_type == METRIC_INNER_PRODUCT and bool(left.any()):
        full = (left & (positions[:, -1] >= 0)).nonzero().view(-1)
        for some in chunks.slices(len(full), chunks.rows_within(4 * k * scorer.xq.shape[1])):
            again = full[some]
            bounds[again] = at_most_of_rows(tile_set, scorer, again, distances[again], positions[again])
        left = ~(bounds <= scan.guesses)
    if bool(left.any()):
        retried = (left & (scan.guesses > float("-inf")) & (kth.abs() < FLT_MAX)).nonzero().view(-1)
        if len(retried):
            distances[retried], positions[retried], left[retried] = search_again(retried, bounds[retried])
    return distances, positions, left


def within_radius(scan: Scan, scorer: Scorer, visits: Visits, radius: float, by_scores: ByScores) -> list[Candidates]:
    """Return all rows that may be within a radius.

    Parameters
    ----------
    scan : Scan
    scorer : Scorer
    visits : Visits
    radius : float
        A distance, in the metric's own sign.
    by_scores : callable
        Does it for some queries, int64, (n,), by scores of the vectors themselves; the keys of what it returns are
        those of a search of these queries only.
    """
    radii = scorer.xq.new_full((scorer.nq,), radius)
    scan.guesses = at_most(scan.screen.tile_set, scorer, radii)
    found = scan.second_look(visits)
    given_up = scan.guesses == float("-inf")
    if not bool(given_up.any()):
        return found
    again = given_up.nonzero().view(-1)
    kept = [each.chosen(~given_up[each.queries(scan.per_query)]) for each in found]
    return kept + [each.renumbered(again, scan.per_query) for each in by_scores(again)]
