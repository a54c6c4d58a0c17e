"""faiss's ``std::vector`` classes: flat arrays that grow.

The name of a class says its element type, as in faiss. Beyond faiss's methods a vector has ``len()``,
indexing, iteration, and ``array``, the numpy array over its elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from .ownership import Owned
from .pointers import Pointer

Element = TypeVar("Element")


class NumberVector(Owned):
    """A growable flat array of one number type; the subclasses name it.

    Parameters
    ----------
    array : numpy.ndarray [n], optional
        The elements to begin with; shared, not copied, until the vector grows.
    on_replace : callable, optional
        Called with the new array whenever the vector's elements move or change in number: this is how an
        object whose storage is shown through a vector follows ``resize`` and ``copy_array_to_vector``.
    """

    dtype: ClassVar[np.dtype]

    def __init__(self, array: np.ndarray | None = None, on_replace: Callable[[np.ndarray], Any] | None = None) -> None:
        given = np.empty(0, self.dtype) if array is None else array
        self._buffer = np.ascontiguousarray(given, self.dtype).reshape(-1)
        self._size = self._buffer.size
        self._on_replace = on_replace

    @property
    def array(self) -> np.ndarray:
        """The elements [size], over the vector's own memory."""
        return self._buffer[: self._size]

    def size(self) -> int:
        """Number of elements."""
        return self._size

    def at(self, n: int) -> int | float:
        """Element ``n``.

        Raises
        ------
        OverflowError
            If ``n`` is negative.
        RuntimeError
            If ``n`` is not below the size.
        """
        if n < 0:
            raise OverflowError(f"{type(self).__name__}.at: {n} is negative")
        if n >= self._size:
            raise RuntimeError(f"{type(self).__name__}.at: {n} is not below the size, {self._size}")
        return self._buffer[n].item()

    def data(self) -> Pointer | None:
        """The pointer to the first element; None for a vector that never held any, as in faiss."""
        return Pointer(self._buffer[: self._size]) if self._buffer.size else None

    def resize(self, n: int) -> None:
        """Set the number of elements; new ones are 0, the first ones stay."""
        self._reserve(n)
        self._buffer[self._size : n] = 0
        self._set_size(n)

    def push_back(self, value: float) -> None:
        """Append one element, at amortised constant cost."""
        if self._size == self._buffer.size:
            self._reserve(max(8, 2 * self._size))
        self._buffer[self._size] = value
        self._set_size(self._size + 1)

    def clear(self) -> None:
        """Remove all elements."""
        self._set_size(0)

    def swap(self, other: NumberVector) -> None:
        """Exchange the elements of two vectors of one class."""
        mine, theirs = self.array, other.array
        self._replace(theirs)
        other._replace(mine)

    def assign(self, values: np.ndarray) -> None:
        """Take a copy of an array [n] of the same type."""
        if values.size == self._size:
            self.array[:] = values
        else:
            self._replace(np.array(values, dtype=self.dtype))

    def _reserve(self, n: int) -> None:
        if n > self._buffer.size:
            # half as much again, so that many small calls cost about as much as a large one
            grown = np.empty(max(n, self._buffer.size * 3 // 2), self.dtype)
            grown[: self._size] = self.array
            self._buffer = grown

    def _set_size(self, n: int) -> None:
        if n != self._size:
            self._size = n
            if self._on_replace is not None:
                self._on_replace(self.array)

    def _replace(self, array: np.ndarray) -> None:
        self._buffer, self._size = array, array.size
        if self._on_replace is not None:
            self._on_replace(array)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array.tolist())

    def __getitem__(self, item: Any) -> Any:
        return self.array[item]

    def __setitem__(self, item: Any, value: Any) -> None:
        self.array[item] = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._size} elements>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array.copy(),)


class Float32Vector(NumberVector):
    """A vector of float32."""

    dtype = np.dtype("float32")


class Float64Vector(NumberVector):
    """A vector of float64."""

    dtype = np.dtype("float64")


class Int8Vector(NumberVector):
    """A vector of int8."""

    dtype = np.dtype("int8")


class Int16Vector(NumberVector):
    """A vector of int16."""

    dtype = np.dtype("int16")


class Int32Vector(NumberVector):
    """A vector of int32."""

    dtype = np.dtype("int32")


class Int64Vector(NumberVector):
    """A vector of int64, faiss's type of ids."""

    dtype = np.dtype("int64")


class UInt8Vector(NumberVector):
    """A vector of bytes."""

    dtype = np.dtype("uint8")


class UInt16Vector(NumberVector):
    """A vector of uint16."""

    dtype = np.dtype("uint16")


class UInt32Vector(NumberVector):
    """A vector of uint32."""

    dtype = np.dtype("uint32")


class UInt64Vector(NumberVector):
    """A vector of uint64."""

    dtype = np.dtype("uint64")


class MaybeOwnedVector(NumberVector):
    """A vector that may show memory which belongs to somebody else; here it always follows its storage."""

    @property
    def is_owned(self) -> bool:
        """Whether elements can be copied in, which is so unless the memory behind is read-only."""
        return bool(self._buffer.flags.writeable)

    def byte_size(self) -> int:
        """Number of bytes of the elements."""
        return self._size * self.dtype.itemsize


class MaybeOwnedVectorUInt8(MaybeOwnedVector):
    """The type of ``IndexFlatCodes.codes``."""

    dtype = np.dtype("uint8")


class MaybeOwnedVectorInt32(MaybeOwnedVector):
    """The int32 form."""

    dtype = np.dtype("int32")


class MaybeOwnedVectorFloat32(MaybeOwnedVector):
    """The float32 form."""

    dtype = np.dtype("float32")


class ObjectVector(Owned, Generic[Element]):
    """A growable sequence of objects of one class; the subclasses name it in ``element``."""

    element: ClassVar[type]

    def __init__(self, items: Iterable[Element] = ()) -> None:
        self._items = list(items)

    def size(self) -> int:
        """Number of elements."""
        return len(self._items)

    def at(self, n: int) -> Element:
        """Element ``n`` itself, not a copy.

        Raises
        ------
        OverflowError
            If ``n`` is negative.
        RuntimeError
            If ``n`` is not below the size.
        """
        if n < 0:
            raise OverflowError(f"{type(self).__name__}.at: {n} is negative")
        if n >= len(self._items):
            raise RuntimeError(f"{type(self).__name__}.at: {n} is not below the size, {len(self._items)}")
        return self._items[n]

    def resize(self, n: int) -> None:
        """Set the number of elements; new ones are made by ``element``."""
        del self._items[n:]
        self._items.extend(self.element() for _ in range(n - len(self._items)))

    def push_back(self, item: Element) -> None:
        """Append one element."""
        self._items.append(item)

    def clear(self) -> None:
        """Remove all elements."""
        self._items.clear()

    def swap(self, other: ObjectVector[Element]) -> None:
        """Exchange the elements of two vectors."""
        self._items, other._items = other._items, self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Element]:
        return iter(self._items)

    def __getitem__(self, i: int) -> Element:
        return self._items[i]


class Float32VectorVector(ObjectVector[Float32Vector]):
    """A vector of ``Float32Vector``."""

    element = Float32Vector


class Int32VectorVector(ObjectVector[Int32Vector]):
    """A vector of ``Int32Vector``."""

    element = Int32Vector


class Int64VectorVector(ObjectVector[Int64Vector]):
    """A vector of ``Int64Vector``."""

    element = Int64Vector


class UInt8VectorVector(ObjectVector[UInt8Vector]):
    """A vector of ``UInt8Vector``."""

    element = UInt8Vector


class MaybeOwnedVectorUInt8Vector(ObjectVector[MaybeOwnedVectorUInt8]):
    """A vector of ``MaybeOwnedVectorUInt8``."""

    element = MaybeOwnedVectorUInt8


class MaybeOwnedVectorInt32Vector(ObjectVector[MaybeOwnedVectorInt32]):
    """A vector of ``MaybeOwnedVectorInt32``."""

    element = MaybeOwnedVectorInt32


class MaybeOwnedVectorFloat32Vector(ObjectVector[MaybeOwnedVectorFloat32]):
    """A vector of ``MaybeOwnedVectorFloat32``."""

    element = MaybeOwnedVectorFloat32
