"""The k smallest of each row, ties to the lowest id."""

import torch
from torch import Tensor

from ..runtime.scripted import scripted


def smallest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest scores of each row, in no particular order, and their columns.

    Parameters
    ----------
    scores : Tensor, shape (n, width)
    k : int
        Where it exceeds the width, all columns come back.
    """
    if k >= scores.shape[1]:
        return scores, torch.arange(scores.shape[1], dtype=torch.int64, device=scores.device).expand(scores.shape)
    return torch.topk(scores, k, dim=1, largest=False, sorted=False)


@scripted
def _sorted_by_id_and_key(keys: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    by_id = ids.argsort(dim=1)
    keys, order = keys.gather(1, by_id).sort(dim=1, stable=True)
    return keys, by_id.gather(1, order)


@scripted
def sort_rows(keys: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sort each row by key, equal keys by id, and keep the first k.

    Parameters
    ----------
    keys : Tensor, shape (n, width)
    ids : Tensor, int64, shape (n, width)
    k : int
        At most the width.

    Returns
    -------
    keys : Tensor, shape (n, k)
    columns : Tensor, int64, shape (n, k)
        Where each stood.
    """
    if keys.size(1) == 1:
        return keys, torch.zeros_like(ids)
    if keys.is_cpu and 2 * k < keys.size(1):
        # the k smallest first, unless it is for the ids to say which of them they are
        best, columns = torch.topk(keys, k + 1, dim=1, largest=False)
        ties = best.narrow(1, 0, k) == best.narrow(1, 1, k)
        if not bool(ties.any()):
            return best.narrow(1, 0, k), columns.narrow(1, 0, k)
        if not bool(ties[:, k - 1].any()):
            keys, order = _sorted_by_id_and_key(best[:, :k], ids.gather(1, columns[:, :k]))
            return keys, columns.gather(1, order)
    keys, columns = _sorted_by_id_and_key(keys, ids)
    return keys[:, :k], columns[:, :k]


def pad(values: Tensor, k: int, fill: float) -> Tensor:
    """Widen rows to k columns with a fill value."""
    missing = k - values.shape[1]
    if missing <= 0:
        return values
    return torch.cat([values, values.new_full((len(values), missing), fill)], dim=1)
