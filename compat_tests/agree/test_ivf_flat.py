"""IVF-Flat indexes trained by faiss-cpu, carried over by their bytes, searched by both on every path."""

import numpy as np
import pytest
from comparison import assert_same_neighbours, assert_same_ranges, carried_over

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
MODES = ("matrix", "csr", "auto")


def uniform(n, d, seed):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


def pair(reference, ours, xb, nlist, metric="METRIC_L2", metric_arg=0):
    """The same index in both libraries. The quantizer is L2, so that every metric has lists of sensible sizes."""
    quantizer = reference.IndexFlatL2(xb.shape[1])
    index = reference.IndexIVFFlat(quantizer, xb.shape[1], nlist, getattr(reference, metric))
    index.referenced_objects = [quantizer]
    index.metric_arg = metric_arg
    index.cp.min_points_per_centroid = 1
    index.cp.spherical = False
    index.train(xb)
    index.add(xb)
    other = carried_over(index, reference, ours)
    assert other.metric_arg == metric_arg
    return index, other


def assert_same_search(index, other, xq, k, rtol=1e-5, atol=1e-5):
    expected = index.search(xq, k)
    for other.search_mode in MODES:
        assert_same_neighbours(*other.search(xq, k), *expected, rtol=rtol, atol=atol)


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_on_every_path(reference, ours, metric):
    index, other = pair(reference, ours, uniform(1511, 13, 1), 17, metric, METRICS[metric])
    xq = uniform(41, 13, 2)
    for nprobe, k in ((1, 1), (3, 20), (17, 300)):
        index.nprobe = other.nprobe = nprobe
        assert_same_search(index, other, xq, k, rtol=2e-5)


@pytest.mark.parametrize("d", [1, 3, 97])
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_odd_sizes(reference, ours, d, metric):
    index, other = pair(reference, ours, uniform(777, d, 1), 9, metric)
    for nq in (1, 2, 53):
        for nprobe in (1, 2, 5, 9):
            index.nprobe = other.nprobe = nprobe
            for k in (1, 20, 300, 800):
                assert_same_search(index, other, uniform(nq, d, nq), k)


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_every_nprobe(reference, ours, metric):
    index, other = pair(reference, ours, uniform(600, 6, 1), 12, metric)
    for nprobe in range(1, 13):
        index.nprobe = other.nprobe = nprobe
        assert_same_search(index, other, uniform(30, 6, 2), 10)


def test_more_lists_than_vectors_in_most(reference, ours):
    xb = uniform(600, 6, 1)
    quantizer = reference.IndexFlatL2(6)
    quantizer.add(np.concatenate([xb[:100], xb[:400] + 50]))
    index = reference.IndexIVFFlat(quantizer, 6, 500)
    index.add(xb)
    other = carried_over(index, reference, ours)
    for nprobe in (1, 10, 120, 500):
        index.nprobe = other.nprobe = nprobe
        assert_same_search(index, other, uniform(30, 6, 2), 10)
        assert_same_search(index, other, uniform(3, 6, 2) + 50, 10, atol=0.1)


def test_integers(reference, ours):
    rng = np.random.RandomState(1)
    xb, xq = (rng.randint(8, size=(n, 10)).astype("float32") for n in (2000, 64))
    index, other = pair(reference, ours, xb, 20)
    index.nprobe = other.nprobe = 6
    for k in (1, 25, 400):
        expected = index.search(xq, k)
        for other.search_mode in MODES:
            D, I = other.search(xq, k)
            np.testing.assert_array_equal(D, expected[0])
            assert_same_neighbours(D, I, *expected, rtol=0, atol=0)


def test_near_duplicates(reference, ours):
    rng = np.random.RandomState(7)
    base = rng.randn(20, 32)
    xb = (base.repeat(50, 0) + 1e-6 * rng.randn(1000, 32)).astype("float32")
    xq = (base.repeat(3, 0) + 1e-6 * rng.randn(60, 32)).astype("float32")
    index, other = pair(reference, ours, xb, 20)
    index.nprobe = other.nprobe = 4
    expected = index.search(xq, 30)
    for other.search_mode in MODES:
        assert_same_neighbours(*other.search(xq, 30), *expected, rtol=1e-5, atol=0)


@pytest.mark.torch_settings
@pytest.mark.parametrize("scale", [1e-12, 1e6, 1e15])
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_huge_and_tiny_norms(reference, ours, scale, metric):
    rng = np.random.RandomState(6)
    xb, xq = ((scale * rng.randn(n, 16)).astype("float32") for n in (700, 33))
    index, other = pair(reference, ours, xb, 11, metric)
    index.nprobe = other.nprobe = 11
    assert_same_search(index, other, xq, 15, atol=1e-5 * scale**2)


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1"])
def test_range_search(reference, ours, metric):
    index, other = pair(reference, ours, uniform(1511, 8, 1), 17, metric)
    xq = uniform(41, 8, 2)
    for nprobe in (1, 5, 17):
        index.nprobe = other.nprobe = nprobe
        D = np.sort(np.abs(index.search(xq, 200)[0]).astype("float64"), axis=None)
        D = D[D < 1e30]
        gap = np.diff(D)[len(D) // 4 : len(D) // 2].argmax() + len(D) // 4
        radius = float(D[gap] + D[gap + 1]) / 2  # in the widest gap, so that no rounding decides
        expected = index.range_search(xq, radius)
        for other.search_mode in MODES:
            assert_same_ranges(other.range_search(xq, radius), expected, atol=1e-5)
        assert expected[0][-1] > 0


@pytest.mark.torch_settings
@pytest.mark.parametrize("max_codes", [1, 30, 200])
def test_max_codes_and_selectors(reference, ours, max_codes):
    xb, xq = uniform(1511, 8, 1), uniform(41, 8, 2)
    index, other = pair(reference, ours, xb, 17)
    for settings in ({"max_codes": max_codes}, {"ids": (100, 900)}):
        parameters = []
        for module in (reference, ours):
            given = {"nprobe": 9, "max_codes": settings.get("max_codes", 0)}
            if "ids" in settings:
                given["sel"] = module.IDSelectorRange(*settings["ids"])
            parameters.append(module.SearchParametersIVF(**given))
        expected = index.search(xq, 12, params=parameters[0])
        for other.search_mode in MODES:
            assert_same_neighbours(*other.search(xq, 12, params=parameters[1]), *expected)


def test_codes_reconstruction_and_residuals(reference, ours):
    xb, xq = uniform(500, 7, 1), uniform(9, 7, 2)
    index, other = pair(reference, ours, xb, 300)  # two bytes for the list number
    index.nprobe = other.nprobe = 4
    np.testing.assert_array_equal(other.sa_encode(xq), index.sa_encode(xq))
    for found, expected in zip(
        other.search_and_return_codes(xq, 5, include_listnos=True),
        index.search_and_return_codes(xq, 5, include_listnos=True),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(other.search_and_reconstruct(xq, 9)[2], index.search_and_reconstruct(xq, 9)[2])


@pytest.mark.torch_settings
def test_changes_after_carrying_over(reference, ours):
    xb, xq = uniform(900, 9, 1), uniform(25, 9, 2)
    index, other = pair(reference, ours, xb, 13)
    index.nprobe = other.nprobe = 5
    more = uniform(300, 9, 3)
    for library in (index, other):
        assert library.remove_ids(np.arange(0, 900, 7)) == 129
        library.add_with_ids(more, np.arange(300) + 5000)
    assert_same_search(index, other, xq, 20)
    assert ours.serialize_index(other).tobytes() == reference.serialize_index(index).tobytes()


# --- training by both ----------------------------------------------------------------------------------------------


def trained_by(module, xb, nlist, metric):
    index = module.index_factory(xb.shape[1], f"IVF{nlist},Flat", getattr(module, metric))
    index.train(xb)
    index.add(xb)
    return index


def assert_same_training(reference, ours, xb, xq, nlist, nprobe, metric):
    index, other = (trained_by(module, xb, nlist, metric) for module in (reference, ours))
    centroids, expected = (library.quantizer.reconstruct_n(0, nlist) for library in (other, index))
    error = np.linalg.norm(centroids - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 1e-4
    index.nprobe = other.nprobe = nprobe
    assert_same_neighbours(*other.search(xq, 10), *index.search(xq, 10), rtol=1e-4, atol=1e-5)


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_the_same_seed_gives_the_same_index(reference, ours, metric):
    x = reference.rand_smooth_vectors(6200, 16, 1234)
    assert_same_training(reference, ours, x[:6000], x[6000:], 50, 5, metric)


@pytest.mark.slow
def test_real_embeddings_trained_by_both(reference, ours, embeddings):
    xb, xq = embeddings
    assert_same_training(reference, ours, xb[:10500], xq[:200], 256, 16, "METRIC_L2")


@pytest.mark.slow
def test_real_embeddings(reference, ours, embeddings):
    xb, xq = embeddings
    quantizer = reference.IndexFlatL2(xb.shape[1])
    index = reference.IndexIVFFlat(quantizer, xb.shape[1], 256)
    index.cp.niter = 2
    index.train(xb[:10500])
    index.add(xb)
    other = carried_over(index, reference, ours)
    index.nprobe = other.nprobe = 16
    expected = index.search(xq, 10)
    for mode, queries in (("csr", slice(None)), ("matrix", slice(200)), ("auto", slice(1000))):
        other.search_mode = mode
        found = other.search(xq[queries], 10)
        assert_same_neighbours(*found, expected[0][queries], expected[1][queries], atol=2e-6)
