"""ScalarQuantizer: each component of a vector by itself, in 4, 6, 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ... import border
from ...attributes import CheckedAttributes, Size, integer
from ...border import Array
from ...ops.codecs import bits as packing
from ...ops.codecs import scalar
from ...ops.codecs.steps import MIDDLE, Steps, by_integers
from ...ops.runtime import chunks, workers
from ...ops.scoring.residual import Residuals
from ...ops.scoring.scorers import Scorer
from ...ops.scoring.stored import Stored
from ...placeholders import not_offered
from ...wrapper.ownership import Owned
from ...wrapper.pointers import Pointer, table
from ...wrapper.vectors import Float32Vector
from .codec import Codec

_CPU = torch.device("cpu")


class _Steps(Codec):
    """Components as integers in ranges.

    Parameters
    ----------
    d, bits : int
    vmin, vdiff : Tensor, float32, shape (d,) or (1,)
    known_as : tuple
        Tells codecs apart.
    """

    def __init__(self, d: int, bits: int, vmin: Tensor, vdiff: Tensor, known_as: tuple[object, ...]) -> None:
        self.d, self.code_size = d, (d * bits + 7) // 8
        self._bits, self._levels = bits, (1 << bits) - 1
        self._vmin, self._vdiff, self._known_as = vmin, vdiff, known_as
        self._scale, self._offset = (each.expand(d) for each in scalar.steps_of(vmin, vdiff, self._levels))
        self._steps = Steps(self._scale, self._offset + MIDDLE * self._scale)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Steps) and self._known_as == other._known_as

    __hash__ = None  # type: ignore[assignment]

    def encode(self, x: Tensor) -> Tensor:
        codes = torch.empty(len(x), self.code_size, dtype=torch.uint8, device=x.device)
        for part in chunks.slices(len(x), chunks.rows_within(16 * self.d)):
            integers = scalar.encode(x[part], self._vmin, self._vdiff, self._levels)
            codes[part] = packing.pack(integers, self._bits)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        x = torch.empty(len(codes), self.d, dtype=torch.float32, device=codes.device)
        for part in chunks.slices(len(codes), chunks.rows_within(16 * self.d)):
            integers = packing.unpack(codes[part], self._bits, self.d)
            x[part] = scalar.decode(integers, self._vmin, self._vdiff, self._levels)
        return x

    def decoder(self) -> Callable[[Tensor], Tensor]:
        return self._nearly

    def scorer(
        self,
        xq: Tensor,
        stored: Stored,
        metric_type: int,
        metric_arg: float = 0.0,
        residuals: Residuals | None = None,
    ) -> Scorer:
        found = super().scorer(xq, stored, metric_type, metric_arg, residuals)
        return found if self._bits != 8 else by_integers(found, self._steps)

    def _nearly(self, codes: Tensor) -> Tensor:
        """As `decode`, but for rounding: a scan asks for this, and a multiplication and an addition are enough."""
        integers = packing.unpack(codes, self._bits, self.d).to(torch.float32)
        return torch.addcmul(self._offset, integers, self._scale, out=integers)


class _Numbers(Codec):
    """Components as numbers of a dtype, which a scan reads as they are.

    Parameters
    ----------
    d : int
    dtype : torch.dtype
        float16, bfloat16, uint8 or int8: of integers, what is before the point, and of that the last 8 bits.
    """

    def __init__(self, d: int, dtype: torch.dtype) -> None:
        self.d, self.dtype, self.code_size = d, dtype, d * dtype.itemsize

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Numbers) and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]

    def encode(self, x: Tensor) -> Tensor:
        if self.dtype == torch.float16:
            return scalar.halves(x).view(torch.uint8)
        if self.dtype == torch.bfloat16:
            return scalar.brain_floats(x).view(torch.uint8)
        moved = x.nan_to_num(nan=0.0).add_(128.0 if self.dtype == torch.int8 else 0.0)
        return moved.to(torch.int32).to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        x = self.rows(codes).to(torch.float32)
        return x.sub_(128.0) if self.dtype == torch.int8 else x

    def rows(self, stored: Tensor) -> Tensor:
        # a signed byte is stored with 128 added, and is no number of its dtype
        return stored if self.dtype == torch.int8 else stored.view(self.dtype)

    def decoder(self) -> Callable[[Tensor], Tensor] | None:
        return self.decode if self.dtype == torch.int8 else None


class _Nothing(Codec):
    """No code: a vector is the centroid of its list."""

    def __init__(self, d: int) -> None:
        self.d, self.code_size = d, 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Nothing)

    __hash__ = None  # type: ignore[assignment]

    def encode(self, x: Tensor) -> Tensor:
        return torch.empty(len(x), 0, dtype=torch.uint8, device=x.device)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.zeros(len(codes), self.d, dtype=torch.float32, device=codes.device)


class ScalarQuantizer(Owned, CheckedAttributes):
    """Quantises each component by itself.

    Parameters
    ----------
    d : int
    qtype : int
        One of the ``QT_*`` numbers.

    Attributes
    ----------
    d : int
    code_size : int
        Bytes of a code.
    qtype : int
    bits : int
        Bits of a component.
    rangestat : int
        How training chooses the range of values: ``RS_minmax``, ``RS_meanstd``, ``RS_quantiles`` or ``RS_optim``.
    rangestat_arg : float
        What that takes: a share of the range, standard deviations, or a quantile.
    trained : Float32Vector
        The ranges: all smallest values, and then all differences; empty where there is nothing to learn.

    Raises
    ------
    RuntimeError
        If there is no such type, or it is not offered.
    """

    QT_8bit, QT_4bit, QT_8bit_uniform, QT_4bit_uniform, QT_fp16, QT_8bit_direct, QT_6bit, QT_bf16 = range(8)
    QT_8bit_direct_signed, QT_0bit = 8, 9
    QT_1bit_tqmse, QT_2bit_tqmse, QT_3bit_tqmse, QT_4bit_tqmse, QT_8bit_tqmse = range(10, 15)
    QT_2bit_tq, QT_3bit_tq, QT_4bit_tq, QT_5bit_tq = range(15, 19)
    QT_1bit_eden, QT_2bit_eden, QT_3bit_eden, QT_4bit_eden = range(19, 23)
    QT_5bit_eden, QT_6bit_eden, QT_7bit_eden, QT_8bit_eden = range(23, 27)
    QT_count = 27
    RS_minmax, RS_meanstd, RS_quantiles, RS_optim = range(4)

    d: Size
    code_size: Size
    qtype: int
    bits: Size
    rangestat: int
    rangestat_arg: float
    trained: Float32Vector
    _codec: _Steps | None

    _objects: ClassVar[dict[str, type]] = {"trained": Float32Vector}

    #: Bits of a component, of the types that are offered.
    _BITS: ClassVar[dict[int, int]] = {
        QT_8bit: 8,
        QT_4bit: 4,
        QT_8bit_uniform: 8,
        QT_4bit_uniform: 4,
        QT_fp16: 16,
        QT_8bit_direct: 8,
        QT_6bit: 6,
        QT_bf16: 16,
        QT_8bit_direct_signed: 8,
        QT_0bit: 0,
    }
    _UNIFORM: ClassVar[tuple[int, ...]] = (QT_8bit_uniform, QT_4bit_uniform)
    #: The largest integer, of the types with ranges; and the dtype of the numbers of the others.
    _LEVELS: ClassVar[dict[int, int]] = {
        QT_8bit: 255,
        QT_4bit: 15,
        QT_8bit_uniform: 255,
        QT_4bit_uniform: 15,
        QT_6bit: 63,
    }
    _NUMBERS: ClassVar[dict[int, torch.dtype]] = {
        QT_fp16: torch.float16,
        QT_bf16: torch.bfloat16,
        QT_8bit_direct: torch.uint8,
        QT_8bit_direct_signed: torch.int8,
    }

    def __init__(self, d: int = 0, qtype: int = QT_8bit) -> None:
        self.d = d
        self.qtype = integer(qtype, "qtype", 32)
        self.rangestat = self.RS_minmax
        self.rangestat_arg = 0.0
        self.trained = Float32Vector()
        self._codec = None
        self.set_derived_sizes()

    def set_derived_sizes(self) -> None:
        """Set `bits` and `code_size` by the type and the width."""
        if self.qtype not in self._BITS:
            names = [name for name in dir(type(self)) if name.startswith("QT_") and getattr(self, name) == self.qtype]
            if not names:
                raise RuntimeError(f"qtype is {self.qtype}, expected one of ScalarQuantizer.QT_*")
            raise not_offered(f"ScalarQuantizer.{names[0]}", "types of TurboQuant and EDEN come in a later version")
        self.bits = self._BITS[self.qtype]
        self.code_size = (self.d * self.bits + 7) // 8

    def needs_training(self) -> bool:
        """Whether there are ranges to be learnt."""
        return self.qtype in self._LEVELS

    def numbers_to_learn(self) -> int:
        """How many numbers `trained` has after training."""
        return 0 if not self.needs_training() else 2 if self.qtype in self._UNIFORM else 2 * self.d

    def __getstate__(self) -> dict[str, object]:
        # the codec is made again when it is needed
        return {**self.__dict__, "_codec": None}

    def codec(self, device: torch.device | None = None) -> Codec:
        """Return what the engine knows of codes.

        Parameters
        ----------
        device : torch.device, optional
            Where vectors and codes are; the default is the CPU.

        Raises
        ------
        RuntimeError
            If there are ranges to be learnt, and they are not.
        """
        if self.qtype == self.QT_0bit:
            return _Nothing(self.d)
        if self.qtype in self._NUMBERS:
            return _Numbers(self.d, self._NUMBERS[self.qtype])
        ranges = self.trained.array
        wanted = self.numbers_to_learn()
        if len(ranges) != wanted:
            raise RuntimeError(f"the scalar quantizer is not trained: it has {len(ranges)} of {wanted} numbers")
        device = _CPU if device is None else device
        known_as = self.qtype, self.d, device, ranges.tobytes()
        if self._codec is None or self._codec._known_as != known_as:
            vmin, vdiff = torch.tensor(ranges, dtype=torch.float32, device=device).view(2, -1)
            self._codec = _Steps(self.d, self.bits, vmin, vdiff, known_as)
        return self._codec

    def learn(self, x: Tensor) -> None:
        """Learn the ranges of vectors: float32, (n, d). Errors as of `train`."""
        if self.qtype not in self._LEVELS:
            return
        if not len(x):
            raise RuntimeError("training a scalar quantizer takes at least one vector, got none")
        levels, how = self._LEVELS[self.qtype], (self.rangestat, self.rangestat_arg)
        if self.qtype in self._UNIFORM:
            ranges = torch.tensor(scalar.range_of_all(x, *how, levels), dtype=torch.float32, device="cpu")
        else:
            ranges = torch.cat(scalar.ranges_of_components(x, *how, levels)).cpu()
        self.trained = Float32Vector(ranges.numpy())

    # faiss's verbs

    @border.crossing
    def train(self, x: Array) -> None:
        """Learn the ranges of values.

        Parameters
        ----------
        x : array, shape (n, d)

        Raises
        ------
        RuntimeError
            If there are no vectors, or `rangestat` is none of the ``RS_*`` numbers.
        """
        workers.conduct(lambda: self.learn(border.vectors_in(x, self.d, _CPU)[0]), _CPU, (x,))

    @border.crossing
    def compute_codes(self, x: Array) -> Array:
        """Quantise vectors.

        Parameters
        ----------
        x : array, shape (n, d)

        Returns
        -------
        array of uint8, shape (n, code_size)

        Raises
        ------
        RuntimeError
            If there are ranges to be learnt, and they are not.
        """

        def computed() -> Array:
            vectors, kind = border.vectors_in(x, self.d, _CPU)
            return kind.out(self.codec().encode(vectors))

        return workers.conduct(computed, _CPU, (x,))

    @border.crossing
    def decode(self, codes: Array) -> Array:
        """Return the vectors that codes stand for: uint8, (n, code_size) -> float32, (n, d). Errors as above."""

        def computed() -> Array:
            given, kind = border.codes_in(codes, self.code_size, _CPU)
            return kind.out(self.codec().decode(given))

        return workers.conduct(computed, _CPU, (codes,))

    def train_c(self, n: int, x: Pointer) -> None:
        """`train` on x, float32 [n, d]."""
        self.train(table(x, (n, self.d), "float32", "train_c"))

    def compute_codes_c(self, x: Pointer, codes: Pointer, n: int) -> None:
        """`compute_codes` of x, float32 [n, d], into codes, uint8 [n, code_size]."""
        found = self.compute_codes(table(x, (n, self.d), "float32", "compute_codes_c"))
        table(codes, (n, self.code_size), "uint8", "compute_codes_c")[...] = found

    def decode_c(self, code: Pointer, x: Pointer, n: int) -> None:
        """`decode` of code, uint8 [n, code_size], into x, float32 [n, d]."""
        codes = table(code, (n, self.code_size), "uint8", "decode_c")
        table(x, (n, self.d), "float32", "decode_c")[...] = self.decode(codes)
