"""The scan of inverted lists by block minima of the Triton kernel, against the reference."""

import pytest
import torch
from screening import NAMES, adversarial

import faiss_torch
from faiss_torch import kernels
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.indexes import ivf_search
from faiss_torch.ops import block_minima, ivf_matrix, list_minima
from faiss_torch.ops.ivf_scan import Lists, scan_reference
from faiss_torch.ops.screen import BLOCK, Stored, bias_of, make_scorer

pytest.importorskip("triton")
from faiss_torch.kernels import block_minima as kernel
from faiss_torch.kernels import list_minima as list_kernel

METRICS = (METRIC_L2, METRIC_INNER_PRODUCT)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lists_of(vectors, sizes, metric_type):
    """Lists of vectors, each in whole blocks; what stands behind their rows may be anything."""
    sizes = torch.tensor(sizes)
    rooms = -(-sizes // BLOCK) * BLOCK
    begins = rooms.cumsum(0) - rooms
    capacity = int(rooms.sum())
    stored = torch.full((capacity, vectors.shape[1]), float("nan"))
    rows = torch.cat([torch.arange(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)])
    stored[rows] = vectors[: len(rows)]
    bias = torch.full((capacity,), float("inf"))
    bias[rows] = bias_of(stored[rows], metric_type)
    ids = torch.full((capacity,), -1, dtype=torch.int64)
    ids[rows] = torch.randperm(len(rows), generator=torch.Generator().manual_seed(5)) * 3
    finite = bool(vectors.isfinite().all())
    norm = float(torch.linalg.vector_norm(stored[rows], dim=1).max())
    stored, bias, ids = (each.to(DEVICE) for each in (stored, bias, ids))

    def rounded():
        return block_minima.rounded_rows(stored, metric_type, bias)

    return Lists(Stored(stored, bias, norm, finite), begins, sizes, ids, rounded_for=rounded)


def check(xq, lists, probes, rows, k, metric_type):
    scorer = make_scorer(xq.to(DEVICE), lists.stored, metric_type)
    rounded = list_minima.rounded_of(scorer, lists, probes, impl="triton")
    probes_there, rows_there = probes.to(DEVICE), rows.to(DEVICE)
    D, positions = list_minima.search(scorer, lists, rounded, probes_there, rows_there, k, metric_type, "triton")
    I = torch.where(positions < 0, -1, lists.ids[positions.clamp(min=0)]).cpu()
    on_cpu = lists._replace(
        stored=lists.stored._replace(vectors=lists.stored.vectors.cpu(), bias=lists.stored.bias.cpu()),
        ids=lists.ids.cpu(),
    )
    D_reference, I_reference = scan_reference(xq, on_cpu, probes, rows, k, metric_type)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D.cpu(), D_reference, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    if DEVICE.type == "cpu":  # where the interpreter takes its time
        monkeypatch.setattr(kernel, "ROWS", 8)


SIZES = [40, 0, 700, 1, 16, 513, 0, 90]


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(("nq", "nprobe", "d", "k"), [(1, 1, 1, 1), (9, 3, 20, 7), (150, 2, 33, 3), (4, 8, 97, 200)])
def test_sizes(nq, nprobe, d, k, metric_type):
    lists = lists_of(normal(sum(SIZES), d), SIZES, metric_type)
    probes = torch.rand(nq, len(SIZES), generator=torch.Generator().manual_seed(1)).argsort(1)[:, :nprobe]
    check(normal(nq, d, seed=2), lists, probes, lists.sizes[probes], k, metric_type)


@pytest.mark.parametrize("metric_type", METRICS)
def test_parts_of_lists_and_no_list(metric_type):
    lists = lists_of(normal(sum(SIZES), 12), SIZES, metric_type)
    probes = torch.tensor([[2, 5, -1], [-1, -1, -1], [1, 6, 2], [2, 0, 4], [5, -1, 2]])
    rows = torch.minimum(
        torch.where(probes < 0, 0, lists.sizes[probes.clamp(min=0)]),
        torch.tensor([[600, 3, 0], [0, 0, 0], [9, 9, 0], [65, 40, 2], [512, 0, 64]]),
    )
    check(normal(5, 12, seed=2), lists, probes, rows, 5, metric_type)
    check(normal(2, 12, seed=2), lists, probes[[1, 1]], rows[[1, 1]], 5, metric_type)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter computes with numpy
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "huge"])
def test_adversarial_data(name):
    x = torch.from_numpy(adversarial(330, 24)[name])
    lists = lists_of(x[30:], [100, 30, 170], METRIC_L2)
    probes = torch.tensor([[0, 2], [1, 0], [2, 1]]).repeat(10, 1)
    scorer = make_scorer(x[:30].to(DEVICE), lists.stored, METRIC_L2)
    rounded = list_minima.rounded_of(scorer, lists, probes, impl="triton")
    if rounded is None:  # data whose products are not finite go by the definition
        return
    rows = lists.sizes[probes].to(DEVICE)
    found = list_minima.search(scorer, lists, rounded, probes.to(DEVICE), rows, 6, METRIC_L2, "triton")
    expected = ivf_matrix.search(scorer, lists, probes.to(DEVICE), lists.sizes[probes].to(DEVICE), 6, METRIC_L2)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0], expected[0])


def test_an_index(monkeypatch):
    """The index scans its lists by the kernel, and knows when its rows have changed."""
    xb, xq = normal(3000, 16).numpy(), normal(60, 16, seed=1).numpy()
    monkeypatch.setattr(list_minima, "LEAST_PAIRS", 0)
    index = faiss_torch.index_factory(16, "IVF20,Flat")
    index.train(xb)
    index.add(xb)
    index.nprobe, index.search_mode = 5, "csr"
    used = []
    search = list_minima.search
    monkeypatch.setattr(list_minima, "search", lambda *args: used.append(1) or search(*args))
    few = faiss_torch.SearchParametersIVF(nprobe=5, sel=faiss_torch.IDSelectorRange(0, 2500))
    cut = faiss_torch.SearchParametersIVF(nprobe=5, max_codes=200)
    for params, by_kernel in ((None, 1), (None, 2), (few, 2), (cut, 3)):
        wanted = index.search(xq, 6, params=params)
        with monkeypatch.context() as patch:
            patch.setattr(ivf_search.ivf_tiles, "tiles_of", lambda *args: None)
            patch.setattr(kernels, "chosen", lambda kernel, device: kernel in ("list_minima", "block_minima"))
            found = index.search(xq, 6, params=params)
        assert len(used) == by_kernel
        assert (found[1] == wanted[1]).all()
        torch.testing.assert_close(torch.from_numpy(found[0]), torch.from_numpy(wanted[0]))
        index.remove_ids(faiss_torch.IDSelectorRange(0, 1000))
    assert not kernels._given_up


def test_a_kernel_that_fails_is_replaced(monkeypatch):
    monkeypatch.setattr(kernels, "_given_up", set())
    lists = lists_of(normal(sum(SIZES), 12), SIZES, METRIC_L2)
    probes = torch.tensor([[2, 5], [0, 2]])
    scorer = make_scorer(normal(2, 12, seed=2).to(DEVICE), lists.stored, METRIC_L2)
    rounded = list_minima.rounded_of(scorer, lists, probes, impl="triton")
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(list_kernel, "list_minima", lambda *args: 1 / 0)
    arguments = (scorer, lists, rounded, probes.to(DEVICE), lists.sizes[probes].to(DEVICE), 3, METRIC_L2)
    with pytest.raises(RuntimeError, match="kernel fails"):
        list_minima.search(*arguments, "triton")
    assert list_minima.search(*arguments) is None
    assert kernels._given_up == {"list_minima"}
    assert list_minima.rounded_of(scorer, lists, probes) is None
