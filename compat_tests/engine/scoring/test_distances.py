"""The metrics against their formulas in float64."""

import numpy as np
import pytest
import torch
from comparison import FORMULAS, SIMILARITIES
from hypothesis import given, settings
from hypothesis import strategies as st

from faiss_torch import constants
from faiss_torch.ops.scoring.distances import METRICS, distance, pairwise, temporary_bytes

NUMBERS = {name: getattr(constants, name) for name in FORMULAS}
NAN = float("nan")


def uniform(seed, *shape):
    return np.random.RandomState(seed).rand(*shape).astype("float32") + np.float32(1e-3)


def test_every_metric_of_the_constants_is_there():
    assert set(METRICS) == set(constants.METRIC_NAMES) == set(NUMBERS.values())
    for name, number in NUMBERS.items():
        assert METRICS[number].similarity == (name in SIMILARITIES) == constants.is_similarity_metric(number)


@pytest.mark.parametrize("name", NUMBERS)
@settings(deadline=None, max_examples=12)
@given(nq=st.integers(0, 9), nb=st.integers(1, 40), d=st.integers(1, 33), seed=st.integers(0, 99))
def test_formulas(name, nq, nb, d, seed):
    # GOWER is for values up to 1
    x, y = uniform(seed, nq, d) / 1.001, uniform(seed + 1000, nb, d) / 1.001
    arg = 2.5 if name == "METRIC_Lp" else 0.0
    expected = FORMULAS[name](x[:, None].astype("float64"), y[None].astype("float64"), arg)
    xq, xb = torch.from_numpy(x), torch.from_numpy(y)
    np.testing.assert_allclose(distance(xq[:, None], xb, NUMBERS[name], arg), expected, rtol=5e-5, atol=2e-6)
    found = pairwise(xq, xb, NUMBERS[name], arg)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=1e-5)
    exact = distance(xq[:, None].double(), xb.double(), NUMBERS[name], arg)
    np.testing.assert_allclose(exact, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NUMBERS)
def test_arguments_are_left_alone(name):
    x, y = torch.from_numpy(uniform(1, 4, 3)), torch.from_numpy(uniform(2, 5, 3))
    before = x.clone(), y.clone()
    out = torch.empty(4, 5)
    assert pairwise(x, y, NUMBERS[name], 2.0, out=out) is out
    distance(x[:, None], y, NUMBERS[name], 2.0)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in ("METRIC_L2", "METRIC_INNER_PRODUCT")])
def test_pairwise_in_pieces_is_pairwise_at_once(name, monkeypatch):
    x, y = torch.from_numpy(uniform(1, 23, 5) / 2), torch.from_numpy(uniform(2, 41, 5) / 2)
    whole = pairwise(x, y, NUMBERS[name], 2.0)
    for budget in (1, 500, 5000):
        monkeypatch.setattr("faiss_torch.ops.runtime.chunks.rows_within.__defaults__", (budget,))
        assert torch.equal(pairwise(x, y, NUMBERS[name], 2.0), whole)


def one(name, x, y):
    return float(distance(torch.tensor([x]), torch.tensor([y]), NUMBERS[name])[0])


@pytest.mark.parametrize(
    ("name", "x", "y", "expected"),
    [
        # as faiss: fmax passes over NaN
        ("METRIC_Linf", [NAN, 1.0], [0.0, 4.0], 3.0),
        ("METRIC_Linf", [float("inf"), 1.0], [0.0, 4.0], float("inf")),
        ("METRIC_Canberra", [0.0, 1.0], [0.0, 3.0], NAN),
        ("METRIC_BrayCurtis", [0.0, 0.0], [0.0, 0.0], NAN),
        ("METRIC_NaNEuclidean", [NAN, 1.0, 2.0, 3.0], [5.0, 2.0, NAN, 5.0], 10.0),
        ("METRIC_NaNEuclidean", [NAN, 1.0], [1.0, NAN], NAN),
        ("METRIC_GOWER", [0.5, -1.0, -2.0], [0.25, -1.0, -3.0], 1.25 / 3),
        ("METRIC_GOWER", [0.5, NAN], [0.25, 0.75], 0.25),
        ("METRIC_GOWER", [0.5, -1.0], [0.25, 1.0], NAN),
        ("METRIC_GOWER", [0.5, 1.5], [0.25, 1.0], NAN),
        ("METRIC_L2", [NAN, 1.0], [0.0, 4.0], NAN),
    ],
)
def test_values_at_the_edges(name, x, y, expected):
    assert one(name, x, y) == pytest.approx(expected, nan_ok=True)


def test_temporary_bytes_count_what_a_metric_makes():
    for number, metric in METRICS.items():
        assert temporary_bytes(10, number) == 40 * metric.temporaries
