"""The inner loops of a scan of tiles, without the interpreter's lock: see `scripted`.

torch's operations are chosen by their measured rates: `index_select` takes half the time of indexing, a shift a third
of that of a division, and of a mask of which little is true the words of eight are looked through first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.scripted import scripted

#: Columns of a tile that one minimum stands for, 2 to this; a tile has a multiple of it.
CHUNK_BITS = 5

#: Groups of chunks, for each of the k wanted, in which the k-th smallest is looked for: with 6 its rank is 1.09 k.
GROUPS_A_NEIGHBOUR = 6

#: Integer scores are compared with no more than this.
LARGEST_LIMIT = 2.0**30


class TileFacts(NamedTuple):
    """What is known of tiles, beside their codes.

    Attributes
    ----------
    begins, rows, columns : Tensor, int64, shape (ntiles,)
        First stored row, number of rows, and columns.
    steps : Tensor, float32, shape (ntiles,)
    lower, upper : Tensor, float32, shape (ntiles, 3)
        See `tiles.tile_set.Screen`.
    hidden : Tensor, int64
        Stored rows that are not in their tiles.
    """

    begins: Tensor
    rows: Tensor
    columns: Tensor
    steps: Tensor
    lower: Tensor
    upper: Tensor
    hidden: Tensor


@scripted
def multiply_int8(codes: Tensor, tiles: list[Tensor], counts: list[int], few: int, out: Tensor) -> None:
    """Multiply groups of queries with their tiles: int8 (n, width) and (width, columns) -> int32 in `out`.

    Parameters
    ----------
    codes : Tensor
        The queries of all tiles, one group behind the other, and `few` more rows.
    tiles : list of Tensor
    counts : list of int
        Queries of each tile.
    few : int
        Larger groups are rounded up to a multiple of it, since oneDNN compiles a product for every number. What is
        computed beyond a group is overwritten by the next one, or stands in room that nobody looks at.
    out : Tensor
        Scores of each group, (n, columns), one behind the other.
    """
    begin, filled = 0, 0
    for i in range(len(tiles)):
        n, columns = counts[i], tiles[i].size(1)
        rounded = n if n <= few else (n + few - 1) // few * few
        scores = out[filled : filled + rounded * columns].view(rounded, columns)
        torch._int_mm(codes[begin : begin + rounded], tiles[i], out=scores)
        begin += n
        filled += n * columns


@scripted
def multiply_bf16(
    codes: Tensor, tiles: list[Tensor], biases: list[Tensor], counts: list[int], few: int, out: Tensor
) -> None:
    """As `multiply_int8`, in bfloat16 with a bias for each column: bfloat16 -> float32 in `out`."""
    begin, filled = 0, 0
    for i in range(len(tiles)):
        n, columns = counts[i], tiles[i].size(1)
        rounded = n if n <= few else (n + few - 1) // few * few
        scores = out[filled : filled + rounded * columns].view(rounded, columns)
        torch.add(torch.mm(codes[begin : begin + rounded], tiles[i]), biases[i], out=scores)
        begin += n
        filled += n * columns


@scripted
def query_terms(steps: Tensor, norms: Tensor, residuals: Tensor) -> Tensor:
    """What the bounds take from queries, float32, (nq, 4): see `tiles.tile_set.Screen`."""
    inverse = steps.reciprocal()
    return torch.stack([inverse, residuals * inverse, norms * inverse, steps], 1)


@scripted
def guesses(
    minima: Tensor,
    terms: Tensor,
    tiles: Tensor,
    owners: Tensor | None,
    begins: Tensor,
    firsts: Tensor,
    facts: TileFacts,
) -> tuple[Tensor, Tensor]:
    """Guess the smallest score of each chunk.

    Parameters
    ----------
    minima : Tensor, shape (nchunk,)
        Computed scores.
    terms : Tensor, shape (n, 4)
        Of the pairs of a query and a tile: see `tiles.tile_set.Screen`.
    tiles : Tensor, int64, shape (n,), or (1,) where there is one
    owners : Tensor, int64, shape (nchunk,), or None where there is one tile
        The pair that each chunk belongs to.
    begins : Tensor, int64, shape (n,)
        Where the guesses of a pair are to stand.
    firsts : Tensor, int64, shape (n,)
        The first chunk of each pair.
    facts : TileFacts

    Returns
    -------
    values : Tensor, float32, shape (nchunk,)
    places : Tensor, int64, shape (nchunk,)
    """
    n, nchunk = terms.size(0), minima.size(0)
    shift = (terms[:, :3] * facts.upper.index_select(0, tiles)).sum(1)
    scale = terms[:, 3] * facts.steps.index_select(0, tiles)
    if owners is None:
        each = nchunk // n
        values = minima.view(n, each).sub(shift[:, None]).mul_(scale[:, None])
        return values.view(-1), (begins[:, None] + torch.arange(each, dtype=torch.int64, device="cpu")).view(-1)
    values = minima - shift.index_select(0, owners)
    values *= scale.index_select(0, owners)
    return values, (begins - firsts).index_select(0, owners).add_(torch.arange(nchunk, dtype=torch.int64, device="cpu"))


@scripted
def kth_smallest(minima: Tensor, k: int, groups: int = GROUPS_A_NEIGHBOUR) -> Tensor:
    """Return about the k-th smallest of each row, or a larger one: float32, (n, width) -> (n,); inf if there is none.

    Of many columns the minima of groups are sorted in their place, which takes a fraction of the time. Columns of a
    group are far from each other, since those of one list, which may hold several of the smallest, are neighbours.
    """
    n, width = minima.size(0), minima.size(1)
    if width < k:
        return torch.full([n], float("inf"), dtype=torch.float32, device="cpu")
    group = max(1, width // (groups * k))
    if group > 1:
        each = width // group
        minima = minima[:, : group * each].reshape(n, group, each).amin(1)
    return minima.topk(k, dim=1, largest=False)[0][:, k - 1]


@scripted
def where_true(mask: Tensor) -> Tensor:
    """Return where a mask, of a multiple of 8 elements of which few are true, is true: int64, ascending."""
    words = torch.view_copy(mask, dtype=torch.int64).nonzero().view(-1)  # TorchScript has no `view` of this kind
    inner = mask.view(-1, 8).index_select(0, words).view(-1).nonzero().view(-1)
    return (words << 3).index_select(0, inner >> 3).add_(inner & 7)


@scripted
def survivors(
    scores: Tensor,
    minima: Tensor,
    terms: Tensor,
    wanted: Tensor,
    keys: Tensor,
    tiles: Tensor,
    owners: Tensor | None,
    firsts: Tensor,
    facts: TileFacts,
    largest: float = LARGEST_LIMIT,
    chunk_bits: int = CHUNK_BITS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the rows whose score may be as small as is wanted.

    Parameters
    ----------
    scores : Tensor, shape (nchunk, 2**chunk_bits)
        Computed scores.
    minima : Tensor, shape (nchunk,)
    terms, tiles, owners, firsts, facts
        As for `guesses`.
    wanted : Tensor, shape (n,)
        The score that each pair's query asks for, in steps of the query.
    keys : Tensor, int64, shape (n,)
    largest, chunk_bits
        The constants, which TorchScript sees as defaults.

    Returns
    -------
    keys, positions : Tensor, int64
        The key of the survivor's pair, and its stored row.
    bounds : Tensor, float32
        Lower bounds of their scores.
    """
    nchunk, width = scores.size(0), scores.size(1)
    n = terms.size(0)
    shift = (terms[:, :3] * facts.lower.index_select(0, tiles)).sum(1)
    limits = wanted / facts.steps.index_select(0, tiles) + shift
    if scores.dtype == torch.int32:
        limits = limits.clamp(-largest, largest).ceil_().to(torch.int32)
    if owners is None:
        each = nchunk // n
        hits = (minima.view(n, each) <= limits[:, None]).view(-1).nonzero().view(-1)
        pairs = torch.div(hits, each, rounding_mode="floor")
    else:
        hits = (minima <= limits.index_select(0, owners)).nonzero().view(-1)
        pairs = owners.index_select(0, hits)
    within = hits - firsts.index_select(0, pairs)
    values = scores.index_select(0, hits)
    found = where_true((values <= limits.index_select(0, pairs)[:, None]).view(-1))
    hit = found >> chunk_bits
    columns = (within.index_select(0, hit) << chunk_bits).add_(found & (width - 1))
    pairs = pairs.index_select(0, hit)
    tile = tiles if owners is None else tiles.index_select(0, pairs)
    bounds = values.view(-1).index_select(0, found) - shift.index_select(0, pairs)
    bounds *= terms[:, 3].index_select(0, pairs)
    bounds *= facts.steps.index_select(0, tile)
    used = columns < facts.rows.index_select(0, tile)
    positions = columns + facts.begins.index_select(0, tile)
    found_keys = keys.index_select(0, pairs)
    if not bool(used.all()):
        return found_keys[used], positions[used], bounds[used]
    return found_keys, positions, bounds
