"""The verbs with C signatures, that is with pointers: they do what those with arrays do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

rng = np.random.default_rng(3)
D_IN = 8
XB = rng.standard_normal((60, D_IN)).astype("float32")
XQ = rng.standard_normal((5, D_IN)).astype("float32")


def ivf(faiss):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 4)
    index.cp.min_points_per_centroid = 1
    index.train(XB)
    index.add(XB)
    index.nprobe = 2
    return index


def flat(faiss):
    index = faiss.IndexFlatL2(D_IN)
    index.add(XB)
    return index


def filled_id_map(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN))
    index.add_with_ids_c(len(XB), faiss.swig_ptr(XB), faiss.swig_ptr(np.arange(100, 160)))
    return index


def room(*shape, dtype="float32"):
    return np.full(shape, 77, dtype)


@pytest.mark.parametrize("build", [flat, ivf, filled_id_map], ids=["flat", "ivf", "id_map"])
def test_searches_behind_pointers(faiss, build):
    index, k, n = build(faiss), 3, len(XQ)
    ptr = faiss.swig_ptr
    D, I = room(n, k), room(n, k, dtype="int64")
    index.search_c(n, ptr(XQ), k, ptr(D), ptr(I))
    expected = index.search(XQ, k)
    np.testing.assert_array_equal(I, expected[1])
    np.testing.assert_allclose(D, expected[0], rtol=1e-5)

    labels = room(n, k, dtype="int64")
    index.assign_c(n, ptr(XQ), ptr(labels), k)
    np.testing.assert_array_equal(labels, expected[1])

    result = faiss.RangeSearchResult(n)
    index.range_search_c(n, ptr(XQ), 9.0, result)
    lims, D, I = index.range_search(XQ, 9.0)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(result.lims, n + 1), lims)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(result.labels, int(lims[-1])), I)
    np.testing.assert_allclose(faiss.rev_swig_ptr(result.distances, int(lims[-1])), D, rtol=1e-5)


def test_settings_of_a_search_behind_pointers(faiss):
    index = flat(faiss)
    D, I = room(1, 2), room(1, 2, dtype="int64")
    sel = faiss.IDSelectorRange(7, 8)
    params = faiss.SearchParameters(sel=sel)
    index.search_c(1, faiss.swig_ptr(XQ), 2, faiss.swig_ptr(D), faiss.swig_ptr(I), params)
    assert I.tolist() == [[7, -1]]


def test_reading_back_and_codes_behind_pointers(faiss):
    index, ptr = ivf(faiss), faiss.swig_ptr
    index.make_direct_map()
    D, I, R = room(5, 2), room(5, 2, dtype="int64"), room(5, 2, D_IN)
    index.search_and_reconstruct_c(5, ptr(XQ), 2, ptr(D), ptr(I), ptr(R))
    np.testing.assert_array_equal(R, XB[I])
    one, three, batch = room(D_IN), room(3, D_IN), room(2, D_IN)
    index.reconstruct_c(4, ptr(one))
    index.reconstruct_n_c(10, 3, ptr(three))
    index.reconstruct_batch_c(2, ptr(np.array([9, 1])), ptr(batch))
    np.testing.assert_array_equal(one, XB[4])
    np.testing.assert_array_equal(three, XB[10:13])
    np.testing.assert_array_equal(batch, XB[[9, 1]])

    codes = room(5, index.sa_code_size(), dtype="uint8")
    index.sa_encode_c(5, ptr(XQ), ptr(codes))
    np.testing.assert_array_equal(codes, index.sa_encode(XQ))
    decoded = room(5, D_IN)
    index.sa_decode_c(5, ptr(codes), ptr(decoded))
    np.testing.assert_array_equal(decoded, XQ)
    index.add_sa_codes_c(5, ptr(codes), None)
    assert index.ntotal == 65

    index.update_vectors_c(1, ptr(np.array([4])), ptr(XQ))
    np.testing.assert_array_equal(index.reconstruct(4), XQ[0])

    found = room(5, 2, index.code_size, dtype="uint8")
    index.search_and_return_codes_c(5, ptr(XQ), 2, ptr(D), ptr(I), ptr(found))
    np.testing.assert_array_equal(found, index.search_and_return_codes(XQ, 2)[2])


def test_lists_of_the_callers_behind_pointers(faiss):
    index, ptr = ivf(faiss), faiss.swig_ptr
    Dq, Iq = index.quantizer.search(XQ, index.nprobe)
    D, I = room(5, 3), room(5, 3, dtype="int64")
    index.search_preassigned_c(5, ptr(XQ), 3, ptr(Iq), ptr(Dq), ptr(D), ptr(I), False)
    np.testing.assert_array_equal(I, index.search(XQ, 3)[1])
    result = faiss.RangeSearchResult(5)
    index.range_search_preassigned_c(5, ptr(XQ), 9.0, ptr(Iq), ptr(Dq), result)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(result.lims, 6), index.range_search(XQ, 9.0)[0])


def test_training_removing_and_reordering_behind_pointers(faiss):
    ptr = faiss.swig_ptr
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 4)
    index.cp.min_points_per_centroid = 1
    index.train_c(60, ptr(XB))
    index.add_with_ids_c(60, ptr(XB), ptr(np.arange(60) + 7))
    assert index.ntotal == 60
    assert index.remove_ids_c(faiss.IDSelectorRange(7, 10)) == 3
    with pytest.raises(TypeError):
        index.remove_ids_c(np.array([11]))

    index = flat(faiss)
    index.permute_entries_c(ptr(np.arange(60)[::-1].copy()))
    np.testing.assert_array_equal(index.reconstruct(0), XB[59])


def test_clustering_behind_pointers(faiss):
    ptr = faiss.swig_ptr
    weights = rng.random(60).astype("float32")
    by_pointers, by_arrays = (faiss.Clustering(D_IN, 3) for _ in range(2))
    by_pointers.train_c(60, ptr(XB), faiss.IndexFlatL2(D_IN), ptr(weights))
    by_arrays.train(XB, faiss.IndexFlatL2(D_IN), weights)
    np.testing.assert_array_equal(*map(faiss.vector_to_array, (by_pointers.centroids, by_arrays.centroids)))

    encoded = faiss.Clustering(D_IN, 3)
    codec = faiss.IndexFlatL2(D_IN)
    encoded.train_encoded_c(60, ptr(XB.view("uint8")), codec, faiss.IndexFlatL2(D_IN))
    assert encoded.centroids.size() == 3 * D_IN

    numbers = faiss.Clustering1D(3)
    column = np.ascontiguousarray(XB[:, 0])
    numbers.train_exact_c(60, ptr(column))
    assert numbers.centroids.size() == 3


def test_maps_sets_and_criteria_behind_pointers(faiss):
    ptr = faiss.swig_ptr
    keys, found = np.arange(5), np.zeros(5, "int64")
    numbers = faiss.MapLong2Long()
    numbers.add_c(5, ptr(keys), ptr(keys + 10))
    numbers.search_multiple_c(5, ptr(keys), ptr(found))
    assert found.tolist() == [10, 11, 12, 13, 14]

    codes, inserted = np.array([[1, 2], [1, 2], [3, 4]], "uint8"), np.zeros(3, bool)
    faiss.CodeSet(2).insert_c(3, ptr(codes), ptr(inserted))
    assert inserted.tolist() == [True, False, True]

    index = ivf(faiss)
    criterion = faiss.OneRecallAtRCriterion(60, 1)
    criterion.set_groundtruth_c(1, None, ptr(np.arange(60)))
    assert criterion.evaluate_c(ptr(room(60, 1)), ptr(np.arange(60))) == 1.0
    space, points = faiss.ParameterSpace(), faiss.OperatingPoints()
    space.verbose, space.n_experiments = 0, 0
    space.initialize(index)
    space.explore_c(index, 60, ptr(XB), criterion, points)
    assert points.all_pts.size() > 1


def test_vectors_of_a_type_behind_a_pointer_to_anything(faiss):
    index, ptr = faiss.IndexFlatL2(D_IN), faiss.swig_ptr
    index.train_ex(60, ptr(XB), faiss.Float32)
    index.train_with_queries(60, ptr(XB), 5, ptr(XQ))
    index.add_ex(60, faiss.cast_integer_to_void_ptr(XB.ctypes.data), faiss.Float32)
    D, I = room(5, 2), room(5, 2, dtype="int64")
    index.search_ex(5, ptr(XQ), faiss.Float32, 2, ptr(D), ptr(I))
    np.testing.assert_array_equal(I, index.search(XQ, 2)[1])
    with pytest.raises(RuntimeError, match="numeric type"):
        index.add_ex(60, ptr(XB), 99)
    lists = ivf(faiss)
    lists.reset()
    lists.add_with_ids_ex(60, ptr(XB), faiss.Float32, ptr(np.arange(60) + 7))
    assert lists.search(XB[:1], 1)[1][0, 0] == 7


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_vectors_of_fewer_bits_behind_a_pointer(ours, dtype):
    x = (XB * 9).astype(dtype)
    index = ours.IndexFlatL2(D_IN)
    index.add_ex(60, ours.swig_ptr(x), {"float16": ours.Float16, "int8": ours.Int8}[dtype])
    np.testing.assert_array_equal(index.reconstruct_n(0, 60), x.astype("float32"))


def test_memory_is_copied_through_a_pointer_to_anything(faiss):
    source, target = np.arange(6, dtype="float32"), np.zeros(6, "float32")
    faiss.memcpy(faiss.cast_integer_to_void_ptr(target.ctypes.data), faiss.swig_ptr(source), source.nbytes)
    np.testing.assert_array_equal(target, source)


def test_search_index_pytorch(faiss):
    """The function that many programs have copied: addresses of tensors, of a part of one too."""

    def address(x, cast, itemsize):
        assert x.is_contiguous()
        return cast(x.untyped_storage().data_ptr() + x.storage_offset() * itemsize)

    index = flat(faiss)
    queries = torch.from_numpy(np.concatenate([XB[:3], XQ]))[3:]
    D, I = torch.empty(5, 2), torch.empty(5, 2, dtype=torch.int64)
    index.search_c(
        5,
        address(queries, faiss.cast_integer_to_float_ptr, 4),
        2,
        address(D, faiss.cast_integer_to_float_ptr, 4),
        address(I, faiss.cast_integer_to_idx_t_ptr, 8),
    )
    np.testing.assert_array_equal(I.numpy(), index.search(XQ, 2)[1])


def test_room_is_made_for_the_results_of_a_range_search(faiss):
    result = faiss.RangeSearchResult(3)
    assert result.nq == 3
    faiss.rev_swig_ptr(result.lims, 4)[:] = [1, 2, 0, 0]
    result.do_allocation()
    assert faiss.rev_swig_ptr(result.lims, 4).tolist() == [0, 1, 3, 3]
    assert faiss.rev_swig_ptr(result.labels, 3).shape == (3,)
    assert faiss.RangeSearchResult(2, False).lims is None


def test_what_is_no_pointer_to_the_right_type_is_refused(faiss):
    index, ptr = flat(faiss), faiss.swig_ptr
    D, I = room(5, 2), room(5, 2, dtype="int64")
    with pytest.raises(TypeError):
        index.search_c(5, XQ, 2, ptr(D), ptr(I))
    with pytest.raises(TypeError):
        index.search_c(5, ptr(XQ.astype("float64")), 2, ptr(D), ptr(I))
    with pytest.raises(TypeError):
        index.add_c(2.0, ptr(XQ))
    with pytest.raises(RuntimeError):
        index.search_c(5, ptr(XQ), 0, ptr(D), ptr(I))
    assert index.ntotal == 60


def test_memory_that_ends_too_early_is_refused(ours):
    index, ptr = flat(ours), ours.swig_ptr
    with pytest.raises(RuntimeError, match="cannot read 10 elements"):
        index.search_c(5, ptr(XQ), 2, ptr(room(4, 2)), ptr(room(5, 2, dtype="int64")))
    with pytest.raises(RuntimeError, match="5 queries given, with a RangeSearchResult of 4"):
        index.range_search_c(5, ptr(XQ), 1.0, ours.RangeSearchResult(4))
    with pytest.raises(RuntimeError, match="store_pairs"):
        ivf(ours).search_preassigned_c(1, None, 1, None, None, None, None, True)
