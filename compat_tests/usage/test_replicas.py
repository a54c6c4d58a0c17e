"""IndexReplicas: the same index several times."""

import copy
import pickle

import numpy as np
import pytest
from comparison import assert_same_neighbours, neighbours

D = 5
NB = 103


def vectors(n, seed=1, d=D):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(NB), vectors(10, seed=2)
THREADED = pytest.mark.parametrize("threaded", [False, True])


def replicas(faiss, n=3, threaded=True):
    index = faiss.IndexReplicas(D, threaded)
    members = [faiss.IndexFlatL2(D) for _ in range(n)]
    for member in members:
        index.add_replica(member)
    return index, members


def test_forms_of_the_constructor(faiss):
    for arguments, d in (((), 0), ((D,), D), ((D, False), D), ((True,), 0)):
        index = faiss.IndexReplicas(*arguments)
        assert (index.d, index.count(), index.ntotal) == (d, 0, 0)
    assert faiss.IndexProxy is faiss.IndexReplicas
    assert isinstance(index, faiss.ThreadedIndexBase)


@THREADED
@pytest.mark.parametrize("n", [1, 3, 4])
def test_queries_are_shared_out(faiss, threaded, n):
    index, members = replicas(faiss, n, threaded)
    index.add(XB)
    assert [member.ntotal for member in members] == [NB] * n
    assert index.ntotal == NB
    for nq in (0, 1, 2, 3, 5, 10):
        found_D, I = index.search(XQ[:nq], 4)
        if nq:
            assert_same_neighbours(found_D, I, *neighbours(XQ[:nq], XB, 4))
        else:
            assert found_D.shape == I.shape == (0, 4)


def test_reconstruct_and_reset(faiss):
    index, members = replicas(faiss)
    index.add(XB)
    np.testing.assert_array_equal(index.reconstruct(7), XB[7])
    np.testing.assert_array_equal(index.reconstruct_n(3, 4), XB[3:7])
    index.reset()
    assert (index.ntotal, members[2].ntotal) == (0, 0)
    index.add(XB[:2])
    assert members[2].ntotal == 2


def test_a_flag_too_many(ours):
    with pytest.raises(TypeError, match="up to 1 flags, got 2"):
        ours.IndexReplicas(True, True)


def test_replicas_that_do_not_fit(faiss):
    index, _ = replicas(faiss)
    index.add(XB)
    with pytest.raises(RuntimeError, match="dimension mismatch"):
        index.addIndex(faiss.IndexFlatL2(D + 1))
    with pytest.raises(RuntimeError):
        index.remove_replica(faiss.IndexFlatL2(D))
    with pytest.raises(RuntimeError, match="vectors"):
        index.add_replica(faiss.IndexFlatL2(D))


def test_replicas_hold_the_same(faiss):
    index, members = replicas(faiss)
    index.add(XB)
    index.remove_replica(members[1])
    assert (index.count(), index.ntotal) == (2, NB)
    assert_same_neighbours(*index.search(XQ, 4), *neighbours(XQ, XB, 4))
    members[0].add(XB)
    with pytest.raises(RuntimeError):
        index.syncWithSubIndexes()


def test_a_replica_that_does_not_fit_is_not_kept(ours):
    """faiss keeps it."""
    index, _ = replicas(ours)
    index.add(XB)
    with pytest.raises(RuntimeError, match=f"has 0 vectors, those here {NB}"):
        index.add_replica(ours.IndexFlatL2(D))
    assert index.count() == 3


def test_an_error_of_one_replica(ours, monkeypatch):
    """It is raised as it is, and not that the replicas differ from then on."""
    index, members = replicas(ours)

    def no_room(*arguments):
        raise RuntimeError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(members[1], "_add", no_room)
        with pytest.raises(RuntimeError, match=r"^no room$"):
            index.add(XB)
    with pytest.raises(RuntimeError, match=f"replicas hold {NB} and 0 vectors"):
        index.syncWithSubIndexes()
    index.reset()
    index.add(XB)
    assert_same_neighbours(*index.search(XQ, 4), *neighbours(XQ, XB, 4))


def test_without_replicas(faiss):
    index = faiss.IndexReplicas(D)
    with pytest.raises(RuntimeError):
        index.search(XQ, 2)
    with pytest.raises(RuntimeError):
        index.reconstruct(0)


def test_adding_without_replicas(ours):
    with pytest.raises(RuntimeError, match="has no sub-index"):
        ours.IndexReplicas(D).add(XB)


@THREADED
def test_beyond_faiss(ours, threaded):
    """Settings, ids, removal and range search go to the replicas."""
    index = ours.IndexReplicas(D, threaded)
    for _ in range(3):
        index.add_replica(ours.IndexIDMap2(ours.IndexFlatL2(D)))
    index.add_with_ids(XB, np.arange(NB) + 1000)
    params = ours.SearchParameters(sel=ours.IDSelectorRange(1010, 1050))
    found_D, I = neighbours(XQ, XB[10:50], 4)
    assert_same_neighbours(*index.search(XQ, 4, params=params), found_D, I + 1010)
    lims, range_D, range_I = index.range_search(XQ, 0.4, params=params)
    single = index.at(0).range_search(XQ, 0.4, params=params)
    for found, expected in zip((lims, range_D, range_I), single, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert index.range_search(XQ[:0], 0.4)[0].tolist() == [0]
    np.testing.assert_array_equal(index.reconstruct(1003), XB[3])
    assert index.remove_ids(np.arange(1000, 1010)) == 10
    assert (index.ntotal, index.at(2).ntotal) == (NB - 10, NB - 10)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies(ours, way):
    index, members = replicas(ours)
    index.add(XB)
    other = way(index)
    members[0].reset()
    assert_same_neighbours(*other.search(XQ, 4), *neighbours(XQ, XB, 4))
