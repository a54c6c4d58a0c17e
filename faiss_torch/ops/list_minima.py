"""The list-major scan of inverted lists on a GPU, by the smallest scores of blocks of their rows.

As in `block_minima`, of which this is the form for lists: a kernel finds the minima of the blocks of all probed lists
in 16 bits, and only the blocks that may hold a neighbour are looked at again. See `kernels.list_minima`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..constants import FLT_MAX, METRIC_INNER_PRODUCT
from . import block_minima, chunks
from .block_minima import Minima
from .ivf_scan import Lists
from .screen import ProductScorer, Scorer

#: Pairs of queries and lists from which on the kernel is worth its set-up.
LEAST_PAIRS = 256


def rounded_of(scorer: Scorer, lists: Lists, probes: Tensor, impl: str = "auto") -> Any:
    """Return the rows of lists in 16 bits, or None where they are not to be scanned so.

    Parameters
    ----------
    scorer : Scorer
    lists : Lists
    probes : Tensor, int64, shape (nq, nprobe)
    impl : str
        One of `kernels.IMPLEMENTATIONS`.
    """
    if lists.rounded_for is None or not isinstance(scorer, ProductScorer) or lists.stored.rows is not None:
        return None
    if impl == "auto" and probes.numel() < LEAST_PAIRS:
        return None
    return kernels.run("list_minima", scorer.xq.device, impl, lists.rounded_for, lambda: None)


def search(
    scorer: Scorer,
    lists: Lists,
    rounded: Any,
    probes: Tensor,
    rows: Tensor,
    k: int,
    metric_type: int,
    impl: str = "auto",
) -> tuple[Tensor, Tensor] | None:
    """Return the k closest rows of the probed lists: as `ivf_matrix.search`, from rows of `rounded_of`.

    None where the kernel fails.
    """
    from ..kernels import list_minima as kernel

    nq, similarity = len(probes), metric_type == METRIC_INNER_PRODUCT
    distances = scorer.xq.new_empty(nq, k)
    positions = torch.empty(nq, k, dtype=torch.int64, device=probes.device)
    pairs = kernel.Pairs.make(probes, rows)
    if not pairs.width:
        return distances.fill_(-FLT_MAX if similarity else FLT_MAX), positions.fill_(-1)
    begins = lists.begins.to(probes.device)
    for some in chunks.slices(nq, chunks.rows_within(4 * pairs.width, block_minima.MINIMA_BYTES)):
        part = kernel.Pairs(probes[some], rows[some], pairs.places[some], pairs.width)
        group = torch.arange(some.start, some.stop, device=probes.device)
        x = scorer.xq[some]
        screened = kernels.run(
            "list_minima",
            x.device,
            impl,
            lambda x=x, part=part: kernel.list_minima(x, rounded, begins, part),  # type: ignore[misc]
            lambda: None,
        )
        if screened is None:
            return None

        def rows_of(queries: Tensor, blocks: Tensor, part: kernel.Pairs = part) -> tuple[Tensor, Tensor]:
            return _rows_of_lists(queries, blocks, part, begins, kernel.ROWS, kernel.BLOCKS)

        minima = Minima(screened[0], 2 * screened[1], kernel.ROWS, rows_of)
        found = block_minima.search(scorer, group, minima, k, similarity, lists.ids)
        distances[some], positions[some] = found
    return distances, positions


def _rows_of_lists(
    queries: Tensor, blocks: Tensor, pairs: Any, begins: Tensor, block: int, blocks_of_tile: int
) -> tuple[Tensor, Tensor]:
    """Rows of blocks that are numbered by query, list after list."""
    # the last list that begins here or before: those without rows begin where the next one does
    probe = (blocks[:, None] >= pairs.places[queries]).sum(1) - 1
    inner = blocks - pairs.places[queries, probe]
    first = inner // blocks_of_tile * (block * blocks_of_tile) + inner % blocks_of_tile
    offsets = first[:, None] + torch.arange(block, device=blocks.device) * blocks_of_tile
    there = offsets < pairs.limits[queries, probe][:, None]
    return begins[pairs.probes[queries, probe].clamp(min=0)][:, None] + offsets, there
