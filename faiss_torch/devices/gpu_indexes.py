"""GpuIndex and its kinds: the indexes of this library under the names that they bear on a GPU.

An index on a GPU is the same class with its tensors on that device, so everything that works on the CPU works there:
``remove_ids``, ``range_search``, selectors, any k and any nprobe. A GPU class adds where its index lives.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..attributes import Int64
from ..constants import METRIC_INNER_PRODUCT, METRIC_L2
from ..indexes.base import Index
from ..indexes.flat.flat import IndexFlat, IndexFlatIP, IndexFlatL2
from ..indexes.ivf.base import IndexIVF
from ..indexes.ivf.flat import IndexIVFFlat
from ..indexes.ivf.scalar_quantizer import IndexIVFScalarQuantizer
from ..kinds import KINDS
from ..parts.codecs.floats import stored_size
from ..parts.lists.inverted_lists import ArrayInvertedLists
from ..wrapper.vectors import Int64Vector, UInt8Vector
from . import options
from .available import gpu_device, gpu_number
from .copies import copied, with_inner
from .options import (
    INDICES_32_BIT,
    GpuIndexConfig,
    GpuIndexFlatConfig,
    GpuIndexIVFConfig,
    GpuIndexIVFFlatConfig,
    GpuIndexIVFScalarQuantizerConfig,
)
from .resources import FLAT_DATA, IVF_LISTS, GpuResources, GpuResourcesProvider, resources_of

#: What an index on a GPU is made with.
Provider: TypeAlias = GpuResourcesProvider | GpuResources

#: faiss's default of `GpuIndex.getMinPagingSize`, in bytes.
MIN_PAGING_SIZE = 256 << 20


class GpuIndex(Index):
    """An index on a GPU; the base of its kinds.

    It can be copied and pickled, and is written to a file as the index that it is on the CPU. A pickle comes back on
    the GPU of the same number.

    Raises
    ------
    AttributeError
        When it is made itself, as in faiss.
    """

    #: The class of the same index on the CPU.
    plain_class: ClassVar[Any] = Index

    _config: GpuIndexConfig
    _resources: GpuResources
    _min_paging_size: Int64

    def __init__(self) -> None:
        raise AttributeError(
            f"{type(self).__name__} is abstract: use GpuIndexFlat, GpuIndexIVFFlat or index_cpu_to_gpu"
        )

    def _reside(self, provider: Provider, config: GpuIndexConfig) -> None:
        """Take over what a GPU index has beyond the plain one."""
        self._resources = resources_of(provider)
        self._config = copy.deepcopy(config)
        self._min_paging_size = MIN_PAGING_SIZE
        self._resources.keeps(self)

    def getDevice(self) -> int:
        """Return the number of the GPU on which the index lives; -1 where its device is no GPU (see `to`)."""
        return gpu_number(self.device, self._config.device)

    def getResources(self) -> GpuResources:
        """Return the resources that the index was made with."""
        return self._resources

    def setMinPagingSize(self, size: int) -> None:
        """Set what `getMinPagingSize` returns; vectors are moved to a GPU in one piece."""
        self._min_paging_size = int(size)

    def getMinPagingSize(self) -> int:
        """Return the bytes above which faiss would copy vectors in pieces."""
        return self._min_paging_size

    def memory_held(self) -> tuple[str, int]:
        """Return the kind and the bytes of the memory that holds the vectors, for `GpuResources.getMemoryInfo`."""
        return FLAT_DATA, 0

    def _dtypes(self) -> tuple[torch.dtype | None, torch.dtype | None]:
        """What the configuration asks to store vectors as, and those of a quantizer; None for what they are."""
        return None, None

    def _copy_from(self, index: Index) -> None:
        """Become a copy of an index of the plain class."""
        new = copied(as_plain(index), gpu_device(self._config.device), *self._dtypes())
        self.__dict__.update(as_gpu(new, self._resources, self._config).__dict__)

    def _copy_to(self, index: Index) -> None:
        """Make an index of the plain class a copy of this one; it stays on its device."""
        index.__dict__.update(off_gpu(self, index.device).__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        new = as_gpu(copied(as_plain(self), self.device), self._resources, self._config)
        new._min_paging_size = self._min_paging_size
        memo[id(self)] = new
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        plain = copied(as_plain(self), torch.device("cpu"))
        return _restored, (plain, self._resources, self._config, self._min_paging_size)


def _restored(plain: Index, resources: GpuResources, config: GpuIndexConfig, min_paging_size: int) -> Any:
    """The GPU index of a pickle.

    Raises
    ------
    RuntimeError
        If there is no GPU of its number here.
    """
    plain.to(gpu_device(config.device))
    index = as_gpu(plain, resources, config)
    index._min_paging_size = min_paging_size
    return index


def _require(function: str, index: Any, cls: type) -> None:
    if not isinstance(index, cls):
        raise TypeError(f"{function}: expected an {cls.__name__}, got {type(index).__name__}")


def _wrong_arguments(cls: type, expected: str, arguments: tuple[Any, ...]) -> NoReturn:
    given = ", ".join(type(each).__name__ for each in arguments)
    raise TypeError(f"{cls.__name__}: expected (resources, {expected}), got (resources, {given})")


def _split(arguments: tuple[Any, ...], default: type[GpuIndexConfig]) -> tuple[list[Any], Any]:
    """Arguments with numpy's integers as Python's, and the configuration at their end or a default one."""
    given = [int(each) if isinstance(each, np.integer) else each for each in arguments]
    config = given.pop() if given and isinstance(given[-1], default) else default()
    return given, config


class GpuIndexFlat(GpuIndex, IndexFlat):
    """Vectors on a GPU as they are, searched exactly in any metric.

    ``GpuIndexFlat(resources, d, metric, config=GpuIndexFlatConfig())`` is empty;
    ``GpuIndexFlat(resources, index, config=GpuIndexFlatConfig())`` is a copy of an IndexFlat.

    Parameters
    ----------
    provider : StandardGpuResources
    *settings
        Dimensions and metric, or an index; then a GpuIndexFlatConfig or nothing.
    """

    plain_class: ClassVar[Any] = IndexFlat
    _config: GpuIndexFlatConfig

    def __init__(self, provider: Provider, *settings: Any) -> None:
        given, config = _split(settings, GpuIndexFlatConfig)
        match given:
            case [IndexFlat() as index]:
                pass
            case [int() as d, int() as metric]:
                index = IndexFlat(d, metric)
            case _:
                _wrong_arguments(type(self), "d, metric, [config] or an IndexFlat, [config]", settings)
        self._make(provider, index, config)

    def _make(self, provider: Provider, index: IndexFlat, config: GpuIndexFlatConfig) -> None:
        self._reside(provider, config)
        self.copyFrom(index)

    def _dtypes(self) -> tuple[torch.dtype | None, torch.dtype | None]:
        return (torch.float16 if self._config.useFloat16 else None), None

    def copyFrom(self, index: IndexFlat) -> None:
        """Become a copy of an index, whatever was here before.

        Raises
        ------
        RuntimeError
            If its metric is not that of this class.
        """
        _require("copyFrom", index, IndexFlat)
        self._check_metric(index)
        self._copy_from(index)

    def copyTo(self, index: IndexFlat) -> None:
        """Make an index a copy of this one, whatever it was before; it stays on its device.

        Raises
        ------
        RuntimeError
            If its metric is not that of this class.
        """
        _require("copyTo", index, IndexFlat)
        self._check_metric(index)
        self._copy_to(index)

    def _check_metric(self, index: IndexFlat) -> None:
        """A GpuIndexFlat takes any metric."""

    def getNumVecs(self) -> int:
        """Return the number of vectors."""
        return self.ntotal

    def memory_held(self) -> tuple[str, int]:
        return FLAT_DATA, self._codes.room.nbytes


class _OneMetric(GpuIndexFlat):
    """A flat index of one metric: made from (resources, d) or from an index of that metric."""

    only_metric: ClassVar[int]

    def __init__(self, provider: Provider, *settings: Any) -> None:
        given, config = _split(settings, GpuIndexFlatConfig)
        match given:
            case [IndexFlat() as index]:
                self._check_metric(index)
            case [int() as d]:
                index = self.plain_class(d)
            case _:
                _wrong_arguments(type(self), f"d, [config] or an {self.plain_class.__name__}, [config]", settings)
        self._make(provider, index, config)

    def _check_metric(self, index: IndexFlat) -> None:
        if index.metric_type != self.only_metric:
            raise RuntimeError(
                f"{type(self).__name__}: cannot copy an index of metric {index.metric_type}, "
                f"expected metric {self.only_metric}"
            )


class GpuIndexFlatL2(_OneMetric, IndexFlatL2):
    """Exact search on a GPU by smallest squared L2 distance.

    ``GpuIndexFlatL2(resources, d, config=GpuIndexFlatConfig())`` is empty;
    ``GpuIndexFlatL2(resources, index, config=GpuIndexFlatConfig())`` is a copy of an index.

    Parameters
    ----------
    provider : StandardGpuResources
    *settings
        Dimensions, or an index; then a GpuIndexFlatConfig or nothing.
    """

    plain_class: ClassVar[Any] = IndexFlatL2
    only_metric: ClassVar[int] = METRIC_L2


class GpuIndexFlatIP(_OneMetric, IndexFlatIP):
    """Exact search on a GPU by largest inner product.

    ``GpuIndexFlatIP(resources, d, config=GpuIndexFlatConfig())`` is empty;
    ``GpuIndexFlatIP(resources, index, config=GpuIndexFlatConfig())`` is a copy of an index.

    Parameters
    ----------
    provider : StandardGpuResources
    *settings
        Dimensions, or an index; then a GpuIndexFlatConfig or nothing.
    """

    plain_class: ClassVar[Any] = IndexFlatIP
    only_metric: ClassVar[int] = METRIC_INNER_PRODUCT


class GpuIndexIVF(GpuIndex, IndexIVF):
    """An inverted file on a GPU; the base of its kinds."""

    plain_class: ClassVar[Any] = IndexIVF
    _config: GpuIndexIVFConfig

    def _dtypes(self) -> tuple[torch.dtype | None, torch.dtype | None]:
        return None, (torch.float16 if self._config.flatConfig.useFloat16 else None)

    def _own_quantizer(self, d: int, metric: int, config: GpuIndexIVFConfig) -> GpuIndexFlat:
        flat_config = copy.deepcopy(config.flatConfig)
        flat_config.device = config.device
        if metric == METRIC_INNER_PRODUCT:
            return GpuIndexFlatIP(self._resources, d, flat_config)
        if metric == METRIC_L2:
            return GpuIndexFlatL2(self._resources, d, flat_config)
        return GpuIndexFlat(self._resources, d, metric, flat_config)

    def _make_lists(self) -> None:
        self.device = gpu_device(self._config.device)
        self.own_invlists = True
        self.invlists = ArrayInvertedLists(self.nlist, self.code_size, self.device)

    def getNumLists(self) -> int:
        """Return nlist."""
        return self.nlist

    def setNumProbes(self, nprobe: int) -> None:
        """Set nprobe, as older versions of faiss call it."""
        self.nprobe = int(nprobe)

    def getNumProbes(self) -> int:
        """Return nprobe."""
        return self.nprobe

    def getListLength(self, listId: int) -> int:
        """Return the number of vectors in a list."""
        return self.get_list_size(listId)

    def getListIndices(self, listId: int) -> Int64Vector:
        """Return the ids of a list."""
        return Int64Vector(self._require_lists().get_ids(listId).rest().copy())

    def getListVectorData(self, listId: int, gpuFormat: bool = False) -> UInt8Vector:
        """Return the codes of a list, as the CPU keeps them; there is no other format."""
        return UInt8Vector(self._require_lists().get_codes(listId).rest().copy())

    def updateQuantizer(self) -> None:
        """Do nothing: the quantizer is asked at every search."""
        self._require_quantizer()

    def reserveMemory(self, numVecs: int) -> None:
        """Do nothing: lists grow at amortised cost."""

    def reclaimMemory(self) -> int:
        """Do nothing, and return the bytes that this gave back: 0."""
        return 0

    def memory_held(self) -> tuple[str, int]:
        if self.invlists is None:
            return IVF_LISTS, 0
        dtype = getattr(self.invlists, "storage_dtype", torch.float32)
        of_entry = stored_size(self.invlists.code_size, dtype) + torch.int64.itemsize
        return IVF_LISTS, int(self.invlists.compute_ntotal()) * of_entry

    def _ids_or_next(self, ids: Tensor | None, n: int) -> Tensor:
        given = super()._ids_or_next(ids, n)
        return given.to(torch.int32).to(torch.int64) if self._config.indicesOptions == INDICES_32_BIT else given


class GpuIndexIVFFlat(GpuIndexIVF, IndexIVFFlat):
    """Inverted lists of vectors on a GPU.

    ``GpuIndexIVFFlat(resources, d, nlist, metric=METRIC_L2, config=GpuIndexIVFFlatConfig())`` makes its own quantizer;
    ``GpuIndexIVFFlat(resources, quantizer, d, nlist, metric=METRIC_L2, config=...)`` uses the caller's, wherever that
    lives; ``GpuIndexIVFFlat(resources, index, config=...)`` is a copy of an IndexIVFFlat.

    Parameters
    ----------
    provider : StandardGpuResources
    *settings
        As above.
    """

    plain_class: ClassVar[Any] = IndexIVFFlat
    _config: GpuIndexIVFFlatConfig

    def __init__(self, provider: Provider, *settings: Any) -> None:
        given, config = _split(settings, GpuIndexIVFFlatConfig)
        self._reside(provider, config)
        match given:
            case [IndexIVFFlat() as index]:
                self._copy_from(index)
            case [int() as d, int() as nlist, *rest] if len(rest) < 2:
                metric = rest[0] if rest else METRIC_L2
                self._make(self._own_quantizer(d, metric, config), d, nlist, metric)
            case [Index() as quantizer, int() as d, int() as nlist, *rest] if len(rest) < 2:
                self._make(quantizer, d, nlist, rest[0] if rest else METRIC_L2)
            case _:
                expected = "[quantizer,] d, nlist, [metric], [config] or an IndexIVFFlat, [config]"
                _wrong_arguments(type(self), expected, settings)

    def _make(self, quantizer: Index, d: int, nlist: int, metric: int) -> None:
        IndexIVFFlat.__init__(self, quantizer, d, nlist, metric, own_invlists=False)
        self._make_lists()

    def copyFrom(self, index: IndexIVFFlat) -> None:
        """Become a copy of an index and its quantizer, whatever was here before."""
        _require("copyFrom", index, IndexIVFFlat)
        self._copy_from(index)

    def copyTo(self, index: IndexIVFFlat) -> None:
        """Make an index a copy of this one and its quantizer, whatever it was before; it stays on its device."""
        _require("copyTo", index, IndexIVFFlat)
        self._copy_to(index)


class GpuIndexIVFScalarQuantizer(GpuIndexIVF, IndexIVFScalarQuantizer):
    """Inverted lists of scalar codes on a GPU.

    ``GpuIndexIVFScalarQuantizer(resources, d, nlist, qtype, metric=METRIC_L2, encodeResidual=True, config=...)`` makes
    its own quantizer; with ``quantizer, d, nlist, qtype ...`` it uses the caller's, wherever that lives; with ``index``
    it is a copy of an IndexIVFScalarQuantizer.

    Parameters
    ----------
    provider : StandardGpuResources
    *settings
        As above.
    """

    plain_class: ClassVar[Any] = IndexIVFScalarQuantizer
    _config: GpuIndexIVFScalarQuantizerConfig

    def __init__(self, provider: Provider, *settings: Any) -> None:
        given, config = _split(settings, GpuIndexIVFScalarQuantizerConfig)
        self._reside(provider, config)
        match given:
            case [IndexIVFScalarQuantizer() as index]:
                self._copy_from(index)
            case [int() as d, int() as nlist, int() as qtype, *rest] if len(rest) < 3:
                metric = rest[0] if rest else METRIC_L2
                self._make(self._own_quantizer(d, metric, config), d, nlist, qtype, *rest)
            case [Index() as quantizer, int() as d, int() as nlist, int() as qtype, *rest] if len(rest) < 3:
                self._make(quantizer, d, nlist, qtype, *rest)
            case _:
                expected = "[quantizer,] d, nlist, qtype, [metric], [encodeResidual], [config] or an index, [config]"
                _wrong_arguments(type(self), expected, settings)

    def _make(
        self, quantizer: Index, d: int, nlist: int, qtype: int, metric: int = METRIC_L2, by_residual: bool = True
    ) -> None:
        IndexIVFScalarQuantizer.__init__(self, quantizer, d, nlist, qtype, metric, by_residual, own_invlists=False)
        self._make_lists()

    def copyFrom(self, index: IndexIVFScalarQuantizer) -> None:
        """Become a copy of an index and its quantizer, whatever was here before."""
        _require("copyFrom", index, IndexIVFScalarQuantizer)
        self._copy_from(index)

    def copyTo(self, index: IndexIVFScalarQuantizer) -> None:
        """Make an index a copy of this one and its quantizer, whatever it was before; it stays on its device."""
        _require("copyTo", index, IndexIVFScalarQuantizer)
        self._copy_to(index)


#: The class that a copy on a GPU has, by that of the index. An index of any other class keeps it there.
GPU_CLASSES: dict[type[Index], type[GpuIndex]] = {kind.cls: globals()[kind.gpu] for kind in KINDS if kind.gpu}

_CONFIGS: dict[type[Index], type[GpuIndexConfig]] = {
    kind.cls: getattr(options, kind.gpu_config) for kind in KINDS if kind.gpu
}

_GPU_ATTRIBUTES = frozenset(inspect.get_annotations(GpuIndex))


def config_class(index: Index) -> type[GpuIndexConfig]:
    """Return the class of the configuration that a copy of an index on a GPU has."""
    return _CONFIGS.get(type(index), GpuIndexConfig)


def as_gpu(index: Index, resources: GpuResources, config: GpuIndexConfig) -> Any:
    """Return an index that is on a GPU already under the classes of GPUs, over the same memory."""

    def inner_as_gpu(inner: Index) -> Index:
        return as_gpu(inner, resources, config_class(inner)(config.device))

    cls = GPU_CLASSES.get(type(index))
    gpu = with_inner(index, inner_as_gpu, cls)
    if cls is not None:
        gpu._reside(resources, config)
    return gpu


def as_plain(index: Index) -> Any:
    """Return an index under the classes that it has on the CPU, over the same memory."""
    cls = type(index).plain_class if isinstance(index, GpuIndex) else type(index)
    plain = with_inner(index, as_plain, cls)
    for name in _GPU_ATTRIBUTES:
        plain.__dict__.pop(name, None)
    return plain


def off_gpu(index: Index, device: torch.device) -> Any:
    """Return a copy of an index under the classes that it has on the CPU, on a device, its vectors float32."""
    return copied(as_plain(index), device, torch.float32, torch.float32)


def isGpuIndex(index: Index) -> bool:
    """Whether an index bears the class of an index on a GPU."""
    return isinstance(index, GpuIndex)


def tryCastGpuIndex(index: Index) -> GpuIndex | None:
    """Return the index if it bears the class of an index on a GPU, else None."""
    return index if isinstance(index, GpuIndex) else None


def isGpuIndexImplemented(index: Index) -> bool:
    """Whether a copy of an index on a GPU bears a class of its own for that."""
    return isinstance(index, GpuIndex) or type(index) in GPU_CLASSES
