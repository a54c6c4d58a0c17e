"""Recall of IVF-Flat by nprobe on fixed data, ours and faiss's side by side."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow

NB, NQ, D, NLIST = 20000, 500, 32, 128
NPROBES = (1, 2, 4, 8, 16, 32, 64, 128)


@pytest.fixture(scope="module")
def data():
    """Database, queries, and the 100 true neighbours, from faiss's generator (which faiss_torch follows)."""
    import faiss_torch

    x = faiss_torch.rand_smooth_vectors(NB + NQ, D, 1234)
    exact = faiss_torch.IndexFlatL2(D)
    exact.add(x[:NB])
    return x[:NB], x[NB:], exact.search(x[NB:], 100)[1]


def recalls(module, data, metric):
    """{"recall@r": [by nprobe]} of an index that the module trains and searches."""
    xb, xq, _ = data
    metric_type = getattr(module, metric)
    exact = module.IndexFlat(D, metric_type)
    exact.add(xb)
    truth = exact.search(xq, 100)[1]
    index = module.index_factory(D, f"IVF{NLIST},Flat", metric_type)
    index.train(xb)
    index.add(xb)
    found = {}
    for index.nprobe in NPROBES:
        _, I = index.search(xq, 100)
        for r in (1, 10, 100):
            hits = sum(len(np.intersect1d(I[i, :r], truth[i, :r])) for i in range(NQ))
            found.setdefault(f"recall@{r}", []).append(hits / (NQ * r))
    return found


def table(columns):
    """A table as text: one row per nprobe."""
    lines = ["  ".join(f"{name:>16}" for name in columns)]
    for row in zip(*columns.values(), strict=True):
        lines.append("  ".join(f"{value:16.4f}" if isinstance(value, float) else f"{value:16d}" for value in row))
    return "\n".join(lines) + "\n"


def assert_close(obtained, expected):
    """Compare two files of a table: two in a thousand may change sides by the rounding of the centroids."""
    found, wanted = (path.read_text().splitlines() for path in (obtained, expected))
    assert found[0] == wanted[0]
    values = [np.array([line.split() for line in lines[1:]], dtype="float64") for lines in (found, wanted)]
    np.testing.assert_allclose(*values, atol=2e-3, rtol=0)


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_recall_by_nprobe(reference, ours, data, metric, file_regression):
    by_module = {name: recalls(module, data, metric) for name, module in (("faiss", reference), ("torch", ours))}
    columns = {"nprobe": list(NPROBES)}
    for r in (1, 10, 100):
        for name, found in by_module.items():
            columns[f"{name} {r}-recall@{r}"] = found[f"recall@{r}"]
        np.testing.assert_allclose(columns[f"torch {r}-recall@{r}"], columns[f"faiss {r}-recall@{r}"], atol=2e-3)
    assert columns["torch 10-recall@10"][-1] == pytest.approx(1, abs=1e-3)
    file_regression.check(table(columns), check_fn=assert_close)


def test_the_truth_is_faisss(reference, data):
    xb, xq, truth = data
    exact = reference.IndexFlatL2(D)
    exact.add(xb)
    expected = exact.search(xq, 100)[1]
    assert (truth == expected).mean() > 0.999
