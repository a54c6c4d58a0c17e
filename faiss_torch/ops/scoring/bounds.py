"""The small and the inner parts of a verification, without the interpreter's lock: see `scripted`."""

import torch
from torch import Tensor

from ...constants import FLT_MAX
from ..runtime.scripted import scripted


@scripted
def gathered_distances(
    vectors: Tensor, xq: Tensor, queries: Tensor, positions: Tensor, step: int, buffer: Tensor, similarity: bool
) -> Tensor:
    """Distances of queries to rows of their own, by differences, or products.

    Parameters
    ----------
    vectors : Tensor, float32, shape (capacity, d)
    xq : Tensor, float32, shape (nq, d)
    queries : Tensor, int64, shape (n,)
    positions : Tensor, int64, shape (n, width)
        Rows of `vectors`.
    step : int
        Queries whose rows are gathered at once.
    buffer : Tensor, float32, shape (step * width * d,) or more
    similarity : bool
        Whether inner products are wanted, and not squared L2 distances.

    Returns
    -------
    Tensor, float32, shape (n, width)
    """
    n, width, d = positions.size(0), positions.size(1), vectors.size(1)
    distances = torch.empty(n, width, dtype=torch.float32, device=xq.device)
    for begin in range(0, n, step):
        end = min(n, begin + step)
        rows = buffer[: (end - begin) * width * d].view(-1, d)
        torch.index_select(vectors, 0, positions[begin:end].reshape(-1), out=rows)
        x = rows.view(end - begin, width, d)
        q = xq.index_select(0, queries[begin:end]).unsqueeze(1)
        x = x.mul_(q) if similarity else x.sub_(q).square_()
        distances[begin:end] = x.sum(-1)
    return distances


@scripted
def margins(x: Tensor, largest_norm: float, largest_bias: float, factor: float) -> Tensor:
    """``factor * (|x| * largest_norm + largest_bias)`` of each row: (n, d) -> (n,)."""
    return torch.linalg.vector_norm(x, dim=1).mul_(largest_norm).add_(largest_bias).mul_(factor)


@scripted
def score_bases(
    x: Tensor, shift: Tensor, largest_norm: float, rounding: float, similarity: bool, limit: float = 0.1 * FLT_MAX
) -> tuple[Tensor, bool]:
    """The score of a row is at most this and `score_factor` times its true distance: framed queries, (n, d) -> (n,).

    Also whether no product with a row no longer than `largest_norm`, and no distance to one, overflows or is NaN.
    """
    if similarity:
        reach = torch.linalg.vector_norm(x, dim=1) * (torch.linalg.vector_norm(shift) + largest_norm)
        return (x @ shift).add_(reach, alpha=rounding), float(reach.amax()) < limit
    squares = x.square().sum(1)
    longest = float(squares.amax()) ** 0.5 + 2 * largest_norm
    return squares.mul_(rounding - 0.5), longest * longest < limit


@scripted
def score_factor(rounding: float, similarity: bool) -> float:
    """See `score_bases`."""
    return -1.0 if similarity else 0.5 + rounding


@scripted
def largest_scores(
    xq: Tensor, shift: Tensor, distances: Tensor, largest_norm: float, rounding: float, similarity: bool
) -> Tensor:
    """What the scores of rows at true distances are at most: see `tiles.tile.largest_scores`."""
    bases, _ = score_bases(xq if similarity else xq - shift, shift, largest_norm, rounding, similarity)
    return bases.add_(distances, alpha=score_factor(rounding, similarity))
