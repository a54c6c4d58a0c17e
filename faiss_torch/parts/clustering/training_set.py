"""What k-means works on: training vectors, plain or encoded, on the device that works on them or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ... import kernels
from ...ops.clustering import steps
from ...ops.clustering.centroid_update import ClusterSums
from ...ops.runtime import chunks, memory, transfer

#: Dtypes beside float32 that kernels read; vectors of others are cast as they come to a device.
SHORT = (torch.float16, torch.bfloat16)

#: A budget has room for so many portions at least, unless these are of so few vectors.
PORTIONS_OF_BUDGET = 8
FEW_VECTORS = 256

#: Bytes that a step of k-means needs for each vector beside the vector.
BYTES_BESIDE = 64


class TrainingSet:
    """Training vectors, plain or encoded; both kinds are read by rows.

    Parameters
    ----------
    x : Tensor, shape (n, d), of any real dtype; or uint8, shape (n, code_size)
        On any device.
    weights : Tensor, float32, shape (n,), or None
    device : torch.device
        Which works on the vectors.
    decode : callable, optional
        Turns codes to vectors; None where `x` are vectors.
    block : int
        Rows decoded at a time.

    Attributes
    ----------
    is_part : bool
        Whether other processes have more of the vectors.
    """

    is_part = False

    def __init__(
        self,
        x: Tensor,
        weights: Tensor | None,
        device: torch.device,
        decode: Callable[[Tensor], Tensor] | None = None,
        block: int = 1,
    ) -> None:
        self.x = x
        self.weights = weights
        self.device = device
        self.decode = decode
        self.block = block
        self._resident: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def finite(self) -> bool:
        """Whether the vectors, as float32, hold neither NaN nor infinity; codes are not looked at."""
        if self.decode is not None or self.device.type == "cpu" or self.x.device.type != "cpu":
            return self.decode is not None or steps.all_finite(self.x)
        # the device reads them much faster than one thread here
        dtype = self.x.dtype if self.x.dtype in SHORT else torch.float32
        with transfer.Carrier.of_all(self.x, dtype, self.device) as carrier:
            return all(steps.all_finite(vectors) for _, vectors in carrier)

    def subset(self, positions: Tensor) -> TrainingSet:
        """Some of the vectors with their weights."""
        return self._part(positions.to(self.x.device))

    def vectors(self, positions: Tensor | None = None) -> Tensor:
        """Vectors, all or some, as float32 on the device."""
        rows = self.x if positions is None else self.x[positions.to(self.x.device)]
        return (rows if self.decode is None else self.decode(rows)).to(self.device, torch.float32)

    def combined(self, clusters: ClusterSums, obj: float) -> tuple[ClusterSums, float]:
        """Return what all processes know of the clusters, and the objective of all vectors."""
        return clusters, obj

    def shared_out(self, devices: Sequence[torch.device], budget: int | None) -> list[TrainingSet]:
        """Share the vectors out, and bring to each device what has room there for the whole training.

        Parameters
        ----------
        devices : sequence of torch.device
        budget : int or None
            Bytes that the vectors may take on each; None for half of what is free.

        Returns
        -------
        list of TrainingSet
            As many as there are devices, or vectors.
        """
        rows = max(1, -(-len(self.x) // len(devices)))
        shares = [self._part(part) for part in chunks.slices(len(self.x), rows)] or [self._part(slice(0, 0))]
        for share, device in zip(shares, devices, strict=False):
            share._place(device, budget)
        return shares

    def _part(self, positions: Tensor | slice) -> TrainingSet:
        weights = self.weights
        if weights is not None:
            weights = weights[positions.to(weights.device) if isinstance(positions, Tensor) else positions]
        return TrainingSet(self.x[positions], weights, self.device, self.decode, self.block)

    def _place(self, device: torch.device, budget: int | None) -> None:
        """Bring to a device what has room there."""
        self.device = device
        if self.weights is not None:
            self.weights = self.weights.to(device)
        if self.decode is not None:
            return
        kept = SHORT if kernels.chosen("nearest", device) else ()
        dtype = self.x.dtype if self.x.dtype in kept else torch.float32
        if self.x.device == device and self.x.dtype == dtype:
            self._resident = self.x.contiguous()
            return
        budget = memory.free_bytes(device) // 2 if budget is None else budget
        row_bytes = max(1, self.x.shape[1] * dtype.itemsize)
        rows = len(self.x)
        if rows * row_bytes > budget:
            portion = chunks.rows_within(row_bytes, min(transfer.PORTION_BYTES, budget // PORTIONS_OF_BUDGET))
            self.block = max(FEW_VECTORS, portion)
            rows = max(0, budget // row_bytes - transfer.SLOTS * self.block)
        self._resident = transfer.copied(self.x[:rows], dtype, device)

    @property
    def whole(self) -> Tensor | None:
        """All vectors, where they are on the device; None where they come in several portions."""
        resident = self._resident
        if resident is None or len(resident) < len(self.x) or len(resident) > self._most_rows():
            return None
        return resident

    def portions(self) -> Iterator[tuple[slice, Tensor]]:
        """Go through all vectors once.

        Yields
        ------
        rows : slice
        vectors : Tensor, float32, float16 or bfloat16, shape (rows, d)
            On the device. They may be overwritten when the next ones are asked for.
        """
        begin = 0 if self._resident is None else len(self._resident)
        rest = chunks.slices(len(self.x) - begin, self.block)
        slices = [slice(part.start + begin, part.stop + begin) for part in rest]
        if self.decode is not None:
            yield from ((rows, self.decode(self.x[rows]).to(self.device)) for rows in slices)
            return
        dtype = torch.float32 if self._resident is None else self._resident.dtype
        # the first ones are under way while the device works on those that it has
        with transfer.Carrier(self.x, slices, dtype, self.device) as carrier:
            if self._resident is not None:
                for rows in chunks.slices(begin, self._most_rows()):
                    yield rows, self._resident[rows]
            yield from carrier

    def _most_rows(self) -> int:
        """Vectors that a step of k-means may work on at once."""
        if self.device.type == "cpu":  # where every step has tiles of its own
            return max(1, len(self.x))
        return chunks.rows_within(BYTES_BESIDE, max(memory.free_bytes(self.device) // 4, transfer.PORTION_BYTES))
