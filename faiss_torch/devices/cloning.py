"""Copying indexes to GPUs and back."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..indexes.base import Index
from ..indexes.composite.replicas import IndexReplicas
from ..indexes.composite.shards import IndexShards, IndexShardsIVF
from ..indexes.flat.flat import IndexFlat
from ..indexes.ivf.base import IndexIVF
from ..parts.lists.direct_map import DirectMap
from ..parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ..wrapper.vectors import Int32Vector
from .available import get_num_gpus, gpu_device, no_gpus
from .copies import copied, inner_indexes, with_inner
from .gpu_indexes import GPU_CLASSES, Provider, as_gpu, as_plain, config_class, off_gpu
from .options import GpuClonerOptions, GpuMultipleClonerOptions
from .resources import GpuResourcesVector, StandardGpuResources, resources_of

#: A GPU, by its number, and the resources to use on it.
Place = tuple[Provider, int]


def _require_index(function: str, index: Any) -> None:
    if not isinstance(index, Index):
        raise TypeError(f"{function}: expected an index, got {type(index).__name__}")


def index_cpu_to_gpu(provider: Provider, device: int, index: Index, options: GpuClonerOptions | None = None) -> Index:
    """Copy an index to a GPU.

    Parameters
    ----------
    provider : StandardGpuResources
    device : int
        The number of the GPU: see `set_gpu_devices`.
    index : Index
        Of any type; it stays as it is.
    options : GpuClonerOptions, optional

    Returns
    -------
    Index
        A ``GpuIndexFlat``, ``GpuIndexIVFFlat`` ... with all vectors and settings. A wrapper, such as IndexIDMap, keeps
        its class around an index on the GPU, and so does an index whose class has none for GPUs.

    Raises
    ------
    RuntimeError
        If there is no such GPU, or no room on it.
    """
    _require_index("index_cpu_to_gpu", index)
    options = GpuClonerOptions() if options is None else options
    resources, target = resources_of(provider), gpu_device(device)
    if options.verbose:
        print(f"  {type(index).__name__} size {index.ntotal} -> GPU {device} ({target})")
    dtype = torch.float16 if options.useFloat16 else None
    quantizer_dtype = torch.float16 if options.useFloat16CoarseQuantizer else None
    new = copied(as_plain(index), target, dtype, quantizer_dtype)
    return as_gpu(new, resources, config_class(new)._of_copy(int(device), options))


def index_gpu_to_cpu(gpu_index: Index) -> Index:
    """Copy an index to the CPU.

    Parameters
    ----------
    gpu_index : Index
        An index on a GPU, or spread over several; it stays as it is.

    Returns
    -------
    Index
        Of the class that it has on the CPU. Shards are merged to one index; of replicas, the first is taken.

    Raises
    ------
    RuntimeError
        If shards cannot be merged.
    """
    _require_index("index_gpu_to_cpu", gpu_index)
    if isinstance(gpu_index, IndexReplicas):
        gpu_index._require_some()
        return index_gpu_to_cpu(gpu_index.at(0))
    if isinstance(gpu_index, IndexShards):
        return _merged(gpu_index)
    if inner_indexes(gpu_index):  # which may be shards or replicas
        gpu_index = with_inner(gpu_index, index_gpu_to_cpu)
    return off_gpu(gpu_index, torch.device("cpu"))


def _merged(shards: IndexShards) -> Any:
    """All vectors of shards in one index on the CPU."""
    shards._require_some()
    merged = index_gpu_to_cpu(shards.at(0))
    if isinstance(merged, IndexFlat) and not shards.successive_ids and shards.count() > 1:
        raise RuntimeError("index_gpu_to_cpu: flat shards can be merged only with successive_ids=True")
    for number in range(1, shards.count()):
        part = index_gpu_to_cpu(shards.at(number))
        if isinstance(merged, IndexFlat):
            merged.merge_from(part)
        else:
            merged.merge_from(part, merged.ntotal if shards.successive_ids else 0)
    return merged


def index_cpu_to_gpu_multiple(
    provider: GpuResourcesVector | Sequence[Provider],
    devices: Iterable[int],
    index: Index,
    options: GpuMultipleClonerOptions | None = None,
) -> Index:
    """Copy an index to several GPUs.

    Parameters
    ----------
    provider : GpuResourcesVector
        Resources, one for each GPU.
    devices : Int32Vector
        The numbers of the GPUs.
    index : Index
        It stays as it is.
    options : GpuMultipleClonerOptions, optional

    Returns
    -------
    Index
        On one GPU, as from `index_cpu_to_gpu`. On several, an IndexReplicas, which shares out the queries, or with
        ``options.shard`` an IndexShards or IndexShardsIVF, which shares out the vectors. A wrapper keeps its class
        around them.

    Raises
    ------
    RuntimeError
        If there are no GPUs, one is not there, there is no room, or an index of this type cannot be sharded.
    """
    _require_index("index_cpu_to_gpu_multiple", index)
    options = GpuMultipleClonerOptions() if options is None else options
    numbers, providers = [int(device) for device in devices], list(provider)
    if len(numbers) != len(providers):
        raise RuntimeError(f"{len(providers)} resources for {len(numbers)} GPUs: give one for each")
    if not numbers:
        raise no_gpus()
    return _on_several(as_plain(index), list(zip(providers, numbers, strict=True)), options)


def _on_several(index: Index, places: list[Place], options: GpuMultipleClonerOptions) -> Any:
    if len(places) == 1:
        return index_cpu_to_gpu(*places[0], index, options)
    wrapped = [] if isinstance(index, IndexIVF) else inner_indexes(index)
    if wrapped:
        around = with_inner(index, lambda inner: _on_several(inner, places, options))
        return copy.deepcopy(around, {id(each): each for each in inner_indexes(around)})
    return _sharded(index, places, options) if options.shard else _replicated(index, places, options)


def _replicated(index: Index, places: list[Place], options: GpuClonerOptions) -> IndexReplicas:
    replicas = IndexReplicas()
    for provider, device in places:
        replicas.addIndex(index_cpu_to_gpu(provider, device, index, options))
    replicas.own_indices = True
    return replicas


def _sharded(index: Any, places: list[Place], options: GpuMultipleClonerOptions) -> IndexShards:
    if type(index) not in GPU_CLASSES:
        offered = ", ".join(cls.__name__ for cls in GPU_CLASSES)
        raise RuntimeError(f"shards of an {type(index).__name__} are not implemented, only of {offered}")
    if isinstance(index, IndexFlat):
        shards = IndexShards(index.d, True, True)
        parts = [_flat_shard(index, number, places, options) for number in range(len(places))]
    else:
        parts = [_ivf_shard(index, number, places, options) for number in range(len(places))]
        put, stored = sum(part.ntotal for part in parts), index.invlists.compute_ntotal()
        if put != stored:
            raise RuntimeError(
                f"shard_type {options.shard_type} puts {put} of {stored} vectors on the GPUs: it needs ids "
                "0 ... ntotal - 1, shard_type 4 takes any"
            )
        if options.common_ivf_quantizer:
            quantizer = _on_several(index.quantizer, places, _as_replicas(options))
            shards = IndexShardsIVF(quantizer, index.nlist, True, False)
        else:
            shards = IndexShards(index.d, True, False)
    shards.own_indices = True
    for part in parts:
        shards.add_shard(part)
    return shards


def _as_replicas(options: GpuMultipleClonerOptions) -> GpuMultipleClonerOptions:
    without = copy.copy(options)
    without.shard = False
    return without


def _share(total: int, number: int, n: int) -> tuple[int, int]:
    """Begin and end of part `number` of `n` about equal ones."""
    return total * number // n, total * (number + 1) // n


def _flat_shard(index: IndexFlat, number: int, places: list[Place], options: GpuClonerOptions) -> Any:
    """The copy of part `number` of as many parts as there are places."""
    provider, device = places[number]
    empty = IndexFlat(index.d, index.metric_type)
    empty.metric_arg = index.metric_arg
    shard = index_cpu_to_gpu(provider, device, empty, options)
    begin, end = _share(index.ntotal, number, len(places))
    if end > begin:
        shard.add(index._reconstruct_n(begin, end - begin))
    return shard


def _ivf_shard(index: IndexIVF, number: int, places: list[Place], options: GpuMultipleClonerOptions) -> Any:
    """The copy of part `number`, by `GpuMultipleClonerOptions.shard_type`, of as many parts as there are places."""
    n = len(places)
    part = with_inner(index, lambda quantizer: quantizer)
    part.invlists = ArrayInvertedLists(index.nlist, index.code_size, index.device)
    part.direct_map = DirectMap()
    part.ntotal = 0
    if options.shard_type == 1:
        index.copy_subset_to(part, InvertedLists.SUBSET_TYPE_ID_MOD, n, number)
    elif options.shard_type == 2:
        begin, end = _share(index.ntotal, number, n)
        index.copy_subset_to(part, InvertedLists.SUBSET_TYPE_ID_RANGE, begin, end)
    elif options.shard_type == 4:
        begin, end = _share(index.nlist, number, n)
        index.copy_subset_to(part, InvertedLists.SUBSET_TYPE_INVLIST, begin, end)
    else:
        raise RuntimeError(f"shard_type {options.shard_type} is not implemented, expected 1, 2 or 4")
    provider, device = places[number]
    return index_cpu_to_gpu(provider, device, part, options)


def index_cpu_to_gpu_multiple_py(
    resources: Sequence[Provider],
    index: Index,
    co: GpuMultipleClonerOptions | None = None,
    gpus: Sequence[int] | None = None,
) -> Index:
    """Copy an index to several GPUs, given by lists.

    Parameters
    ----------
    resources : list of StandardGpuResources
    index : Index
    co : GpuMultipleClonerOptions, optional
    gpus : list of int, optional
        The numbers of the GPUs; by default as many as there are resources, from 0 on.

    Returns
    -------
    Index
        See `index_cpu_to_gpu_multiple`.
    """
    vres, vdev = GpuResourcesVector(), Int32Vector()
    for number, provider in zip(range(len(resources)) if gpus is None else gpus, resources, strict=False):
        vdev.push_back(number)
        vres.push_back(provider)
    return index_cpu_to_gpu_multiple(vres, vdev, index, co)


def index_cpu_to_all_gpus(index: Index, co: GpuMultipleClonerOptions | None = None, ngpu: int = -1) -> Index:
    """Copy an index to all GPUs, or to the first `ngpu` of them: see `index_cpu_to_gpu_multiple`."""
    return index_cpu_to_gpus_list(index, co=co, gpus=None, ngpu=ngpu)


def index_cpu_to_gpus_list(
    index: Index, co: GpuMultipleClonerOptions | None = None, gpus: Sequence[int] | None = None, ngpu: int = -1
) -> Index:
    """Copy an index to some GPUs.

    Parameters
    ----------
    index : Index
    co : GpuMultipleClonerOptions, optional
    gpus : list of int, optional
        The numbers of the GPUs.
    ngpu : int
        Without `gpus`: how many GPUs, from 0 on; -1 for all.

    Returns
    -------
    Index
        See `index_cpu_to_gpu_multiple`.
    """
    if gpus is None:
        gpus = range(get_num_gpus() if ngpu == -1 else ngpu)
    return index_cpu_to_gpu_multiple_py([StandardGpuResources() for _ in gpus], index, co, gpus)
