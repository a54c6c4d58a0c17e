"""Both paths of the inverted-list scan against the plain reference, and the choice between them."""

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2, METRIC_NAMES
from faiss_torch.ops.scoring.ragged import group_by_list, ranges, rank_in_run
from faiss_torch.ops.scoring.scorers import make_scorer
from faiss_torch.ops.scoring.stored import allowed_rows
from faiss_torch.ops.search import by_list, by_query
from faiss_torch.ops.search.filtering import narrowed_lists
from faiss_torch.ops.search.paths import CPU_CSR_GROUP, choose_path, scan_reference
from faiss_torch.parts.codecs.floats import FloatCodec
from faiss_torch.parts.lists.storage import ListStorage
from faiss_torch.parts.selectors import IDSelectorRange

PATHS = {"csr": by_list.search, "matrix": by_query.search}


def storage_of(xb, list_nos, nlist, calls=1):
    """Lists that were filled by a number of calls, so that some have moved."""
    storage = ListStorage(nlist, 4 * xb.shape[1])
    for part in torch.arange(len(xb)).chunk(calls):
        storage.add_to_lists(list_nos[part], part * 3 + 7, xb[part].contiguous().view(torch.uint8))
    return storage


def check(path, xq, storage, probes, k, metric_type, sel=None, max_codes=0, rtol=2e-5, atol=1e-5):
    lists = storage.lists_for_scan(metric_type, FloatCodec(storage.storage_dtype))
    rows = allowed_rows(probes, lists.sizes, max_codes)
    selected = None if sel is None else sel.mask
    expected = scan_reference(xq.double(), lists, probes, rows, k, metric_type, 2.5, selected)
    if sel is not None:
        lists = narrowed_lists(lists, probes, sel.mask, may_gather=not max_codes)
        rows = rows if max_codes else allowed_rows(probes, lists.sizes, 0)
    scorer = make_scorer(xq, lists.stored, metric_type, 2.5)
    D, positions = PATHS[path](scorer, lists, probes, rows, k, metric_type)
    assert_same_neighbours(D, storage.ids_at(lists.stored.stored_rows(positions)), *expected, rtol=rtol, atol=atol)


def distinct_probes(nq, nlist, nprobe, generator):
    """For each query different lists in any order."""
    return torch.rand(nq, nlist, generator=generator).argsort(1)[:, :nprobe]


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None, max_examples=50)
@given(
    nq=st.integers(1, 30),
    nb=st.integers(1, 500),
    d=st.integers(1, 12),
    nlist=st.integers(1, 20),
    share=st.floats(0.01, 1),
    k=st.integers(1, 60),
    calls=st.integers(1, 5),
    max_codes=st.sampled_from([0, 0, 1, 40]),
    selected=st.sampled_from([None, (0, 600), (10**6, 10**7)]),
    metric_type=st.sampled_from(list(METRIC_NAMES)),
    missing=st.booleans(),
    seed=st.integers(0, 99),
)
def test_all_shapes(path, nq, nb, d, nlist, share, k, calls, max_codes, selected, metric_type, missing, seed):
    generator = torch.Generator().manual_seed(seed)
    xq, xb = (torch.rand(n, d, generator=generator) * 0.99 + 0.005 for n in (nq, nb))
    # squares make some lists long and leave others empty
    list_nos = (torch.rand(nb, generator=generator).square() * nlist).long()
    probes = distinct_probes(nq, nlist, max(1, int(share * nlist)), generator)
    if missing:
        probes[:, -1] = -1
    sel = IDSelectorRange(*selected) if selected else None
    check(path, xq, storage_of(xb, list_nos, nlist, calls), probes, k, metric_type, sel, max_codes)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1])
def test_one_list_longer_than_a_tile(path, metric_type):
    generator = torch.Generator().manual_seed(1)
    xb, xq = (torch.randn(n, 5, generator=generator) for n in (9000, 40))
    list_nos = torch.where(torch.arange(9000) % 9 > 0, 2, torch.arange(9000) % 7)
    probes = distinct_probes(40, 7, 4, generator)
    for k in (1, 30, 3000):
        check(path, xq[:12], storage_of(xb, list_nos, 7), probes[:12], k, metric_type)
    check(path, xq, storage_of(xb, list_nos, 7), probes, 10, metric_type, max_codes=7000)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("metric_type", [METRIC_L2, METRIC_INNER_PRODUCT])
@pytest.mark.parametrize(
    "make",
    [
        lambda g: torch.randn(20, 12, generator=g).repeat(100, 1) + 1e-6 * torch.randn(2000, 12, generator=g),
        lambda g: torch.where(torch.arange(2000)[:, None] == 1234, 1e6, torch.randn(2000, 12, generator=g)),
        lambda g: torch.full((2000, 12), 0.1),
        lambda g: torch.randint(4, (2000, 12), generator=g).float(),
        lambda g: 1e4 + torch.randn(2000, 12, generator=g),
    ],
    ids=["near-duplicates", "one outlier", "constant", "integers", "large offset"],
)
def test_data_that_rounding_is_hard_on(path, metric_type, make):
    generator = torch.Generator().manual_seed(3)
    xb = make(generator)
    xq = xb[:60] + 1e-3 * torch.randn(60, 12, generator=generator)
    storage = storage_of(xb, torch.arange(2000) % 8, 8)
    probes = distinct_probes(60, 8, 5, generator)
    largest = float(xb.norm(dim=1).max() * xq.norm(dim=1).max())
    for k in (1, 15):
        atol = 1e-30 if metric_type == METRIC_L2 else 2e-6 * largest
        check(path, xq, storage, probes, k, metric_type, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("path", PATHS)
def test_values_that_are_not_finite(path):
    generator = torch.Generator().manual_seed(5)
    xb, xq = (torch.randn(n, 6, generator=generator) for n in (500, 20))
    xb[::7, 2] = float("nan")
    xb[3::7, 1] = float("inf")
    xq[4, 0] = float("nan")
    storage = storage_of(xb, torch.arange(500) % 5, 5, calls=3)
    probes = distinct_probes(20, 5, 3, generator)
    check(path, xq, storage, probes, 20, METRIC_L2)
    check(path, xq, storage, probes, 400, METRIC_L2)


def test_the_paths_of_an_index_agree_exactly():
    x = faiss_torch.rand_smooth_vectors(5200, 20, 5)
    index = faiss_torch.index_factory(20, "IVF40,Flat")
    index.train(x[:5000])
    index.add(x[:5000])
    index.nprobe = 7
    found = {}
    for mode in ("matrix", "csr", "auto"):
        index.search_mode = mode
        found[mode] = index.search(x[5000:], 15)
        assert index.last_path.name == ("csr" if mode == "auto" else mode)
        assert index.last_path.reason
    assert_same_neighbours(*found["matrix"], *found["csr"])
    np.testing.assert_array_equal(found["auto"][1], found["csr"][1])


# --- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "nq", "nprobe", "nlist", "device", "threshold", "name"),
    [
        ("matrix", 10**6, 512, 512, "cuda", 8.0, "matrix"),
        ("csr", 1, 1, 512, "cuda", 8.0, "csr"),
        # nq * nprobe / nlist >= threshold * nlist / 512
        ("auto", 128, 32, 512, "cuda", 8.0, "csr"),
        ("auto", 127, 32, 512, "cuda", 8.0, "matrix"),
        ("auto", 128, 32, 512, "cuda", 8.1, "matrix"),
        ("auto", 512, 32, 1024, "cuda", 8.0, "csr"),
        ("auto", 511, 32, 1024, "cuda", 8.0, "matrix"),
        # nprobe counts up to nlist
        ("auto", 7, 10**6, 512, "cuda", 8.0, "matrix"),
        ("auto", 8, 10**6, 512, "cuda", 8.0, "csr"),
        ("auto", 0, 1, 16, "cuda", 0.0, "csr"),
        ("auto", 0, 1, 16, "cpu", 0.0, "matrix"),
    ],
)
def test_choose_path(mode, nq, nprobe, nlist, device, threshold, name):
    path = choose_path(mode, nq, nprobe, nlist, device, threshold)
    assert path.name == name
    assert (mode in path.reason) if mode != "auto" else ("average group" in path.reason)


def test_choose_path_on_the_cpu_goes_by_the_group_and_the_lists():
    for nlist in (16, 512, 4096):
        at = int(np.ceil(CPU_CSR_GROUP * nlist / 8))
        assert choose_path("auto", at, 8, nlist, "cpu", 8.0).name == "csr"
        assert choose_path("auto", at - 1, 8, nlist, "cpu", 8.0).name == "matrix"
        assert choose_path("auto", at, 8, nlist, "cpu", 8.0, mean_size=64).name == "csr"
        short = choose_path("auto", at, 8, nlist, "cpu", 8.0, mean_size=63)
        assert short.name == "matrix"
        assert "63.0 entries" in short.reason
        assert choose_path("auto", 100 * at, 8, nlist, "cuda", 8.0, mean_size=63).name == "csr"
    with pytest.raises(RuntimeError, match="'fast'"):
        choose_path("fast", 1, 1, 1, "cpu", 8.0)


def test_the_path_can_be_read_from_the_index():
    x = np.random.RandomState(1).rand(400, 4).astype("float32")
    index = faiss_torch.index_factory(4, "IVF4,Flat")
    assert (index.search_mode, index.auto_search_avg_group_threshold, index.last_path) == ("auto", 8.0, None)
    index.train(x)
    index.add(x)
    index.search(x[:1], 2)
    assert index.last_path.name == "matrix"
    index.search(x, 2)
    assert index.last_path.name == "csr"
    index.range_search(x[:1], 2.0)
    assert index.last_path.name == "matrix"


# --- ragged arithmetic ---------------------------------------------------------------------------------------------


def test_allowed_rows():
    sizes = torch.tensor([5, 0, 3])
    probes = torch.tensor([[2, 0, 1], [0, -1, 2]])
    assert allowed_rows(probes, sizes, 0).tolist() == [[3, 5, 0], [5, 0, 3]]
    assert allowed_rows(probes, sizes, 4).tolist() == [[3, 1, 0], [4, 0, 0]]
    assert allowed_rows(probes, sizes, 100).tolist() == [[3, 5, 0], [5, 0, 3]]


def test_group_by_list():
    probes = torch.tensor([[2, 0], [0, 1], [-1, 2]])
    groups = group_by_list(probes, probes >= 0)
    assert list(groups.list_nos) == [0, 1, 2]
    assert list(groups.lims) == [0, 2, 3, 5]
    assert groups.pairs.tolist() == [1, 2, 3, 0, 5]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9)), max_size=12))
def test_ranges_and_ranks(runs):
    begins = torch.tensor([begin for begin, _ in runs], dtype=torch.int64)
    lengths = torch.tensor([length for _, length in runs], dtype=torch.int64)
    expected = [i for begin, length in runs for i in range(begin, begin + length)]
    assert ranges(begins, lengths).tolist() == expected
    keys = torch.repeat_interleave(torch.arange(len(runs)), lengths)
    assert rank_in_run(keys, lengths).tolist() == [i for _, length in runs for i in range(length)]
