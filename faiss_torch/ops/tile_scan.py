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
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..threads import omp_get_max_threads
from . import topk, workers
from .collect import Candidates
from .tile_kernels import CHUNK_BITS, guesses, survivors
from .tile_screen import ROUNDED_QUERIES, Screen, Span

CHUNK = 1 << CHUNK_BITS

#: Scores that are computed before anything is done with them. Fewer would stay in a core's cache, but take more
#: operations, at each of which two threads wait for each other: four times as many were a fifth faster.
BATCH_SCORES = 1 << 22

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

#: Integer scores are compared with no more than this.
LARGEST_LIMIT = 2.0**30


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


class Look(NamedTuple):
    """Computed scores of some spans: n pairs of a query and a tile.

    Attributes
    ----------
    queries, keys : Tensor, int64, shape (n,)
    tiles : Tensor, int64, shape (n,), or (1,) where all pairs are of one tile
    chunks : Tensor, int64, shape (n,), or None
        Chunks of each pair, where there is more than one tile.
    scores : Tensor, shape (nchunk, CHUNK)
    minima : Tensor, shape (nchunk,)
    """

    queries: Tensor
    keys: Tensor
    tiles: Tensor
    chunks: Tensor | None
    scores: Tensor
    minima: Tensor


def look_at(screen: Screen, visits: Visits, spans: list[Span], room: Tensor | None = None) -> Look:
    """Compute the scores of some spans and the minima of their chunks, in room of the caller's or of this thread's."""
    tiles = torch.tensor([tile for tile, _, _ in spans])
    columns = screen.tile_set.facts.columns.index_select(0, tiles)
    if len(spans) == 1:
        _, first, last = spans[0]
        queries, keys = visits.queries[first:last], visits.keys[first:last]
        elements = len(queries) * int(columns)
        chunks = None
    else:
        queries, keys = (_concatenated(each, spans) for each in (visits.queries, visits.keys))
        sizes = torch.tensor([last - first for _, first, last in spans])
        elements = int((sizes * columns).sum())
        tiles = torch.repeat_interleave(tiles, sizes, output_size=len(queries))
        chunks = torch.repeat_interleave(columns >> CHUNK_BITS, sizes, output_size=len(queries))
    if room is None:
        room = workers.workspace(room_for(screen, spans), keys.device).view(screen.tile_set.arithmetic.score_dtype)
    screen.multiply(spans, queries, room)
    scores = room[:elements].view(-1, CHUNK)
    return Look(queries, keys, tiles, chunks, scores, scores.amin(1))


def room_for(screen: Screen, spans: list[Span]) -> int:
    """Scores for which a batch needs room: a product of a rounded number of queries may write more than is wanted."""
    widths = screen.tile_set.widths
    wanted = sum((last - first) * widths[tile] for tile, first, last in spans)
    return wanted + ROUNDED_QUERIES * max(widths[tile] for tile, _, _ in spans)


def _concatenated(values: Tensor, spans: list[Span]) -> Tensor:
    """Return the entries of some spans; those that follow each other are one slice."""
    pieces: list[tuple[int, int]] = []
    for _, first, last in spans:
        if pieces and pieces[-1][1] == first:
            pieces[-1] = (pieces[-1][0], last)
        else:
            pieces.append((first, last))
    parts = [values[first:last] for first, last in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def batches(spans: Iterable[Span], columns: list[int], limit: int) -> Iterator[list[Span]]:
    """Cut spans to products of at most `GROUP` queries, and collect them to batches of about so many scores."""
    batch: list[Span] = []
    elements = 0
    for tile, first, last in spans:
        width = columns[tile]
        pieces = -(-(last - first) // max(1, min(GROUP, limit // width)))
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

    Attributes
    ----------
    guesses : Tensor, float32, shape (nq,)
        What the second look asks for: rows whose score may be as small as this. -inf for a query that is given up.
    """

    def __init__(self, screen: Screen, k: int, rows: Tensor) -> None:
        self.screen = screen
        self.guesses = torch.full((len(screen.terms),), float("inf"))
        self._allowed = (rows * LARGEST_SHARE).long().clamp_(min=SURVIVORS_A_NEIGHBOUR * k)
        self._counting = threading.Lock()

    def first_look(self, visits: Visits, places: Tensor, width: int, k: int, kept: bool) -> list[Look]:
        """Look at tiles to guess the k-th score of each query.

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
        minima = torch.full((len(self.guesses), width), float("inf"))
        threads, widths = omp_get_max_threads(), self.screen.tile_set.widths
        limit = BATCH_SCORES
        if kept:
            total = sum((last - first) * widths[tile] for tile, first, last in visits.spans)
            limit = min(limit, -(-total // threads))
        parts = list(batches(visits.spans, widths, limit))
        rooms: Sequence[Tensor | None] = [None] * len(parts)
        if kept:
            sizes = [room_for(self.screen, spans) for spans in parts]
            room = workers.workspace(sum(sizes), places.device, "kept").view(
                self.screen.tile_set.arithmetic.score_dtype
            )
            rooms = room[: sum(sizes)].split(sizes)

        def look(part: int) -> Look | None:
            spans = parts[part]
            looked = look_at(self.screen, visits, spans, rooms[part])
            self._write_guesses(looked, _concatenated(places, spans) + looked.queries * width, minima.view(-1))
            return looked if kept else None

        looks = workers.map_over_workers(look, range(len(parts)), threads)
        if width >= k:
            self.guesses = topk.smallest(minima, k)[0].amax(1)
        return [looked for looked in looks if looked is not None]

    def _write_guesses(self, look: Look, begins: Tensor, minima: Tensor) -> None:
        """Write guesses of the smallest score of each chunk, those of a pair from its place on."""
        terms = self.screen.terms.index_select(0, look.queries)
        values, places = guesses(look.minima, terms, look.tiles, look.chunks, begins, self.screen.tile_set.facts)
        minima.index_copy_(0, places, values)

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
        wanted = self.guesses * self.screen.terms[:, 0]
        threads = omp_get_max_threads()
        if looks is not None:
            found = workers.map_over_workers(lambda look: self._survivors(look, wanted), looks, threads)
        else:

            def part(spans: list[Span]) -> Candidates:
                return self._survivors(look_at(self.screen, visits, spans), wanted)

            found = workers.map_over_workers(
                part, batches(visits.spans, self.screen.tile_set.widths, BATCH_SCORES), threads
            )
        return found + self._always(visits)

    def _survivors(self, look: Look, wanted: Tensor) -> Candidates:
        facts = self.screen.tile_set.facts
        pairs, keys, positions, bounds = survivors(
            look.scores,
            look.minima,
            self.screen.terms.index_select(0, look.queries),
            wanted.index_select(0, look.queries),
            look.keys,
            look.tiles,
            look.chunks,
            facts,
            LARGEST_LIMIT,
            CHUNK_BITS,
        )
        if len(pairs) > MANY * look.scores.numel():
            self._count(look.queries.index_select(0, pairs), wanted)
        found = Candidates(keys, positions, bounds)
        return found.chosen(~torch.isin(positions, facts.hidden)) if len(facts.hidden) else found

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
        for tile, first, last in visits.spans:
            rows = self.screen.tile_set.tiles[tile].always
            if rows is not None:
                keys = visits.keys[first:last].repeat_interleave(len(rows))
                positions = (rows + self.screen.tile_set.facts.begins[tile]).repeat(last - first)
                found.append(Candidates(keys, positions, torch.full((len(keys),), float("-inf"))))
        return found
