"""Ragged arithmetic: which queries probe which lists, and where the entries of lists stand.

A worked example, two queries that probe lists (2, 0) and (0, 1)::

    probes            [[2, 0], [0, 1]]
    pair              0 1 2 3          (query * nprobe + rank)
    grouped by list   list 0: pairs 1, 2   list 1: pair 3   list 2: pair 0
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.scripted import scripted


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
    lims = torch.zeros(len(counts) + 1, dtype=torch.int64, device="cpu")
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
    return torch.arange(len(sorted_keys), dtype=torch.int64, device=sorted_keys.device) - begins[sorted_keys]


def moves_of_removal(selected: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which entries of lists move where in a removal, in faiss's order.

    Each gap takes the last entry of its list that stays and has not moved yet. What is left of a list is then its
    first entries.

    Parameters
    ----------
    selected : Tensor, bool, shape (n,)
        The entries that are removed, of all lists one behind the other.
    sizes : Tensor, int64, shape (nlist,)
        Their sum is n.

    Returns
    -------
    gaps, movers : Tensor, int64
        Entry ``movers[i]`` moves to where ``gaps[i]`` stands.
    left : Tensor, int64, shape (nlist,)
        The sizes afterwards.

    >>> selected = torch.tensor([1, 0, 1, 0, 1, 0, 1, 0]).bool()
    >>> [part.tolist() for part in moves_of_removal(selected, torch.tensor([6, 2]))]
    [[0, 2, 6], [5, 3, 7], [3, 1]]
    """
    list_nos = torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int64, device=selected.device), sizes)
    left = sizes - torch.bincount(list_nos[selected], minlength=len(sizes))
    inside = rank_in_run(list_nos, sizes) < left[list_nos]
    gaps = (selected & inside).nonzero().view(-1)
    movers = (~selected & ~inside).nonzero().view(-1).flip(0)
    return gaps, movers[list_nos[movers].argsort(stable=True)], left


def order_after_removal(selected: Tensor) -> Tensor:
    """Return which old entry stands at each place of one list after a removal: see `moves_of_removal`.

    >>> order_after_removal(torch.tensor([True, False, True, False, True, False])).tolist()
    [5, 1, 3]
    """
    size = torch.tensor([len(selected)], dtype=torch.int64, device=selected.device)
    gaps, movers, left = moves_of_removal(selected, size)
    order = torch.arange(int(left), dtype=torch.int64, device=selected.device)
    order[gaps] = movers
    return order


@scripted
def entries_at(table: Tensor, positions: Tensor) -> Tensor:
    """Return the entries of a table at positions; -1 where there is none.

    Parameters
    ----------
    table : Tensor, int64, shape (n,)
    positions : Tensor, int64
        Any numbers, on the same device.

    >>> entries_at(torch.tensor([30, 40]), torch.tensor([1, 2, -1, 0])).tolist()
    [40, -1, -1, 30]
    """
    if table.size(0) == 0:
        return torch.full_like(positions, -1)
    within = positions.clamp(0, table.size(0) - 1)
    return table.index_select(0, within.reshape(-1)).view_as(within).masked_fill_(within != positions, -1)
