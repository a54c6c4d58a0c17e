"""PyCallbackIDSelector: a function of Python says which ids may be found."""

from __future__ import annotations

import numpy as np
import pytest


def vectors(n, seed=0):
    return np.random.RandomState(seed).rand(n, 6).astype("float32")


@pytest.mark.parametrize("description", ["Flat", "IVF8,Flat"])
def test_same_results_as_a_batch(faiss, description):
    x = vectors(400)
    index = faiss.index_factory(6, description)
    index.train(x)
    index.add(x)
    make = faiss.SearchParameters if description == "Flat" else faiss.SearchParametersIVF
    settings = {} if description == "Flat" else {"nprobe": 3}
    odd = faiss.PyCallbackIDSelector(lambda id: id % 2 == 1)
    batch = faiss.IDSelectorBatch(np.arange(1, 400, 2))
    D, I = index.search(vectors(9, 1), 5, params=make(sel=odd, **settings))
    D2, I2 = index.search(vectors(9, 1), 5, params=make(sel=batch, **settings))
    assert (I % 2 == 1).all()
    np.testing.assert_array_equal(I, I2)
    np.testing.assert_allclose(D, D2, rtol=1e-5)


@pytest.mark.parametrize("nprobe", [1, 40])
def test_the_function_is_asked_about_ids_that_there_are(faiss, nprobe):
    x = vectors(400)
    index = faiss.index_factory(6, "IVF40,Flat")
    index.cp.min_points_per_centroid = 1
    index.train(x)
    ids = np.arange(1000, 1400)
    index.add_with_ids(x, ids)
    gone = ids[::7].copy()
    assert index.remove_ids(gone) == len(gone)
    even = {id: id % 2 == 0 for id in set(ids.tolist()) - set(gone.tolist())}  # of others a KeyError
    sel = faiss.PyCallbackIDSelector(lambda id: even[id])
    odd = faiss.IDSelectorNot(sel)
    both = faiss.IDSelectorAnd(faiss.IDSelectorAll(), sel)
    for one, rest in ((sel, 0), (odd, 1), (both, 0)):
        params = faiss.SearchParametersIVF(sel=one, nprobe=nprobe)
        _, I = index.search(x, 5, params=params)
        assert len(np.unique(I)) > 100
        assert set(I[I >= 0].tolist()) <= {id for id in even if id % 2 == rest}


def test_is_member_and_negation(faiss):
    sel = faiss.PyCallbackIDSelector(lambda id: id > 3)
    assert sel.is_member(4)
    assert not sel.is_member(3)
    none_of_these = faiss.IDSelectorNot(sel)
    assert none_of_these.is_member(3)


def test_remove_ids(faiss):
    index = faiss.IndexFlatL2(6)
    x = vectors(10)
    index.add(x)
    assert index.remove_ids(faiss.PyCallbackIDSelector(lambda id: id in (2, 5))) == 2
    np.testing.assert_array_equal(index.reconstruct_n(), np.delete(x, [2, 5], axis=0))


def test_what_the_function_raises_arrives(ours):
    def refuse(id):
        raise KeyError(id)

    index = ours.IndexFlatL2(6)
    index.add(vectors(10))
    with pytest.raises(KeyError):
        index.search(vectors(1), 1, params=ours.SearchParameters(sel=ours.PyCallbackIDSelector(refuse)))
    assert index.ntotal == 10
