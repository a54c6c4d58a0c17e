"""Inverted lists that stand in a mapped file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..border import default_device, tensor_of
from ..parts.inverted_lists import ArrayInvertedLists, InvertedLists
from ..parts.list_storage import STORAGE_ATTRIBUTES


class MappedInvertedLists(ArrayInvertedLists):
    """Inverted lists over the bytes of a file, of each list the codes and then the ids.

    Sizes, codes and ids of single lists are looked up in the file, and `loaded` copies just the lists that
    a search probes. Whatever needs all entries, or changes them, loads the lists as a whole; they are like
    any others then.

    Parameters
    ----------
    code_size : int
    sizes : Tensor, int64, shape (nlist,)
        Entries of each list.
    data : numpy.ndarray, uint8, shape (sum(sizes) * (code_size + 8),)
        The entries, over the file.
    """

    def __init__(self, code_size: int, sizes: Tensor, data: np.ndarray) -> None:
        InvertedLists.__init__(self, len(sizes), code_size)
        self.device = default_device()
        self._nothing_waits()
        self.sizes = sizes
        self._data: np.ndarray | None = data
        self._starts = ((sizes.cumsum(0) - sizes) * (code_size + 8)).tolist()

    def __getattr__(self, name: str) -> Any:
        if name not in STORAGE_ATTRIBUTES or not self.in_file:
            return super().__getattr__(name)
        whole = self.loaded(torch.arange(self.nlist))
        self.__dict__.update({part: whole.__dict__[part] for part in STORAGE_ATTRIBUTES})
        self._data = None
        return self.__dict__[name]

    @property
    def in_file(self) -> bool:
        """Whether the lists have not been loaded as a whole."""
        return self.__dict__.get("_data") is not None

    def loaded(self, list_nos: Tensor) -> ArrayInvertedLists:
        """Return lists in memory of which these are filled; all others are empty there.

        Parameters
        ----------
        list_nos : Tensor, int64, any shape
            Repetitions and -1 are allowed.
        """
        if not self.in_file:
            return self
        wanted = torch.zeros(self.nlist, dtype=torch.bool)
        wanted[list_nos[list_nos >= 0].cpu()] = True
        lists = ArrayInvertedLists(self.nlist, self.code_size, self.device)
        lists.reserve(self.sizes * wanted)
        for list_no in (wanted & (self.sizes > 0)).nonzero().view(-1).tolist():
            lists.list_codes(list_no).copy_(self.list_codes(list_no))
            lists.list_ids(list_no).copy_(self.list_ids(list_no))
        return lists

    def list_codes(self, list_no: int) -> Tensor:
        """Return a list's codes: a view, uint8, shape (list_size, code_size)."""
        if self._data is None:
            return super().list_codes(list_no)
        start, n = self._starts[list_no], int(self.sizes[list_no])
        return tensor_of(self._data[start : start + n * self.code_size]).view(n, self.code_size)

    def list_ids(self, list_no: int) -> Tensor:
        """Return a list's ids: a view, int64, shape (list_size,)."""
        if self._data is None:
            return super().list_ids(list_no)
        n = int(self.sizes[list_no])
        start = self._starts[list_no] + n * self.code_size
        return tensor_of(self._data[start : start + n * 8].view(np.int64))
