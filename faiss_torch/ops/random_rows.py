"""A generator for each row: ``std::mt19937`` for many seeds at once, and what `IndexRandom` draws from it.

Source: M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998. The 624 words of a state are renewed in
four pieces, each of which depends on words that are there already.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .runtime import chunks

_SIZE = 624
_MIDDLE = 397
_BITS = 0xFFFFFFFF
_INT31 = 0x7FFFFFFF

_CHECKSUM_START = 112909
_CHECKSUM_BASE = 65713
_CHECKSUM_FACTOR = 1686049

#: Bytes that a word takes while results are drawn from it: the words, the numbers made of them and their order.
_BYTES_A_WORD = 48


def checksums(x: Tensor) -> Tensor:
    """Return the lower 32 bits of faiss's checksum of each row's bytes: float32 (n, d) -> int64 (n,)."""
    d = x.shape[1]
    powers = torch.tensor([pow(_CHECKSUM_BASE, i, 1 << 32) for i in range(d + 1)], dtype=torch.int64, device=x.device)
    words = x.contiguous().view(torch.int32).to(torch.int64)
    # products beyond 64 bits lose bits above the 32 that count
    return ((words * powers[:d] * _CHECKSUM_FACTOR).sum(1) + _CHECKSUM_START * powers[d]) & _BITS


def _seeded(seeds: Tensor) -> Tensor:
    word = seeds & _BITS
    words = [word]
    for i in range(1, _SIZE):
        word = (1812433253 * (word ^ (word >> 30)) + i) & _BITS
        words.append(word)
    return torch.stack(words, dim=1)


def _renew(state: Tensor) -> None:
    for begin, end in ((0, 227), (227, 454), (454, 623), (623, 624)):
        following = state[:, begin + 1 : end + 1] if end < _SIZE else state[:, :1]
        mixed = (state[:, begin:end] & 0x80000000) | (following & _INT31)
        far = state[:, [(i + _MIDDLE) % _SIZE for i in range(begin, end)]]
        state[:, begin:end] = far ^ (mixed >> 1) ^ ((mixed & 1) * 0x9908B0DF)


def words_of(seeds: Tensor, count: int) -> Tensor:
    """Return the first numbers of ``std::mt19937`` for each seed.

    Parameters
    ----------
    seeds : Tensor, int64, shape (n,)
        Their lower 32 bits are used.
    count : int

    Returns
    -------
    Tensor, int64, shape (n, count)
        Numbers of 32 bits.
    """
    state = _seeded(seeds)
    blocks = []
    for _ in range(-(-count // _SIZE)):
        _renew(state)
        z = state ^ (state >> 11)
        z = z ^ ((z << 7) & 0x9D2C5680)
        z = z ^ ((z << 15) & 0xEFC60000)
        blocks.append(z ^ (z >> 18))
    return torch.cat(blocks, dim=1)[:, :count] if blocks else state[:, :0]


def unit_floats(words: Tensor) -> Tensor:
    """Return words as float32 between 0 and 1, both included."""
    return words.to(torch.float32) / 4294967295.0


def distinct_below(words: Tensor, bound: int, k: int) -> tuple[Tensor, Tensor]:
    """Draw numbers below a bound, two words each, until k are different.

    Parameters
    ----------
    words : Tensor, int64, shape (n, w)
    bound, k : int

    Returns
    -------
    numbers : Tensor, int64, shape (n, k)
        In the order in which they were drawn; meaningless for a row whose words did not suffice.
    used : Tensor, int64, shape (n,)
        How many words that took; -1 where they did not suffice.
    """
    pairs = words.shape[1] // 2
    drawn = (words[:, 0 : 2 * pairs : 2] & _INT31) | ((words[:, 1 : 2 * pairs : 2] & _INT31) << 31)
    drawn = drawn % bound
    ordered, order = drawn.sort(dim=1, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    new = torch.zeros_like(first).scatter_(1, order, first)
    rank = new.cumsum(1)
    # the columns of the k first new numbers are in front of those of all others
    columns = torch.where(new & (rank <= k), 0, 1).argsort(dim=1, stable=True)[:, :k]
    used = torch.where(rank[:, -1] >= k, 2 * (columns[:, -1] + 1), -1)
    return drawn.gather(1, columns), used


def random_results(seeds: Tensor, k: int, ntotal: int, similarity: bool) -> tuple[Tensor, Tensor]:
    """Return the results that faiss's IndexRandom makes up: k different labels, and distances in order.

    Parameters
    ----------
    seeds : Tensor, int64, shape (n,)
        For each query.
    k, ntotal : int
        `k` is at most `ntotal`.
    similarity : bool
        Whether distances descend from 0.

    Returns
    -------
    distances : Tensor, float32, shape (n, k)
    labels : Tensor, int64, shape (n, k)
    """
    labels = seeds.new_empty(len(seeds), k)
    steps = torch.empty(len(seeds), k, dtype=torch.float32, device=seeds.device)
    # as many draws as k different numbers take on average, and some more; rows that need more get twice as many
    draws = ntotal * (math.log(ntotal) - math.log(ntotal - k)) if k < ntotal else ntotal * (math.log(ntotal) + 0.6)
    count = k + 2 * (int(1.25 * max(draws, k)) + 32)
    rest = torch.arange(len(seeds), dtype=torch.int64, device=seeds.device)
    while len(rest):
        unfinished = []
        for some in chunks.slices(len(rest), chunks.rows_within(_BYTES_A_WORD * count)):
            rows = rest[some]
            words = words_of(seeds[rows], count)
            numbers, used = distinct_below(words[:, : count - k], ntotal, k)
            done = used >= 0
            labels[rows[done]] = numbers[done]
            behind = used[done, None] + torch.arange(k, dtype=torch.int64, device=seeds.device)
            steps[rows[done]] = unit_floats(words[done].gather(1, behind))
            unfinished.append(rows[~done])
        rest, count = torch.cat(unfinished), 2 * count
    distances = torch.empty_like(steps)
    total = torch.zeros(len(seeds), dtype=torch.float32, device=seeds.device)
    for j in range(k):  # one by one, as faiss rounds
        total = total - steps[:, j] if similarity else total + steps[:, j]
        distances[:, j] = total
    return distances, labels
