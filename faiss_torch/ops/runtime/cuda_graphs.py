"""CUDA's graphs: what a GPU is to do, recorded once and then started as one where starting its parts takes longest."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from ... import forks, kernels

#: Up to so many queries, a search takes less time than it takes to start its kernels one by one.
FEW_QUERIES = 32

#: Components of rows that a query reads, at most: with more, starting kernels matters little, and what they store is
#: large.
MOST_READ = 1 << 27

#: Searches of one kind that are done before it is recorded.
SEARCHES_BEFORE = 2

#: Searches that an index keeps graphs of.
MOST_GRAPHS = 8

#: As many searches after which one is recorded that cannot be.
NEVER = -(1 << 60)

#: What a search takes, and what it returns: None where a kernel fails.
Work = Callable[[Tensor], tuple[Tensor, ...] | None]


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None] | None:
    """Record what a step queues on a GPU.

    Parameters
    ----------
    step : callable
        Has run before; it must not wait for the device, and its tensors stay where they are.
    device : torch.device

    Returns
    -------
    callable or None
        Queues the same again; None where there are no graphs, or this cannot be one.
    """
    if device.type != "cuda" or not kernels.chosen("graph", device):
        return None
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    try:
        # not by torch.cuda.graph, which keeps the stream of one device for all, and stays on it after an error
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                step()
            finally:
                graph.capture_end()
    except torch.cuda.OutOfMemoryError:
        return None
    except Exception as error:
        kernels.give_up("graph", error)
        return None
    return graph.replay


class _Recording(NamedTuple):
    """A search that can be started again: its queries are copied to `x`, and `found` is what it found."""

    x: Tensor
    found: tuple[Tensor, ...]
    start: Callable[[], None]
    basis: tuple[object, ...]


class Graphs:
    """Recorded searches of few queries, by their settings."""

    _busy = forks.Lock()

    def __init__(self) -> None:
        self._recordings: dict[Hashable, _Recording] = {}
        self._searches: dict[Hashable, tuple[tuple[int, ...], int]] = {}

    def clear(self) -> None:
        """Forget all recordings, and what they hold."""
        if self._searches:
            with self._busy:
                self._recordings.clear()
                self._searches.clear()

    def search(
        self, x: Tensor, settings: Hashable, basis: tuple[object, ...], work: Work, read: int = 0
    ) -> tuple[Tensor, ...] | None:
        """Search, by a recording where the same has been done before.

        Parameters
        ----------
        x : Tensor, shape (nq, d)
        settings : hashable
            All that the work depends on, but for the queries and the basis.
        basis : tuple of object
            What is searched, each a new object where it has changed.
        work : callable
            Takes queries and returns tensors; it does not wait for the device.
        read : int
            Components of rows that a query reads.
        """
        if x.device.type not in kernels.DEVICES or not 0 < len(x) <= FEW_QUERIES or read > MOST_READ:
            return work(x)
        stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
        key = (settings, len(x), stream)
        with self._busy:  # from the copy of the queries to that of the results, its memory is of one search
            recording = self._recordings.get(key)
            if recording is None or any(a is not b for a, b in zip(recording.basis, basis, strict=True)):
                self._recordings.pop(key, None)
                recording = self._record(x, key, basis, work) if self._recurs(key, basis) else None
            if recording is not None:
                recording.x.copy_(x)
                recording.start()
                return tuple(each.clone() for each in recording.found)
        return work(x)

    def _recurs(self, key: Hashable, basis: tuple[object, ...]) -> bool:
        """Count a search, and say whether there were enough of them to record one."""
        names = tuple(map(id, basis))
        before, count = self._searches.get(key, (names, 0))
        if len(self._searches) > MOST_GRAPHS:
            self._searches.clear()
        self._searches[key] = (names, count + 1 if before == names or count < 0 else 1)
        return self._searches[key][1] > SEARCHES_BEFORE

    def _record(self, x: Tensor, key: Hashable, basis: tuple[object, ...], work: Work) -> _Recording | None:
        own_x = x.clone()
        found = list[Tensor]()

        def step() -> None:
            results = work(own_x)
            assert results is not None
            found[:] = results

        # kernels are compiled for how their arguments are aligned, which cannot be done while they are recorded
        start = None if work(own_x) is None else recorded(step, x.device)
        if start is None:
            self._searches[key] = self._searches[key][0], NEVER
            return None
        if len(self._recordings) >= MOST_GRAPHS:
            self._recordings.pop(next(iter(self._recordings)))
        self._recordings[key] = recording = _Recording(own_x, tuple(found), start, basis)
        return recording
