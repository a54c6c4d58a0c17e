"""The query-major scan: all rows that one query probes, for few queries at a time.

On the CPU each query reads its lists where they lie, by one matrix-vector product a list. On an accelerator, and where
lists are short, the rows of a group of queries are gathered, so that the number of operations does not grow with
nprobe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ...threads import omp_get_max_threads
from ..runtime import chunks, workers
from ..scoring import ragged
from ..scoring.candidates import Candidates
from ..scoring.distances import METRICS
from ..scoring.scorers import Scorer, Visit
from ..scoring.stored import SHORT_LIST, Lists, rows_to_gather
from ..scoring.verify import verified_topk

Result = TypeVar("Result")

#: Bytes of the rows that are gathered at once on the CPU.
CPU_GATHERED_BYTES = 4 << 20


def search(
    scorer: Scorer, stored_lists: Lists, probes: Tensor, rows: Tensor, k: int, metric_type: int
) -> tuple[Tensor, Tensor]:
    """Return the k closest rows of the probed lists.

    Parameters
    ----------
    scorer : Scorer
    stored_lists : Lists
    probes, rows : Tensor, int64, shape (nq, nprobe)
        The lists of each query and how many rows of each count.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
    positions : Tensor, int64, shape (nq, k)
        Stored rows, -1 where there are fewer than k.
    """
    similarity = METRICS[metric_type].similarity

    def part(queries: slice) -> tuple[Tensor, Tensor]:
        group = torch.arange(queries.start, queries.stop, dtype=torch.int64, device=probes.device)
        scores, positions = _scores(scorer, stored_lists, probes[queries], rows[queries], group)
        return verified_topk(scorer, group, scores, positions, stored_lists.ids, k, similarity)

    parts = _over_queries(part, rows, scorer)
    if not parts:
        return scorer.xq.new_empty(0, k), probes.new_empty(0, k)
    return torch.cat([D for D, _ in parts]), torch.cat([positions for _, positions in parts])


def candidates(
    scorer: Scorer, stored_lists: Lists, probes: Tensor, rows: Tensor, thresholds: Tensor
) -> list[Candidates]:
    """Return all rows of the probed lists whose score does not exceed the query's threshold."""
    nprobe = probes.shape[1]

    def part(queries: slice) -> Candidates:
        group = torch.arange(queries.start, queries.stop, dtype=torch.int64, device=probes.device)
        scores, positions = _scores(scorer, stored_lists, probes[queries], rows[queries], group)
        inside = (scores <= thresholds[queries, None]) & (scores < float("inf"))
        query, column = inside.nonzero(as_tuple=True)
        # the ends of all lists of all queries of the group, on one axis
        width = scores.shape[1]
        ends = (rows[queries].cumsum(1) + (group - queries.start)[:, None] * width).view(-1)
        rank = torch.searchsorted(ends, query * width + column, right=True) - query * nprobe
        return Candidates(group[query] * nprobe + rank, positions[query, column], scores[query, column])

    return _over_queries(part, rows, scorer)


def _over_queries(part: Callable[[slice], Result], rows: Tensor, scorer: Scorer) -> list[Result]:
    """Run a function over slices of the queries: single ones of long lists on the CPU, else what may be gathered."""
    on_cpu = rows.device.type == "cpu"
    if on_cpu and int(rows.sum()) >= SHORT_LIST * int((rows > 0).sum()):
        return workers.map_over_workers(part, chunks.slices(len(rows), 1), omp_get_max_threads())
    width = int(rows.sum(1).max()) if len(rows) else 0
    row_bytes = 4 * max(1, width) * (scorer.xq.shape[1] + 4)
    step = chunks.rows_within(row_bytes, CPU_GATHERED_BYTES if on_cpu else chunks.TEMPORARY_BYTES)
    return workers.map_over_workers(part, chunks.slices(len(rows), step), omp_get_max_threads() if on_cpu else 1)


def _scores(scorer: Scorer, stored_lists: Lists, probes: Tensor, rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and stored rows of everything a group of queries probes: (n, width), +inf where a query has fewer."""
    begins = stored_lists.begins.to(probes.device)[probes.clamp(min=0)]
    if len(group) == 1 and probes.device.type == "cpu":
        scores = scorer.xq.new_empty(int(rows.sum()))
        positions = ragged.ranges(begins[0], rows[0])[None]
        if scorer.stored.rows is not None:
            # few rows of each list, which have to be gathered anyhow
            for part in chunks.slices(len(scores), rows_to_gather(4 * scorer.xq.shape[1], scores.device)):
                scores[part] = scorer.gathered(group, positions[:, part])[0]
            return scores[None], positions
        looked = zip(probes[0].tolist(), begins[0].tolist(), rows[0].tolist(), strict=True)
        visits = [Visit(list_no, begin, begin + n, group) for list_no, begin, n in looked if n]
        if visits:
            scorer.rows_of(visits, scores)
        return scores[None], positions
    lengths = rows.sum(1)
    width = max(1, int(lengths.max()))
    flat = ragged.ranges(begins.reshape(-1), rows.reshape(-1))
    owner = torch.arange(len(group), dtype=torch.int64, device=probes.device)
    owner = torch.repeat_interleave(owner, lengths, output_size=len(flat))
    positions = probes.new_zeros(len(group), width)
    present = torch.zeros(len(group), width, dtype=torch.bool, device=probes.device)
    target = (owner, ragged.rank_in_run(owner, lengths))
    positions[target] = flat
    present[target] = True
    return scorer.gathered(group, positions).masked_fill_(~present, float("inf")), positions
