"""Blocks: int8 codes of inverted lists row by row, for products with one query.

The codes are those of `int8_tiles`, with their step sizes and bounds; but a list is some blocks of 64 rows, in one
tensor that holds all lists. The blocks of whatever lists a query looks at are copied to one place, where they are one
factor of one product.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .scripted import scripted
from .tiles import MULTIPLE

#: Rows of a block: those of a tile come in multiples of it. It is 2 to the BLOCK_BITS.
BLOCK_ROWS = MULTIPLE
BLOCK_BITS = BLOCK_ROWS.bit_length() - 1


class CodeBlocks(NamedTuple):
    """Blocks of the lists of one storage.

    Attributes
    ----------
    codes : Tensor, int8, shape (nblock, BLOCK_ROWS * width)
        The codes of each block, row by row. Rows that are not used, or hidden, have the largest score that codes can
        have with zeros as components.
    steps, offsets : Tensor, float32, shape (nblock,)
        Those of the tile that a block is a part of: see `tile_screen.Errors`.
    used : Tensor, int64, shape (nblock,)
        Rows of the block that are used, the first ones.
    rows : Tensor, int64, shape (nblock,)
        The stored row that a block begins with.
    firsts, counts : Tensor, int64, shape (nlist + 1,)
        List j has the blocks ``[firsts[j], firsts[j] + counts[j])``. The last entry stands for no list and has none.
    hidden_rows : Tensor, int64
        Stored rows that would spoil their tiles, by list: every query that looks at the list looks at them.
    hidden_firsts, hidden_counts : Tensor, int64, shape (nlist + 1,)
        Those of list j, as for the blocks.
    shift : Tensor, float32, shape (d,)
        See `tiles.Frame`, as for `rounding`.
    norm_in_steps, residual_in_steps : float
        The largest, over all tiles, of the norms and residuals in steps of the tile.
    doubt : float
        See `tile_screen.doubt_of`.
    width : int
        Components of a code: d and `digits`.
    digits : int
    ratio, rounding : float
        See `int8_tiles`.
    """

    codes: Tensor
    steps: Tensor
    offsets: Tensor
    used: Tensor
    rows: Tensor
    firsts: Tensor
    counts: Tensor
    hidden_rows: Tensor
    hidden_firsts: Tensor
    hidden_counts: Tensor
    shift: Tensor
    norm_in_steps: float
    residual_in_steps: float
    doubt: float
    width: int
    digits: int
    ratio: float
    rounding: float


#: Gives the blocks of all lists that a search is to scan, or None where making them does not pay yet. It takes where
#: the lists begin and their sizes, int64, (nlist,), and the lists that are to be scanned, int64, (n,), each as often as
#: it stands there, -1 for none; or None for the blocks of all lists, if all are made; and how often these scans count.
BlocksFor = Callable[[Tensor, Tensor, Tensor | None, int], CodeBlocks | None]


@scripted
def members_of(firsts: Tensor, counts: Tensor, total: int) -> Tensor:
    """Concatenate ``range(first, first + count)``, `total` numbers in all: see `lists.ranges`."""
    begins = firsts + counts - counts.cumsum(0)
    return torch.arange(total).add_(torch.repeat_interleave(begins, counts, output_size=total))
