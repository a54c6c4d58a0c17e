"""The nearest binary codes: the smallest distance of each block of codes, and then the codes of k blocks.

Distances are integers, and exact, so k blocks are enough: those whose smallest distance is less than the k-th smallest
of all blocks, and of those where it is equal the first. A block is a run of codes, so the first ones have the lowest
ids. For many queries bits become +1 and -1 in 8 bits, a part of the codes at a time, and are multiplied; for few the
bits that differ are counted.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tuning
from .block_rows import Blocks, ranked
from .smallest import folded_slack, smallest

#: Up to so many queries, bits are counted.
FEW_QUERIES = 4

#: Bytes of signs that are stored at a time.
SIGN_BYTES = 256 << 20


@triton.jit
def _bits_set(words):
    """How many bits of each word are set (Warren, Hacker's Delight, section 5-1)."""
    words = words.to(tl.uint32, bitcast=True)
    words = words - ((words >> 1) & 0x55555555)
    words = (words & 0x33333333) + ((words >> 2) & 0x33333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F
    words = words + (words >> 8)
    return ((words + (words >> 16)) & 0x3F).to(tl.int32)


@triton.jit
def _signs_kernel(codes_ptr, signs_ptr, n, nbits, size, width, stride, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    for begin in range(0, width, BLOCK_D):
        bits = begin + tl.arange(0, BLOCK_D)
        mask = (rows < n)[:, None] & (bits < nbits)[None, :]
        code = tl.load(codes_ptr + rows[:, None] * stride + (bits // 8)[None, :], mask=mask, other=0).to(tl.int32)
        signs = tl.where(mask, ((code >> (bits % 8)[None, :]) & 1) * 2 - 1, 0)
        tl.store(signs_ptr + rows[:, None] * width + bits[None, :], signs.to(tl.int8), mask=(rows < n)[:, None])


@triton.jit
def _products_kernel(
    x_ptr,
    c_ptr,
    minima_ptr,
    nq,
    n,
    nbits,
    width,
    blocks,
    first_block,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
):
    # programs that run side by side read the same codes
    groups = tl.cdiv(nq, BLOCK_N)
    tile = tl.program_id(0) // groups
    queries = (tl.program_id(0) % groups).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = queries < nq
    inner = tl.arange(0, BLOCK_D)
    numbers = tile * BLOCK_K + tl.arange(0, BLOCK_K)
    firsts = numbers.to(tl.int64) * ROWS_OF_BLOCK
    best = tl.full([BLOCK_N, BLOCK_K], -65536, tl.int32)
    for row in range(0, ROWS_OF_BLOCK):
        known = firsts + row < n
        products = tl.zeros([BLOCK_N, BLOCK_K], tl.int32)
        for begin in range(0, width, BLOCK_D):
            x = tl.load(x_ptr + queries[:, None] * width + (begin + inner)[None, :], mask=there[:, None], other=0)
            c = tl.load(
                c_ptr + (firsts + row)[None, :] * width + (begin + inner)[:, None], mask=known[None, :], other=0
            )
            products = tl.dot(x, c, products, out_dtype=tl.int32)
        best = tl.maximum(best, tl.where(known[None, :], products, -65536))
    smallest_distances = tl.where(best == -65536, 32767, (nbits - best) // 2).to(tl.int16)
    places = first_block + numbers
    kept = there[:, None] & (places < blocks)[None, :]
    tl.store(minima_ptr + queries[:, None] * blocks + places[None, :], smallest_distances, mask=kept)


@triton.jit
def _distance(x_ptr, c_ptr, rows, known, words, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr):
    """Distances of a query to some codes, by counting."""
    distances = tl.zeros([BLOCK_R], tl.int32)
    inner = tl.arange(0, BLOCK_W)
    for begin in range(0, words, BLOCK_W):
        inside = begin + inner < words
        x = tl.load(x_ptr + begin + inner, mask=inside, other=0).to(tl.int32)
        c_places = c_ptr + rows[:, None] * words + (begin + inner)[None, :]
        c = tl.load(c_places, mask=known[:, None] & inside[None, :], other=0).to(tl.int32)
        differ = tl.where(known[:, None] & inside[None, :], c ^ x[None, :], 0)
        distances += tl.sum(_bits_set(differ), 1)
    return distances


@triton.jit
def _counted_minima_kernel(
    x_ptr,
    c_ptr,
    minima_ptr,
    n,
    words,
    blocks,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
):
    query = tl.program_id(1).to(tl.int64)
    numbers = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    firsts = numbers.to(tl.int64) * ROWS_OF_BLOCK
    best = tl.full([BLOCK_K], 32767, tl.int32)
    for row in range(0, ROWS_OF_BLOCK):
        known = firsts + row < n
        distances = _distance(x_ptr + query * words, c_ptr, firsts + row, known, words, BLOCK_K, BLOCK_W)
        best = tl.minimum(best, tl.where(known, distances, 32767))
    tl.store(minima_ptr + query * blocks + numbers, best.to(tl.int16), mask=numbers < blocks)


@triton.jit
def _counted_distances_kernel(
    x_ptr,
    c_ptr,
    columns_ptr,
    counts_ptr,
    distances_ptr,
    n,
    words,
    most,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ROWS_OF_BLOCK: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    candidates = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    blocks = candidates // ROWS_OF_BLOCK
    chosen = blocks < tl.minimum(tl.load(counts_ptr + query), most)
    columns = tl.load(columns_ptr + query * most + blocks, mask=chosen, other=0)
    rows = columns.to(tl.int64) * ROWS_OF_BLOCK + candidates % ROWS_OF_BLOCK
    known = chosen & (rows < n)
    distances = _distance(x_ptr + query * words, c_ptr, rows, known, words, BLOCK_R, BLOCK_W)
    width = most * ROWS_OF_BLOCK
    out = tl.where(known, distances.to(tl.float32), float("inf"))
    tl.store(distances_ptr + query * width + candidates, out, mask=candidates < width)


def signs(codes: Tensor, width: int) -> Tensor:
    """Make bits +1 and -1: uint8, (n, bytes), -> int8, (n, width), with zeros behind the bits."""
    n, size = codes.shape
    out = torch.empty(n, width, dtype=torch.int8, device=codes.device)
    _signs_kernel[(triton.cdiv(n, 32),)](
        codes, out, n, 8 * size, size, width, codes.stride(0), BLOCK_N=32, BLOCK_D=min(width, 128)
    )
    return out


def minima_by_products(xq: Tensor, xb: Tensor) -> Tensor:
    """Find the smallest distance of each block of codes: int16, (nq, blocks)."""
    blocks_of_tile, (nq, size), n = tuning.HAMMING.centroids, xq.shape, len(xb)
    components = min(tuning.HAMMING.components, max(32, triton.next_power_of_2(8 * size)))
    width = triton.cdiv(8 * size, components) * components
    queries = signs(xq, width)
    blocks = triton.cdiv(n, tuning.HAMMING_ROWS)
    minima = torch.empty(nq, blocks, dtype=torch.int16, device=xq.device)
    tile = tuning.HAMMING_ROWS * blocks_of_tile
    step = max(1, SIGN_BYTES // (width * tile)) * tile
    for begin in range(0, n, step):
        columns = signs(xb[begin : begin + step], width)
        tiles = triton.cdiv(len(columns), tile)
        _products_kernel[(triton.cdiv(nq, tuning.HAMMING.vectors) * tiles,)](
            queries,
            columns,
            minima,
            nq,
            len(columns),
            8 * size,
            width,
            blocks,
            begin // tuning.HAMMING_ROWS,
            BLOCK_N=tuning.HAMMING.vectors,
            BLOCK_K=blocks_of_tile,
            BLOCK_D=components,
            ROWS_OF_BLOCK=tuning.HAMMING_ROWS,
            num_warps=tuning.HAMMING.warps,
            num_stages=tuning.HAMMING.stages,
        )
    return minima


def minima_by_counting(xq: Tensor, xb: Tensor) -> Tensor:
    """Find the same for few queries."""
    x, c = _as_words(xq, xb)
    blocks = triton.cdiv(len(c), tuning.HAMMING_ROWS)
    minima = torch.empty(len(x), blocks, dtype=torch.int16, device=x.device)
    _counted_minima_kernel[(triton.cdiv(blocks, tuning.COUNTED_BLOCKS), len(x))](
        x,
        c,
        minima,
        len(c),
        c.shape[1],
        blocks,
        BLOCK_K=tuning.COUNTED_BLOCKS,
        BLOCK_W=min(16, triton.next_power_of_2(c.shape[1])),
        ROWS_OF_BLOCK=tuning.HAMMING_ROWS,
    )
    return minima


def knn(xq: Tensor, xb: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the k nearest codes, without waiting for the device.

    Parameters
    ----------
    xq : Tensor, uint8, shape (nq, bytes)
        At least one.
    xb : Tensor, uint8, shape (n, bytes)
        At least one, of up to 32,000 bits: distances have to be int16.
    k : int
        At least 1.

    Returns
    -------
    distances : Tensor, float32, shape (nq, k)
        Of equal ones those with the lowest ids, in their order; what is behind the last one means nothing.
    ids : Tensor, int64, shape (nq, k)
        -1 where there are fewer.
    left : Tensor, bool, shape (nq,)
        The queries of which this is not certain.
    """
    xq, xb = xq.contiguous(), xb.contiguous()
    nq, n = len(xq), len(xb)
    minima = minima_by_counting(xq, xb) if nq <= FEW_QUERIES else minima_by_products(xq, xb)
    most = min(k + folded_slack(k, minima.shape[1]), minima.shape[1])
    columns, counts, _ = smallest(minima, k, most, first=True)
    x, c = _as_words(xq, xb)
    found = torch.empty(nq, most * tuning.HAMMING_ROWS, dtype=torch.float32, device=xq.device)
    _counted_distances_kernel[(nq, triton.cdiv(most * tuning.HAMMING_ROWS, tuning.DISTANCE_ROWS))](
        x,
        c,
        columns,
        counts,
        found,
        n,
        c.shape[1],
        most,
        BLOCK_R=tuning.DISTANCE_ROWS,
        BLOCK_W=min(16, triton.next_power_of_2(c.shape[1])),
        ROWS_OF_BLOCK=tuning.HAMMING_ROWS,
    )
    certain, none = found.new_full((nq,), float("inf")), found.new_zeros(nq)
    firsts = columns.long() * tuning.HAMMING_ROWS
    blocks = Blocks(firsts, firsts, counts, certain, none, tuning.HAMMING_ROWS, 1)
    return ranked(found, blocks, None, k, similarity=False)


def _as_words(*codes: Tensor) -> tuple[Tensor, ...]:
    """Codes as words of 32 bits, where all of them are whole ones."""
    whole = all(each.shape[1] % 4 == 0 and each.data_ptr() % 4 == 0 for each in codes)
    return tuple(each.view(torch.int32) for each in codes) if whole else codes
