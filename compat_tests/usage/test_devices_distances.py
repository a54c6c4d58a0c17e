"""knn_gpu, pairwise_distance_gpu and bfKnn: neighbours and distances on a GPU without an index."""

import numpy as np
import pytest
import torch
from comparison import FLT_MAX, assert_same_neighbours

D_, NB, NQ, K = 33, 300, 12, 5
METRICS = ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1", "METRIC_Linf", "METRIC_Canberra"]


def vectors(n, seed=0, d=D_):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(NB), vectors(NQ, seed=1)


@pytest.fixture
def res(gpus):
    return gpus.StandardGpuResources()


def column_major(x):
    return x.t().clone(memory_format=torch.contiguous_format).t() if isinstance(x, torch.Tensor) else x.T.copy().T


def device_of(faiss):
    return faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), 1).device


LAYOUTS = pytest.mark.parametrize("layout", [lambda x: x, column_major, lambda x: x[::2]], ids=["C", "F", "strided"])


@LAYOUTS
@pytest.mark.parametrize("kind", ["numpy", "torch", "gpu"])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_and_distances(gpus, res, metric, kind, layout):
    metric = getattr(gpus, metric)
    xq, xb = XQ, XB
    if kind != "numpy":
        device = device_of(gpus) if kind == "gpu" else "cpu"
        xq, xb = (torch.from_numpy(x).to(device) for x in (xq, xb))
    xq, xb = layout(xq), layout(xb)
    expected = [np.ascontiguousarray(layout(x)) for x in (XQ, XB)]
    D, I = gpus.knn_gpu(res, xq, xb, K, metric=metric)
    assert_same_neighbours(
        D if kind == "numpy" else D.cpu(), I if kind == "numpy" else I.cpu(), *gpus.knn(*expected, K, metric)
    )
    P = gpus.pairwise_distance_gpu(res, xq, xb, metric=metric)
    np.testing.assert_allclose(
        P if kind == "numpy" else P.cpu(), gpus.pairwise_distances(*expected, metric), rtol=1e-5, atol=1e-5
    )
    for result in (D, I, P):
        assert isinstance(result, np.ndarray) == (kind == "numpy")
        assert kind == "numpy" or result.device == xq.device


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(gpus, res, dtype):
    xq, xb = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in (XQ, XB))
    expected = gpus.knn(xq.float().numpy(), xb.float().numpy(), K)
    found = gpus.knn_gpu(res, xq, xb, K)
    assert found[0].dtype == torch.float32
    assert_same_neighbours(*found, *expected)
    if dtype == "float16":
        found = gpus.knn_gpu(res, xq.numpy(), column_major(xb.numpy()), K)
        assert_same_neighbours(*found, *expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("metric", METRICS[:3])
def test_small_integers(gpus, res, metric, dtype):
    """They are searched as they are stored."""
    xq, xb = (np.floor(100 * x).astype(dtype) for x in (XQ, XB))
    metric = getattr(gpus, metric)
    expected = gpus.knn(xq.astype("float32"), xb.astype("float32"), K, metric)
    assert_same_neighbours(*gpus.knn_gpu(res, xq, xb, K, metric=metric), *expected)
    queries = torch.from_numpy(xq.astype("float32"))
    found = gpus.knn_gpu(res, queries, torch.from_numpy(xb), K, metric=metric)
    assert_same_neighbours(*found, *expected)
    P = gpus.pairwise_distance_gpu(res, xq, xb, metric=metric)
    np.testing.assert_allclose(
        P, gpus.pairwise_distances(xq.astype("float32"), xb.astype("float32"), metric), rtol=1e-5
    )


def test_outputs(gpus, res):
    expected = gpus.knn(XQ, XB, K)
    for labels in ("int64", "int32"):
        D, I = np.empty((NQ, K), dtype="float32"), np.empty((NQ, K), dtype=labels)
        found = gpus.knn_gpu(res, XQ, XB, K, D, I, device=1, vectorsMemoryLimit=1000, queriesMemoryLimit=500)
        assert found[0] is D
        assert found[1] is I
        assert_same_neighbours(D, I, *expected)
        D, I = torch.empty(NQ, K), torch.empty(NQ, K, dtype=getattr(torch, labels))
        gpus.knn_gpu(res, torch.from_numpy(XQ), torch.from_numpy(XB), K, D, I)
        assert_same_neighbours(D, I, *expected)
    P = np.empty((NQ, NB), dtype="float32")
    assert gpus.pairwise_distance_gpu(res, XQ, XB, P) is P
    np.testing.assert_allclose(P, gpus.pairwise_distances(XQ, XB), atol=1e-5)


def test_too_few_vectors(gpus, res):
    D, I = gpus.knn_gpu(res, XQ, XB[:2], 4)
    assert (I[:, 2:] == -1).all()
    assert (D[:, 2:] == FLT_MAX).all()
    D, I = gpus.knn_gpu(res, XQ[:0], XB, 3)
    assert D.shape == I.shape == (0, 3)
    assert gpus.pairwise_distance_gpu(res, XQ, XB[:0]).shape == (NQ, 0)


def test_no_limit_of_k(gpus, res):
    x = vectors(2500, d=3)
    D, I = gpus.knn_gpu(res, x[:2], x, 2400)
    assert_same_neighbours(D, I, *gpus.knn(x[:2], x, 2400))


def test_bad_input(gpus, res):
    calls = [
        (AssertionError, "33 dimensions and xb 32", lambda: gpus.knn_gpu(res, XQ, XB[:, :32], K)),
        (ValueError, "expected shape", lambda: gpus.knn_gpu(res, XQ[0], XB, K)),
        (
            TypeError,
            "int8 or uint8, got float64",
            lambda: gpus.knn_gpu(res, XQ.astype("d"), XB, K),
        ),
        (TypeError, "xb must be float32", lambda: gpus.pairwise_distance_gpu(res, XQ, XB.astype("int32"))),
        (TypeError, "xb is on meta", lambda: gpus.knn_gpu(res, XQ, torch.empty(NB, D_, device="meta"), K)),
        (AssertionError, "k must be positive", lambda: gpus.knn_gpu(res, XQ, XB, 0)),
        (AssertionError, "D has shape", lambda: gpus.knn_gpu(res, XQ, XB, K, np.empty((2, K), "f"))),
        (TypeError, "D has dtype", lambda: gpus.knn_gpu(res, XQ, XB, K, np.empty((NQ, K)))),
        (TypeError, "I has dtype", lambda: gpus.knn_gpu(res, XQ, XB, K, None, np.empty((NQ, K), "int16"))),
        (AssertionError, "D has shape", lambda: gpus.pairwise_distance_gpu(res, XQ, XB, np.empty((NQ, K), "f"))),
        (RuntimeError, "no GPU 2", lambda: gpus.knn_gpu(res, XQ, XB, K, device=2)),
        (RuntimeError, "metric", lambda: gpus.knn_gpu(res, XQ, XB, K, metric=77)),
        (RuntimeError, "metric", lambda: gpus.pairwise_distance_gpu(res, XQ, XB, metric=77)),
    ]
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()


# by parameters that hold pointers


def parameters(faiss, xq, xb, k=K, labels="int64"):
    """Parameters of `bfKnn` and the arrays that the results go to."""
    params = faiss.GpuDistanceParams()
    params.k = k
    params.dims = D_
    params.vectors, params.numVectors = faiss.swig_ptr(xb), len(xb)
    params.queries, params.numQueries = faiss.swig_ptr(xq), len(xq)
    D = np.zeros((len(xq), k if k > 0 else len(xb)), dtype="float32")
    I = np.zeros((len(xq), max(k, 0)), dtype=labels)
    params.outDistances, params.outIndices = faiss.swig_ptr(D), faiss.swig_ptr(I)
    params.outIndicesType = faiss.IndicesDataType_I64 if labels == "int64" else faiss.IndicesDataType_I32
    return params, D, I


def test_bf_knn(gpus, res):
    expected = gpus.knn(XQ, XB, K)
    for labels in ("int64", "int32"):
        params, D, I = parameters(gpus, XQ, XB, labels=labels)
        params.device = 1
        gpus.bfKnn(res, params)
        assert_same_neighbours(D, I, *expected)
    params, D, I = parameters(gpus, XQ, XB)
    params.ignoreOutDistances = True
    params.outDistances = None
    gpus.bfKnn_tiling(res, params, 1000, 500)
    np.testing.assert_array_equal(I, expected[1])
    params, D, I = parameters(gpus, XQ.T.copy(), XB.T.copy())
    params.numVectors, params.numQueries = NB, NQ
    D, I = np.zeros((NQ, K), dtype="float32"), np.zeros((NQ, K), dtype="int64")
    params.outDistances, params.outIndices = gpus.swig_ptr(D), gpus.swig_ptr(I)
    params.vectorsRowMajor = params.queriesRowMajor = False
    gpus.bfKnn(res, params)
    assert_same_neighbours(D, I, *expected)


@pytest.mark.parametrize("metric", METRICS)
def test_bf_knn_of_all_distances(gpus, res, metric):
    params, D, _ = parameters(gpus, XQ, XB, k=-1)
    params.metric = getattr(gpus, metric)
    params.outIndices = None
    gpus.bfKnn(res, params)
    np.testing.assert_allclose(D, gpus.pairwise_distances(XQ, XB, params.metric), rtol=1e-5, atol=1e-5)


def test_bf_knn_with_halves_and_addresses(gpus, res):
    xq, xb = XQ.astype("float16"), XB.astype("float16")
    expected = gpus.knn(xq.astype("float32"), xb.astype("float32"), K)
    params, D, I = parameters(gpus, xq, xb)
    params.vectorType = params.queryType = gpus.DistanceDataType_F16
    gpus.bfKnn(res, params)
    assert_same_neighbours(D, I, *expected)
    D[:] = I[:] = 0
    params.vectors = gpus.cast_integer_to_void_ptr(xb.ctypes.data)
    params.outDistances = gpus.cast_integer_to_float_ptr(D.ctypes.data)
    gpus.bfKnn(res, params)
    assert_same_neighbours(D, I, *expected)

    tensors = [torch.from_numpy(x).to(torch.bfloat16) for x in (XQ, XB)]
    expected = gpus.knn(*(x.float().numpy() for x in tensors), K)
    params.vectorType = params.queryType = gpus.DistanceDataType_BF16
    for queries, database in (
        tensors,
        [gpus.cast_integer_to_void_ptr(x.data_ptr()) for x in tensors],
        [gpus.swig_ptr(x.view(torch.int16).numpy()) for x in tensors],
    ):
        params.queries, params.vectors = queries, database
        D[:] = I[:] = 0
        gpus.bfKnn(res, params)
        assert_same_neighbours(D, I, *expected)


def test_brute_force_knn(gpus, res):
    D, I = np.zeros((NQ, K), dtype="float32"), np.zeros((NQ, K), dtype="int64")
    pointers = [gpus.swig_ptr(x) for x in (XB, XQ, D, I)]
    gpus.bruteForceKnn(
        *(res, gpus.METRIC_L2, pointers[0], True, NB, pointers[1], True, NQ, D_, K, pointers[2], pointers[3])
    )
    assert_same_neighbours(D, I, *gpus.knn(XQ, XB, K))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"k": 0}, RuntimeError, "k=0"),
        ({"k": -2}, RuntimeError, "k=-2"),
        ({"dims": 0}, RuntimeError, "dims=0"),
        ({"vectors": None}, RuntimeError, "vectors is not set"),
        ({"outIndices": None}, RuntimeError, "outIndices is not set"),
        ({"vectorType": 9}, RuntimeError, "of type 9"),
        ({"outIndicesType": 9}, RuntimeError, "outIndicesType is 9"),
        ({"queryType": 2}, TypeError, "queries points to float32"),
        ({"outIndicesType": 2}, TypeError, "outIndices points to int64"),
        ({"numVectors": 10**6}, RuntimeError, "cannot read"),
        ({"queries": np.zeros((3, 3), "f")}, TypeError, "queries is torch.float32 of shape"),
        ({"device": 2}, RuntimeError, "no GPU 2"),
    ],
)
def test_bf_knn_of_what_is_wrong(gpus, res, changes, error, message):
    params, D, I = parameters(gpus, XQ, XB)
    for name, value in changes.items():
        setattr(params, name, value)
    with pytest.raises(error, match=message):
        gpus.bfKnn(res, params)
    assert not D.any()
    assert not I.any()


def test_an_unknown_parameter(gpus):
    with pytest.raises(AttributeError):
        gpus.GpuDistanceParams().numvectors = 3
