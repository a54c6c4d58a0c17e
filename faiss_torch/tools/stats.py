"""MatrixStats: what is worth knowing about a set of vectors before indexing them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..border import Array, floats_in
from ..ops.runtime import chunks
from .checksums import hash_array, hash_rows


class PerDimStats(NamedTuple):
    """Statistics of one dimension, over its finite values.

    Attributes
    ----------
    n, n_nan, n_inf, n0, n_valid : int
        Numbers of values, of NaN, of infinities, of zeros, of finite values.
    min, max, sum, sum2, mean, stddev : float
    """

    n: int
    n_nan: int
    n_inf: int
    n0: int
    min: float
    max: float
    sum: float
    sum2: float
    n_valid: int
    mean: float
    stddev: float


class MatrixStats:
    """Statistics of a matrix, and comments on them.

    Parameters
    ----------
    m : array, shape (n, d)
        numpy or torch; cast to float32.

    Attributes
    ----------
    comments : str
        The comments, one per line, in faiss's words.
    n, d : int
        The shape.
    n_collision : int
        Different vectors with one hash.
    n_valid : int
        Vectors whose norm is finite.
    n0 : int
        Vectors of zeros.
    min_norm2, max_norm2 : float
        The smallest and largest L2 norm of the others.
    hash_value : int
        The hash of all bytes, equal to faiss's.
    per_dim_stats : list of PerDimStats
        One per dimension.

    Raises
    ------
    AssertionError
        If the array does not have two dimensions.
    """

    def __init__(self, m: Array) -> None:
        if len(m.shape) != 2:
            raise AssertionError(f"MatrixStats: expected an array of shape (n, d), got {tuple(m.shape)}")
        x = floats_in(m, torch.device("cpu")).numpy()
        self.n, self.d = x.shape
        self.hash_value = hash_array(x)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            self._norms(x)
            self.per_dim_stats = _per_dim_stats(x)
        self._copies(x)
        self.comments = "".join(f"{line}\n" for line in self._lines()) + self._last_line()

    def _norms(self, x: np.ndarray) -> None:
        """Count vectors by their norms."""
        squares = np.empty(self.n, dtype=np.float64)
        for rows in chunks.slices(self.n, chunks.rows_within(8 * max(1, self.d))):
            squares[rows] = np.square(x[rows], dtype=np.float64).sum(1)
        valid = squares[np.isfinite(squares)]
        self.n_valid = int(valid.size)
        self.n0 = int(np.count_nonzero(valid == 0))
        norms = np.sqrt(valid[valid > 0])
        self.min_norm2 = float(norms.min()) if norms.size else float("inf")
        self.max_norm2 = float(norms.max()) if norms.size else 0.0

    def _copies(self, x: np.ndarray) -> None:
        """Find equal vectors by the hash of their bytes."""
        hashes = np.empty(self.n, dtype=np.uint64)
        for rows in chunks.slices(self.n, chunks.rows_within(8 * max(1, self.d))):
            hashes[rows] = hash_rows(x[rows])
        _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
        original = first[group.reshape(-1)]
        same = np.ones(self.n, dtype=bool)
        for rows in chunks.slices(self.n, chunks.rows_within(8 * max(1, self.d))):
            bits = x[rows].view(np.int32), x[original[rows]].view(np.int32)
            same[rows] = (bits[0] == bits[1]).all(1)
        self.n_collision = int(np.count_nonzero(~same))
        self._distinct = int(first.size)
        counts = np.bincount(original[same], minlength=self.n)
        self._most_copied = int(counts.argmax()) if self.n else 0
        self._copies_of_it = int(counts.max()) if self.n else 0

    def _lines(self) -> list[str]:
        """The comments, without the last one, which ends without a line break in faiss."""
        lines = [f"analyzing {self.n} vectors of size {self.d}"]
        if self.d > 1024:
            lines.append(
                "indexing this many dimensions is hard, please consider dimensionality reduction (with PCAMatrix)"
            )
        lines.append(f"hash value 0x{self.hash_value:016x}")
        if self.n_valid == self.n:
            lines.append("no NaN or Infs in data")
        else:
            lines.append(
                f"{self.n - self.n_valid} vectors contain NaN or Inf (or have too large components), "
                "expect bad results with indexing!"
            )
        return lines + self._lines_on_copies() + self._lines_on_norms() + self._lines_on_dimensions()

    def _lines_on_copies(self) -> list[str]:
        if self._distinct == self.n:
            return ["all vectors are distinct"]
        lines = [f"{self._distinct} vectors are distinct ({self._distinct * 100.0 / self.n:.2f}%)"]
        if self.n_collision:
            lines.append(f"{self.n_collision} collisions in hash table, counts may be invalid")
        return [*lines, f"vector {self._most_copied} has {self._copies_of_it} copies"]

    def _lines_on_norms(self) -> list[str]:
        smallest, largest = self.min_norm2, self.max_norm2
        lines = [f"range of L2 norms=[{smallest:g}, {largest:g}] ({self.n0} null vectors)"]
        if largest < smallest * 1.0001:
            lines.append("vectors are normalized, inner product and L2 search are equivalent")
        if largest > smallest * 100:
            lines.append("vectors have very large differences in norms, is this normal?")
        return lines

    def _lines_on_dimensions(self) -> list[str]:
        dims = self.per_dim_stats
        zeros = sum(dim.n0 for dim in dims)
        constant = sum(dim.max == dim.min for dim in dims)
        dangerous = sum(dim.max != dim.min and dim.max < 1.001 * dim.min for dim in dims)
        lines = ["matrix contains no 0s"]
        if zeros:
            lines = [f"matrix contains {zeros * 100.0 / (self.n * self.d):.2f} % 0 entries"]
        if constant:
            lines.append(f"{constant} dimensions are constant: they can be removed")
        else:
            lines.append("no constant dimensions")
        if dangerous:
            lines.append(
                f"{dangerous} dimensions are too large wrt. their variance, may lose precision "
                "in IndexFlatL2 (use CenteringTransform)"
            )
        else:
            lines.append("no dimension has a too large mean")
        smallest, largest = self._stddevs()
        return [*lines, f"stddevs per dimension are in [{smallest:g} {largest:g}]"]

    def _stddevs(self) -> tuple[float, float]:
        """The smallest and largest standard deviation; a NaN is neither."""
        deviations = [dim.stddev for dim in self.per_dim_stats if dim.stddev == dim.stddev]
        return min(deviations, default=float("inf")), max(deviations, default=0.0)

    def _last_line(self) -> str:
        _, largest = self._stddevs()
        negligible = sum(dim.stddev < largest * 1e-4 for dim in self.per_dim_stats)
        if not negligible:
            return ""
        return f"{negligible} dimensions have negligible stddev wrt. the largest dimension, they could be ignored"


def _per_dim_stats(x: np.ndarray) -> list[PerDimStats]:
    n, d = x.shape
    n_nan, n_inf, n0 = (np.zeros(d, dtype=np.int64) for _ in range(3))
    total, total2 = np.zeros(d), np.zeros(d)
    smallest, largest = np.full(d, np.inf, np.float32), np.full(d, -np.inf, np.float32)
    for rows in chunks.slices(n, chunks.rows_within(8 * max(1, d))):
        part = x[rows]
        finite = np.isfinite(part)
        n_nan += np.isnan(part).sum(0)
        n_inf += np.isinf(part).sum(0)
        n0 += (part == 0).sum(0)
        values = part.astype(np.float64)
        values[~finite] = 0
        total += values.sum(0)
        total2 += np.square(values).sum(0)
        smallest = np.minimum(smallest, part.min(0, where=finite, initial=np.inf))
        largest = np.maximum(largest, part.max(0, where=finite, initial=-np.inf))
    n_valid = n - n_nan - n_inf
    mean = total / n_valid
    stddev = np.sqrt((total2 / n_valid - np.square(mean)).clip(min=0))
    columns = (n_nan, n_inf, n0, smallest, largest, total, total2, n_valid, mean, stddev)
    return [PerDimStats(n, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]
