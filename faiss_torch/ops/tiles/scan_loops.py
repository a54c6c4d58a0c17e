"""The loops of a scan over tiles, without the interpreter's lock: see `scripted`.

Spans are worked off in portions whose scores stay in a core's cache, from the product to the survivors.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.scripted import scripted
from .loops import CHUNK_BITS, TileFacts, guesses, multiply_bf16, multiply_int8, survivors

#: Products are of a multiple of so many queries, or of few, since oneDNN compiles one for every number.
ROUNDED_QUERIES = 32


class Spans(NamedTuple):
    """Which entries look at which tiles: the entries [firsts[i], lasts[i]) at tile ``tiles[i]``.

    Attributes
    ----------
    tiles, firsts, lasts : list of int
    codes, biases : list of Tensor
        Of each of the tiles; biases only where the arithmetic has some.
    """

    tiles: list[int]
    firsts: list[int]
    lasts: list[int]
    codes: list[Tensor]
    biases: list[Tensor]


class Look(NamedTuple):
    """Computed scores of some spans: n pairs of a query and a tile.

    Attributes
    ----------
    queries, keys : Tensor, int64, shape (n,)
    terms : Tensor, float32, shape (n, 4)
        Those of the queries: see `tiles.tile_set.Screen`.
    tiles : Tensor, int64, shape (n,), or (1,) where all pairs are of one tile
    owners : Tensor, int64, shape (nchunk,), or None
        The pair that each chunk belongs to, where there is more than one tile.
    firsts : Tensor, int64, shape (n,)
        The first chunk of each pair.
    scores : Tensor, shape (nchunk, 2**CHUNK_BITS)
    minima : Tensor, shape (nchunk,)
    """

    queries: Tensor
    keys: Tensor
    terms: Tensor
    tiles: Tensor
    owners: Tensor | None
    firsts: Tensor
    scores: Tensor
    minima: Tensor


@scripted
def entries_of(values: Tensor, spans: Spans) -> Tensor:
    """Return the entries of some spans; those that follow each other are one slice."""
    parts: list[Tensor] = []
    begin, end = spans.firsts[0], spans.lasts[0]
    for i in range(1, len(spans.firsts)):
        if spans.firsts[i] != end:
            parts.append(values[begin:end])
            begin = spans.firsts[i]
        end = spans.lasts[i]
    parts.append(values[begin:end])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@scripted
def look_at(
    spans: Spans,
    queries: Tensor,
    keys: Tensor,
    codes: Tensor,
    terms: Tensor,
    facts: TileFacts,
    room: Tensor,
    chunk_bits: int = CHUNK_BITS,
    rounded_queries: int = ROUNDED_QUERIES,
) -> Look:
    """Compute the scores of some spans and the minima of their chunks.

    Parameters
    ----------
    spans : Spans
    queries, keys : Tensor, int64
        Of all entries.
    codes, terms : Tensor, shape (nq, width) and (nq, 4)
        Of all queries: see `tiles.tile_set.Screen`.
    facts : TileFacts
    room : Tensor
        For the scores, and those of `ROUNDED_QUERIES` queries more.
    """
    some_queries, some_keys = entries_of(queries, spans), entries_of(keys, spans)
    n = some_queries.size(0)
    counts: list[int] = []
    elements = 0
    for i in range(len(spans.tiles)):
        counts.append(spans.lasts[i] - spans.firsts[i])
        elements += counts[i] * spans.codes[i].size(1)
    some_codes = torch.empty([n + rounded_queries, codes.size(1)], dtype=codes.dtype, device="cpu")
    torch.index_select(codes, 0, some_queries, out=some_codes[:n])
    if codes.dtype == torch.int8:
        multiply_int8(some_codes, spans.codes, counts, rounded_queries, room)
    else:
        multiply_bf16(some_codes, spans.codes, spans.biases, counts, rounded_queries, room)
    scores = room[:elements].view(-1, 1 << chunk_bits)
    tiles = torch.tensor(spans.tiles, dtype=torch.int64, device="cpu")
    some_terms = terms.index_select(0, some_queries)
    if len(counts) == 1:
        firsts = torch.arange(n, dtype=torch.int64, device="cpu") * (scores.size(0) // n)
        return Look(some_queries, some_keys, some_terms, tiles, None, firsts, scores, scores.amin(1))
    tiles = torch.repeat_interleave(tiles, torch.tensor(counts, dtype=torch.int64, device="cpu"), output_size=n)
    return looked(some_queries, some_keys, some_terms, tiles, scores, facts)


@scripted
def looked(
    queries: Tensor,
    keys: Tensor,
    terms: Tensor,
    tiles: Tensor,
    scores: Tensor,
    facts: TileFacts,
    chunk_bits: int = CHUNK_BITS,
) -> Look:
    """Return a look at several tiles, with the scores of its pairs one behind the other."""
    chunks = facts.columns.index_select(0, tiles) >> chunk_bits
    owners = torch.repeat_interleave(chunks, output_size=scores.size(0))
    return Look(queries, keys, terms, tiles, owners, chunks.cumsum(0) - chunks, scores, scores.amin(1))


@scripted
def portions(spans: Spans, limit: int) -> list[Spans]:
    """Cut spans to portions of about so many scores."""
    found: list[Spans] = []
    begin, elements = 0, 0
    for i in range(len(spans.tiles) + 1):
        more = (spans.lasts[i] - spans.firsts[i]) * spans.codes[i].size(1) if i < len(spans.tiles) else limit + 1
        if i > begin and elements + more > limit:
            found.append(
                Spans(
                    spans.tiles[begin:i],
                    spans.firsts[begin:i],
                    spans.lasts[begin:i],
                    spans.codes[begin:i],
                    spans.biases[begin:i],
                )
            )
            begin, elements = i, 0
        elements += more
    return found


@scripted
def write_guesses(look: Look, places: Tensor, width: int, facts: TileFacts, minima: Tensor) -> None:
    """Write guesses of the smallest score of each chunk.

    Parameters
    ----------
    look : Look
    places : Tensor, int64, shape (n,)
        For each pair: where the chunks of its tile begin among all that the query looks at.
    width : int
        Chunks that a query looks at, at most.
    facts : TileFacts
    minima : Tensor, float32, shape (nq * width,)
    """
    begins = places + look.queries * width
    values, where = guesses(look.minima, look.terms, look.tiles, look.owners, begins, look.firsts, facts)
    minima.index_copy_(0, where, values)


@scripted
def first_look(
    spans: Spans,
    queries: Tensor,
    codes: Tensor,
    terms: Tensor,
    facts: TileFacts,
    places: Tensor,
    width: int,
    room: Tensor,
    limit: int,
    minima: Tensor,
) -> None:
    """Look at spans and write guesses: see `look_at` and `write_guesses`; `limit` is that of `portions`."""
    for portion in portions(spans, limit):
        look = look_at(portion, queries, queries, codes, terms, facts, room)
        write_guesses(look, entries_of(places, portion), width, facts, minima)


@scripted
def survivors_of(look: Look, wanted: Tensor, facts: TileFacts) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys, rows and bounds of the scores that may be as small as is wanted of each query: (nq,)."""
    asked = wanted.index_select(0, look.queries)
    return survivors(
        look.scores, look.minima, look.terms, asked, look.keys, look.tiles, look.owners, look.firsts, facts
    )


@scripted
def second_look(
    spans: Spans,
    queries: Tensor,
    keys: Tensor,
    codes: Tensor,
    terms: Tensor,
    facts: TileFacts,
    wanted: Tensor,
    room: Tensor,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Look at spans and return what `survivors_of` finds; `limit` is that of `portions`."""
    found = [keys[:0]]
    positions = [keys[:0]]
    bounds = [terms[:0, 0]]
    for portion in portions(spans, limit):
        look = look_at(portion, queries, keys, codes, terms, facts, room)
        some = survivors_of(look, wanted, facts)
        found.append(some[0])
        positions.append(some[1])
        bounds.append(some[2])
    return torch.cat(found), torch.cat(positions), torch.cat(bounds)
