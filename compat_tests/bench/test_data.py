"""Vectors from files: .fvecs, .bvecs, .ivecs, HDF5, and a user's own table from them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def write_vecs(path, x):
    """Write rows as their length and their values."""
    x = np.ascontiguousarray(x)
    lengths = np.full((len(x), 1), x.shape[1], dtype="<i4").view(np.uint8)
    path.write_bytes(np.hstack([lengths, x.view(np.uint8).reshape(len(x), -1)]).tobytes())


@pytest.fixture
def vectors():
    """A database, queries, and the exact neighbours of these."""
    rng = np.random.default_rng(0)
    xb, xq = rng.standard_normal((2000, 8), dtype=np.float32), rng.standard_normal((30, 8), dtype=np.float32)
    distances = ((xq[:, None].astype(np.float64) - xb[None]) ** 2).sum(axis=2)
    return xb, xq, np.argsort(distances, axis=1)[:, :20].astype(np.int32)


@pytest.fixture
def folder(vectors, tmp_path):
    """The three as files, as SIFT1M comes."""
    for name, x in zip(("small_base.fvecs", "small_query.fvecs", "small_groundtruth.ivecs"), vectors, strict=True):
        write_vecs(tmp_path / name, x)
    return tmp_path


@pytest.mark.parametrize(("suffix", "dtype"), [(".fvecs", np.float32), (".bvecs", np.uint8), (".ivecs", np.int32)])
@pytest.mark.parametrize("d", [1, 3, 97])
def test_read_vecs(tmp_path, suffix, dtype, d):
    """Rows come back as they were written; so many of them as are asked for."""
    from benchmarks.workloads.data import read_vecs

    x = np.random.default_rng(d).integers(0, 256, size=(5, d)).astype(dtype)
    write_vecs(tmp_path / f"x{suffix}", x)
    found = read_vecs(tmp_path / f"x{suffix}")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(read_vecs(tmp_path / f"x{suffix}", 2), x[:2])


@pytest.mark.parametrize("content", [b"", b"\x01\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x02\0\0\0" + bytes(7)])
def test_files_that_are_no_rows(tmp_path, content):
    """A file that is cut off, empty or something else is named in the error."""
    from benchmarks.workloads.data import read_vecs

    (tmp_path / "x.fvecs").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.fvecs"):
        read_vecs(tmp_path / "x.fvecs")


def test_rows_of_different_lengths(tmp_path):
    """Rows that only together have the right size are refused."""
    from benchmarks.workloads.data import read_vecs

    row = np.array([2, 0, 0], dtype="<i4").tobytes()
    (tmp_path / "x.ivecs").write_bytes(row + np.array([1, 0, 0], dtype="<i4").tobytes())
    with pytest.raises(ValueError, match="last one"):
        read_vecs(tmp_path / "x.ivecs")


def test_a_folder(folder, vectors):
    """Base, queries and ground truth; the latter does not hold for a part of the base."""
    from benchmarks.workloads.data import read_dataset

    found = read_dataset(folder)
    assert (found.name, found.metric) == (folder.name, "L2")
    for x, y in zip((found.xb, found.xq, found.neighbours), vectors, strict=True):
        np.testing.assert_array_equal(x, y)
    part = read_dataset(folder, 100)
    assert len(part.xb) == 100
    assert part.neighbours is None
    write_vecs(folder / "other_base.fvecs", vectors[0])
    with pytest.raises(ValueError, match="several"):
        read_dataset(folder)


def test_bytes_as_vectors(tmp_path, vectors):
    """Vectors of bytes are searched as floats."""
    from benchmarks.workloads.data import read_dataset

    write_vecs(tmp_path / "b_base.bvecs", np.arange(40, dtype=np.uint8).reshape(10, 4))
    write_vecs(tmp_path / "b_query.bvecs", np.arange(4, dtype=np.uint8).reshape(1, 4))
    found = read_dataset(tmp_path)
    assert found.xb.dtype == np.float32
    assert found.xb[9].tolist() == [36, 37, 38, 39]
    assert found.neighbours is None


def test_what_is_no_dataset(tmp_path):
    """Each wrong path is told apart."""
    from benchmarks.workloads.data import read_dataset

    with pytest.raises(ValueError, match="base"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        read_dataset(tmp_path / "absent.hdf5")
    (tmp_path / "x.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match="neither"):
        read_dataset(tmp_path / "x.csv")


@pytest.mark.parametrize("distance", ["euclidean", "angular"])
def test_hdf5(tmp_path, vectors, distance):
    """A file of ann-benchmarks; angular distance means unit length and inner product."""
    h5py = pytest.importorskip("h5py")
    from benchmarks.workloads.data import read_dataset

    xb, xq, neighbours = vectors
    with h5py.File(tmp_path / "small.hdf5", "w") as file:
        file["train"], file["test"], file["neighbors"] = xb.astype(np.float64), xq, neighbours
        file.attrs["distance"] = distance
    found = read_dataset(tmp_path / "small.hdf5")
    assert (found.name, found.xb.dtype) == ("small", np.float32)
    np.testing.assert_array_equal(found.neighbours, neighbours)
    if distance == "euclidean":
        assert found.metric == "L2"
        np.testing.assert_array_equal(found.xq, xq)
    else:
        assert found.metric == "IP"
        np.testing.assert_allclose(np.linalg.norm(found.xb, axis=1), 1, rtol=1e-6)
    assert read_dataset(tmp_path / "small.hdf5", 50).neighbours is None


def test_hdf5_of_another_distance(tmp_path):
    """Sets of bits are not searched by these indexes."""
    h5py = pytest.importorskip("h5py")
    from benchmarks.workloads.data import read_dataset

    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.attrs["distance"] = "jaccard"
    with pytest.raises(ValueError, match="jaccard"):
        read_dataset(tmp_path / "x.hdf5")


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    """The message says what to install."""
    from benchmarks.workloads.data import read_dataset

    (tmp_path / "x.hdf5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SystemExit, match="pip install h5py"):
        read_dataset(tmp_path / "x.hdf5")


@pytest.mark.slow
def test_embeddings_that_are_absent(monkeypatch, tmp_path, capsys):
    """Without the folder, vectors of the same shape are made up, and that is said and recorded."""
    from benchmarks.workloads import data
    from benchmarks.workloads.cases import MINILM

    monkeypatch.setenv("FAISS_TORCH_DATA", str(tmp_path))
    data.embeddings.cache_clear()
    try:
        assert data.database(MINILM).shape == (58_004, 384)
        assert data.queries(MINILM.with_(nq=7)).shape == (7, 384)
    finally:
        data.embeddings.cache_clear()
    assert "synthetic" in capsys.readouterr().out
    assert data.source_of(MINILM) == "synthetic in place of debian_minilm"
    assert data.source_of(MINILM.with_(data="normal")) == "normal"


def test_a_table_of_ones_own(bench, folder, capsys):
    """One command builds, searches and prints: recall grows to one, and both sides have the same."""
    assert bench.main(["--data", str(folder), "--nlist", "16", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder.name}: 2,000 vectors of 8 dimensions, 30 queries, L2"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert rows[0][0] == "build IVF16,Flat"
    assert [row[0] for row in rows[1:]] == [f"search, nprobe={nprobe}" for nprobe in (1, 2, 4, 8, 16)]
    assert all(row[1] == row[2] for row in rows[1:])
    recalls = [float(row[1]) for row in rows[1:]]
    assert recalls == sorted(recalls)
    assert 0.1 < recalls[0] < 0.9
    assert recalls[-1] == 1
    assert all(row[3].endswith("QPS") and row[4].endswith("QPS") for row in rows[1:])


def test_a_table_without_ground_truth(bench, folder, capsys):
    """It is worked out where the file has none, or has none for the part that is asked for."""
    assert bench.main(["--data", str(folder), "--nb", "1000", "--nlist", "4", "--k", "5", "--repeats", "1"]) == 0
    assert "| search, nprobe=4 | 1.0000 | 1.0000 |" in capsys.readouterr().out


def test_a_table_of_nothing(bench, tmp_path):
    """What is wrong with the path is said."""
    with pytest.raises(SystemExit, match="there is no"):
        bench.main(["--data", str(tmp_path / "absent")])


def test_default_number_of_lists():
    """A power of two near 4 sqrt(nb), and no more than there are vectors to train on."""
    from benchmarks.measuring.own_data import default_nlist

    assert default_nlist(1_000_000) == 4096
    assert default_nlist(1000) == 16
    assert default_nlist(10) == 1
