"""GPU resources: what faiss's functions for GPUs take first.

torch allocates the memory, and work is queued on torch's current stream of a device, so the settings are accepted and
have no effect. What the objects tell is true: the memory that their indexes hold, the streams, the device's abilities.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from ..wrapper.vectors import ObjectVector
from .available import current_gpu, gpu_device, synchronize

#: What the memory of an index is called in `StandardGpuResources.getMemoryInfo`.
FLAT_DATA = "FlatData"
IVF_LISTS = "IVFLists"


class GpuResources:
    """What several indexes share: here, the list of them."""

    def __init__(self) -> None:
        self._indexes: weakref.WeakSet[Any] = weakref.WeakSet()

    def __deepcopy__(self, memo: dict[int, Any]) -> GpuResources:
        return self  # copies of an index share its resources

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def initializeForDevice(self, device: int) -> None:
        """Check that there is such a GPU."""
        gpu_device(device)

    def supportsBFloat16(self, device: int) -> bool:
        """Whether a GPU computes with bfloat16."""
        found = gpu_device(device)
        if found.type == "cuda":
            with torch.cuda.device(found):
                return torch.cuda.is_bf16_supported()
        return found.type in ("cpu", "xpu")

    def supportsBFloat16CurrentDevice(self) -> bool:
        """Whether the current GPU computes with bfloat16."""
        return self.supportsBFloat16(current_gpu())

    def getDefaultStream(self, device: int) -> torch.Stream | None:
        """Return torch's current stream of a GPU, on which work is queued; None where there are no streams."""
        found = gpu_device(device)
        if found.type == "cuda":
            return torch.cuda.current_stream(found)
        return torch.xpu.current_stream(found) if found.type == "xpu" else None

    def getDefaultStreamCurrentDevice(self) -> torch.Stream | None:
        """Return torch's current stream of the current GPU."""
        return self.getDefaultStream(current_gpu())

    def setDefaultStream(self, device: int, stream: object) -> None:
        """Check that there is such a GPU. ``with torch.cuda.stream(stream):`` chooses a stream."""
        gpu_device(device)

    def revertDefaultStream(self, device: int) -> None:
        """Check that there is such a GPU."""
        gpu_device(device)

    def setDefaultNullStreamAllDevices(self) -> None:
        """Do nothing: work is queued on torch's current stream."""

    def syncDefaultStream(self, device: int) -> None:
        """Wait until all work on a GPU is done."""
        synchronize(gpu_device(device))

    def syncDefaultStreamCurrentDevice(self) -> None:
        """Wait until all work on the current GPU is done."""
        self.syncDefaultStream(current_gpu())

    def noTempMemory(self) -> None:
        """Do nothing: torch allocates."""

    def setTempMemory(self, size: int) -> None:
        """Do nothing: torch allocates."""

    def setPinnedMemory(self, size: int) -> None:
        """Do nothing: torch allocates."""

    def setLogMemoryAllocations(self, enable: bool) -> None:
        """Do nothing: torch allocates, and ``torch.cuda.memory`` tells what."""

    def getTempMemoryAvailable(self, device: int) -> int:
        """Return the free memory of a GPU in bytes, 0 where torch does not say."""
        found = gpu_device(device)
        return torch.cuda.mem_get_info(found)[0] if found.type == "cuda" else 0

    def getTempMemoryAvailableCurrentDevice(self) -> int:
        """Return the free memory of the current GPU in bytes, 0 where torch does not say."""
        return self.getTempMemoryAvailable(current_gpu())

    def getMemoryInfo(self) -> dict[int, dict[str, tuple[int, int]]]:
        """Return what the indexes made with these resources hold.

        Returns
        -------
        dict
            For each GPU number, under ``"FlatData"`` and ``"IVFLists"``, how many pieces of memory there are and their
            bytes.
        """
        info: dict[int, dict[str, tuple[int, int]]] = {}
        for index in list(self._indexes):
            kind, held = index.memory_held()
            of_device = info.setdefault(index.getDevice(), {FLAT_DATA: (0, 0), IVF_LISTS: (0, 0)})
            pieces, total = of_device[kind]
            of_device[kind] = (pieces + 1, total + held)
        return info

    def keeps(self, index: object) -> None:
        """Count an index among those that `getMemoryInfo` tells of, as long as it lives."""
        self._indexes.add(index)


class StandardGpuResourcesImpl(GpuResources):
    """The resources behind `StandardGpuResources`."""


class GpuResourcesProvider:
    """What has GPU resources."""

    def getResources(self) -> GpuResources:
        """Return the resources."""
        raise RuntimeError(f"a {type(self).__name__} has no resources: use StandardGpuResources")


class GpuResourcesProviderFromInstance(GpuResourcesProvider):
    """Gives resources that are there already.

    Parameters
    ----------
    p : GpuResources
    """

    def __init__(self, p: GpuResources) -> None:
        self._resources = p

    def getResources(self) -> GpuResources:
        """Return the resources given."""
        return self._resources


class StandardGpuResources(StandardGpuResourcesImpl, GpuResourcesProvider):
    """The usual resources; an index keeps those that it was made with, so this may be a temporary."""

    def getResources(self) -> GpuResources:
        """Return this object."""
        return self


class GpuResourcesVector(ObjectVector[GpuResourcesProvider | GpuResources]):
    """A vector of GPU resources."""

    element = StandardGpuResources


def resources_of(provider: GpuResourcesProvider | GpuResources) -> GpuResources:
    """Return the resources of an argument that faiss calls provider or resources.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(provider, GpuResources):
        return provider
    if isinstance(provider, GpuResourcesProvider):
        return provider.getResources()
    raise TypeError(f"expected GPU resources, such as StandardGpuResources(), got {type(provider).__name__}")
