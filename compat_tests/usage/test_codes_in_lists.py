"""The codes that vectors have in inverted lists: written and read by themselves, and found by their place."""

from __future__ import annotations

import numpy as np
import pytest

D, NLIST = 5, 300  # a list number takes two bytes


def filled(faiss):
    """An index over lists that were not trained."""
    rs = np.random.RandomState(0)
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(rs.rand(NLIST, D).astype("float32"))
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    index.add(rs.rand(1000, D).astype("float32"))
    return index


def encoded(faiss, index, x, list_nos, include_listno):
    codes = np.full((len(x), index.code_size + 2 * include_listno), 77, dtype="uint8")
    pointers = (faiss.swig_ptr(x), faiss.swig_ptr(list_nos), faiss.swig_ptr(codes))
    index.encode_vectors(len(x), *pointers, include_listno)
    return codes


@pytest.mark.parametrize("n", [0, 1, 33])
def test_encode_and_decode(faiss, n):
    index = filled(faiss)
    x = np.random.RandomState(1).rand(n, D).astype("float32")
    list_nos = np.arange(n) * 7 % NLIST
    codes = encoded(faiss, index, x, list_nos, False)
    np.testing.assert_array_equal(codes, x.view("uint8").reshape(n, 4 * D))
    decoded = np.zeros_like(x)
    index.decode_vectors(n, faiss.swig_ptr(codes), faiss.swig_ptr(list_nos), faiss.swig_ptr(decoded))
    np.testing.assert_array_equal(decoded, x)


def test_encode_with_list_numbers(faiss):
    index = filled(faiss)
    x = np.random.RandomState(1).rand(20, D).astype("float32")
    list_nos = index.quantizer.assign(x, 1).ravel()
    codes = encoded(faiss, index, x, list_nos, True)
    np.testing.assert_array_equal(codes, index.sa_encode(x))
    np.testing.assert_array_equal(codes[:, 0] + 256 * codes[:, 1].astype(int), list_nos)


def test_list_number_alone(faiss):
    index = filled(faiss)
    code = np.zeros(2, dtype="uint8")
    for list_no in (0, 1, 255, 256, NLIST - 1):
        index.encode_listno(list_no, faiss.swig_ptr(code))
        assert code.tolist() == [list_no % 256, list_no // 256]
        assert index.decode_listno(faiss.swig_ptr(code)) == list_no
    code[:] = 255
    with pytest.raises(RuntimeError):
        index.decode_listno(faiss.swig_ptr(code))


def test_vector_at_a_place(faiss):
    index = filled(faiss)
    index.make_direct_map()
    for id in (0, 500, 999):
        place = index.direct_map.get(id)
        vector = np.zeros(D, dtype="float32")
        index.reconstruct_from_offset(faiss.lo_listno(place), faiss.lo_offset(place), faiss.swig_ptr(vector))
        np.testing.assert_array_equal(vector, index.reconstruct(id))


def test_no_such_place(ours):
    index = filled(ours)
    vector = np.zeros(D, dtype="float32")
    with pytest.raises(RuntimeError, match="list number 300 is outside"):
        index.reconstruct_from_offset(NLIST, 0, vector)
    with pytest.raises(RuntimeError, match="offset 1000 is outside list 0"):
        index.reconstruct_from_offset(0, 1000, vector)
    with pytest.raises(RuntimeError, match="list number 300 given, there are 300 lists"):
        index.encode_vectors(1, vector[None], np.array([NLIST]), np.zeros((1, 20), dtype="uint8"))


def test_too_little_room(ours):
    index = filled(ours)
    x = np.zeros((2, D), dtype="float32")
    codes = np.full((2, 19), 7, dtype="uint8")
    with pytest.raises(AssertionError, match=r"room for \(2, 20\) elements expected, \(2, 19\) given"):
        index.encode_vectors(2, x, np.zeros(2, dtype="int64"), codes)
    assert (codes == 7).all()


def test_place_in_a_direct_map(faiss):
    direct_map = faiss.DirectMap()
    assert faiss.DirectMap.DMT_count == 3
    direct_map.add_single_id(5, 1, 2)  # without a map nothing happens
    index = filled(faiss)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    index.direct_map.add_single_id(12345, 7, 8)
    assert index.direct_map.get(12345) == faiss.lo_build(7, 8)


def test_l2_norms_need_no_care(faiss):
    index = faiss.IndexFlatL2(D)
    x = np.random.RandomState(0).rand(50, D).astype("float32")
    index.add(x)
    before = index.search(x[:3], 4)
    index.sync_l2norms()
    index.add(x)
    index.sync_l2norms()
    index.clear_l2norms()
    np.testing.assert_allclose(index.search(x[:3], 1)[0], before[0][:, :1], atol=1e-5)
