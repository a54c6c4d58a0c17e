"""Ownership, which SWIG has programs think of and Python takes care of."""

from __future__ import annotations

from typing import TypeVar

Self = TypeVar("Self", bound="Owned")


class Owned:
    """An object that belongs to Python, whatever a program says about it."""

    @property
    def this(self: Self) -> Self:
        """Stand-in for SWIG's handle, so that ``index.this.disown()`` does nothing."""
        return self

    def disown(self) -> None:
        """Do nothing: ownership is Python's."""

    def own(self, value: bool = True) -> bool:
        """Return whether Python owns the object, which is always so."""
        return True
