"""Screening by tiles: the bounds of each arithmetic, and searches that are exact whichever of them screened."""

import threading

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st
from screening import METRICS, NAMES, adversarial, few_queries_by_blocks, reference

import faiss_torch
from faiss_torch.constants import METRIC_L2
from faiss_torch.contrib.ivf_tools import permute_invlists
from faiss_torch.ops.runtime import arithmetic
from faiss_torch.ops.scoring.scorers import make_scorer
from faiss_torch.ops.scoring.stored import Stored
from faiss_torch.ops.search import flat, inverted
from faiss_torch.ops.search.flat import knn_reference
from faiss_torch.ops.tiles import flat as flat_tiles
from faiss_torch.ops.tiles import lists as list_tiles
from faiss_torch.ops.tiles import scan as tile_scan
from faiss_torch.ops.tiles import tile_set
from faiss_torch.ops.tiles.loops import where_true
from faiss_torch.ops.tiles.scan import Scan
from faiss_torch.ops.tiles.scan_loops import ROUNDED_QUERIES, look_at
from faiss_torch.ops.tiles.tile import largest_scores, make_frame
from faiss_torch.ops.tiles.tile_set import ARITHMETICS, Screen, TileSet
from faiss_torch.parts.screens.tiles import ScreenTiles


def scores_of(name, frame, x, xq):
    """Lower bounds and true scores, in float64, of all pairs of a query and a row of one tile; rows not in the tile."""
    kind = ARITHMETICS[name]
    tile = kind.make_tile(frame, x)
    tiles = TileSet.make(kind, frame, [tile], torch.zeros(1, dtype=torch.int64), torch.tensor([len(x)]))
    screen = Screen(tiles, xq)
    columns = tile.codes.shape[1]
    room = torch.empty((len(xq) + ROUNDED_QUERIES) * columns, dtype=kind.score_dtype)
    everyone = torch.arange(len(xq))
    look = look_at(screen.spans([(0, 0, len(xq))]), everyone, everyone, screen.codes, screen.terms, tiles.facts, room)
    computed = look.scores.view(len(xq), columns)[:, : len(x)]
    lower = (computed - (screen.terms[:, :3] @ tiles.facts.lower[0])[:, None]) * (
        screen.terms[:, 3:] * tiles.facts.steps[0]
    )
    shift = frame.shift.double()
    if frame.metric_type == METRIC_L2:
        true = (x.double() - shift).square().sum(1) / 2 - (xq.double() - shift) @ (x.double() - shift).T
    else:
        true = -xq.double() @ (x.double() - shift).T
    return lower, true, tile.always


@pytest.mark.parametrize("arithmetic_name", ARITHMETICS)
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 3, 24, 97])
def test_computed_scores_less_their_bounds_are_below_the_true_ones(arithmetic_name, metric_type, name, d):
    x = torch.from_numpy(adversarial(150, d, seed=d)[name])
    xq = torch.cat([x[:20], x[-20:] * 1.5, torch.zeros(1, d), x[:3] * 1e3, x[:3] * 1e-3])
    frame = make_frame(x, metric_type)
    lower, true, always = scores_of(arithmetic_name, frame, x, xq)
    if always is not None:
        assert len(always) <= len(x) // 8
        lower[:, always] = float("-inf")
    assert not bool(lower.isnan().any())
    # the true scores' own float64 rounding is nothing beside the float32 in which the bounds are computed
    assert bool((lower <= true + 1e-7 * true.abs()).all())


@pytest.mark.parametrize("metric_type", METRICS)
def test_bounds_are_close_for_ordinary_data(metric_type):
    x = torch.randn(512, 128, generator=torch.Generator().manual_seed(0))
    xq = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
    lower, true, _ = scores_of("int8", make_frame(x, metric_type), x, xq)
    # a fifth of the standard deviation of the scores
    assert float((true - lower).max()) < 0.35 * float(true.std())
    assert float((true - lower).mean()) < 0.25 * float(true.std())


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_the_score_of_a_distance_is_at_most_this(metric_type, name):
    x = torch.from_numpy(adversarial(60, 24)[name])
    frame = make_frame(x, metric_type)
    xq = x.flip(0) * 0.7
    shift = frame.shift.double()
    if metric_type == METRIC_L2:
        distances = (xq - x).square().sum(1)
        true = (x.double() - shift).square().sum(1) / 2 - ((xq.double() - shift) * (x.double() - shift)).sum(1)
    else:
        distances = (xq * x).sum(1)
        true = -(xq.double() * (x.double() - shift)).sum(1)
    at_most = largest_scores(frame, xq, float(torch.linalg.vector_norm(x, dim=1).max()), distances)
    assert bool((true <= at_most.double() + 1e-12).all())


def test_where_true():
    for n, share in ((8, 0.0), (8, 1.0), (640, 0.01), (640, 0.5)):
        mask = torch.rand(n, generator=torch.Generator().manual_seed(n)) < share
        assert where_true(mask).tolist() == mask.nonzero().view(-1).tolist()


def test_a_batch_is_not_much_larger_than_its_limit():
    spans = [(0, 0, 5000), (1, 5000, 5001), (2, 5001, 5031), (0, 5031, 5032)]
    columns = [64, 2048, 128]
    cut = list(tile_scan.batches(spans, columns, 1 << 14, 1 << 13))
    flat_spans = [span for batch in cut for span in batch]
    for tile, first, last in spans:
        entries = [(a, b) for t, a, b in flat_spans if t == tile and first <= a < last]
        assert [first, *(end for _, end in entries)] == [*(begin for begin, _ in entries), last]
    sizes = [sum((last - first) * columns[tile] for tile, first, last in batch) for batch in cut]
    assert max(sizes) <= 1 << 14


def test_vectors_whose_sums_might_overflow_have_no_tiles():
    stored = Stored(torch.zeros(16, 1 << 17), torch.zeros(16), 0.0, True)
    for d, name in ((1 << 16, "int8"), ((1 << 16) + 1, None), (15, None)):
        part = Stored(stored.vectors[:, :d], stored.bias, 0.0, True)
        with arithmetic.pinned("int8"):
            assert tile_set.arithmetic_for(make_scorer(torch.zeros(1, d), part, METRIC_L2)) == name


class ManyTiles:
    """Settings under which small data go the ways of large ones."""

    def __init__(self, monkeypatch, way):
        few_queries_by_blocks(monkeypatch, 1 << 20 if way == "one by one" else 0)
        monkeypatch.setattr(list_tiles, "FEWEST_CHUNKS_A_NEIGHBOUR", 0)
        monkeypatch.setattr(list_tiles, "FEWEST_ROWS_OF_A_LIST", 0)
        monkeypatch.setattr(tile_set, "FEWEST_COMPONENTS", 1)
        monkeypatch.setattr(list_tiles, "GROUP_OF_A_SHORT_LIST", 0)
        monkeypatch.setattr(flat, "FEW_SCORED", 0)
        monkeypatch.setattr(flat_tiles, "FEWEST_ROWS", 1)
        monkeypatch.setattr(flat_tiles, "FEWEST_ROWS_A_NEIGHBOUR", 0)
        monkeypatch.setattr(flat_tiles, "RUN", 96)
        monkeypatch.setattr(ScreenTiles, "TILE_ROWS", 64)
        monkeypatch.setattr(tile_scan, "BATCH_SCORES", 1 << 12)
        monkeypatch.setattr(tile_scan, "CACHE_SCORES", 1 << 10)
        if way == "looked at twice":
            monkeypatch.setattr(tile_scan, "KEPT_SCORES", 0)


WAYS = ("kept", "looked at twice", "one by one")


@pytest.fixture(params=WAYS)
def many_tiles(request, monkeypatch):
    return ManyTiles(monkeypatch, request.param)


def search_both(xb, xq, k, metric_type, arithmetic_name, nlist=7, nprobe=7):
    """Results of a flat and an IVF index, all of whose lists are probed."""
    with arithmetic.pinned(arithmetic_name):
        flat_index = faiss_torch.IndexFlat(xb.shape[1], metric_type)
        flat_index.add(xb)
        quantizer = faiss_torch.IndexFlat(xb.shape[1], metric_type)
        quantizer.add(xb[:nlist])
        ivf = faiss_torch.IndexIVFFlat(quantizer, xb.shape[1], nlist, metric_type)
        ivf.is_trained = True
        ivf.nprobe = nprobe
        ivf.add(xb)
        return flat_index.search(xq, k), ivf.search(xq, k), ivf


@pytest.mark.parametrize("arithmetic_name", arithmetic.NAMES)
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_the_arithmetic(many_tiles, arithmetic_name, metric_type, name):
    xb = adversarial(900, 24)[name]
    xq = np.concatenate([xb[:5], xb[-5:] * np.float32(1.01), np.zeros((1, 24), dtype=np.float32)])
    expected = knn_reference(torch.from_numpy(xq).double(), torch.from_numpy(xb).double(), 10, metric_type)
    scale = float(np.abs(expected[0].numpy()[np.abs(expected[0].numpy()) < 1e38]).max(initial=0))
    for D, I in search_both(xb, xq, 10, metric_type, arithmetic_name)[:2]:
        found = torch.from_numpy(D), torch.from_numpy(I)
        assert_same_neighbours(*found, *expected, rtol=3e-5, atol=1e-5 * scale + 1e-30)


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic_name", ["int8", "bf16"])
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_range_search_does_not_depend_on_the_arithmetic(many_tiles, arithmetic_name, metric_type, name):
    xb = adversarial(900, 24)[name]
    xq = np.concatenate([xb[:5], xb[-5:] * np.float32(1.01), np.zeros((1, 24), dtype=np.float32)])
    D, _ = reference(xb, xq, 40, metric_type)
    for place in (0, 5, 39):  # radii with few results and with many
        radius = float(D[1, place]) * (1.0001 if (D[1, place] > 0) == (metric_type == METRIC_L2) else 0.9999)
        results = []
        for each in ("none", arithmetic_name):
            _, _, ivf = search_both(xb, xq, 1, metric_type, each)
            with arithmetic.pinned(each):
                flat_index = faiss_torch.IndexFlat(24, metric_type)
                flat_index.add(xb)
                results.append([index.range_search(xq, radius) for index in (flat_index, ivf)])
        for expected, found in zip(*results, strict=True):
            assert_same_ranges(found, expected, radius)


def assert_same_ranges(found, expected, radius):
    """Both hold the same rows, but for those at the radius itself, where rounding decides."""
    near = {"rel": 1e-5, "abs": 1e-5 * float(np.abs(expected[1]).max(initial=0))}
    for i in range(len(expected[0]) - 1):
        ours, theirs = (
            dict(zip(I[lims[i] : lims[i + 1]].tolist(), D[lims[i] : lims[i + 1]].tolist(), strict=True))
            for lims, D, I in (found, expected)
        )
        for row in ours.keys() | theirs.keys():
            distance = ours.get(row, theirs.get(row))
            if row in ours and row in theirs:
                assert distance == pytest.approx(theirs[row], **near)
            else:
                assert distance == pytest.approx(radius, **near)


@pytest.mark.slow
def test_range_search_with_queries_that_are_given_up(many_tiles):
    rng = np.random.default_rng(0)
    xb = rng.standard_normal((30000, 16), dtype=np.float32)
    xb[:20000] *= 1e-3  # these are all within the radius of the first queries
    xq = np.concatenate([np.zeros((3, 16), dtype=np.float32), xb[-4:]])
    _, _, ivf = search_both(xb, xq, 1, METRIC_L2, "int8")
    with arithmetic.pinned("int8"):
        found = ivf.range_search(xq, 3.0)
    with arithmetic.pinned("none"):
        expected = ivf.range_search(xq, 3.0)
    assert int(found[0][1]) > 20000 > int(found[0][-1] - found[0][-2])
    assert_same_ranges(found, expected, 3.0)


@settings(deadline=None, max_examples=40)
@given(
    nq=st.integers(1, 70),
    nb=st.integers(1, 700),
    d=st.integers(1, 20),
    nlist=st.integers(1, 9),
    share=st.floats(0.01, 1),
    k=st.integers(1, 40),
    way=st.sampled_from(WAYS),
    arithmetic_name=st.sampled_from(["int8", "bf16"]),
    metric_type=st.sampled_from(METRICS),
    seed=st.integers(0, 99),
)
def test_all_shapes(nq, nb, d, nlist, share, k, way, arithmetic_name, metric_type, seed):
    rng = np.random.default_rng(seed)
    xb, xq = (rng.standard_normal((n, d), dtype=np.float32) for n in (nb, nq))
    nlist = min(nlist, nb)
    nprobe = max(1, int(share * nlist))
    with pytest.MonkeyPatch.context() as patch:
        ManyTiles(patch, way)
        flat_found, ivf_found, ivf = search_both(xb, xq, k, metric_type, arithmetic_name, nlist, nprobe)
        assert "screened in " + arithmetic_name in ivf.last_path.reason
    with arithmetic.pinned("none"):
        assert_same_neighbours(*flat_found, *reference(xb, xq, k, metric_type), rtol=2e-5, atol=1e-5)
        assert_same_neighbours(*ivf_found, *ivf.search(xq, k), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["kept", "looked at twice"])
@pytest.mark.parametrize("metric_type", METRICS)
def test_queries_whose_guess_was_too_small_are_searched_again(way, metric_type, monkeypatch):
    ManyTiles(monkeypatch, way)
    guesses = []
    first_look = Scan.first_look

    def too_small(self, *arguments, **settings):
        looks = first_look(self, *arguments, **settings)
        self.guesses[::2] -= 1.0
        guesses.append(self.guesses)
        return looks

    monkeypatch.setattr(Scan, "first_look", too_small)
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 24), dtype=np.float32) for n in (900, 40))
    flat_found, ivf_found, _ = search_both(xb, xq, 5, metric_type, "int8")
    assert len(guesses) == 2
    expected = reference(xb, xq, 5, metric_type)
    for found in (flat_found, ivf_found):
        assert_same_neighbours(*found, *expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("metric_type", METRICS)
def test_guesses_are_lowered_by_what_pilots_find(metric_type, monkeypatch):
    ManyTiles(monkeypatch, "looked at twice")
    monkeypatch.setattr(list_tiles, "PILOTS", 8)
    lowered = []
    lower_guesses = Scan.lower_guesses

    def watched(self, *arguments):
        before = self.guesses.clone()
        lower_guesses(self, *arguments)
        lowered.append((before - self.guesses).min().item())

    monkeypatch.setattr(Scan, "lower_guesses", watched)
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 24), dtype=np.float32) for n in (6000, 200))
    found = search_both(xb, xq, 3, metric_type, "int8", nlist=40, nprobe=40)[1]
    assert lowered  # once for each worker
    assert min(lowered) >= 0
    assert_same_neighbours(*found, *reference(xb, xq, 3, metric_type), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("arithmetic_name", ["int8", "bf16"])
def test_queries_with_too_many_survivors_are_left_to_float32(many_tiles, arithmetic_name, monkeypatch):
    given_up = []
    count = Scan._count

    def counted(self, *arguments):
        count(self, *arguments)
        given_up.append(int((self.guesses == float("-inf")).sum()))

    monkeypatch.setattr(Scan, "_count", counted)
    rng = np.random.default_rng(0)
    xb = (1 + 1e-7 * rng.standard_normal((4000, 24))).astype(np.float32)
    xb[::3] += rng.standard_normal((len(xb[::3]), 24)).astype(np.float32)
    xq = xb[1:9]
    flat_found, ivf_found, _ = search_both(xb, xq, 2, METRIC_L2, arithmetic_name)
    assert max(given_up) >= len(xq) // 2
    expected = reference(xb, xq, 2, METRIC_L2)
    for found in (flat_found, ivf_found):
        assert_same_neighbours(*found, *expected, rtol=2e-5, atol=1e-11)


def ivf_index(xb, nlist=8):
    quantizer = faiss_torch.IndexFlatL2(xb.shape[1])
    quantizer.add(xb[:nlist])
    index = faiss_torch.IndexIVFFlat(quantizer, xb.shape[1], nlist)
    index.is_trained = True
    index.nprobe = nlist
    return index


@pytest.mark.parametrize("make", [ivf_index, lambda xb: faiss_torch.IndexFlatL2(xb.shape[1])], ids=["ivf", "flat"])
def test_tiles_follow_what_is_added_and_removed(many_tiles, make):
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 16), dtype=np.float32) for n in (1500, 30))
    index = make(xb)

    def check(vectors):
        expected = reference(vectors, xq, 5, METRIC_L2)
        assert_same_neighbours(*index.search(xq, 5), *expected, rtol=2e-5, atol=1e-5)

    with arithmetic.pinned("int8"):
        index.add(xb[:700])
        check(xb[:700])
        for begin, end in ((700, 703), (703, 704), (704, 1400)):
            index.add(xb[begin:end])
            check(xb[:end])
        # the vectors nearest to the queries go, and come back as others
        nearest = np.unique(index.search(xq, 3)[1])
        index.remove_ids(nearest)
        if hasattr(index, "nprobe"):
            D, I = index.search(xq, 5)
            kept = np.setdiff1d(np.arange(1400), nearest)
            expected_D, rows = reference(xb[kept], xq, 5, METRIC_L2)
            assert_same_neighbours(D, I, expected_D, kept[rows.numpy()], rtol=2e-5, atol=1e-5)
        else:
            check(np.delete(xb[:1400], nearest, axis=0))
        index.reset()
        index.add(xb[1000:])
        check(xb[1000:])


def test_tiles_follow_vectors_that_are_updated(many_tiles):
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 16), dtype=np.float32) for n in (800, 20))
    index = ivf_index(xb)
    index.add(xb)
    index.make_direct_map()
    with arithmetic.pinned("int8"):
        index.search(xq, 5)
        new = rng.standard_normal((50, 16), dtype=np.float32)
        index.update_vectors(np.arange(100, 150), new)
        xb[100:150] = new
        assert_same_neighbours(*index.search(xq, 5), *reference(xb, xq, 5, METRIC_L2), rtol=2e-5, atol=1e-5)


def test_tiles_follow_lists_in_another_order(many_tiles):
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 16), dtype=np.float32) for n in (800, 20))
    index = ivf_index(xb)
    index.add(xb)
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    with arithmetic.pinned("int8"):
        index.search(xq, 5)
        permute_invlists(index, order)
        index.nprobe = 2
        found = index.search(xq, 5)
    with arithmetic.pinned("none"):
        assert_same_neighbours(*found, *index.search(xq, 5), rtol=2e-5, atol=1e-5)


def test_threads_that_search_while_tiles_are_made(many_tiles):
    rng = np.random.default_rng(0)
    xb, xq = (rng.standard_normal((n, 16), dtype=np.float32) for n in (3000, 40))
    index = ivf_index(xb)
    index.add(xb)
    expected = reference(xb, xq, 5, METRIC_L2)
    found = []
    with arithmetic.pinned("int8"):
        threads = [threading.Thread(target=lambda: found.append(index.search(xq, 5))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 6
    for D, I in found:
        assert_same_neighbours(D, I, *expected, rtol=2e-5, atol=1e-5)


def test_an_arithmetic_that_does_not_exist(monkeypatch):
    with pytest.raises(RuntimeError, match="got the arithmetic 'int4', expected one of int8, bf16, float32, none"):
        arithmetic.pinned("int4").__enter__()
    monkeypatch.setenv("FAISS_TORCH_SCREEN", "int4")
    with pytest.raises(RuntimeError, match="FAISS_TORCH_SCREEN is 'int4', expected one of"):
        arithmetic.chosen(torch.device("cpu"))


def test_the_environment_pins_the_arithmetic(monkeypatch):
    for name in arithmetic.NAMES:
        monkeypatch.setenv("FAISS_TORCH_SCREEN", name)
        assert arithmetic.chosen(torch.device("cpu")) == name
    monkeypatch.delenv("FAISS_TORCH_SCREEN")
    assert arithmetic.chosen(torch.device("cpu")) in arithmetic.NAMES[:3]


def test_a_processor_whose_int8_products_are_not_exact_is_found_out(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda x, y: (x.int() @ y.int()).clamp(-(2**15), 2**15 - 1))
    assert not arithmetic.int8_is_exact()
    monkeypatch.delattr(torch, "_int_mm")
    assert not arithmetic.int8_is_exact()


def test_queries_that_probe_empty_lists_alone(many_tiles):
    xb = np.ones((40, 16), dtype=np.float32)
    quantizer = faiss_torch.IndexFlatL2(16)
    quantizer.add(np.stack([xb[0], -xb[0], 9 * xb[0]]))
    index = faiss_torch.IndexIVFFlat(quantizer, 16, 3)
    index.add(xb)
    with arithmetic.pinned("int8"):
        index.search(xb[:1], 2)  # which makes tiles
        for queries in (-xb[:1], np.concatenate([-xb[:8], xb[:2], 9 * xb[:1]])):
            D, I = index.search(queries, 2)
            found = (queries == 1).all(1)
            assert (I[~found] == -1).all()
            assert (D[~found] == np.finfo(np.float32).max).all()
            assert (D[found] == 0).all()
    assert "screened in int8" in index.last_path.reason


@pytest.mark.parametrize("way", ["kept", "looked at twice"])
@pytest.mark.parametrize("metric_type", METRICS)
def test_workers_that_have_queries_of_their_own(way, metric_type, monkeypatch):
    ManyTiles(monkeypatch, way)
    rng = np.random.default_rng(3)
    xb, xq = (rng.standard_normal((n, 24), dtype=np.float32) for n in (900, 301))
    expected = search_both(xb, xq, 5, metric_type, "none", nprobe=4)[1]
    slices = []
    nearest = inverted._nearest

    def watched(request, *arguments):
        slices.append(len(request.xq))
        return nearest(request, *arguments)

    monkeypatch.setattr(inverted, "_nearest", watched)
    monkeypatch.setattr(inverted, "GROUP_OF_A_WORKER", 0)
    monkeypatch.setattr(inverted, "PAIRS_A_SEARCH", {"cpu": 4 * 60})
    before = faiss_torch.omp_get_max_threads()
    faiss_torch.omp_set_num_threads(2)
    faiss_torch.cvar.indexIVF_stats.reset()
    try:
        found = search_both(xb, xq, 5, metric_type, "int8", nprobe=4)[1]
    finally:
        faiss_torch.omp_set_num_threads(before)
    assert sorted(slices) == [46, 51, 51, 51, 51, 51]
    assert faiss_torch.cvar.indexIVF_stats.nq == 301
    assert faiss_torch.cvar.indexIVF_stats.nlist == 4 * 301
    assert_same_neighbours(*found, *expected, rtol=2e-5, atol=1e-5)
