"""Inverted lists of every kind: stacked, sliced and masked ones, and lists in a file."""

from __future__ import annotations

import os

import numpy as np
import pytest

D, NLIST, NB, NQ = 10, 12, 600, 23


def data(n, seed):
    return np.random.RandomState(seed).rand(n, D).astype("float32")


def make(faiss, nb=NB, first=0):
    """An IVF index whose centroids are given; the same whatever the implementation."""
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(data(NLIST, seed=1))
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    index.referenced_objects = [quantizer]
    if nb:
        index.add_with_ids(data(nb, seed=2), np.arange(first, first + nb))
    index.nprobe = 4
    return index


def ids_of(faiss, lists, list_no):
    n = lists.list_size(list_no)
    return faiss.rev_swig_ptr(lists.get_ids(list_no), n).tolist() if n else []


def codes_of(faiss, lists, list_no):
    n = lists.list_size(list_no) * lists.code_size
    return faiss.rev_swig_ptr(lists.get_codes(list_no), n).copy() if n else np.empty(0, "uint8")


def contents(faiss, lists):
    return [(ids_of(faiss, lists, i), codes_of(faiss, lists, i).tolist()) for i in range(lists.nlist)]


def vector_of(faiss, *lists):
    vector = faiss.InvertedListsPtrVector()
    for one in lists:
        vector.push_back(one)
    return vector


def with_lists(faiss, lists, ntotal=NB):
    index = make(faiss, nb=0)
    index.own_invlists = False
    index.replace_invlists(lists, False)
    index.ntotal = ntotal
    return index


def check_search(faiss, index, expected, nprobe=4):
    """All searching verbs give what they give on the other index."""
    xq = data(NQ, seed=3)
    index.nprobe = expected.nprobe = nprobe
    D1, I1 = expected.search(xq, 7)
    D2, I2 = index.search(xq, 7)
    np.testing.assert_array_equal(I1, I2)
    np.testing.assert_allclose(D1, D2, rtol=1e-5)
    radius = float(np.median(D1[:, 3]))
    found, wanted = index.range_search(xq, radius), expected.range_search(xq, radius)
    np.testing.assert_array_equal(found[0], wanted[0])
    for i in range(NQ):
        some = slice(int(found[0][i]), int(found[0][i + 1]))
        assert sorted(found[2][some]) == sorted(wanted[2][some])


def test_vector_of_lists(faiss):
    a, b = faiss.ArrayInvertedLists(3, 2), faiss.ArrayInvertedLists(3, 2)
    vector = vector_of(faiss, a, b)
    assert vector.size() == 2
    assert vector.at(1).nlist == 3
    vector.clear()
    assert vector.size() == 0


def test_horizontal_stack(faiss):
    parts = [make(faiss, nb, first) for nb, first in ((200, 0), (0, 0), (150, 1000))]
    vector = vector_of(faiss, *(part.invlists for part in parts))
    stack = faiss.HStackInvertedLists(vector.size(), vector.data())
    assert faiss.ConcatenatedInvertedLists is faiss.HStackInvertedLists
    assert (stack.nlist, stack.code_size, stack.compute_ntotal()) == (NLIST, 4 * D, 350)
    for i in range(NLIST):
        assert ids_of(faiss, stack, i) == [j for part in parts for j in ids_of(faiss, part.invlists, i)]
    first = parts[0].get_list_size(2)
    assert stack.get_single_id(2, first) == parts[2].invlists.get_single_id(2, 0)
    whole = make(faiss, 200)
    whole.add_with_ids(data(150, seed=2), np.arange(1000, 1150))
    check_search(faiss, with_lists(faiss, stack, 350), whole)


def test_vertical_stack_of_slices(faiss):
    whole = make(faiss)
    slices = [faiss.SliceInvertedLists(whole.invlists, a, b) for a, b in ((0, 5), (5, 5), (5, 12))]
    assert [one.nlist for one in slices] == [5, 0, 7]
    assert contents(faiss, slices[2]) == contents(faiss, whole.invlists)[5:]
    vector = vector_of(faiss, *slices)
    stack = faiss.VStackInvertedLists(vector.size(), vector.data())
    assert stack.nlist == NLIST
    assert contents(faiss, stack) == contents(faiss, whole.invlists)
    assert stack.get_single_id(7, 1) == whole.invlists.get_single_id(7, 1)
    check_search(faiss, with_lists(faiss, stack), whole)


def test_masked_lists(faiss):
    whole, other = make(faiss), make(faiss, nb=0)
    replacement = np.arange(5) + 7000
    other.invlists.add_entries(3, 5, faiss.swig_ptr(replacement), faiss.swig_ptr(data(5, seed=9).view("uint8")))
    masked = faiss.MaskedInvertedLists(other.invlists, whole.invlists)
    assert ids_of(faiss, masked, 3) == replacement.tolist()
    assert ids_of(faiss, masked, 4) == ids_of(faiss, whole.invlists, 4)
    index = with_lists(faiss, masked)
    index.nprobe = NLIST
    _, found = index.search(data(5, seed=9), 1)
    np.testing.assert_array_equal(found.ravel(), replacement)


def test_stop_words_and_what_is_added_later(faiss):
    whole = make(faiss)
    largest = max(whole.get_list_size(i) for i in range(NLIST))
    stopped = faiss.StopWordsInvertedLists(whole.invlists, largest)
    sizes = [whole.get_list_size(i) for i in range(NLIST)]
    assert [stopped.list_size(i) for i in range(NLIST)] == [0 if n == largest else n for n in sizes]
    index = with_lists(faiss, stopped)
    index.nprobe = NLIST
    _, found = index.search(data(NB, seed=2), 1)
    hidden = [i for j in range(NLIST) if sizes[j] == largest for i in ids_of(faiss, whole.invlists, j)]
    assert not set(found.ravel().tolist()) & set(hidden)
    stopped.maxsize = largest + 1
    assert stopped.compute_ntotal() == NB
    check_search(faiss, index, whole)


def test_capped_lists(faiss):
    whole = make(faiss)
    capped = faiss.CappedInvertedLists(whole.invlists, 20)
    sizes = [whole.get_list_size(i) for i in range(NLIST)]
    assert [capped.list_size(i) for i in range(NLIST)] == [min(n, 20) for n in sizes]
    assert [capped.real_list_size(i) for i in range(NLIST)] == sizes
    index = with_lists(faiss, capped)
    index.nprobe = NLIST
    _, found = index.search(data(NB, seed=2), 1)
    shown = {i for j in range(NLIST) for i in ids_of(faiss, whole.invlists, j)[:20]}
    assert set(found.ravel().tolist()) <= shown
    index.add_with_ids(data(4, seed=5), np.arange(4) + 9000)
    assert whole.invlists.compute_ntotal() == NB + 4


def test_read_only_lists_refuse_to_be_written(faiss):
    whole = make(faiss)
    part = faiss.SliceInvertedLists(whole.invlists, 0, NLIST)
    id_, code = np.array([1]), np.zeros(4 * D, "uint8")
    before = contents(faiss, whole.invlists)
    with pytest.raises(RuntimeError):
        part.add_entries(0, 1, faiss.swig_ptr(id_), faiss.swig_ptr(code))
    with pytest.raises(RuntimeError):
        part.update_entries(0, 0, 1, faiss.swig_ptr(id_), faiss.swig_ptr(code))
    with pytest.raises(RuntimeError):
        part.resize(0, 0)
    assert contents(faiss, whole.invlists) == before


def test_lists_that_do_not_fit_are_refused(faiss):
    a, b = faiss.ArrayInvertedLists(3, 8), faiss.ArrayInvertedLists(3, 4)
    both = vector_of(faiss, a, b)
    with pytest.raises(RuntimeError):
        faiss.HStackInvertedLists(2, both.data())
    with pytest.raises(RuntimeError):
        faiss.VStackInvertedLists(2, both.data())
    with pytest.raises(RuntimeError):
        faiss.HStackInvertedLists(0, both.data())
    with pytest.raises(RuntimeError):
        faiss.MaskedInvertedLists(a, b)


# lists in a file


@pytest.fixture
def filename(tmp_path):
    return str(tmp_path / "lists.ivfdata")


def on_disk(faiss, filename, nb=NB, batch=50):
    index = make(faiss, nb=0)
    index.referenced_objects.append(faiss.OnDiskInvertedLists(NLIST, index.code_size, filename))
    index.own_invlists = False
    index.replace_invlists(index.referenced_objects[1], False)
    for begin in range(0, nb, batch):
        index.add(data(nb, seed=2)[begin : begin + batch])
    return index


def test_adding_to_lists_on_disk(faiss, filename):
    index, expected = on_disk(faiss, filename), make(faiss)
    lists = index.referenced_objects[1]
    assert contents(faiss, lists) == contents(faiss, expected.invlists)
    for i in range(NLIST):
        one = lists.lists.at(i)
        assert one.size == lists.list_size(i) <= one.capacity
        assert one.offset + one.capacity * (lists.code_size + 8) <= lists.totsize
        with open(filename, "rb") as file:
            file.seek(one.offset)
            assert file.read(one.size * lists.code_size) == codes_of(faiss, lists, i).tobytes()
    assert os.path.getsize(filename) == lists.totsize
    check_search(faiss, index, expected)
    check_search(faiss, index, expected, nprobe=NLIST)


def test_single_entries_on_disk(faiss, filename):
    lists = faiss.OnDiskInvertedLists(4, 3, filename)
    assert (lists.totsize, lists.read_only, lists.lists.size()) == (0, False, 4)
    assert lists.lists.at(0).offset == 2**64 - 1
    ids, codes = np.arange(5) + 100, np.arange(15, dtype="uint8").reshape(5, 3)
    assert lists.add_entries(2, 5, faiss.swig_ptr(ids), faiss.swig_ptr(codes)) == 0
    assert lists.add_entry(2, 7, faiss.swig_ptr(codes[:1].copy())) == 5
    assert [lists.list_size(i) for i in range(4)] == [0, 0, 6, 0]
    lists.update_entry(2, 1, 8, faiss.swig_ptr(np.full(3, 9, "uint8")))
    assert ids_of(faiss, lists, 2) == [100, 8, 102, 103, 104, 7]
    assert codes_of(faiss, lists, 2).reshape(6, 3)[1].tolist() == [9, 9, 9]
    lists.resize(2, 2)
    assert (ids_of(faiss, lists, 2), lists.lists.at(2).capacity) == ([100, 8], 2)
    lists.add_entries(0, 5, faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    lists.resize(2, 0)
    assert lists.lists.at(2).capacity == 0
    assert ids_of(faiss, lists, 0) == ids.tolist()
    lists.reset()
    assert lists.compute_ntotal() == 0


def test_changing_an_index_on_disk(faiss, filename):
    index, expected = on_disk(faiss, filename), make(faiss)
    gone = np.arange(0, NB, 3)
    assert index.remove_ids(gone) == expected.remove_ids(gone) == len(gone)
    assert contents(faiss, index.referenced_objects[1]) == contents(faiss, expected.invlists)
    np.testing.assert_array_equal(index.reconstruct_n(1, 2), expected.reconstruct_n(1, 2))
    other = make(faiss, 100)
    index.merge_from(other, 5000)
    expected.merge_from(make(faiss, 100), 5000)
    assert (index.ntotal, other.ntotal) == (expected.ntotal, 0)
    check_search(faiss, index, expected)
    index.reset()
    assert index.search(data(1, seed=3), 2)[1].tolist() == [[-1, -1]]


def test_direct_map_of_an_index_on_disk(faiss, filename):
    index, expected = on_disk(faiss, filename), make(faiss)
    for one in (index, expected):
        one.make_direct_map()
        one.update_vectors(np.array([5, 17]), data(2, seed=8))
    np.testing.assert_array_equal(index.reconstruct(17), data(2, seed=8)[1])
    xq = data(NQ, seed=3)
    for found, wanted in zip(index.search_and_reconstruct(xq, 3), expected.search_and_reconstruct(xq, 3), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for one in (index, expected):
        one.set_direct_map_type(faiss.DirectMap.Hashtable)
        one.remove_ids(np.array([3, 4, 5]))
    check_search(faiss, index, expected)


@pytest.mark.parametrize("shift_ids", [False, True])
def test_merging_several_lists_into_a_file(faiss, filename, shift_ids):
    parts = [make(faiss, 150, 0 if shift_ids else 150 * i) for i in range(3)]
    vector = vector_of(faiss, *(part.invlists for part in parts))
    lists = faiss.OnDiskInvertedLists(NLIST, 4 * D, filename)
    assert lists.merge_from_multiple(vector.data(), vector.size(), shift_ids) == 450
    for i in range(NLIST):
        shifts = (0, 150, 300) if shift_ids else (0, 0, 0)
        expected = [j + shifts[n] for n in range(3) for j in ids_of(faiss, parts[n].invlists, i)]
        assert ids_of(faiss, lists, i) == expected
        assert lists.lists.at(i).capacity == lists.list_size(i)
    assert os.path.getsize(filename) == lists.totsize == 450 * (4 * D + 8)
    with pytest.raises(RuntimeError):
        lists.merge_from_multiple(vector.data(), vector.size())
    index = with_lists(faiss, lists, 450)
    index.add(data(20, seed=6))
    assert lists.compute_ntotal() == 470


def test_merging_one_and_cropping(faiss, filename):
    whole = make(faiss)
    lists = faiss.OnDiskInvertedLists(NLIST, 4 * D, filename)
    assert lists.merge_from_1(whole.invlists) == NB
    expected = contents(faiss, whole.invlists)
    assert contents(faiss, lists) == expected
    lists.crop_invlists(2, 9)
    assert lists.nlist == 7
    assert contents(faiss, lists) == expected[2:9]
    with pytest.raises(RuntimeError):
        lists.crop_invlists(0, 8)
    lists.prefetch_lists(faiss.swig_ptr(np.array([1, -1, 3])), 3)


def test_index_files_with_lists_on_disk(faiss, filename, tmp_path):
    index = on_disk(faiss, filename)
    path = str(tmp_path / "index")
    faiss.write_index(index, path)
    again = faiss.read_index(path, faiss.IO_FLAG_READ_ONLY)
    assert faiss.downcast_InvertedLists(again.invlists).filename == filename
    check_search(faiss, again, make(faiss))
    if faiss.__name__ != "faiss":  # which may throw in a parallel region, and that ends the process
        with pytest.raises(RuntimeError, match="read"):
            again.add(data(1, seed=4))
    del again
    writable = faiss.read_index(path)
    writable.add(data(10, seed=4))
    assert writable.invlists.compute_ntotal() == writable.ntotal == NB + 10


def test_moved_files(faiss, filename, tmp_path):
    faiss.write_index(on_disk(faiss, filename), str(tmp_path / "index"))
    (tmp_path / "other").mkdir()
    for name in ("index", "lists.ivfdata"):
        os.rename(tmp_path / name, tmp_path / "other" / name)
    path = str(tmp_path / "other" / "index")
    with pytest.raises(RuntimeError, match="could not open"):
        faiss.read_index(path)
    index = faiss.read_index(path, faiss.IO_FLAG_ONDISK_SAME_DIR)
    check_search(faiss, index, make(faiss))
    with pytest.raises(RuntimeError, match=r"file"):
        faiss.deserialize_index(np.fromfile(path, "uint8"), faiss.IO_FLAG_ONDISK_SAME_DIR)


def test_an_index_on_disk_is_not_cloned(faiss, filename):
    index = on_disk(faiss, filename)
    with pytest.raises(RuntimeError, match="clone not supported"):
        faiss.clone_index(index)
