"""Vectors and pointers: what remains of C++ in faiss's Python API."""

import numpy as np
import pytest

NUMBER_VECTORS = {
    "Float32Vector": "float32",
    "Float64Vector": "float64",
    "Int8Vector": "int8",
    "Int16Vector": "int16",
    "Int32Vector": "int32",
    "Int64Vector": "int64",
    "UInt8Vector": "uint8",
    "UInt16Vector": "uint16",
    "UInt32Vector": "uint32",
    "UInt64Vector": "uint64",
}
DEPRECATED = {
    "FloatVector": "Float32Vector",
    "DoubleVector": "Float64Vector",
    "CharVector": "Int8Vector",
    "IntVector": "Int32Vector",
    "LongLongVector": "Int64Vector",
    "ByteVector": "UInt8Vector",
    "Uint64Vector": "UInt64Vector",
    "FloatVectorVector": "Float32VectorVector",
    "ByteVectorVector": "UInt8VectorVector",
}


@pytest.mark.parametrize("name", NUMBER_VECTORS)
def test_vectors_grow_and_copy(faiss, name):
    v = getattr(faiss, name)()
    assert v.size() == 0
    for i in range(20):
        v.push_back(i)
    assert v.at(3) == 3
    array = faiss.vector_to_array(v)
    assert array.dtype == NUMBER_VECTORS[name]
    np.testing.assert_array_equal(array, np.arange(20))
    v.resize(22)
    np.testing.assert_array_equal(faiss.vector_to_array(v)[18:], [18, 19, 0, 0])
    v.resize(5)
    v.resize(7)
    np.testing.assert_array_equal(faiss.vector_to_array(v), [0, 1, 2, 3, 4, 0, 0])
    v.clear()
    assert v.size() == 0
    assert faiss.vector_to_array(v).shape == (0,)


@pytest.mark.parametrize("name", NUMBER_VECTORS)
def test_copy_array_to_vector(faiss, name):
    v = getattr(faiss, name)()
    faiss.copy_array_to_vector(np.arange(9).astype(NUMBER_VECTORS[name]), v)
    np.testing.assert_array_equal(faiss.vector_to_array(v), np.arange(9))
    other = "float64" if name != "Float64Vector" else "float32"
    with pytest.raises(AssertionError):
        faiss.copy_array_to_vector(np.arange(9).astype(other), v)


def test_vectors_hold_copies(faiss):
    v = faiss.Float32Vector()
    a = np.ones(3, "float32")
    faiss.copy_array_to_vector(a, v)
    a[0] = 7
    copied = faiss.vector_to_array(v)
    copied[1] = 8
    np.testing.assert_array_equal(faiss.vector_to_array(v), 1)


def test_what_vectors_refuse(faiss):
    v = faiss.Float32Vector()
    v.resize(2)
    with pytest.raises(RuntimeError):
        v.at(2)
    with pytest.raises(OverflowError):
        v.at(-1)
    with pytest.raises(ValueError, match=r"."):
        faiss.copy_array_to_vector(np.zeros((2, 2), "float32"), v)
    with pytest.raises(ValueError, match="contiguous"):
        faiss.copy_array_to_vector(np.zeros(4, "float32")[::2], v)
    with pytest.raises(AssertionError):
        faiss.vector_to_array(np.zeros(3))
    assert v.size() == 2


def test_swap(faiss):
    a, b = faiss.Int64Vector(), faiss.Int64Vector()
    a.push_back(1)
    b.push_back(2)
    b.push_back(3)
    a.swap(b)
    np.testing.assert_array_equal(faiss.vector_to_array(a), [2, 3])
    np.testing.assert_array_equal(faiss.vector_to_array(b), [1])


@pytest.mark.parametrize("name", DEPRECATED)
def test_older_names_warn_and_are_the_new_classes(faiss, name):
    new = DEPRECATED[name]
    with pytest.warns(DeprecationWarning, match=f"faiss.{name} is deprecated in favour of faiss.{new}"):
        v = getattr(faiss, name)()
    assert isinstance(v, getattr(faiss, new))


def test_vectors_of_vectors(faiss):
    vectors = faiss.Float32VectorVector()
    vectors.resize(3)
    one = faiss.Float32Vector()
    one.push_back(5)
    vectors.push_back(one)
    assert vectors.size() == 4
    assert vectors.at(0).size() == 0
    np.testing.assert_array_equal(faiss.vector_to_array(vectors.at(3)), [5])


def test_MaybeOwnedVector(faiss):
    v = faiss.MaybeOwnedVectorUInt8()
    assert v.is_owned
    faiss.copy_array_to_vector(np.arange(6, dtype="uint8"), v)
    assert (v.size(), v.byte_size()) == (6, 6)
    np.testing.assert_array_equal(faiss.vector_to_array(v), np.arange(6))


def test_codes_of_an_index_are_a_vector(faiss):
    index = faiss.IndexFlatL2(3)
    x = np.arange(12, dtype="float32").reshape(4, 3)
    index.add(x)
    np.testing.assert_array_equal(faiss.vector_to_array(index.codes).view("float32").reshape(4, 3), x)
    other = faiss.IndexFlatL2(3)
    faiss.copy_array_to_vector(faiss.vector_to_array(index.codes), other.codes)
    other.ntotal = 4
    np.testing.assert_array_equal(other.reconstruct_n(0, 4), x)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(index.get_xb(), 12).reshape(4, 3), x)


@pytest.mark.parametrize("dtype", NUMBER_VECTORS.values())
def test_pointers_to_arrays_and_back(faiss, dtype):
    a = np.arange(12).astype(dtype)
    b = faiss.rev_swig_ptr(faiss.swig_ptr(a), 12)
    assert b.dtype == dtype
    np.testing.assert_array_equal(a, b)
    b[3] = 77
    assert a[3] == 77
    np.testing.assert_array_equal(faiss.rev_swig_ptr(faiss.swig_ptr(a[5:]), 2), a[5:7])


def test_half_precision_comes_back_as_bits(faiss):
    a = np.ones(2, "float16")
    np.testing.assert_array_equal(faiss.rev_swig_ptr(faiss.swig_ptr(a), 2), a.view("uint16"))


@pytest.mark.parametrize(
    "a",
    [np.zeros((3, 4), "float32").T, np.zeros(4, "float32")[::2], [1.0], np.zeros(2, "complex64"), None],
    ids=["transposed", "strided", "list", "complex", "None"],
)
def test_what_swig_ptr_refuses(faiss, a):
    with pytest.raises(ValueError, match=r"."):
        faiss.swig_ptr(a)


def test_memcpy(faiss):
    a, b = np.arange(6, dtype="float32"), np.zeros(6, "float32")
    faiss.memcpy(faiss.swig_ptr(b), faiss.swig_ptr(a), 4 * 4)
    np.testing.assert_array_equal(b, [0, 1, 2, 3, 0, 0])
    faiss.memcpy(faiss.swig_ptr(b[4:]), faiss.swig_ptr(a[1:]), 8)
    np.testing.assert_array_equal(b, [0, 1, 2, 3, 1, 2])


def test_data_of_a_vector(faiss):
    v = faiss.Float32Vector()
    assert v.data() is None
    v.resize(4)
    a = np.arange(4, dtype="float32")
    faiss.memcpy(v.data(), faiss.swig_ptr(a), a.nbytes)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(v.data(), 4), a)
    np.testing.assert_array_equal(faiss.vector_to_array(v), a)


def test_pointers_from_addresses(faiss):
    a = np.arange(5, dtype="float32")
    pointer = faiss.cast_integer_to_float_ptr(a.ctypes.data)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(pointer, 5), a)
    i = np.arange(5)
    np.testing.assert_array_equal(faiss.rev_swig_ptr(faiss.cast_integer_to_idx_t_ptr(i.ctypes.data), 5), i)
    assert int(faiss.swig_ptr(a)) == a.ctypes.data


def test_aligned_tables(faiss):
    table = faiss.array_to_AlignedTable(np.arange(5, dtype="uint16"))
    assert (table.size(), table.itemsize()) == (5, 2)
    np.testing.assert_array_equal(faiss.AlignedTable_to_array(table), np.arange(5))
    np.testing.assert_array_equal(faiss.vector_to_array(table), np.arange(5))
    bytes_table = faiss.AlignedTableUint8(3)
    faiss.copy_array_to_AlignedTable(np.array([7, 8], "uint8"), bytes_table)
    np.testing.assert_array_equal(faiss.AlignedTable_to_array(bytes_table), [7, 8])
    with pytest.raises(AssertionError):
        faiss.array_to_AlignedTable(np.zeros(3, "int64"))


class TestBeyondFaiss:
    """What faiss leaves undefined or does not have."""

    def test_reading_past_the_end_is_an_error(self, ours):
        pointer = ours.swig_ptr(np.zeros(5, "float32"))
        assert ours.rev_swig_ptr(pointer + 2, 3).shape == (3,)
        with pytest.raises(RuntimeError, match="cannot read 4 elements"):
            ours.rev_swig_ptr(pointer + 2, 4)
        with pytest.raises(RuntimeError, match="cannot read"):
            ours.memcpy(pointer, ours.swig_ptr(np.zeros(2, "float32")), 12)

    def test_pointers_count_and_index(self, ours):
        a = np.arange(5, dtype="int64")
        pointer = ours.swig_ptr(a) + 3
        assert pointer[0] == 3
        assert pointer - 3 == ours.swig_ptr(a)
        assert int(pointer) == a.ctypes.data + 24
        pointer[1] = 9
        assert a[4] == 9

    def test_torch_tensors_share_their_memory(self, ours):
        import torch

        t = torch.arange(6)
        ours.rev_swig_ptr(ours.swig_ptr(t), 6)[2] = 40
        assert t[2] == 40
        with pytest.raises(ValueError, match="contiguous"):
            ours.swig_ptr(torch.zeros(3, 4).T)
        with pytest.raises(ValueError, match="did not recognize"):
            ours.swig_ptr(torch.zeros(3, dtype=torch.bfloat16))

    def test_vectors_have_length_index_and_pickle(self, ours):
        import pickle

        v = ours.Float32Vector()
        v.push_back(1.5)
        v.push_back(2.5)
        assert (len(v), v[1], list(v)) == (2, 2.5, [1.5, 2.5])
        np.testing.assert_array_equal(ours.vector_to_array(pickle.loads(pickle.dumps(v))), [1.5, 2.5])

    def test_an_owner_follows_its_vector(self, ours):
        seen = []
        v = ours.MaybeOwnedVectorUInt8(np.zeros(4, "uint8"), seen.append)
        ours.copy_array_to_vector(np.arange(4, dtype="uint8"), v)
        assert seen == []  # same memory
        ours.copy_array_to_vector(np.arange(6, dtype="uint8"), v)
        v.resize(2)
        assert [a.tolist() for a in seen] == [[0, 1, 2, 3, 4, 5], [0, 1]]
