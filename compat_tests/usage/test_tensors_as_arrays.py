"""Programs written for faiss that use torch and never import contrib.torch_utils: tensors are read as arrays."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

D_IN = 8
XB = np.random.default_rng(7).standard_normal((120, D_IN)).astype("float32")
XQ = XB[:4] + np.float32(0.01)
IDS = np.arange(500, 620)


@pytest.fixture
def as_arrays(faiss, monkeypatch):
    """faiss, and this library as an unchanged program meets it."""
    from faiss_torch import border

    monkeypatch.setattr(border.Tensors, "as_arrays", True)
    return faiss


def tensor(array):
    return torch.from_numpy(array.copy())


def ivf(faiss):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 3)
    index.train(tensor(XB))
    index.add(tensor(XB))
    index.make_direct_map()
    return index


def flat(faiss):
    index = faiss.IndexFlatL2(D_IN)
    index.add(tensor(XB))
    return index


def id_map(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN))
    index.add_with_ids(tensor(XB), IDS)
    return index


VERBS = {
    "search": lambda index, x: index.search(x, 3),
    "search_of_many": lambda index, x: index.search(x[[0, 1, 2, 3] * 30], 3),
    "range_search": lambda index, x: index.range_search(x, 4.0),
    "assign": lambda index, x: (index.assign(x, 2),),
    "search_and_reconstruct": lambda index, x: index.search_and_reconstruct(x, 2),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("build", [flat, ivf, id_map])
def test_tensors_in_arrays_out(as_arrays, build, verb):
    index = build(as_arrays)
    for found, expected in zip(VERBS[verb](index, tensor(XQ)), VERBS[verb](index, XQ), strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, expected)


def test_a_mix_is_taken(as_arrays):
    faiss = as_arrays
    for x, ids in ((tensor(XB), IDS), (XB, tensor(IDS)), (tensor(XB), tensor(IDS))):
        index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_IN))
        index.add_with_ids(x, ids)
        np.testing.assert_array_equal(index.search(XQ, 1)[1][:, 0], IDS[:4])
        recons = index.reconstruct_batch(tensor(IDS[:2]))
        assert isinstance(recons, np.ndarray)
        assert index.remove_ids(tensor(IDS[:3])) == 3
    for xq, xb in ((tensor(XQ), XB), (XQ, tensor(XB)), (tensor(XQ), tensor(XB))):
        D, I = faiss.knn(xq, xb, 2)
        assert isinstance(D, np.ndarray)
        assert I[:, 0].tolist() == [0, 1, 2, 3]
        assert isinstance(faiss.pairwise_distances(xq, xb), np.ndarray)
    assert isinstance(faiss.kmin(tensor(XB), 2)[0], np.ndarray)


def test_verbs_of_an_inverted_file(as_arrays):
    index = ivf(as_arrays)
    index.update_vectors(np.array([5]), tensor(XQ[:1]))
    np.testing.assert_array_equal(index.reconstruct(5), XQ[0])
    Dq, Iq = index.quantizer.search(tensor(XQ), index.nprobe)
    D, I = index.search_preassigned(tensor(XQ), 2, tensor(Iq), tensor(Dq))
    np.testing.assert_array_equal(I, index.search(XQ, 2)[1])
    assert isinstance(index.sa_encode(tensor(XQ)), np.ndarray)
    assert isinstance(index.search_and_return_codes(tensor(XQ), 2)[2], np.ndarray)
    assert isinstance(D, np.ndarray)


def test_functions_that_ask_the_quantizer(as_arrays):
    """What they do inside is not taken for the program's."""
    faiss, index = as_arrays, ivf(as_arrays)
    list_nos = np.zeros(4, "int64")
    faiss.search_centroid(index, faiss.swig_ptr(XQ), 4, faiss.swig_ptr(list_nos))
    np.testing.assert_array_equal(list_nos, index.quantizer.search(XQ, 1)[1][:, 0])
    ptr, of_queries = faiss.swig_ptr, np.zeros(4, "int64")
    D, I, of_results = (np.zeros((4, 2), dtype) for dtype in ("float32", "int64", "int64"))
    faiss.search_and_return_centroids(index, 4, ptr(XQ), 2, ptr(D), ptr(I), ptr(of_queries), ptr(of_results))
    np.testing.assert_array_equal(of_queries, list_nos)
    np.testing.assert_array_equal(I, index.search(XQ, 2)[1])


def test_clustering(as_arrays):
    faiss = as_arrays
    kmeans = faiss.Kmeans(D_IN, 3, niter=4)
    kmeans.train(tensor(XB), weights=np.ones(120, "float32"))
    assert isinstance(kmeans.centroids, np.ndarray)
    for found in kmeans.assign(tensor(XQ)):
        assert isinstance(found, np.ndarray)
    expected = faiss.Kmeans(D_IN, 3, niter=4)
    expected.train(XB)
    np.testing.assert_allclose(kmeans.centroids, expected.centroids, rtol=1e-5)
    clustering = faiss.Clustering(D_IN, 3)
    clustering.train(tensor(XB), faiss.IndexFlatL2(D_IN), weights=tensor(np.ones(120, "float32")))
    assert clustering.centroids.size() == 3 * D_IN


@pytest.mark.parametrize("threaded", [False, True])
def test_an_index_of_several(as_arrays, threaded):
    faiss = as_arrays
    several = faiss.IndexShards(D_IN, threaded), faiss.IndexReplicas(D_IN, threaded)
    parts = [faiss.IndexFlatL2(D_IN) for _ in range(4)]
    for part in parts[:2]:
        several[0].add_shard(part)
    for part in parts[2:]:
        several[1].add_replica(part)
    for index in several:
        index.add(tensor(XB))
        D, I = index.search(tensor(XQ), 2)
        assert isinstance(D, np.ndarray)
        assert I[:, 0].tolist() == [0, 1, 2, 3]


def test_results_are_put_where_they_are_wanted(ours, monkeypatch):
    from faiss_torch import border

    monkeypatch.setattr(border.Tensors, "as_arrays", True)
    D, I = torch.empty(4, 2), torch.empty(4, 2, dtype=torch.int64)
    index = flat(ours)
    index.search(tensor(XQ), 2, D=D, I=I)
    np.testing.assert_array_equal(I, index.search(XQ, 2)[1])


def test_a_tensor_on_an_accelerator_is_a_kind_of_its_own(ours, monkeypatch):
    from faiss_torch import border

    monkeypatch.setattr(border.Tensors, "as_arrays", True)
    with pytest.raises(TypeError, match="ids is on meta"):
        ours.IndexIDMap(ours.IndexFlatL2(D_IN)).add_with_ids(XB, tensor(IDS).to("meta"))


PROGRAM = """
import threading
import torch
import faiss

index = faiss.IndexFlatL2(4)
x = torch.rand(50, 4)
index.add(x)

def kinds():
    return [type(found).__module__ for found in index.search(x[:3], 2)] + [type(index.reconstruct(0)).__module__]

def kinds_of_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(kinds()))
    thread.start()
    thread.join()
    return found[0]

assert kinds() == kinds_of_thread() == ["numpy"] * 3, kinds()
{then}
"""

AFTERWARDS = {
    "torch_utils": """
import faiss.contrib.torch_utils
assert kinds() == kinds_of_thread() == ["torch"] * 3, kinds()
""",
    "contrib_torch": """
import faiss.contrib.torch.clustering
assert kinds() == ["torch"] * 3, kinds()
""",
    "uninstalled": """
import faiss_torch
faiss_torch.uninstall()
assert kinds()[:2] == ["torch"] * 2, kinds()
faiss_torch.install()
assert kinds() == ["numpy"] * 3, kinds()
""",
    "imported_before": """
import faiss_torch
import faiss.contrib.torch_utils
faiss_torch.uninstall()
faiss_torch.install()
assert kinds() == ["torch"] * 3, kinds()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("then", AFTERWARDS)
def test_the_import_of_torch_utils_makes_tensors_a_kind(then):
    program = [sys.executable, "-m", "faiss_torch", "-c", PROGRAM.format(then=AFTERWARDS[then])]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_a_changed_import_tensors_are_a_kind(ours):
    assert all(isinstance(found, torch.Tensor) for found in flat(ours).search(tensor(XQ), 2))


class Frame:
    """What a table of another library is: rows and columns, and numpy knows how to read it."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


@pytest.mark.parametrize("read", [np.ndarray.tolist, memoryview, Frame], ids=["list", "memoryview", "frame"])
def test_clustering_takes_what_numpy_reads(faiss, read):
    kmeans, expected = (faiss.Kmeans(D_IN, 3, niter=4) for _ in range(2))
    objective = kmeans.train(read(XB), weights=[1.0] * len(XB))
    assert type(objective) is type(expected.train(XB, weights=np.ones(len(XB), "float32"))) is np.float64
    np.testing.assert_array_equal(kmeans.centroids, expected.centroids)
    np.testing.assert_array_equal(kmeans.assign(read(XQ))[1], expected.assign(XQ)[1])
    if read is np.ndarray.tolist:
        return  # faiss's Clustering asks for a shape
    clustering = faiss.Clustering(D_IN, 3)
    clustering.niter = 4
    clustering.train(read(XB), faiss.IndexFlatL2(D_IN), weights=[1.0] * len(XB))
    np.testing.assert_array_equal(faiss.vector_to_array(clustering.centroids), expected.centroids.ravel())
