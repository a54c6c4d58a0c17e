"""The names of faiss that this version does not offer, and why.

A class can be named, and making one raises with its reason; any other name raises AttributeError with its reason. So a
program says what it misses when it needs it. A name that is offered must leave the list, and every name of faiss-cpu
and of faiss-gpu is offered or listed here (``compat_tests/surface/test_names.py``).
"""

from __future__ import annotations

import functools
from typing import Any

from .placeholders import not_offered, not_offered_class

#: (area, reason, classes, other names), for faiss-cpu 1.15.1 and the GPU builds of faiss 1.15.0.
_NAMES_BY_REASON = (
    (
        "Names of the wrapper",
        "a variable or helper of faiss's own import or build, not part of its API",
        "LSQTimer LSQTimerScope MaybeOwnedVectorOwner MmappedFileMappingOwner SwigPyIterator",
        """
        SHARED_PTR_DISOWN Version add_ref_in_constructor add_ref_in_function add_ref_in_method
        add_ref_in_method_explicit_own add_to_referenced_objects base_prefix compiled_simd_levels
        depr_prefix deprecated_name_map has_AVX2 has_AVX512 has_AVX512_SPR has_SVE instruction_sets
        loaded logger obj opt_env_variable_name opt_level range_search_with_parameters_c
        search_with_parameters_c super_kmeans_assign_iteration_c supported_instruction_sets symbol
        the_class vector_name_map
        """,
    ),
    (
        "GPUs",
        "product quantisation on GPUs comes in a later version, with product quantisation",
        "GpuIndexIVFPQ GpuIndexIVFPQConfig",
        "",
    ),
    (
        "GPUs",
        "binary indexes on GPUs come in a later version, with binary indexes",
        "GpuIndexBinaryFlat GpuIndexBinaryFlatConfig",
        "index_binary_cpu_to_gpu index_binary_cpu_to_gpu_multiple index_binary_gpu_to_cpu",
    ),
    (
        "GPUs",
        "additive quantisers on GPUs come in a later version, with additive quantisers",
        "GpuIcmEncoder GpuIcmEncoderFactory",
        "",
    ),
    (
        "GPUs",
        "CAGRA is NVIDIA's cuVS, which is not used here; graph indexes come in a later version",
        """
        GpuIndexBinaryCagra GpuIndexCagra GpuIndexCagraConfig IVFPQBuildCagraConfig
        IVFPQSearchCagraConfig SearchParametersCagra
        """,
        """
        CUDA_R_16F CUDA_R_32F CUDA_R_64F CUDA_R_8I CUDA_R_8U codebook_gen_PER_CLUSTER
        codebook_gen_PER_SUBSPACE graph_build_algo_ITERATIVE_SEARCH graph_build_algo_IVF_PQ
        graph_build_algo_NN_DESCENT hash_mode_AUTO hash_mode_HASH hash_mode_SMALL search_algo_AUTO
        search_algo_MULTI_CTA search_algo_MULTI_KERNEL search_algo_SINGLE_CTA
        """,
    ),
    (
        "GPUs",
        "faiss's handling of CUDA's memory and streams: here torch allocates, and works on its current stream",
        "AllocInfo AllocRequest",
        """
        allocTypeToString cast_cudastream_t_to_integer cast_integer_to_cudastream_t makeDevAlloc
        makeSpaceAlloc makeTempAlloc memorySpaceToString
        """,
    ),
    (
        "GPUs",
        "an interface for C++ programs: from Python, use index_cpu_to_gpu and index_gpu_to_cpu",
        "ToCPUCloner ToGpuCloner ToGpuClonerMultiple",
        "should_use_cuvs",
    ),
    (
        "Binary indexes",
        "binary indexes come in a later version",
        """
        BinaryInvertedListScanner BitstringReader BitstringWriter IndexBinary IndexBinaryFlat
        IndexBinaryFromFloat IndexBinaryHNSW IndexBinaryHNSWCagra IndexBinaryHash
        IndexBinaryHashStats IndexBinaryIDMap IndexBinaryIDMap2 IndexBinaryIVF IndexBinaryMultiHash
        IndexBinaryReplicas IndexBinaryShards ThreadedIndexBaseBinary
        """,
        """
        bitvec_print clone_binary_index deserialize_index_binary generalized_hamming_64
        generalized_hammings_knn_hc hamdis_tab_ham_bytes hamming_range_search index_binary_factory
        read_index_binary serialize_index_binary shard_binary_ivf_index_centroids write_index_binary
        """,
    ),
    (
        "Wrapping and composite indexes",
        "refinement, and cutting an inverted file into files of shards, come in a later version",
        "IndexIVFIndependentQuantizer IndexRefine IndexRefineFlat IndexRefineSearchParameters",
        "",
    ),
    (
        "Vector transforms",
        "vector transforms come in a later version: until then, apply them before indexing",
        """
        CenteringTransform HadamardRotation ITQMatrix ITQTransform IndexPreTransform
        IndexRowwiseMinMax IndexRowwiseMinMaxBase IndexRowwiseMinMaxFP16 LinearTransform
        NormalizationTransform PCAMatrix RandomRotationMatrix RemapDimensionsTransform
        SearchParametersPreTransform VectorTransform VectorTransformVector
        """,
        "inner_product_to_L2sqr matrix_qr read_VectorTransform reflection write_VectorTransform",
    ),
    (
        "Product quantisation",
        "product quantisation comes in a later version",
        """
        IVFPQSearchParameters Index2Layer IndexIVFPQ IndexIVFPQR IndexIVFPQStats IndexPQ
        IndexPQStats MultiIndexQuantizer MultiIndexQuantizer2 OPQMatrix PQDecoder16 PQDecoder8
        PQDecoderGeneric PQEncoder16 PQEncoder8 PQEncoderGeneric PermutationObjective
        PolysemousTraining ProductQuantizer ReproduceDistancesObjective SearchParametersPQ
        SimulatedAnnealingOptimizer SimulatedAnnealingParameters
        """,
        """
        compute_PQ_dis_tables_dsub2 initialize_IVFPQ_precomputed_table read_ProductQuantizer
        write_ProductQuantizer
        """,
    ),
    (
        "Scalar quantisation",
        "scalar quantisation comes in a later version",
        "IVFSQTurboQSearchParameters",
        "nb_bits_for_qtype",
    ),
    (
        "LSH and spectral hashing",
        "LSH and spectral hashing come in a later version",
        "IndexIVFSpectralHash IndexLSH",
        "",
    ),
    (
        "Additive quantisation",
        "additive quantisers (RQ, LSQ and their products) come in a later version",
        """
        AdditiveCoarseQuantizer AdditiveQuantizer ComputeCodesAddCentroidsLUT0MemoryPool
        ComputeCodesAddCentroidsLUT1MemoryPool IcmEncoder IcmEncoderFactory IndexAdditiveQuantizer
        IndexIVFAdditiveQuantizer IndexIVFLocalSearchQuantizer IndexIVFProductLocalSearchQuantizer
        IndexIVFProductResidualQuantizer IndexIVFResidualQuantizer IndexLocalSearchQuantizer
        IndexProductLocalSearchQuantizer IndexProductResidualQuantizer IndexResidual
        IndexResidualQuantizer LocalSearchCoarseQuantizer LocalSearchQuantizer
        ProductAdditiveQuantizer ProductLocalSearchQuantizer ProductResidualQuantizer Quantizer
        RefineBeamLUTMemoryPool RefineBeamMemoryPool ResidualCoarseQuantizer ResidualQuantizer
        SearchParametersResidualCoarseQuantizer
        """,
        """
        beam_search_encode_step beam_search_encode_step_tab clone_Quantizer compute_codes
        compute_codes_add_centroids_mp_lut0 compute_codes_add_centroids_mp_lut1 refine_beam_LUT_mp
        refine_beam_mp
        """,
    ),
    (
        "Lattice codecs",
        "lattice codecs come in a later version",
        """
        EnumeratedVectors IndexLattice Repeat RepeatVector Repeats ZnSphereCodec ZnSphereCodecAlt
        ZnSphereCodecRec ZnSphereSearch
        """,
        "decode get_deserialization_lattice_r2_limit set_deserialization_lattice_r2_limit",
    ),
    (
        "Fast scan",
        "fast-scan indexes come in a later version",
        """
        CombinerRangeKNNfloat CombinerRangeKNNint16 FastScanDistancePostProcessing FastScanStats
        IVFFastScanStats IndexAdditiveQuantizerFastScan IndexFastScan
        IndexIVFAdditiveQuantizerFastScan IndexIVFFastScan IndexIVFLocalSearchQuantizerFastScan
        IndexIVFPQFastScan IndexIVFProductLocalSearchQuantizerFastScan
        IndexIVFProductResidualQuantizerFastScan IndexIVFResidualQuantizerFastScan
        IndexLocalSearchQuantizerFastScan IndexPQFastScan IndexProductLocalSearchQuantizerFastScan
        IndexProductResidualQuantizerFastScan IndexResidualQuantizerFastScan
        """,
        """
        APPROX_TOPK_BUCKETS_B16_D2 APPROX_TOPK_BUCKETS_B32_D2 APPROX_TOPK_BUCKETS_B8_D2
        APPROX_TOPK_BUCKETS_B8_D3 EXACT_TOPK approx_topk_by_mode aq_estimate_norm_scale
        aq_quantize_LUT_and_bias quantize_LUT_and_bias round_clamped_to_uint8
        round_nonnegative_to_uint16 round_nonnegative_to_uint8 round_uint8_per_column
        round_uint8_per_column_multi
        """,
    ),
    (
        "Graphs",
        "graph indexes (HNSW, NSG, NNDescent) come in a later version",
        """
        HNSW HNSWStats IndexHNSW IndexHNSW2Level IndexHNSWCagra IndexHNSWFlat IndexHNSWPQ
        IndexHNSWSQ IndexNNDescent IndexNNDescentFlat IndexNSG IndexNSGFlat IndexNSGPQ IndexNSGSQ
        NNDescent NSG NSG_Graph_int Neighbor Nhood SearchParametersHNSW VisitedTable VisitedTableSet
        VisitedTableVector
        """,
        """
        greedy_update_nearest hnsw_add_vertices_deterministic search_from_candidate_unbounded
        search_from_candidates search_neighbors_to_add storage_distance_computer
        """,
    ),
    (
        "RaBitQ and EDEN",
        "RaBitQ and EDEN come in a later version",
        """
        EDENCodeFactors EDENFlatCodesDistanceComputer ExtraBitsFactors IVFRaBitQSearchParameters
        IndexEDEN IndexHNSWRaBitQ IndexIVFEDEN IndexIVFRaBitQ IndexIVFRaBitQFastScan IndexRaBitQ
        IndexRaBitQFastScan QueryFactorsData RaBitQDistanceComputer RaBitQSearchParameters
        RaBitQStats RaBitQuantizer SignBitFactors SignBitFactorsWithError
        """,
        """
        EDENScaleType_BIASED EDENScaleType_UNBIASED Z_MAX_BY_QB compute_1bit_adjusted_distance
        compute_factors_from_intermediates compute_full_multibit_distance
        compute_per_vector_storage_size compute_query_factors compute_vector_factors
        compute_vector_intermediate_values extract_bit_fastscan extract_bit_standard extract_code
        extract_code_inline is_eden_quantizer_type populate_block_aux_from_flat_storage
        quantizer_type_for_bits set_bit_fastscan set_bit_standard should_refine_candidate
        unpack_sign_bits_from_packed
        """,
    ),
    (
        "Panorama",
        "panorama indexes come in a later version",
        """
        ArrayInvertedListsPanorama IndexFlatIPPanorama IndexFlatL2Panorama IndexFlatPanorama
        IndexHNSWFlatPanorama IndexIVFFlatPanorama IndexRefinePanorama Panorama PanoramaStats
        """,
        "search_from_candidates_panorama",
    ),
    (
        "Neural codecs",
        "neural codecs (QINCo) come in a later version",
        """
        Embedding FFN IndexNeuralNetCodec IndexQINCo Int32Tensor2D Linear NeuralNetCodec QINCo
        QINCoStep Tensor2D
        """,
        "",
    ),
    (
        "Clustering",
        "SuperKMeans comes in a later version: Kmeans does the same clustering",
        "SuperKMeans SuperKMeansAssignScratch SuperKMeansParameters SuperKmeans",
        "chi2_quantile_wh normal_quantile precompute_ad_thresholds super_kmeans_assign_iteration",
    ),
    (
        "Inverted lists",
        "lists in blocks of codes come in a later version, with fast-scan indexes",
        "BlockInvertedLists",
        "",
    ),
    (
        "Inverted-file indexes",
        "residual quantisers as quantizers of inverted files come in a later version",
        "",
        "ivf_residual_add_from_flat_codes ivf_residual_from_quantizer",
    ),
    (
        "Interface for C++",
        "an interface for C++ programs: from Python, use the verbs of the index",
        """
        BufferList Cloner CodePacker CodePackerFlat DirectMapAdd DistanceComputer
        FlatCodesDistanceComputer IDScanContext IDSelectorContextDispatch IDSelectorWithContext
        InvertedListScanner InvertedListScannerStats InvertedListsIOHook InvertedListsIterator
        MappedFileIOReader NegativeDistanceComputer RangeQueryResult RangeSearchPartialResult
        """,
        "code_size get_distance_computer get_extra_distance_computer packed_code_size",
    ),
    (
        "Distances, results and arrays",
        "a C function whose work is done with arrays: see knn, merge_knn_results, range_search, MapInt64ToInt64",
        "",
        """
        fvec_L2sqr_batch_4 fvec_L2sqr_ny_nearest_y_transposed fvec_L2sqr_ny_transposed
        fvec_inner_product_batch_4 fvecs_maybe_subsample hashtable_int64_to_int64_add
        hashtable_int64_to_int64_init hashtable_int64_to_int64_lookup knn_L2sqr_by_idx
        knn_inner_products_by_idx merge_result_table_with range_search_L2sqr
        range_search_inner_product
        """,
    ),
)

#: The area of what only a faiss for GPUs has.
GPU_AREA = "GPUs"

#: Why each name is not offered.
GAPS = {name: reason for _, reason, *names in _NAMES_BY_REASON for name in " ".join(names).split()}

#: What each name has to do with.
AREAS = {name: area for area, _, *names in _NAMES_BY_REASON for name in " ".join(names).split()}

#: Which of them are classes.
CLASSES = frozenset(name for _, _, names, _ in _NAMES_BY_REASON for name in names.split())


def named_classes(gpus: bool) -> list[str]:
    """Return the classes that can be named, those for GPUs only where there are some."""
    return sorted(name for name in CLASSES if gpus or AREAS[name] != GPU_AREA)


@functools.cache
def _class(name: str) -> type:
    return not_offered_class(name, __name__.rpartition(".")[0], GAPS[name])


def missing(name: str, gpus: bool) -> Any:
    """Return what stands for a class that is not offered; for any other name that the package does not have, raise.

    Parameters
    ----------
    name : str
    gpus : bool
        Whether there are GPUs, without which a class for them cannot be named.

    Raises
    ------
    AttributeError
        With the reason for a name of faiss, else with Python's ordinary words.
    """
    if name in CLASSES and (gpus or AREAS[name] != GPU_AREA):
        return _class(name)
    if name in GAPS:
        raise not_offered(name, GAPS[name])
    raise AttributeError(f"module 'faiss_torch' has no attribute {name!r}")
