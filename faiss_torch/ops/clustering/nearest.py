"""The closest centroid of each vector: assignment in k-means and in inverted files with a flat quantizer.

A tile of vectors is multiplied with a tile of centroids, and only the best centroid so far is kept, so at most
[vectors of a tile, centroids of a tile] scores are alive at a time. The score of a pair is <x, c> - |c|^2 / 2 for
L2 and <x, c> for the inner product: larger is closer in both.

The labels are those of exact arithmetic. Rounding moves a computed score by at most a known bound, so the first
centroid is certain when the second one is further behind than twice that bound (`scoring.scorers.margin_of`). The few
vectors for which it is not (a thousandth of normally distributed data, all of them where centroids coincide) are
compared again in float64 (`clustering.nearest_float64`), and there ties go to the lowest id.

Where the machine is good at it, and there are enough centroids, int8 products screen first (`nearest_int8`), and on
GPUs a Triton kernel in float16 (`kernels.nearest`); labels are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ... import kernels
from ...constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L2
from ...threads import omp_get_max_threads
from ..runtime import workers
from ..scoring.scorers import margin_of, products
from .nearest_float64 import nearest_in_double
from .nearest_int8 import Carried, keys_of, make_screen, row_tiles

#: Centroids in a tile, at most. A tile of 1024 x 1024 scores stays in a core's share of the cache.
TILE_CENTROIDS = 1024

#: Vectors in a tile on the CPU, at most and at least, and what their number is a multiple of (of few shapes, oneDNN
#: compiles few products).
TILE_VECTORS = 1024
SMALLEST_TILE_VECTORS = 128
TILE_STEP = 32

#: Products of factors that are not worth waking a second thread for.
ALONE_PRODUCTS = 1 << 25

#: Vectors in a tile on other devices.
DEVICE_TILE_VECTORS = 65536

#: Blocks that the centroids of a tile form; block j holds the centroids j, j + BLOCKS, j + 2 BLOCKS ...
BLOCKS = 32

#: A centroid is outlying whose norm is so many times the median, if there are no more of them than this, and enough
#: products that leaving them out pays.
OUTLYING, MOST_OUTLYING, OUTLYING_PRODUCTS = 8.0, 64, 1 << 25

#: More than the share by which rounding changes a norm.
ROUNDED = 1e-4

#: Up to this score the distance is finite as well.
LARGEST_SCORE = 1e37


def nearest_reference(x: Tensor, centroids: Tensor, metric_type: int) -> tuple[Tensor, Tensor]:
    """Find the closest centroids by the definition, in float64 (the oracle of `nearest`).

    Parameters and returns as in `nearest`; the memory is that of all n * k * d differences.
    """
    pairs_x, pairs_c = x.double()[:, None], centroids.double()[None]
    if metric_type == METRIC_L2:
        keys = (pairs_x - pairs_c).square().sum(-1)
    else:
        keys = -(pairs_x * pairs_c).sum(-1)
    keys = keys.masked_fill(~(keys < FLT_MAX), FLT_MAX)
    best = keys.amin(1, keepdim=True)
    ids = torch.arange(len(centroids), dtype=torch.int64, device=x.device)
    labels = torch.where(keys == best, ids, len(centroids)).amin(1)
    labels = labels.masked_fill(best[:, 0] >= FLT_MAX, -1)
    return (best[:, 0] if metric_type == METRIC_L2 else -best[:, 0]).float(), labels


def nearest(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None = None,
    largest_norm: float | None = None,
    carried: Carried | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Find the closest centroid of each vector, and how close it is.

    Parameters
    ----------
    x : Tensor, float32 (float16 or bfloat16 too), shape (n, d)
    centroids : Tensor, float32 (float16 or bfloat16 where `bias` is given), shape (k, d)
        k >= 1, on the device of `x`.
    metric_type : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    bias : Tensor, float32, shape (k,), optional
        Half the squared norms of the centroids for L2, zeros for the inner product, where they are known already.
    largest_norm : float, optional
        An upper bound of the centroids' norms, where it is known.
    carried : Carried, optional
        What earlier assignments of the same `x` in the same metric left, and what this one is to leave. Results do not
        depend on it.
    impl : str
        One of `kernels.IMPLEMENTATIONS`: results do not depend on it.

    Returns
    -------
    distances : Tensor, float32, shape (n,)
        Squared L2 distances, computed from differences, or inner products. Where nothing is closer than the
        largest float32 (a vector with NaN): +FLT_MAX for L2, -FLT_MAX for the inner product.
    labels : Tensor, int64, shape (n,)
        As in `nearest_labels`.

    Raises
    ------
    RuntimeError
        If the metric is another one, there are no centroids, or the kernel is asked for where it cannot run.
    """
    distances, labels = _assigned(x, centroids, metric_type, bias, largest_norm, True, carried, impl)
    return distances.masked_fill_(labels < 0, FLT_MAX if metric_type == METRIC_L2 else -FLT_MAX), labels


def nearest_labels(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None = None,
    largest_norm: float | None = None,
) -> Tensor:
    """Find the closest centroid of each vector.

    Parameters and errors as in `nearest`.

    Returns
    -------
    Tensor, int64, shape (n,)
        Ties go to the lowest id; -1 where nothing is closer than the largest float32.
    """
    return _assigned(x, centroids, metric_type, bias, largest_norm, False)[1]


def labels_of_sets(
    x: Tensor, centroids: Tensor, metric_type: int, active: Tensor | None = None, impl: str = "auto"
) -> Tensor:
    """Find the closest centroid of each vector of some sets, each of which has centroids of its own.

    Parameters
    ----------
    x : Tensor, float32 (float16 or bfloat16 too), shape (b, n, d)
    centroids : Tensor, float32, shape (b, k, d)
    metric_type, impl
        As in `nearest`.
    active : Tensor, bool, shape (b,), optional
        Which sets are wanted; the labels of the others mean nothing.

    Returns
    -------
    Tensor, int64, shape (b, n)
        As in `nearest_labels`. One kernel finds those of all sets, and nothing waits for it.
    """

    def one_by_one() -> Tensor:
        wanted = [True] * len(x) if active is None else active.tolist()
        labels = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
        for number in range(len(x)):
            if wanted[number]:
                labels[number] = nearest_labels(x[number], centroids[number], metric_type)
        return labels

    return kernels.run("nearest", x.device, impl, lambda: _by_kernel(x, centroids, metric_type, active), one_by_one)


def _assigned(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None,
    largest_norm: float | None,
    with_distances: bool,
    carried: Carried | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Find the closest centroids, and how close they are (where that is not wanted, it may be anything): (n,) each."""
    if metric_type not in (METRIC_L2, METRIC_INNER_PRODUCT):
        raise RuntimeError(f"nearest: expected METRIC_L2 or METRIC_INNER_PRODUCT, got metric {metric_type}")
    if len(centroids) == 0:
        raise RuntimeError("nearest: expected at least one centroid, got none")

    def by_kernel() -> tuple[Tensor, Tensor]:
        labels = _by_kernel(x, centroids, metric_type)
        if not with_distances:
            return labels, labels
        return keys_of(x.to(torch.float32), centroids, labels.clamp(min=0), metric_type), labels

    def by_torch() -> tuple[Tensor, Tensor]:
        vectors = x.to(torch.float32)
        return _screened(vectors, centroids, metric_type, bias, largest_norm, with_distances, carried)

    keys, labels = kernels.run("nearest", x.device, impl, by_kernel, by_torch)
    return keys.neg_() if with_distances and metric_type == METRIC_INNER_PRODUCT else keys, labels


def _screened(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None,
    largest_norm: float | None,
    with_keys: bool,
    carried: Carried | None,
) -> tuple[Tensor, Tensor]:
    """Find the closest centroids by plain torch: their `keys_of`, and their labels."""
    ordinary = _without_outlying(x, centroids, metric_type)
    if ordinary is not None:
        return _beside_outlying(x, centroids, ordinary, carried)
    return _by_products(x, centroids, metric_type, bias, largest_norm, with_keys, carried)


def _by_products(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None,
    largest_norm: float | None,
    with_keys: bool,
    carried: Carried | None,
) -> tuple[Tensor, Tensor]:
    """As `_screened`: by products in int8 or float32, and in float64 where these leave several."""
    n = len(x)
    labels = torch.empty(n, dtype=torch.int64, device=x.device)
    keys = torch.empty(n, dtype=torch.float32, device=x.device)
    screen = make_screen(x, centroids, metric_type, carried)
    if screen is None:
        again = _by_floats(x, centroids, metric_type, bias, largest_norm, labels, keys if with_keys else None)
    else:
        again = labels.new_empty(0)
        for rows in screen.assign(labels, keys):
            part_keys = keys[rows] if with_keys else None
            uncertain = _by_floats(x[rows], centroids, metric_type, bias, largest_norm, labels[rows], part_keys)
            again = torch.cat([again, uncertain.add_(rows.start)])
    _settle_in_double(x, centroids, metric_type, again, keys, labels)
    if carried is not None and screen is not None:
        carried.take(labels)
    return keys, labels


def _without_outlying(x: Tensor, centroids: Tensor, metric_type: int) -> Tensor | None:
    """Return which centroids are not much larger than the others, bool, (k,), or None where none is, or many are.

    The rounding of a product grows with the largest norm: one centroid far from all others, of a vector that is a
    million times as large, would leave every vector to float64.
    """
    if metric_type != METRIC_L2 or len(x) * centroids.numel() < OUTLYING_PRODUCTS:
        return None
    norms = torch.linalg.vector_norm(centroids.to(torch.float32), dim=1)
    ordinary = (norms > OUTLYING * norms.median()).logical_not_()
    outlying = len(norms) - int(torch.count_nonzero(ordinary))
    return ordinary if 0 < outlying <= min(MOST_OUTLYING, len(norms) // 2) else None


def _beside_outlying(x: Tensor, centroids: Tensor, ordinary: Tensor, carried: Carried | None) -> tuple[Tensor, Tensor]:
    """As `_screened` for L2: only vectors that are far out themselves are compared with outlying centroids."""
    numbers = ordinary.nonzero().view(-1)
    keys, labels = _by_products(x, centroids[numbers], METRIC_L2, None, None, True, carried)
    labels = torch.where(labels >= 0, numbers[labels], labels)
    least = torch.linalg.vector_norm(centroids[~ordinary].to(torch.float32), dim=1).min()
    # |x - c| >= |c| - |x|, with room for rounding
    between = torch.linalg.vector_norm(x, dim=1).mul_(-1 - ROUNDED).add_(least * (1 - ROUNDED)).clamp_(min=0.0)
    farther = between.square_() * (1 - ROUNDED) > keys
    again = (farther & (labels >= 0)).logical_not_().nonzero().view(-1)
    _settle_in_double(x, centroids, METRIC_L2, again, keys, labels)
    return keys, labels


def _settle_in_double(
    x: Tensor, centroids: Tensor, metric_type: int, again: Tensor, keys: Tensor, labels: Tensor
) -> None:
    """Write the keys and labels of some vectors, int64, (n,), for which float32 is not enough."""
    if not len(again):
        return
    part = x[again]
    settled = nearest_in_double(part, centroids, metric_type)
    part_keys = keys_of(part, centroids, settled.clamp(min=0), metric_type)
    keys[again] = part_keys
    labels[again] = settled.masked_fill_(~(part_keys < FLT_MAX), -1)


def _by_floats(
    x: Tensor,
    centroids: Tensor,
    metric_type: int,
    bias: Tensor | None,
    largest_norm: float | None,
    labels: Tensor,
    keys: Tensor | None,
) -> Tensor:
    """Find the closest centroids by float32 products; write their labels, and their `keys_of` where these are wanted.

    Returns
    -------
    Tensor, int64
        The vectors for which rounding leaves several, or none; what was written for them means nothing.
    """
    n = len(x)
    on_cpu = x.device.type == "cpu"
    threads = omp_get_max_threads() if on_cpu else 1
    tile_vectors = _tile_vectors(n, centroids, threads) if on_cpu else DEVICE_TILE_VECTORS
    uncertain = torch.empty(n, dtype=torch.bool, device=x.device)
    tiles = _CentroidTiles.make(centroids, metric_type, bias, largest_norm)

    def write(rows: slice, best: _Best) -> None:
        labels[rows], uncertain[rows] = best.labels[:, 0], best.uncertain[:, 0]
        if keys is not None:
            # a label beyond the centroids, the filling of a tile, is that of an uncertain vector
            own = labels[rows].clamp(max=len(centroids) - 1)
            keys[rows] = keys_of(x[rows], centroids, own, metric_type)

    def assign(rows: slice) -> None:
        part = x[rows]
        write(rows, _best_of_tiles(part, tiles, tiles.margin(part), range(len(tiles.bias))))

    def assign_few() -> None:
        # one tile of vectors: the centroids are shared out instead
        margin = tiles.margin(x)
        shares = [range(i, len(tiles.bias), threads) for i in range(min(threads, len(tiles.bias)))]
        parts = workers.map_over_workers(lambda share: _best_of_tiles(x, tiles, margin, share), shares, threads)
        write(slice(0, n), functools.reduce(lambda one, other: one.merged(other, margin), parts))

    if n <= tile_vectors and len(tiles.bias) > 1:
        assign_few()
    elif n <= tile_vectors:
        assign(slice(0, n))
    else:
        workers.map_over_workers(assign, row_tiles(n, tile_vectors), threads)
    return uncertain.nonzero().view(-1)


def _by_kernel(x: Tensor, centroids: Tensor, metric_type: int, active: Tensor | None = None) -> Tensor:
    """Find the closest centroids, of one set or several, by the Triton kernel: their labels."""
    from ...kernels.nearest import nearest as kernel

    return kernel(x, centroids, metric_type == METRIC_L2, active)


def _tile_vectors(n: int, centroids: Tensor, threads: int) -> int:
    """Vectors in a tile on the CPU: large ones, since each costs some twenty small operations, but one a worker."""
    if n <= TILE_VECTORS and n * centroids.numel() <= ALONE_PRODUCTS:
        return n
    share = -(-n // threads)
    return max(SMALLEST_TILE_VECTORS, min(TILE_VECTORS, -(-share // TILE_STEP) * TILE_STEP))


class _CentroidTiles(NamedTuple):
    """Centroids cut to tiles.

    Attributes
    ----------
    vectors : list of Tensor, float32, float16 or bfloat16, shape (width, d)
        All of one width, except the last, which is filled up with zeros to a multiple of `BLOCKS`.
    bias : list of Tensor, float32, shape (width,)
        What is added to a product: -|c|^2 / 2 or 0, and -inf for the filling.
    width : int
        Centroids of all tiles but the last.
    largest_norm, largest_bias : float
        Upper bounds for `scoring.scorers.margin_of`.
    """

    vectors: list[Tensor]
    bias: list[Tensor]
    width: int
    largest_norm: float
    largest_bias: float

    @staticmethod
    def make(centroids: Tensor, metric_type: int, bias: Tensor | None, largest_norm: float | None) -> _CentroidTiles:
        k = len(centroids)
        if bias is None:
            squares = centroids.square().sum(1)
            bias = squares * 0.5 if metric_type == METRIC_L2 else torch.zeros_like(squares)
            largest_norm = float(squares.max().sqrt()) * (1 + 1e-5)
        elif largest_norm is None:
            largest_norm = float(torch.linalg.vector_norm(centroids, dim=1).max())
        largest_bias = largest_norm * largest_norm / 2 if metric_type == METRIC_L2 else 0.0
        width = -(-k // -(-k // TILE_CENTROIDS))
        if width > 2 * BLOCKS:
            width = -(-width // BLOCKS) * BLOCKS
        vectors = list(centroids.split(width))
        negated = list(bias.neg().split(width))
        last = len(vectors[-1])
        if last > 2 * BLOCKS and last % BLOCKS:
            filling = -last % BLOCKS
            vectors[-1] = torch.nn.functional.pad(vectors[-1], (0, 0, 0, filling))
            negated[-1] = torch.nn.functional.pad(negated[-1], (0, filling), value=float("-inf"))
        return _CentroidTiles(vectors, negated, width, largest_norm, largest_bias)

    def margin(self, x: Tensor) -> Tensor:
        """The margin of each vector's scores: shape (n, 1)."""
        return margin_of(x, self.largest_norm, self.largest_bias)[:, None]


class _Best(NamedTuple):
    """The best computed score of each vector among some centroids: three tensors of shape (n, 1).

    Attributes
    ----------
    scores : Tensor, float32
    labels : Tensor, int64
    uncertain : Tensor, bool
        Whether another score is within the margin, or the best one is too large to say that its distance is finite.
    """

    scores: Tensor
    labels: Tensor
    uncertain: Tensor

    def merged(self, other: _Best, margin: Tensor) -> _Best:
        """The best among the centroids of both."""
        better = other.scores > self.scores
        close = ((other.scores - self.scores).abs() <= margin) | other.scores.isnan()
        return _Best(
            torch.maximum(self.scores, other.scores),
            torch.where(better, other.labels, self.labels),
            torch.where(better, other.uncertain, self.uncertain) | close,
        )


def _best_of_tiles(x: Tensor, tiles: _CentroidTiles, margin: Tensor, numbers: Sequence[int]) -> _Best:
    """Find the best among the centroids of some tiles."""
    best: _Best | None = None
    for i in numbers:
        found = _best_of_tile(products(x, tiles.vectors[i].to(torch.float32), tiles.bias[i]), margin, i * tiles.width)
        best = found if best is None else best.merged(found, margin)
    assert best is not None
    return best


def _best_of_tile(scores: Tensor, margin: Tensor, first: int) -> _Best:
    """Find the best score of each row: the best of block maxima, then the best in that block.

    A maximum over an outer axis reads memory in order; finding the position at once costs ten times as much.

    Parameters
    ----------
    scores : Tensor, float32, shape (n, width)
    margin : Tensor, float32, shape (n, 1)
    first : int
        The label of the first column.
    """
    n, width = scores.shape
    if width <= 2 * BLOCKS:
        best, labels = scores.max(1, keepdim=True)
        close = (scores >= best - margin).sum(1, keepdim=True) > 1
        return _Best(best, labels + first, close | ~(best.abs() < LARGEST_SCORE))
    maxima = scores.view(n, width // BLOCKS, BLOCKS).amax(1)
    best, block = maxima.max(1, keepdim=True)
    members = scores.gather(1, block + torch.arange(0, width, BLOCKS, dtype=torch.int64, device=scores.device))
    inner = members.max(1, keepdim=True).indices
    # the second best: of the block, and of the others
    second = members.scatter_(1, inner, float("-inf")).amax(1, keepdim=True)
    second = torch.maximum(second, maxima.scatter_(1, block, float("-inf")).amax(1, keepdim=True))
    labels = inner.mul_(BLOCKS).add_(block).add_(first)
    return _Best(best, labels, (second >= best - margin) | ~(best.abs() < LARGEST_SCORE))
