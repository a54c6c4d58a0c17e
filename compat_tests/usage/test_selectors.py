"""IDSelector and SearchParameters: how they are made, what they refuse, and the settings that searches take."""

import itertools

import numpy as np
import pytest

NB, D, NLIST = 700, 6, 9
RNG = np.random.RandomState(3)
XB, XQ = (RNG.rand(n, D).astype("float32") for n in (NB, 12))


def flat(faiss):
    index = faiss.IndexFlatL2(D)
    index.add(XB)
    return index


def ivf(faiss, nprobe=NLIST):
    index = faiss.index_factory(D, f"IVF{NLIST},Flat")
    index.cp.min_points_per_centroid = 1
    index.train(XB)
    index.add(XB)
    index.nprobe = nprobe
    return index


def search_with(faiss, name, index, sel, k=4):
    """A search of all vectors that are selected."""
    if name == "flat":
        return index.search(XQ, k, params=faiss.SearchParameters(sel=sel))
    return index.search(XQ, k, params=faiss.SearchParametersIVF(sel=sel, nprobe=NLIST))


def nearest_of(ids, k):
    """The k nearest of some ids, by definition."""
    ids = np.asarray(ids)
    distances = ((XQ[:, None].astype("float64") - XB[ids]) ** 2).sum(-1)
    return ids[distances.argsort(1)[:, :k]]


# sizes


@pytest.mark.parametrize("name", ["flat", "ivf"])
@pytest.mark.parametrize("count", [0, 1, 3, 20, 170, 350, 699, 700])
def test_k_results_come_back_whenever_k_exist(faiss, name, count):
    index = {"flat": flat, "ivf": ivf}[name](faiss)
    ids = np.sort(np.random.RandomState(count).permutation(NB)[:count])
    for k in (1, 4, 25):
        D, I = search_with(faiss, name, index, faiss.IDSelectorBatch(ids), k)
        found = min(k, count)
        np.testing.assert_array_equal(I[:, :found], nearest_of(ids, k)[:, :found])
        assert (I[:, found:] == -1).all()
        assert (D[:, found:] == np.finfo("float32").max).all()


@pytest.mark.parametrize("name", ["flat", "ivf"])
def test_a_single_query_and_none(faiss, name):
    index = {"flat": flat, "ivf": ivf}[name](faiss)
    ids = np.arange(5, NB, 50)
    make = faiss.SearchParameters if name == "flat" else faiss.SearchParametersIVF
    params = make(sel=faiss.IDSelectorArray(ids))
    if name == "ivf":
        params.nprobe = NLIST
    np.testing.assert_array_equal(index.search(XQ[:1], 3, params=params)[1], nearest_of(ids, 3)[:1])
    D, I = index.search(XQ[:0], 3, params=params)
    assert D.shape == I.shape == (0, 3)
    lims, _, I = index.range_search(XQ[:1], 1e9, params=params)
    np.testing.assert_array_equal(np.sort(I), ids)
    lims, _, I = index.range_search(XQ[:0], 1e9, params=params)
    assert (lims.tolist(), len(I)) == ([0], 0)


@pytest.mark.parametrize("name", ["flat", "ivf"])
def test_ids_that_are_not_in_the_index(faiss, name):
    index = {"flat": flat, "ivf": ivf}[name](faiss)
    ids = np.array([-(2**62), -1, 3, 44, NB, NB + 5, 2**40, 2**62])
    for sel in (
        faiss.IDSelectorBatch(ids),
        # a flat index of faiss reads where such an array says, without looking
        faiss.IDSelectorBatch(ids) if (faiss.__name__, name) == ("faiss", "flat") else faiss.IDSelectorArray(ids),
        faiss.IDSelectorAnd(faiss.IDSelectorBatch(ids), faiss.IDSelectorRange(-5, 2**50)),
        faiss.IDSelectorXOr(faiss.IDSelectorBatch(ids[:3]), faiss.IDSelectorBatch(ids[3:])),
    ):
        _, I = search_with(faiss, name, index, sel)
        np.testing.assert_array_equal(np.sort(I, 1), np.tile([-1, -1, 3, 44], (len(XQ), 1)))
        assert [sel.is_member(int(i)) for i in (3, 44, 45, 43, 0)] == [True, True, False, False, False]


def test_vectors_under_ids_of_their_own(faiss):
    index = faiss.index_factory(D, f"IVF{NLIST},Flat")
    index.cp.min_points_per_centroid = 1
    index.train(XB)
    ids = np.random.RandomState(1).permutation(NB).astype("int64") * 10**12 - 5
    index.add_with_ids(XB, ids)
    chosen = ids[::7]
    for sel in (faiss.IDSelectorBatch(chosen), faiss.IDSelectorArray(chosen)):
        params = faiss.SearchParametersIVF(sel=sel, nprobe=NLIST)
        _, I = index.search(XQ, 4, params=params)
        np.testing.assert_array_equal(I, ids[nearest_of(np.arange(0, NB, 7), 4)])
    params = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(10**12, 2 * 10**14), nprobe=NLIST)
    _, I = index.search(XQ, 4, params=params)
    inside = np.flatnonzero((ids >= 10**12) & (ids < 2 * 10**14))
    np.testing.assert_array_equal(I, ids[nearest_of(inside, 4)])


# making selectors


def test_is_member(faiss):
    bits = np.packbits(np.arange(20) % 2 == 1, bitorder="little")
    bitmap = faiss.IDSelectorBitmap(bits)
    assert [bitmap.is_member(i) for i in (0, 1, 5, 19, 25, -1, 1000)] == [False, True, True, True] + 3 * [False]
    pointed = faiss.IDSelectorBitmap(2, faiss.swig_ptr(bits))
    assert [pointed.is_member(i) for i in (1, 15, 17)] == [True, True, False]
    assert faiss.IDSelectorNot(bitmap).is_member(25)
    half_open = faiss.IDSelectorRange(-3, 5)
    assert [half_open.is_member(i) for i in (-4, -3, 4, 5)] == [False, True, True, False]
    assert not faiss.IDSelectorRange(5, 3).is_member(4)
    assert faiss.IDSelectorAll().is_member(-9)


def test_a_batch_keeps_its_ids_and_an_array_stays_the_callers(faiss):
    for kind, after in (("IDSelectorBatch", [True, False]), ("IDSelectorArray", [False, True])):
        ids = np.array([1, 2, 3])
        sel = getattr(faiss, kind)(ids)
        assert [sel.is_member(1), sel.is_member(7)] == [True, False]
        ids[:] = 7
        assert [sel.is_member(1), sel.is_member(7)] == after
    bits = np.array([2], dtype="uint8")
    sel = faiss.IDSelectorBitmap(bits)
    bits[0] = 4
    assert [sel.is_member(1), sel.is_member(2)] == [False, True]


@pytest.mark.parametrize("kind", ["IDSelectorBatch", "IDSelectorArray"])
def test_wrong_arguments_of_listed_ids(faiss, kind):
    cls = getattr(faiss, kind)
    ids = np.arange(10)
    for wrong in ((), (None,), (10, ids), (10, faiss.swig_ptr(ids.astype("int32"))), (10, ids, 3)):
        with pytest.raises(TypeError):
            cls(*wrong)
    with pytest.raises(ValueError, match="invalid literal"):
        cls("abc")
    with pytest.raises(OverflowError):
        cls(-1, faiss.swig_ptr(ids))


def test_wrong_arguments_of_the_others(faiss):
    with pytest.raises(ValueError, match="array"):
        faiss.IDSelectorBitmap([1, 2])
    for dtype in ("int64", "bool"):
        with pytest.raises(TypeError):
            faiss.IDSelectorBitmap(np.ones(3, dtype))
    for wrong in (("a", 3), (1.5, 3)):
        with pytest.raises(TypeError):
            faiss.IDSelectorRange(*wrong)
    with pytest.raises(TypeError):
        faiss.IDSelectorNot("a")
    for kind in ("IDSelectorAnd", "IDSelectorOr", "IDSelectorXOr"):
        with pytest.raises(TypeError):
            getattr(faiss, kind)(faiss.IDSelectorAll(), np.arange(3))
    with pytest.raises(TypeError):
        faiss.IDSelectorAll().is_member("a")


def test_a_selector_of_none_is_refused(ours):
    """faiss takes it and crashes at the search."""
    with pytest.raises(TypeError, match="IDSelectorNot: expected an IDSelector, got NoneType"):
        ours.IDSelectorNot(None)
    with pytest.raises(TypeError, match="IDSelectorOr: expected an IDSelector, got NoneType"):
        ours.IDSelectorOr(None, ours.IDSelectorAll())


# search parameters


def test_wrong_settings(faiss):
    for wrong in ("a", np.arange(3), [1]):
        with pytest.raises(TypeError):
            faiss.SearchParameters(sel=wrong)
        params = faiss.SearchParametersIVF()
        with pytest.raises(TypeError):
            params.sel = wrong
        assert params.sel is None
    for wrong in ("3", 3.0, None):
        with pytest.raises(TypeError):
            faiss.SearchParametersIVF(nprobe=wrong)
    with pytest.raises(OverflowError):
        faiss.SearchParametersIVF(nprobe=-3)
    with pytest.raises(TypeError):
        faiss.SearchParametersIVF(quantizer_params="a")
    with pytest.raises(AssertionError):
        faiss.SearchParameters(nprobe=3)
    assert faiss.SearchParametersIVF(sel=None, quantizer_params=None, inverted_list_context=None).nprobe == 1


@pytest.mark.parametrize("name", ["flat", "ivf"])
def test_what_is_no_search_parameters(faiss, name):
    index = {"flat": flat, "ivf": ivf}[name](faiss)
    for wrong in (faiss.IDSelectorAll(), "a"):
        with pytest.raises(TypeError):
            index.search(XQ, 3, params=wrong)
        with pytest.raises(TypeError):
            index.range_search(XQ, 3, params=wrong)


def test_flat_takes_any_parameters_and_ivf_only_its_own(faiss):
    sel = faiss.IDSelectorRange(10, 20)
    _, I = flat(faiss).search(XQ, 3, params=faiss.SearchParametersIVF(sel=sel))
    np.testing.assert_array_equal(I, nearest_of(np.arange(10, 20), 3))
    index = ivf(faiss)
    for call in (index.search, index.range_search):
        with pytest.raises(RuntimeError):
            call(XQ, 3, params=faiss.SearchParameters(sel=sel))


def test_a_list_context_is_refused_by_lists_that_read_none(ours):
    with pytest.raises(RuntimeError, match="inverted_list_context"):
        ivf(ours).search(XQ, 1, params=ours.SearchParametersIVF(inverted_list_context=object()))


def test_parameters_reach_the_quantizer(faiss):
    index = ivf(faiss)
    only = faiss.SearchParameters(sel=faiss.IDSelectorRange(2, 3))
    params = faiss.SearchParametersIVF(nprobe=NLIST, quantizer_params=only)
    _, I = index.search(XQ, 300, params=params)
    n = index.invlists.list_size(2)
    members = faiss.rev_swig_ptr(index.invlists.get_ids(2), n)
    for row in I:
        assert sorted(row[row >= 0].tolist()) == sorted(members.tolist())
    lims, _, I = index.range_search(XQ, 1e9, params=params)
    assert np.diff(lims.astype("int64")).tolist() == [n] * len(XQ)


def test_preassigned_searches_take_no_parameters(faiss):
    index = ivf(faiss)
    lists = np.tile(np.arange(NLIST), (len(XQ), 1))
    distances = np.zeros(lists.shape, "float32")
    params = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(0, 9), nprobe=NLIST)
    with pytest.raises(AssertionError):
        index.search_preassigned(XQ, 3, lists, distances, params=params)
    with pytest.raises(AssertionError):
        index.range_search_preassigned(XQ, 3.0, lists, distances, params=params)


@pytest.mark.parametrize("share", [0, 0.02, 0.2, 0.5, 0.9, 1])
def test_max_codes_counts_what_is_selected(ours, reference, share):
    theirs = ivf(reference)
    mine = ours.deserialize_index(reference.serialize_index(theirs))
    ids = np.random.RandomState(5).permutation(NB)[: int(share * NB)]
    for mode in ("matrix", "csr"):
        mine.search_mode = mode
        for settings in itertools.product((0, 1, 5, 60, 300), (False, True), (1, 4, NLIST)):
            found = []
            for module, index in ((ours, mine), (reference, theirs)):
                params = module.SearchParametersIVF(sel=module.IDSelectorBatch(ids))
                params.max_codes, params.ensure_topk_full, params.nprobe = settings
                stats = module.cvar.indexIVF_stats
                stats.reset()
                _, I = index.search(XQ, 7, params=params)
                found.append((I.tolist(), stats.nq, stats.ndis, stats.nlist))
            assert found[0] == found[1], (mode, settings)


# max_empty_result_buckets


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9, 50])
@pytest.mark.parametrize("radius", [0.02, 0.1, 0.25])
def test_range_search_gives_up_after_lists_without_results(faiss, reference, limit, radius):
    def found(module, **settings):
        params = module.SearchParametersIVF(nprobe=NLIST, max_empty_result_buckets=limit, **settings)
        return ivf(module).range_search(XQ, radius, params=params)

    for settings in ({}, {"sel": (100, 200)}, {"sel": (0, 600)}):
        mine, theirs = (
            found(module, **{name: module.IDSelectorRange(*ids) for name, ids in settings.items()})
            for module in (faiss, reference)
        )
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[2], theirs[2])
        np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["matrix", "csr"])
def test_giving_up_on_both_paths(ours, reference, mode):
    fewer = 0
    for limit in (1, 2, 3):

        def params_of(module, limit=limit):
            sel = module.IDSelectorBatch(np.arange(0, NB, 40))
            return module.SearchParametersIVF(nprobe=NLIST, max_empty_result_buckets=limit, sel=sel)

        index, params = ivf(ours), params_of(ours)
        index.search_mode = mode
        lims, _, I = index.range_search(XQ, 0.6, params=params)
        expected = ivf(reference).range_search(XQ, 0.6, params=params_of(reference))
        np.testing.assert_array_equal(lims, expected[0])
        np.testing.assert_array_equal(I, expected[2])
        params.max_empty_result_buckets = 0
        fewer += len(index.range_search(XQ, 0.6, params=params)[2]) - len(I)
    assert fewer > 0


def test_giving_up_needs_parallel_mode_0(faiss):
    index = ivf(faiss)
    params = faiss.SearchParametersIVF(nprobe=NLIST, max_empty_result_buckets=1)
    index.parallel_mode = 1
    with pytest.raises(RuntimeError):
        index.range_search(XQ, 0.1, params=params)
    index.search(XQ, 1, params=params)  # which does not read it
