"""faiss's functions that give the classes wrapped from C++ their methods with arrays.

The classes of this library have these methods from the start. The names can be imported, and raise when they are used.
"""

from __future__ import annotations

from .placeholders import names_of_module

__getattr__ = names_of_module(
    __name__,
    "it changes classes that are wrapped from C++; those of faiss_torch have their methods from the start",
    "RememberSwigOwnership",
    """
    add_to_referenced_objects handle_AutoTuneCriterion handle_Clustering handle_Clustering1D handle_CodePacker
    handle_CodeSet handle_Embedding handle_IDSelectorSubset handle_IOReader handle_IOWriter handle_Index
    handle_IndexBinary handle_IndexRowwiseMinMax handle_Linear handle_MapLong2Long handle_MatrixStats handle_NSG
    handle_ParameterSpace handle_QINCo handle_QINCoStep handle_Quantizer handle_SearchParameters handle_SuperKMeans
    handle_Tensor2D handle_VectorTransform handle_shard_ivf_index_centroids replace_method
    """,
)
