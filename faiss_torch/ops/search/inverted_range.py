"""All within a radius in inverted lists: as `inverted`, for range searches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..gpu import lists as gpu_lists
from ..runtime import chunks
from ..scoring.candidates import Candidates, in_range
from ..scoring.scorers import Scorer
from ..scoring.stored import Lists
from ..tiles import lists as list_tiles
from . import by_list, by_query
from .inverted import Looked, Request, lists_to_scan, queries_at_a_time, rows_left, rows_to_scan
from .paths import Path


class Within(NamedTuple):
    """All rows within a radius of each query.

    Attributes
    ----------
    lims : Tensor, int64, shape (nq + 1,)
    distances : Tensor, float32, shape (lims[nq],)
    positions : Tensor, int64, shape (lims[nq],)
        Stored rows, list by list in the order of a query's probes.
    looked : Looked
    path : Path
        The one that was taken.
    """

    lims: Tensor
    distances: Tensor
    positions: Tensor
    looked: Looked
    path: Path


def within(
    request: Request,
    radius: float,
    lists: Lists,
    probes: Tensor,
    all_rows: Tensor | None = None,
    max_empty_lists: int = 0,
) -> Within:
    """Find all rows of the probed lists within a radius.

    Parameters
    ----------
    request, lists, probes
        As of `inverted.nearest`.
    radius : float
    all_rows : Tensor, int64, shape (nq, nprobe), optional
        As `rows` there.
    max_empty_lists : int
        See `candidates.in_range`.
    """
    xq = request.xq
    lists = lists_to_scan(request, lists, probes)
    if all_rows is not None or request.whole_queries:
        lists = lists.without_screens()
    lims, distances, positions = [torch.zeros(1, dtype=torch.int64, device=xq.device)], [], []
    looked: list[Looked] = []
    path = request.path
    for some in chunks.slices(len(xq), queries_at_a_time(probes.shape[1], xq.device, lists.tiles_for is not None)):
        if all_rows is None:
            rows, seen = rows_to_scan(request, lists, probes[some])
            looked.append(seen)
        else:
            rows = rows_left(all_rows[some], probes[some], lists)
        scorer = request.scorer_of(xq[some], lists)
        found, path = _candidates(request, scorer, lists, probes[some], rows, radius)
        joined = Candidates.concatenate(found, xq.device)
        part = in_range(joined, probes.shape[1], scorer, radius, request.metric_type, max_empty_lists)
        lims.append(part[0][1:] + lims[-1][-1])
        distances.append(part[1])
        positions.append(part[2])
    if not distances:
        return Within(lims[0], xq.new_empty(0), probes.new_empty(0), Looked(0, 0), path)
    found_rows = lists.stored.stored_rows(torch.cat(positions))
    return Within(torch.cat(lims), torch.cat(distances), found_rows, Looked.at_all(looked), path)


def _candidates(
    request: Request, scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, radius: float
) -> tuple[list[Candidates], Path]:
    """Rows of the probed lists that may be within a radius: screened by kernels or by tiles where that pays."""
    path = request.path
    scan = by_list.candidates if path.name == "csr" else by_query.candidates

    def by_scores(queries: Tensor) -> list[Candidates]:
        some = scorer.of_queries(queries)
        return scan(some, lists, probes[queries], rows[queries], some.score_of(radius) + some.margin)

    if scorer.by_products:
        metric_type, by_lists = request.metric_type, path.name == "csr"
        by_kernels = gpu_lists.candidates(scorer.xq, lists, probes, rows, radius, metric_type, by_lists)
        if by_kernels is not None:
            return by_kernels.completed(by_scores, probes.shape[1]), path
    tiles = list_tiles.tiles_of(scorer, lists, probes, rows, 1)
    if tiles is None:
        return scan(scorer, lists, probes, rows, scorer.score_of(radius) + scorer.margin), path
    path = Path("csr", f"lists are screened in {tiles.tile_set.arithmetic.name}")
    return list_tiles.candidates(scorer, tiles, probes, radius, by_scores), path
