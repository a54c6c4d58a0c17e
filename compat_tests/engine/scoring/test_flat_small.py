"""Exact search of few rows: both ways against the definition, with rows that are not to be found."""

import pytest
import torch

from faiss_torch.constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2
from faiss_torch.ops.scoring.distances import METRICS
from faiss_torch.ops.scoring.scorers import make_scorer
from faiss_torch.ops.scoring.small import search_all, search_by_definition
from faiss_torch.ops.scoring.stored import BLOCK
from faiss_torch.ops.search import flat
from faiss_torch.ops.search.flat import closest, knn_reference
from faiss_torch.parts.growing import GrowingTensor
from faiss_torch.parts.screens.facts import RowFacts

CPU = torch.device("cpu")


def by_definition(xq, stored, n, k, metric_type):
    return search_by_definition(xq, stored, n, k, metric_type, 0.0)


def by_screen(xq, stored, n, k, metric_type):
    scorer = make_scorer(xq, stored, metric_type)
    rows = -(-n // BLOCK) * BLOCK
    return search_all(scorer, torch.arange(len(xq)), rows, k, METRICS[metric_type].similarity)


def stored_rows(xb, metric_type, removed=()):
    table = GrowingTensor((xb.shape[1],), torch.float32, CPU)
    table.append(xb)
    facts = RowFacts(metric_type, CPU)
    facts.append(0, xb)
    facts.remove(torch.tensor(removed, dtype=torch.int64))
    return facts.stored(table.room)


def by_all_scores(xq, stored, n, k, metric_type):
    """As `flat.knn` does it for few queries; those that are left by the definition."""
    found = flat._by_all_scores(xq, stored, n, k, metric_type)
    if found is None:
        assert k >= n or metric_type == METRIC_L1
        return by_definition(xq, stored, n, k, metric_type)
    distances, ids, left = found
    if left is not None:
        distances[left], ids[left] = by_definition(xq[left], stored, n, k, metric_type)
    return distances, ids


ways = pytest.mark.parametrize("search", [by_definition, by_screen, by_all_scores])
metrics = pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1])


@ways
@metrics
@pytest.mark.parametrize(
    ("nq", "nb", "k"), [(1, 1, 1), (1, 512, 32), (3, 97, 5), (8, 512, 32), (5, 20, 30), (33, 300, 1)]
)
def test_the_neighbours_of_the_definition(search, metric_type, nq, nb, k):
    generator = torch.Generator().manual_seed(nb)
    xq, xb = (torch.randn(n, 7, generator=generator) for n in (nq, nb))
    D, I = search(xq, stored_rows(xb, metric_type), nb, k, metric_type)
    expected_D, expected_I = knn_reference(xq.double(), xb.double(), k, metric_type)
    torch.testing.assert_close(D.double(), expected_D, rtol=1e-5, atol=1e-5)
    assert torch.equal(I, expected_I)


@ways
@metrics
def test_ties_go_to_the_lowest_id(search, metric_type):
    xb = torch.randint(3, (400, 2), generator=torch.Generator().manual_seed(1)).float()  # nine different vectors
    xq = xb[:6] + 0.25
    for k in (1, 10, 60, 395):
        D, I = search(xq, stored_rows(xb, metric_type), 400, k, metric_type)
        expected_D, expected_I = knn_reference(xq.double(), xb.double(), k, metric_type)
        assert torch.equal(D.double(), expected_D)
        assert torch.equal(I, expected_I)


@ways
@metrics
@pytest.mark.parametrize("left", [0, 4, 25, 100])
def test_rows_that_are_taken_out_are_not_found(search, metric_type, left):
    generator = torch.Generator().manual_seed(left)
    xq, xb = (torch.randn(n, 7, generator=generator) for n in (4, 120))
    order = torch.randperm(120, generator=generator)
    kept = order[:left].sort().values
    D, I = search(xq, stored_rows(xb, metric_type, order[left:].tolist()), 120, 20, metric_type)
    expected_D, expected_I = knn_reference(xq.double(), xb[kept].double(), 20, metric_type)
    torch.testing.assert_close(D.double(), expected_D, rtol=1e-5, atol=1e-5)
    assert torch.equal(I, torch.where(expected_I < 0, -1, torch.cat([kept, kept.new_zeros(1)])[expected_I]))


@ways
@metrics
def test_values_that_are_no_distances(search, metric_type):
    xb = torch.ones(40, 3)
    xb[3, 1], xb[5, 0], xb[7, 2] = float("nan"), float("inf"), float("-inf")
    xq = torch.tensor([[1.0, 2.0, 3.0], [float("nan"), 1.0, 1.0], [0.0, 3e38, 0.0]])
    D, I = search(xq, stored_rows(xb, metric_type), 40, 40, metric_type)
    largest = -FLT_MAX if METRICS[metric_type].similarity else FLT_MAX
    assert torch.equal(I < 0, largest == D)
    assert not D.isnan().any()
    assert (I[1] == -1).all()
    assert not (I == 3).any()
    expected_D, expected_I = knn_reference(xq, xb, 40, metric_type)
    assert torch.equal(I, expected_I)
    assert torch.equal(D, expected_D)


@metrics
@pytest.mark.parametrize(
    ("nq", "nb", "k"), [(1, 512, 32), (3, 97, 5), (40, 333, 8), (5, 20, 30), (5, 20, 20), (600, 70, 3)]
)
def test_the_closest_rows_are_the_neighbours(metric_type, nq, nb, k):
    generator = torch.Generator().manual_seed(nb)
    xq, xb = (torch.randn(n, 7, generator=generator) for n in (nq, nb))
    xb = torch.cat([xb[: nb - nb // 2], xb[: nb // 2]])  # whose ties only the sets of the nearest can tell apart
    xq[0] = float("nan")
    I = closest(xq, stored_rows(xb, metric_type), nb, k, metric_type)
    D, expected = knn_reference(xq.double(), xb.double(), k, metric_type)
    assert I.shape == expected.shape
    assert torch.equal(I[0], expected[0])  # none
    for i in range(1, nq):
        found = xb.double()[I[i][I[i] >= 0]]
        keys = flat.distance(xq[i].double(), found, metric_type).sort(descending=METRICS[metric_type].similarity)[0]
        assert len(I[i].unique()) == len(I[i]) or k > nb
        torch.testing.assert_close(keys, D[i][: len(keys)], rtol=1e-6, atol=1e-6)
        assert len(keys) == min(k, nb)
