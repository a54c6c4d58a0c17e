"""Norms of vectors, and normalising them in place."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..border import Array, tensor_of
from ..ops.runtime import chunks
from ..wrapper.pointers import Pointer, pointed


def normalize_L2(x: Array) -> None:
    """Divide every row of a matrix by its L2 norm, in place; rows of zeros stay.

    Parameters
    ----------
    x : array, float32, shape (n, d)
        C-contiguous, numpy or torch on any device.

    Raises
    ------
    IndexError
        If `x` is one-dimensional, as in faiss.
    TypeError
        If `x` is not float32: a copy could not be normalised in place.
    ValueError
        If `x` is neither numpy nor torch, or not C-contiguous.
    """
    d, n = x.shape[1], x.shape[0]
    if isinstance(x, Tensor):
        contiguous = x.is_contiguous()
    elif isinstance(x, np.ndarray):
        contiguous = x.flags.c_contiguous
    else:
        raise ValueError(f"normalize_L2: expected a numpy array or a torch tensor, not {type(x).__name__}")
    if not contiguous:
        raise ValueError(f"normalize_L2: array of shape {tuple(x.shape)} is not C-contiguous")
    if x.dtype not in (np.float32, torch.float32):
        raise TypeError(f"normalize_L2: expected float32, got {x.dtype}: it could not be normalised in place")
    _renorm(x.reshape(n, d))


def _renorm(x: Array) -> None:
    rows = x.detach() if isinstance(x, Tensor) else tensor_of(x)
    for some in chunks.slices(len(rows), chunks.rows_within(4 * max(1, rows.shape[1]))):
        norms = rows[some].square().sum(1, keepdim=True).sqrt_()
        rows[some].mul_(torch.where(norms > 0, 1.0 / norms, 1.0))


def fvec_renorm_L2(d: int, nx: int, x: Pointer) -> None:
    """`normalize_L2` of `nx` vectors of width `d` behind a pointer to float32."""
    _renorm(pointed(x, nx * d, "float32", "fvec_renorm_L2").reshape(nx, d))


def fvec_norm_L2sqr(x: Pointer, d: int) -> float:
    """The squared L2 norm of the `d` floats behind a pointer."""
    return float(np.square(pointed(x, d, "float32", "fvec_norm_L2sqr")).sum())


def fvec_norms_L2sqr(norms: Pointer, x: Pointer, d: int, nx: int) -> None:
    """Write the squared L2 norms of `nx` vectors of width `d` to `norms`."""
    rows = pointed(x, nx * d, "float32", "fvec_norms_L2sqr").reshape(nx, d)
    pointed(norms, nx, "float32", "fvec_norms_L2sqr")[:] = np.square(rows).sum(1)


def fvec_norms_L2(norms: Pointer, x: Pointer, d: int, nx: int) -> None:
    """Write the L2 norms of `nx` vectors of width `d` to `norms`."""
    rows = pointed(x, nx * d, "float32", "fvec_norms_L2").reshape(nx, d)
    pointed(norms, nx, "float32", "fvec_norms_L2")[:] = np.sqrt(np.square(rows).sum(1))
