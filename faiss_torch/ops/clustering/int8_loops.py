"""The inner loops of an assignment by int8, without the interpreter's lock: see `scripted`."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.scripted import scripted
from ..tiles.loops import where_true

#: Differences of integer products are no more than this.
LARGEST_DIFFERENCE = 2.0**30


class CentroidCodes(NamedTuple):
    """Centroids in int8, in the order of their largest component: see `clustering.int8_codes`.

    Attributes
    ----------
    vectors : Tensor, float32, shape (k, d)
        The centroids themselves, in their own order.
    codes : Tensor, int8, shape (d + digits, columns)
        Columns beyond the k-th repeat the last one.
    labels : Tensor, int64, shape (columns,)
        The centroid in each column.
    places : Tensor, int64, shape (k,)
        The column of each centroid.
    steps, offsets : Tensor, float32, shape (blocks,)
    norms, residuals : Tensor, float32, shape (blocks,)
        Upper bounds of |c'| and |c' - c~|.
    rounding : Tensor, float32, shape (blocks,)
        How much larger a score may be, in steps of the vector, for what float32 rounds.
    largest_norm : float
        Of all c'.
    lowest : int
        What stands in the place of an integer product that is not to be found: no more than any other.
    """

    vectors: Tensor
    codes: Tensor
    labels: Tensor
    places: Tensor
    steps: Tensor
    offsets: Tensor
    norms: Tensor
    residuals: Tensor
    rounding: Tensor
    largest_norm: float
    lowest: int


@scripted
def encode(
    x: Tensor,
    shift: Tensor | None,
    ratio: float,
    largest: int,
    room: Tensor,
    codes: Tensor,
    steps: Tensor,
    norms: Tensor,
    residuals: Tensor,
) -> None:
    """Write the codes of vectors, and what is known of them.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    shift, ratio
        Those of the `clustering.int8_codes.Frame`.
    largest : int
        The largest code.
    room : Tensor, float32, shape (2 * n * d,) or more
        For intermediate results.
    codes, steps, norms, residuals : Tensor
        See `clustering.int8_codes.VectorCodes`; written.
    """
    n, d = x.size(0), x.size(1)
    rounded = room[: n * d].view(n, d)
    moved = x if shift is None else torch.sub(x, shift, out=room[n * d : 2 * n * d].view(n, d))
    norms.copy_(torch.linalg.vector_norm(moved, dim=1))
    least = torch.abs(moved, out=rounded).amax(1).mul_((1 + 1e-6) / largest)
    weights = torch.floor(ratio / least).clamp_(max=largest)
    steps.copy_(ratio / weights)
    torch.mul(moved, (weights * (1 / ratio)).unsqueeze(1), out=rounded).round_()
    codes[:, :d].copy_(rounded)
    codes[:, d:].copy_(weights.unsqueeze(1))
    rounded.mul_(steps.unsqueeze(1)).sub_(moved)
    residuals.copy_(torch.linalg.vector_norm(rounded, dim=1))


@scripted
def keys_among(
    x: Tensor, rows: Tensor | None, centroids: Tensor, labels: Tensor, similarity: bool, room: Tensor
) -> Tensor:
    """True distances, or negated inner products, of vectors and centroids: float32, shape (n,).

    Parameters
    ----------
    x : Tensor, float32, shape (m, d)
    rows : Tensor, int64, shape (n,), or None
        Which vectors; None means each once.
    centroids : Tensor, float32, shape (k, d)
    labels : Tensor, int64, shape (n,)
    similarity : bool
    room : Tensor, float32
        As many differences are computed at a time as it has room for, with the vectors.
    """
    n, d = labels.size(0), x.size(1)
    step = max(1, room.size(0) // (2 * d))
    keys = torch.empty([n], dtype=x.dtype, device="cpu")
    for begin in range(0, n, step):
        end = min(n, begin + step)
        size = (end - begin) * d
        own = torch.index_select(centroids, 0, labels[begin:end], out=room[:size].view(end - begin, d))
        if rows is None:
            part = x[begin:end]
        else:
            part = torch.index_select(x, 0, rows[begin:end], out=room[size : 2 * size].view(end - begin, d))
        own = own.mul_(part) if similarity else own.sub_(part).square_()
        torch.sum(own, 1, out=keys[begin:end])
    return keys.neg_() if similarity else keys


@scripted
def key_margin(x_norms: Tensor, keys: Tensor, d: int, largest_norm: float, similarity: bool) -> Tensor:
    """How far apart two computed keys of a vector must be for their order to be certain: shape (n,)."""
    gamma = (d + 4) * 2.0**-24
    if not similarity:  # sums of squares have a relative error; the smallest numbers an absolute one
        return keys.mul(4 * gamma).add_(1e-36)
    return x_norms.mul(2 * gamma * largest_norm).add_(1e-36)


@scripted
def _largest_computed(products: Tensor, maxima: Tensor, scores: Tensor, lowest: int) -> Tensor:
    """Return the column of the largest score of each vector: int64, (n,); its block's maximum is made that of the
    block's other columns."""
    n, blocks, block = scores.size(0), scores.size(1), products.size(1)
    best = scores.max(1)[1]
    at = best + torch.arange(0, n * blocks, blocks, dtype=torch.int64, device="cpu")
    members = products.index_select(0, at)
    if lowest * block >= -(2**31):  # there is room for the column, and this takes half the time
        columns = torch.arange(block, dtype=torch.int32, device="cpu")
        inner = torch.mul(members, block).add_(columns).amax(1).remainder_(block).to(torch.int64)
    else:
        inner = members.max(1)[1]
    maxima.view(-1).index_copy_(0, at, members.scatter_(1, inner.unsqueeze(1), lowest).amax(1))
    return best.mul_(block).add_(inner)


@scripted
def candidates(
    x: Tensor,
    codes: Tensor,
    steps: Tensor,
    norms: Tensor,
    residuals: Tensor,
    centroids: CentroidCodes,
    known: Tensor | None,
    similarity: bool,
    most: int,
    products: Tensor,
    room: Tensor,
    largest_difference: float = LARGEST_DIFFERENCE,
) -> tuple[bool, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Find a good centroid for each vector, and all that may be better.

    Parameters
    ----------
    x : Tensor, float32, shape (n, d)
    codes, steps, norms, residuals : Tensor
        See `clustering.int8_codes.VectorCodes`.
    centroids : CentroidCodes
    known : Tensor, int64, shape (n,), or None
        Good centroids that are known.
    similarity : bool
        Whether the largest inner product is wanted, and not the least L2 distance.
    most : int
        Pairs that are looked at, at most.
    products : Tensor, int32, shape (n, columns)
        For the products.
    room : Tensor, float32
        For intermediate results, as in `keys_among`.

    Returns
    -------
    useful : bool
        Whether int8 holds all vectors, and there are no more pairs; otherwise the rest means nothing.
    labels, keys, rows, others, other_keys : Tensor
        See `nearest_int8.assign_tile`.
    """
    n, d, k = x.size(0), x.size(1), centroids.vectors.size(0)
    columns, blocks = products.size(1), centroids.steps.size(0)
    block = columns // blocks
    lowest = centroids.lowest
    if not bool(residuals.amax() < float("inf")):
        return False, steps, steps, steps, steps, steps
    torch._int_mm(codes, centroids.codes, out=products)
    if k < columns:
        products[:, k:] = lowest
    by_block = products.view(n * blocks, block)
    if known is not None:
        products.scatter_(1, centroids.places.index_select(0, known).unsqueeze(1), lowest)
    maxima = by_block.amax(1).view(n, blocks)
    inverse = steps.reciprocal()
    offsets = inverse.unsqueeze(1) * centroids.offsets
    if known is None:
        scores = (maxima * centroids.steps).add_(offsets)
        labels = centroids.labels.index_select(0, _largest_computed(by_block, maxima, scores, lowest))
    else:
        labels = known
    keys = keys_among(x, None, centroids.vectors, labels, similarity, room)

    # the score to beat is (|x'|^2 - key) / 2, or -key; less what float32 may have rounded
    gamma = (d + 16) * 2.0**-23
    if similarity:
        least = norms.mul(-gamma * centroids.largest_norm).sub_(keys)
    else:
        least = norms.square().mul_(0.5 - gamma).add_(keys, alpha=-0.5 - gamma)
        least -= gamma * centroids.largest_norm**2
    scores = (maxima * centroids.steps).add_(offsets).add_(centroids.rounding)
    scores.addcmul_((residuals * inverse).unsqueeze(1), centroids.norms)
    scores.addcmul_(((norms + residuals) * inverse).unsqueeze(1), centroids.residuals)
    excess = scores.sub_((least * inverse).unsqueeze(1)).view(-1)
    hits = (excess >= 0).nonzero().view(-1)
    if hits.size(0) > most:
        return False, steps, steps, steps, steps, steps
    row = torch.div(hits, blocks, rounding_mode="floor")
    number = hits - row * blocks
    below = excess.index_select(0, hits).div_(centroids.steps.index_select(0, number)).mul_(1 + 1e-6).add_(1)
    below = below.clamp_(0, largest_difference).to(torch.int32)
    enough = maxima.view(-1).index_select(0, hits).sub_(below)
    found = where_true((by_block.index_select(0, hits) >= enough.unsqueeze(1)).view(-1))
    if found.size(0) > most:
        return False, steps, steps, steps, steps, steps
    hit = torch.div(found, block, rounding_mode="floor")
    rows = row.index_select(0, hit)
    others = centroids.labels.index_select(0, number.index_select(0, hit).mul_(block).add_(found - hit * block))
    other_keys = keys_among(x, rows, centroids.vectors, others, similarity, room)
    largest = key_margin(norms, keys, d, centroids.largest_norm, similarity).add_(keys)
    close = other_keys <= largest.index_select(0, rows)
    if known is None:  # the label is still among the products
        close = close.logical_and_(others != labels.index_select(0, rows))
    chosen = close.nonzero().view(-1)
    return (
        True,
        labels,
        keys,
        rows.index_select(0, chosen),
        others.index_select(0, chosen),
        other_keys.index_select(0, chosen),
    )
