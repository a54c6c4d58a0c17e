"""ReverseMap: from an id to its position in a growing list of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from .growing import GrowingTensor

#: New ids are looked up by themselves until there are this many, and a 64th of the others: then all are sorted.
FEW_NEW = 4096
NEW_SHARE = 64


class _Sorted:
    """Some positions, by the ids that stand there."""

    def __init__(self, ids: Tensor, begin: int = 0) -> None:
        self.ids, order = ids.sort(stable=True)
        self.positions = order + begin

    def find(self, keys: Tensor) -> Tensor:
        """Return the position of each key, the last one where it stands several times; -1 where it is not there."""
        if len(self.ids) == 0:
            return torch.full_like(keys, -1)
        place = torch.searchsorted(self.ids, keys, right=True).sub_(1)
        candidates = place.clamp(min=0)
        found = (place >= 0) & (self.ids[candidates] == keys)
        return torch.where(found, self.positions[candidates], -1)


class ReverseMap(Mapping[int, int]):
    """Finds the positions of ids, as sorted tables that are brought up to date when somebody asks.

    It reads like a dictionary, and on whole tensors; where an id stands at several positions, the
    last one counts.

    Parameters
    ----------
    ids : GrowingTensor
        int64, (n,). Rows that are appended later are noticed; after any other change call `construct`.
    """

    def __init__(self, ids: GrowingTensor) -> None:
        self._ids = ids
        self.construct()

    def construct(self) -> None:
        """Forget what was derived from the ids; it is made again when it is needed."""
        self._known = _Sorted(self._ids.rows[:0])
        self._new = self._known
        self._size = 0

    def __getstate__(self) -> dict[str, object]:
        return {"_ids": self._ids}

    def __setstate__(self, state: dict[str, GrowingTensor]) -> None:
        self._ids = state["_ids"]
        self.construct()

    def _update(self) -> None:
        """Cover ids that came since the last call."""
        size, known = self._ids.size, len(self._known.ids)
        if size == self._size:
            return
        rows = self._ids.rows
        if size - known > max(FEW_NEW, known // NEW_SHARE):
            self._known, self._new = _Sorted(rows), _Sorted(rows[:0])
        else:
            self._new = _Sorted(rows[known:], known)
        self._size = size

    def find(self, keys: Tensor) -> Tensor:
        """Return the positions of ids, -1 where they are not there: int64, of the shape of `keys` and on its device."""
        self._update()
        asked = keys.to(self._ids.room.device)
        new = self._new.find(asked)
        return torch.where(new >= 0, new, self._known.find(asked)).to(keys.device)

    def size(self) -> int:
        """Return the number of different ids."""
        return len(self._ids.rows.unique())

    def __len__(self) -> int:
        return self.size()

    def __getitem__(self, id: int) -> int:
        position = int(self.find(torch.tensor([id], dtype=torch.int64, device="cpu"))[0])
        if position < 0:
            raise KeyError(id)
        return position

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids.rows.unique().tolist())
