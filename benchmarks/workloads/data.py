"""Vectors to measure with: made up, the embeddings of debian_minilm, and files that a user has.

Files: ``.fvecs``, ``.bvecs`` and ``.ivecs`` (each row an int32 with its length, then float32, uint8 or int32 values,
http://corpus-texmex.irisa.fr), and the HDF5 files of ann-benchmarks (``train``, ``test``, ``neighbors`` and the
attribute ``distance``).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

import numpy as np

from .cases import DEBIAN_MINILM, Workload

Array = np.ndarray
ROOT = pathlib.Path(__file__).resolve().parents[2]

#: What a file's ending says about its values.
VALUES = {".fvecs": np.float32, ".bvecs": np.uint8, ".ivecs": np.int32}

#: faiss's metric for ann-benchmarks' names of distances, and whether vectors are brought to unit length.
DISTANCES = {"euclidean": ("L2", False), "angular": ("IP", True), "dot": ("IP", False)}


# made up, and debian_minilm


@functools.lru_cache(maxsize=4)
def normal_vectors(n: int, d: int, seed: int) -> Array:
    """Return standard normal float32 vectors, shape (n, d)."""
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def data_folder() -> pathlib.Path | None:
    """Return the folder debian_minilm below FAISS_TORCH_DATA or ../shared/data, or None where there is none."""
    folder = pathlib.Path(os.environ.get("FAISS_TORCH_DATA", ROOT.parent / "shared" / "data")) / "debian_minilm"
    return folder if (folder / "base.npy").exists() else None


@functools.cache
def embeddings() -> tuple[Array, Array]:
    """Return database and queries of debian_minilm, or clustered vectors of that shape where they are absent."""
    folder = data_folder()
    if folder is not None:
        base, query = (np.load(folder / name).astype(np.float32) for name in ("base.npy", "query.npy"))
        return base, query
    print("debian_minilm is absent: clustered synthetic vectors of its shape instead", flush=True)
    rng = np.random.default_rng(1)
    centers = rng.standard_normal((300, 384))
    vectors = centers[rng.integers(300, size=60_004)] + 0.7 * rng.standard_normal((60_004, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:58_004], vectors[58_004:]


def source_of(workload: Workload) -> str:
    """Return which data a workload really has, for its record."""
    absent = workload.data == DEBIAN_MINILM and data_folder() is None
    return f"synthetic in place of {workload.data}" if absent else workload.data


def database(workload: Workload) -> Array:
    """Return the vectors to be indexed, shape (nb, d)."""
    if workload.data == DEBIAN_MINILM:
        return embeddings()[0][: workload.nb]
    return normal_vectors(workload.nb, workload.d, 1)


def queries(workload: Workload) -> Array:
    """Return the vectors to be searched for, shape (nq, d)."""
    if workload.data == DEBIAN_MINILM:
        return embeddings()[1][: workload.nq]
    return normal_vectors(workload.nq, workload.d, 2)


# files


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A user's vectors.

    Attributes
    ----------
    name : str
    xb, xq : array, shape (nb, d) and (nq, d), float32
    neighbours : array or None, shape (nq, at least k), int
        The exact neighbours, where the file has them.
    metric : str
        "L2" or "IP".
    """

    name: str
    xb: Array
    xq: Array
    neighbours: Array | None
    metric: str


def read_vecs(path: pathlib.Path, limit: int | None = None) -> Array:
    """Return the rows of a .fvecs, .bvecs or .ivecs file, as a view of the mapped file.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Only so many rows from the beginning.

    Raises
    ------
    ValueError
        If the file is not a whole number of rows of one length.
    """
    values = np.dtype(VALUES[path.suffix])
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    d = int(mapped[:4].view("<i4")[0]) if size >= 4 else 0
    row = 4 + d * values.itemsize
    if d <= 0 or size % row:
        raise ValueError(f"{path}: {size} bytes are not rows of {d} values of {values.itemsize} bytes, as it begins")
    rows = mapped.reshape(-1, row)
    if int(rows[-1, :4].view("<i4")[0]) != d:
        raise ValueError(f"{path}: the first row has {d} values and the last one does not")
    return rows[:limit, 4:].view(values.newbyteorder("<"))


def as_floats(x: Array) -> Array:
    """Return vectors as a contiguous float32 array in memory."""
    return np.ascontiguousarray(x, dtype=np.float32)


def _only(folder: pathlib.Path, *patterns: str) -> pathlib.Path | None:
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    if len(found) > 1:
        raise ValueError(f"{folder} has several of {', '.join(patterns)}: {', '.join(path.name for path in found)}")
    return found[0] if found else None


def read_folder(folder: pathlib.Path, limit: int | None = None) -> Dataset:
    """Return the vectors of a folder with ``*_base``, ``*_query`` and perhaps ``*_groundtruth.ivecs``."""
    base = _only(folder, "*base.fvecs", "*base.bvecs")
    query = _only(folder, "*query.fvecs", "*query.bvecs")
    if base is None or query is None:
        raise ValueError(f"{folder} has no *_base.fvecs (or .bvecs) or no *_query.fvecs (or .bvecs)")
    truth = _only(folder, "*groundtruth.ivecs")
    xb, xq = as_floats(read_vecs(base, limit)), as_floats(read_vecs(query))
    neighbours = np.array(read_vecs(truth)) if truth is not None and limit is None else None
    return Dataset(folder.name, xb, xq, neighbours, "L2")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise SystemExit("HDF5 files need h5py: python -m pip install h5py, or .[bench]") from None
    return h5py


def read_hdf5(path: pathlib.Path, limit: int | None = None) -> Dataset:
    """Return the vectors of an ann-benchmarks file."""
    with _h5py().File(path, "r") as file:
        distance = file.attrs.get("distance", "euclidean")
        distance = distance.decode() if isinstance(distance, bytes) else str(distance)
        if distance not in DISTANCES:
            raise ValueError(f"{path}: distance {distance!r} is none of {', '.join(DISTANCES)}")
        metric, normalized = DISTANCES[distance]
        xb, xq = as_floats(file["train"][:limit]), as_floats(file["test"][:])
        neighbours = file["neighbors"][:] if "neighbors" in file and limit is None else None
    if normalized:
        xb, xq = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-30)) for x in (xb, xq))
    return Dataset(path.stem, xb, xq, neighbours, metric)


def read_dataset(path: pathlib.Path, limit: int | None = None) -> Dataset:
    """Return a user's vectors: a folder of .fvecs or .bvecs files, or an HDF5 file of ann-benchmarks.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Only so many database vectors; the file's own ground truth does not hold then, and is left out.

    Raises
    ------
    ValueError
        If these are no vectors in one of the two forms.
    """
    if path.is_dir():
        return read_folder(path, limit)
    if not path.exists():
        raise ValueError(f"there is no {path}")
    if path.suffix in {".hdf5", ".h5"}:
        return read_hdf5(path, limit)
    raise ValueError(f"{path} is neither a folder of .fvecs or .bvecs files nor an .hdf5 file of ann-benchmarks")
