"""Copies between numpy arrays and vectors, and the vector classes that exist for older code."""

from __future__ import annotations

import array as c_array
import warnings
from typing import Any

import numpy as np

from .pointers import Pointer, swig_ptr
from .vectors import (
    Float32Vector,
    Float32VectorVector,
    Float64Vector,
    Int8Vector,
    Int32Vector,
    Int32VectorVector,
    Int64Vector,
    Int64VectorVector,
    MaybeOwnedVector,
    NumberVector,
    UInt8Vector,
    UInt8VectorVector,
    UInt64Vector,
)

#: Bytes of a C long: 8 on Linux and macOS, 4 on Windows.
sizeof_long = c_array.array("l").itemsize


def vector_to_array(v: NumberVector) -> np.ndarray:
    """A copy of the elements of a vector.

    Returns
    -------
    numpy.ndarray [size]

    Raises
    ------
    AssertionError
        If ``v`` is not one of the number vectors.
    """
    _check_vector(v)
    return v.array.copy()


def vector_float_to_array(v: NumberVector) -> np.ndarray:
    """The older name of ``vector_to_array``, which never was only for floats."""
    return vector_to_array(v)


def copy_array_to_vector(a: np.ndarray, v: NumberVector) -> None:
    """Make the elements of a vector those of an array, and its size the array's.

    Parameters
    ----------
    a : numpy.ndarray [n]
        C-contiguous, of the vector's element type.
    v : a number vector

    Raises
    ------
    AssertionError
        If the types differ, or the vector shows memory that cannot be written.
    ValueError
        If ``a`` is not one-dimensional, or not contiguous.
    """
    if len(a.shape) != 1:
        raise ValueError(f"copy_array_to_vector: expected an array [n], not one of shape {tuple(a.shape)}")
    _check_vector(v)
    if isinstance(v, MaybeOwnedVector) and not v.is_owned:
        raise AssertionError(f"cannot copy to an non-owned {type(v).__name__}")
    source = swig_ptr(a).array
    if a.dtype != v.dtype:
        raise AssertionError(f"cannot copy a {a.dtype} array to a {type(v).__name__} (should be {v.dtype})")
    v.assign(source)


def _check_vector(v: object) -> None:
    if not isinstance(v, NumberVector):
        raise AssertionError(f"expected a vector of numbers, such as Float32Vector, not {type(v).__name__}")


class AlignedTable(NumberVector):
    """A vector made with a size; that faiss's stands at an aligned address matters to its kernels only.

    Parameters
    ----------
    n : int
        Number of elements, all 0.
    """

    def __init__(self, n: int = 0) -> None:
        super().__init__(np.zeros(n, self.dtype))

    @property
    def numel(self) -> int:
        """Number of elements, as ``size()``."""
        return self.size()

    def get(self) -> Pointer | None:
        """The pointer to the first element, as ``data()``."""
        return self.data()

    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        return array_to_AlignedTable, (self.array.copy(),)


class AlignedTableUint8(AlignedTable):
    """The table of bytes."""

    dtype = np.dtype("uint8")


class AlignedTableUint16(AlignedTable):
    """The table of uint16."""

    dtype = np.dtype("uint16")


class AlignedTableFloat32(AlignedTable):
    """The table of float32."""

    dtype = np.dtype("float32")


def copy_array_to_AlignedTable(a: np.ndarray, v: AlignedTable) -> None:
    """Make the elements of a table those of an array [n] with elements of the same width.

    Raises
    ------
    AssertionError
        If the widths differ.
    """
    if a.itemsize != v.itemsize():
        raise AssertionError(f"cannot copy elements of {a.itemsize} bytes to a {type(v).__name__}")
    copy_array_to_vector(a.view(v.dtype), v)


def array_to_AlignedTable(a: np.ndarray) -> AlignedTable:
    """A table with the elements of an array [n] of uint8, uint16 (or float32, beyond faiss).

    Raises
    ------
    AssertionError
        For another type.
    """
    tables = {"uint8": AlignedTableUint8, "uint16": AlignedTableUint16, "float32": AlignedTableFloat32}
    table = tables.get(str(a.dtype))
    if table is None:
        raise AssertionError(f"there is no aligned table of {a.dtype}")
    v = table(a.size)
    copy_array_to_AlignedTable(a, v)
    return v


def AlignedTable_to_array(v: AlignedTable) -> np.ndarray:
    """A copy of the elements of a table, as ``vector_to_array``."""
    return vector_to_array(v)


class _DeprecatedName:
    """What faiss's older vector names have in common: making one warns, and it is otherwise the new class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        new_name = cls.__bases__[-1].__name__
        message = f"The class faiss.{cls.__name__} is deprecated in favour of faiss.{new_name}!"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return super().__new__(cls)


class FloatVector(_DeprecatedName, Float32Vector):
    """The older name of ``Float32Vector``."""


class DoubleVector(_DeprecatedName, Float64Vector):
    """The older name of ``Float64Vector``."""


class CharVector(_DeprecatedName, Int8Vector):
    """The older name of ``Int8Vector``."""


class IntVector(_DeprecatedName, Int32Vector):
    """The older name of ``Int32Vector``."""


class LongVector(_DeprecatedName, Int64Vector if sizeof_long == 8 else Int32Vector):  # type: ignore[misc]
    """The older name of the vector of C's long, whose width depends on the platform."""


class LongLongVector(_DeprecatedName, Int64Vector):
    """The older name of ``Int64Vector``."""


class ByteVector(_DeprecatedName, UInt8Vector):
    """The older name of ``UInt8Vector``."""


class Uint64Vector(_DeprecatedName, UInt64Vector):
    """The older spelling of ``UInt64Vector``."""


class FloatVectorVector(_DeprecatedName, Float32VectorVector):
    """The older name of ``Float32VectorVector``."""


class LongVectorVector(_DeprecatedName, Int64VectorVector if sizeof_long == 8 else Int32VectorVector):  # type: ignore[misc]
    """The older name of the vector of ``LongVector``."""


class ByteVectorVector(_DeprecatedName, UInt8VectorVector):
    """The older name of ``UInt8VectorVector``."""
