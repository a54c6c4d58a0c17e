"""Functions whose results are faiss's own, number by number."""

import numpy as np
import pytest


def pointers(module, *arrays):
    return [module.swig_ptr(a) for a in arrays]


@pytest.mark.parametrize("shape", [(1,), (13,), (5, 7), (3, 33), (0,), (4, 0), (2, 1 << 19)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_checksum(ours, reference, shape, dtype):
    a = (np.random.RandomState(0).rand(*shape) * 255).astype(dtype)
    np.testing.assert_array_equal(ours.checksum(a), reference.checksum(a))


@pytest.mark.parametrize("n", [1, 2, 9, 255, 1000, (1 << 20) - 1, (1 << 20) + 3])
def test_hash_bytes(ours, reference, n):
    a = np.random.RandomState(n).randint(256, size=n).astype("uint8")
    assert ours.hash_bytes(ours.swig_ptr(a), n) == reference.hash_bytes(reference.swig_ptr(a), n)


def test_ivec_checksum(ours, reference):
    a = np.random.RandomState(0).randint(-(2**31), 2**31 - 1, size=1001).astype("int32")
    assert ours.ivec_checksum(1001, ours.swig_ptr(a)) == reference.ivec_checksum(1001, reference.swig_ptr(a))


def matrices():
    rs = np.random.RandomState(0)
    plain = rs.rand(60, 12).astype("float32")
    copies = plain.copy()
    copies[::2] = copies[1::2]
    copies[2] = copies[0]
    nulls = plain.copy()
    nulls[5:10] = 0
    odd = plain.copy()
    odd[:, 3:5] = 7
    odd[:, 5] += 1e5
    odd[:, 6] *= 1e-7
    broken = plain.copy()
    broken[3] = np.nan
    broken[4, 2] = np.inf
    broken[5, 5] = 1e30
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    return {
        "plain": plain, "copies": copies, "nulls": nulls, "odd": odd, "broken": broken, "unit": unit,
        "wide": rs.rand(3, 1030), "zeros": np.zeros((5, 4)), "nan": np.full((5, 4), np.nan), "one": np.ones((1, 1)),
    }  # fmt: skip


@pytest.mark.parametrize("name", matrices())
def test_MatrixStats(ours, reference, name):
    matrix = matrices()[name]
    mine, theirs = ours.MatrixStats(matrix), reference.MatrixStats(matrix)
    assert mine.comments == theirs.comments
    for field in ("n", "d", "n_collision", "n_valid", "n0", "hash_value"):
        assert getattr(mine, field) == getattr(theirs, field), field
    for field in ("min_norm2", "max_norm2"):
        assert getattr(mine, field) == pytest.approx(getattr(theirs, field), rel=1e-12), field


@pytest.mark.parametrize("name", ["kmin", "kmax"])
@pytest.mark.parametrize("k", [1, 4, 30, 35])
def test_kmin_kmax_with_ties_and_odd_values(ours, reference, name, k):
    values = np.random.RandomState(0).randint(0, 50, size=(40, 30)).astype("float32")
    values[0, 3] = np.nan
    values[1] = np.nan
    values[2] = np.inf
    values[3] = -np.inf
    values[4] = 3.4028234663852886e38
    D, I = getattr(reference, name)(values, k)
    found = getattr(ours, name)(values, k)
    np.testing.assert_array_equal(found[0], D)
    # which of the equal worst values stays depends on faiss's heap; all others are the same
    clear = D != D[:, -1:]
    np.testing.assert_array_equal(found[1][clear], I[clear])
    if k >= 30:
        np.testing.assert_array_equal(found[1], I)


@pytest.mark.torch_settings
@pytest.mark.parametrize("keep_max", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_merge_knn_results_with_ties(ours, reference, keep_max, dtype):
    rs = np.random.RandomState(1)
    values = np.sort(rs.randint(9, size=(4, 50, 6)), axis=2).astype(dtype)
    if keep_max:
        values = values[:, :, ::-1].copy()
    labels = rs.randint(1000, size=values.shape)
    for shard, query in rs.randint([4, 50], size=(60, 2)):
        labels[shard, query, rs.randint(6) :] = -1
    expected = reference.merge_knn_results(values, labels, keep_max)
    for mine, theirs in zip(ours.merge_knn_results(values, labels, keep_max), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_per_line_extrema(ours, reference):
    def run(faiss, name):
        incoming = np.random.RandomState(2).permutation(24).reshape(3, 8).astype("float32")
        values, labels = np.zeros((3, 4), "float32"), np.zeros((3, 4), "int64")
        worst, worst_label = np.zeros(3, "float32"), np.zeros(3, "int64")
        heap = getattr(faiss, name)()
        heap.nh, heap.k = 3, 4
        heap.val, heap.ids = pointers(faiss, values, labels)
        heap.heapify()
        heap.addn(8, faiss.swig_ptr(incoming))
        heap.per_line_extrema(*pointers(faiss, worst, worst_label))
        return worst, worst_label

    for name in ("float_maxheap_array_t", "float_minheap_array_t"):
        np.testing.assert_array_equal(run(ours, name), run(reference, name))


@pytest.mark.torch_settings
@pytest.mark.parametrize("metric", [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
def test_pairwise_distances(ours, reference, metric):
    rs = np.random.RandomState(3)
    xq, xb = rs.rand(9, 17).astype("float32"), rs.rand(40, 17).astype("float32")
    expected = reference.pairwise_distances(xq, xb, metric, 1.5)
    np.testing.assert_allclose(ours.pairwise_distances(xq, xb, metric, 1.5), expected, rtol=2e-5, atol=2e-6)


def test_ivec_hist(ours, reference):
    values = np.random.RandomState(0).randint(-3, 9, size=50).astype("int32")

    def run(faiss):
        counts = np.zeros(6, "int32")
        return faiss.ivec_hist(50, faiss.swig_ptr(values), 6, faiss.swig_ptr(counts)), counts.tolist()

    assert run(ours) == run(reference)
