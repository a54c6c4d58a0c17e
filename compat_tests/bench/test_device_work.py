"""What is measured on a GPU, in small on the CPU: it does what its name says, and results that are wrong are seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import faiss_torch

pytestmark = pytest.mark.usefixtures("benchmarks")


def workload(name):
    from benchmarks.workloads.cases import ON_DEVICE

    case = next(case for case in ON_DEVICE if case.name == name)
    return case, dataclasses.replace(case.workload, nb=3000, nlist=20, niter=4, d=12, sets=min(2, case.workload.sets))


@pytest.mark.parametrize("name", ["gpu_kmeans_8m_k1024", "gpu_kmeans_out_of_core", "gpu_batch_kmeans_32"])
def test_kmeans(name):
    from benchmarks.workloads import device_work
    from benchmarks.workloads.registry import comparison

    case, small = workload(name)
    (centroids,) = device_work.WORK[case.work](faiss_torch, small, "cpu")()
    x = device_work.vectors(small, "cpu").view(small.sets, small.nb, small.d)
    start = device_work.first_centroids(small, x).float()
    for each in range(small.sets):
        kmeans = faiss_torch.Kmeans(12, 20, niter=4, max_points_per_centroid=3000)
        kmeans.train(x[each], init_centroids=start[each])
        torch.testing.assert_close(centroids.view(-1, 20, 12)[each], kmeans.centroids)
    assert comparison(case.compare)((centroids,), (centroids,), small) is None
    assert "objective" in comparison(case.compare)((centroids,), (start,), small)


def test_nearest():
    from benchmarks.workloads import device_work
    from benchmarks.workloads.registry import comparison

    case, small = workload("gpu_nearest_1m_k8192_half")
    (labels,) = device_work.WORK[case.work](faiss_torch, small, "cpu")()
    assert comparison(case.compare)((labels,), (labels,), small) is None
    wrong = torch.where(torch.arange(len(labels)) < 1500, (labels + 1) % 20, labels)
    assert "50" in comparison(case.compare)((labels,), (wrong,), small)
    assert device_work.labels_right(small, "cpu", wrong) == pytest.approx(0.5, abs=0.01)


def test_vectors_are_made_in_blocks(monkeypatch):
    from benchmarks.workloads import device_work

    _, small = workload("gpu_kmeans_out_of_core")
    monkeypatch.setattr(device_work, "BLOCK", 700)
    x = device_work._made(small, "cpu", torch.empty(3000, 12, dtype=torch.float16))
    assert abs(float(x.float().mean())) < 0.05
    assert len(np.unique(x[:, 0].numpy())) > 1000
    assert torch.equal(x[:700], device_work._made(small, "cpu", torch.empty(700, 12, dtype=torch.float16)))


@pytest.mark.parametrize("name", ["gpu_flat_1m", "gpu_hamming_10m_nq1000"])
def test_search(name):
    from benchmarks.workloads import device_work, rivals
    from benchmarks.workloads.cases import SEARCH_ON_DEVICE
    from benchmarks.workloads.registry import comparison

    case = next(case for case in SEARCH_ON_DEVICE if case.name == name)
    small = dataclasses.replace(case.workload, nb=3000, d=32, nq=20, k=5)
    ours = device_work.WORK[case.work](faiss_torch, small, "cpu")()
    theirs = rivals.RIVALS["torch"].work[case.work](small, "cpu")()
    compare = comparison(case.compare)
    assert compare(theirs, ours, small) is None
    torch.testing.assert_close(theirs[0].float(), ours[0].float(), rtol=1e-4, atol=1e-3)
    wrong = (ours[0] + 1, (ours[1] + 1) % 3000)
    assert compare(theirs, wrong, small) is not None


def test_search_of_lists():
    from benchmarks.workloads import device_work
    from benchmarks.workloads.cases import SEARCH_ON_DEVICE
    from benchmarks.workloads.registry import comparison

    case = next(case for case in SEARCH_ON_DEVICE if case.name == "gpu_device_ivf_1m")
    small = dataclasses.replace(case.workload, nb=3000, d=12, nq=20, k=5, nlist=20, nprobe=4)
    ours = device_work.device_ivf(faiss_torch, small, "cpu")()
    assert isinstance(ours[0], torch.Tensor)
    compare = comparison(case.compare)
    assert compare((), ours, small) is None
    assert compare((), (ours[0], (ours[1] + 1) % 3000), small) is not None
