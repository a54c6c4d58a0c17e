"""Inverted lists that stand in a mapped file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..border import default_device, tensor_of
from ..parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ..parts.lists.stacked import ReadOnlyInvertedLists
from ..parts.lists.storage import STORAGE_ATTRIBUTES


class _ListsInFile(ReadOnlyInvertedLists):
    """Inverted lists over the bytes of a file; see `MappedInvertedLists` for the parameters."""

    def __init__(self, code_size: int, sizes: Tensor, data: np.ndarray) -> None:
        super().__init__(len(sizes), code_size)
        self.sizes = sizes
        self._data = data
        self._starts = ((sizes.cumsum(0) - sizes) * (code_size + 8)).tolist()

    def list_codes(self, list_no: int) -> Tensor:
        start, n = self._starts[list_no], int(self.sizes[list_no])
        return tensor_of(self._data[start : start + n * self.code_size]).view(n, self.code_size)

    def list_ids(self, list_no: int) -> Tensor:
        n = int(self.sizes[list_no])
        start = self._starts[list_no] + n * self.code_size
        return tensor_of(self._data[start : start + n * 8].view(np.int64))


class MappedInvertedLists(ArrayInvertedLists):
    """Inverted lists over the bytes of a file, of each list the codes and then the ids.

    Sizes, codes and ids of single lists are looked up in the file, and a search copies just the lists that it
    probes. Whatever needs all entries, or changes them, loads the lists as a whole; they are like any others
    then.

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
        self._file: _ListsInFile | None = _ListsInFile(code_size, sizes, data)

    def __getattr__(self, name: str) -> Any:
        in_file = self.elsewhere()
        if name not in STORAGE_ATTRIBUTES or in_file is None:
            return super().__getattr__(name)
        whole = in_file.loaded(torch.arange(self.nlist, dtype=torch.int64, device="cpu"), self.device)
        self.__dict__.update({part: whole.__dict__[part] for part in STORAGE_ATTRIBUTES})
        self._file = None
        return self.__dict__[name]

    def _make_empty(self) -> None:
        self._file = None
        super()._make_empty()

    def elsewhere(self) -> InvertedLists | None:
        """Return the lists in the file; None once they have been loaded as a whole."""
        return self.__dict__.get("_file")

    def list_codes(self, list_no: int) -> Tensor:
        """Return a list's codes: a view, uint8, shape (list_size, code_size)."""
        return super().list_codes(list_no) if self._file is None else self._file.list_codes(list_no)

    def list_ids(self, list_no: int) -> Tensor:
        """Return a list's ids: a view, int64, shape (list_size,)."""
        return super().list_ids(list_no) if self._file is None else self._file.list_ids(list_no)

    def all_ids_and_places(self) -> tuple[Tensor, Tensor]:
        in_file = self.elsewhere()
        return super().all_ids_and_places() if in_file is None else in_file.all_ids_and_places()
