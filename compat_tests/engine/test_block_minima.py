"""Exact search by block minima of the Triton kernel, against the definition."""

import pytest
import torch
from screening import NAMES, adversarial

import faiss_torch
from faiss_torch import kernels
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops import block_minima, flat
from faiss_torch.ops.screen import BLOCK, Stored, bias_of

pytest.importorskip("triton")
from faiss_torch.kernels import block_minima as kernel

METRICS = (METRIC_L2, METRIC_INNER_PRODUCT)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def stored(xb, metric_type):
    padding = -len(xb) % BLOCK
    bias = torch.nn.functional.pad(bias_of(xb, metric_type), (0, padding), value=float("inf"))
    vectors = torch.nn.functional.pad(xb, (0, 0, 0, padding))
    finite = bool(xb.isfinite().all())
    return Stored(vectors, bias, float(torch.linalg.vector_norm(xb, dim=1).max()), finite)


def searched(xq, xb, k, metric_type):
    def rounded():
        return block_minima.rounded_rows(xb, metric_type)

    return flat.knn(xq, stored(xb, metric_type), len(xb), k, metric_type, rounded_for=rounded, impl="triton")


@pytest.fixture(autouse=True)
def large_enough(monkeypatch):
    monkeypatch.setattr(flat, "FEW_FACTORS", 0)
    if DEVICE.type == "cpu":  # the interpreter is for one thread, and slow
        monkeypatch.setattr(flat, "omp_get_max_threads", lambda: 1)
        monkeypatch.setattr(kernel, "ROWS", 8)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(
    ("nq", "nb", "d", "k"), [(1, 1, 1, 1), (3, 100, 3, 7), (5, 4096, 16, 3), (130, 5000, 33, 10), (2, 5000, 97, 70)]
)
def test_sizes(nq, nb, d, k, metric_type):
    xq, xb = normal(nq, d), normal(nb, d, seed=1)
    D, I = searched(xq, xb, k, metric_type)
    D_reference, I_reference = flat.knn_reference(xq, xb, k, metric_type)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("d", [300, 513])
def test_vectors_of_several_chunks(d):
    xq, xb = normal(3, d), normal(200, d, seed=1)
    assert torch.equal(searched(xq, xb, 5, METRIC_L2)[1], flat.knn_reference(xq, xb, 5, METRIC_L2)[1])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter computes with numpy
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_adversarial_data(name, metric_type):
    x = torch.from_numpy(adversarial(400, 24)[name]).to(DEVICE)
    xq, xb = x[:30].contiguous(), x[30:].contiguous()
    D, I = searched(xq, xb, 6, metric_type)
    # beside the plain screen: where distances are equal but for rounding, the order is that of float32
    D_plain, I_plain = flat.knn(xq, stored(xb, metric_type), len(xb), 6, metric_type)
    assert torch.equal(I, I_plain)
    assert torch.equal(D, D_plain)


@pytest.mark.parametrize("metric_type", METRICS)
def test_the_bound_holds(metric_type):
    """No minimum is further from that of exact scores than the kernel says, and few blocks are looked at again."""
    xq, xb = normal(20, 48) + 3, normal(6000, 48, seed=1) + 3
    minima, errors = kernel.block_minima(xq, block_minima.rounded_rows(xb, metric_type))
    wide, rows = xb.double(), torch.arange(len(xb))
    scores = xq.double() @ -wide.T
    if metric_type == METRIC_L2:
        scores += wide.square().sum(1) / 2
        # the kernel's are of another origin: the same for all rows of a query
    tile = kernel.ROWS * kernel.BLOCKS
    block = rows // tile * kernel.BLOCKS + rows % kernel.BLOCKS
    exact = torch.full(minima.shape, float("inf"), dtype=torch.float64, device=DEVICE)
    exact.scatter_reduce_(1, block.to(DEVICE).expand(len(xq), -1), scores, "amin")
    there = exact < float("inf")
    assert (minima[~there] >= 1e38).all()
    difference = (minima.double() - exact).masked_fill(~there, 0.0)
    if metric_type == METRIC_L2:
        middle = difference.sum(1, keepdim=True) / there.sum(1, keepdim=True)
        difference = (difference - middle).masked_fill(~there, 0.0)
        assert (difference.abs().amax(1) <= 2 * errors).all()
    else:
        assert (difference.abs().amax(1) <= errors).all()
    within = minima <= minima.topk(5, largest=False)[0].amax(1, keepdim=True) + 2 * errors[:, None]
    assert float(within.sum(1).double().mean()) < 12


@pytest.mark.parametrize("metric", ["IndexFlatL2", "IndexFlatIP"])
def test_an_index(metric, monkeypatch):
    """The index searches by the kernel, and knows when its rows have changed."""
    monkeypatch.setattr(block_minima, "LEAST_ROWS", 100)
    xq, xb = normal(40, 20).cpu().numpy(), normal(5000, 20, seed=1).cpu().numpy()
    expected, index = getattr(faiss_torch, metric)(20), getattr(faiss_torch, metric)(20)
    expected.add(xb)
    wanted = expected.search(xq, 7)
    used = []
    by_kernel = block_minima.by_kernel
    monkeypatch.setattr(block_minima, "by_kernel", lambda *args: used.append(1) or by_kernel(*args))
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(flat.flat_tiles, "tiles_of", lambda *args: None)
    for part in (xb[:4000], xb[4000:]):
        index.add(part)
        D, I = index.search(xq, 7)
    assert len(used) == 2
    assert (I == wanted[1]).all()
    torch.testing.assert_close(torch.from_numpy(D), torch.from_numpy(wanted[0]))
    index.remove_ids(faiss_torch.IDSelectorRange(0, 4))
    assert (index.search(xb[4:6], 1)[1][:, 0] == [0, 1]).all() or metric == "IndexFlatIP"
    assert not kernels._given_up


def test_a_kernel_that_fails_is_replaced(monkeypatch):
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(kernels, "_given_up", set())
    monkeypatch.setattr(block_minima, "LEAST_ROWS", 0)
    monkeypatch.setattr(kernel, "block_minima", lambda *args: 1 / 0)
    xq, xb = normal(3, 8), normal(3000, 8, seed=1)

    def rounded():
        return block_minima.rounded_rows(xb, METRIC_L2)

    rows = stored(xb, METRIC_L2)
    I = flat.knn(xq, rows, len(xb), 2, METRIC_L2, rounded_for=rounded)[1]
    assert torch.equal(I, flat.knn_reference(xq, xb, 2, METRIC_L2)[1])
    assert kernels._given_up == {"block_minima"}
    with pytest.raises(RuntimeError, match="kernel fails"):
        flat.knn(xq, rows, len(xb), 2, METRIC_L2, rounded_for=rounded, impl="triton")
