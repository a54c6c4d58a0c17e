"""What tests run in processes started by spawn or forkserver, which import it by the name of its module."""

from __future__ import annotations


def add_and_put(index, x, queue):
    index.add(x)
    queue.put(index)
