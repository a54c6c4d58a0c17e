"""Look into indexes and their parts, as ``faiss.contrib.inspect_tools`` does."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .. import copy_array_to_vector, downcast_InvertedLists, rev_swig_ptr, vector_to_array

Array = np.ndarray


def _inherited_fields(the_class: type) -> dict[str, None]:
    """Return the names of the attributes that a class and its bases declare, in order, each once."""
    return dict.fromkeys(
        name
        for base in reversed(the_class.__mro__)
        for name in inspect.get_annotations(base)
        if not name.startswith("_")
    )


def get_invlist(invlists: Any, l: int) -> tuple[Array, Array]:
    """Return copies of the ids and the codes of an inverted list.

    Returns
    -------
    list_ids : array, int64, shape (n,)
    list_codes : array, uint8, shape (n, code_size)
        Of inverted lists that are stored in blocks: the blocks, shape (n / n_per_block, bytes / n_per_block,
        n_per_block).
    """
    invlists = downcast_InvertedLists(invlists)
    n = invlists.list_size(l)
    per_block = getattr(invlists, "n_per_block", None)
    if per_block is None:
        shape: tuple[int, ...] = (n, invlists.code_size)
    else:
        shape = (-(-n // per_block), invlists.block_size // per_block, per_block)
    if n == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(shape, dtype=np.uint8)
    ids, codes = invlists.get_ids(l), invlists.get_codes(l)
    try:
        list_ids = rev_swig_ptr(ids, n).copy()
        list_codes = rev_swig_ptr(codes, int(np.prod(shape))).reshape(shape).copy()
    finally:
        invlists.release_ids(l, ids)
        invlists.release_codes(l, codes)
    return list_ids, list_codes


def get_invlist_sizes(invlists: Any) -> Array:
    """Return the sizes of the inverted lists: int64, shape (nlist,)."""
    return np.array([invlists.list_size(i) for i in range(invlists.nlist)], dtype=np.int64)


def print_object_fields(obj: Any) -> None:
    """Print the name and the value of each attribute that an object's class declares."""
    for name in _inherited_fields(type(obj)):
        print(f"{name} = {getattr(obj, name)}")


def get_pq_centroids(pq: Any) -> Array:
    """Return the centroids of a product quantizer: float32, shape (M, ksub, dsub)."""
    return vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub)


def get_LinearTransform_matrix(pca: Any) -> tuple[Array, Array]:
    """Return the matrix, shape (d_out, d_in), and the bias of a linear transform: PCA, OPQ ..."""
    return vector_to_array(pca.A).reshape(pca.d_out, pca.d_in), vector_to_array(pca.b)


def make_LinearTransform_matrix(A: Array, b: Array | None = None) -> Any:
    """Make a linear transform from a matrix and, where given, a bias.

    Parameters
    ----------
    A : array, shape (d_out, d_in)
    b : array, shape (d_out,), optional

    Raises
    ------
    AssertionError
        If the bias is not as wide as the output.
    """
    from .. import LinearTransform

    d_out, d_in = A.shape
    assert b is None or b.shape == (d_out,), f"bias has shape {getattr(b, 'shape', None)}, expected ({d_out},)"
    transform = LinearTransform(d_in, d_out, b is not None)
    copy_array_to_vector(A.ravel(), transform.A)
    if b is not None:
        copy_array_to_vector(b, transform.b)
    transform.is_trained = True
    transform.set_is_orthonormal()
    return transform


def get_additive_quantizer_codebooks(aq: Any) -> list[Array]:
    """Return the M codebooks of an additive quantizer, each of shape (size, d)."""
    codebooks = vector_to_array(aq.codebooks).reshape(-1, aq.d)
    offsets = vector_to_array(aq.codebook_offsets)
    return [codebooks[offsets[m] : offsets[m + 1]] for m in range(aq.M)]


def get_flat_data(index: Any) -> Array:
    """Return a copy of the vectors in a flat index: float32, shape (ntotal, d)."""
    return vector_to_array(index.codes).view(np.float32).reshape(index.ntotal, index.d)


def get_flat_codes(index_flat: Any) -> Array:
    """Return a copy of the codes in an index that stores them in order: uint8, shape (ntotal, code_size)."""
    return vector_to_array(index_flat.codes).reshape(index_flat.ntotal, index_flat.code_size)


def get_NSG_neighbors(nsg: Any) -> Array:
    """Return the graph of an NSG structure: int32, shape (N, K), -1 where a vector has fewer neighbours."""
    graph = nsg.get_final_graph()
    return rev_swig_ptr(graph.data, graph.N * graph.K).reshape(graph.N, graph.K).copy()
