"""IndexSplitVectors: each sub-index sees a part of the dimensions."""

import numpy as np
import pytest
from comparison import neighbours

D = 7


def vectors(n, seed, d):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


PARTS = [vectors(5, 1, 2), vectors(5, 2, 4), vectors(5, 3, 1)]
XQ = vectors(8, 4, D)


def split(faiss, threaded=False):
    index = faiss.IndexSplitVectors(D, threaded)
    index.referenced_objects = []
    for part in PARTS:
        sub_index = faiss.IndexFlatL2(part.shape[1])
        sub_index.add(part)
        index.referenced_objects.append(sub_index)
        index.add_sub_index(sub_index)
    return index


@pytest.mark.parametrize("threaded", [False, True])
def test_the_nearest_combination(faiss, threaded):
    index = split(faiss, threaded)
    assert (index.ntotal, index.sum_d, index.is_trained, index.threaded) == (5, D, True, threaded)
    found_D, I = index.search(XQ, 1)
    combinations = np.array([[*a, *b, *c] for c in PARTS[2] for b in PARTS[1] for a in PARTS[0]], "float32")
    expected_D, expected_I = neighbours(XQ, combinations, 1)
    np.testing.assert_array_equal(I, expected_I)
    np.testing.assert_allclose(found_D, expected_D, rtol=1e-5)
    assert index.search(XQ[:0], 1)[0].shape == (0, 1)


def test_a_part_that_finds_nothing(faiss):
    xq = XQ.copy()
    xq[1, 0] = xq[3, 3] = xq[5, -1] = np.nan
    found_D, I = split(faiss).search(xq, 1)
    np.testing.assert_array_equal(np.flatnonzero(I[:, 0] == -1), [1, 3, 5])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found_D[:, 0])), [1, 3, 5])


def test_what_it_does_not_do(faiss):
    index = split(faiss)
    for call in (
        lambda: index.search(XQ, 2),
        lambda: index.search(XQ, 1, params=faiss.SearchParameters()),
        lambda: index.add(XQ),
        lambda: index.train(XQ),
        index.reset,
        lambda: index.range_search(XQ, 1.0),
        lambda: index.reconstruct(0),
    ):
        with pytest.raises(RuntimeError):
            call()
    assert index.ntotal == 5


def test_sub_indexes_that_are_missing_or_do_not_fit(faiss):
    index = faiss.IndexSplitVectors(D)
    assert (index.sum_d, index.ntotal) == (0, 0)
    first = faiss.IndexFlatL2(2)
    index.add_sub_index(first)
    assert index.sum_d == 2
    with pytest.raises(RuntimeError):
        index.search(XQ, 1)
    first.add(PARTS[0])
    index.sync_with_sub_indexes()
    assert index.ntotal == 5
    with pytest.raises(RuntimeError):
        index.add_sub_index(faiss.IndexFlatIP(5))
    with pytest.raises(TypeError):
        index.add_sub_index(XQ)


def test_a_sub_index_that_does_not_fit_is_not_kept(ours):
    """faiss keeps it."""
    index = split(ours)
    with pytest.raises(RuntimeError, match="differ in"):
        index.add_sub_index(ours.IndexFlatL2(2))
    assert (index.sub_indexes.size(), index.sum_d) == (3, D)
    index.sub_indexes.at(1).reset()
    with pytest.raises(RuntimeError, match="differ in"):
        index.sync_with_sub_indexes()


def test_without_sub_indexes(ours):
    with pytest.raises(RuntimeError, match="0 dimensions together"):
        ours.IndexSplitVectors(D).search(XQ, 1)


def test_moving(ours):
    import torch

    index = split(ours)
    assert index.to("cpu", dtype=torch.float16) is index
    for sub_index, part in zip(index.sub_indexes, PARTS, strict=True):
        np.testing.assert_array_equal(sub_index.reconstruct(2), part[2].astype("float16"))
