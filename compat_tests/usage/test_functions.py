"""Functions of faiss that need no index: the same text for every implementation."""

import numpy as np
import pytest
import torch

METRICS = ("INNER_PRODUCT", "L2", "L1", "Linf", "Canberra", "BrayCurtis", "JensenShannon", "Jaccard")


def vectors(n, d, seed=0):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


def l2(xq, xb):
    return ((xq[:, None].astype("float64") - xb[None]) ** 2).sum(2)


# --- norms -----------------------------------------------------------------------------------------------------


def test_normalize_L2_works_in_place_and_returns_none(faiss):
    x = vectors(20, 7)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert faiss.normalize_L2(x) is None
    np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_normalize_L2_leaves_rows_of_zeros_and_writes_through_views(faiss):
    x = vectors(6, 5)
    x[1] = 0
    before = x.copy()
    faiss.normalize_L2(x[:3])
    np.testing.assert_array_equal(x[1], 0)
    np.testing.assert_allclose(np.linalg.norm(x[[0, 2]], axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(x[3:], before[3:])


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((3, 2)), TypeError),
        (np.zeros((3, 2), "float32").T, ValueError),
        (np.zeros(3, "float32"), IndexError),
        ([[1.0]], AttributeError),
    ],
    ids=["float64", "Fortran", "1-d", "list"],
)
def test_normalize_L2_refuses_what_it_cannot_change_in_place(faiss, x, error):
    with pytest.raises(error):
        faiss.normalize_L2(x)


def test_norms_behind_pointers(faiss):
    x = vectors(9, 5)
    norms, squares = np.zeros(9, "float32"), np.zeros(9, "float32")
    faiss.fvec_norms_L2(faiss.swig_ptr(norms), faiss.swig_ptr(x), 5, 9)
    faiss.fvec_norms_L2sqr(faiss.swig_ptr(squares), faiss.swig_ptr(x), 5, 9)
    np.testing.assert_allclose(norms, np.linalg.norm(x, axis=1), rtol=1e-6)
    np.testing.assert_allclose(squares, (x**2).sum(1), rtol=1e-6)
    assert faiss.fvec_norm_L2sqr(faiss.swig_ptr(x), 5) == pytest.approx((x[0] ** 2).sum(), rel=1e-6)
    faiss.fvec_renorm_L2(5, 9, faiss.swig_ptr(x))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-6)
    with pytest.raises(TypeError):
        faiss.fvec_renorm_L2(5, 9, faiss.swig_ptr(x.astype("float64")))


# --- neighbours and distances --------------------------------------------------------------------------------


def test_knn_L2(faiss):
    xq, xb = vectors(11, 13, 1), vectors(57, 13, 2)
    D, I = faiss.knn(xq, xb, 4)
    all_distances = l2(xq, xb)
    np.testing.assert_array_equal(I, all_distances.argsort(1, kind="stable")[:, :4])
    np.testing.assert_allclose(D, np.sort(all_distances, 1)[:, :4], rtol=1e-4)
    assert (D.dtype, I.dtype) == (np.float32, np.int64)


def test_knn_inner_product_and_more_neighbours_than_vectors(faiss):
    xq, xb = vectors(3, 5, 1), vectors(4, 5, 2)
    D, I = faiss.knn(xq, xb, 6, metric=faiss.METRIC_INNER_PRODUCT)
    np.testing.assert_array_equal(I[:, :4], (-xq @ xb.T).argsort(1))
    np.testing.assert_array_equal(I[:, 4:], -1)
    np.testing.assert_array_equal(D[:, 4:], np.float32(-3.4028235e38))


def test_knn_and_pairwise_distances_take_lists(faiss):
    xq, xb = [[0.0, 1.0]], [[3.0, 1.0], [0.0, 2.0]]
    np.testing.assert_array_equal(faiss.knn(xq, xb, 2)[1], [[1, 0]])
    np.testing.assert_allclose(faiss.pairwise_distances(xq, xb), [[9, 1]])
    np.testing.assert_array_equal(faiss.kmin([[3, 1, 2]], 2)[1], [[1, 2]])


def test_knn_refuses_other_widths_and_unknown_metrics(faiss):
    with pytest.raises(AssertionError):
        faiss.knn(vectors(3, 5), vectors(4, 6), 2)
    with pytest.raises(RuntimeError):
        faiss.knn(vectors(3, 5), vectors(4, 5), 2, metric=99)


@pytest.mark.parametrize("metric", METRICS)
def test_knn_agrees_with_pairwise_distances(faiss, metric):
    xq, xb = vectors(7, 9, 1), vectors(33, 9, 2)
    number = getattr(faiss, f"METRIC_{metric}")
    matrix = faiss.pairwise_distances(xq, xb, number)
    D, _ = faiss.knn(xq, xb, 5, metric=number)
    best = -np.sort(-matrix, 1) if faiss.is_similarity_metric(number) else np.sort(matrix, 1)
    assert matrix.shape == (7, 33)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(D, best[:, :5], rtol=2e-5, atol=1e-6)


def test_pairwise_distances_L2_and_Lp(faiss):
    xq, xb = vectors(7, 9, 1), vectors(5, 9, 2)
    np.testing.assert_allclose(faiss.pairwise_distances(xq, xb), l2(xq, xb), rtol=1e-4, atol=1e-5)
    cubes = (np.abs(xq[:, None] - xb[None]) ** 3).sum(2)
    found = faiss.pairwise_distances(xq, xb, metric=faiss.METRIC_Lp, metric_arg=3)
    np.testing.assert_allclose(found, cubes, rtol=1e-5)
    with pytest.raises(AssertionError):
        faiss.pairwise_distances(xq, xb[:, :4].copy())


def test_knn_behind_pointers(faiss):
    xq, xb = vectors(6, 8, 1), vectors(20, 8, 2)
    pointers = [faiss.swig_ptr(xq), faiss.swig_ptr(xb), 8, 6, 20]
    for function, metric in (
        (faiss.knn_L2sqr, faiss.METRIC_L2),
        (faiss.knn_inner_product, faiss.METRIC_INNER_PRODUCT),
    ):
        D, I = np.zeros((6, 3), "float32"), np.zeros((6, 3), "int64")
        function(*pointers, 3, faiss.swig_ptr(D), faiss.swig_ptr(I))
        expected = faiss.knn(xq, xb, 3, metric=metric)
        np.testing.assert_array_equal(I, expected[1])
        np.testing.assert_allclose(D, expected[0], rtol=1e-5)
    D, I = np.zeros((6, 3), "float32"), np.zeros((6, 3), "int64")
    faiss.knn_extra_metrics(*pointers, faiss.METRIC_L1, 0.0, 3, faiss.swig_ptr(D), faiss.swig_ptr(I))
    np.testing.assert_array_equal(I, faiss.knn(xq, xb, 3, metric=faiss.METRIC_L1)[1])
    only = faiss.IDSelectorRange(5, 15)
    faiss.knn_extra_metrics(*pointers, faiss.METRIC_L1, 0.0, 3, faiss.swig_ptr(D), faiss.swig_ptr(I), only)
    np.testing.assert_array_equal(I, faiss.knn(xq, xb[5:15].copy(), 3, metric=faiss.METRIC_L1)[1] + 5)


def test_distances_behind_pointers(faiss):
    xq, xb = vectors(6, 8, 1), vectors(20, 8, 2)
    x, y = faiss.swig_ptr(xq), faiss.swig_ptr(xb)
    matrix = np.zeros((6, 20), "float32")
    faiss.pairwise_L2sqr(8, 6, x, 20, y, faiss.swig_ptr(matrix))
    np.testing.assert_allclose(matrix, l2(xq, xb), rtol=1e-4, atol=1e-5)
    wide = np.zeros((6, 25), "float32")
    faiss.pairwise_L2sqr(4, 6, x, 20, y, faiss.swig_ptr(wide), 8, 8, 25)
    np.testing.assert_allclose(wide[:, :20], l2(xq[:, :4], xb[:, :4]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(wide[:, 20:], 0)
    row = np.zeros(20, "float32")
    faiss.fvec_L2sqr_ny(faiss.swig_ptr(row), x, y, 8, 20)
    np.testing.assert_allclose(row, l2(xq, xb)[0], rtol=1e-5)
    faiss.fvec_inner_products_ny(faiss.swig_ptr(row), x, y, 8, 20)
    np.testing.assert_allclose(row, xb @ xq[0], rtol=1e-5)
    assert faiss.fvec_L2sqr(x, y, 8) == pytest.approx(l2(xq, xb)[0, 0], rel=1e-5)
    assert faiss.fvec_inner_product(x, y, 8) == pytest.approx(xq[0] @ xb[0], rel=1e-5)


def test_indexed_pairs_behind_pointers(faiss):
    x, y = vectors(10, 8, 1), vectors(20, 8, 2)
    ix, iy = np.array([3, 9, 0]), np.array([19, 0, 7])
    found = np.zeros(3, "float32")
    arguments = [8, 3, *(faiss.swig_ptr(a) for a in (x, ix, y, iy, found))]
    faiss.pairwise_indexed_L2sqr(*arguments)
    np.testing.assert_allclose(found, ((x[ix] - y[iy]) ** 2).sum(1), rtol=1e-5)
    faiss.pairwise_indexed_inner_product(*arguments)
    np.testing.assert_allclose(found, (x[ix] * y[iy]).sum(1), rtol=1e-5)


def test_madd_and_argmin(faiss):
    a, b, c = vectors(1, 33, 1)[0], vectors(1, 33, 2)[0], np.zeros(33, "float32")
    smallest = faiss.fvec_madd_and_argmin(33, faiss.swig_ptr(a), -1.5, faiss.swig_ptr(b), faiss.swig_ptr(c))
    np.testing.assert_allclose(c, a - 1.5 * b, rtol=1e-5, atol=1e-6)
    assert smallest == c.argmin()


# --- the k best ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sign"), [("kmin", 1), ("kmax", -1)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (5, 100, 7), (3, 40, 40)])
def test_kmin_kmax(faiss, name, sign, m, n, k):
    values = vectors(m, n)
    D, I = getattr(faiss, name)(values, k)
    order = (sign * values).argsort(1, kind="stable")[:, :k]
    np.testing.assert_array_equal(I, order)
    np.testing.assert_array_equal(D, np.take_along_axis(values, order, 1))


def test_kmin_kmax_pad_and_pass_over_nan(faiss):
    values = np.array([[2.0, np.nan, 1.0, np.inf]])
    D, I = faiss.kmin(values, 3)
    np.testing.assert_array_equal(I, [[2, 0, -1]])
    np.testing.assert_array_equal(D, np.array([[1, 2, 3.4028235e38]], "float32"))
    D, I = faiss.kmax(-values, 3)
    np.testing.assert_array_equal(I, [[2, 0, -1]])
    np.testing.assert_array_equal(D, np.array([[-1, -2, -3.4028235e38]], "float32"))


def test_kmin_ties_come_by_id(faiss):
    values = np.array([[1, 0, 1, 0, 1]], "float32")
    np.testing.assert_array_equal(faiss.kmin(values, 4)[1], [[1, 3, 0, 2]])
    np.testing.assert_array_equal(faiss.kmax(values, 5)[1], [[4, 2, 0, 3, 1]])


@pytest.mark.parametrize("keep_max", [False, True])
def test_ResultHeap_over_slices_gives_the_best_of_all(faiss, keep_max):
    values, labels = vectors(6, 90), np.random.RandomState(1).permutation(540).reshape(6, 90)
    heap = faiss.ResultHeap(6, 10, keep_max=keep_max)
    for begin in range(0, 90, 35):
        heap.add_result(values[:, begin : begin + 35], labels[:, begin : begin + 35])
    heap.finalize()
    order = (-values if keep_max else values).argsort(1)[:, :10]
    np.testing.assert_array_equal(heap.D, np.take_along_axis(values, order, 1))
    np.testing.assert_array_equal(heap.I, np.take_along_axis(labels, order, 1))


def test_ResultHeap_with_too_few_results_is_padded(faiss):
    heap = faiss.ResultHeap(2, 3)
    heap.add_result(np.array([[5.0, 4.0], [np.nan, 1.0]], "float32"), np.array([[10, 11], [12, 13]]))
    heap.finalize()
    np.testing.assert_array_equal(heap.I, [[11, 10, -1], [13, -1, -1]])
    np.testing.assert_array_equal(heap.D[:, 2], np.float32(3.4028235e38))


def test_ResultHeap_of_some_queries(faiss):
    heap = faiss.ResultHeap(4, 2)
    values = np.array([[3.0, 1.0, 2.0], [6.0, 5.0, 4.0]], "float32")
    heap.add_result_subset([3, 1], values, np.array([7, 8, 9]))
    heap.add_result_subset(np.array([1]), values[1:] - 5, np.array([[70, 80, 90]]))
    heap.finalize()
    np.testing.assert_array_equal(heap.I, [[-1, -1], [90, 80], [-1, -1], [8, 9]])
    with pytest.raises(AssertionError):
        heap.add_result(values, np.zeros((2, 3), "int64"))


@pytest.mark.parametrize("keep_max", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_merge_knn_results(faiss, keep_max, dtype):
    rs = np.random.RandomState(3)
    values = np.sort(rs.permutation(3 * 5 * 4).reshape(3, 5, 4), 2).astype(dtype)
    if keep_max:
        values = values[:, :, ::-1].copy()
    labels = rs.randint(1000, size=values.shape)
    labels[1, :, 2:] = -1  # the second shard found two neighbours only
    labels[:, 4] = -1
    D, I = faiss.merge_knn_results(values, labels, keep_max=keep_max)
    assert D.dtype == dtype
    for q in range(4):
        present = labels[:, q].ravel() >= 0
        v, i = values[:, q].ravel()[present], labels[:, q].ravel()[present]
        order = np.argsort(-v if keep_max else v)[:4]
        np.testing.assert_array_equal(D[q], v[order])
        np.testing.assert_array_equal(I[q], i[order])
    np.testing.assert_array_equal(I[4], -1)


def test_merge_knn_results_refuses_other_types_and_shapes(faiss):
    with pytest.raises(AssertionError):
        faiss.merge_knn_results(np.zeros((2, 3, 4), "float32"), np.zeros((2, 3, 5), "int64"))
    with pytest.raises(TypeError):
        faiss.merge_knn_results(np.zeros((2, 3, 4), "float64"), np.zeros((2, 3, 4), "int64"))


@pytest.mark.parametrize("name", ["float_maxheap_array_t", "int_minheap_array_t"])
def test_heap_arrays(faiss, name):
    dtype = "float32" if name.startswith("float") else "int32"
    keeps_largest = "minheap" in name
    incoming = np.random.RandomState(0).permutation(60).reshape(3, 20).astype(dtype)
    values, labels = np.zeros((3, 4), dtype), np.zeros((3, 4), "int64")
    heap = getattr(faiss, name)()
    heap.nh, heap.k = 3, 4
    heap.val, heap.ids = faiss.swig_ptr(values), faiss.swig_ptr(labels)
    heap.heapify()
    np.testing.assert_array_equal(labels, -1)
    heap.addn(20, faiss.swig_ptr(incoming), 100)
    worst = (np.sort(incoming, 1)[:, -4] if keeps_largest else np.sort(incoming, 1)[:, 3]).astype(dtype)
    np.testing.assert_array_equal(values[:, 0], worst)
    heap.reorder()
    order = (-incoming if keeps_largest else incoming).argsort(1)[:, :4]
    np.testing.assert_array_equal(labels, order + 100)
    np.testing.assert_array_equal(values, np.take_along_axis(incoming, order, 1))


def test_eval_intersection(faiss):
    I1 = np.array([[1, 2, 3], [4, 4, -1], [7, 8, 9]])
    I2 = np.array([[3, 1, 5, -1], [4, -1, -1, -1], [1, 2, 3, 4]])
    assert faiss.eval_intersection(I1, I2) == 3
    assert faiss.eval_intersection(I1.astype("int32"), I2) == 3
    with pytest.raises(AssertionError):
        faiss.eval_intersection(I1, I2[:2])


def test_ranklist_intersection_size(faiss):
    a, b = np.array([1, 1, 2, -1, 2**62]), np.array([2**62, 1, -1])
    assert faiss.ranklist_intersection_size(5, faiss.swig_ptr(a), 3, faiss.swig_ptr(b)) == 2


def test_imbalance_factor(faiss):
    sizes, assign = np.array([4, 0, 4, 0]), np.array([0, 2, 0, 2, 0, 2, 0, 2])
    assert faiss.imbalance_factor(4, faiss.swig_ptr(sizes)) == pytest.approx(2)
    assert faiss.imbalance_factor(8, 4, faiss.swig_ptr(assign)) == pytest.approx(2)


# --- random numbers ------------------------------------------------------------------------------------------


def test_random_arrays_have_shapes_types_and_seeds(faiss):
    assert faiss.rand(5).shape == (5,)
    assert faiss.randn((3, 4), 7).shape == (3, 4)
    assert faiss.rand(5).dtype == faiss.randn(5).dtype == np.float32
    assert faiss.randint((2, 3), vmax=9).dtype == np.int64
    assert faiss.rand_smooth_vectors(20, 6).shape == (20, 6)
    np.testing.assert_array_equal(faiss.randn(50, 3), faiss.randn(50, 3))
    assert not np.array_equal(faiss.randn(50, 3), faiss.randn(50, 4))
    numbers = faiss.randint(10000, vmax=10)
    assert set(numbers.tolist()) == set(range(10))


def test_random_numbers_behind_pointers_are_those_of_the_functions(faiss):
    a = np.zeros(100, "float32")
    faiss.float_rand(faiss.swig_ptr(a), 100, 5)
    np.testing.assert_array_equal(a, faiss.rand(100, 5))
    faiss.float_randn(faiss.swig_ptr(a), 100, 5)
    np.testing.assert_array_equal(a, faiss.randn(100, 5))
    perm = np.zeros(100, "int32")
    faiss.rand_perm(faiss.swig_ptr(perm), 100, 5)
    np.testing.assert_array_equal(np.sort(perm), np.arange(100))
    with pytest.raises(TypeError):
        faiss.rand_perm(faiss.swig_ptr(perm.astype("int64")), 100, 5)


# --- sums, buckets, maps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.arange(7, dtype="uint8"), 1265888293705236140),
        (np.arange(3, dtype="float32"), 18229196110950646493),
        (np.zeros(0, "uint8"), 112909),
    ],
)
def test_checksum_of_a_vector(faiss, array, expected):
    assert faiss.checksum(array) == expected


def test_checksum_of_rows(faiss):
    x = vectors(5, 3)
    sums = faiss.checksum(x)
    assert (sums.dtype, sums.shape) == (np.uint64, (5,))
    assert [int(s) for s in sums] == [faiss.checksum(row.copy()) for row in x]
    assert len(set(sums.tolist())) == 5


def test_bucket_sort(faiss):
    tab = np.random.RandomState(0).randint(20, size=300)
    lims, perm = faiss.bucket_sort(tab, nbucket=25)
    assert lims.shape == (26,)
    for bucket in range(25):
        np.testing.assert_array_equal(np.sort(perm[lims[bucket] : lims[bucket + 1]]), np.flatnonzero(tab == bucket))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_matrix_bucket_sort_inplace(faiss, dtype):
    tab = np.random.RandomState(0).randint(30, size=(50, 4)).astype(dtype)
    rows = tab.copy()
    lims = faiss.matrix_bucket_sort_inplace(rows)
    for bucket in range(30):
        found = np.sort(rows.ravel()[lims[bucket] : lims[bucket + 1]])
        np.testing.assert_array_equal(found, np.sort(np.nonzero(tab == bucket)[0]))
    with pytest.raises(AssertionError):
        faiss.matrix_bucket_sort_inplace(tab.astype("int16"))


def test_maps(faiss):
    keys, vals = np.array([5, 1 << 40, 7]), np.array([10, 20, 30])
    fixed, growing = faiss.MapInt64ToInt64(16), faiss.MapLong2Long()
    for each in (fixed, growing):
        each.add(keys, vals)
        each.add(keys[:1], vals[:1] + 1)
    np.testing.assert_array_equal(fixed.lookup(np.array([7, 5, 6])), [30, 11, -1])
    np.testing.assert_array_equal(growing.search_multiple(np.array([1 << 40, 6])), [20, -1])
    assert growing.search(5) == 11
    assert growing.search(4) == -1
    with pytest.raises(AssertionError):
        faiss.MapInt64ToInt64(17)


def test_a_map_does_not_take_more_than_its_capacity(faiss):
    fixed = faiss.MapInt64ToInt64(4)
    with pytest.raises(RuntimeError):
        fixed.add(np.arange(5), np.arange(5))


# --- statistics --------------------------------------------------------------------------------------------------


def test_MatrixStats_fields(faiss):
    x = vectors(40, 6)
    x[3] = x[20]
    x[5] = 0
    x[6, 1] = np.nan
    stats = faiss.MatrixStats(x)
    assert (stats.n, stats.d, stats.n_valid, stats.n0, stats.n_collision) == (40, 6, 39, 1, 0)
    norms = np.linalg.norm(np.delete(x, [5, 6], axis=0), axis=1)
    assert stats.min_norm2 == pytest.approx(norms.min(), rel=1e-6)
    assert stats.max_norm2 == pytest.approx(norms.max(), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "comment"),
    [
        (lambda x: x, "all vectors are distinct"),
        (lambda x: x, "no NaN or Infs in data"),
        (lambda x: x.__setitem__(slice(5, 10), 0), "vector 5 has 5 copies"),
        (lambda x: x.__setitem__(slice(5, 10), 0), "5 null vectors"),
        (lambda x: x.__setitem__((slice(None), slice(2, 5)), 1), "3 dimensions are constant"),
        (lambda x: x.__setitem__((slice(None), 2), 1e-9 * x[:, 2]), "1 dimensions have negligible stddev"),
        (lambda x: x.__setitem__(2, np.inf), "1 vectors contain NaN or Inf"),
        (lambda x: x.__setitem__((slice(None), 4), 4e4 + x[:, 4]), "1 dimensions are too large wrt."),
    ],
)
def test_MatrixStats_comments(faiss, change, comment):
    x = vectors(40, 20)
    change(x)
    assert comment in faiss.MatrixStats(x).comments


# --- versions, variables, threads ----------------------------------------------------------------------------------


def test_versions(faiss):
    assert faiss.__version__ == faiss.get_version()
    numbers = (faiss.FAISS_VERSION_MAJOR, faiss.FAISS_VERSION_MINOR, faiss.FAISS_VERSION_PATCH)
    assert faiss.__version__ == "{}.{}.{}".format(*numbers)
    assert isinstance(faiss.get_compile_options(), str)


def test_global_variables(faiss):
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = before + 1
    assert faiss.cvar.distance_compute_blas_threshold == before + 1
    faiss.cvar.distance_compute_blas_threshold = before
    with pytest.raises(AttributeError):
        _ = faiss.cvar.no_such_variable
    with pytest.raises(AttributeError):
        faiss.cvar.no_such_variable = 1


def test_ivf_stats_count_queries(faiss):
    index = faiss.index_factory(6, "IVF4,Flat")
    x = vectors(200, 6)
    index.train(x)
    index.add(x)
    index.nprobe = 3
    stats = faiss.cvar.indexIVF_stats
    stats.reset()
    index.search(x[:7], 2)
    assert (stats.nq, stats.nlist) == (7, 21)
    assert stats.ndis > 0


def test_simd_levels(faiss):
    level = faiss.SIMDConfig.get_level()
    assert faiss.SIMDConfig.is_simd_level_available(level)
    faiss.SIMDConfig.set_level(level)
    assert faiss.to_simd_level(faiss.to_string(level)) == level
    with pytest.raises(RuntimeError):
        faiss.SIMDConfig.set_level(faiss.SIMDLevel_RISCV_RVV)


def test_threads(faiss):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    assert faiss.omp_get_max_threads() == 1
    faiss.omp_set_num_threads(before)
    assert faiss.check_openmp()


def test_downcasts_and_extract_index_ivf(faiss):
    index = faiss.index_factory(6, "IVF4,Flat")
    assert isinstance(faiss.downcast_index(index), faiss.IndexIVFFlat)
    assert isinstance(faiss.downcast_index(index.quantizer), faiss.IndexFlat)
    assert isinstance(faiss.downcast_InvertedLists(index.invlists), faiss.ArrayInvertedLists)
    assert faiss.extract_index_ivf(index).nlist == 4
    assert faiss.try_extract_index_ivf(faiss.IndexFlatL2(6)) is None
    with pytest.raises(RuntimeError):
        faiss.extract_index_ivf(faiss.IndexFlatL2(6))


def test_interrupts(faiss):
    assert not faiss.InterruptCallback.is_interrupted()
    with faiss.TimeoutGuard(1e-9):
        assert faiss.InterruptCallback.is_interrupted()
        assert not faiss.InterruptCallback.is_interrupted()  # the time is over once
    assert not faiss.InterruptCallback.is_interrupted()


def test_clocks_and_memory(faiss):
    assert faiss.getmillisecs() <= faiss.getmillisecs()
    assert faiss.get_cycles() <= faiss.get_cycles()
    assert faiss.get_mem_usage_kb() >= 0


class TestTorch:
    """torch in, torch out."""

    def test_functions_of_tensors(self, ours):
        xq, xb = torch.from_numpy(vectors(6, 9, 1)), torch.from_numpy(vectors(30, 9, 2))
        D, I = ours.knn(xq, xb, 3)
        expected = ours.knn(xq.numpy(), xb.numpy(), 3)
        assert (D.dtype, I.dtype) == (torch.float32, torch.int64)
        np.testing.assert_array_equal(I, expected[1])
        matrix = ours.pairwise_distances(xq, xb)
        assert isinstance(matrix, torch.Tensor)
        best, columns = ours.kmin(matrix, 3)
        assert isinstance(best, torch.Tensor)
        np.testing.assert_array_equal(columns, I)
        assert ours.eval_intersection(I, columns) == 18
        halves = torch.stack([D, D + 1]), torch.stack([I, I + 100])
        merged = ours.merge_knn_results(*halves)
        assert isinstance(merged[1], torch.Tensor)
        assert ours.checksum(xq)[0] == ours.checksum(xq[0].numpy())

    def test_normalize_L2_of_a_tensor(self, ours):
        x = torch.from_numpy(vectors(6, 9))
        ours.normalize_L2(x[2:4])
        np.testing.assert_allclose(x[2:4].norm(dim=1), 1, rtol=1e-6)
        assert x[0].norm() > 1.1
        with pytest.raises(TypeError):
            ours.normalize_L2(x.double())
        with pytest.raises(ValueError, match="contiguous"):
            ours.normalize_L2(x.T)

    def test_a_mix_of_kinds_gives_the_kind_of_the_queries(self, ours):
        xq, xb = np.eye(2, 3, dtype="float32"), np.arange(12, dtype="float32").reshape(4, 3)
        D, I = ours.knn(torch.from_numpy(xq), xb, 1)
        assert isinstance(D, torch.Tensor)
        np.testing.assert_array_equal(I, ours.knn(xq, xb, 1)[1])
        distances = ours.pairwise_distances(xq, torch.from_numpy(xb))
        assert isinstance(distances, np.ndarray)
        np.testing.assert_array_equal(distances, ours.pairwise_distances(xq, xb))
        with pytest.raises(TypeError, match="xb is on meta"):
            ours.knn(xq, torch.zeros(4, 3, device="meta"), 1)

    def test_ResultHeap_takes_tensors(self, ours):
        heap = ours.ResultHeap(2, 2)
        heap.add_result(torch.tensor([[3.0, 1.0], [2.0, 5.0]]), torch.tensor([[7, 8], [9, 10]]))
        heap.finalize()
        np.testing.assert_array_equal(heap.I, [[8, 7], [9, 10]])
