"""Float vectors as bytes, in the dtypes that they may be stored in."""

from __future__ import annotations

import torch
from torch import Tensor

#: What vectors may be stored as. All that is computed from them is computed in float32.
STORAGE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_storage_dtype(dtype: torch.dtype) -> None:
    """Raise RuntimeError if vectors cannot be stored so."""
    if dtype not in STORAGE_DTYPES:
        known = ", ".join(map(str, STORAGE_DTYPES))
        raise RuntimeError(f"vectors can be stored as {known}, not as {dtype}")


def stored_size(code_size: int, dtype: torch.dtype) -> int:
    """Bytes that a code takes: its own size for float32, which goes for codes that are no vectors too."""
    return code_size if dtype == torch.float32 else code_size // 4 * dtype.itemsize


def recoded(codes: Tensor, given: torch.dtype, wanted: torch.dtype) -> Tensor:
    """Change the dtype of vectors that are bytes.

    Parameters
    ----------
    codes : Tensor, uint8, shape (..., d * given.itemsize)
    given, wanted : torch.dtype
        Values are rounded as torch rounds them: beyond the largest float16 to inf.

    Returns
    -------
    Tensor, uint8, shape (..., d * wanted.itemsize)
        `codes` itself where the two are the same.
    """
    return codes if given == wanted else codes.contiguous().view(given).to(wanted).view(torch.uint8)
