"""What the tests of screens share: data that lead rounded products astray, and settings for small data."""

import numpy as np
import torch

from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2
from faiss_torch.ops.byte_sums import lists as list_byte_sums
from faiss_torch.ops.scoring.distances import distance
from faiss_torch.ops.search.flat import knn_reference
from faiss_torch.parts.screens import copies

METRICS = (METRIC_L2, METRIC_INNER_PRODUCT)


def adversarial(n, d, seed=0):
    """Name -> vectors on which rounded products lead astray."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n, d))
    outlier = normal.copy()
    outlier[n // 3] = 1e6
    outlying_component = normal.copy()
    outlying_component[:, d // 2] *= 300
    data = {
        "normal": normal,
        "near-duplicates": np.resize(normal[:40], (n, d)) + 1e-6 * rng.standard_normal((n, d)),
        "duplicates": np.resize(normal[:100], (n, d)),
        "one outlier": outlier,
        "one component": outlying_component,
        "constant vectors": np.full((n, d), 3.25),
        "integers": rng.integers(5, size=(n, d)),
        "large offset": 1000 + 0.01 * normal,
        "two scales": normal * np.where(np.arange(n) % 2, 1e-4, 1e4)[:, None],
        "many scales": normal * np.exp(rng.uniform(-12, 12, n))[:, None],
        "huge": normal * 1e15,
        "tiny": normal * 1e-15,
        "zeros": np.zeros((n, d)),
        "sorted": normal[np.argsort(normal[:, 0])],
    }
    return {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in data.items()}


NAMES = tuple(adversarial(8, 2))


def reference(xb, xq, k, metric_type):
    return knn_reference(torch.from_numpy(xq).double(), torch.from_numpy(xb).double(), k, metric_type)


def check_neighbours(found, xq, xb, k, metric_type):
    """Compare with the definition in float64: the same rows, but where their distances are equal but for rounding."""
    D, I = (each.cpu() for each in found)
    xq, xb = xq.cpu().double(), xb.cpu().double()
    D_reference, I_reference = knn_reference(xq, xb, k, metric_type)
    bound = 1e-5 * xq.norm(dim=1, keepdim=True) * xb.norm(dim=1).max()  # what rounding makes of a product
    if metric_type == METRIC_L2:
        bound = 1e-5 * D_reference.abs()
    assert torch.equal(I < 0, I_reference < 0)
    missing = I < 0
    assert ((D.double() - D_reference).abs() <= bound + 1e-38)[~missing].all()
    exact = torch.stack([distance(q, xb[i], metric_type) for q, i in zip(xq, I.clamp(min=0), strict=True)])
    assert ((exact - D_reference).abs() <= 2 * bound + 1e-38)[~missing].all()
    assert (D.diff(dim=1) * (1 if metric_type == METRIC_L2 else -1) >= 0).all()
    assert (I.diff(dim=1) > 0)[(D.diff(dim=1) == 0) & ~missing[:, 1:]].all()


def few_queries_by_blocks(monkeypatch, few):
    """Have searches of up to so many queries a list go by blocks, however small the data are."""
    monkeypatch.setattr(list_byte_sums, "FEW_QUERIES_A_LIST", few)
    monkeypatch.setattr(list_byte_sums, "SMALLEST_SHARE_USED", 0.0)
    monkeypatch.setattr(list_byte_sums, "FEWEST_COMPONENTS", 1)
    monkeypatch.setattr(copies, "SCANS_WORTH_A_COPY", 0)
