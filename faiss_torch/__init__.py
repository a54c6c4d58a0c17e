"""faiss_torch: the Python API of faiss over a torch engine.

``import faiss_torch as faiss`` in place of ``import faiss``: the same names, results, index files and seeds, on any
device torch runs on. See README.md.
"""

# ruff: noqa: F401

# constants
# running old code
from .alias import install, uninstall

# pointers and vectors
from .array_conversions import (
    AlignedTable_to_array,
    AlignedTableFloat32,
    AlignedTableUint8,
    AlignedTableUint16,
    ByteVector,
    ByteVectorVector,
    CharVector,
    DoubleVector,
    FloatVector,
    FloatVectorVector,
    IntVector,
    LongLongVector,
    LongVector,
    LongVectorVector,
    Uint64Vector,
    array_to_AlignedTable,
    copy_array_to_AlignedTable,
    copy_array_to_vector,
    sizeof_long,
    vector_float_to_array,
    vector_to_array,
)
from .constants import (
    FLT_MAX,
    IO_FLAG_MMAP,
    IO_FLAG_MMAP_IFC,
    IO_FLAG_ONDISK_SAME_DIR,
    IO_FLAG_PQ_SKIP_SDC_TABLE,
    IO_FLAG_READ_ONLY,
    IO_FLAG_SKIP_IVF_DATA,
    IO_FLAG_SKIP_PRECOMPUTE_TABLE,
    IO_FLAG_SKIP_STORAGE,
    METRIC_GOWER,
    METRIC_INNER_PRODUCT,
    METRIC_L1,
    METRIC_L2,
    ClusteringInitMethod_AFK_MC2,
    ClusteringInitMethod_KMEANS_PLUS_PLUS,
    ClusteringInitMethod_RANDOM,
    Float16,
    Float32,
    Int8,
    METRIC_BrayCurtis,
    METRIC_Canberra,
    METRIC_Jaccard,
    METRIC_JensenShannon,
    METRIC_Linf,
    METRIC_Lp,
    METRIC_NaNEuclidean,
    UInt8,
    is_similarity_metric,
    metric_type_from_int,
)

# descriptions and parameters
from .factory import index_factory, reverse_index_factory

# indexes
from .gaps import missing as __getattr__
from .indexes.base import Index
from .indexes.flat import IndexFlat, IndexFlat1D, IndexFlatIP, IndexFlatL2
from .indexes.flat_codes import IndexFlatCodes
from .indexes.ivf import IndexIVF
from .indexes.ivf_flat import IndexIVFFlat, IndexIVFFlatDedup
from .indexes.ivf_stats import IndexIVFStats
from .indexes.level1_quantizer import IndexIVFInterface, Level1Quantizer

# interrupts
from .interrupts import InterruptCallback, PythonInterruptCallback, TimeoutCallback, TimeoutGuard

# files
from .io import (
    BufferedIOReader,
    BufferedIOWriter,
    FileIOReader,
    FileIOWriter,
    IOReader,
    IOWriter,
    PyCallbackIOReader,
    PyCallbackIOWriter,
    VectorIOReader,
    VectorIOWriter,
    ZeroCopyIOReader,
    clone_index,
    deserialize_index,
    get_deserialization_loop_limit,
    get_deserialization_vector_byte_limit,
    read_index,
    read_InvertedLists,
    serialize_index,
    set_deserialization_loop_limit,
    set_deserialization_vector_byte_limit,
    write_index,
    write_InvertedLists,
)

# random numbers
from .ops.random import RandomGenerator, SplitMix64RandomGenerator

# clustering
from .parts.clustering import Clustering, Clustering1D
from .parts.clustering_initialization import ClusteringInitialization
from .parts.clustering_parameters import (
    ClusteringIterationStats,
    ClusteringIterationStatsVector,
    ClusteringParameters,
)

# their parts
from .parts.direct_map import DirectMap, lo_build, lo_listno, lo_offset
from .parts.inverted_lists import ArrayInvertedLists, InvertedLists
from .parts.params import IVFSearchParameters, SearchParameters, SearchParametersIVF
from .parts.progressive_clustering import ProgressiveDimClustering, ProgressiveDimClusteringParameters
from .parts.selectors import (
    IDSelector,
    IDSelectorAll,
    IDSelectorAnd,
    IDSelectorArray,
    IDSelectorBatch,
    IDSelectorBitmap,
    IDSelectorNot,
    IDSelectorOr,
    IDSelectorRange,
    IDSelectorXOr,
)
from .pointers import (
    cast_integer_to_float_ptr,
    cast_integer_to_idx_t_ptr,
    cast_integer_to_int_ptr,
    cast_integer_to_uint8_ptr,
    cast_integer_to_void_ptr,
    memcpy,
    rev_swig_ptr,
    swig_ptr,
)

# names that exist because faiss is wrapped C++
from .swig import (
    FAISS_VERSION_MAJOR,
    FAISS_VERSION_MINOR,
    FAISS_VERSION_PATCH,
    SINGLE_SIMD_LEVEL,
    SINGLE_SIMD_LEVEL_256,
    SINGLE_SIMD_LEVEL_512,
    SIMDConfig,
    SIMDLevel_ARM_NEON,
    SIMDLevel_ARM_SVE,
    SIMDLevel_AVX2,
    SIMDLevel_AVX512,
    SIMDLevel_AVX512_SPR,
    SIMDLevel_AVX512_VPOPCNT,
    SIMDLevel_COUNT,
    SIMDLevel_NONE,
    SIMDLevel_RISCV_RVV,
    __version__,
    cvar,
    downcast_AdditiveQuantizer,
    downcast_index,
    downcast_IndexBinary,
    downcast_InvertedLists,
    downcast_Quantizer,
    downcast_VectorTransform,
    get_compile_options,
    get_cycles,
    get_mem_usage_kb,
    get_num_gpus,
    get_numeric_type_size,
    get_version,
    getmillisecs,
    metric_type_count,
    swig_version,
    to_simd_level,
    to_string,
)

# threads
from .threads import check_openmp, omp_get_max_threads, omp_get_num_threads, omp_set_num_threads
from .tools.autotune import ParameterRange, ParameterRangeVector, ParameterSpace

# arrays: checksums, buckets, maps, statistics
from .tools.buckets import MapInt64ToInt64, MapLong2Long, bucket_sort, matrix_bucket_sort_inplace
from .tools.checksums import bvec_checksum, bvecs_checksum, checksum, hash_bytes, ivec_checksum

# results: keeping, merging, comparing
from .tools.heaps import (
    ResultHeap,
    float_maxheap_array_t,
    float_minheap_array_t,
    int_maxheap_array_t,
    int_minheap_array_t,
    kmax,
    kmin,
    merge_knn_results,
)
from .tools.ivflib import extract_index_ivf, try_extract_index_ivf
from .tools.kmeans import Kmeans, ProgressiveDimIndexFactory, kmeans1d, kmeans_clustering, smawk

# neighbours, distances and norms without an index
from .tools.knn import (
    fvec_inner_product,
    fvec_inner_products_ny,
    fvec_L2sqr,
    fvec_L2sqr_ny,
    fvec_madd,
    fvec_madd_and_argmin,
    knn,
    knn_extra_metrics,
    knn_inner_product,
    knn_L2sqr,
    pairwise_distances,
    pairwise_extra_distances,
    pairwise_indexed_inner_product,
    pairwise_indexed_L2sqr,
    pairwise_L2sqr,
)
from .tools.norms import fvec_norm_L2sqr, fvec_norms_L2, fvec_norms_L2sqr, fvec_renorm_L2, normalize_L2
from .tools.operating_points import (
    AutoTuneCriterion,
    IntersectionCriterion,
    OneRecallAtRCriterion,
    OperatingPoint,
    OperatingPoints,
    OperatingPointVector,
)
from .tools.random_arrays import (
    byte_rand,
    float_rand,
    float_randn,
    int64_rand,
    int64_rand_max,
    lrand,
    rand,
    rand_perm,
    rand_perm_splitmix64,
    rand_smooth_vectors,
    randint,
    randn,
)
from .tools.results import eval_intersection, imbalance_factor, ivec_hist, ranklist_intersection_size
from .tools.stats import MatrixStats
from .vectors import (
    Float32Vector,
    Float32VectorVector,
    Float64Vector,
    Int8Vector,
    Int16Vector,
    Int32Vector,
    Int32VectorVector,
    Int64Vector,
    Int64VectorVector,
    MaybeOwnedVectorFloat32,
    MaybeOwnedVectorFloat32Vector,
    MaybeOwnedVectorInt32,
    MaybeOwnedVectorInt32Vector,
    MaybeOwnedVectorUInt8,
    MaybeOwnedVectorUInt8Vector,
    UInt8Vector,
    UInt8VectorVector,
    UInt16Vector,
    UInt32Vector,
    UInt64Vector,
)
