"""contrib.torch: k-means and quantisation of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.contrib.torch import clustering, quantization


def vectors(n, d, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).rand(n, d).astype("float32"))


def test_the_same_place_under_faiss_name(monkeypatch):
    faiss_torch.install()
    try:
        import faiss.contrib.torch.clustering
        import faiss.contrib.torch.quantization

        assert faiss.contrib.torch.clustering is clustering
        assert faiss.contrib.torch.quantization is quantization
    finally:
        faiss_torch.uninstall()


def test_assignment_and_sums():
    x, centroids = vectors(100, 7), vectors(5, 7, seed=1)
    weights = vectors(100, 1, seed=2)[:, 0]
    data = clustering.DatasetAssign(x)
    assert (data.count(), data.dim()) == (100, 7)
    distances = torch.cdist(x, centroids) ** 2
    for given in (None, weights):
        I, D, sums = data.assign_to(centroids, given)
        assert isinstance(I, np.ndarray)
        np.testing.assert_array_equal(I, distances.argmin(1).numpy())
        np.testing.assert_allclose(D, distances.min(1).values, rtol=1e-4)
        weighted = x if given is None else x * weights[:, None]
        for c in range(5):
            torch.testing.assert_close(sums[c], weighted[I == c].sum(0))


def test_kmeans_is_as_good_as_that_of_the_library():
    x = vectors(3000, 16)
    x[:1000] = x[0]  # many equal vectors, so that clusters have to be split
    centroids = clustering.kmeans(50, clustering.DatasetAssign(x), 10, verbose=False)
    assert isinstance(centroids, torch.Tensor)
    assert centroids.shape == (50, 16)
    kmeans = faiss_torch.Kmeans(16, 50, niter=10)
    kmeans.train(x.numpy())
    error = faiss_torch.knn(x, centroids, 1)[0].sum()
    assert error < 1.1 * faiss_torch.knn(x.numpy(), kmeans.centroids, 1)[0].sum()


def test_assignment_on_a_gpu():
    faiss_torch.set_gpu_devices(["cpu"])
    try:
        x, centroids = vectors(100, 7), vectors(5, 7, seed=1)
        data = clustering.DatasetAssignGPU(faiss_torch.StandardGpuResources(), x)
        np.testing.assert_array_equal(data.assign_to(centroids)[0], clustering.DatasetAssign(x).assign_to(centroids)[0])
    finally:
        faiss_torch.set_gpu_devices(None)


@pytest.mark.parametrize("M", [1, 4])
def test_product_quantizer(M):
    x = vectors(2000, 8)
    pq = quantization.ProductQuantizer(8, M, 8)
    pq.train(x)
    codes = pq.encode(x[:500])
    assert codes.dtype == torch.uint8
    assert codes.shape == (500, M)
    decoded = pq.decode(codes)
    for m, part in enumerate(x[:500].chunk(M, dim=1)):
        nearest = torch.cdist(part, pq.codebook[m]).min(1).values
        own = (part - decoded.chunk(M, dim=1)[m]).norm(dim=1)
        torch.testing.assert_close(own, nearest, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("k", "code_size"), [(1, 0), (2, 1), (256, 1), (257, 2), (300, 2)])
def test_vector_quantizer(k, code_size):
    x = vectors(2000, 4)
    quantizer = quantization.VectorQuantizer(4, k)
    assert isinstance(quantizer, quantization.Quantizer)
    assert (quantizer.d, quantizer.k, quantizer.code_size) == (4, k, code_size)
    quantizer.train(x)
    codes = quantizer.encode(x[:500])
    assert (codes.dtype, tuple(codes.shape)) == (torch.uint8, (500, code_size))
    nearest = torch.cdist(x[:500], quantizer.codebook)
    numbers = sum((codes[:, byte].long() << 8 * byte for byte in range(code_size)), torch.zeros(500, dtype=torch.long))
    torch.testing.assert_close(nearest[torch.arange(500), numbers], nearest.min(1).values)
    torch.testing.assert_close(quantizer.decode(codes), quantizer.codebook[numbers])


def test_bad_settings():
    with pytest.raises(AssertionError, match="k is 0"):
        quantization.VectorQuantizer(8, 0)
    with pytest.raises(AssertionError, match="8 dimensions cannot be cut into 3 parts"):
        quantization.ProductQuantizer(8, 3, 8)
    with pytest.raises(AssertionError, match="nbits is 6, expected 8"):
        quantization.ProductQuantizer(8, 4, 6)
