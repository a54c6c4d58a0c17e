"""Vectors of bits: made from floats, turned back, counted, and packed integers of a few bits each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..wrapper.pointers import Pointer, pointed


def fvec2bitvec(x: Pointer, b: Pointer, d: int) -> None:
    """Set bit i of b where x[i] >= 0: x float32 [d], b uint8 [(d + 7) // 8], both behind pointers."""
    fvecs2bitvecs(x, b, d, 1)


def fvecs2bitvecs(x: Pointer, b: Pointer, d: int, n: int) -> None:
    """Do what `fvec2bitvec` does with `n` vectors."""
    rows = pointed(x, n * d, "float32", "fvecs2bitvecs").reshape(n, d)
    _out(b, np.packbits(rows >= 0, axis=1, bitorder="little"), "fvecs2bitvecs")


def bitvecs2fvecs(b: Pointer, x: Pointer, d: int, n: int) -> None:
    """Write +1 or -1 for each bit of `n` codes: b uint8 [n, (d + 7) // 8], x float32 [n, d], behind pointers."""
    _out(x, np.where(_bits(b, n, d, "bitvecs2fvecs"), np.float32(1), np.float32(-1)), "bitvecs2fvecs")


def real_to_binary(d: int, x_in: Pointer, x_out: Pointer) -> None:
    """Set bit i of x_out where x_in[i] > 0: x_in float32 [d], x_out uint8 [d // 8], both behind pointers."""
    values = pointed(x_in, d, "float32", "real_to_binary")
    _out(x_out, np.packbits(values > 0, bitorder="little"), "real_to_binary")


def binary_to_real(d: int, x_in: Pointer, x_out: Pointer) -> None:
    """Write +1 or -1 for each bit: x_in uint8 [d // 8], x_out float32 [d], both behind pointers."""
    bitvecs2fvecs(x_in, x_out, d, 1)


def bincode_hist(n: int, nbits: int, codes: Pointer, hist: Pointer) -> None:
    """Count in how many of n codes each bit is set: codes uint8 [n, nbits // 8], hist int32 [nbits], behind
    pointers."""
    _out(hist, _bits(codes, n, nbits, "bincode_hist").sum(0, dtype=np.int32), "bincode_hist")


def bitvec_shuffle(n: int, da: int, db: int, order: Pointer, a: Pointer, b: Pointer) -> None:
    """Set bit j of each code of b to bit order[j] of a's.

    Parameters
    ----------
    n : int
        Codes.
    da, db : int
        Bits of the codes of a and of b.
    order : Pointer to int32
        [db], each below da.
    a, b : Pointer to uint8
        [n, (da + 7) // 8] and [n, (db + 7) // 8].

    Raises
    ------
    RuntimeError
        If `order` names a bit that there is not.
    """
    places = pointed(order, db, "int32", "bitvec_shuffle")
    if db and not 0 <= places.min() <= places.max() < da:
        raise RuntimeError(f"bitvec_shuffle: order has {places.min()} to {places.max()}, expected 0 to {da - 1}")
    _out(b, np.packbits(_bits(a, n, da, "bitvec_shuffle")[:, places], axis=1, bitorder="little"), "bitvec_shuffle")


def pack_bitstrings(a: np.ndarray, nbit: int | Sequence[int]) -> np.ndarray:
    """Pack integers of a few bits each, row by row.

    Parameters
    ----------
    a : array of int, shape (n, M)
    nbit : int, or sequence of M int
        Bits of each integer, or of those in each column, up to 32; higher bits are cut off.

    Returns
    -------
    array, uint8, shape (n, code_size)
        code_size is as many bytes as the bits of a row need.

    Raises
    ------
    AssertionError
        If there are not as many numbers of bits as columns.
    """
    n, M = a.shape
    widths = _widths(M, nbit)
    values = np.ascontiguousarray(a, dtype=np.int32).view(np.uint32)
    column, bit = _places_of_bits(widths)
    packed = np.packbits((values[:, column] >> bit) & 1, axis=1, bitorder="little")
    return np.ascontiguousarray(packed.reshape(n, (len(bit) + 7) // 8))


def unpack_bitstrings(b: np.ndarray, M_or_nbits: int | Sequence[int], nbit: int | None = None) -> np.ndarray:
    """Unpack integers that `pack_bitstrings` packed.

    Parameters
    ----------
    b : array, uint8, shape (n, code_size)
    M_or_nbits : int, or sequence of int
        Integers of a row, with `nbit`; or the bits of each of them.
    nbit : int, optional
        Bits of each integer.

    Returns
    -------
    array, int32, shape (n, M)

    Raises
    ------
    AssertionError
        If the rows are too short.
    """
    widths = _widths(len(M_or_nbits), M_or_nbits) if nbit is None else _widths(M_or_nbits, nbit)  # type: ignore[arg-type]
    column, bit = _places_of_bits(widths)
    n, code_size = b.shape
    if code_size < (len(bit) + 7) // 8:
        raise AssertionError(f"codes have {code_size} bytes, expected at least {(len(bit) + 7) // 8}")
    bits = np.unpackbits(np.ascontiguousarray(b, dtype=np.uint8), axis=1, count=len(bit), bitorder="little")
    values = np.zeros((len(widths), n), dtype=np.uint32)
    np.add.at(values, column, (bits.astype(np.uint32) << bit).T)
    return np.ascontiguousarray(values.T).view(np.int32)


def _widths(M: int, nbit: int | Sequence[int]) -> np.ndarray:
    if isinstance(nbit, (int, np.integer)):
        return np.full(M, int(nbit), dtype=np.int64)
    widths = np.asarray(nbit, dtype=np.int64)
    if widths.shape != (M,):
        raise AssertionError(f"nbit has shape {widths.shape}, expected ({M},)")
    return widths


def _places_of_bits(widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which integer each bit of a row belongs to, and which bit of it that is."""
    column = np.repeat(np.arange(len(widths)), widths)
    return column, (np.arange(len(column)) - np.repeat(np.cumsum(widths) - widths, widths)).astype(np.uint32)


def _bits(pointer: Pointer, n: int, d: int, function: str) -> np.ndarray:
    """The bits of n codes: bool, (n, d)."""
    size = (d + 7) // 8
    codes = pointed(pointer, n * size, "uint8", function).reshape(n, size)
    return np.unpackbits(codes, axis=1, count=d, bitorder="little").astype(bool)


def _out(pointer: Pointer, values: np.ndarray, function: str) -> None:
    pointed(pointer, values.size, str(values.dtype), function)[:] = values.reshape(-1)
