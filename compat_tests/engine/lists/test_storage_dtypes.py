"""Vectors stored as float16 and bfloat16 against float32 indexes of the rounded values."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours, assert_same_ranges
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import faiss_torch
from faiss_torch.constants import METRIC_INNER_PRODUCT, METRIC_L2, METRIC_NAMES

HALVES = [torch.float16, torch.bfloat16]
CPU = torch.device("cpu")
D = 9
RNG = np.random.default_rng(4)
XB = (RNG.random((500, D), dtype=np.float32) * 0.99 + 0.005).astype("float32")
XQ = (RNG.random((13, D), dtype=np.float32) * 0.99 + 0.005).astype("float32")

KINDS = ["flat", "matrix", "csr"]


def rounded(x, dtype):
    return torch.from_numpy(x).to(dtype).to(torch.float32).numpy()


def empty(kind, metric=METRIC_L2, d=D, metric_arg=0.0):
    """An index without vectors; an IVF is trained, and looks at most of its lists."""
    if kind == "flat":
        index = faiss_torch.IndexFlat(d, metric)
    else:
        index = faiss_torch.index_factory(d, "IVF7,Flat", metric)
        index.cp.min_points_per_centroid = 1
        index.train(np.random.default_rng(1).random((60, d), dtype=np.float32))
        index.search_mode, index.nprobe = kind, 5
    index.metric_arg = metric_arg
    return index


def pair(kind, dtype, **settings):
    """An index that stores halves, and one of float32 that holds what halves can hold."""
    half, full = empty(kind, **settings).to("cpu", dtype), empty(kind, **settings)
    for part in (slice(0, 300), slice(300, 303), slice(303, None)):
        half.add(XB[part])
        full.add(rounded(XB[part], dtype))
    return half, full


def params_of(kind, **settings):
    return (
        faiss_torch.SearchParameters(**settings)
        if kind == "flat"
        else faiss_torch.SearchParametersIVF(nprobe=5, **settings)
    )


def assert_alike(half, full, xq=XQ, k=7):
    assert_same_neighbours(*half.search(xq, k), *full.search(xq, k))


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_searches(dtype, kind, metric):
    half, full = pair(kind, dtype, metric=metric, metric_arg=2.5)
    assert (half.storage_dtype, full.storage_dtype) == (dtype, torch.float32)
    for k in (1, 7, 600):
        assert_alike(half, full, k=k)
    radius = float(np.sort(full.search(XQ, 30)[0][:, 20])[6])
    assert_same_ranges(half.range_search(XQ, radius), full.range_search(XQ, radius))
    assert len(half.range_search(XQ, radius)[1]) > 0
    for sel in (faiss_torch.IDSelectorRange(100, 130), faiss_torch.IDSelectorRange(0, 300)):
        params = params_of(kind, sel=sel)
        assert_same_neighbours(*half.search(XQ, 9, params=params), *full.search(XQ, 9, params=params))
        assert_same_ranges(half.range_search(XQ, radius, params=params), full.range_search(XQ, radius, params=params))
    half_found, full_found = (index.search_and_reconstruct(XQ, 3) for index in (half, full))
    np.testing.assert_array_equal(half_found[2], full_found[2])
    assert half_found[2].dtype == np.float32


@pytest.mark.parametrize("d", [1, 3, 97])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_odd_dimensions(dtype, kind, d):
    rng = np.random.default_rng(d)
    xb, xq = (rng.standard_normal((n, d), dtype=np.float32) for n in (2100, 70))
    half, full = empty(kind, d=d).to("cpu", dtype), empty(kind, d=d)
    half.add(xb)
    full.add(rounded(xb, dtype))
    # of one dimension many distances are as good as equal
    np.testing.assert_allclose(half.search(xq, 5)[0], full.search(xq, 5)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(half.range_search(xq, 0.5)[0], full.range_search(xq, 0.5)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_a_filled_index_is_converted(dtype, kind):
    index = empty(kind)
    index.add(XB)
    if kind != "flat":
        index.make_direct_map()
    before = index.search(XQ, 5)
    assert index.to("cpu", dtype) is index
    np.testing.assert_array_equal(index.reconstruct_n(0, len(XB)), rounded(XB, dtype))
    np.testing.assert_array_equal(index.reconstruct(17), rounded(XB, dtype)[17])
    np.testing.assert_array_equal(index.reconstruct_batch(np.array([3, 3, 499])), rounded(XB, dtype)[[3, 3, 499]])
    assert_same_neighbours(*index.search(XQ, 5), *before, rtol=0.05, atol=0.05)
    index.to("cpu", torch.float32)  # what was rounded stays rounded
    np.testing.assert_array_equal(index.reconstruct_n(0, len(XB)), rounded(XB, dtype))
    assert index.storage_dtype == torch.float32
    assert index.ntotal == len(XB)


def tensors_of(value, seen=None):
    """All storages of tensors that an object holds, in whatever depth: {address: bytes}."""
    seen = {} if seen is None else seen
    if isinstance(value, torch.Tensor):
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    elif isinstance(value, dict):
        for part in value.values():
            tensors_of(part, seen)
    elif isinstance(value, (list, tuple)):
        for part in value:
            tensors_of(part, seen)
    elif type(value).__module__.startswith("faiss_torch") and hasattr(value, "__dict__"):
        tensors_of(value.__dict__, seen)
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_the_memory(dtype, kind):
    n, d = 4096, 64
    xb = np.random.default_rng(1).standard_normal((n, d), dtype=np.float32)
    index = empty(kind, d=d)
    index.add(xb)
    index.search(xb[:50], 3)
    full = sum(tensors_of(index).values())
    assert full >= 4 * n * d
    index.to("cpu", dtype)
    params = params_of(kind, sel=faiss_torch.IDSelectorRange(0, 100))
    for query in (xb[:1], xb[:50]):
        index.search(query, 3)
        index.search(query, 3, params=params)
        index.range_search(query, 10)
    index.reconstruct_n(0, 10)
    # beside the vectors: a bias, and of lists an id and up to 15 rows of room a list
    assert sum(tensors_of(index).values()) <= 2 * n * d + 12 * n + 7 * 16 * (2 * d + 12) + 16 * 4 * d


@pytest.mark.parametrize("kind", KINDS)
def test_no_conversion_of_everything_at_once(kind):
    """Of the outputs of all operations of a search, none is a float32 tensor of all vectors."""
    largest = 0

    class Widest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            wide = [x.numel() for x in tensors if x.dtype == torch.float32 and x.ndim == 2 and x.shape[1] == d]
            largest = max([largest, *wide])
            return result

    n, d = 20000, 129
    xb = np.random.default_rng(1).standard_normal((n, d), dtype=np.float32)
    index = empty(kind, d=d).to("cpu", torch.float16)
    index.add(xb)
    index.search(xb[:9], 3)
    threads, torch_threads = faiss_torch.omp_get_max_threads(), torch.get_num_threads()
    faiss_torch.omp_set_num_threads(1)
    torch.set_num_threads(1)
    try:
        with Widest():
            for nq in (1, 40):
                index.search(xb[:nq], 3)
                index.range_search(xb[:nq], 5)
    finally:
        faiss_torch.omp_set_num_threads(threads)
        torch.set_num_threads(torch_threads)
    assert 0 < largest < n * d / 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_copies_and_pickles_keep_the_dtype_and_files_are_float32(dtype, kind):
    half, full = pair(kind, dtype)
    for same in (copy.deepcopy(half), copy.copy(half), pickle.loads(pickle.dumps(half)), faiss_torch.clone_index(half)):
        assert same.storage_dtype == dtype
        same.add(XB[:20])
        assert (same.ntotal, half.ntotal) == (520, 500)
        same.remove_ids(np.arange(500, 520))
        assert_alike(same, full)
    written = faiss_torch.serialize_index(half)
    np.testing.assert_array_equal(written, faiss_torch.serialize_index(full))
    read = faiss_torch.deserialize_index(written)
    assert read.storage_dtype == torch.float32
    if kind != "flat":
        read.nprobe = 5
    assert_alike(read, half)
    assert len(pickle.dumps(half)) < len(pickle.dumps(full))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", HALVES)
def test_verbs_that_change_vectors(dtype, kind):
    half, full = pair(kind, dtype)
    gone = np.arange(0, 500, 3)
    assert half.remove_ids(gone) == full.remove_ids(gone) == len(gone)
    assert_alike(half, full)
    if kind != "flat":
        for index in (half, full):
            index.reset()
            index.make_direct_map()
            index.add(rounded(XB, dtype))
        keys, new = np.array([4, 9, 77]), XB[[100, 101, 102]] + 0.3
        half.update_vectors(keys, new)
        full.update_vectors(keys, rounded(new, dtype))
        np.testing.assert_array_equal(half.reconstruct_batch(keys), rounded(new, dtype))
    else:
        order = np.random.default_rng(1).permutation(half.ntotal)
        half.permute_entries(order)
        full.permute_entries(order)
    assert_alike(half, full)
    half.reset()
    assert half.ntotal == 0
    assert half.storage_dtype == dtype
    half.add(XB)
    full.reset()
    full.add(rounded(XB, dtype))
    assert_alike(half, full)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [torch.float32, *HALVES])
@pytest.mark.parametrize("source", [torch.float32, *HALVES])
def test_merging_converts(source, target, kind):
    one, other, full = empty(kind).to("cpu", target), empty(kind).to("cpu", source), empty(kind)
    one.add(XB[:200])
    other.add(rounded(XB[200:], torch.bfloat16))  # so that the lists are the same, whatever the dtype
    full.add(rounded(XB[:200], target))
    full.add(rounded(rounded(rounded(XB[200:], torch.bfloat16), source), target))
    one.merge_from(other, 0 if kind == "flat" else 200)
    assert (one.storage_dtype, other.storage_dtype) == (target, source)
    assert (one.ntotal, other.ntotal) == (500, 0)
    assert_alike(one, full)


@pytest.mark.parametrize("dtype", HALVES)
def test_codes_are_float32(dtype):
    flat, full = pair("flat", dtype)
    values = rounded(XB, dtype)
    assert flat.code_size == flat.sa_code_size() == 4 * D
    np.testing.assert_array_equal(faiss_torch.rev_swig_ptr(flat.get_xb(), 500 * D).reshape(500, D), values)
    np.testing.assert_array_equal(faiss_torch.vector_to_array(flat.codes).view("float32").reshape(500, D), values)
    np.testing.assert_array_equal(flat.sa_encode(XB), full.sa_encode(XB))
    np.testing.assert_array_equal(flat.sa_decode(flat.sa_encode(XQ)), XQ)
    flat.add_sa_codes(flat.sa_encode(XQ))
    np.testing.assert_array_equal(flat.reconstruct_n(500, len(XQ)), rounded(XQ, dtype))
    faiss_torch.copy_array_to_vector(XB[:3].view("uint8").ravel(), flat.codes)
    flat.ntotal = 3
    np.testing.assert_array_equal(flat.reconstruct_n(0, 3), values[:3])

    ivf, full = pair("csr", dtype)
    lists = ivf.invlists
    assert ivf.code_size == lists.code_size == 4 * D
    for list_no in range(ivf.nlist):
        n = lists.list_size(list_no)
        ids = faiss_torch.rev_swig_ptr(lists.get_ids(list_no), n)
        codes = faiss_torch.rev_swig_ptr(lists.get_codes(list_no), n * 4 * D).view("float32").reshape(n, D)
        np.testing.assert_array_equal(codes, values[ids])
        if n:
            one = faiss_torch.rev_swig_ptr(lists.get_single_code(list_no, n - 1), 4 * D).view("float32")
            np.testing.assert_array_equal(one, codes[-1])
    found = ivf.search_and_return_codes(XQ, 4, include_listnos=True)
    expected = full.search_and_return_codes(XQ, 4, include_listnos=True)
    np.testing.assert_array_equal(found[2], expected[2])
    np.testing.assert_array_equal(ivf.sa_encode(XQ), full.sa_encode(XQ))
    lists.add_entries(2, 2, np.array([1000, 1001]), XQ[:2].view("uint8"))
    lists.update_entry(2, 0, 1002, XQ[2].view("uint8"))
    assert lists.list_codes(2)[0].view(torch.float32).tolist() == rounded(XQ, dtype)[2].tolist()
    assert lists.list_codes(2)[-1].view(torch.float32).tolist() == rounded(XQ, dtype)[1].tolist()


def test_what_float16_cannot_hold_becomes_infinite():
    x = np.ones((40, 4), dtype=np.float32)
    x[3], x[5, 1], x[7, 2] = 1e6, np.nan, -np.inf
    for metric in (METRIC_L2, METRIC_INNER_PRODUCT, faiss_torch.METRIC_L1):
        for kind in KINDS:
            half, full = empty(kind, metric=metric, d=4).to("cpu", torch.float16), empty(kind, metric=metric, d=4)
            half.add(x)
            full.add(rounded(x, torch.float16))
            half_D, half_I = half.search(x[:9], 40)
            full_D, full_I = full.search(x[:9], 40)
            np.testing.assert_array_equal(half_D, full_D)
            np.testing.assert_array_equal(half_I, full_I)
    assert np.isinf(rounded(x, torch.float16)[3]).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("n", [30, 9000])
def test_a_quantizer_of_halves(dtype, n):
    """It is moved by itself; searches for the nearest one, and adding to lists, go by what it stores."""
    centroids = np.random.default_rng(2).standard_normal((n, 5), dtype=np.float32)
    x = np.random.default_rng(3).standard_normal((400, 5), dtype=np.float32)
    index = faiss_torch.IndexIVFFlat(faiss_torch.IndexFlatL2(5), 5, n)
    index.quantizer.add(rounded(centroids, dtype))
    index.is_trained = True
    expected = index.quantizer.search(x, 1)
    index.quantizer.to("cpu", dtype)
    assert (index.quantizer.storage_dtype, index.storage_dtype) == (dtype, torch.float32)
    assert_same_neighbours(*index.quantizer.search(x, 1), *expected)
    np.testing.assert_array_equal(index.quantizer.assign(x)[:, 0], expected[1][:, 0])
    for part in range(0, 400, 50):
        index.add(x[part : part + 50])
    assert index.search(x, 1)[1][:, 0].tolist() == list(range(400))
    index.to("cpu", torch.float16)
    assert index.quantizer.storage_dtype == dtype


def test_one_dimension_by_bisection():
    index = faiss_torch.IndexFlat1D()
    index.add(XB[:, :1])
    index.to("cpu", torch.bfloat16)
    full = faiss_torch.IndexFlat1D()
    full.add(rounded(XB[:, :1], torch.bfloat16))
    np.testing.assert_array_equal(index.search(XQ[:, :1], 4)[0], full.search(XQ[:, :1], 4)[0])


def test_a_map_of_ids_tells_what_it_wraps():
    index = faiss_torch.IndexIDMap(faiss_torch.IndexFlatL2(D))
    assert index.to("cpu", torch.bfloat16).storage_dtype == torch.bfloat16
    assert index.index.storage_dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.uint8])
@pytest.mark.parametrize("kind", KINDS)
def test_other_dtypes_are_refused(kind, dtype):
    index = pair(kind, torch.float16)[0]
    before = index.search(XQ, 3)
    with pytest.raises(RuntimeError, match=f"float32, torch.float16, torch.bfloat16, not as {dtype}"):
        index.to("cpu", dtype)
    assert index.storage_dtype == torch.float16
    np.testing.assert_array_equal(index.search(XQ, 3)[0], before[0])


def test_an_index_without_float_vectors_takes_no_dtype():
    index = faiss_torch.Index(4)
    with pytest.raises(RuntimeError, match="Index stores no float vectors"):
        index.to("cpu", torch.float16)
    assert index.to("cpu") is index
    assert not hasattr(index, "storage_dtype")


@pytest.mark.parametrize("device", ["nonsense", "cuda:77", "meta", "mps:3"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_does_not_exist(kind, device):
    index = pair(kind, torch.float16)[0]
    before = index.search(XQ, 3)
    with pytest.raises(RuntimeError, match=f"{device}.*cpu"):
        index.to(device, torch.bfloat16)
    assert index.device == CPU
    assert index.storage_dtype == torch.float16
    np.testing.assert_array_equal(index.search(XQ, 3)[1], before[1])


NO_ROOM = """
import resource
import numpy as np, torch, faiss_torch

d = 64
x = np.random.default_rng(1).standard_normal((200_000, d), dtype=np.float32)
flat = faiss_torch.IndexFlatL2(d)
ivf = faiss_torch.IndexIVFFlat(faiss_torch.IndexFlatL2(d), d, 4)
ivf.quantizer.add(x[:4])
ivf.is_trained = True
for index in (flat, ivf):
    index.add(x)
    found = index.search(x[:3], 2)
    pages = int(open("/proc/self/statm").read().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (10 << 20), limits[1]))
    try:
        index.to("cpu", torch.float16)
    except RuntimeError as error:
        print("refused:", error)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert index.storage_dtype == torch.float32
    again = index.search(x[:3], 2)
    assert (again[0] == found[0]).all() and (again[1] == found[1]).all()
    index.add(x[:10])
    assert index.to("cpu", torch.float16).ntotal == len(x) + 10
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_without_room_the_index_stays_as_it_is():
    done = subprocess.run([sys.executable, "-c", NO_ROOM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused:") == 2
