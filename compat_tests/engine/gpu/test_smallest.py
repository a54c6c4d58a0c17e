"""The kernel that lists the smallest values of rows, against a sort."""

import pytest
import torch

pytest.importorskip("triton")
from faiss_torch.kernels import tuning
from faiss_torch.kernels.smallest import smallest

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def values(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize(("width", "k"), [(1, 1), (3, 2), (100, 7), (513, 100), (1000, 1000)])
def test_they_are_the_smallest(width, k):
    given = values(5, width)
    given[0, 0], given[1, :] = -0.0, 2.5
    given[2, width // 2] = float("-inf")
    columns, counts, bounds = smallest(given, k, width)
    kth = given.sort(1)[0][:, k - 1]
    assert torch.equal(bounds, kth)
    for row in range(5):
        expected = (given[row] <= kth[row]).nonzero().view(-1)
        assert torch.equal(columns[row, : int(counts[row])].long(), expected)


def test_fewer_than_are_wanted():
    given = values(3, 40)
    given[0, 5:], given[1] = float("inf"), float("inf")
    given[2, 3] = float("nan")
    columns, counts, bounds = smallest(given, 50, 45)
    assert counts.tolist() == [5, 0, 39]
    assert (bounds == float("inf")).all()
    assert columns[0, :5].tolist() == [0, 1, 2, 3, 4]
    columns, counts, bounds = smallest(given, 50, 45, torch.tensor([3, 9, 2], dtype=torch.int32, device=DEVICE))
    assert counts.tolist() == [3, 0, 2]


def test_more_than_are_listed():
    given = values(2, 300)
    given[0, 100:200] = -9.0
    columns, counts, bounds = smallest(given, 10, 20)
    assert counts.tolist() == [100, 10]
    assert columns[0].tolist() == list(range(100, 120))
    assert bounds[0] == -9


@pytest.mark.parametrize("widest", [64, 1 << 14])
def test_the_first_of_equal_ones(widest, monkeypatch):
    monkeypatch.setattr(tuning, "SMALLEST_VALUES", widest)
    given = (3 * values(6, 700).abs()).to(torch.int16)
    given[0, 20:], given[1, 30:] = 32767, 5
    columns, counts, bounds = smallest(given, 25, 40, first=True)
    for row in range(6):
        expected = given[row].sort(stable=True)[1][:25]
        expected = expected[given[row, expected] < 32767].sort()[0]
        assert torch.equal(columns[row, : int(counts[row])].long(), expected)
    assert counts.tolist() == [20, 25, 25, 25, 25, 25]
    assert bounds[0] == float("inf")


def test_rows_too_wide_for_one_program(monkeypatch):
    """The bound is that of the minima of every so many columns: no smaller, and what is below it is listed."""
    monkeypatch.setattr(tuning, "SMALLEST_VALUES", 64)
    given = values(6, 1000)
    columns, counts, bounds = smallest(given, 10, 64)
    kth = given.sort(1)[0][:, 9]
    assert (bounds >= kth).all()
    assert (counts < 20).all()
    for row in range(6):
        expected = (given[row] <= bounds[row]).nonzero().view(-1)
        assert torch.equal(columns[row, : int(counts[row])].long(), expected)
