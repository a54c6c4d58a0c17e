"""The scan of inverted lists by block minima of the Triton kernel, against the reference."""

import numpy as np
import pytest
import torch
from screening import NAMES, adversarial

import faiss_torch
from faiss_torch import kernels
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops.gpu import lists as gpu_lists
from faiss_torch.ops.gpu import search as gpu_search
from faiss_torch.ops.gpu.search import RoundedFor
from faiss_torch.ops.runtime.cuda_graphs import Graphs
from faiss_torch.ops.scoring.candidates import Candidates, in_range
from faiss_torch.ops.scoring.scorers import make_scorer, multiplies
from faiss_torch.ops.scoring.stored import BLOCK, Lists, Stored, bias_of
from faiss_torch.ops.search import by_query
from faiss_torch.ops.search.filtering import narrowed_lists
from faiss_torch.ops.search.paths import scan_reference

pytest.importorskip("triton")
from faiss_torch.kernels import block_minima as kernel
from faiss_torch.kernels import list_minima as list_kernel

pytestmark = pytest.mark.slow

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

    def rounded(scanned):
        known = gpu_search.rounded_rows(stored, metric_type, bias)
        return known if scanned.bias is bias else known.found_by(scanned.bias, scanned.rows)

    return Lists(Stored(stored, bias, norm, finite), begins, sizes, ids, rounded_for=RoundedFor(rounded, Graphs()))


def check(xq, lists, probes, rows, k, metric_type, by_list=True):
    probes_there, rows_there = probes.to(DEVICE), rows.to(DEVICE)
    D, positions, left = gpu_lists.search(
        xq.to(DEVICE), lists, probes_there, rows_there, k, metric_type, by_list, "triton"
    )
    assert not left.any()
    I = torch.where(positions < 0, -1, lists.ids[positions.clamp(min=0)]).cpu()
    stored = lists.stored
    rows_scanned = torch.arange(len(stored.bias)) if stored.rows is None else stored.rows.cpu()
    vectors = stored.vectors.cpu()[rows_scanned]
    on_cpu = lists._replace(
        stored=stored._replace(vectors=vectors, bias=stored.bias.cpu(), rows=None), ids=lists.ids.cpu()
    )
    D_reference, I_reference = scan_reference(xq, on_cpu, probes, rows, k, metric_type)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D.cpu(), D_reference, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    if DEVICE.type == "cpu":  # where the interpreter takes its time
        monkeypatch.setattr(kernel, "MOST_ROWS", 8)


#: Data of which the margin leaves all queries, and those whose neighbours are equally far but for rounding.
LEFT, NEARLY_TIED = ("constant vectors", "large offset", "tiny", "zeros"), ("near-duplicates", "two scales")

SIZES = [40, 0, 700, 1, 16, 513, 0, 90]


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(
    ("nq", "nprobe", "d", "k", "by_list"),
    [(1, 1, 1, 1, True), (1, 5, 3, 2, False), (7, 3, 20, 7, True), (7, 3, 20, 7, False), (2, 8, 97, 150, False)],
)
def test_sizes(nq, nprobe, d, k, by_list, metric_type):
    lists = lists_of(normal(sum(SIZES), d), SIZES, metric_type)
    probes = torch.rand(nq, len(SIZES), generator=torch.Generator().manual_seed(1)).argsort(1)[:, :nprobe]
    check(normal(nq, d, seed=2), lists, probes, lists.sizes[probes], k, metric_type, by_list)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(("d", "k"), [(16, 1), (40, 2)])
def test_a_threshold_from_the_nearest_lists(d, k, metric_type, monkeypatch):
    sizes = [120, 0, 160, 90, 50, 7, 61, 40, 30]
    lists = lists_of(normal(sum(sizes), d), sizes, metric_type)
    probes = torch.rand(12, len(sizes), generator=torch.Generator().manual_seed(1)).argsort(1)[:, :8]
    rows = lists.sizes[probes]
    rows[3:6, 2:] //= 2
    assert gpu_lists._plan(8, sum(sizes) / len(sizes), d, k, True).first
    check(normal(12, d, seed=2), lists, probes, rows, k, metric_type)
    # a threshold that lets too many through
    monkeypatch.setattr(gpu_lists, "LEAST_HITS", 4)
    monkeypatch.setattr(gpu_lists, "HITS_A_NEIGHBOUR", 1)
    monkeypatch.setattr(gpu_lists, "blocks_wanted", lambda k, slack, width: (4, 4))
    found = gpu_lists.search(
        normal(12, d, seed=2).to(DEVICE), lists, probes.to(DEVICE), rows.to(DEVICE), k, metric_type, True, "triton"
    )
    assert found.left.any()


def test_an_id_that_is_there_twice():
    """Both are found: equal distances and equal ids have places of their own."""
    vectors = normal(200, 12)
    vectors[150:153] = vectors[10]
    lists = lists_of(vectors, [100, 100], METRIC_L2)
    there = lists.ids.cpu()
    there[there == there[10]] = 7
    rows = [10, *(112 - 100 + row for row in range(150, 153))]
    there[rows] = 7
    lists = lists._replace(ids=there.to(DEVICE))
    probes = torch.tensor([[0, 1]], device=DEVICE)
    found = gpu_lists.search(
        vectors[10:11].to(DEVICE), lists, probes, lists.sizes.to(DEVICE)[probes], 6, METRIC_L2, True, "triton"
    )
    assert not found.left.any()
    assert sorted(found.positions[0, :4].tolist()) == sorted(rows)
    assert found.distances[0, :4].tolist() == [0.0] * 4
    assert len(found.positions[0].unique()) == 6


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_filtered_lists(share):
    """Few rows are gathered, of many the others are left out."""
    sizes = [120, 0, 260, 90]
    lists = lists_of(normal(sum(sizes), 20), sizes, METRIC_L2)
    selected = torch.rand(3 * sum(sizes), generator=torch.Generator().manual_seed(3)).to(DEVICE) < share
    probes = torch.tensor([[0, 2], [3, 1], [2, 3]])
    some = narrowed_lists(lists, probes, lambda ids: selected[ids.clamp(min=0)] & (ids >= 0))
    assert (some.stored.rows is not None) == (share < 0.5)
    check(normal(3, 20, seed=2), some, probes, some.sizes[probes], 6, METRIC_L2)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("by_list", [True, False])
def test_rows_within_a_radius(by_list, metric_type):
    lists = lists_of(normal(sum(SIZES), 20), SIZES, metric_type)
    probes = torch.tensor([[2, 5, -1], [-1, -1, -1], [1, 6, 2], [2, 0, 4], [5, 7, 2]])
    rows = torch.where(probes < 0, 0, lists.sizes[probes.clamp(min=0)]).to(DEVICE)
    rows[3, 0] = 300
    xq, radius = normal(5, 20, seed=2).to(DEVICE), 25.0 if metric_type == METRIC_L2 else 7.0
    scorer = make_scorer(xq, lists.stored, metric_type)
    found = gpu_lists.candidates(xq, lists, probes.to(DEVICE), rows, radius, metric_type, by_list, "triton")
    expected = by_query.candidates(scorer, lists, probes.to(DEVICE), rows, scorer.score_of(radius) + scorer.margin)
    assert not found.left.any()
    results = [
        in_range(Candidates.concatenate(each, DEVICE), 3, scorer, radius, metric_type)
        for each in (found.candidates, expected)
    ]
    assert int(results[0][0][-1]) > 20
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


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
    x = torch.from_numpy(adversarial(208, 24)[name])
    lists = lists_of(x[8:], [80, 30, 90], METRIC_L2)
    probes = torch.tensor([[0, 2], [1, 0], [2, 1]]).repeat(3, 1)[:8]
    if not multiplies(lists.stored, METRIC_L2):  # such data go by the definition
        return
    rows = lists.sizes[probes].to(DEVICE)
    found = gpu_lists.search(x[:8].to(DEVICE), lists, probes.to(DEVICE), rows, 4, METRIC_L2, True, "triton")
    scorer = make_scorer(x[:8].to(DEVICE), lists.stored, METRIC_L2)
    expected = by_query.search(scorer, lists, probes.to(DEVICE), rows, 4, METRIC_L2)
    settled = ~found.left
    assert settled.any() or name in LEFT
    torch.testing.assert_close(found.distances[settled], expected[0][settled], rtol=1e-5, atol=1e-38)
    if name not in NEARLY_TIED:
        assert torch.equal(found.positions[settled], expected[1][settled])


@pytest.mark.parametrize("mode", ["csr", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_index(mode, dtype, monkeypatch):
    """The index chooses and scans its lists by the kernels, and knows when its rows have changed."""
    xb, xq = normal(900, 16).numpy(), normal(4, 16, seed=1).numpy()
    index = faiss_torch.index_factory(16, "IVF20,Flat")
    index.train(xb)
    index.add(xb)
    index.to("cpu", dtype)
    index.nprobe, index.search_mode = 4, mode
    xq[3, 3] = np.nan
    used = []

    def noted(search):
        def noting(*args, **more):
            found = search(*args, **more)
            used.append(search.__name__ if found is not None else None)
            return found

        return noting

    for name in ("search", "probe_and_search"):
        monkeypatch.setattr(gpu_lists, name, noted(getattr(gpu_lists, name)))
    few = faiss_torch.SearchParametersIVF(nprobe=4, sel=faiss_torch.IDSelectorRange(0, 800))
    cut = faiss_torch.SearchParametersIVF(nprobe=4, max_codes=100)
    for params, ways in ((None, 2), (None, 2), (few, 1), (cut, 1)):
        wanted, wanted_within = index.search(xq, 6, params=params), index.range_search(xq, 14.0, params=params)
        used.clear()
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "chosen", lambda kernel, device: kernel in ("list_minima", "block_minima"))
            found = index.search(xq, 6, params=params)
            within = index.range_search(xq, 14.0, params=params)
        assert len([each for each in used if each]) >= ways  # the query that is not finite is tried again
        assert (found[1] == wanted[1]).all()
        torch.testing.assert_close(torch.from_numpy(found[0]), torch.from_numpy(wanted[0]))
        assert all((ours == theirs).all() for ours, theirs in zip(within[::2], wanted_within[::2], strict=True))
        index.remove_ids(faiss_torch.IDSelectorRange(0, 200))
    stats = faiss_torch.cvar.indexIVF_stats
    counted = []
    for chosen in (False, True):
        stats.reset()
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "chosen", lambda kernel, device, chosen=chosen: chosen)
            index.search(xq, 6)
        counted.append((stats.nq, stats.nlist, stats.ndis))
    assert counted[0] == counted[1]
    assert not kernels._given_up


def test_a_kernel_that_fails_is_replaced(monkeypatch):
    monkeypatch.setattr(kernels, "_given_up", set())
    lists = lists_of(normal(sum(SIZES), 12), SIZES, METRIC_L2)
    probes = torch.tensor([[2, 5], [0, 2]])
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(list_kernel, "all_minima", lambda *args: 1 / 0)
    arguments = (normal(2, 12, seed=2).to(DEVICE), lists, probes.to(DEVICE), lists.sizes[probes].to(DEVICE), 3)
    with pytest.raises(RuntimeError, match="kernel fails"):
        gpu_lists.search(*arguments, METRIC_L2, True, "triton")
    assert gpu_lists.search(*arguments, METRIC_L2) is None
    assert kernels._given_up == {"list_minima"}
