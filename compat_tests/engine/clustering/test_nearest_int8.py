"""The assignment screened in int8 against its definition."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops.clustering import int8_codes
from faiss_torch.ops.clustering import nearest_int8 as module
from faiss_torch.ops.clustering.nearest import nearest, nearest_labels, nearest_reference
from faiss_torch.ops.clustering.nearest_int8 import Carried
from faiss_torch.ops.runtime import arithmetic

METRICS = [METRIC_L2, METRIC_INNER_PRODUCT]

pytestmark = pytest.mark.skipif(not arithmetic.int8_is_exact(), reason="no exact int8 products on this machine")


@pytest.fixture(autouse=True)
def int8() -> Iterator[None]:
    """Screen everything by int8, however small."""
    with arithmetic.pinned("int8"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ONCE", (0, 0, 0))
        patch.setattr(module, "OFTEN", (0, 0, 0))
        patch.setattr(module, "LEAST_PRODUCTS", 0)
        yield


class Watch:
    """Counts the tiles that were screened, and those that were left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.screened = self.left = 0
        exact = module.assign_tile

        def watched(*arguments: object) -> object:
            found = exact(*arguments)  # type: ignore[arg-type]
            self.screened += found is not None
            self.left += found is None
            return found

        monkeypatch.setattr(module, "assign_tile", watched)


def check(x: torch.Tensor, centroids: torch.Tensor, metric: int, carried: Carried | None = None) -> None:
    D, I = nearest(x, centroids, metric, carried=carried)
    D_reference, I_reference = nearest_reference(x, centroids, metric)
    assert torch.equal(I, I_reference)
    torch.testing.assert_close(D, D_reference, rtol=1e-5, atol=1e-5 * float(D_reference.abs().max()))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 3, 97])
@pytest.mark.parametrize("n", [1, 33, 500])
@pytest.mark.parametrize("k", [1, 31, 32, 33, 100, 500])
def test_sizes(monkeypatch: pytest.MonkeyPatch, n: int, k: int, d: int, metric: int) -> None:
    watch = Watch(monkeypatch)
    rng = torch.Generator().manual_seed(n * 1000 + k)
    x, centroids = torch.randn(n, d, generator=rng), torch.randn(k, d, generator=rng)
    check(x, centroids, metric)
    assert torch.equal(nearest_labels(x, centroids, metric), nearest_reference(x, centroids, metric)[1])
    if d > 1:
        assert watch.screened >= watch.left


@pytest.mark.parametrize("metric", METRICS)
def test_wide_vectors(monkeypatch: pytest.MonkeyPatch, metric: int) -> None:
    """Products are so large that there is no room for a column beside them."""
    watch = Watch(monkeypatch)
    rng = torch.Generator().manual_seed(14)
    x, centroids = torch.randn(100, 2100, generator=rng), torch.randn(70, 2100, generator=rng)
    check(x, centroids, metric)
    check(x, torch.cat([x[:40], centroids]), metric)
    assert watch.screened > 0


KINDS = ["normal", "integers", "tiny", "huge", "far", "outlier", "duplicates", "mixed", "zeros", "sparse", "near"]
KINDS += ["signs"]


def adversarial(kind: str, n: int, k: int, d: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors and centroids that are hard to screen in one way."""
    every = torch.randn(n + k, d, generator=rng)
    if kind == "integers":
        every = (every * 2).round()
    elif kind == "tiny":
        every *= 1e-12
    elif kind == "huge":
        every *= 1e12
    elif kind == "far":
        every += 300
    elif kind == "outlier":
        every[torch.randint(n + k, (2,), generator=rng)] *= 1e6
    elif kind == "duplicates":
        every = every[torch.randint(5, (n + k,), generator=rng) % len(every)]
    elif kind == "mixed":  # norms of all sizes
        every *= torch.exp(4 * torch.randn(n + k, 1, generator=rng))
    elif kind == "zeros":
        every[torch.rand(n + k, generator=rng) < 0.3] = 0
    elif kind == "sparse":
        every *= torch.rand(n + k, d, generator=rng) < 0.1
    elif kind == "near":  # centroids that only the last bits tell apart
        every[n:] = every[n] + torch.randn(k, d, generator=rng) * 1e-6
    elif kind == "signs":  # int8 holds them exactly, and there are ties
        every = every.sign() * 0.7
    return every[:n], every[n:]


def check_best(x: torch.Tensor, centroids: torch.Tensor, metric: int, D: torch.Tensor, I: torch.Tensor) -> None:
    """No centroid is closer by more than float64 knows, and the distance is that to the label."""
    wide, own = x.double(), centroids.double()[I]
    if metric == METRIC_L2:
        keys = (wide[:, None] - centroids.double()).square().sum(2)
        found = (wide - own).square().sum(1)
        size = found
    else:
        keys = -(wide[:, None] * centroids.double()).sum(2)
        found = -(wide * own).sum(1)
        size = (wide[:, None] * centroids.double()).abs().sum(2).amax(1)
    assert bool((found <= keys.amin(1) + 1e-12 * size).all())
    distances = (found if metric == METRIC_L2 else -found).float()
    assert bool(((D - distances).abs() <= 1e-5 * size + 1e-36).all())


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 200),
    k=st.integers(1, 150),
    d=st.integers(1, 70),
    metric=st.sampled_from(METRICS),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_any_data(n: int, k: int, d: int, metric: int, kind: str, seed: int) -> None:
    x, centroids = adversarial(kind, n, k, d, torch.Generator().manual_seed(seed))
    check_best(x, centroids, metric, *nearest(x, centroids, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_carried(kind: str, metric: int) -> None:
    """What one assignment leaves changes no result of the next, though the centroids move and their number changes."""
    rng = torch.Generator().manual_seed(5)
    x, centroids = adversarial(kind, 400, 90, 30, rng)
    carried = Carried()
    for i in range(6):
        moved = centroids + torch.randn(90, 30, generator=rng) * centroids.abs().mean() * 0.3 / (i + 1)
        if i == 4:
            moved = moved[:50]
        check_best(x, moved, metric, *nearest(x, moved, metric, carried=carried))


def test_carried_labels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    exact = module.assign_tile

    def watched(*arguments: object) -> object:
        given.append(arguments[4] is not None)
        return exact(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "assign_tile", watched)
    rng = torch.Generator().manual_seed(6)
    x, centroids = torch.randn(300, 20, generator=rng), torch.randn(64, 20, generator=rng)
    carried = Carried()
    for i in range(3):
        moved = centroids + 0.01 * i
        given.clear()
        check(x, moved, METRIC_L2, carried)
        assert set(given) == {i == 2}
    check(x, -centroids, METRIC_L2, carried)  # bad labels, but not wrong ones
    check(x, centroids, METRIC_L2, carried)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_lowest_id(metric: int) -> None:
    rng = torch.Generator().manual_seed(1)
    distinct = torch.randn(10, 20, generator=rng)
    centroids = distinct[torch.arange(150) % 10]
    carried = Carried()
    for _ in range(3):
        _, I = nearest(torch.randn(500, 20, generator=rng), centroids, metric)
        assert int(I.max()) < 10
        _, I = nearest(distinct * 1.01, centroids, metric, carried=carried)
        assert torch.equal(I, nearest_reference(distinct * 1.01, centroids, metric)[1])


def test_values_that_are_not_finite() -> None:
    rng = torch.Generator().manual_seed(3)
    x, centroids = torch.randn(200, 6, generator=rng), torch.randn(40, 6, generator=rng)
    x[3, 2], x[5, 1] = float("nan"), float("inf")
    for metric in METRICS:
        D, I = nearest(x, centroids, metric)
        D_reference, I_reference = nearest_reference(x, centroids, metric)
        assert torch.equal(I, I_reference)
        torch.testing.assert_close(D, D_reference)
    x, centroids[7] = torch.randn(200, 6, generator=rng), float("nan")
    check(x, centroids, METRIC_L2)


def test_tiles_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles, the last of which repeats rows of the one before, and some of which are left to float32."""
    monkeypatch.setattr(module, "TILE_VECTORS", 64)
    rng = torch.Generator().manual_seed(8)
    x, centroids = torch.randn(1000, 24, generator=rng), torch.randn(70, 24, generator=rng)
    x[130] = 1e20  # too large for int8
    x[990] = 1e20
    watch = Watch(monkeypatch)
    check(x, centroids, METRIC_INNER_PRODUCT)
    check(x[:986], centroids, METRIC_L2)
    assert watch.left >= 2
    assert watch.screened > 10


def test_a_useless_screen_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(9)
    centroids = torch.randn(1, 24, generator=rng) + torch.randn(200, 24, generator=rng) * 1e-3
    x = torch.randn(300, 24, generator=rng) * 100
    watch = Watch(monkeypatch)
    carried = Carried()
    left = []
    for _ in range(4):
        check_best(x, centroids, METRIC_L2, *nearest(x, centroids, METRIC_L2, carried=carried))
        left.append(watch.left)
    assert watch.screened == 0
    assert 0 < left[0] < left[1] == left[3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_centroids_of_half_precision(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(10)
    x, centroids = torch.randn(300, 24, generator=rng), torch.randn(50, 24, generator=rng).to(dtype)
    bias = centroids.float().square().sum(1) / 2
    D, I = nearest(x, centroids, METRIC_L2, bias)
    check_best(x, centroids.float(), METRIC_L2, D, I)


def test_coarse_float32_products_change_nothing() -> None:
    rng = torch.Generator().manual_seed(11)
    x, centroids = torch.randn(500, 40, generator=rng), torch.randn(300, 40, generator=rng)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        check(x, centroids, METRIC_L2)
        check(x, centroids, METRIC_INNER_PRODUCT)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("metric", METRICS)
def test_the_bound_holds(metric: int) -> None:
    """No centroid that is better than the label by true distance is missing among the pairs."""
    rng = torch.Generator().manual_seed(12)
    for kind in KINDS:
        x, centroids = adversarial(kind, 100, 96, 33, rng)
        frame = int8_codes.make_frame(x, metric)
        if frame is None:
            continue
        codes = int8_codes.VectorCodes.empty(frame, *x.shape)
        codes.encode(frame, x)
        encoded = int8_codes.encode_centroids(frame, centroids, 32)
        assert encoded is not None
        given = torch.randint(96, (100,), generator=rng)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "LARGEST_SHARE", 10000)
            buffer = torch.empty(100, encoded.codes.shape[1], dtype=torch.int32)
            found = module.assign_tile(frame, x, codes, encoded, given, buffer)
        if found is None:
            continue
        _, _, pairs = found
        keys = (x.double()[:, None] - centroids.double()).square().sum(2)
        if metric == METRIC_INNER_PRODUCT:
            keys = -(x.double() @ centroids.double().T)
        better = (keys <= keys.gather(1, given[:, None])) & (given[:, None] != torch.arange(96))
        among = torch.zeros(100, 96, dtype=torch.bool)
        among[pairs.rows, pairs.labels] = True
        assert not bool((better & ~among).any()), kind


@pytest.mark.parametrize("settings", [{}, {"spherical": True}, {"int_centroids": True}, {"nredo": 2}])
def test_training_does_not_depend_on_the_screen(settings: dict[str, object]) -> None:
    import faiss_torch

    rng = torch.Generator().manual_seed(13)
    x = torch.randn(5000, 32, generator=rng) * 3 + torch.randint(20, (5000, 1), generator=rng)
    trained = []
    for name in ("int8", "float32"):
        with arithmetic.pinned(name):
            kmeans = faiss_torch.Kmeans(32, 120, niter=12, **settings)
            kmeans.train(x)
        trained.append((kmeans.centroids, kmeans.obj))
    assert torch.equal(trained[0][0], trained[1][0])
    assert trained[0][1].tolist() == trained[1][1].tolist()
