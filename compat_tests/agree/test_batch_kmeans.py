"""k-means of several sets at once beside faiss's k-means of each."""

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch import kernels

faiss = pytest.importorskip("faiss")


def sets(b=3, n=400, d=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((b, n, d), dtype=np.float32) * np.float32([[[1]], [[5]], [[0.2]]])[:b]


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("niter", [1, 8])
def test_each_set_is_clustered_as_alone(spherical, niter):
    x = sets()
    centroids, labels, obj = faiss_torch.batch_kmeans(x, 15, niter=niter, seed=5, spherical=spherical)
    for each in range(len(x)):
        alone = faiss.Kmeans(
            12, 15, niter=niter, seed=5, spherical=spherical, max_points_per_centroid=400, min_points_per_centroid=1
        )
        alone.train(x[each])
        np.testing.assert_allclose(centroids[each], alone.centroids, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(obj[each], alone.obj, rtol=1e-5)
        np.testing.assert_array_equal(labels[each], alone.index.search(x[each], 1)[1][:, 0])


def test_sets_end_when_their_objective_stays():
    x = sets()
    x[1] = np.repeat(x[1, :20], 20, axis=0)  # twenty different vectors: their clusters are soon found
    centroids, labels, obj = faiss_torch.batch_kmeans(x, 6, niter=60)
    iterations = []
    for each in range(len(x)):
        alone = faiss.Kmeans(12, 6, niter=60, max_points_per_centroid=400, min_points_per_centroid=1)
        alone.train(x[each])
        iterations.append(len(alone.obj))
        np.testing.assert_allclose(centroids[each], alone.centroids, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(obj[each, : len(alone.obj)], alone.obj, rtol=1e-5)
        assert np.all(obj[each, len(alone.obj) :] == obj[each, len(alone.obj) - 1])
    assert obj.shape == (3, max(iterations))
    assert min(iterations) < max(iterations)
    assert labels.shape == (3, 400)


def test_empty_clusters_are_split():
    x = sets(b=2, n=60)
    x[1, :50] = x[1, 0]
    centroids, _, obj = faiss_torch.batch_kmeans(x, 20, niter=5, seed=3)
    # beside this library's own: of duplicates faiss's rounding decides which half of a split cluster takes them
    alone = faiss_torch.Kmeans(12, 20, niter=5, seed=3, max_points_per_centroid=60, min_points_per_centroid=1)
    alone.train(x[1])
    assert max(alone.iteration_stats[i]["nsplit"] for i in range(5)) > 0
    np.testing.assert_allclose(obj[1], alone.obj, rtol=1e-5)
    np.testing.assert_allclose(centroids[1], alone.centroids, rtol=1e-5, atol=1e-6)


def test_centroids_to_start_from_and_kinds_of_arrays():
    x = sets(n=90)
    first = x[:, 10:15].copy()
    centroids, labels, obj = faiss_torch.batch_kmeans(x, 5, niter=4, init_centroids=first)
    given = torch.from_numpy(x.astype(np.float64))
    as_tensors = faiss_torch.batch_kmeans(given, 5, niter=4, init_centroids=torch.from_numpy(first))
    for one, other in zip((centroids, labels, obj), as_tensors, strict=True):
        assert isinstance(other, torch.Tensor)
        np.testing.assert_array_equal(one, other.numpy())
    np.testing.assert_array_equal(first, x[:, 10:15])
    nothing = faiss_torch.batch_kmeans(x, 5, niter=0, init_centroids=first)
    np.testing.assert_array_equal(nothing[0], first)
    assert nothing[2].shape == (3, 0)
    exact = faiss_torch.batch_kmeans(x[:, :5], 5)
    assert all(sorted(each) == list(range(5)) for each in exact[1].tolist())
    np.testing.assert_array_equal(np.take_along_axis(exact[0], exact[1][..., None], 1), x[:, :5])


def test_what_it_refuses():
    x = sets(n=30)
    for given, k, error in ((x[0], 3, ValueError), (x, 31, RuntimeError), (x, 0, RuntimeError)):
        with pytest.raises(error, match="expected"):
            faiss_torch.batch_kmeans(given, k)
    with pytest.raises(AssertionError, match=r"\(3, 4, 12\)"):
        faiss_torch.batch_kmeans(x, 4, init_centroids=x[:, :5])
    with pytest.raises(TypeError, match="one device"):
        faiss_torch.batch_kmeans(x, 4, init_centroids=torch.from_numpy(x[:, :4]).to("meta"))
    x[1, 2, 3] = np.nan
    with pytest.raises(RuntimeError, match="NaN"):
        faiss_torch.batch_kmeans(x, 4)


@pytest.mark.slow
@pytest.mark.parametrize("spherical", [False, True])
def test_by_the_kernel(spherical, monkeypatch):
    pytest.importorskip("triton")
    x = sets(n=150, d=12)
    expected = faiss_torch.batch_kmeans(x, 7, niter=3, spherical=spherical)
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    found = faiss_torch.batch_kmeans(x, 7, niter=3, spherical=spherical)
    assert not kernels._given_up
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    x = torch.from_numpy(sets(n=5000, d=64)).cuda()
    centroids, labels, _ = faiss_torch.batch_kmeans(x, 50, niter=6)
    expected = faiss_torch.batch_kmeans(x.cpu(), 50, niter=6)
    assert centroids.is_cuda
    assert torch.equal(labels.cpu(), expected[1])
    torch.testing.assert_close(centroids.cpu(), expected[0], rtol=1e-4, atol=1e-5)
