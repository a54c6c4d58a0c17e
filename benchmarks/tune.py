"""Time block sizes of the kernels on a GPU: ``python -m benchmarks.tune``.

Prints, for each width, the row of ``faiss_torch/kernels/tuning.py`` that is there and the fastest that was tried, and
keeps both in the records. Nothing is tuned when the library is used.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from faiss_torch.kernels import tuning

from . import records
from .env import environment
from .workloads.device_work import gpu_seconds

WIDTHS = (16, 32, 64, 128, 256, 512)
REPEATS = 7


def nearest_rows(d: int) -> Iterator[tuning.NearestBlocks]:
    """Rows to be tried for the search of centroids."""
    widest = tuning.nearest_blocks(d).widest
    components = 64 if d > 256 else max(16, 1 << (d - 1).bit_length())
    sizes = itertools.product((64, 128), (32, 64, 128), (components,), (4, 8), (2, 3, 4))
    return (tuning.NearestBlocks(widest, *each) for each in sizes)


def minima_rows(d: int, blocks: int) -> Iterator[tuning.NearestBlocks]:
    """Rows for one width, of so many blocks of a tile."""
    return (row for row in nearest_rows(d) if row.centroids == blocks)


def update_rows(d: int) -> Iterator[tuning.UpdateBlocks]:
    """Rows to be tried for the update of centroids."""
    widest = tuning.update_blocks(d).widest
    sizes = itertools.product((128, 256, 512), (16, 32, 64), (min(128, max(16, 1 << (d - 1).bit_length())),), (2, 4, 8))
    return (tuning.UpdateBlocks(widest, *each) for each in sizes)


#: Queries that search, and lists that are searched, where a scan is timed.
QUERIES, LISTS = 8192, 512


def seconds(task: Callable[[], Any]) -> float:
    """Return the median time of a task on the GPU, after a run to compile it."""
    task()
    return statistics.median(gpu_seconds(task, REPEATS))


def tasks(d: int, n: int, k: int) -> dict[str, tuple[Callable[[], Any], Iterator[Any]]]:
    """Return what is timed for vectors of d components, by the table of its rows."""
    from faiss_torch.kernels import block_minima as block_minima_kernel
    from faiss_torch.kernels import list_minima
    from faiss_torch.kernels.block_minima import block_minima, rounded_rows
    from faiss_torch.kernels.centroid_update import centroid_update
    from faiss_torch.kernels.nearest import screen
    from faiss_torch.kernels.rounding import Rounded

    x = torch.randn(n, d, device="cuda", dtype=torch.float16)
    centroids = torch.randn(k, d, device="cuda")
    labels = torch.randint(0, k, (n,), device="cuda")
    queries, rows = x[:QUERIES].float(), rounded_rows(x.float(), True, torch.zeros(n, device="cuda"))
    begins = torch.arange(0, n, n // LISTS, device="cuda")[:LISTS]
    probes = torch.rand(QUERIES, LISTS, device="cuda").argsort(1)[:, : LISTS // 16].contiguous()
    limits = torch.full_like(probes, n // LISTS)

    def scan_lists() -> Any:
        groups = list_minima.Groups.by_list(probes, limits, begins, d)
        scan = list_minima.Scan(queries, rows, groups, limits, tuning.THRESHOLD_ROWS)
        return list_minima.minima_below(scan, queries.new_full((QUERIES,), float("-inf")), 1)

    return {
        "NEAREST": (lambda: screen(x[None], Rounded.make(centroids[None], True)), nearest_rows(d)),
        "UPDATE": (lambda: centroid_update(x, labels, k, None, centroids, True), update_rows(d)),
        "MINIMA": (lambda: block_minima(queries, rows, n, 32), minima_rows(d, block_minima_kernel.BLOCKS)),
        "LIST_MINIMA": (scan_lists, minima_rows(d, list_minima.BLOCKS)),
    }


def tried(table: str, task: Callable[[], Any], rows: Iterator[Any]) -> dict[Any, float]:
    """Return the seconds of rows; those that a GPU has no room for are left out."""
    found = {}
    before = getattr(tuning, table)
    try:
        for row in rows:
            setattr(tuning, table, (row._replace(widest=1 << 30),))
            try:
                found[row] = seconds(task)
            except Exception as error:  # of shared memory or registers, of several types
                print(f"  {row}: {type(error).__name__}", file=sys.stderr)
    finally:
        setattr(tuning, table, before)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Try rows for all widths."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description="Time block sizes of the kernels")
    parser.add_argument("--d", type=int, action="append", help="only this width; may be repeated")
    parser.add_argument("--n", type=int, default=1 << 20, help="vectors")
    parser.add_argument("--k", type=int, default=1024, help="centroids")
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS, help="the file of records")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    for d in options.d or WIDTHS:
        for table, (task, rows) in tasks(d, options.n, options.k).items():
            there = seconds(task)
            found = tried(table, task, rows)
            if not found:
                continue
            best = min(found, key=lambda row: found[row])
            print(f"{table} d={d}: {1e3 * there:.3f} ms as it is, {1e3 * found[best]:.3f} ms by {best}", flush=True)
            if not options.no_record:
                record = {"tuned": table, "d": d, "n": options.n, "k": options.k, "seconds": there}
                record |= {"best": best._asdict(), "best_seconds": found[best], "environment": environment()}
                records.append(record, options.records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
