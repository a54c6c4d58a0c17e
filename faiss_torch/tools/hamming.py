"""Hamming distances of binary codes without an index, in faiss's Python form and in its C form with pointers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..border import Array, codes_in, crossing, tensor_of
from ..ops.binary import hamming
from ..ops.runtime import workers
from ..parts.selectors import IDSelector
from ..wrapper.pointers import Pointer, pointed
from .heaps import int_maxheap_array_t
from .results import number_of_results

#: faiss's ways to select, whose results are the same.
VARIANTS = ("hc", "mc")


@crossing
def knn_hamming(xq: Array, xb: Array, k: int, variant: str = "hc") -> tuple[Array, Array]:
    """The k nearest neighbours of binary queries among binary database vectors.

    Parameters
    ----------
    xq : array, uint8, shape (nq, bytes)
    xb : array, uint8, shape (nb, bytes)
        Both numpy, or both torch on one device: they are searched where they are.
    k : int
    variant : str
        "hc" or "mc": faiss's heaps or counters. The results are the same.

    Returns
    -------
    D : array, int32, shape (nq, k)
        How many bits differ, the nearest first, those as near in the order of their ids; 2**31 - 1 where there are
        fewer than k.
    I : array, int64, shape (nq, k)
        Rows of `xb`; -1 where there are fewer than k.

    Raises
    ------
    AssertionError
        If the widths differ.
    TypeError
        If the vectors are not uint8, or one is numpy and the other on an accelerator.
    ValueError
        If k is negative, or the arrays are not two-dimensional.
    NotImplementedError
        If there is no such variant.
    """
    if variant not in VARIANTS:
        raise NotImplementedError(f"variant is {variant!r}, expected one of {', '.join(VARIANTS)}")
    k = number_of_results(k)
    device = xb.device if isinstance(xb, Tensor) else torch.device("cpu")
    codes, of_codes = codes_in(xb, xb.shape[-1], device)
    of_codes.require(xq, "xq")
    queries, kind = codes_in(xq, codes.shape[1], device)
    D, I = workers.conduct(lambda: hamming.knn(queries, codes, int(k)), device, (xq, xb))
    return kind.out(D), kind.out(I)


def hammings(a: Pointer, b: Pointer, na: int, nb: int, nbytespercode: int, dis: Pointer) -> None:
    """Write the distances, int32 [na, nb], of codes a [na, nbytespercode] and b [nb, nbytespercode], all behind
    pointers."""
    first, second = _codes("hammings", (a, na), (b, nb), nbytespercode)
    found = workers.conduct(lambda: hamming.distances(first, second), first.device)
    pointed(dis, na * nb, "int32", "hammings")[:] = found.numpy().reshape(-1)


def hammings_knn_hc(
    ha: int_maxheap_array_t,
    a: Pointer,
    b: Pointer,
    nb: int,
    ncodes: int,
    ordered: int,
    approx_topk_mode: int = 0,
    sel: IDSelector | None = None,
) -> None:
    """Find the k nearest of codes b [nb, ncodes], behind pointers, for each of ha.nh codes a.

    Parameters
    ----------
    ha : int_maxheap_array_t
        Its k is how many are found; its val and ids take the results, the nearest first, whatever `ordered` says.
    a, b : Pointer to uint8
    nb : int
    ncodes : int
        Bytes of a code.
    ordered, approx_topk_mode : int
        Without effect: results are exact, and in order.
    sel : IDSelector, optional
        Restricts the codes of b that can be found.
    """
    _knn_into("hammings_knn_hc", (a, ha.nh), (b, nb), ha.k, ncodes, ha.val, ha.ids, sel)


def hammings_knn(ha: int_maxheap_array_t, a: Pointer, b: Pointer, nb: int, ncodes: int, ordered: int) -> None:
    """faiss's older name of `hammings_knn_hc`."""
    hammings_knn_hc(ha, a, b, nb, ncodes, ordered)


def hammings_knn_mc(
    a: Pointer,
    b: Pointer,
    na: int,
    nb: int,
    k: int,
    ncodes: int,
    distances: Pointer,
    labels: Pointer,
    sel: IDSelector | None = None,
) -> None:
    """Find the k nearest of codes b [nb, ncodes] for each of codes a [na, ncodes], all behind pointers: distances,
    int32, and labels, int64, of shape [na, k]. A selector restricts the codes of b that can be found."""
    _knn_into("hammings_knn_mc", (a, na), (b, nb), k, ncodes, distances, labels, sel)


def hamming_count_thres(bs1: Pointer, bs2: Pointer, n1: int, n2: int, ht: int, ncodes: int, nptr: Pointer) -> None:
    """Write how many pairs of codes bs1 [n1, ncodes] and bs2 [n2, ncodes] differ in at most `ht` bits to nptr,
    uint64 [1]."""
    lims = _within("hamming_count_thres", bs1, bs2, n1, n2, ht, ncodes)[0]
    pointed(nptr, 1, "uint64", "hamming_count_thres")[0] = int(lims[-1])


def crosshamming_count_thres(dbs: Pointer, n: int, ht: int, ncodes: int, nptr: Pointer) -> None:
    """Write how many pairs of two of the codes dbs [n, ncodes] differ in at most `ht` bits to nptr, uint64 [1]."""
    lims = _within("crosshamming_count_thres", dbs, dbs, n, n, ht, ncodes)[0]
    # each pair was found twice, and each code with itself
    pointed(nptr, 1, "uint64", "crosshamming_count_thres")[0] = max(0, int(lims[-1]) - n) // 2


def match_hamming_thres(
    bs1: Pointer, bs2: Pointer, n1: int, n2: int, ht: int, ncodes: int, idx: Pointer, dis: Pointer
) -> int:
    """Find the pairs of codes that differ in at most `ht` bits.

    Parameters
    ----------
    bs1, bs2 : Pointer to uint8
        Codes [n1, ncodes] and [n2, ncodes].
    n1, n2, ht, ncodes : int
    idx : Pointer to int64
        Takes the two numbers of each pair.
    dis : Pointer to int32
        Takes their distances.

    Returns
    -------
    int
        How many pairs there are.
    """
    name = "match_hamming_thres"
    lims, D, I = _within(name, bs1, bs2, n1, n2, ht, ncodes)
    queries = torch.repeat_interleave(torch.arange(n1, dtype=torch.int64, device="cpu"), lims.diff())
    pointed(idx, 2 * len(I), "int64", name)[:] = torch.stack([queries, I], 1).view(-1).numpy()
    pointed(dis, len(I), "int32", name)[:] = D.numpy()
    return len(I)


def popcount32(x: int) -> int:
    """How many of the lowest 32 bits of an integer are set."""
    return (int(x) & 0xFFFFFFFF).bit_count()


def popcount64(x: int) -> int:
    """How many of the lowest 64 bits of an integer are set."""
    return (int(x) & 0xFFFFFFFFFFFFFFFF).bit_count()


def _codes(function: str, first: tuple[Pointer, int], second: tuple[Pointer, int], size: int) -> tuple[Tensor, Tensor]:
    """Two arrays of codes behind pointers."""
    one, other = (pointed(pointer, n * size, "uint8", function).reshape(n, size) for pointer, n in (first, second))
    return tensor_of(one), tensor_of(other)


def _within(
    function: str, a: Pointer, b: Pointer, na: int, nb: int, ht: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of codes behind pointers that differ in at most so many bits."""
    first, second = _codes(function, (a, na), (b, nb), size)
    return workers.conduct(lambda: hamming.range_search(first, second, ht + 1), first.device)


def _knn_into(
    function: str,
    a: tuple[Pointer, int],
    b: tuple[Pointer, int],
    k: int,
    size: int,
    distances: Pointer | None,
    labels: Pointer | None,
    sel: IDSelector | None,
) -> None:
    """`hamming.knn` of codes behind pointers, its results written to pointers."""
    if distances is None or labels is None:
        raise RuntimeError(f"{function}: the heaps have no room: set val and ids")
    queries, codes = _codes(function, a, b, size)
    selected = None if sel is None else sel.mask_of_range(0, len(codes), codes.device).nonzero().view(-1)
    searched = codes if selected is None else codes[selected]
    D, I = workers.conduct(lambda: hamming.knn(queries, searched, k), queries.device)
    if selected is not None and len(selected):
        I = torch.where(I < 0, I, selected[I.clamp(min=0)])
    pointed(distances, D.numel(), "int32", function)[:] = D.numpy().reshape(-1)
    pointed(labels, I.numel(), "int64", function)[:] = I.numpy().reshape(-1)
