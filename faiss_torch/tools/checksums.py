"""faiss's checksums and hashes of bytes, computed on whole arrays.

faiss runs a recurrence over the bytes (``utils/utils.cpp``). Both recurrences are polynomials modulo 2**64 in
a fixed base, so numpy's wrapping uint64 arithmetic gives the same numbers without a Python loop over bytes.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..border import Array
from ..wrapper.pointers import Pointer, pointed

_CHECKSUM_START = 112909
_CHECKSUM_BASE = 65713
_CHECKSUM_FACTOR = 1686049
_HASH_BASE = 1000003
_BLOCK = 1 << 20
_MASK = (1 << 64) - 1


def _powers(base: int, n: int) -> np.ndarray:
    """The first `n` powers of a base modulo 2**64, from the power 0."""
    factors = np.full(n, base, dtype=np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def _checksum_terms(integers: np.ndarray) -> np.ndarray:
    """What each 32-bit word adds, before its power: faiss multiplies in 32 bits."""
    return (integers * np.uint32(_CHECKSUM_FACTOR)).astype(np.uint64)


def _checksum_rows(rows: np.ndarray) -> np.ndarray:
    """The checksums of rows of bytes [n, d]: words from the last to the first, then the bytes left over."""
    n, d = rows.shape
    words = d // 4
    sums = np.zeros(n, dtype=np.uint64)
    powers = _powers(_CHECKSUM_BASE, min(words, _BLOCK))
    for begin in range(0, words, _BLOCK):
        end = min(words, begin + _BLOCK)
        block = np.ascontiguousarray(rows[:, 4 * begin : 4 * end]).view(np.uint32)
        shift = np.uint64(pow(_CHECKSUM_BASE, begin, 1 << 64))
        sums += (_checksum_terms(block) * powers[: end - begin]).sum(1, dtype=np.uint64) * shift
    sums += np.uint64(_CHECKSUM_START * pow(_CHECKSUM_BASE, words, 1 << 64) & _MASK)
    for column in range(4 * words, d):
        byte_terms = rows[:, column].astype(np.uint64) * np.uint64(_CHECKSUM_FACTOR)
        sums = sums * np.uint64(_CHECKSUM_BASE) + byte_terms
    return sums


def ivec_checksum(n: int, a: Pointer) -> int:
    """The checksum of `n` int32 behind a pointer."""
    words = pointed(a, n, "int32", "ivec_checksum")
    return int(_checksum_rows(words.view(np.uint8)[None])[0])


def bvec_checksum(n: int, a: Pointer) -> int:
    """The checksum of `n` bytes behind a pointer."""
    return int(_checksum_rows(pointed(a, n, "uint8", "bvec_checksum")[None])[0])


def bvecs_checksum(n: int, d: int, a: Pointer, cs: Pointer) -> None:
    """Write the checksums of `n` rows of `d` bytes to `cs`, a pointer to uint64."""
    rows = pointed(a, n * d, "uint8", "bvecs_checksum").reshape(n, d)
    sums = pointed(cs, n, "uint64", "bvecs_checksum")
    step = max(1, _BLOCK // max(1, d))
    for begin in range(0, n, step):
        sums[begin : begin + step] = _checksum_rows(rows[begin : begin + step])


def checksum(a: Array) -> int | np.ndarray:
    """A quick checksum of an array's bytes, to compare arrays with.

    Parameters
    ----------
    a : array, shape (n,) or (n, d)
        C-contiguous, of any number type.

    Returns
    -------
    int or numpy.ndarray, uint64, shape (n,)
        One number for a vector, one per row for a matrix; equal to faiss's.

    Raises
    ------
    ValueError
        If the array is not C-contiguous, or has more than two dimensions.
    """
    if isinstance(a, Tensor):
        a = a.detach().cpu().numpy()
    if not a.flags.c_contiguous:
        raise ValueError(f"checksum: array of shape {a.shape} is not C-contiguous")
    if a.ndim > 2:
        raise ValueError(f"checksum: expected one or two dimensions, got shape {a.shape}")
    rows = a.view(np.uint8)
    if rows.ndim == 1:
        return bvec_checksum(rows.size, Pointer(rows))
    sums = np.zeros(len(rows), dtype=np.uint64)
    bvecs_checksum(len(rows), rows.shape[1], Pointer(rows.reshape(-1)), Pointer(sums))
    return sums


def hash_bytes(bytes: Pointer, n: int) -> int:
    """faiss's hash of `n` bytes behind a pointer: x = (x * 1000003) ^ byte, in 64 bits."""
    return hash_array(pointed(bytes, n, "uint8", "hash_bytes"))


def hash_array(values: np.ndarray) -> int:
    """`hash_bytes` of the bytes of an array.

    The exclusive or touches the low eight bits only, and those follow a recurrence of their own, in which
    each bit depends on itself by exclusive or and otherwise on lower bits: eight running exclusive ors give
    them all. The exclusive or is then known as a difference added, and the rest is a polynomial.
    """
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    n = data.size
    if n == 0:
        return 0
    x = int(data[0]) << 7
    powers = _powers(_HASH_BASE, min(n, _BLOCK))
    for begin in range(0, n, _BLOCK):
        block = data[begin : begin + _BLOCK]
        product = _low_products(block, x & 255)
        added = (product ^ block).astype(np.int64) - product
        total = int((added.view(np.uint64) * powers[: block.size][::-1]).sum(dtype=np.uint64))
        x = (x * pow(_HASH_BASE, block.size, 1 << 64) + total) & _MASK
    return x ^ n


def _low_products(block: np.ndarray, low: int) -> np.ndarray:
    """The low byte of x * 1000003 at every step, from the low byte of x before the first step."""
    base = np.uint8(_HASH_BASE & 255)
    before = np.zeros(block.size, dtype=np.uint8)  # the low byte of x before each step, bit by bit
    for bit in range(8):
        mask = np.uint8(1 << bit)
        # the base is odd: this bit of the product is the bit itself, changed by what lower bits carry into it
        changes = ((before * base) ^ block) & mask
        changes = np.concatenate([np.array([low & mask], dtype=np.uint8), changes[:-1]])
        before |= np.bitwise_xor.accumulate(changes)
    return before * base


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """`hash_array` of every row of a matrix [n, d]: uint64 [n]."""
    data = np.ascontiguousarray(rows).view(np.uint8)
    n, width = data.shape
    if width == 0:
        return np.zeros(n, dtype=np.uint64)
    columns = np.ascontiguousarray(data.T)
    x = columns[0].astype(np.uint64) << np.uint64(7)
    for column in columns:
        x = (x * np.uint64(_HASH_BASE)) ^ column
    return x ^ np.uint64(width)
