"""Rows that are much larger than the others: a search by float32 products leaves them out and compares them apart.

The rounding of a product grows with the norm, and how far apart scores must be goes by the largest one. A single row
that is a million times larger than the others would take every query its certificate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .stored import Stored

#: A row is outlying whose norm is so many times the median, if there are no more of them than this.
OUTLYING, MOST_OUTLYING = 8.0, 64

#: Rows of which the median is taken for that of all, to see whether it is worth while to look at all.
SAMPLE = 256


def without_outlying(stored: Stored, n: int) -> tuple[Stored, Tensor] | None:
    """Leave outlying ones out of the first n stored rows.

    Parameters
    ----------
    stored : Stored
        Of float32 vectors that are scored by products.
    n : int
        At least 1.

    Returns
    -------
    stored : Stored
        The others: the bias of an outlying row is +inf.
    rows : Tensor, int64
        Those that are left out.

    None comes back where there are none, or many.
    """
    if stored.is_made_up:
        return None
    vectors = stored.vectors[:n]
    sample = torch.linalg.vector_norm(vectors[:: max(1, n // SAMPLE)], dim=1)
    if stored.largest_norm <= OUTLYING * float(sample.median()):
        return None
    norms = torch.linalg.vector_norm(vectors, dim=1)
    outlying = (norms > OUTLYING * norms.median()).logical_and_(stored.bias[:n] < float("inf"))
    rows = outlying.nonzero().view(-1)
    if not 0 < len(rows) <= min(MOST_OUTLYING, n // 2):
        return None
    bias = stored.bias.index_fill(0, rows, float("inf"))
    largest = float(norms.masked_fill_(outlying, 0.0).max())
    return stored._replace(bias=bias, largest_norm=largest), rows
