"""faiss's own random numbers: the same seed gives the same numbers.

faiss draws from ``std::mt19937`` (the permutations and initial centroids of k-means, the ``rand*`` functions),
from splitmix64 (fast subsampling) and from ``std::mt19937_64`` through libstdc++'s distributions (k-means++ and
AFK-MC2). numpy's ``MT19937`` gives the first stream when it is seeded the old way; the other two are written here.

The functions that fill arrays follow ``faiss/utils/random.cpp``: an array of 1024 elements or more is cut into
1024 blocks, and block j has a generator of its own, seeded with a0 + j * b0, where a0 and b0 are the first two
numbers of a generator with the seed given.
"""

from __future__ import annotations

import numpy as np

from ..wrapper.ownership import Owned

_UINT32_MAX = 0xFFFFFFFF
_INT31_MASK = 0x7FFFFFFF
_UINT64_MASK = 0xFFFFFFFFFFFFFFFF
_PARALLEL_SIZE = 1024  # from this size on faiss fills arrays in blocks
_BLOCKS = 1024

_SPLITMIX_STEP = 0x9E3779B97F4A7C15


class RandomGenerator(Owned):
    """faiss's default generator: ``std::mt19937``.

    Parameters
    ----------
    seed : int
        Its lower 32 bits are used.
    """

    def __init__(self, seed: int = 1234) -> None:
        self._mt = np.random.MT19937()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin again with another seed."""
        self._mt._legacy_seeding(int(seed) & _UINT32_MAX)

    def draw(self, n: int) -> np.ndarray:
        """Return the next `n` numbers of the stream, 32 bits each, as uint64 [n]."""
        return self._mt.random_raw(n)

    def rand_int(self, max: int | None = None) -> int:
        """Return an integer below 2**31, or below `max` where it is given."""
        value = int(self._mt.random_raw())
        return value & _INT31_MASK if max is None else value % max

    def rand_int64(self) -> int:
        """Return an integer below 2**62, made of two draws."""
        low = self.rand_int()
        return low | self.rand_int() << 31

    def rand_float(self) -> float:
        """Return a float32 between 0 and 1, both included."""
        return float(np.float32(self._mt.random_raw()) / np.float32(_UINT32_MAX))

    def rand_double(self) -> float:
        """Return a float64 between 0 and 1, both included."""
        return int(self._mt.random_raw()) / _UINT32_MAX


class SplitMix64RandomGenerator(Owned):
    """splitmix64, the generator of ``use_faster_subsampling`` (https://prng.di.unimi.it/splitmix64.c).

    Parameters
    ----------
    seed : int
        Its lower 64 bits are the initial state.
    """

    def __init__(self, seed: int = 1234) -> None:
        self.state = int(seed) & _UINT64_MASK

    def draw(self, n: int) -> np.ndarray:
        """Return the next `n` numbers of the stream as uint64 [n]."""
        z = np.arange(1, n + 1, dtype=np.uint64)
        z *= np.uint64(_SPLITMIX_STEP)
        z += np.uint64(self.state)
        self.state = (self.state + n * _SPLITMIX_STEP) & _UINT64_MASK
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def next(self) -> int:
        """Return the next number of the stream, 64 bits."""
        return int(self.draw(1)[0])

    def rand_int(self, max: int | None = None) -> int:
        """Return an integer below 2**31, or below `max` where it is given."""
        return self.next() & _INT31_MASK if max is None else self.next() % max

    def rand_int64(self) -> int:
        """Return an integer below 2**63."""
        return self.next() & (_UINT64_MASK >> 1)

    def rand_float(self) -> float:
        """Return a float32 between 0 and 1, both included."""
        return float(self.draw(1).astype(np.float32)[0] / np.float32(_UINT64_MASK))

    def rand_double(self) -> float:
        """Return a float64 between 0 and 1, both included."""
        return self.next() / float(_UINT64_MASK)


class MersenneTwister64:
    """``std::mt19937_64`` with the distributions that libstdc++ builds on it.

    Source: T. Nishimura, "Tables of 64-bit Mersenne Twisters", ACM TOMACS 10(4), 2000. A state of 312 words is
    renewed at once: the first half depends on the old state alone, the second on the old state and the new first
    half.

    Parameters
    ----------
    seed : int
        Its lower 64 bits are used.
    """

    _SIZE = 312
    _MIDDLE = 156

    def __init__(self, seed: int) -> None:
        word = int(seed) & _UINT64_MASK
        words = [word]
        for i in range(1, self._SIZE):
            word = (6364136223846793005 * (word ^ (word >> 62)) + i) & _UINT64_MASK
            words.append(word)
        self._state = np.array(words, dtype=np.uint64)
        self._ready: list[int] = []

    @staticmethod
    def _twist(upper: np.ndarray, lower: np.ndarray, far: np.ndarray) -> np.ndarray:
        x = (upper & np.uint64(0xFFFFFFFF80000000)) | (lower & np.uint64(0x7FFFFFFF))
        return far ^ (x >> np.uint64(1)) ^ ((x & np.uint64(1)) * np.uint64(0xB5026F5AA96619E9))

    def _renew(self) -> None:
        old, half = self._state, self._MIDDLE
        first = self._twist(old[:half], old[1 : half + 1], old[half:])
        second = self._twist(old[half:], np.append(old[half + 1 :], first[0]), first)
        self._state = z = np.concatenate([first, second])
        z = z ^ ((z >> np.uint64(29)) & np.uint64(0x5555555555555555))
        z = z ^ ((z << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000))
        z = z ^ ((z << np.uint64(37)) & np.uint64(0xFFF7EEE000000000))
        z = z ^ (z >> np.uint64(43))
        self._ready = z[::-1].tolist()

    def next(self) -> int:
        """Return the next number of the stream, 64 bits."""
        if not self._ready:
            self._renew()
        return self._ready.pop()

    def uniform_int(self, n: int) -> int:
        """Return an integer below `n` as ``std::uniform_int_distribution`` of libstdc++ 11 and later does.

        Source: D. Lemire, "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1), 2019.
        """
        product = self.next() * n
        if product & _UINT64_MASK < n:
            threshold = ((1 << 64) - n) % n
            while product & _UINT64_MASK < threshold:
                product = self.next() * n
        return product >> 64

    def uniform_real(self, high: float = 1.0) -> float:
        """Return a float64 in [0, high) as ``std::uniform_real_distribution`` of libstdc++ does: one draw."""
        unit = float(self.next()) * 2.0**-64
        if unit >= 1.0:
            unit = float(np.nextafter(1.0, 0.0))
        return unit * high


def _bounds(n: int) -> np.ndarray:
    """The limits of faiss's blocks in an array of `n` elements, int64 [blocks + 1]."""
    blocks = 1 if n < _PARALLEL_SIZE else _BLOCKS
    return np.arange(blocks + 1, dtype=np.int64) * n // blocks


class _BlockGenerators:
    """The generators of faiss's blocks, taken up in turn."""

    def __init__(self, seed: int) -> None:
        self._generator = RandomGenerator(seed)
        self._a0 = self._generator.rand_int()
        self._b0 = self._generator.rand_int()

    def of_block(self, j: int) -> RandomGenerator:
        """Return the generator of block `j` at its beginning; it is one object that every call seeds anew."""
        self._generator.seed(self._a0 + j * self._b0)
        return self._generator


def _fill(n: int, seed: int, draws_per_element: int) -> np.ndarray:
    """Draw for an array of `n` elements in faiss's blocks, uint64 [n * draws_per_element]."""
    generators = _BlockGenerators(seed)
    bounds = _bounds(n) * draws_per_element
    numbers = np.empty(n * draws_per_element, dtype=np.uint64)
    for j, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        numbers[start:end] = generators.of_block(j).draw(end - start)
    return numbers


def float_rand(n: int, seed: int) -> np.ndarray:
    """Return float32 [n], uniform between 0 and 1, as ``faiss.float_rand`` does."""
    return _fill(n, seed, 1).astype(np.float32) / np.float32(_UINT32_MAX)


def int64_rand(n: int, seed: int) -> np.ndarray:
    """Return int64 [n], uniform below 2**62, as ``faiss.int64_rand`` does."""
    pairs = (_fill(n, seed, 2) & np.uint64(_INT31_MASK)).reshape(n, 2)
    return (pairs[:, 0] | pairs[:, 1] << np.uint64(31)).astype(np.int64)


def int64_rand_max(n: int, vmax: int, seed: int) -> np.ndarray:
    """Return int64 [n], uniform below `vmax`, as ``faiss.int64_rand_max`` does.

    Raises
    ------
    RuntimeError
        If `vmax` is below 1.
    """
    if vmax < 1:
        raise RuntimeError(f"int64_rand_max: expected a limit of at least 1, got {vmax}")
    return int64_rand(n, seed) % vmax


def byte_rand(n: int, seed: int) -> np.ndarray:
    """Return uint8 [n], uniform, as ``faiss.byte_rand`` does."""
    return _fill(n, seed, 2)[::2].astype(np.uint8)


def float_randn(n: int, seed: int) -> np.ndarray:
    """Return float32 [n], standard normal, as ``faiss.float_randn`` does.

    The method is Marsaglia's: a point in the unit disc gives two numbers, and points outside are drawn again.
    Source: D. E. Knuth, The Art of Computer Programming, vol. 2, 3.4.1, algorithm P. A row of draws per block is
    long enough for nearly every block; the few others are drawn longer.
    """
    generators = _BlockGenerators(seed)
    bounds = _bounds(n)
    sizes = np.diff(bounds)
    group = max(1, 32768 // max(1, int(sizes.max())))  # blocks at a time, so that the rows stay in cache
    values = np.empty(n, dtype=np.float32)
    for first in range(0, len(sizes), group):
        blocks = range(first, min(first + group, len(sizes)))
        values[bounds[first] : bounds[blocks.stop]] = _normal_blocks(generators, blocks, sizes[first : blocks.stop])
    return values


def _normal_blocks(generators: _BlockGenerators, blocks: range, sizes: np.ndarray) -> np.ndarray:
    """The normal numbers of some blocks one after the other, float32 [sizes.sum()]."""
    wanted = (sizes + 1) // 2  # accepted points of each block
    expected = float(wanted.max()) / (np.pi / 4)
    points = int(expected + 4 * expected**0.5) + 8
    while True:
        draws = np.stack([generators.of_block(j).draw(2 * points) for j in blocks]).astype(np.float64)
        draws /= float(_UINT32_MAX)
        draws *= 2.0
        draws -= 1.0
        a, b = draws[:, ::2], draws[:, 1::2]
        squares = a * a + b * b
        inside = squares < 1.0
        order = np.cumsum(inside, axis=1)
        if np.all(order[:, -1] >= wanted):
            break
        points *= 2
    inside &= order <= wanted[:, None]
    kept = squares[inside]
    scale = np.sqrt(-2.0 * np.log(kept) / kept)
    normal = np.stack([a[inside] * scale, b[inside] * scale], axis=1).astype(np.float32).reshape(-1)
    # a block of odd size leaves the second number of its last point out
    left_out = 2 * np.cumsum(wanted)[sizes % 2 == 1] - 1
    return np.delete(normal, left_out) if len(left_out) else normal


def rand_perm(n: int, seed: int, first: int | None = None) -> np.ndarray:
    """Return a permutation of 0 ... n - 1 as ``faiss.rand_perm`` does.

    Parameters
    ----------
    n : int
        Number of elements.
    seed : int
        Seed of the generator.
    first : int, optional
        Return only that many entries; the cost then depends on `first` and not on `n`.

    Returns
    -------
    numpy.ndarray, int32, shape (n,) or (first,)
    """
    steps = _swaps(n, first)
    return _permutation(n, RandomGenerator(seed).draw(steps), first)


def rand_perm_splitmix64(n: int, seed: int, first: int | None = None) -> np.ndarray:
    """Return a permutation of 0 ... n - 1 as ``faiss.rand_perm_splitmix64`` does (parameters as in `rand_perm`)."""
    steps = _swaps(n, first)
    return _permutation(n, SplitMix64RandomGenerator(seed).draw(steps), first)


def _swaps(n: int, first: int | None) -> int:
    return max(0, n - 1 if first is None else min(first, n - 1))


def _permutation(n: int, draws: np.ndarray, first: int | None) -> np.ndarray:
    """Shuffle 0 ... n - 1 by swapping entry t with entry j_t = t + draws[t] % (n - t), for t = 0, 1, ...

    The swaps are not carried out one by one. Let V(t) be what stands at position t just before swap t. The last
    earlier swap t' that hit position t (j_t' = t) put V(t') there; if there is none, V(t) = t. Swap t then leaves
    at position t what stood at j_t: V of the last earlier swap that hit j_t, or j_t itself. Both "last earlier
    swaps" are neighbours in the order by (j, t), and chains of V are followed by pointer doubling.
    """
    wanted = n if first is None else min(first, n)
    steps = len(draws)
    t = np.arange(steps, dtype=np.int64)
    j = t + (draws % (n - t).astype(np.uint64)).astype(np.int64)

    order = np.sort(j << 32 | t)
    sorted_t = order & _UINT32_MAX
    sorted_j = order >> 32
    repeated = sorted_j[1:] == sorted_j[:-1]
    earlier_hit = np.full(steps, -1, dtype=np.int64)  # for each swap: the last earlier one with the same j
    earlier_hit[sorted_t[1:][repeated]] = sorted_t[:-1][repeated]

    positions = max(steps, wanted)
    source = np.arange(positions, dtype=np.int64)  # for each position: the last earlier swap that hit it
    hits = np.flatnonzero((sorted_j < positions) & (sorted_t < sorted_j))
    source[sorted_j[hits]] = sorted_t[hits]  # repeated indices: the last assignment stays, which is the latest swap
    while True:
        further = source[source]
        if np.array_equal(further, source):
            break
        source = further

    result = source[:wanted]
    hit_before = earlier_hit[:wanted]
    moved = np.where(hit_before >= 0, source[hit_before], j[:wanted])
    result = result.copy()
    result[: len(moved)] = np.where(j[:wanted] == t[:wanted], result[: len(moved)], moved)
    return result.astype(np.int32)


def rand_smooth_vectors(n: int, d: int, seed: int) -> np.ndarray:
    """Return float32 [n, d] of intrinsic dimension 10, as ``faiss.rand_smooth_vectors`` does.

    Equal to faiss up to the rounding of its matrix product and of its sine.
    """
    intrinsic = 10
    points = float_randn(n * intrinsic, seed).reshape(n, intrinsic)
    rotation = float_rand(intrinsic * d, seed + 1).reshape(intrinsic, d)
    frequencies = float_rand(d, seed + 2).astype(np.float64) * 4 + 0.1
    # faiss's factor is a double, and the product is rounded to float32 before the sine
    return np.sin(((points @ rotation) * frequencies).astype(np.float32))
