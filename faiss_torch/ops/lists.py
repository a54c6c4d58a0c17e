"""Ragged arithmetic: which queries probe which lists, and where the entries of lists stand.

A worked example, two queries that probe lists (2, 0) and (0, 1)::

    probes            [[2, 0], [0, 1]]
    pair              0 1 2 3          (query * nprobe + rank)
    grouped by list   list 0: pairs 1, 2   list 1: pair 3   list 2: pair 0
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """Pairs of a query and a list, sorted by list.

    Attributes
    ----------
    list_nos : list of int
        The lists that are probed at all, ascending.
    lims : list of int
        Group j is ``pairs[lims[j]:lims[j + 1]]``.
    pairs : Tensor, int64
        ``query * nprobe + rank``, ascending within a group.
    """

    list_nos: list[int]
    lims: list[int]
    pairs: Tensor


def group_by_list(probes: Tensor, chosen: Tensor) -> Groups:
    """Sort the chosen pairs of a query and a list by list.

    Parameters
    ----------
    probes : Tensor, int64, shape (nq, nprobe)
        List numbers; those of pairs that are not chosen are not read.
    chosen : Tensor, bool, shape (nq, nprobe)
    """
    pairs = chosen.view(-1).nonzero().view(-1)
    list_nos, order = probes.reshape(-1)[pairs].sort(stable=True)
    present, counts = torch.unique_consecutive(list_nos, return_counts=True)
    lims = torch.zeros(len(counts) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=lims[1:]) if not counts.is_cuda else lims[1:].copy_(counts.cumsum(0))
    return Groups(present.tolist(), lims.tolist(), pairs[order])


def ranges(begins: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate ``range(begin, begin + length)`` over all rows.

    >>> ranges(torch.tensor([5, 0]), torch.tensor([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    there = lengths > 0
    begins, lengths = begins[there], lengths[there]
    if not len(begins):
        return begins
    ends = lengths.cumsum(0)
    # each step is 1 but at the start of a range, where it jumps from the end of the one before
    steps = torch.ones(int(ends[-1]), dtype=torch.int64, device=begins.device)
    steps[0] = begins[0]
    steps[ends[:-1]] = begins[1:] - (begins[:-1] + lengths[:-1] - 1)
    return steps.cumsum_(0)


def rank_in_run(sorted_keys: Tensor, counts: Tensor) -> Tensor:
    """Return each element's place within its run of equal keys.

    Parameters
    ----------
    sorted_keys : Tensor, int64, shape (n,)
        Ascending.
    counts : Tensor, int64
        ``bincount`` of the keys.
    """
    begins = counts.cumsum(0) - counts
    return torch.arange(len(sorted_keys), device=sorted_keys.device) - begins[sorted_keys]


def order_after_removal(selected: Tensor) -> Tensor:
    """Return which old entry stands at each place of a list after a removal, in faiss's order.

    Each gap takes the last entry of the list that stays and has not moved yet.

    Parameters
    ----------
    selected : Tensor, bool, shape (n,)
        The entries that are removed.

    Returns
    -------
    Tensor, int64

    >>> order_after_removal(torch.tensor([True, False, True, False, True, False])).tolist()
    [5, 1, 3]
    """
    kept = int((~selected).sum())
    order = torch.arange(kept, device=selected.device)
    order[selected[:kept]] = (~selected[kept:]).nonzero().view(-1).flip(0) + kept
    return order
