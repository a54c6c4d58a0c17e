"""IndexIVFFlatDedup: equal vectors stand once, and no id of theirs is lost."""

import numpy as np
import pytest

D, NLIST = 8, 10


def vectors(n, seed):
    return np.random.RandomState(seed).rand(n, D).astype("float32")


XB, XQ = vectors(400, 1), vectors(13, 2)
CENTROIDS = vectors(NLIST, 3)


def make(faiss, cls="IndexIVFFlatDedup", metric="METRIC_L2"):
    """A trained, empty index with given centroids, which searches all lists."""
    metric_type = getattr(faiss, metric)
    quantizer = faiss.IndexFlat(D, metric_type)
    quantizer.add(CENTROIDS)
    index = getattr(faiss, cls)(quantizer, D, NLIST, metric_type)
    index.referenced_objects = [quantizer]
    index.nprobe = NLIST
    return index


def dedup(faiss):
    """Vectors 0 ... 99, then 0 ... 29 again as 100 ... 129, then 0 ... 9 as 130 ... 139."""
    index = make(faiss)
    index.add(XB[:100])
    index.add(np.concatenate([XB[:30], XB[:10]]))
    return index


def test_dedup_stores_equal_vectors_once(faiss):
    index = dedup(faiss)
    assert index.ntotal == 140
    assert index.invlists.compute_ntotal() == 100


def test_dedup_finds_all_instances(faiss):
    D, I = dedup(faiss).search(XB[:40], 3)
    for i in range(40):
        instances = [i] + ([100 + i] if i < 30 else []) + ([130 + i] if i < 10 else [])
        np.testing.assert_allclose(D[i, : len(instances)], 0, atol=1e-6)
        assert set(I[i, : len(instances)]) == set(instances)


def test_dedup_removes_instances(faiss):
    index = dedup(faiss)
    index.remove_ids(np.array([0, 101, 45]))
    D, I = index.search(XB[[0, 1, 45]], 2)
    assert set(I[0]) == {100, 130}
    assert set(I[1]) == {1, 131}
    assert 45 not in I[2]
    np.testing.assert_allclose(D[:2], 0, atol=1e-6)


def test_dedup_with_ids_and_inside_one_call(faiss):
    index = make(faiss)
    index.add_with_ids(np.concatenate([XB[:5], XB[:5], XB[5:8]]), np.arange(13) * 100)
    assert index.invlists.compute_ntotal() == 8
    _, I = index.search(XB[:8], 2)
    for i in range(5):
        assert set(I[i]) == {100 * i, 100 * (i + 5)}
    np.testing.assert_array_equal(I[5:, 0], [1000, 1100, 1200])


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.range_search(XQ, 1.0),
        lambda index: index.reconstruct(3),
        lambda index: index.reconstruct_n(0, 3),
        lambda index: index.search_and_reconstruct(XQ, 3),
        lambda index: index.search_and_return_codes(XQ, 3),
        lambda index: index.update_vectors(np.arange(3), XB[:3]),
    ],
    ids=[
        "range_search",
        "reconstruct",
        "reconstruct_n",
        "search_and_reconstruct",
        "search_and_return_codes",
        "update_vectors",
    ],
)
def test_what_dedup_does_not_do(faiss, call):
    index = dedup(faiss)
    with pytest.raises(RuntimeError):
        call(index)
    assert index.ntotal == 140


def assert_stands_for(index, x, ids):
    """Raise unless searches find each id of `ids` at distance 0 from its row of `x`, and nothing else is there."""
    assert index.ntotal == len(ids)
    k = len(ids) + 1
    found_D, found_I = index.search(x, k)
    for row, id in enumerate(ids):
        at_zero = found_I[row][found_D[row] < 1e-6]
        equal = [other for other, y in zip(ids, x, strict=True) if (y == x[row]).all()]
        assert at_zero.tolist() == sorted(equal), id
        assert sorted(found_I[row][found_I[row] >= 0]) == sorted(ids)


EVERY = np.concatenate([XB[:100], XB[:30], XB[:10]])


@pytest.mark.parametrize(
    "gone", [[0], [100], [0, 100], [0, 130], [0, 100, 130], [105, 135, 45], range(100), range(140)]
)
def test_each_id_that_is_removed_counts(ours, gone):
    """faiss counts entries alone, and so keeps ntotal too large."""
    index = dedup(ours)
    assert index.remove_ids(np.array([*gone, 999])) == len(gone)
    kept = np.setdiff1d(np.arange(140), gone)
    assert_stands_for(index, EVERY[kept], kept.tolist())
    index.add(XB[:3])
    assert index.ntotal == len(kept) + 3


def test_nothing_is_found_after_a_reset(ours):
    """faiss finds the instances from before."""
    index = dedup(ours)
    index.reset()
    assert index.ntotal == 0
    index.add(XB[:50])
    assert_stands_for(index, XB[:50], list(range(50)))


@pytest.mark.parametrize("shift", [0, 1000])
def test_merging_keeps_every_id(ours, shift):
    """faiss loses the ids that have no entry of their own."""
    index, other = dedup(ours), make(ours)
    theirs = np.concatenate([XB[20:60], XB[20:40], XB[200:210]])
    other.add_with_ids(theirs, np.arange(len(theirs)) + 5000)
    index.merge_from(other, shift)
    ids = [*range(140), *(np.arange(len(theirs)) + 5000 + shift)]
    assert_stands_for(index, np.concatenate([EVERY, theirs]), ids)
    other.add(XB[:50])
    assert_stands_for(other, XB[:50], list(range(50)))
    assert index.remove_ids(np.array(ids)) == len(ids)
    assert index.ntotal == 0


def test_merge_into_keeps_every_id(ours):
    index, other = dedup(ours), dedup(ours)
    ours.merge_into(index, other, True)
    assert_stands_for(index, np.concatenate([EVERY, EVERY]), list(range(280)))


def test_a_filter_is_asked_about_every_id(ours):
    """faiss asks about those of the entries, and gives the others with them."""
    index = dedup(ours)
    wanted = np.array([0, 1, 101, 132, 60])
    params = ours.SearchParametersIVF(nprobe=NLIST, sel=ours.IDSelectorBatch(wanted))
    I = index.search(XB[:3], 6, params=params)[1]
    assert [sorted(row) for row in I] == [[-1, 0, 1, 60, 101, 132]] * 3
    assert I[:, 0].tolist() == [0, 1, 132]
    assert I[1, 1] == 101


def test_lists_that_the_caller_chose(faiss):
    index = dedup(faiss)
    D, I = index.search(XB[:20], 5)
    lists = np.tile(np.arange(NLIST), (20, 1))
    got = index.search_preassigned(XB[:20], 5, lists, np.zeros(lists.shape, "float32"))
    np.testing.assert_allclose(got[0], D, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.sort(got[1]), np.sort(I))


def test_ranges_in_lists_that_the_caller_chose(ours):
    """faiss gives the ids of the entries alone."""
    lists = np.tile(np.arange(NLIST), (40, 1))
    lims, D, I = dedup(ours).range_search_preassigned(XB[:40], 1e-6, lists, np.zeros(lists.shape, "float32"))
    for i in range(40):
        instances = [i] + ([100 + i] if i < 30 else []) + ([130 + i] if i < 10 else [])
        assert sorted(I[lims[i] : lims[i + 1]]) == instances
    np.testing.assert_allclose(D, 0, atol=1e-6)


def test_a_subset_that_would_lose_ids_is_refused(ours):
    index, other = dedup(ours), make(ours)
    with pytest.raises(RuntimeError, match="40 ids have no entry of their own"):
        index.copy_subset_to(other, 0, 0, 120)
    assert other.ntotal == 0
    index.remove_ids(np.arange(100, 140))
    index.copy_subset_to(other, 0, 0, 50)
    assert_stands_for(other, XB[:50], list(range(50)))
