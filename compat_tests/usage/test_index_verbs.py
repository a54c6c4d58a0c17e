"""Every verb and attribute of an index, for every index type: the same text for every implementation."""

import copy
import pickle

import numpy as np
import pytest
from cases import CASES, FLAT_CASES, IVF_CASES, Case
from comparison import FLT_MAX, SIMILARITIES, all_distances, assert_same_neighbours, neighbours


def rows(cases=CASES, **wanted):
    """Parametrize a test by the cases whose attributes are as wanted."""
    chosen = [case for case in cases if all(getattr(case, name) == value for name, value in wanted.items())]
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])


def expected(case: Case, k: int, chosen=None):
    """The neighbours of the case's queries among its database, or among some of its ids."""
    xb = case.xb if chosen is None else case.xb[chosen]
    D, I = neighbours(case.xq, xb, k, case.metric, case.metric_arg)
    if chosen is not None:
        I = np.where(I < 0, -1, np.asarray(chosen)[I])
    if case.cls == "IndexFlat1D":
        D = np.where(I < 0, np.inf, np.sqrt(D))
    return D, I


def assert_found(case, D, I, k, chosen=None):
    assert_same_neighbours(D, I, *expected(case, k, chosen), rtol=2e-5, atol=2e-6)


# --- life cycle ----------------------------------------------------------------------------------------------------


@rows()
def test_attributes_of_a_new_index(faiss, case):
    index = case.make(faiss)
    assert type(index).__name__ == case.cls
    assert (index.d, index.ntotal) == (case.d, 0)
    assert index.metric_type == getattr(faiss, case.metric)
    assert index.metric_arg == case.metric_arg
    assert index.verbose is False
    assert index.is_trained is (case.nlist == 0)
    index.verbose = True
    assert index.verbose is True


@rows()
def test_search_finds_the_neighbours_of_the_formula(faiss, case):
    index = case.filled(faiss)
    assert index.is_trained
    assert index.ntotal == case.nb
    for k in (1, 4, 20):
        D, I = index.search(case.xq, k)
        assert (D.dtype, I.dtype) == (np.float32, np.int64)
        assert type(D) is type(I) is np.ndarray
        assert_found(case, D, I, k)


@rows()
def test_one_query_finds_what_many_find(faiss, case):
    index = case.filled(faiss)
    D, I = index.search(case.xq, 5)
    for i in range(3):
        assert_same_neighbours(*index.search(case.xq[i : i + 1], 5), D[i : i + 1], I[i : i + 1])


@rows()
def test_more_neighbours_than_vectors_are_padded(faiss, case):
    index = case.filled(faiss)
    D, I = index.search(case.xq, case.nb + 3)
    assert_found(case, D, I, case.nb + 3)
    filler = np.inf if case.cls == "IndexFlat1D" else -FLT_MAX if case.metric in SIMILARITIES else FLT_MAX
    np.testing.assert_array_equal(I[:, case.nb :], -1)
    np.testing.assert_array_equal(D[:, case.nb :], np.float32(filler))


@rows()
def test_search_of_an_empty_index_finds_nothing(faiss, case):
    D, I = case.trained(faiss).search(case.xq, 2)
    assert D.shape == I.shape == (case.nq, 2)
    assert (I == -1).all()


@rows()
def test_no_queries_and_no_vectors(faiss, case):
    index = case.filled(faiss)
    D, I = index.search(case.xq[:0], 3)
    assert D.shape == I.shape == (0, 3)
    assert (D.dtype, I.dtype) == (np.float32, np.int64)
    index.add(case.xb[:0])
    assert index.ntotal == case.nb


@rows()
def test_add_in_parts_is_add_at_once(faiss, case):
    index = case.trained(faiss)
    for begin in range(0, case.nb, 50):
        index.add(case.xb[begin : begin + 50])
        assert index.ntotal == min(case.nb, begin + 50)
    assert_found(case, *index.search(case.xq, 6), 6)


@rows()
def test_reset_and_add_again(faiss, case):
    index = case.filled(faiss)
    index.reset()
    assert index.ntotal == 0
    assert index.is_trained
    assert (index.search(case.xq, 1)[1] == -1).all()
    index.add(case.xb[:40])
    assert index.ntotal == 40
    assert_found(case, *index.search(case.xq, 3), 3, chosen=np.arange(40))


# --- what comes in -------------------------------------------------------------------------------------------------


@rows()
@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype("float64"),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1].copy()[::-1],
    ],
    ids=["float64", "Fortran", "strided columns", "strided rows", "reversed"],
)
def test_other_layouts_and_dtypes_are_cast(faiss, case, convert):
    index = case.trained(faiss)
    index.add(convert(case.xb))
    assert_found(case, *index.search(convert(case.xq), 4), 4)


@rows()
def test_read_only_arrays(faiss, case):
    xb, xq = case.xb, case.xq
    xb.flags.writeable = xq.flags.writeable = False
    index = case.trained(faiss)
    index.add(xb)
    assert_found(case, *index.search(xq, 4), 4)


@rows(cases=[CASES[0], *IVF_CASES[:1]])
@pytest.mark.parametrize("dtype", ["float16", "int8", "int32", "int64", "uint8", "bool"])
def test_small_numbers_come_in_as_their_values(faiss, case, dtype):
    values = np.random.RandomState(3).randint(2, size=(60, case.d)).astype(dtype)
    index = case.trained(faiss)
    index.add(values)
    D, I = index.search(values[:5], 2)
    assert_same_neighbours(D, I, *neighbours(values[:5], values, 2))
    np.testing.assert_array_equal(index.reconstruct_n(0, 60), values.astype("float32"))


@rows()
def test_the_index_keeps_no_view_of_the_callers_array(faiss, case):
    xb = case.xb
    index = case.trained(faiss)
    index.add(xb)
    xb[:] = 0
    xq = case.xq
    before = xq.copy()
    assert_found(case, *index.search(xq, 3), 3)
    np.testing.assert_array_equal(xq, before)


@rows(cases=[CASES[0], *IVF_CASES[:1]])
def test_numeric_type_float32(faiss, case):
    index = case.make(faiss)
    if case.nlist:
        index.cp.min_points_per_centroid = 1
        index.nprobe = case.nlist
    index.train(case.xb, numeric_type=faiss.Float32)
    index.add(case.xb, numeric_type=faiss.Float32)
    assert_found(case, *index.search(case.xq, 3, numeric_type=faiss.Float32), 3)
    with pytest.raises(ValueError, match="Float32"):
        index.add(case.xb, numeric_type=99)


# --- what goes out -------------------------------------------------------------------------------------------------


@rows()
def test_output_arguments_are_filled_and_returned(faiss, case):
    index = case.filled(faiss)
    D, I = np.empty((case.nq, 3), "float32"), np.empty((case.nq, 3), "int64")
    D_out, I_out = index.search(case.xq, 3, D=D, I=I)
    assert D_out is D
    assert I_out is I
    assert_found(case, D, I, 3)
    labels = np.empty((case.nq, 3), "int64")
    assert index.assign(case.xq, 3, labels) is labels
    np.testing.assert_array_equal(labels, I)


@rows()
def test_output_arguments_of_another_shape_or_dtype_are_refused(faiss, case):
    index = case.filled(faiss)
    with pytest.raises(AssertionError):
        index.search(case.xq, 3, D=np.empty((case.nq, 4), "float32"))
    with pytest.raises(AssertionError):
        index.search(case.xq, 3, I=np.empty((case.nq + 1, 3), "int64"))
    with pytest.raises(TypeError):
        index.search(case.xq, 3, D=np.empty((case.nq, 3), "float64"))
    with pytest.raises(TypeError):
        index.search(case.xq, 3, I=np.empty((case.nq, 3), "int32"))


@rows()
def test_assign_gives_the_labels_of_search(faiss, case):
    index = case.filled(faiss)
    np.testing.assert_array_equal(index.assign(case.xq, 4), index.search(case.xq, 4)[1])
    assert index.assign(case.xq, 1).shape == (case.nq, 1)
    assert index.assign(x=case.xq, k=2).dtype == np.int64


@rows()
def test_verbs_by_keyword(faiss, case):
    index = case.make(faiss)
    if case.nlist:
        index.nprobe = case.nlist
    index.train(x=case.xb)
    index.add(x=case.xb)
    params = case.search_parameters(faiss) if case.selector else None
    D, I = index.search(x=case.xq, k=2, params=params)
    assert_same_neighbours(D, I, *index.search(case.xq, 2))


# --- special values ------------------------------------------------------------------------------------------------


@rows(cases=[case for case in CASES if case.metric in ("METRIC_L2", "METRIC_INNER_PRODUCT") and case.d > 1])
def test_a_query_of_nan_finds_nothing(faiss, case):
    index = case.filled(faiss)
    xq = case.xq
    xq[1, 0] = np.nan
    D, I = index.search(xq, 3)
    assert (I[1] == -1).all()
    assert_same_neighbours(np.delete(D, 1, 0), np.delete(I, 1, 0), *(np.delete(a, 1, 0) for a in expected(case, 3)))


@rows(cases=[CASES[0], CASES[1], *IVF_CASES[:1]])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_query_finds_nothing_under_L2(faiss, case, value):
    xq = case.xq
    xq[2, -1] = value
    D, I = case.filled(faiss).search(xq, 3)
    assert (I[2] == -1).all()
    np.testing.assert_array_equal(D[2], np.float32(FLT_MAX))
    assert (np.delete(I, 2, 0) >= 0).all()


@rows(cases=CASES[:3])
def test_vectors_that_are_not_finite_are_never_found_and_hide_no_other(faiss, case):
    xb = case.xb
    xb[[3, 50, 100]] = np.nan
    index = case.trained(faiss)
    index.add(xb)
    assert index.ntotal == case.nb
    chosen = np.setdiff1d(np.arange(case.nb), [3, 50, 100])
    assert_found(case, *index.search(case.xq, 5), 5, chosen)
    assert_found(case, *index.search(case.xq[:1].repeat(case.nq, 0) * 0 + case.xq, case.nb), case.nb, chosen)


@rows(cases=IVF_CASES[:1])
def test_vectors_of_nan_are_counted_and_kept_out_of_the_lists(faiss, case):
    xb = case.xb
    xb[7] = np.nan
    index = case.trained(faiss)
    index.add(xb)
    assert index.ntotal == case.nb
    assert sum(index.invlists.list_size(i) for i in range(case.nlist)) == case.nb - 1
    assert_found(case, *index.search(case.xq, 5), 5, np.delete(np.arange(case.nb), 7))


@rows(cases=[case for case in CASES if case.cls not in ("IndexFlat1D", "IndexIVFFlatDedup")])
def test_duplicates_are_all_found(faiss, case):
    index = case.filled(faiss)
    index.add(case.xb)
    xq = case.xq
    D, I = index.search(xq, 2)
    assert (D[:, 0] == D[:, 1]).all()
    np.testing.assert_array_equal(I.min(1) + case.nb, I.max(1))


# --- range search --------------------------------------------------------------------------------------------------


@rows(range_search=True)
def test_range_search(faiss, case):
    index = case.filled(faiss)
    keys = all_distances(case.xq, case.xb, case.metric, case.metric_arg)
    radius = float(np.sort(keys.ravel())[len(keys.ravel()) // 2 :][:2].mean())  # between two distances
    wanted = keys > radius if case.metric in SIMILARITIES else keys < radius
    lims, D, I = index.range_search(case.xq, radius)
    assert (lims.dtype, D.dtype, I.dtype) == (np.uint64, np.float32, np.int64)
    assert lims.shape == (case.nq + 1,)
    for i in range(case.nq):
        part = slice(int(lims[i]), int(lims[i + 1]))
        order = I[part].argsort()
        np.testing.assert_array_equal(I[part][order], np.flatnonzero(wanted[i]))
        np.testing.assert_allclose(D[part][order], keys[i, wanted[i]], rtol=2e-5, atol=2e-6)
        if not case.nlist:
            np.testing.assert_array_equal(I[part], np.sort(I[part]))


@rows(range_search=True)
def test_range_search_that_finds_nothing_or_everything(faiss, case):
    index = case.filled(faiss)
    near, far = (1e6, -1e6) if case.metric in SIMILARITIES else (-1.0, 1e6)
    lims, D, I = index.range_search(case.xq, near)
    np.testing.assert_array_equal(lims, 0)
    assert D.shape == I.shape == (0,)
    lims, D, I = index.range_search(case.xq, far)
    np.testing.assert_array_equal(lims, np.arange(case.nq + 1) * case.nb)
    lims, D, I = index.range_search(case.xq[:0], far)
    np.testing.assert_array_equal(lims, [0])
    lims, D, I = case.trained(faiss).range_search(case.xq, far)
    np.testing.assert_array_equal(lims, np.zeros(case.nq + 1))


# --- selectors -----------------------------------------------------------------------------------------------------


def selectors(faiss, nb):
    """Selectors of every kind, with the ids that each selects."""
    ids = np.arange(nb)
    some = np.array([3, 5, 70, 71, nb - 1])
    bitmap = np.packbits(ids % 3 == 1, bitorder="little")
    return {
        "range": (faiss.IDSelectorRange(10, 60), ids[10:60]),
        "sorted range": (faiss.IDSelectorRange(10, 60, True), ids[10:60]),
        "array": (faiss.IDSelectorArray(some), some),
        "array of int32": (faiss.IDSelectorArray(some.astype("int32")), some),
        "array by pointer": (faiss.IDSelectorArray(len(some), faiss.swig_ptr(some)), some),
        "batch": (faiss.IDSelectorBatch(some), some),
        "batch by pointer": (faiss.IDSelectorBatch(len(some), faiss.swig_ptr(some)), some),
        "bitmap": (faiss.IDSelectorBitmap(bitmap), ids[1::3]),
        "all": (faiss.IDSelectorAll(), ids),
        "not": (faiss.IDSelectorNot(faiss.IDSelectorRange(10, 60)), np.r_[0:10, 60:nb]),
        "and": (faiss.IDSelectorAnd(faiss.IDSelectorRange(0, 60), faiss.IDSelectorRange(40, 99)), ids[40:60]),
        "or": (faiss.IDSelectorOr(faiss.IDSelectorRange(0, 5), faiss.IDSelectorRange(40, 45)), np.r_[0:5, 40:45]),
        "xor": (faiss.IDSelectorXOr(faiss.IDSelectorRange(0, 60), faiss.IDSelectorRange(40, 99)), np.r_[0:40, 60:99]),
        "none": (faiss.IDSelectorRange(40, 40), ids[:0]),
    }


@rows(selector=True)
def test_search_finds_only_what_the_selector_selects(faiss, case):
    index = case.filled(faiss)
    for sel, chosen in selectors(faiss, case.nb).values():
        if not len(chosen):
            continue
        D, I = index.search(case.xq, 8, params=case.search_parameters(faiss, sel=sel))
        assert_found(case, D, I, 8, chosen)
    assert_found(case, *index.search(case.xq, 8), 8)


@rows(selector=True)
def test_selectors_after_many_adds(faiss, case):
    index = case.trained(faiss)
    for begin in range(0, case.nb, 10):
        index.add(case.xb[begin : begin + 10])
        if begin % 40 == 0:
            index.search(case.xq, 1)
    params = case.search_parameters(faiss, sel=faiss.IDSelectorRange(20, 120))
    assert_found(case, *index.search(case.xq, 5, params=params), 5, np.arange(20, 120))


@rows(selector=True, range_search=True)
def test_range_search_finds_only_what_the_selector_selects(faiss, case):
    index = case.filled(faiss)
    far = -1e6 if case.metric in SIMILARITIES else 1e6
    for sel, chosen in selectors(faiss, case.nb).values():
        lims, _, I = index.range_search(case.xq, far, params=case.search_parameters(faiss, sel=sel))
        np.testing.assert_array_equal(lims, np.arange(case.nq + 1) * len(chosen))
        np.testing.assert_array_equal(np.sort(I[: len(chosen)]), chosen)


@rows(cases=CASES[:2])
def test_a_flat_index_takes_search_parameters_of_other_indexes(faiss, case):
    params = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(0, 20), nprobe=3)
    assert_found(case, *case.filled(faiss).search(case.xq, 4, params=params), 4, np.arange(20))


@rows(cases=FLAT_CASES[:1])
def test_is_member(faiss, case):
    for sel, chosen in selectors(faiss, case.nb).values():
        members = [i for i in range(case.nb) if sel.is_member(i)]
        np.testing.assert_array_equal(members, chosen)


# --- removing ------------------------------------------------------------------------------------------------------


@rows(remove_ids=True)
def test_remove_ids_by_array(faiss, case):
    index = case.filled(faiss)
    gone = np.array([0, 17, 18, 90, case.nb - 1, 100000])
    assert index.remove_ids(gone) == 5
    left = np.setdiff1d(np.arange(case.nb), gone)
    assert index.ntotal == len(left)
    D, I = index.search(case.xq, 6)
    # a flat index shifts the ids above down, an IVF index keeps them
    assert_found(case, D, I if case.nlist else np.where(I < 0, -1, left[I]), 6, left)
    assert index.remove_ids(np.array([], "int64")) == 0
    assert index.ntotal == len(left)


@rows(remove_ids=True)
def test_remove_ids_by_selector(faiss, case):
    for sel, chosen in selectors(faiss, case.nb).values():
        index = case.filled(faiss)
        assert index.remove_ids(sel) == len(chosen)
        left = np.setdiff1d(np.arange(case.nb), chosen)
        assert index.ntotal == len(left)
        D, I = index.search(case.xq, 3)
        if len(left):
            assert_found(case, D, I if case.nlist else np.where(I < 0, -1, left[I]), 3, left)
        else:
            assert (I == -1).all()


@rows(remove_ids=True)
def test_remove_everything_and_add_again(faiss, case):
    index = case.filled(faiss)
    assert index.remove_ids(np.arange(case.nb, dtype="int32")) == case.nb
    assert index.ntotal == 0
    index.add(case.xb)
    assert_found(case, *index.search(case.xq, 3), 3)


@rows(cases=CASES[:1] + IVF_CASES[:1])
def test_remove_ids_refuses_lists_and_tables(faiss, case):
    index = case.filled(faiss)
    with pytest.raises(AttributeError):
        index.remove_ids([1, 2])
    with pytest.raises(AssertionError):
        index.remove_ids(np.zeros((2, 2), "int64"))
    assert index.ntotal == case.nb


# --- ids of the caller's -------------------------------------------------------------------------------------------


@rows(takes_ids=True)
def test_add_with_ids(faiss, case):
    index = case.trained(faiss)
    ids = np.arange(case.nb) * 1_000_000_007 + 12
    index.add_with_ids(case.xb, ids)
    assert index.ntotal == case.nb
    D, I = index.search(case.xq, 5)
    assert_found(case, D, (I - 12) // 1_000_000_007, 5)
    assert index.remove_ids(ids[:10]) == 10
    index.add_with_ids(case.xb[:10], np.arange(10, dtype="int32"))
    assert set(index.search(case.xb[:10], 1)[1][:, 0]) <= set(range(10)) | set(ids)


@rows(takes_ids=False)
def test_add_with_ids_where_ids_are_the_order(faiss, case):
    index = case.filled(faiss)
    with pytest.raises(RuntimeError):
        index.add_with_ids(case.xb, np.arange(case.nb))
    assert index.ntotal == case.nb


# --- reading back --------------------------------------------------------------------------------------------------


@rows(reconstruct="always")
def test_reconstruct(faiss, case):
    index = case.filled(faiss)
    x = index.reconstruct(7)
    assert (x.dtype, x.shape) == (np.float32, (case.d,))
    np.testing.assert_array_equal(x, case.xb[7])
    out = np.empty(case.d, "float32")
    assert index.reconstruct(9, out) is out
    np.testing.assert_array_equal(out, case.xb[9])
    keys = np.array([[5], [3], [5]])[:, 0]
    np.testing.assert_array_equal(index.reconstruct_batch(keys), case.xb[keys])
    np.testing.assert_array_equal(index.reconstruct_batch([1, 2]), case.xb[[1, 2]])
    assert index.reconstruct_batch(np.array([], "int64")).shape == (0, case.d)


@rows(reconstruct="direct map")
def test_reconstruct_needs_a_direct_map(faiss, case):
    index = case.filled(faiss)
    with pytest.raises(RuntimeError):
        index.reconstruct(3)
    with pytest.raises(RuntimeError):
        index.reconstruct_batch(np.array([3]))
    index.make_direct_map()
    np.testing.assert_array_equal(index.reconstruct(3), case.xb[3])
    np.testing.assert_array_equal(index.reconstruct_batch(np.array([9, 3])), case.xb[[9, 3]])


@rows()
def test_reconstruct_n(faiss, case):
    if case.reconstruct == "never":
        pytest.skip("the type has no reconstruct")
    index = case.filled(faiss)
    np.testing.assert_array_equal(index.reconstruct_n(), case.xb)
    np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), case.xb)
    np.testing.assert_array_equal(index.reconstruct_n(10, 5), case.xb[10:15])
    np.testing.assert_array_equal(index.reconstruct_n(150), case.xb[150:])
    assert index.reconstruct_n(3, 0).shape == (0, case.d)
    out = np.empty((4, case.d), "float32")
    assert index.reconstruct_n(2, 4, out) is out
    np.testing.assert_array_equal(out, case.xb[2:6])
    for n0, ni in ((150, 20), (-1, 2), (case.nb, 1)):
        with pytest.raises(RuntimeError):
            index.reconstruct_n(n0, ni)
    with pytest.raises(AssertionError):
        index.reconstruct_n(2, 4, np.empty((5, case.d), "float32"))


@rows(search_and_reconstruct=True)
def test_search_and_reconstruct(faiss, case):
    index = case.filled(faiss)
    k = case.nb + 2
    D, I, R = index.search_and_reconstruct(case.xq, k)
    assert (R.dtype, R.shape) == (np.float32, (case.nq, k, case.d))
    assert_same_neighbours(D, I, *index.search(case.xq, k))
    np.testing.assert_array_equal(R[:, : case.nb], case.xb[I[:, : case.nb]])
    assert np.isnan(R[:, case.nb :]).all()
    given = [
        np.empty((case.nq, 3), "float32"),
        np.empty((case.nq, 3), "int64"),
        np.empty((case.nq, 3, case.d), "float32"),
    ]
    D, I, R = index.search_and_reconstruct(case.xq, 3, D=given[0], I=given[1], R=given[2])
    assert (D is given[0], I is given[1], R is given[2]) == (True, True, True)
    np.testing.assert_array_equal(R, case.xb[I])


@rows(reconstruct="always")
def test_compute_residual(faiss, case):
    index = case.filled(faiss)
    residual = np.empty(case.d, "float32")
    index.compute_residual(faiss.swig_ptr(case.xq[3].copy()), faiss.swig_ptr(residual), 5)
    np.testing.assert_array_equal(residual, case.xq[3] - case.xb[5])
    keys = np.array([4, 2, 0])
    xq = case.xq[:3].copy()
    residuals = np.empty((3, case.d), "float32")
    index.compute_residual_n(3, faiss.swig_ptr(xq), faiss.swig_ptr(residuals), faiss.swig_ptr(keys))
    np.testing.assert_array_equal(residuals, xq - case.xb[keys])


# --- as a codec ----------------------------------------------------------------------------------------------------


@rows(sa_codec=True)
def test_codec(faiss, case):
    index = case.trained(faiss)
    assert index.sa_code_size() == 4 * case.d + (1 if case.nlist else 0)
    codes = index.sa_encode(case.xb)
    assert (codes.dtype, codes.shape) == (np.uint8, (case.nb, index.sa_code_size()))
    decoded = index.sa_decode(codes)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, case.xb)
    out = np.empty_like(codes)
    assert index.sa_encode(case.xb, out) is out
    np.testing.assert_array_equal(out, codes)
    x = np.empty_like(case.xb)
    assert index.sa_decode(codes, x) is x
    with pytest.raises(AssertionError):
        index.sa_decode(codes[:, 1:])
    with pytest.raises(TypeError):
        index.sa_decode(codes.astype("int8"))


@rows(sa_codec=True)
def test_add_sa_codes(faiss, case):
    if case.cls in ("IndexFlat1D", "IndexIVFFlatDedup"):
        pytest.skip("codes are added past the order, or the table of duplicates")
    index = case.trained(faiss)
    codes = index.sa_encode(case.xb)
    index.add_sa_codes(codes)
    assert index.ntotal == case.nb
    assert_found(case, *index.search(case.xq, 4), 4)
    with pytest.raises(AssertionError):
        index.add_sa_codes(codes, np.arange(case.nb - 1))
    if case.takes_ids:
        index.reset()
        index.add_sa_codes(codes, np.arange(case.nb) + 1000)
        D, I = index.search(case.xq, 4)
        assert_found(case, D, I - 1000, 4)


# --- merging -------------------------------------------------------------------------------------------------------


def two_halves(faiss, case):
    """Two indexes with the same training, each with a half of the database."""
    first = case.trained(faiss)
    second = faiss.clone_index(first)
    first.add(case.xb[:80])
    second.add(case.xb[80:])
    return first, second


@rows(merge_from=True)
def test_merge_from_moves_all_vectors(faiss, case):
    first, second = two_halves(faiss, case)
    first.check_compatible_for_merge(second)
    first.merge_from(second, 80 if case.nlist else 0)
    assert (first.ntotal, second.ntotal) == (case.nb, 0)
    assert_found(case, *first.search(case.xq, 5), 5)
    assert (second.search(case.xq, 2)[1] == -1).all()
    second.add(case.xb[:3])
    assert second.ntotal == 3


@rows(cases=IVF_CASES[:1])
def test_merge_from_refuses_other_centroids(faiss, case):
    first = case.filled(faiss)
    second = case.make(faiss)
    second.cp.min_points_per_centroid = 1
    second.train(case.xb[::-1].copy() * 2)
    second.add(case.xb)
    with pytest.raises(RuntimeError, match="quantizers should be the same"):
        first.merge_from(second, 0)
    assert (first.ntotal, second.ntotal) == (case.nb, case.nb)
    assert_found(case, *first.search(case.xq, 3), 3)


@rows(merge_from=True)
def test_merge_from_refuses_another_kind(faiss, case):
    first, _ = two_halves(faiss, case)
    other_kind = faiss.IndexIVFFlat if not case.nlist else faiss.IndexFlatL2
    other_width = Case("other", case.cls, case.d + 1, case.factory, case.metric, nlist=case.nlist).make(faiss)
    if case.cls != "IndexFlat1D":
        with pytest.raises(RuntimeError):
            first.merge_from(other_width, 0)
    other = other_kind(faiss.IndexFlatL2(case.d), case.d, 6) if not case.nlist else other_kind(case.d)
    with pytest.raises(RuntimeError):
        first.check_compatible_for_merge(other)
    assert first.ntotal == 80
    assert_found(case, *first.search(case.xq, 3), 3, np.arange(80))


# --- the object itself ---------------------------------------------------------------------------------------------


@rows()
def test_unknown_attributes_cannot_be_set_or_read(faiss, case):
    index = case.make(faiss)
    with pytest.raises(AttributeError):
        index.n_probe = 3
    with pytest.raises(AttributeError):
        index.n_probe  # noqa: B018
    assert hasattr(index, "nprobe") is (case.nlist > 0)
    assert hasattr(index, "quantizer") is (case.nlist > 0)
    index.referenced_objects = [1]
    assert index.referenced_objects == [1]


@rows()
def test_lattice_of_classes(faiss, case):
    index = case.make(faiss)
    assert isinstance(index, faiss.Index)
    assert isinstance(index, faiss.IndexFlatCodes) is (case.nlist == 0)
    assert isinstance(index, faiss.IndexFlat) is (case.nlist == 0)
    assert isinstance(index, faiss.IndexFlatL2) is (case.cls in ("IndexFlatL2", "IndexFlat1D"))
    assert isinstance(index, faiss.IndexFlatIP) is (case.cls == "IndexFlatIP")
    for cls in (faiss.IndexIVF, faiss.IndexIVFFlat, faiss.IndexIVFInterface, faiss.Level1Quantizer):
        assert isinstance(index, cls) is (case.nlist > 0)
    if case.cls != "IndexFlat1D":  # which faiss takes for its base class
        assert type(faiss.downcast_index(index)) is type(index)
    assert "Gpu" not in str(type(index))


@rows()
def test_ownership_is_accepted(faiss, case):
    index = case.filled(faiss)
    assert isinstance(index.thisown, bool)
    if case.nlist:
        index.own_fields = bool(index.own_fields)
    copy = faiss.clone_index(index)
    copy.this.disown()
    assert_found(case, *copy.search(case.xq, 2), 2)
    copy.this.own(True)


@rows()
def test_clone_pickle_and_bytes_find_the_same(faiss, case):
    index = case.filled(faiss)
    found = index.search(case.xq, 4)
    if case.cls == "IndexFlat1D":
        pytest.skip("faiss gives its base class")
    copies = [faiss.clone_index(index), pickle.loads(pickle.dumps(index)), copy.deepcopy(index)]
    for other in copies:
        assert type(other) is type(index)
        assert other.ntotal == case.nb
        assert other.metric_type == index.metric_type
        assert_same_neighbours(*other.search(case.xq, 4), *found)
    copies[0].reset()
    assert_same_neighbours(*index.search(case.xq, 4), *found)
    again = faiss.deserialize_index(faiss.serialize_index(index))
    assert_same_neighbours(*again.search(case.xq, 4), *found)


# --- what only flat indexes have -----------------------------------------------------------------------------------


@rows(cases=FLAT_CASES[:3])
def test_flat_codes_and_get_xb(faiss, case):
    index = case.filled(faiss)
    assert index.code_size == 4 * case.d
    np.testing.assert_array_equal(faiss.rev_swig_ptr(index.get_xb(), case.nb * case.d), case.xb.ravel())
    codes = faiss.vector_to_array(index.codes)
    assert (codes.dtype, codes.shape) == (np.uint8, (case.nb * index.code_size,))
    np.testing.assert_array_equal(codes.view("float32").reshape(case.nb, case.d), case.xb)


@rows(cases=FLAT_CASES[:3])
@pytest.mark.parametrize("searched_before", [False, True])
def test_codes_can_be_written(faiss, case, searched_before):
    xb = np.ascontiguousarray(3 - 2 * case.xb)
    for n in (case.nb, 64):
        index = case.filled(faiss)
        if searched_before:
            index.search(case.xq, 3)
        faiss.copy_array_to_vector(xb[:n].copy().view("uint8").ravel(), index.codes)
        index.ntotal = n
        np.testing.assert_array_equal(index.reconstruct_n(), xb[:n])
        assert_same_neighbours(*index.search(case.xq, 3), *neighbours(case.xq, xb[:n], 3, case.metric))
    index = case.filled(faiss)
    if searched_before:
        index.search(case.xq, 3)
    faiss.rev_swig_ptr(index.get_xb(), case.nb * case.d)[:] = xb.ravel()
    assert_same_neighbours(*index.search(case.xq, 3), *neighbours(case.xq, xb, 3, case.metric))


def test_codes_given_as_an_array_are_copied(ours):
    case = FLAT_CASES[0]
    index = case.filled(ours)
    codes = case.xb[:64].view("uint8").ravel().copy()
    index.codes = codes
    index.ntotal = 64
    codes[:] = 0
    np.testing.assert_array_equal(index.reconstruct_n(), case.xb[:64])


@rows(cases=FLAT_CASES[:1])
def test_permute_entries(faiss, case):
    index = case.filled(faiss)
    perm = np.random.RandomState(4).permutation(case.nb)
    index.permute_entries(perm)
    np.testing.assert_array_equal(index.reconstruct_n(), case.xb[perm])
    D, I = index.search(case.xq, 4)
    assert_found(case, D, perm[I], 4)


def test_flat_1d_updates_its_order_when_told(faiss):
    xb = np.random.RandomState(1).rand(50, 1).astype("float32")
    index = faiss.IndexFlat1D(False)
    assert index.continuous_update is False
    index.add(xb)
    with pytest.raises(RuntimeError):
        index.search(xb[:2], 1)
    index.update_permutation()
    np.testing.assert_array_equal(faiss.vector_to_array(index.perm), xb[:, 0].argsort())
    D, I = index.search(xb, 2)
    np.testing.assert_array_equal(I[:, 0], np.arange(50))
    np.testing.assert_array_equal(D[:, 0], 0)


@pytest.mark.parametrize("value", [-5.0, 5.0, 0.5])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_flat_1d_at_and_beyond_its_ends(faiss, value, k):
    xb = np.array([[0.3], [0.1], [0.2], [0.9], [0.7]], "float32")
    index = faiss.IndexFlat1D()
    index.add(xb)
    D, I = index.search(np.array([[value]], "float32"), k)
    distances = np.abs(xb[:, 0] - np.float32(value))
    n = min(k, 5)
    np.testing.assert_allclose(D[0, :n], np.sort(distances)[:n], rtol=1e-6)
    np.testing.assert_array_equal(I[0, n:], -1)
