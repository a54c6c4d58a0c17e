"""FreeSlots: the pieces of a file that are not in use."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate


class FreeSlots:
    """Pieces of a file that can be given out, by offset; neighbours are one piece.

    Attributes
    ----------
    offsets, capacities : list of int
        Bytes; the offsets ascend.
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.capacities: list[int] = []

    def allocate(self, capacity: int) -> int | None:
        """Take bytes from the start of the first piece that has as many.

        Returns
        -------
        int or None
            Their offset; None if no piece is large enough.
        """
        i = next((i for i, there in enumerate(self.capacities) if there >= capacity), None)
        if i is None:
            return None
        offset = self.offsets[i]
        if self.capacities[i] == capacity:
            del self.offsets[i], self.capacities[i]
        else:
            self.offsets[i] += capacity
            self.capacities[i] -= capacity
        return offset

    def free(self, offset: int, capacity: int) -> None:
        """Give bytes back, or add new ones."""
        if not capacity:
            return
        i = bisect_left(self.offsets, offset)
        if i < len(self.offsets) and offset + capacity == self.offsets[i]:
            capacity += self.capacities[i]
            del self.offsets[i], self.capacities[i]
        if i and self.offsets[i - 1] + self.capacities[i - 1] == offset:
            self.capacities[i - 1] += capacity
        else:
            self.offsets.insert(i, offset)
            self.capacities.insert(i, capacity)

    def exclude(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Take out what is in use after all: pieces by their first byte and the one behind their last."""
        used = sorted((begin, end) for begin, end in pieces if begin < end)
        ends = list(accumulate((end for _, end in used), max))
        slots = list(zip(self.offsets, self.capacities, strict=True))
        self.offsets, self.capacities = [], []
        for offset, capacity in slots:
            free_from, slot_end = offset, offset + capacity
            for i in range(bisect_right(ends, offset), len(used)):
                if used[i][0] >= slot_end:
                    break
                self.free(free_from, max(0, used[i][0] - free_from))
                free_from = max(free_from, ends[i])
            self.free(free_from, max(0, slot_end - free_from))
