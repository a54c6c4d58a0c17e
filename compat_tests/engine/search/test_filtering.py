"""Filtered search on every path against the plain reference, whatever share is selected, and the work that it takes."""

import contextlib
import functools

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2
from faiss_torch.ops.runtime import arithmetic
from faiss_torch.ops.scoring.scorers import make_scorer
from faiss_torch.ops.scoring.stored import allowed_rows
from faiss_torch.ops.search import by_list, by_query, flat
from faiss_torch.ops.search.filtering import narrowed, narrowed_lists
from faiss_torch.ops.search.paths import scan_reference
from faiss_torch.parts.codecs.floats import FloatCodec
from faiss_torch.parts.growing import GrowingTensor
from faiss_torch.parts.lists.storage import ListStorage
from faiss_torch.parts.screens.facts import RowFacts

CPU = torch.device("cpu")
METRICS = [METRIC_L2, METRIC_INNER_PRODUCT, METRIC_L1]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def stored_rows(xb, metric_type):
    """Vectors of any dtype as the engine reads them."""
    table = GrowingTensor((xb.shape[1],), xb.dtype, CPU)
    table.append(xb)
    facts = RowFacts(metric_type, CPU)
    facts.append(0, xb)
    return facts.stored(table.room)


def chosen(n, count, generator):
    """A mask of n with so many rows selected."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=generator)[: min(count, n)]] = True
    return mask


def test_few_rows_are_gathered_and_many_are_not():
    xb = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    stored = stored_rows(xb, METRIC_L2)
    few = torch.zeros(100, dtype=torch.bool)
    few[[7, 40, 99]] = True
    gathered, n = narrowed(stored, few)
    assert (n, gathered.rows[:3].tolist(), len(gathered.rows)) == (3, [7, 40, 99], 16)
    assert torch.equal(gathered.part(0, 3), xb[[7, 40, 99]])
    assert torch.equal(gathered.at(torch.tensor([[2, 0]])), xb[torch.tensor([[99, 7]])])
    assert gathered.stored_rows(torch.tensor([1, -1, 2])).tolist() == [40, -1, 99]
    assert bool(gathered.bias[3:].isinf().all())
    assert gathered.vectors is stored.vectors
    many = ~few
    masked, n = narrowed(stored, many)
    assert masked.rows is None
    assert n == 100
    assert masked.bias[:100].isinf().nonzero().view(-1).tolist() == [7, 40, 99]
    assert narrowed(stored, few | many)[0] is stored


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=25)
@given(
    nq=st.integers(1, 20),
    nb=st.integers(1, 900),
    d=st.integers(1, 12),
    k=st.integers(1, 60),
    count=st.sampled_from([0, 1, 3, 17, 100, 450, 10**6]),
    seed=st.integers(0, 99),
)
def test_flat(metric_type, dtype, nq, nb, d, k, count, seed):
    generator = torch.Generator().manual_seed(seed)
    xq, xb = (torch.randn(n, d, generator=generator) for n in (nq, nb))
    mask = chosen(nb, count, generator)
    xb = xb.to(dtype)
    D, I = flat.knn(xq, *narrowed(stored_rows(xb, metric_type), mask), k, metric_type)
    rows = mask.nonzero().view(-1)
    D_expected, places = flat.knn_reference(xq.double(), xb[rows].double(), k, metric_type)
    I_expected = places if not len(rows) else torch.where(places < 0, -1, rows[places.clamp(min=0)])
    assert_same_neighbours(D, I, D_expected, I_expected, rtol=2e-5, atol=1e-5)
    similarity = metric_type == METRIC_INNER_PRODUCT
    lims, _, I = flat.range_search(
        xq, *narrowed(stored_rows(xb, metric_type), mask), -1e9 if similarity else 1e9, metric_type
    )
    assert lims.tolist() == [i * len(rows) for i in range(nq + 1)]
    assert torch.equal(I.view(nq, -1), rows.expand(nq, -1))


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("count", [1, 300, 2500, 6000])
def test_flat_with_many_tiles(metric_type, count):
    generator = torch.Generator().manual_seed(count)
    xq, xb = torch.randn(300, 8, generator=generator), torch.randn(10001, 8, generator=generator)
    mask = chosen(len(xb), count, generator)
    D, I = flat.knn(xq, *narrowed(stored_rows(xb, metric_type), mask), 10, metric_type)
    rows = mask.nonzero().view(-1)
    D_expected, places = flat.knn_reference(xq[:30].double(), xb[rows].double(), 10, metric_type)
    I_expected = torch.where(places < 0, -1, rows[places.clamp(min=0)])
    assert_same_neighbours(D[:30], I[:30], D_expected, I_expected, rtol=2e-5, atol=1e-5)


def lists_of(xb, nlist, generator, dtype, calls):
    """Lists of random sizes, filled by a number of calls, so that there are gaps between them."""
    storage = ListStorage(nlist, 4 * xb.shape[1])
    storage.moved(CPU, dtype)()
    list_nos = torch.randint(nlist, (len(xb),), generator=generator)
    for part in torch.arange(len(xb)).chunk(calls):
        storage.add_to_lists(list_nos[part], part * 3 + 7, xb[part].contiguous().view(torch.uint8))
    return storage


@pytest.mark.slow
@pytest.mark.parametrize("path", [by_list, by_query])
@pytest.mark.parametrize("metric_type", METRICS)
@settings(deadline=None, max_examples=40)
@given(
    nq=st.integers(1, 12),
    nb=st.integers(1, 700),
    d=st.integers(1, 7),
    nlist=st.integers(1, 30),
    nprobe=st.integers(1, 30),
    k=st.integers(1, 40),
    calls=st.integers(1, 4),
    count=st.sampled_from([0, 1, 3, 30, 200, 350, 10**6]),
    max_codes=st.sampled_from([0, 0, 40]),
    dtype=st.sampled_from(DTYPES),
    missing=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lists(path, metric_type, nq, nb, d, nlist, nprobe, k, calls, count, max_codes, dtype, missing, seed):
    generator = torch.Generator().manual_seed(seed)
    xq, xb = (torch.randn(n, d, generator=generator) for n in (nq, nb))
    storage = lists_of(xb, nlist, generator, dtype, calls)
    probes = torch.rand(nq, nlist, generator=generator).argsort(1)[:, :nprobe]
    if missing:
        probes[:, -1] = -1
    mask = chosen(nb, count, generator)

    def selected(ids):
        return mask[(torch.div(ids - 7, 3, rounding_mode="floor")).clamp(0, nb - 1)]

    lists = storage.lists_for_scan(metric_type, FloatCodec(storage.storage_dtype))
    rows = allowed_rows(probes, lists.sizes, max_codes)
    expected = scan_reference(xq.double(), lists, probes, rows, k, metric_type, selected=selected)
    narrow = narrowed_lists(lists, probes, selected, may_gather=not max_codes)
    rows_left = rows if max_codes else allowed_rows(probes, narrow.sizes, 0)
    scorer = make_scorer(xq, narrow.stored, metric_type)
    D, positions = path.search(scorer, narrow, probes, rows_left, k, metric_type)
    positions = narrow.stored.stored_rows(positions)
    assert_same_neighbours(D, storage.ids_at(positions), *expected, rtol=2e-5, atol=1e-5)


def test_the_filter_is_asked_about_probed_lists_alone_where_they_are_few():
    generator = torch.Generator().manual_seed(3)
    storage = lists_of(torch.randn(5000, 4, generator=generator), 100, generator, torch.float32, 1)
    lists = storage.lists_for_scan(METRIC_L2, FloatCodec(storage.storage_dtype))
    asked = []

    def selected(ids):
        asked.append(len(ids))
        return ids % 2 == 0

    narrowed_lists(lists, torch.tensor([[3, 50, -1]]), selected)
    narrowed_lists(lists, torch.arange(100)[None], selected)
    two, all_of_them = asked  # once each
    assert int(lists.sizes[[3, 50]].sum()) <= two < int(lists.sizes[[3, 50]].sum()) + 32
    assert 5000 <= all_of_them <= 5000 + 1600


class Work(TorchDispatchMode):
    """Counts the elements that all operations return."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.elements += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return result


@pytest.fixture
def one_thread():
    """Everything in the calling thread, where a dispatch mode sees it."""
    before, torch_before = faiss_torch.omp_get_max_threads(), torch.get_num_threads()
    faiss_torch.omp_set_num_threads(1)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(torch_before)
    faiss_torch.omp_set_num_threads(before)


def selectors(share, nb):
    """Every kind of selector, with a share of the ids selected."""
    ids = np.random.default_rng(5).permutation(nb)[: int(share * nb)]
    bits = np.zeros(nb, bool)
    bits[ids] = True
    others = np.flatnonzero(~bits)
    batch, nothing = faiss_torch.IDSelectorBatch(ids), faiss_torch.IDSelectorRange(0, 0)
    return {
        "range": faiss_torch.IDSelectorRange(nb // 4, nb // 4 + len(ids)),
        "array": faiss_torch.IDSelectorArray(ids),
        "batch": batch,
        "bitmap": faiss_torch.IDSelectorBitmap(np.packbits(bits, bitorder="little")),
        "not": faiss_torch.IDSelectorNot(faiss_torch.IDSelectorBatch(others)),
        "and": faiss_torch.IDSelectorAnd(batch, faiss_torch.IDSelectorAll()),
        "or": faiss_torch.IDSelectorOr(nothing, batch),
        "xor": faiss_torch.IDSelectorXOr(batch, nothing),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "matrix", "csr"])
def test_the_work_of_a_filter(one_thread, kind):
    """Counted in elements that operations return: at most 1.3 times the unfiltered at half, and less at a hundredth."""
    generator = np.random.default_rng(2)
    nb, nq, d = 40000, 64, 16
    xb, xq = (generator.standard_normal((n, d), dtype="float32") for n in (nb, nq))
    if kind == "flat":
        index, make = faiss_torch.IndexFlatL2(d), faiss_torch.SearchParameters
    else:
        index = faiss_torch.index_factory(d, "IVF64,Flat")
        index.cp.niter = 2
        index.train(xb[:4000])
        index.search_mode, index.nprobe = kind, 16

        def make(sel):
            return faiss_torch.SearchParametersIVF(sel=sel, nprobe=16)

    index.add(xb)
    # blocks, which screen unfiltered searches of few queries, are left out: a filter is compared with its own path
    screen_of_path = functools.partial(arithmetic.pinned, "float32") if kind == "matrix" else contextlib.nullcontext

    def work(params):
        with screen_of_path(), Work() as counted:
            index.search(xq, 10, params=params)
        return counted.elements

    work(None)  # what searches keep for later ones is made

    unfiltered = work(None)
    assert unfiltered > nb
    for share, bound in ((0.5, 1.3), (0.01, 0.7)):
        for name, sel in selectors(share, nb).items():
            index.search(xq[:1], 10, params=make(sel=sel))  # what a selector keeps for later calls is made
            assert work(make(sel=sel)) <= bound * unfiltered, (name, share)
