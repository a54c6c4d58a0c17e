"""Index: every public verb, once. The border is here; subclasses write hooks that see tensors on their device.

Hooks (tensors are float32 or int64 on ``self.device``)::

    _train(x)                          _search(x, k, params) -> D, I
    _add(x, ids or None)               _range_search(x, radius, params) -> lims, D, I
    _reset()                           _reconstruct(keys) -> x
    _remove_ids(sel) -> n              _sa_encode(x) -> codes, _sa_decode(codes) -> x
    _closest(x, k) -> I

and ``_moved(device, dtype) -> switch``, in two steps so that `Index.to` does all or nothing: it builds what the index
holds in its new form, and returns a function that switches to it and cannot fail. An index that holds others calls
``_moved`` of each, keeps what they return, and calls these in its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import border
from ..attributes import CheckedAttributes, Int64, MetricType, annotated, integer
from ..border import Array, Kind
from ..constants import METRIC_L2, Float32
from ..ops.runtime import one_thread, workers
from ..ops.scoring.small import SmallSet
from ..parts.codecs.floats import check_storage_dtype
from ..parts.params import SearchParameters
from ..parts.selectors import IDSelector, selector_of
from ..pickles import named
from ..torch_devices import existing_device
from ..wrapper.ownership import Owned
from .c_verbs import IndexCVerbs

#: A search of so few queries goes on in the calling thread: waking another one takes as long as some of these.
BRIEF_SEARCH = 16


class Index(Owned, IndexCVerbs, CheckedAttributes):
    """A set of vectors that can be searched; the base of all float indexes.

    Parameters
    ----------
    d : int
        Dimensions of the vectors.
    metric : int
        One of the ``METRIC_*`` numbers.

    Attributes
    ----------
    d : int
    ntotal : int
        Number of vectors stored.
    is_trained : bool
    metric_type : int
    metric_arg : float
        The p of METRIC_Lp.
    verbose : bool
    device : torch.device
        Where the index lives (an extension; see `to`).
    """

    d: int
    ntotal: Int64
    is_trained: bool
    metric_type: MetricType
    metric_arg: float
    verbose: bool
    device: torch.device

    def __init__(self, d: int = 0, metric: int = METRIC_L2) -> None:
        self.d = d
        if self.d < 0:
            raise RuntimeError(f"an index cannot have {d} dimensions")
        self.ntotal = 0
        self.is_trained = True
        self.metric_type = metric
        self.metric_arg = 0.0
        self.verbose = False
        self.device = border.default_device()

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name not in annotated(cls) and not hasattr(cls, name):
            raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'.")
        super().__setattr__(name, value)

    @property
    def referenced_objects(self) -> list[Any]:
        """What stays alive with the index: what a program set, or the indexes that it is made of."""
        held: list[Any] | None = vars(self).get("_referenced")
        if held is not None:
            return held
        parts = [part if isinstance(part, list) else [part] for part in vars(self).values()]
        return [part for some in parts for part in some if isinstance(part, Index)]

    @referenced_objects.setter
    def referenced_objects(self, objects: list[Any]) -> None:
        vars(self)["_referenced"] = objects

    def __copy__(self) -> Index:
        # as in faiss, a copy shares nothing
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        # as in faiss, a copy owns the indexes that it is made of
        return {**self.__dict__, **({"own_fields": True} if "own_fields" in self.__dict__ else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a pickle of faiss holds the bytes of an index file
        if isinstance(state.get("this"), bytes):
            self._become(named("deserialize_index")(np.frombuffer(state["this"], "uint8")))
        else:
            self.__dict__.update(state)

    def _become(self, read: Index) -> None:
        """Become an index that was read; of its class, where this one's says less, as faiss's Index for any index."""
        if not isinstance(self, type(read)):
            object.__setattr__(self, "__class__", type(read))
        self.__dict__.update(read.__dict__)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} d={self.d} ntotal={self.ntotal} device={self.device}>"

    @workers.conducted
    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Index:
        """Move the index to a device, or store its vectors in another dtype, or both.

        Parameters
        ----------
        device : torch.device or str
            Any device of torch.
        dtype : torch.dtype, optional
            What vectors are stored as from now on, those added later too: torch.float32, torch.float16 or
            torch.bfloat16. Distances are computed in float32 from what is stored, and codes, vectors and files are
            float32 as before. The default is what they are stored as; of an IVF, the quantizer keeps its own.

        Returns
        -------
        Index
            This index.

        Raises
        ------
        RuntimeError
            If torch cannot use the device, there is no room on it, or an index of this type stores no float vectors.
            The index is as it was then.
        """
        if dtype is not None:
            check_storage_dtype(dtype)
        self._moved(existing_device(device), dtype)()
        return self

    def _moved(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
        """Build what the index holds on a device, and return what switches to it (see the module's text)."""
        if dtype is not None:
            raise RuntimeError(f"{type(self).__name__} stores no float vectors: it takes no dtype, got {dtype}")

        def switch() -> None:
            self.device = device

        return switch

    # the border

    def _vectors(self, x: Array, numeric_type: int = Float32) -> tuple[Tensor, Kind]:
        return border.vectors_in(x, self.d, self.device, numeric_type)

    def _check_k(self, k: Any) -> int:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise TypeError(f"k must be an integer, got {type(k).__name__}")
        if k <= 0:
            raise AssertionError(f"k must be positive, got {k}")
        return int(k)

    def _check_params(self, params: Any) -> None:
        if params is not None and not isinstance(params, SearchParameters):
            raise TypeError(f"params must be SearchParameters, got {type(params).__name__}")

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise RuntimeError(f"{type(self).__name__} is not trained: call train() first")

    # training and adding

    @workers.conducted
    def train(self, x: Array, *, numeric_type: int = Float32, xq_train: Array | None = None) -> None:
        """Train on a representative set of vectors.

        Parameters
        ----------
        x : array, shape (n, d)
        numeric_type : int
            ``Float32``, ``Float16`` or ``Int8``.
        xq_train : array, optional
            Training queries; no index of this library uses them.

        Raises
        ------
        AssertionError
            If the width is not d.
        RuntimeError
            If there are too few vectors, or some are not finite.
        """
        if xq_train is not None:
            if numeric_type != Float32:
                raise TypeError("xq_train is only supported for numeric_type Float32")
            self._vectors(xq_train)
        self._train(self._vectors(x, numeric_type)[0])

    def _train(self, x: Tensor) -> None:
        """Most indexes need no training."""

    @border.crossing
    def add(self, x: Array, numeric_type: int = Float32) -> None:
        """Add vectors; they get the ids ntotal, ntotal + 1, ...

        Parameters
        ----------
        x : array, shape (n, d)
        numeric_type : int
            ``Float32``, ``Float16`` or ``Int8``.

        Raises
        ------
        AssertionError
            If the width is not d.
        RuntimeError
            If the index is not trained.
        """
        brief = self._adds_briefly(x.shape[0] if getattr(x, "shape", ()) else 0)
        workers.conduct(lambda: self._add_vectors(x, numeric_type), self.device, (x,), brief)

    def _add_vectors(self, x: Array, numeric_type: int) -> None:
        vectors, _ = self._vectors(x, numeric_type)
        self._require_trained()
        self._add(vectors, None)

    def _adds_briefly(self, n: int) -> bool:
        """Whether adding n vectors takes no more than copying these few to where there is room for them."""
        return False

    @workers.conducted
    def add_with_ids(self, x: Array, ids: Array, numeric_type: int = Float32) -> None:
        """Add vectors with ids of the caller's.

        Parameters
        ----------
        x : array, shape (n, d)
        ids : array of int64, shape (n,)
            -1 is what a search returns where there is no result, so better not used.
        numeric_type : int

        Raises
        ------
        AssertionError
            If there are not as many ids as vectors, or the width is not d.
        RuntimeError
            If the index is not trained, or keeps no ids.
        """
        vectors, kind = self._vectors(x, numeric_type)
        kind.require(ids, "ids")
        if tuple(ids.shape) != (len(vectors),):
            raise AssertionError(
                f"not same nb of vectors as ids: {len(vectors)} vectors, ids of shape {tuple(ids.shape)}"
            )
        self._require_trained()
        self._add(vectors, border.integers_in(ids, self.device))

    def _add(self, x: Tensor, ids: Tensor | None) -> None:
        raise RuntimeError(f"add is not implemented for {type(self).__name__}")

    @workers.conducted
    def reset(self) -> None:
        """Remove all vectors; the training stays."""
        self._reset()

    def _reset(self) -> None:
        raise RuntimeError(f"reset is not implemented for {type(self).__name__}")

    @workers.conducted
    def remove_ids(self, x: Array | IDSelector) -> int:
        """Remove vectors.

        Parameters
        ----------
        x : 1-d array of ids, or IDSelector

        Returns
        -------
        int
            How many were removed.
        """
        return self._remove_ids(selector_of(x))

    def _remove_ids(self, sel: IDSelector) -> int:
        raise RuntimeError(f"remove_ids is not implemented for {type(self).__name__}")

    # searching

    @border.crossing
    def search(
        self,
        x: Array,
        k: int,
        *,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
        numeric_type: int = Float32,
    ) -> tuple[Array, Array]:
        """Find the k nearest neighbours of vectors.

        Parameters
        ----------
        x : array, shape (n, d)
        k : int
        params : SearchParameters, optional
            Settings of this call.
        D, I : array, shape (n, k), optional
            Where to put the results.
        numeric_type : int

        Returns
        -------
        D : array of float32, shape (n, k)
            Distances, closest first (squared for L2); +FLT_MAX, or -FLT_MAX for a similarity, where there are
            fewer than k results.
        I : array of int64, shape (n, k)
            Ids, the lowest first where distances are equal; -1 where there are fewer than k results.

        Raises
        ------
        AssertionError
            If the width is not d, or k is not positive.
        """
        n = x.shape[0] if getattr(x, "shape", ()) else 0
        return workers.conduct(
            lambda: self._search_vectors(x, k, params, D, I, numeric_type),
            self.device,
            (x, D, I),
            brief=(n <= BRIEF_SEARCH and one_thread.available()) or workers.have_one_thread(),
        )

    def _search_vectors(
        self, x: Array, k: int, params: SearchParameters | None, D: Array | None, I: Array | None, numeric_type: int
    ) -> tuple[Array, Array]:
        vectors, kind = self._vectors(x, numeric_type)
        k = self._check_k(k)
        if D is not None or I is not None:
            kind.check_output(D, (len(vectors), k), "D")
            kind.check_output(I, (len(vectors), k), "I", "int64")
        self._check_params(params)
        distances, labels = self._search(vectors, k, params)
        return kind.into(distances, D), kind.into(labels, I)

    def _closest(self, x: Tensor, k: int) -> Tensor:
        """Ids of the k nearest, where ties and near-ties may stand in any order: (n, k), -1 where there are fewer."""
        return self._search(x, k, None)[1]

    def _small_set(self) -> SmallSet | None:
        """What `_closest` scores all of, where that is how it works; the ids are the rows."""
        return None

    def _search(self, x: Tensor, k: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        raise RuntimeError(f"search is not implemented for {type(self).__name__}")

    @workers.conducted
    def range_search(
        self, x: Array, thresh: float, *, params: SearchParameters | None = None
    ) -> tuple[Array, Array, Array]:
        """Find all vectors within a radius.

        Parameters
        ----------
        x : array, shape (n, d)
        thresh : float
            Results have distances below it (squared for L2), or above it for a similarity.
        params : SearchParameters, optional

        Returns
        -------
        lims : array of uint64 (int64 for torch), shape (n + 1,)
            The results of query i are ``[lims[i]:lims[i + 1]]``.
        D : array of float32, shape (lims[n],)
        I : array of int64, shape (lims[n],)
        """
        vectors, kind = self._vectors(x)
        self._check_params(params)
        return self._ranges_out(kind, *self._range_search(vectors, float(thresh), params))

    def _ranges_out(self, kind: Kind, lims: Tensor, distances: Tensor, labels: Tensor) -> tuple[Array, Array, Array]:
        given_lims = kind.out(lims)
        if isinstance(given_lims, np.ndarray):
            given_lims = given_lims.astype(np.uint64)
        return given_lims, kind.out(distances), kind.out(labels)

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        raise RuntimeError(f"range_search is not implemented for {type(self).__name__}")

    @workers.conducted
    def assign(self, x: Array, k: int = 1, labels: Array | None = None) -> Array:
        """Return the ids of the k nearest neighbours: `search` without the distances.

        Returns
        -------
        array of int64, shape (n, k)
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        kind.check_output(labels, (len(vectors), k), "labels", "int64")
        return kind.into(self._assign(vectors, k), labels)

    def _assign(self, x: Tensor, k: int) -> Tensor:
        return self._search(x, k, None)[1]

    @workers.conducted
    def search_and_reconstruct(
        self,
        x: Array,
        k: int,
        *,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
        R: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Find the k nearest neighbours and return their vectors too.

        Returns
        -------
        D, I : arrays, shape (n, k)
            As `search`.
        R : array of float32, shape (n, k, d)
            NaN where there is no result.
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        n = len(vectors)
        kind.check_output(D, (n, k), "D")
        kind.check_output(I, (n, k), "I", "int64")
        kind.check_output(R, (n, k, self.d), "R")
        self._check_params(params)
        distances, labels, recons = self._search_and_reconstruct(vectors, k, params)
        return kind.into(distances, D), kind.into(labels, I), kind.into(recons, R)

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        distances, labels = self._search(x, k, params)
        recons = x.new_full((*labels.shape, self.d), float("nan"))
        found = labels >= 0
        if bool(found.any()):
            recons[found] = self._reconstruct(labels[found])
        return distances, labels, recons

    # reading back

    def _kind_without_input(self, given: Array | None) -> Kind:
        """The kind of results without an input array: that of the output argument, if there is one."""
        if given is None and border.Tensors.without_input:
            return Kind(torch.empty(0, dtype=torch.float32, device=self.device))
        return Kind(given)

    def _no_vectors(self) -> Tensor:
        return torch.empty(0, self.d, dtype=torch.float32, device=self.device)

    @border.crossing
    def reconstruct(self, key: int, x: Array | None = None) -> Array:
        """Return one stored vector.

        Parameters
        ----------
        key : int
            Its id.
        x : array, shape (d,), optional
            Where to put it.

        Raises
        ------
        RuntimeError
            If there is no vector of that id.
        """
        kind = self._kind_without_input(x)
        kind.check_output(x, (self.d,), "x")
        return kind.into(
            self._reconstruct(torch.tensor([integer(key, "key")], dtype=torch.int64, device=self.device))[0], x
        )

    @workers.conducted
    def reconstruct_batch(self, key: Array, x: Array | None = None) -> Array:
        """Return stored vectors of several ids: (n,) -> (n, d)."""
        keys = border.integers_in(key, self.device)
        if keys.ndim != 1:
            raise ValueError(f"expected a 1-dimensional array of ids, got shape {tuple(keys.shape)}")
        kind = Kind(key) if x is None else Kind(x)
        kind.check_output(x, (len(keys), self.d), "x")
        return kind.into(self._reconstruct(keys) if len(keys) else self._no_vectors(), x)

    @workers.conducted
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Array | None = None) -> Array:
        """Return the stored vectors n0 ... n0 + ni - 1.

        Parameters
        ----------
        n0 : int
        ni : int
            -1 for all up to ntotal.
        x : array, shape (ni, d), optional

        Raises
        ------
        RuntimeError
            If the range is not within 0 ... ntotal.
        """
        n0, ni = integer(n0, "n0"), integer(ni, "ni")
        ni = self.ntotal - n0 if ni == -1 else ni
        kind = self._kind_without_input(x)
        self._check_rows(n0, ni)
        kind.check_output(x, (ni, self.d), "x")
        return kind.into(self._reconstruct_n(n0, ni) if ni else self._no_vectors(), x)

    def _check_rows(self, n0: int, ni: int) -> None:
        """Raise unless n0 ... n0 + ni - 1 are numbers that `reconstruct_n` takes."""
        if ni < 0 or (ni > 0 and (n0 < 0 or n0 + ni > self.ntotal)):
            raise RuntimeError(f"reconstruct_n: {ni} vectors from {n0} are not within the {self.ntotal} stored")

    def _reconstruct_n(self, n0: int, ni: int) -> Tensor:
        return self._reconstruct(torch.arange(n0, n0 + ni, dtype=torch.int64, device=self.device))

    def _reconstruct(self, keys: Tensor) -> Tensor:
        raise RuntimeError(f"reconstruct is not implemented for {type(self).__name__}")

    @border.crossing
    def compute_residual(self, x: Array, residual: Array | None = None, key: int | None = None) -> Array:
        """Return ``x`` minus the stored vector of an id.

        Called as ``compute_residual(x, residual, key)`` with a pointer or array for the result, as in faiss, or as
        ``compute_residual(x, key=key)``.
        """
        keys = np.array([integer(key, "key")])
        return self._residuals(x, residual, keys, 1)

    @border.crossing
    def compute_residual_n(self, n: int, xs: Array, residuals: Array, keys: Array) -> Array:
        """Write ``xs[i]`` minus the stored vector of ``keys[i]`` to ``residuals[i]``; arrays or pointers."""
        Kind(xs).require(border.at_pointer(keys, n), "keys")
        return self._residuals(xs, residuals, keys, n)

    def _residuals(self, xs: Any, residuals: Any, keys: Any, n: int) -> Array:
        kind = Kind(xs)
        values = border.floats_in(border.at_pointer(xs, n * self.d), self.device).reshape(n, self.d)
        ids = border.integers_in(border.at_pointer(keys, n), self.device).reshape(n)
        result = values - self._reconstruct(ids)
        if residuals is None:
            return kind.out(result.reshape(xs.shape))
        target = border.at_pointer(residuals, n * self.d)
        kind.require(target, "residuals")
        return kind.into(result.reshape(tuple(target.shape)), target)

    # as a codec

    def sa_code_size(self) -> int:
        """Return the bytes of one code of `sa_encode`."""
        raise RuntimeError(f"standalone codec not implemented for {type(self).__name__}")

    @workers.conducted
    def sa_encode(self, x: Array, codes: Array | None = None) -> Array:
        """Encode vectors: (n, d) -> uint8, (n, sa_code_size())."""
        vectors, kind = self._vectors(x)
        kind.check_output(codes, (len(vectors), self.sa_code_size()), "codes", "uint8")
        self._require_trained()
        return kind.into(self._sa_encode(vectors), codes)

    def _sa_encode(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"standalone codec not implemented for {type(self).__name__}")

    @workers.conducted
    def sa_decode(self, codes: Array, x: Array | None = None) -> Array:
        """Decode codes of `sa_encode`: uint8, (n, sa_code_size()) -> (n, d)."""
        given, kind = border.codes_in(codes, self.sa_code_size(), self.device)
        kind.check_output(x, (len(given), self.d), "x")
        return kind.into(self._sa_decode(given), x)

    def _sa_decode(self, codes: Tensor) -> Tensor:
        raise RuntimeError(f"standalone codec not implemented for {type(self).__name__}")

    @workers.conducted
    def add_sa_codes(self, codes: Array, ids: Array | None = None) -> None:
        """Add vectors that are already encoded, with ids or without."""
        given, kind = border.codes_in(codes, self.sa_code_size(), self.device)
        labels = None
        if ids is not None:
            kind.require(ids, "ids")
            if tuple(ids.shape) != (len(given),):
                raise AssertionError(
                    f"not same nb of codes as ids: {len(given)} codes, ids of shape {tuple(ids.shape)}"
                )
            labels = border.integers_in(ids, self.device)
        self._add_sa_codes(given, labels)

    def _add_sa_codes(self, codes: Tensor, ids: Tensor | None) -> None:
        raise RuntimeError(f"add_sa_codes is not implemented for {type(self).__name__}")

    # merging

    def check_compatible_for_merge(self, otherIndex: Index) -> None:
        """Raise RuntimeError unless another index can be merged into this one."""
        raise RuntimeError(f"merge_from is not implemented for {type(self).__name__}")

    @workers.conducted
    def merge_from(self, otherIndex: Index, add_id: int = 0) -> None:
        """Move all vectors of another index of the same kind to this one.

        Parameters
        ----------
        otherIndex : Index
            It is empty afterwards.
        add_id : int
            Added to the ids that come in.
        """
        if otherIndex is self:
            raise RuntimeError(f"cannot merge an {type(self).__name__} with itself")
        self.check_compatible_for_merge(otherIndex)
        self._merge_from(otherIndex, integer(add_id, "add_id"))

    def _merge_from(self, other: Any, add_id: int) -> None:
        raise RuntimeError(f"merge_from is not implemented for {type(self).__name__}")

    # numbering, for the indexes that wrap others

    def _keeps_ids(self) -> bool:
        """Whether an id stands beside each vector; otherwise ids are positions, and a removal shifts them."""
        return False

    def _renumber(self, numbers: Tensor, ntotal: int) -> None:
        """After a removal that shifted no ids, let id i become numbers[i]; `ntotal` is then the number of vectors."""
