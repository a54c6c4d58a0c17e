"""CodeSet: which codes were seen before."""

from __future__ import annotations

import numpy as np

from ..attributes import size
from ..border import Array
from ..wrapper.ownership import Owned
from ..wrapper.pointers import Pointer, table


class CodeSet(Owned):
    """A set of codes.

    Parameters
    ----------
    d_in : int
        Bytes of a code.

    Attributes
    ----------
    d : int
        Bytes of a code.
    """

    d: int

    def __init__(self, d_in: int) -> None:
        self.d = size(d_in, "d_in")
        self._seen: set[bytes] = set()

    def insert(self, codes: Array, inserted: np.ndarray | None = None) -> np.ndarray:
        """Add codes.

        Parameters
        ----------
        codes : array, shape (n, d)
            Cast to uint8.
        inserted : numpy.ndarray of bool, shape (n,), optional
            Where to put the result.

        Returns
        -------
        numpy.ndarray of bool, shape (n,)
            Which of them were not in the set; of equal ones, the first.

        Raises
        ------
        AssertionError
            If a shape does not fit.
        TypeError
            If `inserted` is not of bool.
        """
        n, d = codes.shape
        if d != self.d:
            raise AssertionError(f"codes of {d} bytes given, the set is of codes of {self.d}")
        if inserted is None:
            inserted = np.zeros(n, dtype=bool)
        elif inserted.shape != (n,):
            raise AssertionError(f"inserted has shape {inserted.shape}, expected {(n,)}")
        elif inserted.dtype != bool:
            raise TypeError(f"inserted is an array of {inserted.dtype}, expected bool")
        rows = np.ascontiguousarray(codes, dtype=np.uint8)
        inserted[:] = False
        if d == 0:
            inserted[:1] = not self._seen
            self._seen.update([b""] if n else [])
            return inserted
        distinct, first = np.unique(rows.view(f"V{d}").reshape(n), return_index=True)
        new = np.fromiter((code.tobytes() not in self._seen for code in distinct), dtype=bool, count=len(distinct))
        inserted[first[new]] = True
        self._seen.update(code.tobytes() for code in distinct[new])
        return inserted

    def insert_c(self, n: int, codes: Pointer, inserted: Pointer) -> None:
        """`insert` of codes, uint8 [n, d], into inserted, bool [n]."""
        self.insert(table(codes, (n, self.d), "uint8", "insert_c"), table(inserted, (n,), "bool", "insert_c"))
