"""What an IVF index does beyond searching for neighbours: ranges, lists that the caller chose, codes of the results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import border
from ...border import Array
from ...ops.gpu import lists as gpu_lists
from ...ops.runtime import chunks, workers
from ...ops.scoring import candidates
from ...ops.scoring.scorers import Scorer
from ...ops.scoring.stored import Lists
from ...ops.search import by_list as ivf_csr
from ...ops.search import by_query, paths
from ...ops.tiles import lists as list_tiles
from ...parts.lists import portions
from ...parts.lists.inverted_lists import InvertedLists
from ...parts.lists.storage import ListStorage
from ...parts.params import SearchParameters
from .search import _IVFSearch, _rows_left, _Settings


class _IVFVerbs(_IVFSearch):
    """The verbs of `IndexIVF` that read lists, beside ``search``."""

    def _range_search(self, x: Tensor, radius: float, params: SearchParameters | None) -> tuple[Tensor, Tensor, Tensor]:
        self._require_trained()
        settings = self._settings(params)
        if settings.max_empty_result_buckets:
            _, probes = self._probe(x, settings.nprobe, settings.quantizer_params)
        else:
            probes = self._probe_in_any_order(x, settings.nprobe, settings.quantizer_params)
        return self._range_scan(x, probes, radius, settings)

    def _range_scan(
        self, x: Tensor, probes: Tensor, radius: float, settings: _Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        if settings.max_empty_result_buckets and self.parallel_mode != 0:
            raise RuntimeError(f"max_empty_result_buckets is for parallel_mode 0, got {self.parallel_mode}")
        settings = settings._replace(max_codes=0)  # as in faiss, it does not bound a range search
        path = self._choose_path(len(x), settings.nprobe)
        storage = self._require_lists()
        elsewhere = storage.elsewhere()
        if elsewhere is None:
            lims, distances, positions = self._range_scan_loaded(x, probes, radius, settings, path, storage)
            return lims, distances, storage.ids_at(positions)

        def scan(storage: ListStorage, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return self._range_scan_loaded(x[queries], probes[queries], radius, of_portion, path, storage, rows)

        # a query gives up by what all its lists hold, and not those of one portion
        of_portion = settings._replace(max_empty_result_buckets=0)
        all_rows = self._rows_to_scan(probes, elsewhere, settings, 0)
        return portions.range_search(elsewhere, probes, all_rows, scan, settings.max_empty_result_buckets)

    def _range_scan_loaded(
        self,
        x: Tensor,
        probes: Tensor,
        radius: float,
        settings: _Settings,
        path: paths.Path,
        storage: Any,
        all_rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lims, distances and positions; as `_scan_loaded`."""
        lists = self._lists_to_scan(storage, probes, settings)
        if all_rows is not None or path.name == "matrix" == self.search_mode:
            lists = lists.without_screens()
        lims, distances, positions = [torch.zeros(1, dtype=torch.int64, device=x.device)], [], []
        for some in chunks.slices(len(x), self._queries_at_a_time(settings.nprobe)):
            if all_rows is None:
                rows = self._rows_to_scan(probes[some], lists, settings, 0)
            else:
                rows = _rows_left(all_rows[some], probes[some], lists)
            scorer = self._scorer(x[some], lists)
            found = candidates.Candidates.concatenate(
                self._within(scorer, lists, probes[some], rows, radius, path), x.device
            )
            part = candidates.in_range(
                found, settings.nprobe, scorer, radius, self.metric_type, settings.max_empty_result_buckets
            )
            lims.append(part[0][1:] + lims[-1][-1])
            distances.append(part[1])
            positions.append(part[2])
        if not distances:
            return lims[0], x.new_empty(0), probes.new_empty(0)
        return torch.cat(lims), torch.cat(distances), lists.stored.stored_rows(torch.cat(positions))

    def _within(
        self, scorer: Scorer, lists: Lists, probes: Tensor, rows: Tensor, radius: float, path: paths.Path
    ) -> list[candidates.Candidates]:
        """Rows of the probed lists that may be within a radius: screened by tiles where that pays."""
        scan = ivf_csr.candidates if path.name == "csr" else by_query.candidates

        def by_scores(queries: Tensor) -> list[candidates.Candidates]:
            some = scorer.of_queries(queries)
            return scan(some, lists, probes[queries], rows[queries], some.score_of(radius) + some.margin)

        if scorer.by_products:
            by_list = path.name == "csr"
            by_kernels = gpu_lists.candidates(scorer.xq, lists, probes, rows, radius, self.metric_type, by_list)
            if by_kernels is not None:
                return by_kernels.completed(by_scores, probes.shape[1])
        tiles = list_tiles.tiles_of(scorer, lists, probes, rows, 1)
        if tiles is None:
            return scan(scorer, lists, probes, rows, scorer.score_of(radius) + scorer.margin)
        self.last_path = paths.Path("csr", f"lists are screened in {tiles.tile_set.arithmetic.name}")
        return list_tiles.candidates(scorer, tiles, probes, radius, by_scores)

    def _given_probes(
        self, kind: border.Kind, n: int, Iq: Array, Dq: Array | None, params: SearchParameters | None
    ) -> Tensor:
        """Check what the caller of a preassigned search gave beside the queries, and return the lists: (n, nprobe)."""
        if params is not None:
            raise AssertionError("params not supported")
        self._require_trained()
        kind.require(Iq, "Iq")
        probes = border.integers_in(Iq, self.device)
        if tuple(probes.shape) != (n, self.nprobe):
            raise AssertionError(f"Iq has shape {tuple(probes.shape)}, expected (n, nprobe) = {(n, self.nprobe)}")
        self._check_list_nos(probes)
        if Dq is not None and tuple(Dq.shape) != tuple(probes.shape):
            raise AssertionError(f"Dq has shape {tuple(Dq.shape)}, expected that of Iq, {tuple(probes.shape)}")
        return probes

    @workers.conducted
    def search_preassigned(
        self,
        x: Array,
        k: int,
        Iq: Array,
        Dq: Array | None,
        *,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
    ) -> tuple[Array, Array]:
        """Search lists that the caller chose.

        Parameters
        ----------
        x : array, shape (n, d)
        k : int
        Iq : array of int64, shape (n, nprobe)
            The lists of each query; -1 for none.
        Dq : array of float32, shape (n, nprobe), or None
            Distances to their centroids.
        params
            Must be None, as in faiss.

        Returns
        -------
        D, I : arrays, shape (n, k)
            As `search`.
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        kind.check_output(D, (len(vectors), k), "D")
        kind.check_output(I, (len(vectors), k), "I", "int64")
        probes = self._given_probes(kind, len(vectors), Iq, Dq, params)
        distances, labels = self._labelled(*self._scan(vectors, probes, k, self._settings(None)), None)
        return kind.into(distances, D), kind.into(labels, I)

    @workers.conducted
    def range_search_preassigned(
        self, x: Array, thresh: float, Iq: Array, Dq: Array | None, *, params: SearchParameters | None = None
    ) -> tuple[Array, Array, Array]:
        """Range search in lists that the caller chose: see `search_preassigned` and `range_search`."""
        vectors, kind = self._vectors(x)
        probes = self._given_probes(kind, len(vectors), Iq, Dq, params)
        return self._ranges_out(kind, *self._range_scan(vectors, probes, float(thresh), self._settings(None)))

    @workers.conducted
    def search_and_return_codes(
        self,
        x: Array,
        k: int,
        *,
        include_listnos: bool = False,
        params: SearchParameters | None = None,
        D: Array | None = None,
        I: Array | None = None,
        codes: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """Search, and return the stored codes of the results too.

        Returns
        -------
        D, I : arrays, shape (n, k)
            As `search`.
        codes : array of uint8, shape (n, k, code_size)
            With `include_listnos` the list number stands in front, coarse_code_size() bytes; 255 in all bytes where
            there is no result.
        """
        vectors, kind = self._vectors(x)
        k = self._check_k(k)
        width = self.code_size + (self.coarse_code_size() if include_listnos else 0)
        n = len(vectors)
        kind.check_output(D, (n, k), "D")
        kind.check_output(I, (n, k), "I", "int64")
        kind.check_output(codes, (n, k, width), "codes", "uint8")
        distances, positions, storage = self._search_positions(vectors, k, params)
        there = positions >= 0
        rows = positions[there]
        parts = [self._encode_list_nos(storage.list_nos_at(rows))] if include_listnos else []
        found = torch.full((n, k, width), 255, dtype=torch.uint8, device=self.device)
        found[there] = torch.cat([*parts, storage.codes_at(rows)], dim=-1)
        return kind.into(distances, D), kind.into(storage.ids_at(positions), I), kind.into(found, codes)

    def _search_and_reconstruct(
        self, x: Tensor, k: int, params: SearchParameters | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        distances, positions, storage = self._search_positions(x, k, params)
        recons = x.new_full((*positions.shape, self.d), float("nan"))
        found = positions >= 0
        recons[found] = self._decode_rows(storage, positions[found])
        return distances, storage.ids_at(positions), recons

    def _decode_rows(self, storage: ListStorage | InvertedLists, positions: Tensor) -> Tensor:
        return self._decode(storage.codes_at(positions), storage.list_nos_at(positions))
