"""Comparison of search results up to ties, and the metrics by their formulas in float64."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

FLT_MAX = np.finfo("float32").max


def assert_same_neighbours(
    D: Any, I: Any, D_expected: Any, I_expected: Any, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Check that two searches found the same neighbours.

    Parameters
    ----------
    D, D_expected : array, shape (n, k)
        Must agree to ``atol + rtol * |D_expected|``.
    I, I_expected : array, shape (n, k)
        Must agree but for ties: an id that stands elsewhere must stand among distances that agree with its own, or
        be cut off with them at the end of the row.
    """
    D, I, D_expected, I_expected = (np.asarray(values) for values in (D, I, D_expected, I_expected))
    assert D.shape == I.shape == D_expected.shape == I_expected.shape
    np.testing.assert_allclose(D, D_expected, rtol=rtol, atol=atol)
    np.testing.assert_array_equal(I < 0, I_expected < 0)
    for row in np.flatnonzero((I != I_expected).any(1)):
        found = I[row][I[row] >= 0]
        assert len(set(found.tolist())) == len(found), f"query {row}: an id twice in {found}"
        places = {int(label): place for place, label in enumerate(I_expected[row])}
        for j in np.flatnonzero(I[row] != I_expected[row]):
            place = places.get(int(I[row, j]), I.shape[1] - 1)
            np.testing.assert_allclose(
                D[row, j],
                D_expected[row, place],
                rtol=2 * rtol,
                atol=2 * atol,
                err_msg=f"query {row}: id {I[row, j]} at place {j} instead of {I_expected[row, j]}, and it is no tie",
            )


def assert_same_ranges(found: tuple, expected: tuple, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Check that two range searches found the same ids, in whatever order within a query."""
    lims, D, I = (np.asarray(values) for values in found)
    lims_expected, D_expected, I_expected = (np.asarray(values) for values in expected)
    np.testing.assert_array_equal(lims, lims_expected)
    owner = np.repeat(np.arange(len(lims) - 1), np.diff(lims.astype("int64")))
    order, order_expected = np.lexsort((I, owner)), np.lexsort((I_expected, owner))
    np.testing.assert_array_equal(I[order], I_expected[order_expected])
    np.testing.assert_allclose(D[order], D_expected[order_expected], rtol=rtol, atol=atol)


def _jensen_shannon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    middle = (x + y) / 2
    return (x * np.log(x / middle) + y * np.log(y / middle)).sum(-1) / 2


def _nan_euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    present = ~np.isnan(x - y)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nansum((x - y) ** 2, -1) * x.shape[-1] / present.sum(-1)


#: The metrics that only need positive vectors, as functions of two broadcast arrays and of metric_arg.
FORMULAS = {
    "METRIC_INNER_PRODUCT": lambda x, y, p: (x * y).sum(-1),
    "METRIC_L2": lambda x, y, p: ((x - y) ** 2).sum(-1),
    "METRIC_L1": lambda x, y, p: np.abs(x - y).sum(-1),
    "METRIC_Linf": lambda x, y, p: np.abs(x - y).max(-1),
    "METRIC_Lp": lambda x, y, p: (np.abs(x - y) ** p).sum(-1),
    "METRIC_Canberra": lambda x, y, p: (np.abs(x - y) / (np.abs(x) + np.abs(y))).sum(-1),
    "METRIC_BrayCurtis": lambda x, y, p: np.abs(x - y).sum(-1) / np.abs(x + y).sum(-1),
    "METRIC_JensenShannon": lambda x, y, p: _jensen_shannon(x, y),
    "METRIC_Jaccard": lambda x, y, p: np.minimum(x, y).sum(-1) / np.maximum(x, y).sum(-1),
    "METRIC_NaNEuclidean": lambda x, y, p: _nan_euclidean(x, y),
    "METRIC_GOWER": lambda x, y, p: np.abs(x - y).mean(-1),
}

SIMILARITIES = ("METRIC_INNER_PRODUCT", "METRIC_Jaccard")


def all_distances(xq: np.ndarray, xb: np.ndarray, metric: str = "METRIC_L2", metric_arg: float = 0.0) -> np.ndarray:
    """All distances by the metric's formula: float64, shape (nq, nb)."""
    x, y = xq.astype("float64"), xb.astype("float64")
    return np.stack([FORMULAS[metric](row, y, metric_arg) for row in x])


def neighbours(
    xq: np.ndarray, xb: np.ndarray, k: int, metric: str = "METRIC_L2", metric_arg: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by the metric's formula in float64, padded as faiss pads; ties to the lowest id."""
    similarity = metric in SIMILARITIES
    keys = all_distances(xq, xb, metric, metric_arg)
    order = (-keys if similarity else keys).argsort(1, kind="stable")[:, :k]
    D = np.full((len(xq), k), -FLT_MAX if similarity else FLT_MAX)
    I = np.full((len(xq), k), -1)
    D[:, : order.shape[1]] = np.take_along_axis(keys, order, 1)
    I[:, : order.shape[1]] = order
    return D, I


def carried_over(index: Any, reference: ModuleType, module: ModuleType) -> Any:
    """Return an index of one library as an index of another, by its bytes."""
    return module.deserialize_index(reference.serialize_index(index))
