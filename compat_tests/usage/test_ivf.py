"""IndexIVFFlat in full: lists, direct maps, training, probing; the same text for every implementation."""

import ctypes

import numpy as np
import pytest
from comparison import FLT_MAX, assert_same_neighbours, assert_same_ranges, neighbours

D, NLIST, NB, NQ = 8, 10, 400, 13


def vectors(n, seed, d=D):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(NB, 1), vectors(NQ, 2)
CENTROIDS = vectors(NLIST, 3)


def make(faiss, metric="METRIC_L2", cls="IndexIVFFlat", centroids=CENTROIDS):
    """A trained, empty index with given centroids."""
    metric_type = getattr(faiss, metric)
    quantizer = faiss.IndexFlat(centroids.shape[1], metric_type)
    quantizer.add(centroids)
    index = getattr(faiss, cls)(quantizer, centroids.shape[1], len(centroids), metric_type)
    index.referenced_objects = [quantizer]
    index.nprobe = 3
    return index


def filled(faiss, **settings):
    index = make(faiss, **settings)
    index.add(XB)
    return index


def list_contents(faiss, index):
    """The ids and the codes of every list."""
    invlists = index.invlists
    contents = []
    for list_no in range(invlists.nlist):
        n = invlists.list_size(list_no)
        ids = faiss.rev_swig_ptr(invlists.get_ids(list_no), n).copy() if n else np.zeros(0, "int64")
        code_bytes = n * invlists.code_size
        codes = faiss.rev_swig_ptr(invlists.get_codes(list_no), code_bytes).copy() if n else np.zeros(0, "uint8")
        contents.append((ids, codes.reshape(n, invlists.code_size)))
    return contents


def expected(nprobe, k, xq=XQ, metric="METRIC_L2", max_codes=0):
    """Neighbours by the formula among the vectors of the probed lists."""
    similarity = metric == "METRIC_INNER_PRODUCT"
    owner = neighbours(XB, CENTROIDS, 1, metric)[1][:, 0]
    probes = neighbours(xq, CENTROIDS, nprobe, metric)[1]
    D_out = np.full((len(xq), k), -FLT_MAX if similarity else FLT_MAX)
    I_out = np.full((len(xq), k), -1)
    for i, row in enumerate(probes):
        seen = np.concatenate([np.flatnonzero(owner == list_no) for list_no in row])
        if max_codes:
            seen = seen[:max_codes]
        if len(seen):
            d_found, found = neighbours(xq[i : i + 1], XB[seen], k, metric)
            D_out[i] = d_found[0]
            I_out[i] = np.where(found[0] < 0, -1, seen[found[0]])
    return D_out, I_out


# --- the object ----------------------------------------------------------------------------------------------------


def test_attributes_of_a_new_index(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    assert (index.nlist, index.nprobe, index.max_codes, index.code_size) == (NLIST, 1, 0, 4 * D)
    assert (index.parallel_mode, index.own_invlists) == (0, True)
    assert index.own_fields is False
    assert index.metric_type == faiss.METRIC_L2
    assert index.is_trained is False
    assert index.direct_map.no()
    assert index.direct_map.type == faiss.DirectMap.NoMap
    assert index.clustering_index is None
    assert index.by_residual is False
    assert (index.cp.niter, index.cp.spherical) == (10, False)
    assert index.invlists.nlist == NLIST
    assert index.invlists.code_size == 4 * D


def test_inner_product_clusters_on_the_sphere(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexIVFFlat(quantizer, D, NLIST, faiss.METRIC_INNER_PRODUCT)
    assert index.cp.spherical is True
    assert quantizer.metric_type == faiss.METRIC_L2
    index.train(XB)
    np.testing.assert_allclose(np.linalg.norm(quantizer.reconstruct_n(), axis=1), 1, rtol=1e-5)


def test_a_full_quantizer_makes_a_trained_index(faiss):
    assert make(faiss).is_trained is True


# --- training ------------------------------------------------------------------------------------------------------


def untrained(faiss, quantizer, nlist=NLIST, metric=1):
    index = faiss.IndexIVFFlat(quantizer, D, nlist, metric)
    index.cp.min_points_per_centroid = 1
    index.referenced_objects = [quantizer]
    return index


def test_train_fills_the_quantizer(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = untrained(faiss, quantizer)
    index.train(XB)
    assert index.is_trained
    assert quantizer.ntotal == NLIST
    centroids = quantizer.reconstruct_n()
    owner = neighbours(XB, centroids, 1)[1][:, 0]
    # after the last iteration the centroids are near the means of their vectors
    means = np.stack([XB[owner == i].mean(0) for i in range(NLIST)])
    assert np.abs(means - centroids).max() < 0.1


def test_two_indexes_share_one_quantizer(faiss):
    quantizer = faiss.IndexFlatL2(D)
    first, second = untrained(faiss, quantizer), untrained(faiss, quantizer)
    first.train(XB)
    centroids = quantizer.reconstruct_n()
    second.train(vectors(300, 77))
    np.testing.assert_array_equal(quantizer.reconstruct_n(), centroids)
    first.add(XB)
    second.add(XB[:100])
    first.nprobe = second.nprobe = NLIST
    assert_same_neighbours(*first.search(XQ, 4), *neighbours(XQ, XB, 4))
    assert_same_neighbours(*second.search(XQ, 4), *neighbours(XQ, XB[:100], 4))


def test_settings_of_the_clustering_are_used(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = untrained(faiss, quantizer)
    index.cp.niter = 3
    index.cp.seed = 77
    index.train(XB)
    clustering = faiss.Clustering(D, NLIST, index.cp)
    assignment = faiss.IndexFlatL2(D)
    clustering.train(XB, assignment)
    np.testing.assert_allclose(quantizer.reconstruct_n(), assignment.reconstruct_n(), rtol=1e-4)
    other = faiss.IndexFlatL2(D)
    again = untrained(faiss, other)
    again.cp.niter = 3
    again.train(XB)
    assert np.abs(other.reconstruct_n() - quantizer.reconstruct_n()).max() > 1e-3


def test_clustering_index_does_the_assignments(faiss):
    quantizer, plain = faiss.IndexFlatL2(D), faiss.IndexFlatL2(D)
    index = untrained(faiss, quantizer)
    assignment = faiss.IndexFlatL2(D)
    index.clustering_index = assignment
    index.train(XB)
    untrained(faiss, plain).train(XB)
    np.testing.assert_allclose(quantizer.reconstruct_n(), plain.reconstruct_n(), rtol=1e-4)
    assert quantizer.ntotal == NLIST
    # what the last iteration left in the assignment index
    assert assignment.ntotal == NLIST


def test_quantizer_trains_alone_1_leaves_all_to_the_quantizer(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = untrained(faiss, quantizer)
    index.quantizer_trains_alone = 1
    with pytest.raises(RuntimeError):
        index.train(XB)  # a flat index adds nothing when it is trained
    assert index.is_trained is False


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_quantizer_trains_alone_2_adds_the_centroids(faiss, metric):
    quantizer = faiss.index_factory(D, "IVF2,Flat", getattr(faiss, metric))
    quantizer.cp.min_points_per_centroid = 1
    index = untrained(faiss, quantizer, metric=getattr(faiss, metric))
    index.quantizer_trains_alone = 2
    index.train(XB)
    assert index.is_trained
    assert quantizer.is_trained
    assert quantizer.ntotal == NLIST
    quantizer.nprobe = 2
    index.nprobe = NLIST
    index.add(XB)
    assert_same_neighbours(*index.search(XQ, 3), *neighbours(XQ, XB, 3, metric))


def test_quantizer_trains_alone_0_over_an_ivf_quantizer(faiss):
    quantizer = faiss.index_factory(D, "IVF2,Flat")
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(XB)
    index = untrained(faiss, quantizer)
    index.train(XB)
    assert quantizer.ntotal == NLIST
    index.add(XB)
    assert sum(index.get_list_size(i) for i in range(NLIST)) == NB
    params = faiss.SearchParametersIVF(nprobe=NLIST, quantizer_params=faiss.SearchParametersIVF(nprobe=2))
    assert_same_neighbours(*index.search(XQ, 3, params=params), *neighbours(XQ, XB, 3))


def test_a_quantizer_of_another_metric_keeps_it(faiss):
    quantizer = faiss.IndexFlatIP(D)
    quantizer.add(CENTROIDS)
    index = faiss.IndexIVFFlat(quantizer, D, NLIST, faiss.METRIC_L2)
    assert index.is_trained
    index.add(XB)
    assert quantizer.metric_type == faiss.METRIC_INNER_PRODUCT
    owner = neighbours(XB, CENTROIDS, 1, "METRIC_INNER_PRODUCT")[1][:, 0]
    for list_no, (ids, _) in enumerate(list_contents(faiss, index)):
        np.testing.assert_array_equal(ids, np.flatnonzero(owner == list_no))
    index.nprobe = NLIST
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB, 5))


# --- probing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
@pytest.mark.parametrize("nprobe", [1, 2, 3, NLIST, NLIST + 7, 100000])
@pytest.mark.parametrize("k", [1, 5, 300])
def test_nprobe(faiss, metric, nprobe, k):
    index = filled(faiss, metric=metric)
    index.nprobe = nprobe
    assert_same_neighbours(*index.search(XQ, k), *expected(min(nprobe, NLIST), k, metric=metric))
    assert index.nprobe == nprobe
    index.nprobe = 1
    params = faiss.SearchParametersIVF(nprobe=nprobe)
    assert_same_neighbours(*index.search(XQ, k, params=params), *expected(min(nprobe, NLIST), k, metric=metric))


def test_search_parameters_stand_in_for_all_settings(faiss):
    index = filled(faiss)
    index.nprobe = NLIST
    assert_same_neighbours(*index.search(XQ, 3, params=faiss.SearchParametersIVF()), *expected(1, 3))
    sel = faiss.IDSelectorRange(0, 100)
    D, I = index.search(XQ, 3, params=faiss.SearchParametersIVF(sel=sel, nprobe=NLIST))
    assert_same_neighbours(D, I, *neighbours(XQ, XB[:100], 3))
    D, I = index.search(XQ, 3, params=faiss.IVFSearchParameters(sel=sel, nprobe=NLIST))
    assert_same_neighbours(D, I, *neighbours(XQ, XB[:100], 3))
    params = faiss.SearchParametersIVF()
    params.nprobe = NLIST
    assert (params.nprobe, params.max_codes, params.sel) == (NLIST, 0, None)
    assert_same_neighbours(*index.search(XQ, 3, params=params), *neighbours(XQ, XB, 3))


def test_plain_search_parameters_are_refused(faiss):
    index = filled(faiss)
    params = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, 100))
    with pytest.raises(RuntimeError, match=r"[Pp]aram"):
        index.search(XQ, 3, params=params)
    with pytest.raises(RuntimeError, match=r"[Pp]aram"):
        index.range_search(XQ, 3.0, params=params)
    assert_same_neighbours(*index.search(XQ, 3), *expected(3, 3))


@pytest.mark.parametrize("max_codes", [1, 7, 60, 1000])
def test_max_codes(faiss, max_codes):
    index = filled(faiss)
    index.nprobe = NLIST
    index.max_codes = max_codes
    assert_same_neighbours(*index.search(XQ, 4), *expected(NLIST, 4, max_codes=max_codes))
    index.max_codes = 0
    params = faiss.SearchParametersIVF(nprobe=NLIST, max_codes=max_codes)
    assert_same_neighbours(*index.search(XQ, 4, params=params), *expected(NLIST, 4, max_codes=max_codes))


@pytest.mark.parametrize("parallel_mode", [0, 1, 2, 3])
def test_parallel_modes_give_the_same_results(faiss, parallel_mode):
    index = filled(faiss)
    index.parallel_mode = parallel_mode
    assert index.parallel_mode == parallel_mode
    assert_same_neighbours(*index.search(XQ, 6), *expected(3, 6))


def test_parallel_mode_that_there_is_not(faiss):
    index = filled(faiss)
    index.parallel_mode = 7
    with pytest.raises(RuntimeError, match="parallel_mode"):
        index.search(XQ, 6)
    index.parallel_mode = 0
    assert_same_neighbours(*index.search(XQ, 6), *expected(3, 6))


def test_empty_lists(faiss):
    far = np.concatenate([CENTROIDS, CENTROIDS + 100])
    index = make(faiss, centroids=far)
    index.add(XB)
    sizes = [index.get_list_size(i) for i in range(2 * NLIST)]
    assert sizes[NLIST:] == [0] * NLIST
    for nprobe in (1, NLIST, 2 * NLIST):
        index.nprobe = nprobe
        assert_same_neighbours(*index.search(XQ, 5), *expected(min(nprobe, NLIST), 5))
    # a query that probes empty lists only
    index.nprobe = 2
    D, I = index.search(XQ + 100, 2)
    assert (I == -1).all()
    np.testing.assert_array_equal(D, np.float32(FLT_MAX))


# --- with the lists given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_search_preassigned(faiss, metric):
    index = filled(faiss, metric=metric)
    Dq, Iq = index.quantizer.search(XQ, index.nprobe)
    assert_same_neighbours(*index.search_preassigned(XQ, 5, Iq, Dq), *index.search(XQ, 5))
    assert_same_neighbours(*index.search_preassigned(XQ, 5, Iq, None), *index.search(XQ, 5))
    D, I = np.empty((NQ, 5), "float32"), np.empty((NQ, 5), "int64")
    D_out, I_out = index.search_preassigned(XQ, 5, Iq, Dq, D=D, I=I)
    assert D_out is D
    assert I_out is I
    assert_same_neighbours(D, I, *index.search(XQ, 5))


def test_search_preassigned_passes_over_list_minus_1(faiss):
    index = filled(faiss)
    _, Iq = index.quantizer.search(XQ, 3)
    Iq[:, 1:] = -1
    Dq = np.zeros_like(Iq, dtype="float32")
    assert_same_neighbours(*index.search_preassigned(XQ, 5, Iq, Dq), *expected(1, 5))


def test_search_preassigned_checks_its_arguments(faiss):
    index = filled(faiss)
    Dq, Iq = index.quantizer.search(XQ, 3)
    with pytest.raises(AssertionError):
        index.search_preassigned(XQ, 5, Iq[:, :2], Dq[:, :2])
    with pytest.raises(AssertionError):
        index.search_preassigned(XQ, 5, Iq, Dq[:-1])
    with pytest.raises(AssertionError):
        index.search_preassigned(XQ[:, :4], 5, Iq, Dq)
    assert_same_neighbours(*index.search(XQ, 5), *expected(3, 5))


def test_range_search_preassigned(faiss):
    index = filled(faiss)
    Dq, Iq = index.quantizer.search(XQ, index.nprobe)
    lims, D, I = index.range_search_preassigned(XQ, 0.5, Iq, Dq)
    assert (lims.dtype, D.dtype, I.dtype) == (np.uint64, np.float32, np.int64)
    assert_same_ranges((lims, D, I), index.range_search(XQ, 0.5))
    assert_same_ranges(index.range_search_preassigned(XQ, 0.5, Iq, None), (lims, D, I))
    all_D, all_I = expected(3, NB)
    assert int(lims[-1]) == ((all_D < 0.5) & (all_I >= 0)).sum() > 0


@pytest.mark.parametrize("include_listnos", [False, True])
def test_search_and_return_codes(faiss, include_listnos):
    index = filled(faiss)
    k = 150
    D, I, codes = index.search_and_return_codes(XQ, k, include_listnos=include_listnos)
    assert_same_neighbours(D, I, *expected(3, k))
    coarse = index.coarse_code_size() if include_listnos else 0
    assert (codes.dtype, codes.shape) == (np.uint8, (NQ, k, index.code_size + coarse))
    there = I >= 0
    assert there.any()
    assert not there.all()
    found = np.ascontiguousarray(codes[there][:, coarse:]).view("float32")
    np.testing.assert_array_equal(found, XB[I[there]])
    if include_listnos:
        owner = neighbours(XB, CENTROIDS, 1)[1][:, 0]
        np.testing.assert_array_equal(codes[there][:, 0], owner[I[there]])
    params = faiss.SearchParametersIVF(nprobe=NLIST)
    D, I, codes = index.search_and_return_codes(XQ, 4, params=params)
    assert_same_neighbours(D, I, *neighbours(XQ, XB, 4))
    out = np.empty((NQ, 4, index.code_size), "uint8")
    assert index.search_and_return_codes(XQ, 4, codes=out)[2] is out


@pytest.mark.parametrize("list_nos", [[0], [2], [5, 2], [9, 0]])
def test_list_numbers_of_codes_where_most_lists_are_empty(faiss, list_nos):
    index = make(faiss)
    index.nprobe = NLIST
    for list_no in list_nos:
        index.add(CENTROIDS[[list_no]])
    _, I, codes = index.search_and_return_codes(CENTROIDS[list_nos], 3, include_listnos=True)
    np.testing.assert_array_equal(I[:, 0], np.arange(len(list_nos)))
    np.testing.assert_array_equal(codes[:, 0, 0], list_nos)
    np.testing.assert_array_equal(codes[:, len(list_nos) :], 255)
    index.reset()
    _, I, codes = index.search_and_return_codes(XQ, 3, include_listnos=True)
    assert (I == -1).all()
    np.testing.assert_array_equal(codes, 255)


# --- inverted lists ------------------------------------------------------------------------------------------------


def test_lists_hold_ids_and_codes_in_the_order_of_adding(faiss):
    index = filled(faiss)
    owner = neighbours(XB, CENTROIDS, 1)[1][:, 0]
    sizes = np.bincount(owner, minlength=NLIST)
    for list_no, (ids, codes) in enumerate(list_contents(faiss, index)):
        assert index.get_list_size(list_no) == index.invlists.list_size(list_no) == sizes[list_no]
        np.testing.assert_array_equal(ids, np.flatnonzero(owner == list_no))
        np.testing.assert_array_equal(codes.view("float32"), XB[ids])
        assert index.invlists.get_single_id(list_no, 1) == ids[1]
        assert index.invlists.is_empty(list_no) is False
    assert index.invlists.compute_ntotal() == NB
    assert index.invlists.imbalance_factor() == pytest.approx((sizes**2).sum() * NLIST / NB**2)
    assert index.check_ids_sorted() is True


def test_print_stats(faiss, capfd):
    index = filled(faiss)
    index.invlists.print_stats()
    ctypes.CDLL(None).fflush(None)  # faiss writes by C's printf, which may hold the text back
    assert "list size" in capfd.readouterr().out


def test_array_inverted_lists_by_themselves(faiss):
    invlists = faiss.ArrayInvertedLists(4, 3)
    codes = np.arange(15, dtype="uint8").reshape(5, 3)
    ids = np.arange(5) + 100
    assert invlists.add_entries(2, 5, faiss.swig_ptr(ids), faiss.swig_ptr(codes)) == 0
    assert invlists.add_entries(2, 1, faiss.swig_ptr(ids[:1].copy()), faiss.swig_ptr(codes[:1].copy())) == 5
    assert [invlists.list_size(i) for i in range(4)] == [0, 0, 6, 0]
    other_id, other_code = np.array([7]), np.array([9, 8, 7], "uint8")
    invlists.update_entries(2, 1, 1, faiss.swig_ptr(other_id), faiss.swig_ptr(other_code))
    np.testing.assert_array_equal(faiss.rev_swig_ptr(invlists.get_ids(2), 6), [100, 7, 102, 103, 104, 100])
    found = faiss.rev_swig_ptr(invlists.get_codes(2), 18).reshape(6, 3)
    np.testing.assert_array_equal(found, [[0, 1, 2], [9, 8, 7], [6, 7, 8], [9, 10, 11], [12, 13, 14], [0, 1, 2]])
    invlists.resize(2, 2)
    invlists.resize(0, 1)
    assert [invlists.list_size(i) for i in range(4)] == [1, 0, 2, 0]
    other = faiss.ArrayInvertedLists(4, 3)
    other.merge_from(invlists, 1000)
    assert [other.list_size(i) for i in range(4)] == [1, 0, 2, 0]
    assert invlists.compute_ntotal() == 0
    np.testing.assert_array_equal(faiss.rev_swig_ptr(other.get_ids(2), 2), [1100, 1007])
    other.reset()
    assert other.compute_ntotal() == 0


def test_replace_invlists(faiss):
    index = filled(faiss)
    lists = faiss.ArrayInvertedLists(NLIST, index.code_size)
    index.replace_invlists(lists, False)
    assert (index.search(XQ, 2)[1] == -1).all()
    with pytest.raises(RuntimeError):
        index.replace_invlists(faiss.ArrayInvertedLists(NLIST + 1, index.code_size), False)


def test_search_sees_what_was_written_to_the_lists(faiss):
    index = filled(faiss)
    index.nprobe = NLIST
    index.search(XQ, 1)
    new = XQ[:1] * 1.0
    id_, code = np.array([5000]), new.view("uint8").copy()
    index.invlists.add_entries(0, 1, faiss.swig_ptr(id_), faiss.swig_ptr(code))
    D, I = index.search(XQ[:1], 1)
    assert (I[0, 0], D[0, 0]) == (5000, 0)
    index.invlists.resize(0, index.invlists.list_size(0) - 1)
    assert_same_neighbours(*index.search(XQ, 1), *neighbours(XQ, XB, 1))


# --- direct maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("map_type", ["Array", "Hashtable"])
@pytest.mark.parametrize("before", [True, False], ids=["map before add", "map after add"])
def test_reconstruct_by_direct_map(faiss, map_type, before):
    index = make(faiss)
    if not before:
        index.add(XB)
    index.set_direct_map_type(getattr(faiss.DirectMap, map_type))
    assert index.direct_map.type == getattr(faiss.DirectMap, map_type)
    assert not index.direct_map.no()
    if before and map_type == "Array":
        index.add(XB[:100])
        index.add(XB[100:])
    elif before:  # in faiss the keys are undefined when a hashtable sees an add without ids
        index.add_with_ids(XB, np.arange(NB))
    for i in (0, 99, 100, NB - 1):
        np.testing.assert_array_equal(index.reconstruct(i), XB[i])
        place = index.direct_map.get(i)
        assert index.invlists.get_single_id(faiss.lo_listno(place), faiss.lo_offset(place)) == i
    with pytest.raises(RuntimeError):
        index.reconstruct(NB)
    with pytest.raises(RuntimeError):
        index.reconstruct(-1)
    index.set_direct_map_type(faiss.DirectMap.NoMap)
    with pytest.raises(RuntimeError):
        index.reconstruct(0)


def test_the_array_of_a_direct_map(faiss):
    index = filled(faiss)
    index.make_direct_map()
    places = faiss.vector_to_array(index.direct_map.array)
    owner = neighbours(XB, CENTROIDS, 1)[1][:, 0]
    np.testing.assert_array_equal(places >> 32, owner)
    assert places.shape == (NB,)


def test_a_direct_map_of_type_array_needs_ids_in_order(faiss):
    index = make(faiss)
    index.add_with_ids(XB, np.arange(NB) + 5)
    with pytest.raises(RuntimeError):
        index.set_direct_map_type(faiss.DirectMap.Array)
    index = make(faiss)
    index.add_with_ids(XB, np.arange(NB) + 5)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    np.testing.assert_array_equal(index.reconstruct(5), XB[0])
    with pytest.raises(RuntimeError):
        index.reconstruct(2)
    other = filled(faiss)
    other.make_direct_map()
    with pytest.raises(RuntimeError):
        other.add_with_ids(XB[:2], np.array([1, 2]))
    assert other.ntotal == NB
    np.testing.assert_array_equal(other.reconstruct(1), XB[1])


@pytest.mark.parametrize("map_type", ["Array", "Hashtable"])
def test_update_vectors(faiss, map_type):
    index = filled(faiss)
    index.nprobe = NLIST
    index.set_direct_map_type(getattr(faiss.DirectMap, map_type))
    keys = np.random.RandomState(5).permutation(NB)[:150]
    new = vectors(150, 6)
    index.update_vectors(keys, new)
    xb = XB.copy()
    xb[keys] = new
    assert index.ntotal == NB
    assert index.invlists.compute_ntotal() == NB
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, xb, 5))
    for i in (0, int(keys[0]), NB - 1):
        np.testing.assert_array_equal(index.reconstruct(i), xb[i])


def test_update_vectors_needs_a_direct_map(faiss):
    index = filled(faiss)
    with pytest.raises(RuntimeError):
        index.update_vectors(np.arange(3), XB[:3])
    assert_same_neighbours(*index.search(XQ, 5), *expected(3, 5))


def test_remove_ids_with_a_hashtable(faiss):
    index = make(faiss)
    index.nprobe = NLIST
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    ids = np.arange(NB) * 10
    index.add_with_ids(XB, ids)
    gone = np.r_[ids[5:60], 3, 10**9]
    assert index.remove_ids(gone) == 55
    assert index.ntotal == NB - 55
    left = np.r_[0:5, 60:NB]
    D, I = neighbours(XQ, XB[left], 4)
    assert_same_neighbours(*index.search(XQ, 4), D, left[I] * 10)
    for i in left:
        np.testing.assert_array_equal(index.reconstruct(int(i * 10)), XB[i])
    with pytest.raises(RuntimeError):
        index.reconstruct(50)
    with pytest.raises(RuntimeError):
        index.remove_ids(faiss.IDSelectorRange(0, 30))


def test_remove_ids_with_an_array_map_is_refused(faiss):
    index = filled(faiss)
    index.make_direct_map()
    with pytest.raises(RuntimeError):
        index.remove_ids(np.array([3]))
    assert index.ntotal == NB
    assert_same_neighbours(*index.search(XQ, 4), *expected(3, 4))


def test_remove_ids_moves_the_last_entries_of_a_list(faiss):
    index = filled(faiss)
    before = list_contents(faiss, index)
    gone = np.concatenate([ids[[0, 2, -1]] for ids, _ in before])
    assert index.remove_ids(gone) == len(gone)
    for (ids, codes), (old, _) in zip(list_contents(faiss, index), before, strict=True):
        np.testing.assert_array_equal(ids, [old[-2], old[1], old[-3], *old[3:-3]])
        np.testing.assert_array_equal(codes.view("float32"), XB[ids])


def test_adding_to_a_hashtable_goes_on_counting(ours):
    index = make(ours)
    index.set_direct_map_type(ours.DirectMap.Hashtable)
    index.add(XB[:100])
    index.add(XB[100:])
    for i in (0, 99, 100, NB - 1):
        np.testing.assert_array_equal(index.reconstruct(i), XB[i])


# --- merging and copying -------------------------------------------------------------------------------------------


def test_merge_from_adds_to_the_ids(faiss):
    first, second, whole = make(faiss), make(faiss), filled(faiss)
    first.add(XB[:150])
    second.add_with_ids(XB[150:], np.arange(NB - 150))
    first.merge_from(second, 150)
    assert (first.ntotal, second.ntotal) == (NB, 0)
    assert_same_neighbours(*first.search(XQ, 5), *expected(3, 5))
    for (ids, codes), (ids_expected, codes_expected) in zip(
        list_contents(faiss, first), list_contents(faiss, whole), strict=True
    ):
        np.testing.assert_array_equal(ids, ids_expected)
        np.testing.assert_array_equal(codes, codes_expected)


def test_merge_from_refuses_direct_maps(faiss):
    first, second = filled(faiss), filled(faiss)
    second.make_direct_map()
    with pytest.raises(RuntimeError):
        first.merge_from(second, NB)
    assert (first.ntotal, second.ntotal) == (NB, NB)


def subsets():
    """Arguments of copy_subset_to by the name of the type, and which of (list, offset, size, id) they choose."""
    return {
        "ID_RANGE": (50, 120, lambda lists: (lists["id"] >= 50) & (lists["id"] < 120)),
        "ID_MOD": (7, 3, lambda lists: lists["id"] % 7 == 3),
        "INVLIST": (2, 5, lambda lists: (lists["list_no"] >= 2) & (lists["list_no"] < 5)),
        "INVLIST_FRACTION": (
            3,
            1,
            lambda lists: (lists["offset"] >= lists["size"] // 3) & (lists["offset"] < lists["size"] * 2 // 3),
        ),
    }


@pytest.mark.parametrize("subset", list(subsets()))
def test_copy_subset_to(faiss, subset):
    a1, a2, choose = subsets()[subset]
    index, other = filled(faiss), make(faiss)
    other.add_with_ids(XQ, np.arange(NQ) + 9000)
    index.copy_subset_to(other, getattr(faiss.InvertedLists, f"SUBSET_TYPE_{subset}"), a1, a2)
    copied = 0
    for list_no, (ids, _) in enumerate(list_contents(faiss, index)):
        lists = {"id": ids, "list_no": np.full(len(ids), list_no), "offset": np.arange(len(ids)), "size": len(ids)}
        chosen = choose(lists)
        copied += chosen.sum()
        found, codes = list_contents(faiss, other)[list_no]
        found_new = found[found < 9000]
        np.testing.assert_array_equal(found_new, ids[chosen])
        np.testing.assert_array_equal(codes[found < 9000].view("float32"), XB[found_new])
    assert copied > 0
    assert other.ntotal == copied + NQ
    assert index.ntotal == NB


def test_copy_subset_by_elements_splits_everything(faiss):
    index = filled(faiss)
    parts = []
    for begin in range(0, NB, 100):
        other = make(faiss)
        index.copy_subset_to(other, faiss.InvertedLists.SUBSET_TYPE_ELEMENT_RANGE, begin, begin + 100)
        assert other.ntotal == other.invlists.compute_ntotal() == 100
        parts.append(np.concatenate([ids for ids, _ in list_contents(faiss, other)]))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(NB))


def test_copy_subset_of_an_unknown_type(faiss):
    index, other = filled(faiss), make(faiss)
    with pytest.raises(RuntimeError):
        index.copy_subset_to(other, 17, 0, 10)
    assert other.ntotal == 0


# --- statistics ----------------------------------------------------------------------------------------------------


def test_statistics_of_searches(faiss):
    index = filled(faiss)
    stats = faiss.cvar.indexIVF_stats
    stats.reset()
    index.search(XQ, 4)
    assert (stats.nq, stats.nlist) == (NQ, 3 * NQ)
    sizes = np.array([index.get_list_size(i) for i in range(NLIST)])
    assert stats.ndis == sizes[index.quantizer.search(XQ, 3)[1]].sum()
    stats.reset()
    assert stats.nq == 0
