"""One row per index type: how it is made, on what it is tested, and what it supports."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One index type.

    Attributes
    ----------
    name : str
        Names the row in test reports.
    cls : str
        The class of the index.
    d : int
    factory : str
        Its factory string; empty where there is none, and the constructor makes it.
    metric : str
        The name of its metric.
    metric_arg : float
    nlist : int
        Lists of an IVF index, 0 for other indexes.
    nb, nq : int
        Sizes of the database (which is the training set too) and of the queries.
    takes_ids, range_search, remove_ids, merge_from, selector, sa_codec, search_and_reconstruct : bool
        Whether these verbs work: `takes_ids` is add_with_ids, `selector` is search with ``params.sel``.
    reconstruct : str
        "always", "direct map" (reconstruct of one id needs one), or "never".
    """

    name: str
    cls: str
    d: int
    factory: str = ""
    metric: str = "METRIC_L2"
    metric_arg: float = 0.0
    nlist: int = 0
    nb: int = 157
    nq: int = 11
    takes_ids: bool = False
    range_search: bool = True
    remove_ids: bool = True
    merge_from: bool = True
    selector: bool = True
    sa_codec: bool = True
    search_and_reconstruct: bool = True
    reconstruct: str = "always"

    def make(self, faiss: ModuleType) -> Any:
        """Return an empty, untrained index."""
        metric = getattr(faiss, self.metric)
        if self.factory:
            index = faiss.index_factory(self.d, self.factory, metric)
        elif self.nlist:
            quantizer = faiss.IndexFlat(self.d, metric)
            index = getattr(faiss, self.cls)(quantizer, self.d, self.nlist, metric)
            index.referenced_objects = [quantizer]
        elif self.cls == "IndexFlat":
            index = faiss.IndexFlat(self.d, metric)
        elif self.cls == "IndexFlat1D":
            index = faiss.IndexFlat1D()
        else:
            index = getattr(faiss, self.cls)(self.d)
        index.metric_arg = self.metric_arg
        return index

    def trained(self, faiss: ModuleType) -> Any:
        """Return an empty index, trained on `xb`, that looks at all its lists."""
        index = self.make(faiss)
        if self.nlist:
            index.cp.min_points_per_centroid = 1
            index.train(self.xb)
            index.nprobe = self.nlist
            if "(" in self.factory:
                faiss.downcast_index(index.quantizer).nprobe = self.nlist
        return index

    def filled(self, faiss: ModuleType) -> Any:
        """Return an index that holds `xb` under the ids 0 ... nb - 1."""
        index = self.trained(faiss)
        index.add(self.xb)
        return index

    @property
    def xb(self) -> np.ndarray:
        """The database: float32, shape (nb, d), in (0, 1), so that every metric is defined on it."""
        return np.random.RandomState(self.d).rand(self.nb, self.d).astype("float32")

    @property
    def xq(self) -> np.ndarray:
        """The queries: float32, shape (nq, d)."""
        return np.random.RandomState(1000 + self.d).rand(self.nq, self.d).astype("float32")

    def search_parameters(self, faiss: ModuleType, **settings: Any) -> Any:
        """Return the search parameters that this index takes, for a search of all lists."""
        if self.nlist:
            return faiss.SearchParametersIVF(nprobe=self.nlist, **settings)
        return faiss.SearchParameters(**settings)


FLAT_CASES = (
    Case("flat", "IndexFlat", 8, factory="Flat"),
    Case("flat_l2", "IndexFlatL2", 5),
    Case("flat_ip", "IndexFlatIP", 7, metric="METRIC_INNER_PRODUCT"),
    Case("flat_1d", "IndexFlat1D", 1, range_search=False, remove_ids=False, merge_from=False, selector=False),
    *(
        Case(f"flat_{name}", "IndexFlat", 6, factory="Flat", metric=f"METRIC_{name}", metric_arg=arg)
        for name, arg in (
            ("INNER_PRODUCT", 0),
            ("L1", 0),
            ("Linf", 0),
            ("Lp", 3),
            ("Canberra", 0),
            ("BrayCurtis", 0),
            ("JensenShannon", 0),
            ("Jaccard", 0),
            ("NaNEuclidean", 0),
            ("GOWER", 0),
        )
    ),
)

_ivf = {"nlist": 6, "takes_ids": True, "reconstruct": "direct map"}
IVF_CASES = (
    Case("ivf_flat", "IndexIVFFlat", 8, factory="IVF6,Flat", **_ivf),
    Case("ivf_flat_ip", "IndexIVFFlat", 7, factory="IVF6,Flat", metric="METRIC_INNER_PRODUCT", **_ivf),
    Case("ivf_flat_made", "IndexIVFFlat", 3, **_ivf),
    Case("ivf_flat_over_ivf", "IndexIVFFlat", 8, factory="IVF6(IVF2,Flat),Flat", merge_from=False, **_ivf),
    Case(
        "ivf_flat_dedup",
        "IndexIVFFlatDedup",
        4,
        nlist=6,
        takes_ids=True,
        range_search=False,
        merge_from=False,
        search_and_reconstruct=False,
        reconstruct="never",
    ),
)

CASES = FLAT_CASES + IVF_CASES
