"""Tiles in bfloat16: a product with float32 sums, rounded to bfloat16 at its end."""

from __future__ import annotations

import torch
from torch import Tensor

from ...constants import METRIC_L2
from .tile import Frame, Queries, Tile, centred, columns_for, framed_queries

#: Relative rounding of a product at its end: half a unit of the last of 8 binary places.
_PRODUCT_ROUNDING = 2.0**-8


def make_tile(frame: Frame, vectors: Tensor) -> Tile:
    """Round stored rows: float32, (n, d), finite, n at least 1."""
    n, d = vectors.shape
    rows = centred(frame, vectors)
    codes = torch.zeros(d, columns_for(n), dtype=torch.bfloat16, device="cpu")
    codes[:, :n] = rows.x.T
    residual = float((codes[:, :n].T.float() - rows.x).square_().sum(1).amax()) ** 0.5
    codes.neg_()
    bias = torch.full((codes.shape[1],), float("inf"), dtype=torch.float32, device="cpu")
    bias[:n] = rows.squares * 0.5 if frame.metric_type == METRIC_L2 else 0.0
    if rows.always is not None:
        bias[rows.always] = float("inf")
    norm = float(rows.squares.max()) ** 0.5
    # |q~| |x~| times the product's own rounding is a part of the residual's term
    return Tile(codes, bias, 1.0, 0.0, norm, residual + (norm + residual) * _PRODUCT_ROUNDING, rows.always)


def encode_queries(frame: Frame, xq: Tensor) -> Queries:
    """Round queries: float32, (nq, d), finite."""
    x = framed_queries(frame, xq)
    codes = x.bfloat16()
    rounded = codes.float()
    norms = torch.linalg.vector_norm(rounded, dim=1)
    return Queries(codes, torch.ones_like(norms), norms, torch.linalg.vector_norm(rounded.sub_(x), dim=1))
