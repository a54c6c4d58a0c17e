"""The names of faiss that a program sees only where there are GPUs.

faiss without GPUs lacks them, and programs ask ``hasattr(faiss, "StandardGpuResources")`` which one they have.
"""

from __future__ import annotations

#: (module, its names).
NAMES_BY_MODULE = (
    (
        "devices.resources",
        """
        GpuResources GpuResourcesProvider GpuResourcesProviderFromInstance GpuResourcesVector StandardGpuResources
        StandardGpuResourcesImpl
        """,
    ),
    (
        "devices.options",
        """
        Device GpuClonerOptions GpuIndexConfig GpuIndexFlatConfig GpuIndexIVFConfig GpuIndexIVFFlatConfig
        GpuIndexIVFScalarQuantizerConfig
        GpuMultipleClonerOptions INDICES_32_BIT INDICES_64_BIT INDICES_CPU INDICES_IVF Temporary Unified
        """,
    ),
    (
        "devices.gpu_indexes",
        """
        GpuIndex GpuIndexFlat GpuIndexFlatIP GpuIndexFlatL2 GpuIndexIVF GpuIndexIVFFlat GpuIndexIVFScalarQuantizer
        isGpuIndex isGpuIndexImplemented
        tryCastGpuIndex
        """,
    ),
    ("devices.cloning", "index_cpu_to_gpu index_cpu_to_gpu_multiple index_gpu_to_cpu"),
    (
        "devices.distances",
        """
        DistanceDataType_BF16 DistanceDataType_F16 DistanceDataType_F32 GpuDistanceParams IndicesDataType_I32
        IndicesDataType_I64 bfKnn bfKnn_tiling bruteForceKnn
        """,
    ),
    ("tools.autotune", "GpuParameterSpace"),
    ("tools.kmeans", "GpuProgressiveDimIndexFactory"),
)

#: The module of each name.
MODULE_OF = {name: module for module, names in NAMES_BY_MODULE for name in names.split()}
