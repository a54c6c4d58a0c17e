"""Searching lists that are not in memory: portions of them are loaded, searched and let go, and results merged.

Each list that a call probes is loaded once, whatever the number of queries, and no more than `LOADED_BYTES` of lists
are in memory at a time (or one list, if it is larger).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import FLT_MAX
from ...ops.scoring import candidates, topk
from ...ops.scoring.distances import METRICS
from ...ops.scoring.stored import Lists, Stored
from ..selectors import IDSelector
from .inverted_lists import InvertedLists
from .storage import ListStorage

#: Bytes of the lists that are in memory at a time.
LOADED_BYTES = 32 << 20


class _Portion(NamedTuple):
    """Some lists in memory, the queries that probe them, and how many rows of each probed list these look at."""

    storage: ListStorage
    queries: Tensor
    rows: Tensor


def to_scan(lists: InvertedLists, probes: Tensor, sel: IDSelector | None) -> Lists:
    """Return lists as far as it takes to say how many of their rows a query looks at: no codes, but which entries of
    the probed lists are selected, where there is a selector."""
    device = probes.device
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    rows = torch.empty(0, 0, dtype=torch.float32, device=device)
    begins, counts = torch.zeros_like(lists.sizes), torch.zeros_like(lists.sizes)
    if sel is None:
        return Lists(Stored(rows, rows.view(-1), 0.0, True), begins, lists.sizes, nothing)
    wanted = probes[probes >= 0].unique().cpu()
    masks = [sel.mask(lists.list_ids(list_no)).cpu() for list_no in wanted.tolist()]
    sizes = lists.sizes[wanted]
    begins[wanted] = sizes.cumsum(0) - sizes
    counts[wanted] = torch.tensor([int(mask.sum()) for mask in masks], dtype=torch.int64, device="cpu")
    hidden = torch.cat([torch.empty(0, dtype=torch.bool, device="cpu"), *masks]).logical_not_().to(device)
    bias = torch.zeros(len(hidden), dtype=torch.float32, device=device).masked_fill_(hidden, float("inf"))
    return Lists(Stored(rows, bias, 0.0, True), begins, lists.sizes, nothing, counts)


def _portions(lists: InvertedLists, probes: Tensor, rows: Tensor) -> Iterator[_Portion]:
    """Load the lists of which any query looks at a row, in order, as many at a time as there is room for."""
    wanted = probes[rows > 0].unique().cpu()
    nbytes = (lists.sizes[wanted] * (lists.code_size + 8)).cumsum(0)
    begin = 0
    while begin < len(wanted):
        before = int(nbytes[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(nbytes, before + LOADED_BYTES, right=True)))
        some = wanted[begin:end]
        inside = (probes >= some[0]) & (probes <= some[-1])
        rows_inside = rows.masked_fill(~inside, 0)
        queries = (rows_inside > 0).any(1).nonzero().view(-1)
        # nothing here keeps the last portion while the next one is loaded
        yield _Portion(lists.loaded(some, probes.device), queries, rows_inside[queries])
        begin = end


def search(
    lists: InvertedLists,
    probes: Tensor,
    rows: Tensor,
    k: int,
    metric_type: int,
    scan: Callable[[ListStorage, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Return the k closest entries of the probed lists.

    Parameters
    ----------
    lists : InvertedLists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query and how many rows of each count.
    k, metric_type : int
    scan : callable
        Searches a storage for some queries (int64, shape (n,)), which look at so many rows of their lists (int64, shape
        (n, nprobe)), and returns distances and positions, (n, k).

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    places : Tensor, int64, shape (nq, k)
        ``list_no << 32 | offset``, -1 where there are fewer than k.
    """
    similarity = METRICS[metric_type].similarity
    nq = len(probes)
    keys = torch.full((nq, k), FLT_MAX, dtype=torch.float32, device=probes.device)
    ids = torch.full((nq, k), -1, dtype=torch.int64, device=probes.device)
    places = ids.clone()
    for storage, queries, some_rows in _portions(lists, probes, rows):
        distances, positions = scan(storage, queries, some_rows)
        new_keys = torch.cat([keys[queries], -distances if similarity else distances], 1)
        new_ids = torch.cat([ids[queries], storage.ids_at(positions)], 1)
        new_places = torch.cat([places[queries], storage.places_at(positions)], 1)
        keys[queries], columns = topk.sort_rows(new_keys, new_ids, k)
        ids[queries], places[queries] = new_ids.gather(1, columns), new_places.gather(1, columns)
        del storage
    # of equal keys the lowest id stands first, and those of missing ones are -1: nothing has their key
    return (keys.neg_() if similarity else keys), places


def range_search(
    lists: InvertedLists,
    probes: Tensor,
    rows: Tensor,
    scan: Callable[[ListStorage, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    max_empty_lists: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all entries of the probed lists within a radius.

    Parameters
    ----------
    lists, probes, rows
        As for `search`.
    scan : callable
        As for `search`, but it returns lims, distances and ids, list by list in the order of a query's probes.
    max_empty_lists : int
        As for `candidates.in_range`.

    Returns
    -------
    lims : Tensor, int64, shape (nq + 1,)
    distances : Tensor, float32
    ids : Tensor, int64
        In the order in which a search of all lists at once would have found them.
    """
    nq, device = len(probes), probes.device
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    found = [(nothing, torch.empty(0, dtype=torch.float32, device=device), nothing)]
    for storage, queries, some_rows in _portions(lists, probes, rows):
        lims, distances, positions = scan(storage, queries, some_rows)
        query = torch.repeat_interleave(queries, lims.diff())
        found.append((_pairs_of(probes, query, storage.list_nos_at(positions)), distances, storage.ids_at(positions)))
        del storage
    pairs, distances, ids = (torch.cat(columns) for columns in zip(*found, strict=True))
    pairs, order = pairs.sort(stable=True)
    if max_empty_lists:
        kept = candidates.before_giving_up(pairs, nq, probes.shape[1], max_empty_lists)
        pairs, order = pairs[kept], order[kept]
    lims = torch.zeros(nq + 1, dtype=torch.int64, device=device)
    counts = torch.bincount(torch.div(pairs, probes.shape[1], rounding_mode="floor"), minlength=nq)
    lims[1:] = counts.cumsum(0)
    return lims, distances[order], ids[order]


def _pairs_of(probes: Tensor, queries: Tensor, list_nos: Tensor) -> Tensor:
    """Return ``query * nprobe + rank`` of the list for pairs of a query and a list that it probes."""
    some, inverse = queries.unique(return_inverse=True)
    width = int(probes.max()) + 2 if probes.numel() else 1
    begins = torch.arange(0, len(some) * width, width, dtype=torch.int64, device=probes.device)
    keys, order = (begins[:, None] + probes[some] + 1).view(-1).sort()
    place = order[torch.searchsorted(keys, inverse * width + list_nos + 1)]
    nprobe = probes.shape[1]
    return some[torch.div(place, nprobe, rounding_mode="floor")] * nprobe + place % nprobe
