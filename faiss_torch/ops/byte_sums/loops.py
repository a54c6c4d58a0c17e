"""The search of few queries in blocks of codes, without the interpreter's lock: see `lists` and `scripted`."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import FLT_MAX
from ..runtime.scripted import scripted
from ..scoring import topk
from ..scoring.bounds import score_bases, score_factor
from ..scoring.small import SmallSet, closest_of_few
from .blocks import BLOCK_BITS, BLOCK_ROWS, NO_ROW, CodeBlocks, bounds_of, members_of, weights_of

#: Bytes of what is computed for the queries that are looked through at once.
GROUP_BYTES = 24 << 20

#: Rows that one query looks at, at most: their bounds are kept.
MOST_ROWS = 1 << 22

#: How many candidates are verified first, beside the k: a part of k, and some.
SLACK_SHARE, SLACK = 0.5, 20

#: A query that leaves more survivors is given up: components of them that are allowed in any case to all that are
#: searched again together, survivors for each of the k wanted, their share of the rows looked at.
FEW_COMPONENTS = 1 << 22
SURVIVORS_A_NEIGHBOUR = 24
LARGEST_SHARE = 1 / 16

#: The smallest bounds are looked for among chunks of so many with the smallest minima.
CHUNK_BITS = 5


class Storage(NamedTuple):
    """What a search reads of the stored vectors beside their blocks.

    Attributes
    ----------
    vectors : Tensor, float32, shape (capacity, d)
    ids : Tensor, int64, shape (capacity,), or None
        None where the rows themselves are the ids.
    largest_norm : float
    similarity : bool
        Whether they are compared by inner product, and not by L2 distance.
    bias : Tensor, float32, shape (capacity,), or None
        +inf of rows that must not be found, where a filter leaves only some.
    """

    vectors: Tensor
    ids: Tensor | None
    largest_norm: float
    similarity: bool
    bias: Tensor | None


class Look(NamedTuple):
    """What some queries see of the blocks that they look at, m blocks each at most.

    Attributes
    ----------
    chosen : Tensor, int64, shape (n, m)
        Which blocks these are; 0 where a query has fewer.
    bounds : Tensor, float32, shape (n, m * BLOCK_ROWS)
        Lower bounds of the scores of their rows; over NO_ROW where there is none.
    """

    chosen: Tensor
    bounds: Tensor


@scripted
def _filtered(
    bounds: Tensor, chosen: Tensor, blocks: CodeBlocks, bias: Tensor | None, no_row: float = NO_ROW
) -> Tensor:
    """Raise the bounds of the rows in chosen blocks, (m, BLOCK_ROWS), that must not be found."""
    if bias is None:
        return bounds
    inside = torch.arange(bounds.size(1), dtype=torch.int64, device="cpu")
    rows = blocks.rows.index_select(0, chosen).unsqueeze(1) + inside
    hidden = bias.index_select(0, rows.clamp_(max=bias.size(0) - 1).view(-1)) == float("inf")
    return bounds.masked_fill_(hidden.view_as(bounds), 2 * no_row)


@scripted
def _look_at(
    weights: Tensor,
    probes: Tensor,
    of_lists: Tensor,
    counts: list[int],
    blocks: CodeBlocks,
    bias: Tensor | None,
    block_rows: int = BLOCK_ROWS,
    no_row: float = NO_ROW,
) -> Look:
    """Compute bounds for the rows of the probed lists, (n, nprobe), which have `of_lists` blocks: `counts` a query."""
    n, most, total = len(counts), max(counts), sum(counts)
    if n == 1:
        chosen = members_of(blocks.firsts.index_select(0, probes.view(-1)), of_lists.view(-1), total)
        alone = _filtered(bounds_of(weights, chosen, None, blocks), chosen, blocks, bias)
        return Look(chosen.unsqueeze(0), alone.view(1, -1))
    # list by list, so that what several queries look at is read from memory once
    lists, order = probes.view(-1).sort()
    numbers = of_lists.view(-1).index_select(0, order)
    chosen = members_of(blocks.firsts.index_select(0, lists), numbers, total)
    firsts = torch.arange(0, n * most, most, dtype=torch.int64, device="cpu")
    begins = (of_lists.cumsum(1) - of_lists).add_(firsts.unsqueeze(1))
    places = members_of(begins.view(-1).index_select(0, order), numbers, total)
    owners = torch.div(places, most, rounding_mode="floor")
    bounds = torch.full([n * most, block_rows], 2 * no_row, dtype=torch.float32, device="cpu")
    bounds.index_copy_(0, places, _filtered(bounds_of(weights, chosen, owners, blocks), chosen, blocks, bias))
    all_chosen = torch.zeros([n * most], dtype=torch.int64, device="cpu").index_copy_(0, places, chosen)
    return Look(all_chosen.view(n, most), bounds.view(n, -1))


@scripted
def _smallest(bounds: Tensor, width: int, chunk_bits: int = CHUNK_BITS) -> tuple[Tensor, Tensor]:
    """Return the smallest bounds of each row, in ascending order, and their columns: (n, width)."""
    n = bounds.size(0)
    chunks = bounds.size(1) >> chunk_bits
    if chunks <= 2 * width:
        return bounds.topk(width, 1, False)
    # the `width` chunks with the smallest minima hold the smallest `width` of all
    in_chunks = bounds.view(n, chunks, 1 << chunk_bits)
    first = in_chunks.amin(2).topk(width, 1, False)[1]
    if n > 1:
        first = first + torch.arange(0, n * chunks, chunks, dtype=torch.int64, device="cpu").unsqueeze(1)
    some = in_chunks.view(n * chunks, -1).index_select(0, first.view(-1)).view(n, -1)
    best, at = some.topk(width, 1, False)
    columns = (first.gather(1, at >> chunk_bits) << chunk_bits).add_(at & ((1 << chunk_bits) - 1))
    if n > 1:
        begins = torch.arange(0, n * bounds.size(1), bounds.size(1), dtype=torch.int64, device="cpu")
        columns = columns - begins.unsqueeze(1)
    return best, columns


@scripted
def _stored_rows(columns: Tensor, chosen: Tensor, blocks: CodeBlocks, block_bits: int = BLOCK_BITS) -> Tensor:
    """Return which stored rows stand in columns, (n, width), of the bounds of chosen blocks, (n, m): (n, width)."""
    of_columns = chosen.gather(1, columns >> block_bits)
    begins = blocks.rows.index_select(0, of_columns.view(-1)).view_as(columns)
    return begins.add_(columns & ((1 << block_bits) - 1))


@scripted
def _keys(xq: Tensor, rows: Tensor, storage: Storage) -> Tensor:
    """Return the true distances of queries, (n, d), to rows, (n, width), negated for a similarity."""
    x, q = storage.vectors.index_select(0, rows.view(-1)).view(rows.size(0), rows.size(1), xq.size(1)), xq.unsqueeze(1)
    return x.mul_(q).sum(2).neg_() if storage.similarity else x.sub_(q).square_().sum(2)


@scripted
def _closest(
    xq: Tensor, rows: Tensor, there: Tensor | None, storage: Storage, k: int, missing: float = FLT_MAX
) -> tuple[Tensor, Tensor]:
    """Return the k closest of some rows, (n, width): keys and rows, (n, k).

    Parameters
    ----------
    xq : Tensor, float32, shape (n, d)
    rows : Tensor, int64, shape (n, width)
    there : Tensor, bool, shape (n, width), or None
        Which of these there are, if not all.
    storage : Storage
    k : int

    Returns
    -------
    keys : Tensor, float32, shape (n, k)
        True distances, negated for a similarity; FLT_MAX where there are fewer rows.
    rows : Tensor, int64, shape (n, k)
        -1 where there are fewer.
    """
    if there is not None:
        rows = rows.mul(there)
    keys = _keys(xq, rows, storage)
    table = storage.ids
    ids = rows if table is None else table.index_select(0, rows.view(-1)).view_as(rows)
    if there is not None:
        keys = keys.masked_fill_(there.logical_not(), missing)
        rows = rows.masked_fill(there.logical_not(), -1)
    fewer = k - keys.size(1)
    if fewer > 0:
        keys = torch.constant_pad_nd(keys, [0, fewer], missing)
        rows = torch.constant_pad_nd(rows, [0, fewer], -1)
        ids = torch.constant_pad_nd(ids, [0, fewer], -1)
    keys, columns = topk.sort_rows(keys, ids, k)
    return keys, rows.gather(1, columns)


@scripted
def _search_again(
    xq: Tensor,
    limits: Tensor,
    look: Look,
    blocks: CodeBlocks,
    storage: Storage,
    k: int,
    few_components: int = FEW_COMPONENTS,
    survivors_a_neighbour: int = SURVIVORS_A_NEIGHBOUR,
    largest_share: float = LARGEST_SHARE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the k closest of all rows whose bound is within a limit of their query's.

    Parameters
    ----------
    xq, limits, look
        Of n queries; the limits are float32, (n,).
    blocks, storage, k

    Returns
    -------
    keys, rows
        As `_closest`.
    certain : Tensor, bool, shape (n,)
        False of queries with too many such rows, whose keys and rows mean nothing.
    """
    n, width = look.bounds.size(0), look.bounds.size(1)
    near = look.bounds <= limits.unsqueeze(1)
    counts = near.sum(1)
    most = max(few_components // (n * xq.size(1)), survivors_a_neighbour * k, int(largest_share * width))
    certain = counts <= most
    if not bool(certain.all()):
        near = near & certain.unsqueeze(1)
        counts = counts * certain
    columns = near.view(-1).nonzero().view(-1)
    # laid out query by query, to the number of the one that has the most
    inside = torch.arange(int(counts.max()), dtype=torch.int64, device="cpu").unsqueeze(0)
    places = inside + (counts.cumsum(0) - counts).unsqueeze(1)
    there = inside < counts.unsqueeze(1)
    columns = columns.index_select(0, places.mul_(there).view(-1)).view_as(places)
    columns = columns.sub_(torch.arange(0, n * width, width, dtype=torch.int64, device="cpu").unsqueeze(1)).mul_(there)
    keys, rows = _closest(xq, _stored_rows(columns, look.chosen, blocks), there, storage, k)
    return keys, rows, certain


@scripted
def _width(k: int, slack_share: float = SLACK_SHARE, slack: int = SLACK) -> int:
    """How many candidates are verified first."""
    return k + int(slack_share * k) + slack


@scripted
def _limits_of_found(xq: Tensor, keys: Tensor, rows: Tensor, blocks: CodeBlocks, storage: Storage) -> Tensor:
    """What the scores of the rows that queries have found are at most, of inner products: float32, (n,).

    Their rounding grows with the norm. Here it is by the norms of these rows, (n, k), and not by that of the largest of
    all, which may be much larger than the others.
    """
    norms = torch.linalg.vector_norm(storage.vectors.index_select(0, rows.clamp(min=0).view(-1)), dim=1)
    reach = norms.view_as(keys) * torch.linalg.vector_norm(xq, dim=1, keepdim=True)
    bases, _ = score_bases(xq, blocks.shift, 0.0, blocks.rounding, True)
    return reach.mul_(blocks.rounding).add_(keys).amax(1).add_(bases)


@scripted
def _of_group(
    xq: Tensor, bases: Tensor, look: Look, blocks: CodeBlocks, storage: Storage, k: int, no_row: float = NO_ROW
) -> tuple[Tensor, Tensor, Tensor]:
    """Search what a group of queries look at: keys and rows, (n, k), and which queries are certain: bool, (n,)."""
    width = min(_width(k), look.bounds.size(1))
    best, columns = _smallest(look.bounds, width)
    last = best.select(1, width - 1)
    there: Tensor | None = None
    if float(last.amax()) > no_row:
        there = best <= no_row
    keys, rows = _closest(xq, _stored_rows(columns, look.chosen, blocks), there, storage, k)
    if width == look.bounds.size(1):
        return keys, rows, torch.ones_like(last, dtype=torch.bool)
    kth = keys.select(1, k - 1)
    factor = score_factor(blocks.rounding, storage.similarity)
    limits = torch.add(bases, kth.neg() if storage.similarity else kth, alpha=factor)
    certain = limits < last
    if storage.similarity and not bool(certain.all()):
        limits = torch.minimum(limits, _limits_of_found(xq, keys, rows, blocks, storage))
        certain = limits < last
    if there is not None:
        certain = certain | (last > no_row)
    if bool(certain.all()):
        return keys, rows, certain
    again = certain.logical_not().nonzero().view(-1)
    look = Look(look.chosen.index_select(0, again), look.bounds.index_select(0, again))
    found = _search_again(xq.index_select(0, again), limits.index_select(0, again), look, blocks, storage, k)
    keys = keys.index_copy(0, again, found[0])
    return keys, rows.index_copy(0, again, found[1]), certain.index_copy(0, again, found[2])


@scripted
def _integers(values: Tensor) -> list[int]:
    numbers: list[int] = values.tolist()
    return numbers


@scripted
def search_lists(
    xq: Tensor,
    probes: Tensor,
    blocks: CodeBlocks,
    storage: Storage,
    k: int,
    group_bytes: int = GROUP_BYTES,
    most_blocks: int = MOST_ROWS // BLOCK_ROWS,
    block_rows: int = BLOCK_ROWS,
    missing: float = FLT_MAX,
) -> tuple[Tensor, Tensor, Tensor]:
    """Search lists for some queries.

    Parameters
    ----------
    xq : Tensor, float32, shape (n, d)
        n at least 1.
    probes : Tensor, int64, shape (n, nprobe)
        The last list of the blocks, which is none, where there are fewer.
    blocks : CodeBlocks
    storage : Storage
    k : int

    Returns
    -------
    distances : Tensor, float32, shape (n, k)
    rows : Tensor, int64, shape (n, k)
        Stored rows, -1 where there are fewer than k.
    certain : Tensor, bool, shape (n,)
        Whether this is a query's result; if not it means nothing.
    """
    n, similarity = xq.size(0), storage.similarity
    x = xq if similarity else xq - blocks.shift
    bases, finite = score_bases(x, blocks.shift, storage.largest_norm, blocks.rounding, similarity)
    if not finite:
        unsaid = torch.empty([n, k], dtype=torch.float32, device="cpu")
        return unsaid, torch.empty_like(unsaid, dtype=torch.int64), torch.zeros([n], dtype=torch.bool, device="cpu")
    weights = weights_of(x, blocks, similarity)
    of_lists = blocks.counts.index_select(0, probes.view(-1)).view_as(probes)
    counts = [int(of_lists.sum())] if n == 1 else _integers(of_lists.sum(1))
    block_bytes = 12 * weights.size(1) + 4 * block_rows
    query_bytes = 8 * xq.size(1) * _width(k)
    keys: list[Tensor] = []
    rows: list[Tensor] = []
    certain: list[Tensor] = []
    begin = 0
    while begin < n:
        end, most = begin + 1, counts[begin]
        while end < n and (end + 1 - begin) * (max(most, counts[end]) * block_bytes + query_bytes) <= group_bytes:
            most = max(most, counts[end])
            end += 1
        if most == 0 or most > most_blocks:
            nothing = torch.full([end - begin, k], missing, dtype=torch.float32, device="cpu")
            all_found = torch.full([end - begin], most == 0, dtype=torch.bool, device="cpu")
            found = nothing, torch.full_like(nothing, -1, dtype=torch.int64), all_found
        elif end - begin == n:
            look = _look_at(weights, probes, of_lists, counts, blocks, storage.bias)
            found = _of_group(xq, bases, look, blocks, storage, k)
        else:
            look = _look_at(
                weights[begin:end], probes[begin:end], of_lists[begin:end], counts[begin:end], blocks, storage.bias
            )
            found = _of_group(xq[begin:end], bases[begin:end], look, blocks, storage, k)
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
    storage: Storage,
    k: int,
) -> tuple[Tensor, Tensor, Tensor, bool, int, int]:
    """Choose the lists of some queries and search them: see `search_lists`.

    Behind what that returns come whether all are certain, how many of the lists that the certain ones look at have
    rows, and how many rows these have.
    """
    probes, known = closest_of_few(xq, centroids, nprobe, factor)
    probes = probes.contiguous()
    rows = sizes.index_select(0, probes.view(-1))
    found, places, certain = search_lists(xq, probes, blocks, storage, k)
    certain = certain & known
    all_certain = bool(certain.all())
    if not all_certain:
        rows = rows.view_as(probes)[certain]
    return found, places, certain, all_certain, int(rows.count_nonzero()), int(rows.sum())
