"""What existing programs do with faiss, one idiom a test; what has a test of its own elsewhere is left out."""

import pathlib

import numpy as np
import pytest

D, NB = 8, 200
XB = np.random.RandomState(1).rand(NB, D).astype("float32")
XQ = np.random.RandomState(2).rand(7, D).astype("float32")
FLT_MAX = np.finfo("float32").max


@pytest.fixture
def flat(faiss):
    index = faiss.IndexFlatL2(D)
    index.add(XB)
    return index


@pytest.fixture
def ivf(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexIVFFlat(quantizer, D, 6)
    index.referenced_objects = [quantizer]
    index.train(XB)
    index.add(XB)
    index.nprobe = 6
    return index


def test_metrics_are_plain_ints(faiss):
    names = ("INNER_PRODUCT", "L2", "L1", "Linf", "Lp")
    later = ("Canberra", "BrayCurtis", "JensenShannon", "Jaccard", "NaNEuclidean", "GOWER")
    values = [getattr(faiss, f"METRIC_{name}") for name in names + later]
    assert values == [0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25]
    assert {type(value) for value in values} == {int}


@pytest.mark.parametrize("cast", ["float64", "float16", "int32", "fortran", "every_second"])
def test_arrays_of_other_kinds_are_cast(faiss, cast):
    values = np.round(XB * 8)
    given = {"fortran": np.asfortranarray(values), "every_second": np.repeat(values, 2, axis=0)[::2]}.get(cast)
    index, same = faiss.IndexFlatL2(D), faiss.IndexFlatL2(D)
    index.add(values.astype(cast) if given is None else given)
    same.add(values.astype("float32"))
    np.testing.assert_array_equal(index.search(XQ, 5)[1], same.search(XQ, 5)[1])


@pytest.mark.parametrize(
    ("given", "error"), [([[0.0] * D], AttributeError), (XB[0], ValueError), (XB[:, :3], AssertionError)]
)
def test_what_add_and_search_refuse(flat, given, error):
    with pytest.raises(error):
        flat.add(given)
    with pytest.raises(error):
        flat.search(given, 1)
    assert flat.ntotal == NB


def test_missing_results(faiss, flat, ivf):
    for index in (flat, ivf):
        distances, labels = index.search(XQ, NB + 3)
        assert (labels[:, NB:] == -1).all()
        assert (distances[:, NB:] == FLT_MAX).all()
        assert (distances.dtype, labels.dtype) == (np.float32, np.int64)
        assert (index.search(np.full((1, D), np.nan, "float32"), 4)[1] == -1).all()
    similarity = faiss.IndexFlatIP(D)
    similarity.add(XB[:2])
    assert similarity.search(XQ, 3)[0][0, 2] == -FLT_MAX


def test_range_search_is_strict_and_ascending(faiss, flat):
    distances, labels = flat.search(XQ, 5)
    radius = float(distances[0, 4])
    lims, D_range, I_range = flat.range_search(XQ[:1], radius)
    assert (lims.dtype, D_range.dtype, I_range.dtype) == (np.uint64, np.float32, np.int64)
    assert I_range.tolist() == sorted(labels[0, :4].tolist())
    similarity = faiss.IndexFlatIP(D)
    similarity.add(XB)
    products = XB @ XQ[0]
    _, _, I_range = similarity.range_search(XQ[:1], float(np.median(products)))
    assert len(I_range) == pytest.approx(NB / 2, abs=2)
    assert products[I_range].min() > np.median(products) - 1e-4


def test_nprobe_belongs_to_inverted_files(faiss, flat, ivf):
    assert not hasattr(flat, "nprobe")
    with pytest.raises(AttributeError):
        flat.nprobe = 3
    flat.referenced_objects = [1]
    again = faiss.deserialize_index(faiss.serialize_index(ivf))
    assert again.nprobe == 6
    again.nprobe = 1000
    np.testing.assert_array_equal(again.search(XQ, 5)[1], flat.search(XQ, 5)[1])
    again.nprobe = 0
    with pytest.raises(RuntimeError):
        again.search(XQ, 5)


def test_downcasts_change_nothing(faiss, ivf):
    quantizer = faiss.downcast_index(ivf.quantizer)
    assert isinstance(quantizer, faiss.IndexFlatL2)
    assert quantizer.ntotal == 6
    assert type(faiss.downcast_index(faiss.extract_index_ivf(ivf))) is faiss.IndexIVFFlat


def test_lattice(faiss):
    assert issubclass(faiss.IndexFlatL2, faiss.IndexFlat)
    assert issubclass(faiss.IndexFlat, faiss.IndexFlatCodes)
    assert issubclass(faiss.IndexIVFFlat, (faiss.IndexIVF,))
    assert issubclass(faiss.IndexIVF, faiss.IndexIVFInterface)
    assert issubclass(faiss.IndexIVFInterface, faiss.Level1Quantizer)
    assert issubclass(faiss.IndexIDMap2, faiss.IndexIDMap)
    assert type(faiss.index_factory(D, "Flat")) is faiss.IndexFlat


def test_parameters_reach_the_inverted_file(faiss, ivf):
    mapped = faiss.IndexIDMap(faiss.deserialize_index(faiss.serialize_index(_empty(faiss))))
    for index in (ivf, mapped):
        faiss.ParameterSpace().set_index_parameter(index, "nprobe", 3.0)
        assert faiss.extract_index_ivf(index).nprobe == 3
        faiss.ParameterSpace().set_index_parameters(index, "")
        for text in ("nprobe", "no_such_parameter=3"):
            with pytest.raises(RuntimeError):
                faiss.ParameterSpace().set_index_parameters(index, text)
    faiss.ParameterSpace().set_index_parameters(ivf, "nprobe=1000")
    assert ivf.nprobe == 1000


def _empty(faiss):
    index = faiss.index_factory(D, "IVF6,Flat")
    index.train(XB)
    return index


def test_an_inner_product_file_over_an_L2_quantizer(faiss):
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexIVFFlat(quantizer, D, 6, faiss.METRIC_INNER_PRODUCT)
    assert quantizer.metric_type == faiss.METRIC_L2
    assert index.cp.spherical


def test_selectors_in_both_forms(faiss, flat):
    ids = np.array([3, 50, 51, 120])
    for sel in (
        faiss.IDSelectorBatch(ids),
        faiss.IDSelectorBatch(len(ids), faiss.swig_ptr(ids)),
        faiss.IDSelectorArray(ids),
        faiss.IDSelectorArray(len(ids), faiss.swig_ptr(ids)),
        faiss.IDSelectorArray(ids.tolist()),
        faiss.IDSelectorBatch(ids.astype("int32")),
    ):
        _, labels = flat.search(XQ, 6, params=faiss.SearchParameters(sel=sel))
        assert (np.sort(labels, axis=1) == [-1, -1, 3, 50, 51, 120]).all()


def test_removing(faiss, flat):
    assert flat.remove_ids(np.array([], dtype="int64")) == 0
    assert flat.remove_ids(np.array([0, 1, 1, 10**12])) == 2
    np.testing.assert_array_equal(flat.reconstruct(0), XB[2])
    with pytest.raises(AttributeError):
        flat.remove_ids([1, 2])


def test_settings_of_one_call(faiss, flat, ivf):
    sel = faiss.IDSelectorRange(20, 60)
    of_ivf = faiss.SearchParametersIVF(sel=sel, nprobe=6)
    expected = flat.search(XQ, 5, params=of_ivf)[1]
    assert ((expected >= 20) & (expected < 60)).all()
    np.testing.assert_array_equal(ivf.search(XQ, 5, params=of_ivf)[1], expected)
    with pytest.raises(RuntimeError):
        ivf.search(XQ, 5, params=faiss.SearchParameters(sel=sel))


def test_ids_of_a_map(faiss):
    ids = np.arange(NB) * 7 + 1000
    index = faiss.IndexIDMap(faiss.IndexFlatL2(D))
    with pytest.raises(RuntimeError):
        index.add(XB)
    index.add_with_ids(XB, ids)
    with pytest.raises(RuntimeError):
        index.reconstruct(1000)
    assert index.id_map.at(3) == 1021
    np.testing.assert_array_equal(faiss.vector_to_array(index.id_map), ids)
    second = faiss.IndexIDMap2(faiss.IndexFlatL2(D))
    second.add_with_ids(XB, ids)
    np.testing.assert_array_equal(second.reconstruct(1007), XB[1])
    sel = faiss.IDSelectorBatch(ids[5:9])
    _, labels = second.search(XQ, 5, params=faiss.SearchParameters(sel=sel))
    assert (np.sort(labels, axis=1) == [-1, *ids[5:9]]).all()


def test_all_vectors_of_an_inverted_file(ivf):
    np.testing.assert_array_equal(ivf.reconstruct_n(0, ivf.ntotal), XB)
    with pytest.raises(RuntimeError):
        ivf.reconstruct(0)
    ivf.make_direct_map()
    np.testing.assert_array_equal(ivf.reconstruct(NB - 1), XB[-1])


def test_codes_of_a_list_through_pointers(faiss, ivf):
    lists = ivf.invlists
    n = lists.list_size(2)
    codes = faiss.rev_swig_ptr(lists.get_codes(2), n * ivf.code_size).view("float32").reshape(n, D)
    ids = faiss.rev_swig_ptr(lists.get_ids(2), n)
    np.testing.assert_array_equal(codes, XB[ids])


def test_bytes_are_no_index(faiss, flat):
    data = faiss.serialize_index(flat)
    assert (data.dtype, data.ndim) == (np.uint8, 1)
    with pytest.raises(AttributeError):
        faiss.deserialize_index(data.tobytes())


def test_files_by_name_and_by_callback(faiss, flat, tmp_path):
    name = str(tmp_path / "index")
    faiss.write_index(flat, name)
    with open(tmp_path / "callback", "wb") as f:
        faiss.write_index(flat, faiss.PyCallbackIOWriter(f.write))
    assert pathlib.Path(name).read_bytes() == (tmp_path / "callback").read_bytes()
    with open(name, "rb") as f:
        reader = faiss.BufferedIOReader(faiss.PyCallbackIOReader(f.read))
        assert faiss.read_index(reader).ntotal == NB
    assert faiss.read_index(faiss.FileIOReader(name)).ntotal == NB
    with pytest.raises(RuntimeError):
        faiss.read_index(str(tmp_path / "missing"))
    (tmp_path / "short").write_bytes(pathlib.Path(name).read_bytes()[:-5])
    with pytest.raises(RuntimeError):
        faiss.read_index(str(tmp_path / "short"))


def test_a_flat_index_after_a_file(faiss):
    index = faiss.IndexFlat(D, faiss.METRIC_INNER_PRODUCT)
    assert type(faiss.deserialize_index(faiss.serialize_index(index))) is faiss.IndexFlatIP
    assert type(faiss.clone_index(index)) is faiss.IndexFlat


def test_normalizing(faiss):
    x = XB.copy()
    x[3] = 0
    assert faiss.normalize_L2(x[::1]) is None
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [0 if i == 3 else 1 for i in range(NB)], rtol=1e-5)
    for bad, error in ((x.astype("float64"), TypeError), (np.asfortranarray(x), ValueError), (x[0], IndexError)):
        with pytest.raises(error):
            faiss.normalize_L2(bad)


def test_kmeans(faiss):
    kmeans = faiss.Kmeans(D, 5, niter=40, seed=3, gpu=True)
    objective = kmeans.train(XB)
    assert (kmeans.centroids.shape, kmeans.centroids.dtype) == ((5, D), np.float32)
    assert objective == kmeans.obj[-1]
    assert len(kmeans.obj) < 40  # it stops when the objective does not change
    assert kmeans.index.search(XB, 1)[1].max() < 5
    with pytest.raises(RuntimeError):
        faiss.Kmeans(D, NB + 1).train(XB)
    with pytest.raises(AttributeError):
        faiss.Kmeans(D, 5, no_such_keyword=1)


def test_a_clustering_over_an_index_of_ones_own(faiss):
    index = faiss.IndexFlatL2(D)
    clustering = faiss.Clustering(D, 5)
    clustering.train(XB, index)
    assert index.ntotal == 5
    centroids = faiss.vector_to_array(clustering.centroids).reshape(5, D)
    np.testing.assert_array_equal(centroids, index.reconstruct_n(0, 5))
    assert clustering.iteration_stats.at(0).obj >= clustering.iteration_stats.at(1).obj


def test_shards_that_count_take_one_add(faiss):
    index = faiss.IndexShards(D, True, True)
    shards = [faiss.IndexFlatL2(D) for _ in range(2)]
    for shard in shards:
        index.add_shard(shard)
    index.add(XB)
    assert [shard.ntotal for shard in shards] == [NB // 2, NB // 2]
    exact = faiss.IndexFlatL2(D)
    exact.add(XB)
    np.testing.assert_array_equal(index.search(XQ, 5)[1], exact.search(XQ, 5)[1])


# where faiss crashes, or is undefined


def test_ids_outside_are_errors(ours):
    index = ours.IndexFlatL2(D)
    index.add(XB)
    for key in (-1, NB):
        with pytest.raises(RuntimeError):
            index.reconstruct(key)
    for begin, end in ((60, 20), (NB - 2, NB + 50)):
        _, labels = index.search(XQ, 4, params=ours.SearchParameters(sel=ours.IDSelectorRange(begin, end)))
        assert set(labels.ravel().tolist()) == {-1, *range(begin, min(end, NB))}
    mapped = ours.IndexIDMap2(ours.IndexFlatL2(D))
    mapped.add_with_ids(XB[:3], np.array([5, 7, 9]))
    with pytest.raises(RuntimeError, match="6"):
        mapped.reconstruct_n(5, 3)


def test_nothing_to_search_in(ours):
    shards = ours.IndexShards(D)
    with pytest.raises(RuntimeError):
        shards.search(XQ, 3)
    with pytest.raises(RuntimeError):
        ours.IndexIVFFlat(ours.IndexFlatL2(D), D, 0)


def test_indexes_nested_too_deep_in_a_file(ours):
    # a file of maps in maps cannot be made by wrapping: the header of one is repeated
    one = ours.serialize_index(ours.IndexIDMap(ours.IndexFlatL2(D))).tobytes()
    inner = ours.serialize_index(ours.IndexFlatL2(D)).tobytes()
    header = one[: one.index(inner)]
    tail = one[len(header) + len(inner) :]
    deep = header * 50 + inner + tail * 50
    with pytest.raises(RuntimeError, match=r"nested|deep"):
        ours.deserialize_index(np.frombuffer(deep, "uint8"))
