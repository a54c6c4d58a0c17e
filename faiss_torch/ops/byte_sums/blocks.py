"""Blocks: 8-bit codes of inverted lists component by component, for lower bounds of scores by weighted sums of rows.

A block holds 128 stored rows x, less a shift, of one list. It is a few *lines* of 128 bytes, each with a scale and an
offset of its own, as fbgemm stores the rows of an 8-bit embedding table::

    line          codes, one a stored row         stands for            weight in a query q
    0 ... d - 1   (x_j - offset) / scale          x~_j                  -q_j
    d, d + 1      of |x|^2 / 2, coarse and fine   at most |x|^2 / 2     1 (0 for the inner product)
    d + 2         of the residual, rounded up     |x - x~| and more     -|q|
    d + 3         1 where no row is, or else 0    0, or a huge number   1
    d + 4         1 for a row left out, or 0      0, or minus that      1

The weighted sum of the lines is ``|x|^2 / 2 - <q, x~> - |q| |x - x~|``, which by Cauchy and Schwarz is a lower bound
of the score ``|x|^2 / 2 - <q, x>``: one operation, the sum of an embedding bag, gives those of all rows of whatever
blocks a query looks at. The query is not rounded, and each component of each block has a scale of its own, so that for
standard normal vectors of 128 components the bound is a twentieth of the scores' deviation below them. What float32
makes of the sums is part of the lines for the squares and for the residual.

A row that is much larger than the others of its block would spoil the scales of all. It is left out of them, and its
bound is below all others.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...constants import FLT_MAX, METRIC_L2
from ..runtime.scripted import scripted
from ..tiles.tile import Frame

#: Rows of a block; it is 2 to the BLOCK_BITS.
BLOCK_ROWS = 128
BLOCK_BITS = BLOCK_ROWS.bit_length() - 1

#: Lines of a block beside those of the components.
MORE_LINES = 5

#: Bytes of a line: the codes, and scale and offset in float32.
LINE_BYTES = BLOCK_ROWS + 8

#: The largest code.
LARGEST = 255

#: A row is left out whose largest component is so many times the median of those of its block, if these are few.
OUTLYING, MOST_OUTLYING = 8.0, 4

#: The bound of what is no row exceeds this; that of a row does not, where no distance overflows.
NO_ROW = FLT_MAX / 4

#: Vectors with larger norms, or of more components, are for other screens: sums of their squares could overflow.
LARGEST_NORM, MOST_COMPONENTS = 1e17, 1 << 16

#: A scale is this much at least: what is smaller is residual.
_SMALLEST_SCALE = 1e-30


class CodeBlocks(NamedTuple):
    """Blocks of the lists of one storage.

    Attributes
    ----------
    codes : Tensor, uint8, shape (nblock * lines, LINE_BYTES)
        The lines of each block: `lines` of them, d + MORE_LINES. Block 0 is empty.
    rows : Tensor, int64, shape (nblock,)
        The stored row that a block begins with.
    firsts, counts : Tensor, int64, shape (nlist + 1,)
        List j has the blocks ``[firsts[j], firsts[j] + counts[j])``. The last entry stands for no list and has none.
    shift : Tensor, float32, shape (d,)
        See `tiles.tile.Frame`, as for `rounding`.
    rounding : float
    """

    codes: Tensor
    rows: Tensor
    firsts: Tensor
    counts: Tensor
    shift: Tensor
    rounding: float


#: Gives the blocks of all lists that a search is to scan, or None where making them does not pay yet. It takes where
#: the lists begin and their sizes, int64, (nlist,), and the lists that are to be scanned, int64, (n,), each as often as
#: it stands there, -1 for none; or None for the blocks of all lists, if all are made; and how often these scans count.
BlocksFor = Callable[[Tensor, Tensor, Tensor | None, int], CodeBlocks | None]


def make_blocks(frame: Frame, vectors: Tensor, used: Tensor) -> Tensor:
    """Encode stored rows.

    Parameters
    ----------
    frame : Frame
    vectors : Tensor, float32, shape (n, BLOCK_ROWS, d)
        Of n blocks, finite, with norms up to LARGEST_NORM. What stands where no row is has to be like the others, to
        spoil no scale.
    used : Tensor, int64, shape (n,)
        How many rows of each block there are, the first ones; 0 of an empty block.

    Returns
    -------
    Tensor, uint8, shape (n, d + MORE_LINES, LINE_BYTES)
    """
    x = vectors - frame.shift
    left_out = _outlying(x)
    x = x.masked_fill_(left_out[:, :, None], 0.0).transpose(1, 2)
    codes, line_facts = _coded(x)
    rounded = codes * line_facts[..., :1] + line_facts[..., 1:]
    residuals = (x - rounded).square_().sum(1)
    squares = x.square().sum(1) if frame.metric_type == METRIC_L2 else torch.zeros_like(residuals)
    coarse, coarse_facts = _coded((squares / 2)[:, None])
    rest = squares[:, None] / 2 - (coarse * coarse_facts[..., :1] + coarse_facts[..., 1:])
    fine, fine_facts = _coded(rest)
    # float32 sums of products err by so much of the sum of the largest products that there may be
    slack = 2 * frame.rounding
    extents = (LARGEST * line_facts[..., 0] + line_facts[..., 1].abs()).square_().sum(1).sqrt_()
    residuals = residuals.sqrt_().mul_(1 + slack) + slack * extents[:, None]
    errors, error_facts = _coded(residuals[:, None])
    # codes are the nearest ones; the offsets see to it that squares are never rounded up, and residuals never down
    sizes = (
        coarse_facts[..., 1].abs() + LARGEST * (coarse_facts[..., 0] + fine_facts[..., 0]) + fine_facts[..., 1].abs()
    )
    fine_facts[..., 1] -= fine_facts[..., 0] * 0.51 + slack * sizes
    error_facts[..., 1] += error_facts[..., 0] * 0.51 + slack * (LARGEST * error_facts[..., 0] + error_facts[..., 1])
    missing = torch.arange(BLOCK_ROWS, dtype=torch.int64, device="cpu") >= used[:, None, None]
    huge = torch.tensor([2 * NO_ROW, 0.0], dtype=torch.float32, device="cpu").expand_as(error_facts)
    facts = torch.cat([line_facts, coarse_facts, fine_facts, error_facts, huge, -huge], 1)
    below_all = left_out[:, None].logical_and(~missing)
    lines = torch.cat([each.to(torch.uint8) for each in (codes, coarse, fine, errors, missing, below_all)], 1)
    return torch.cat([lines, facts.contiguous().view(torch.uint8)], 2)


def _outlying(x: Tensor) -> Tensor:
    """Which rows of blocks, (n, BLOCK_ROWS, d), are to be left out: bool, (n, BLOCK_ROWS)."""
    largest = x.abs().amax(2)
    outlying = largest > OUTLYING * largest.median(1, keepdim=True).values
    return outlying.logical_and_(outlying.sum(1, keepdim=True) <= MOST_OUTLYING)


def _coded(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Round lines of values to codes of their own scale and offset: (n, m, BLOCK_ROWS) and (n, m, 2)."""
    offsets, largest = lines.aminmax(dim=2, keepdim=True)
    scales = ((largest - offsets) / LARGEST).clamp_(min=_SMALLEST_SCALE)
    return (lines - offsets).div_(scales).round_().clamp_(0, LARGEST), torch.cat([scales, offsets], 2)


@scripted
def members_of(firsts: Tensor, counts: Tensor, total: int) -> Tensor:
    """Concatenate ``range(first, first + count)``, `total` numbers in all: see `ragged.ranges`."""
    begins = firsts + counts - counts.cumsum(0)
    begins = torch.repeat_interleave(begins, counts, output_size=total)
    return torch.arange(total, dtype=torch.int64, device="cpu").add_(begins)


@scripted
def weights_of(x: Tensor, blocks: CodeBlocks, similarity: bool) -> Tensor:
    """Return the weights of the lines in queries less the shift, float32, (n, d): (n, d + MORE_LINES)."""
    n = x.size(0)
    of_squares = x.new_full([n, 2], 0.0 if similarity else 1.0)
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True).mul_(-1 - blocks.rounding)
    return torch.cat([x.neg(), of_squares, norms, x.new_ones([n, 2])], 1)


@scripted
def weighted_sums(lines: Tensor, which: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    """Sum lines, uint8, (n, LINE_BYTES): those that are named, int64, (m,), with weights, float32, (m,).

    Sum i, of float32, (sums, BLOCK_ROWS), begins at place ``begins[i]`` among them.
    """
    return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        lines, which, begins, False, 0, False, weights, None, False
    )


@scripted
def bounds_of(weights: Tensor, chosen: Tensor, owners: Tensor | None, blocks: CodeBlocks) -> Tensor:
    """Return lower bounds of scores.

    Parameters
    ----------
    weights : Tensor, float32, shape (n, lines)
        Of queries: see `weights_of`.
    chosen : Tensor, int64, shape (m,)
        Blocks.
    owners : Tensor, int64, shape (m,), or None
        The query that looks at each, where there are several.
    blocks : CodeBlocks

    Returns
    -------
    Tensor, float32, shape (m, BLOCK_ROWS)
        Of the rows of these blocks; over NO_ROW where there is none.
    """
    m, lines = chosen.size(0), weights.size(1)
    each = weights.expand(m, lines) if owners is None else weights.index_select(0, owners)
    which = torch.add(torch.arange(lines, dtype=torch.int64, device="cpu"), chosen.unsqueeze(1), alpha=lines)
    begins = torch.arange(0, m * lines, lines, dtype=torch.int64, device="cpu")
    return weighted_sums(blocks.codes, which.view(-1), begins, each.reshape(-1))
