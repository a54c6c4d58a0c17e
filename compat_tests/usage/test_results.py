"""Results stand in memory of their own, in one piece: writing to them changes nothing, and nothing changes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

D_IN = 8
XB = np.random.default_rng(5).standard_normal((300, D_IN)).astype("float32")
XQ = XB[:5] + np.float32(0.01)


def flat(faiss):
    index = faiss.IndexFlatL2(D_IN)
    index.add(XB)
    return index


def ivf(faiss):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 4)
    index.train(XB)
    index.add(XB)
    index.make_direct_map()
    index.nprobe = 2
    return index


def id_map(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN))
    index.add_with_ids(XB, np.arange(300))
    return index


VERBS = {
    "search": lambda index, x: index.search(x, 3),
    "search_one": lambda index, x: index.search(x[:1], 3),
    "range_search": lambda index, x: index.range_search(x, 5.0),
    "assign": lambda index, x: (index.assign(x, 2),),
    "search_and_reconstruct": lambda index, x: index.search_and_reconstruct(x, 2),
    "sa_encode": lambda index, x: (index.sa_encode(x),),
    "sa_decode": lambda index, x: (index.sa_decode(index.sa_encode(x)),),
    "reconstruct": lambda index, x: (index.reconstruct(3),),
    "reconstruct_n": lambda index, x: (index.reconstruct_n(0, 10),),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("build", [flat, ivf, id_map])
def test_arrays_own_their_data(faiss, build, verb):
    if build is id_map and verb.startswith("sa_"):
        pytest.skip("faiss's IDMap is no codec")
    for found in VERBS[verb](build(faiss), XQ):
        assert found.flags.owndata
        assert found.flags.c_contiguous
        assert found.flags.writeable


def test_results_of_few_among_few_are_in_one_piece(faiss):
    index = faiss.IndexFlatL2(D_IN)
    index.add(XB[:4])
    for found in index.search(XQ, 2):
        assert found.flags.c_contiguous


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("build", [flat, ivf, id_map])
def test_tensors_share_nothing(ours, build, verb, monkeypatch):
    from faiss_torch import border

    monkeypatch.setattr(border.Tensors, "without_input", True)
    index, x = build(ours), torch.from_numpy(XQ.copy())
    given = x.clone()
    for found in VERBS[verb](index, x):
        assert found.is_contiguous()
        found.zero_()
    assert torch.equal(x, given)
    np.testing.assert_array_equal(index.reconstruct_n(0, 300), XB)


def test_results_of_functions_can_be_pointed_to(faiss):
    codes = faiss.pack_bitstrings(np.ones((3, 4), "int32"), 3)
    results = (
        *faiss.knn(XQ, XB, 3),
        faiss.pairwise_distances(XQ, XB),
        *faiss.kmin(XB, 3),
        codes,
        faiss.unpack_bitstrings(codes, 4, 3),
        *faiss.bucket_sort(np.array([1, 0, 2, 1])),
        faiss.rand((3, 4)),
        faiss.serialize_index(flat(faiss)),
    )
    for found in results:
        assert found.flags.writeable
        faiss.swig_ptr(found)
