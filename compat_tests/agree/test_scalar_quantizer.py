"""ScalarQuantizer beside faiss: ranges, codes and decoded vectors are the same to the bit."""

import numpy as np
import pytest

import faiss_torch

TRAINED = ("QT_8bit", "QT_4bit", "QT_6bit", "QT_8bit_uniform", "QT_4bit_uniform")
OTHERS = ("QT_fp16", "QT_bf16", "QT_8bit_direct", "QT_8bit_direct_signed", "QT_0bit")
STATS = (("RS_minmax", 0.0), ("RS_minmax", 0.1), ("RS_meanstd", 2.0), ("RS_quantiles", 0.05), ("RS_optim", 0.0))


def vectors(n, d, seed=0):
    rng = np.random.RandomState(seed)
    return (rng.randn(n, d) * rng.rand(d) * 3 + 4 * rng.randn(d)).astype("float32")


def made(faiss, d, name, stat="RS_minmax", argument=0.0):
    sq = faiss.ScalarQuantizer(d, getattr(faiss.ScalarQuantizer, name))
    sq.rangestat, sq.rangestat_arg = getattr(faiss.ScalarQuantizer, stat), argument
    return sq


def assert_same(one, other, x):
    np.testing.assert_array_equal(
        faiss_torch.vector_to_array(one.trained).view("uint32"), trained_of(other).view("uint32")
    )
    assert (one.code_size, one.bits, one.d) == (other.code_size, other.bits, other.d)
    codes, expected = one.compute_codes(x), other.compute_codes(x)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(one.decode(codes).view("uint32"), other.decode(expected).view("uint32"))


def trained_of(sq):
    import faiss

    return faiss.vector_to_array(sq.trained)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("d", [1, 3, 8, 16, 97, 128])
def test_codes(reference, name, d):
    x = vectors(3000, d)
    pair = [made(faiss, d, name) for faiss in (faiss_torch, reference)]
    for sq in pair:
        sq.train(x[:1000])
    wild = vectors(500, d, seed=5) * 3  # beyond the ranges
    assert_same(*pair, np.concatenate([x, wild]))
    assert_same(*pair, x[:1])


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(("stat", "argument"), STATS)
def test_ranges(reference, name, stat, argument):
    x = vectors(400, 7)
    pair = [made(faiss, 7, name, stat, argument) for faiss in (faiss_torch, reference)]
    threads = reference.omp_get_max_threads()
    reference.omp_set_num_threads(1)  # its threads write one component's range over another's
    try:
        for sq in pair:
            sq.train(x)
    finally:
        reference.omp_set_num_threads(threads)
    assert_same(*pair, x)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("d", [1, 3, 16, 97])
def test_numbers(reference, name, d):
    x = vectors(1000, d) * 20
    x[::3] = np.round(x[::3] * 8) / 8  # of which some stand in the middle between two numbers
    pair = [made(faiss, d, name) for faiss in (faiss_torch, reference)]
    for sq in pair:
        sq.train(x)
    if name == "QT_0bit":
        assert pair[0].code_size == pair[1].code_size == 0
        return
    assert_same(*pair, x)


@pytest.mark.parametrize("name", TRAINED)
def test_a_component_that_is_constant(reference, name):
    x = vectors(100, 16)
    x[:, 3] = 2.5
    for data in (x, np.full((50, 16), -1.0, "float32")):
        pair = [made(faiss, 16, name) for faiss in (faiss_torch, reference)]
        for sq in pair:
            sq.train(data)
        assert_same(*pair, x)


def test_values_that_are_not_finite(reference):
    x = vectors(100, 16)
    pair = [made(faiss, 16, "QT_8bit") for faiss in (faiss_torch, reference)]
    for sq in pair:
        sq.train(x)
    x[1, 2], x[3], x[4, :3] = np.nan, np.inf, -np.inf
    assert_same(*pair, x)


def test_ranges_that_a_program_sets(reference):
    pair = []
    for faiss in (faiss_torch, reference):
        sq = made(faiss, 4, "QT_8bit")
        faiss.copy_array_to_vector(np.array([0, -1, 2, 3, 1, 2, 0.5, 7], "float32"), sq.trained)
        pair.append(sq)
    assert_same(*pair, vectors(200, 4))
    faiss_torch.copy_array_to_vector(np.array([0, 0, 0, 0, 1, 1, 1, 1], "float32"), pair[0].trained)
    assert pair[0].compute_codes(np.full((1, 4), 0.5, "float32")).tolist() == [[127] * 4]


def test_what_is_refused():
    sq = faiss_torch.ScalarQuantizer(5, faiss_torch.ScalarQuantizer.QT_8bit)
    with pytest.raises(RuntimeError, match="not trained"):
        sq.compute_codes(vectors(2, 5))
    with pytest.raises(RuntimeError, match="at least one"):
        sq.train(vectors(0, 5))
    with pytest.raises(AssertionError):
        sq.train(vectors(3, 4))
    with pytest.raises(RuntimeError, match="QT_4bit_eden"):
        faiss_torch.ScalarQuantizer(5, faiss_torch.ScalarQuantizer.QT_4bit_eden)
    with pytest.raises(RuntimeError, match="99"):
        faiss_torch.ScalarQuantizer(5, 99)
