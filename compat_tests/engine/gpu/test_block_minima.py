"""Exact search by block minima of the Triton kernel, against the definition."""

import pytest
import torch
from screening import NAMES, adversarial, check_neighbours

import faiss_torch
from faiss_torch import kernels
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops.gpu import flat as gpu_flat
from faiss_torch.ops.gpu import search as gpu_search
from faiss_torch.ops.gpu.search import RoundedFor, rounded_rows
from faiss_torch.ops.runtime.cuda_graphs import Graphs
from faiss_torch.ops.scoring.stored import BLOCK, Stored, bias_of
from faiss_torch.ops.search import flat
from faiss_torch.ops.search.filtering import narrowed
from faiss_torch.parts.screens import rounded as kernel_rows

pytest.importorskip("triton")
from faiss_torch.kernels import block_minima as kernel
from faiss_torch.kernels import tuning

pytestmark = pytest.mark.slow

METRICS = (METRIC_L2, METRIC_INNER_PRODUCT)
TIED = ("constant vectors", "integers", "zeros")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def stored(xb, metric_type):
    padding = -len(xb) % BLOCK
    bias = torch.nn.functional.pad(bias_of(xb, metric_type), (0, padding), value=float("inf"))
    vectors = torch.nn.functional.pad(xb, (0, 0, 0, padding))
    finite = bool(xb.isfinite().all())
    return Stored(vectors, bias, float(torch.linalg.vector_norm(xb, dim=1).max()), finite)


def rounded_for(rows, n, metric_type):
    """What an index gives its searches."""

    def rounded(scanned):
        vectors, bias = rows.vectors[:n], rows.bias[:n]
        known = gpu_search.rounded_rows(vectors, metric_type, bias)
        return known if scanned.bias is rows.bias else known.found_by(scanned.bias, scanned.rows)

    return RoundedFor(rounded, Graphs())


def searched(xq, xb, k, metric_type):
    rows = stored(xb, metric_type)
    rounded = rounded_for(rows, len(xb), metric_type)
    return flat.knn(xq, rows, len(xb), k, metric_type, rounded_for=rounded, impl="triton")


@pytest.fixture(autouse=True)
def large_enough(monkeypatch):
    monkeypatch.setattr(flat, "FEW_FACTORS", 0)
    if DEVICE.type == "cpu":  # the interpreter is for one thread, and slow
        monkeypatch.setattr(flat, "omp_get_max_threads", lambda: 1)
        monkeypatch.setattr(kernel, "MOST_ROWS", 8)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(
    ("nq", "nb", "d", "k"), [(1, 1, 1, 1), (3, 100, 3, 7), (5, 1024, 16, 3), (129, 100, 33, 1), (2, 700, 97, 70)]
)
def test_sizes(nq, nb, d, k, metric_type):
    xq, xb = normal(nq, d), normal(nb, d, seed=1)
    D, I = searched(xq, xb, k, metric_type)
    D_reference, I_reference = flat.knn_reference(xq, xb, k, metric_type)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "metric_type", "d"),
    [
        (torch.float16, METRIC_INNER_PRODUCT, 20),
        (torch.float16, METRIC_L2, 150),
        (torch.bfloat16, METRIC_L2, 20),
        (torch.bfloat16, METRIC_INNER_PRODUCT, 64),
        (torch.int8, METRIC_L2, 20),
        (torch.uint8, METRIC_L2, 64),
        (torch.uint8, METRIC_INNER_PRODUCT, 20),
    ],
)
def test_rows_that_are_stored_in_less(dtype, d, metric_type):
    """They are searched as they are: nothing is copied, and the distances are those of what is stored."""
    if dtype.is_floating_point:
        xq, xb = normal(9, d), normal(700, d, seed=1).to(dtype)
    else:
        xq, xb = 40 * normal(9, d) + 100, (30 * normal(700, d, seed=1)).clamp(-99, 99).add(100).clamp(0, 127).to(dtype)
    rows = stored(xb.float(), metric_type)._replace(vectors=torch.nn.functional.pad(xb, (0, 0, 0, -len(xb) % BLOCK)))
    rounded = gpu_search.rounded_rows(rows.vectors[:700], metric_type, rows.bias[:700])
    assert rounded.centroids.data_ptr() == rows.vectors.data_ptr()
    found = gpu_flat.search_by_kernels(xq, rows, 700, 5, metric_type, rounded, "triton")
    certain = ~found.left
    assert certain.sum() >= (2 if dtype == torch.bfloat16 or metric_type == METRIC_L2 else 8)
    check_neighbours((found.distances[certain], found.positions[certain]), xq[certain], xb.float(), 5, metric_type)
    searched_rows = flat.knn(
        xq, rows, 700, 5, metric_type, rounded_for=RoundedFor(lambda _: rounded, Graphs()), impl="triton"
    )
    check_neighbours(searched_rows, xq, xb.float(), 5, metric_type)


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_filtered_rows(share):
    """Few rows are gathered, of many the others are left out."""
    xq, xb = normal(9, 20), normal(900, 20, seed=1)
    rows = stored(xb, METRIC_L2)
    selected = torch.rand(900, generator=torch.Generator().manual_seed(3)).to(DEVICE) < share
    some, n = narrowed(rows, selected)
    assert (some.rows is not None) == (share < 0.5)
    D, I = flat.knn(xq, some, n, 6, METRIC_L2, rounded_for=rounded_for(rows, len(xb), METRIC_L2), impl="triton")
    numbers = selected.nonzero().view(-1)
    D_reference, I_reference = flat.knn_reference(xq, xb[selected], 6, METRIC_L2)
    assert torch.equal(I, numbers[I_reference])
    torch.testing.assert_close(D, D_reference)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("share", [0.1, 0.7, 1.0])
def test_rows_within_a_radius(share, metric_type):
    xq, xb = normal(7, 20), normal(600, 20, seed=1)
    xq[2] = 1e19 * xq[2]  # whose square float32 does not hold
    rows = stored(xb, metric_type)
    selected = torch.rand(600, generator=torch.Generator().manual_seed(3)).to(DEVICE) < share
    some, n = narrowed(rows, selected)
    radius = 22.0 if metric_type == METRIC_L2 else 8.0
    rounded = rounded_for(rows, len(xb), metric_type)
    found = flat.range_search(xq, some, n, radius, metric_type, rounded_for=rounded, impl="triton")
    expected = flat.range_search(xq, some, n, radius, metric_type)
    assert torch.equal(found[0], expected[0])
    assert 4 < int(found[0][-1]) < 2000
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[1], expected[1])
    none = flat.range_search(xq[:0], some, n, radius, metric_type, rounded_for=rounded, impl="triton")
    assert [len(each) for each in none] == [1, 0, 0]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_queries_that_are_not_finite():
    xq, xb = normal(6, 20), normal(900, 20, seed=1)
    xq[1, 3], xq[3, 4], xq[4] = float("nan"), float("inf"), 1e20
    for metric_type in METRICS:
        D, I = searched(xq, xb, 4, metric_type)
        D_plain, I_plain = flat.knn(xq, stored(xb, metric_type), len(xb), 4, metric_type)
        assert torch.equal(I, I_plain)
        torch.testing.assert_close(D, D_plain)


def test_more_neighbours_as_close_as_the_last_than_a_first_try_looks_at():
    xb = normal(900, 20)
    xb[100:160] = xb[100]  # in blocks of their own, nearly all
    xq = xb[100:103] + 1e-3
    rows = stored(xb, METRIC_L2)
    rounded = rounded_for(rows, len(xb), METRIC_L2).make(rows)
    assert gpu_flat.search_by_kernels(xq, rows, 900, 5, METRIC_L2, rounded, "triton").left.all()
    found = gpu_flat.search_by_kernels(xq, rows, 900, 5, METRIC_L2, rounded, "triton", gpu_search.MORE_SLACK)
    assert not found.left.any()
    assert torch.equal(found.positions, torch.arange(100, 105, device=DEVICE).expand(3, 5))
    assert torch.equal(searched(xq, xb, 5, METRIC_L2)[1], found.positions)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("metric_type", METRICS)
def test_rows_so_long_that_scores_overflow(metric_type):
    """What kernels would lose they are not asked for; queries so long are left."""
    xb = normal(300, 20)
    for value, query in ((1e35, 1e12), (2.7e19, 1.8e19), (1e17, 1e19), (1e17, 3e20)):
        xb[7], xb[7, 0] = 0, value
        xq = normal(4, 20, seed=2)
        xq[1, 0] = query
        D, I = searched(xq, xb, 4, metric_type)
        D_plain, I_plain = flat.knn(xq, stored(xb, metric_type), len(xb), 4, metric_type)
        torch.testing.assert_close(D, D_plain, rtol=1e-5, atol=1e-5)
        assert torch.equal(I[[0, 2, 3]], I_plain[[0, 2, 3]])


def test_many_neighbours_of_wide_rows(monkeypatch):
    """Rows too wide for one program are folded, and a few more are listed than are wanted."""
    monkeypatch.setattr(tuning, "SMALLEST_VALUES", 256)
    xq, xb = normal(3, 20), normal(2000, 20, seed=1)
    rows = stored(xb, METRIC_L2)
    rounded = rounded_for(rows, len(xb), METRIC_L2).make(rows)
    found = gpu_flat.search_by_kernels(xq, rows, 2000, 90, METRIC_L2, rounded, "triton")
    assert not found.left.any()
    assert torch.equal(found.positions, flat.knn_reference(xq, xb, 90, METRIC_L2)[1])


@pytest.mark.parametrize("d", [300, 513])
def test_vectors_of_several_chunks(d):
    xq, xb = normal(3, d), normal(200, d, seed=1)
    assert torch.equal(searched(xq, xb, 5, METRIC_L2)[1], flat.knn_reference(xq, xb, 5, METRIC_L2)[1])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter computes with numpy
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_adversarial_data(name, metric_type):
    x = torch.from_numpy(adversarial(208, 24)[name]).to(DEVICE)
    xq, xb = x[:8].contiguous(), x[8:].contiguous()
    D, I = searched(xq, xb, 4, metric_type)
    check_neighbours((D, I), xq, xb, 4, metric_type)
    if name in TIED:  # exactly, in float32 too
        assert torch.equal(I, flat.knn_reference(xq, xb, 4, metric_type)[1])


@pytest.mark.parametrize("metric_type", METRICS)
def test_the_bounds_hold(metric_type):
    """A minimum is below that of the exact scores, and by little."""
    xq, xb = normal(20, 48) + 3, normal(1500, 48, seed=1) + 3
    xb[7] *= 1e4  # one long vector is no burden for the others
    stored_rows = stored(xb, metric_type)
    rounded = rounded_for(stored_rows, len(xb), metric_type).make(stored_rows)
    minima, halves = kernel.block_minima(xq, rounded, len(xb), 4)
    origin = rounded.shift.double()
    wide, queries = xb.double() - origin, xq.double() - origin
    torch.testing.assert_close(halves.double(), queries.square().sum(1) / 2, rtol=1e-6, atol=0)
    scores = queries @ -wide.T
    if metric_type == METRIC_L2:
        scores += wide.square().sum(1) / 2
    tile, rows = 4 * kernel.BLOCKS, torch.arange(len(xb))
    block = rows // tile * kernel.BLOCKS + rows % kernel.BLOCKS
    exact = torch.full(minima.shape, float("inf"), dtype=torch.float64, device=DEVICE)
    exact.scatter_reduce_(1, block.to(DEVICE).expand(len(xq), -1), scores, "amin")
    there = exact < float("inf")
    assert (minima[~there] == float("inf")).all()
    difference = (exact - minima.double())[there].view(len(xq), -1)
    lengths = queries.norm(dim=1, keepdim=True) * wide[8:].norm(dim=1).max()
    assert (difference >= 0).all()
    assert ((difference <= 2.0**-9 * lengths).sum(1) >= there.sum(1) - 1).all()


@pytest.mark.parametrize("metric", ["IndexFlatL2", "IndexFlatIP"])
def test_an_index(metric, monkeypatch):
    """The index searches by the kernel, and knows when its rows have changed."""
    xq, xb = normal(12, 20).cpu().numpy(), normal(1500, 20, seed=1).cpu().numpy()
    expected, index = getattr(faiss_torch, metric)(20), getattr(faiss_torch, metric)(20)
    expected.add(xb)
    wanted = expected.search(xq, 7)
    used = []
    by_kernels = gpu_flat.search_by_kernels
    monkeypatch.setattr(gpu_flat, "search_by_kernels", lambda *args: used.append(1) or by_kernels(*args))
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    for part in (xb[:1000], xb[1000:]):
        index.add(part)
        D, I = index.search(xq, 7)
    assert len(used) == 2
    assert (I == wanted[1]).all()
    torch.testing.assert_close(torch.from_numpy(D), torch.from_numpy(wanted[0]))
    index.remove_ids(faiss_torch.IDSelectorRange(0, 4))
    assert (index.search(xb[4:6], 1)[1][:, 0] == [0, 1]).all() or metric == "IndexFlatIP"
    assert not kernels._given_up


def test_without_memory_there_are_fewer_queries_at_a_time(monkeypatch):
    xq, xb = normal(9, 8), normal(600, 8, seed=1)
    sizes, minima_of = [], kernel.block_minima

    def block_minima_with_little_room(x, *more):
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("no room")
        return minima_of(x, *more)

    monkeypatch.setattr(kernel, "block_minima", block_minima_with_little_room)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    I = searched(xq, xb, 4, METRIC_L2)[1]
    assert torch.equal(I, flat.knn_reference(xq, xb, 4, METRIC_L2)[1])
    assert sizes == [9, 5, 3, 3, 3]
    monkeypatch.setattr(kernel, "block_minima", lambda *args: block_minima_with_little_room(torch.empty(9, 1)))
    with pytest.raises(RuntimeError, match="out of memory: no room for 3 of 9 queries"):
        searched(xq, xb, 4, METRIC_L2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("metric", ["IndexFlatL2", "IndexFlatIP"])
def test_rows_that_are_added_are_rounded_alone(metric, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    made = []
    monkeypatch.setattr(kernel_rows, "rounded_rows", lambda *args: made.append(len(args[0])) or rounded_rows(*args))
    xq, xb = normal(2, 20), normal(700, 20, seed=1)
    xb[350:] += 3  # a scale and an origin of before hold for others
    xb[690, 0] = 1e6  # and not for what is too long for float16
    xb = xb.to(dtype).float().clamp(max=60_000) if dtype == torch.float16 else xb
    index, expected = (getattr(faiss_torch, metric)(20).to("cpu", dtype) for _ in range(2))
    for begin, end in ((0, 300), (300, 340), (340, 400), (400, 650), (650, 700)):
        index.add(xb[begin:end])
        D, I = index.search(xq, 5)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "DEVICES", ())
            expected.add(xb[begin:end])
            D_expected, I_expected = expected.search(xq, 5)
        assert torch.equal(I, I_expected)
        torch.testing.assert_close(D, D_expected, rtol=1e-5, atol=1e-4)
    # in float32 whole tiles have room, 512 rows where these are small, and the last vector is too long; what changes at
    # once is looked at anew where it is more than half
    assert made in ([[300, 700], [300, 650, 700]] if dtype == torch.float32 else [[300, 650]])
    assert not kernels._given_up


def test_a_kernel_that_fails_is_replaced(monkeypatch):
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(kernels, "_given_up", set())
    monkeypatch.setattr(kernel, "block_minima", lambda *args: 1 / 0)
    xq, xb = normal(3, 8), normal(3000, 8, seed=1)
    rows = stored(xb, METRIC_L2)
    rounded = rounded_for(rows, len(xb), METRIC_L2)
    I = flat.knn(xq, rows, len(xb), 2, METRIC_L2, rounded_for=rounded)[1]
    assert torch.equal(I, flat.knn_reference(xq, xb, 2, METRIC_L2)[1])
    assert kernels._given_up == {"block_minima"}
    with pytest.raises(RuntimeError, match="kernel fails"):
        flat.knn(xq, rows, len(xb), 2, METRIC_L2, rounded_for=rounded, impl="triton")
