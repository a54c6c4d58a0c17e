"""The search of few queries in blocks of codes, without the interpreter's lock: see `ivf_blocks` and `scripted`."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..constants import FLT_MAX
from . import topk
from .code_blocks import BLOCK_BITS, BLOCK_ROWS, CodeBlocks, members_of
from .flat_small import SmallSet, closest_of_few
from .int8_tiles import LARGEST, encoded
from .scripted import scripted
from .tile_kernels import LARGEST_LIMIT
from .verify_kernels import score_bases, score_factor

#: Queries that are looked through at once, at most, and as long as they look at no more rows than this together.
GROUP = 64
ROWS_OF_A_GROUP = 1 << 17

#: Rows that one query looks at, at most: their scores are kept.
MOST_ROWS = 1 << 22

#: A query with more survivors is given up: components of them that are allowed in any case to a group, survivors for
#: each of the k wanted, their share of the rows looked at.
FEW_COMPONENTS = 1 << 22
SURVIVORS_A_NEIGHBOUR = 24
LARGEST_SHARE = 1 / 16

#: Minima for each of the k wanted, from which the k-th score is guessed: blocks are parted, to this many, to have them.
MINIMA_A_NEIGHBOUR = 4
MOST_PARTS = 8


class Encoded(NamedTuple):
    """What is known of some queries.

    Attributes
    ----------
    codes : Tensor, int8, shape (n, width)
    steps : Tensor, float32, shape (n,)
    lower : Tensor, float32, shape (n,)
        A score is ``(computed - lower) * step of the block * step of the query + offset`` at least.
    unused : int
        The smallest computed score of rows that are not used, or hidden.
    bases : Tensor, float32, shape (n,)
        See `verify_kernels.score_bases`.
    """

    codes: Tensor
    steps: Tensor
    lower: Tensor
    unused: int
    bases: Tensor


class Look(NamedTuple):
    """The scores of all rows that some queries look at, block by block: nblock in all.

    Attributes
    ----------
    chosen : Tensor, int64, shape (nblock,)
        Which blocks these are, query by query.
    owners : Tensor, int64, shape (nblock,), or None
        The query of each, where there are several.
    scores : Tensor, int32, shape (nblock * BLOCK_ROWS,)
    minima : Tensor, int32, shape (nblock, parts)
        Of the parts of each block.
    scales, offsets : Tensor, float32, shape (nblock,)
        A computed score stands for ``computed * scale + offset``.
    """

    chosen: Tensor
    owners: Tensor | None
    scores: Tensor
    minima: Tensor
    scales: Tensor
    offsets: Tensor


@scripted
def _encode(
    xq: Tensor, blocks: CodeBlocks, largest_norm: float, similarity: bool, largest_code: int = LARGEST
) -> tuple[Encoded, bool]:
    """Encode queries, (n, d); and whether all that is computed of them will be finite."""
    x = xq if similarity else xq - blocks.shift
    bases, finite = score_bases(x, blocks.shift, largest_norm, blocks.rounding, similarity)
    codes, steps, norms, residuals = encoded(x, blocks.ratio, blocks.digits)
    lower = residuals.mul_(blocks.norm_in_steps).add_(norms, alpha=blocks.residual_in_steps).div_(steps)
    unused = int(codes.select(1, -1).amin()) * largest_code * blocks.digits
    return Encoded(codes, steps, lower, unused, bases), finite


@scripted
def _part(queries: Encoded, begin: int, end: int) -> Encoded:
    """Some of the queries."""
    return Encoded(
        queries.codes[begin:end],
        queries.steps[begin:end],
        queries.lower[begin:end],
        queries.unused,
        queries.bases[begin:end],
    )


@scripted
def _integers(values: Tensor) -> list[int]:
    numbers: list[int] = values.tolist()
    return numbers


@scripted
def _multiply(
    codes: Tensor,
    chosen: Tensor,
    counts: list[int],
    blocks: CodeBlocks,
    room: Tensor,
    block_rows: int = BLOCK_ROWS,
) -> Tensor:
    """Compute the scores of queries, int8, (n, width), for the rows of so many blocks each: int32, (rows,).

    The room, int8, (bytes,), is for one block or more.
    """
    scores = torch.empty([1, chosen.size(0) * block_rows], dtype=torch.int32)
    step, begin = room.size(0) // blocks.codes.size(1), 0
    in_blocks = room[: step * blocks.codes.size(1)].view(step, -1)
    factor = in_blocks.view(-1, blocks.width).t()
    for query in range(len(counts)):
        behind = begin + counts[query]
        code = codes.narrow(0, query, 1)
        while begin < behind:
            n = min(step, behind - begin)
            copied = in_blocks if n == step else in_blocks.narrow(0, 0, n)
            rows = factor if n == step else factor.narrow(1, 0, n * block_rows)
            torch.index_select(blocks.codes, 0, chosen.narrow(0, begin, n), out=copied)
            torch._int_mm(code, rows, out=scores.narrow(1, begin * block_rows, n * block_rows))
            begin += n
    return scores.view(-1)


@scripted
def _spread(values: Tensor, owners: Tensor | None) -> Tensor:
    """Give each element what belongs to its query: (n, ...) -> (m, ...), or (1, ...) of one query."""
    return values if owners is None else values.index_select(0, owners)


@scripted
def _by_query(values: Tensor, counts: list[int], fill: float) -> Tensor:
    """Lay out what each query has so many of: (m,) -> (n, most of them)."""
    if len(counts) == 1:
        return values.unsqueeze(0)
    return torch.nn.utils.rnn.pad_sequence(values.split(counts), True, fill)


@scripted
def _survivors(
    look: Look,
    limits: Tensor,
    blocks: CodeBlocks,
    unused: int,
    block_bits: int = BLOCK_BITS,
    largest: float = LARGEST_LIMIT,
) -> tuple[Tensor, Tensor | None]:
    """Find the stored rows whose score is within the limit of their block.

    Parameters
    ----------
    look : Look
    limits : Tensor, float32, shape (nblock,)
        Overwritten.
    blocks : CodeBlocks
    unused : int
        The smallest score of rows that are not used, or hidden.

    Returns
    -------
    rows : Tensor, int64, shape (n,)
        Stored rows, query by query.
    queries : Tensor, int64, shape (n,), or None
        The query of each, where there are several.
    """
    minima, chosen, owners = look.minima, look.chosen, look.owners
    part_bits = 0
    while (1 << part_bits) < minima.size(1):
        part_bits += 1
    row_bits = block_bits - part_bits
    all_used = float(limits.amax()) < unused
    bounds = limits.clamp_(-largest, largest).ceil_().to(torch.int32).unsqueeze(1)
    hits = (minima <= bounds).view(-1).nonzero().view(-1)
    of_hits = hits >> part_bits if part_bits > 0 else hits
    near = look.scores.view(-1, 1 << row_bits).index_select(0, hits) <= bounds.index_select(0, of_hits)
    found = near.view(-1).nonzero().view(-1)
    begins = blocks.rows.index_select(0, chosen.index_select(0, of_hits))
    if part_bits > 0:
        begins += (hits & ((1 << part_bits) - 1)) << row_bits
    hit = found >> row_bits
    rows = begins.index_select(0, hit).add_(found & ((1 << row_bits) - 1))
    queries = None if owners is None else owners.index_select(0, of_hits.index_select(0, hit))
    if not all_used:
        block = chosen.index_select(0, of_hits.index_select(0, hit))
        used = rows - blocks.rows.index_select(0, block) < blocks.used.index_select(0, block)
        used = used & ~torch.isin(rows, blocks.hidden_rows)
        rows = rows[used]
        queries = None if queries is None else queries[used]
    return rows, queries


@scripted
def _with_hidden(
    rows: Tensor, queries: Tensor | None, probes: Tensor, blocks: CodeBlocks
) -> tuple[Tensor, Tensor | None]:
    """Add the hidden rows of the probed lists, (n, nprobe), to rows that queries look at, query by query."""
    counts = blocks.hidden_counts.index_select(0, probes.view(-1))
    firsts = blocks.hidden_firsts.index_select(0, probes.view(-1))
    hidden = blocks.hidden_rows.index_select(0, members_of(firsts, counts, int(counts.sum())))
    if queries is None:
        return torch.cat([rows, hidden]), None
    of_hidden = torch.repeat_interleave(counts.view_as(probes).sum(1), output_size=hidden.size(0))
    queries, order = torch.cat([queries, of_hidden]).sort(stable=True)
    return torch.cat([rows, hidden]).index_select(0, order), queries


@scripted
def _without_those(
    rows: Tensor, queries: Tensor | None, counts: list[int], most: int
) -> tuple[Tensor, Tensor | None, list[int]]:
    """Take out the rows of queries that have more than so many."""
    if queries is None:
        return rows[:0], None, [0]
    few = torch.tensor(counts) <= most
    kept = few.index_select(0, queries)
    return rows[kept], queries[kept], [count if count <= most else 0 for count in counts]


@scripted
def _closest(
    xq: Tensor,
    rows: Tensor,
    queries: Tensor | None,
    counts: list[int],
    vectors: Tensor,
    ids: Tensor,
    k: int,
    similarity: bool,
    missing: float = FLT_MAX,
) -> tuple[Tensor, Tensor]:
    """Return the k closest of the rows that each query has, so many of them: keys and rows, (n, k).

    The keys are true distances, negated for a similarity; FLT_MAX and -1 where there are fewer.
    """
    x, q = vectors.index_select(0, rows), _spread(xq, queries)
    each = x.mul_(q).sum(1).neg_() if similarity else x.sub_(q).square_().sum(1)
    keys = _by_query(each, counts, missing)
    rows = _by_query(rows, counts, -1.0)
    fewer = k - keys.size(1)
    if fewer > 0:
        keys = torch.constant_pad_nd(keys, [0, fewer], missing)
        rows = torch.constant_pad_nd(rows, [0, fewer], -1)
    there = rows if len(counts) == 1 and fewer <= 0 else rows.clamp(min=0)
    of_rows = ids.index_select(0, there.view(-1)).view_as(rows)
    keys, columns = topk.sort_rows(keys, of_rows, k)
    return keys, rows.gather(1, columns)


@scripted
def _look_at(
    queries: Encoded,
    probes: Tensor,
    of_lists: Tensor,
    counts: list[int],
    blocks: CodeBlocks,
    k: int,
    room: Tensor,
    block_rows: int = BLOCK_ROWS,
    minima_a_neighbour: int = MINIMA_A_NEIGHBOUR,
    most_parts: int = MOST_PARTS,
) -> Look:
    """Compute the scores of all rows that some queries look at: see `_of_group`."""
    n = len(counts)
    chosen = members_of(blocks.firsts.index_select(0, probes.view(-1)), of_lists.view(-1), sum(counts))
    owners: Tensor | None = None
    if n > 1:
        owners = torch.repeat_interleave(torch.tensor(counts), output_size=chosen.size(0))
    scores = _multiply(queries.codes, chosen, counts, blocks, room)
    parts = 1
    while chosen.size(0) * parts < minima_a_neighbour * k * n and parts < most_parts:
        parts *= 2
    return Look(
        chosen,
        owners,
        scores,
        scores.view(-1, parts, block_rows // parts).amin(2),
        blocks.steps.index_select(0, chosen).mul_(_spread(queries.steps, owners)),
        blocks.offsets.index_select(0, chosen),
    )


@scripted
def _guess(
    look: Look, queries: Encoded, counts: list[int], k: int, doubt: float, infinite: float = float("inf")
) -> Tensor:
    """Guess the k-th smallest score of each query, which has so many blocks: float32, (n,), seldom too small."""
    values = torch.add(look.minima, _spread(queries.lower, look.owners).unsqueeze(1), alpha=doubt)
    values = values.mul_(look.scales.unsqueeze(1)).add_(look.offsets.unsqueeze(1)).view(-1)
    parts = look.minima.size(1)
    by_query = _by_query(values, [count * parts for count in counts], infinite)
    if by_query.size(1) < k:
        return torch.full([len(counts)], infinite)
    return by_query.topk(k, dim=1, largest=False)[0].select(1, k - 1)


@scripted
def _of_group(
    xq: Tensor,
    queries: Encoded,
    probes: Tensor,
    of_lists: Tensor,
    counts: list[int],
    blocks: CodeBlocks,
    vectors: Tensor,
    ids: Tensor,
    k: int,
    similarity: bool,
    room: Tensor,
    few_components: int = FEW_COMPONENTS,
    survivors_a_neighbour: int = SURVIVORS_A_NEIGHBOUR,
    largest_share: float = LARGEST_SHARE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Search lists for a group of queries: keys and rows, (n, k), and which queries are certain: bool, (n,).

    The probed lists, (n, nprobe), have `of_lists` blocks, and those of each query `counts`.
    """
    n = xq.size(0)
    look = _look_at(queries, probes, of_lists, counts, blocks, k, room)
    guess = _guess(look, queries, counts, k, blocks.doubt)
    factor = score_factor(blocks.rounding, similarity)
    most = max(
        few_components // (n * xq.size(1)), survivors_a_neighbour * k, int(largest_share * look.scores.size(0) / n)
    )
    keys, rows, certain = guess, look.chosen, guess
    for _attempt in range(2):
        limits = (_spread(guess, look.owners) - look.offsets).div_(look.scales)
        limits = limits.add_(_spread(queries.lower, look.owners))
        rows, of_rows = _survivors(look, limits, blocks, queries.unused)
        if blocks.hidden_rows.size(0) > 0:
            rows, of_rows = _with_hidden(rows, of_rows, probes, blocks)
        found = [rows.size(0)]
        if of_rows is not None:
            found = _integers(torch.bincount(of_rows, minlength=n))
        given_up = max(found) > most
        if given_up:
            rows, of_rows, found = _without_those(rows, of_rows, found, most)
        keys, rows = _closest(xq, rows, of_rows, found, vectors, ids, k, similarity)
        kth = keys.select(1, k - 1)
        bounds = torch.add(queries.bases, kth.neg() if similarity else kth, alpha=factor)
        certain = bounds <= guess
        if given_up:
            certain = certain & (torch.tensor(found) > 0)
        if given_up or bool(certain.all()):
            break
        guess = torch.maximum(guess, bounds)
    return keys, rows, certain


@scripted
def search_lists(
    xq: Tensor,
    probes: Tensor,
    blocks: CodeBlocks,
    vectors: Tensor,
    ids: Tensor,
    largest_norm: float,
    k: int,
    similarity: bool,
    room: Tensor,
    group: int = GROUP,
    blocks_of_group: int = ROWS_OF_A_GROUP // BLOCK_ROWS,
    most_blocks: int = MOST_ROWS // BLOCK_ROWS,
    missing: float = FLT_MAX,
) -> tuple[Tensor, Tensor, Tensor]:
    """Search lists for some queries: see `_of_group`, with distances in the place of keys."""
    n = xq.size(0)
    queries, finite = _encode(xq, blocks, largest_norm, similarity)
    if not finite:
        return torch.empty([n, k]), torch.empty([n, k], dtype=torch.int64), torch.zeros([n], dtype=torch.bool)
    of_lists = blocks.counts.index_select(0, probes.view(-1)).view_as(probes)
    all_counts = [int(of_lists.sum())] if n == 1 else _integers(of_lists.sum(1))
    keys: list[Tensor] = []
    rows: list[Tensor] = []
    certain: list[Tensor] = []
    begin = 0
    while begin < n:
        end, nblock = begin + 1, all_counts[begin]
        while end < min(begin + group, n) and nblock + all_counts[end] <= blocks_of_group:
            nblock += all_counts[end]
            end += 1
        if nblock > 0 and nblock <= most_blocks:
            if end - begin == n:
                found = _of_group(xq, queries, probes, of_lists, all_counts, blocks, vectors, ids, k, similarity, room)
            else:
                found = _of_group(
                    xq[begin:end],
                    _part(queries, begin, end),
                    probes[begin:end],
                    of_lists[begin:end],
                    all_counts[begin:end],
                    blocks,
                    vectors,
                    ids,
                    k,
                    similarity,
                    room,
                )
        else:
            nothing = torch.full([end - begin, k], missing), torch.full([end - begin, k], -1)
            found = nothing[0], nothing[1], torch.full([end - begin], nblock == 0)
        keys.append(found[0].neg() if similarity else found[0])
        rows.append(found[1])
        certain.append(found[2])
        begin = end
    if len(keys) == 1:
        return keys[0], rows[0], certain[0]
    return torch.cat(keys), torch.cat(rows), torch.cat(certain)


@scripted
def probe_and_search_lists(
    xq: Tensor,
    centroids: SmallSet,
    nprobe: int,
    factor: float,
    sizes: Tensor,
    blocks: CodeBlocks,
    vectors: Tensor,
    ids: Tensor,
    largest_norm: float,
    k: int,
    similarity: bool,
    room: Tensor,
) -> tuple[Tensor, Tensor, Tensor, bool, int, int]:
    """Choose the lists of some queries and search them: see `search_lists`.

    Behind what that returns come whether all are certain, how many of the lists that the certain ones look at have
    rows, and how many rows these have.
    """
    probes, known = closest_of_few(xq, centroids, nprobe, factor)
    probes = probes.contiguous()
    rows = sizes.index_select(0, probes.view(-1))
    found, places, certain = search_lists(xq, probes, blocks, vectors, ids, largest_norm, k, similarity, room)
    certain = certain & known
    all_certain = bool(certain.all())
    if not all_certain:
        rows = rows.view_as(probes)[certain]
    return found, places, certain, all_certain, int(rows.count_nonzero()), int(rows.sum())
