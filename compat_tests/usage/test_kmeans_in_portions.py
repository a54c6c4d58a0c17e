"""k-means of vectors that a device has no room for, and of vectors on several devices: the same as of one matrix."""

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.ops.runtime import memory, transfer
from faiss_torch.parts.clustering import training_set

N, D, K = 2000, 12, 20
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)


def trained(x, weights=None, **settings):
    settings = {"niter": 6, "max_points_per_centroid": N, **settings}
    kmeans = faiss_torch.Kmeans(D, K, **settings)
    kmeans.train(x, weights=weights)
    return kmeans


def same(found, expected):
    assert isinstance(found.centroids, np.ndarray)
    np.testing.assert_allclose(found.obj, expected.obj, rtol=1e-5)
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-4, atol=1e-5)


def portions(monkeypatch):
    """The number of rows of each portion that is carried."""
    seen = []
    iterate = transfer.Carrier.__iter__

    def counted(self):
        for rows, vectors in iterate(self):
            seen.append(len(vectors))
            yield rows, vectors

    monkeypatch.setattr(transfer.Carrier, "__iter__", counted)
    return seen


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("budget", [0, 1 << 16, 1 << 30])
def test_files_of_any_dtype(dtype, budget, tmp_path, monkeypatch):
    x = (X * 20 + 100).astype(dtype)
    x.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", dtype=dtype, mode="r", shape=(N, D))
    expected = trained(mapped.astype(np.float32))
    seen = portions(monkeypatch)
    same(trained(mapped, memory_budget=budget), expected)
    if dtype == "float32":  # the CPU works on them where they are
        assert not seen
    elif budget == 0:
        assert max(seen) == training_set.FEW_VECTORS
    elif budget == 1 << 16:
        resident = budget // (4 * D) - transfer.SLOTS * training_set.FEW_VECTORS
        assert seen[:2] == [resident, training_set.FEW_VECTORS]
        # those that stay come once, the others in each iteration
        assert sum(seen) == resident + 6 * (N - resident)
    else:
        assert sum(seen) == N


def test_settings_of_the_rest(monkeypatch):
    weights = np.random.default_rng(1).random(N, dtype=np.float32)
    x = X.astype(np.float64)
    for settings in ({"weights": weights}, {"spherical": True}, {"nredo": 2}, {"max_points_per_centroid": 50}):
        same(trained(x, memory_budget=1 << 16, **settings), trained(X, **settings))


def test_what_is_carried_once_for_all_tries(monkeypatch):
    seen = portions(monkeypatch)
    trained(X.astype(np.float64), nredo=3)
    assert sum(seen) == N


def test_tensors_in_16_bits():
    x = torch.from_numpy(X).to(torch.bfloat16)
    found, expected = trained(x), trained(x.float())
    assert torch.equal(found.centroids, expected.centroids)


def test_values_that_are_not_finite():
    for dtype, value in ((np.float16, np.inf), (np.float32, np.nan), (np.float64, 1e300)):  # which float32 cannot hold
        x = X.astype(dtype)
        x[1234, 5] = value
        for budget in (0, None):
            with pytest.raises(RuntimeError, match="NaN"):
                trained(x, memory_budget=budget)


@pytest.fixture
def two_gpus():
    faiss_torch.set_gpu_devices(["cpu", "cpu"])
    yield
    faiss_torch.set_gpu_devices(None)


@pytest.mark.parametrize("settings", [{}, {"spherical": True}, {"nredo": 2}, {"niter": 60}])
def test_two_devices(settings, two_gpus, monkeypatch):
    sizes = []
    place = training_set.TrainingSet._place
    monkeypatch.setattr(
        training_set.TrainingSet, "_place", lambda self, *args: sizes.append(len(self.x)) or place(self, *args)
    )
    weights = np.random.default_rng(1).random(N, dtype=np.float32)
    found = trained(X, weights=weights, gpu=2, **settings)
    assert sizes == [N // 2, N // 2]
    same(found, trained(X, weights=weights, **settings))
    assert isinstance(found.index, faiss_torch.IndexReplicas)
    I = found.index.search(X[:50], 1)[1]
    assert (I >= 0).all()


def test_more_devices_than_vectors(two_gpus):
    faiss_torch.set_gpu_devices(["cpu"] * 5)
    x = X[:3]
    kmeans = faiss_torch.Kmeans(D, 2, gpu=5, niter=3, min_points_per_centroid=1)
    expected = faiss_torch.Kmeans(D, 2, niter=3, min_points_per_centroid=1)
    kmeans.train(x)
    expected.train(x)
    np.testing.assert_allclose(kmeans.centroids, expected.centroids, rtol=1e-6)


def test_work_is_halved_where_memory_is_short():
    def room_for(most, seen):
        def work(rows):
            if rows.stop - rows.start > most:
                raise torch.cuda.OutOfMemoryError("no room")
            seen.append(rows)
            return rows.start

        return work

    for most, expected in ((100, [100]), (50, [50, 50]), (49, [25, 25, 25, 25]), (25, [25, 25, 25, 25])):
        seen = []
        starts = memory.halved_if_short(room_for(most, seen), 100, "rows")
        assert [each.stop - each.start for each in seen] == expected
        assert starts == [each.start for each in seen]
    with pytest.raises(RuntimeError, match="no room for 25 of 100 rows"):
        memory.halved_if_short(room_for(24, []), 100, "rows")
    assert memory.halved_if_short(room_for(5, []), 0, "rows") == []


def test_an_iteration_where_memory_is_short(monkeypatch):
    expected = trained(X)
    from faiss_torch.parts.clustering import assignment

    rows = assignment.Assignment._of_rows
    calls = []

    def short(self, flat, x, *args):
        calls.append(len(x))
        if len(x) > N // 2:
            raise torch.cuda.OutOfMemoryError("no room")
        return rows(self, flat, x, *args)

    monkeypatch.setattr(assignment.Assignment, "_of_rows", short)
    same(trained(X), expected)
    assert set(calls) == {N, N // 2}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pinned", [False, True])
def test_on_a_gpu_without_room(dtype, pinned):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((200_000, D)).astype(dtype))
    expected = trained(x.float(), max_points_per_centroid=200_000)
    given = x.pin_memory() if pinned else x
    for budget in (1 << 20, 1 << 22, None):
        found = trained(given, max_points_per_centroid=200_000, memory_budget=budget, gpu=1)
        np.testing.assert_allclose(found.obj, expected.obj, rtol=1e-5)
        torch.testing.assert_close(found.centroids, expected.centroids, rtol=1e-4, atol=1e-4)
