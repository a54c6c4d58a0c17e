"""Flat indexes carried over from faiss-cpu by their bytes, searched by both."""

import numpy as np
import pytest
from comparison import SIMILARITIES, assert_same_neighbours, assert_same_ranges, carried_over

METRICS = {
    "METRIC_L2": 0,
    "METRIC_INNER_PRODUCT": 0,
    "METRIC_L1": 0,
    "METRIC_Linf": 0,
    "METRIC_Lp": 2.5,
    "METRIC_Canberra": 0,
    "METRIC_BrayCurtis": 0,
    "METRIC_JensenShannon": 0,
    "METRIC_Jaccard": 0,
    "METRIC_NaNEuclidean": 0,
    "METRIC_GOWER": 0,
}
PRODUCTS = ("METRIC_L2", "METRIC_INNER_PRODUCT")


def pair(reference, ours, xb, metric="METRIC_L2", metric_arg=0):
    """The same index in both libraries."""
    index = reference.IndexFlat(xb.shape[1], getattr(reference, metric))
    index.metric_arg = metric_arg
    index.add(xb)
    return index, carried_over(index, reference, ours)


def uniform(n, d, seed):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 3, 97])
def test_every_metric(reference, ours, metric, d):
    index, other = pair(reference, ours, uniform(419, d, d), metric, METRICS[metric])
    assert other.metric_arg == METRICS[metric]
    for nq in (1, 37):
        xq = uniform(nq, d, 100 + nq)
        for k in (1, 20, 300, 500):
            # with one dimension some of these distances are 1 for all, and differ in their last bits
            assert_same_neighbours(*other.search(xq, k), *index.search(xq, k), rtol=2e-5, atol=1e-5)
    radius = float(np.quantile(index.search(xq, 419)[0], 0.2 if metric in SIMILARITIES else 0.8))
    found, expected = other.range_search(xq, radius), index.range_search(xq, radius)
    if metric not in PRODUCTS and d > 1:
        assert_same_ranges(found, expected, rtol=2e-5, atol=1e-5)
    assert abs(int(found[0][-1]) - int(expected[0][-1])) <= 0.01 * int(expected[0][-1])


@pytest.mark.parametrize("metric", ["METRIC_NaNEuclidean", "METRIC_GOWER"])
def test_metrics_of_missing_values(reference, ours, metric):
    xb, xq = uniform(200, 6, 1), uniform(9, 6, 2)
    xb[np.random.RandomState(3).rand(200, 6) < 0.3] = np.nan
    xq[np.random.RandomState(4).rand(9, 6) < 0.3] = np.nan
    xb[7] = np.nan
    index, other = pair(reference, ours, xb, metric)
    for k in (1, 20, 200):
        assert_same_neighbours(*other.search(xq, k), *index.search(xq, k))


def test_gower_with_categories(reference, ours):
    rng = np.random.RandomState(5)
    xb, xq = uniform(150, 5, 1), uniform(8, 5, 2)
    xb[:, 3:] = -rng.randint(1, 4, size=(150, 2))
    xq[:, 3:] = -rng.randint(1, 4, size=(8, 2))
    index, other = pair(reference, ours, xb, "METRIC_GOWER")
    assert_same_neighbours(*other.search(xq, 12), *index.search(xq, 12))


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", PRODUCTS)
@pytest.mark.parametrize("nq", [1, 19, 20, 21, 300])
def test_numbers_of_queries(reference, ours, metric, nq):
    index, other = pair(reference, ours, uniform(5000, 24, 1), metric)
    xq = uniform(nq, 24, 2)
    for k in (1, 10, 100):
        assert_same_neighbours(*other.search(xq, k), *index.search(xq, k), atol=1e-5)


@pytest.mark.parametrize("metric", PRODUCTS)
@pytest.mark.parametrize("high", [2, 10, 1000])
def test_integers_have_exact_distances_and_many_ties(reference, ours, metric, high):
    rng = np.random.RandomState(high)
    xb, xq = (rng.randint(high, size=(n, 12)).astype("float32") for n in (900, 25))
    index, other = pair(reference, ours, xb, metric)
    for k in (1, 20, 900):
        D, I = other.search(xq, k)
        D_expected, I_expected = index.search(xq, k)
        np.testing.assert_array_equal(D, D_expected)
        assert_same_neighbours(D, I, D_expected, I_expected, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6, 1e15])
@pytest.mark.parametrize("metric", PRODUCTS)
def test_huge_and_tiny_norms(reference, ours, metric, scale):
    rng = np.random.RandomState(6)
    xb, xq = ((scale * rng.randn(n, 16)).astype("float32") for n in (700, 33))
    index, other = pair(reference, ours, xb, metric)
    assert_same_neighbours(*other.search(xq, 15), *index.search(xq, 15), rtol=1e-5, atol=1e-5 * scale**2)


def test_distances_beyond_float32_are_no_results(reference, ours):
    rng = np.random.RandomState(6)
    xb = np.concatenate([1e19 * rng.randn(50, 16), rng.randn(50, 16)]).astype("float32")
    xq = rng.randn(4, 16).astype("float32")  # too few for faiss's own product form
    index, other = pair(reference, ours, xb)
    assert_same_neighbours(*other.search(xq, 80), *index.search(xq, 80))
    assert (other.search(xq, 80)[1] < 0).any()


def test_near_duplicates(reference, ours):
    rng = np.random.RandomState(7)
    base = rng.randn(20, 32)
    xb = (base.repeat(50, 0) + 1e-6 * rng.randn(1000, 32)).astype("float32")
    xq = (base + 1e-6 * rng.randn(20, 32)).astype("float32")[:19]  # below faiss's product form, which cancels
    index, other = pair(reference, ours, xb)
    D, I = other.search(xq, 30)
    D_expected, I_expected = index.search(xq, 30)
    np.testing.assert_allclose(D, D_expected, rtol=1e-5)
    np.testing.assert_array_equal(I // 50, np.arange(19)[:, None].repeat(30, 1))
    assert_same_neighbours(D, I, D_expected, I_expected, rtol=1e-5, atol=0)


def test_one_dimension(reference, ours):
    xb, xq = uniform(300, 1, 1), uniform(50, 1, 2)
    index, other = reference.IndexFlat1D(), ours.IndexFlat1D()
    index.add(xb)
    other.add(xb)
    for k in (1, 7, 310):
        assert_same_neighbours(*other.search(xq, k), *index.search(xq, k), atol=1e-7)


@pytest.mark.slow
def test_real_embeddings(reference, ours, embeddings):
    xb, xq = embeddings
    xb, xq = xb[:20000], xq[:300]
    for metric in PRODUCTS:
        index, other = pair(reference, ours, xb, metric)
        assert_same_neighbours(*other.search(xq, 10), *index.search(xq, 10), atol=2e-6)


@pytest.mark.torch_settings
def test_ties_go_to_the_lowest_id(ours):
    xb = np.ones((1000, 8), "float32")
    for index in (ours.IndexFlatL2(8), ours.IndexFlatIP(8)):
        index.add(xb)
        for k in (1, 5, 200, 1000):
            np.testing.assert_array_equal(index.search(xb[:30], k)[1], np.arange(k)[None].repeat(30, 0))
