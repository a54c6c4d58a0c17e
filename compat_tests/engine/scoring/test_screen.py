"""The screen's bound and the certificate of the verification, on data that rounding is hard on."""

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours
from hypothesis import given, settings
from hypothesis import strategies as st

from faiss_torch.constants import FLT_MAX, METRIC_INNER_PRODUCT, METRIC_L1, METRIC_L2
from faiss_torch.ops.scoring.scorers import MetricScorer, ProductScorer, Visit, make_scorer, minima_of_blocks, survivors
from faiss_torch.ops.scoring.stored import BLOCK
from faiss_torch.ops.scoring.verify import verified_topk
from faiss_torch.ops.search.filtering import narrowed
from faiss_torch.ops.search.flat import knn_reference
from faiss_torch.parts.growing import GrowingTensor
from faiss_torch.parts.screens.facts import RowFacts

PRODUCTS = (METRIC_L2, METRIC_INNER_PRODUCT)


def stored_rows(xb, metric_type, selected=None):
    """Vectors as the engine reads them."""
    table = GrowingTensor((xb.shape[1],), torch.float32, torch.device("cpu"))
    table.append(xb)
    facts = RowFacts(metric_type, torch.device("cpu"))
    facts.append(0, xb)
    stored = facts.stored(table.room)
    return stored if selected is None else narrowed(stored, selected)[0]


def adversarial(seed=0):
    """Name -> database: data on which rounded products lead astray."""
    rng = np.random.RandomState(seed)
    normal = rng.randn(400, 24)
    outlier = normal.copy()
    outlier[17] = 1e6
    return {
        "normal": normal,
        "near-duplicates": normal[:8].repeat(50, 0) + 1e-6 * rng.randn(400, 24),
        "one outlier": outlier,
        "constant vectors": np.full((400, 24), 3.25),
        "integers": rng.randint(5, size=(400, 24)),
        "large offset": 1000 + 0.01 * normal,
        "two scales": normal * np.where(np.arange(400) % 2, 1e-4, 1e4)[:, None],
        "zeros": np.zeros((400, 24)),
    }


DATA = {name: torch.from_numpy(np.ascontiguousarray(xb, dtype="float32")) for name, xb in adversarial().items()}


@pytest.mark.parametrize("metric_type", PRODUCTS)
@pytest.mark.parametrize("name", DATA)
def test_two_scores_further_apart_than_the_margin_are_in_order(name, metric_type):
    xb = DATA[name]
    xq = xb[::13] + 1e-3
    scorer = make_scorer(xq, stored_rows(xb, metric_type), metric_type)
    assert isinstance(scorer, ProductScorer)
    queries = torch.arange(len(xq))
    scores = scorer.block(Visit(0, 0, 400, queries), torch.empty(400 * len(xq))).T
    x, q = xb.double(), xq.double()
    exact = -(q @ x.T)
    if metric_type == METRIC_L2:
        exact += x.square().sum(1) / 2
    error = (scores.double() - exact).abs()
    assert bool((error <= scorer.margin[:, None].double() / 2).all())
    assert bool((scorer.margin > 0).all()) or name == "zeros"
    # the other two ways to the scores keep the same bound
    gathered = scorer.gathered(queries, torch.arange(400).expand(len(xq), 400))
    assert bool(((gathered.double() - exact).abs() <= scorer.margin[:, None].double() / 2).all())
    row = torch.empty(400)
    scorer.rows_of([Visit(0, 0, 100, torch.tensor([3])), Visit(0, 100, 400, torch.tensor([3]))], row)
    assert bool(((row.double() - exact[3]).abs() <= scorer.margin[3].double() / 2).all())


@pytest.mark.parametrize("metric_type", [*PRODUCTS, METRIC_L1])
@pytest.mark.parametrize("name", DATA)
def test_distances_are_true_distances(name, metric_type):
    xb = DATA[name]
    xq = xb[::29] * 1.001
    scorer = make_scorer(xq, stored_rows(xb, metric_type), metric_type)
    positions = torch.randint(400, (len(xq), 37), generator=torch.Generator().manual_seed(1))
    found = scorer.distances(torch.arange(len(xq)), positions)
    x, q = xb.double()[positions], xq.double()[:, None]
    if metric_type == METRIC_INNER_PRODUCT:
        scale = (x.norm(dim=-1) * q.norm(dim=-1)).numpy()
        assert (np.abs(found.numpy() - (x * q).sum(-1).numpy()) <= 3e-6 * scale).all()
    else:
        difference = (x - q).abs()
        exact = difference.sum(-1) if metric_type == METRIC_L1 else difference.square().sum(-1)
        # no cancellation: relative to the distance itself
        np.testing.assert_allclose(found, exact, rtol=5e-6, atol=1e-30)


@pytest.mark.parametrize("metric_type", PRODUCTS)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("k", [1, 7, 60, 400])
def test_verified_results_are_those_of_float64(name, metric_type, k):
    xb = DATA[name]
    xq = xb[::13] + 1e-3
    stored = stored_rows(xb, metric_type)
    scorer = make_scorer(xq, stored, metric_type)
    queries = torch.arange(len(xq))
    scores = scorer.block(Visit(0, 0, 400, queries), torch.empty(400 * len(xq))).T.contiguous()
    similarity = metric_type == METRIC_INNER_PRODUCT
    D, I = verified_topk(scorer, queries, scores, torch.arange(400), None, k, similarity)
    D_exact, I_exact = knn_reference(xq.double(), xb.double(), k, metric_type)
    largest = float(xq.norm(dim=1).max() * xb.norm(dim=1).max())
    assert_same_neighbours(D, I, D_exact, I_exact, rtol=1e-5, atol=2e-6 * largest if similarity else 1e-30)


def test_a_query_without_its_certificate_is_done_again():
    """Scores with the widest errors the margin allows: only what is verified decides."""
    generator = torch.Generator().manual_seed(2)
    xb = torch.randn(300, 16, generator=generator)
    xq = torch.randn(9, 16, generator=generator)
    scorer = make_scorer(xq, stored_rows(xb, METRIC_L2), METRIC_L2)
    queries = torch.arange(9)
    scores = scorer.gathered(queries, torch.arange(300).expand(9, 300))
    scorer.margin.fill_(2.0)
    wrong = scores + (torch.rand(9, 300, generator=generator) - 0.5) * 1.99
    for k in (1, 5, 50):
        D, I = verified_topk(scorer, queries, wrong, torch.arange(300), None, k, False)
        D_exact, I_exact = knn_reference(xq.double(), xb.double(), k, METRIC_L2)
        assert_same_neighbours(D, I, D_exact, I_exact)


def test_equal_distances_go_to_the_lowest_id():
    xb = torch.zeros(64, 4)
    xq = torch.ones(2, 4)
    ids = torch.arange(64).flip(0) * 3
    scorer = make_scorer(xq, stored_rows(xb, METRIC_L2), METRIC_L2)
    scores = scorer.gathered(torch.arange(2), torch.arange(64).expand(2, 64))
    D, positions = verified_topk(scorer, torch.arange(2), scores, torch.arange(64), ids, 5, False)
    assert ids[positions].tolist() == [[0, 3, 6, 9, 12]] * 2
    assert D.tolist() == [[4.0] * 5] * 2


def test_the_scorer_fits_the_data():
    finite = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    infinite = finite.clone()
    infinite[3, 1] = float("inf")
    for metric_type, xb, xq, cls in (
        (METRIC_L2, finite, finite, ProductScorer),
        (METRIC_INNER_PRODUCT, finite, finite, ProductScorer),
        (METRIC_L1, finite, finite, MetricScorer),
        (METRIC_L2, infinite, finite, MetricScorer),
        (METRIC_L2, finite, infinite, MetricScorer),
        (METRIC_L2, finite * 1e30, finite, MetricScorer),
    ):
        assert type(make_scorer(xq, stored_rows(xb, metric_type), metric_type)) is cls


def test_hidden_rows_and_rows_never_written_score_infinity():
    xb = torch.randn(21, 4, generator=torch.Generator().manual_seed(1))
    selected = torch.ones(21, dtype=torch.bool)
    selected[[2, 5]] = False
    for metric_type in (*PRODUCTS, METRIC_L1):
        scorer = make_scorer(xb[:3], stored_rows(xb, metric_type, selected), metric_type)
        scores = scorer.block(Visit(0, 0, 32, torch.arange(3)), torch.empty(96))
        infinite = scores.isinf().all(1).nonzero().view(-1).tolist()
        assert infinite == [2, 5, *range(21, 32)]
        assert int(scores.isinf().sum()) == 3 * len(infinite)


@settings(deadline=None, max_examples=40)
@given(nblock=st.integers(1, 9), group=st.integers(1, 7), seed=st.integers(0, 999), share=st.floats(0, 1))
def test_survivors_are_all_scores_within_the_threshold(nblock, group, seed, share):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(nblock * BLOCK, group, generator=generator)
    scores[torch.rand(scores.shape, generator=generator) < 0.1] = float("inf")
    thresholds = torch.full((group,), share * 4 - 2)
    thresholds[0] = float("inf")
    minima = minima_of_blocks(scores, BLOCK)
    for j in range(nblock):
        assert torch.equal(minima[j], scores[j::nblock].amin(0))
    rows, columns, values = survivors(scores, minima, thresholds)
    found = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(found) == len(rows)
    wanted = (scores <= thresholds) & (scores < float("inf"))
    assert found == set(map(tuple, wanted.nonzero().tolist()))
    assert torch.equal(values, scores[rows, columns])


@pytest.mark.parametrize("width", [5, 12, 40, 300])
@pytest.mark.parametrize("similarity", [False, True])
def test_exact_scores_are_not_computed_again(width, similarity):
    """Of few distinct values, so that ties are cut off by k: the lowest ids are kept, in whatever order they stand."""

    class Exact:
        exact = True

    rng = torch.Generator().manual_seed(width)
    scores = torch.randint(-3, 4, (30, width), generator=rng).float()
    scores[3], scores[4, 2:] = float("inf"), float("inf")
    scores[5, 1] = FLT_MAX
    ids = torch.randperm(width, generator=rng) * 7 + 1
    k = 6
    queries, positions = torch.arange(30), torch.arange(width)
    D, found = verified_topk(Exact(), queries, scores.clone(), positions, ids, k, similarity)
    for row in range(30):
        expected = sorted((float(score), int(i)) for score, i in zip(scores[row], ids, strict=True) if score < FLT_MAX)
        expected = expected[:k] + [(FLT_MAX, -1)] * (k - len(expected))
        assert [(-float(a) if similarity else float(a)) for a in D[row]] == [score for score, _ in expected]
        assert [int(ids[i]) if i >= 0 else -1 for i in found[row]] == [i for _, i in expected]
