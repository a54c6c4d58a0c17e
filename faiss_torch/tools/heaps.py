"""Keeping the k best of many values: heaps in arrays, ResultHeap, kmin and kmax, merging results of shards.

faiss keeps a binary heap per row. Here a row is kept sorted with the worst value first, which is a valid heap
as well: code that looks at the arrays of a heap between two calls finds the worst in front, as in faiss.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..border import Array, Kind, array_like, crossing, floats_in, integers_in, tensor_of
from ..constants import FLT_MAX
from ..ops.runtime import chunks
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, pointed
from .results import number_of_results


def first_smallest(keys: Tensor, k: int) -> Tensor:
    """The columns of the k smallest values of each row, ties to the first column.

    Parameters
    ----------
    keys : Tensor, shape (n, width)
        Without NaN.
    k : int
        All columns come back where it exceeds the width.

    Returns
    -------
    Tensor, int64, shape (n, k)
        Ascending columns.
    """
    n, width = keys.shape
    if k >= width:
        return torch.arange(width, dtype=torch.int64, device=keys.device).expand(n, width)
    threshold = torch.topk(keys, k, dim=1, largest=False).values[:, -1:]
    chosen = keys <= threshold
    if int(chosen.sum()) > n * k:
        below = keys < threshold
        tied = chosen & ~below
        chosen = below | (tied & (tied.cumsum(1) <= k - below.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(n, k)


class _Order:
    """What a heap keeps: its element type, the largest or the smallest, and the value of an empty place."""

    def __init__(self, dtype: str, keeps_largest: bool) -> None:
        self.dtype = dtype
        self.keeps_largest = keeps_largest
        largest = FLT_MAX if dtype == "float32" else 2**31 - 1
        smallest = -FLT_MAX if dtype == "float32" else -(2**31)
        self.neutral = smallest if keeps_largest else largest

    def keys(self, values: Tensor) -> Tensor:
        """Values turned so that smaller is better: float32, or int64, in which int32 can be negated."""
        keys = values if values.is_floating_point() else values.to(torch.int64)
        keys = -keys if self.keeps_largest else keys
        return keys.nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=-float("inf"))

    def best_of(self, values: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best of each row, the first of equal ones, in the order of their columns."""
        columns = first_smallest(self.keys(values), k)
        return values.gather(1, columns), ids.gather(1, columns)

    def sort(self, values: Tensor, ids: Tensor, best_first: bool) -> tuple[Tensor, Tensor]:
        """Sort rows; equal values by id: ascending if the smallest are kept, else descending (as faiss)."""
        by_id = ids.argsort(dim=1, descending=self.keeps_largest == best_first, stable=True)
        keys = self.keys(values).gather(1, by_id)
        columns = by_id.gather(1, keys.argsort(dim=1, descending=not best_first, stable=True))
        return values.gather(1, columns), ids.gather(1, columns)

    def merge(self, values: Tensor, ids: Tensor, new_values: Tensor, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The k best of rows [n, k] and new entries [n, m]; what is there wins against equal new ones."""
        k = values.shape[1]
        if new_values.shape[1] > k:
            new_values, new_ids = self.best_of(new_values, new_ids, k)
        return self.best_of(torch.cat([values, new_values], 1), torch.cat([ids, new_ids], 1), k)


class HeapArray(Owned):
    """Heaps of one size, one for each query.

    In faiss's words, by which programs may look for it: "a template structure for a set of [min|max]-heaps".

    Attributes
    ----------
    nh : int
        Number of heaps.
    k : int
        Size of each heap.
    val : Pointer
        To the values [nh, k].
    ids : Pointer
        To the labels [nh, k], int64; -1 marks an empty place.
    """

    order: ClassVar[_Order]

    def __init__(self) -> None:
        self.nh = 0
        self.k = 0
        self.val: Pointer | None = None
        self.ids: Pointer | None = None

    def get_val(self, key: int) -> Pointer:
        """The pointer to the values of heap `key`."""
        return Pointer(self._values().reshape(-1), key * self.k)

    def get_ids(self, key: int) -> Pointer:
        """The pointer to the labels of heap `key`."""
        return Pointer(self._labels().reshape(-1), key * self.k)

    def heapify(self) -> None:
        """Make all heaps empty."""
        self._values()[:] = self.order.neutral
        self._labels()[:] = -1

    def addn(self, nj: int, vin: Pointer, j0: int = 0, i0: int = 0, ni: int = -1) -> None:
        """Add values [ni, nj] with the labels j0, j0 + 1 ... to the heaps i0 to i0 + ni (-1: all)."""
        rows = np.arange(i0, i0 + (self.nh if ni == -1 else ni))
        new_values = pointed(vin, len(rows) * nj, self.order.dtype, "addn").reshape(-1, nj)
        labels = np.arange(j0, j0 + nj, dtype=np.int64)
        self._add(rows, new_values, np.broadcast_to(labels, new_values.shape))

    def addn_with_ids(
        self,
        nj: int,
        vin: Pointer,
        id_in: Pointer | None = None,
        id_stride: int = 0,
        i0: int = 0,
        ni: int = -1,
    ) -> None:
        """Add values [ni, nj]; the labels of two rows stand `id_stride` apart (0: all rows have the same)."""
        if id_in is None:
            self.addn(nj, vin, 0, i0, ni)
            return
        rows = np.arange(i0, i0 + (self.nh if ni == -1 else ni))
        self._add_strided(rows, nj, vin, id_in, id_stride)

    def addn_query_subset_with_ids(
        self, nsubset: int, subset: Pointer, nj: int, vin: Pointer, id_in: Pointer | None = None, id_stride: int = 0
    ) -> None:
        """Add values [nsubset, nj] to the heaps that `subset` numbers.

        Raises
        ------
        RuntimeError
            If there are no labels.
        """
        if id_in is None:
            raise RuntimeError("addn_query_subset_with_ids: labels are required")
        rows = pointed(subset, nsubset, "int64", "addn_query_subset_with_ids")
        self._add_strided(rows, nj, vin, id_in, nj if id_stride < 0 else id_stride)

    def reorder(self) -> None:
        """Sort every heap, best first; empty places come last."""
        values, labels = self._values(), self._labels()
        values[labels == -1] = self.order.neutral
        v, i = self.order.sort(tensor_of(values), tensor_of(labels), best_first=True)
        # a real entry may be as bad as an empty place: those go behind it
        last = (i == -1).to(torch.int8).argsort(dim=1, stable=True)
        values[:], labels[:] = v.gather(1, last).numpy(), i.gather(1, last).numpy()

    def per_line_extrema(self, vals_out: Pointer | None, idx_out: Pointer | None) -> None:
        """Write the worst value of each heap [nh] and its label, which is -1 where all places are empty."""
        values, labels = self._values(), self._labels()
        worst = self.order.keys(tensor_of(values)).argmax(dim=1).numpy()[:, None]
        if vals_out is not None:
            out = pointed(vals_out, self.nh, self.order.dtype, "per_line_extrema")
            out[:] = np.take_along_axis(values, worst, 1)[:, 0]
        if idx_out is not None:
            pointed(idx_out, self.nh, "int64", "per_line_extrema")[:] = np.take_along_axis(labels, worst, 1)[:, 0]

    def _values(self) -> np.ndarray:
        flat = pointed(self.val, self.nh * self.k, self.order.dtype, type(self).__name__)
        return flat.reshape(self.nh, self.k)

    def _labels(self) -> np.ndarray:
        return pointed(self.ids, self.nh * self.k, "int64", type(self).__name__).reshape(self.nh, self.k)

    def _add_strided(self, rows: np.ndarray, nj: int, vin: Pointer, id_in: Pointer, id_stride: int) -> None:
        new_values = pointed(vin, len(rows) * nj, self.order.dtype, "addn_with_ids").reshape(-1, nj)
        if len(rows) == 0:
            return
        flat = pointed(id_in, (len(rows) - 1) * id_stride + nj, "int64", "addn_with_ids")
        strides = (id_stride * flat.itemsize, flat.itemsize)
        self._add(rows, new_values, np.lib.stride_tricks.as_strided(flat, new_values.shape, strides))

    def _add(self, rows: np.ndarray, new_values: np.ndarray, new_labels: np.ndarray) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= self.nh):
            raise RuntimeError(f"heaps {rows.min()} to {rows.max()} asked for, there are {self.nh}")
        values, labels = self._values(), self._labels()
        for some in chunks.slices(len(rows), chunks.rows_within(32 * (new_values.shape[1] + self.k))):
            v, i = self.order.merge(
                tensor_of(values[rows[some]]),
                tensor_of(labels[rows[some]]),
                tensor_of(np.ascontiguousarray(new_values[some])),
                tensor_of(np.ascontiguousarray(new_labels[some])),
            )
            v, i = self.order.sort(v, i, best_first=False)
            values[rows[some]], labels[rows[some]] = v.numpy(), i.numpy()


class float_maxheap_array_t(HeapArray):
    __doc__ = f"The k smallest float32 of each query. {HeapArray.__doc__}"
    order = _Order("float32", keeps_largest=False)


class float_minheap_array_t(HeapArray):
    __doc__ = f"The k largest float32 of each query. {HeapArray.__doc__}"
    order = _Order("float32", keeps_largest=True)


class int_maxheap_array_t(HeapArray):
    __doc__ = f"The k smallest int32 of each query. {HeapArray.__doc__}"
    order = _Order("int32", keeps_largest=False)


class int_minheap_array_t(HeapArray):
    __doc__ = f"The k largest int32 of each query. {HeapArray.__doc__}"
    order = _Order("int32", keeps_largest=True)


def _best(array: Array, k: int, order: _Order) -> tuple[Array, Array]:
    """The k best of each row of a matrix, sorted, with their columns; padded like search results."""
    array, k = array_like(array), number_of_results(k)
    kind = Kind(array)
    values = floats_in(array, kind.torch_device or torch.device("cpu"))
    m, n = values.shape
    D = values.new_full((m, k), order.neutral)
    I = torch.full((m, k), -1, dtype=torch.int64, device=values.device)
    width = min(k, n)
    if width == 0:
        return kind.out(D), kind.out(I)
    neutral = D.new_tensor(order.neutral)
    for rows in chunks.slices(m, chunks.rows_within(16 * max(1, n))):
        columns = first_smallest(order.keys(values[rows]), width)
        best = values[rows].gather(1, columns)
        # only what is better than an empty place gets in: NaN and the infinitely bad do not
        entered = order.keys(best) < order.keys(neutral)
        best, labels = torch.where(entered, best, neutral), torch.where(entered, columns, -1)
        D[rows, :width], I[rows, :width] = order.sort(best, labels, best_first=True)
    return kind.out(D), kind.out(I)


@crossing
def kmin(array: Array, k: int) -> tuple[Array, Array]:
    """The k smallest values of each row.

    Parameters
    ----------
    array : array, shape (m, n)
        numpy or torch; cast to float32.
    k : int
        Number of values per row.

    Returns
    -------
    D : array, float32, shape (m, k)
        Ascending; FLT_MAX where a row has fewer.
    I : array, int64, shape (m, k)
        Their columns; -1 where a row has fewer.
    """
    return _best(array, k, float_maxheap_array_t.order)


@crossing
def kmax(array: Array, k: int) -> tuple[Array, Array]:
    """The k largest values of each row; parameters and results as `kmin`, descending, with -FLT_MAX."""
    return _best(array, k, float_minheap_array_t.order)


class ResultHeap:
    """Accumulate search results over the slices of a database.

    Parameters
    ----------
    nq : int
        Number of queries.
    k : int
        Results kept per query.
    keep_max : bool
        Keep the largest values (similarities) and not the smallest.

    Attributes
    ----------
    D : numpy.ndarray, float32, shape (nq, k)
    I : numpy.ndarray, int64, shape (nq, k)
        The results, sorted once `finalize` was called; +-FLT_MAX and -1 where there are fewer than k.
    """

    def __init__(self, nq: int, k: int, keep_max: bool = False) -> None:
        self.I = np.zeros((nq, k), dtype=np.int64)
        self.D = np.zeros((nq, k), dtype=np.float32)
        self.nq, self.k = nq, k
        self.heaps: HeapArray = float_minheap_array_t() if keep_max else float_maxheap_array_t()
        self.heaps.nh, self.heaps.k = nq, k
        self.heaps.val, self.heaps.ids = Pointer(self.D.reshape(-1)), Pointer(self.I.reshape(-1))
        self.heaps.heapify()

    def add_result(self, D: Array, I: Array) -> None:
        """Add results (nq, n), in any order, for all queries.

        Raises
        ------
        AssertionError
            If the shapes do not fit.
        """
        if D.shape[0] != self.nq or tuple(I.shape) != tuple(D.shape):
            raise AssertionError(
                f"add_result: expected D and I ({self.nq}, n), got {tuple(D.shape)} and {tuple(I.shape)}"
            )
        self._add(np.arange(self.nq), D, I)

    def add_result_subset(self, subset: Array, D: Array, I: Array) -> None:
        """Add results for some queries.

        Parameters
        ----------
        subset : array of int, shape (m,)
            The queries.
        D : array, shape (m, n)
        I : array, shape (m, n) or (n,)
            One row of labels stands for all queries.

        Raises
        ------
        AssertionError
            If the shapes do not fit.
        """
        if D.shape[0] != len(subset) or tuple(I.shape) not in (tuple(D.shape), (D.shape[1],)):
            raise AssertionError(
                f"add_result_subset: expected D ({len(subset)}, n) and I ({len(subset)}, n) or (n,), "
                f"got {tuple(D.shape)} and {tuple(I.shape)}"
            )
        self._add(integers_in(subset, torch.device("cpu")).numpy(), D, I)

    def _add(self, rows: np.ndarray, D: Array, I: Array) -> None:
        cpu = torch.device("cpu")
        values, labels = floats_in(D, cpu).numpy(), integers_in(I, cpu).numpy()
        self.heaps._add(rows, values, np.broadcast_to(labels, values.shape))

    def finalize(self) -> None:
        """Sort the results of every query."""
        self.heaps.reorder()


@crossing
def merge_knn_results(Dall: Array, Iall: Array, keep_max: bool = False) -> tuple[Array, Array]:
    """Merge the sorted results that several shards gave for the same queries.

    Parameters
    ----------
    Dall : array, float32 or int32, shape (nshard, nq, k)
        Each row sorted, best first.
    Iall : array, int64, shape (nshard, nq, k)
        A label of -1 ends a row.
    keep_max : bool
        Whether larger values are better.

    Returns
    -------
    D : array, of the type of Dall, shape (nq, k)
    I : array, int64, shape (nq, k)
        The best of all; the largest (smallest) value of the type and -1 where there are fewer than k.

    Raises
    ------
    AssertionError
        If the shapes differ.
    TypeError
        If the types are others than these.
    """
    if tuple(Dall.shape) != tuple(Iall.shape):
        raise AssertionError(f"merge_knn_results: shapes differ: {tuple(Dall.shape)} and {tuple(Iall.shape)}")
    kind = Kind(Dall)
    kind.require(Iall, "Iall")
    dtype = str(Dall.dtype).removeprefix("torch.")
    if dtype not in ("float32", "int32") or str(Iall.dtype).removeprefix("torch.") != "int64":
        raise TypeError(f"merge_knn_results: expected float32 or int32 with int64, got {Dall.dtype} and {Iall.dtype}")
    nshard, nq, k = Dall.shape
    order = _Order(dtype, keep_max)
    # equal values: faiss takes the first shard when the smallest are kept, the last one otherwise
    shards = [order_by_query(a, keep_max) for a in (Dall, Iall)]
    values, labels = (a.reshape(nq, nshard * k) for a in shards)
    present = (shards[1] >= 0).cumprod(2).to(torch.bool).reshape(nq, nshard * k)
    keys = order.keys(values)
    worst = float("inf") if keys.is_floating_point() else torch.iinfo(torch.int64).max
    columns = keys.masked_fill(~present, worst).argsort(dim=1, stable=True)[:, :k]
    missing = ~present.gather(1, columns)
    D = values.gather(1, columns).masked_fill(missing, order.neutral)
    return kind.out(D), kind.out(labels.gather(1, columns).masked_fill(missing, -1))


def merge_knn_results_CMin(
    n: int,
    k: int,
    nshard: int,
    all_distances: Pointer,
    all_labels: Pointer,
    distances: Pointer,
    labels: Pointer,
) -> None:
    """`merge_knn_results` that keeps the smallest, behind pointers: results [nshard, n, k] to results [n, k]."""
    _merge_into("merge_knn_results_CMin", n, k, nshard, all_distances, all_labels, distances, labels, False)


def merge_knn_results_CMax(
    n: int,
    k: int,
    nshard: int,
    all_distances: Pointer,
    all_labels: Pointer,
    distances: Pointer,
    labels: Pointer,
) -> None:
    """`merge_knn_results` that keeps the largest, behind pointers: results [nshard, n, k] to results [n, k]."""
    _merge_into("merge_knn_results_CMax", n, k, nshard, all_distances, all_labels, distances, labels, True)


def _merge_into(
    function: str,
    n: int,
    k: int,
    nshard: int,
    all_distances: Pointer,
    all_labels: Pointer,
    distances: Pointer,
    labels: Pointer,
    keep_max: bool,
) -> None:
    dtype = "int32" if isinstance(all_distances, Pointer) and all_distances.dtype == np.int32 else "float32"
    values = pointed(all_distances, nshard * n * k, dtype, function).reshape(nshard, n, k)
    ids = pointed(all_labels, nshard * n * k, "int64", function).reshape(nshard, n, k)
    found = merge_knn_results(values, ids, keep_max)
    pointed(distances, n * k, dtype, function)[:] = found[0].reshape(-1)
    pointed(labels, n * k, "int64", function)[:] = found[1].reshape(-1)


def order_by_query(a: Array, last_shard_first: bool) -> Tensor:
    """Results (nshard, nq, k) as a tensor (nq, nshard, k), the shards in order or reversed."""
    tensor = a if isinstance(a, Tensor) else tensor_of(np.ascontiguousarray(a))
    return (tensor.flip(0) if last_shard_first else tensor).transpose(0, 1).contiguous()
