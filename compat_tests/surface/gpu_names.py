"""The names that a GPU build of faiss 1.15.0 has beyond faiss-cpu, written down: no such build is asked.

Read off `swigfaiss.swig` where it says ``GPU_WRAPPER``, the headers in ``faiss/gpu`` that it includes, and
``gpu_wrappers.py``, whose functions are in faiss-cpu too. An unscoped enum gives its values' names, an ``enum
class`` puts its own before them; what the file ignores (AllocType, GpuMemoryReservation) is not here.
"""

from __future__ import annotations

#: Where each name comes from.
GPU_NAMES_BY_HEADER = {
    "swigfaiss.swig": """
        GpuResourcesVector cast_cudastream_t_to_integer cast_integer_to_cudastream_t
    """,
    "GpuResources.h": """
        AllocInfo AllocRequest Device GpuResources GpuResourcesProvider
        GpuResourcesProviderFromInstance Temporary Unified allocTypeToString makeDevAlloc
        makeSpaceAlloc makeTempAlloc memorySpaceToString
    """,
    "StandardGpuResources.h": "StandardGpuResources StandardGpuResourcesImpl",
    "GpuIndicesOptions.h": "INDICES_32_BIT INDICES_64_BIT INDICES_CPU INDICES_IVF",
    "GpuClonerOptions.h": "GpuClonerOptions GpuMultipleClonerOptions",
    "GpuIndex.h": """
        GpuIndex GpuIndexConfig isGpuIndex isGpuIndexImplemented should_use_cuvs tryCastGpuIndex
    """,
    "GpuIndexFlat.h": "GpuIndexFlat GpuIndexFlatConfig GpuIndexFlatIP GpuIndexFlatL2",
    "GpuIndexIVF.h": "GpuIndexIVF GpuIndexIVFConfig",
    "GpuIndexIVFPQ.h": "GpuIndexIVFPQ GpuIndexIVFPQConfig",
    "GpuIndexIVFFlat.h": "GpuIndexIVFFlat GpuIndexIVFFlatConfig",
    "GpuIndexIVFScalarQuantizer.h": "GpuIndexIVFScalarQuantizer GpuIndexIVFScalarQuantizerConfig",
    "GpuIndexBinaryFlat.h": "GpuIndexBinaryFlat GpuIndexBinaryFlatConfig",
    "GpuDistance.h": """
        DistanceDataType_BF16 DistanceDataType_F16 DistanceDataType_F32 GpuDistanceParams
        IndicesDataType_I32 IndicesDataType_I64 bfKnn bfKnn_tiling bruteForceKnn
    """,
    "GpuIcmEncoder.h": "GpuIcmEncoder GpuIcmEncoderFactory",
    "GpuAutoTune.h": "GpuParameterSpace",
    "GpuCloner.h": """
        GpuProgressiveDimIndexFactory ToCPUCloner ToGpuCloner ToGpuClonerMultiple
        index_binary_cpu_to_gpu index_binary_cpu_to_gpu_multiple index_binary_gpu_to_cpu
        index_cpu_to_gpu index_cpu_to_gpu_multiple index_gpu_to_cpu
    """,
}

#: What a build with NVIDIA's cuVS has besides.
CUVS_NAMES_BY_HEADER = {
    "swigfaiss.swig": "CUDA_R_16F CUDA_R_32F CUDA_R_64F CUDA_R_8I CUDA_R_8U",
    "GpuIndexCagra.h": """
        GpuIndexCagra GpuIndexCagraConfig IVFPQBuildCagraConfig IVFPQSearchCagraConfig
        SearchParametersCagra codebook_gen_PER_CLUSTER codebook_gen_PER_SUBSPACE
        graph_build_algo_ITERATIVE_SEARCH graph_build_algo_IVF_PQ graph_build_algo_NN_DESCENT
        hash_mode_AUTO hash_mode_HASH hash_mode_SMALL search_algo_AUTO search_algo_MULTI_CTA
        search_algo_MULTI_KERNEL search_algo_SINGLE_CTA
    """,
    "GpuIndexBinaryCagra.h": "GpuIndexBinaryCagra",
}

GPU_NAMES = frozenset(
    name for table in (GPU_NAMES_BY_HEADER, CUVS_NAMES_BY_HEADER) for names in table.values() for name in names.split()
)

#: The values of the constants among them.
GPU_CONSTANTS = {
    "INDICES_CPU": 0,
    "INDICES_IVF": 1,
    "INDICES_32_BIT": 2,
    "INDICES_64_BIT": 3,
    "DistanceDataType_F32": 1,
    "DistanceDataType_F16": 2,
    "DistanceDataType_BF16": 3,
    "IndicesDataType_I64": 1,
    "IndicesDataType_I32": 2,
}

#: The functions of `gpu_wrappers.py`, which faiss-cpu has although it cannot run them: never hidden.
GPU_NAMES_OF_FAISS_CPU = frozenset(
    (
        "index_cpu_to_all_gpus",
        "index_cpu_to_gpu_multiple_py",
        "index_cpu_to_gpus_list",
        "knn_gpu",
        "pairwise_distance_gpu",
    )
)

_RESOURCES: dict[str, object] = {
    "initializeForDevice": "device",
    "supportsBFloat16": "device",
    "supportsBFloat16CurrentDevice": "",
    "getBlasHandle": "device",
    "getDefaultStream": "device",
    "setDefaultStream": "device stream",
    "getAlternateStreams": "device",
    "allocMemory": "req",
    "deallocMemory": "device in",
    "getTempMemoryAvailable": "device",
    "getPinnedMemory": "",
    "getAsyncCopyStream": "device",
    "getBlasHandleCurrentDevice": "",
    "getDefaultStreamCurrentDevice": "",
    "getTempMemoryAvailableCurrentDevice": "",
    "syncDefaultStream": "device",
    "syncDefaultStreamCurrentDevice": "",
    "getAlternateStreamsCurrentDevice": "",
    "getAsyncCopyStreamCurrentDevice": "",
}

_CONFIG: dict[str, object] = {"device": 0, "memorySpace": 1, "use_cuvs": False}

_IVF_CONFIG: dict[str, object] = {**_CONFIG, "indicesOptions": 3, "allowCpuCoarseQuantizer": False}

_CLONER_OPTIONS: dict[str, object] = {
    "indicesOptions": 3,
    "useFloat16CoarseQuantizer": False,
    "useFloat16": False,
    "usePrecomputed": False,
    "reserveVecs": 0,
    "storeTransposed": False,
    "verbose": False,
    "use_cuvs": False,
    "allowCpuCoarseQuantizer": False,
}

_INDEX: dict[str, object] = {
    "getDevice": "",
    "getResources": "",
    "setMinPagingSize": "size",
    "getMinPagingSize": "",
}

_FLAT: dict[str, object] = {**_INDEX, "copyFrom": "index", "copyTo": "index", "getNumVecs": "", "getGpuData": ""}

_IVF: dict[str, object] = {
    **_INDEX,
    "copyFrom": "index",
    "copyTo": "index",
    "updateQuantizer": "",
    "getNumLists": "",
    "getListLength": "listId",
    "getListVectorData": "listId gpuFormat",
    "getListIndices": "listId",
    "search_preassigned": "x k",
    "range_search_preassigned": "x",
}

#: What the headers declare public in the classes: a method's parameters, separated by spaces, or an attribute's value.
GPU_MEMBERS: dict[str, dict[str, object]] = {
    "GpuResources": _RESOURCES,
    "GpuResourcesProvider": {"getResources": ""},
    "StandardGpuResources": {
        "getResources": "",
        "supportsBFloat16": "device",
        "supportsBFloat16CurrentDevice": "",
        "noTempMemory": "",
        "setTempMemory": "size",
        "setPinnedMemory": "size",
        "setDefaultStream": "device stream",
        "revertDefaultStream": "device",
        "setDefaultNullStreamAllDevices": "",
        "getMemoryInfo": "",
        "getDefaultStream": "device",
        "getTempMemoryAvailable": "device",
        "syncDefaultStreamCurrentDevice": "",
        "setLogMemoryAllocations": "enable",
    },
    "GpuIndexConfig": _CONFIG,
    "GpuIndexFlatConfig": {**_CONFIG, "useFloat16": False, "storeTransposed": False},
    "GpuIndexIVFConfig": _IVF_CONFIG,
    "GpuIndexIVFFlatConfig": {**_IVF_CONFIG, "interleavedLayout": True},
    "GpuIndexIVFScalarQuantizerConfig": {**_IVF_CONFIG, "interleavedLayout": True},
    "GpuClonerOptions": _CLONER_OPTIONS,
    "GpuMultipleClonerOptions": {**_CLONER_OPTIONS, "shard": False, "shard_type": 1, "common_ivf_quantizer": False},
    "GpuDistanceParams": {
        "metric": 1,
        "metricArg": 0,
        "k": 0,
        "dims": 0,
        "vectors": None,
        "vectorType": 1,
        "vectorsRowMajor": True,
        "numVectors": 0,
        "vectorNorms": None,
        "queries": None,
        "queryType": 1,
        "queriesRowMajor": True,
        "numQueries": 0,
        "outDistances": None,
        "ignoreOutDistances": False,
        "outIndicesType": 1,
        "outIndices": None,
        "device": -1,
        "use_cuvs": False,
    },
    "GpuIndex": _INDEX,
    "GpuIndexFlat": _FLAT,
    "GpuIndexFlatL2": _FLAT,
    "GpuIndexFlatIP": _FLAT,
    "GpuIndexIVF": _IVF,
    "GpuIndexIVFFlat": {**_IVF, "reserveMemory": "numVecs", "reclaimMemory": ""},
    "GpuIndexIVFScalarQuantizer": {**_IVF, "reserveMemory": "numVecs", "reclaimMemory": ""},
    "GpuParameterSpace": {"initialize": "index", "set_index_parameter": "index name val"},
}
