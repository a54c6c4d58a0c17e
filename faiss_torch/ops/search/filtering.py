"""Searching only some of the stored rows: those that a selector lets through.

Two forms, chosen by how many there are:

- Many: the bias of the others is +inf, and the scan is the one over all rows.
- Few: the scan goes over the selected rows alone. ``Stored.rows`` names them, and each tile is gathered when it is
  read, so that there is never a copy of all of them.

A filter is asked once a call, and only about rows that the call reads. An example, two lists of which the second row
of the first and the first row of the second are selected (with room for four rows a list)::

    stored rows    0 1 2 . | 4 5 . .        begins 0, 4   sizes 3, 2
    selected         x     | x
    rows           1 . . . | 4 . . .        begins 0, 4   sizes 1, 1
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..scoring.ragged import ranges, rank_in_run
from ..scoring.stored import BLOCK, Lists, Stored, allowed_rows

#: Up to this share of selected rows they are gathered.
GATHER_SHARE = 0.25

#: From this share of rows in probed lists on, a filter is asked about the whole storage at once, gaps included: what
#: stands in one piece is read several times faster than what is gathered list by list.
WHOLE_STORAGE_SHARE = 0.4


def _whole_blocks(sizes: Tensor) -> Tensor:
    return (sizes + (BLOCK - 1)) // BLOCK * BLOCK


def narrowed(stored: Stored, selected: Tensor) -> tuple[Stored, int]:
    """Narrow stored rows to the selected ones.

    Parameters
    ----------
    stored : Stored
    selected : Tensor, bool, shape (n,)
        Of the n rows in use.

    Returns
    -------
    stored : Stored
        What to scan.
    n : int
        How many of its rows are in use.
    """
    n = len(selected)
    count = int(torch.count_nonzero(selected))
    if count == n:
        return stored, n
    if count <= GATHER_SHARE * n:
        rows = selected.nonzero().view(-1)
        padding = -count % BLOCK
        bias = torch.nn.functional.pad(stored.bias.index_select(0, rows), (0, padding), value=float("inf"))
        return stored._replace(bias=bias, rows=torch.nn.functional.pad(rows, (0, padding))), count
    bias = torch.full_like(stored.bias[: -(-n // BLOCK) * BLOCK], float("inf"))
    torch.where(selected, stored.bias[:n], bias[:n], out=bias[:n])
    return stored._replace(bias=bias), n


def narrowed_lists(
    lists: Lists,
    probes: Tensor,
    selected: Callable[[Tensor], Tensor],
    may_gather: bool = True,
    any_id: bool = True,
) -> Lists:
    """Narrow inverted lists to the selected rows.

    Parameters
    ----------
    lists : Lists
    probes : Tensor, int64
        All lists that will be read; -1 for none. Of others, what comes back says nothing.
    selected : callable
        Returns which ids are selected: int64, (n,) -> bool, (n,).
    may_gather : bool
        Whether the sizes of lists may become those of the selected rows.
    any_id : bool
        Whether `selected` may be asked about what stands in rows that hold nothing, which is faster.

    Returns
    -------
    Lists
    """
    probed = _probed_lists(lists, probes)
    begins, sizes = lists.begins[probed], lists.sizes[probed]
    total = int(sizes.sum())
    if not total:
        return lists
    end = int((begins + _whole_blocks(sizes)).max())
    if total >= WHOLE_STORAGE_SHARE * end:
        places, blocks = begins, None
        ids = lists.ids[:end]
    else:
        # lists begin with a block, and of the last one a scan reads the rows behind the list too
        rooms = _whole_blocks(sizes)
        places = rooms.cumsum(0) - rooms
        blocks = ranges(begins // BLOCK, rooms // BLOCK).to(lists.ids.device)
        ids = _as_blocks(lists.ids).index_select(0, blocks).view(-1)
    if any_id:
        mask = selected(ids)
    else:
        in_use = ranges(places, sizes).to(ids.device)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[in_use] = selected(ids[in_use])
    count = int(torch.count_nonzero(mask))  # with what is selected of the rows between lists, if anything
    if count == len(mask):
        return lists
    if may_gather and count <= GATHER_SHARE * total:
        hits = mask.nonzero().view(-1)
        firsts, counts = _runs(hits, places, sizes)
        chosen = hits[ranges(firsts, counts).to(hits.device)]
        if blocks is not None:
            chosen = blocks[chosen // BLOCK] * BLOCK + chosen % BLOCK
        return _gathered(lists, probed, counts, chosen)
    stored, found = _with_bias_of(lists.stored, mask, blocks)
    before = torch.nn.functional.pad(found.sum(1).cumsum(0), (1, 0)).cpu()
    counts = torch.zeros_like(lists.sizes)
    counts[probed] = before[(places + _whole_blocks(sizes)) // BLOCK] - before[places // BLOCK]
    return lists._replace(stored=stored, counts=counts, tiles_for=None)


def rows_within_budget(lists: Lists, probes: Tensor, max_codes: int) -> tuple[Tensor, Tensor]:
    """Return how many rows of each probed list a query looks at that may look at so many selected ones.

    As in faiss, each list is cut to what is left of the budget, whether its rows are selected or not; of what a query
    looks at, only what is selected counts.

    Parameters
    ----------
    lists : Lists
        Narrowed, and not gathered.
    probes : Tensor, int64, shape (nq, nprobe)
        The lists of each query, nearest first; -1 for none.
    max_codes : int

    Returns
    -------
    rows, found : Tensor, int64, shape (nq, nprobe)
        Rows looked at, and how many of them are selected.
    """
    probed = _probed_lists(lists, probes)
    sizes = lists.sizes[probed]
    bias = lists.stored.bias[ranges(lists.begins[probed], sizes).to(probes.device)]
    before = torch.nn.functional.pad((bias < float("inf")).cumsum(0), (1, 0))
    firsts = torch.zeros_like(lists.begins)
    firsts[probed] = sizes.cumsum(0) - sizes
    firsts = firsts.to(probes.device)[probes.clamp(min=0)]
    rows, found = allowed_rows(probes, lists.sizes, 0), torch.zeros_like(probes)
    left = torch.full((len(probes),), max_codes, dtype=torch.int64, device=probes.device)
    for rank in range(probes.shape[1]):
        rows[:, rank] = torch.minimum(rows[:, rank], left.clamp(min=0))
        found[:, rank] = before[firsts[:, rank] + rows[:, rank]] - before[firsts[:, rank]]
        left -= found[:, rank]
    return rows, found


def _as_blocks(rows: Tensor) -> Tensor:
    """All whole blocks of rows: a view, (n,) -> (n // BLOCK, BLOCK)."""
    return rows[: len(rows) // BLOCK * BLOCK].view(-1, BLOCK)


def _probed_lists(lists: Lists, probes: Tensor) -> Tensor:
    """The numbers of all lists that are probed and hold something: CPU, int64."""
    probed = torch.zeros(len(lists.sizes) + 1, dtype=torch.bool, device="cpu")
    probed[probes.reshape(-1).cpu()] = True  # -1 is the last one, which is no list
    return (probed[:-1] & (lists.sizes > 0)).nonzero().view(-1)


def _runs(hits: Tensor, places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Where in ascending hits those of ``[place, place + size)`` begin, and how many there are: CPU, int64."""
    bounds = torch.searchsorted(hits, torch.stack([places, places + sizes]).to(hits.device)).cpu()
    return bounds[0], bounds[1] - bounds[0]


def _with_bias_of(stored: Stored, mask: Tensor, blocks: Tensor | None) -> tuple[Stored, Tensor]:
    """Take rows that are not selected out; `blocks` says which blocks the mask is of, if not of the first ones.

    Returns
    -------
    stored : Stored
    found : Tensor, bool, shape (blocks of the mask, BLOCK)
        Which rows can be found.
    """
    bias = _as_blocks(stored.bias)
    shown = bias[: len(mask) // BLOCK] if blocks is None else bias.index_select(0, blocks)
    shown = shown.masked_fill(mask.logical_not().view(-1, BLOCK), float("inf"))
    found = shown < float("inf")
    if blocks is None:
        return stored._replace(bias=shown.view(-1)), found
    changed = torch.empty_like(stored.bias)  # of which only what is written now will be read
    _as_blocks(changed).index_copy_(0, blocks, shown)
    return stored._replace(bias=changed), found


def _gathered(lists: Lists, list_nos: Tensor, counts: Tensor, chosen: Tensor) -> Lists:
    """Make lists of chosen rows alone.

    Parameters
    ----------
    lists : Lists
    list_nos : Tensor, int64, CPU
        The lists that rows were chosen from; all others become empty.
    counts : Tensor, int64, CPU
        How many of each.
    chosen : Tensor, int64
        The rows, list by list.
    """
    device = chosen.device
    sizes = torch.zeros_like(lists.sizes)
    sizes[list_nos] = counts
    rooms = _whole_blocks(sizes)
    begins = rooms.cumsum(0) - rooms
    owner = torch.repeat_interleave(torch.arange(len(counts), dtype=torch.int64, device="cpu"), counts)
    target = (begins[list_nos][owner] + rank_in_run(owner, counts)).to(device)
    capacity = max(BLOCK, int(rooms.sum()))  # a scan may look at row 0 where there is nothing to find
    rows = torch.zeros(capacity, dtype=torch.int64, device=device)
    rows[target] = chosen
    bias = torch.full((capacity,), float("inf"), dtype=torch.float32, device=device)
    bias[target] = lists.stored.bias.index_select(0, chosen)
    stored = lists.stored._replace(bias=bias, rows=rows)
    return Lists(stored, begins, sizes, lists.ids[rows], whole_sizes=lists.sizes, rounded_for=lists.rounded_for)
