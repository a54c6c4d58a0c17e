"""Few queries on lists, screened by blocks of codes: exact, whatever the data, the bounds and what was changed."""

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st
from screening import METRICS, NAMES, adversarial, few_queries_by_blocks, reference

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops.byte_sums import lists as list_byte_sums
from faiss_torch.ops.byte_sums import loops as byte_sum_loops
from faiss_torch.ops.byte_sums.blocks import BLOCK_ROWS, NO_ROW, CodeBlocks, bounds_of, make_blocks, weights_of
from faiss_torch.ops.runtime import arithmetic
from faiss_torch.ops.scoring import small as flat_small
from faiss_torch.ops.scoring.ragged import ranges
from faiss_torch.ops.scoring.scorers import margin_factor
from faiss_torch.ops.scoring.stored import Stored, bias_of
from faiss_torch.ops.tiles.tile import make_frame


@pytest.fixture(autouse=True)
def by_blocks(monkeypatch):
    few_queries_by_blocks(monkeypatch, 1 << 20)
    with arithmetic.pinned("int8"):
        yield


@pytest.fixture
def left(monkeypatch):
    """Which queries the screen left to others, of each call."""
    calls = []
    search, probe_and_search = list_byte_sums.search, list_byte_sums.probe_and_search

    def watched(function):
        def call(xq, *arguments):
            found = function(xq, *arguments)
            calls.append([False] * len(xq) if found[2] is None else found[2].tolist())
            return found

        return call

    monkeypatch.setattr(list_byte_sums, "search", watched(search))
    monkeypatch.setattr(list_byte_sums, "probe_and_search", watched(probe_and_search))
    return calls


def index_of(xb, metric_type=METRIC_L2, nlist=7, nprobe=4):
    quantizer = faiss_torch.IndexFlat(xb.shape[1], metric_type)
    quantizer.add(xb[:nlist])
    index = faiss_torch.IndexIVFFlat(quantizer, xb.shape[1], nlist, metric_type)
    index.is_trained = True
    index.nprobe = nprobe
    index.add(xb)
    return index


def in_float32(index, xq, k):
    with arithmetic.pinned("none"):
        return index.search(xq, k)


def assert_exact(index, xq, k):
    expected = in_float32(index, xq, k)
    scale = float(np.abs(expected[0][np.abs(expected[0]) < 1e38]).max(initial=0))
    for _ in range(2):  # first with probes that are given, and once all blocks are made, with those that it chooses
        found = index.search(xq, k)
        assert_same_neighbours(*found, *expected, rtol=3e-5, atol=1e-5 * scale + 1e-30)
        assert index.last_path.reason == "lists of few queries are screened in int8"


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_adversarial_data(metric_type, name, left):
    xb = adversarial(900, 24)[name]
    index = index_of(xb, metric_type)
    xq = np.concatenate([xb[:5], xb[-5:] * np.float32(1.01), np.zeros((1, 24), dtype=np.float32)])
    for k in (1, 10, 200):
        for queries in (xq[:1], xq[-1:], xq):
            assert_exact(index, queries, k)
    if name == "normal" and metric_type == METRIC_L2:  # by inner product, all centroids are as near to a query of zeros
        assert not any(map(any, left))


@settings(deadline=None, max_examples=60)
@given(
    nq=st.integers(1, 40),
    nb=st.integers(9, 900),
    d=st.integers(1, 20),
    nlist=st.integers(1, 9),
    share=st.floats(0.01, 1),
    k=st.integers(1, 60),
    metric_type=st.sampled_from(METRICS),
    seed=st.integers(0, 99),
)
def test_all_shapes(nq, nb, d, nlist, share, k, metric_type, seed):
    xb, xq = normal(nb, d, seed=seed), normal(nq, d, seed=seed + 100)
    assert_exact(index_of(xb, metric_type, nlist, max(1, int(share * nlist))), xq, k)


@pytest.mark.slow
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("k", [1, 20, 150])
def test_many_queries_of_few_lists_each(metric_type, k, monkeypatch):
    monkeypatch.undo()  # with the settings of every day
    xb, xq = normal(6000, 24), normal(700, 24, seed=1)
    index = index_of(xb, metric_type, nlist=150, nprobe=1)
    with arithmetic.pinned("int8"):
        assert_exact(index, xq, k)
        assert_exact(index, xq[:500].astype(np.float64)[::-1], k)
    quick = index.search(xq[:80], k)
    np.testing.assert_array_equal(index.search(xq[:81], k)[1][:80], quick[1])


def blocks_of(xb, metric_type, used):
    """All rows in whole blocks, of which the last one has so many rows."""
    frame = make_frame(torch.from_numpy(xb), metric_type)
    x = torch.from_numpy(xb).view(-1, BLOCK_ROWS, xb.shape[1])
    counts = torch.full([len(x)], BLOCK_ROWS)
    counts[-1] = used
    codes = make_blocks(frame, x, counts).flatten(0, 1)
    nothing = torch.zeros(1, dtype=torch.int64)
    return CodeBlocks(codes, torch.arange(0, len(xb), BLOCK_ROWS), nothing, nothing, frame.shift, frame.rounding)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_bounds_are_never_above_the_scores(metric_type, name):
    nb, used = 4 * BLOCK_ROWS, 77
    there = nb - BLOCK_ROWS + used
    xb = adversarial(nb, 24)[name]
    similarity = metric_type == METRIC_INNER_PRODUCT
    blocks = blocks_of(xb, metric_type, used)
    xq = torch.from_numpy(np.concatenate([xb[:3], xb[-3:] * np.float32(0.9)]))
    x = xq if similarity else xq - blocks.shift
    chosen = torch.arange(len(blocks.rows)).repeat(len(xq))
    owners = torch.arange(len(xq)).repeat_interleave(len(blocks.rows))
    bounds = bounds_of(weights_of(x, blocks, similarity), chosen, owners, blocks).view(len(xq), nb)
    assert bool((bounds[:, there:] > NO_ROW).all())
    bounds = bounds[:, :there].double()
    rows, queries = (each.double() - blocks.shift.double() for each in (torch.from_numpy(xb), xq))
    products = (xq.double() if similarity else queries) @ rows.T
    scores = (-products if similarity else rows.square().sum(1) / 2 - products)[:, :there]
    assert bool((bounds <= scores + 1e-38).all())
    if name == "normal":
        assert float((scores - bounds).max()) < 0.15 * float(scores.std())


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("width", [1, 7, 60])
def test_the_smallest_bounds(n, width):
    bounds = torch.from_numpy(normal(n, 12 * BLOCK_ROWS)).round(decimals=1)
    best, columns = byte_sum_loops._smallest(bounds, width)
    torch.testing.assert_close(best, bounds.sort(1)[0][:, :width], rtol=0, atol=0)
    torch.testing.assert_close(best, bounds.gather(1, columns), rtol=0, atol=0)
    assert all(len(set(each.tolist())) == width for each in columns)


@pytest.mark.parametrize("metric_type", METRICS)
def test_what_is_verified_first_may_be_too_little(metric_type, monkeypatch, left):
    for name in ("search_lists", "probe_and_search_lists"):
        monkeypatch.setattr(list_byte_sums, name, _plain(name, slack=0, slack_share=0.0))
    searched_again = []
    module = list_byte_sums.search_lists.__globals__
    again = module["_search_again"]

    def watched(xq, *arguments):
        searched_again.append(len(xq))
        return again(xq, *arguments)

    monkeypatch.setitem(module, "_search_again", watched)
    assert_exact(index_of(normal(1500, 24), metric_type), normal(20, 24, seed=1), 5)
    assert sum(searched_again) > 0
    assert not any(map(any, left))


@pytest.mark.parametrize("metric_type", METRICS)
def test_blocks_of_different_scales(metric_type, left):
    xb = normal(1500, 24) * np.geomspace(0.5, 2, 1500, dtype=np.float32)[:, None]
    for queries in (normal(1, 24, seed=1), normal(20, 24, seed=2)):
        assert_exact(index_of(xb, metric_type), queries, 9)
    assert not any(map(any, left))


@pytest.mark.parametrize("group_bytes", [1, 1 << 17, 1 << 30])
def test_queries_with_too_many_survivors_are_left(group_bytes, monkeypatch, left):
    # a scripted function has its constants from when it was compiled
    for name in ("search_lists", "probe_and_search_lists"):
        monkeypatch.setattr(list_byte_sums, name, _plain(name, few_components=0, group_bytes=group_bytes))
    xb = 1 + 1e-7 * normal(4000, 24)
    xb[::3] += normal(len(xb[::3]), 24)
    index = index_of(xb, nprobe=7)
    assert_exact(index, xb[1:9], 2)
    assert sum(map(sum, left)) >= 8
    assert_exact(index, normal(9, 24, seed=2) + 1, 2)


def _plain(name, **constants):
    """A scripted function as plain Python, that and those it calls with other constants."""
    module = {**vars(byte_sum_loops)}
    for each, function in list(module.items()):
        plain = getattr(function, "__wrapped__", None)
        if plain is not None and plain.__module__ == byte_sum_loops.__name__:
            code = type(plain)(plain.__code__, module, plain.__name__, plain.__defaults__, plain.__closure__)
            names = plain.__code__.co_varnames[: plain.__code__.co_argcount]
            values = dict(zip(reversed(names), reversed(plain.__defaults__ or ()), strict=False))
            values.update({key: value for key, value in constants.items() if key in values})
            code.__defaults__ = tuple(values[key] for key in names if key in values) or None
            module[each] = code
    return module[name]


def test_more_rows_than_are_kept_at_once(monkeypatch, left):
    for name in ("search_lists", "probe_and_search_lists"):
        monkeypatch.setattr(list_byte_sums, name, _plain(name, most_blocks=20))
    index = index_of(np.concatenate([normal(900, 24), np.full((2000, 24), 9.0, dtype=np.float32)]), nprobe=7)
    assert_exact(index, normal(20, 24, seed=1), 5)
    assert all(map(all, left))  # each query alone looks at more
    index = index_of(normal(900, 24), nprobe=3)
    left.clear()
    assert_exact(index, normal(20, 24, seed=1), 5)
    assert not any(map(any, left))


@pytest.mark.parametrize("group_bytes", [1, 1 << 16, 1 << 18])
def test_groups_of_one_query_or_more(group_bytes, monkeypatch, left):
    for name in ("search_lists", "probe_and_search_lists"):
        monkeypatch.setattr(list_byte_sums, name, _plain(name, group_bytes=group_bytes))
    assert_exact(index_of(normal(900, 24)), normal(23, 24, seed=1), 5)
    assert not any(map(any, left))


@pytest.mark.parametrize("metric_type", METRICS)
def test_rows_that_spoil_the_scales_of_their_blocks(metric_type, left):
    xb = normal(1500, 24)
    xb[::97] *= 50
    index = index_of(xb, metric_type)
    for queries in (xb[97:98] * 0.9, np.concatenate([normal(9, 24, seed=1), xb[::97] * 1.1])):
        assert_exact(index, queries, 12)
    assert not any(map(any, left))


@pytest.mark.parametrize("metric_type", METRICS)
def test_lists_that_the_caller_chose_and_gaps_among_them(metric_type):
    xb, xq = normal(900, 24), normal(6, 24, seed=1)
    index = index_of(xb, metric_type, nprobe=3)
    probes = np.array([[0, -1, 2], [-1, -1, -1], [6, 5, 4], [-1, 1, -1], [1, 2, 3], [0, 1, 6]])
    with arithmetic.pinned("none"):
        expected = index.search_preassigned(xq, 5, probes, None)
    for queries in (slice(0, 6), slice(0, 1), slice(1, 2)):
        found = index.search_preassigned(xq[queries], 5, probes[queries], None)
        assert_same_neighbours(*found, *(each[queries] for each in expected), rtol=2e-5, atol=1e-5)
        assert "few queries" in index.last_path.reason


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("mode", ["auto", "matrix"])
def test_filters_that_leave_many_rows(metric_type, share, mode, left):
    index = index_of(normal(2000, 24), metric_type)
    index.search_mode = mode
    ids = np.random.default_rng(3).permutation(2000)[: int(2000 * share)]
    xq = normal(30, 24, seed=1)
    stats = faiss_torch.cvar.indexIVF_stats
    for k in (1, 12, 400):
        for queries in (xq[:1], xq):
            params = faiss_torch.SearchParametersIVF(sel=faiss_torch.IDSelectorBatch(ids), nprobe=4)
            results, counted = [], []
            for name in ("none", "int8"):
                stats.reset()
                with arithmetic.pinned(name):
                    results.append(index.search(queries, k, params=params))
                counted.append((stats.nq, stats.nlist, stats.ndis))
            assert_same_neighbours(*results[1], *results[0], rtol=2e-5, atol=1e-5)
            assert index.last_path.reason == "lists of few queries are screened in int8"
            labels = results[1][1]
            assert np.isin(labels[labels >= 0], ids).all()
            assert counted[0] == counted[1]
    assert not any(map(any, left))


def test_a_filter_and_queries_that_are_left(left):
    xb = 1 + 1e-7 * normal(4000, 24)
    index = index_of(xb, nprobe=7)
    params = faiss_torch.SearchParametersIVF(sel=faiss_torch.IDSelectorRange(0, 3000), nprobe=7)
    xq = np.concatenate([xb[1:4], np.full((1, 24), np.nan, dtype=np.float32)])
    with arithmetic.pinned("none"):
        expected = index.search(xq, 3, params=params)
    found = index.search(xq, 3, params=params)
    assert_same_neighbours(*found, *expected, rtol=1e-4, atol=1e-12)
    assert found[1].max() < 3000
    assert any(left[-1])


def test_queries_and_vectors_that_are_not_finite(left):
    xb, xq = normal(900, 24), normal(6, 24, seed=1)
    index = index_of(xb)
    assert_exact(index, xq, 5)
    xq[1, 3], xq[2, 4], xq[4] = np.nan, np.inf, 1e30
    for each in (xq[1:2], xq[2:3], xq):
        expected = in_float32(index, each, 5)
        found = index.search(each, 5)
        assert_same_neighbours(*found, *expected, rtol=2e-5, atol=1e-5)
    assert all(left[-1])
    index.add(np.full((1, 24), np.inf, dtype=np.float32))
    expected = in_float32(index, xq[:1], 5)
    np.testing.assert_array_equal(index.search(xq[:1], 5)[1], expected[1])


def test_what_the_statistics_count(left):
    index = index_of(normal(900, 24), nprobe=3)
    xq = normal(20, 24, seed=1)
    stats = faiss_torch.cvar.indexIVF_stats
    counted = []
    for name in ("none", "int8", "int8"):
        stats.reset()
        with arithmetic.pinned(name):
            index.search(xq, 4)
        counted.append((stats.nq, stats.nlist, stats.ndis))
    assert counted[0] == counted[1] == counted[2]
    assert counted[0][:2] == (20, 60)
    assert len(left) == 2


def test_blocks_follow_what_is_added_and_removed():
    xb, xq = normal(3000, 16), normal(9, 16, seed=1)
    index = index_of(xb[:500], nprobe=4)
    assert_exact(index, xq, 5)
    size = 500
    for more in (1, 3, 700, 2, 1500):  # lists outgrow their room, and all blocks move together
        index.add(xb[size : size + more])
        size += more
        assert_exact(index, xq, 5)
    for _ in range(3):
        index.remove_ids(np.unique(index.search(xq, 3)[1]))
        assert_exact(index, xq, 5)
    index.reset()
    index.add(xb[:300])
    assert_exact(index, xq, 5)


def test_room_that_is_left_behind_is_taken_back():
    xb = normal(6000, 16)
    index = index_of(xb[:100], nprobe=7)
    for begin in range(100, 6000, 100):
        index.add(xb[begin : begin + 100])
        index.search(xb[:3], 5)
    blocks = index.invlists._facts.copies["blocks"]
    sizes = torch.tensor([index.invlists.list_size(i) for i in range(7)])
    used = int(((sizes + BLOCK_ROWS - 1) // BLOCK_ROWS).sum())
    assert used <= blocks._codes.size <= 2 * used + 7
    places = ranges(blocks._firsts, blocks._rooms)
    assert len(places.unique()) == len(places)
    assert_exact(index, normal(5, 16, seed=2), 5)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("n", [40, 200])
def test_closest_of_rows_that_scores_do_not_tell_apart(metric_type, n):
    generator = torch.Generator().manual_seed(0)
    vectors = 100 + torch.randn(208, 24, generator=generator)
    vectors[: n // 2] = vectors[n // 2 : n // 2 * 2] + 1e-4 * torch.randn(n // 2, 24, generator=generator)
    bias = bias_of(vectors, metric_type)
    bias[n:] = float("inf")
    norm = float(torch.linalg.vector_norm(vectors, dim=1).max())
    small = flat_small.small_set(Stored(vectors, bias, norm, True), n, metric_type)
    xq = 100 + torch.randn(60, 24, generator=generator)
    for k in (1, 7, 33):
        ids, certain = flat_small.closest_of_few(xq, small, k, margin_factor(24, xq.device))
        assert 0 < int(certain.sum())
        distances, labels = reference(vectors[:n].numpy(), xq.numpy(), k + 1, metric_type)
        clear = (distances[:, k] - distances[:, k - 1]).abs() > 1e-6 * distances[:, k].abs()
        for found, expected, sure in zip(ids, labels, certain & clear, strict=True):
            assert not sure or set(found.tolist()) == set(expected[:k].tolist())
    # the margin alone would leave many more
    scores = torch.addmm(small.bias, xq, small.vectors.T, alpha=-1)
    best = scores.topk(8, largest=False)[0].sort(1)[0]
    if metric_type == METRIC_L2:
        margin = flat_small.margins(xq, small.largest_norm, small.largest_bias, margin_factor(24, xq.device))
        _, certain = flat_small.closest_of_few(xq, small, 7, margin_factor(24, xq.device))
        assert int((best[:, 7] - best[:, 6] > margin).sum()) < int(certain.sum())


def test_closest_of_a_query_that_is_not_finite():
    vectors = normal(48, 8)
    stored = Stored(torch.from_numpy(vectors), bias_of(torch.from_numpy(vectors), METRIC_INNER_PRODUCT), 9.0, True)
    small = flat_small.small_set(stored, 48, METRIC_INNER_PRODUCT)
    xq = torch.tensor([[float("nan")] * 8, [float("inf")] * 8, [1.0] * 8])
    assert flat_small.closest_of_few(xq, small, 3, margin_factor(8, xq.device))[1].tolist() == [False, False, True]
