"""Search on a real GPU, at sizes that the interpreter cannot do: what the kernels find is what the CPU finds."""

import pytest
import torch

import faiss_torch
from faiss_torch import kernels
from faiss_torch.ops.binary import hamming

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
NB, D = 200_000, 96


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    xb, xq = torch.randn(NB, D, generator=generator), torch.randn(1000, D, generator=generator)
    xb[5000:5040] = xb[5000]
    return xb, xq


@pytest.fixture(autouse=True)
def no_kernel_fails():
    yield
    assert not kernels._given_up


def same(found, expected):
    """Compare neighbours; where distances are equal but for rounding, ids may be in another order."""
    (D_found, I_found), (D_expected, I_expected) = ([each.cpu() for each in pair] for pair in (found, expected))
    torch.testing.assert_close(D_found, D_expected, rtol=2e-5, atol=2e-4)
    differ = I_found != I_expected
    assert float(differ.double().mean()) < 1e-4
    for row in differ.any(1).nonzero().view(-1).tolist():
        assert set(I_found[row, :-1].tolist()) <= set(I_expected[row].tolist())


@pytest.mark.parametrize("metric", [faiss_torch.METRIC_L2, faiss_torch.METRIC_INNER_PRODUCT])
@pytest.mark.parametrize(("nq", "k"), [(1, 10), (33, 1000), (1000, 1), (1000, 10), (1000, 100), (40, 2048), (3, 5000)])
def test_flat(data, nq, k, metric):
    xb, xq = data
    index, there = faiss_torch.IndexFlat(D, metric), faiss_torch.IndexFlat(D, metric).to("cuda")
    for each in (index, there):
        each.add(xb)
    same(there.search(xq[:nq].cuda(), k), index.search(xq[:nq], k))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flat_in_16_bits(data, dtype):
    xb, xq = data
    index, there = faiss_torch.IndexFlatL2(D).to("cpu", dtype), faiss_torch.IndexFlatL2(D).to("cuda", dtype)
    for each in (index, there):
        each.add(xb)
    same(there.search(xq.cuda(), 20), index.search(xq, 20))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float16])
def test_raw_tensors(data, dtype):
    xb, xq = ((30 * x).clamp(-100, 100).round() for x in data)
    if dtype == torch.uint8:
        xb, xq = xb + 100, xq + 100
    resources = faiss_torch.StandardGpuResources()
    found = faiss_torch.knn_gpu(resources, xq[:200].cuda(), xb.to(dtype).cuda(), 10)
    expected = faiss_torch.knn(xq[:200], xb, 10)
    assert torch.equal(found[0].cpu(), expected[0])  # integers


@pytest.mark.parametrize("share", [0.01, 0.6])
def test_filters_and_ranges(data, share):
    xb, xq = data
    index, there = faiss_torch.IndexFlatL2(D), faiss_torch.IndexFlatL2(D).to("cuda")
    for each in (index, there):
        each.add(xb)
    params = faiss_torch.SearchParameters(sel=faiss_torch.IDSelectorRange(0, int(share * NB)))
    same(there.search(xq.cuda(), 10, params=params), index.search(xq, 10, params=params))
    radius = 105.0
    found = [each.cpu() for each in there.range_search(xq.cuda(), radius, params=params)]
    expected = index.range_search(xq, radius, params=params)
    assert int(expected[0][-1]) > 100
    assert (found[0] - expected[0]).abs().max() <= 2  # those at the radius, but for rounding
    both = torch.isin(found[2], expected[2])
    assert float(both.double().mean()) > 0.999


@pytest.mark.parametrize("mode", ["csr", "matrix", "auto"])
@pytest.mark.parametrize(
    ("nq", "nprobe", "k"), [(1, 32, 20), (30, 8, 10), (1000, 32, 20), (1000, 64, 200), (500, 1, 1)]
)
def test_lists(data, nq, nprobe, k, mode):
    xb, xq = data
    index = faiss_torch.index_factory(D, "IVF512,Flat")
    index.train(xb[:50_000])
    index.add(xb)
    there = faiss_torch.deserialize_index(faiss_torch.serialize_index(index)).to("cuda")
    for each in (index, there):
        each.nprobe = nprobe
    there.search_mode = mode
    for _ in range(4):  # few queries are recorded
        same(there.search(xq[:nq].cuda(), k), index.search(xq[:nq], k))
    few = faiss_torch.SearchParametersIVF(nprobe=nprobe, sel=faiss_torch.IDSelectorRange(0, NB // 2))
    same(there.search(xq[:nq].cuda(), k, params=few), index.search(xq[:nq], k, params=few))
    there.remove_ids(faiss_torch.IDSelectorRange(0, 1000))
    index.remove_ids(faiss_torch.IDSelectorRange(0, 1000))
    same(there.search(xq[:nq].cuda(), k), index.search(xq[:nq], k))


@pytest.mark.parametrize(("nq", "size", "k"), [(1, 32, 10), (4, 8, 100), (200, 32, 10), (200, 5, 50), (1000, 100, 7)])
def test_binary_codes(nq, size, k):
    generator = torch.Generator().manual_seed(0)
    xb = torch.randint(0, 256, (300_001, size), dtype=torch.uint8, generator=generator)
    xq = torch.randint(0, 256, (nq, size), dtype=torch.uint8, generator=generator)
    for found, expected in zip(hamming.knn(xq.cuda(), xb.cuda(), k), hamming.knn(xq, xb, k), strict=True):
        assert torch.equal(found.cpu(), expected)
