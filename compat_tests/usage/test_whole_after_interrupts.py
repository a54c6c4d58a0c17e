"""An index whose change is stopped is as it was, or changed: at whatever point it is stopped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from faiss_torch import interrupts
from faiss_torch.ops.runtime import chunks
from faiss_torch.parts.lists import storage

D, N = 8, 2000


def rows(n, seed):
    return np.random.RandomState(seed).randn(n, D).astype("float32")


X, Y, QUERIES = rows(N, 0), rows(500, 1), rows(12, 2)


def flat(ours):
    index = ours.IndexFlatL2(D)
    index.add(X)
    return index


def ivf(ours, with_map=0):
    index = ours.index_factory(D, "IVF20,Flat")
    index.train(X)
    index.add(X)
    index.nprobe = 20
    if with_map:
        index.set_direct_map_type(with_map)
    return index


def with_copies(ours):
    """Lists of which searches have made copies for their screens."""
    index = ivf(ours)
    for _ in range(4):
        index.search(np.repeat(QUERIES, 40, 0), 5)
        index.search(QUERIES[:1], 5)
    return index


def deduplicated(ours):
    index = ours.IndexIVFFlatDedup(ours.IndexFlatL2(D), D, 20)
    index.train(X)
    index.add(np.vstack([X, X[:300]]))
    index.nprobe = 20
    return index


def id_map(ours, wrapped=flat):
    index = wrapped(ours)
    index.reset()
    index = ours.IndexIDMap2(index)
    index.add_with_ids(X, np.arange(N) * 3)
    return index


def several(ours, index, add):
    for _ in range(2):
        getattr(index, add)(ours.IndexFlatL2(D))
    index.add(X)
    return index


MAKERS = {
    "flat": flat,
    "ivf": ivf,
    "ivf with copies": with_copies,
    "ivf with an array": lambda ours: ivf(ours, ours.DirectMap.Array),
    "ivf with a hash table": lambda ours: ivf(ours, ours.DirectMap.Hashtable),
    "dedup": deduplicated,
    "id map": id_map,
    "id map of ivf": lambda ours: id_map(ours, ivf),
    "shards": lambda ours: several(ours, ours.IndexShards(D, False, True), "add_shard"),
    "replicas": lambda ours: several(ours, ours.IndexReplicas(D), "addIndex"),
}

CHANGES = {
    "add": lambda ours, index, other: index.add(Y),
    "add one": lambda ours, index, other: index.add(Y[:1]),
    "add with ids": lambda ours, index, other: index.add_with_ids(Y, np.arange(10_000, 10_000 + len(Y))),
    "remove": lambda ours, index, other: index.remove_ids(np.arange(0, N, 2)),
    "remove a range": lambda ours, index, other: index.remove_ids(ours.IDSelectorRange(5, 1500)),
    "update": lambda ours, index, other: index.update_vectors(np.arange(50), Y[:50]),
    "merge": lambda ours, index, other: index.merge_from(other, 0),
    "permute": lambda ours, index, other: index.permute_entries(np.random.RandomState(1).permutation(N)),
    "float16": lambda ours, index, other: index.to("cpu", dtype=torch.float16),
    "search": lambda ours, index, other: index.search(np.repeat(QUERIES, 40, 0), 5),
    "search one": lambda ours, index, other: index.search(QUERIES[:1], 5),
}


class Checks:
    """Counts where calls can be stopped, and stops one there."""

    def __init__(self, monkeypatch):
        self.count, self.stop_at = 0, None
        self._check = interrupts.check
        monkeypatch.setattr(interrupts, "check", self.check)

    def check(self):
        self.count += 1
        if self.count == self.stop_at:
            call = interrupts.current_call()
            while call.outer is not None:
                call = call.outer
            call.stopped = True
        self._check()


class Seen(NamedTuple):
    ntotal: int
    distances: list
    labels: list
    of_many: list
    stored: int


def seen(index):
    distances, labels = index.search(QUERIES, 8)
    of_many = index.search(np.repeat(QUERIES, 40, 0), 8)[1]
    lists = getattr(index, "invlists", None)
    stored = lists.compute_ntotal() if lists is not None else len(getattr(index, "id_map", []))
    return Seen(index.ntotal, np.minimum(distances, 1e30).round(3).tolist(), labels.tolist(), of_many.tolist(), stored)


@pytest.fixture
def checks(monkeypatch):
    """Work is cut to small pieces, so that there are many points."""
    monkeypatch.setattr(chunks.rows_within, "__defaults__", (1 << 12,))
    monkeypatch.setattr(chunks, "TEMPORARY_BYTES", 1 << 12)
    monkeypatch.setattr(storage, "WRITTEN_BYTES", 1 << 10)
    return Checks(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_change_is_made_or_not(ours, checks, kind, change):
    make, change = MAKERS[kind], CHANGES[change]

    def attempt(stop_at=None):
        index, other = make(ours), make(ours)
        checks.count, checks.stop_at = 0, stop_at
        stopped = False
        try:
            change(ours, index, other)
        except interrupts.Stopped:
            stopped = True
        finally:
            checks.stop_at = None
        return index, other, stopped, checks.count

    before = seen(make(ours))
    try:
        changed, emptied, _, count = attempt()
    except (RuntimeError, AttributeError, AssertionError):
        pytest.skip("not for such an index")
    after, others = seen(changed), {False: seen(emptied), True: before}
    points = {1, 2, 3, count, *np.random.RandomState(count).randint(1, count + 1, 3).tolist()} if count else ()
    for point in points:
        index, other, stopped, _ = attempt(point)
        found = seen(index)
        assert found == (before if stopped else after), point
        assert seen(other) == others[stopped], point
        if stopped:  # it can still be made
            change(ours, index, other)
            assert seen(index) == after, point
