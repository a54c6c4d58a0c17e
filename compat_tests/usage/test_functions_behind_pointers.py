"""Functions with C signatures: they read and write arrays behind pointers."""

from __future__ import annotations

import numpy as np
import pytest

FLT_MAX = np.finfo("float32").max


def random_vectors(*shape, seed=0):
    return np.random.RandomState(seed).rand(*shape).astype("float32")


class TestVectors:
    @pytest.mark.parametrize("d", [1, 3, 97])
    def test_sum_and_difference(self, faiss, d):
        a, b = random_vectors(2, d)
        c = np.zeros(d, dtype="float32")
        faiss.fvec_add(d, faiss.swig_ptr(a), faiss.swig_ptr(b), faiss.swig_ptr(c))
        np.testing.assert_array_equal(c, a + b)
        faiss.fvec_add(d, faiss.swig_ptr(a), 0.25, faiss.swig_ptr(c))
        np.testing.assert_array_equal(c, a + np.float32(0.25))
        faiss.fvec_sub(d, faiss.swig_ptr(a), faiss.swig_ptr(b), faiss.swig_ptr(c))
        np.testing.assert_array_equal(c, a - b)

    def test_result_may_be_an_argument(self, faiss):
        a, b = random_vectors(2, 9)
        expected = a - b
        faiss.fvec_sub(9, faiss.swig_ptr(a), faiss.swig_ptr(b), faiss.swig_ptr(b))
        np.testing.assert_array_equal(b, expected)

    @pytest.mark.parametrize("d", [0, 1, 3, 97])
    def test_distances(self, faiss, d):
        a, b = random_vectors(2, d)
        pointers = faiss.swig_ptr(a), faiss.swig_ptr(b)
        assert faiss.fvec_L1(*pointers, d) == pytest.approx(np.abs(a - b).sum(), rel=1e-5)
        assert faiss.fvec_Linf(*pointers, d) == (np.abs(a - b).max() if d else 0)

    def test_some_rows(self, faiss):
        x, y = random_vectors(4, 5), random_vectors(30, 5, seed=1)
        ids = np.random.RandomState(2).randint(30, size=(4, 7))
        ids[1, 2] = ids[3, 0] = -1
        results = np.full((4, 7), 5, dtype="float32")
        arguments = [faiss.swig_ptr(a) for a in (results, x, y, ids)]
        faiss.fvec_L2sqr_by_idx(*arguments, 5, 4, 7)
        expected = np.square(x[:, None] - y[ids]).sum(2)
        np.testing.assert_allclose(results, np.where(ids < 0, np.inf, expected), rtol=1e-5)
        faiss.fvec_inner_products_by_idx(*arguments, 5, 4, 7)
        expected = (x[:, None] * y[ids]).sum(2)
        np.testing.assert_allclose(results, np.where(ids < 0, -np.inf, expected), rtol=1e-5)

    def test_some_rows_none_there(self, faiss):
        results, ids = np.zeros(3, dtype="float32"), np.full(3, -1)
        x = random_vectors(1, 5)
        faiss.fvec_L2sqr_by_idx(*map(faiss.swig_ptr, (results, x, x, ids)), 5, 1, 3)
        assert (results == np.inf).all()

    def test_nearest_row(self, faiss):
        x, y = random_vectors(5), random_vectors(40, 5, seed=1)
        buffer = np.zeros(40, dtype="float32")
        pointers = [faiss.swig_ptr(a) for a in (buffer, x, y)]
        assert faiss.fvec_L2sqr_ny_nearest(*pointers, 5, 40) == np.square(y - x).sum(1).argmin()
        assert faiss.fvec_L2sqr_ny_nearest(*pointers, 5, 0) == 0

    @pytest.mark.parametrize("name", ["fvec_argsort", "fvec_argsort_parallel"])
    @pytest.mark.parametrize("n", [1, 1000])
    def test_argsort(self, faiss, name, n):
        values = np.random.RandomState(0).randint(50, size=n).astype("float32")
        perm = np.zeros(n, dtype="uint64")
        getattr(faiss, name)(n, faiss.swig_ptr(values), faiss.swig_ptr(perm))
        np.testing.assert_array_equal(values[perm], np.sort(values))
        np.testing.assert_array_equal(np.sort(perm), np.arange(n))

    def test_argsort_wants_unsigned_positions(self, faiss):
        values = random_vectors(4)
        with pytest.raises(TypeError):
            faiss.fvec_argsort(4, faiss.swig_ptr(values), faiss.swig_ptr(np.zeros(4, dtype="int64")))


class TestNeighbours:
    @pytest.mark.parametrize("selected", [False, True])
    @pytest.mark.parametrize("metric", ["L2", "inner_product"])
    def test_into_heaps_and_with_a_selector(self, faiss, metric, selected):
        x, y = random_vectors(6, 8), random_vectors(50, 8, seed=1)
        sel = faiss.IDSelectorRange(10, 30) if selected else None
        options = ([None] if metric == "L2" else []) + [sel]
        D, I = np.zeros((6, 4), dtype="float32"), np.zeros((6, 4), dtype="int64")
        function = faiss.knn_L2sqr if metric == "L2" else faiss.knn_inner_product
        pointers = faiss.swig_ptr(x), faiss.swig_ptr(y), 8, 6, 50
        function(*pointers, 4, faiss.swig_ptr(D), faiss.swig_ptr(I), *options)
        expected = np.square(x[:, None] - y).sum(2) if metric == "L2" else -(x @ y.T)
        if selected:
            expected[:, :10] = expected[:, 30:] = np.inf
        np.testing.assert_array_equal(I, expected.argsort(1)[:, :4])

        heaps = (faiss.float_maxheap_array_t if metric == "L2" else faiss.float_minheap_array_t)()
        D2, I2 = np.zeros_like(D), np.zeros_like(I)
        heaps.nh, heaps.k = 6, 4
        heaps.val, heaps.ids = faiss.swig_ptr(D2), faiss.swig_ptr(I2)
        function(*pointers, heaps, *options)
        np.testing.assert_array_equal(I2, I)
        np.testing.assert_allclose(D2, D, rtol=1e-5, atol=1e-5)

    def test_too_few_or_too_many_arguments(self, faiss):
        x = random_vectors(2, 3)
        pointer = faiss.swig_ptr(x)
        with pytest.raises(TypeError):
            faiss.knn_L2sqr(pointer, pointer, 3, 2, 2, 1)
        with pytest.raises(TypeError):
            faiss.knn_inner_product(pointer, pointer, 3, 2, 2, 1, pointer, pointer, None, None)

    @pytest.mark.parametrize("dtype", ["float32", "int32"])
    @pytest.mark.parametrize("keep_max", [False, True])
    def test_merging_shards(self, faiss, keep_max, dtype):
        D = np.sort(np.random.RandomState(0).randint(1000, size=(3, 5, 4)), axis=2).astype(dtype)
        D = np.ascontiguousarray(D[:, :, ::-1]) if keep_max else D
        I = np.arange(60).reshape(3, 5, 4)
        I[0, :, 3] = -1
        merged_D, merged_I = np.zeros((5, 4), dtype=dtype), np.zeros((5, 4), dtype="int64")
        merge = faiss.merge_knn_results_CMax if keep_max else faiss.merge_knn_results_CMin
        merge(5, 4, 3, *map(faiss.swig_ptr, (D, I, merged_D, merged_I)))
        expected_D, expected_I = faiss.merge_knn_results(D, I, keep_max=keep_max)
        np.testing.assert_array_equal(merged_D, expected_D)
        np.testing.assert_array_equal(merged_I, expected_I)
        assert (merged_I != I[0]).any()

    def test_labels_of_equal_distances_in_order(self, faiss):
        labels = np.array([5, 3, 9, 1, 2, 8])
        distances = np.array([1, 1, 1, 2, 3, 3], dtype="float32")
        faiss.ranklist_handle_ties(6, faiss.swig_ptr(labels), faiss.swig_ptr(distances))
        assert labels.tolist() == [3, 5, 9, 1, 2, 8]
        faiss.ranklist_handle_ties(0, faiss.swig_ptr(labels), faiss.swig_ptr(distances))


class TestPartitioning:
    @pytest.mark.parametrize("name", ["CMax_float", "CMin_float", "CMax_uint16", "CMin_uint16"])
    @pytest.mark.parametrize(("q_min", "q_max"), [(1, 1), (40, 40), (30, 50), (99, 99), (40, 100), (100, 100)])
    @pytest.mark.parametrize("top", [5, 60000])
    def test_front_is_the_best(self, faiss, name, q_min, q_max, top):
        n = 100
        rs = np.random.RandomState(q_min)
        dtype = "float32" if name.endswith("float") else "uint16"
        before = rs.randint(top, size=n).astype(dtype)
        table = faiss.AlignedTableUint16()
        if dtype == "uint16":
            faiss.copy_array_to_AlignedTable(before, table)
        values = before.copy()
        ids = rs.permutation(n)
        original = dict(zip(ids.tolist(), before.tolist(), strict=True))
        q_out = np.zeros(1, dtype="uint64")
        pointer = faiss.swig_ptr(values) if dtype == "float32" else table.get()
        partition = getattr(faiss, f"{name}_partition_fuzzy")
        threshold = partition(pointer, faiss.swig_ptr(ids), n, q_min, q_max, faiss.swig_ptr(q_out))
        if dtype == "uint16":
            values = faiss.AlignedTable_to_array(table)
        q = int(q_out[0])
        assert q_min <= q <= q_max
        sign = 1 if name.startswith("CMax") else -1
        best = np.sort(sign * before.astype("float64"))
        np.testing.assert_array_equal(np.sort(sign * values[:q].astype("float64")), best[:q])
        assert [original[i] for i in ids[:q].tolist()] == values[:q].tolist()
        if q < n:
            assert best[q - 1] <= sign * threshold <= best[q]

    def test_all_and_none(self, faiss):
        values, ids = random_vectors(10), np.arange(10)
        q = np.zeros(1, dtype="uint64")
        pointers = faiss.swig_ptr(values), faiss.swig_ptr(ids), 10
        assert faiss.CMax_float_partition_fuzzy(*pointers, 3, 10, faiss.swig_ptr(q)) == FLT_MAX
        assert q[0] == 10
        assert faiss.CMin_float_partition_fuzzy(*pointers, 10, 10, None) == -FLT_MAX
        assert faiss.CMax_float_partition_fuzzy(*pointers, 0, 3, faiss.swig_ptr(q)) == 0
        assert q[0] == 0
        table = faiss.AlignedTableUint16(10)
        pointers = table.get(), faiss.swig_ptr(ids), 10
        assert faiss.CMax_uint16_partition_fuzzy(*pointers, 10, 10, None) == 65535
        assert faiss.CMin_uint16_partition_fuzzy(*pointers, 10, 10, None) == 65535

    @pytest.mark.parametrize(("name", "bins"), [("simd_histogram_8", 8), ("simd_histogram_16", 16)])
    @pytest.mark.parametrize(("first", "shift"), [(0, -1), (500, 2), (10, 0), (3, 12)])
    def test_histogram(self, faiss, name, bins, first, shift):
        top = bins if shift < 0 else 65536 if shift == 12 else 700
        values = np.random.RandomState(0).randint(top, size=1234).astype("uint16")
        table = faiss.AlignedTableUint16()
        faiss.copy_array_to_AlignedTable(values, table)
        hist = np.full(bins, 7, dtype="int32")
        getattr(faiss, name)(table.get(), len(values), first, shift, faiss.swig_ptr(hist))
        width = 1 << max(0, shift)
        expected = np.histogram(values, first + width * np.arange(bins + 1))[0]
        last_edge = (values == first + width * bins).sum()  # numpy counts it to the last bin
        expected[-1] -= last_edge
        np.testing.assert_array_equal(hist, expected)


class TestFourccs:
    def test_number_and_back(self, faiss):
        assert faiss.fourcc("IxFl") == 1816557641
        assert faiss.fourcc_inv(1816557641) == "IxFl"
        assert faiss.fourcc_inv_printable(faiss.fourcc("IxFl")) == "IxFl"
        assert faiss.fourcc_inv_printable(0xFF80417F) == "\\x7fA\\x80\\xff"

    def test_other_length(self, faiss):
        with pytest.raises(RuntimeError):
            faiss.fourcc("abc")
