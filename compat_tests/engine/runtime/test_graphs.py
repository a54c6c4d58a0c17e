"""Recorded searches: which are recorded, and that a recording is of what is searched now."""

import pytest
import torch

import faiss_torch
from faiss_torch import kernels
from faiss_torch.ops.runtime import cuda_graphs
from faiss_torch.ops.runtime.cuda_graphs import Graphs


class Table:
    """Searches a table; as a graph does, it writes what it finds to memory of its own."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def search(self, x):
        self.calls += 1
        out = torch.empty(len(x))

        def step():
            out.copy_(x.sum(1) + self.value)

        step()
        self.step = step
        return (out,)


@pytest.fixture
def starts(monkeypatch):
    """Count recordings and starts of what stands in for a graph where there is no GPU."""
    counts = {"recorded": 0, "started": 0}

    def recorded(step, device):
        step()
        counts["recorded"] += 1
        again = table.step

        def start():
            counts["started"] += 1
            again()

        return start

    table = Table(1.0)
    counts["table"] = table
    monkeypatch.setattr(cuda_graphs, "recorded", recorded)
    monkeypatch.setattr(kernels, "DEVICES", ("cpu",))
    return counts


def test_what_recurs_is_recorded(starts):
    table, known = starts["table"], Graphs()
    results = []
    for i in range(6):
        x = torch.full((3, 2), float(i))
        results.append(known.search(x, "k", (table,), table.search)[0])
    assert starts["recorded"] == 1
    assert starts["started"] == 6 - cuda_graphs.SEARCHES_BEFORE
    for i, found in enumerate(results):  # none is the memory of the recording
        assert found.tolist() == [2.0 * i + 1] * 3


def test_other_settings_and_another_basis(starts):
    table, known, other = starts["table"], Graphs(), object()
    x = torch.ones(3, 2)
    for _ in range(4):
        known.search(x, "k", (table,), table.search)
    started = starts["started"]
    known.search(x, "other", (table,), table.search)
    known.search(x[:2], "k", (table,), table.search)
    known.search(torch.ones(cuda_graphs.FEW_QUERIES + 1, 2), "k", (table,), table.search)
    assert starts["started"] == started
    table.value = 5.0
    assert known.search(x, "k", (other,), table.search)[0].tolist() == [7.0] * 3
    assert (starts["recorded"], starts["started"]) == (1, started)
    known.clear()
    assert not known._recordings


def test_what_cannot_be_recorded_is_not_tried_again(starts):
    table, known = starts["table"], Graphs()
    x = torch.ones(2, 2)
    for _ in range(6):
        assert known.search(x, "k", (table,), lambda x: None) is None
    assert starts["recorded"] == 0
    for _ in range(6):
        known.search(x, "large", (table,), table.search, read=cuda_graphs.MOST_READ + 1)
    assert starts["recorded"] == 0
    assert table.calls == 6


def test_not_more_than_some_are_kept(starts):
    table, known = starts["table"], Graphs()
    for settings in range(cuda_graphs.MOST_GRAPHS + 3):
        for _ in range(cuda_graphs.SEARCHES_BEFORE + 1):
            known.search(torch.ones(1, 2), settings, (table,), table.search)
    assert starts["recorded"] == cuda_graphs.MOST_GRAPHS + 3
    assert len(known._recordings) == cuda_graphs.MOST_GRAPHS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("factory", ["Flat", "IVF64,Flat"])
def test_few_queries_on_a_gpu(factory):
    x = torch.randn(20_000, 32, generator=torch.Generator().manual_seed(0))
    index = faiss_torch.index_factory(32, factory)
    index.train(x)
    index.add(x[:15_000])
    there = faiss_torch.index_factory(32, factory)
    there.train(x)
    there.add(x[:15_000])
    there.to("cuda")
    if factory != "Flat":
        index.nprobe = there.nprobe = 8
    for end in (15_000, 20_000):
        for i in range(6):
            for few in (x[i : i + 1], x[i : i + 5]):
                D, I = there.search(few.cuda(), 10)
                expected = index.search(few, 10)
                assert torch.equal(I.cpu(), expected[1])
                torch.testing.assert_close(D.cpu(), expected[0])
        if end == 15_000:
            index.add(x[15_000:])
            there.add(x[15_000:])
    assert "graph" not in kernels._given_up
