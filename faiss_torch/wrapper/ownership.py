"""Ownership, which SWIG has programs think of and Python takes care of."""

from __future__ import annotations


class Handle:
    """What SWIG has at ``this`` of an object: a number that no other object has, and who owns it.

    Parameters
    ----------
    owner : object
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object) -> None:
        self._owner = owner

    def __int__(self) -> int:
        return id(self._owner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._owner is self._owner

    def __hash__(self) -> int:
        return id(self._owner)

    def disown(self) -> None:
        """Do nothing: ownership is Python's."""

    def acquire(self) -> None:
        """Do nothing: Python owns the object already."""

    def own(self, value: bool = True) -> bool:
        """Return whether Python owns the object, which is always so."""
        return True


class Owned:
    """An object that belongs to Python, whatever a program says about it."""

    @property
    def this(self) -> Handle:
        """Stand-in for SWIG's handle, so that ``index.this.disown()`` does nothing."""
        return Handle(self)

    @property
    def thisown(self) -> bool:
        """Whether Python owns the object, which is always so; setting it does nothing."""
        return True

    @thisown.setter
    def thisown(self, value: bool) -> None:
        pass
