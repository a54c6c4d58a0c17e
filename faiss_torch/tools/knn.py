"""Neighbours and distances without an index, in faiss's Python form and in its C form with pointers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..border import Array, Kind, crossing, default_device, floats_in, tensor_of
from ..constants import METRIC_INNER_PRODUCT, METRIC_L2, metric_type_from_int
from ..indexes.base import Index
from ..indexes.flat.flat import IndexFlat
from ..ops.runtime import chunks, workers
from ..ops.scoring import distances
from ..parts.params import SearchParameters
from ..parts.selectors import IDSelector
from ..wrapper.pointers import Pointer, pointed
from .heaps import HeapArray
from .results import number_of_results


@crossing
def knn(xq: Array, xb: Array, k: int, metric: int = METRIC_L2, metric_arg: float = 0.0) -> tuple[Array, Array]:
    """The k nearest neighbours of queries among database vectors.

    Parameters
    ----------
    xq : array, shape (nq, d)
    xb : array, shape (nb, d)
        numpy or torch, or one of each on the CPU; cast to float32. Results are of the kind of `xq`.
    k : int
        Number of neighbours; with 0 the results are empty.
    metric : int
        One of the ``METRIC_*`` numbers.
    metric_arg : float
        The p of METRIC_Lp.

    Returns
    -------
    D : array, float32, shape (nq, k)
        Distances (squared for L2) or similarities, best first; +-FLT_MAX where there are fewer than k.
    I : array, int64, shape (nq, k)
        Rows of `xb`; -1 where there are fewer than k.

    Raises
    ------
    AssertionError
        If the widths differ.
    ValueError
        If k is negative.
    RuntimeError
        If no metric has that number.
    """
    return _knn(xq, xb, k, metric, metric_arg, None)


def _knn(xq: Array, xb: Array, k: int, metric: int, metric_arg: float, sel: IDSelector | None) -> tuple[Array, Array]:
    xq, xb = _matrices(xq, xb)
    if number_of_results(k) == 0:
        metric_type_from_int(metric)
        kind, room = Kind(xq), torch.empty(len(xq), 0, dtype=torch.float32, device=torch.device("cpu"))
        return kind.out(room), kind.out(room.long())
    index: Index = IndexFlat(xb.shape[1], metric_type_from_int(metric))
    index.metric_arg = metric_arg
    if isinstance(xb, Tensor) and xb.device != index.device:
        index = index.to(xb.device)
    index.add(xb)
    return index.search(xq, k, params=None if sel is None else SearchParameters(sel=sel))


@crossing
def pairwise_distances(xq: Array, xb: Array, metric: int = METRIC_L2, metric_arg: float = 0) -> Array:
    """All distances between queries and database vectors.

    Parameters
    ----------
    xq : array, shape (nq, d)
    xb : array, shape (nb, d)
        numpy or torch, or one of each on the CPU; cast to float32. Results are of the kind of `xq`.
    metric : int
        One of the ``METRIC_*`` numbers.
    metric_arg : float
        The p of METRIC_Lp.

    Returns
    -------
    array, float32, shape (nq, nb)
        Squared distances for L2.

    Raises
    ------
    AssertionError
        If the widths differ.
    RuntimeError
        If no metric has that number.
    """
    xq, xb = _matrices(xq, xb)
    kind = Kind(xq)
    device = default_device() if kind.torch_device is None else kind.torch_device
    metric = metric_type_from_int(metric)
    queries, vectors = floats_in(xq, device), floats_in(xb, device)
    return kind.out(workers.conduct(lambda: distances.pairwise(queries, vectors, metric, metric_arg), device))


def _matrices(xq: Array, xb: Array) -> tuple[Array, Array]:
    """Check that two matrices are of one kind and one width; what is not a tensor becomes an array."""
    xq, xb = (x if isinstance(x, Tensor) else np.asarray(x) for x in (xq, xb))
    for name, x in (("xq", xq), ("xb", xb)):
        if len(x.shape) != 2:
            raise ValueError(f"{name}: expected shape (n, d), got {tuple(x.shape)}")
    if xq.shape[1] != xb.shape[1]:
        raise AssertionError(f"xq has {xq.shape[1]} dimensions and xb {xb.shape[1]}")
    Kind(xq).require(xb, "xb")
    return xq, xb


def _knn_into(
    function: str,
    xq: np.ndarray,
    xb: np.ndarray,
    k: int,
    metric: int,
    arg: float,
    D: Pointer,
    I: Pointer,
    sel: IDSelector | None = None,
) -> None:
    """`knn` of matrices, its results written to pointers."""
    found = _knn(xq, xb, k, metric, arg, sel)
    pointed(D, len(xq) * k, "float32", function)[:] = found[0].reshape(-1)
    pointed(I, len(xq) * k, "int64", function)[:] = found[1].reshape(-1)


def knn_L2sqr(
    x: Pointer, y: Pointer, d: int, nx: int, ny: int, k: int | HeapArray, *arguments: Pointer | IDSelector | None
) -> None:
    """`knn` for L2 behind pointers: queries x [nx, d], database y [ny, d], results [nx, k].

    Called as ``(..., k, distances, indexes, y_norm2=None, sel=None)`` or ``(..., res, y_norm2=None, sel=None)`` with a
    ``float_maxheap_array_t``; the norms of y are taken and not needed, a selector restricts the rows of y that can be
    found.

    Raises
    ------
    TypeError
        For another number of arguments, or of another kind.
    """
    name = "knn_L2sqr"
    wanted, distances, indexes, _, sel = _results_and_options(name, k, arguments, 2)
    _knn_into(name, _rows(x, nx, d, name), _rows(y, ny, d, name), wanted, METRIC_L2, 0.0, distances, indexes, sel)


def knn_inner_product(
    x: Pointer, y: Pointer, d: int, nx: int, ny: int, k: int | HeapArray, *arguments: Pointer | IDSelector | None
) -> None:
    """`knn` for the inner product behind pointers: queries x [nx, d], database y [ny, d], results [nx, k].

    Called as ``(..., k, distances, indexes, sel=None)`` or ``(..., res, sel=None)`` with a ``float_minheap_array_t``;
    a selector restricts the rows of y that can be found.

    Raises
    ------
    TypeError
        For another number of arguments, or of another kind.
    """
    name = "knn_inner_product"
    wanted, distances, indexes, sel = _results_and_options(name, k, arguments, 1)
    vectors = _rows(x, nx, d, name), _rows(y, ny, d, name)
    _knn_into(name, *vectors, wanted, METRIC_INNER_PRODUCT, 0.0, distances, indexes, sel)


def _results_and_options(
    function: str, k: int | HeapArray, arguments: tuple[Any, ...], options: int
) -> tuple[Any, ...]:
    """Read the two call forms of faiss: k and two pointers, or heaps; then options, None where they are not given."""
    results = (k.k, k.val, k.ids) if isinstance(k, HeapArray) else (k, *arguments[:2])
    given = arguments if isinstance(k, HeapArray) else arguments[2:]
    if len(results) < 3 or len(given) > options:
        raise TypeError(f"{function}: expected (..., k, distances, indexes) or (..., res), {6 + len(arguments)} given")
    return (*results, *given, *[None] * (options - len(given)))


def knn_extra_metrics(
    x: Pointer,
    y: Pointer,
    d: int,
    nx: int,
    ny: int,
    mt: int,
    metric_arg: float,
    k: int,
    distances: Pointer,
    indexes: Pointer,
    sel: IDSelector | None = None,
) -> None:
    """`knn` for any metric behind pointers: queries x [nx, d], database y [ny, d], results [nx, k].

    A selector restricts the rows of y that can be found.
    """
    name = "knn_extra_metrics"
    _knn_into(name, _rows(x, nx, d, name), _rows(y, ny, d, name), k, mt, metric_arg, distances, indexes, sel)


def pairwise_L2sqr(
    d: int,
    nq: int,
    xq: Pointer,
    nb: int,
    xb: Pointer,
    dis: Pointer,
    ldq: int = -1,
    ldb: int = -1,
    ldd: int = -1,
) -> None:
    """`pairwise_distances` for L2 behind pointers: xq [nq, d], xb [nb, d], dis [nq, nb].

    Rows stand `ldq`, `ldb` and `ldd` elements apart; -1 for one after the other.
    """
    pairwise_extra_distances(d, nq, xq, nb, xb, METRIC_L2, 0.0, dis, ldq, ldb, ldd)


def pairwise_extra_distances(
    d: int,
    nq: int,
    xq: Pointer,
    nb: int,
    xb: Pointer,
    mt: int,
    metric_arg: float,
    dis: Pointer,
    ldq: int = -1,
    ldb: int = -1,
    ldd: int = -1,
) -> None:
    """`pairwise_distances` for any metric behind pointers; parameters as `pairwise_L2sqr`."""
    name = "pairwise_extra_distances"
    out = _rows(dis, nq, nb, name, ldd)
    out[:] = pairwise_distances(_rows(xq, nq, d, name, ldq), _rows(xb, nb, d, name, ldb), mt, metric_arg)


def pairwise_indexed_L2sqr(d: int, n: int, x: Pointer, ix: Pointer, y: Pointer, iy: Pointer, dis: Pointer) -> None:
    """Squared L2 distances [n] of the pairs (x[ix[i]], y[iy[i]]) behind pointers."""
    _pairwise_indexed("pairwise_indexed_L2sqr", d, n, x, ix, y, iy, dis, METRIC_L2)


def pairwise_indexed_inner_product(
    d: int, n: int, x: Pointer, ix: Pointer, y: Pointer, iy: Pointer, dis: Pointer
) -> None:
    """Inner products [n] of the pairs (x[ix[i]], y[iy[i]]) behind pointers."""
    _pairwise_indexed("pairwise_indexed_inner_product", d, n, x, ix, y, iy, dis, METRIC_INNER_PRODUCT)


def _pairwise_indexed(
    function: str, d: int, n: int, x: Pointer, ix: Pointer, y: Pointer, iy: Pointer, dis: Pointer, metric: int
) -> None:
    pairs = []
    for vectors, positions in ((x, ix), (y, iy)):
        rows = pointed(positions, n, "int64", function)
        count = int(rows.max()) + 1 if n else 0
        pairs.append((_rows(vectors, count, d, function), rows))
    out = pointed(dis, n, "float32", function)
    for some in chunks.slices(n, chunks.rows_within(4 * d)):
        a, b = (tensor_of(vectors[rows[some]]) for vectors, rows in pairs)
        out[some] = distances.distance(a, b, metric).numpy()


def fvec_L2sqr_ny(dis: Pointer, x: Pointer, y: Pointer, d: int, ny: int) -> None:
    """Write the squared L2 distances [ny] from x [d] to y [ny, d], all behind pointers."""
    _one_to_many("fvec_L2sqr_ny", dis, x, y, d, ny, METRIC_L2)


def fvec_inner_products_ny(ip: Pointer, x: Pointer, y: Pointer, d: int, ny: int) -> None:
    """Write the inner products [ny] of x [d] with y [ny, d], all behind pointers."""
    _one_to_many("fvec_inner_products_ny", ip, x, y, d, ny, METRIC_INNER_PRODUCT)


def _one_to_many(function: str, dis: Pointer, x: Pointer, y: Pointer, d: int, ny: int, metric: int) -> None:
    query, rows = tensor_of(_rows(x, 1, d, function)), tensor_of(_rows(y, ny, d, function))
    out = tensor_of(pointed(dis, ny, "float32", function))
    for some in chunks.slices(ny, chunks.rows_within(4 * d)):
        out[some] = distances.distance(query, rows[some], metric)


def fvec_L2sqr(x: Pointer, y: Pointer, d: int) -> float:
    """The squared L2 distance of two vectors of `d` floats behind pointers."""
    return _one_to_one("fvec_L2sqr", x, y, d, METRIC_L2)


def fvec_inner_product(x: Pointer, y: Pointer, d: int) -> float:
    """The inner product of two vectors of `d` floats behind pointers."""
    return _one_to_one("fvec_inner_product", x, y, d, METRIC_INNER_PRODUCT)


def _one_to_one(function: str, x: Pointer, y: Pointer, d: int, metric: int) -> float:
    a, b = (tensor_of(pointed(pointer, d, "float32", function)) for pointer in (x, y))
    return float(distances.distance(a, b, metric))


def fvec_madd(n: int, a: Pointer, bf: float, b: Pointer, c: Pointer) -> None:
    """Write a + bf * b to c, all [n] behind pointers."""
    left, right, out = (pointed(pointer, n, "float32", "fvec_madd") for pointer in (a, b, c))
    out[:] = left + np.float32(bf) * right


def fvec_madd_and_argmin(n: int, a: Pointer, bf: float, b: Pointer, c: Pointer) -> int:
    """`fvec_madd`, and the position of the smallest element of c."""
    fvec_madd(n, a, bf, b, c)
    return int(torch.argmin(tensor_of(pointed(c, n, "float32", "fvec_madd_and_argmin"))))


def _rows(pointer: Pointer, n: int, d: int, function: str, apart: int = -1) -> np.ndarray:
    """The matrix [n, d] of float32 behind a pointer, its rows `apart` elements apart (-1: d)."""
    if apart in (-1, d) or n == 0:
        return pointed(pointer, n * d, "float32", function).reshape(n, d)
    flat = pointed(pointer, (n - 1) * apart + d, "float32", function)
    strides = (apart * flat.itemsize, flat.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (n, d), strides)
