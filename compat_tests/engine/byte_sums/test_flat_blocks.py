"""One query or two among all stored rows, screened by blocks of codes: exact, whatever the data."""

import numpy as np
import pytest
from comparison import assert_same_neighbours
from screening import METRICS, NAMES, adversarial, few_queries_by_blocks

import faiss_torch
from faiss_torch.constants import METRIC_L1, METRIC_L2
from faiss_torch.ops.byte_sums import flat as flat_byte_sums
from faiss_torch.ops.runtime import arithmetic
from faiss_torch.ops.search import flat
from faiss_torch.parts.screens import equal_rows


@pytest.fixture(autouse=True)
def searched(monkeypatch):
    """What the screen by blocks gave, of each search: which queries it left, or None where it was not used."""
    few_queries_by_blocks(monkeypatch, 1)
    monkeypatch.setattr(flat_byte_sums, "FEWEST_ROWS", 1)
    monkeypatch.setattr(flat_byte_sums, "FEWEST_COMPONENTS", 1)
    monkeypatch.setattr(flat_byte_sums, "LARGEST_SHARE", 1)
    monkeypatch.setattr(flat, "FEW_FACTORS", 0)
    monkeypatch.setattr(equal_rows, "FEWEST_ROWS", 1 << 20)  # of equal rows most are not searched otherwise
    calls = []
    search = flat_byte_sums.search

    def watched(*arguments):
        found = search(*arguments)
        calls.append(None if found is None else [False] if found[2] is None else found[2].tolist())
        return found

    monkeypatch.setattr(flat_byte_sums, "search", watched)
    with arithmetic.pinned("int8"):
        yield calls


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def index_of(xb, metric_type=METRIC_L2):
    index = faiss_torch.IndexFlat(xb.shape[1], metric_type)
    index.add(xb)
    index.search(xb[:1], 2)  # what a search knows of the rows is there from the second one on
    return index


def assert_exact(index, xq, k):
    with arithmetic.pinned("none"):
        expected = index.search(xq, k)
    found = index.search(xq, k)
    scale = float(np.abs(expected[0][np.abs(expected[0]) < 1e38]).max(initial=0))
    assert_same_neighbours(*found, *expected, rtol=3e-5, atol=1e-5 * scale + 1e-30)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_adversarial_data(metric_type, name, searched):
    xb = adversarial(2500, 24)[name]
    index = index_of(xb, metric_type)
    for xq in (xb[:1], xb[-1:] * np.float32(1.01), np.concatenate([xb[7:8], np.zeros((1, 24), dtype=np.float32)])):
        for k in (1, 10, 200):
            assert_exact(index, xq, k)
            assert searched[-1] is not None
    if name == "normal":
        assert not any(map(any, (each for each in searched if each is not None)))


@pytest.mark.parametrize("n", [1, 3, 127, 129, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("d", [1, 3, 97])
def test_sizes(n, d, searched):
    index = index_of(normal(n, d))
    for k in (1, 7, n, n + 5):
        assert_exact(index, normal(2, d, seed=1), k)
    assert any(each is not None for each in searched)


def test_rows_that_come_and_go(searched):
    xb = normal(3000, 20)
    index = index_of(xb[:1500])
    for begin in range(1500, 3000, 500):
        index.add(xb[begin : begin + 500])
        assert_exact(index, normal(1, 20, seed=begin), 9)
        index.remove_ids(np.unique(index.search(xb[:2], 4)[1]))
        assert_exact(index, xb[:1], 9)
    index.reset()
    index.add(xb[:700])
    assert_exact(index, xb[:2], 9)
    assert searched[-1] is not None


def test_what_is_searched_in_another_way(searched):
    xb = normal(900, 20)
    index = index_of(xb)
    assert_exact(index, normal(3, 20, seed=1), 5)
    index.search(xb[:1], 5, params=faiss_torch.SearchParameters(sel=faiss_torch.IDSelectorRange(3, 800)))
    index_of(xb, METRIC_L1).search(xb[:1], 5)
    assert all(each is None for each in searched[1:])
    xq = normal(2, 20, seed=2)
    xq[1, 3] = np.nan
    assert_exact(index, xq, 5)
    assert searched[-1] == [True, True]
    index.add(np.full((1, 20), np.inf, dtype=np.float32))
    assert_exact(index, xq[:1], 5)
    assert searched[-1] is None
