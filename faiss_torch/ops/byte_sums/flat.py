"""Exact search of one query or two among all stored rows, in blocks of codes: see `blocks` and `lists`.

The rows are runs, as those of `tiles.flat`, and a query looks at all of them. A product of so few queries takes as long
as the vectors take to come from memory, and the codes of the blocks are a quarter of these bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...constants import METRIC_INNER_PRODUCT
from ..scoring.stored import Stored
from ..tiles.flat import RUN
from . import lists as list_byte_sums
from .blocks import BlocksFor
from .loops import MOST_ROWS, Storage
from .measured import sums_lines

#: Up to so many queries are searched so, of which k are this part of the rows at most.
FEW_QUERIES, LARGEST_SHARE = 2, 1 / 16

#: Rows, and components of all rows, from which on they are searched so: fewer are read as fast as they are.
FEWEST_ROWS, FEWEST_COMPONENTS = 1 << 12, 3 << 19


def search(
    xq: Tensor, stored: Stored, n: int, k: int, metric_type: int, blocks_for: BlocksFor | None
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Return the k closest of the first n stored rows.

    Parameters
    ----------
    xq : Tensor, float32, shape (nq, d)
        nq at least 1.
    stored : Stored
    n, k : int
    metric_type : int
    blocks_for : callable or None
        See `byte_sums.blocks.BlocksFor`.

    Returns
    -------
    distances, positions, left
        As `list_byte_sums.search`.

    None comes back where the search is not to be screened so.
    """
    if len(xq) > FEW_QUERIES or blocks_for is None or not FEWEST_ROWS <= n <= MOST_ROWS or k > LARGEST_SHARE * n:
        return None
    if n * xq.shape[1] < FEWEST_COMPONENTS:
        return None
    if not (list_byte_sums.suits_rows(stored, metric_type) and sums_lines(xq.device)):
        return None
    begins = torch.arange(0, n, RUN, dtype=torch.int64, device="cpu")
    runs = torch.arange(len(begins), dtype=torch.int64, device="cpu")
    blocks = blocks_for(begins, (n - begins).clamp_(max=RUN), runs, len(xq))
    if blocks is None:
        return None
    storage = Storage(stored.vectors, None, stored.largest_norm, metric_type == METRIC_INNER_PRODUCT, None)
    return list_byte_sums.search_storage(xq, runs.expand(len(xq), -1).contiguous(), blocks, storage, k)
