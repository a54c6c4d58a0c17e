"""Float vectors as bytes, in the dtypes that they may be stored in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import Codec

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


@dataclass(frozen=True)
class FloatCodec(Codec):
    """The vectors themselves: codes are their bytes, as float32, in whatever dtype they are stored.

    Parameters
    ----------
    dtype : torch.dtype
        What they are stored as.
    """

    dtype: torch.dtype = torch.float32

    def rows(self, stored: Tensor) -> Tensor:
        return stored.view(self.dtype)

    def decoder(self) -> None:
        return None

    def encode(self, x: Tensor) -> Tensor:
        return x.view(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        return codes.view(torch.float32).clone()


#: The codec of vectors that are stored as they are.
FLOATS = FloatCodec()
