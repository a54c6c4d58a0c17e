"""Neighbours and distances on a GPU without an index."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attributes import CheckedAttributes, Int64
from ..border import Array, Kind, crossing, tensor_of, write
from ..constants import METRIC_L2, metric_type_from_int
from ..ops.runtime import workers
from ..ops.scoring import distances
from ..ops.search import flat
from ..parts.screens.facts import RowFacts
from ..wrapper.pointers import AddressPointer, Pointer
from .available import current_gpu, get_num_gpus, gpu_device, no_gpus
from .gpu_indexes import Provider
from .resources import resources_of

#: Types of vectors.
DistanceDataType_F32 = 1
DistanceDataType_F16 = 2
DistanceDataType_BF16 = 3

#: Types of labels.
IndicesDataType_I64 = 1
IndicesDataType_I32 = 2

_VECTOR_TYPES = {
    DistanceDataType_F32: torch.float32,
    DistanceDataType_F16: torch.float16,
    DistanceDataType_BF16: torch.bfloat16,
}
_LABEL_TYPES = {IndicesDataType_I64: torch.int64, IndicesDataType_I32: torch.int32}


class GpuDistanceParams(CheckedAttributes):
    """What `bfKnn` is to do.

    Attributes
    ----------
    metric : int
    metricArg : float
        The p of METRIC_Lp.
    k : int
        How many neighbours; -1 for all distances.
    dims : int
    vectors, queries : Pointer
        ``numVectors * dims`` and ``numQueries * dims`` values; a tensor or an array will do too.
    vectorType, queryType : int
        ``DistanceDataType_*``.
    vectorsRowMajor, queriesRowMajor : bool
        Whether the values of a vector are beside each other.
    numVectors, numQueries : int
    vectorNorms : Pointer
        Without effect.
    outDistances : Pointer to float32
        ``numQueries * k`` values, or ``numQueries * numVectors`` for all distances.
    ignoreOutDistances : bool
        Whether only the labels are wanted.
    outIndices : Pointer
        ``numQueries * k`` labels; without use for all distances.
    outIndicesType : int
        ``IndicesDataType_*``.
    device : int
        The number of the GPU; -1 for the current one.
    use_cuvs : bool
        Without effect.
    """

    __slots__ = (
        "device",
        "dims",
        "ignoreOutDistances",
        "k",
        "metric",
        "metricArg",
        "numQueries",
        "numVectors",
        "outDistances",
        "outIndices",
        "outIndicesType",
        "queries",
        "queriesRowMajor",
        "queryType",
        "use_cuvs",
        "vectorNorms",
        "vectorType",
        "vectors",
        "vectorsRowMajor",
    )

    metric: int
    metricArg: float
    k: int
    dims: int
    vectorType: int
    queryType: int
    vectorsRowMajor: bool
    queriesRowMajor: bool
    numVectors: Int64
    numQueries: Int64
    ignoreOutDistances: bool
    outIndicesType: int
    device: int
    use_cuvs: bool

    def __init__(self) -> None:
        self.metric = METRIC_L2
        self.metricArg = 0.0
        self.k = self.dims = self.numVectors = self.numQueries = 0
        self.vectors: Any = None
        self.queries: Any = None
        self.vectorNorms: Any = None
        self.vectorType = self.queryType = DistanceDataType_F32
        self.vectorsRowMajor = self.queriesRowMajor = True
        self.outDistances: Any = None
        self.ignoreOutDistances = False
        self.outIndices: Any = None
        self.outIndicesType = IndicesDataType_I64
        self.device = -1
        self.use_cuvs = False


def _computing_device(device: int, *arrays: Array) -> torch.device:
    """Where to compute: on a numbered GPU, or for -1 where a tensor is on an accelerator, else on the current GPU."""
    if device != -1:
        return gpu_device(device)
    for each in arrays:
        if isinstance(each, Tensor) and each.device.type != "cpu":
            return each.device
    if not get_num_gpus():
        raise no_gpus()
    return gpu_device(current_gpu())


def _neighbours(queries: Tensor, vectors: Tensor, k: int, metric: int, metric_arg: float) -> tuple[Tensor, Tensor]:
    """The k nearest of vectors, on their device: they are searched where they lie, in the dtype that they have."""
    number, k = metric_type_from_int(metric), operator.index(k)
    if k < 1:
        raise AssertionError(f"k must be positive, got {k}")

    def search() -> tuple[Tensor, Tensor]:
        facts = RowFacts(number, vectors.device)
        facts.append(0, vectors)
        stored, rounded_for = facts.stored(vectors), facts.rounded_for(vectors)
        return flat.knn(queries, stored, len(vectors), k, number, metric_arg, rounded_for=rounded_for)

    return workers.conduct(search, vectors.device)


def _pairwise(queries: Tensor, vectors: Tensor, metric: int, metric_arg: float) -> Tensor:
    number = metric_type_from_int(metric)
    return workers.conduct(lambda: distances.pairwise(queries, vectors, number, metric_arg), vectors.device)


def _pointed(argument: Any, n: int, dtype: torch.dtype, name: str) -> Tensor:
    """The `n` values behind a pointer, or of a tensor or array, over the caller's memory."""
    if argument is None:
        raise RuntimeError(f"bfKnn: {name} is not set")
    if isinstance(argument, AddressPointer):
        if dtype == torch.bfloat16:
            return tensor_of(AddressPointer(int(argument), np.int16).view(n)).view(dtype)
        numpy_type = str(dtype).removeprefix("torch.")
        return tensor_of(AddressPointer(int(argument), numpy_type).view(n))
    if isinstance(argument, Pointer):
        values = argument.view(n)
        if values.itemsize != dtype.itemsize or (values.dtype.kind == "f") != (dtype == torch.float32):
            raise TypeError(f"bfKnn: {name} points to {values.dtype}, expected values of {dtype}")
        return tensor_of(values.view(np.int16) if values.itemsize == 2 else values).view(dtype)
    tensor = argument if isinstance(argument, Tensor) else tensor_of(argument)
    if tensor.dtype != dtype or tensor.numel() != n or not tensor.is_contiguous():
        raise TypeError(
            f"bfKnn: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected {n} values of {dtype}"
        )
    return tensor.reshape(-1)


def _matrix(argument: Any, n: int, d: int, data_type: int, row_major: bool, name: str) -> Tensor:
    if data_type not in _VECTOR_TYPES:
        raise RuntimeError(f"bfKnn: {name} are of type {data_type}, expected a DistanceDataType_*")
    values = _pointed(argument, n * d, _VECTOR_TYPES[data_type], name)
    return values.view(n, d) if row_major else values.view(d, n).T


def bfKnn(resources: Provider, args: GpuDistanceParams) -> None:
    """Find the k nearest neighbours, or all distances, of what pointers name; the results are written to pointers.

    Parameters
    ----------
    resources : StandardGpuResources
    args : GpuDistanceParams

    Raises
    ------
    RuntimeError
        If there is no such GPU, or a setting is missing or out of range.
    TypeError
        If a pointer is to another type than `args` says.
    """
    resources_of(resources)
    if args.k == 0 or args.k < -1 or args.dims <= 0 or args.numVectors < 0 or args.numQueries < 0:
        raise RuntimeError(
            f"bfKnn: k={args.k}, dims={args.dims}, numVectors={args.numVectors}, numQueries={args.numQueries}: "
            "expected k > 0 or k = -1, and dims > 0"
        )
    xb = _matrix(args.vectors, args.numVectors, args.dims, args.vectorType, args.vectorsRowMajor, "vectors")
    xq = _matrix(args.queries, args.numQueries, args.dims, args.queryType, args.queriesRowMajor, "queries")
    width = args.numVectors if args.k == -1 else args.k
    D = I = None
    if not (args.ignoreOutDistances and args.k > 0):
        D = _pointed(args.outDistances, args.numQueries * width, torch.float32, "outDistances")
    if args.k > 0:
        if args.outIndicesType not in _LABEL_TYPES:
            raise RuntimeError(f"bfKnn: outIndicesType is {args.outIndicesType}, expected an IndicesDataType_*")
        I = _pointed(args.outIndices, args.numQueries * width, _LABEL_TYPES[args.outIndicesType], "outIndices")
    device = _computing_device(args.device, xb, xq)
    vectors, queries = xb.to(device).contiguous(), xq.to(device, torch.float32).contiguous()
    if I is None:
        found, labels = _pairwise(queries, vectors.to(torch.float32), args.metric, args.metricArg), None
    else:
        found, labels = _neighbours(queries, vectors, args.k, args.metric, args.metricArg)
    for target, values in ((D, found), (I, labels)):
        if target is not None and values is not None:
            write(values, target)


def bfKnn_tiling(
    resources: Provider, args: GpuDistanceParams, vectorsMemoryLimit: int, queriesMemoryLimit: int
) -> None:
    """Do what `bfKnn` does; the limits have no effect, for the distances of a search are never stored."""
    bfKnn(resources, args)


def bruteForceKnn(
    resources: Provider,
    metric: int,
    vectors: Pointer,
    vectorsRowMajor: bool,
    numVectors: int,
    queries: Pointer,
    queriesRowMajor: bool,
    numQueries: int,
    dims: int,
    k: int,
    outDistances: Pointer,
    outIndices: Pointer,
) -> None:
    """Do what `bfKnn` does on the current GPU, with float32 vectors; faiss's older form of it."""
    args = GpuDistanceParams()
    args.metric, args.k, args.dims = metric, k, dims
    args.vectors, args.vectorsRowMajor, args.numVectors = vectors, vectorsRowMajor, numVectors
    args.queries, args.queriesRowMajor, args.numQueries = queries, queriesRowMajor, numQueries
    args.outDistances, args.outIndices = outDistances, outIndices
    bfKnn(resources, args)


def _vectors(x: Array, name: str, device: torch.device) -> Tensor:
    """Vectors in rows or in columns, as rows on the computing device."""
    if str(x.dtype).removeprefix("torch.") not in ("float32", "float16", "bfloat16", "int8", "uint8"):
        raise TypeError(f"{name} must be float32, float16, bfloat16, int8 or uint8, got {x.dtype}")
    tensor = x.detach() if isinstance(x, Tensor) else _tensor_of_any_layout(x)
    return tensor.to(device).contiguous()


def _tensor_of_any_layout(x: np.ndarray) -> Tensor:
    """A numpy matrix as a tensor, without a copy where its rows or its columns are whole."""
    return tensor_of(x.T).T if x.flags.f_contiguous else tensor_of(np.ascontiguousarray(x))


def _check(xq: Array, xb: Array) -> None:
    for name, x in (("xq", xq), ("xb", xb)):
        if len(x.shape) != 2:
            raise ValueError(f"{name}: expected shape (n, d), got {tuple(x.shape)}")
    if xq.shape[1] != xb.shape[1]:
        raise AssertionError(f"xq has {xq.shape[1]} dimensions and xb {xb.shape[1]}")
    Kind(xq).require(xb, "xb")


@crossing
def knn_gpu(
    res: Provider,
    xq: Array,
    xb: Array,
    k: int,
    D: Array | None = None,
    I: Array | None = None,
    metric: int = METRIC_L2,
    device: int = -1,
    use_cuvs: bool = False,
    vectorsMemoryLimit: int = 0,
    queriesMemoryLimit: int = 0,
) -> tuple[Array, Array]:
    """Find the k nearest neighbours of queries among database vectors on a GPU.

    Parameters
    ----------
    res : StandardGpuResources
    xq : array of float32, float16, bfloat16, int8 or uint8, shape (nq, d)
    xb : array of the same, shape (nb, d)
        Both numpy or both torch, with rows or columns together in memory. Vectors are searched in the dtype that they
        have, without a copy where they are rows on the computing device.
    k : int
        Number of neighbours.
    D : array of float32, shape (nq, k), optional
    I : array of int64 or int32, shape (nq, k), optional
        Where to put the results.
    metric : int
        One of the ``METRIC_*`` numbers.
    device : int
        The number of the GPU. -1 for the device of a tensor on an accelerator, else the current GPU.
    use_cuvs, vectorsMemoryLimit, queriesMemoryLimit
        Without effect: the distances of a search are never stored.

    Returns
    -------
    D : array of float32, shape (nq, k)
        Distances, closest first (squared for L2); +-FLT_MAX where there are fewer than k vectors.
    I : array of int64, shape (nq, k)
        Rows of `xb`; -1 where there are fewer than k.

    Raises
    ------
    AssertionError
        If the widths differ, k is below 1, or an output has another shape.
    TypeError
        If vectors are of another type, or an output is.
    RuntimeError
        If there is no such GPU.
    """
    resources_of(res)
    _check(xq, xb)
    kind, shape = Kind(xq), (len(xq), k)
    kind.check_output(D, shape, "D")
    labels_type = "int32" if I is not None and str(I.dtype).endswith("int32") else "int64"
    kind.check_output(I, shape, "I", labels_type)
    target = _computing_device(device, xb, xq)
    queries, vectors = _vectors(xq, "xq", target).to(torch.float32), _vectors(xb, "xb", target)
    found, labels = _neighbours(queries, vectors, k, metric, 0.0)
    return kind.into(found, D), kind.into(labels, I)


@crossing
def pairwise_distance_gpu(
    res: Provider, xq: Array, xb: Array, D: Array | None = None, metric: int = METRIC_L2, device: int = -1
) -> Array:
    """Compute all distances between queries and database vectors on a GPU.

    Parameters
    ----------
    res : StandardGpuResources
    xq : array of float32, float16, bfloat16, int8 or uint8, shape (nq, d)
    xb : array of the same, shape (nb, d)
        Both numpy or both torch, with rows or columns together in memory.
    D : array of float32, shape (nq, nb), optional
        Where to put the results.
    metric : int
        One of the ``METRIC_*`` numbers.
    device : int
        As for `knn_gpu`.

    Returns
    -------
    array of float32, shape (nq, nb)
        Squared distances for L2.

    Raises
    ------
    AssertionError
        If the widths differ, or the output has another shape.
    TypeError
        If vectors are of another type, or the output is.
    RuntimeError
        If there is no such GPU.
    """
    resources_of(res)
    _check(xq, xb)
    kind = Kind(xq)
    kind.check_output(D, (len(xq), len(xb)), "D")
    target = _computing_device(device, xb, xq)
    queries, vectors = (_vectors(x, name, target).to(torch.float32) for name, x in (("xq", xq), ("xb", xb)))
    return kind.into(_pairwise(queries, vectors, metric, 0.0), D)
