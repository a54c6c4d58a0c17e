"""Pointers into arrays, for code written against faiss's C++ signatures.

faiss is wrapped C++, so its clients pass addresses: ``swig_ptr(x)`` gives one, ``rev_swig_ptr(p, n)`` reads
``n`` elements behind one, ``memcpy`` copies between two. Here a pointer is a numpy array with a position in
it. It keeps its array alive and knows where the array ends, so a client that reads too far gets an error and
not garbage.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attributes import integer

if TYPE_CHECKING:
    from torch import Tensor

#: What ``swig_ptr`` accepts. Reading a half-precision array back gives its bits, as in faiss.
POINTABLE_DTYPES = frozenset(
    np.dtype(name)
    for name in (
        "float16", "float32", "float64", "bool",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )
)  # fmt: skip


class Pointer:
    """An address: a one-dimensional array and a position in it.

    Parameters
    ----------
    array : numpy.ndarray [n]
        The memory pointed into; it is kept alive and never copied.
    offset : int
        Position of the element pointed to, in elements.
    """

    __slots__ = ("array", "offset")

    def __init__(self, array: np.ndarray, offset: int = 0) -> None:
        self.array = array
        self.offset = offset

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self.array.dtype

    def view(self, n: int) -> np.ndarray:
        """The ``n`` elements from here on, as an array over the same memory.

        Raises
        ------
        RuntimeError
            If fewer than ``n`` elements follow, or the pointer stands before the array.
        """
        n = int(n)
        left = self.array.size - self.offset
        if n < 0 or self.offset < 0 or n > left:
            raise RuntimeError(
                f"cannot read {n} elements of type {self.dtype} at position {self.offset}: "
                f"the array pointed into has {self.array.size}"
            )
        return self.array[self.offset : self.offset + n]

    def rest(self) -> np.ndarray:
        """All elements from here to the end of the array, over the same memory."""
        return self.view(self.array.size - self.offset)

    def __add__(self, elements: int) -> Pointer:
        return type(self)(self.array, self.offset + int(elements))

    def __sub__(self, elements: int) -> Pointer:
        return self + -int(elements)

    def __getitem__(self, item: int | slice) -> Any:
        return self.rest()[item]

    def __setitem__(self, item: int | slice, value: Any) -> None:
        self.rest()[item] = value

    def __int__(self) -> int:
        return int(self.array.ctypes.data) + self.offset * self.array.itemsize

    __index__ = __int__

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and int(self) == int(other)

    def __hash__(self) -> int:
        return hash(int(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.dtype} at 0x{int(self):x}>"


class AddressPointer(Pointer):
    """A pointer made from a bare number, as ``tensor.data_ptr()`` gives: nobody knows where its memory ends.

    Parameters
    ----------
    address : int
        The address of memory that the caller keeps alive.
    dtype : str or numpy.dtype
        The type of the elements.
    """

    __slots__ = ("address",)

    def __init__(self, address: int, dtype: Any) -> None:
        super().__init__(np.empty(0, dtype=dtype))
        self.address = int(address)

    def view(self, n: int) -> np.ndarray:
        """The ``n`` elements from here on; the caller answers for their being there."""
        if n == 0:
            return self.array
        bytes_there = (ctypes.c_uint8 * (int(n) * self.array.itemsize)).from_address(self.address)
        return np.frombuffer(memoryview(bytes_there), dtype=self.dtype)

    def rest(self) -> np.ndarray:
        """Not possible without knowing where the memory ends.

        Raises
        ------
        RuntimeError
            Always; ``view(n)`` and ``rev_swig_ptr(pointer, n)`` name a length.
        """
        raise RuntimeError("a pointer made from an address does not know its length: use rev_swig_ptr(p, n)")

    def __add__(self, elements: int) -> AddressPointer:
        return AddressPointer(self.address + int(elements) * self.array.itemsize, self.dtype)

    def __int__(self) -> int:
        return self.address

    __index__ = __int__


def swig_ptr(a: np.ndarray | Tensor | bytes | bytearray) -> Pointer:
    """The pointer to the first element of an array.

    Parameters
    ----------
    a : numpy.ndarray, torch.Tensor on the CPU, bytes or bytearray
        C-contiguous; any shape.

    Returns
    -------
    Pointer
        It shares the memory of ``a`` and keeps it alive.

    Raises
    ------
    ValueError
        If ``a`` is none of these, not C-contiguous, or of a type that has no C counterpart, as in faiss.
    """
    if isinstance(a, (bytes, bytearray)):
        return Pointer(np.frombuffer(a, dtype="S1"))
    if not isinstance(a, np.ndarray):
        a = _array_of_tensor(a)
    if not a.flags.c_contiguous:
        raise ValueError(f"array is not C-contiguous: shape {a.shape}, strides {a.strides}")
    if a.dtype not in POINTABLE_DTYPES:
        raise ValueError(f"did not recognize array type {a.dtype}")
    flat = a.reshape(-1)
    return Pointer(flat.view(np.uint16) if a.dtype == np.float16 else flat)


def _array_of_tensor(a: Any) -> np.ndarray:
    """The numpy view of a CPU tensor, without importing torch on this floor."""
    if not (hasattr(a, "detach") and hasattr(a, "is_contiguous")):
        raise ValueError(f"input not a numpy array: {type(a).__name__} given")
    if a.device.type != "cpu":
        raise ValueError(f"a pointer can be taken to a tensor on the CPU only, this one is on {a.device}")
    if not a.is_contiguous():
        raise ValueError(f"tensor is not C-contiguous: shape {tuple(a.shape)}, strides {tuple(a.stride())}")
    try:
        return a.detach().numpy()
    except TypeError as error:
        raise ValueError(f"did not recognize tensor type {a.dtype}") from error


def rev_swig_ptr(pointer: Pointer, size: int) -> np.ndarray:
    """The array of ``size`` elements at a pointer, over the same memory.

    Returns
    -------
    numpy.ndarray [size]

    Raises
    ------
    TypeError
        If ``pointer`` is not a pointer to numbers.
    RuntimeError
        If the memory pointed into ends before (faiss reads on).
    """
    if not isinstance(pointer, Pointer) or pointer.dtype.kind not in "fiu":
        given = repr(pointer) if isinstance(pointer, Pointer) else type(pointer).__name__
        raise TypeError(f"rev_swig_ptr: expected a pointer to numbers, not {given}")
    return pointer.view(size)


def pointed(pointer: Any, n: int, dtype: str, function: str) -> np.ndarray:
    """The argument of a function with a C signature, as an array over the caller's memory.

    Parameters
    ----------
    pointer : Pointer
    n : int
        Number of elements that the function reads or writes.
    dtype : str
        The element type in the signature.
    function : str
        Name of the function, for the message.

    Raises
    ------
    TypeError
        If it is no pointer, or points to another type, as SWIG's overload resolution says it.
    """
    if not isinstance(pointer, Pointer):
        raise TypeError(f"{function}: expected a pointer to {dtype} (swig_ptr), not {type(pointer).__name__}")
    if pointer.dtype != np.dtype(dtype):
        raise TypeError(f"{function}: expected a pointer to {dtype}, not to {pointer.dtype}")
    return pointer.view(n)


def table(pointer: Pointer, shape: tuple[int, ...], dtype: str, function: str) -> np.ndarray:
    """The array of a shape that lies behind a pointer, over the same memory.

    Raises
    ------
    TypeError
        If it is no pointer to that type, or the shape is not of integers.
    RuntimeError
        If the memory is known to end before.
    """
    sizes = _sizes(shape, function)
    return pointed(pointer, math.prod(sizes), dtype, function).reshape(sizes)


def void_table(pointer: Pointer, shape: tuple[int, ...], dtype: str, function: str) -> np.ndarray:
    """`table` behind a ``void*``: whatever the type is that the pointer points to, its memory holds the one given."""
    if not isinstance(pointer, Pointer):
        raise TypeError(f"{function}: expected a pointer (swig_ptr), not {type(pointer).__name__}")
    sizes = _sizes(shape, function)
    nbytes = math.prod(sizes) * np.dtype(dtype).itemsize
    return _first_bytes(pointer, nbytes).view(dtype).reshape(sizes)


def _sizes(shape: tuple[int, ...], function: str) -> tuple[int, ...]:
    sizes = tuple(integer(size, function) for size in shape)
    if min(sizes) < 0:
        raise RuntimeError(f"{function}: there are no arrays of shape {sizes}")
    return sizes


def memcpy(dest: Pointer, src: Pointer, n: int) -> None:
    """Copy ``n`` bytes from one pointer to another.

    Raises
    ------
    TypeError
        If one of both is not a pointer.
    RuntimeError
        If ``n`` bytes are more than either side has, or not a whole number of elements.
    """
    for pointer in (dest, src):
        if not isinstance(pointer, Pointer):
            raise TypeError(f"memcpy: expected two pointers (swig_ptr), not {type(pointer).__name__}")
    _first_bytes(dest, n)[:] = _first_bytes(src, n)


def _first_bytes(pointer: Pointer, n: int) -> np.ndarray:
    """The first ``n`` bytes at a pointer, which may end inside an element."""
    return pointer.view(-(-int(n) // pointer.dtype.itemsize)).view(np.uint8)[: int(n)]


def cast_integer_to_float_ptr(x: int) -> Pointer:
    """The pointer to float32 at an address, such as ``tensor.data_ptr()``."""
    return AddressPointer(x, np.float32)


def cast_integer_to_idx_t_ptr(x: int) -> Pointer:
    """The pointer to int64 at an address."""
    return AddressPointer(x, np.int64)


def cast_integer_to_int_ptr(x: int) -> Pointer:
    """The pointer to int32 at an address."""
    return AddressPointer(x, np.int32)


def cast_integer_to_uint8_ptr(x: int) -> Pointer:
    """The pointer to bytes at an address."""
    return AddressPointer(x, np.uint8)


def cast_integer_to_void_ptr(x: int) -> Pointer:
    """The pointer to unspecified bytes at an address."""
    return AddressPointer(x, "V1")
