"""Stands where ``faiss.contrib.torch_utils`` stands.

There, importing the module makes indexes return torch tensors where they are given some. Here that is so from the
start, but for programs that run unchanged, whose tensors are read as arrays until they import this. Afterwards
`reconstruct` and `reconstruct_n`, where they are given no array, return tensors on the index's device.
It offers the functions of its namesake that programs call by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from .. import border, swig_ptr

border.Tensors.as_arrays, border.Tensors.without_input = False, True


def _pointer(x: torch.Tensor, dtype: torch.dtype) -> Any:
    assert x.is_contiguous(), "expected a contiguous tensor"
    assert x.dtype == dtype, f"expected a tensor of {dtype}, got {x.dtype}"
    assert x.device.type == "cpu", f"expected a tensor on the CPU, got one on {x.device}"
    values = x.detach()
    # numpy has no bfloat16: its bits go as 16-bit integers
    return swig_ptr((values.view(torch.int16) if dtype == torch.bfloat16 else values).numpy())


def swig_ptr_from_UInt8Tensor(x: torch.Tensor) -> Any:
    """Return a pointer to the values of a contiguous uint8 tensor on the CPU."""
    return _pointer(x, torch.uint8)


def swig_ptr_from_HalfTensor(x: torch.Tensor) -> Any:
    """Return a pointer to the values of a contiguous float16 tensor on the CPU."""
    return _pointer(x, torch.float16)


def swig_ptr_from_FloatTensor(x: torch.Tensor) -> Any:
    """Return a pointer to the values of a contiguous float32 tensor on the CPU."""
    return _pointer(x, torch.float32)


def swig_ptr_from_BFloat16Tensor(x: torch.Tensor) -> Any:
    """Return a pointer to the bits of a contiguous bfloat16 tensor on the CPU."""
    return _pointer(x, torch.bfloat16)


def swig_ptr_from_IntTensor(x: torch.Tensor) -> Any:
    """Return a pointer to the values of a contiguous int32 tensor on the CPU."""
    return _pointer(x, torch.int32)


def swig_ptr_from_IndicesTensor(x: torch.Tensor) -> Any:
    """Return a pointer to the values of a contiguous int64 tensor on the CPU."""
    return _pointer(x, torch.int64)


@contextlib.contextmanager
def using_stream(res: Any, pytorch_stream: Any = None) -> Iterator[None]:
    """Run a block on a torch stream, by default the current one, in which this library's work is queued too.

    Parameters
    ----------
    res : object
        GPU resources; not needed here.
    pytorch_stream : torch.cuda.Stream, optional
    """
    if pytorch_stream is None:
        yield
        return
    with torch.cuda.stream(pytorch_stream):
        yield
