"""What the screen needs to know of stored float vectors beside their values."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import FLT_MAX
from ..ops.screen import Stored, bias_of
from .growing import GrowingTensor


class RowFacts:
    """The bias of each stored row, and bounds over all rows; kept up to date as rows are written.

    Parameters
    ----------
    metric_type : int
        The bias depends on it.
    device : torch.device
    """

    def __init__(self, metric_type: int, device: torch.device) -> None:
        self.metric_type = metric_type
        self.bias = GrowingTensor((), torch.float32, device)
        self.largest_norm = 0.0
        self.finite = True

    def resize(self, size: int) -> None:
        """Follow the storage's size; new rows are not to be found until they are written."""
        old = self.bias.size
        self.bias.resize(size)
        self.bias.room[min(old, size) :] = float("inf")

    def write(self, rows: Tensor | slice, vectors: Tensor) -> None:
        """Take note of vectors written to rows.

        Parameters
        ----------
        rows : Tensor of int64, or slice
        vectors : Tensor, float32, shape (n, d)
        """
        if not len(vectors):
            return
        bias = bias_of(vectors, self.metric_type)
        # +inf would take the row out; what a value that is not finite means is for the metric's definition to say
        self.bias.room[rows] = bias.nan_to_num_(nan=0.0, posinf=FLT_MAX)
        largest = float(torch.linalg.vector_norm(vectors, dim=-1).max())
        if largest != largest or largest == float("inf"):
            self.finite = self.finite and bool(vectors.isfinite().all())
            largest = float("inf")
        self.largest_norm = max(self.largest_norm, largest)

    def remove(self, rows: Tensor | slice) -> None:
        """Take rows out of what can be found."""
        self.bias.room[rows] = float("inf")

    def stored(self, vectors: Tensor, hidden: Tensor | None = None) -> Stored:
        """Return what a scan reads.

        Parameters
        ----------
        vectors : Tensor, float32, shape (capacity, d)
        hidden : Tensor, bool, shape (capacity,), optional
            Rows that this search must not find.
        """
        bias = self.bias.room[: len(vectors)]
        if hidden is not None:
            # the vectors may have been given more room than their facts
            bias = bias.masked_fill(hidden[: len(bias)], float("inf"))
        return Stored(vectors, bias, self.largest_norm, self.finite)
