"""Copies of indexes on other devices."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from ..indexes.base import Index
from ..indexes.flat.flat_codes import IndexFlatCodes
from ..indexes.ivf.base import IndexIVF
from ..parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ..parts.lists.storage import ListStorage
from ..wrapper.vectors import ObjectVector


def with_inner(index: Index, change: Callable[[Index], Index], cls: type[Index] | None = None) -> Any:
    """Return an index over the same memory, with each index that it is made of changed.

    Parameters
    ----------
    index : Index
    change : callable
        What becomes of an inner index: the quantizer, the index that is wrapped, the shards.
    cls : type, optional
        The class of what is returned; that of the index unless given.
    """
    view: Any = object.__new__(type(index) if cls is None else cls)
    for name, value in index.__dict__.items():
        if isinstance(value, Index):
            value = change(value)
        elif isinstance(value, list) and value and name != "_referenced":
            value = [change(each) if isinstance(each, Index) else each for each in value]
        elif isinstance(value, ObjectVector):
            value = type(value)(change(each) if isinstance(each, Index) else each for each in value)
        view.__dict__[name] = value
    return view


def inner_indexes(index: Index) -> list[Index]:
    """Return the indexes that an index is made of."""
    found: list[Index] = []

    def keep(inner: Index) -> Index:
        found.append(inner)
        return inner

    with_inner(index, keep)
    return found


def copied(
    index: Index,
    device: torch.device,
    dtype: torch.dtype | None = None,
    quantizer_dtype: torch.dtype | None = None,
) -> Any:
    """Return a copy of an index on a device, with all settings; the indexes that it is made of are copied there too.

    What holds the vectors goes straight to the device, without a copy of it where it was.

    Parameters
    ----------
    index : Index
    device : torch.device
    dtype : torch.dtype, optional
        What vectors are stored as, where the index stores vectors: see `Index.to`. A wrapper hands it on. The default
        is what they are stored as.
    quantizer_dtype : torch.dtype, optional
        The same for the quantizer of an inverted file.

    Raises
    ------
    RuntimeError
        If there is no room on the device.
    """
    inner_dtype = quantizer_dtype if isinstance(index, IndexIVF) else dtype
    inner: list[Index] = []

    def copy_inner(given: Index) -> Index:
        inner.append(copied(given, device, inner_dtype, quantizer_dtype))
        return inner[-1]

    new = with_inner(index, copy_inner)
    own_dtype = dtype if hasattr(index, "storage_dtype") else None
    as_they_are: list[Any] = [*inner]
    if isinstance(new, IndexFlatCodes):
        as_they_are.append(new._codes)  # which `to` replaces by a copy
    elif isinstance(new, IndexIVF) and new.invlists is not None:
        new.invlists = _copied_lists(new.invlists, device, own_dtype)
        as_they_are.append(new.invlists)
    new = copy.deepcopy(new, {id(each): each for each in as_they_are})
    return new.to(device) if own_dtype is None else new.to(device, dtype=own_dtype)


def _copied_lists(lists: InvertedLists, device: torch.device, dtype: torch.dtype | None) -> ArrayInvertedLists:
    """Inverted lists of any kind in the memory of a device."""
    new = ArrayInvertedLists(lists.nlist, lists.code_size, device)
    new.moved(device, getattr(lists, "storage_dtype", None) if dtype is None else dtype)()
    if isinstance(lists, ListStorage):
        lists.copy_to(new)
    else:
        lists.copy_subset_to(new, InvertedLists.SUBSET_TYPE_INVLIST, 0, lists.nlist)
    return new
