"""The verbs of indexes with faiss's C signatures: numbers of rows and pointers, and results behind pointers.

Programs that know the addresses of their vectors call them, as faiss's own Python verbs do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..constants import Float16, Float32, Int8
from ..parts.params import SearchParameters
from ..parts.range_search_result import RangeSearchResult
from ..parts.selectors import IDSelector
from ..wrapper.pointers import Pointer, table, void_table
from .ivf.stats import IndexIVFStats

#: numpy's names of the numeric types.
_DTYPES = {Float32: "float32", Float16: "float16", Int8: "int8"}


def _vectors(x: Pointer, n: int, d: int, numeric_type: int, function: str) -> np.ndarray:
    if numeric_type not in _DTYPES:
        raise RuntimeError(f"{function}: numeric type must be Float32, Float16 or Int8, got {numeric_type}")
    return void_table(x, (n, d), _DTYPES[numeric_type], function)


def _check_k(k: int, function: str) -> None:
    """Raise what faiss's C verbs raise for a number of neighbours that is not positive."""
    if k <= 0:
        raise RuntimeError(f"{function}: k must be positive, got {k}")


def _results(n: int, k: int, distances: Pointer, labels: Pointer, function: str) -> dict[str, np.ndarray]:
    """The tables behind two pointers that the results of a search go into: float32 and int64, [n, k]."""
    return {"D": table(distances, (n, k), "float32", function), "I": table(labels, (n, k), "int64", function)}


class IndexCVerbs:
    """The verbs of `Index` with C signatures; `n` is the number of rows behind each pointer."""

    def train_c(self: Any, n: int, x: Pointer) -> None:
        """`train` on x, float32 [n, d]."""
        self.train(table(x, (n, self.d), "float32", "train_c"))

    def add_c(self: Any, n: int, x: Pointer) -> None:
        """`add` of x, float32 [n, d]."""
        self.add(table(x, (n, self.d), "float32", "add_c"))

    def add_with_ids_c(self: Any, n: int, x: Pointer, xids: Pointer) -> None:
        """`add_with_ids` of x, float32 [n, d], with xids, int64 [n]."""
        vectors = table(x, (n, self.d), "float32", "add_with_ids_c")
        self.add_with_ids(vectors, table(xids, (n,), "int64", "add_with_ids_c"))

    def remove_ids_c(self: Any, sel: IDSelector) -> int:
        """`remove_ids` of a selector."""
        if not isinstance(sel, IDSelector):
            raise TypeError(f"remove_ids_c: expected an IDSelector, got {type(sel).__name__}")
        return int(self.remove_ids(sel))

    def search_c(
        self: Any,
        n: int,
        x: Pointer,
        k: int,
        distances: Pointer,
        labels: Pointer,
        params: SearchParameters | None = None,
    ) -> None:
        """`search` for x, float32 [n, d], into distances, float32 [n, k], and labels, int64 [n, k]."""
        _check_k(k, "search_c")
        vectors = table(x, (n, self.d), "float32", "search_c")
        self.search(vectors, k, params=params, **_results(n, k, distances, labels, "search_c"))

    def range_search_c(
        self: Any,
        n: int,
        x: Pointer,
        radius: float,
        result: RangeSearchResult,
        params: SearchParameters | None = None,
    ) -> None:
        """`range_search` for x, float32 [n, d]."""
        vectors = table(x, (n, self.d), "float32", "range_search_c")
        _check_result(result, n, "range_search_c")
        result.take(*self.range_search(vectors, radius, params=params))

    def assign_c(self: Any, n: int, x: Pointer, labels: Pointer, k: int = 1) -> None:
        """`assign` of x, float32 [n, d], into labels, int64 [n, k]."""
        _check_k(k, "assign_c")
        self.assign(table(x, (n, self.d), "float32", "assign_c"), k, table(labels, (n, k), "int64", "assign_c"))

    def search_and_reconstruct_c(
        self: Any,
        n: int,
        x: Pointer,
        k: int,
        distances: Pointer,
        labels: Pointer,
        recons: Pointer,
        params: SearchParameters | None = None,
    ) -> None:
        """`search_and_reconstruct`: results as in `search_c`, and their vectors into recons, float32 [n, k, d]."""
        name = "search_and_reconstruct_c"
        _check_k(k, name)
        vectors = table(x, (n, self.d), "float32", name)
        results = _results(n, k, distances, labels, name)
        R = table(recons, (n, k, self.d), "float32", name)
        self.search_and_reconstruct(vectors, k, params=params, R=R, **results)

    def reconstruct_c(self: Any, key: int, recons: Pointer) -> None:
        """`reconstruct` into recons, float32 [d]."""
        self.reconstruct(key, table(recons, (self.d,), "float32", "reconstruct_c"))

    def reconstruct_n_c(self: Any, i0: int, ni: int, recons: Pointer) -> None:
        """`reconstruct_n` into recons, float32 [ni, d]."""
        self.reconstruct_n(i0, ni, table(recons, (ni, self.d), "float32", "reconstruct_n_c"))

    def reconstruct_batch_c(self: Any, n: int, keys: Pointer, recons: Pointer) -> None:
        """`reconstruct_batch` of keys, int64 [n], into recons, float32 [n, d]."""
        name = "reconstruct_batch_c"
        self.reconstruct_batch(table(keys, (n,), "int64", name), table(recons, (n, self.d), "float32", name))

    def sa_encode_c(self: Any, n: int, x: Pointer, bytes: Pointer) -> None:
        """`sa_encode` of x, float32 [n, d], into bytes, uint8 [n, sa_code_size()]."""
        codes = table(bytes, (n, self.sa_code_size()), "uint8", "sa_encode_c")
        self.sa_encode(table(x, (n, self.d), "float32", "sa_encode_c"), codes)

    def sa_decode_c(self: Any, n: int, bytes: Pointer, x: Pointer) -> None:
        """`sa_decode` of bytes, uint8 [n, sa_code_size()], into x, float32 [n, d]."""
        codes = table(bytes, (n, self.sa_code_size()), "uint8", "sa_decode_c")
        self.sa_decode(codes, table(x, (n, self.d), "float32", "sa_decode_c"))

    def add_sa_codes_c(self: Any, n: int, codes: Pointer, xids: Pointer | None) -> None:
        """`add_sa_codes` of codes, uint8 [n, sa_code_size()], with xids, int64 [n], or None."""
        ids = None if xids is None else table(xids, (n,), "int64", "add_sa_codes_c")
        self.add_sa_codes(table(codes, (n, self.sa_code_size()), "uint8", "add_sa_codes_c"), ids)

    # with the number of a type, and vectors of that type behind a void*

    def train_ex(self: Any, n: int, x: Pointer, numeric_type: int) -> None:
        """`train` on x, [n, d] of a numeric type."""
        self.train(_vectors(x, n, self.d, numeric_type, "train_ex"), numeric_type=numeric_type)

    def train_with_queries(self: Any, n: int, x: Pointer, n_train_q: int, xq_train: Pointer) -> None:
        """`train` on x, float32 [n, d], with training queries xq_train, float32 [n_train_q, d]."""
        name = "train_with_queries"
        self.train(
            table(x, (n, self.d), "float32", name), xq_train=table(xq_train, (n_train_q, self.d), "float32", name)
        )

    def add_ex(self: Any, n: int, x: Pointer, numeric_type: int) -> None:
        """`add` of x, [n, d] of a numeric type."""
        self.add(_vectors(x, n, self.d, numeric_type, "add_ex"), numeric_type)

    def add_with_ids_ex(self: Any, n: int, x: Pointer, numeric_type: int, xids: Pointer) -> None:
        """`add_with_ids` of x, [n, d] of a numeric type, with xids, int64 [n]."""
        vectors = _vectors(x, n, self.d, numeric_type, "add_with_ids_ex")
        self.add_with_ids(vectors, table(xids, (n,), "int64", "add_with_ids_ex"), numeric_type)

    def search_ex(
        self: Any,
        n: int,
        x: Pointer,
        numeric_type: int,
        k: int,
        distances: Pointer,
        labels: Pointer,
        params: SearchParameters | None = None,
    ) -> None:
        """`search` for x, [n, d] of a numeric type; results as in `search_c`."""
        _check_k(k, "search_ex")
        vectors = _vectors(x, n, self.d, numeric_type, "search_ex")
        results = _results(n, k, distances, labels, "search_ex")
        self.search(vectors, k, params=params, numeric_type=numeric_type, **results)


class IndexIVFCVerbs:
    """The verbs of `IndexIVF` with C signatures, beside those of `Index`."""

    def search_preassigned_c(
        self: Any,
        n: int,
        x: Pointer,
        k: int,
        assign: Pointer,
        centroid_dis: Pointer,
        distances: Pointer,
        labels: Pointer,
        store_pairs: bool,
        params: SearchParameters | None = None,
        stats: IndexIVFStats | None = None,
    ) -> None:
        """`search_preassigned` in lists assign, int64 [n, nprobe], with centroid_dis, float32 [n, nprobe].

        Results go as in `search_c`. Not offered: `store_pairs`, and `stats` beside the global ones.
        """
        name = "search_preassigned_c"
        _check_k(k, name)
        _check_not_asked(store_pairs, stats, name)
        vectors = table(x, (n, self.d), "float32", name)
        Iq, Dq = self._probes_behind(n, assign, centroid_dis, name)
        self.search_preassigned(vectors, k, Iq, Dq, params=params, **_results(n, k, distances, labels, name))

    def range_search_preassigned_c(
        self: Any,
        nx: int,
        x: Pointer,
        radius: float,
        keys: Pointer,
        coarse_dis: Pointer,
        result: RangeSearchResult,
        store_pairs: bool = False,
        params: SearchParameters | None = None,
        stats: IndexIVFStats | None = None,
    ) -> None:
        """`range_search_preassigned` in lists keys, int64 [nx, nprobe]; parameters as `search_preassigned_c`."""
        name = "range_search_preassigned_c"
        _check_not_asked(store_pairs, stats, name)
        _check_result(result, nx, name)
        vectors = table(x, (nx, self.d), "float32", name)
        Iq, Dq = self._probes_behind(nx, keys, coarse_dis, name)
        result.take(*self.range_search_preassigned(vectors, radius, Iq, Dq, params=params))

    def _probes_behind(
        self: Any, n: int, list_nos: Pointer, coarse_dis: Pointer | None, function: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        shape = (n, self.nprobe)
        distances = None if coarse_dis is None else table(coarse_dis, shape, "float32", function)
        return table(list_nos, shape, "int64", function), distances

    def search_and_return_codes_c(
        self: Any,
        n: int,
        x: Pointer,
        k: int,
        distances: Pointer,
        labels: Pointer,
        recons: Pointer,
        include_listno: bool = False,
        params: SearchParameters | None = None,
    ) -> None:
        """`search_and_return_codes`: results as in `search_c`, their codes into recons, uint8 [n, k, width].

        The width is code_size, or sa_code_size() with `include_listno`.
        """
        name = "search_and_return_codes_c"
        _check_k(k, name)
        width = self.sa_code_size() if include_listno else self.code_size
        self.search_and_return_codes(
            table(x, (n, self.d), "float32", name),
            k,
            include_listnos=include_listno,
            params=params,
            codes=table(recons, (n, k, width), "uint8", name),
            **_results(n, k, distances, labels, name),
        )

    def update_vectors_c(self: Any, nv: int, idx: Pointer, v: Pointer) -> None:
        """`update_vectors` of ids idx, int64 [nv], to v, float32 [nv, d]."""
        name = "update_vectors_c"
        self.update_vectors(table(idx, (nv,), "int64", name), table(v, (nv, self.d), "float32", name))


def _check_result(result: RangeSearchResult, n: int, function: str) -> None:
    """Raise unless a result is there for n queries: before the search, and not after it."""
    if not isinstance(result, RangeSearchResult):
        raise TypeError(f"{function}: expected a RangeSearchResult, got {type(result).__name__}")
    if result.nq != n:
        raise RuntimeError(f"{function}: {n} queries given, with a RangeSearchResult of {result.nq}")


def _check_not_asked(store_pairs: bool, stats: IndexIVFStats | None, function: str) -> None:
    """Raise where a search is to say what only faiss's lists say."""
    if store_pairs or stats is not None:
        raise RuntimeError(f"{function}: store_pairs and stats are not offered; cvar.indexIVF_stats counts")
