"""Iterations that are queued ahead of the host against iterations one by one."""

import importlib.util

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch import kernels
from faiss_torch.ops.clustering import lloyd
from faiss_torch.parts.clustering import clustering

N, D, K = 600, 9, 14
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((6, D)) * 4
    return (centers[rng.integers(0, 6, N)] + rng.standard_normal((N, D))).astype(np.float32)


def trained(x, weights=None, init_centroids=None, **settings):
    settings = {"niter": 12, "min_points_per_centroid": 1, **settings}
    kmeans = faiss_torch.Kmeans(D, K, **settings)
    kmeans.train(x, weights=weights, init_centroids=init_centroids)
    return kmeans


def ahead(monkeypatch):
    """Let k-means on the CPU queue its iterations as on a GPU."""
    used = []

    def runs_ahead(x):
        used.append(x is not None)
        return x is not None

    monkeypatch.setattr(clustering, "runs_ahead", runs_ahead)
    return used


def same(found, expected):
    np.testing.assert_allclose(found.obj, expected.obj, rtol=1e-5)
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-5, atol=1e-5)
    for name in ("imbalance_factor", "nsplit"):
        ours, theirs = ([each[name] for each in kmeans.iteration_stats] for kmeans in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


SETTINGS = {
    "as usual": {},
    "until nothing changes": {"niter": 100},
    "until little changes": {"niter": 100, "early_stop_threshold": 0.01},
    "one iteration": {"niter": 1},
    "none": {"niter": 0},
    "three tries": {"nredo": 3},
    "spherical": {"spherical": True},
    "integers": {"int_centroids": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, monkeypatch):
    expected = trained(vectors(), **SETTINGS[name])
    used = ahead(monkeypatch)
    same(trained(vectors(), **SETTINGS[name]), expected)
    assert all(used)
    assert used


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_and_centroids_to_start_from(frozen, monkeypatch):
    x, weights = vectors(), np.random.default_rng(1).random(N, dtype=np.float32)
    settings = {"weights": weights, "init_centroids": x[:5].copy(), "frozen_centroids": frozen}
    expected = trained(x, **settings)
    ahead(monkeypatch)
    found = trained(x, **settings)
    same(found, expected)
    assert frozen == np.array_equal(found.centroids[:5], x[:5])


def test_clusters_are_split_while_more_is_queued(monkeypatch):
    x = vectors()
    x[: N - 20] = x[np.arange(N - 20) % 9]  # nine different vectors, and twenty others
    expected = trained(x, niter=20)
    assert sum(each["nsplit"] for each in expected.iteration_stats[2:]) > 0
    used = ahead(monkeypatch)
    same(trained(x, niter=20), expected)
    assert used


def test_the_host_looks_now_and_then(monkeypatch):
    looks = []
    look = lloyd.Lloyd._look
    monkeypatch.setattr(lloyd.Lloyd, "_look", lambda self: looks.append(1) or look(self))
    ahead(monkeypatch)
    x = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    found = trained(x, niter=23, early_stop_threshold=-1.0)
    assert len(found.obj) == 23
    assert not any(each["nsplit"] for each in found.iteration_stats)
    assert len(looks) == 5  # after 1, 3, 7, 15 and 23


def test_without_room_for_all_at_once(monkeypatch):
    expected = trained(vectors())
    ahead(monkeypatch)

    def no_room(self):
        raise torch.cuda.OutOfMemoryError("no room")

    monkeypatch.setattr(lloyd.Lloyd, "_step", no_room)
    same(trained(vectors()), expected)


def test_vectors_without_a_centroid(monkeypatch):
    ahead(monkeypatch)
    x = vectors()
    x[7] = np.nan
    with pytest.raises(RuntimeError, match="invalid cluster assignment"):
        trained(x, check_input_data_for_NaNs=False, seed=3)


def test_sets_wait_for_their_own_splits_only():
    sets = np.stack([vectors(1), vectors(2), vectors(3)])
    sets[1, : N - 20] = sets[1, np.arange(N - 20) % 9]
    centroids, labels, obj = faiss_torch.batch_kmeans(sets, K, niter=20)
    for number, x in enumerate(sets):
        alone = trained(x, niter=20, max_points_per_centroid=N)
        np.testing.assert_allclose(obj[number, : len(alone.obj)], alone.obj, rtol=1e-5)
        np.testing.assert_allclose(centroids[number], alone.centroids, rtol=1e-5, atol=1e-5)
        assert labels[number].min() >= 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")
def test_by_the_kernels(monkeypatch):
    x = vectors()[:150]
    expected = trained(x, niter=4)
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    assert lloyd.runs_ahead(torch.from_numpy(x))
    for dtype in (np.float32, np.float16):
        found = trained(x.astype(dtype), niter=4)
        same(found, expected if dtype == np.float32 else trained(x.astype(dtype).astype(np.float32), niter=4))
    assert not kernels._given_up


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", SETTINGS)
def test_on_a_gpu(name):
    x = np.random.default_rng(0).standard_normal((20_000, D)).astype(np.float32)
    expected = trained(x, **SETTINGS[name], max_points_per_centroid=N * N)
    found = trained(x, **SETTINGS[name], max_points_per_centroid=N * N, gpu=1)
    same(found, expected)
    again = trained(x, **SETTINGS[name], max_points_per_centroid=N * N, gpu=1)
    np.testing.assert_array_equal(found.centroids, again.centroids)
    assert not kernels._given_up
