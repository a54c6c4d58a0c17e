"""Operations on whole IVF indexes, as faiss's ``ivflib``; most look through the indexes that wrap one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..border import Array, Kind, at_pointer, crossing, vectors_in, write
from ..indexes.base import Index
from ..indexes.composite.id_map import IndexIDMap
from ..indexes.ivf.base import IndexIVF
from ..ops.runtime import workers
from ..parts.lists.inverted_lists import ArrayInvertedLists, InvertedLists
from ..parts.lists.stacked import SliceInvertedLists
from ..parts.params import SearchParametersIVF

Result = TypeVar("Result")

#: The attributes by which wrapping indexes name the index inside.
_INNER_ATTRIBUTES = ("index", "base_index")


def inner_index(index: Index) -> Index | None:
    """The index inside a wrapping index, or None."""
    for attribute in _INNER_ATTRIBUTES:
        inner = getattr(index, attribute, None)
        if isinstance(inner, Index):
            return inner
    return None


def try_extract_index_ivf(index: Index) -> IndexIVF | None:
    """The inverted file that an index is or wraps, or None."""
    current: Index | None = index
    while current is not None and not isinstance(current, IndexIVF):
        current = inner_index(current)
    return current


def extract_index_ivf(index: Index) -> IndexIVF:
    """The inverted file that an index is or wraps.

    Raises
    ------
    RuntimeError
        If there is none.
    """
    found = try_extract_index_ivf(index)
    if found is None:
        raise RuntimeError(f"extract_index_ivf: there is no IVF index in {type(index).__name__}")
    return found


# merging


def check_compatible_for_merge(index1: Index, index2: Index) -> None:
    """Raise RuntimeError unless two indexes are of one kind, with the same settings and training."""
    first: Index | None = index1
    second: Index | None = index2
    while first is not None:
        if second is None or type(first) is not type(second):
            raise RuntimeError(f"cannot merge a {type(first).__name__} with a {type(second).__name__}")
        if (first.d, first.metric_type) != (second.d, second.metric_type):
            raise RuntimeError(
                f"cannot merge: (d, metric) {(second.d, second.metric_type)} into {(first.d, first.metric_type)}"
            )
        if isinstance(first, IndexIVF):
            first.check_compatible_for_merge(second)
            return
        first, second = inner_index(first), inner_index(second)


def merge_into(index0: Index, index1: Index, shift_ids: bool) -> None:
    """Move all vectors of an IVF index, or of one around it, to another one of the same kind.

    Parameters
    ----------
    index0 : Index
    index1 : Index
        It is empty afterwards.
    shift_ids : bool
        Whether to add to the ids that come in the number of vectors of `index0`.

    Raises
    ------
    RuntimeError
        If they are not of one kind, or no IVF indexes; nothing has changed then.
    """
    check_compatible_for_merge(index0, index1)
    into, other = extract_index_ivf(index0), extract_index_ivf(index1)
    shift = index0.ntotal if shift_ids else 0
    if isinstance(index0, IndexIDMap):
        index0.merge_from(index1, shift)
        return
    into.merge_from(other, shift)
    index0.ntotal, index1.ntotal = into.ntotal, other.ntotal


# searching


def _ivf(index: Index) -> IndexIVF:
    """The index itself, for functions that a wrapping index would only disturb."""
    if not isinstance(index, IndexIVF):
        raise RuntimeError(f"could not extract an IVF index from {type(index).__name__}")
    return index


@crossing
def search_centroid(index: Index, x: Array, n: int, centroid_ids: Array) -> None:
    """Write the list nearest to each vector to `centroid_ids`.

    Parameters
    ----------
    index : IndexIVF
    x : array of float32, shape (n, d), or pointer
    n : int
    centroid_ids : array of int64, shape (n,), or pointer
    """
    ivf = _ivf(index)
    vectors, _ = vectors_in(at_pointer(x, n * ivf.d).reshape(n, ivf.d), ivf.d, ivf.device)
    write(ivf._require_quantizer().assign(vectors, 1), centroid_ids)


@crossing
def search_and_return_centroids(
    index: Index,
    n: int,
    xin: Array,
    k: int,
    distances: Array,
    labels: Array,
    query_centroid_ids: Array | None,
    result_centroid_ids: Array | None,
) -> None:
    """Search, and say for each query and for each result which list it belongs to.

    Parameters
    ----------
    index : IndexIVF
    n : int
    xin : array of float32, shape (n, d), or pointer
    k : int
    distances : array of float32, shape (n, k), or pointer
    labels : array of int64, shape (n, k), or pointer
        These two take the results.
    query_centroid_ids : array of int64, shape (n,), pointer or None
        Takes the list nearest to each query.
    result_centroid_ids : array of int64, shape (n, k), pointer or None
        Takes the list of each result; -1 where there is none.
    """
    ivf = _ivf(index)
    vectors, _ = vectors_in(at_pointer(xin, n * ivf.d).reshape(n, ivf.d), ivf.d, ivf.device)

    def search() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ivf._require_trained()
        settings = ivf._settings(None)
        _, probes = ivf._probe(vectors, settings.nprobe, None)
        found, positions, held = ivf._scan(vectors, probes, k, settings)
        list_nos = torch.full_like(positions, -1)
        there = positions >= 0
        list_nos[there] = held.list_nos_at(positions[there])
        return found, held.ids_at(positions), probes[:, 0], list_nos

    targets = (distances, labels, query_centroid_ids, result_centroid_ids)
    for target, values in zip(targets, workers.conduct(search, ivf.device), strict=True):
        if target is not None:
            write(values, target)


@crossing
def search_with_parameters(
    index: Index, x: Array, k: int, params: SearchParametersIVF | None = None, output_stats: bool = False
) -> tuple[Array, ...]:
    """Search an IVF index with settings of this call.

    Parameters
    ----------
    index : IndexIVF
    x : array, shape (n, d)
    k : int
    params : SearchParametersIVF, optional
        The default are those of the index.
    output_stats : bool

    Returns
    -------
    D : array of float32, shape (n, k)
    I : array of int64, shape (n, k)
    stats : dict
        With `output_stats`: ``ndis``, the entries of the lists looked at, and the milliseconds
        ``pre_transform_ms``, ``coarse_quantizer_ms`` and ``invlist_scan_ms``.

    Raises
    ------
    AssertionError
        If the width is not d.
    RuntimeError
        If the index is no IVF index.
    """
    k = index._check_k(k)

    def scan(ivf: IndexIVF, vectors: Tensor, probes: Tensor, settings: Any) -> tuple[Tensor, ...]:
        distances, positions, held = ivf._scan(vectors, probes, k, settings)
        return distances, held.ids_at(positions)

    results, kind, stats = _with_parameters(index, x, params, scan)
    found = tuple(kind.out(result) for result in results)
    return (*found, stats) if output_stats else found


@crossing
def range_search_with_parameters(
    index: Index, x: Array, radius: float, params: SearchParametersIVF | None = None, output_stats: bool = False
) -> tuple[Array, ...]:
    """Search a range in an IVF index with settings of this call: see `search_with_parameters`.

    Returns
    -------
    lims, D, I : arrays
        As `Index.range_search`.
    stats : dict
        With `output_stats`.
    """

    def scan(ivf: IndexIVF, vectors: Tensor, probes: Tensor, settings: Any) -> tuple[Tensor, ...]:
        return ivf._range_scan(vectors, probes, float(radius), settings)

    results, kind, stats = _with_parameters(index, x, params, scan)
    found = index._ranges_out(kind, *results)
    return (*found, stats) if output_stats else found


def _with_parameters(
    index: Index,
    x: Array,
    params: SearchParametersIVF | None,
    scan: Callable[[IndexIVF, Tensor, Tensor, Any], tuple[Tensor, ...]],
) -> tuple[tuple[Tensor, ...], Kind, dict[str, Any]]:
    if params is None:
        own = extract_index_ivf(index)
        params = SearchParametersIVF(nprobe=own.nprobe, max_codes=own.max_codes)
    vectors, kind = index._vectors(x)
    ivf = _ivf(index)
    ivf._require_trained()
    settings = ivf._settings(params)
    sizes = ivf._require_lists().sizes

    def search() -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        start = time.perf_counter()
        _, probes = ivf._probe(vectors, settings.nprobe, settings.quantizer_params)
        probed = time.perf_counter()
        results = scan(ivf, vectors, probes, settings)
        return results, {
            "ndis": int(sizes[probes[probes >= 0].cpu()].sum()),
            "pre_transform_ms": 0.0,
            "coarse_quantizer_ms": 1e3 * (probed - start),
            "invlist_scan_ms": 1e3 * (time.perf_counter() - probed),
        }

    results, stats = workers.conduct(search, ivf.device)
    return results, kind, stats


# parts of the lists


def _array_lists(index: Index) -> ArrayInvertedLists:
    lists = extract_index_ivf(index).invlists
    if not isinstance(lists, ArrayInvertedLists):
        raise RuntimeError(f"only supports indexes with ArrayInvertedLists, this one has {type(lists).__name__}")
    return lists


def get_invlist_range(index: Index, i0: int, i1: int) -> ArrayInvertedLists:
    """Return copies of the lists i0 ... i1 - 1 of an IVF index."""
    some = SliceInvertedLists(extract_index_ivf(index)._require_lists(), i0, i1)
    copies = ArrayInvertedLists(some.nlist, some.code_size)
    some.copy_subset_to(copies, InvertedLists.SUBSET_TYPE_INVLIST, 0, some.nlist)
    return copies


def set_invlist_range(index: Index, i0: int, i1: int, src: ArrayInvertedLists) -> None:
    """Exchange the lists i0 ... i1 - 1 of an IVF index for others.

    Parameters
    ----------
    index : Index
    i0, i1 : int
    src : ArrayInvertedLists
        i1 - i0 lists; afterwards it holds those of the index.

    Raises
    ------
    RuntimeError
        If there are not as many, codes are of another size, or the index has other lists than ArrayInvertedLists.
    """
    lists = _array_lists(index)
    old = get_invlist_range(index, i0, i1)
    old._check_same_shape(src)
    ivf = extract_index_ivf(index)
    ids, places = src.all_ids_and_places()
    codes = src.codes_at(src.positions_of(places).to(src.device))
    ivf.ntotal = index.ntotal = index.ntotal + len(ids) - old.compute_ntotal()
    for list_no in range(i0, i1):
        lists.resize(list_no, 0)
    lists.add_to_lists((places >> 32) + i0, ids.to(lists.device), codes.to(lists.device))
    src.reset()
    src.merge_from(old, 0)


class SlidingIndexWindow:
    """An IVF index that holds the vectors of several others, one behind the other; the oldest go first.

    Parameters
    ----------
    index : Index
        Empty and trained; an IVF index with ArrayInvertedLists, or one around it.

    Attributes
    ----------
    index : Index
    ils : ArrayInvertedLists
        Those of `index`.
    n_slice : int
        How many indexes it holds.
    nlist : int
    sizes : Tensor, int64, shape (nlist, n_slice)
        The size of each list up to the end of each slice.

    Raises
    ------
    RuntimeError
        If the index has no ArrayInvertedLists.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.ils = _array_lists(index)
        self.n_slice = 0
        self.nlist = self.ils.nlist
        self.sizes = torch.zeros(self.nlist, 0, dtype=torch.int64, device="cpu")

    def step(self, sub_index: Index | None, remove_oldest: bool) -> None:
        """Add the vectors of another index, remove the oldest, or both.

        Parameters
        ----------
        sub_index : Index or None
            It stays as it is.
        remove_oldest : bool

        Raises
        ------
        RuntimeError
            If there is nothing to remove, or nothing to do, or the indexes do not fit; nothing has changed then.
        """
        if remove_oldest and not self.n_slice:
            raise RuntimeError("cannot remove a slice: there is none")
        if sub_index is None and not remove_oldest:
            raise RuntimeError("nothing to do: no index to add, and nothing to remove")
        if sub_index is not None:
            check_compatible_for_merge(self.index, sub_index)
            added = _array_lists(sub_index)
        if remove_oldest:
            self.ils.remove_first(self.sizes[:, 0])
            self.sizes = self.sizes[:, 1:] - self.sizes[:, :1]
        if sub_index is not None:
            added.copy_subset_to(self.ils, InvertedLists.SUBSET_TYPE_INVLIST, 0, self.nlist)
            self.sizes = torch.cat([self.sizes, self.ils.sizes[:, None]], 1)
        self.n_slice = self.sizes.shape[1]
        ivf = extract_index_ivf(self.index)
        ivf.ntotal = self.index.ntotal = self.ils.compute_ntotal()
