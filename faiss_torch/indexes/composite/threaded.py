"""ThreadedIndexBase: an index made of several others, which may live on several devices and work in parallel."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from ... import interrupts, threads
from ...interrupts import Call
from ...ops.runtime import streams
from ..base import Index

Result = TypeVar("Result")


def flags_behind_dimension(d: int | bool, *flags: bool | None) -> tuple[Any, ...]:
    """Read the two call forms of faiss's constructors: ``(d, flag, ...)`` and ``(flag, ...)``, which leaves d at 0.

    Parameters
    ----------
    d : int or bool
        The first argument.
    *flags : bool or None
        Those behind it; None where there was none.

    Returns
    -------
    tuple
        The dimension, then the flags.

    Raises
    ------
    TypeError
        If there is a flag too many.
    """
    if not isinstance(d, bool):
        return (d, *flags)
    if flags[-1] is not None:
        raise TypeError(f"expected (d, ...) or up to {len(flags)} flags, got {len(flags) + 1} flags")
    return (0, d, *flags[:-1])


class ThreadedIndexBase(Index):
    """Holds sub-indexes, and calls them one after the other or each in a thread of its own.

    Called as ``(d, threaded)``, or as ``(threaded)``: the dimension is then that of the first sub-index.

    Parameters
    ----------
    d : int
    threaded : bool
        Whether the sub-indexes work at the same time. The results are the same.

    Attributes
    ----------
    own_indices : bool
        Without effect: ownership is Python's.
    device : torch.device
        Where queries arrive and results are put together: that of the first sub-index.
    """

    own_indices: bool
    _indices: list[Index]
    _threaded: bool

    def __init__(self, d: int | bool = 0, threaded: bool | None = None) -> None:
        dimension, in_threads = flags_behind_dimension(d, threaded)
        super().__init__(dimension)
        self.own_indices = False
        self._indices = []
        self._threaded = bool(in_threads)

    # the sub-indexes

    def count(self) -> int:
        """Return the number of sub-indexes."""
        return len(self._indices)

    def at(self, i: int) -> Index:
        """Return a sub-index.

        Raises
        ------
        RuntimeError
            If there is none of that number.
        """
        if not 0 <= i < len(self._indices):
            raise RuntimeError(f"{type(self).__name__}.at: there is no sub-index {i}, only {len(self._indices)}")
        return self._indices[i]

    def addIndex(self, index: Index) -> None:
        """Take in another sub-index.

        Raises
        ------
        RuntimeError
            If it is in the collection already, or does not fit those that are.
        """
        if not isinstance(index, Index):
            raise TypeError(f"expected an index, got {type(index).__name__}")
        self._check_fits(index)
        if not self._indices and self.d == 0:
            self.d = index.d
        self._indices.append(index)
        self.syncWithSubIndexes()

    def _check_fits(self, index: Index) -> None:
        """Raise unless an index can be one of the sub-indexes."""
        if index is self:
            raise RuntimeError(f"addIndex: an {type(self).__name__} cannot be a sub-index of itself")
        if (self._indices or self.d) and index.d != self.d:
            raise RuntimeError(
                f"addIndex: dimension mismatch for newly added index; expecting dim {self.d}, "
                f"new index has dim {index.d}"
            )
        for present in self._indices:
            if present is index:
                raise RuntimeError("addIndex: attempting to add index that is already in the collection")
            if present.metric_type != index.metric_type:
                raise RuntimeError(
                    f"addIndex: newly added index is of metric type {index.metric_type}, those here of "
                    f"{present.metric_type}"
                )
            if present.is_trained != index.is_trained:
                raise RuntimeError(
                    f"addIndex: newly added index has is_trained={index.is_trained}, those here "
                    f"{present.is_trained}: train all of them or none"
                )

    def removeIndex(self, index: Index) -> None:
        """Give a sub-index back.

        Raises
        ------
        RuntimeError
            If it is not in the collection.
        """
        for position, present in enumerate(self._indices):
            if present is index:
                del self._indices[position]
                self.syncWithSubIndexes()
                return
        raise RuntimeError(f"removeIndex: the index is not one of the {len(self._indices)} sub-indexes")

    def syncWithSubIndexes(self) -> None:
        """Take over dimension, metric, state and number of vectors from the sub-indexes.

        Raises
        ------
        RuntimeError
            If they do not agree.
        """
        if not self._indices:
            self.is_trained, self.ntotal = False, 0
            return
        first = self._indices[0]
        for index in self._indices[1:]:
            mine = (first.d, first.metric_type, first.is_trained)
            other = (index.d, index.metric_type, index.is_trained)
            if mine != other:
                raise RuntimeError(f"sub-indexes differ in (d, metric_type, is_trained): {mine} and {other}")
        self.d, self.metric_type, self.is_trained = first.d, first.metric_type, first.is_trained
        self.device = first.device
        self.ntotal = self._ntotal_of_all()

    def _ntotal_of_all(self) -> int:
        return sum(index.ntotal for index in self._indices)

    def _require_some(self) -> None:
        if not self._indices:
            raise RuntimeError(f"{type(self).__name__} has no sub-index: add one with addIndex()")

    def _require_trained(self) -> None:
        self._require_some()
        for index in self._indices:
            index._require_trained()

    # calling them

    def runOnIndex(self, f: Callable[[int, Index], Any]) -> None:
        """Call ``f(number, sub-index)`` for each sub-index, in its thread where there are threads.

        Raises
        ------
        RuntimeError
            If calls failed; the others have run to their end.
        """
        self._on_each(f)

    def _on_each(self, f: Callable[[int, Index], Result]) -> list[Result]:
        """As `runOnIndex`, and return what the calls returned, in the order of the sub-indexes."""
        return on_each(self._indices, f, self._threaded, self.device)

    def _train(self, x: torch.Tensor) -> None:
        self._require_some()
        self._change_each(lambda no, index: index.train(x))

    def _reset(self) -> None:
        self._change_each(lambda no, index: index.reset())

    def _change_each(self, f: Callable[[int, Index], Any]) -> list[Any]:
        """Call what changes the sub-indexes; whatever happens, what is said of them is what they are."""
        try:
            results = self._on_each(f)
        except Exception:
            with contextlib.suppress(RuntimeError):  # that they do not agree now comes of the error
                self.syncWithSubIndexes()
            raise
        self.syncWithSubIndexes()
        return results

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        switches = [super()._moved(device, None), *(index._moved(device, dtype) for index in self._indices)]

        def switch() -> None:
            for part in switches:
                part()

        return switch


def on_each(
    indexes: Sequence[Index], f: Callable[[int, Any], Result], threaded: bool, device: torch.device
) -> list[Result]:
    """Call ``f(number, index)`` for each index, all at the same time if so wished.

    Parameters
    ----------
    indexes : sequence of Index
        They may live on several devices.
    f : callable
    threaded : bool
        Whether each call has a plain thread of its own. On the CPU each is then a call like those of several threads
        of a program, and they share the workers; on accelerators their work overlaps.
    device : torch.device
        Where what the calls share is.

    Returns
    -------
    list
        What the calls returned, in the order of the indexes.

    Raises
    ------
    RuntimeError
        If calls failed, with all their messages; the others have run to their end.
    """
    numbered = list(enumerate(indexes))
    if threaded and len(numbered) > 1:
        entries = streams.current({device, *(index.device for index in indexes)})
        call = Call(interrupts.current_call())
        with ThreadPoolExecutor(len(numbered), thread_name_prefix="faiss_torch sub-index") as pool:
            try:
                futures = [pool.submit(_in_thread, call, entries, f, no, index) for no, index in numbered]
                outcomes = [_outcome(future.result) for future in futures]
            except BaseException:
                call.stopped = True
                raise
    else:
        outcomes = [_outcome(functools.partial(f, no, index)) for no, index in numbered]
    failed = [(no, error) for no, (_, error) in enumerate(outcomes) if error is not None]
    if len(failed) == 1:
        error = failed[0][1]
        raise error if isinstance(error, RuntimeError) else RuntimeError(str(error)) from error
    if failed:
        messages = [f"Exception thrown from index {no}: {error}" for no, error in failed]
        raise RuntimeError("\n".join(messages)) from failed[0][1]
    return [result for result, _ in outcomes]


def _in_thread(
    call: Call, entries: list[streams.Entry], f: Callable[[int, Any], Result], no: int, index: Index
) -> Result:
    interrupts.work_for(call)
    with streams.entered(entries), threads.working_for_call():
        return f(no, index)


def _outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call returned, or the exception that it raised."""
    try:
        return call(), None
    except Exception as error:
        return None, error
