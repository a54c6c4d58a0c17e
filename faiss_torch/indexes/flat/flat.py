"""IndexFlat: the vectors themselves, searched exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...attributes import integer
from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...ops.clustering.nearest import Carried, nearest, nearest_labels
from ...ops.gpu import search as gpu_search
from ...ops.gpu.search import Rows
from ...ops.runtime import chunks, workers
from ...ops.scoring.small import SmallSet, small_set
from ...ops.search import flat
from ...parts.codecs.floats import FloatCodec, recoded, stored_size
from ...parts.growing import copied
from ...parts.params import SearchParameters
from ...parts.screens.facts import RowFacts
from ...wrapper.pointers import Pointer
from ...wrapper.vectors import Int64Vector
from ..base import Index
from .flat_codes import IndexFlatCodes

#: Up to this many stored vectors, one query for the nearest is worth the set-up of `nearest`; those that are not stored
#: as float32 take it up to this many only, for what it does in float64 it does with all.
FEW_STORED = 8192


class FlatAssignment:
    """Finds the nearest of the vectors that a flat index held at one time, whatever it holds later.

    Attributes
    ----------
    products : int
        Factors that are multiplied to find the nearest one.
    device : torch.device
    dtype : torch.dtype
        In which the index stores vectors.
    """

    def __init__(self, facts: RowFacts, centroids: tuple[Tensor, int, Tensor, float]) -> None:
        self._facts, self._centroids = facts, centroids
        self._ntotal = len(centroids[0])
        self.products = centroids[0].numel()
        self.device, self.dtype = centroids[0].device, centroids[0].dtype

    def __call__(self, codes: Tensor) -> Tensor:
        """Return the labels of codes: uint8, (n, 4 * d) -> int64, (n,)."""
        return nearest_labels(codes.view(torch.float32), *self._centroids)

    def nearest(self, x: Tensor, centroids: Tensor, carried: Carried | None) -> tuple[Tensor, Tensor]:
        """Return distances and labels as if the index held other vectors: see `ops.clustering.nearest.nearest`."""
        return nearest(x.to(torch.float32), self._as_held(centroids), self._centroids[1], carried=carried)

    def labels(self, x: Tensor, centroids: Tensor) -> Tensor:
        """Return labels as if the index held other vectors: see `ops.clustering.nearest.nearest_labels`."""
        return nearest_labels(x, self._as_held(centroids), self._centroids[1])

    def _as_held(self, centroids: Tensor) -> Tensor:
        return centroids.to(self.dtype).to(torch.float32)

    def is_of(self, facts: RowFacts | None, ntotal: int, metric_type: int) -> bool:
        """Whether these are the vectors that a flat index holds which knows so much about them."""
        return self._facts is facts and self._ntotal == ntotal and self._facts.metric_type == metric_type

    def __eq__(self, other: object) -> bool:
        # the facts are made anew when vectors change, and grow with them when some are added
        return isinstance(other, FlatAssignment) and self._facts is other._facts and self._ntotal == other._ntotal

    __hash__ = None  # type: ignore[assignment]


class IndexFlat(IndexFlatCodes):
    """Vectors as they are, searched exactly in any metric.

    Parameters
    ----------
    d : int
    metric : int
        One of the ``METRIC_*`` numbers.

    Attributes
    ----------
    storage_dtype : torch.dtype
        What the vectors are stored as (an extension; see `to`).
    """

    _assignment: FlatAssignment | None
    _stored_as: torch.dtype

    def __init__(self, d: int = 0, metric: int = METRIC_L2) -> None:
        super().__init__(4 * integer(d, "d"), d, metric)
        self._assignment = None
        self._stored_as = torch.float32

    @property
    def storage_dtype(self) -> torch.dtype:
        return self._stored_as

    def _to_stored(self, codes: Tensor) -> Tensor:
        return recoded(codes, torch.float32, self._stored_as)

    def _from_stored(self, stored: Tensor) -> Tensor:
        return recoded(stored, self._stored_as, torch.float32)

    def _stored_of(self, other: IndexFlatCodes) -> Tensor:
        assert isinstance(other, IndexFlat)
        return recoded(other._codes.rows, other._stored_as, self._stored_as).to(self.device)

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        current = self._stored_as
        wanted = current if dtype is None else dtype
        if wanted == current:
            return super()._moved(device, None)
        moved = Index._moved(self, device, None)
        codes = copied(
            self._codes, device, stored_size(self.code_size, wanted), lambda rows: recoded(rows, current, wanted)
        )

        def switch() -> None:
            moved()
            self._codes, self._stored_as = codes, wanted
            self._codes_changed()

        return switch

    def get_xb(self) -> Pointer:
        """Return a pointer to the vectors, ``ntotal * d`` float32.

        A copy on an accelerator, or where they are stored as another dtype.
        """
        return Pointer(self.codes.array.view("float32"))

    def _codes_changed(self) -> None:
        super()._codes_changed()
        self._assignment = None

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_assignment": None}

    def _become(self, read: Index) -> None:
        # files hold an IndexFlat as IndexFlatL2 or IndexFlatIP; a pickle keeps the class
        self.__dict__.update(read.__dict__)

    def _codec(self) -> FloatCodec:
        return FloatCodec(self._stored_as)

    def _adds_briefly(self, n: int) -> bool:
        return n * self.d <= workers.SERIAL_ELEMENTS and self.ntotal + n <= len(self._codes.room)

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        if k == 1 and len(x) > flat.FEW_SCORED and self._is_assignment(x, params):
            distances, labels = nearest(x, *self._centroids())
            return distances[:, None], labels[:, None]
        return super()._search(x, k, params)

    def _closest(self, x: Tensor, k: int) -> Tensor:
        if k == 1 and self._is_assignment(x, None):
            return self._assign(x, 1)
        stored = self._stored()
        return flat.closest(x, stored, self.ntotal, k, self.metric_type, self.metric_arg, self._rounded_for())

    def _small_set(self) -> SmallSet | None:
        facts = self._facts
        if facts is not None and facts.small is not None and facts.metric_type == self.metric_type:
            return facts.small
        if self.ntotal > flat.FEW_ROWS:
            return None
        small = small_set(self._stored(), self.ntotal, self.metric_type)
        assert self._facts is not None
        self._facts.small = small
        return small

    def _rows_for_kernels(self) -> Rows | None:
        """Return all vectors as kernels search them, or None where they do not."""
        stored = self._stored()
        rounded = gpu_search.rounded_of("block_minima", stored, self.metric_type, self._rounded_for())
        return None if rounded is None else Rows(stored, self.ntotal, self.metric_type, rounded)

    def _assign(self, x: Tensor, k: int) -> Tensor:
        if k == 1 and self._is_assignment(x, None):
            return nearest_labels(x, *self._centroids())[:, None]
        return super()._assign(x, k)

    def _is_assignment(self, x: Tensor, params: SearchParameters | None) -> bool:
        """Whether to look for the nearest of few stored vectors for many: k-means, and adding to inverted lists."""
        product = self.metric_type in (METRIC_L2, METRIC_INNER_PRODUCT)
        most = max(FEW_STORED, 4 * len(x)) if self._stored_as == torch.float32 else FEW_STORED
        few = 0 < self.ntotal <= most
        return product and few and (params is None or params.sel is None) and self._stored().finite

    def assignment(self) -> FlatAssignment | None:
        """Return what finds the nearest of the vectors stored now, or None where only a search does.

        It does not notice what is later written to the memory behind `get_xb`.
        """
        if self.metric_type not in (METRIC_L2, METRIC_INNER_PRODUCT) or not self.ntotal or not self._stored().finite:
            return None
        if self._stored_as != torch.float32 and self.ntotal > FEW_STORED:
            return None
        known = self.known_assignment()
        if known is None:
            assert self._facts is not None
            known = self._assignment = FlatAssignment(self._facts, self._centroids())
        return known

    def assignments(self) -> list[FlatAssignment]:
        """Return `assignment` for each device that assigns: one, or none."""
        known = self.assignment()
        return [] if known is None else [known]

    def known_assignment(self) -> FlatAssignment | None:
        """Return what `assignment` returned last, if it would return the same."""
        known = self._assignment
        if known is None or not known.is_of(self._facts, self.ntotal, self.metric_type):
            return None
        return known

    def _centroids(self) -> tuple[Tensor, int, Tensor, float]:
        """What `nearest` takes of stored vectors."""
        stored, n = self._stored(), self.ntotal
        return stored.vectors[:n], self.metric_type, stored.bias[:n], stored.largest_norm

    def _sa_encode(self, x: Tensor) -> Tensor:
        return x.view(torch.uint8).reshape(len(x), self.code_size)

    def _sa_decode(self, codes: Tensor) -> Tensor:
        x = codes.contiguous().view(torch.float32)
        chunks.copy(result := torch.empty_like(x), x)
        return result


class IndexFlatIP(IndexFlat):
    """Exact search by largest inner product.

    Parameters
    ----------
    d : int
    """

    def __init__(self, d: int = 0) -> None:
        super().__init__(d, METRIC_INNER_PRODUCT)


class IndexFlatL2(IndexFlat):
    """Exact search by smallest squared L2 distance.

    Parameters
    ----------
    d : int
    """

    def __init__(self, d: int = 0) -> None:
        super().__init__(d, METRIC_L2)

    def sync_l2norms(self) -> None:
        """Do nothing: what a search needs to know of the vectors is kept up to date."""

    def clear_l2norms(self) -> None:
        """Do nothing; see `sync_l2norms`."""


class IndexFlat1D(IndexFlatL2):
    """One-dimensional vectors, searched by bisection.

    Distances are ``|x - y|``, not squared, and +inf where there is no result, as in faiss.

    Parameters
    ----------
    continuous_update : bool
        Keep the order up to date at every add; otherwise call `update_permutation` after the last one.

    Attributes
    ----------
    continuous_update : bool
    perm : Int64Vector
        The order of the values.
    """

    continuous_update: bool
    perm: Int64Vector

    def __init__(self, continuous_update: bool = True) -> None:
        super().__init__(1)
        self.continuous_update = continuous_update
        self.perm = Int64Vector()

    def _become(self, read: Index) -> None:
        super()._become(read)
        self.continuous_update = True
        self.update_permutation()

    def assignment(self) -> None:
        """Return None: a search finds by bisection, and its distances are not squared."""

    def _closest(self, x: Tensor, k: int) -> Tensor:
        return self._search(x, k, None)[1]

    def _small_set(self) -> None:
        return None

    def _rows_for_kernels(self) -> None:
        return None

    def _values(self) -> Tensor:
        return self._rows_stored[: self.ntotal, 0].to(torch.float32)

    def update_permutation(self) -> None:
        """Sort the stored values."""
        self.perm = Int64Vector(self._values().argsort(stable=True).cpu().numpy())

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        super()._add(x, ids)
        if self.continuous_update:
            self.update_permutation()

    def _reset(self) -> None:
        super()._reset()
        self.perm = Int64Vector()

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        if params is not None:
            raise RuntimeError("search params are not supported for IndexFlat1D")
        if len(self.perm) != self.ntotal:
            raise RuntimeError("call update_permutation() before search: vectors were added since the last one")
        order = torch.from_numpy(self.perm.array).to(self.device)
        values = self._values()[order].contiguous()
        # the k nearest of q are within the k values on either side of its place in the order
        place = torch.searchsorted(values, x[:, 0].contiguous(), right=True)
        columns = place[:, None] + torch.arange(-k, k, dtype=torch.int64, device=self.device)
        inside = (columns >= 0) & (columns < self.ntotal)
        columns = columns.clamp(0, max(0, self.ntotal - 1))
        if self.ntotal == 0:
            return x.new_full((len(x), k), float("inf")), place.new_full((len(x), k), -1)
        keys = (values[columns] - x).abs().masked_fill_(~inside | x.isnan(), float("inf"))
        distances, nearest_first = keys.sort(dim=1, stable=True)
        labels = order[columns.gather(1, nearest_first)]
        distances, labels = distances[:, :k].contiguous(), labels[:, :k].contiguous()
        return distances, labels.masked_fill_(distances.isinf(), -1)
