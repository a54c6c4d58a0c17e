"""The scan of inverted lists by tiles for few queries: query by query, all of it without the interpreter's lock.

Few queries seldom look at the same list, and then a product is one query with one tile, which comes from memory. What
`tile_scan` does for a batch in several steps, with tasks of tiles, is done here in one task of some queries: the scores
of all their tiles stand one behind the other, are reduced, guessed from and looked through at once, and all survivors
are verified.
"""

import itertools

import torch
from torch import Tensor

from ..constants import FLT_MAX
from ..threads import omp_get_max_threads
from . import chunks, topk, workers
from .distances import METRICS
from .scan_kernels import Look, looked, survivors_of, write_guesses
from .screen import Scorer
from .scripted import scripted
from .tile_kernels import CHUNK_BITS, TileFacts, guesses, kth_smallest
from .tile_scan import BATCH_SCORES, LARGEST_SHARE, SURVIVORS_A_NEIGHBOUR
from .tile_screen import Screen

#: Another worker is woken for so many queries.
QUERIES_A_WORKER = 4

#: Components of survivors that are verified in any case, and of those that are gathered at once.
FEW_COMPONENTS = 1 << 19
GATHERED_COMPONENTS = 1 << 22


@scripted
def _multiply(
    codes: Tensor, counts: list[int], tile_nos: Tensor, tiles: list[Tensor], biases: list[Tensor], out: Tensor
) -> None:
    """Write the scores of queries, (n, width), for `counts` tiles each, one behind the other: (1, columns).

    The products come in the order of the tiles: where two queries look at one, the second finds it in a core's cache.
    """
    scores = out.split([tile.size(1) for tile in tiles], 1)
    rows = codes.split(1)
    owners: list[int] = []
    for query in range(len(counts)):
        owners += [query] * counts[query]
    order = tile_nos.argsort() if len(counts) > 1 else torch.arange(len(tiles))
    pairs: list[int] = order.tolist()
    for pair in pairs:
        code = rows[owners[pair]]
        if code.dtype == torch.int8:
            torch._int_mm(code, tiles[pair], out=scores[pair])
        else:
            torch.add(torch.mm(code, tiles[pair]), biases[pair], out=scores[pair])


@scripted
def _guess(look: Look, counts: list[int], facts: TileFacts, k: int) -> Tensor:
    """Guess the k-th smallest score of each query, which has so many pairs, from all chunks: float32, (n,)."""
    n, nchunk = len(counts), look.minima.size(0)
    if n == 1:
        values = guesses(look.minima, look.terms, look.tiles, look.owners, look.firsts, look.firsts, facts)[0]
        return kth_smallest(values[None], k)
    pairs = [0]
    for count in counts:
        pairs.append(pairs[-1] + count)
    edges = torch.cat([look.firsts, torch.tensor([nchunk])]).index_select(0, torch.tensor(pairs))
    width = int(edges.diff().amax())
    places = look.firsts - edges.index_select(0, look.queries)
    minima = torch.full([n * width], float("inf"))
    write_guesses(look, places, width, facts, minima)
    return kth_smallest(minima.view(n, width), k)


@scripted
def _closest(
    xq: Tensor,
    positions: Tensor,
    counts: Tensor,
    vectors: Tensor,
    ids: Tensor,
    k: int,
    similarity: bool,
    missing: float = FLT_MAX,
) -> tuple[Tensor, Tensor]:
    """Find the closest of the rows that each query has, `counts` each, query by query.

    Returns
    -------
    keys, rows : Tensor, shape (n, k) or less where no query has as many
        True distances, negated for a similarity, and stored rows; FLT_MAX where there are fewer.
    """
    n, d = xq.size(0), xq.size(1)
    width = int(counts.amax())
    source = (counts.cumsum(0) - counts).unsqueeze(1) + torch.arange(width)
    if n > 1:
        source.clamp_(max=positions.size(0) - 1)
    rows = positions.index_select(0, source.view(-1))
    x = vectors.index_select(0, rows).view(n, width, d)
    x = x.mul_(xq.unsqueeze(1)) if similarity else x.sub_(xq.unsqueeze(1)).square_()
    keys = x.sum(2).neg_() if similarity else x.sum(2)
    if n > 1:
        keys.masked_fill_(torch.arange(width) >= counts.unsqueeze(1), missing)
    keys, columns = topk.sort_rows(keys, ids.index_select(0, rows).view(n, width), min(k, width))
    return keys, rows.view(n, width).gather(1, columns)


@scripted
def _select(
    xq: Tensor,
    terms: Tensor,
    scores: Tensor,
    counts: list[int],
    tiles: Tensor,
    always: list[Tensor],
    facts: TileFacts,
    vectors: Tensor,
    ids: Tensor,
    k: int,
    similarity: bool,
    few_components: int = FEW_COMPONENTS,
    gathered_components: int = GATHERED_COMPONENTS,
    survivors_a_neighbour: int = SURVIVORS_A_NEIGHBOUR,
    largest_share: float = LARGEST_SHARE,
    missing: float = FLT_MAX,
    chunk_bits: int = CHUNK_BITS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the closest rows of the tiles that each of some queries looks at.

    Parameters
    ----------
    xq, terms : Tensor, shape (n, d) and (n, 4)
        The queries: see `tile_screen.Screen`.
    scores : Tensor, shape (columns,)
        Computed scores, query by query, of all tiles that it looks at.
    counts : list of int
        How many tiles each query looks at.
    tiles : Tensor, int64
        Which these are.
    always : list of Tensor
        For each of them, rows that are not in it; nothing where there are no such rows at all.
    facts : TileFacts
    vectors, ids : Tensor, shape (capacity, d) and (capacity,)
    k : int
    similarity : bool
    few_components ...
        The constants, which TorchScript sees as defaults.

    Returns
    -------
    keys : Tensor, float32, shape (n, k)
        Distances, negated for a similarity.
    rows : Tensor, int64, shape (n, k)
        Stored rows; any where there are fewer and the key is FLT_MAX or more.
    guesses : Tensor, float32, shape (n,)
        No other row has a score as small as this.
    """
    n, d = xq.size(0), xq.size(1)
    owners = torch.repeat_interleave(torch.tensor(counts), output_size=tiles.size(0))
    chunk_scores = scores.view(-1, 1 << chunk_bits)
    look = looked(owners, owners, terms.index_select(0, owners), tiles, chunk_scores, facts)
    guessed = _guess(look, counts, facts, k)
    queries, positions, _ = survivors_of(look, guessed * terms[:, 0], facts)
    if len(always) > 0:
        seen = ~torch.isin(positions, facts.hidden)
        hidden = torch.cat(always)
        of_hidden = torch.repeat_interleave(owners, torch.tensor([rows.size(0) for rows in always]))
        queries, order = torch.cat([queries[seen], of_hidden]).sort(stable=True)
        positions = torch.cat([positions[seen], hidden]).index_select(0, order)
    found = torch.bincount(queries, minlength=n)
    most = max(few_components // d, survivors_a_neighbour * k, int(largest_share * scores.size(0) / n))
    if positions.size(0) > most and bool((found > most).any()):
        given_up = found > most
        guessed.masked_fill_(given_up, -float("inf"))
        positions = positions[~given_up.index_select(0, queries)]
        found = found.masked_fill(given_up, 0)
    if positions.size(0) > 0 and n * int(found.amax()) * d <= gathered_components:
        some_keys, some_rows = _closest(xq, positions, found, vectors, ids, k, similarity)
        if some_keys.size(1) == k:
            return some_keys, some_rows, guessed
    keys = torch.full([n, k], missing)
    rows = torch.full([n, k], -1, dtype=torch.int64)
    begin = 0
    for query in range(n):
        end = begin + int(found[query])
        if end > begin:
            one = found[query : query + 1]
            some_keys, some_rows = _closest(
                xq[query : query + 1], positions[begin:end], one, vectors, ids, k, similarity
            )
            keys[query, : some_keys.size(1)] = some_keys[0]
            rows[query, : some_rows.size(1)] = some_rows[0]
        begin = end
    return keys, rows, guessed


@scripted
def _nearest(
    xq: Tensor,
    codes: Tensor,
    terms: Tensor,
    counts: list[int],
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Multiply, with room for the scores, (1, columns), and select: see `_multiply` and `_select`."""
    _multiply(codes, counts, tile_nos, tiles, biases, room)
    return _select(xq, terms, room[0], counts, tile_nos, always, facts, vectors, ids, k, similarity)


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
    similarity, vectors = METRICS[metric_type].similarity, scorer.stored.vectors
    numbers = tile_nos.tolist()
    if not numbers:
        keys = scorer.xq.new_full((scorer.nq, k), -FLT_MAX if similarity else FLT_MAX)
        return keys, tile_nos.new_full((scorer.nq, k), -1), scorer.xq.new_full((scorer.nq,), float("inf"))
    tiles, biases = tile_set.codes_of(numbers)
    always = [tile_set.always(tile) for tile in numbers] if len(facts.hidden) else []
    ends = list(itertools.accumulate(counts, initial=0))
    widths = list(itertools.accumulate((tile_set.widths[tile] for tile in numbers), initial=0))
    threads = omp_get_max_threads()

    def some_queries(queries: slice) -> tuple[Tensor, Tensor, Tensor]:
        begin, end = ends[queries.start], ends[queries.stop]
        columns = widths[end] - widths[begin]
        room = workers.workspace(columns, tile_nos.device).view(tile_set.arithmetic.score_dtype)
        return _nearest(
            scorer.xq[queries],
            screen.codes[queries],
            screen.terms[queries],
            counts[queries],
            tile_nos[begin:end],
            tiles[begin:end],
            biases[begin:end],
            always[begin:end],
            facts,
            vectors,
            ids,
            room[:columns][None],
            k,
            similarity,
        )

    step = min(max(QUERIES_A_WORKER, -(-scorer.nq // threads)), max(1, BATCH_SCORES * scorer.nq // max(1, widths[-1])))
    found = workers.map_over_workers(some_queries, chunks.slices(scorer.nq, step), threads)
    keys, positions, guessed = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
    none = keys >= FLT_MAX
    if bool(none.any()):
        keys, positions = keys.masked_fill(none, FLT_MAX), positions.masked_fill(none, -1)
    return keys.neg_() if similarity else keys, positions, guessed
