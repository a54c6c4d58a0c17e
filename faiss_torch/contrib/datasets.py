"""Data sets for tests, as ``faiss.contrib.datasets`` has them: public ones, in files that a user has.

Nothing is downloaded. Each class says which files it reads, in a folder of its own below `dataset_basedir`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from .. import knn, normalize_L2
from .dataset import Dataset, SyntheticDataset
from .vecs_io import bvecs_iter, bvecs_iter_chunked, bvecs_mmap, fvecs_mmap, fvecs_read, ivecs_read

__all__ = [
    "Dataset",
    "DatasetBigANN",
    "DatasetDINO10B",
    "DatasetDeep1B",
    "DatasetGIST1M",
    "DatasetGlove",
    "DatasetMusic100",
    "DatasetSIFT1M",
    "SyntheticDataset",
    "bvecs_iter",
    "bvecs_iter_chunked",
    "bvecs_mmap",
    "dataset_from_name",
    "fvecs_mmap",
    "fvecs_read",
    "ivecs_read",
    "knn",
    "sanitize",
    "set_dataset_basedir",
]

Array = np.ndarray


def _guessed_basedir() -> str:
    folder = os.path.expanduser("~/simsearch/data/")
    return folder if os.path.exists(folder) else "data/"


#: The folder below which the data sets have theirs; `set_dataset_basedir` names another.
dataset_basedir = _guessed_basedir()


def set_dataset_basedir(path: str | os.PathLike[str]) -> None:
    """Say below which folder the data sets are; those that are made from now on read there."""
    global dataset_basedir
    dataset_basedir = os.path.join(path, "")


def sanitize(x: Array) -> Array:
    """Return vectors as contiguous float32."""
    return np.ascontiguousarray(x, dtype="float32")


def _first_columns(groundtruth: Array, k: int | None) -> Array:
    """Return the first k neighbours of a ground truth of 100."""
    assert k is None or k <= 100, f"k is {k}, but the ground truth has 100 neighbours"
    return groundtruth[:, :k]


def _batches(x: Array, bs: int, split: tuple[int, int]) -> Iterator[Array]:
    """Yield one part of mapped vectors in batches of float32."""
    nsplit, rank = split
    stop = len(x) * (rank + 1) // nsplit
    for i in range(len(x) * rank // nsplit, stop, bs):
        yield sanitize(x[i : min(i + bs, stop)])


class _DatasetInFiles(Dataset):
    """Data in a folder of its own.

    Attributes
    ----------
    basedir : str
        The folder.
    """

    def __init__(self, folder: str, d: int, nt: int, nb: int, nq: int, metric: str = "L2") -> None:
        super().__init__()
        self.d, self.nt, self.nb, self.nq, self.metric = d, nt, nb, nq, metric
        self.basedir = os.path.join(dataset_basedir, folder, "")


class _DatasetOfTexmex(_DatasetInFiles):
    """One of the smaller sets of http://corpus-texmex.irisa.fr/: ``NAME_base.fvecs`` and the like."""

    def __init__(self, folder: str, name: str, d: int) -> None:
        super().__init__(folder, d, 100_000, 1_000_000, 10_000)
        self._name = name

    def _path(self, part: str) -> str:
        return f"{self.basedir}{self._name}_{part}"

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return fvecs_read(self._path("query.fvecs"))

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the training vectors, shape (nt, d), or the first `maxtrain` of them."""
        return fvecs_read(self._path("learn.fvecs"))[: self.nt if maxtrain is None else maxtrain]

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d)."""
        return fvecs_read(self._path("base.fvecs"))

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 100."""
        return _first_columns(ivecs_read(self._path("groundtruth.ivecs")), k)


class DatasetSIFT1M(_DatasetOfTexmex):
    """ANN_SIFT1M of http://corpus-texmex.irisa.fr/: a million vectors of 128 dimensions, in ``sift1M/``."""

    def __init__(self) -> None:
        super().__init__("sift1M", "sift", 128)


class DatasetGIST1M(_DatasetOfTexmex):
    """ANN_GIST1M of http://corpus-texmex.irisa.fr/: a million vectors of 960 dimensions, in ``gist1M/``."""

    def __init__(self) -> None:
        super().__init__("gist1M", "gist", 960)


class DatasetBigANN(_DatasetInFiles):
    """ANN_SIFT1B of http://corpus-texmex.irisa.fr/, or the first vectors of it, in ``bigann/``.

    Parameters
    ----------
    nb_M : int
        Millions of database vectors: 1, 2, 5, 10 ... 1000.
    """

    def __init__(self, nb_M: int = 1000) -> None:
        sizes = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        assert nb_M in sizes, f"nb_M is {nb_M}, expected one of {sizes}"
        super().__init__("bigann", 128, 10**8, nb_M * 10**6, 10_000)
        self.nb_M = nb_M

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return sanitize(bvecs_mmap(self.basedir + "bigann_query.bvecs"))

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the training vectors, shape (nt, d), or the first `maxtrain` of them."""
        return sanitize(bvecs_mmap(self.basedir + "bigann_learn.bvecs")[: self.nt if maxtrain is None else maxtrain])

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 100."""
        return _first_columns(ivecs_read(f"{self.basedir}gnd/idx_{self.nb_M}M.ivecs"), k)

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d), for fewer than 100 million."""
        assert self.nb_M < 100, f"{self.nb_M} million vectors are too many for memory: use database_iterator"
        return sanitize(bvecs_mmap(self.basedir + "bigann_base.bvecs")[: self.nb])

    def database_iterator(self, bs: int = 128, split: tuple[int, int] = (1, 0)) -> Iterator[Array]:
        """Yield the database vectors, or one part of them, in batches of `bs`."""
        return _batches(bvecs_mmap(self.basedir + "bigann_base.bvecs")[: self.nb], bs, split)


class DatasetDeep1B(_DatasetInFiles):
    """Deep1B, or the first vectors of it, in ``deep1b/``; faiss's ``benchs`` say where it is had.

    Parameters
    ----------
    nb : int
        Database vectors: 100 thousand, or 1, 10, 100 or 1000 million.
    """

    _NAMES: ClassVar = {10**5: "100k", 10**6: "1M", 10**7: "10M", 10**8: "100M", 10**9: "1B"}

    def __init__(self, nb: int = 10**9) -> None:
        assert nb in self._NAMES, f"nb is {nb}, expected one of {list(self._NAMES)}"
        super().__init__("deep1b", 96, 358_480_000, nb, 10_000)
        self.gt_fname = f"{self.basedir}deep{self._NAMES[nb]}_groundtruth.ivecs"

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return sanitize(fvecs_read(self.basedir + "deep1B_queries.fvecs"))

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the training vectors, shape (nt, d), or the first `maxtrain` of them."""
        return sanitize(fvecs_mmap(self.basedir + "learn.fvecs")[: self.nt if maxtrain is None else maxtrain])

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 100."""
        return _first_columns(ivecs_read(self.gt_fname), k)

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d), for up to 100 million."""
        assert self.nb <= 10**8, f"{self.nb} vectors are too many for memory: use database_iterator"
        return sanitize(fvecs_mmap(self.basedir + "base.fvecs")[: self.nb])

    def database_iterator(self, bs: int = 128, split: tuple[int, int] = (1, 0)) -> Iterator[Array]:
        """Yield the database vectors, or one part of them, in batches of `bs`."""
        return _batches(fvecs_mmap(self.basedir + "base.fvecs")[: self.nb], bs, split)


class DatasetGlove(_DatasetInFiles):
    """``glove-100-angular.hdf5`` of http://ann-benchmarks.com, normalised, in ``glove/``; needs h5py.

    Parameters
    ----------
    loc : str, optional
        The file, if it is elsewhere.
    download : bool
        Must be False, as in faiss.
    """

    def __init__(self, loc: str | None = None, download: bool = False) -> None:
        import h5py

        assert not download, "nothing is downloaded: fetch the file, and name it by loc="
        super().__init__("glove", 100, 0, -1, -1, "IP")
        self.glove_h5py = h5py.File(loc or self.basedir + "glove-100-angular.hdf5", "r")
        self.nb = self.glove_h5py["train"].shape[0]
        self.nq = self.glove_h5py["test"].shape[0]

    def _normalized(self, name: str) -> Array:
        x = sanitize(self.glove_h5py[name][:])
        normalize_L2(x)
        return x

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return self._normalized("test")

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d)."""
        return self._normalized("train")

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 100."""
        return _first_columns(self.glove_h5py["neighbors"][:], k)


class DatasetMusic100(_DatasetInFiles):
    """music-100 of https://github.com/stanis-morozov/ip-nsw, in ``music-100/``."""

    def __init__(self) -> None:
        super().__init__("music-100", 100, 0, 1_000_000, 10_000, "IP")

    def _read(self, name: str) -> Array:
        return np.fromfile(self.basedir + name, dtype="float32").reshape(-1, self.d)

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return self._read("query_music100.bin")

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d)."""
        return self._read("database_music100.bin")

    def get_groundtruth(self, k: int | None = None) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 100."""
        return _first_columns(np.load(self.basedir + "gt.npy"), k)


class DatasetDINO10B(_DatasetInFiles):
    """Vectors of image patches by DINO, of https://dl.fbaipublicfiles.com/large_objects/dino_vitl_10B/, or the first of
    them, in ``dino_vitl_10B/``.

    Parameters
    ----------
    nb : int
        Database vectors: 1, 2 or 5 times a power of ten, 100 thousand to 10 thousand million.
    ignore_supported : bool
        Take other numbers too, for which there is no ground truth.
    """

    def __init__(self, nb: int, ignore_supported: bool = False) -> None:
        sizes = [digit * 10**power for power in range(5, 11) for digit in (1, 2, 5)][:-2]
        if nb not in sizes and not ignore_supported:
            raise ValueError(f"Unsupported dataset size: {nb}, supported values are: {sizes}")
        if not os.path.exists(dataset_basedir):
            raise ValueError(f"Provided dataset base directory does not exist: {dataset_basedir}")
        super().__init__("dino_vitl_10B", 1024, 99_000_000, nb, 100_000)
        self.indexdir = self.basedir + "chunked_base_10B"
        self.queriesdir = self.basedir + "queries_clean.bvecs"
        self.gtsdir = f"{self.basedir}gts/gts_dino_patch_{nb}_k10.npy"
        self.train_queriesdir = self.basedir + "train_queries_99M.bvecs"
        for path in (self.indexdir, self.queriesdir):
            assert os.path.exists(path), f"{path} is not there: see set_dataset_basedir"

    def get_queries(self) -> Array:
        """Return the query vectors, shape (nq, d)."""
        return sanitize(bvecs_mmap(self.queriesdir))

    def get_train(self, maxtrain: int | None = None) -> Array:
        """Return the first `maxtrain` training vectors, up to ten million."""
        if maxtrain is None or maxtrain > 10_000_000:
            raise NotImplementedError(f"maxtrain is {maxtrain}: use train_iterator for more than 10_000_000")
        return sanitize(bvecs_mmap(self.train_queriesdir)[:maxtrain])

    def get_database(self) -> Array:
        """Return the database vectors, shape (nb, d), for up to ten million."""
        if self.nb > 10_000_000:
            raise NotImplementedError(f"{self.nb} vectors are too many for memory: use database_iterator")
        return sanitize(next(bvecs_iter_chunked(self.indexdir, batch_size=self.nb)))

    def database_iterator(self, bs: int = 10_000) -> Iterator[Array]:  # type: ignore[override]
        """Yield the database vectors in batches of `bs`."""
        left = self.nb
        for batch in bvecs_iter_chunked(self.indexdir, batch_size=bs):
            yield sanitize(batch[:left])
            left -= len(batch)
            if left <= 0:
                break

    def train_iterator(self, bs: int = 10_000) -> Iterator[Array]:
        """Yield the training vectors in batches of `bs`."""
        for batch in bvecs_iter(self.train_queriesdir, batch_size=bs):
            yield sanitize(batch)

    def get_groundtruth(self, k: int | None = 10) -> Array:
        """Return the ids of the exact nearest neighbours of the queries, shape (nq, k), k <= 10."""
        if k is not None and k > 10:
            raise NotImplementedError(f"k is {k}, but the ground truth has 10 neighbours")
        return np.load(self.gtsdir)[:, :k]

    def distance(self) -> str:
        """Return the name of the distance."""
        return "euclidean"


def _deep1b_of(suffix: str) -> DatasetDeep1B:
    if suffix == "1B":
        return DatasetDeep1B()
    units = {"k": 1000, "M": 10**6}
    assert suffix[-1:] in units, f"did not recognize suffix {suffix}"
    return DatasetDeep1B(int(suffix[:-1]) * units[suffix[-1]])


def dataset_from_name(dataset: str = "deep1M", download: bool = False) -> Dataset:
    """Make a data set from its name.

    Parameters
    ----------
    dataset : str
        sift1M, gist1M, bigann1M ... bigann1B, deep100k ... deep1B, music-100, glove, dino100000 ... dino10B.
    download : bool
        Must be False for glove, and is not looked at for others.

    Raises
    ------
    RuntimeError
        If there is no such data set.
    """
    fixed: dict[str, Any] = {
        "sift1M": DatasetSIFT1M,
        "gist1M": DatasetGIST1M,
        "music-100": DatasetMusic100,
        "glove": lambda: DatasetGlove(download=download),
        "bigann1B": DatasetBigANN,
        "dino10B": lambda: DatasetDINO10B(10**10),
    }
    if dataset in fixed:
        return fixed[dataset]()
    if dataset.startswith("bigann"):
        return DatasetBigANN(int(dataset[len("bigann") : -1]))
    if dataset.startswith("deep"):
        return _deep1b_of(dataset[len("deep") :])
    if dataset.startswith("dino"):
        return DatasetDINO10B(int(dataset[len("dino") :]))
    raise RuntimeError(f"unknown dataset {dataset}")
