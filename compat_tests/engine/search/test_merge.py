"""Joining the results of parts beside plain Python."""

import numpy as np
import pytest
import torch

from faiss_torch.ops.search import merge


@pytest.mark.parametrize("similarity", [False, True])
@pytest.mark.parametrize(("nq", "parts", "k"), [(1, 1, 1), (5, 3, 4), (7, 2, 9), (0, 2, 3)])
def test_nearest_of_parts(similarity, nq, parts, k):
    rng = np.random.RandomState(nq)
    sign = -1 if similarity else 1
    D = sign * np.sort(rng.randint(4, size=(parts, nq, k)), axis=2).astype("float32")
    I = rng.permutation(D.size).reshape(D.shape)
    I[rng.rand(*I.shape) < 0.2] = -1
    D[I < 0] = sign * np.finfo("float32").max
    found_D, found_I = merge.nearest_of_parts(list(torch.from_numpy(D)), list(torch.from_numpy(I)), k, similarity)
    assert found_D.shape == found_I.shape == (nq, k)
    for q in range(nq):
        pairs = [(sign * D[p, q, j], I[p, q, j]) for p in range(parts) for j in range(k)]
        expected = sorted(pair for pair in pairs if pair[1] >= 0)[:k]  # ties to the lowest label
        expected += [(float(np.finfo("float32").max), -1)] * (k - len(expected))
        assert found_I[q].tolist() == [label for _, label in expected]
        assert (sign * found_D[q]).tolist() == [distance for distance, _ in expected]


def test_ranges_of_parts():
    def part(rows):
        counts = torch.tensor([0, *(len(row) for row in rows)])
        labels = torch.tensor([label for row in rows for label in row], dtype=torch.int64)
        return counts.cumsum(0), labels.float() / 2, labels

    rows = [[[3, 1], [], [4]], [[], [], [9, 7]], [[5], [], []]]
    lims, D, I = merge.ranges_of_parts([part(one) for one in rows])
    assert lims.tolist() == [0, 3, 3, 6]
    assert I.tolist() == [3, 1, 5, 4, 9, 7]
    assert D.tolist() == [1.5, 0.5, 2.5, 2.0, 4.5, 3.5]
