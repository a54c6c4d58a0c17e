"""The seam for codecs: one that is written here is searched, filtered, written and read like any other.

It stores a vector as bytes, one a component, in steps of a quarter. The same vectors in an IndexIVFFlat or IndexFlat
are the reference: what is found, and how far it is, has to be the same.
"""

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.indexes.ivf.base import IndexIVF
from faiss_torch.parts.codecs.codec import Codec

D, NB, NLIST, K = 24, 3000, 20, 7
STEP = 0.25


class Quarters(Codec):
    def __init__(self, d):
        self.d = self.code_size = d

    def encode(self, x):
        return x.div(STEP).round_().clamp_(-128, 127).add_(128).to(torch.uint8)

    def decode(self, codes):
        return codes.to(torch.float32).sub_(128).mul_(STEP)


class IndexIVFQuarters(IndexIVF):
    _quarters: Quarters

    def __init__(self, quantizer, d, nlist, metric, by_residual):
        super().__init__(quantizer, d, nlist, d, metric)
        self.by_residual = by_residual
        self._quarters = Quarters(d)

    def _codec(self):
        return self._quarters


def data(n, seed):
    rng = np.random.RandomState(seed)
    return (rng.randn(n, D) + 2 * rng.randint(-2, 3, size=(n, 1))).astype("float32")


XB, XQ = data(NB, 1), data(600, 2)


@pytest.fixture(params=[faiss_torch.METRIC_L2, faiss_torch.METRIC_INNER_PRODUCT, faiss_torch.METRIC_L1])
def metric(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "by residual"])
def pair(request, metric):
    """An index of the codec, and one of the vectors that its codes stand for."""
    quantizer = faiss_torch.IndexFlatL2(D)
    quantizer.add(XB[:NLIST])
    index = IndexIVFQuarters(quantizer, D, NLIST, metric, request.param)
    index.is_trained = True
    index.add(XB[:1000])
    index.search(XQ[:3], 2)  # what a search has to know of rows is kept as rows come
    index.add(XB[1000:])
    index.make_direct_map()
    reference = faiss_torch.IndexIVFFlat(quantizer, D, NLIST, metric)
    lists = index.invlists
    for list_no in range(NLIST):
        n = lists.list_size(list_no)
        ids = faiss_torch.rev_swig_ptr(lists.get_ids(list_no), n)
        x = index.reconstruct_batch(ids)
        reference.add_core(n, x, ids, np.full(n, list_no))
    index.nprobe = reference.nprobe = 6
    return index, reference


def assert_same(found, expected, rtol=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-3)
    D, I, wanted = found[-2], found[-1], expected[-1]
    differ = I != wanted
    # where rounding parts two that are equally far
    assert differ.sum() <= 0.02 * differ.size
    np.testing.assert_allclose(D[differ], expected[-2][differ], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("nq", [0, 1, 40, 600])
@pytest.mark.parametrize("mode", ["auto", "matrix", "csr"])
def test_search(pair, nq, mode):
    index, reference = pair
    index.search_mode = mode
    assert_same(index.search(XQ[:nq], K), reference.search(XQ[:nq], K))


@pytest.mark.parametrize("nq", [1, 40])
@pytest.mark.parametrize("share", [0.02, 0.7])
def test_filters(pair, nq, share):
    index, reference = pair
    chosen = np.random.RandomState(3).permutation(NB)[: int(share * NB)]
    params = faiss_torch.SearchParametersIVF(sel=faiss_torch.IDSelectorBatch(chosen), nprobe=9)
    assert_same(index.search(XQ[:nq], K, params=params), reference.search(XQ[:nq], K, params=params))


@pytest.mark.parametrize("nq", [1, 40])
def test_max_codes(pair, nq):
    index, reference = pair
    params = faiss_torch.SearchParametersIVF(max_codes=150, nprobe=9)
    assert_same(index.search(XQ[:nq], K, params=params), reference.search(XQ[:nq], K, params=params))


@pytest.mark.parametrize("nq", [0, 1, 40, 600])
@pytest.mark.parametrize("mode", ["matrix", "csr"])
def test_range_search(pair, nq, mode):
    index, reference = pair
    index.search_mode = mode
    distances = reference.search(XQ[:40], 20)[0]
    radius = float(np.median(distances[:, -1])) + 0.0137  # between two steps
    found, expected = index.range_search(XQ[:nq], radius), reference.range_search(XQ[:nq], radius)
    assert np.abs(found[0] - expected[0]).max() <= 1 + 0.01 * expected[0][-1]
    for i in range(nq):
        mine, theirs = (set(each[2][each[0][i] : each[0][i + 1]].tolist()) for each in (found, expected))
        assert len(mine ^ theirs) <= 1


def test_reading_back(pair):
    index, reference = pair
    np.testing.assert_allclose(index.reconstruct(5), reference_vector(reference, 5), atol=1e-6)
    assert np.abs(index.reconstruct_n(0, NB) - XB).max() <= STEP / 2 + 1e-4
    _, I, R = index.search_and_reconstruct(XQ[:3], K)
    np.testing.assert_allclose(R[1, 2], index.reconstruct(int(I[1, 2])))
    codes = index.sa_encode(XB[:10])
    np.testing.assert_allclose(index.sa_decode(codes), index.reconstruct_n(0, 10), atol=1e-6)


def reference_vector(reference, key):
    reference.make_direct_map()
    return reference.reconstruct(key)


def test_removal_and_addition(pair):
    index, reference = pair
    for each in pair:
        each.set_direct_map_type(faiss_torch.DirectMap.NoMap)
        each.remove_ids(np.arange(0, NB, 3))
    assert_same(index.search(XQ[:40], K), reference.search(XQ[:40], K))
    lists = [each.invlists for each in pair]
    assert lists[0].compute_ntotal() == lists[1].compute_ntotal() == index.ntotal


def test_lists_in_a_file(pair, tmp_path):
    """Which search, and write, know nothing of what codes mean."""
    index, reference = pair
    index.set_direct_map_type(faiss_torch.DirectMap.NoMap)
    lists = faiss_torch.OnDiskInvertedLists(NLIST, index.code_size, str(tmp_path / "lists"))
    lists.merge_from(index.invlists, 0)
    index.replace_invlists(lists)
    assert_same(index.search(XQ[:40], K), reference.search(XQ[:40], K))
    faiss_torch.write_InvertedLists(lists, str(tmp_path / "header"))
    index.replace_invlists(faiss_torch.read_InvertedLists(str(tmp_path / "header")))
    assert_same(index.search(XQ[:40], K), reference.search(XQ[:40], K))


def test_values_that_are_not_finite(pair):
    """A codec of floats may store them; a query may have them with any."""
    index, reference = pair
    xq = XQ[:5].copy()
    xq[1, 3], xq[2] = np.nan, np.inf
    assert_same(index.search(xq, K), reference.search(xq, K))
