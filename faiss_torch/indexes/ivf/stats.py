"""Counters of IVF searches, as faiss's ``indexIVF_stats``."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import forks
from ...wrapper.ownership import Owned


class IndexIVFStats(Owned):
    """What IVF searches did since the last reset.

    Attributes
    ----------
    nq : int
        Queries.
    nlist : int
        Lists looked at.
    ndis : int
        Distances computed.
    nheap_updates : int
        0: selection here is not by heap.
    quantization_time, search_time : float
        Milliseconds; on an accelerator of what the host does, which need not wait for it.
    """

    _adding = forks.Lock()

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.nq = 0
        self.nheap_updates = 0
        self.quantization_time = 0.0
        self.search_time = 0.0
        # lists and distances, and those that a device has counted and nobody has asked for
        self._counted = [0, 0]
        self._on_device: dict[tuple[torch.device, int], Tensor] = {}

    @property
    def nlist(self) -> int:
        return self._totals()[0]

    @nlist.setter
    def nlist(self, value: int) -> None:
        self._totals()[0] = value

    @property
    def ndis(self) -> int:
        return self._totals()[1]

    @ndis.setter
    def ndis(self, value: int) -> None:
        self._totals()[1] = value

    def _totals(self) -> list[int]:
        with self._adding:
            for counts in self._on_device.values():
                self._counted = [sum(each) for each in zip(self._counted, counts.tolist(), strict=True)]
            self._on_device = {}
            return self._counted

    def count(self, nq: int, nlist: int | Tensor, ndis: int | Tensor) -> None:
        """Count a search; what are tensors on an accelerator are not waited for. Several threads may do so at once."""
        with self._adding:
            self.nq += nq
            if isinstance(nlist, Tensor) and nlist.device.type != "cpu":
                counts = torch.stack([nlist, torch.as_tensor(ndis, dtype=torch.int64, device=nlist.device)])
                # one stream does not wait for another
                key = nlist.device, torch.cuda.current_stream(nlist.device).cuda_stream if nlist.is_cuda else 0
                known = self._on_device.get(key)
                self._on_device[key] = counts if known is None else known + counts
            else:
                self._counted = [self._counted[0] + int(nlist), self._counted[1] + int(ndis)]

    def took(self, quantization: float = 0.0, search: float = 0.0) -> None:
        """Count seconds of choosing lists, and of searching them. Several threads may do so at once."""
        with self._adding:
            self.quantization_time += 1e3 * quantization
            self.search_time += 1e3 * search

    def add(self, other: IndexIVFStats) -> None:
        """Add another object's counters to this one's."""
        self.count(other.nq, other.nlist, other.ndis)
        self.took(1e-3 * other.quantization_time, 1e-3 * other.search_time)
        with self._adding:
            self.nheap_updates += other.nheap_updates


#: Of all searches of this process (``cvar.indexIVF_stats``).
indexIVF_stats = IndexIVFStats()
