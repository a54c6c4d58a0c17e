"""Vectors with a ground truth: the base class of data sets, and a synthetic one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import METRIC_INNER_PRODUCT, METRIC_L2, knn

Array = np.ndarray


class Dataset:
    """Database, training and query vectors with a ground truth.

    Attributes
    ----------
    d : int
        Dimensions.
    metric : str
        "L2" or "IP".
    nq, nb, nt : int
        Number of query, database and training vectors.
    """

    def __init__(self) -> None:
        self.d = -1
        self.metric = "L2"
        self.nq = -1
        self.nb = -1
        self.nt = -1

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        raise NotImplementedError

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the training vectors, shape (nt, d), or the first `maxtrain` of them."""
        raise NotImplementedError

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d)."""
        raise NotImplementedError

    def database_iterator(self, bs: int = 128, split: tuple[int, int] = (1, 0)) -> Iterator[Array]:
        """Yield the database vectors in batches of `bs`.

        Parameters
        ----------
        bs : int
        split : tuple of int
            ``(nsplit, rank)``: only part number `rank` of `nsplit` parts.
        """
        xb = self.get_database()
        nsplit, rank = split
        start, stop = self.nb * rank // nsplit, self.nb * (rank + 1) // nsplit
        for i in range(start, stop, bs):
            yield xb[i : min(i + bs, stop)]

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k)."""
        raise NotImplementedError

    def get_groundtruth_range(self, thresh: float | None = None) -> tuple[Array, Array, Array]:
        """Return the exact result of a range search for the queries."""
        raise NotImplementedError

    def __str__(self) -> str:
        size = f"Q {self.nq} B {self.nb} T {self.nt}"
        return f"dataset in dimension {self.d}, with metric {self.metric}, size: {size}"

    def check_sizes(self) -> None:
        """Raise AssertionError unless the arrays have the sizes that the attributes say."""
        assert self.get_queries().shape == (self.nq, self.d)
        if self.nt > 0:
            assert self.get_train(maxtrain=123).shape == (123, self.d)
        assert self.get_database().shape == (self.nb, self.d)
        assert self.get_groundtruth(k=13).shape == (self.nq, 13)


class SyntheticDataset(Dataset):
    """Random vectors near a curved surface of about ten dimensions: not uniform, and not easy to index.

    The same seed gives the vectors that faiss's class of this name gives.

    Parameters
    ----------
    d : int
    nt, nb, nq : int
        Number of training, database and query vectors.
    metric : str
        "L2" or "IP", for the ground truth.
    seed : int
    """

    def __init__(self, d: int, nt: int, nb: int, nq: int, metric: str = "L2", seed: int = 1338) -> None:
        super().__init__()
        self.d, self.nt, self.nb, self.nq = d, nt, nb, nq
        self.metric = metric
        inner_d = 10
        random = np.random.RandomState(seed)
        inner = random.normal(size=(nt + nb + nq, inner_d))
        flat = np.dot(inner, random.rand(inner_d, d))
        # the sine bends the flat space; each dimension has a frequency of its own
        vectors = np.sin(flat * (random.rand(d) * 4 + 0.1)).astype(np.float32)
        self.xt, self.xb, self.xq = np.split(vectors, [nt, nt + nb])

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return self.xq

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the training vectors, shape (nt, d), or the first `maxtrain` of them."""
        return self.xt[: self.nt if maxtrain is None else maxtrain]

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d)."""
        return self.xb

    def get_groundtruth(self, k: int | None = 100) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k)."""
        metric = METRIC_L2 if self.metric == "L2" else METRIC_INNER_PRODUCT
        return knn(self.xq, self.xb, 100 if k is None else k, metric=metric)[1]
