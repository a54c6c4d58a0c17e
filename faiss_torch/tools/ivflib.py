"""Looking through wrapping indexes."""

from __future__ import annotations

from ..indexes.base import Index
from ..indexes.ivf import IndexIVF

#: The attributes by which wrapping indexes name the index inside.
_INNER_ATTRIBUTES = ("index", "base_index")


def inner_index(index: Index) -> Index | None:
    """The index inside a wrapping index, or None."""
    for attribute in _INNER_ATTRIBUTES:
        inner = getattr(index, attribute, None)
        if isinstance(inner, Index):
            return inner
    return None


def try_extract_index_ivf(index: Index) -> IndexIVF | None:
    """The inverted file that an index is or wraps, or None."""
    current: Index | None = index
    while current is not None and not isinstance(current, IndexIVF):
        current = inner_index(current)
    return current


def extract_index_ivf(index: Index) -> IndexIVF:
    """The inverted file that an index is or wraps.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    found = try_extract_index_ivf(index)
    if found is None:
        raise RuntimeError(f"extract_index_ivf: there is no IVF index in {type(index).__name__}")
    return found
