"""Hamming distances of binary codes: neighbours, those within a radius, and all of them.

For many queries codes become vectors of +1 and -1, whose product says how many bits agree, exactly: in int8 on the CPU
where that is fast, in float16 on a GPU, else in float32. For few queries that would cost more than it saves, and on
the CPU the bits that differ are counted. Of a tile of distances only those below the k-th best so far are looked at. On
GPUs with Triton `kernels.hamming` finds the neighbours. Results are always those of faiss's heaps and counters
(``faiss/utils/hamming.cpp``): by distance, then by id.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ... import kernels
from ...kernels import tuning
from ...threads import omp_get_max_threads
from ..gpu.search import MOST_NEIGHBOURS, Found, in_portions, joined
from ..runtime import arithmetic, chunks, workers

Result = TypeVar("Result")

#: What stands where there are fewer than k codes.
NO_DISTANCE = 2**31 - 1

#: Queries from which on codes are multiplied on the CPU.
LEAST_MULTIPLIED = 8

#: Queries and products of a tile on the CPU, at most, and its codes, at least and at most.
TILE_QUERIES, TILE_PRODUCTS = 256, 1 << 19
LEAST_CODES, MOST_CODES = 2048, 16_384

#: Codes whose largest product is compared first.
GROUP = 64

#: Codes of a tile of counted bits: they stay in a core's cache.
COUNTED_BYTES = 1 << 18

#: Codes of a tile on other devices.
DEVICE_TILE_CODES = 1 << 16

#: Up to so many bits a sum is an integer that float16 holds.
HALF_BITS = 2048

#: Bits of a code that kernels take, at most.
MOST_BITS = 32_000

#: Candidates that are gathered before they are put among the best, at least.
LEAST_CANDIDATES = 1 << 14


def hamming_reference(xq: Tensor, xb: Tensor) -> Tensor:
    """Count the bits that differ one by one (the oracle of this module): int32, shape (nq, nb)."""
    bits = 2 ** torch.arange(8, dtype=torch.int64, device=xq.device)
    return ((xq[:, None] ^ xb[None]).long()[..., None] & bits).ne(0).sum((2, 3), dtype=torch.int32)


def distances(xq: Tensor, xb: Tensor) -> Tensor:
    """Return all distances: uint8, (nq, bytes) and (nb, bytes) -> int32, (nq, nb)."""
    out = torch.empty(len(xq), len(xb), dtype=torch.int32, device=xq.device)

    def fill(rows: slice) -> None:
        for queries, codes, agreement in _tiles(xq, xb, rows):
            out[queries, codes] = _distance(agreement, 8 * xq.shape[1])

    _over_codes(fill, xq, xb)
    return out


def knn(xq: Tensor, xb: Tensor, k: int, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Find the k nearest codes.

    Parameters
    ----------
    xq : Tensor, uint8, shape (nq, bytes)
    xb : Tensor, uint8, shape (nb, bytes)
        On the same device.
    k : int
        At least 0.
    impl : str
        Whether kernels search: one of `kernels.IMPLEMENTATIONS`.

    Returns
    -------
    D : Tensor, int32, shape (nq, k)
        The nearest first, those as near in the order of their ids; `NO_DISTANCE` where there are fewer than k.
    I : Tensor, int64, shape (nq, k)
        -1 there.
    """
    nq, nbits = len(xq), 8 * xq.shape[1]
    found = _Found.none(xq.device)
    if nq and k and len(xb) and nbits <= MOST_BITS and k <= MOST_NEIGHBOURS:
        by_kernels = _knn_by_kernels(xq, xb, k, impl)
        if by_kernels is not None:
            return by_kernels
    if nq and k:
        parts = _over_codes(lambda rows: _nearest_of(xq, xb, rows, k), xq, xb)
        found = found.merged(parts, k, nq, nbits)
    return found.padded(nq, k)


def _knn_by_kernels(xq: Tensor, xb: Tensor, k: int, impl: str) -> tuple[Tensor, Tensor] | None:
    """Find them by kernels; None where these are not to be used, or fail."""

    def part(queries: slice) -> Found | None:
        def by_kernel() -> Found:
            from ...kernels.hamming import knn as knn_by_kernel

            return Found(*knn_by_kernel(xq[queries], xb, k))

        return kernels.run("hamming", xq.device, impl, by_kernel, lambda: None)

    # minima of blocks of codes, and the distances of the codes of k of these
    query_bytes = 2 * (len(xb) // tuning.HAMMING_ROWS + 1) + 5 * tuning.HAMMING_ROWS * (k + 16)
    found = joined(in_portions(part, len(xq), query_bytes))
    if found is None:
        return None
    D, I = torch.where(found.positions < 0, NO_DISTANCE, found.distances.int()), found.positions
    if bool(found.left.any()):
        again = found.left.nonzero().view(-1)
        D[again], I[again] = knn(xq[again], xb, k, "torch")
    return D, I


def _nearest_of(xq: Tensor, xb: Tensor, rows: slice, k: int) -> _Found:
    """Find the k nearest of some of the codes."""
    nq, nbits = len(xq), 8 * xq.shape[1]
    best, waiting, n_waiting = _Found.none(xq.device), list[_Found](), 0
    limits = torch.full((nq,), nbits + 1, dtype=torch.int32, device=xq.device)
    for queries, codes, agreement in _tiles(xq, xb, rows):
        is_first = codes.start == rows.start
        # of a first tile all would be candidates
        found = _largest(agreement, nbits, k) if is_first else _above(agreement, nbits, limits[queries])
        waiting.append(found.moved(queries.start, codes.start))
        n_waiting += len(found.ids)
        if queries.stop == nq and (is_first or n_waiting >= max(LEAST_CANDIDATES, nq * k)):
            best, waiting, n_waiting = best.merged(waiting, k, nq, nbits), [], 0
            limits = best.padded(nq, k)[0][:, -1].clamp(max=nbits + 1)
    return best.merged(waiting, k, nq, nbits)


def range_search(xq: Tensor, xb: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the codes nearer than a radius.

    Parameters
    ----------
    xq, xb
        As in `knn`.
    radius : int
        Distances are less than that.

    Returns
    -------
    lims : Tensor, int64, shape (nq + 1,)
        The results of query i are lims[i] ... lims[i + 1].
    D : Tensor, int32, shape (lims[nq],)
    I : Tensor, int64, shape (lims[nq],)
        Of each query in rising order.
    """
    nq, nbits = len(xq), 8 * xq.shape[1]
    limits = torch.full((nq,), min(radius, nbits + 1), dtype=torch.int32, device=xq.device)

    def within(rows: slice) -> _Found:
        found = [
            _above(agreement, nbits, limits[queries]).moved(queries.start, codes.start)
            for queries, codes, agreement in _tiles(xq, xb, rows)
        ]
        return _Found.none(xq.device).joined(found)

    found = _Found.none(xq.device).joined(_over_codes(within, xq, xb))
    order = found.queries.argsort(stable=True)
    counts = torch.bincount(found.queries, minlength=nq)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), found.distances[order], found.ids[order]


class _Found(NamedTuple):
    """Codes found for queries: three tensors of one length; of equal distances of a query the lower ids come first.

    Attributes
    ----------
    queries : Tensor, int64
    distances : Tensor, int32
    ids : Tensor, int64
    """

    queries: Tensor
    distances: Tensor
    ids: Tensor

    @staticmethod
    def none(device: torch.device) -> _Found:
        """Nothing."""
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        return _Found(nothing, nothing.to(torch.int32), nothing)

    def moved(self, first_query: int, first_id: int) -> _Found:
        """The same of a tile that begins elsewhere."""
        return _Found(self.queries + first_query, self.distances, self.ids + first_id)

    def joined(self, others: Sequence[_Found]) -> _Found:
        """These, and then the others."""
        return _Found(*(torch.cat(each) for each in zip(self, *others, strict=True)))

    def merged(self, others: Sequence[_Found], k: int, nq: int, nbits: int) -> _Found:
        """The k best of each query, in the order of queries and distances; ids of the others are higher, and rise."""
        together = self.joined(others)
        # the order in which they stand, that of ids, decides between equal distances
        order = (together.queries * (nbits + 1) + together.distances).argsort(stable=True)
        order = order[_places(together.queries[order], nq) < k]
        return _Found(*(each[order] for each in together))

    def padded(self, nq: int, k: int) -> tuple[Tensor, Tensor]:
        """Distances and ids of merged results as matrices, (nq, k)."""
        device = self.ids.device
        D = torch.full((nq, k), NO_DISTANCE, dtype=torch.int32, device=device)
        I = torch.full((nq, k), -1, dtype=torch.int64, device=device)
        places = _places(self.queries, nq)
        D[self.queries, places], I[self.queries, places] = self.distances, self.ids
        return D, I


def _places(queries: Tensor, nq: int) -> Tensor:
    """At which place among the results of its query each one stands, where queries are in order."""
    begins = torch.searchsorted(queries, torch.arange(nq, dtype=torch.int64, device=queries.device))
    return torch.arange(len(queries), dtype=torch.int64, device=queries.device) - begins[queries]


def _distance(agreement: Tensor, nbits: int) -> Tensor:
    """Distances, int32, from how many more bits agree than differ."""
    return torch.div(nbits - agreement, 2, rounding_mode="floor").to(torch.int32)


def _largest(agreement: Tensor, nbits: int, k: int) -> _Found:
    """The k that agree most of each row, of equal ones the first, in the order of their columns."""
    nq, n = agreement.shape
    keys = agreement.to(torch.int64) * n - torch.arange(n, dtype=torch.int64, device=agreement.device)
    columns = keys.topk(min(k, n), sorted=False)[1].sort(1)[0]
    queries = torch.arange(nq, dtype=torch.int64, device=agreement.device)[:, None].expand_as(columns)
    distance = _distance(agreement.gather(1, columns), nbits)
    return _Found(queries.reshape(-1), distance.view(-1), columns.view(-1))


def _above(agreement: Tensor, nbits: int, limits: Tensor) -> _Found:
    """Those of each row whose distance is less than its limit."""
    least = (nbits - 2 * limits)[:, None]
    nq, n = agreement.shape
    if n % GROUP:
        rows, columns = (agreement > least).nonzero(as_tuple=True)
        return _Found(rows, _distance(agreement[rows, columns], nbits), columns)
    groups = agreement.view(nq, n // GROUP, GROUP)  # few of which have one
    rows, numbers = (groups.amax(2) > least).nonzero(as_tuple=True)
    members = groups[rows, numbers]
    which, places = (members > least[rows]).nonzero(as_tuple=True)
    return _Found(rows[which], _distance(members[which, places], nbits), numbers[which] * GROUP + places)


def _over_codes(task: Callable[[slice], Result], xq: Tensor, xb: Tensor) -> list[Result]:
    """Run a task on shares of the codes; return what it returned, in their order."""
    threads = omp_get_max_threads() if xq.device.type == "cpu" else 1
    shares = max(1, min(threads, len(xb) // LEAST_CODES))
    rows = max(1, -(-len(xb) // shares))
    return workers.map_over_workers(task, list(chunks.slices(len(xb), rows)), threads)


def _tiles(xq: Tensor, xb: Tensor, rows: slice) -> Iterator[tuple[slice, slice, Tensor]]:
    """Go over some of the codes tile by tile, and over all queries in each.

    Yields
    ------
    queries, codes : slice
    agreement : Tensor, int32 or a float, shape (queries, codes)
        How many more bits agree than differ: nbits - 2 * distance. It may be overwritten by the next one.
    """
    if xq.device.type == "cpu" and len(xq) < LEAST_MULTIPLIED:
        yield from _counted(xq, xb, rows)
        return
    signs = _Signs.make(xq)
    queries = signs.of(xq)
    width = DEVICE_TILE_CODES
    if xq.device.type == "cpu":
        width = max(LEAST_CODES, min(MOST_CODES, TILE_PRODUCTS // len(xq) // GROUP * GROUP))
    for part in chunks.slices(rows.stop - rows.start, width):
        codes = slice(rows.start + part.start, rows.start + part.stop)
        columns = signs.of(xb[codes]).T
        for block in chunks.slices(len(xq), TILE_QUERIES if xq.device.type == "cpu" else len(xq)):
            yield block, codes, signs.product(queries[block], columns)


class _Signs(NamedTuple):
    """How codes become vectors of +1 and -1, and these are multiplied.

    Attributes
    ----------
    table : Tensor, int8, float16 or float32, shape (256, 8)
        The signs of each byte.
    """

    table: Tensor

    @staticmethod
    def make(x: Tensor) -> _Signs:
        """In what is exact and fast for codes such as these."""
        on_cpu = x.device.type == "cpu"
        if on_cpu and arithmetic.chosen(x.device) == "int8" and arithmetic.int8_is_exact():
            dtype = torch.int8
        else:
            dtype = torch.float32 if on_cpu or 8 * x.shape[1] > HALF_BITS else torch.float16
        return _Signs(_table(dtype, x.device))

    def of(self, codes: Tensor) -> Tensor:
        """Return codes, (n, bytes), as signs, (n, 8 * bytes)."""
        # a gather of whole words costs an eighth of one of signs
        words = self.table.view(torch.int64).view(256, -1)
        return words[codes.int()].view(self.table.dtype).reshape(len(codes), -1)

    def product(self, queries: Tensor, columns: Tensor) -> Tensor:
        """Multiply signs: (m, bits) and (bits, n) -> (m, n)."""
        return torch._int_mm(queries, columns) if queries.dtype == torch.int8 else queries @ columns


@functools.lru_cache(maxsize=8)
def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    values = torch.arange(256, dtype=torch.int64, device=device)
    bits = values[:, None] >> values[:8] & 1
    return (bits * 2 - 1).to(dtype)


def _counted(xq: Tensor, xb: Tensor, rows: slice) -> Iterator[tuple[slice, slice, Tensor]]:
    """Do what `_tiles` does query by query, by counting bits: on the CPU."""
    size = xq.shape[1]
    word = np.dtype(f"u{next(each for each in (8, 4, 2, 1) if size % each == 0)}")
    queries, codes = (each.contiguous().numpy().view(word) for each in (xq, xb[rows]))
    for part in chunks.slices(len(codes), chunks.rows_within(size, COUNTED_BYTES)):
        tile = codes[part]
        columns = slice(rows.start + part.start, rows.start + part.stop)
        for number, query in enumerate(queries):
            counts = _bit_counts(tile ^ query)
            distance = functools.reduce(np.add, counts.T[1:], counts[:, 0].astype(np.int32))
            yield slice(number, number + 1), columns, torch.from_numpy(8 * size - 2 * distance)[None]


def _bit_counts(words: np.ndarray) -> np.ndarray:
    """Return how many bits of each word are set; numpy 1 has no function for that."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    counts = _BITS_OF_BYTES[words.view(np.uint8)]
    return counts.reshape(*words.shape, -1).sum(-1, dtype=np.int32)


_BITS_OF_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)
