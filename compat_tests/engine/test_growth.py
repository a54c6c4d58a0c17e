"""Many small calls of add: the same index as one call makes, at amortised cost (counted in bytes, not in time)."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import faiss_torch
from faiss_torch.constants import METRIC_L2
from faiss_torch.parts.growing import CPU_GROWTH, GrowingTensor, copied
from faiss_torch.parts.lists.storage import CPU_FIRST_ROOM_GROWTH, CPU_FREE_END, ListStorage
from faiss_torch.parts.screens.facts import RowFacts

CALLS, EACH, D, NLIST = 1000, 20, 16, 8
XB = np.random.RandomState(1).rand(CALLS * EACH, D).astype("float32")
XQ = np.random.RandomState(2).rand(50, D).astype("float32")


def flat():
    return faiss_torch.IndexFlatL2(D)


def ivf_flat():
    quantizer = faiss_torch.IndexFlatL2(D)
    # most vectors go to few lists, so that lists outgrow their room at different times
    quantizer.add(np.concatenate([XB[:4], XB[4:8] + 1.5]))
    return faiss_torch.IndexIVFFlat(quantizer, D, NLIST)


def by_small_calls(index, search_every=0):
    for call, begin in enumerate(range(0, len(XB), EACH)):
        index.add(XB[begin : begin + EACH])
        if search_every and call % search_every == 0:
            index.search(XQ[:1], 1)
    return index


@pytest.mark.parametrize("make", [flat, ivf_flat])
@pytest.mark.parametrize("search_every", [0, 50])
def test_many_small_calls_make_the_same_index_as_one(make, search_every):
    many, once = by_small_calls(make(), search_every), make()
    once.add(XB)
    assert many.ntotal == once.ntotal == len(XB)
    assert faiss_torch.serialize_index(many).tobytes() == faiss_torch.serialize_index(once).tobytes()
    for index in (many, once):
        if make is ivf_flat:
            index.nprobe = 3
    found, expected = many.search(XQ, 10), once.search(XQ, 10)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    sel = faiss_torch.IDSelectorRange(100, 4000)
    params = faiss_torch.SearchParametersIVF(sel=sel, nprobe=NLIST)
    np.testing.assert_array_equal(many.search(XQ, 10, params=params)[1], once.search(XQ, 10, params=params)[1])


class BytesMade(TorchDispatchMode):
    """Counts the bytes of vectors that operations write: outputs of float32 or uint8 that are no views."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("copy_", "index_copy_"):
            self.bytes += args[-1].nbytes
        elif not any(getattr(argument, "alias_info", None) for argument in func._schema.returns):
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float32, torch.uint8):
                    self.bytes += leaf.nbytes
        return result


def lists_filled_by(calls, searched):
    """Put the data into lists of unequal sizes."""
    storage = ListStorage(NLIST, 4 * D)
    if searched:
        storage.lists_for_scan(METRIC_L2)
    list_nos = torch.from_numpy((np.random.RandomState(3).rand(len(XB)) ** 2 * NLIST).astype("int64"))
    codes = torch.from_numpy(XB).view(torch.uint8)
    for part in torch.arange(len(XB)).chunk(calls):
        storage.add_to_lists(list_nos[part], part, codes[part])
    assert int(storage.sizes.sum()) == len(XB)


def table_filled_by(calls, searched):
    """Put the data into a table, as a flat index does."""
    table = GrowingTensor((D,), torch.float32, torch.device("cpu"))
    facts = RowFacts(METRIC_L2, torch.device("cpu"))
    for part in torch.from_numpy(XB).chunk(calls):
        begin = table.size
        table.append(part)
        if searched:
            facts.append(begin, part)
    assert table.size == len(XB)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [table_filled_by, lists_filled_by])
@pytest.mark.parametrize("searched", [False, True])
def test_small_calls_move_a_small_multiple_of_the_data(fill, searched):
    counts = []
    for calls in (1, CALLS):
        with BytesMade() as made:
            fill(calls, searched)
        counts.append(made.bytes)
    once, many = counts
    assert once >= XB.nbytes
    # growing by a constant amount would cost about CALLS / 2 times the data

    assert many <= 8 * once


def test_a_growing_tensor_is_moved_seldom():
    growing = GrowingTensor((3,), torch.float32, torch.device("cpu"))
    places, values = set(), torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    for row in values.split(1):
        growing.append(row)
        places.add(growing.room.data_ptr())
    assert torch.equal(growing.rows, values)
    assert len(places) <= 25
    assert len(growing.room) <= CPU_GROWTH * 4000 + 16
    assert not growing.room[4000:].any()


def test_a_first_call_takes_no_more_than_it_needs():
    growing = GrowingTensor((), torch.int64, torch.device("cpu"))
    growing.append(torch.arange(100))
    assert len(growing.room) == 112
    growing.replace(torch.arange(30))
    assert growing.rows.tolist() == list(range(30))


def test_lists_take_a_small_multiple_of_what_they_hold():
    index = by_small_calls(ivf_flat())
    assert index.invlists.compute_ntotal() == len(XB)
    # the room of grown lists, and the free end: address space, of which only what is used is memory
    assert len(index.invlists._codes) <= CPU_FIRST_ROOM_GROWTH * CPU_FREE_END * (len(XB) + 16 * NLIST)
    compact = pickle.loads(pickle.dumps(index))
    assert len(compact.invlists._codes) <= len(XB) + 16 * NLIST
    np.testing.assert_array_equal(compact.search(XQ, 5)[1], index.search(XQ, 5)[1])


def test_removing_and_adding_for_long_does_not_grow():
    index = ivf_flat()
    index.add(XB[:500])
    for i in range(200):
        assert index.remove_ids(np.arange(i * 5, i * 5 + 5)) == 5
        index.add_with_ids(XB[500 + i * 5 : 505 + i * 5], np.arange(500 + i * 5, 505 + i * 5))
    assert index.ntotal == 500
    assert len(index.invlists._codes) <= CPU_FIRST_ROOM_GROWTH * CPU_FREE_END * 1000
    index.nprobe = NLIST
    exact = faiss_torch.IndexFlatL2(D)
    exact.add(XB[1000:1500])
    np.testing.assert_array_equal(index.search(XQ, 5)[1], exact.search(XQ, 5)[1] + 1000)


def test_workers_write_the_pieces_of_an_addition(monkeypatch):
    """Many pieces, each a few rows, with what a search knows of the rows kept up to date."""
    monkeypatch.setattr("faiss_torch.parts.lists.storage.WRITTEN_BYTES", 300)
    before = faiss_torch.omp_get_max_threads()
    faiss_torch.omp_set_num_threads(2)
    try:
        storage = ListStorage(NLIST, 4 * D)
        storage.lists_for_scan(METRIC_L2)
        x = torch.from_numpy(XB[:3000]) * torch.arange(1, 3001)[:, None]
        list_nos = torch.randint(NLIST, (3000,), generator=torch.Generator().manual_seed(1))
        for part in torch.arange(3000).split(1100):  # the second one has lists move, the third one all of them
            offsets = storage.add_to_lists(list_nos[part], part, x[part].view(torch.uint8))
            earlier = torch.stack([(list_nos[: part[0]] == i).sum() for i in range(NLIST)])
            ranks = torch.stack([(list_nos[part[0] : i] == list_nos[i]).sum() for i in part])
            assert torch.equal(offsets, earlier[list_nos[part]] + ranks)
            if part[0]:
                storage.lists_for_scan(METRIC_L2)
    finally:
        faiss_torch.omp_set_num_threads(before)
    stored = storage.lists_for_scan(METRIC_L2).stored
    for i in range(NLIST):
        members = (list_nos == i).nonzero().view(-1)
        assert torch.equal(storage.list_ids(i), members)
        assert torch.equal(storage.list_codes(i).view(torch.float32), x[members])
        begin = int(storage._begins[i])
        rows = slice(begin, begin + len(members))
        torch.testing.assert_close(stored.bias[rows], x[members].square().sum(1) / 2)
    assert stored.largest_norm == float(torch.linalg.vector_norm(x, dim=1).max())
    assert stored.finite


def test_a_value_that_is_not_finite_among_many_pieces(monkeypatch):
    monkeypatch.setattr("faiss_torch.parts.lists.storage.WRITTEN_BYTES", 300)
    storage = ListStorage(NLIST, 4 * D)
    storage.lists_for_scan(METRIC_L2)
    x = torch.from_numpy(XB[:1000].copy())
    x[700, 3] = float("nan")
    storage.add_to_lists(torch.arange(1000) % NLIST, torch.arange(1000), x.view(torch.uint8))
    stored = storage.lists_for_scan(METRIC_L2).stored
    assert not stored.finite
    assert stored.largest_norm == float("inf")


@pytest.mark.parametrize("searched", [False, True])
def test_an_addition_to_a_flat_index_that_is_interrupted_adds_nothing(monkeypatch, searched):
    index, expected = flat(), flat()
    for each in (index, expected):
        each.add(XB[:500])

    def interrupted(*_):
        raise KeyboardInterrupt

    last_step = "screens.facts.RowFacts.append" if searched else "growing.GrowingTensor.append"
    for part in (np.full((1, D), np.nan, dtype="float32"), XB[500:900]):
        if searched:
            index.search(XQ, 3)
        with monkeypatch.context() as patch:
            patch.setattr(f"faiss_torch.parts.{last_step}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                index.add(part)
        assert index.ntotal == 500
        assert faiss_torch.serialize_index(index).tobytes() == faiss_torch.serialize_index(expected).tobytes()
        np.testing.assert_array_equal(index.search(XQ, 5)[1], expected.search(XQ, 5)[1])
    index.add(XB[500:600])
    expected.add(XB[500:600])
    np.testing.assert_array_equal(index.search(XQ, 5)[1], expected.search(XQ, 5)[1])


class Copies(TorchDispatchMode):
    """Counts operations that write many bytes."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if "copy" in str(function) and args[0].numel() >= len(XB):
            self.names.append(str(function))
        return out


@pytest.mark.parametrize("make", [flat, ivf_flat])
def test_a_copy_of_an_index_is_one_of_each_tensor(make):
    index = make()
    index.add(XB)
    storage = index.invlists if make is ivf_flat else index._codes
    with Copies() as copies:
        if make is ivf_flat:
            state = storage._compact(torch.device("cpu"), torch.float32)
        else:
            state = copied(storage, torch.device("cpu"))
    assert copies.names == ["aten.copy_.default"] * (2 if make is ivf_flat else 1)
    if make is ivf_flat:
        moved = ivf_flat()
        moved.invlists.__dict__.update(state)
        moved.ntotal, moved.nprobe, index.nprobe = index.ntotal, 3, 3
        np.testing.assert_array_equal(moved.search(XQ, 5)[1], index.search(XQ, 5)[1])
    else:
        assert torch.equal(state.rows, storage.rows)
    # lists that have grown one by one are brought together
    many = by_small_calls(ivf_flat(), 50)
    assert not many.invlists._is_compact()
    many.invlists.to(torch.device("cpu"))
    again = pickle.loads(pickle.dumps(many))
    assert again.invlists._is_compact()
    np.testing.assert_array_equal(again.search(XQ, 5)[1], many.search(XQ, 5)[1])
