"""Which methods and attributes of faiss's classes are not offered, and why; and which are offered beyond faiss.

A member stands at the class that brings it in. A class of which every further member is the library's own affair
stands as ``Class.*``.
"""

from __future__ import annotations

#: SWIG's own attributes, and those that faiss's Python code leaves behind.
OF_THE_WRAPPER = {"original_init", "this", "thisown"}

_GAPS_BY_REASON = (
    (
        "an interface for C++ programs: its objects are gaps too",
        """
        ScalarQuantizer.get_distance_computer ScalarQuantizer.select_InvertedListScanner
        ScalarQuantizer.select_quantizer ScalarQuantizer.turboq_refine
        Index.get_distance_computer Index.search1 Index.search_subset IndexFlatCodes.get_CodePacker
        IndexFlatCodes.get_FlatCodesDistanceComputer IndexIVF.get_CodePacker
        IndexIVF.get_InvertedListScanner InvertedLists.get_iterator
        """,
    ),
    (
        "a step of train, which does it",
        """
        IndexIVF.train_encoder IndexIVF.train_encoder_num_vectors
        """,
    ),
    (
        "IndexIVF has it",
        """
        IndexIVFInterface.range_search_preassigned IndexIVFInterface.search_preassigned
        """,
    ),
    (
        "pairwise_distances and fvec_L2sqr_by_idx compute single distances",
        """
        IndexFlat.compute_distance_subset
        """,
    ),
    (
        "what is kept beside the vectors has another form here",
        """
        IndexFlatL2.cached_l2norms
        """,
    ),
    (
        "lists are read by get_ids and get_codes, or by search_and_return_codes",
        """
        ArrayInvertedLists.codes ArrayInvertedLists.ids
        """,
    ),
    (
        "how the file of the lists is kept is the library's own affair",
        """
        OnDiskInvertedLists.allocate_slot OnDiskInvertedLists.free_slot OnDiskInvertedLists.locks
        OnDiskInvertedLists.pf OnDiskInvertedLists.ptr OnDiskInvertedLists.resize_locked
        OnDiskInvertedLists.set_all_lists_sizes OnDiskInvertedLists.update_totsize
        """,
    ),
    (
        "the state of faiss's code between two calls, which has another form here",
        """
        BufferedIOReader.b0 BufferedIOReader.b1 BufferedIOReader.buffer BufferedIOReader.ofs
        BufferedIOReader.ofs2 BufferedIOWriter.b0 BufferedIOWriter.buffer BufferedIOWriter.ofs
        BufferedIOWriter.ofs2 FileIOReader.f FileIOReader.need_close FileIOWriter.f FileIOWriter.need_close
        IDSelectorBatch.nbits MapLong2Long.map CodeSet.s MatrixStats.buf MatrixStats.do_comment MatrixStats.nbuf
        MatrixStats.occurrences RandomGenerator.mt SIMDConfig.avx512_split ZeroCopyIOReader.data_
        ZeroCopyIOReader.get_data_view ZeroCopyIOReader.total_
        """,
    ),
    (
        "masks of many ids take the place of asking id by id",
        """
        IDSelectorBitmap.bitmap
        """,
    ),
    (
        "memory is numpy's: data() says where it is, without alignment or ownership",
        """
        AlignedTableFloat32.round_capacity AlignedTableFloat32.tab AlignedTableUint16.round_capacity
        AlignedTableUint16.tab AlignedTableUint8.round_capacity AlignedTableUint8.tab
        MaybeOwnedVectorFloat32.begin MaybeOwnedVectorFloat32.c_ptr MaybeOwnedVectorFloat32.c_size
        MaybeOwnedVectorFloat32.create_view MaybeOwnedVectorFloat32.end MaybeOwnedVectorFloat32.erase
        MaybeOwnedVectorFloat32.owned_data MaybeOwnedVectorFloat32.owner MaybeOwnedVectorFloat32.view_data
        MaybeOwnedVectorFloat32.view_size MaybeOwnedVectorInt32.begin MaybeOwnedVectorInt32.c_ptr
        MaybeOwnedVectorInt32.c_size MaybeOwnedVectorInt32.create_view MaybeOwnedVectorInt32.end
        MaybeOwnedVectorInt32.erase MaybeOwnedVectorInt32.owned_data MaybeOwnedVectorInt32.owner
        MaybeOwnedVectorInt32.view_data MaybeOwnedVectorInt32.view_size MaybeOwnedVectorUInt8.begin
        MaybeOwnedVectorUInt8.c_ptr MaybeOwnedVectorUInt8.c_size MaybeOwnedVectorUInt8.create_view
        MaybeOwnedVectorUInt8.end MaybeOwnedVectorUInt8.erase MaybeOwnedVectorUInt8.owned_data
        MaybeOwnedVectorUInt8.owner MaybeOwnedVectorUInt8.view_data MaybeOwnedVectorUInt8.view_size
        """,
    ),
    (
        "a vector of objects has no memory to point to",
        """
        ClusteringIterationStatsVector.data Float32VectorVector.data Int32VectorVector.data
        Int64VectorVector.data MaybeOwnedVectorFloat32Vector.data MaybeOwnedVectorInt32Vector.data
        MaybeOwnedVectorUInt8Vector.data OnDiskOneListVector.data OperatingPointVector.data
        ParameterRangeVector.data UInt8VectorVector.data
        """,
    ),
    (
        "cuBLAS, CUDA's memory and its further streams are torch's own affair",
        """
        GpuResources.allocMemory GpuResources.deallocMemory GpuResources.getAlternateStreams
        GpuResources.getAlternateStreamsCurrentDevice GpuResources.getAsyncCopyStream
        GpuResources.getAsyncCopyStreamCurrentDevice GpuResources.getBlasHandle
        GpuResources.getBlasHandleCurrentDevice GpuResources.getPinnedMemory
        """,
    ),
    (
        "an object of C++; the vectors are in codes",
        """
        GpuIndexFlat.getGpuData GpuIndexFlatIP.getGpuData GpuIndexFlatL2.getGpuData
        """,
    ),
    (
        "GpuIndexIVFFlat has it",
        """
        GpuIndexIVF.copyFrom GpuIndexIVF.copyTo
        """,
    ),
)

_EXTENSIONS_BY_REASON = (
    (
        "where an index lives",
        "Index.device Index.to IndexFlat.storage_dtype IndexIDMap.storage_dtype IndexIVFFlat.storage_dtype",
    ),
    ("vectors that a device has no room for", "ClusteringParameters.memory_budget"),
    ("what a device counts is not waited for", "IndexIVFStats.count IndexIVFStats.took"),
    (
        "what indexes ask of a codec",
        "ScalarQuantizer.codec ScalarQuantizer.learn ScalarQuantizer.needs_training ScalarQuantizer.numbers_to_learn",
    ),
    ("objects that an index is made of stay alive with it", "Index.referenced_objects"),
    (
        "the path that a search of an inverted file takes",
        "_Searching.auto_search_avg_group_threshold _Searching.last_path _Searching.search_mode",
    ),
    ("what has a form that SWIG cannot wrap", "IndexIVFFlatDedup.instances _IDSelectorListed.ids _IDSelectorListed.n"),
    (
        "what Python programs expect of files",
        "FileIOReader.close FileIOReader.seek FileIOReader.tell FileIOWriter.close",
    ),
    ("the array of a vector, and what vectors share here", "NumberVector.* ObjectVector.* HeapArray.*"),
    (
        "between the modules of the library",
        """
        ArrayInvertedLists.remove_first Clustering.train_set ClusteringInitialization.choose
        DeferredListStorage.can_write_down
        DirectMap.add DirectMap.get_many
        IDSelector.mask IDSelector.mask_of_range IDSelector.takes_any_id
        IOReader.bytes_left IOReader.read_into IOReader.view
        IOWriter.flush IndexFlat.assignment IndexFlat.assignments IndexFlat.known_assignment
        IndexReplicas.assignments InterruptCallback.install InvertedLists.require_writable
        ListStorage.* ListsByPlace.* OnDiskInvertedLists.stand RandomGenerator.draw RandomGenerator.seed
        RangeSearchResult.take
        SplitMix64RandomGenerator.draw ThreadedIndexBase.syncWithSubIndexes
        """,
    ),
)

#: {class.member: why it is not offered}
GAPS = {place: reason for reason, places in _GAPS_BY_REASON for place in places.split()}

#: {class.member: what it is for}
EXTENSIONS = {place: reason for reason, places in _EXTENSIONS_BY_REASON for place in places.split()}
