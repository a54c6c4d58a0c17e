"""Hamming distances and vectors of bits beside faiss's."""

import numpy as np
import pytest
import torch

import faiss_torch

faiss = pytest.importorskip("faiss")

MODULES = (faiss, faiss_torch)


def codes(n, size, seed=0, highest=256):
    return np.random.default_rng(seed).integers(0, highest, (n, size), dtype=np.uint8)


def both(call, *outputs):
    """What a function writes behind pointers, in faiss and here: it is called with the module and its outputs."""
    found = []
    for module in MODULES:
        own = [np.zeros_like(output) for output in outputs]
        result = call(module, *(module.swig_ptr(array) for array in own))
        found.append([*own, result])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return found[1]


@pytest.mark.torch_settings
@pytest.mark.parametrize("variant", ["hc", "mc"])
@pytest.mark.parametrize(
    ("nq", "nb", "size", "k", "highest"),
    [(5, 300, 8, 10, 256), (40, 3000, 5, 7, 2), (3, 4, 2, 9, 256), (2, 9, 1, 2, 4)],
)
def test_knn_hamming(nq, nb, size, k, highest, variant):
    xq, xb = codes(nq, size, 1, highest), codes(nb, size, 2, highest)
    # not with k=0, for which faiss writes beyond its results
    theirs, ours = (module.knn_hamming(xq, xb, k, variant=variant) for module in MODULES)
    for expected, found in zip(theirs, ours, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    as_tensors = faiss_torch.knn_hamming(torch.from_numpy(xq), torch.from_numpy(xb), k)
    for expected, found in zip(theirs, as_tensors, strict=True):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_what_knn_hamming_refuses():
    xq, xb = codes(3, 8), codes(9, 8)
    for module in MODULES:
        with pytest.raises(AssertionError):
            module.knn_hamming(xq[:, :4].copy(), xb, 2)
        with pytest.raises(TypeError):
            module.knn_hamming(xq.astype(np.float32), xb, 2)
        with pytest.raises(NotImplementedError):
            module.knn_hamming(xq, xb, 2, variant="x")
        with pytest.raises(ValueError, match=r"-1|negative"):
            module.knn_hamming(xq, xb, -1)
    with pytest.raises(TypeError, match="one device"):
        faiss_torch.knn_hamming(torch.from_numpy(xq).to("meta"), xb, 2)
    assert isinstance(faiss_torch.knn_hamming(torch.from_numpy(xq), xb, 2)[1], torch.Tensor)


def test_pairs_behind_pointers():
    a, b = codes(30, 8, 1), codes(200, 8, 2)
    dis = np.empty((30, 200), dtype=np.int32)

    def pointers(module):
        return module.swig_ptr(a), module.swig_ptr(b)

    both(lambda module, out: module.hammings(*pointers(module), 30, 200, 8, out), dis)
    count = np.empty(1, dtype=np.uint64)
    for ht in (-1, 0, 22, 64):
        (counted, _) = both(
            lambda module, out, ht=ht: module.hamming_count_thres(*pointers(module), 30, 200, ht, 8, out), count
        )
        both(lambda module, out, ht=ht: module.crosshamming_count_thres(module.swig_ptr(b), 200, ht, 8, out), count)
        n = int(counted[0])
        idx, near = np.empty((n, 2), dtype=np.int64), np.empty(n, dtype=np.int32)
        if n:
            both(
                lambda module, *out, ht=ht: module.match_hamming_thres(*pointers(module), 30, 200, ht, 8, *out),
                idx,
                near,
            )


def heaps(module, D, I):
    found = module.int_maxheap_array_t()
    found.nh, found.k = D.shape
    found.val, found.ids = module.swig_ptr(D), module.swig_ptr(I)
    return found


@pytest.mark.parametrize("selected", [None, [3, 5, 8, 100, 17, 19, 20, 21, 160], [7]])
def test_neighbours_behind_pointers(selected):
    a, b = codes(6, 16, 1), codes(200, 16, 2)
    results = []
    for module in MODULES:
        D, I = np.empty((6, 4), dtype=np.int32), np.empty((6, 4), dtype=np.int64)
        pointers = (module.swig_ptr(a), module.swig_ptr(b))
        sel = () if selected is None else (module.IDSelectorBatch(selected),)
        module.hammings_knn_hc(heaps(module, D, I), *pointers, 200, 16, 1, 0, *sel)
        results.append((D, I))
        D, I = np.empty((6, 4), dtype=np.int32), np.empty((6, 4), dtype=np.int64)
        module.hammings_knn_mc(*pointers, 6, 200, 4, 16, module.swig_ptr(D), module.swig_ptr(I), *sel)
        results.append((D, I))
        D, I = np.empty((6, 4), dtype=np.int32), np.empty((6, 4), dtype=np.int64)
        module.hammings_knn(heaps(module, D, I), *pointers, 200, 16, 1)
        results.append((D, I))
    for theirs, ours in zip(results[:3], results[3:], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    with pytest.raises(RuntimeError, match="val and ids"):
        module.hammings_knn_hc(faiss_torch.int_maxheap_array_t(), *pointers, 200, 16, 1)


def test_vectors_of_bits_behind_pointers():
    d, n = 21, 6
    x = np.random.default_rng(3).standard_normal((n, d)).astype(np.float32)
    x[0, :4] = 0
    packed = np.empty((n, 3), dtype=np.uint8)
    bits, _ = both(lambda module, out: module.fvecs2bitvecs(module.swig_ptr(x), out, d, n), packed)
    both(lambda module, out: module.fvec2bitvec(module.swig_ptr(x), out, d), packed[0])
    both(lambda module, out: module.bitvecs2fvecs(module.swig_ptr(bits), out, d, n), x)
    both(lambda module, out: module.real_to_binary(16, module.swig_ptr(x), out), packed[0, :2])
    both(lambda module, out: module.binary_to_real(16, module.swig_ptr(bits), out), x[0, :16])
    both(lambda module, out: module.bincode_hist(n, 24, module.swig_ptr(bits), out), np.empty(24, dtype=np.int32))
    order = np.array([3, 3, 20, 0, 7, 1, 2, 9, 11], dtype=np.int32)

    def shuffled(module, out):
        return module.bitvec_shuffle(n, d, 9, module.swig_ptr(order), module.swig_ptr(bits), out)

    both(shuffled, packed[:, :2].copy())
    order[2] = 21
    with pytest.raises(RuntimeError, match="21"):
        shuffled(faiss_torch, faiss_torch.swig_ptr(packed))


@pytest.mark.parametrize("nbit", [1, 5, 11, 31, [1, 7, 12, 3]])
def test_integers_of_a_few_bits(nbit):
    widths = np.broadcast_to(nbit, 4)
    a = np.stack([np.random.default_rng(4).integers(0, 1 << width, 9) for width in widths], axis=1).astype(np.int32)
    packed = [module.pack_bitstrings(a, nbit) for module in MODULES]
    np.testing.assert_array_equal(packed[1], packed[0])
    arguments = (4, nbit) if isinstance(nbit, int) else (nbit,)
    for module in MODULES:
        np.testing.assert_array_equal(module.unpack_bitstrings(packed[0], *arguments), a)
        with pytest.raises(AssertionError):
            module.unpack_bitstrings(packed[0][:, : packed[0].shape[1] - 1].copy(), *arguments)
    for module in MODULES:
        with pytest.raises(AssertionError):
            module.pack_bitstrings(a, [3, 4])


def test_counts_of_bits():
    for number in (0, 1, 0xFFFFFFFF, 0x80000001):
        assert faiss_torch.popcount32(number) == faiss.popcount32(number)
    for number in (0, 1, 2**64 - 1, 2**63 + 5):
        assert faiss_torch.popcount64(number) == faiss.popcount64(number)
