"""How indexes are put on GPUs: faiss's option objects.

Where a setting speaks of faiss's own kernels and memory, it is accepted and has no effect; the docstrings say which.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..attributes import CheckedAttributes, Int64

#: How ids are kept beside inverted lists.
INDICES_CPU = 0
INDICES_IVF = 1
INDICES_32_BIT = 2
INDICES_64_BIT = 3

#: Kinds of memory; torch's allocator decides here.
Temporary = 0
Device = 1
Unified = 2


@dataclass(slots=True)
class GpuIndexConfig(CheckedAttributes):
    """Where an index lives.

    Attributes
    ----------
    device : int
        The number of the GPU.
    memorySpace : int
        Without effect: torch allocates.
    use_cuvs : bool
        Without effect.
    """

    device: int = 0
    memorySpace: int = Device
    use_cuvs: bool = False

    @classmethod
    def _of_copy(cls, device: int, options: GpuClonerOptions) -> GpuIndexConfig:
        """What the options mean for an index that is copied."""
        return cls(device)


@dataclass(slots=True)
class GpuIndexFlatConfig(GpuIndexConfig):
    """How a flat index is kept.

    Attributes
    ----------
    useFloat16 : bool
        Whether vectors are stored as float16: half the memory; distances are those of the rounded vectors.
    storeTransposed : bool
        Without effect, as in faiss.
    """

    useFloat16: bool = False
    storeTransposed: bool = False

    @classmethod
    def _of_copy(cls, device: int, options: GpuClonerOptions) -> GpuIndexConfig:
        return cls(device, useFloat16=options.useFloat16)


@dataclass(slots=True)
class GpuIndexIVFConfig(GpuIndexConfig):
    """How an inverted file is kept.

    Attributes
    ----------
    indicesOptions : int
        ``INDICES_32_BIT`` keeps the low 32 bits of ids. The others keep all 64, and all return the caller's ids.
    flatConfig : GpuIndexFlatConfig
        Of the coarse quantizer.
    allowCpuCoarseQuantizer : bool
        Without effect: a coarse quantizer of any kind is moved along.
    """

    indicesOptions: int = INDICES_64_BIT
    flatConfig: GpuIndexFlatConfig = field(default_factory=GpuIndexFlatConfig)
    allowCpuCoarseQuantizer: bool = False

    @classmethod
    def _of_copy(cls, device: int, options: GpuClonerOptions) -> GpuIndexConfig:
        of_quantizer = GpuIndexFlatConfig(device, useFloat16=options.useFloat16CoarseQuantizer)
        return cls(device, indicesOptions=options.indicesOptions, flatConfig=of_quantizer)


@dataclass(slots=True)
class GpuIndexIVFFlatConfig(GpuIndexIVFConfig):
    """How an inverted file of vectors is kept.

    Attributes
    ----------
    interleavedLayout : bool
        Without effect.
    """

    interleavedLayout: bool = True


@dataclass(slots=True)
class GpuIndexIVFScalarQuantizerConfig(GpuIndexIVFConfig):
    """How an inverted file of scalar codes is kept.

    Attributes
    ----------
    interleavedLayout : bool
        Without effect.
    """

    interleavedLayout: bool = True


@dataclass(slots=True)
class GpuClonerOptions(CheckedAttributes):
    """How an index is copied to a GPU.

    Attributes
    ----------
    indicesOptions : int
        See `GpuIndexIVFConfig`.
    useFloat16CoarseQuantizer : bool
        Whether the vectors of a flat coarse quantizer are stored as float16.
    useFloat16 : bool
        Whether vectors are stored as float16: of flat indexes as in faiss, and of inverted files too.
    usePrecomputed, storeTransposed, use_cuvs : bool
        Without effect.
    reserveVecs : int
        Room for that many vectors in inverted lists; without effect, lists grow at amortised cost.
    verbose : bool
        Whether to print what is copied.
    allowCpuCoarseQuantizer : bool
        Without effect: a coarse quantizer of any kind is moved along.
    """

    indicesOptions: int = INDICES_64_BIT
    useFloat16CoarseQuantizer: bool = False
    useFloat16: bool = False
    usePrecomputed: bool = False
    reserveVecs: Int64 = 0
    storeTransposed: bool = False
    verbose: bool = False
    use_cuvs: bool = False
    allowCpuCoarseQuantizer: bool = False


@dataclass(slots=True)
class GpuMultipleClonerOptions(GpuClonerOptions):
    """How an index is copied to several GPUs.

    Attributes
    ----------
    shard : bool
        Whether each GPU gets a part of the vectors; without it, each gets all of them and a part of the queries.
    shard_type : int
        Which vectors of an inverted file go to GPU i of n. 1: those with id % n == i. 2: the i-th of n ranges of ids.
        4: the i-th of n ranges of lists.
    common_ivf_quantizer : bool
        Whether the shards of an inverted file have one quantizer: an IndexShardsIVF.
    """

    shard: bool = False
    shard_type: int = 1
    common_ivf_quantizer: bool = False
