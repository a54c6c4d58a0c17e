"""IndexShards and IndexShardsIVF: a database in parts."""

import copy
import pickle
import threading

import numpy as np
import pytest
from comparison import FLT_MAX, all_distances, assert_same_neighbours, assert_same_ranges, neighbours

D = 6
NB = 205


def vectors(n, seed=1, d=D):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(NB), vectors(9, seed=2)
THREADED = pytest.mark.parametrize("threaded", [False, True])


def flat_shards(faiss, n=3, threaded=False, metric="METRIC_L2"):
    index = faiss.IndexShards(D, threaded)
    shards = [faiss.IndexFlat(D, getattr(faiss, metric)) for _ in range(n)]
    for shard in shards:
        index.add_shard(shard)
    return index, shards


def shards_with_ids(faiss, threaded=False):
    index = faiss.IndexShards(D, threaded, False)
    shards = [faiss.IndexIDMap(faiss.IndexFlatL2(D)) for _ in range(3)]
    for shard in shards:
        index.add_shard(shard)
    return index, shards


def centroids():
    return vectors(5, seed=4)


def ivf(faiss, nprobe=5):
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(centroids())
    index = faiss.IndexIVFFlat(quantizer, D, 5)
    index.train(XB)
    index.nprobe = nprobe
    return index


# --- the collection ------------------------------------------------------------------------------------------------


def test_forms_of_the_constructor(faiss):
    for arguments, d, successive in (
        ((), 0, True),
        ((D,), D, True),
        ((D, True), D, True),
        ((D, False, False), D, False),
        ((True,), 0, True),
        ((True, False), 0, False),
    ):
        index = faiss.IndexShards(*arguments)
        assert (index.d, index.successive_ids, index.count(), index.ntotal) == (d, successive, 0, 0)
        assert index.own_indices is False
    assert isinstance(index, faiss.ThreadedIndexBase)


def test_forms_of_the_constructor_beyond_faiss(ours):
    index = ours.IndexShards(D, threaded=True, successive_ids=False)
    assert (index.d, index.successive_ids) == (D, False)
    with pytest.raises(TypeError, match="up to 2 flags, got 3"):
        ours.IndexShards(True, True, True)


def test_the_first_shard_gives_dimension_and_metric(faiss):
    index = faiss.IndexShards()
    shard = faiss.IndexFlatIP(D)
    shard.add(XB[:4])
    index.add_shard(shard)
    assert (index.d, index.metric_type, index.ntotal, index.count()) == (D, faiss.METRIC_INNER_PRODUCT, 4, 1)
    assert type(faiss.downcast_index(index.at(0))) is faiss.IndexFlatIP


def test_shards_that_do_not_fit(faiss):
    index, shards = flat_shards(faiss, 2)
    with pytest.raises(RuntimeError, match="dimension mismatch"):
        index.add_shard(faiss.IndexFlatL2(D + 1))
    with pytest.raises(RuntimeError, match="metric type"):
        index.add_shard(faiss.IndexFlatIP(D))
    with pytest.raises(RuntimeError, match="already in the collection"):
        index.addIndex(shards[0])
    with pytest.raises(TypeError):
        index.add_shard(XB)
    assert (index.count(), index.d, index.ntotal) == (2, D, 0)
    with pytest.raises(RuntimeError, match="dimension mismatch"):
        faiss.IndexShards(D).add_shard(faiss.IndexFlatL2(D + 1))


def test_a_shard_in_another_state_of_training(ours):
    """faiss takes it in and complains afterwards."""
    index, _ = flat_shards(ours, 1)
    with pytest.raises(RuntimeError, match="is_trained=False, those here True"):
        index.add_shard(ours.index_factory(D, "IVF4,Flat"))
    assert index.count() == 1


def test_removing_shards(faiss):
    index, shards = flat_shards(faiss)
    index.add(XB)
    with pytest.raises(RuntimeError, match="not"):
        index.remove_shard(faiss.IndexFlatL2(D))
    index.remove_shard(shards[0])
    assert (index.count(), index.ntotal) == (2, NB - NB // 3)
    begin = NB // 3
    found_D, I = neighbours(XQ, XB[begin:], 4)
    assert_same_neighbours(*index.search(XQ, 4), found_D, I)
    index.removeIndex(shards[1])
    index.removeIndex(shards[2])
    assert (index.count(), index.ntotal, index.is_trained) == (0, 0, False)


def test_with_no_shard_left(ours):
    """faiss crashes, or does nothing."""
    index, shards = flat_shards(ours, 1)
    index.add(XB)
    index.remove_shard(shards[0])
    calls = (
        lambda: index.search(XQ, 2),
        lambda: index.range_search(XQ, 1.0),
        lambda: index.add(XB),
        lambda: index.train(XB),
        lambda: index.remove_ids(np.array([1])),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="IndexShards has no sub-index"):
            call()
    index.reset()
    for number in (0, -1):
        with pytest.raises(RuntimeError, match=f"no sub-index {number}"):
            index.at(number)


@pytest.mark.parametrize("kind", ["IndexShards", "IndexReplicas"])
def test_an_index_is_no_part_of_itself(ours, kind):
    """faiss takes it in, and crashes at the next call."""
    index = getattr(ours, kind)(D)
    with pytest.raises(RuntimeError, match="cannot be a sub-index of itself"):
        index.addIndex(index)
    assert index.count() == 0


def test_what_was_added_to_a_shard_by_itself(faiss):
    index, shards = flat_shards(faiss, 2)
    shards[0].add(XB[:100])
    shards[1].add(XB[100:])
    index.syncWithSubIndexes()
    assert index.ntotal == NB
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB, 5))


# --- adding and searching ------------------------------------------------------------------------------------------


@THREADED
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_search_is_that_of_one_index(faiss, threaded, metric, n):
    index, shards = flat_shards(faiss, n, threaded, metric)
    index.add(XB)
    assert index.ntotal == NB
    assert [shard.ntotal for shard in shards] == [(i + 1) * NB // n - i * NB // n for i in range(n)]
    for k in (1, 7, NB + 4):
        assert_same_neighbours(*index.search(XQ, k), *neighbours(XQ, XB, k, metric))
    assert index.search(XQ[:0], 3)[0].shape == (0, 3)


def test_equal_vectors_come_in_the_order_of_the_shards(faiss):
    index, _ = flat_shards(faiss)
    index.add(np.concatenate([XB[:5]] * 3))
    I = index.search(XB[:3], 3)[1]
    np.testing.assert_array_equal(I, np.arange(3)[:, None] + [0, 5, 10])


@THREADED
def test_another_metric(ours, threaded):
    index, _ = flat_shards(ours, 3, threaded, "METRIC_L1")
    index.add(XB)
    assert_same_neighbours(*index.search(XQ, 6), *neighbours(XQ, XB, 6, "METRIC_L1"))


def test_more_neighbours_than_vectors(faiss):
    index, _ = flat_shards(faiss)
    index.add(XB[:4])
    found_D, I = index.search(XQ, 6)
    assert (I[:, 4:] == -1).all()
    assert (found_D[:, 4:] == np.float32(FLT_MAX)).all()
    assert (index.search(np.full((1, D), np.nan, "float32"), 2)[1] == -1).all()


def test_successive_ids_are_counted_once(faiss):
    index, shards = flat_shards(faiss)
    index.add(XB[:50])
    with pytest.raises(RuntimeError):
        index.add(XB[50:])
    with pytest.raises(RuntimeError):
        index.add_with_ids(XB[50:], np.arange(50, NB))
    assert (index.ntotal, sum(shard.ntotal for shard in shards)) == (50, 50)
    index.reset()
    assert (index.ntotal, sum(shard.ntotal for shard in shards)) == (0, 0)
    index.add(XB)
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB, 5))


@THREADED
def test_ids_that_are_given_and_that_are_counted(faiss, threaded):
    index, shards = shards_with_ids(faiss, threaded)
    index.add(XB[:50])
    index.add(XB[50:100])
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB[:100], 5))
    index.add_with_ids(XB[100:], np.arange(100, NB))
    assert [shard.ntotal for shard in shards] == [16 + 16 + 35, 17 + 17 + 35, 17 + 17 + 35]
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB, 5))


@THREADED
def test_errors_of_shards(faiss, threaded):
    index = faiss.IndexShards(D, threaded, False)
    shards = [faiss.IndexFlatL2(D) for _ in range(3)]
    for shard in shards:
        index.add_shard(shard)
    with pytest.raises(RuntimeError, match=r"(?s)Exception thrown from index 0.*Exception thrown from index 2"):
        index.add(XB)
    assert index.ntotal == 0
    with pytest.raises(AssertionError):
        index.search(vectors(2, d=D + 1), 1)
    with pytest.raises(AssertionError):
        index.search(XQ, 0)


@THREADED
def test_an_error_of_one_shard(ours, threaded):
    """It is raised as it is; the others have done their part, and the numbers say so."""
    index = ours.IndexShards(D, threaded, False)
    index.add_shard(ours.IndexIDMap(ours.IndexFlatL2(D)))
    index.add_shard(ours.IndexFlatL2(D))
    with pytest.raises(RuntimeError, match=r"^add_with_ids is not implemented for IndexFlatL2"):
        index.add(XB[:4])
    assert (index.ntotal, index.at(0).ntotal) == (2, 2)

    def fail(no, shard):
        if no == 1:
            raise ValueError("no such thing")

    with pytest.raises(RuntimeError, match=r"^no such thing$"):
        index.runOnIndex(fail)


def test_threads_are_those_of_threaded(ours):
    for threaded, expected in ((True, 3), (False, 1)):
        index, _ = flat_shards(ours, 3, threaded)
        together = threading.Barrier(expected)
        seen = set()

        def note(no, shard, together=together, seen=seen):
            together.wait(10)
            seen.add(threading.get_ident())

        index.runOnIndex(note)
        assert len(seen) == expected
        assert (threading.get_ident() in seen) is not threaded


def test_training(faiss):
    index = faiss.IndexShards(D)
    shards = [faiss.index_factory(D, "IVF4,Flat") for _ in range(2)]
    for shard in shards:
        index.add_shard(shard)
    assert not index.is_trained
    with pytest.raises(RuntimeError):
        index.add(XB)
    index.train(XB)
    assert index.is_trained
    assert all(shard.is_trained for shard in shards)
    index.add(XB)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", 4)
    assert [shard.nprobe for shard in shards] == [4, 4]
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, XB, 5))
    few = index.search(XQ, NB, params=faiss.SearchParametersIVF(nprobe=1))[1]
    assert ((few >= 0).sum(1) < NB).all()
    with pytest.raises(RuntimeError):
        faiss.ParameterSpace().set_index_parameter(index, "no_such_parameter", 4)


def test_an_index_of_shards_that_was_reset_can_be_filled(ours):
    """faiss says that it is not trained."""
    index, _ = flat_shards(ours)
    index.add(XB)
    index.reset()
    assert index.is_trained


# --- beyond faiss --------------------------------------------------------------------------------------------------


@THREADED
def test_range_search(ours, threaded):
    index, _ = flat_shards(ours, 3, threaded)
    index.add(XB)
    keys = all_distances(XQ, XB)
    inside = keys < 0.5
    expected = np.concatenate([[0], inside.sum(1).cumsum()]), keys[inside], np.nonzero(inside)[1]
    found = index.range_search(XQ, 0.5)
    assert_same_ranges(found, expected)
    np.testing.assert_array_equal(found[2], expected[2])
    assert index.range_search(XQ[:0], 0.5)[0].tolist() == [0]


@pytest.mark.parametrize("successive", [True, False])
def test_a_selector_is_about_the_ids_that_a_search_returns(ours, successive):
    """faiss asks it about the numbers that vectors have in their shards."""
    index = (flat_shards if successive else shards_with_ids)(ours)[0]
    index.add(XB)
    low, high = 60, 150
    params = ours.SearchParameters(sel=ours.IDSelectorRange(low, high))
    found_D, I = neighbours(XQ, XB[low:high], 100)
    assert_same_neighbours(*index.search(XQ, 100, params=params), found_D, np.where(I < 0, -1, I + low))
    lims, _, labels = index.range_search(XQ, 100.0, params=params)
    assert (np.diff(lims.astype("int64")) == high - low).all()
    assert (labels.min(), labels.max()) == (low, high - 1)
    listed = ours.SearchParameters(sel=ours.IDSelectorBatch(np.array([2, 100, 204])))
    assert {tuple(sorted(row)) for row in index.search(XQ, 3, params=listed)[1].tolist()} == {(2, 100, 204)}
    assert params.sel.imin == low


@pytest.mark.parametrize("successive", [True, False])
def test_remove_ids(ours, successive):
    index = (flat_shards if successive else shards_with_ids)(ours)[0]
    index.add(XB)
    gone = np.arange(NB) % 5 == 2
    assert index.remove_ids(np.flatnonzero(gone)) == gone.sum()
    assert index.ntotal == (~gone).sum()
    found_D, I = neighbours(XQ, XB[~gone], 5)
    assert_same_neighbours(*index.search(XQ, 5), found_D, I if successive else np.flatnonzero(~gone)[I])


def test_removal_from_shards_whose_ids_would_have_gaps(ours):
    index = ours.IndexShards(D)
    for _ in range(2):
        index.add_shard(ivf(ours))
    index.add(XB)
    with pytest.raises(RuntimeError, match="successive_ids=False"):
        index.remove_ids(np.array([3]))
    assert index.ntotal == NB


@pytest.mark.parametrize("way", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies(ours, way):
    index, shards = flat_shards(ours, threaded=True)
    index.add(XB)
    other = way(index)
    shards[0].reset()
    assert_same_neighbours(*other.search(XQ, 5), *neighbours(XQ, XB, 5))


def test_there_is_no_file_of_shards(faiss):
    with pytest.raises(RuntimeError):
        faiss.serialize_index(flat_shards(faiss)[0])


def test_tensors(ours):
    import torch

    index, _ = flat_shards(ours, threaded=True)
    index.add(torch.from_numpy(XB))
    found_D, I = index.search(torch.from_numpy(XQ), 5)
    assert isinstance(found_D, torch.Tensor)
    assert_same_neighbours(found_D, I, *neighbours(XQ, XB, 5))
    assert index.to("cpu") is index


def test_storage_in_float16_is_that_of_the_shards(ours):
    import torch

    index, _ = flat_shards(ours)
    index.add(XB)
    index.to("cpu", dtype=torch.float16)
    rounded = XB.astype("float16").astype("float32")
    np.testing.assert_array_equal(index.at(0).reconstruct(3), rounded[3])
    assert_same_neighbours(*index.search(XQ, 5), *neighbours(XQ, rounded, 5))
    whole = ivf_shards(ours).to("cpu", dtype=torch.bfloat16)
    whole.train(XB)
    whole.add(XB)
    assert whole.quantizer.reconstruct(0).astype("float64").sum() != 0
    stored = torch.from_numpy(XB).bfloat16().float().numpy()
    np.testing.assert_array_equal(np.sort(whole.at(0).reconstruct_n(0, NB // 3), 0), np.sort(stored[: NB // 3], 0))


# --- inverted files ------------------------------------------------------------------------------------------------


def ivf_shards(faiss, threaded=False, successive=True, n=3):
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexShardsIVF(quantizer, 5, threaded, successive)
    index.referenced_objects = [quantizer]
    for _ in range(n):
        shard = faiss.IndexIVFFlat(faiss.IndexFlatL2(D), D, 5)
        shard.nprobe = 5
        index.add_shard(shard)
    return index


@THREADED
def test_shards_of_inverted_files(faiss, threaded):
    index = ivf_shards(faiss, threaded)
    index.cp.min_points_per_centroid = 1
    assert (index.nlist, index.is_trained) == (5, False)
    index.train(XB)
    index.add(XB)
    assert (index.is_trained, index.ntotal, index.quantizer.ntotal) == (True, NB, 5)
    shards = [faiss.downcast_index(index.at(i)) for i in range(3)]
    assert [faiss.downcast_index(shard.quantizer).ntotal for shard in shards] == [5, 5, 5]
    assert_same_neighbours(*index.search(XQ, 6), *neighbours(XQ, XB, 6))
    for shard in shards:
        shard.nprobe = 1
    few = index.search(XQ, NB)[1]
    whole = faiss.IndexIVFFlat(faiss.downcast_index(index.quantizer), D, 5)
    whole.train(XB)
    whole.add(XB)
    np.testing.assert_array_equal(few, whole.search(XQ, NB)[1])


def test_shards_of_inverted_files_with_ids(faiss):
    index = ivf_shards(faiss, successive=False)
    index.train(XB)
    index.add(XB[:100])
    index.add_with_ids(XB[100:], np.arange(100, NB))
    assert_same_neighbours(*index.search(XQ, 6), *neighbours(XQ, XB, 6))


def test_shards_of_inverted_files_add_in_one_pass(faiss):
    index = ivf_shards(faiss)
    index.train(XB)
    index.add(XB[:50])
    for call in (lambda: index.add(XB), lambda: index.add_with_ids(XB, np.arange(NB))):
        with pytest.raises(RuntimeError):
            call()
    assert index.ntotal == 50


def test_what_is_no_shard_of_inverted_files(faiss):
    index = ivf_shards(faiss)
    with pytest.raises(RuntimeError):
        index.add_shard(faiss.IndexFlatL2(D))
    with pytest.raises(RuntimeError):
        index.add_shard(faiss.IndexIVFFlat(faiss.IndexFlatL2(D), D, 4))
    assert index.count() == 3
    index.train(XB)
    index.add(XB)
    with pytest.raises(RuntimeError):
        index.search(XQ, 2, params=faiss.SearchParameters())
    faiss.downcast_index(index.at(1)).nprobe = 2
    with pytest.raises(RuntimeError, match="inconsistent nprobe"):
        index.search(XQ, 2)


def test_a_quantizer_that_is_full(faiss):
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(centroids())
    index = faiss.IndexShardsIVF(quantizer, 5)
    assert index.is_trained
    index.add_shard(ivf(faiss))
    index.add_shard(ivf(faiss))
    index.add(XB)
    assert_same_neighbours(*index.search(XQ, 6), *neighbours(XQ, XB, 6))


def test_settings_of_one_search(ours):
    """faiss wants the nprobe of the shards again, and passes the selector over."""
    index = ivf_shards(ours)
    index.train(XB)
    index.add(XB)
    params = ours.SearchParametersIVF(nprobe=9, sel=ours.IDSelectorRange(60, 150))
    found_D, I = neighbours(XQ, XB[60:150], 5)
    assert_same_neighbours(*index.search(XQ, 5, params=params), found_D, I + 60)
    one = ours.SearchParametersIVF(nprobe=1)
    assert (index.search(XQ, NB, params=one)[1] == -1).any()
    ours.ParameterSpace().set_index_parameter(index, "nprobe", 2)
    assert [index.at(i).nprobe for i in range(3)] == [2, 2, 2]


def test_training_again_and_a_quantizer_that_is_shared(ours):
    quantizer = ours.IndexFlatL2(D)
    index = ours.IndexShardsIVF(quantizer, 5, False, False)
    for _ in range(2):
        index.add_shard(ours.IndexIVFFlat(quantizer, D, 5))
    index.add_shard(ours.IndexIVFFlat(ours.IndexFlatL2(D), D, 5))
    index.train(XB)
    index.train(XB)
    assert [index.at(i).quantizer.ntotal for i in range(3)] == [5, 5, 5]


def test_the_quantizer_of_shards_has_parameters_of_its_own(ours):
    quantizer = ours.IndexIVFFlat(ours.IndexFlatL2(D), D, 4)
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(XB)
    quantizer.add(centroids())
    index = ours.IndexShardsIVF(quantizer, 5)
    index.add_shard(ivf(ours))
    ours.ParameterSpace().set_index_parameter(index, "quantizer_max_codes", 3)
    assert quantizer.max_codes == 3


def test_an_object_without_a_quantizer(ours):
    with pytest.raises(RuntimeError, match="quantizer"):
        ours.IndexShardsIVF().train(vectors(3, d=1)[:, :0])
