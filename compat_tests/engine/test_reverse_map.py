"""ReverseMap beside a dictionary."""

import pickle

import numpy as np
import pytest
import torch

from faiss_torch.parts import reverse_map
from faiss_torch.parts.growing import GrowingTensor
from faiss_torch.parts.reverse_map import ReverseMap


@pytest.mark.parametrize("few", [1, 10, 10**6])
def test_it_finds_what_a_dictionary_finds(monkeypatch, few):
    """Whether new ids are sorted with the others at once, now and then, or never."""
    monkeypatch.setattr(reverse_map, "FEW_NEW", few)
    rng = np.random.RandomState(few)
    ids = GrowingTensor((), torch.int64, torch.device("cpu"))
    found, expected = ReverseMap(ids), {}
    for step in range(40):
        new = rng.randint(-50, 400, size=rng.randint(12))
        expected.update(zip(new.tolist(), range(ids.size, ids.size + len(new)), strict=True))
        ids.append(torch.from_numpy(new))
        if step % 3:
            keys = rng.randint(-60, 410, size=(5, 4))
            wanted = [[expected.get(key, -1) for key in row] for row in keys.tolist()]
            assert found.find(torch.from_numpy(keys)).tolist() == wanted
    assert dict(found) == expected
    assert found.size() == len(found) == len(expected)


def test_it_is_a_mapping():
    ids = GrowingTensor((), torch.int64, torch.device("cpu"))
    ids.append(torch.tensor([7, -2]))
    found = ReverseMap(ids)
    assert -2 in found
    assert 0 not in found
    assert found[-2] == 1
    with pytest.raises(KeyError):
        found[0]
    ids.replace(torch.tensor([-2]))
    found.construct()
    assert found[-2] == 0
    assert pickle.loads(pickle.dumps(found))[-2] == 0


def test_an_empty_one():
    found = ReverseMap(GrowingTensor((), torch.int64, torch.device("cpu")))
    assert found.find(torch.tensor([3])).tolist() == [-1]
    assert (list(found), found.size()) == ([], 0)
