"""Operations on whole IVF indexes: merging, searching with parameters, sliding windows, parts of the lists, shards."""

from __future__ import annotations

import numpy as np
import pytest

D, NLIST, NB, NQ = 7, 9, 400, 21


def data(n, seed):
    return np.random.RandomState(seed).rand(n, D).astype("float32")


def make(faiss, nb=NB, seed=2, first=None):
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(data(NLIST, seed=1))
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    index.referenced_objects = [quantizer]
    if nb:
        index.add_with_ids(data(nb, seed), np.arange(nb) + (first or 0))
    index.nprobe = 3
    return index


def sizes_of(index):
    return [index.get_list_size(i) for i in range(NLIST)]


def test_merge_into(faiss):
    index, other = make(faiss), make(faiss, 100, seed=3)
    faiss.merge_into(index, other, True)
    assert (index.ntotal, other.ntotal) == (NB + 100, 0)
    index.nprobe = NLIST
    _, found = index.search(data(100, seed=3), 1)
    np.testing.assert_array_equal(found.ravel(), np.arange(NB, NB + 100))
    faiss.merge_into(index, make(faiss, 5, seed=4, first=9000), False)
    assert index.search(data(5, seed=4), 1)[1].ravel().tolist() == list(range(9000, 9005))


def test_what_cannot_be_merged(faiss):
    index = make(faiss)
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(data(NLIST, seed=77))
    strange = faiss.IndexIVFFlat(quantizer, D, NLIST)
    strange.add(data(5, seed=1))
    for other in (strange, faiss.IndexFlatL2(D)):
        with pytest.raises(RuntimeError):
            faiss.check_compatible_for_merge(index, other)
        with pytest.raises(RuntimeError):
            faiss.merge_into(index, other, False)
    assert (index.ntotal, strange.ntotal) == (NB, 5)
    faiss.check_compatible_for_merge(index, make(faiss, 0))
    with pytest.raises(RuntimeError):
        faiss.check_compatible_for_merge(faiss.IndexFlatL2(D), faiss.IndexFlatL2(D + 1))
    faiss.check_compatible_for_merge(faiss.IndexFlatL2(D), faiss.IndexFlatL2(D))
    with pytest.raises(RuntimeError):
        faiss.merge_into(faiss.IndexFlatL2(D), faiss.IndexFlatL2(D), False)


def test_search_centroid(faiss):
    index, xq = make(faiss), data(NQ, seed=5)
    found = np.empty(NQ, "int64")
    faiss.search_centroid(index, faiss.swig_ptr(xq), NQ, faiss.swig_ptr(found))
    np.testing.assert_array_equal(found, index.quantizer.search(xq, 1)[1].ravel())


def test_search_and_return_centroids(faiss):
    index, xq, k = make(faiss), data(NQ, seed=5), 60
    distances, labels = np.empty((NQ, k), "float32"), np.empty((NQ, k), "int64")
    of_queries, of_results = np.empty(NQ, "int64"), np.empty((NQ, k), "int64")
    pointers = [faiss.swig_ptr(a) for a in (distances, labels, of_queries, of_results)]
    faiss.search_and_return_centroids(index, NQ, faiss.swig_ptr(xq), k, *pointers)
    wanted_distances, wanted = index.search(xq, k)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(distances, wanted_distances)
    np.testing.assert_array_equal(of_queries, index.quantizer.search(xq, 1)[1].ravel())
    lists = index.quantizer.search(data(NB, seed=2), 1)[1].ravel()
    np.testing.assert_array_equal(of_results, np.where(labels >= 0, lists[labels], -1))
    faiss.search_and_return_centroids(index, NQ, faiss.swig_ptr(xq), k, *pointers[:2], None, None)
    np.testing.assert_array_equal(labels, wanted)


def test_search_with_parameters(faiss):
    index, xq = make(faiss), data(NQ, seed=5)
    index.nprobe = 4
    expected = index.search(xq, 6)
    probes = index.quantizer.search(xq, 4)[1]
    index.nprobe = 1
    params = faiss.SearchParametersIVF(nprobe=4)
    *found, stats = faiss.search_with_parameters(index, xq, 6, params, output_stats=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert stats["ndis"] == np.array(sizes_of(index))[probes].sum()
    assert set(stats) == {"ndis", "pre_transform_ms", "coarse_quantizer_ms", "invlist_scan_ms"}
    index.nprobe = 4
    np.testing.assert_array_equal(faiss.search_with_parameters(index, xq, 6)[1], expected[1])
    with pytest.raises(AssertionError):
        faiss.search_with_parameters(index, xq[:, 1:], 6)
    with pytest.raises(RuntimeError):
        faiss.search_with_parameters(faiss.IndexFlatL2(D), xq, 6)


def test_range_search_with_parameters(faiss):
    index, xq = make(faiss), data(NQ, seed=5)
    index.nprobe = 4
    expected = index.range_search(xq, 0.3)
    index.nprobe = 1
    params = faiss.SearchParametersIVF(nprobe=4)
    *found, stats = faiss.range_search_with_parameters(index, xq, 0.3, params, output_stats=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert stats["ndis"] == np.array(sizes_of(index))[index.quantizer.search(xq, 4)[1]].sum()


def test_a_window_that_slides(faiss):
    index = make(faiss, nb=0)
    window = faiss.SlidingIndexWindow(index)
    slices = [make(faiss, 40 + 10 * i, seed=10 + i, first=1000 * i) for i in range(5)]
    index.nprobe = NLIST
    for i, one in enumerate(slices):
        window.step(one, i >= 2)
        held = range(max(0, i - 1), i + 1)
        assert window.n_slice == len(held)
        assert index.ntotal == sum(slices[j].ntotal for j in held)
        assert sizes_of(index) == np.sum([sizes_of(slices[j]) for j in held], axis=0).tolist()
        for j in held:
            found = index.search(data(slices[j].ntotal, seed=10 + j), 1)[1].ravel()
            np.testing.assert_array_equal(found, np.arange(slices[j].ntotal) + 1000 * j)
    window.step(None, True)
    assert (window.n_slice, index.ntotal) == (1, slices[4].ntotal)
    window.step(None, True)
    assert (window.n_slice, index.ntotal) == (0, 0)
    assert slices[4].ntotal == 80
    with pytest.raises(RuntimeError):
        window.step(None, True)
    with pytest.raises(RuntimeError):
        window.step(None, False)


def test_a_window_needs_lists_in_memory(faiss, tmp_path):
    index = make(faiss, nb=0)
    lists = faiss.OnDiskInvertedLists(NLIST, index.code_size, str(tmp_path / "lists"))
    index.own_invlists = False
    index.replace_invlists(lists, False)
    with pytest.raises(RuntimeError, match="only supports indexes with ArrayInvertedLists"):
        faiss.SlidingIndexWindow(index)


def test_parts_of_the_lists(faiss):
    index, sizes = make(faiss), sizes_of(make(faiss))
    some = faiss.get_invlist_range(index, 2, 6)
    assert [some.list_size(i) for i in range(some.nlist)] == sizes[2:6]
    assert index.ntotal == NB
    empty = faiss.ArrayInvertedLists(4, index.code_size)
    faiss.set_invlist_range(index, 2, 6, empty)
    assert sizes_of(index) == [*sizes[:2], 0, 0, 0, 0, *sizes[6:]]
    assert index.ntotal == NB - sum(sizes[2:6])
    assert empty.compute_ntotal() == sum(sizes[2:6])
    faiss.set_invlist_range(index, 2, 6, some)
    xq = data(NQ, seed=5)
    np.testing.assert_array_equal(index.search(xq, 5)[1], make(faiss).search(xq, 5)[1])
    assert index.ntotal == NB
    for wrong in ((2, 10), (-1, 3), (5, 4)):
        with pytest.raises(RuntimeError):
            faiss.get_invlist_range(index, *wrong)
    with pytest.raises(RuntimeError):
        faiss.set_invlist_range(index, 0, 2, some)


@pytest.mark.parametrize("generate_ids", [False, True])
@pytest.mark.parametrize("function", [None, lambda i, n: (i * i) % n])
def test_shards_of_centroids(faiss, tmp_path, generate_ids, function):
    index, centroids = make(faiss), data(NLIST, seed=1)
    template = str(tmp_path / "shard.%d.index")
    faiss.shard_ivf_index_centroids(index, 3, template, function, generate_ids)
    of_shard = [[i for i in range(NLIST) if (function or (lambda i, n: i % n))(i, 3) == s] for s in range(3)]
    for s, members in enumerate(of_shard):
        shard = faiss.read_index(template % s)
        quantizer = faiss.downcast_index(shard.quantizer)
        assert (quantizer.ntotal, shard.ntotal) == (len(members), NB)
        for place, i in enumerate(members):
            np.testing.assert_array_equal(quantizer.reconstruct(i if generate_ids else place), centroids[i])
    assert index.quantizer.ntotal == NLIST


def test_shards_that_cannot_be(faiss, tmp_path):
    quantizer = faiss.IndexFlatL2(D)
    empty = faiss.IndexIVFFlat(quantizer, D, NLIST)
    with pytest.raises(RuntimeError):
        faiss.shard_ivf_index_centroids(empty, 3, str(tmp_path / "%d"))
    with pytest.raises(RuntimeError):
        faiss.shard_ivf_index_centroids(make(faiss), 3, str(tmp_path / "one name"))
    assert not list(tmp_path.iterdir())
