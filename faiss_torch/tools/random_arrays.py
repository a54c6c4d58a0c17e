"""faiss's random arrays: the same numbers for the same seed."""

from __future__ import annotations

import math

import numpy as np

from ..ops import random
from ..wrapper.pointers import Pointer, pointed

#: One length, or a shape.
Shape = int | tuple[int, ...]


def _size(n: Shape) -> int:
    return math.prod(n) if isinstance(n, tuple) else int(n)


def rand(n: Shape, seed: int = 12345) -> np.ndarray:
    """Uniform float32 in [0, 1), of length or shape `n`."""
    return random.float_rand(_size(n), seed).reshape(n)


def randn(n: Shape, seed: int = 12345) -> np.ndarray:
    """Standard normal float32, of length or shape `n`."""
    return random.float_randn(_size(n), seed).reshape(n)


def randint(n: Shape, seed: int = 12345, vmax: int | None = None) -> np.ndarray:
    """Uniform int64 in [0, vmax), or of the generator's full range without `vmax`, of length or shape `n`."""
    if vmax is None:
        return random.int64_rand(_size(n), seed).reshape(n)
    return random.int64_rand_max(_size(n), vmax, seed).reshape(n)


#: faiss's second name for `randint`.
lrand = randint


def rand_smooth_vectors(n: int, d: int, seed: int = 1234) -> np.ndarray:
    """Random float32 vectors [n, d] on a smooth surface of few dimensions, so that they can be indexed."""
    return random.rand_smooth_vectors(n, d, seed)


def float_rand(x: Pointer, n: int, seed: int) -> None:
    """Write `n` uniform float32 to a pointer."""
    pointed(x, n, "float32", "float_rand")[:] = random.float_rand(n, seed)


def float_randn(x: Pointer, n: int, seed: int) -> None:
    """Write `n` standard normal float32 to a pointer."""
    pointed(x, n, "float32", "float_randn")[:] = random.float_randn(n, seed)


def int64_rand(x: Pointer, n: int, seed: int) -> None:
    """Write `n` random int64 to a pointer."""
    pointed(x, n, "int64", "int64_rand")[:] = random.int64_rand(n, seed)


def int64_rand_max(x: Pointer, n: int, max: int, seed: int) -> None:
    """Write `n` random int64 in [0, max) to a pointer."""
    pointed(x, n, "int64", "int64_rand_max")[:] = random.int64_rand_max(n, max, seed)


def byte_rand(x: Pointer, n: int, seed: int) -> None:
    """Write `n` random bytes to a pointer."""
    pointed(x, n, "uint8", "byte_rand")[:] = random.byte_rand(n, seed)


def rand_perm(perm: Pointer, n: int, seed: int) -> None:
    """Write a random permutation of `n` int32 to a pointer."""
    pointed(perm, n, "int32", "rand_perm")[:] = random.rand_perm(n, seed)


def rand_perm_splitmix64(perm: Pointer, n: int, seed: int) -> None:
    """Write a random permutation of `n` int32, drawn by splitmix64, to a pointer."""
    pointed(perm, n, "int32", "rand_perm_splitmix64")[:] = random.rand_perm_splitmix64(n, seed)
