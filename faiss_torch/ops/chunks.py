"""Work cut to a memory budget."""

from __future__ import annotations

from collections.abc import Iterator

#: Bytes that one temporary of a call may take.
TEMPORARY_BYTES = 64 << 20


def rows_within(bytes_per_row: int, budget: int = TEMPORARY_BYTES) -> int:
    """Return how many rows of a given size fit into the budget: at least 1."""
    return max(1, budget // max(1, bytes_per_row))


def slices(n: int, rows: int) -> Iterator[slice]:
    """Cut ``range(n)`` into slices of at most `rows`."""
    for begin in range(0, n, rows):
        yield slice(begin, min(n, begin + rows))
