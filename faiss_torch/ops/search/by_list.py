"""The list-major scan: each list once, against the group of queries that probe it.

Two passes over tiles of scores that stay in cache and are never stored. The first looks at the nearest lists of
each query and keeps the minima of blocks; the k-th smallest of them bounds the k-th smallest score, since k blocks
hold k different rows. The second looks at all lists and lets through what does not exceed that bound: one
comparison a block, and a rare second look at its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..runtime import workers
from ..scoring import topk
from ..scoring.candidates import Candidates, top_k_of
from ..scoring.ragged import group_by_list
from ..scoring.scorers import Scorer, Visit, minima_of_blocks, survivors
from ..scoring.stored import BLOCK, Lists

#: Scores of one tile.
TILE_SCORES = 1 << 20
ACCELERATOR_TILE_SCORES = 1 << 24

#: Stored rows of one tile: a longer list is scanned in pieces.
TILE_ROWS = 2048

#: Minima looked at for each of the k wanted before the bound is taken: more give a tighter bound.
MINIMA_A_NEIGHBOUR = 4


class _Group(NamedTuple):
    """One list, and a part of the pairs of a query and this list."""

    list_no: int
    begin: int
    rows: int
    pairs: Tensor


def search(
    scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, k: int, metric_type: int
) -> tuple[Tensor, Tensor]:
    """Return the k closest rows of the probed lists: as `search.by_query.search`."""
    if scorer.nq == 0:
        return scorer.xq.new_empty(0, k), probes.new_empty(0, k)
    thresholds = thresholds_of(scorer, lists, probes, rows, k)
    found = Candidates.concatenate(candidates(scorer, lists, probes, rows, thresholds), probes.device)
    return top_k_of(found, probes.shape[1], scorer, lists.ids, k, metric_type)


def thresholds_of(scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, k: int) -> Tensor:
    """Bound each query's k-th smallest score from its nearest lists.

    Parameters
    ----------
    scorer : Scorer
    lists : Lists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query, nearest first, and how many rows of each count.
    k : int

    Returns
    -------
    Tensor, float32, shape (nq,)
        The k closest rows have screened scores of at most this; +inf where too few rows are at hand to tell.
    """
    wanted = MINIMA_A_NEIGHBOUR * k
    block = _block_for(rows, wanted)
    sizes = lists.sizes.to(probes.device)[probes.clamp(min=0)]
    # a list of which a query may see only a part is left to the second pass
    usable = torch.where(rows == sizes, rows, 0).clamp_(max=TILE_ROWS)
    tile_rows = torch.div(usable + (BLOCK - 1), BLOCK, rounding_mode="floor").mul_(BLOCK)
    minima_there = torch.div(tile_rows, block, rounding_mode="floor").clamp_(max=wanted)
    before = minima_there.cumsum(1) - minima_there
    chosen = (before < wanted) & (minima_there > 0)
    width = int((minima_there * chosen).sum(1).max()) if chosen.numel() else 0
    if width < k:
        return scorer.margin.new_full((scorer.nq,), float("inf"))
    nprobe = probes.shape[1]
    minima = scorer.margin.new_full((scorer.nq * width,), float("inf"))
    target = (before + torch.arange(scorer.nq, dtype=torch.int64, device=probes.device)[:, None] * width).view(-1)
    steps = torch.arange(wanted, dtype=torch.int64, device=probes.device)[:, None]

    def look(group: _Group, buffer: Tensor) -> None:
        queries = torch.div(group.pairs, nprobe, rounding_mode="floor")
        n = -(-min(group.rows, TILE_ROWS) // BLOCK) * BLOCK
        scores = scorer.block(Visit(group.list_no, group.begin, group.begin + n, queries), buffer)
        some = _fold(minima_of_blocks(scores, block), wanted)
        minima[(target[group.pairs] + steps[: len(some)]).view(-1)] = some.reshape(-1)

    _over_lists(look, lists, probes, chosen)
    return topk.smallest(minima.view(-1, width), k)[0].amax(1) + scorer.margin


def candidates(scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, thresholds: Tensor) -> list[Candidates]:
    """Return all rows of the probed lists whose score does not exceed the query's threshold."""
    nprobe = probes.shape[1]
    chosen = rows > 0
    limits = rows.view(-1)
    limited = bool((rows[chosen] < lists.sizes.to(probes.device)[probes[chosen]]).any())
    found: list[Candidates] = []

    def look(group: _Group, buffer: Tensor) -> None:
        queries = torch.div(group.pairs, nprobe, rounding_mode="floor")
        bounds = thresholds[queries]
        for piece in range(0, group.rows, TILE_ROWS):
            n = min(TILE_ROWS, group.rows - piece)
            begin = group.begin + piece
            scores = scorer.block(Visit(group.list_no, begin, begin + -(-n // BLOCK) * BLOCK, queries), buffer)
            if limited:
                inner = torch.arange(piece, piece + len(scores), dtype=torch.int64, device=probes.device)
                scores.masked_fill_(inner[:, None] >= limits[group.pairs], float("inf"))
            row, column, values = survivors(scores, minima_of_blocks(scores, BLOCK), bounds)
            if len(row):
                found.append(Candidates(group.pairs[column], row + begin, values))

    _over_lists(look, lists, probes, chosen)
    return found


def _block_for(rows: Tensor, wanted: int) -> int:
    """Choose how many rows a minimum stands for: fewer where the queries see few rows for the k they want."""
    mean_rows = float(rows.sum()) / max(1, len(rows))
    for block in (BLOCK, 4):
        if mean_rows >= 2 * wanted * block:
            return block
    return 1


def _fold(minima: Tensor, wanted: int) -> Tensor:
    """Reduce (n, group) minima to at most `wanted` rows, each the minimum over blocks of its own."""
    times = len(minima) // wanted
    return minima[:wanted] if times <= 1 else minima[: times * wanted].view(times, wanted, -1).amin(0)


def _over_lists(look: Callable[[_Group, Tensor], None], lists: Lists, probes: Tensor, chosen: Tensor) -> None:
    """Visit every chosen list with its group, worker threads over lists, each with a buffer of its own."""
    groups = group_by_list(probes, chosen)
    on_cpu = probes.device.type == "cpu"
    tile = TILE_SCORES if on_cpu else ACCELERATOR_TILE_SCORES
    begins, sizes = lists.begins.tolist(), lists.sizes.tolist()
    parts = []
    largest = 0
    for j, list_no in enumerate(groups.list_nos):
        first, last = groups.lims[j], groups.lims[j + 1]
        tile_rows = -(-min(sizes[list_no], TILE_ROWS) // BLOCK) * BLOCK
        pieces = -(-(last - first) * tile_rows // tile)
        step = -(-(last - first) // pieces)
        largest = max(largest, step * tile_rows)
        for begin in range(first, last, step):
            parts.append(
                _Group(list_no, begins[list_no], sizes[list_no], groups.pairs[begin : min(begin + step, last)])
            )
    following = iter(parts)  # a list's iterator gives each item to one thread only

    def work() -> None:
        buffer = workers.workspace(largest, probes.device)
        for group in following:
            look(group, buffer)

    workers.run([work] * (omp_get_max_threads() if on_cpu else 1), omp_get_max_threads())
