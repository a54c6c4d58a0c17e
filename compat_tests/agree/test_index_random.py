"""IndexRandom makes up what faiss's makes up."""

import copy

import numpy as np
import pytest


def vectors(n, d, seed=1):
    return np.random.RandomState(seed).standard_normal((n, d)).astype("float32")


@pytest.mark.parametrize(
    ("d", "ntotal", "k", "seed"),
    [(1, 1, 1, 1234), (3, 100, 7, 5), (8, 20, 20, -3), (97, 10**12, 150, 2**40 + 1), (4, 3000, 2999, 1234)],
)
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_results_are_those_of_faiss(reference, ours, d, ntotal, k, seed, metric):
    xq = vectors(13, d)
    xq[3] = xq[5]
    xq[4] = np.nan
    theirs, mine = (lib.IndexRandom(d, ntotal, seed, getattr(lib, metric)) for lib in (reference, ours))
    expected, found = theirs.search(xq, k), mine.search(xq, k)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(mine.reconstruct_n(0, min(ntotal, 5)), theirs.reconstruct_n(0, min(ntotal, 5)))
    np.testing.assert_array_equal(mine.reconstruct(0), theirs.reconstruct(0))


def test_many_queries(reference, ours):
    """More than are done at a time."""
    xq = vectors(3000, 5)
    expected, found = (lib.IndexRandom(5, 500, 7).search(xq, 50) for lib in (reference, ours))
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_verbs(faiss):
    index = faiss.IndexRandom(4)
    assert (index.ntotal, index.seed, index.is_trained, index.metric_type) == (0, 1234, True, faiss.METRIC_L2)
    index.add(vectors(30, 4))
    index.add(vectors(12, 4))
    assert index.ntotal == 42
    found_D, I = index.search(vectors(5, 4), 42)
    assert (np.sort(I, axis=1) == np.arange(42)).all()
    assert (np.diff(found_D, axis=1) >= 0).all()
    assert index.search(vectors(0, 4), 3)[1].shape == (0, 3)
    assert index.reconstruct_n(0, 0).shape == (0, 4)
    for call in (
        lambda: index.search(vectors(5, 4), 43),
        lambda: index.search(vectors(5, 4), 2, params=faiss.SearchParameters()),
        lambda: index.range_search(vectors(5, 4), 1.0),
        lambda: index.remove_ids(np.array([1])),
        lambda: index.add_with_ids(vectors(1, 4), np.array([1])),
        lambda: faiss.serialize_index(index),
    ):
        with pytest.raises(RuntimeError):
            call()
    other = faiss.clone_index(index)
    index.reset()
    assert (index.ntotal, other.ntotal) == (0, 42)


def test_in_a_map(faiss):
    index = faiss.IndexIDMap(faiss.IndexRandom(4))
    index.add_with_ids(vectors(30, 4), np.arange(30) * 100)
    assert set(index.search(vectors(2, 4), 30)[1][0]) == set(range(0, 3000, 100))


def test_no_negative_number_of_vectors(ours):
    with pytest.raises(RuntimeError, match="cannot have -1 vectors"):
        ours.IndexRandom(4, -1)
    assert copy.copy(ours.IndexRandom(4, 5)).ntotal == 5
