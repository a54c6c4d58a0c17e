"""DirectMap: from an id to the place of its vector in the inverted lists."""

from __future__ import annotations

import builtins
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import interrupts
from ...attributes import CheckedAttributes
from ...border import tensor_of
from ...wrapper.ownership import Owned
from ...wrapper.vectors import Int64Vector
from ..selectors import IDSelector, IDSelectorArray
from .by_place import ListsByPlace
from .inverted_lists import InvertedLists
from .storage import ListStorage


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

    def set_type(self, new_type: int, invlists: InvertedLists, ntotal: int) -> None:
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

    def remove_ids(self, sel: IDSelector, invlists: InvertedLists) -> int:
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
        removal = _Removal(self.hashtable, invlists.written_to())
        for id in sel.ids.view(sel.n).tolist():
            removal.take_out(id)
        with interrupts.shielded():
            removal.carry_out()
        return len(removal.removed)

    def update_codes(self, invlists: InvertedLists, ids: np.ndarray, list_nos: list[int], codes: Tensor) -> None:
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


class _Removal:
    """Removes entries one after the other, as faiss does, but writes nothing before all of them are known.

    The last entry of a list takes the place of one that is removed. No entry that stays in the part of a list that is
    left is moved, so the places that are filled and those that they are filled from are not the same.

    Parameters
    ----------
    hashtable : dict of int to int
        The place of each id.
    invlists : ListStorage or ListsByPlace

    Attributes
    ----------
    removed : set of int
        The ids that are taken out.
    """

    def __init__(self, hashtable: dict[int, int], invlists: ListStorage | ListsByPlace) -> None:
        self.removed: set[int] = set()
        self._hashtable, self._invlists = hashtable, invlists
        self._sizes: dict[int, int] = {}
        self._places: dict[int, int] = {}  # where moved entries are now
        self._fillings: dict[int, tuple[int, int]] = {}  # of places: the id that is there now, and where it was stored

    def take_out(self, id: int) -> None:
        """Take the entry of an id out, if there is one."""
        interrupts.check()
        place = self._places.get(id, self._hashtable.get(id))
        if place is None or id in self.removed:
            return
        list_no = lo_listno(place)
        size = self._sizes.get(list_no)
        last = lo_build(list_no, (int(self._invlists.sizes[list_no]) if size is None else size) - 1)
        self._sizes[list_no] = lo_offset(last)
        filling = self._fillings.pop(last, None)
        if place != last:
            filling = filling or (int(self._invlists.list_ids(list_no)[lo_offset(last)]), last)
            self._fillings[place] = filling
            self._places[filling[0]] = place
        self.removed.add(id)

    def carry_out(self) -> None:
        """Change the lists and the map."""
        targets = torch.tensor(list(self._fillings), dtype=torch.int64, device="cpu")
        sources = torch.tensor([stored for _, stored in self._fillings.values()], dtype=torch.int64, device="cpu")
        self._invlists.move_entries(sources, targets, self._sizes)
        for id in self.removed:
            del self._hashtable[id]
        for id, place in self._places.items():
            if id not in self.removed:
                self._hashtable[id] = place
