"""A program with types, as a type checker sees it: ``mypy --strict docs/examples/typed_program.py``."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import numpy.typing as npt

import faiss_torch as faiss

Vectors = npt.NDArray[np.float32]


def build(xb: Vectors, nlist: int) -> faiss.IndexIVFFlat:
    """An inverted file over vectors."""
    quantizer = faiss.IndexFlatL2(xb.shape[1])
    index = faiss.IndexIVFFlat(quantizer, xb.shape[1], nlist, faiss.METRIC_L2)
    index.train(xb)
    index.add(xb)
    index.nprobe = nlist // 2
    return index


def neighbours(index: faiss.Index, xq: Vectors, k: int, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The nearest among the chosen vectors."""
    params = faiss.SearchParametersIVF(sel=faiss.IDSelectorBatch(chosen), nprobe=4)
    D, I = index.search(xq, k, params=params)
    assert D.shape == (len(xq), k)
    found: npt.NDArray[np.int64] = I
    return found


def saved_and_read(index: faiss.Index, folder: pathlib.Path) -> faiss.Index:
    """The index after a trip through a file."""
    path = str(folder / "index.faiss")
    faiss.write_index(index, path)
    return faiss.read_index(path)


def main() -> None:
    rng = np.random.default_rng(0)
    xb = rng.random((2000, 32), dtype=np.float32)
    faiss.normalize_L2(xb)
    index = build(xb, nlist=16)
    with tempfile.TemporaryDirectory() as folder:
        again = saved_and_read(index, pathlib.Path(folder))
    again.nprobe = 16
    chosen = np.arange(0, 2000, 2)
    print(neighbours(again, xb[:3], 4, chosen))

    described = faiss.index_factory(32, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    faiss.ParameterSpace().set_index_parameter(described, "nprobe", 2)
    print(faiss.extract_index_ivf(described).nprobe)

    kmeans = faiss.Kmeans(32, 8, niter=5, seed=1)
    kmeans.train(xb)
    ids = faiss.Int64Vector()
    faiss.copy_array_to_vector(chosen, ids)
    print(kmeans.centroids is not None, faiss.vector_to_array(ids)[:3], faiss.__version__)

    print(isinstance(index, (faiss.IndexPreTransform, faiss.IndexIVF)))  # the first is not offered

    copy: faiss.IndexIVFFlat = faiss.clone_index(index)
    copy.remove_ids(faiss.IDSelectorRange(0, 1000))
    print(copy.ntotal, faiss.serialize_index(copy).nbytes > 0)


if __name__ == "__main__":
    main()
