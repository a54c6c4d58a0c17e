"""IndexScalarQuantizer and IndexIVFScalarQuantizer beside faiss: both hold the same bytes, and are searched."""

import pickle

import numpy as np
import pytest
import torch

import faiss_torch

D, NB, NLIST, K = 19, 2500, 16, 8
TYPES = ("SQ8", "SQ4", "SQ6", "SQfp16", "SQbf16", "SQ8_direct", "SQ8_direct_signed", "SQ0")
METRICS = ("METRIC_L2", "METRIC_INNER_PRODUCT")


def data(n, seed, d=D):
    rng = np.random.RandomState(seed)
    centres = np.random.RandomState(0).randn(30, d) * 4 + 20
    return (centres[rng.randint(30, size=n)] + rng.randn(n, d)).astype("float32")


XB, XQ = data(NB, 1), data(600, 2)


def texts():
    for name in TYPES:
        if name != "SQ0":
            yield name
        yield f"IVF{NLIST},{name}"


def made(reference, text, metric, by_residual=True):
    """An index of faiss that is trained and filled, and ours of its bytes."""
    index = reference.index_factory(D, text, getattr(reference, metric))
    if not by_residual:
        index.by_residual = False
    index.train(XB)
    index.add(XB)
    ours = faiss_torch.deserialize_index(reference.serialize_index(index))
    if text.startswith("IVF"):
        index.nprobe = ours.nprobe = 5
    return index, ours


def assert_same(found, expected):
    """The same distances but for rounding, and the same ids but where rounding, or a tie, parts them."""
    scale = np.abs(expected[0][np.abs(expected[0]) < 1e30]).max(initial=1.0)
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5, atol=2e-6 * scale)
    differ = found[1] != expected[1]
    if expected[1].size:
        np.testing.assert_allclose(found[0][differ], expected[0][differ], rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("text", [*texts()])
class TestSearched:
    def test_neighbours(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        assert type(ours).__name__ == type(reference.downcast_index(theirs)).__name__
        for nq in (0, 1, 40, 600):
            for mode in ("auto", "matrix", "csr") if text.startswith("IVF") else ("auto",):
                if mode != "auto":
                    ours.search_mode = mode
                assert_same(ours.search(XQ[:nq], K), theirs.search(XQ[:nq], K))

    def test_more_than_there_are(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        for index in (theirs, ours):
            index.remove_ids(np.arange(20, NB))
        found, expected = ours.search(XQ[:3], 30), theirs.search(XQ[:3], 30)
        np.testing.assert_array_equal(found[1] < 0, expected[1] < 0)
        assert_same(found, expected)

    def test_range(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        radius = float(np.median(theirs.search(XQ[:40], 20)[0])) * 1.0001
        found, expected = ours.range_search(XQ[:40], radius), theirs.range_search(XQ[:40], radius)
        for i in range(40):
            mine, other = (set(each[2][each[0][i] : each[0][i + 1]].tolist()) for each in (found, expected))
            assert len(mine ^ other) <= (1 if "SQ0" not in text else NB)

    def test_filter(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        for share in (0.02, 0.6):
            ids = np.random.RandomState(4).permutation(NB)[: int(share * NB)].astype("int64")
            found = []
            for faiss, index in ((faiss_torch, ours), (reference, theirs)):
                sel = faiss.IDSelectorBatch(ids)
                kind = faiss.SearchParametersIVF if text.startswith("IVF") else faiss.SearchParameters
                settings = {"nprobe": 5} if text.startswith("IVF") else {}
                found.append(index.search(XQ[:40], K, params=kind(sel=sel, **settings)))
            assert_same(*found)

    def test_vectors(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        np.testing.assert_allclose(ours.reconstruct_n(0, NB), theirs.reconstruct_n(0, NB), rtol=1e-6, atol=4e-6)
        codes = theirs.sa_encode(XB[:50])
        np.testing.assert_array_equal(ours.sa_encode(XB[:50]), codes)
        np.testing.assert_allclose(ours.sa_decode(codes), theirs.sa_decode(codes), rtol=1e-6, atol=4e-6)

    def test_files(self, reference, text, metric):
        theirs, ours = made(reference, text, metric)
        expected = reference.serialize_index(theirs)
        np.testing.assert_array_equal(faiss_torch.serialize_index(ours), expected)
        again = reference.deserialize_index(faiss_torch.serialize_index(ours))
        np.testing.assert_array_equal(again.search(XQ[:20], K)[0], theirs.search(XQ[:20], K)[0])
        assert faiss_torch.reverse_index_factory(ours) == text

    def test_added_here(self, reference, text, metric):
        """Codes of what each adds by itself are the same."""
        theirs, ours = made(reference, text, metric)
        more = data(300, 7)
        for index in (theirs, ours):
            index.add(more)
        np.testing.assert_array_equal(faiss_torch.serialize_index(ours), reference.serialize_index(theirs))
        assert_same(ours.search(XQ[:40], K), theirs.search(XQ[:40], K))


@pytest.mark.parametrize("text", ["SQ8", "SQ4", "IVF16,SQ8", "IVF16,SQ6"])
@pytest.mark.parametrize("metric", METRICS)
def test_trained_here(reference, text, metric):
    """The ranges are faiss's, but for what rounding of centroids makes of differences to these."""
    found = []
    for faiss in (faiss_torch, reference):
        index = faiss.index_factory(D, text, getattr(faiss, metric))
        assert not index.is_trained
        index.train(XB)
        assert index.is_trained
        found.append((faiss_torch if faiss is faiss_torch else reference).vector_to_array(index.sq.trained))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)


def test_codes_that_are_no_differences(reference):
    theirs, ours = made(reference, "IVF16,SQ8", "METRIC_L2", by_residual=False)
    assert not ours.by_residual
    assert_same(ours.search(XQ[:60], K), theirs.search(XQ[:60], K))


def test_a_coarse_quantizer_of_codes(reference):
    theirs, ours = made(reference, "IVF16(SQ8),Flat", "METRIC_L2")
    assert type(ours.quantizer) is faiss_torch.IndexScalarQuantizer
    assert_same(ours.search(XQ[:60], K), theirs.search(XQ[:60], K))


def test_made_by_their_classes(reference):
    for faiss in (faiss_torch, reference):
        flat = faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_8bit_uniform, faiss.METRIC_INNER_PRODUCT)
        assert (flat.code_size, flat.is_trained, flat.metric_type) == (D, False, faiss.METRIC_INNER_PRODUCT)
        assert faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_fp16).is_trained
        quantizer = faiss.IndexFlatL2(D)
        index = faiss.IndexIVFScalarQuantizer(quantizer, D, NLIST, faiss.ScalarQuantizer.QT_4bit)
        assert (index.code_size, index.by_residual, index.is_trained) == ((D + 1) // 2, True, False)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, D, NLIST, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, False
        )
        assert not index.by_residual
        with pytest.raises(RuntimeError):
            flat.add(XB)


def test_tensors_pickles_and_copies():
    index = faiss_torch.index_factory(D, "IVF16,SQ8")
    index.train(torch.from_numpy(XB))
    index.add(torch.from_numpy(XB))
    index.nprobe = 5
    D_expected, I_expected = index.search(XQ[:20], K)
    D_found, I_found = index.search(torch.from_numpy(XQ[:20]), K)
    assert isinstance(D_found, torch.Tensor)
    np.testing.assert_array_equal(I_found.numpy(), I_expected)
    for copy in (pickle.loads(pickle.dumps(index)), faiss_torch.clone_index(index)):
        np.testing.assert_array_equal(copy.search(XQ[:20], K)[0], D_expected)
        assert type(copy.sq) is faiss_torch.ScalarQuantizer


def test_merged_and_on_disk(reference, tmp_path):
    _, ours = made(reference, "IVF16,SQ8", "METRIC_L2")
    other = faiss_torch.clone_index(ours)
    other.reset()
    other.add(data(200, 9))
    ours.merge_from(other, NB)
    expected = ours.search(XQ[:40], K)
    lists = faiss_torch.OnDiskInvertedLists(NLIST, ours.code_size, str(tmp_path / "lists"))
    lists.merge_from(ours.invlists, 0)
    ours.replace_invlists(lists)
    assert_same(ours.search(XQ[:40], K), expected)
    assert ours.ntotal == NB + 200


def test_metrics_that_have_no_scores():
    index = faiss_torch.IndexScalarQuantizer(D, faiss_torch.ScalarQuantizer.QT_8bit, faiss_torch.METRIC_L1)
    index.train(XB)
    index.add(XB)
    with pytest.raises(RuntimeError, match="METRIC_L2 or METRIC_INNER_PRODUCT"):
        index.search(XQ, K)
