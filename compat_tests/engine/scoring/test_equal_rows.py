"""Data of which many rows are equal, or one is much larger than the others: what is found is what there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2
from faiss_torch.ops.byte_sums import loops as byte_sum_loops
from faiss_torch.ops.runtime import arithmetic
from faiss_torch.ops.scoring import verify
from faiss_torch.ops.scoring.equal_rows import Rows, are_repeated, ranks_among_equals
from faiss_torch.ops.search import flat
from faiss_torch.parts.clustering import assignment

D = 24


def normal(n, seed=0):
    return np.random.RandomState(seed).randn(n, D).astype("float32")


def outlying(n):
    x = normal(n)
    x[n // 3] *= 1e6
    x[n // 2] *= -1e5
    return x


def half_zero(n):
    x = normal(n)
    x[::2] = 0
    return x


DATA = {
    "equal": lambda n: np.repeat(normal(1), n, 0),
    "zeros": lambda n: np.zeros((n, D), "float32"),
    "20 different": lambda n: normal(20)[np.random.RandomState(1).randint(0, 20, n)],
    "half zero": half_zero,
    "one larger": outlying,
    "normal": normal,
}

data = pytest.mark.parametrize("name", DATA)
metrics = pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1])


def assert_exact(index, xq, k, **settings):
    """The distances of the definition, and ids in the order of distance and id."""
    with arithmetic.pinned("none"):
        index_of_definition = faiss_torch.clone_index(index)
        for present in (index_of_definition, getattr(index_of_definition, "index", None)):
            if getattr(present, "invlists", None) is not None:
                present.nprobe = index.nprobe
        expected = index_of_definition.search(xq, k, **settings)
    found = index.search(xq, k, **settings)
    scale = float(np.abs(expected[0][np.abs(expected[0]) < 1e38]).max(initial=0))
    assert_same_neighbours(*found, *expected, rtol=3e-5, atol=1e-6 * scale)
    ties = found[0][:, 1:] == found[0][:, :-1]
    assert (np.diff(found[1], axis=1)[ties & (found[1][:, 1:] >= 0)] > 0).all()


@pytest.fixture(autouse=True)
def screened_by_definition_too(monkeypatch):
    """Without what a clone would know of equal rows."""
    from faiss_torch.parts.screens.equal_rows import EqualRows

    needed = EqualRows._needed_for

    def unless_by_definition(self, *arguments):
        return None if arithmetic.pinned_name() == "none" else needed(self, *arguments)

    monkeypatch.setattr(EqualRows, "_needed_for", unless_by_definition)


def test_ranks():
    x = torch.from_numpy(normal(40)[np.random.RandomState(0).randint(0, 40, 300)])
    order = torch.from_numpy(np.random.RandomState(1).permutation(300))
    groups = torch.arange(300) % 3
    for rows in (Rows(x, order), Rows(x, order[:100], groups[:100]), Rows(x.half(), order), Rows(x[:0], order[:0])):
        seen: dict[object, int] = {}
        expected = []
        for i, row in enumerate(rows.order.tolist()):
            key = (*rows.vectors[row].tolist(), None if rows.groups is None else int(rows.groups[i]))
            expected.append(seen.get(key, 0))
            seen[key] = expected[-1] + 1
        assert ranks_among_equals(rows).tolist() == expected


def test_what_is_repeated():
    everything = torch.arange(5000)
    assert not are_repeated(Rows(torch.from_numpy(normal(5000)), everything))
    assert are_repeated(Rows(torch.from_numpy(half_zero(5000)), everything))


@data
@metrics
@pytest.mark.parametrize("n", [2500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_flat(name, metric_type, n):
    index = faiss_torch.IndexFlat(D, metric_type)
    index.add(DATA[name](n))
    for nq in (1, 3, 20, 70):
        for k in (1, 10, 40):
            assert_exact(index, normal(nq, seed=nq), k)
    assert_exact(index, normal(2), 700)


@pytest.mark.slow
@data
@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT])
def test_lists(name, metric_type):
    index = faiss_torch.index_factory(D, "IVF20,Flat", metric_type)
    index.train(normal(2000, seed=5))
    ids = np.random.RandomState(0).permutation(100_000)[:6000]
    index.add_with_ids(DATA[name](6000), ids)
    index.nprobe = 7
    for nq in (1, 20, 300):
        for k in (1, 10, 40):
            assert_exact(index, normal(nq, seed=nq), k)


def test_rows_that_change():
    index = faiss_torch.IndexFlatL2(D)
    index.add(DATA["20 different"](3000))
    xq = normal(20, seed=3)
    for step in range(12):
        assert_exact(index, xq, 10)
        if step % 3 == 0:
            index.remove_ids(np.unique(index.search(xq, 5)[1]))
        else:
            index.add(xq[:3] if step % 2 else DATA["20 different"](900))


def test_filters_and_ranges_see_all_rows():
    x = DATA["20 different"](3000)
    index = faiss_torch.IndexFlatL2(D)
    index.add(x)
    index.search(x[:30], 10)
    last = faiss_torch.SearchParameters(sel=faiss_torch.IDSelectorRange(2500, 3000))
    assert index.search(x[:30], 10, params=last)[1].min() >= 2500
    lims, _, _ = index.range_search(x[:1], 1e-3)
    assert lims[1] == (x == x[0]).all(1).sum()


def test_ids_that_stand_for_several_vectors():
    """An id that is surplus for one vector is the only one of another."""
    index = faiss_torch.index_factory(D, "IVF4,Flat")
    index.train(normal(500))
    index.add_with_ids(np.zeros((3000, D), "float32"), np.arange(3000))
    other = normal(3000, seed=9)
    index.add_with_ids(other, np.arange(3000))
    index.nprobe = 4
    D_found, I_found = index.search(other[-40:], 1)
    assert I_found.ravel().tolist() == list(range(2960, 3000))
    assert D_found.max() < 1e-3


@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT])
@pytest.mark.parametrize("n", [3000, 20_000])
def test_a_row_that_is_much_larger_costs_the_others_no_certificate(metric_type, n, monkeypatch):
    """No query is verified with more than its first candidates, whatever path it takes."""
    widths = []
    smallest = verify.topk.smallest

    def watched(scores, k):
        widths.append(k)
        return smallest(scores, k)

    monkeypatch.setattr(verify.topk, "smallest", watched)
    again = []
    monkeypatch.setattr(byte_sum_loops, "_search_again", lambda *arguments: again.append(arguments))
    index = faiss_torch.IndexFlat(D, metric_type)
    index.add(outlying(n))
    for nq in (1, 1, 1, 1, 1, 1, 10, 40, 300):
        index.search(normal(nq, seed=nq), 10)
    assert max(widths, default=0) <= 4 * (2 * 10 + verify.BOUNDED_SLACK)
    assert not again
    assert flat.without_outlying(index._stored(), n)[1].tolist() == [n // 3, n // 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal", "zeros", "20 different", "half zero"])
def test_clusters_of_equal_vectors(name, monkeypatch):
    x = DATA[name](6000)
    found = [faiss_torch.Kmeans(D, 200, niter=4, seed=3) for _ in range(2)]
    found[0].train(x)
    monkeypatch.setattr(assignment, "different_ones", lambda x: None)
    monkeypatch.setattr(assignment, "FEWEST_CENTROIDS", 1 << 20)
    found[1].train(x)
    np.testing.assert_allclose(found[0].obj, found[1].obj, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found[0].centroids, found[1].centroids, rtol=1e-4, atol=1e-5)
