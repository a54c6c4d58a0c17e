"""What a scan reads: stored rows, and inverted lists of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...constants import METRIC_L2
from ..runtime import chunks
from ..runtime.scripted import scripted
from .ragged import entries_at

if TYPE_CHECKING:
    from ..byte_sums.blocks import BlocksFor
    from ..gpu.search import RoundedFor
    from ..tiles.tile_set import TilesFor


#: Rows of a stored list come in multiples of this (the last ones unused), so that its blocks have one shape.
BLOCK = 16


#: Bytes of the candidates that are gathered at once for their true distances: on the CPU what stays in a core's cache.
GATHER_BYTES = {"cpu": 2 << 20}


def rows_to_gather(bytes_per_row: int, device: torch.device) -> int:
    """Return how many rows of such a size are gathered at once: at least 1."""
    return chunks.rows_within(bytes_per_row, GATHER_BYTES.get(device.type, chunks.TEMPORARY_BYTES))


class Stored(NamedTuple):
    """What a scan reads of stored vectors.

    Attributes
    ----------
    vectors : Tensor, float32, float16, bfloat16, int8 or uint8, shape (capacity, d); or codes, uint8
        All rows finite, or `finite` is False. What is not float32 is converted tile by tile, as it is read.
    bias : Tensor, float32, shape (capacity,)
        See the module's text; +inf in rows that are not to be found. Vectors of the caller's own may be fewer, by less
        than a `BLOCK`.
    largest_norm : float
        An upper bound of the norms.
    finite : bool
        Whether every stored vector is finite.
    rows : Tensor, int64, or None
        Where only some of the vectors are scanned: which. The scan's row j is then ``vectors[rows[j]]``, gathered
        tile by tile, and `bias` is that of row j.
    decode : callable or None
        Gives the vectors of codes, where `vectors` holds codes: uint8, (n, code_size) -> float32, (n, d), new ones.
        What it makes of a component may be two roundings from the truth.
    decode_exactly : callable or None
        The same without that, for the few rows whose true distances are wanted.
    """

    vectors: Tensor
    bias: Tensor
    largest_norm: float
    finite: bool
    rows: Tensor | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    decode_exactly: Callable[[Tensor], Tensor] | None = None

    @property
    def is_made_up(self) -> bool:
        """Whether `part` makes a copy: then the rows asked for at a time have to be few."""
        return self.rows is not None or self.vectors.dtype != torch.float32 or self._is_short

    def _vectors_of(self, rows: Tensor, exactly: bool) -> Tensor:
        if self.decode is None:
            return rows.to(torch.float32)
        return (self.decode_exactly or self.decode)(rows) if exactly else self.decode(rows)

    @property
    def _is_short(self) -> bool:
        return len(self.vectors) < len(self.bias)

    def part(self, begin: int, end: int, exactly: bool = False) -> Tensor:
        """Vectors of rows [begin, end): float32, (end - begin, d); by `decode_exactly` if that is asked for."""
        if self.rows is None:
            found = self._vectors_of(self.vectors[begin:end], exactly)
            missing = end - begin - len(found)
            return torch.nn.functional.pad(found, (0, 0, 0, missing)) if missing else found
        return self._vectors_of(self.vectors.index_select(0, self.rows[begin:end]), exactly)

    def codes(self, begin: int, end: int) -> Tensor:
        """Rows [begin, end) as they are stored."""
        return self.vectors[begin:end] if self.rows is None else self.vectors.index_select(0, self.rows[begin:end])

    def at(self, positions: Tensor) -> Tensor:
        """Vectors of some rows: int64, any shape -> float32, (*shape, d). A tensor of the caller's own."""
        chosen = positions.reshape(-1) if self.rows is None else self.rows[positions.reshape(-1)]
        if self._is_short:
            chosen = chosen.clamp(max=len(self.vectors) - 1)
        found = self._vectors_of(self.vectors.index_select(0, chosen), exactly=True)
        return found.view(*positions.shape, found.shape[1])

    def stored_rows(self, positions: Tensor) -> Tensor:
        """Rows of `vectors` that rows of the scan stand for; -1 stays -1."""
        return positions if self.rows is None else entries_at(self.rows, positions)


def bias_of(vectors: Tensor, metric_type: int) -> Tensor:
    """Return the bias of vectors that are to be found: shape (n,)."""
    if metric_type == METRIC_L2:
        return vectors.square().sum(-1).mul_(0.5)
    return vectors.new_zeros(len(vectors))


#: On the CPU, rows of lists are gathered where the lists have fewer than this on average: reading one where it lies
#: costs a few microseconds, however short it is.
SHORT_LIST = 64


class Lists(NamedTuple):
    """Inverted lists in one storage.

    Attributes
    ----------
    stored : Stored
        The rows of all lists.
    begins : Tensor, int64, CPU, shape (nlist,)
        List j holds the rows ``[begins[j], begins[j] + sizes[j])``; its room is a multiple of `scoring.stored.BLOCK`.
    sizes : Tensor, int64, CPU, shape (nlist,)
    ids : Tensor, int64, shape (capacity,)
        The id of each row.
    counts : Tensor, int64, CPU, shape (nlist,), or None
        How many rows of each list can be found, where a filter leaves fewer of them than the sizes say.
    whole_sizes : Tensor, int64, CPU, shape (nlist,), or None
        What the sizes were, where a filter made them fewer.
    tiles_for, blocks_for : callable or None
        Give tiles and blocks of the lists, where whole lists are scanned.
    rounded_for : RoundedFor or None
        Gives the rows in 16 bits: see `list_minima`.
    needed_for : callable or None
        Gives the selector of the entries that a search for k neighbours needs, where many are equal; else None.
    there : tuple of two Tensors, or None
        `begins` and `sizes` on the device of the rows, where these are known there.
    """

    stored: Stored
    begins: Tensor
    sizes: Tensor
    ids: Tensor
    counts: Tensor | None = None
    whole_sizes: Tensor | None = None
    tiles_for: TilesFor | None = None
    blocks_for: BlocksFor | None = None
    rounded_for: RoundedFor | None = None
    needed_for: Callable[[int], Any] | None = None
    there: tuple[Tensor, Tensor] | None = None

    @property
    def begins_there(self) -> Tensor:
        """The begins on the device of the rows."""
        return self.begins.to(self.ids.device) if self.there is None else self.there[0]

    @property
    def sizes_there(self) -> Tensor:
        """The sizes on the device of the rows."""
        return self.sizes.to(self.ids.device) if self.there is None else self.there[1]

    def without_screens(self) -> Lists:
        """The same for a scan that looks at parts of lists, or is not to go by lists."""
        return self._replace(tiles_for=None, blocks_for=None)


def allowed_rows(probes: Tensor, sizes: Tensor, max_codes: int) -> Tensor:
    """How many rows of each probed list a query may look at.

    Parameters
    ----------
    probes : Tensor, int64, shape (nq, nprobe)
        -1 for no list.
    sizes : Tensor, int64, shape (nlist,)
    max_codes : int
        Rows that a query may look at in all, in the order of its probes; 0 for no limit.

    Returns
    -------
    Tensor, int64, shape (nq, nprobe)
    """
    rows = sizes.to(probes.device)[probes.clamp(min=0)].masked_fill_(probes < 0, 0)
    if max_codes:
        before = rows.cumsum(1) - rows
        rows = torch.minimum(rows, (max_codes - before).clamp_(min=0))
    return rows


@scripted
def rows_of_probes(probes: Tensor, sizes: Tensor) -> tuple[Tensor, int, int]:
    """Return `allowed_rows` without a limit, how many of the probed lists have rows, and how many rows these are."""
    rows = sizes.index_select(0, probes.clamp(min=0).view(-1)).view_as(probes).masked_fill_(probes < 0, 0)
    return rows, int(rows.count_nonzero()), int(rows.sum())
