"""Hamming distances by products and by counting, against the bits one by one."""

import numpy as np
import pytest
import torch

from faiss_torch import kernels
from faiss_torch.ops.binary import hamming
from faiss_torch.ops.runtime import arithmetic

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WAYS = ("counted", "int8", "float32")


def codes(n, size, seed=0, highest=256):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, highest, (n, size), dtype=np.uint8))


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Multiply or count, whatever the number of queries."""
    monkeypatch.setattr(hamming, "LEAST_MULTIPLIED", 1 << 30 if request.param == "counted" else 0)
    if request.param == "int8" and not arithmetic.int8_is_exact():
        pytest.skip("no exact product of int8 here")
    with arithmetic.pinned("int8" if request.param == "int8" else "float32"):
        yield request.param


def by_definition(xq, xb, k):
    """The k nearest by distance, then id."""
    distances = hamming.hamming_reference(xq, xb).long()
    keys = (distances * (len(xb) + 1) + torch.arange(len(xb))).sort(1)[0][:, :k]
    D = torch.full((len(xq), k), hamming.NO_DISTANCE, dtype=torch.int32)
    I = torch.full((len(xq), k), -1, dtype=torch.int64)
    D[:, : keys.shape[1]], I[:, : keys.shape[1]] = keys // (len(xb) + 1), keys % (len(xb) + 1)
    return D, I


@pytest.mark.parametrize("size", [1, 3, 8, 12, 40])
def test_all_distances(size, way):
    xq, xb = codes(11, size), codes(70, size, seed=1)
    assert torch.equal(hamming.distances(xq, xb), hamming.hamming_reference(xq, xb))


@pytest.mark.parametrize(
    ("nq", "nb", "size", "k"),
    [(0, 5, 4, 3), (3, 0, 4, 3), (3, 5, 4, 0), (1, 1, 1, 1), (5, 7, 2, 10), (9, 3000, 4, 6), (300, 200, 3, 200)],
)
def test_neighbours(nq, nb, size, k, way):
    xq, xb = codes(nq, size), codes(nb, size, seed=1)
    for found, expected in zip(hamming.knn(xq, xb, k), by_definition(xq, xb, k), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("highest", [2, 256])
def test_many_tiles_and_ties(highest, way, monkeypatch):
    """Codes of few values have many ties, which go to the lowest id."""
    monkeypatch.setattr(hamming, "LEAST_CODES", 128)
    monkeypatch.setattr(hamming, "MOST_CODES", 128)
    monkeypatch.setattr(hamming, "TILE_QUERIES", 7)
    monkeypatch.setattr(hamming, "COUNTED_BYTES", 1000)
    monkeypatch.setattr(hamming, "LEAST_CANDIDATES", 50)
    xq, xb = codes(20, 8, highest=highest), codes(1037, 8, seed=1, highest=highest)
    for k in (1, 17, 150):
        for found, expected in zip(hamming.knn(xq, xb, k), by_definition(xq, xb, k), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("radius", [0, 1, 25, 33, 100])
def test_within_a_radius(radius, way):
    xq, xb = codes(10, 4), codes(2500, 4, seed=1)
    xb[700] = xq[3]
    lims, D, I = hamming.range_search(xq, xb, radius)
    distances = hamming.hamming_reference(xq, xb)
    rows, expected = (distances < radius).nonzero(as_tuple=True)
    assert torch.equal(I, expected)
    assert torch.equal(D, distances[rows, expected])
    assert torch.equal(lims.diff(), torch.bincount(rows, minlength=10))
    assert (radius < 1) == (lims[-1] == 0)


@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(DEVICE), reason="no triton")
@pytest.mark.parametrize("few", [0, 1 << 10])
@pytest.mark.parametrize(
    ("nq", "nb", "size", "k"), [(1, 1, 1, 1), (3, 7, 2, 10), (2, 500, 4, 6), (5, 300, 3, 40), (3, 130, 40, 5)]
)
def test_kernels(nq, nb, size, k, few, monkeypatch):
    from faiss_torch.kernels import hamming as kernel
    from faiss_torch.kernels import tuning

    monkeypatch.setattr(kernel, "FEW_QUERIES", few)
    monkeypatch.setattr(tuning, "HAMMING_ROWS", 4)
    monkeypatch.setattr(kernel, "SIGN_BYTES", 1)  # tile by tile
    xq, xb = codes(nq, size), codes(nb, size, seed=1, highest=4 if size == 4 else 256)
    found = hamming.knn(xq.to(DEVICE), xb.to(DEVICE), k, impl="triton")
    for ours, expected in zip(found, by_definition(xq, xb, k), strict=True):
        assert torch.equal(ours.cpu(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("size", [8, 300])
def test_on_a_gpu(size):
    xq, xb = codes(40, size), codes(200_000, size, seed=1)
    expected = hamming.knn(xq, xb, 30)
    for found, wanted in zip(hamming.knn(xq.cuda(), xb.cuda(), 30), expected, strict=True):
        assert torch.equal(found.cpu(), wanted)
