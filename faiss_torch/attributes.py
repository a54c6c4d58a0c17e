"""Attributes and arguments that take what faiss's take, whose types are C's: an integer is not a float or a string."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .constants import metric_type_from_int

#: The annotation of a number of things, which cannot be negative.
Size: TypeAlias = int

#: The annotation of an integer of 64 bits, such as an id; that of a C int, of 32, is int.
Int64: TypeAlias = int

#: The annotation of a C char.
Char: TypeAlias = int

#: The annotation of one of the ``METRIC_*`` numbers.
MetricType: TypeAlias = int

_UINT64 = range(1 << 64)


def integer(value: Any, name: str, bits: int = 64) -> int:
    """Take an integer in: of Python, of numpy, or a tensor of one.

    Parameters
    ----------
    value : int
    name : str
        What it is called, for the message.
    bits : int
        Those of the type that faiss has for it.

    Raises
    ------
    TypeError
        If it is none; a float without a fraction is none either.
    OverflowError
        If it takes more than these bits.
    """
    number = _index(value, name)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise OverflowError(f"{name}: expected an integer of {bits} bits, got {number}")
    return number


def size(value: Any, name: str) -> int:
    """Take a number of things in, as `integer`; an OverflowError says that it is negative."""
    number = _index(value, name)
    if number not in _UINT64:
        fault = "cannot be negative" if number < 0 else "has to fit in 64 bits"
        raise OverflowError(f"{name} {fault}, got {number}")
    return number


def _index(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})") from None


def _real(value: Any, name: str) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except TypeError:
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})") from None


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r} ({type(value).__name__})")
    return bool(value)


def _metric(value: Any, name: str) -> int:
    return metric_type_from_int(integer(value, name, 32))


#: What checks the values of attributes, by their annotations.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "int": functools.partial(integer, bits=32),
    "Int64": integer,
    "Char": functools.partial(integer, bits=8),
    "Size": size,
    "MetricType": _metric,
    "float": _real,
    "bool": _flag,
}


@functools.cache
def annotated(cls: Any) -> dict[str, str]:
    """The names annotated in the bodies of a class and its bases, with their annotations."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found.update(inspect.get_annotations(base))
    return found


def _object(wanted: type) -> Callable[[Any, str], Any]:
    """What checks that a value is an object of a class, or None."""

    def check(value: Any, name: str) -> Any:
        if value is None or isinstance(value, wanted):
            return value
        hint = f"; copy_array_to_vector(array, x.{name}) puts an array there" if hasattr(wanted, "dtype") else ""
        raise TypeError(f"{name}: expected {wanted.__name__}, got {type(value).__name__}{hint}")

    return check


@functools.cache
def _checks(cls: Any) -> dict[str, Callable[[Any, str], Any]]:
    found = {name: _CHECKS[kind] for name, kind in annotated(cls).items() if kind in _CHECKS}
    for base in cls.__mro__:
        found.update({name: _object(wanted) for name, wanted in vars(base).get("_objects", {}).items()})
    return found


class CheckedAttributes:
    """Checks what its attributes are set to, by their annotations, and by a table of those that are objects.

    Raises
    ------
    TypeError
        If a value is of another type, as in faiss; also where an attribute is set later.
    OverflowError
        If a number of things is negative, or an integer takes more bits than faiss has for it.
    RuntimeError
        If no metric has a number.
    """

    __slots__ = ()

    #: The classes of attributes that are objects or None; those of a base stand in the base.
    _objects: ClassVar[dict[str, type]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        check = _checks(cls).get(name)
        object.__setattr__(self, name, value if check is None else check(value, name))
