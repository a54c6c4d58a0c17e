"""Comparing and describing result tables and assignments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..border import Array, integers_in
from ..pointers import Pointer, pointed


def eval_intersection(I1: Array, I2: Array) -> int:
    """How many labels two result tables have in common, row by row.

    Parameters
    ----------
    I1 : array of int, shape (n, k1)
    I2 : array of int, shape (n, k2)

    Returns
    -------
    int
        The sum over the rows; a label counts once in a row, and -1 never.

    Raises
    ------
    AssertionError
        If the tables have different numbers of rows.
    """
    cpu = torch.device("cpu")
    first, second = integers_in(I1, cpu), integers_in(I2, cpu)
    if len(first) != len(second):
        raise AssertionError(f"eval_intersection: {len(first)} rows and {len(second)} rows")
    if not first.numel() or not second.numel():
        return 0
    # a label that is new in its row and stands in the other table's row
    ordered, others = first.sort(dim=1).values, second.sort(dim=1).values
    places = torch.searchsorted(others, ordered).clamp_(max=others.shape[1] - 1)
    common = (others.gather(1, places) == ordered) & (ordered >= 0)
    common[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return int(common.sum())


def ranklist_intersection_size(k1: int, v1: Pointer, k2: int, v2: Pointer) -> int:
    """How many labels two lists behind pointers have in common; a label counts once, a negative one never."""
    name = "ranklist_intersection_size"
    return eval_intersection(pointed(v1, k1, "int64", name)[None], pointed(v2, k2, "int64", name)[None])


def imbalance_factor(*arguments: Any) -> float:
    """How uneven clusters are: 1 when all have the same size, k when one has everything.

    Called as ``imbalance_factor(k, hist)`` with the sizes of the clusters, or as
    ``imbalance_factor(n, k, assign)`` with the cluster of each of n points; `hist` and `assign` are pointers to
    int64.

    Raises
    ------
    TypeError
        For another number of arguments.
    """
    if len(arguments) == 2:
        k, hist = arguments
        sizes = pointed(hist, k, "int64", "imbalance_factor").astype(np.float64)
    elif len(arguments) == 3:
        n, k, assign = arguments
        sizes = np.bincount(pointed(assign, n, "int64", "imbalance_factor"), minlength=k).astype(np.float64)
    else:
        raise TypeError(f"imbalance_factor: expected (k, hist) or (n, k, assign), {len(arguments)} given")
    total = sizes.sum()
    return float(np.square(sizes).sum() * k / (total * total)) if total else float("nan")


def ivec_hist(n: int, v: Pointer, vmax: int, hist: Pointer) -> int:
    """Count `n` int32 into `hist`, int32 [vmax]; those outside [0, vmax) are the number returned."""
    values = pointed(v, n, "int32", "ivec_hist")
    inside = values[(values >= 0) & (values < vmax)]
    pointed(hist, vmax, "int32", "ivec_hist")[:] = np.bincount(inside, minlength=vmax)
    return n - inside.size
