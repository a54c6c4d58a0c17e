"""Sums of clusters, by plain torch and by the Triton kernels, against their definition."""

import importlib.util

import pytest
import torch

from faiss_torch import kernels
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.kernels import tuning
from faiss_torch.ops.clustering.centroid_update import centroid_update, centroid_update_reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WITH_TRITON = pytest.param(
    "triton",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton"),
    ],
)
FORMS = pytest.mark.parametrize("impl", ["torch", WITH_TRITON])
MANY = tuning.FEW_CLUSTERS + 3


def data(n, d, k, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator).to(dtype)
    labels = torch.randint(-1, k + 1, (n,), generator=generator)
    weights = torch.rand(n, generator=generator)
    centroids = torch.randn(k, d, generator=generator)
    return x.to(DEVICE), labels.to(DEVICE), weights.to(DEVICE), centroids.to(DEVICE)


def check(found, expected):
    for name in ("sums", "sizes", "costs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-4)
    assert torch.equal(found.counts, expected.counts)


@FORMS
@pytest.mark.parametrize(("weighted", "metric_type"), [(False, METRIC_L2), (True, METRIC_INNER_PRODUCT)])
@pytest.mark.parametrize(
    ("n", "d", "k"),
    [(0, 3, 5), (1, 1, 1), (300, 3, 7), (70, 97, 128), (65, 130, 3), (500, 33, MANY), (40, 1, 300), (3, 200, MANY)],
)
def test_sizes(n, d, k, metric_type, weighted, impl):
    x, labels, weights, centroids = data(n, d, k)
    arguments = (x, labels, k, weights if weighted else None, centroids, metric_type)
    check(centroid_update(*arguments, impl=impl), centroid_update_reference(*arguments))


@FORMS
@pytest.mark.parametrize("k", [5, MANY])
def test_without_costs(k, impl):
    x, labels, weights, _ = data(200, 20, k)
    found = centroid_update(x, labels, k, weights, impl=impl)
    check(found, centroid_update_reference(x, labels, k, weights))
    assert not found.costs.any()


@FORMS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [5, MANY])
def test_vectors_in_16_bits(k, dtype, impl):
    x, labels, _, centroids = data(300, 20, k, dtype)
    arguments = (x, labels, k, None, centroids)
    check(centroid_update(*arguments, impl=impl), centroid_update_reference(*arguments))


@FORMS
@pytest.mark.parametrize("k", [2, MANY])
def test_one_large_cluster_of_several_pieces(k, impl):
    n = 2 * tuning.update_blocks(5).piece + 7
    x, labels, weights, centroids = data(n, 5, k)
    labels = torch.where(torch.arange(n, device=DEVICE) % 100 == 3, labels, 1)
    arguments = (x, labels, k, weights, centroids)
    check(centroid_update(*arguments, impl=impl), centroid_update_reference(*arguments))


@FORMS
@pytest.mark.parametrize("k", [4, MANY])
def test_components_of_very_different_sizes_stay_exact(k, impl):
    """One vector in each cluster: its sum is the vector, to the bit."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(k, 40, generator=generator) * torch.logspace(-30, 30, 40)
    labels = torch.randperm(k, generator=generator)
    found = centroid_update(x.to(DEVICE), labels.to(DEVICE), k, impl=impl)
    assert torch.equal(found.sums[labels.to(DEVICE)].cpu(), x)


@FORMS
@pytest.mark.parametrize("k", [3, MANY])
def test_rows_of_a_wider_array_and_the_same_twice(k, impl):
    wide, labels, weights, centroids = data(400, 50, k)
    x = wide[:, 7:30]
    arguments = (x, labels, k, weights, centroids[:, :23].contiguous())
    found = centroid_update(*arguments, impl=impl)
    check(found, centroid_update_reference(*arguments))
    for one, other in zip(found, centroid_update(*arguments, impl=impl), strict=True):
        assert torch.equal(one, other)
    check(centroid_update(x.T[:, :k], labels[:23], k, impl=impl), centroid_update_reference(x.T[:, :k], labels[:23], k))


def test_the_kernel_where_there_is_none(monkeypatch):
    x, labels, _, _ = data(5, 3, 2)
    monkeypatch.setattr(kernels, "_is_installed", lambda: False)
    with pytest.raises(RuntimeError, match="centroid_update: no Triton kernels"):
        centroid_update(x, labels, 2, impl="triton")
