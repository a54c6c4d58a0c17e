"""The list-major scan of tiles: every tile once, against the queries that look at it, screened and then verified.

A first look at some of a query's tiles, or at all of them where the batch is small, keeps the minima of chunks of
`CHUNK` columns. The k-th smallest of them is about the k-th smallest score, or more; a little is added for the
rounding. That is a guess. The second look lets through every row that may have a score as small as the guess: a
comparison a chunk, and a rare second look at its columns. Survivors are verified by true distances, and a query whose
k-th true score does lie under the guess has its certificate: nothing that was screened out can be closer. Queries
without it, or with so many survivors that screening saves nothing, are left to the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..runtime import workers
from ..scoring.candidates import Candidates
from .loops import CHUNK_BITS, kth_smallest
from .scan_loops import ROUNDED_QUERIES, Look, entries_of, first_look, look_at, second_look, survivors_of, write_guesses
from .tile_set import Screen, Span

CHUNK = 1 << CHUNK_BITS

#: Scores of a batch: one task of a worker, which it does without the interpreter's lock.
BATCH_SCORES = 1 << 22

#: Scores that are computed before anything is done with them. Fewer would stay in a core's cache, but take more
#: operations: from 2^18 to 2^22 they were equally fast.
CACHE_SCORES = 1 << 20

#: Scores of a search that are kept from the first look to the second.
KEPT_SCORES = 12 << 20

#: Batches that each worker has at least, if they are not too small: then one that is late costs little.
BATCHES_A_WORKER = 4

#: Queries in one product.
GROUP = 512

#: Rows of a query that may survive: so many for each of the k wanted, or this part of all that it looks at. With more,
#: screening saves nothing, and the query is left to the caller.
SURVIVORS_A_NEIGHBOUR = 24
LARGEST_SHARE = 1 / 16

#: Survivors of a batch, as a part of its rows, from which on those of single queries are counted.
MANY = 1 / 32

#: The part of the least excess of some guesses by which all are lowered. One that is too small costs a second search.
LOWERED = 0.8


class Visits(NamedTuple):
    """Which queries look at which tiles, by tile.

    Attributes
    ----------
    queries : Tensor, int64
    keys : Tensor, int64
        What candidates are known by: the query, or ``query * nprobe + rank``.
    spans : list of (tile, first, last)
        The entries [first, last) look at a tile.
    """

    queries: Tensor
    keys: Tensor
    spans: list[Span]


def batches(spans: Iterable[Span], columns: list[int], limit: int, cache_limit: int) -> Iterator[list[Span]]:
    """Cut spans to products of at most `GROUP` queries and so many scores, and collect them to batches.

    Parameters
    ----------
    spans : iterable of (tile, first, last)
    columns : list of int
        Of each tile.
    limit, cache_limit : int
        Scores of a batch, and of a product.
    """
    batch: list[Span] = []
    elements = 0
    for tile, first, last in spans:
        width = columns[tile]
        pieces = -(-(last - first) // max(1, min(GROUP, cache_limit // width)))
        step = -(-(last - first) // pieces)
        for begin in range(first, last, step):
            end = min(last, begin + step)
            if batch and elements + (end - begin) * width > limit:
                yield batch
                batch, elements = [], 0
            batch.append((tile, begin, end))
            elements += (end - begin) * width
    if batch:
        yield batch


class Scan:
    """One search: its screen, and the guesses of the k-th scores.

    Parameters
    ----------
    screen : Screen
    k : int
    rows : Tensor, int64, shape (nq,)
        How many rows each query looks at.
    per_query : int
        A key of an entry divided by this is its query.

    Attributes
    ----------
    guesses : Tensor, float32, shape (nq,)
        What the second look asks for: rows whose score may be as small as this. -inf for a query that is given up.
    """

    def __init__(self, screen: Screen, k: int, rows: Tensor, per_query: int = 1) -> None:
        self.screen = screen
        self.per_query = per_query
        self.guesses = torch.full((len(screen.terms),), float("inf"), dtype=torch.float32, device="cpu")
        self._allowed = (rows.double() * LARGEST_SHARE).long().clamp_(min=SURVIVORS_A_NEIGHBOUR * k)
        self._counting = threading.Lock()

    def _scores_of(self, spans: list[Span]) -> int:
        widths = self.screen.tile_set.widths
        return sum((last - first) * widths[tile] for tile, first, last in spans)

    def _room_for(self, spans: list[Span], scores: int) -> int:
        """Scores that some spans need room for: a product of a rounded number of queries writes more than is wanted."""
        widths = self.screen.tile_set.widths
        return scores + ROUNDED_QUERIES * max(widths[tile] for tile, _, _ in spans)

    def _batches(self, visits: Visits) -> list[list[Span]]:
        share = -(-self._scores_of(visits.spans) // (BATCHES_A_WORKER * omp_get_max_threads()))
        limit = min(BATCH_SCORES, max(CACHE_SCORES, share))
        return list(batches(visits.spans, self.screen.tile_set.widths, limit, CACHE_SCORES))

    def _room(self, scores: int, purpose: str = "scores") -> Tensor:
        room = workers.workspace(scores, self.guesses.device, purpose)
        return room.view(self.screen.tile_set.arithmetic.score_dtype)

    def first_look(self, visits: Visits, places: Tensor, width: int, k: int, kept: bool) -> list[Look] | None:
        """Look at tiles to guess the k-th score of each query, and return what is kept.

        Parameters
        ----------
        visits : Visits
        places : Tensor, int64
            For each entry: where the chunks of its tile begin among all that the query looks at.
        width : int
            How many chunks a query looks at, at most.
        k : int
        kept : bool
            Whether the computed scores are to be returned.
        """
        minima = torch.full((len(self.guesses), width), float("inf"), dtype=torch.float32, device="cpu")
        looks = None
        if kept:
            looks = self._kept_look(visits, places, width, minima.view(-1))
        else:
            self._brief_look(visits, places, width, minima.view(-1))
        self.guesses = kth_smallest(minima, k)
        return looks

    def _brief_look(self, visits: Visits, places: Tensor, width: int, minima: Tensor) -> None:
        screen, facts, queries = self.screen, self.screen.tile_set.facts, visits.queries

        def look(batch: list[Span]) -> None:
            spans, room = screen.spans(batch), self._room(self._room_for(batch, CACHE_SCORES))
            first_look(spans, queries, screen.codes, screen.terms, facts, places, width, room, CACHE_SCORES, minima)

        workers.map_over_workers(look, self._batches(visits), omp_get_max_threads())

    def _kept_look(self, visits: Visits, places: Tensor, width: int, minima: Tensor) -> list[Look]:
        screen, facts = self.screen, self.screen.tile_set.facts
        parts = self._batches(visits)
        sizes = [self._room_for(batch, self._scores_of(batch)) for batch in parts]
        rooms = self._room(sum(sizes), "kept")[: sum(sizes)].split(sizes)

        def look(part: int) -> Look:
            spans = screen.spans(parts[part])
            looked = look_at(spans, visits.queries, visits.keys, screen.codes, screen.terms, facts, rooms[part])
            write_guesses(looked, entries_of(places, spans), width, facts, minima)
            return looked

        return workers.map_over_workers(look, range(len(parts)), omp_get_max_threads())

    def lower_guesses(self, queries: Tensor, bounds: Tensor) -> None:
        """Lower all guesses by most of what those of some queries were too large by.

        Parameters
        ----------
        queries : Tensor, int64, shape (n,)
        bounds : Tensor, float32, shape (n,)
            What their k-th scores are at most.
        """
        steps = self.screen.terms[:, 3]
        excess = (self.guesses.index_select(0, queries) - bounds) / steps.index_select(0, queries)
        least = LOWERED * float(excess.min())
        if 0 < least < float("inf"):
            self.guesses -= steps * least

    def second_look(self, visits: Visits, looks: list[Look] | None = None) -> list[Candidates]:
        """Return the rows whose score may be as small as the guess, with lower bounds of their scores.

        Parameters
        ----------
        visits : Visits
        looks : list of Look, optional
            Those at all visits, where they were kept.
        """
        screen, facts = self.screen, self.screen.tile_set.facts
        wanted = self.guesses * screen.terms[:, 0]

        def at_kept(look: Look) -> Candidates:
            return self._found(survivors_of(look, wanted, facts), look.scores.numel(), wanted)

        def at_tiles(batch: list[Span]) -> Candidates:
            spans, room = screen.spans(batch), self._room(self._room_for(batch, CACHE_SCORES))
            found = second_look(
                spans, visits.queries, visits.keys, screen.codes, screen.terms, facts, wanted, room, CACHE_SCORES
            )
            return self._found(found, self._scores_of(batch), wanted)

        threads = omp_get_max_threads()
        if looks is not None:
            found = workers.map_over_workers(at_kept, looks, threads)
        else:
            found = workers.map_over_workers(at_tiles, self._batches(visits), threads)
        return found + self._always(visits)

    def _found(self, found: tuple[Tensor, Tensor, Tensor], scores: int, wanted: Tensor) -> Candidates:
        """Candidates of what the kernels found, but for rows that stand in `_always`; many of them are counted."""
        candidates, hidden = Candidates(*found), self.screen.tile_set.facts.hidden
        if len(candidates.keys) > MANY * scores:
            self._count(candidates.queries(self.per_query), wanted)
        return candidates.chosen(~torch.isin(candidates.positions, hidden)) if len(hidden) else candidates

    def _count(self, queries: Tensor, wanted: Tensor) -> None:
        """Count survivors, and give up queries that have too many."""
        with self._counting:
            self._allowed -= torch.bincount(queries, minlength=len(self._allowed))
            given_up = self._allowed < 0
            self.guesses[given_up] = float("-inf")
            wanted[given_up] = float("-inf")

    def _always(self, visits: Visits) -> list[Candidates]:
        """The rows that are not in the tiles."""
        found = []
        tile_set = self.screen.tile_set
        for tile, first, last in visits.spans if len(tile_set.facts.hidden) else ():
            rows = tile_set.always(tile)
            keys = visits.keys[first:last].repeat_interleave(len(rows))
            lowest = torch.full((len(keys),), float("-inf"), dtype=torch.float32, device="cpu")
            found.append(Candidates(keys, rows.repeat(last - first), lowest))
        return found
