"""The names of the package, by the modules that they are in: nothing is imported before a program asks for it.

``__init__.pyi`` says the same to type checkers; ``compat_tests/surface/test_lazy_names.py`` holds both together.
"""

from __future__ import annotations

#: (module, its names). The names that only a faiss with GPUs has are in `gpu_names`.
NAMES_BY_MODULE = (
    # running old code
    ("alias", "install uninstall"),
    # constants
    (
        "constants",
        """
        ClusteringInitMethod_AFK_MC2 ClusteringInitMethod_KMEANS_PLUS_PLUS ClusteringInitMethod_RANDOM Float16
        Float32 FLT_MAX Int8 IO_FLAG_MMAP IO_FLAG_MMAP_IFC IO_FLAG_ONDISK_SAME_DIR IO_FLAG_PQ_SKIP_SDC_TABLE
        IO_FLAG_READ_ONLY IO_FLAG_SKIP_IVF_DATA IO_FLAG_SKIP_PRECOMPUTE_TABLE IO_FLAG_SKIP_STORAGE
        is_similarity_metric METRIC_BrayCurtis METRIC_Canberra METRIC_GOWER METRIC_INNER_PRODUCT METRIC_Jaccard
        METRIC_JensenShannon METRIC_L1 METRIC_L2 METRIC_Linf METRIC_Lp METRIC_NaNEuclidean metric_type_from_int
        UInt8
        """,
    ),
    # GPUs; those that only a faiss with GPUs has are in `gpu_names`
    ("devices.available", "get_num_gpus gpu_profiler_start gpu_profiler_stop gpu_sync_all_devices set_gpu_devices"),
    ("devices.cloning", "index_cpu_to_all_gpus index_cpu_to_gpu_multiple_py index_cpu_to_gpus_list"),
    ("devices.distances", "knn_gpu pairwise_distance_gpu"),
    # descriptions and parameters
    ("factory", "index_factory reverse_index_factory"),
    # indexes
    ("indexes.base", "Index"),
    ("indexes.composite.id_map", "IDSelectorTranslated IndexIDMap IndexIDMap2"),
    ("indexes.composite.replicas", "IndexProxy IndexReplicas"),
    ("indexes.composite.shards", "IndexShards IndexShardsIVF"),
    ("indexes.composite.split_vectors", "IndexSplitVectors"),
    ("indexes.composite.threaded", "ThreadedIndexBase"),
    ("indexes.flat.flat", "IndexFlat IndexFlat1D IndexFlatIP IndexFlatL2"),
    ("indexes.flat.flat_codes", "IndexFlatCodes"),
    ("indexes.flat.scalar_quantizer", "IndexScalarQuantizer"),
    ("indexes.ivf.base", "IndexIVF"),
    ("indexes.ivf.flat", "IndexIVFFlat"),
    ("indexes.ivf.flat_dedup", "IndexIVFFlatDedup"),
    ("indexes.ivf.level1_quantizer", "IndexIVFInterface Level1Quantizer"),
    ("indexes.ivf.scalar_quantizer", "IndexIVFScalarQuantizer"),
    ("indexes.ivf.stats", "IndexIVFStats"),
    ("indexes.random", "IndexRandom"),
    # interrupts
    ("interrupts", "InterruptCallback PythonInterruptCallback TimeoutCallback TimeoutGuard"),
    # files
    (
        "io.streams",
        """
        BufferedIOReader BufferedIOWriter IOReader IOWriter PyCallbackIOReader PyCallbackIOWriter VectorIOReader
        VectorIOWriter ZeroCopyIOReader
        """,
    ),
    ("io.files", "FileIOReader FileIOWriter"),
    (
        "io",
        """
        clone_index deserialize_index read_index read_InvertedLists serialize_index write_index
        write_InvertedLists
        """,
    ),
    (
        "io.primitives",
        """
        get_deserialization_loop_limit get_deserialization_vector_byte_limit set_deserialization_loop_limit
        set_deserialization_vector_byte_limit
        """,
    ),
    ("io.fourccs", "fourcc fourcc_inv fourcc_inv_printable"),
    ("io.sharding", "DefaultShardingFunction PyCallbackShardingFunction shard_ivf_index_centroids ShardingFunction"),
    # random numbers
    ("ops.random", "RandomGenerator SplitMix64RandomGenerator"),
    # clustering
    ("parts.clustering.clustering", "Clustering Clustering1D"),
    ("parts.clustering.initialization", "ClusteringInitialization"),
    ("parts.clustering.parameters", "ClusteringIterationStats ClusteringIterationStatsVector ClusteringParameters"),
    ("parts.clustering.progressive", "ProgressiveDimClustering ProgressiveDimClusteringParameters"),
    # their parts
    ("parts.codecs.scalar_quantizer", "ScalarQuantizer"),
    ("parts.lists.direct_map", "DirectMap lo_build lo_listno lo_offset"),
    ("parts.lists.inverted_lists", "ArrayInvertedLists InvertedLists InvertedListsPtrVector"),
    ("parts.lists.on_disk", "OnDiskInvertedLists OnDiskOneList OnDiskOneListVector"),
    (
        "parts.lists.stacked",
        """
        CappedInvertedLists ConcatenatedInvertedLists HStackInvertedLists MaskedInvertedLists
        ReadOnlyInvertedLists SliceInvertedLists StopWordsInvertedLists VStackInvertedLists
        """,
    ),
    ("parts.params", "IVFSearchParameters SearchParameters SearchParametersIVF"),
    ("parts.range_search_result", "RangeSearchResult"),
    (
        "parts.selectors",
        """
        IDSelector IDSelectorAll IDSelectorAnd IDSelectorArray IDSelectorBatch IDSelectorBitmap IDSelectorNot
        IDSelectorOr IDSelectorRange IDSelectorXOr PyCallbackIDSelector
        """,
    ),
    # names that exist because faiss is wrapped C++
    (
        "swig",
        """
        __version__ cvar downcast_AdditiveQuantizer downcast_index downcast_IndexBinary downcast_InvertedLists
        downcast_Quantizer downcast_VectorTransform FAISS_VERSION_MAJOR FAISS_VERSION_MINOR FAISS_VERSION_PATCH
        get_compile_options get_cycles get_mem_usage_kb get_numeric_type_size get_version getmillisecs
        metric_type_count SIMDConfig SIMDLevel_ARM_NEON SIMDLevel_ARM_SVE SIMDLevel_AVX2 SIMDLevel_AVX512
        SIMDLevel_AVX512_SPR SIMDLevel_AVX512_VPOPCNT SIMDLevel_COUNT SIMDLevel_NONE SIMDLevel_RISCV_RVV
        SINGLE_SIMD_LEVEL SINGLE_SIMD_LEVEL_256 SINGLE_SIMD_LEVEL_512 swig_version to_simd_level to_string
        VERSION_STRING
        """,
    ),
    # threads
    ("threads", "check_openmp omp_get_max_threads omp_get_num_threads omp_set_num_threads"),
    ("tools.autotune", "ParameterRange ParameterRangeVector ParameterSpace"),
    ("tools.batch_kmeans", "batch_kmeans"),
    (
        "tools.bit_vectors",
        """
        binary_to_real bincode_hist bitvec_shuffle bitvecs2fvecs fvec2bitvec fvecs2bitvecs pack_bitstrings
        real_to_binary unpack_bitstrings
        """,
    ),
    # arrays: checksums, buckets, maps, statistics
    ("tools.buckets", "bucket_sort MapInt64ToInt64 MapLong2Long matrix_bucket_sort_inplace"),
    ("tools.checksums", "bvec_checksum bvecs_checksum checksum hash_bytes ivec_checksum"),
    ("tools.code_set", "CodeSet"),
    (
        "tools.hamming",
        """
        crosshamming_count_thres hamming_count_thres hammings hammings_knn hammings_knn_hc hammings_knn_mc
        knn_hamming match_hamming_thres popcount32 popcount64
        """,
    ),
    # results: keeping, merging, comparing
    (
        "tools.heaps",
        """
        float_maxheap_array_t float_minheap_array_t int_maxheap_array_t int_minheap_array_t kmax kmin
        merge_knn_results merge_knn_results_CMax merge_knn_results_CMin ResultHeap
        """,
    ),
    (
        "tools.ivflib",
        """
        check_compatible_for_merge extract_index_ivf get_invlist_range merge_into range_search_with_parameters
        search_and_return_centroids search_centroid search_with_parameters set_invlist_range SlidingIndexWindow
        try_extract_index_ivf
        """,
    ),
    ("tools.kmeans", "Kmeans kmeans1d kmeans_clustering ProgressiveDimIndexFactory smawk"),
    # neighbours, distances and norms without an index
    (
        "tools.knn",
        """
        fvec_inner_product fvec_inner_products_ny fvec_L2sqr fvec_L2sqr_ny fvec_madd fvec_madd_and_argmin knn
        knn_extra_metrics knn_inner_product knn_L2sqr pairwise_distances pairwise_extra_distances
        pairwise_indexed_inner_product pairwise_indexed_L2sqr pairwise_L2sqr
        """,
    ),
    ("tools.norms", "fvec_norm_L2sqr fvec_norms_L2 fvec_norms_L2sqr fvec_renorm_L2 normalize_L2"),
    (
        "tools.operating_points",
        """
        AutoTuneCriterion IntersectionCriterion OneRecallAtRCriterion OperatingPoint OperatingPoints
        OperatingPointVector
        """,
    ),
    (
        "tools.partitioning",
        """
        CMax_float_partition_fuzzy CMax_uint16_partition_fuzzy CMin_float_partition_fuzzy
        CMin_uint16_partition_fuzzy PartitionStats simd_histogram_16 simd_histogram_8
        """,
    ),
    (
        "tools.random_arrays",
        """
        byte_rand float_rand float_randn int64_rand int64_rand_max lrand rand rand_perm rand_perm_splitmix64
        rand_smooth_vectors randint randn
        """,
    ),
    ("tools.results", "eval_intersection imbalance_factor ivec_hist ranklist_handle_ties ranklist_intersection_size"),
    ("tools.stats", "MatrixStats"),
    (
        "tools.vector_functions",
        """
        fvec_add fvec_argsort fvec_argsort_parallel fvec_inner_products_by_idx fvec_L1 fvec_L2sqr_by_idx
        fvec_L2sqr_ny_nearest fvec_Linf fvec_sub
        """,
    ),
    # vectors and arrays
    (
        "wrapper.array_conversions",
        """
        AlignedTable_to_array AlignedTableFloat32 AlignedTableUint16 AlignedTableUint8 array_to_AlignedTable
        ByteVector ByteVectorVector CharVector copy_array_to_AlignedTable copy_array_to_vector DoubleVector
        FloatVector FloatVectorVector IntVector LongLongVector LongVector LongVectorVector sizeof_long
        Uint64Vector vector_float_to_array vector_to_array
        """,
    ),
    (
        "wrapper.pointers",
        """
        cast_integer_to_float_ptr cast_integer_to_idx_t_ptr cast_integer_to_int_ptr cast_integer_to_uint8_ptr
        cast_integer_to_void_ptr memcpy rev_swig_ptr swig_ptr
        """,
    ),
    # vectors
    (
        "wrapper.vectors",
        """
        Float32Vector Float32VectorVector Float64Vector Int16Vector Int32Vector Int32VectorVector Int64Vector
        Int64VectorVector Int8Vector MaybeOwnedVectorFloat32 MaybeOwnedVectorFloat32Vector MaybeOwnedVectorInt32
        MaybeOwnedVectorInt32Vector MaybeOwnedVectorUInt8 MaybeOwnedVectorUInt8Vector UInt16Vector UInt32Vector
        UInt64Vector UInt8Vector UInt8VectorVector
        """,
    ),
)

#: The module of each name.
MODULE_OF = {name: module for module, names in NAMES_BY_MODULE for name in names.split()}

#: Those that `from faiss_torch import *` gives, GPUs or not.
PUBLIC = tuple(name for name in MODULE_OF if not name.startswith("_"))

_MODULES = """
    alias attributes border children class_wrappers constants devices factory forks gaps gpu_names indexes interrupts io
    kernels kinds ops parts pickles placeholders swig threads tools torch_devices wrapper
"""

#: Modules that are attributes of the package, as if they had been imported.
MODULES = frozenset(_MODULES.split())
