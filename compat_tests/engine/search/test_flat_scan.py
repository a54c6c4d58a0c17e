"""ops.flat against its plain reference in float64, and the memory it takes."""

import unittest.mock

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2, METRIC_NAMES
from faiss_torch.ops.scoring.distances import METRICS, distance
from faiss_torch.ops.search import flat
from faiss_torch.parts.growing import GrowingTensor
from faiss_torch.parts.screens.facts import RowFacts


def stored_rows(xb, metric_type):
    table = GrowingTensor((xb.shape[1],), torch.float32, torch.device("cpu"))
    table.append(xb)
    facts = RowFacts(metric_type, torch.device("cpu"))
    facts.append(0, xb)
    return facts.stored(table.room)


def check(xq, xb, k, metric_type, metric_arg=0.0, atol=1e-6):
    expected = flat.knn_reference(xq.double(), xb.double(), k, metric_type, metric_arg)
    # very few pairs are compared in another way, and few rows are all scored
    for ways in (
        {"FEW_FACTORS": flat.FEW_FACTORS},
        {"FEW_FACTORS": 0},
        {"FEW_FACTORS": 0, "FEW_SCORED": 0, "MANY_SCORED": 0},
    ):
        with unittest.mock.patch.multiple(flat, **ways):
            D, I = flat.knn(xq, stored_rows(xb, metric_type), len(xb), k, metric_type, metric_arg)
        assert_same_neighbours(D, I, *expected, rtol=2e-5, atol=atol)


@pytest.mark.parametrize("metric_type", METRIC_NAMES)
@settings(deadline=None, max_examples=10)
@given(
    nq=st.integers(1, 20), nb=st.integers(1, 600), d=st.integers(1, 20), k=st.integers(1, 40), seed=st.integers(0, 99)
)
def test_all_shapes(metric_type, nq, nb, d, k, seed):
    generator = torch.Generator().manual_seed(seed)
    xq, xb = (torch.rand(n, d, generator=generator) * 0.99 + 0.005 for n in (nq, nb))
    check(xq, xb, k, metric_type, 2.5, atol=1e-5)


@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1])
@pytest.mark.parametrize(("nq", "nb", "k"), [(300, 5000, 10), (1, 30000, 3), (17, 9001, 100), (600, 40, 50)])
def test_many_tiles_and_tasks(metric_type, nq, nb, k):
    generator = torch.Generator().manual_seed(nb)
    xq, xb = (torch.randn(n, 8, generator=generator) for n in (nq, nb))
    check(xq[:40], xb, k, metric_type, atol=1e-5)
    D, I = flat.knn(xq, stored_rows(xb, metric_type), nb, k, metric_type)
    some = flat.knn(xq[:7], stored_rows(xb, metric_type), nb, k, metric_type)
    assert_same_neighbours(D[:7], I[:7], *some)
    last = flat.knn(xq[-1:], stored_rows(xb, metric_type), nb, k, metric_type)
    assert_same_neighbours(D[-1:], I[-1:], *last)


@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT])
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize(
    "make",
    [
        lambda g: torch.randn(40, 12, generator=g).repeat(100, 1) + 1e-6 * torch.randn(4000, 12, generator=g),
        lambda g: torch.where(torch.arange(4000)[:, None] == 1234, 1e6, torch.randn(4000, 12, generator=g)),
        lambda g: torch.full((4000, 12), 0.1),
        lambda g: torch.randint(4, (4000, 12), generator=g).float(),
        lambda g: 1e4 + torch.randn(4000, 12, generator=g),
    ],
    ids=["near-duplicates", "one outlier", "constant", "integers", "large offset"],
)
def test_data_that_rounding_is_hard_on(metric_type, k, make):
    generator = torch.Generator().manual_seed(3)
    xb = make(generator)
    xq = xb[:30] + 1e-3 * torch.randn(30, 12, generator=generator)
    largest = float(xb.norm(dim=1).max() * xq.norm(dim=1).max())
    check(xq, xb, k, metric_type, atol=1e-30 if metric_type == METRIC_L2 else 2e-6 * largest)


@pytest.mark.parametrize("metric_type", [METRIC_L1, METRIC_L2])
def test_distances_up_to_the_largest_float32(metric_type):
    generator = torch.Generator().manual_seed(0)
    size = 1e38 if metric_type == METRIC_L1 else 1.2e19
    xb, xq = (size * (1 + 0.2 * torch.rand(n, 1, generator=generator)) for n in (2000, 5))
    xq = -0.4 * xq
    assert (distance(xq[0], xb, metric_type).abs() > 1e38).any()
    check(xq, xb, 3, metric_type)


def test_one_neighbour_among_near_duplicates_by_the_index():
    generator = torch.Generator().manual_seed(3)
    xb = 1000 + 0.01 * torch.randn(3000, 12, generator=generator)
    xq = xb[:300] + 0.01 * torch.randn(300, 12, generator=generator)
    for nq in (1, 300):
        index = faiss_torch.IndexFlatL2(12)
        index.add(xb)
        expected = flat.knn_reference(xq[:nq].double(), xb.double(), 1, METRIC_L2)
        assert_same_neighbours(*index.search(xq[:nq], 1), *expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1])
@settings(deadline=None, max_examples=10)
@given(nq=st.integers(0, 20), nb=st.integers(0, 3000), seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
def test_range_search(metric_type, nq, nb, seed, share):
    generator = torch.Generator().manual_seed(seed)
    xq, xb = (torch.randn(n, 6, generator=generator) for n in (nq, nb))
    exact = distance(xq.double()[:, None], xb.double(), metric_type)
    radius = float(exact.quantile(share)) + 1e-4 if exact.numel() and exact.numel() < 60000 else 3.0
    lims, D, I = flat.range_search(xq, stored_rows(xb, metric_type), nb, radius, metric_type)
    assert lims.shape == (nq + 1,)
    similarity = METRICS[metric_type].similarity
    for i in range(nq):
        found = I[lims[i] : lims[i + 1]]
        assert found.tolist() == sorted(set(found.tolist()))
        inside = exact[i] > radius + 1e-4 if similarity else exact[i] < radius - 1e-4
        maybe = exact[i] > radius - 1e-4 if similarity else exact[i] < radius + 1e-4
        assert set(inside.nonzero().view(-1).tolist()) <= set(found.tolist()) <= set(maybe.nonzero().view(-1).tolist())
        np.testing.assert_allclose(D[lims[i] : lims[i + 1]], exact[i, found], rtol=2e-5, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


@pytest.fixture
def one_thread():
    """Everything in the calling thread, where a dispatch mode sees it."""
    before = faiss_torch.omp_get_max_threads()
    faiss_torch.omp_set_num_threads(1)
    yield
    faiss_torch.omp_set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(("metric_type", "nq"), [(METRIC_L2, 1500), (METRIC_INNER_PRODUCT, 1500), (METRIC_L1, 500)])
@pytest.mark.parametrize("k", [1, 50])
def test_nothing_of_the_size_of_all_distances_is_made(one_thread, metric_type, nq, k):
    generator = torch.Generator().manual_seed(1)
    nb = 80000
    xq, xb = (torch.randn(n, 4, generator=generator) for n in (nq, nb))
    stored = stored_rows(xb, metric_type)
    with LargestTensor() as largest:
        flat.knn(xq, stored, nb, k, metric_type)
        flat.range_search(xq, stored, nb, -100.0 if metric_type != METRIC_INNER_PRODUCT else 100.0, metric_type)
    assert 0 < largest.bytes <= 80 << 20 < 4 * nq * nb


def test_a_million_vectors(one_thread):
    generator = torch.Generator().manual_seed(1)
    xb = torch.rand(1_000_000, 8, generator=generator)
    index = faiss_torch.IndexFlatL2(8)
    index.add(xb)
    xq = xb[:20] + 1e-3
    D, I = index.search(xq, 3)
    for i in range(0, 20, 5):
        exact = (xq[i].double() - xb.double()).square().sum(1)
        best = exact.topk(3, largest=False)
        np.testing.assert_array_equal(I[i], best.indices)
        np.testing.assert_allclose(D[i], best.values, rtol=1e-5)
