"""Bad input: faiss's exception type, a message that says what was given, and an index that stays as it was."""

import contextlib

import numpy as np
import pytest
from cases import CASES, IVF_CASES

FLAT, IVF = CASES[0], IVF_CASES[0]
BOTH = pytest.mark.parametrize("case", [FLAT, IVF], ids=["flat", "ivf_flat"])


def state(faiss, index, xq):
    """Everything that must not change: the bytes of the index, and what a search finds."""
    found = index.search(xq, 3) if index.is_trained else ()
    return [index.ntotal, index.is_trained, faiss.serialize_index(index).tobytes(), *(part.tobytes() for part in found)]


@contextlib.contextmanager
def refused(faiss, index, xq, error, *words):
    """The block raises `error`, faiss_torch's message holds all words, and the index is the same afterwards."""
    before = state(faiss, index, xq)
    with pytest.raises(error) as caught:
        yield
    if faiss.__name__ == "faiss_torch":
        for word in words:
            assert str(word) in str(caught.value), f"{caught.value!r} does not name {word!r}"
    assert state(faiss, index, xq) == before


def untrained(faiss):
    index = faiss.index_factory(IVF.d, "IVF6,Flat")
    index.cp.min_points_per_centroid = 1
    return index


# --- vectors -------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "call",
    [
        lambda index, x: index.search(x, 2),
        lambda index, x: index.assign(x, 2),
        lambda index, x: index.add(x),
        lambda index, x: index.range_search(x, 1.0),
        lambda index, x: index.search_and_reconstruct(x, 2),
        lambda index, x: index.sa_encode(x),
        lambda index, x: index.train(x),
        lambda index, x: index.add_with_ids(x, np.arange(len(x))),
    ],
    ids=["search", "assign", "add", "range_search", "search_and_reconstruct", "sa_encode", "train", "add_with_ids"],
)
def test_vectors_of_the_wrong_shape(faiss, case, call):
    index = case.filled(faiss)
    with refused(faiss, index, case.xq, AssertionError, 5, case.d):
        call(index, np.zeros((4, 5), "float32"))
    with refused(faiss, index, case.xq, AssertionError, case.d + 1, case.d):
        call(index, np.zeros((4, case.d + 1), "float32"))
    with refused(faiss, index, case.xq, ValueError, "2-dimensional", case.d):
        call(index, np.zeros(case.d, "float32"))
    with refused(faiss, index, case.xq, ValueError, "2-dimensional", case.d):
        call(index, np.zeros((2, 3, case.d), "float32"))
    with refused(faiss, index, case.xq, AttributeError):
        call(index, [[0.0] * case.d])


def test_more_neighbours_than_memory(faiss):
    x = np.zeros((100, 8), "float32")
    index = faiss.IndexFlatL2(8)
    index.add(x)
    for search in (index.search, lambda xq, k: faiss.knn(xq, x, k)):
        with pytest.raises(MemoryError):
            search(x, 2**42)
    assert index.search(x, 1)[1].shape == (100, 1)


@BOTH
@pytest.mark.parametrize("k", [0, -1, -(2**40)])
def test_k_that_is_not_positive(faiss, case, k):
    index = case.filled(faiss)
    for verb in (index.search, index.search_and_reconstruct):
        with refused(faiss, index, case.xq, AssertionError, k, "positive"):
            verb(case.xq, k)
    # faiss's assign looks at k in C++, or not before it makes the array
    with refused(faiss, index, case.xq, (AssertionError, RuntimeError, ValueError), k, "positive"):
        index.assign(case.xq, k)


@BOTH
@pytest.mark.parametrize("k", [2.5, "3", None, True])
def test_k_that_is_no_integer(faiss, case, k):
    index = case.filled(faiss)
    with refused(faiss, index, case.xq, TypeError):
        index.search(case.xq, k)


@BOTH
def test_unknown_numeric_type(faiss, case):
    index = case.filled(faiss)
    with refused(faiss, index, case.xq, ValueError, 99, "Float16"):
        index.search(case.xq, 2, numeric_type=99)
    with refused(faiss, index, case.xq, ValueError, 99, "Float16"):
        index.add(case.xq, numeric_type=99)


@BOTH
def test_output_arguments_of_the_wrong_shape(faiss, case):
    index = case.filled(faiss)
    with refused(faiss, index, case.xq, AssertionError, "(11, 4)", "(11, 3)"):
        index.search(case.xq, 3, D=np.zeros((11, 4), "float32"))
    with refused(faiss, index, case.xq, TypeError):
        index.search(case.xq, 3, I=np.zeros((11, 3), "int32"))


# --- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [np.arange(3), np.arange(5), np.zeros((4, 1), "int64")], ids=["3", "5", "4x1"])
def test_a_mismatched_number_of_ids(faiss, ids):
    index = IVF.filled(faiss)
    with refused(faiss, index, IVF.xq, AssertionError, 4, ids.shape):
        index.add_with_ids(IVF.xb[:4], ids)
    codes = index.sa_encode(IVF.xb[:4])
    with refused(faiss, index, IVF.xq, AssertionError, 4, ids.shape):
        index.add_sa_codes(codes, ids)


def test_a_mismatched_number_of_keys(faiss):
    index = IVF.filled(faiss)
    index.make_direct_map()
    with refused(faiss, index, IVF.xq, AssertionError, 4, "(3,)"):
        index.update_vectors(np.arange(3), IVF.xb[:4])


@pytest.mark.parametrize("key", [-1, 157, 10**12])
def test_ids_that_are_not_there(ours, key):
    for case in (FLAT, IVF):
        index = case.filled(ours)
        if case.nlist:
            index.make_direct_map()
        with refused(ours, index, case.xq, RuntimeError, key, case.nb - 1):
            index.reconstruct(key)
        with refused(ours, index, case.xq, RuntimeError, key):
            index.reconstruct_batch(np.array([0, key]))
    with refused(ours, index, case.xq, RuntimeError, key):
        index.update_vectors(np.array([0, key]), case.xq[:2])


@BOTH
def test_a_range_beyond_the_end(faiss, case):
    index = case.filled(faiss)
    for n0, ni in ((150, 20), (-1, 3), (case.nb, 1)):
        with refused(faiss, index, case.xq, RuntimeError, n0, ni, case.nb):
            index.reconstruct_n(n0, ni)


def test_ids_for_a_flat_index(faiss):
    index = FLAT.filled(faiss)
    with refused(faiss, index, FLAT.xq, RuntimeError, "add_with_ids", "IndexFlat"):
        index.add_with_ids(FLAT.xb[:2], np.arange(2))


@BOTH
def test_removing_by_a_list(faiss, case):
    index = case.filled(faiss)
    with refused(faiss, index, case.xq, AttributeError):
        index.remove_ids([1, 2])
    with refused(faiss, index, case.xq, AssertionError, "1-dimensional", 2):
        index.remove_ids(np.zeros((2, 2), "int64"))


# --- codes ---------------------------------------------------------------------------------------------------------


@BOTH
def test_codes_of_the_wrong_width_or_type(faiss, case):
    index = case.filled(faiss)
    size = index.sa_code_size()
    with refused(faiss, index, case.xq, AssertionError, size, size - 1):
        index.sa_decode(np.zeros((2, size - 1), "uint8"))
    with refused(faiss, index, case.xq, TypeError, "uint8", "float32"):
        index.sa_decode(np.zeros((2, size), "float32"))
    with refused(faiss, index, case.xq, AssertionError, size, size + 1):
        index.add_sa_codes(np.zeros((2, size + 1), "uint8"))


def test_codes_of_lists_that_there_are_not(ours):
    index = IVF.filled(ours)
    codes = index.sa_encode(IVF.xb[:2])
    codes[:, 0] = 6
    with refused(ours, index, IVF.xq, RuntimeError, 6, "6 lists"):
        index.add_sa_codes(codes)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.add(IVF.xb),
        lambda index: index.add_with_ids(IVF.xb, np.arange(IVF.nb)),
        lambda index: index.search(IVF.xq, 1),
        lambda index: index.range_search(IVF.xq, 1.0),
        lambda index: index.sa_encode(IVF.xb),
    ],
    ids=["add", "add_with_ids", "search", "range_search", "sa_encode"],
)
def test_an_untrained_index(faiss, call):
    index = untrained(faiss)
    with refused(faiss, index, IVF.xq, RuntimeError, "IndexIVFFlat", "train"):
        call(index)
    index.train(IVF.xb)
    index.add(IVF.xb)
    assert (index.search(IVF.xq, 1)[1] >= 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("trains_alone", [0, 2])
def test_training_data_that_are_not_finite(faiss, value, trains_alone):
    index = untrained(faiss)
    index.quantizer_trains_alone = trains_alone
    xb = IVF.xb
    xb[100, 3] = value
    with refused(faiss, index, IVF.xq, RuntimeError, "NaN"):
        index.train(xb)
    assert index.quantizer.ntotal == 0
    index.train(IVF.xb)
    assert index.is_trained


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("trains_alone", [0, 2])
def test_too_few_training_points(faiss, n, trains_alone):
    index = untrained(faiss)
    index.quantizer_trains_alone = trains_alone
    with refused(faiss, index, IVF.xq, RuntimeError, f"({n})", "(6)"):
        index.train(IVF.xb[:n])
    assert index.quantizer.ntotal == 0
    index.train(IVF.xb)
    assert index.is_trained


def test_a_failed_training_keeps_what_the_quantizer_held(ours):
    quantizer = ours.IndexFlatL2(IVF.d)
    quantizer.add(IVF.xb[:3])
    index = ours.IndexIVFFlat(quantizer, IVF.d, 6)
    with refused(ours, index, IVF.xq, RuntimeError, "(5)", "(6)"):
        index.train(IVF.xb[:5])
    np.testing.assert_array_equal(quantizer.reconstruct_n(), IVF.xb[:3])


@pytest.mark.parametrize("value", [3, -1])
def test_an_unknown_way_to_train_the_quantizer(ours, value):
    index = untrained(ours)
    index.quantizer_trains_alone = value
    with pytest.raises(RuntimeError, match=f"{value}, expected 0, 1 or 2"):
        index.train(IVF.xb)
    assert not index.is_trained


# --- searching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda index, faiss: index.search(IVF.xq, 1),
        lambda index, faiss: index.range_search(IVF.xq, 1.0),
        lambda index, faiss: index.assign(IVF.xq, 1),
        lambda index, faiss: index.search_and_return_codes(IVF.xq, 1),
    ],
    ids=["search", "range_search", "assign", "search_and_return_codes"],
)
def test_nprobe_0(faiss, call):
    index = IVF.filled(faiss)
    before = state(faiss, index, IVF.xq)
    index.nprobe = 0
    with pytest.raises(RuntimeError, match=r"nprobe|k > 0"):
        call(index, faiss)
    index.nprobe = IVF.nlist
    assert state(faiss, index, IVF.xq) == before
    with refused(faiss, index, IVF.xq, RuntimeError, "nprobe", 0):
        index.search(IVF.xq, 1, params=faiss.SearchParametersIVF(nprobe=0))


def test_a_negative_nprobe(ours):
    index = IVF.filled(ours)
    with pytest.raises(OverflowError, match="nprobe cannot be negative, got -3"):
        index.nprobe = -3
    assert index.nprobe == IVF.filled(ours).nprobe
    with pytest.raises(OverflowError, match="nprobe cannot be negative, got -3"):
        ours.SearchParametersIVF(nprobe=-3)


def test_lists_that_there_are_not(ours):
    index = IVF.filled(ours)
    for list_no in (6, 10**10):
        Iq = np.full((IVF.nq, IVF.nlist), list_no)
        with refused(ours, index, IVF.xq, RuntimeError, list_no):
            index.search_preassigned(IVF.xq, 2, Iq, None)
        with refused(ours, index, IVF.xq, RuntimeError, list_no):
            index.range_search_preassigned(IVF.xq, 2.0, Iq, None)
    for list_no in (-1, 6):
        with pytest.raises(RuntimeError, match=str(list_no)):
            index.invlists.list_size(list_no)
        with pytest.raises(RuntimeError, match=str(list_no)):
            index.invlists.get_ids(list_no)
        with pytest.raises(RuntimeError, match=str(list_no)):
            index.get_list_size(list_no)
    with pytest.raises(RuntimeError, match="offset 1000"):
        index.invlists.get_single_id(0, 1000)


def test_search_parameters_of_another_index(faiss):
    index = IVF.filled(faiss)
    with refused(faiss, index, IVF.xq, RuntimeError, "SearchParametersIVF", "SearchParameters"):
        index.search(IVF.xq, 1, params=faiss.SearchParameters(sel=faiss.IDSelectorRange(0, 10)))


def test_an_unknown_search_parameter(faiss):
    with pytest.raises((AssertionError, AttributeError, TypeError)):
        faiss.SearchParametersIVF(nprobes=3)


def test_search_parameters_where_there_are_none(faiss):
    index = faiss.IndexFlat1D()
    index.add(np.zeros((3, 1), "float32"))
    with pytest.raises(RuntimeError, match="params"):
        index.search(np.zeros((1, 1), "float32"), 1, params=faiss.SearchParameters())


def test_an_unknown_search_mode(ours):
    index = IVF.filled(ours)
    index.search_mode = "fast"
    with pytest.raises(RuntimeError, match=r"'fast', expected 'auto', 'matrix' or 'csr'"):
        index.search(IVF.xq, 1)
    index.search_mode = "auto"
    assert (index.search(IVF.xq, 1)[1] >= 0).all()


def test_a_missing_radius_or_query(ours):
    index = FLAT.filled(ours)
    with pytest.raises((TypeError, ValueError)):
        index.range_search(FLAT.xq, "near")
    with pytest.raises(AttributeError):
        index.search(None, 1)


# --- making an index -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [5, 19, 26, 99, -1])
def test_an_unknown_metric(faiss, metric):
    # faiss notices at the search
    with pytest.raises(RuntimeError) as caught:
        faiss.IndexFlat(FLAT.d, metric).search(FLAT.xq, 1)
    if faiss.__name__ == "faiss_torch":
        assert f"{metric}: expected one of METRIC_INNER_PRODUCT (0)" in str(caught.value)


def test_an_unknown_metric_for_an_ivf_index(faiss):
    quantizer = faiss.IndexFlatL2(8)

    def use():  # faiss notices at the search
        index = faiss.IndexIVFFlat(quantizer, 8, 4, 99)
        index.train(FLAT.xb)
        index.add(FLAT.xb)
        index.search(FLAT.xb, 1)

    with pytest.raises(RuntimeError):
        use()


def test_sizes_that_cannot_be(ours):
    with pytest.raises(RuntimeError, match="-1"):
        ours.IndexFlatL2(-1)
    with pytest.raises(RuntimeError, match="nlist=0"):
        ours.IndexIVFFlat(ours.IndexFlatL2(8), 8, 0)
    with pytest.raises(RuntimeError, match="9 dimensions, expected 8"):
        ours.IndexIVFFlat(ours.IndexFlatL2(9), 8, 4)


# --- merging and lists ---------------------------------------------------------------------------------------------


def test_merging_what_does_not_fit(faiss):
    index, other = FLAT.filled(faiss), faiss.IndexFlat(9)
    other.add(np.zeros((2, 9), "float32"))
    with refused(faiss, index, FLAT.xq, RuntimeError, 8, 9):
        index.merge_from(other)
    assert other.ntotal == 2
    ivf, narrow = IVF.filled(faiss), faiss.IndexFlatL2(8)
    with refused(faiss, ivf, IVF.xq, RuntimeError, "IndexIVFFlat", "IndexFlatL2"):
        ivf.merge_from(narrow, 0)
    with refused(faiss, ivf, IVF.xq, RuntimeError, 6, 7):
        ivf.merge_from(faiss.index_factory(8, "IVF7,Flat"), 0)


def test_a_flat_index_takes_no_add_id(faiss):
    index, other = FLAT.filled(faiss), FLAT.filled(faiss)
    with refused(faiss, index, FLAT.xq, RuntimeError, "add_id"):
        index.merge_from(other, 5)
    assert other.ntotal == FLAT.nb


def test_an_index_merged_with_itself(ours):
    for case in (FLAT, IVF):
        index = case.filled(ours)
        with refused(ours, index, case.xq, RuntimeError, "itself"):
            index.merge_from(index)


def test_inverted_lists_of_another_shape(ours):
    index = IVF.filled(ours)  # faiss frees the index's own lists before it looks at the others
    with refused(ours, index, IVF.xq, RuntimeError, 7, 6):
        index.replace_invlists(ours.ArrayInvertedLists(7, index.code_size), False)
    with refused(ours, index, IVF.xq, RuntimeError, 31, 32):
        index.replace_invlists(ours.ArrayInvertedLists(6, 31), False)


def test_direct_maps_that_do_not_fit(ours):
    index = IVF.filled(ours)
    with refused(ours, index, IVF.xq, RuntimeError, 7, "Hashtable"):
        index.set_direct_map_type(7)
    index.add_with_ids(IVF.xb[:1], np.array([100000]))
    with refused(ours, index, IVF.xq, RuntimeError, "Array", 100000):
        index.make_direct_map()
    assert index.direct_map.no()


def test_an_index_without_lists_or_quantizer(ours):
    index = IVF.filled(ours)
    lists, quantizer = index.invlists, index.quantizer
    index.invlists = None
    for call in (lambda: index.search(IVF.xq, 1), lambda: index.add(IVF.xb), index.reset):
        with pytest.raises(RuntimeError, match="no inverted lists"):
            call()
    index.invlists, index.quantizer = lists, None
    with pytest.raises(RuntimeError, match="quantizer"):
        index.search(IVF.xq, 1)
    index.quantizer = quantizer
    assert (index.search(IVF.xq, 1)[1] >= 0).all()


def test_a_vector_update_that_is_not_finite(ours):
    index = IVF.filled(ours)
    index.make_direct_map()
    new = IVF.xq[:2].copy()
    new[1, 1] = np.nan
    with refused(ours, index, IVF.xq, RuntimeError, "finite"):
        index.update_vectors(np.array([4, 5]), new)
    index.set_direct_map_type(ours.DirectMap.NoMap)
    index.set_direct_map_type(ours.DirectMap.Hashtable)
    with refused(ours, index, IVF.xq, RuntimeError, "finite"):
        index.update_vectors(np.array([4, 5]), new)
    with refused(ours, index, IVF.xq, RuntimeError, "once"):
        index.update_vectors(np.array([4, 4]), IVF.xq[:2])


def test_permutations_that_are_none(ours):
    index = FLAT.filled(ours)
    with refused(ours, index, FLAT.xq, AssertionError, 157, "(3,)"):
        index.permute_entries(np.arange(3))
    with refused(ours, index, FLAT.xq, RuntimeError, "permutation"):
        index.permute_entries(np.zeros(157, "int64"))


def test_codes_of_a_flat_index_that_are_no_whole_vectors(ours):
    index = FLAT.filled(ours)
    with refused(ours, index, FLAT.xq, RuntimeError, 33, 32):
        index.codes = np.zeros(33, "uint8")


def test_arrays_of_text(ours):
    index = FLAT.filled(ours)
    for x in (np.full((2, 8), "a"), np.full((2, 8), "x", object)):
        with refused(ours, index, FLAT.xq, (TypeError, ValueError)):
            index.add(x)
