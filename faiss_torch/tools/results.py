"""Comparing and describing result tables and assignments."""

from __future__ import annotations

import numpy as np
import torch

from ..attributes import integer
from ..border import Array, integers_in
from ..wrapper.pointers import Pointer, pointed


def number_of_results(k: int) -> int:
    """Take a number of results in, which may be 0.

    Raises
    ------
    ValueError
        If it is negative.
    """
    if integer(k, "k") < 0:
        raise ValueError(f"k cannot be negative, got {k}")
    return integer(k, "k")


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


def ranklist_handle_ties(k: int, idx: Pointer, dis: Pointer) -> None:
    """Sort the labels `idx` [k] of equal distances `dis` [k], which are in order, behind pointers."""
    labels, keys = pointed(idx, k, "int64", "ranklist_handle_ties"), pointed(dis, k, "float32", "ranklist_handle_ties")
    run = np.concatenate([[0], np.cumsum(keys[1:] != keys[:-1])]) if k else keys
    labels[:] = labels[np.lexsort((labels, run))]


def imbalance_factor(n: int, k: int | Pointer, assign: Pointer | None = None) -> float:
    """How uneven clusters are: 1 when all have the same size, k when one has everything.

    Called as ``imbalance_factor(k, hist)`` with the sizes of the clusters, or as
    ``imbalance_factor(n, k, assign)`` with the cluster of each of n points; `hist` and `assign` are pointers to
    int64.
    """
    name = "imbalance_factor"
    if assign is None:
        clusters, sizes = n, pointed(k, n, "int64", name).astype(np.float64)
    else:
        clusters = int(k)
        sizes = np.bincount(pointed(assign, n, "int64", name), minlength=clusters).astype(np.float64)
    total = sizes.sum()
    return float(np.square(sizes).sum() * clusters / (total * total)) if total else float("nan")


def ivec_hist(n: int, v: Pointer, vmax: int, hist: Pointer) -> int:
    """Count `n` int32 into `hist`, int32 [vmax]; those outside [0, vmax) are the number returned."""
    values = pointed(v, n, "int32", "ivec_hist")
    inside = values[(values >= 0) & (values < vmax)]
    pointed(hist, vmax, "int32", "ivec_hist")[:] = np.bincount(inside, minlength=vmax)
    return n - inside.size
