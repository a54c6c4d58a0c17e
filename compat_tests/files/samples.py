"""Small indexes of every kind that has a file format, built by the same text with faiss or with faiss_torch.

Centroids are given and not trained, so that both libraries build the very same index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Faiss = Any
Index = Any

D = 4
NLIST = 5


def vectors(n: int, seed: int = 1, d: int = D) -> np.ndarray:
    """Positive vectors, so that every metric is defined on them: float32, shape (n, d)."""
    return np.random.RandomState(seed).rand(n, d).astype("float32")


def flat(faiss: Faiss, n: int = 7, metric: str = "METRIC_L2", metric_arg: float = 0.0) -> Index:
    index = faiss.IndexFlat(D, getattr(faiss, metric))
    index.metric_arg = metric_arg
    index.add(vectors(n))
    return index


def flat_one_dimension(faiss: Faiss) -> Index:
    index = faiss.IndexFlat1D()
    index.add(vectors(6, d=1))
    return index


def ivf(faiss: Faiss, n: int = 20, metric: str = "METRIC_L2", nlist: int = NLIST, kind: str = "IndexIVFFlat") -> Index:
    metric_type = getattr(faiss, metric)
    quantizer = faiss.IndexFlat(D, metric_type)
    quantizer.add(vectors(nlist, seed=2))
    index = getattr(faiss, kind)(quantizer, D, nlist, metric_type)
    index.referenced_objects = [quantizer]
    index.train(vectors(nlist, seed=2))
    if n:
        index.add(vectors(n))
    return index


def scalar(faiss: Faiss, qtype: str = "QT_8bit", n: int = 7) -> Index:
    index = faiss.IndexScalarQuantizer(D, getattr(faiss.ScalarQuantizer, qtype))
    index.train(vectors(30, seed=3))
    index.add(vectors(n))
    return index


def ivf_scalar(faiss: Faiss, qtype: str = "QT_8bit", n: int = 20) -> Index:
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(vectors(NLIST, seed=2))
    index = faiss.IndexIVFScalarQuantizer(quantizer, D, NLIST, getattr(faiss.ScalarQuantizer, qtype))
    index.referenced_objects = [quantizer]
    index.train(vectors(30, seed=3))
    if n:
        index.add(vectors(n))
    return index


def scalar_untrained(faiss: Faiss) -> Index:
    return faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_6bit)


def ivf_untrained(faiss: Faiss) -> Index:
    quantizer = faiss.IndexFlatL2(D)
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    index.referenced_objects = [quantizer]
    index.nprobe = 3
    return index


def ivf_with_ids(faiss: Faiss, map_type: str = "NoMap") -> Index:
    index = ivf(faiss, n=0)
    index.set_direct_map_type(getattr(faiss.DirectMap, map_type))
    index.add_with_ids(vectors(12), np.arange(12) * 37 + 100)
    return index


def ivf_with_array_map(faiss: Faiss) -> Index:
    index = ivf(faiss)
    index.make_direct_map()
    return index


def ivf_sparse(faiss: Faiss) -> Index:
    """Two of nine lists hold something."""
    index = ivf(faiss, n=0, nlist=9)
    index.add(vectors(9, seed=2)[[2, 2, 7]])
    return index


def ivf_over_ivf(faiss: Faiss) -> Index:
    quantizer = ivf(faiss, n=0, nlist=3)
    quantizer.add(vectors(8, seed=2))
    index = faiss.IndexIVFFlat(quantizer, D, 8)
    index.referenced_objects = [quantizer]
    index.train(vectors(8, seed=2))
    index.add(vectors(20))
    return index


def dedup(faiss: Faiss, copies: int = 2) -> Index:
    index = ivf(faiss, n=0, kind="IndexIVFFlatDedup")
    index.add(np.concatenate([vectors(5)] * copies))
    return index


def without_lists(faiss: Faiss) -> Index:
    index = ivf(faiss)
    index.own_invlists = False
    index.invlists = None
    return index


def id_map(faiss: Faiss, inner: Index, kind: str = "IndexIDMap", n: int = 6) -> Index:
    """An index with ids of the caller's, one of them negative."""
    index = getattr(faiss, kind)(inner)
    index.add_with_ids(vectors(n), np.arange(n) * 1000 - 3)
    return index


SAMPLES: dict[str, Callable[[Faiss], Index]] = {
    "null": lambda faiss: None,
    "flat_l2": flat,
    "flat_ip": lambda faiss: flat(faiss, metric="METRIC_INNER_PRODUCT"),
    "flat_lp": lambda faiss: flat(faiss, metric="METRIC_Lp", metric_arg=1.5),
    "flat_jensen_shannon": lambda faiss: flat(faiss, metric="METRIC_JensenShannon"),
    "flat_empty": lambda faiss: flat(faiss, n=0),
    "flat_one_dimension": flat_one_dimension,
    "ivf_l2": ivf,
    "ivf_ip": lambda faiss: ivf(faiss, metric="METRIC_INNER_PRODUCT"),
    "ivf_l1": lambda faiss: ivf(faiss, metric="METRIC_L1"),
    "ivf_empty": lambda faiss: ivf(faiss, n=0),
    "ivf_untrained": ivf_untrained,
    "ivf_with_ids": ivf_with_ids,
    "ivf_array_map": ivf_with_array_map,
    "ivf_hashtable": lambda faiss: ivf_with_ids(faiss, "Hashtable"),
    "ivf_sparse": ivf_sparse,
    "ivf_over_ivf": ivf_over_ivf,
    "ivf_dedup": lambda faiss: dedup(faiss, copies=1),
    "ivf_dedup_instances": lambda faiss: dedup(faiss, copies=3),
    "ivf_without_lists": without_lists,
    "scalar_8bit": scalar,
    "scalar_4bit": lambda faiss: scalar(faiss, "QT_4bit_uniform"),
    "scalar_fp16": lambda faiss: scalar(faiss, "QT_fp16"),
    "scalar_untrained": scalar_untrained,
    "ivf_scalar_8bit": ivf_scalar,
    "ivf_scalar_6bit": lambda faiss: ivf_scalar(faiss, "QT_6bit"),
    "ivf_scalar_0bit": lambda faiss: ivf_scalar(faiss, "QT_0bit"),
    "id_map": lambda faiss: id_map(faiss, flat(faiss, n=0)),
    "id_map2": lambda faiss: id_map(faiss, flat(faiss, n=0, metric="METRIC_Lp", metric_arg=1.5), "IndexIDMap2"),
    "id_map_empty": lambda faiss: id_map(faiss, flat(faiss, n=0), n=0),
    "id_map_ivf": lambda faiss: id_map(faiss, ivf(faiss, n=0), "IndexIDMap2", n=9),
    "id_map_untrained": lambda faiss: faiss.IndexIDMap(ivf_untrained(faiss)),
}

#: Samples that a search can look into.
NOT_SEARCHABLE = ("null", "ivf_untrained", "ivf_without_lists", "id_map_untrained", "scalar_untrained")
SEARCHABLE = [name for name in SAMPLES if name not in NOT_SEARCHABLE]
