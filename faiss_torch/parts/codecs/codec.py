"""The seam between what is stored of a vector and all that stores, scans, filters and moves it.

Lists and flat indexes hold rows of `code_size` bytes. What these bytes mean is known to a codec alone. A new one gives
``d``, ``code_size``, ``encode`` and ``decode``, and is searched by scores of decoded rows; one that scores codes faster
gives a ``scorer`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...ops.scoring.residual import Residuals, make_residual_scorer
from ...ops.scoring.scorers import Scorer, make_scorer
from ...ops.scoring.stored import Stored


class Codec:
    """What is stored of vectors.

    Attributes
    ----------
    d : int
    code_size : int
        Bytes of a code.
    """

    d: int
    code_size: int

    def encode(self, x: Tensor) -> Tensor:
        """Codes of vectors: float32, (n, d) -> uint8, (n, code_size)."""
        raise RuntimeError(f"{type(self).__name__} does not encode")

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors of codes: uint8, (n, code_size) -> float32, (n, d), in memory of their own."""
        raise RuntimeError(f"{type(self).__name__} does not decode")

    def rows(self, stored: Tensor) -> Tensor:
        """Stored bytes as a scan reads them, a view: uint8, (n, any) -> (n, any)."""
        return stored

    def decoder(self) -> Callable[[Tensor], Tensor] | None:
        """What gives a scan the vectors of `rows`, each component two roundings from those of `decode` at most.

        None where the rows are vectors of floats themselves.
        """
        return self.decode

    def scorer(
        self,
        xq: Tensor,
        stored: Stored,
        metric_type: int,
        metric_arg: float = 0.0,
        residuals: Residuals | None = None,
    ) -> Scorer:
        """What scores stored rows for queries.

        Parameters
        ----------
        xq : Tensor, float32, shape (nq, d)
        stored : Stored
        metric_type, metric_arg
            The metric.
        residuals : Residuals, optional
            What the rows are differences to, where they are differences.
        """
        if residuals is None:
            return make_scorer(xq, stored, metric_type, metric_arg)
        return make_residual_scorer(xq, stored, residuals, metric_type, metric_arg)
