"""IndexIVFScalarQuantizer: inverted lists of vectors of which each component is quantised by itself."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...constants import METRIC_L2
from ...parts.codecs.codec import Codec
from ...parts.codecs.scalar_quantizer import ScalarQuantizer
from ..base import Index
from .base import IndexIVF


class IndexIVFScalarQuantizer(IndexIVF):
    """Inverted lists in the codes of a scalar quantizer.

    Parameters
    ----------
    quantizer : Index
    d, nlist : int
    qtype : int
        One of ``ScalarQuantizer.QT_*``; of ``QT_0bit`` a vector is the centroid of its list.
    metric : int
    by_residual : bool
        Whether codes are of the differences to the centroids.
    own_invlists : bool

    Attributes
    ----------
    sq : ScalarQuantizer
    """

    sq: ScalarQuantizer

    _objects: ClassVar[dict[str, type]] = {"sq": ScalarQuantizer}

    def __init__(
        self,
        quantizer: Index | None = None,
        d: int = 0,
        nlist: int = 0,
        qtype: int = ScalarQuantizer.QT_8bit,
        metric: int = METRIC_L2,
        by_residual: bool = True,
        own_invlists: bool = True,
    ) -> None:
        sq = ScalarQuantizer(d, qtype)
        super().__init__(quantizer, d, nlist, sq.code_size, metric, own_invlists)
        self.sq = sq
        self.by_residual = by_residual and qtype != ScalarQuantizer.QT_0bit
        self.is_trained = qtype == ScalarQuantizer.QT_0bit

    def _codec(self) -> Codec:
        return self.sq.codec(self.device)

    def _holds_residuals(self) -> bool:
        return self.by_residual or self.sq.qtype == ScalarQuantizer.QT_0bit

    def _train_encoder(self, x: Tensor) -> None:
        self.sq.learn(x)

    def _train_encoder_num_vectors(self) -> int:
        return 100_000
