"""The committed files, made by faiss-cpu 1.15.1 (make_golden.py), are read and written again byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

import faiss_torch


def test_every_sample_has_a_file_and_each_is_small(golden, samples):
    files = {path.stem: path.stat().st_size for path in golden.glob("*.bin")}
    assert set(files) == {*samples.SAMPLES, "legacy_bytes", "legacy_floats"}
    assert max(files.values()) < 4096


def test_reading_and_writing_again(golden, sample):
    path = golden / f"{sample}.bin"
    index = faiss_torch.read_index(str(path))
    assert faiss_torch.serialize_index(index).tobytes() == path.read_bytes()


def test_what_the_files_hold(golden, samples, searchable):
    index = faiss_torch.read_index(str(golden / f"{searchable}.bin"))
    built = samples.SAMPLES[searchable](faiss_torch)
    assert index.ntotal == built.ntotal
    if "one_dimension" in searchable:
        assert type(index) is faiss_torch.IndexFlatL2  # a file does not know IndexFlat1D
        return
    queries = samples.vectors(5, seed=9, d=index.d)
    (D, I), (D_ref, I_ref) = index.search(queries, 3), built.search(queries, 3)
    np.testing.assert_array_equal(D, D_ref)
    if searchable == "ivf_dedup_instances":  # faiss's multimap has an order of its own for equal vectors
        I, I_ref = I % 5, I_ref % 5
    np.testing.assert_array_equal(I, I_ref)


@pytest.mark.parametrize("name", ["legacy_bytes", "legacy_floats"])
def test_legacy_files(golden, samples, name):
    index = faiss_torch.read_index(str(golden / f"{name}.bin"))
    assert (type(index), index.ntotal, index.nlist, index.nprobe) == (faiss_torch.IndexIVFFlat, 5, 3, 2)
    assert [index.invlists.list_size(i) for i in range(3)] == [2, 0, 3]
    D, I = index.search(samples.vectors(3, seed=5), 1)  # what list 2 was filled with
    np.testing.assert_array_equal(I[:, 0] >= 0, True)
    index.nprobe = 3
    D, I = index.search(samples.vectors(3, seed=5), 1)
    np.testing.assert_array_equal(I[:, 0], [0, 2, 3])
    np.testing.assert_array_equal(D, 0)


def test_legacy_files_are_written_in_the_format_of_today(golden, faiss_cpu):
    index = faiss_torch.read_index(str(golden / "legacy_floats.bin"))
    theirs = faiss_cpu.read_index(str(golden / "legacy_floats.bin"))
    assert faiss_torch.serialize_index(index).tobytes() == faiss_cpu.serialize_index(theirs).tobytes()
