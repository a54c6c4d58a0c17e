"""Assignment screened in int8: integer products say which centroids may be the closest, true distances say which is.

The true distance to one good centroid, that of the last iteration or the one with the largest computed score, bounds
the best score from below. Only centroids that may exceed it, by the bound of `int8_codes`, are compared by true
distances: less than one for each vector of normally distributed data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ...threads import omp_get_max_threads
from ..runtime import arithmetic, chunks, workers
from .int8_codes import Frame, VectorCodes, encode_centroids, make_frame
from .int8_loops import CentroidCodes, candidates, key_margin, keys_among
from .nearest_float64 import best_of_pairs

#: Centroids that share a step and bounds; one maximum of computed scores stands for them.
BLOCK = 32

#: Pairs to be compared by true distances for each vector, at most: with more, screening saves nothing.
LARGEST_SHARE = 8

#: Bytes of the vectors and centroids whose true distances are computed at once: what stays in a core's cache.
DISTANCE_BYTES = 1 << 20

#: Products of a tile, its vectors, and their components, at most: they stay in a share of the cache.
TILE_PRODUCTS = 1 << 20
TILE_VECTORS = 4096
TILE_COMPONENTS = 1 << 19

#: Vectors that are rounded at a time.
ENCODED_VECTORS = 1024

#: The number of vectors in a tile is a multiple of this (of few shapes, oneDNN compiles few products).
TILE_STEP = 32

#: Centroids, components, and products of a vector with all centroids, at least, where int8 saves more than it costs: in
#: a single assignment, and in those of k-means, where vectors are rounded once and their labels are good guesses.
ONCE, OFTEN = (512, 64, 1 << 15), (192, 8, 1 << 13)

#: Products of all vectors, at least: the set-up costs as much as a tile.
LEAST_PRODUCTS = 1 << 27

#: Of the labels of the last assignment, this share has to be that of the one before to be of use in the next.
KEPT_SHARE = 0.5

#: Components of a vector, at most: with more, a sum of products might not fit into 32 bits.
WIDEST = 1 << 16

#: Tiles after which an assignment is left to float32 if most of them were.
FEW_TRIES = 4

#: Such assignments after which no other one is tried.
MOST_FAILURES = 2


class Pairs(NamedTuple):
    """Pairs of a vector and a centroid that is closer than the vector's label, or as close but for rounding.

    Those of one vector stand together.

    Attributes
    ----------
    rows, labels : Tensor, int64, shape (n,)
    keys : Tensor, float32, shape (n,)
        Their `keys_of`.
    """

    rows: Tensor
    labels: Tensor
    keys: Tensor


def keys_of(x: Tensor, centroids: Tensor, labels: Tensor, metric_type: int) -> Tensor:
    """Return the true distance, or the negated inner product, of each vector and its centroid: shape (n,)."""
    if x.device.type == "cpu" and centroids.dtype == torch.float32:
        return keys_among(x, None, centroids, labels, metric_type != METRIC_L2, _room(x))
    # an accelerator waits for every tile
    room = DISTANCE_BYTES if x.device.type == "cpu" else chunks.TEMPORARY_BYTES
    step = chunks.rows_within(4 * x.shape[1], room)
    if len(x) > step:
        parts = zip(x.split(step), labels.split(step), strict=True)
        return torch.cat([keys_of(vectors, centroids, own, metric_type) for vectors, own in parts])
    own = centroids.index_select(0, labels).to(torch.float32)
    if metric_type == METRIC_L2:
        return own.sub_(x).square_().sum(1)
    return own.mul_(x).sum(1).neg_()


def _room(x: Tensor) -> Tensor:
    """Room for some vectors and centroids whose true distances are computed."""
    elements = max(2 * x.shape[1], DISTANCE_BYTES // 4)
    return workers.workspace(elements, x.device, "differences")[:elements]


def assign_tile(
    frame: Frame, x: Tensor, vectors: VectorCodes, centroids: CentroidCodes, labels: Tensor | None, buffer: Tensor
) -> tuple[Tensor, Tensor, Pairs] | None:
    """Find a good centroid for each vector, and all that may be better.

    Parameters
    ----------
    frame : Frame
    x : Tensor, float32, shape (n, d)
    vectors : VectorCodes
        Those of `x`.
    centroids : CentroidCodes
    labels : Tensor, int64, shape (n,), or None
        Good centroids that are known.
    buffer : Tensor, int32, shape (n, columns)
        For the products.

    Returns
    -------
    labels : Tensor, int64, shape (n,)
        Those given, or the centroids with the largest computed scores.
    keys : Tensor, float32, shape (n,)
        Their `keys_of`.
    pairs : Pairs
        What is not among them is certainly further than the label.

    None where int8 cannot hold a vector, or too many centroids may be the closest for the screen to be of use.
    """
    useful, *found = candidates(
        x, *vectors, centroids, labels, frame.metric_type != METRIC_L2, LARGEST_SHARE * len(x), buffer, _room(x)
    )
    return (found[0], found[1], Pairs(*found[2:])) if useful else None


class Carried:
    """What an assignment leaves for the next one of the same vectors in the same metric, to centroids that have moved.

    Attributes
    ----------
    frame : Frame or None
    codes : VectorCodes or None
        Of all vectors.
    labels : Tensor, int64, shape (n,), or None
        What the last assignment found, where that is a good guess for the next one.
    failures : int
        Assignments in which the screen was of little use.
    """

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.codes: VectorCodes | None = None
        self.labels: Tensor | None = None
        self.failures = 0
        self._last: Tensor | None = None

    def take(self, labels: Tensor) -> None:
        """Take note of what an assignment found; nobody may change it afterwards."""
        last, self._last = self._last, labels
        steady = last is not None and float((last == labels).float().mean()) >= KEPT_SHARE
        self.labels = labels if steady else None

    def labels_among(self, k: int) -> Tensor | None:
        """Return good labels, if such are known and all of them are those of k centroids."""
        if self.labels is None or not 0 <= int(self.labels.min()) <= int(self.labels.max()) < k:
            return None
        return self.labels


class Screen:
    """One assignment by int8.

    Attributes
    ----------
    tiles : list of slice
        The rows that are done at a time, as many for each thread.
    """

    def __init__(
        self,
        x: Tensor,
        frame: Frame,
        centroids: CentroidCodes,
        threads: int,
        carried: Carried | None,
        guess: Tensor | None,
    ) -> None:
        self._x, self._frame, self._centroids, self._threads, self._carried = x, frame, centroids, threads, carried
        self._guess = guess
        self._tried = self._left = 0
        share = -(-len(x) // threads)
        width, columns = centroids.codes.shape
        most = min(TILE_VECTORS, max(TILE_STEP, min(TILE_PRODUCTS // columns, TILE_COMPONENTS // width)))
        self.tiles = row_tiles(len(x), -(-share // (-(-share // most) * TILE_STEP)) * TILE_STEP)
        if carried is not None and carried.codes is None:
            codes = VectorCodes.empty(frame, *x.shape)
            parts = chunks.slices(len(x), ENCODED_VECTORS)  # which, unlike the tiles, have no rows in common
            workers.map_over_workers(lambda rows: codes.part(rows).encode(frame, x[rows]), parts, threads)
            carried.frame, carried.codes = frame, codes

    def assign(self, labels: Tensor, keys: Tensor) -> list[slice]:
        """Find the closest centroids.

        Parameters
        ----------
        labels : Tensor, int64, shape (n,)
            Written.
        keys : Tensor, float32, shape (n,)
            Their `keys_of` are written.

        Returns
        -------
        list of slice
            Rows that are left to float32, because a screen saves nothing there.
        """

        def assign(rows: slice) -> Pairs | None:
            found = self._assign_tile(rows)
            if found is None:
                return None
            labels[rows], keys[rows], pairs = found
            return Pairs(pairs.rows.add_(rows.start), pairs.labels, pairs.keys)

        found = workers.map_over_workers(assign, self.tiles, self._threads)
        left = [rows for rows, pairs in zip(self.tiles, found, strict=True) if pairs is None]
        if self._carried is not None:
            self._carried.failures += 2 * len(left) > len(found)
        if len(left) == len(found):
            return [slice(0, len(labels))]
        # here and not in the workers: these are many small operations, for which two threads would wait for each other
        pairs = zip(*(each for each in found if each is not None), strict=True)
        self._settle(Pairs(*(torch.cat(each) for each in pairs)), labels, keys)
        return left

    def _settle(self, pairs: Pairs, labels: Tensor, keys: Tensor) -> None:
        """Take the closest of each vector's label and its pairs; labels and keys are changed in place."""
        centroids, metric_type = self._centroids, self._frame.metric_type
        vectors, number = pairs.rows.unique_consecutive(return_inverse=True)
        own_keys, own_labels = keys[vectors], labels[vectors]
        best = own_keys.scatter_reduce(0, number, pairs.keys, "amin")
        x_norms = best if metric_type == METRIC_L2 else torch.linalg.vector_norm(self._x[vectors], dim=1)
        most = best + key_margin(x_norms, best, self._x.shape[1], centroids.largest_norm, metric_type != METRIC_L2)
        near = (pairs.keys <= most[number]).nonzero().view(-1)
        number, others = number[near], pairs.labels[near]
        found = own_labels.index_copy(0, number, others)
        own_near = own_keys <= most
        several = torch.bincount(number, minlength=len(vectors)) + own_near > 1
        if bool(several.any()):  # float32 leaves several
            own = (several & own_near).nonzero().view(-1)
            among = several[number].nonzero().view(-1)
            where, group = torch.cat([number[among], own]).unique(return_inverse=True)
            x = self._x[vectors[where]]
            closest = torch.cat([others[among], own_labels[own]])
            closest = best_of_pairs(x, centroids.vectors, group, closest, metric_type)
            found[where], best[where] = closest, keys_of(x, centroids.vectors, closest, metric_type)
        labels[vectors], keys[vectors] = found, best

    def _assign_tile(self, rows: slice) -> tuple[Tensor, Tensor, Pairs] | None:
        if self._left >= FEW_TRIES and 2 * self._left > self._tried:
            return None
        self._tried += 1
        x = self._x[rows]
        labels = None if self._guess is None else self._guess[rows]
        if self._carried is not None and self._carried.codes is not None:
            codes = self._carried.codes.part(rows)
        else:
            codes = VectorCodes.empty(self._frame, *x.shape)
            codes.encode(self._frame, x)
        columns = self._centroids.codes.shape[1]
        buffer = workers.workspace(len(x) * columns, x.device)[: len(x) * columns]
        found = assign_tile(self._frame, x, codes, self._centroids, labels, buffer.view(torch.int32).view(-1, columns))
        if found is None:
            self._left += 1
        return found


def make_screen(x: Tensor, centroids: Tensor, metric_type: int, carried: Carried | None) -> Screen | None:
    """Prepare an assignment by int8; None where float32 products are the better way, or the only one."""
    n, d = x.shape
    k = len(centroids)
    few, narrow, small = ONCE if carried is None else OFTEN
    if k < few or d < narrow or k * d < small or n * k * d < LEAST_PRODUCTS or d > WIDEST or x.device.type != "cpu":
        return None
    if (carried is not None and carried.failures >= MOST_FAILURES) or arithmetic.chosen(x.device) != "int8":
        return None
    frame = make_frame(x, metric_type) if carried is None or carried.frame is None else carried.frame
    if frame is None:
        return None
    guess = None if carried is None else carried.labels_among(k)
    codes = encode_centroids(frame, centroids.to(torch.float32), BLOCK)
    if codes is None:
        return None
    return Screen(x, frame, codes, omp_get_max_threads(), carried, guess)


def row_tiles(n: int, size: int) -> list[slice]:
    """Cut n rows into tiles of one size; the last one begins earlier and repeats some rows, which costs less than
    a product of another shape (oneDNN compiles one for each)."""
    tiles = list(chunks.slices(n, size))
    if n > size:
        tiles[-1] = slice(n - size, n)
    return tiles
