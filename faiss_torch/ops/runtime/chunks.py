"""Work cut to a memory budget."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ... import interrupts

#: Bytes that one temporary of a call may take.
TEMPORARY_BYTES = 64 << 20


def rows_within(bytes_per_row: int, budget: int = TEMPORARY_BYTES) -> int:
    """Return how many rows of a given size fit into the budget: at least 1."""
    return max(1, budget // max(1, bytes_per_row))


def slices(n: int, rows: int) -> Iterator[slice]:
    """Cut ``range(n)`` into slices of at most `rows`; before each of them a call can be stopped."""
    for begin in range(0, n, rows):
        interrupts.check()
        yield slice(begin, min(n, begin + rows))


def copy(target: Tensor, source: Tensor) -> None:
    """Copy rows, and cast them, in pieces: between two of these a call can be stopped."""
    if target.nbytes <= TEMPORARY_BYTES:
        target.copy_(source)
        return
    for rows in slices(len(target), rows_within(target.nbytes // len(target))):
        target[rows] = source[rows]


def taken(source: Tensor, rows: Tensor) -> Tensor:
    """Return some rows, int64, (n,), likewise in pieces."""
    if rows.shape[0] * source[:1].nbytes <= TEMPORARY_BYTES:
        return source.index_select(0, rows)
    result = source.new_empty(rows.shape[0], *source.shape[1:])
    for part in slices(len(rows), rows_within(source[:1].nbytes)):
        result[part] = source.index_select(0, rows[part])
    return result
