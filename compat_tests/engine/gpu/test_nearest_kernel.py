"""The Triton kernel of the closest centroid against its definition, and that it compiles for GPUs that are not here."""

import logging
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from screening import NAMES, adversarial

from faiss_torch import kernels
from faiss_torch.constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.kernels import tuning
from faiss_torch.ops.clustering.nearest import nearest, nearest_reference
from faiss_torch.ops.clustering.nearest_float64 import nearest_in_double

pytestmark = pytest.mark.slow

pytest.importorskip("triton")

METRICS = (METRIC_L2, METRIC_INNER_PRODUCT)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def screened(x, centroids, metric_type):
    """What the screen in 16 bits finds: labels, and which of them are certain."""
    from faiss_torch.kernels.nearest import screen
    from faiss_torch.kernels.rounding import Rounded

    labels, (left, *_) = screen(x[None], Rounded.make(centroids[None], metric_type == METRIC_L2))
    rows = left.rows[0, : int(left.counts[0])].long()
    assert len(rows.unique()) == len(rows)
    certain = torch.ones(len(x), dtype=torch.bool, device=x.device)
    certain[rows] = False
    return labels[0], certain


def check(x, centroids, metric_type):
    D, I = nearest(x, centroids, metric_type, impl="triton")
    D_reference, I_reference = nearest_reference(x, centroids, metric_type)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize(
    ("n", "k", "d"),
    [(0, 3, 5), (1, 1, 1), (5, 3, 3), (129, 65, 97), (128, 64, 16), (77, 200, 33), (40, 70, 128), (70, 30, 130)],
)
def test_sizes(n, k, d, metric_type):
    check(normal(n, d), normal(k, d, seed=1), metric_type)


@pytest.mark.parametrize("d", [300, 513])
def test_vectors_of_several_chunks(d):
    assert d > tuning.nearest_blocks(d).components
    check(normal(70, d), normal(90, d, seed=1), METRIC_L2)


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_certain_is_right(name, metric_type):
    x = torch.from_numpy(adversarial(150, 24)[name]).to(DEVICE)
    centroids = x[::3].contiguous()
    labels, certain = screened(x, centroids, metric_type)
    wide = centroids.double()
    scores = x.double() @ -wide.T
    if metric_type == METRIC_L2:
        scores += wide.square().sum(1) / 2
    best, expected = scores.topk(2, largest=False)
    assert torch.equal(labels[certain], expected[:, 0][certain])
    assert bool((best[:, 0] < best[:, 1])[certain].all())
    if name == "normal":
        assert float(certain.float().mean()) > 0.9


def settled(x, centroids, metric_type):
    """Labels, and how many vectors were left by 16 bits, by two of three centroids, and by float32."""
    from faiss_torch.kernels.nearest import screen
    from faiss_torch.kernels.nearest_exact import settle
    from faiss_torch.kernels.rounding import Rounded

    rounded = Rounded.make(centroids[None], metric_type == METRIC_L2)
    labels, steps = screen(x[None], rounded)
    settle(x[None], centroids[None], rounded, metric_type == METRIC_L2, labels, steps)
    return labels[0], [int(step.counts[0]) for step in steps]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_is_settled(name, metric_type):
    x = torch.from_numpy(adversarial(150, 24)[name]).to(DEVICE)
    centroids = torch.cat([x[::5], x[:40:2]])  # some of them twice
    labels, left = settled(x, centroids, metric_type)
    expected = nearest_in_double(x, centroids, metric_type)
    distances = nearest_reference(x, centroids, metric_type)[0]
    assert torch.equal(labels, torch.where(distances.abs() < FLT_MAX, expected, -1))
    assert left == sorted(left, reverse=True)


@pytest.mark.parametrize("metric_type", METRICS)
def test_two_close_centroids_are_compared_at_once(metric_type):
    x, centroids = normal(200, 40), normal(60, 40, seed=1)
    centroids = torch.cat([centroids, centroids * (1 + 2e-5)])  # within the bound of 16 bits, and far beyond float64's
    labels, left = settled(x, centroids, metric_type)
    assert torch.equal(labels, nearest_reference(x, centroids, metric_type)[1])
    assert left[0] > 190
    assert left[1] < 30


def test_three_close_centroids_are_compared_in_float32():
    x, centroids = normal(100, 40), normal(60, 40, seed=1)
    centroids = torch.cat([centroids, centroids * (1 + 1e-4), centroids * (1 - 1e-4)])
    labels, left = settled(x, centroids, METRIC_L2)
    assert torch.equal(labels, nearest_reference(x, centroids, METRIC_L2)[1])
    assert left[1] > 90
    assert left[2] < 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_in_16_bits(dtype):
    x, centroids = normal(90, 40, dtype=dtype), normal(50, 40, seed=1)
    labels, certain = screened(x, centroids, METRIC_L2)
    expected = nearest_reference(x, centroids, METRIC_L2)[1]
    assert float(certain.float().mean()) > 0.9
    assert torch.equal(labels[certain], expected[certain])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("offset", [3.0, 100.0])
def test_vectors_far_from_the_origin(offset, dtype):
    x, centroids = (normal(120, 64) + offset).to(dtype), normal(200, 64, seed=1) + offset
    labels, left = settled(x, centroids, METRIC_L2)
    assert torch.equal(labels, nearest_reference(x, centroids, METRIC_L2)[1])
    assert left[0] < 24
    assert left[2] == 0


@pytest.mark.parametrize("metric_type", METRICS)
@pytest.mark.parametrize("size", [1e-38, 1e-24, 1e-20, 1e-12, 1e12])
def test_vectors_of_any_size(size, metric_type):
    """Pairs of centroids that 16 bits tell apart only if what rounding takes away is known."""
    pairs = normal(30, 32, seed=1)
    centroids = torch.cat([pairs, pairs * (1 + 1e-4)]) * size
    queries = [normal(100, 32) * size]
    if metric_type == METRIC_INNER_PRODUCT:  # for L2 all of them would be as far
        queries += [normal(100, 32), normal(100, 32, dtype=torch.float16)]
    for x in queries:
        D, I = nearest(x.float(), centroids, metric_type, impl="torch")
        found = nearest(x.float(), centroids, metric_type, impl="triton")
        assert torch.equal(found[1], I)
        torch.testing.assert_close(found[0], D)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_vectors_whose_distances_are_not_finite():
    x, centroids = normal(50, 32), normal(20, 32, seed=1)
    for size in (1e18, 1e20):
        D, I = nearest(x * size, centroids * size, METRIC_L2, impl="torch")
        found = nearest(x * size, centroids * size, METRIC_L2, impl="triton")
        assert torch.equal(found[1], I)
        torch.testing.assert_close(found[0], D)
    assert (I == -1).all()
    assert (nearest(x * 1e20, centroids, METRIC_L2, impl="triton")[1] == -1).all()


def test_a_score_that_would_be_lost_in_scaling():
    x = torch.full((70, 32), 0.999 * 2.0**-61, device=DEVICE)
    centroids = torch.stack([torch.zeros_like(x[0]), x[0]])
    assert nearest(x, centroids, METRIC_L2, impl="triton")[1].eq(1).all()


def test_more_sets_than_cuda_starts_at_once(monkeypatch):
    from faiss_torch.kernels import nearest as module

    monkeypatch.setattr(module, "MOST_SETS", 2)
    x, centroids = normal(5, 20, 6), normal(5, 7, 6, seed=1)
    found = module.nearest(x, centroids, True)
    for number in range(5):
        assert torch.equal(found[number], nearest_reference(x[number], centroids[number], METRIC_L2)[1])


def test_small_integers_are_certain_but_for_ties():
    generator = torch.Generator().manual_seed(0)
    x, centroids = (torch.randint(0, 256, (n, 32), generator=generator).float().to(DEVICE) for n in (200, 60))
    centroids[7] = centroids[3]
    labels, certain = screened(x, centroids, METRIC_L2)
    expected = nearest_reference(x, centroids, METRIC_L2)[1]
    assert torch.equal(certain, ~torch.isin(expected, torch.tensor([3, 7], device=DEVICE)))
    assert torch.equal(labels[certain], expected[certain])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter computes with numpy
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_values_that_are_not_finite_and_ties_are_left_to_others():
    x, centroids = normal(9, 20), normal(30, 20, seed=1)
    x[1, 3], x[4, 5] = float("nan"), float("inf")
    centroids[9] = centroids[2]
    x[6] = centroids[2]
    certain = screened(x, centroids, METRIC_L2)[1]
    assert not certain[[1, 4, 6]].any()
    check(x, centroids, METRIC_L2)
    centroids[5, 5] = float("nan")
    assert not screened(x, centroids, METRIC_L2)[1].any()


def test_rows_of_a_wider_array():
    check(normal(40, 50)[:, 5:30], normal(30, 25, seed=1), METRIC_L2)
    check(normal(25, 40).T, normal(30, 25, seed=1), METRIC_L2)


def test_what_is_asked_for_and_cannot_be(monkeypatch):
    x, centroids = normal(4, 5), normal(3, 5)
    with pytest.raises(RuntimeError, match="one of auto, torch, triton"):
        nearest(x, centroids, METRIC_L2, impl="cuda")
    monkeypatch.setattr(kernels, "_is_installed", lambda: False)
    with pytest.raises(RuntimeError, match="need triton"):
        nearest(x, centroids, METRIC_L2, impl="triton")
    assert not kernels.chosen("nearest", torch.device("cuda"))


def test_a_kernel_that_fails_is_said_once_and_replaced(monkeypatch, caplog):
    monkeypatch.setattr(kernels, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(kernels, "_given_up", set())
    monkeypatch.setattr(tuning, "NEAREST", ())
    x, centroids = normal(4, 5), normal(3, 5)
    with pytest.raises(RuntimeError, match="kernel fails"):
        nearest(x, centroids, METRIC_L2, impl="triton")
    with caplog.at_level(logging.WARNING, logger="faiss_torch"):
        for _ in range(2):
            assert torch.equal(nearest(x, centroids, METRIC_L2)[1], nearest_reference(x, centroids, METRIC_L2)[1])
    assert len(caplog.records) == 1


TARGETS = ("cuda 80 32", "cuda 90 32", "hip gfx942 64")


@pytest.mark.parametrize("target", TARGETS)
def test_it_compiles_for(target):
    script = pathlib.Path(__file__).with_name("compile_kernels.py")
    run = subprocess.run(
        [sys.executable, str(script), *target.split()],
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
    )
    if "no such compiler" in run.stderr:
        pytest.skip("this triton compiles in another way")
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in run.stdout.splitlines()]
    assert len({name for name, _ in rows}) == 18
    assert all(int(shared) <= (64 << 10 if target.startswith("hip") else 160 << 10) for _, shared in rows)
