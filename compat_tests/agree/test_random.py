"""faiss's random numbers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from faiss_torch.ops import random

SEEDS = [0, 1234, -5, 2**31 + 3]
SIZES = [1, 2, 5, 1000, 1023, 1024, 1025, 3001, 40000]


def filled(reference, function: str, dtype: str, n: int, *arguments: int) -> np.ndarray:
    """What a C function of faiss writes."""
    x = np.empty(n, dtype)
    getattr(reference, function)(reference.swig_ptr(x), n, *arguments)
    return x


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("function", "dtype", "arguments"),
    [
        ("float_rand", "float32", ()),
        ("float_randn", "float32", ()),
        ("int64_rand", "int64", ()),
        ("int64_rand_max", "int64", (77,)),
        ("byte_rand", "uint8", ()),
        ("rand_perm", "int32", ()),
        ("rand_perm_splitmix64", "int32", ()),
    ],
)
def test_arrays(reference, function: str, dtype: str, arguments: tuple[int, ...], n: int, seed: int) -> None:
    ours = getattr(random, function)(n, *arguments, seed)
    expected = filled(reference, function, dtype, n, *arguments, seed)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("n", [0, 1, 2, 100, 5000])
def test_beginning_of_a_permutation(n: int) -> None:
    whole = random.rand_perm(n, 99)
    assert sorted(whole.tolist()) == list(range(n))
    for first in (0, 1, n // 3, max(0, n - 1), n, n + 5):
        np.testing.assert_array_equal(random.rand_perm(n, 99, first), whole[:first])


def test_smooth_vectors(reference) -> None:
    np.testing.assert_allclose(
        random.rand_smooth_vectors(3000, 17, 5), reference.rand_smooth_vectors(3000, 17, 5), atol=3e-6
    )


@pytest.mark.parametrize("name", ["RandomGenerator", "SplitMix64RandomGenerator"])
@pytest.mark.parametrize("seed", SEEDS)
def test_generators(reference, name: str, seed: int) -> None:
    ours, expected = getattr(random, name)(seed), getattr(reference, name)(seed)
    for _ in range(200):
        assert ours.rand_int() == expected.rand_int()
        assert ours.rand_int(1000) == expected.rand_int(1000)
        assert ours.rand_int64() == expected.rand_int64()
        assert ours.rand_float() == expected.rand_float()
        assert ours.rand_double() == expected.rand_double()


def test_mersenne_twister_64() -> None:
    """The standard fixes the 10000th number of a default std::mt19937_64 ([rand.predef])."""
    rng = random.MersenneTwister64(5489)
    numbers = [rng.next() for _ in range(10000)]
    assert numbers[-1] == 9981545732273789042


def test_limit_below_one() -> None:
    with pytest.raises(RuntimeError, match="at least 1"):
        random.int64_rand_max(10, 0, 1)
