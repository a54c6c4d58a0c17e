"""The border between the caller's arrays and the engine's tensors.

numpy arrays or torch tensors come in at a public verb; the engine sees contiguous tensors on the index's device;
what goes out is of the kind that came in (numpy to numpy, torch to torch on the input's device). No other module
converts.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from . import interrupts
from .constants import Float16, Float32, Int8
from .threads import in_call, working_for_call
from .wrapper.pointers import Pointer

#: Bytes from which on a tensor goes to CUDA by way of page-locked memory, and bytes of a piece of it.
STAGED_BYTES, PIECE_BYTES = 1 << 20, 32 << 20

#: numpy and torch names of the numeric types that vectors may come in.
_NUMERIC_TYPES = {
    Float32: (np.float32, torch.float32),
    Float16: (np.float16, torch.float16),
    Int8: (np.int8, torch.int8),
}

_CPU = torch.device("cpu")

#: numpy's types of training vectors that stay as they are.
_TRAINED_ON = (np.float16, np.float32, np.float64, np.uint8, np.int8)

Verb = TypeVar("Verb", bound=Callable[..., Any])

Array = Any  # numpy.ndarray or torch.Tensor: what a caller gives and gets


def default_device() -> torch.device:
    """Return the device on which new indexes live: ``FAISS_TORCH_DEVICE``, or the CPU."""
    # of a tensor, so that "cuda" becomes the "cuda:0" that tensors there say
    return torch.empty(0, dtype=torch.float32, device=os.environ.get("FAISS_TORCH_DEVICE", "cpu")).device


class _Shared:
    """Stands for a read-only array towards ``numpy.asarray``, which then gives a writable view of the same bytes.

    torch has no read-only tensors and warns about each one made from a read-only array. The engine writes only to
    tensors of its own.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.__array_interface__ = dict(array.__array_interface__, data=(array.ctypes.data, False))


def tensor_of(array: np.ndarray) -> Tensor:
    """Wrap a numpy array as a CPU tensor without a copy, read-only arrays too.

    Parameters
    ----------
    array : numpy.ndarray
        C-contiguous, of a dtype that torch has.
    """
    if array.size == 0:  # numpy gives arrays without elements strides that torch does not take
        return torch.from_numpy(np.empty(array.shape, array.dtype)).clone(memory_format=torch.contiguous_format)
    if not array.flags.writeable:
        array = np.asarray(_Shared(array))
    if 1 in array.shape and array.flags.c_contiguous and array.strides != (usual := _usual_strides(array)):
        # numpy lets the stride of an axis with one entry be anything, torch does not
        array = np.lib.stride_tricks.as_strided(array, strides=usual)
    return torch.from_numpy(array)


def _usual_strides(array: np.ndarray) -> tuple[int, ...]:
    """The strides of a new array of this shape."""
    strides, step = [], array.itemsize
    for entries in reversed(array.shape):
        strides.append(step)
        step *= entries
    return tuple(reversed(strides))


class Tensors:
    """What tensors are to the program; the import of ``faiss.contrib.torch_utils`` changes both.

    Attributes
    ----------
    as_arrays : bool
        Whether tensors on the CPU are read as numpy arrays, and results are numpy. `install` sets it, for a program
        written for faiss, where it is so without torch_utils. Tensors on an accelerator, which faiss then refuses,
        remain a kind of their own.
    without_input : bool
        Whether the results of verbs that were given no array are tensors.
    """

    as_arrays = False
    without_input = False


def crossing(verb: Verb) -> Verb:
    """Decorate a public function or method that takes arrays: tensors come in as what they are to the program."""

    @functools.wraps(verb)
    def crossed(*args: Any, **kwargs: Any) -> Any:
        if not Tensors.as_arrays or in_call():
            return verb(*args, **kwargs)
        with working_for_call():
            return verb(*map(_as_array, args), **{name: _as_array(given) for name, given in kwargs.items()})

    return cast(Verb, crossed)


def _as_array(given: Any) -> Any:
    """Show a tensor on the CPU as a numpy array over the same memory; anything else is what it is."""
    if not isinstance(given, Tensor) or not given.is_cpu:
        return given
    values = given.detach()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def array_like(x: Any) -> Array:
    """Make an array of what numpy makes one of; an array or a tensor is one already."""
    return x if isinstance(x, (np.ndarray, Tensor)) else np.asarray(x)


class Kind:
    """What a caller gave, so that results go out the same: numpy, or torch on a device."""

    def __init__(self, example: Array) -> None:
        self.torch_device = example.device if isinstance(example, Tensor) else None

    def out(self, tensor: Tensor) -> Array:
        """Return a result as the caller's kind of array, in one piece and in memory of its own."""
        if self.torch_device is None:
            array = tensor.numpy(force=True)
            return _copied(array, array.dtype)
        found = tensor.to(self.torch_device)
        # a view may show what the index holds, or what the caller gave
        return found.clone(memory_format=torch.contiguous_format) if found._is_view() else found.contiguous()

    def into(self, tensor: Tensor, given: Array | None) -> Array:
        """Write a result into the array that the caller gave for it, or return it as a new one.

        Parameters
        ----------
        tensor : Tensor
            The result.
        given : array or None
            The caller's output argument, already checked by `check_output`.
        """
        if given is None:
            return self.out(tensor)
        if isinstance(given, Tensor):
            write(tensor, given)
        else:
            given[...] = tensor.cpu().numpy()
        return given

    def require(self, other: Array, name: str) -> None:
        """Raise TypeError where one of the arrays of a call is numpy and another a tensor on an accelerator."""
        first, second = self.torch_device, Kind(other).torch_device
        if (first is None) == (second is None) or (first or second) == _CPU:
            return
        given, beside = (f"on {device}" if device else "a numpy array" for device in (second, first))
        raise TypeError(f"{name} is {given} beside what is {beside}: give all arrays of a call on one device")

    def check_output(self, given: Array | None, shape: tuple[int, ...], name: str, dtype: str = "float32") -> None:
        """Check an output argument: None, or an array of the right shape and dtype.

        Raises
        ------
        TypeError
            If the dtype is another, as in faiss, or it is numpy beside tensors on an accelerator, or the reverse.
        AssertionError
            If the shape is another, as in faiss.
        """
        if given is None:
            return
        self.require(given, name)
        if tuple(given.shape) != shape:
            raise AssertionError(f"output argument {name} has shape {tuple(given.shape)}, expected {shape}")
        if str(given.dtype).removeprefix("torch.") != dtype:
            raise TypeError(f"output argument {name} has dtype {given.dtype}, expected {dtype}")


def _check_width(x: Array, d: int) -> None:
    """Raise unless an array has the shape (n, d)."""
    if len(x.shape) != 2:
        raise ValueError(f"expected a 2-dimensional array of shape (n, {d}), got shape {tuple(x.shape)}")
    if x.shape[1] != d:
        raise AssertionError(f"vectors have {x.shape[1]} dimensions, expected {d}")


def vectors_in(x: Array, d: int, device: torch.device, numeric_type: int = Float32) -> tuple[Tensor, Kind]:
    """Take a caller's vectors in as float32 on the engine's device.

    Parameters
    ----------
    x : array, shape (n, d)
        numpy or torch; other dtypes and layouts are cast and copied as faiss does.
    d : int
        The width expected.
    device : torch.device
        Where the engine works.
    numeric_type : int
        ``Float32``, ``Float16`` or ``Int8``: values are rounded to that type first.

    Returns
    -------
    tensor : Tensor, float32, shape (n, d)
        Contiguous. It shares the caller's memory where no cast was needed: the engine never writes to it.
    kind : Kind
        How to give results back.

    Raises
    ------
    AttributeError
        If `x` has no shape (a list).
    ValueError
        If `x` is not two-dimensional, or the numeric type is unknown.
    AssertionError
        If the width is not `d`.
    """
    if numeric_type not in _NUMERIC_TYPES:
        raise ValueError(f"numeric type must be Float32, Float16 or Int8, got {numeric_type}")
    _check_width(x, d)
    numpy_type, torch_type = _NUMERIC_TYPES[numeric_type]
    kind = Kind(x)
    if kind.torch_device is not None:
        tensor = x.detach().to(torch_type)
    else:
        tensor = tensor_of(_contiguous(x, numpy_type))
    return _carried(tensor, device).to(torch.float32).contiguous(), kind


def _contiguous(x: Any, dtype: Any) -> np.ndarray:
    """Do what ``numpy.ascontiguousarray`` does, in pieces where much is to be copied."""
    if not isinstance(x, np.ndarray) or x.ndim == 0 or (x.dtype == dtype and x.flags.c_contiguous):
        return np.ascontiguousarray(x, dtype=dtype)
    return _copied(x, dtype)


def _copied(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Copy and cast an array to memory of its own; a call can be stopped between two pieces."""
    if x.nbytes <= PIECE_BYTES or x.ndim == 0:
        return np.array(x, dtype=dtype, order="C")
    result = np.empty(x.shape, dtype)
    step = max(1, PIECE_BYTES * len(x) // x.nbytes)
    for begin in range(0, len(x), step):
        interrupts.check()
        result[begin : begin + step] = x[begin : begin + step]
    return result


def _carried(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor to a device: from pageable memory to CUDA by way of page-locked memory, a piece at a time.

    The driver would copy it to such memory too, but in one thread, and wait for each piece.
    """
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.nbytes < STAGED_BYTES or tensor.is_pinned():
        return tensor.to(device)
    rows = max(1, PIECE_BYTES * len(tensor) // tensor.nbytes)
    room = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    for there, piece in zip(room.split(rows), tensor.split(rows), strict=True):
        # torch keeps the page-locked memory until what reads it is done, and for the next piece
        there.copy_(piece.contiguous().pin_memory(), non_blocking=True)
    return room


def training_vectors_in(x: Array, d: int) -> tuple[Tensor, Kind]:
    """Take a caller's training vectors in, without bringing them anywhere: there may be many.

    Parameters
    ----------
    x : array or what numpy makes one of, shape (n, d)
        Floats, and integers of 8 bits, stay as they are, and nothing is copied unless rows have to be put in one piece.
    d : int
        The width expected.

    Returns
    -------
    tensor : Tensor, shape (n, d)
        On the caller's device.
    kind : Kind
        How to give results back.

    Raises
    ------
    ValueError, AssertionError
        As in `vectors_in`.
    """
    x = array_like(x)
    _check_width(x, d)
    kind = Kind(x)
    if kind.torch_device is not None:
        return x.detach(), kind
    kept = x.dtype if x.dtype in _TRAINED_ON else np.float32
    return tensor_of(_contiguous(x, kept)), kind


def integers_in(ids: Array, device: torch.device) -> Tensor:
    """Take a caller's ids in as contiguous int64 on the engine's device, of whatever shape.

    Raises
    ------
    TypeError
        If they are floats, and some are not whole numbers of 64 bits.
    """
    _require_whole(ids)
    if isinstance(ids, Tensor):
        return ids.detach().to(device=device, dtype=torch.int64).contiguous()
    return tensor_of(np.ascontiguousarray(ids, dtype=np.int64)).to(device)


def _require_whole(ids: Array) -> None:
    dtype = getattr(ids, "dtype", None)
    is_float = dtype.is_floating_point if isinstance(dtype, torch.dtype) else getattr(dtype, "kind", "") == "f"
    if not is_float:
        return
    values = ids.detach().cpu().double().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    cut = values[~((np.trunc(values) == values) & (np.abs(values) < 2.0**63))]
    if cut.size:
        raise TypeError(f"expected integers, got {dtype} with {cut.size} values such as {cut.flat[0]}")


def floats_in(values: Array, device: torch.device) -> Tensor:
    """Take a caller's float values in as contiguous float32 on the engine's device, of whatever shape."""
    if isinstance(values, Tensor):
        return values.detach().to(device=device, dtype=torch.float32).contiguous()
    return tensor_of(_contiguous(values, np.float32)).to(device)


def codes_in(codes: Array, code_size: int, device: torch.device) -> tuple[Tensor, Kind]:
    """Take a caller's codes in as uint8 on the engine's device.

    Parameters
    ----------
    codes : array, uint8, shape (n, code_size)

    Raises
    ------
    TypeError
        If the dtype is not uint8: whether to view or to cast is for the caller to say.
    AssertionError
        If the width is not `code_size`.
    """
    if len(codes.shape) != 2:
        raise ValueError(f"expected codes of shape (n, {code_size}), got shape {tuple(codes.shape)}")
    if codes.shape[1] != code_size:
        raise AssertionError(f"codes have {codes.shape[1]} bytes each, expected {code_size}")
    if codes.dtype not in (np.uint8, torch.uint8):
        raise TypeError(f"codes must be an array of dtype uint8, got {codes.dtype}")
    kind = Kind(codes)
    if isinstance(codes, Tensor):
        return codes.detach().to(device).contiguous(), kind
    return tensor_of(np.ascontiguousarray(codes)).to(device), kind


def at_pointer(argument: Any, n: int) -> Array:
    """Return an argument of faiss's C signatures as an array: a pointer gives the `n` elements it points to."""
    return argument.view(n) if isinstance(argument, Pointer) else argument


def write(values: Tensor, target: Any) -> None:
    """Write values to an array of the caller's, or to where a pointer of his points, in whatever shape that has."""
    given = at_pointer(target, values.numel())
    tensor = given if isinstance(given, Tensor) else tensor_of(given)
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():  # what was made in it is changed in it alone
        tensor.copy_(values.reshape(tensor.shape))
