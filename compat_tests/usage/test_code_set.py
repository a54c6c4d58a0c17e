"""CodeSet: which codes were not there before."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("d", [1, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_first_of_equal_codes(faiss, d, n):
    codes = np.random.RandomState(0).randint(0, 3, size=(n, d)).astype("uint8")
    inserted = faiss.CodeSet(d).insert(codes)
    expected = np.zeros(n, dtype=bool)
    expected[np.unique(codes, axis=0, return_index=True)[1]] = True
    assert inserted.dtype == bool
    np.testing.assert_array_equal(inserted, expected)


def test_what_was_there_before(faiss):
    codes = np.random.RandomState(0).randint(0, 256, size=(300, 2)).astype("uint8")
    codes = np.unique(codes, axis=0)
    code_set = faiss.CodeSet(2)
    assert code_set.d == 2
    assert code_set.insert(codes[::2]).all()
    result = np.ones(len(codes), dtype=bool)
    assert code_set.insert(codes, result) is result
    assert not result[::2].any()
    assert result[1::2].all()
    assert not code_set.insert(codes.astype("int64")).any()


def test_zero_bytes_at_the_end_count(faiss):
    code_set = faiss.CodeSet(3)
    codes = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]], dtype="uint8")
    assert code_set.insert(codes).tolist() == [True, True, True, False]


def test_shapes_and_types(faiss):
    code_set = faiss.CodeSet(3)
    codes = np.zeros((2, 3), dtype="uint8")
    with pytest.raises(AssertionError):
        code_set.insert(codes[:, :2])
    with pytest.raises(AssertionError):
        code_set.insert(codes, np.zeros(3, dtype=bool))
    with pytest.raises(TypeError):
        code_set.insert(codes, np.zeros(2, dtype="uint8"))
    with pytest.raises(AttributeError):
        code_set.insert([[1, 2, 3]])
    assert code_set.insert(codes).tolist() == [True, False]
