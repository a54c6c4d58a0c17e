"""Arrays as arguments: in whatever layout, ids as floats, and those without entries."""

from __future__ import annotations

import numpy as np
import pytest

D_IN = 8
XB = np.random.default_rng(9).standard_normal((60, D_IN)).astype("float32")

#: One row or one column of something larger: numpy keeps strides for it that torch does not take.
ODD = {
    "last_row_first": XB[::-1][:1],
    "a_row_of_a_record": np.zeros(2, dtype=[("x", "f4", (D_IN,)), ("flag", "u1")])["x"][:1],
    "last_column_first": XB[:1, ::-1],
    "rows_backwards": XB[::-1],
    "every_third_row": XB[5:6:3],
}


def flat(faiss):
    index = faiss.IndexFlatL2(D_IN)
    index.add(XB)
    return index


@pytest.mark.parametrize("layout", ODD)
def test_layouts(faiss, layout):
    x, index = ODD[layout], flat(faiss)
    plain = np.array(x, order="C")
    np.testing.assert_array_equal(index.search(x, 2)[1], index.search(plain, 2)[1])
    np.testing.assert_array_equal(index.assign(x, 1), index.assign(plain, 1))
    np.testing.assert_array_equal(index.range_search(x, 9.0)[0], index.range_search(plain, 9.0)[0])
    codes = index.sa_encode(x)
    np.testing.assert_array_equal(codes, index.sa_encode(plain))
    np.testing.assert_array_equal(index.sa_decode(codes[::-1]), plain[::-1])
    np.testing.assert_array_equal(faiss.knn(x, XB, 2)[1], index.search(plain, 2)[1])
    index.add(x)
    np.testing.assert_array_equal(index.reconstruct_n(60, len(x)), plain)


def test_layouts_of_ids(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN))
    index.add_with_ids(XB[:1], np.arange(5)[::-1][:1])
    np.testing.assert_array_equal(index.reconstruct(4), XB[0])


def test_what_is_written_to_a_row_of_odd_strides_arrives(ours):
    index = ours.IndexIVFFlat(ours.IndexFlatL2(D_IN), D_IN, 1)
    index.train(XB)
    index.add(XB)
    rows = np.zeros((3, D_IN), "float32")
    index.decode_vectors(1, XB[:1].view("uint8"), np.zeros(1, "int64"), rows[::-1][:1])
    np.testing.assert_array_equal(rows[2], XB[0])


def verbs_with_ids(faiss):
    index = flat(faiss)
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 1)
    ivf.train(XB)
    ivf.add(XB)
    ivf.make_direct_map()
    return {
        "add_with_ids": lambda ids: faiss.IndexIDMap(faiss.IndexFlatL2(D_IN)).add_with_ids(XB[:2], ids),
        "remove_ids": lambda ids: flat(faiss).remove_ids(ids),
        "reconstruct_batch": index.reconstruct_batch,
        "update_vectors": lambda ids: ivf.update_vectors(ids, XB[:2]),
        "IDSelectorBatch": faiss.IDSelectorBatch,
        "IDSelectorArray": faiss.IDSelectorArray,
        "search_preassigned": lambda ids: ivf.search_preassigned(XB[:2], 1, (ids - 1)[:1].repeat(2)[:, None], None),
        "MapLong2Long": lambda ids: faiss.MapLong2Long().add(ids, ids),
    }


def test_whole_floats_are_ids(faiss):
    for call in verbs_with_ids(faiss).values():
        call(np.array([1.0, 2.0]))


@pytest.mark.parametrize("wrong", [1.5, np.nan, np.inf, 1e19])
def test_floats_are_not_cut_to_ids(ours, wrong):
    for call in verbs_with_ids(ours).values():
        with pytest.raises(TypeError, match="expected integers, got float64 with"):
            call(np.array([wrong, 2.0]))


def test_hashes_of_64_bits_are_ids(faiss):
    ids = np.array([2**63 + 5, 7], dtype="uint64")
    index = faiss.IndexIDMap(faiss.IndexFlatL2(D_IN))
    index.add_with_ids(XB[:2], ids)
    np.testing.assert_array_equal(index.search(XB[:2], 1)[1][:, 0].astype("uint64"), ids)


def ivf(faiss):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 2)
    index.train(XB)
    return index


def shards(faiss):
    index = faiss.IndexShards(D_IN)
    index.add_shard(faiss.IndexFlatL2(D_IN))
    return index


EMPTY = {
    "flat": lambda faiss: faiss.IndexFlatL2(D_IN),
    "ivf": ivf,
    "id_map": lambda faiss: faiss.IndexIDMap(faiss.IndexFlatL2(D_IN)),
    "id_map2": lambda faiss: faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN)),
    "shards": shards,
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("n", [0, 2])
def test_an_empty_index_pads_whatever_its_type_can_do(faiss, kind, n):
    index = EMPTY[kind](faiss)
    D, I, R = index.search_and_reconstruct(XB[:n], 3)
    assert (D.shape, I.shape, R.shape) == ((n, 3), (n, 3), (n, 3, D_IN))
    assert (I == -1).all()
    assert np.isnan(R).all()
    assert index.reconstruct_n(0, 0).shape == (0, D_IN)
    assert index.reconstruct_batch(np.zeros(0, "int64")).shape == (0, D_IN)


def test_no_queries_have_results_of_the_types_of_results(ours):
    for build in EMPTY.values():
        lims, D, I = build(ours).range_search(XB[:0], 1.0)
        assert (lims.dtype, D.dtype, I.dtype) == ("uint64", "float32", "int64")
        assert lims.tolist() == [0]


def test_no_neighbours(faiss):
    for metric in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L1):
        D, I = faiss.knn(XB[:3], XB, 0, metric=metric)
        assert (D.shape, I.shape) == ((3, 0), (3, 0))
        assert (D.dtype, I.dtype) == ("float32", "int64")
        with pytest.raises(ValueError, match="negative"):
            faiss.knn(XB[:3], XB, -1, metric=metric)
    for best in (faiss.kmin, faiss.kmax):
        for found in best(XB, 0):
            assert found.shape == (60, 0)
        with pytest.raises(ValueError, match="negative"):
            best(XB, -1)
