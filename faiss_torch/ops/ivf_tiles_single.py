"""The scan of inverted lists by tiles for few queries: one query at a time, all of it without the interpreter's lock.

Few queries seldom look at the same list, and then a product is one query with one tile, which comes from memory. What
`tile_scan` does for a batch is done here for one query after the other: the scores of all its tiles stand one behind
the other, are reduced, guessed from and looked through at once, and all survivors are verified.
"""

import itertools

import torch
from torch import Tensor

from ..constants import FLT_MAX
from ..threads import omp_get_max_threads
from . import chunks, topk, workers
from .distances import METRICS
from .screen import Scorer
from .scripted import scripted
from .tile_kernels import CHUNK_BITS, TileFacts, guesses, survivors
from .tile_scan import LARGEST_SHARE, SURVIVORS_A_NEIGHBOUR
from .tile_screen import Screen

#: So many survivors are verified in any case.
FEW_SURVIVORS = 4096


@scripted
def _multiply(code: Tensor, tiles: list[Tensor], biases: list[Tensor], out: Tensor) -> None:
    """Scores of one query, (1, width), for some tiles, one behind the other: (1, columns)."""
    scores = out.split([tile.size(1) for tile in tiles], 1)
    for i in range(len(tiles)):
        if code.dtype == torch.int8:
            torch._int_mm(code, tiles[i], out=scores[i])
        else:
            torch.add(torch.mm(code, tiles[i]), biases[i], out=scores[i])


@scripted
def _closest(
    x: Tensor, vectors: Tensor, positions: Tensor, ids: Tensor, k: int, similarity: bool
) -> tuple[Tensor, Tensor]:
    """True distances, negated for a similarity, and rows of the k closest of some rows, or of as many as there are."""
    rows = vectors.index_select(0, positions)
    keys = rows.mul_(x).sum(1).neg_() if similarity else rows.sub_(x).square_().sum(1)
    found, columns = topk.sort_rows(keys[None], ids.index_select(0, positions)[None], min(k, positions.size(0)))
    return found[0], positions.index_select(0, columns[0])


@scripted
def _select(
    x: Tensor,
    terms: Tensor,
    scores: Tensor,
    tiles: Tensor,
    always: list[Tensor],
    facts: TileFacts,
    vectors: Tensor,
    ids: Tensor,
    k: int,
    similarity: bool,
    few_survivors: int = FEW_SURVIVORS,
    survivors_a_neighbour: int = SURVIVORS_A_NEIGHBOUR,
    largest_share: float = LARGEST_SHARE,
    chunk_bits: int = CHUNK_BITS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the closest rows of some tiles for one query.

    Parameters
    ----------
    x, terms : Tensor, shape (d,) and (4,)
        The query: see `tile_screen.Screen`.
    scores : Tensor, shape (columns,)
        Computed scores of all the tiles, one behind the other.
    tiles : Tensor, int64, shape (n,)
    always : list of Tensor
        For each tile, rows that are not in it; nothing where there are no such rows at all.
    facts : TileFacts
    vectors, ids : Tensor, shape (capacity, d) and (capacity,)
    k : int
    similarity : bool
    few_survivors, survivors_a_neighbour, largest_share, chunk_bits
        The constants, which TorchScript sees as defaults.

    Returns
    -------
    keys, rows : Tensor
        Distances, negated for a similarity, and stored rows: of k, or as many as there are.
    guess : Tensor, float32, shape ()
        No other row has a score as small as this.
    """
    chunk_scores = scores.view(-1, 1 << chunk_bits)
    minima = chunk_scores.amin(1)
    chunks = facts.columns.index_select(0, tiles) >> chunk_bits
    of_tiles = terms.expand(tiles.size(0), 4)
    guess = torch.full([], float("inf"))
    if minima.size(0) >= k:
        values, _ = guesses(minima, of_tiles, tiles, chunks, chunks, facts)
        guess = values.topk(k, largest=False, sorted=False)[0].amax()
    wanted = of_tiles[:, 0] * guess
    _, _, found, _ = survivors(
        chunk_scores,
        minima,
        of_tiles,
        wanted,
        tiles,
        tiles,
        chunks,
        facts,
    )
    if len(always) > 0:
        found = torch.cat([found[~torch.isin(found, facts.hidden)], torch.cat(always)])
    most = max(few_survivors, survivors_a_neighbour * k, int(largest_share * scores.size(0)))
    if found.size(0) > most:
        guess = torch.full([], -float("inf"))
        found = found[:0]
    keys, rows = _closest(x, vectors, found, ids, k, similarity)
    return keys, rows, guess


@scripted
def _nearest(
    xq: Tensor,
    codes: Tensor,
    terms: Tensor,
    counts: list[int],
    widths: list[int],
    tile_nos: Tensor,
    tiles: list[Tensor],
    biases: list[Tensor],
    always: list[Tensor],
    facts: TileFacts,
    vectors: Tensor,
    ids: Tensor,
    room: Tensor,
    k: int,
    similarity: bool,
    missing: float = FLT_MAX,
) -> tuple[Tensor, Tensor, Tensor]:
    """Search some queries, one after the other.

    Parameters
    ----------
    xq, codes, terms : Tensor, shape (n, d), (n, width) and (n, 4)
        See `tile_screen.Screen`.
    counts, widths : list of int
        How many tiles each query looks at, and how many columns these have.
    tile_nos : Tensor, int64
        Which tiles these are, query by query.
    tiles, biases, always : list of Tensor
        Of each of them: its codes; what is added to a product, where the arithmetic has biases; rows that are not in
        it, or nothing where there are no such rows at all.
    room : Tensor, shape (1, columns)
        For the scores of one query.
    facts, vectors, ids, k, similarity
        As for `_select`.
    missing : float
        The key of a result that there is not.

    Returns
    -------
    keys : Tensor, float32, shape (n, k)
    positions : Tensor, int64, shape (n, k)
    guesses : Tensor, float32, shape (n,)
    """
    n = xq.size(0)
    keys = torch.full([n, k], missing)
    positions = torch.full([n, k], -1, dtype=torch.int64)
    guessed = torch.full([n], float("inf"))
    begin = 0
    for query in range(n):
        end = begin + counts[query]
        if end > begin:
            scores = room[:, : widths[query]]
            _multiply(codes[query : query + 1], tiles[begin:end], biases[begin:end], scores)
            found_keys, rows, guess = _select(
                xq[query],
                terms[query],
                scores[0],
                tile_nos[begin:end],
                always[begin:end],
                facts,
                vectors,
                ids,
                k,
                similarity,
            )
            keys[query, : rows.size(0)] = found_keys
            positions[query, : rows.size(0)] = rows
            guessed[query] = guess
        begin = end
    return keys, positions, guessed


def search(
    scorer: Scorer, screen: Screen, tile_nos: Tensor, counts: list[int], ids: Tensor, k: int, metric_type: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k closest rows of the tiles that each query looks at.

    Parameters
    ----------
    scorer : Scorer
        Of vectors stored in float32.
    screen : Screen
    tile_nos : Tensor, int64
        The tiles, query by query.
    counts : list of int
        How many each query has.
    ids : Tensor, int64, shape (capacity,)
        The id of each stored row.
    k, metric_type : int

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
        Stored rows, -1 where there are fewer than k.
    guesses : Tensor, float32, shape (nq,)
        No other row has a score as small as this.
    """
    tile_set, facts = screen.tile_set, screen.tile_set.facts
    numbers = tile_nos.tolist()
    tiles, biases = tile_set.codes_of(numbers)
    always = [tile_set.always(tile) for tile in numbers] if len(facts.hidden) else []
    similarity = METRICS[metric_type].similarity
    ends = list(itertools.accumulate(counts, initial=0))
    widths = [sum(tile_set.widths[tile] for tile in numbers[begin:end]) for begin, end in itertools.pairwise(ends)]
    score_dtype = tile_set.arithmetic.score_dtype

    def part(queries: slice) -> tuple[Tensor, Tensor, Tensor]:
        of_part = slice(ends[queries.start], ends[queries.stop])
        room = workers.workspace(max(widths), tile_nos.device).view(score_dtype)[None]
        return _nearest(
            scorer.xq[queries],
            screen.codes[queries],
            screen.terms[queries],
            counts[queries],
            widths[queries],
            tile_nos[of_part],
            tiles[of_part],
            biases[of_part],
            always[of_part],
            facts,
            scorer.stored.vectors,
            ids,
            room,
            k,
            similarity,
        )

    threads = omp_get_max_threads()
    found = workers.map_over_workers(part, chunks.slices(scorer.nq, -(-scorer.nq // threads)), threads)
    keys, positions, guessed = (torch.cat(parts) for parts in zip(*found, strict=True))
    none = ~(keys < FLT_MAX)
    if bool(none.any()):
        keys, positions = keys.masked_fill(none, FLT_MAX), positions.masked_fill(none, -1)
    return keys.neg_() if similarity else keys, positions, guessed
