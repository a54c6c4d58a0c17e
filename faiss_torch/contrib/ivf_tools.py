"""Add to and search IVF indexes by lists of one's own choice, as ``faiss.contrib.ivf_tools`` does."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import Index, downcast_index, downcast_InvertedLists, downcast_VectorTransform, swig_ptr
from .inspect_tools import get_invlist_sizes

Array = np.ndarray


def _check_width(index_ivf: Any, x: Array) -> bool:
    """Raise AssertionError unless the vectors have the index's width; return whether the index is binary."""
    # binary indexes are no subclasses of Index; eight of their dimensions are one byte
    binary = not isinstance(index_ivf, Index)
    d = x.shape[1] * (8 if binary else 1)
    assert d == index_ivf.d, f"vectors have {d} dimensions, expected {index_ivf.d}"
    return binary


def _coarse_distances(index_ivf: Any, x: Array, list_nos: Array, coarse_dis: Array | None) -> Array:
    """Return the distances to the lists' centroids, 0 where none are given: only some codecs use them."""
    binary = _check_width(index_ivf, x)
    shape = (len(x), index_ivf.nprobe)
    assert list_nos.shape == shape, f"list_nos has shape {list_nos.shape}, expected (n, nprobe) = {shape}"
    if coarse_dis is None:
        return np.zeros(shape, dtype=np.int32 if binary else np.float32)
    assert coarse_dis.shape == shape, f"coarse_dis has shape {coarse_dis.shape}, expected (n, nprobe) = {shape}"
    return coarse_dis


def add_preassigned(index_ivf: Any, x: Array, a: Array, ids: Array | None = None) -> None:
    """Add vectors to inverted lists that are known already.

    Parameters
    ----------
    index_ivf : IndexIVF or IndexBinaryIVF
    x : array, shape (n, d)
    a : array, int64, shape (n,)
        The list of each vector.
    ids : array, int64, shape (n,), optional
    """
    _check_width(index_ivf, x)
    assert a.shape == (len(x),), f"a has shape {a.shape}, expected ({len(x)},)"
    assert ids is None or ids.shape == (len(x),), f"ids do not have the shape ({len(x)},)"
    index_ivf.add_core(len(x), swig_ptr(x), None if ids is None else swig_ptr(ids), swig_ptr(a))


def search_preassigned(
    index_ivf: Any, xq: Array, k: int, list_nos: Array, coarse_dis: Array | None = None
) -> tuple[Array, Array]:
    """Search given inverted lists; the index may have one transform before it.

    Parameters
    ----------
    index_ivf : IndexIVF, IndexBinaryIVF or IndexPreTransform
    xq : array, shape (n, d)
    k : int
    list_nos : array, int64, shape (n, nprobe)
    coarse_dis : array, shape (n, nprobe), optional
        Distances to the lists' centroids.

    Returns
    -------
    D, I : array, shape (n, k)
    """
    if hasattr(index_ivf, "chain"):
        assert index_ivf.chain.size() == 1, f"{index_ivf.chain.size()} transforms before the index, expected 1"
        xq = downcast_VectorTransform(index_ivf.chain.at(0)).apply(xq)
        index_ivf = downcast_index(index_ivf.index)
    coarse_dis = _coarse_distances(index_ivf, xq, list_nos, coarse_dis)
    return index_ivf.search_preassigned(xq, k, list_nos, coarse_dis)


def range_search_preassigned(
    index_ivf: Any, x: Array, radius: float, list_nos: Array, coarse_dis: Array | None = None
) -> tuple[Array, Array, Array]:
    """Search a range in given inverted lists.

    Parameters
    ----------
    index_ivf : IndexIVF or IndexBinaryIVF
    x : array, shape (n, d)
    radius : float
    list_nos, coarse_dis
        As for `search_preassigned`.

    Returns
    -------
    lims, D, I : array
    """
    coarse_dis = _coarse_distances(index_ivf, x, list_nos, coarse_dis)
    return index_ivf.range_search_preassigned(x, radius, list_nos, coarse_dis)


def replace_ivf_quantizer(index_ivf: Any, new_quantizer: Any) -> Any:
    """Give an IVF index another quantizer and return the old one.

    An empty new quantizer is trained with the centroids of the old one and takes them in; one with vectors
    must have one for each list.
    """
    old_quantizer = downcast_index(index_ivf.quantizer)
    if new_quantizer.ntotal == 0:
        centroids = old_quantizer.reconstruct_n()
        new_quantizer.train(centroids)
        new_quantizer.add(centroids)
    else:
        assert new_quantizer.ntotal == index_ivf.nlist, (
            f"new quantizer has {new_quantizer.ntotal} vectors, expected {index_ivf.nlist}"
        )
    index_ivf.own_fields = False
    index_ivf.quantizer = new_quantizer
    return old_quantizer


def permute_invlists(index_ivf: Any, perm: Array) -> None:
    """Put the inverted lists, and the centroids, in another order.

    Parameters
    ----------
    index_ivf : IndexIVF
    perm : array, int, shape (nlist,)
        New list ``i`` is old list ``perm[i]``.
    """
    nlist = index_ivf.nlist
    quantizer = downcast_index(index_ivf.quantizer)
    assert quantizer.ntotal == nlist, f"quantizer has {quantizer.ntotal} vectors, expected {nlist}"
    perm = np.ascontiguousarray(perm, dtype=np.int64)
    assert np.array_equal(np.sort(perm), np.arange(nlist)), f"not a permutation of {nlist} lists"
    quantizer.permute_entries(perm)
    downcast_InvertedLists(index_ivf.invlists).permute_invlists(swig_ptr(perm))


def sort_invlists_by_size(index_ivf: Any) -> None:
    """Put the inverted lists in the order of their sizes, smallest first."""
    permute_invlists(index_ivf, np.argsort(get_invlist_sizes(index_ivf.invlists)))
