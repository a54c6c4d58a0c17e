"""The scan of inverted lists: what it reads, the choice of its path, and its plain reference.

Three texts of one concept: ``scan_reference`` here (the oracle), ``by_query`` (query-major) and ``by_list``
(list-major). All give the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..scoring.distances import METRICS, distance
from ..scoring.stored import SHORT_LIST, Lists

#: On the CPU a batch goes list-major when a list has at least this many of its queries on average. With 512 lists of
#: 512 vectors the query-major path was the faster one at 2 queries a list, and the slower one at 8.
CPU_CSR_GROUP = 4.0


class Path(NamedTuple):
    """The path a scan takes, and why: readable from an index after a search."""

    name: str
    reason: str


def choose_path(
    mode: str,
    nq: int,
    nprobe: int,
    nlist: int,
    device_type: str,
    threshold: float,
    mean_size: float = float("inf"),
) -> Path:
    """Choose between the query-major and the list-major path.

    Parameters
    ----------
    mode : str
        "auto", "matrix" or "csr".
    nq, nprobe, nlist : int
    device_type : str
        "cpu", "cuda" ...
    threshold : float
        ``auto_search_avg_group_threshold`` of the index, used on accelerators.
    mean_size : float
        Entries of a list on average.

    Returns
    -------
    Path

    Raises
    ------
    RuntimeError
        If the mode is none of the three.
    """
    if mode not in ("auto", "matrix", "csr"):
        raise RuntimeError(f"search_mode is {mode!r}, expected 'auto', 'matrix' or 'csr'")
    if mode != "auto":
        return Path(mode, f"search_mode is {mode!r}")
    group = nq * min(nprobe, nlist) / max(1, nlist)
    if device_type == "cpu" and mean_size < SHORT_LIST:
        return Path("matrix", f"lists of {mean_size:.1f} entries on average are gathered, those below {SHORT_LIST}")
    if device_type == "cpu":
        bound = CPU_CSR_GROUP
        rule = f"average group of {group:.2f} queries a list against {bound:.2f} on the CPU"
    else:
        bound = threshold * nlist / 512
        rule = f"average group of {group:.2f} queries a list against {threshold:g} * nlist / 512 = {bound:.2f}"
    return Path("csr" if group >= bound else "matrix", rule)


def scan_reference(
    xq: Tensor,
    lists: Lists,
    probes: Tensor,
    rows: Tensor,
    k: int,
    metric_type: int,
    metric_arg: float = 0.0,
    selected: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The plain version: one query and one list at a time; ties to the lowest id.

    Parameters
    ----------
    xq : Tensor, shape (nq, d)
    lists : Lists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query and how many rows of each count.
    selected : callable, optional
        Returns which ids may be found.

    Returns
    -------
    distances : Tensor, shape (nq, k)
    ids : Tensor, int64, shape (nq, k)
    """
    largest = torch.finfo(torch.float32).max
    similarity = METRICS[metric_type].similarity
    distances = xq.new_full((len(xq), k), -largest if similarity else largest)
    ids = torch.full((len(xq), k), -1, dtype=torch.int64, device="cpu")
    for i, q in enumerate(xq):
        found = []
        for list_no, n in zip(probes[i].tolist(), rows[i].tolist(), strict=True):
            begin = int(lists.begins[list_no])
            keys = distance(q, lists.stored.part(begin, begin + n).to(q.dtype), metric_type, metric_arg)
            signed = (-keys if similarity else keys).tolist()
            row_ids = lists.ids[begin : begin + n]
            usable = lists.stored.bias[begin : begin + n] != float("inf")
            if selected is not None:
                usable &= selected(row_ids)
            columns = zip(signed, row_ids.tolist(), usable.tolist(), strict=True)
            found += [(key, j) for key, j, use in columns if use and key < largest]
        for j, (key, row_id) in enumerate(sorted(found)[:k]):
            distances[i, j], ids[i, j] = (-key if similarity else key), row_id
    return distances, ids
