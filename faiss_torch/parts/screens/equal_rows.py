"""What is known of equal rows among stored ones: looked for now and then, and forgotten when rows change."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...ops.scoring.equal_rows import Rows, are_repeated, ranks_among_equals
from ...ops.scoring.ragged import ranges
from ...ops.scoring.stored import Stored
from ...ops.search.filtering import narrowed
from ..selectors import IDSelector, IDSelectorBatch, IDSelectorNot

#: Fewer rows are not looked at.
FEWEST_ROWS = 2048

#: More rows than this that are equal, or than this for each of the k wanted, are more than a search verifies anyway.
VERIFIED, VERIFIED_A_NEIGHBOUR = 64, 4

#: The share of rows that are more, from which on it is worth while to leave rows out.
SMALLEST_SHARE = 0.05

#: Of equal rows as many are left as there are neighbours wanted, rounded up to a power of two, and so many at least.
FEWEST_LEFT = 16

#: Searches after which rows that have changed are looked at again; at once, where there are twice as many.
PATIENCE = 8


class EqualRows:
    """The ranks of rows among those that are equal to them."""

    def __init__(self) -> None:
        self._rows_then = 0
        self.changed()

    def changed(self) -> None:
        """Take note that some rows have changed."""
        self._ranks: Tensor | None = None
        self._looked, self._searches = False, 0
        self._needed: dict[int, Tensor | None] = {}
        self._narrowed: dict[int, tuple[Stored, int]] = {}
        self._selectors: dict[int, IDSelector | None] = {}

    def narrowed(self, stored: Stored, n: int, k: int) -> tuple[Stored, int]:
        """Narrow the first n stored rows to those that a search for k neighbours needs, and say how many these are."""

        def rows() -> Rows:
            return Rows(stored.vectors, torch.arange(n, dtype=torch.int64, device=stored.vectors.device))

        needed = self._needed_for(n, k, rows) if stored.finite else None
        if needed is None:
            return stored, n
        known = self._narrowed.get(id(needed))
        if known is None:
            known = self._narrowed[id(needed)] = narrowed(stored, needed)
        return known

    def selector_for(self, vectors: Tensor, begins: Tensor, sizes: Tensor, ids: Tensor, k: int) -> IDSelector | None:
        """Return what selects the entries of lists that a search for k neighbours needs; None where that is all.

        Parameters
        ----------
        vectors : Tensor, shape (capacity, d)
        begins, sizes : Tensor, int64, CPU, shape (nlist,)
        ids : Tensor, int64, shape (capacity,)
        k : int
        """

        def rows() -> Rows:
            in_use = ranges(begins, sizes).to(ids.device)
            by_id = ids[in_use].argsort(stable=True)
            list_nos = torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int64, device="cpu"), sizes)
            return Rows(vectors, in_use[by_id], list_nos.to(ids.device)[by_id])

        needed = self._needed_for(int(sizes.sum()), k, rows)
        if needed is None:
            return None
        if id(needed) not in self._selectors:
            by_id = rows().order
            others, kept = ids[by_id[~needed]], ids[by_id[needed]]
            # an id may stand for several vectors
            told_apart = not bool(torch.isin(kept, others).any())
            self._selectors[id(needed)] = IDSelectorNot(IDSelectorBatch(others.cpu().numpy())) if told_apart else None
        return self._selectors[id(needed)]

    def _needed_for(self, n: int, k: int, rows: Callable[[], Rows]) -> Tensor | None:
        """Which of n rows, in the order of their ids, a search for k neighbours needs: bool, (n,); None for all."""
        if n < FEWEST_ROWS or not self._has_looked(n, rows) or self._ranks is None:
            return None
        left = max(FEWEST_LEFT, 1 << (k - 1).bit_length())
        if left not in self._needed:
            more = torch.count_nonzero(self._ranks >= max(VERIFIED, VERIFIED_A_NEIGHBOUR * left))
            self._needed[left] = self._ranks < left if int(more) >= SMALLEST_SHARE * n else None
        return self._needed[left]

    def _has_looked(self, n: int, rows: Callable[[], Rows]) -> bool:
        """Whether the rows are known as they are now; they are looked at where it is time to."""
        if not self._looked:
            self._searches += 1
            if n < 2 * self._rows_then and self._searches <= PATIENCE:
                return False
            those = rows()
            self._ranks = ranks_among_equals(those) if are_repeated(those) else None
            self._rows_then, self._looked = n, True
        return True
