"""Sums, distances and orders of vectors behind pointers, in faiss's C form."""

from __future__ import annotations

import numpy as np
import torch

from ..border import tensor_of
from ..constants import METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2, METRIC_Linf
from ..ops.runtime import chunks
from ..ops.scoring import distances
from ..wrapper.pointers import Pointer, pointed
from .knn import fvec_L2sqr_ny


def fvec_add(d: int, a: Pointer, b: Pointer | float, c: Pointer) -> None:
    """Write a + b to c, all [d] behind pointers; b may be a number."""
    other = pointed(b, d, "float32", "fvec_add") if isinstance(b, Pointer) else np.float32(b)
    pointed(c, d, "float32", "fvec_add")[:] = pointed(a, d, "float32", "fvec_add") + other


def fvec_sub(d: int, a: Pointer, b: Pointer, c: Pointer) -> None:
    """Write a - b to c, all [d] behind pointers."""
    left, right, out = (pointed(pointer, d, "float32", "fvec_sub") for pointer in (a, b, c))
    out[:] = left - right


def fvec_L1(x: Pointer, y: Pointer, d: int) -> float:
    """The sum of the absolute differences of two vectors of `d` floats behind pointers."""
    return _distance("fvec_L1", x, y, d, METRIC_L1)


def fvec_Linf(x: Pointer, y: Pointer, d: int) -> float:
    """The largest absolute difference of two vectors of `d` floats behind pointers."""
    return _distance("fvec_Linf", x, y, d, METRIC_Linf)


def _distance(function: str, x: Pointer, y: Pointer, d: int, metric: int) -> float:
    if d == 0:
        return 0.0
    a, b = (tensor_of(pointed(pointer, d, "float32", function)) for pointer in (x, y))
    return float(distances.distance(a, b, metric))


def fvec_L2sqr_by_idx(dis: Pointer, x: Pointer, y: Pointer, ids: Pointer, d: int, nx: int, ny: int) -> None:
    """Write the squared L2 distances [nx, ny] from x [nx, d] to the rows ids [nx, ny] of y, all behind pointers.

    An id below 0 gives +inf.
    """
    _by_idx("fvec_L2sqr_by_idx", dis, x, y, ids, d, nx, ny, METRIC_L2, float("inf"))


def fvec_inner_products_by_idx(ip: Pointer, x: Pointer, y: Pointer, ids: Pointer, d: int, nx: int, ny: int) -> None:
    """Write the inner products [nx, ny] of x [nx, d] with the rows ids [nx, ny] of y, all behind pointers.

    An id below 0 gives -inf.
    """
    _by_idx("fvec_inner_products_by_idx", ip, x, y, ids, d, nx, ny, METRIC_INNER_PRODUCT, -float("inf"))


def _by_idx(
    function: str,
    out: Pointer,
    x: Pointer,
    y: Pointer,
    ids: Pointer,
    d: int,
    nx: int,
    ny: int,
    metric: int,
    absent: float,
) -> None:
    rows = torch.from_numpy(pointed(ids, nx * ny, "int64", function).copy()).view(nx, ny)
    results = tensor_of(pointed(out, nx * ny, "float32", function)).view(nx, ny)
    if not rows.numel():
        return
    queries = tensor_of(pointed(x, nx * d, "float32", function)).view(nx, d)
    count = int(rows.max()) + 1
    vectors = tensor_of(pointed(y, max(0, count) * d, "float32", function)).view(-1, d)
    results[:] = absent
    if not count > 0:
        return
    for some in chunks.slices(nx, chunks.rows_within(4 * d * ny)):
        found = distances.distance(queries[some, None], vectors[rows[some].clamp(min=0)], metric)
        results[some] = torch.where(rows[some] >= 0, found, results[some])


def fvec_L2sqr_ny_nearest(distances_tmp_buffer: Pointer, x: Pointer, y: Pointer, d: int, ny: int) -> int:
    """The row of y [ny, d] that is nearest to x [d], by L2; 0 where ny is 0.

    The distances [ny] are left in `distances_tmp_buffer`.
    """
    if ny == 0:
        return 0
    fvec_L2sqr_ny(distances_tmp_buffer, x, y, d, ny)
    return int(np.argmin(pointed(distances_tmp_buffer, ny, "float32", "fvec_L2sqr_ny_nearest")))


def fvec_argsort(n: int, vals: Pointer, perm: Pointer) -> None:
    """Write the positions of n float32 in ascending order to `perm`, uint64 [n]; of equal ones the first is first."""
    values = pointed(vals, n, "float32", "fvec_argsort")
    pointed(perm, n, "uint64", "fvec_argsort")[:] = np.argsort(values, kind="stable")


def fvec_argsort_parallel(n: int, vals: Pointer, perm: Pointer) -> None:
    """`fvec_argsort` under the name that uses several threads in faiss."""
    fvec_argsort(n, vals, perm)
