"""k-means of tensors, of several objects and of several processes: the same as of one matrix."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.contrib import clustering
from faiss_torch.contrib.distributed_clustering import DatasetAssignDispatch
from faiss_torch.contrib.torch import clustering as torch_clustering
from faiss_torch.contrib.torch.quantization import ProductQuantizer

X = np.random.RandomState(1).rand(500, 6).astype("float32")


def expected(niter=5):
    return clustering.kmeans(12, clustering.DatasetAssign(X), niter=niter, verbose=False)


def test_kmeans_of_a_tensor():
    for data in (
        torch_clustering.DatasetAssign(torch.from_numpy(X)),
        torch_clustering.DatasetAssignGPU(None, torch.from_numpy(X)),
    ):
        centroids = torch_clustering.kmeans(12, data, niter=5, verbose=False)
        assert isinstance(centroids, torch.Tensor)
        np.testing.assert_allclose(centroids.numpy(), expected(), rtol=1e-4)


def test_weights_of_a_tensor():
    weights, centroids = np.random.RandomState(2).rand(500).astype("float32"), X[:4].copy()
    data = torch_clustering.DatasetAssign(torch.from_numpy(X))
    I, D, sums = data.assign_to(torch.from_numpy(centroids), torch.from_numpy(weights))
    wanted = clustering.DatasetAssign(X).assign_to(centroids, weights)
    np.testing.assert_array_equal(I, wanted[0])
    np.testing.assert_allclose(D.numpy(), wanted[1], rtol=1e-5)
    np.testing.assert_allclose(sums.numpy(), wanted[2], rtol=1e-4)


@pytest.mark.parametrize("in_parallel", [False, True])
def test_kmeans_of_several_objects(in_parallel):
    parts = [clustering.DatasetAssign(part) for part in (X[:100], X[100:101], X[101:])]
    data = DatasetAssignDispatch(parts, in_parallel)
    assert (data.count(), data.dim()) == (500, 6)
    np.testing.assert_array_equal(data.get_subset(np.array([499, 0, 100, 99, 101])), X[[499, 0, 100, 99, 101]])
    np.testing.assert_allclose(clustering.kmeans(12, data, niter=5, verbose=False), expected(), rtol=1e-4)
    weights = np.random.RandomState(2).rand(500).astype("float32")
    for found, wanted in zip(
        data.assign_to(X[:4], weights), clustering.DatasetAssign(X).assign_to(X[:4], weights), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


MEETING = """
import os, sys
import numpy as np, torch, torch.distributed
import faiss_torch
from faiss_torch.contrib.clustering import kmeans
from faiss_torch.contrib.distributed_clustering import DatasetAssignDistributed, DistributedKmeans

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
x = np.load(f"{folder}/x.npy")
"""

LEAVING = """
torch.distributed.barrier()
os._exit(0)  # torch 2.4 hangs now and then when it takes a group apart
"""

WITH_TORCH_DISTRIBUTED = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)


def run_in_two_processes(program, folder):
    """Run a program in two processes that form a group."""
    np.save(folder / "x.npy", X)
    paths = str(pathlib.Path(faiss_torch.__file__).resolve().parents[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING + program + LEAVING, str(rank), str(folder)],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()


OF_TENSORS = """
data = DatasetAssignDistributed(torch.from_numpy(x[:180] if rank == 0 else x[180:]))
assert data.count() == len(x)
centroids, stats = kmeans(12, data, niter=5, verbose=False, return_stats=True)
np.savez(f"{folder}/{rank}.npz", centroids=centroids.numpy(), obj=[one["obj"] for one in stats])
"""


@pytest.mark.slow
@WITH_TORCH_DISTRIBUTED
def test_kmeans_of_two_processes(tmp_path):
    run_in_two_processes(OF_TENSORS, tmp_path)
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    np.testing.assert_array_equal(found[0]["centroids"], found[1]["centroids"])
    np.testing.assert_allclose(found[0]["centroids"], expected(), rtol=1e-4)
    _, stats = clustering.kmeans(12, clustering.DatasetAssign(X), niter=5, verbose=False, return_stats=True)
    np.testing.assert_allclose(found[0]["obj"], [one["obj"] for one in stats], rtol=1e-4)


#: Settings of k-means, and how many of the vectors are the first process's.
DISTRIBUTED = {
    "as usual": ({}, 180),
    "none in one process": ({}, 0),
    "a subset": ({"max_points_per_centroid": 20}, 250),
    "a subset with repetitions": ({"max_points_per_centroid": 30, "use_faster_subsampling": True}, 100),
    "three tries": ({"nredo": 3, "seed": 5}, 499),
    "spherical": ({"spherical": True}, 180),
    "many iterations": ({"niter": 80}, 300),
    "in portions": ({"memory_budget": 0}, 200),
    "two devices each": ({"gpu": 2}, 181),
    "weights": ({}, 180),
    "frozen": ({"frozen_centroids": True}, 180),
}

DISTRIBUTED_KMEANS = """
faiss_torch.set_gpu_devices(["cpu", "cpu"])
results = {}
for name, (settings, first) in %r.items():
    clustering = DistributedKmeans(6, 12, **{"niter": 5, **settings})
    own = slice(first) if rank == 0 else slice(first, None)
    weights = np.arange(len(x), dtype="float32")[own] if name == "weights" else None
    start = x[:4].copy() if name == "frozen" else None
    objective = clustering.train(x[own].astype("float64"), weights=weights, init_centroids=start)
    assert objective == clustering.obj[-1]
    results[name], results[name + " obj"] = clustering.centroids, clustering.obj
    results[name + " splits"] = [each["nsplit"] for each in clustering.iteration_stats]
np.savez(f"{folder}/{rank}.npz", **results)

def refused(message, x, **settings):
    try:
        DistributedKmeans(6, 12, niter=1, **settings).train(x)
    except (RuntimeError, AssertionError) as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)

broken = x.copy()
broken[3 if rank == 0 else 0, 2] = 0.0 if rank else np.nan  # in one process only
refused("NaN", broken)
refused("(6) should be at least", x[:3])
refused("init_method", x, init_method=faiss_torch.ClusteringInitMethod_KMEANS_PLUS_PLUS)
refused("progressive_dim_steps", x, progressive_dim_steps=3)
"""


@pytest.mark.slow
@WITH_TORCH_DISTRIBUTED
def test_distributed_kmeans(tmp_path):
    run_in_two_processes(DISTRIBUTED_KMEANS % DISTRIBUTED, tmp_path)
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    for name, (settings, _) in DISTRIBUTED.items():
        settings = {key: value for key, value in settings.items() if key not in ("gpu", "memory_budget")}
        alone = faiss_torch.Kmeans(6, 12, **{"niter": 5, **settings})
        weights = np.arange(len(X), dtype="float32") if name == "weights" else None
        alone.train(X, weights=weights, init_centroids=X[:4].copy() if name == "frozen" else None)
        np.testing.assert_array_equal(found[0][name], found[1][name])
        np.testing.assert_allclose(found[0][name], alone.centroids, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[0][name + " obj"], alone.obj, rtol=1e-5, err_msg=name)
        assert found[0][name + " splits"].tolist() == [each["nsplit"] for each in alone.iteration_stats]


@pytest.mark.slow
@WITH_TORCH_DISTRIBUTED
def test_the_example_under_torchrun():
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(root / "docs" / "examples" / "distributed_kmeans.py")],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-4


def test_product_quantizer_of_tensors():
    x = torch.from_numpy(np.random.RandomState(3).rand(2000, 8).astype("float32"))
    quantizer = ProductQuantizer(8, 4, 8)
    quantizer.train(x)
    codes = quantizer.encode(x)
    assert (codes.shape, codes.dtype, quantizer.codebook.shape) == ((2000, 4), torch.uint8, (4, 256, 2))
    error = (quantizer.decode(codes) - x).square().mean()
    assert error < 0.02 * x.var()
    for arguments in ((9, 4, 8), (8, 4, 6)):
        with pytest.raises(AssertionError):
            ProductQuantizer(*arguments)
