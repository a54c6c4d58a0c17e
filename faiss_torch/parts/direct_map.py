"""DirectMap: from an id to the place of its vector in the inverted lists."""

from __future__ import annotations

import builtins
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..attributes import CheckedAttributes
from ..border import tensor_of
from ..ownership import Owned
from ..vectors import Int64Vector
from .inverted_lists import ArrayInvertedLists
from .selectors import IDSelector, IDSelectorArray


def lo_build(list_no: int, offset: int) -> int:
    """Pack a list number and an offset in the list into one number."""
    return list_no << 32 | offset


def lo_listno(lo: int) -> int:
    """Return the list number of a packed place."""
    return lo >> 32


def lo_offset(lo: int) -> int:
    """Return the offset of a packed place."""
    return lo & 0xFFFFFFFF


class DirectMap(Owned, CheckedAttributes):
    """Maps ids to places ``list_no << 32 | offset``.

    Attributes
    ----------
    type : int
        ``NoMap``, ``Array`` (ids are 0 ... ntotal - 1) or ``Hashtable`` (any ids).
    array : Int64Vector
        For ``Array``: the place of each id, negative where there is none.
    hashtable : dict of int to int
        For ``Hashtable``.
    """

    NoMap = 0
    Array = 1
    Hashtable = 2
    DMT_count = 3

    type: int

    _objects: ClassVar[dict[str, builtins.type]] = {"array": Int64Vector}

    def __init__(self) -> None:
        self.type = self.NoMap
        self.array = Int64Vector()
        self.hashtable: dict[int, int] = {}

    def no(self) -> bool:
        """Return whether there is no map."""
        return self.type == self.NoMap

    def clear(self) -> None:
        """Forget all places; the type stays."""
        self.array.clear()
        self.hashtable.clear()

    def set_type(self, new_type: int, invlists: ArrayInvertedLists, ntotal: int) -> None:
        """Change the type and fill the map from the lists.

        Raises
        ------
        RuntimeError
            If the type is unknown, or ``Array`` is asked for and the ids are not 0 ... ntotal - 1.
        """
        if new_type not in (self.NoMap, self.Array, self.Hashtable):
            raise RuntimeError(f"direct map type {new_type} is none of NoMap (0), Array (1), Hashtable (2)")
        if new_type == self.type:
            return
        if new_type == self.NoMap:
            self.clear()
        else:
            ids, places = invlists.all_ids_and_places()
            if new_type == self.Array:
                if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < ntotal):
                    raise RuntimeError(
                        f"a direct map of type Array needs ids in 0 ... {ntotal - 1}, "
                        f"the lists hold ids from {int(ids.min())} to {int(ids.max())}"
                    )
                filled = torch.full((ntotal,), -1, dtype=torch.int64, device="cpu")
                filled[ids] = places
                self.clear()
                self.array.assign(filled.numpy())
            else:
                self.clear()
                self.hashtable.update(zip(ids.tolist(), places.tolist(), strict=True))
        self.type = new_type

    def get(self, id: int) -> int:
        """Return the place of an id.

        Raises
        ------
        RuntimeError
            If there is no map, or the id has no place.
        """
        if self.type == self.Array:
            if not 0 <= id < len(self.array):
                raise RuntimeError(f"id {id} is outside the direct map's 0 ... {len(self.array) - 1}")
            place = int(self.array.array[id])
            if place < 0:
                raise RuntimeError(f"id {id} has no vector in the inverted lists")
            return place
        if self.type == self.Hashtable:
            if id not in self.hashtable:
                raise RuntimeError(f"id {id} not found in the direct map")
            return self.hashtable[id]
        raise RuntimeError("direct map not initialized: call make_direct_map() or set_direct_map_type() first")

    def get_many(self, ids: Tensor) -> Tensor:
        """Return the places of ids as a tensor of their shape (see `get`)."""
        if self.type != self.Array or ids.numel() == 0:
            return torch.tensor([self.get(i) for i in ids.tolist()], dtype=torch.int64, device="cpu")
        smallest, largest = int(ids.min()), int(ids.max())
        self.get(smallest)
        self.get(largest)
        places = tensor_of(self.array.array)[ids.cpu()]
        if bool((places < 0).any()):
            self.get(int(ids.cpu()[places < 0][0]))
        return places

    def check_can_add(self, with_ids: bool) -> None:
        """Raise if vectors cannot be added: ``Array`` has no room for ids of the caller's."""
        if with_ids and self.type == self.Array:
            raise RuntimeError("cannot add_with_ids to an index whose direct map is of type Array")

    def add(self, ids: Tensor, list_nos: Tensor, offsets: Tensor) -> None:
        """Take note of new vectors.

        Parameters
        ----------
        ids, list_nos, offsets : Tensor, int64, CPU, shape (n,)
            A list number of -1 says that the vector was not stored.
        """
        if self.type == self.NoMap:
            return
        places = (list_nos << 32) | offsets.clamp(min=0)
        if self.type == self.Array:
            begin = len(self.array)
            self.array.resize(begin + len(places))
            self.array.array[begin:] = places.numpy()
        else:
            self.hashtable.update(zip(ids.tolist(), places.tolist(), strict=True))

    def add_single_id(self, id: int, list_no: int, offset: int) -> None:
        """Take note of one new vector; a list number of -1 says that it was not stored."""
        self.add(*torch.tensor([[id], [list_no], [offset]], dtype=torch.int64, device="cpu"))

    def remove_ids(self, sel: IDSelector, invlists: ArrayInvertedLists) -> int:
        """Remove vectors from the lists, and from the map.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        RuntimeError
            For a map of type Array; for a map of type Hashtable and a selector other than IDSelectorArray.
        """
        if self.type == self.NoMap:
            return invlists.remove_entries(sel)
        if self.type == self.Array:
            raise RuntimeError("remove_ids is not supported with a direct map of type Array")
        if not isinstance(sel, IDSelectorArray):
            raise RuntimeError(
                f"remove_ids with a direct map of type Hashtable takes an IDSelectorArray, got {type(sel).__name__}"
            )
        removed = 0
        for id in sel.ids.view(sel.n).tolist():
            place = self.hashtable.pop(id, None)
            if place is not None:
                moved = invlists.remove_entry(lo_listno(place), lo_offset(place))
                if moved is not None:
                    self.hashtable[moved] = place
                removed += 1
        return removed

    def update_codes(self, invlists: ArrayInvertedLists, ids: np.ndarray, list_nos: list[int], codes: Tensor) -> None:
        """Replace the vectors of ids, for a map of type Array.

        Parameters
        ----------
        ids : numpy.ndarray, int64, shape (n,)
        list_nos : list of int
            Where each new vector goes.
        codes : Tensor, uint8, shape (n, code_size)
        """
        places = self.array.array
        for i, id in enumerate(ids.tolist()):
            old = int(places[id])
            moved = invlists.remove_entry(lo_listno(old), lo_offset(old))
            if moved is not None:
                places[moved] = old
            offset = invlists.add_entry(list_nos[i], id, codes[i])
            places[id] = lo_build(list_nos[i], offset)
