"""RangeSearchResult: where `range_search_c` puts what it finds."""

from __future__ import annotations

import numpy as np

from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer


class RangeSearchResult(Owned):
    """The results of a range search, behind pointers.

    Parameters
    ----------
    nq : int
        Number of queries.
    alloc_lims : bool
        Whether to make room for `lims`.

    Attributes
    ----------
    lims : Pointer to uint64, or None
        nq + 1 numbers: the results of query i are ``[lims[i]:lims[i + 1]]``.
    labels : Pointer to int64, or None
    distances : Pointer to float32, or None
        lims[nq] results each, once there are some.
    buffer_size : int
        Kept, and without effect.
    """

    def __init__(self, nq: int, alloc_lims: bool = True) -> None:
        if nq < 0:
            raise RuntimeError(f"RangeSearchResult: cannot hold the results of {nq} queries")
        self.nq = nq
        self.lims: Pointer | None = Pointer(np.zeros(nq + 1, np.uint64)) if alloc_lims else None
        self.labels: Pointer | None = None
        self.distances: Pointer | None = None
        self.buffer_size = 1 << 18

    def do_allocation(self) -> None:
        """Make room for the results: `lims` holds how many each query has, and afterwards where they begin.

        Raises
        ------
        RuntimeError
            If there are no `lims`, or there is room already.
        """
        if self.lims is None or self.labels is not None or self.distances is not None:
            raise RuntimeError("do_allocation: expected lims, and neither labels nor distances")
        lims = self.lims.view(self.nq + 1)
        lims[1:] = np.cumsum(lims[:-1])
        lims[0] = 0
        self.labels = Pointer(np.zeros(int(lims[-1]), np.int64))
        self.distances = Pointer(np.zeros(int(lims[-1]), np.float32))

    def take(self, lims: np.ndarray, distances: np.ndarray, labels: np.ndarray) -> None:
        """Hold the results of a range search (an extension).

        Raises
        ------
        RuntimeError
            If they are of another number of queries.
        """
        if len(lims) != self.nq + 1:
            raise RuntimeError(f"a RangeSearchResult of {self.nq} queries cannot hold the results of {len(lims) - 1}")
        if self.lims is None:
            self.lims = Pointer(np.zeros(self.nq + 1, np.uint64))
        self.lims.view(self.nq + 1)[:] = lims
        self.labels, self.distances = Pointer(labels), Pointer(distances)
