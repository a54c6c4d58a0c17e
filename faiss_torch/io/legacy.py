"""Records of file formats that faiss no longer writes but still reads.

Until 2017 an IVF index kept its inverted lists as two series of vectors: the ids of every list between the
quantizer and the direct map, the codes of every list at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..border import tensor_of
from ..parts.lists.inverted_lists import ArrayInvertedLists
from .fields import Field, Row
from .primitives import Sink, Source


class _ReadOnlyField(Field):
    """A field of an old format: nothing is written in it any more."""

    def write(self, sink: Sink, owner: Any) -> None:
        raise NotImplementedError(f"{self.name} belongs to a format that is only read")


class LegacyListIds(_ReadOnlyField):
    """The ids of all inverted lists, one vector for each list."""

    def read(self, source: Source, owner: Any) -> None:
        source.require_lists(owner.nlist, "nlist")
        source.require(owner.nlist, 8, self.name)
        ids = []
        for list_no in range(owner.nlist):
            field = f"{self.name}[{list_no}]"
            ids.append(tensor_of(source.array("<i8", source.size(8, field), field)))
        lists = ArrayInvertedLists(owner.nlist, owner.d * 4)
        lists.reserve(torch.tensor([len(one) for one in ids], dtype=torch.int64, device="cpu"))
        for list_no, one in enumerate(ids):
            lists.list_ids(list_no).copy_(one)
        owner.invlists = lists

    def rows(self) -> list[Row]:
        return [Row("(uint64, int64[]) [nlist]", self.name, "for each list: number of ids, the ids")]


class LegacyListCodes(_ReadOnlyField):
    """The codes of all inverted lists, one vector for each list.

    Parameters
    ----------
    name : str
    itemsize : int
        What the sizes count: bytes (1) or floats (4).
    """

    def __init__(self, name: str, itemsize: int) -> None:
        super().__init__(name)
        self.itemsize = itemsize

    def read(self, source: Source, owner: Any) -> None:
        for list_no in range(owner.nlist):
            field = f"{self.name}[{list_no}]"
            nbytes = source.size(self.itemsize, field) * self.itemsize
            codes = owner.invlists.list_codes(list_no)
            if nbytes != codes.numel():
                source.fail(field, f"{nbytes} bytes of codes, but the ids of the list ask for {codes.numel()}")
            codes.copy_(tensor_of(source.array("u1", nbytes, field)).reshape(codes.shape))

    def rows(self) -> list[Row]:
        unit = np.dtype("u1" if self.itemsize == 1 else "f4").name
        return [Row(f"(uint64, {unit}[]) [nlist]", self.name, "for each list: number of elements, the vectors")]
