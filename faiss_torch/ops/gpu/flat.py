"""Search of all stored rows on a GPU, by the smallest lower bounds of blocks of them.

A kernel finds lower bounds of scores in 16 bits, and of each block the smallest. A few more than k blocks are looked at
again in float32, and a query is certain where its k-th score is below the bounds of all others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import kernels
from ...constants import METRIC_INNER_PRODUCT
from ..scoring.stored import Stored
from .search import (
    RANGE_NEIGHBOURS,
    Found,
    Within,
    blocks_wanted,
    first_rows,
    in_portions,
    joined,
    largest_scores,
    rows_within,
)


def search_by_kernels(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, rounded: Any, impl: str = "auto", slack: int = 1
) -> Found | None:
    """Find the k nearest of n stored rows; None where a kernel fails.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
        At least one query.
    stored : Stored
    n, k, metric_type : int
    rounded : object
        From `gpu.search.rounded_of`.
    impl : str
    slack : int
        See `gpu.search.blocks_wanted`.
    """
    from ...kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], k)
    width = -(-n // rows) + kernel.BLOCKS
    wanted = blocks_wanted(k, slack, width)
    query_bytes = 4 * width + 4 * wanted[1] * rows

    def part(queries: slice) -> Found | None:
        def by_kernels() -> Found:
            return _of_blocks(xq[queries], stored, n, k, metric_type, rounded, rows, wanted)

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return joined(in_portions(part, len(xq), query_bytes))


def candidates_by_kernels(
    xq: Tensor, stored: Stored, n: int, radius: float, metric_type: int, rounded: Any, impl: str = "auto"
) -> Within | None:
    """Find the rows that may be within a radius; None where a kernel fails.

    Parameters
    ----------
    xq, stored, n, metric_type, rounded, impl
        As of `search_by_kernels`.
    radius : float
    """
    from ...kernels import block_minima as kernel

    rows = kernel.rows_of_block(n, xq.shape[1], RANGE_NEIGHBOURS)

    def part(queries: slice) -> Within | None:
        def by_kernels() -> Within:
            minima, halves = kernel.block_minima(xq[queries], rounded, n, rows)
            largest = largest_scores(radius, halves, xq.shape[1], metric_type)
            query, column = (minima <= largest[:, None]).nonzero(as_tuple=True)
            firsts = first_rows(column, kernel.BLOCKS, rows)
            found = rows_within(query + queries.start, firsts, torch.full_like(firsts, n), rows, kernel.BLOCKS, stored)
            return Within([found], ~(halves < float("inf")))

        return kernels.run("block_minima", xq.device, impl, by_kernels, lambda: None)

    return Within.joined(in_portions(part, len(xq), 4 * (-(-n // rows) + kernel.BLOCKS)))


def _of_blocks(
    xq: Tensor,
    stored: Stored,
    n: int,
    k: int,
    metric_type: int,
    rounded: Any,
    rows: int,
    wanted: tuple[int, int],
) -> Found:
    from ...kernels import block_minima as kernel
    from ...kernels.block_rows import Blocks, closest
    from ...kernels.smallest import smallest

    minima, halves = kernel.block_minima(xq, rounded, n, rows)
    columns, counts, bounds = smallest(minima, *wanted)
    firsts = first_rows(columns.long(), kernel.BLOCKS, rows)
    blocks = Blocks(firsts, torch.full_like(firsts, n), counts, bounds, halves, rows, kernel.BLOCKS)
    similarity = metric_type == METRIC_INNER_PRODUCT
    return Found(*closest(xq, stored.vectors, stored.bias, stored.rows, None, blocks, k, similarity))
