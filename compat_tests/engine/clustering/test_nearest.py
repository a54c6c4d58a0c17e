"""The tiled assignment against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faiss_torch.constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2
from faiss_torch.ops.clustering import nearest as module
from faiss_torch.ops.clustering import nearest_float64
from faiss_torch.ops.clustering.nearest import nearest, nearest_reference
from faiss_torch.ops.clustering.nearest_float64 import nearest_in_double

METRICS = [METRIC_L2, METRIC_INNER_PRODUCT]


def check(x: torch.Tensor, centroids: torch.Tensor, metric: int) -> None:
    D, I = nearest(x, centroids, metric)
    D_reference, I_reference = nearest_reference(x, centroids, metric)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, 1000])
@pytest.mark.parametrize("k", [1, 2, 31, 64, 65, 100, 1023, 1024, 1025, 2100])
def test_sizes(n: int, k: int, metric: int) -> None:
    rng = torch.Generator().manual_seed(n * 10000 + k)
    check(torch.randn(n, 7, generator=rng), torch.randn(k, 7, generator=rng), metric)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 400),
    k=st.integers(1, 300),
    d=st.integers(1, 40),
    metric=st.sampled_from(METRICS),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
    offset=st.sampled_from([0.0, 1000.0]),
    seed=st.integers(0, 1000),
)
def test_any_data(n: int, k: int, d: int, metric: int, scale: float, offset: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng) * scale + offset
    centroids = torch.randn(k, d, generator=rng) * scale + offset
    D, I = nearest(x, centroids, metric)
    D_reference, I_reference = nearest_reference(x, centroids, metric)
    assert_as_close_in_double(x, centroids, metric, I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-4, atol=1e-4 * scale * scale)


def assert_as_close_in_double(x, centroids, metric, labels, expected):
    """The same labels, but where float64 itself cannot tell the centroids apart."""
    other = (labels != expected).nonzero().view(-1)
    wide, ours, theirs = x[other].double(), centroids[labels[other]].double(), centroids[expected[other]].double()
    if metric == METRIC_L2:
        terms = [(wide - each).square() for each in (ours, theirs)]
    else:
        terms = [wide * each for each in (ours, theirs)]
    rounding = 4 * (x.shape[1] + 4) * 2.0**-53 * terms[0].abs().sum(1)
    assert bool(((terms[0].sum(1) - terms[1].sum(1)).abs() <= rounding).all())


def test_a_tie_of_float64() -> None:
    test_any_data.hypothesis.inner_test(114, 186, 36, METRIC_INNER_PRODUCT, 1e-3, 1000.0, 68)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [60, 1500])
def test_ties_go_to_the_lowest_id(metric: int, k: int) -> None:
    rng = torch.Generator().manual_seed(1)
    distinct = torch.randn(10, 20, generator=rng)
    centroids = distinct[torch.arange(k) % 10]
    _, I = nearest(torch.randn(500, 20, generator=rng), centroids, metric)
    assert int(I.max()) < 10


@pytest.mark.slow
@pytest.mark.parametrize("far", ["one", "some", "not so far", "not finite"])
@pytest.mark.parametrize(("n", "k", "d"), [(300, 200, 30), (1000, 600, 64), (50, 7, 8)])
def test_outlying_centroids_are_compared_apart(
    monkeypatch: pytest.MonkeyPatch, far: str, n: int, k: int, d: int
) -> None:
    """Beside vectors that are as far out, half as far, and not finite."""
    monkeypatch.setattr(module, "OUTLYING_PRODUCTS", 0)
    left = []
    compared = nearest_float64.nearest_in_double
    monkeypatch.setattr(
        module, "nearest_in_double", lambda x, *rest: left.append(len(x)) or compared(x, *rest), raising=True
    )
    rng = torch.Generator().manual_seed(n + k)
    x, centroids = torch.randn(n, d, generator=rng), torch.randn(k, d, generator=rng)
    scales = {"one": [1e6], "some": [1e6, -2e6, 1e3], "not so far": [14.0, 16.0, -15.0], "not finite": [1e6, 1e30]}[far]
    some = torch.arange(len(scales)) * (k // len(scales))
    centroids[some] *= torch.tensor(scales)[:, None]
    x[:3] = centroids[some[0]] * torch.tensor([1.0, 0.5, 0.499])[:, None]
    x[3] *= 6.0
    if far == "not finite":
        x[4], x[5, 0], centroids[1, 0] = float("nan"), float("inf"), float("inf")
    check(x, centroids, METRIC_L2)
    assert 0 < sum(left) < n // 4


def test_vectors_that_are_centroids() -> None:
    centroids = torch.randn(700, 33, generator=torch.Generator().manual_seed(2))
    D, I = nearest(centroids, centroids, METRIC_L2)
    assert torch.equal(I, torch.arange(700))
    assert torch.equal(D, torch.zeros(700))


@pytest.mark.parametrize("k", [5, 70, 1100])
def test_values_that_are_not_finite(k: int) -> None:
    rng = torch.Generator().manual_seed(3)
    x, centroids = torch.randn(200, 6, generator=rng), torch.randn(k, 6, generator=rng)
    x[3, 2] = float("nan")
    x[5, 1] = float("inf")
    centroids[2] = float("nan")
    for metric in METRICS:
        check(x, centroids, metric)
    D, I = nearest(x, centroids, METRIC_L2)
    assert I[[3, 5]].tolist() == [-1, -1]
    assert D[[3, 5]].tolist() == [FLT_MAX, FLT_MAX]
    D, I = nearest(x[3:4], centroids, METRIC_INNER_PRODUCT)
    assert (D.item(), I.item()) == (-FLT_MAX, -1)


def test_every_row_uncertain_gives_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comparison, on its own, is right."""
    rng = torch.Generator().manual_seed(4)
    x, centroids = torch.randn(300, 12, generator=rng), torch.randn(90, 12, generator=rng)
    monkeypatch.setattr(module, "margin_of", lambda x, *bounds: torch.full((len(x),), float("inf")))
    check(x, centroids, METRIC_L2)


@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT])
def test_both_forms_of_the_second_comparison_agree(monkeypatch: pytest.MonkeyPatch, metric_type: int) -> None:
    """All differences at once, for few vectors, and products, for many: with duplicates, ties and NaN."""
    rng = torch.Generator().manual_seed(7)
    centroids = torch.randint(-2, 3, (40, 3), generator=rng).float()
    x = torch.cat([torch.randint(-2, 3, (60, 3), generator=rng).float(), torch.full((2, 3), float("nan"))])
    labels = []
    for most in (1 << 30, 0):
        monkeypatch.setattr(nearest_float64, "FEW_DIFFERENCES", most)
        labels.append(nearest_in_double(x, centroids, metric_type))
    assert torch.equal(labels[0], labels[1])
    assert labels[0][-2:].tolist() == [-1, -1]
    assert torch.equal(labels[0], nearest_reference(x, centroids, metric_type)[1])


def test_coarse_products_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that allows bfloat16 products gets the same labels."""
    rng = torch.Generator().manual_seed(5)
    x, centroids = torch.randn(500, 40, generator=rng), torch.randn(300, 40, generator=rng)
    exact = module.products

    def coarse(x: torch.Tensor, centroids: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return exact(x.bfloat16().float(), centroids.bfloat16().float(), bias)

    monkeypatch.setattr(module, "products", coarse)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        check(x, centroids, METRIC_L2)
        check(x, centroids, METRIC_INNER_PRODUCT)
    finally:
        torch.set_float32_matmul_precision(before)


def test_memory_is_that_of_tiles() -> None:
    """Nothing of size n * k is made: the largest tensor is a tile's scores."""
    sizes: list[int] = []
    exact = module.products

    def watched(x: torch.Tensor, centroids: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scores = exact(x, centroids, bias)
        sizes.append(scores.numel())
        return scores

    module.products = watched
    try:
        nearest(torch.randn(5000, 4), torch.randn(3000, 4), METRIC_L2)
        nearest(torch.randn(20000, 1), torch.randn(1500, 1), METRIC_L2)
    finally:
        module.products = exact
    assert max(sizes) <= module.TILE_VECTORS * module.TILE_CENTROIDS


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match="metric"):
        nearest(torch.randn(2, 3), torch.randn(2, 3), METRIC_L1)
    with pytest.raises(RuntimeError, match="at least one centroid"):
        nearest(torch.randn(2, 3), torch.randn(0, 3), METRIC_L2)
