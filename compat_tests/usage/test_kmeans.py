"""k-means as programs use it: the same text for every implementation."""

import numpy as np
import pytest


def blobs(n=2000, d=16, k=12, seed=0):
    rng = np.random.RandomState(seed)
    centers = rng.randn(k, d) * 5
    return (centers[rng.randint(k, size=n)] + rng.randn(n, d)).astype("float32")


def test_kmeans_and_its_attributes(faiss):
    x = blobs()
    kmeans = faiss.Kmeans(16, 12, niter=20, verbose=False, seed=7)
    assert kmeans.centroids is None
    final = kmeans.train(x)
    assert kmeans.centroids.shape == (12, 16)
    assert kmeans.centroids.dtype == np.float32
    assert final == kmeans.obj[-1]
    assert np.all(np.diff(kmeans.obj) <= 1e-6 * kmeans.obj[0])
    assert list(kmeans.obj) == [stats["obj"] for stats in kmeans.iteration_stats]
    assert set(kmeans.iteration_stats[0]) == {"obj", "time", "time_search", "imbalance_factor", "nsplit"}
    assert kmeans.index.ntotal == 12
    found = kmeans.index.search(x, 1)[1]
    D, I = kmeans.assign(x)
    np.testing.assert_array_equal(I, found.ravel())
    expected = ((x - kmeans.centroids[I]) ** 2).sum(1)
    np.testing.assert_allclose(D, expected, rtol=1e-3, atol=1e-3)


def test_keywords_by_name_and_integer_data(faiss):
    x = np.random.RandomState(0).randint(0, 50, size=(600, 8))
    kmeans = faiss.Kmeans(d=8, k=4, niter=5, nredo=2, gpu=True, min_points_per_centroid=1, max_points_per_centroid=100)
    assert kmeans.train(x.astype("float64")) > 0


def test_stops_when_the_objective_stands_still(faiss):
    kmeans = faiss.Kmeans(16, 12, niter=100)
    kmeans.train(blobs())
    assert len(kmeans.obj) < 100
    assert kmeans.obj[-1] == kmeans.obj[-2]


def test_unknown_keyword(faiss):
    with pytest.raises(AttributeError):
        faiss.Kmeans(16, 12, iterations=5)


def test_too_few_points(faiss):
    with pytest.raises(RuntimeError):
        faiss.Kmeans(16, 12).train(blobs(11))


def test_warning_of_few_points_goes_to_stderr(faiss, capfd):
    faiss.Kmeans(16, 12, niter=1).train(blobs(50))
    out, err = capfd.readouterr()
    assert "WARNING clustering 50 points to 12 centroids: please provide at least 468 training points" in err
    assert out == ""


def test_messages(faiss, capfd):
    faiss.Kmeans(16, 12, niter=2, verbose=True, nredo=2, max_points_per_centroid=100).train(blobs())
    out = capfd.readouterr().out
    for text in (
        "Sampling a subset of 1200 / 2000 for training",
        "Clustering 1200 points in 16D to 12 clusters, redo 2 times, 2 iterations",
        "Outer iteration 1 / 2",
        "  Iteration 1 (",
        "Objective improved: keep new clusters",
    ):
        assert text in out


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(faiss, bad):
    x = blobs()
    x[1500, 3] = bad
    index = faiss.IndexFlatL2(16)
    index.add(x[:5])
    clustering = faiss.Clustering(16, 12)
    with pytest.raises(RuntimeError):
        clustering.train(x, index)
    assert index.ntotal == 5  # nothing has happened to it
    assert clustering.centroids.size() == 0


def test_wrong_sizes(faiss):
    x = blobs()
    with pytest.raises(AssertionError):
        faiss.Clustering(15, 4).train(x, faiss.IndexFlatL2(15))
    with pytest.raises(RuntimeError):
        faiss.Clustering(16, 4).train(x, faiss.IndexFlatL2(15))
    with pytest.raises(AssertionError):
        faiss.Clustering(16, 4).train(x, faiss.IndexFlatL2(16), np.ones(3, "float32"))
    with pytest.raises(AssertionError):
        faiss.Kmeans(16, 4).train(x[:, :8])
    with pytest.raises(AssertionError):
        faiss.Kmeans(16, 4).train(x, init_centroids=x[:2, :8].copy())
    with pytest.raises(AssertionError):
        faiss.Kmeans(16, 4).assign(x)
    clustering = faiss.Clustering(16, 4)
    faiss.copy_array_to_vector(np.zeros(5, "float32"), clustering.centroids)
    with pytest.raises(RuntimeError):
        clustering.train(x, faiss.IndexFlatL2(16))


def test_as_many_points_as_clusters(faiss):
    x = blobs(12)
    kmeans = faiss.Kmeans(16, 12)
    assert kmeans.train(x) == 0
    np.testing.assert_array_equal(kmeans.centroids, x)
    assert kmeans.index.ntotal == 12


def test_clustering_with_an_index_of_ones_own(faiss):
    x = blobs()
    clustering = faiss.Clustering(16, 12)
    clustering.niter = 6
    clustering.verbose = False
    index = faiss.IndexFlatL2(16)
    clustering.train(x, index)
    centroids = faiss.vector_to_array(clustering.centroids).reshape(12, 16)
    np.testing.assert_array_equal(index.reconstruct_n(0, 12), centroids)
    objectives = [clustering.iteration_stats.at(i).obj for i in range(clustering.iteration_stats.size())]
    assert 1 <= len(objectives) <= 6
    assert objectives[-1] <= objectives[0]


def test_parameters_object(faiss):
    cp = faiss.ClusteringParameters()
    assert (cp.niter, cp.nredo, cp.seed, cp.max_points_per_centroid) == (25, 1, 1234, 256)
    cp.niter = 3
    cp.spherical = True
    clustering = faiss.Clustering(16, 12, cp)
    cp.niter = 9  # a copy was taken
    assert (clustering.niter, clustering.spherical) == (3, True)
    clustering.train(blobs(), faiss.IndexFlatIP(16))
    assert clustering.iteration_stats.size() <= 3
    norms = np.linalg.norm(faiss.vector_to_array(clustering.centroids).reshape(12, 16), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_frozen_centroids_stay(faiss):
    x = blobs()
    start = x[:3].copy()
    kmeans = faiss.Kmeans(16, 12, niter=5, frozen_centroids=True)
    kmeans.train(x, init_centroids=start)
    np.testing.assert_array_equal(kmeans.centroids[:3], start)
    assert not np.allclose(kmeans.centroids[3:], 0)


def test_int_centroids(faiss):
    kmeans = faiss.Kmeans(16, 12, niter=5, int_centroids=True)
    kmeans.train(blobs() * 10)
    np.testing.assert_array_equal(kmeans.centroids, np.round(kmeans.centroids))


def test_weights_pull_the_centroids(faiss):
    x = np.concatenate([np.zeros((50, 2)), np.ones((50, 2))]).astype("float32")
    weights = np.r_[np.ones(50), np.full(50, 3)].astype("float32")
    kmeans = faiss.Kmeans(2, 1, niter=2, min_points_per_centroid=1)
    kmeans.train(x, weights=weights)
    np.testing.assert_allclose(kmeans.centroids, 0.75, rtol=1e-5)


def test_training_again_with_another_k(faiss):
    kmeans = faiss.Kmeans(16, 12, niter=3)
    kmeans.train(blobs())
    kmeans.reset(5)
    assert kmeans.centroids is None
    kmeans.train(blobs())
    assert kmeans.centroids.shape == (5, 16)


def test_clustering_in_one_dimension(faiss):
    x = np.repeat([1.0, 5.0, 9.0], 20)[:, None] + np.linspace(0, 0.1, 60)[:, None]
    clustering = faiss.Clustering1D(3)
    clustering.train_exact(x.astype("float32"))
    expected = x.reshape(3, 20).mean(1)
    np.testing.assert_allclose(np.sort(faiss.vector_to_array(clustering.centroids)), expected, rtol=1e-5)
    with pytest.raises(RuntimeError):
        faiss.Clustering1D(100).train_exact(x.astype("float32"))


def test_functions_with_pointers(faiss):
    x = blobs()
    centroids = np.zeros((12, 16), "float32")
    objective = faiss.kmeans_clustering(16, len(x), 12, faiss.swig_ptr(x), faiss.swig_ptr(centroids))
    D, _ = faiss.knn(x, centroids, 1)
    assert D.sum() == pytest.approx(objective, rel=1e-3)

    numbers = np.sort(np.random.RandomState(0).rand(40).astype("float32"))
    found = np.zeros(4, "float32")
    balance = faiss.kmeans1d(faiss.swig_ptr(numbers), 40, 4, faiss.swig_ptr(found))
    assert 1 <= balance < 4
    assert numbers[0] < found.min() < found.max() < numbers[-1]

    costs = np.add.outer(np.arange(5), -np.arange(7)).astype("float32") ** 2
    argmins = np.zeros(5, "int64")
    faiss.smawk(5, 7, faiss.swig_ptr(costs), faiss.swig_ptr(argmins))
    np.testing.assert_array_equal(argmins, costs.argmin(1))


def test_unknown_initialization(faiss):
    x = blobs()
    initialization = faiss.ClusteringInitialization(16, 5)
    initialization.method = 9
    centroids = np.zeros((5, 16), "float32")
    with pytest.raises(RuntimeError):
        initialization.init_centroids(len(x), faiss.swig_ptr(x), faiss.swig_ptr(centroids))
    initialization = faiss.ClusteringInitialization(16, 5)
    with pytest.raises(RuntimeError):
        initialization.init_centroids(4, faiss.swig_ptr(x), faiss.swig_ptr(centroids))
