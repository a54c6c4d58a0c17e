"""Vectors and centroids in 16 bits, and the bound of what rounding them does to a score.

For L2 a common vector is taken off from all first, the mean of the centroids if that is long: it changes no difference,
and errors grow with the lengths. Then they are scaled by powers of two: each vector by its own, all centroids of a set
by one. With x and c for what is rounded, and x~ and c~ for what comes of it, a score ``h - <x, c>`` is off by at most

    |x - x~| |c| + |x~| |c - c~| + what float32 makes of the sum, and the last bits of the score

where the vector's norms are those of this vector. `nearest` takes the largest norms of the set for the centroids', and
the last bits of its scores are the number of their tile. A search of stored rows, one of which may be a thousand times
as long as the others, takes each row's own: with ``g = max(|c|, |c - c~| / UNIT)`` the error is at most ``slope * g``,
where the slope is the vector's.

What is stored in 16 bits, or in 8, stays as it is: then only the vectors are rounded, to what it is multiplied in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import interpreted, tuning

#: The relative error of one addition on tensor cores, which may cut off instead of rounding, and more.
ROUNDING = 2.0**-22

#: The relative error of a float16.
UNIT = tl.constexpr(2.0**-11)

#: What squares lose of a component, at most, where the largest is about 1.
LOST = 2.0**-62

#: The largest float16.
LARGEST_HALF = 65504.0

#: Bytes of vectors that are made float32 at a time.
CONVERTED_BYTES = 64 << 20

#: Scaled components are less than 2 to this.
EXPONENT_OF_LARGEST = 14


@triton.jit
def scaled(x, shift, scale, FACTOR: tl.constexpr = tl.float16):
    """Vectors from another origin, times powers of two, and these rounded."""
    x = (x.to(tl.float32) - shift[None, :]) * scale[:, None]
    return x, x.to(FACTOR)


@triton.jit
def numbered(scores, tile, kept):
    """Scores whose last bits are the number of their tile."""
    bits = scores.to(tl.int32, bitcast=True)
    return ((bits & kept) | tile).to(tl.float32, bitcast=True)


@triton.jit
def power(largest, EXPONENT: tl.constexpr):
    """The power of two that brings what is as large as this below 2 ** EXPONENT: it, and what undoes it."""
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    power = tl.minimum(tl.maximum(EXPONENT - 1 + 127 - exponent, -126), 126)
    scale = ((127 + power) << 23).to(tl.float32, bitcast=True)
    return scale, ((127 - power) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _most(fact_ptr, values):
    """Note the largest of values that are not negative; their bits are in the same order, NaN above all."""
    tl.atomic_max(fact_ptr, tl.max(values.to(tl.int32, bitcast=True), 0))


@triton.jit
def _round_kernel(
    c_ptr,
    bias_ptr,
    shift_ptr,
    largest_ptr,
    rounded_ptr,
    h_ptr,
    norms_ptr,
    facts_ptr,
    k,
    d,
    columns,
    width,
    c_batch,
    c_stride,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EXPONENT: tl.constexpr,
    L2: tl.constexpr,
    SOME: tl.constexpr,
):
    batch = tl.program_id(1).to(tl.int64)
    c_ptr += batch * c_batch
    shift_ptr += batch * d
    facts_ptr += batch * 4
    lanes = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    inner = tl.arange(0, BLOCK_D)
    known = lanes < k
    missing = 3e38
    if SOME:
        known &= tl.load(bias_ptr + lanes, mask=known, other=float("inf")) < float("inf")
        missing = float("inf")
    scale, unscale = power(tl.load(largest_ptr + batch), EXPONENT)
    squares = tl.zeros([BLOCK_K], tl.float32)
    residuals = tl.zeros([BLOCK_K], tl.float32)
    for begin in range(0, width, BLOCK_D):
        mask = known[:, None] & (begin + inner < d)[None, :]
        c_rows = c_ptr + lanes[:, None].to(tl.int64) * c_stride + (begin + inner)[None, :]
        shift = tl.load(shift_ptr + begin + inner, mask=begin + inner < d, other=0.0)
        c = tl.load(c_rows, mask=mask, other=0.0).to(tl.float32)
        exact = tl.where(mask, (c - shift[None, :]) * scale, 0.0)
        rounded = exact.to(tl.float16)
        out = rounded_ptr + (batch * columns + lanes[:, None]) * width + (begin + inner)[None, :]
        tl.store(out, rounded)
        errors = exact - rounded.to(tl.float32)
        squares += tl.sum(exact * exact, 1)
        residuals += tl.sum(errors * errors, 1)
    h = (squares * 0.5 * unscale) * unscale if L2 else tl.zeros([BLOCK_K], tl.float32)
    tl.store(h_ptr + batch * columns + lanes, tl.where(known, h, missing))
    # squares of what is 2^77 times smaller than the largest component are zero
    norms = (tl.maximum(tl.sqrt(squares), tl.sqrt(residuals) / UNIT) + d * 2.0**-62) * unscale
    tl.store(norms_ptr + batch * columns + lanes, norms)
    tl.store(facts_ptr, unscale)
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 1, tl.sqrt(squares) * unscale)
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 2, tl.sqrt(residuals) * unscale)
    _most(facts_ptr.to(tl.pointer_type(tl.int32)) + 3, tl.abs(h))


@triton.jit
def measured(
    x_rows, shift_ptr, there, d, BLOCK_P: tl.constexpr, EXPONENT: tl.constexpr, FACTOR: tl.constexpr = tl.float16
):
    """What rounding makes of vectors: their scale, what undoes it, their norms, and those of what rounding takes away.

    A few components are read at a time: a tile of floats takes more registers than all that follows.
    """
    few = tl.arange(0, BLOCK_P)
    x_few = x_rows[:, None] + few[None, :]
    largest = tl.zeros([there.shape[0]], tl.float32)
    for begin in range(0, d, BLOCK_P):
        inside = begin + few < d
        shift = tl.load(shift_ptr + begin + few, mask=inside, other=0.0)
        x = tl.load(x_few + begin, mask=there[:, None] & inside[None, :], other=0.0)
        largest = tl.maximum(largest, tl.max(tl.abs(x.to(tl.float32) - shift[None, :]), 1))
    scale, unscale = power(largest, EXPONENT)
    squares = tl.zeros([there.shape[0]], tl.float32)
    residuals = tl.zeros([there.shape[0]], tl.float32)
    for begin in range(0, d, BLOCK_P):
        inside = begin + few < d
        shift = tl.load(shift_ptr + begin + few, mask=inside, other=0.0)
        x = tl.load(x_few + begin, mask=there[:, None] & inside[None, :], other=0.0)
        exact, rounded = scaled(x, shift, scale, FACTOR)
        errors = exact - rounded.to(tl.float32)
        squares += tl.sum(exact * exact, 1)
        residuals += tl.sum(errors * errors, 1)
    return scale, unscale, tl.sqrt(squares) * unscale, tl.sqrt(residuals) * unscale


@triton.jit
def bound(norm, residual, facts_ptr, rounding, least):
    """How far the scores of vectors may be off, but for their last bits."""
    c_norm, c_residual, h_largest = tl.load(facts_ptr + 1), tl.load(facts_ptr + 2), tl.load(facts_ptr + 3)
    return residual * c_norm + (norm + residual) * c_residual + rounding * (norm * c_norm + h_largest) + least


@triton.jit
def slope(norm, residual, rounding):
    """How far the score of a vector with a row may be off, for each unit of the row's g."""
    return residual + (norm + residual) * UNIT + rounding * norm


@triton.jit
def bounded(products, factor, slopes, h, norms, rounding, least, SIGN: tl.constexpr):
    """Lower bounds of exact scores, or with a SIGN of -1 upper bounds."""
    h = h * (1 - SIGN * rounding) - SIGN * least
    return products * factor[:, None] + (h[None, :] - SIGN * slopes[:, None] * norms[None, :])


class Margins(NamedTuple):
    """What the kernels take for their bounds.

    Attributes
    ----------
    rounding : float
        The relative error of a sum of d products on tensor cores.
    least : float
        What is lost below the smallest normal float32, in what undoes the scales too.
    kept : int
        The bits of a score that are not the number of its tile.
    numbering : float
        The relative error from the others.
    """

    rounding: float
    least: float
    kept: int
    numbering: float

    @staticmethod
    def make(d: int, tiles: int) -> Margins:
        """For vectors of d components, and so many tiles of centroids."""
        bits = (tiles - 1).bit_length()
        return Margins((d + 16) * ROUNDING, d * 2.0**-97, -(1 << bits), 2.0 ** (bits - 23))


class Rounded(NamedTuple):
    """Centroids of b sets as the screen takes them.

    Attributes
    ----------
    centroids : Tensor, float16, shape (b, columns, width)
        Whole tiles of centroids and of components, zeros where there are none; or what is stored, in 16 or 8 bits, as
        it is, (1, n, d).
    h : Tensor, float32, shape (b, columns)
        Theirs, very large where there is no centroid.
    facts : Tensor, float32, shape (b, 4)
        What undoes their scale; the largest of their norms, of their residuals' norms, and of |h|.
    shift : Tensor, float32, shape (b, d)
        What is taken off from vectors and centroids before they are rounded; h is of what comes of that.
    norms : Tensor, float32, shape (b, columns)
        The g of each centroid, see the module's text.
    """

    centroids: Tensor
    h: Tensor
    facts: Tensor
    shift: Tensor
    norms: Tensor

    @staticmethod
    def make(
        centroids: Tensor, l2: bool, multiple: int | None = None, bias: Tensor | None = None, room: int = 0
    ) -> Rounded:
        """Round centroids, (b, k, d): see `nearest`; so many make a tile, by default those of `nearest`.

        Those whose bias, (k,), is +inf may be anything: they have an h of +inf. There is room for so many, at least.
        """
        b, k, d = centroids.shape
        blocks = tuning.nearest_blocks(d)
        multiple = blocks.centroids if multiple is None else multiple
        columns = triton.cdiv(max(k, room), multiple) * multiple
        width = triton.cdiv(d, blocks.components) * blocks.components
        rounded = torch.empty(b, columns, width, dtype=torch.float16, device=centroids.device)
        h = torch.empty(b, columns, dtype=torch.float32, device=centroids.device)
        norms = torch.empty_like(h)
        facts = torch.zeros(b, 4, dtype=torch.float32, device=centroids.device)
        shift, largest = _origin(centroids, l2, bias)
        tile = min(blocks.centroids, 32)
        _round_kernel[(columns // tile, b)](
            centroids,
            largest if bias is None else bias,
            shift,
            largest,
            rounded,
            h,
            norms,
            facts,
            k,
            d,
            columns,
            width,
            centroids.stride(0),
            centroids.stride(1),
            BLOCK_K=tile,
            BLOCK_D=min(blocks.components, 128),
            EXPONENT=EXPONENT_OF_LARGEST,
            L2=l2,
            SOME=bias is not None,
        )
        return Rounded(rounded, h, facts, shift, norms)

    def rewritten(self, rows: Tensor, vectors: Tensor, bias: Tensor, l2: bool) -> Rounded | None:
        """Round some rows of the one set anew, from the same origin and by the same scale.

        Any origin and scale are right, for a row has an h and a g of its own.

        Parameters
        ----------
        rows : Tensor, int64, shape (n,)
        vectors : Tensor, float32
            All rows.
        bias : Tensor, float32
            Theirs; +inf for those that are not to be found, which may hold anything.
        l2 : bool

        Returns
        -------
        Rounded or None
            A new object over the same memory; None where it has no room for so many rows, or rows are too long for the
            scale.
        """
        if len(vectors) > self.h.shape[1]:
            return None
        unscale, d = self.facts[0, 0], vectors.shape[1]
        missing = bias.index_select(0, rows).isinf()
        exact = (vectors.index_select(0, rows) - self.shift[0]).div_(unscale).masked_fill_(missing[:, None], 0.0)
        if len(rows) and not bool(exact.abs().amax() < LARGEST_HALF):
            return None
        rounded = exact.to(torch.float16)
        squares = exact.square().sum(1)
        residuals = (exact - rounded.to(torch.float32)).square_().sum(1)
        h = squares.mul(0.5 * unscale).mul_(unscale) if l2 else torch.zeros_like(squares)
        self.centroids[0, rows, :d] = rounded
        self.h[0, rows] = h.masked_fill_(missing, float("inf"))
        self.norms[0, rows] = (torch.maximum(squares.sqrt(), residuals.sqrt() / UNIT.value) + d * LOST) * unscale
        return self._replace()

    @staticmethod
    def as_stored(vectors: Tensor, bias: Tensor) -> Rounded:
        """Take vectors that need no rounding, (n, d): float16, bfloat16, int8 or uint8; h is their bias, (n,)."""
        norms = [_norms(part) for part in vectors.split(max(1, CONVERTED_BYTES // (4 * vectors.shape[1])))]
        shift = bias.new_zeros(1, vectors.shape[1])
        return Rounded(vectors[None], bias[None], bias.new_ones(1, 4), shift, torch.cat(norms)[None])

    def extended(self, rows: Tensor, vectors: Tensor, bias: Tensor) -> Rounded:
        """Take such vectors, some rows of which have changed since."""
        norms = self.norms[0, : len(vectors)]
        norms = torch.nn.functional.pad(norms, (0, len(vectors) - len(norms)))
        norms[rows] = _norms(vectors.index_select(0, rows))
        return self._replace(centroids=vectors[None], h=bias[None], norms=norms[None])

    def found_by(self, bias: Tensor, rows: Tensor | None = None) -> Rounded:
        """Leave out the rows of one set whose bias is +inf; of some rows alone, if these are named."""
        if rows is None:
            n = min(len(bias), self.h.shape[1])
            h = self.h.clone()
            h[0, :n].masked_fill_(bias[:n].isinf(), float("inf"))
            return self._replace(h=h)
        centroids, h, norms = (each[0].index_select(0, rows)[None] for each in (self.centroids, self.h, self.norms))
        return self._replace(centroids=centroids, h=h.masked_fill_(bias.isinf(), float("inf")), norms=norms)

    @property
    def factor(self) -> Any:
        """What the rows are multiplied in, a type of Triton's."""
        if self.centroids.dtype != torch.bfloat16:
            return tl.float16
        # numpy, which interprets kernels, has no bfloat16
        return tl.float32 if interpreted() else tl.bfloat16


def _norms(vectors: Tensor) -> Tensor:
    """The g of vectors that need no rounding: float32, (n,)."""
    # what is no row may hold anything
    wide = vectors.to(torch.float32).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if not len(wide):
        return wide.new_empty(0)
    # a power of two, for which squares do not underflow
    scale = torch.ldexp(wide.new_ones(()), -torch.frexp(wide.abs().amax().clamp(2.0**-120, 2.0**120))[1])
    return (torch.linalg.vector_norm(wide * scale, dim=1) + vectors.shape[1] * LOST) / scale


def _origin(centroids: Tensor, l2: bool, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what is to be taken off from centroids, (b, k, d), and the largest component of what comes of that.

    Those whose bias is +inf do not count. Of one set with many, only some are made float32 at a time.
    """
    b, k, d = centroids.shape
    rows = k if b > 1 else max(1, CONVERTED_BYTES // (4 * d))

    def portions() -> Iterator[Tensor]:
        for begin in range(0, k, rows):
            wide = centroids[:, begin : begin + rows].to(torch.float32)
            yield wide if bias is None else wide.masked_fill(bias[begin : begin + rows, None].isinf(), 0.0)

    def largest_of(values: Callable[[Tensor], Tensor]) -> Tensor:
        found = [values(part) for part in portions()]
        return found[0] if len(found) == 1 else torch.stack(found).amax(0)

    if not l2:  # what it would take off from a product depends on the vector
        return centroids.new_zeros((b, d), dtype=torch.float32), largest_of(lambda part: part.abs().amax((1, 2)))
    total = functools.reduce(torch.add, (part.sum(1) for part in portions()))
    mean = total / (k if bias is None else (bias < float("inf")).sum().clamp(min=1))
    # of vectors in 16 bits, which are exact, a short one would cost more than it saves
    spread = largest_of(lambda part: (part - mean[:, None]).square_().sum(2).amax(1))
    far = mean.square().sum(1) * 4 > spread
    # eight bits are enough, and leave small integers, and vectors in 16 bits near the mean, exact
    exponent = torch.frexp(mean.abs().amax(1, keepdim=True))[1] - 8
    shift = torch.ldexp(torch.ldexp(mean, -exponent).round(), exponent) * far[:, None]
    return shift, largest_of(lambda part: (part - shift[:, None]).abs().amax((1, 2)))
