"""Counters of IVF searches, as faiss's ``indexIVF_stats``."""

from __future__ import annotations


class IndexIVFStats:
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
        Milliseconds.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.nq = 0
        self.nlist = 0
        self.ndis = 0
        self.nheap_updates = 0
        self.quantization_time = 0.0
        self.search_time = 0.0

    def add(self, other: IndexIVFStats) -> None:
        """Add another object's counters to this one's."""
        self.nq += other.nq
        self.nlist += other.nlist
        self.ndis += other.ndis
        self.nheap_updates += other.nheap_updates
        self.quantization_time += other.quantization_time
        self.search_time += other.search_time


#: Of all searches of this process (``cvar.indexIVF_stats``).
indexIVF_stats = IndexIVFStats()
