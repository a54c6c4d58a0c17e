"""Names that exist because faiss is wrapped C++: casts, versions, global variables, instruction sets.

Objects here have their real class from the start, so the casts return what they are given. Instruction sets
are torch's own business: the levels that the processor has can be set and read, without an effect.
"""

from __future__ import annotations

import sys
import time
from typing import Any, TypeVar

import torch

from .constants import METRIC_NAMES, Float16, Float32, Int8, UInt8
from .devices.available import gpus_named
from .indexes.ivf.stats import IndexIVFStats, indexIVF_stats
from .tools.partitioning import PartitionStats, partition_stats

Anything = TypeVar("Anything")

#: The version of faiss whose API, files and numbers these are; this library's own is in its package metadata.
FAISS_VERSION_MAJOR = 1
FAISS_VERSION_MINOR = 15
FAISS_VERSION_PATCH = 1
VERSION_STRING = f"{FAISS_VERSION_MAJOR}.{FAISS_VERSION_MINOR}.{FAISS_VERSION_PATCH}"
__version__ = VERSION_STRING


def get_version() -> str:
    """The version of faiss that this library follows."""
    return __version__


def get_compile_options() -> str:
    """The name of the engine, where faiss names its instruction sets, and ``GPU`` where there are GPUs."""
    return f"TORCH {torch.__version__}{' GPU' if gpus_named() else ''}"


def swig_version() -> int:
    """The version of SWIG that wraps the reference version of faiss, 4.5.0; nothing is wrapped here."""
    return 0x040500


def downcast_index(index: Anything) -> Anything:
    """The index itself, which has its real class already."""
    return index


def downcast_IndexBinary(index: Anything) -> Anything:
    """The index itself, which has its real class already."""
    return index


def downcast_VectorTransform(vt: Anything) -> Anything:
    """The transform itself, which has its real class already."""
    return vt


def downcast_InvertedLists(il: Anything) -> Anything:
    """The lists themselves, which have their real class already."""
    return il


def downcast_Quantizer(aq: Anything) -> Anything:
    """The quantizer itself, which has its real class already."""
    return aq


def downcast_AdditiveQuantizer(aq: Anything) -> Anything:
    """The quantizer itself, which has its real class already."""
    return aq


def getmillisecs() -> float:
    """A clock in milliseconds, to take differences of."""
    return time.time() * 1e3


def get_cycles() -> int:
    """A fine clock, to take differences of; nanoseconds here, cycles in faiss."""
    return time.perf_counter_ns()


def get_mem_usage_kb() -> int:
    """The memory that the process has in use, in kilobytes; 0 where the system does not say (as in faiss)."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def metric_type_count() -> int:
    """The number of metrics."""
    return len(METRIC_NAMES)


def get_numeric_type_size(numeric_type: int) -> int:
    """The bytes of a numeric type.

    Raises
    ------
    RuntimeError
        If no type has that number.
    """
    sizes = {Float32: 4, Float16: 2, UInt8: 1, Int8: 1}
    if numeric_type not in sizes:
        raise RuntimeError(f"numeric type {numeric_type}: expected one of {sorted(sizes)}")
    return sizes[numeric_type]


class GlobalVariables:
    """faiss's global variables, by the name `cvar`.

    Block sizes and thresholds of faiss's kernels can be set and read, so that programs that tune them run;
    the engine chooses its own.

    Attributes
    ----------
    indexIVF_stats : IndexIVFStats
        Counts of what IVF searches did.
    partition_stats : PartitionStats
        Cycles of partitioning, which are not counted.
    """

    distance_compute_blas_threshold: int = 128000
    distance_compute_blas_query_bs: int = 4096
    distance_compute_blas_database_bs: int = 1024
    distance_compute_min_k_reservoir: int = 100
    bucket_sort_verbose: int = 0
    index_factory_verbose: int = 0
    check_compatible_for_merge_expensive_check: bool = True
    index_read_warn_on_null_invlists: bool = True

    @property
    def indexIVF_stats(self) -> IndexIVFStats:
        """Counts of what IVF searches did, added up until ``reset()``."""
        return indexIVF_stats

    @property
    def partition_stats(self) -> PartitionStats:
        """Cycles of partitioning."""
        return partition_stats

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in GlobalVariables.__annotations__:
            raise AttributeError(f"Unknown C global variable {name!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Unknown C global variable {name!r}")


cvar = GlobalVariables()

SIMDLevel_NONE = 0
SIMDLevel_AVX2 = 1
SIMDLevel_AVX512 = 2
SIMDLevel_AVX512_SPR = 3
SIMDLevel_ARM_NEON = 4
SIMDLevel_ARM_SVE = 5
SIMDLevel_RISCV_RVV = 6
SIMDLevel_AVX512_VPOPCNT = 7
SIMDLevel_COUNT = 8
SINGLE_SIMD_LEVEL = SIMDLevel_NONE
SINGLE_SIMD_LEVEL_256 = SIMDLevel_NONE
SINGLE_SIMD_LEVEL_512 = SIMDLevel_NONE

_SIMD_LEVEL_NAMES = {
    SIMDLevel_NONE: "NONE",
    SIMDLevel_AVX2: "AVX2",
    SIMDLevel_AVX512: "AVX512",
    SIMDLevel_AVX512_SPR: "AVX512_SPR",
    SIMDLevel_ARM_NEON: "ARM_NEON",
    SIMDLevel_ARM_SVE: "ARM_SVE",
    SIMDLevel_RISCV_RVV: "RISCV_RVV",
    SIMDLevel_AVX512_VPOPCNT: "AVX512_VPOPCNT",
}


def to_string(level: int) -> str:
    """The name of an instruction set level.

    Raises
    ------
    RuntimeError
        If no level has that number.
    """
    if level not in _SIMD_LEVEL_NAMES:
        raise RuntimeError(f"no SIMD level has the number {level}")
    return _SIMD_LEVEL_NAMES[level]


def to_simd_level(level_str: str) -> int:
    """The number of an instruction set level.

    Raises
    ------
    RuntimeError
        If no level has that name.
    """
    for level, name in _SIMD_LEVEL_NAMES.items():
        if name == level_str:
            return level
    raise RuntimeError(f"no SIMD level is called {level_str!r}: {', '.join(_SIMD_LEVEL_NAMES.values())}")


#: The levels of each name that torch gives to what the processor can do; any other has NONE.
_LEVELS_BY_CAPABILITY = {
    "AVX2": (SIMDLevel_NONE, SIMDLevel_AVX2),
    "AVX512": (SIMDLevel_NONE, SIMDLevel_AVX2, SIMDLevel_AVX512),
}
_LEVELS = _LEVELS_BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), (SIMDLevel_NONE,))


class SIMDConfig:
    """The instruction set level: what was set is kept, and torch chooses by itself.

    Attributes
    ----------
    level : int
        The level in use.
    supported_simd_levels : int
        A bit for each level available.
    """

    level = max(_LEVELS)
    supported_simd_levels = sum(1 << level for level in _LEVELS)

    @staticmethod
    def get_level() -> int:
        """The level in use."""
        return SIMDConfig.level

    @staticmethod
    def get_dispatched_level() -> int:
        """The level in use."""
        return SIMDConfig.level

    @staticmethod
    def auto_detect_simd_level() -> int:
        """The best level available."""
        return max(_LEVELS)

    @staticmethod
    def get_level_name() -> str:
        """The name of the level in use."""
        return to_string(SIMDConfig.level)

    @staticmethod
    def has_dynamic_dispatch() -> bool:
        """Whether the level can be changed."""
        return len(_LEVELS) > 1

    @staticmethod
    def is_simd_level_available(level: int) -> bool:
        """Whether a level can be set."""
        return level in _LEVELS

    @staticmethod
    def set_level(level: int) -> None:
        """Set the level.

        Raises
        ------
        RuntimeError
            If it is not available.
        """
        if level not in _LEVELS:
            available = ", ".join(map(to_string, _LEVELS))
            raise RuntimeError(f"SIMDConfig::set_level: level {to_string(level)} is not available: {available}")
        SIMDConfig.level = level
