"""IndexIDMap and IndexIDMap2: ids of the caller's around an index that counts its vectors."""

import copy
import pickle

import numpy as np
import pytest
from comparison import FLT_MAX, assert_same_neighbours, assert_same_ranges, neighbours

D = 7
NB = 203


def vectors(n, seed=1, d=D):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(NB), vectors(9, seed=2)
#: Neither in order nor positive throughout.
IDS = np.random.RandomState(3).permutation(NB) * 10**10 - 7


def flat(faiss):
    return faiss.IndexFlatL2(D)


def ivf(faiss):
    index = faiss.index_factory(D, "IVF6,Flat")
    index.cp.min_points_per_centroid = 1
    index.train(XB)
    index.nprobe = 6
    return index


WRAPPED = pytest.mark.parametrize("make", [flat, ivf], ids=["flat", "ivf"])
KINDS = pytest.mark.parametrize("kind", ["IndexIDMap", "IndexIDMap2"])


def filled(faiss, make=flat, kind="IndexIDMap2"):
    index = getattr(faiss, kind)(make(faiss))
    index.add_with_ids(XB, IDS)
    return index


def expected(k, chosen=None):
    """The neighbours among the chosen rows (default all), with their ids."""
    rows = np.arange(NB) if chosen is None else np.flatnonzero(chosen)
    found_D, I = neighbours(XQ, XB[rows], k)
    return found_D, np.where(I < 0, -1, IDS[rows][I])


def parameters(faiss, make, **settings):
    return faiss.SearchParameters(**settings) if make is flat else faiss.SearchParametersIVF(nprobe=6, **settings)


# --- adding and searching ------------------------------------------------------------------------------------------


@WRAPPED
@KINDS
def test_search_returns_the_ids_that_were_given(faiss, make, kind):
    index = filled(faiss, make, kind)
    assert (index.ntotal, index.index.ntotal, index.d) == (NB, NB, D)
    assert_same_neighbours(*index.search(XQ, 5), *expected(5))
    np.testing.assert_array_equal(index.assign(XQ, 3), expected(3)[1])
    found_D, I = index.search(XQ, NB + 2)
    assert (I[:, NB:] == -1).all()
    assert (found_D[:, NB:] == np.float32(FLT_MAX)).all()


@WRAPPED
def test_range_search_returns_the_ids_that_were_given(faiss, make):
    index = filled(faiss, make)
    lims, found_D, I = index.range_search(XQ, 0.5)
    nearest_D, nearest_I = expected(NB)
    inside = nearest_D < 0.5
    lims_expected = np.concatenate([[0], inside.sum(1).cumsum()])
    assert_same_ranges((lims, found_D, I), (lims_expected, nearest_D[inside], nearest_I[inside]))


@KINDS
def test_what_is_empty(faiss, kind):
    index = getattr(faiss, kind)(flat(faiss))
    assert (index.ntotal, index.id_map.size()) == (0, 0)
    assert (index.search(XQ, 2)[1] == -1).all()
    assert index.range_search(XQ, 1.0)[2].shape == (0,)
    index.add_with_ids(XB[:0], IDS[:0])
    assert index.search(XQ[:0], 2)[1].shape == (0, 2)
    assert index.remove_ids(np.array([3])) == 0


def test_ids_of_other_dtypes_are_cast(faiss):
    index = faiss.IndexIDMap(flat(faiss))
    index.add_with_ids(XB[:3], np.array([3, 1, 2], dtype="int32"))
    index.add_with_ids(XB[3:5], np.array([4.0, 9.0]))
    np.testing.assert_array_equal(faiss.vector_to_array(index.id_map), [3, 1, 2, 4, 9])


def test_id_map(faiss):
    index = faiss.IndexIDMap(flat(faiss))
    for begin in range(0, NB, 31):
        index.add_with_ids(XB[begin : begin + 31], IDS[begin : begin + 31])
    assert index.id_map.size() == NB
    assert index.id_map.at(17) == IDS[17]
    np.testing.assert_array_equal(faiss.vector_to_array(index.id_map), IDS)


@WRAPPED
def test_add_has_no_meaning(faiss, make):
    index = faiss.IndexIDMap(make(faiss))
    with pytest.raises(RuntimeError, match="add_with_ids"):
        index.add(XB)
    assert (index.ntotal, index.index.ntotal) == (0, 0)


def test_as_many_ids_as_vectors(faiss):
    index = filled(faiss)
    with pytest.raises(AssertionError, match="not same nb of vectors as ids"):
        index.add_with_ids(XB, IDS[:-1])
    with pytest.raises(AttributeError):
        index.add_with_ids(XB, IDS.tolist())
    with pytest.raises(AssertionError):
        index.add_with_ids(vectors(3, d=D + 1), IDS[:3])
    assert (index.ntotal, index.id_map.size()) == (NB, NB)


def test_training_goes_to_the_wrapped_index(faiss):
    inner = faiss.index_factory(D, "IVF6,Flat")
    index = faiss.IndexIDMap(inner)
    assert not index.is_trained
    with pytest.raises(RuntimeError):
        index.add_with_ids(XB, IDS)
    assert (index.ntotal, index.id_map.size()) == (0, 0)
    index.train(XB)
    assert index.is_trained
    assert inner.is_trained
    index.add_with_ids(XB, IDS)
    assert index.ntotal == NB


def test_an_index_that_was_trained_behind_the_wrapper(faiss):
    inner = faiss.index_factory(D, "IVF6,Flat")
    index = faiss.IndexIDMap(inner)
    inner.train(XB)
    index.add_with_ids(XB, IDS)
    assert index.ntotal == NB


def test_attributes_are_those_of_the_wrapped_index(faiss):
    inner = faiss.IndexFlatIP(D)
    inner.verbose = True
    index = faiss.IndexIDMap(inner)
    assert (index.d, index.metric_type, index.verbose) == (D, faiss.METRIC_INNER_PRODUCT, True)
    assert index.own_fields is False
    assert isinstance(faiss.IndexIDMap2(flat(faiss)), faiss.IndexIDMap)
    assert type(faiss.downcast_index(index.index)) is type(inner)
    with pytest.raises(AttributeError):
        index.nprobe = 3


@KINDS
def test_what_cannot_be_wrapped(faiss, kind):
    full = flat(faiss)
    full.add(XB)
    with pytest.raises(RuntimeError, match="must be empty"):
        getattr(faiss, kind)(full)
    with pytest.raises(TypeError):
        getattr(faiss, kind)(XB)


@KINDS
def test_reset(faiss, kind):
    index = filled(faiss, kind=kind)
    index.reset()
    assert (index.ntotal, index.index.ntotal, index.id_map.size()) == (0, 0, 0)
    index.add_with_ids(XB[:9], IDS[:9])
    assert set(index.search(XQ, 9)[1].ravel()) == set(IDS[:9])


# --- selectors -----------------------------------------------------------------------------------------------------


@WRAPPED
def test_a_selector_is_about_the_ids_that_were_given(faiss, make):
    index = filled(faiss, make)
    chosen = np.arange(NB) % 3 == 1
    for selector in (faiss.IDSelectorBatch(IDS[chosen]), faiss.IDSelectorNot(faiss.IDSelectorBatch(IDS[~chosen]))):
        params = parameters(faiss, make, sel=selector)
        assert_same_neighbours(*index.search(XQ, 80, params=params), *expected(80, chosen))
        lims, found_D, I = index.range_search(XQ, 0.4, params=params)
        nearest_D, nearest_I = expected(NB, chosen)
        inside = nearest_D < 0.4
        assert_same_ranges(
            (lims, found_D, I), (np.concatenate([[0], inside.sum(1).cumsum()]), nearest_D[inside], nearest_I[inside])
        )


def test_a_selector_of_a_range_of_ids(faiss):
    index = filled(faiss)
    low, high = sorted(IDS)[20], sorted(IDS)[90]
    params = faiss.SearchParameters(sel=faiss.IDSelectorRange(int(low), int(high)))
    assert_same_neighbours(*index.search(XQ, 30, params=params), *expected(30, (IDS >= low) & (IDS < high)))


def test_a_selector_of_nothing(faiss):
    found_D, I = filled(faiss).search(XQ, 3, params=faiss.SearchParameters(sel=faiss.IDSelectorRange(1, 2)))
    assert (I == -1).all()
    assert (found_D == np.float32(FLT_MAX)).all()


@WRAPPED
def test_the_callers_settings_stay_as_they_are(faiss, make):
    index = filled(faiss, make)
    selector = faiss.IDSelectorBatch(IDS[:50])
    params = parameters(faiss, make, sel=selector)
    first = index.search(XQ, 4, params=params)
    second = index.search(XQ, 4, params=params)
    np.testing.assert_array_equal(first[1], second[1])
    assert params.sel.is_member(int(IDS[0]))
    assert not params.sel.is_member(int(IDS[60]))


def test_nprobe_reaches_through(faiss):
    index = filled(faiss, ivf)
    faiss.extract_index_ivf(index).nprobe = 1
    few = index.search(XQ, NB)[1]
    many = index.search(XQ, NB, params=faiss.SearchParametersIVF(nprobe=6))[1]
    assert (few == -1).any()
    assert (many >= -7).all()
    assert (many == -1).sum() == 0
    with pytest.raises(RuntimeError):
        index.search(XQ, 2, params=faiss.SearchParameters(sel=faiss.IDSelectorBatch(IDS[:5])))


def test_a_selector_that_is_translated_already(faiss):
    index = filled(faiss)
    selector = faiss.IDSelectorTranslated(index, faiss.IDSelectorBatch(IDS[:40]))
    assert selector.is_member(39)
    assert not selector.is_member(40)
    params = faiss.SearchParameters(sel=selector)
    assert_same_neighbours(*index.search(XQ, 50, params=params), *expected(50, np.arange(NB) < 40))
    by_vector = faiss.IDSelectorTranslated(index.id_map, faiss.IDSelectorBatch(IDS[:40]))
    _, rows = index.index.search(XQ, 5, params=faiss.SearchParameters(sel=by_vector))
    assert rows.max() < 40
    np.testing.assert_array_equal(IDS[rows], expected(5, np.arange(NB) < 40)[1])


def test_a_selector_around_maps(ours):
    """Each map translates; faiss stops at the first one."""
    index = filled(ours, lambda ours: around_shards(ours, lambda ours: ours.IndexIDMap(flat(ours))))
    chosen = np.arange(NB) % 3 == 1
    params = ours.SearchParameters(sel=ours.IDSelectorBatch(IDS[chosen]))
    assert_same_neighbours(*index.search(XQ, 80, params=params), *expected(80, chosen))


def test_what_cannot_be_translated(faiss):
    with pytest.raises(TypeError):
        faiss.IDSelectorTranslated(IDS, faiss.IDSelectorAll())
    with pytest.raises(TypeError):
        faiss.IDSelectorTranslated(filled(faiss), IDS)


def test_positions_outside_an_id_map_are_not_selected(ours):
    selector = ours.IDSelectorTranslated(ours.Int64Vector(np.array([5, 6])), ours.IDSelectorAll())
    assert [selector.is_member(i) for i in (-1, 0, 1, 2)] == [False, True, True, False]
    nothing = ours.IDSelectorTranslated(ours.Int64Vector(), ours.IDSelectorAll())
    assert not nothing.is_member(0)


# --- removing ------------------------------------------------------------------------------------------------------


@KINDS
def test_remove_ids(faiss, kind):
    index = filled(faiss, kind=kind)
    gone = np.arange(NB) % 4 == 0
    assert index.remove_ids(np.concatenate([IDS[gone], [12345]])) == gone.sum()
    assert (index.ntotal, index.index.ntotal) == ((~gone).sum(), (~gone).sum())
    np.testing.assert_array_equal(faiss.vector_to_array(index.id_map), IDS[~gone])
    assert_same_neighbours(*index.search(XQ, 6), *expected(6, ~gone))
    assert index.remove_ids(faiss.IDSelectorRange(0, 10**12)) == ((IDS[~gone] >= 0) & (IDS[~gone] < 10**12)).sum()
    with pytest.raises(AttributeError):
        index.remove_ids([1, 2])


def test_an_inverted_file_goes_on_after_a_removal(ours):
    """faiss leaves its numbers with gaps, so that its results have other ids from then on."""
    index = filled(ours, ivf)
    gone = np.arange(NB) % 4 == 0
    assert index.remove_ids(IDS[gone]) == gone.sum()
    assert_same_neighbours(*index.search(XQ, 6), *expected(6, ~gone))
    index.add_with_ids(XB[gone], IDS[gone])
    assert index.ntotal == index.index.ntotal == NB
    assert_same_neighbours(*index.search(XQ, 6), *expected(6))


def test_a_file_that_faiss_wrote_after_a_removal(reference, ours):
    """Vectors whose number has no id stay there, as in faiss; the others keep theirs through the next removal."""
    theirs = filled(reference, ivf, "IndexIDMap")
    theirs.remove_ids(IDS[:40])
    index = ours.deserialize_index(reference.serialize_index(theirs))
    ours.extract_index_ivf(index).nprobe = 6
    before = index.search(XB, 1)[1][:, 0]
    assert (before[-40:] == -1).all()
    gone = before[60]
    assert index.remove_ids(np.array([gone])) == 1
    assert index.ntotal == index.index.ntotal == index.id_map.size() == NB - 41
    after = index.search(XB[40:], 1)[1][:, 0]
    np.testing.assert_array_equal(np.delete(after, 20), np.delete(before[40:], 20))


def around_shards(ours, make_shard):
    shards = ours.IndexShards(D, True, False)
    for _ in range(3):
        shards.add_shard(make_shard(ours))
    return shards


def around_replicas(ours, make_replica):
    replicas = ours.IndexReplicas(D)
    for _ in range(2):
        replicas.add_replica(make_replica(ours))
    return replicas


@pytest.mark.parametrize(
    "make",
    [
        lambda ours: around_shards(ours, ivf),
        lambda ours: around_shards(ours, lambda ours: ours.IndexIDMap(flat(ours))),
        lambda ours: around_replicas(ours, ivf),
        lambda ours: around_replicas(ours, flat),
    ],
    ids=["shards of ivf", "shards of maps", "replicas of ivf", "replicas of flat"],
)
def test_removing_and_adding_around_several_indexes(ours, make):
    index = filled(ours, make)
    gone = np.arange(NB) % 4 == 0
    assert index.remove_ids(IDS[gone]) == gone.sum()
    assert_same_neighbours(*index.search(XQ, 6), *expected(6, ~gone))
    index.add_with_ids(XB[gone], IDS[gone])
    assert index.ntotal == index.index.ntotal == NB
    assert_same_neighbours(*index.search(XQ, 6), *expected(6))


@pytest.mark.parametrize(
    "make",
    [ivf, lambda ours: around_shards(ours, ivf), lambda ours: around_replicas(ours, ivf)],
    ids=["ivf", "shards of ivf", "replicas of ivf"],
)
def test_vectors_that_are_in_no_list_are_removed_too(ours, make):
    xb = XB.copy()
    xb[[3, 8, 200]] = np.nan
    index = ours.IndexIDMap2(make(ours))
    index.add_with_ids(xb, IDS)
    assert index.remove_ids(IDS[[3, 4, 200]]) == 3
    assert index.ntotal == index.index.ntotal == NB - 3
    index.add_with_ids(XB[:1] + 9, np.array([99]))
    assert index.search(XB[:1] + 9, 1)[1] == 99
    index.check_consistency()


@pytest.mark.parametrize("kind", ["IndexShards", "IndexReplicas"])
def test_an_addition_that_fails_in_one_of_several_indexes(ours, monkeypatch, kind):
    """What the others took in is taken back, and each id stands for its vector afterwards."""
    around, members = getattr(ours, kind)(D), [ivf(ours), ivf(ours)]
    if kind == "IndexShards":
        around.successive_ids = False
    for member in members:
        around.addIndex(member)
    index = ours.IndexIDMap2(around)
    index.add_with_ids(XB[:50], IDS[:50])

    def no_room(*arguments):
        raise RuntimeError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(members[1], "_add", no_room)
        with pytest.raises(RuntimeError, match=r"^no room$"):
            index.add_with_ids(XB[50:90], IDS[50:90])
    assert index.ntotal == around.ntotal == index.id_map.size() == 50
    index.add_with_ids(XB[90:], IDS[90:])
    kept = np.r_[:50, 90:NB]
    np.testing.assert_array_equal(index.search(XB[kept], 1)[1][:, 0], IDS[kept])
    index.check_consistency()


def test_equal_vectors_that_are_stored_once(ours):
    quantizer = ours.IndexFlatL2(D)
    index = ours.IndexIDMap(ours.IndexIVFFlatDedup(quantizer, D, 4))
    index.index.cp.min_points_per_centroid = 1
    index.train(XB)
    index.index.nprobe = 4
    index.add_with_ids(np.concatenate([XB[:5]] * 3), np.arange(15) + 100)
    index.remove_ids(np.array([100, 103, 107]))
    found = index.search(XB[:3], 2)[1]
    assert [set(row) for row in found] == [{105, 110}, {101, 106}, {102, 112}]


def test_a_removal_that_is_refused_changes_nothing(faiss):
    inner = ivf(faiss)
    inner.set_direct_map_type(faiss.DirectMap.Hashtable)
    index = faiss.IndexIDMap(inner)
    index.add_with_ids(XB, IDS)
    with pytest.raises(RuntimeError):
        index.remove_ids(IDS[:3])
    assert (index.ntotal, inner.ntotal, index.id_map.size()) == (NB, NB, NB)
    assert_same_neighbours(*index.search(XQ, 3), *expected(3))


# --- reading back --------------------------------------------------------------------------------------------------


def test_reconstruct(faiss):
    index = filled(faiss)
    np.testing.assert_array_equal(index.reconstruct(int(IDS[11])), XB[11])
    np.testing.assert_array_equal(index.reconstruct_batch(IDS[[3, 100, 3]]), XB[[3, 100, 3]])
    with pytest.raises(RuntimeError, match="not found"):
        index.reconstruct(1234)
    index.remove_ids(IDS[:10])
    np.testing.assert_array_equal(index.reconstruct(int(IDS[11])), XB[11])
    with pytest.raises(RuntimeError, match="not found"):
        index.reconstruct(int(IDS[4]))


def test_reconstruct_n_is_about_ids(faiss):
    index = faiss.IndexIDMap2(flat(faiss))
    index.add_with_ids(XB[:6], np.array([500, 502, 501, 9, 503, -4]))
    np.testing.assert_array_equal(index.reconstruct_n(500, 4), XB[[0, 2, 1, 4]])
    assert index.reconstruct_n(3, 0).shape == (0, D)


def test_reconstruct_n_with_missing_ids(ours):
    """faiss ends the process."""
    index = filled(ours)
    with pytest.raises(RuntimeError, match="not found"):
        index.reconstruct_n(0, 2)
    with pytest.raises(RuntimeError, match="cannot give"):
        index.reconstruct_n(500, -2)


def test_the_vectors_of_results(faiss):
    index = filled(faiss)
    found_D, I, recons = index.search_and_reconstruct(XQ, 4)
    assert_same_neighbours(found_D, I, *expected(4))
    rows = {int(each): row for row, each in enumerate(IDS)}
    np.testing.assert_array_equal(recons, XB[[[rows[each] for each in line] for line in I.tolist()]])


def test_the_vectors_of_results_of_an_inverted_file_without_a_direct_map(ours):
    """faiss wants a direct map for that."""
    index = filled(ours, ivf)
    params = ours.SearchParametersIVF(nprobe=6, sel=ours.IDSelectorBatch(IDS[:30]))
    found_D, I, recons = index.search_and_reconstruct(XQ, 40, params=params)
    assert_same_neighbours(found_D, I, *expected(40, np.arange(NB) < 30))
    assert np.isnan(recons[:, 30:]).all()
    np.testing.assert_allclose(((recons[:, :30] - XQ[:, None]) ** 2).sum(2), found_D[:, :30], rtol=1e-5)


def test_only_the_second_kind_finds_vectors(faiss):
    index = filled(faiss, kind="IndexIDMap")
    with pytest.raises(RuntimeError):
        index.reconstruct(int(IDS[0]))
    with pytest.raises(AttributeError):
        index.construct_rev_map()


def test_only_the_second_kind_finds_the_vectors_of_results(ours):
    """faiss ends the process."""
    with pytest.raises(RuntimeError, match="reconstruct is not implemented for IndexIDMap"):
        filled(ours, kind="IndexIDMap").search_and_reconstruct(XQ, 2)


def test_consistency(faiss):
    index = filled(faiss)
    index.check_consistency()
    faiss.copy_array_to_vector(IDS[::-1].copy(), index.id_map)
    with pytest.raises(RuntimeError):
        index.check_consistency()
    index.construct_rev_map()
    index.check_consistency()
    np.testing.assert_array_equal(index.reconstruct(int(IDS[0])), XB[NB - 1])
    index.add_with_ids(XB[:1], IDS[:1])
    with pytest.raises(RuntimeError):
        index.check_consistency()
    np.testing.assert_array_equal(index.reconstruct(int(IDS[0])), XB[0])


def test_what_is_inconsistent_is_named(ours):
    index = filled(ours)
    index.add_with_ids(XB[:1], IDS[:1])
    with pytest.raises(RuntimeError, match=f"{NB + 1} ids, of which only {NB} are different"):
        index.check_consistency()
    index.id_map.resize(5)
    with pytest.raises(RuntimeError, match=f"5 ids, the index {NB + 1} vectors"):
        index.check_consistency()
    other = filled(ours)
    assert other.rev_map[int(IDS[5])] == 5
    other.id_map[:] = IDS[::-1]
    with pytest.raises(RuntimeError, match="construct_rev_map"):
        other.check_consistency()


# --- merging, codes, copies ----------------------------------------------------------------------------------------


@KINDS
def test_merge_from(faiss, kind):
    one, other = (getattr(faiss, kind)(flat(faiss)) for _ in range(2))
    one.add_with_ids(XB[:90], IDS[:90])
    other.add_with_ids(XB[90:], IDS[90:] - 1000)
    one.check_compatible_for_merge(other)
    one.merge_from(other, 1000)
    assert (one.ntotal, other.ntotal, other.index.ntotal, other.id_map.size()) == (NB, 0, 0, 0)
    assert_same_neighbours(*one.search(XQ, 5), *expected(5))
    if kind == "IndexIDMap2":
        np.testing.assert_array_equal(one.reconstruct(int(IDS[150])), XB[150])


def test_merging_inverted_files(ours):
    """faiss lets the numbers of both begin at 0, so that it finds the ids of the first for vectors of the second."""
    inner = ivf(ours)
    one, other = ours.IndexIDMap2(inner), ours.IndexIDMap2(ours.clone_index(inner))
    one.add_with_ids(XB[:90], IDS[:90])
    other.add_with_ids(XB[90:], IDS[90:])
    one.merge_from(other)
    assert_same_neighbours(*one.search(XQ, 5), *expected(5))


def test_what_cannot_be_merged(faiss):
    index = filled(faiss)
    inner = faiss.IndexFlatIP(D)
    for other in (flat(faiss), faiss.IndexIDMap(inner), faiss.IndexIDMap(faiss.IndexFlatL2(D + 1))):
        with pytest.raises(RuntimeError):
            index.check_compatible_for_merge(other)
        with pytest.raises(RuntimeError):
            index.merge_from(other)
    assert index.ntotal == NB


@KINDS
def test_codes_with_ids(faiss, kind):
    index = getattr(faiss, kind)(flat(faiss))
    assert index.sa_code_size() == 4 * D
    index.add_sa_codes(XB.view("uint8"), IDS)
    assert index.ntotal == NB
    assert_same_neighbours(*index.search(XQ, 5), *expected(5))
    if kind == "IndexIDMap2":
        np.testing.assert_array_equal(index.reconstruct(int(IDS[150])), XB[150])


def test_codes_of_the_wrapped_index(ours):
    index = ours.IndexIDMap(flat(ours))
    codes = index.sa_encode(XQ)
    np.testing.assert_array_equal(index.sa_decode(codes), XQ)
    with pytest.raises(RuntimeError, match="needs ids"):
        index.add_sa_codes(codes)
    assert index.ntotal == 0


@WRAPPED
@KINDS
@pytest.mark.parametrize("way", ["clone_index", "pickle", "deepcopy", "serialize"])
def test_copies(faiss, make, kind, way):
    index = filled(faiss, make, kind)
    ways = {
        "clone_index": faiss.clone_index,
        "pickle": lambda given: pickle.loads(pickle.dumps(given)),
        "deepcopy": copy.deepcopy,
        "serialize": lambda given: faiss.deserialize_index(faiss.serialize_index(given)),
    }
    other = ways[way](index)
    assert type(other) is type(index)
    index.reset()
    faiss.downcast_index(other.index)
    other.add_with_ids(XB[:1] + 5, np.array([77]))
    assert other.search(XB[:1] + 5, 1)[1] == 77
    assert_same_neighbours(*other.search(XQ, 5), *expected(5))
    if kind == "IndexIDMap2" and make is flat:
        np.testing.assert_array_equal(other.reconstruct(int(IDS[3])), XB[3])


# --- functions that look inside ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("IDMap,Flat", ["IndexIDMap", "IndexFlat"]),
        ("IDMap2,Flat", ["IndexIDMap2", "IndexFlat"]),
        ("Flat,IDMap", ["IndexIDMap", "IndexFlat"]),
        ("IDMap,IVF16,Flat", ["IndexIDMap", "IndexIVFFlat"]),
        ("IVF16,Flat,IDMap2", ["IndexIDMap2", "IndexIVFFlat"]),
        ("IVF4(Flat),Flat,IDMap", ["IndexIDMap", "IndexIVFFlat"]),
        ("IDMap,Flat,IDMap2", ["IndexIDMap2", "IndexIDMap", "IndexFlat"]),
        ("Flat,IDMap2,IDMap", ["IndexIDMap", "IndexIDMap2", "IndexFlat"]),
        ("IVF4(IDMap,Flat),Flat", ["IndexIVFFlat"]),
    ],
)
def test_descriptions(faiss, text, classes):
    outer = faiss.index_factory(D, text, faiss.METRIC_INNER_PRODUCT)
    indexes = [outer]
    while hasattr(indexes[-1], "index"):
        assert indexes[-1].own_fields
        assert indexes[-1].metric_type == faiss.METRIC_INNER_PRODUCT
        indexes.append(faiss.downcast_index(indexes[-1].index))
    assert [type(index).__name__ for index in indexes] == classes
    if "(IDMap" in text:
        assert type(faiss.downcast_index(outer.quantizer)) is faiss.IndexIDMap


@pytest.mark.parametrize("text", ["IDMap", "IDMap,", ",IDMap", "IDMap3,Flat"])
def test_descriptions_that_are_not_understood(faiss, text):
    with pytest.raises(RuntimeError, match="could not parse index string"):
        faiss.index_factory(D, text)


def test_the_description_of_an_index(ours):
    from faiss_torch.contrib.factory_tools import reverse_index_factory

    for text in ("IDMap,Flat", "IDMap2,IVF16,Flat"):
        assert ours.reverse_index_factory(ours.index_factory(D, text)) == text
        assert reverse_index_factory(ours.index_factory(D, text)) == text


def test_functions_reach_through(faiss):
    index = filled(faiss, ivf)
    assert faiss.downcast_index(faiss.extract_index_ivf(index)).nlist == 6
    assert faiss.try_extract_index_ivf(filled(faiss)) is None
    with pytest.raises(RuntimeError):
        faiss.extract_index_ivf(filled(faiss))
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", 3)
    assert faiss.extract_index_ivf(index).nprobe == 3
    faiss.ParameterSpace().set_index_parameters(index, "nprobe=4")
    assert faiss.extract_index_ivf(index).nprobe == 4
    with pytest.raises(RuntimeError):
        faiss.ParameterSpace().set_index_parameter(filled(faiss), "nprobe", 3)


# --- torch, and broken objects -------------------------------------------------------------------------------------


def test_tensors_in_and_out(ours):
    import torch

    index = ours.IndexIDMap2(flat(ours))
    index.add_with_ids(torch.from_numpy(XB), torch.from_numpy(IDS))
    found_D, I = index.search(torch.from_numpy(XQ), 4)
    assert isinstance(I, torch.Tensor)
    assert_same_neighbours(found_D, I, *expected(4))
    recons = index.reconstruct_batch(I[:, 0])
    assert isinstance(recons, torch.Tensor)
    np.testing.assert_allclose(((recons.numpy() - XQ) ** 2).sum(1), found_D[:, 0], rtol=1e-5)
    assert index.to("cpu") is index
    with pytest.raises(TypeError, match="ids is on meta"):
        index.add_with_ids(XB, torch.from_numpy(IDS).to("meta"))


def test_storage_in_float16_is_that_of_the_wrapped_index(ours):
    import torch

    index = filled(ours).to("cpu", dtype=torch.float16)
    rounded = XB.astype("float16").astype("float32")
    np.testing.assert_array_equal(index.reconstruct(int(IDS[4])), rounded[4])
    found_D, I = neighbours(XQ, rounded, 5)
    assert_same_neighbours(*index.search(XQ, 5), found_D, IDS[I])
    with pytest.raises(RuntimeError, match="takes no dtype"):
        ours.IndexIDMap(ours.IndexRandom(D)).to("cpu", dtype=torch.float16)


def test_an_object_without_an_index(ours):
    with pytest.raises(RuntimeError, match="IndexIDMap wraps no index"):
        ours.IndexIDMap().reset()


def test_assigning_ids_of_an_index_whose_memory_is_elsewhere(ours):
    """As on an accelerator, where the vector is over a copy."""
    from faiss_torch.indexes.composite.id_map import _CopiedIds

    given = []
    vector = _CopiedIds(np.arange(3), on_replace=given.append)
    ours.copy_array_to_vector(np.array([7, 8, 9]), vector)
    np.testing.assert_array_equal(given, [[7, 8, 9]])
    np.testing.assert_array_equal(ours.vector_to_array(vector), [7, 8, 9])
    vector[1] = 5
    np.testing.assert_array_equal(given[1:], [[7, 5, 9]])
