"""IndexScalarQuantizer: vectors of which each component is quantised by itself, compared with every query."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...parts.codecs.codec import Codec
from ...parts.codecs.scalar_quantizer import ScalarQuantizer
from ...parts.params import SearchParameters
from .flat_codes import IndexFlatCodes


class IndexScalarQuantizer(IndexFlatCodes):
    """Vectors in the codes of a scalar quantizer.

    Parameters
    ----------
    d : int
    qtype : int
        One of ``ScalarQuantizer.QT_*``.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT; others are refused when they are searched by.

    Attributes
    ----------
    sq : ScalarQuantizer
    """

    sq: ScalarQuantizer

    _objects: ClassVar[dict[str, type]] = {"sq": ScalarQuantizer}

    def __init__(self, d: int = 0, qtype: int = ScalarQuantizer.QT_8bit, metric: int = METRIC_L2) -> None:
        sq = ScalarQuantizer(d, qtype)
        super().__init__(sq.code_size, d, metric)
        self.sq = sq
        self.is_trained = not sq.needs_training() and qtype != ScalarQuantizer.QT_0bit

    def _codec(self) -> Codec:
        return self.sq.codec(self.device)

    def _train(self, x: Tensor) -> None:
        self.sq.learn(x)
        self.is_trained = True

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        self._require_trained()
        self._require_product()
        return super()._search(x, k, params)

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        self._require_trained()
        self._require_product()
        return super()._range_search(x, radius, params)

    def _require_product(self) -> None:
        if self.metric_type not in (METRIC_L2, METRIC_INNER_PRODUCT):
            raise RuntimeError(
                f"scalar quantizers are searched by METRIC_L2 or METRIC_INNER_PRODUCT, got metric {self.metric_type}"
            )
