"""Sorting by bucket, and maps from int64 to int64."""

from __future__ import annotations

import numpy as np
import torch

from ..border import integers_in, tensor_of
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, table


def bucket_sort(tab: np.ndarray, nbucket: int | None = None, nt: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Group the positions of an array by the bucket that stands there.

    Parameters
    ----------
    tab : array of int, any shape
        Bucket numbers.
    nbucket : int, optional
        Number of buckets; by default the largest bucket number plus one.
    nt : int
        Number of threads in faiss; the result is the same for all.

    Returns
    -------
    lims : numpy.ndarray, int64, shape (nbucket + 1,)
    perm : numpy.ndarray, int64, shape (tab.size,)
        ``perm[lims[i] : lims[i + 1]]`` are the positions of bucket i, ascending.

    Raises
    ------
    RuntimeError
        If a bucket number lies outside.
    """
    flat = np.ascontiguousarray(tab, dtype=np.int64).reshape(-1)
    lims = _limits(flat, nbucket)
    return lims, torch.argsort(tensor_of(flat), stable=True).numpy()


def _limits(flat: np.ndarray, nbucket: int | None) -> np.ndarray:
    if nbucket is None:
        nbucket = int(flat.max() + 1)
    if flat.size and (flat.min() < 0 or flat.max() >= nbucket):
        raise RuntimeError(f"bucket numbers run from {flat.min()} to {flat.max()}, expected them in [0, {nbucket})")
    lims = np.zeros(nbucket + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat, minlength=nbucket), out=lims[1:])
    return lims


def matrix_bucket_sort_inplace(tab: np.ndarray, nbucket: int | None = None, nt: int = 0) -> np.ndarray:
    """Replace a matrix of bucket numbers by the row numbers of each bucket's entries, in bucket order.

    Parameters
    ----------
    tab : numpy.ndarray, int32 or int64, shape (nrow, ncol)
        C-contiguous. Afterwards ``tab.ravel()[lims[i] : lims[i + 1]]`` are the rows of bucket i, ascending.
    nbucket : int, optional
        Number of buckets; by default the largest bucket number plus one.
    nt : int
        Number of threads in faiss; the result is the same for all.

    Returns
    -------
    numpy.ndarray, int64, shape (nbucket + 1,)
        The limits of the buckets.

    Raises
    ------
    AssertionError
        If the type is neither int32 nor int64.
    ValueError
        If the matrix is not C-contiguous.
    """
    if tab.dtype not in (np.int32, np.int64):
        raise AssertionError(f"matrix_bucket_sort_inplace: expected int32 or int64, got {tab.dtype}")
    if not tab.flags.c_contiguous:
        raise ValueError("matrix_bucket_sort_inplace: array is not C-contiguous")
    _, ncol = tab.shape
    lims, perm = bucket_sort(tab, nbucket, nt)
    tab.reshape(-1)[:] = perm // ncol
    return lims


class MapInt64ToInt64(Owned):
    """A map from int64 to int64 with a fixed capacity and whole-array operations.

    Parameters
    ----------
    capacity : int
        How many keys fit at most; a power of 2.

    Raises
    ------
    AssertionError
        If the capacity is not a power of 2.
    """

    def __init__(self, capacity: int) -> None:
        self.log2_capacity = int(capacity).bit_length() - 1
        if capacity != 1 << max(0, self.log2_capacity):
            raise AssertionError(f"MapInt64ToInt64: the capacity must be a power of 2, got {capacity}")
        self.capacity = capacity
        self._keys = np.empty(0, dtype=np.int64)
        self._vals = np.empty(0, dtype=np.int64)

    def add(self, keys: np.ndarray, vals: np.ndarray) -> None:
        """Store values [n] under keys [n]; a key that is there gets the new value.

        Raises
        ------
        AssertionError
            If there are not as many values as keys.
        RuntimeError
            If the capacity is exhausted; the map is then unchanged.
        """
        _check_pairs(keys, vals)
        if np.any(keys == -1):
            raise RuntimeError("MapInt64ToInt64.add: -1 cannot be a key, it stands for an empty place")
        all_keys = np.concatenate([self._keys, _integers(keys)])[::-1]
        all_vals = np.concatenate([self._vals, _integers(vals)])[::-1]
        unique, latest = np.unique(all_keys, return_index=True)
        if unique.size > self.capacity:
            raise RuntimeError(f"MapInt64ToInt64: capacity {self.capacity} exhausted by {unique.size} keys")
        self._keys, self._vals = unique, all_vals[latest]

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """The values [n] stored under keys [n], -1 where there is none."""
        return _lookup(self._keys, self._vals, keys)


class MapLong2Long(Owned):
    """A growing map from int64 to int64; the older form of `MapInt64ToInt64`."""

    def __init__(self) -> None:
        self._map: dict[int, int] = {}

    def add(self, keys: np.ndarray, vals: np.ndarray) -> None:
        """Store values [n] under keys [n].

        Raises
        ------
        AssertionError
            If there are not as many values as keys.
        """
        _check_pairs(keys, vals)
        self._map.update(zip(_integers(keys).tolist(), _integers(vals).tolist(), strict=True))

    def search(self, key: int) -> int:
        """The value stored under a key, or -1."""
        return self._map.get(int(key), -1)

    def search_multiple(self, keys: np.ndarray) -> np.ndarray:
        """The values [n] stored under keys [n], -1 where there is none."""
        return np.array([self._map.get(key, -1) for key in _integers(keys).tolist()], dtype=np.int64)

    def add_c(self, n: int, keys: Pointer, vals: Pointer) -> None:
        """`add` of keys and vals, int64 [n] each."""
        self.add(table(keys, (n,), "int64", "add_c"), table(vals, (n,), "int64", "add_c"))

    def search_multiple_c(self, n: int, keys: Pointer, vals: Pointer) -> None:
        """`search_multiple` of keys, int64 [n], into vals, int64 [n]."""
        name = "search_multiple_c"
        table(vals, (n,), "int64", name)[:] = self.search_multiple(table(keys, (n,), "int64", name))


def _integers(values: np.ndarray) -> np.ndarray:
    return integers_in(values, torch.device("cpu")).numpy()


def _check_pairs(keys: np.ndarray, vals: np.ndarray) -> None:
    if len(keys.shape) != 1 or vals.shape != keys.shape:
        raise AssertionError(f"expected keys [n] and values [n], got shapes {keys.shape} and {vals.shape}")


def _lookup(sorted_keys: np.ndarray, vals: np.ndarray, keys: np.ndarray) -> np.ndarray:
    if sorted_keys.size == 0:
        return np.full(keys.shape, -1, dtype=np.int64)
    places = np.searchsorted(sorted_keys, keys) % sorted_keys.size
    found = vals[places]
    found[sorted_keys[places] != keys] = -1
    return found
