"""faiss_torch's IVF-Flat and Flat for ann-benchmarks (https://github.com/erikbern/ann-benchmarks).

To enter the library there, copy this folder to ``ann_benchmarks/algorithms/faiss_torch``.
"""

import numpy

import faiss_torch

from ..base.module import BaseANN


class FaissTorch(BaseANN):
    """What the indexes share: vectors as the metric wants them, single queries, and batches."""

    def __init__(self, metric):
        if metric not in ("euclidean", "angular"):
            raise NotImplementedError(f"faiss_torch has no metric {metric} for ann-benchmarks")
        self._metric = metric
        self.index = None
        self.res = None

    def _vectors(self, X):
        X = numpy.array(X, dtype=numpy.float32, order="C", ndmin=2)
        if self._metric == "angular":
            faiss_torch.normalize_L2(X)
        return X

    def _new_index(self, d):
        raise NotImplementedError

    def fit(self, X):
        """Train an index on the vectors, and add them to it."""
        X = self._vectors(X)
        self.index = self._new_index(X.shape[1])
        self.index.train(X)
        self.index.add(X)

    def query(self, v, n):
        """Return the ids of the nearest neighbours of one vector."""
        ids = self.index.search(self._vectors(v), n)[1][0]
        return ids[ids >= 0]

    def batch_query(self, X, n):
        """Search for all vectors in one call."""
        self.res = self.index.search(self._vectors(X), n)[1]

    def get_batch_results(self):
        """Return the ids that the last batch found, without places that have none."""
        return [row[row >= 0] for row in self.res]


class FaissTorchFlat(FaissTorch):
    """Exact search."""

    def _new_index(self, d):
        return faiss_torch.IndexFlatL2(d)

    def __str__(self):
        return "FaissTorchFlat()"


class FaissTorchIVF(FaissTorch):
    """Search in inverted lists."""

    def __init__(self, metric, n_list):
        super().__init__(metric)
        self._n_list = n_list
        self._n_probe = 1

    def _new_index(self, d):
        return faiss_torch.index_factory(d, f"IVF{self._n_list},Flat")

    def set_query_arguments(self, n_probe):
        """Set how many lists a search looks at."""
        self._n_probe = n_probe
        self.index.nprobe = n_probe

    def __str__(self):
        return f"FaissTorchIVF(n_list={self._n_list}, n_probe={self._n_probe})"
