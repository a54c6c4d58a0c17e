"""faiss's index server and its client, which are not offered.

Its server takes pickles from a socket that anybody may connect to. To search on several machines, serve an index with a
library made for that, or search in the processes of ``torch.distributed``; `ResultHeap` merges what they found. The
names can be imported, and raise when they are used.
"""

from __future__ import annotations

from ..placeholders import names_of_module

__getattr__ = names_of_module(
    __name__,
    "its server takes pickles from anybody: serve an index with a library made for that, or use torch.distributed",
    "ClientIndex SearchServer",
    "run_index_server",
)
