"""IndexIVFFlat: inverted lists of the vectors themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...attributes import integer
from ...constants import METRIC_L2
from ...parts.codecs.floats import FloatCodec
from ..base import Index
from ..flat.flat import FlatAssignment, IndexFlat
from .base import IndexIVF


class IndexIVFFlat(IndexIVF):
    """Inverted lists of float32 vectors.

    Parameters
    ----------
    quantizer : Index
    d, nlist : int
    metric : int
        Any metric.
    own_invlists : bool

    Attributes
    ----------
    storage_dtype : torch.dtype
        What the vectors are stored as (an extension; see `to`).
    """

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        metric: int = METRIC_L2,
        own_invlists: bool = True,
    ) -> None:
        super().__init__(quantizer, d, nlist, 4 * integer(d, "d"), metric, own_invlists)
        self.by_residual = False

    @property
    def storage_dtype(self) -> torch.dtype:
        return torch.float32 if self.invlists is None else self.invlists.storage_dtype

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        return self._moved_with_lists(device, dtype)

    def _codec(self) -> FloatCodec:
        return FloatCodec(self.storage_dtype)

    def _as_stored(self, x: Tensor) -> Tensor:
        return x.to(self.storage_dtype).to(torch.float32)

    def _later_assignment(self) -> FlatAssignment | None:
        quantizer = self.quantizer
        if not isinstance(quantizer, IndexFlat) or quantizer.ntotal > self.nlist or quantizer.device != self.device:
            return None
        return quantizer.assignment()

    def _knows_later_assignment(self) -> bool:
        quantizer = self.quantizer
        return isinstance(quantizer, IndexFlat) and quantizer.known_assignment() is not None
