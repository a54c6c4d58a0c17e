"""Level1Quantizer: the coarse quantizer of an IVF index and its training."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...attributes import Char, Size
from ...constants import METRIC_INNER_PRODUCT, METRIC_L2
from ...ops.gpu.search import Rows
from ...ops.scoring.small import SmallSet
from ...parts.clustering.clustering import Clustering, ClusteringParameters
from ...parts.params import SearchParameters
from ...wrapper.pointers import Pointer, pointed
from ..base import Index
from ..flat.flat import IndexFlat, IndexFlatL2


class Level1Quantizer:
    """Assigns vectors to lists.

    Attributes
    ----------
    quantizer : Index
        Holds one vector per list.
    nlist : int
    quantizer_trains_alone : int
        0: k-means with the quantizer as assignment index. 1: ``quantizer.train`` does it all. 2: k-means on a flat
        index, the centroids are then added to the quantizer.
    own_fields : bool
        Without effect: ownership is Python's.
    cp : ClusteringParameters
        Of the k-means; 10 iterations unless changed.
    clustering_index : Index or None
        Assignment index of the k-means instead of the quantizer.
    """

    quantizer: Any
    nlist: Size
    quantizer_trains_alone: Char
    own_fields: bool
    cp: ClusteringParameters
    clustering_index: Any

    _objects: ClassVar[dict[str, type]] = {"quantizer": Index, "cp": ClusteringParameters, "clustering_index": Index}

    def _init_level1(self, quantizer: Index | None, nlist: int) -> None:
        self.quantizer = quantizer
        self.nlist = nlist
        self.quantizer_trains_alone = 0
        self.own_fields = False
        self.cp = ClusteringParameters()
        self.cp.niter = 10
        self.clustering_index = None

    def _require_quantizer(self) -> Index:
        if self.quantizer is None:
            raise RuntimeError("the quantizer of the IVF index must not be None")
        return self.quantizer

    def train_q1(self, x: Tensor, verbose: bool, metric_type: int) -> None:
        """Train the quantizer, unless it is trained and holds nlist vectors.

        Parameters
        ----------
        x : Tensor, float32, shape (n, d)
        verbose : bool
        metric_type : int
            Of the IVF index.

        Raises
        ------
        RuntimeError
            If there are fewer vectors than lists, some are not finite, or the settings do not fit.
        """
        quantizer = self._require_quantizer()
        if quantizer.is_trained and quantizer.ntotal == self.nlist:
            if verbose:
                print("IVF quantizer does not need training.")
        elif self.quantizer_trains_alone == 1:
            quantizer.verbose = verbose
            quantizer.train(x)
            if quantizer.ntotal != self.nlist:
                raise RuntimeError(
                    f"nlist is {self.nlist}, but the quantizer trained itself to {quantizer.ntotal} vectors"
                )
        elif self.quantizer_trains_alone == 0:
            self._train_with(x, quantizer if self.clustering_index is None else self.clustering_index)
            quantizer.is_trained = True
        elif self.quantizer_trains_alone == 2:
            if metric_type != METRIC_L2 and not (metric_type == METRIC_INNER_PRODUCT and self.cp.spherical):
                raise RuntimeError(
                    "quantizer_trains_alone = 2 needs METRIC_L2, or METRIC_INNER_PRODUCT with cp.spherical, "
                    f"got metric {metric_type}"
                )
            centroids = self._cluster(
                x, IndexFlatL2(x.shape[1]) if self.clustering_index is None else self.clustering_index
            )
            if not quantizer.is_trained:
                quantizer.train(centroids)
            quantizer.add(centroids)
        else:
            raise RuntimeError(f"quantizer_trains_alone is {self.quantizer_trains_alone}, expected 0, 1 or 2")

    def _train_with(self, x: Tensor, index: Index) -> None:
        assert self.quantizer is not None
        centroids = self._cluster(x, index)  # which empties its index only after it has checked everything
        if index is not self.quantizer:
            self.quantizer.reset()
            self.quantizer.add(centroids)

    def _cluster(self, x: Tensor, index: Index) -> Tensor:
        clustering = Clustering(x.shape[1], self.nlist, self.cp)
        clustering.train(x, index)
        return torch.tensor(clustering.centroids.array, dtype=torch.float32, device=x.device).view(self.nlist, -1)

    def coarse_code_size(self) -> int:
        """Return the bytes that a list number takes in a code."""
        return ((self.nlist - 1).bit_length() + 7) // 8

    def encode_listno(self, list_no: int, code: Pointer) -> None:
        """Write a list number to the `coarse_code_size` bytes at a pointer."""
        size = self.coarse_code_size()
        pointed(code, size, "uint8", "encode_listno")[:] = list(int(list_no).to_bytes(size, "little"))

    def decode_listno(self, code: Pointer) -> int:
        """Return the list number in the `coarse_code_size` bytes at a pointer.

        Raises
        ------
        RuntimeError
            If there is no such list.
        """
        bytes_there = pointed(code, self.coarse_code_size(), "uint8", "decode_listno")
        return int(self._decode_list_nos(torch.from_numpy(bytes_there.copy())[None])[0])

    def _encode_list_nos(self, list_nos: Tensor) -> Tensor:
        """List numbers as little-endian bytes: (n,) -> (n, coarse_code_size())."""
        shifts = 8 * torch.arange(self.coarse_code_size(), dtype=torch.int64, device=list_nos.device)
        return ((list_nos[..., None] >> shifts) & 0xFF).to(torch.uint8)

    def _decode_list_nos(self, codes: Tensor) -> Tensor:
        """The list numbers in front of codes: (n, at least coarse_code_size()) -> (n,)."""
        shifts = 8 * torch.arange(self.coarse_code_size(), dtype=torch.int64, device=codes.device)
        list_nos = (codes[:, : self.coarse_code_size()].to(torch.int64) << shifts).sum(1)
        self._check_list_nos(list_nos)
        return list_nos

    def _check_list_nos(self, list_nos: Tensor) -> None:
        if list_nos.numel() and int(list_nos.max()) >= self.nlist:
            raise RuntimeError(f"list number {int(list_nos.max())} given, there are {self.nlist} lists")


class IndexIVFInterface(Level1Quantizer):
    """What a search of an IVF index needs to know.

    Attributes
    ----------
    nprobe : int
        Lists to look at for a query.
    max_codes : int
        Vectors to look at for a query; 0 for no limit.
    """

    nprobe: Size
    max_codes: Size

    def _probe(self, x: Tensor, nprobe: int, params: SearchParameters | None) -> tuple[Tensor, Tensor]:
        """Return the distances and numbers of the lists nearest to each query: two of (n, nprobe)."""
        distances, probes = self._require_quantizer().search(x, nprobe, params=params)
        self._check_list_nos(probes)
        return distances, probes

    def _probe_in_any_order(self, x: Tensor, nprobe: int, params: SearchParameters | None) -> Tensor:
        """Return what `_probe` does, but that lists equally near may stand in any order, and no distances."""
        quantizer = self._require_quantizer()
        if params is not None or quantizer.device != x.device or quantizer.d != x.shape[1]:
            return self._probe(x, nprobe, params)[1]
        probes = quantizer._closest(x, nprobe)
        # of a flat index they are its rows: a look at them would wait for the device
        if not isinstance(quantizer, IndexFlat) or quantizer.ntotal > self.nlist:
            self._check_list_nos(probes)
        return probes

    def _small_set_of_centroids(self, x: Tensor, nprobe: int, params: SearchParameters | None) -> SmallSet | None:
        """Return what `byte_sums.lists.probe_and_search` chooses lists by, or None where it cannot."""
        quantizer = self._require_quantizer()
        if params is not None or quantizer.device != x.device or quantizer.d != x.shape[1]:
            return None
        return quantizer._small_set() if nprobe < quantizer.ntotal <= self.nlist else None

    def _centroids_for_kernels(self, x: Tensor, nprobe: int, params: SearchParameters | None) -> Rows | None:
        """Return what `list_minima.probe_and_search` chooses lists by, or None where it cannot."""
        quantizer = self._require_quantizer()
        if params is not None or quantizer.device != x.device or quantizer.d != x.shape[1]:
            return None
        if not isinstance(quantizer, IndexFlat) or not nprobe <= quantizer.ntotal <= self.nlist:
            return None
        return quantizer._rows_for_kernels()
