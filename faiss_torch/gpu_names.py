"""The names of faiss that a program sees only where there are GPUs.

faiss without GPUs lacks them, and programs ask ``hasattr(faiss, "StandardGpuResources")`` which one they have.
"""

from __future__ import annotations

import sys
from typing import Any

from .devices import cloning, distances, gpu_indexes, options, resources
from .devices.available import ADVICE, gpus_named
from .gaps import missing, named_classes
from .tools import autotune
from .tools.kmeans import GpuProgressiveDimIndexFactory

_PACKAGE = __name__.partition(".")[0]

#: The names by the module that they are in.
_NAMES = (
    (
        resources,
        """
        GpuResources GpuResourcesProvider GpuResourcesProviderFromInstance GpuResourcesVector StandardGpuResources
        StandardGpuResourcesImpl
        """,
    ),
    (
        options,
        """
        Device GpuClonerOptions GpuIndexConfig GpuIndexFlatConfig GpuIndexIVFConfig GpuIndexIVFFlatConfig
        GpuMultipleClonerOptions INDICES_32_BIT INDICES_64_BIT INDICES_CPU INDICES_IVF Temporary Unified
        """,
    ),
    (
        gpu_indexes,
        """
        GpuIndex GpuIndexFlat GpuIndexFlatIP GpuIndexFlatL2 GpuIndexIVF GpuIndexIVFFlat isGpuIndex isGpuIndexImplemented
        tryCastGpuIndex
        """,
    ),
    (cloning, "index_cpu_to_gpu index_cpu_to_gpu_multiple index_gpu_to_cpu"),
    (
        distances,
        """
        DistanceDataType_BF16 DistanceDataType_F16 DistanceDataType_F32 GpuDistanceParams IndicesDataType_I32
        IndicesDataType_I64 bfKnn bfKnn_tiling bruteForceKnn
        """,
    ),
    (autotune, "GpuParameterSpace"),
)

#: The names and what they stand for.
GPU_NAMES: dict[str, Any] = {
    "GpuProgressiveDimIndexFactory": GpuProgressiveDimIndexFactory,
    **{name: getattr(module, name) for module, names in _NAMES for name in names.split()},
}


def attribute(name: str) -> Any:
    """Return what the package does not hold itself; its ``__getattr__``.

    ``__all__`` is for `import *`: what is offered, and the classes that can be named alone.

    Raises
    ------
    AttributeError
        With the reason: there are no GPUs, or the name is not offered.
    """
    if name == "__all__":
        gpus = gpus_named()
        return [*vars(sys.modules[_PACKAGE])["_ALWAYS_THERE"], *(GPU_NAMES if gpus else ()), *named_classes(gpus)]
    if name not in GPU_NAMES:
        return missing(name, gpus_named())
    if not gpus_named():
        raise AttributeError(
            f"faiss_torch has {name} where there are GPUs, and torch sees no accelerator here; {ADVICE}"
        )
    return GPU_NAMES[name]


def attributes() -> list[str]:
    """Return the names that the package offers, those for GPUs only where there are some; its ``__dir__``."""
    return sorted({*vars(sys.modules[_PACKAGE]), *(GPU_NAMES if gpus_named() else ())})
