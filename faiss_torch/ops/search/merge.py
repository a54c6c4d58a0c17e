"""Joining the results that several parts of a database gave for the same queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..scoring import topk


def nearest_of_parts(
    distances: Sequence[Tensor], labels: Sequence[Tensor], k: int, similarity: bool
) -> tuple[Tensor, Tensor]:
    """Return the k nearest of the results of all parts, ties to the lowest label.

    Parameters
    ----------
    distances : sequence of Tensor, float32, shape (n, k)
        The results of each part, on one device.
    labels : sequence of Tensor, int64, shape (n, k)
        Negative where a part has no result; such a result comes behind all others.
    k : int
    similarity : bool
        Whether larger is nearer.

    Returns
    -------
    distances : Tensor, float32, shape (n, k)
    labels : Tensor, int64, shape (n, k)
    """
    all_distances, all_labels = torch.cat(list(distances), dim=1), torch.cat(list(labels), dim=1)
    none = all_labels < 0
    keys = (-all_distances if similarity else all_distances).masked_fill(none, float("inf"))
    order = topk.sort_rows(keys, all_labels.masked_fill(none, torch.iinfo(torch.int64).max), k)[1]
    return all_distances.gather(1, order), all_labels.gather(1, order)


def ranges_of_parts(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Join the range results of all parts: for each query those of the first part, then of the second ...

    Parameters
    ----------
    parts : sequence of (lims, distances, labels)
        For the same queries, on one device: lims int64 (n + 1,), and two tensors (lims[n],).

    Returns
    -------
    lims, distances, labels : Tensor
        Of the same form.
    """
    lims = torch.stack([part[0] for part in parts]).sum(0)
    nq = len(lims) - 1
    queries = torch.arange(nq, dtype=torch.int64, device=lims.device)
    owners = torch.cat([torch.repeat_interleave(queries, part[0].diff()) for part in parts])
    order = owners.argsort(stable=True)
    return lims, torch.cat([part[1] for part in parts])[order], torch.cat([part[2] for part in parts])[order]
