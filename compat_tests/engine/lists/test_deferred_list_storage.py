"""Small additions that wait: nobody can tell from the results."""

import copy
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.parts.lists.deferred import DeferredListStorage, _Waiting
from faiss_torch.parts.lists.storage import ListStorage

D, NLIST = 12, 7
XB = np.random.RandomState(1).rand(3000, D).astype("float32")
XQ = np.random.RandomState(2).rand(20, D).astype("float32")


def index_with(nb, calls=1):
    quantizer = faiss_torch.IndexFlatL2(D)
    quantizer.add(XB[:NLIST])
    index = faiss_torch.IndexIVFFlat(quantizer, D, NLIST)
    for part in np.array_split(XB[:nb], calls):
        index.add(part)
    index.nprobe = 3
    return index


def waits(index):
    return "sizes" not in vars(index.invlists)


def contents(index):
    lists = index.invlists
    return [(lists.list_ids(i).tolist(), lists.list_codes(i).view(torch.float32).tolist()) for i in range(index.nlist)]


def placed(nb):
    """The lists that a plain storage has after one call."""
    index = index_with(0)
    storage = ListStorage(NLIST, 4 * D)
    x = torch.from_numpy(XB[:nb])
    list_nos = torch.from_numpy(index.quantizer.assign(XB[:nb], 1))[:, 0]
    storage.add_to_lists(list_nos, torch.arange(nb), x.view(torch.uint8))
    return [(storage.list_ids(i).tolist(), storage.list_codes(i).view(torch.float32).tolist()) for i in range(NLIST)]


@pytest.mark.parametrize(("nb", "calls"), [(1, 1), (500, 1), (500, 97), (3000, 30)])
def test_the_same_lists_as_a_plain_storage(nb, calls):
    index = index_with(nb, calls)
    assert waits(index)
    assert index.ntotal == nb
    assert contents(index) == placed(nb)
    assert not waits(index)


def test_more_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr("faiss_torch.parts.lists.deferred.WAITING_BYTES", 100 * (4 * D + 8))
    index = index_with(1000, 300)  # calls of 3 and 4 wait, a hundred vectors at a time
    index.add(XB[1000:2000])  # does not wait, nor does what came before it
    assert not waits(index)
    assert contents(index) == placed(2000)


READS = {
    "list_size": lambda lists: [lists.list_size(i) for i in range(NLIST)],
    "get_ids": lambda lists: [lists.get_single_id(i, 0) for i in range(NLIST)],
    "get_codes": lambda lists: [lists.get_single_code(i, 1).view(4).tolist() for i in range(NLIST)],
    "compute_ntotal": lambda lists: lists.compute_ntotal(),
    "imbalance_factor": lambda lists: lists.imbalance_factor(),
    "sizes": lambda lists: lists.sizes.tolist(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_lists_that_somebody_holds_are_read_with_what_waits(read):
    index, whole = index_with(100), index_with(300)
    lists = index.invlists
    read(lists)
    index.add(XB[100:300])
    assert waits(index)
    assert read(lists) == read(whole.invlists)


def test_vectors_go_where_they_belonged_when_they_came():
    index = index_with(200)
    index.quantizer.reset()
    index.quantizer.add(XB[-NLIST:])
    assert waits(index)
    index.add(XB[200:400])
    moved = {i for ids, _ in contents(index) for i in ids if i < 200}
    assert moved == set(range(200))
    first = placed(200)
    assert [[i for i in ids if i < 200] for ids, _ in contents(index)] == [ids for ids, _ in first]
    assert [[i for i in ids if i >= 200] for ids, _ in contents(index)] != [
        [i for i in ids if i >= 200] for ids, _ in placed(400)
    ]


def test_vectors_without_a_nearest_centroid_are_left_out():
    index = index_with(50)
    bad = XB[50:60].copy()
    bad[3, 5] = np.nan
    index.add(bad)
    assert waits(index)
    assert index.ntotal == 60
    assert index.invlists.compute_ntotal() == 59
    assert 53 not in {i for ids, _ in contents(index) for i in ids}


COPIES = {
    "clone_index": faiss_torch.clone_index,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "serialize": lambda index: faiss_torch.deserialize_index(faiss_torch.serialize_index(index)),
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_a_copy_has_what_waits_and_goes_its_own_way(make_copy):
    index = index_with(200, 10)
    assert waits(index)
    same = make_copy(index)
    same.add(XB[200:250])
    assert contents(index) == placed(200)
    assert contents(same) == placed(250)


def test_verbs_that_change_the_lists():
    index = index_with(100)
    index.reset()
    assert (index.ntotal, index.invlists.compute_ntotal()) == (0, 0)
    index.add(XB[:100])
    assert index.remove_ids(np.arange(40, 100)) == 60
    assert contents(index) == placed(40)
    other = index_with(60)
    assert waits(other)
    index.merge_from(other, add_id=40)
    assert sorted(i for ids, _ in contents(index) for i in ids) == list(range(100))
    index = index_with(100)
    index.make_direct_map()
    np.testing.assert_array_equal(index.reconstruct(99), XB[99])
    assert contents(index) == placed(100)


def test_two_threads_that_find_entries_waiting():
    expected = index_with(2000).search(XQ, 10)
    for _ in range(20):
        index = index_with(2000, 40)
        assert waits(index)
        found, start = [], threading.Barrier(2)

        def search(index=index, found=found, start=start):
            start.wait()
            found.append(index.search(XQ, 10))

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2
        for distances, labels in found:
            np.testing.assert_array_equal(labels, expected[1])
            np.testing.assert_array_equal(distances, expected[0])


def test_an_entry_that_cannot_be_placed_is_not_lost():
    storage = DeferredListStorage(2, 4)
    room = [False]

    def assign(codes):
        if not room[0]:
            raise MemoryError("no room")
        return torch.zeros(len(codes), dtype=torch.int64)

    storage.add_later(torch.tensor([7]), torch.zeros(1, 4, dtype=torch.uint8), assign, 1)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            storage.list_ids(0)
    room[0] = True
    assert storage.list_ids(0).tolist() == [7]
    assert storage.sizes.tolist() == [1, 0]


def test_a_small_addition_wakes_no_thread(monkeypatch):
    threads = []
    append = _Waiting.append

    def noting_the_thread(*args):
        threads.append(threading.current_thread())
        append(*args)

    monkeypatch.setattr(_Waiting, "append", noting_the_thread)
    index = index_with(30, 3)
    index.add(XB[30:50])
    assert threads[1:] == [threading.current_thread()] * 3  # the first one has to find out what the quantizer holds
    index.quantizer.add(XB[50:51])
    index.quantizer.remove_ids(np.array([NLIST]))  # the same centroids, but who knows that
    index.add(XB[50:90])
    assert contents(index) == placed(90)


@pytest.mark.parametrize("n", [1, 40])
def test_an_addition_that_is_interrupted_adds_nothing(monkeypatch, n):
    index = index_with(100, 4)

    def interrupted(*_):
        raise KeyboardInterrupt

    for already in (True, False):
        if not already:
            index.invlists.compute_ntotal()  # nothing waits any more
        with monkeypatch.context() as patch:
            patch.setattr(DeferredListStorage, "_set_placed_aside", interrupted)
            with pytest.raises(KeyboardInterrupt):
                index.add(XB[100 : 100 + n])
        assert index.ntotal == 100
    assert contents(index) == placed(100)
    index.add(XB[100 : 100 + n])
    assert contents(index) == placed(100 + n)


def test_the_room_for_what_waits_goes_when_the_lists_are_read():
    index = index_with(500, 50)
    room = weakref.ref(index.invlists._waiting)
    assert index.invlists.compute_ntotal() == 500
    assert room() is None
