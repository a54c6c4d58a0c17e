"""IO flags: what is mapped is equal to what is read, and takes no memory before it is used."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

import faiss_torch

MAPPING = ["IO_FLAG_MMAP", "IO_FLAG_MMAP_IFC"]
HARMLESS = [
    "IO_FLAG_READ_ONLY",
    "IO_FLAG_ONDISK_SAME_DIR",
    "IO_FLAG_SKIP_STORAGE",
    "IO_FLAG_SKIP_PRECOMPUTE_TABLE",
    "IO_FLAG_PQ_SKIP_SDC_TABLE",
]


def flag(name):
    return getattr(faiss_torch, name)


@pytest.mark.parametrize("name", ["ivf_l2", "ivf_sparse", "ivf_empty", "ivf_over_ivf", "flat_l2", "flat_empty"])
@pytest.mark.parametrize("flags", MAPPING + HARMLESS)
def test_results_do_not_depend_on_flags(golden, samples, name, flags, written):
    path = golden / f"{name}.bin"
    index, expected = faiss_torch.read_index(str(path), flag(flags)), faiss_torch.read_index(str(path))
    assert written(index) == path.read_bytes()
    for one in (index, expected):
        if hasattr(one, "nprobe"):
            one.nprobe = 3
    for a, b in zip(index.search(samples.vectors(4), 3), expected.search(samples.vectors(4), 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert written(index)[60:] == path.read_bytes()[60:]  # nprobe stands before


@pytest.mark.parametrize("flags", MAPPING)
def test_single_lists_of_a_mapped_file(golden, flags):
    path = str(golden / "ivf_l2.bin")
    mapped, read = faiss_torch.read_index(path, flag(flags)).invlists, faiss_torch.read_index(path).invlists
    assert isinstance(mapped, faiss_torch.ArrayInvertedLists)
    assert (mapped.nlist, mapped.code_size, mapped.compute_ntotal()) == (5, 16, 20)
    for list_no in range(5):
        n = read.list_size(list_no)
        assert mapped.list_size(list_no) == n
        for get, size in (("get_ids", n), ("get_codes", 16 * n)):
            a, b = (faiss_torch.rev_swig_ptr(getattr(one, get)(list_no), size) for one in (mapped, read))
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("flags", MAPPING)
def test_a_mapped_index_can_be_changed_and_its_file_stays(golden, samples, tmp_path, flags, written):
    """Beyond faiss, which refuses (and ends the process): what is changed is loaded first."""
    data = (golden / "ivf_l2.bin").read_bytes()
    (tmp_path / "index").write_bytes(data)
    index = faiss_torch.read_index(str(tmp_path / "index"), flag(flags))
    index.add(samples.vectors(30, seed=3))
    index.remove_ids(np.array([0, 7]))
    expected = faiss_torch.read_index(str(golden / "ivf_l2.bin"))
    expected.add(samples.vectors(30, seed=3))
    expected.remove_ids(np.array([0, 7]))
    assert written(index) == written(expected)
    assert (tmp_path / "index").read_bytes() == data


@pytest.mark.parametrize("flags", MAPPING)
def test_a_mapped_index_is_reset(golden, samples, flags):
    index = faiss_torch.read_index(str(golden / "ivf_l2.bin"), flag(flags))
    index.reset()
    index.nprobe = 5
    assert (index.search(samples.vectors(2), 3)[1] == -1).all()
    assert [index.invlists.list_size(i) for i in range(5)] == [0] * 5
    index.add(samples.vectors(2))
    assert index.search(samples.vectors(2), 3)[1].max() == 1
    assert index.ntotal == index.invlists.compute_ntotal() == 2


def test_writing_to_mapped_vectors_does_not_reach_the_file(samples, tmp_path, written):
    index = samples.flat(faiss_torch, n=32)
    path = str(tmp_path / "index")
    faiss_torch.write_index(index, path)
    mapped = faiss_torch.read_index(path, faiss_torch.IO_FLAG_MMAP_IFC)
    mapped.codes.array[:] = 0
    assert (tmp_path / "index").read_bytes() == written(index)


def test_mapping_takes_no_memory(samples, tmp_path):
    """16 MiB of lists and 16 MiB of vectors are opened; what Python and numpy allocate stays small."""
    n, d = 1 << 16, 64
    quantizer = faiss_torch.IndexFlatL2(d)
    quantizer.add(samples.vectors(2, d=d))
    index = faiss_torch.IndexIVFFlat(quantizer, d, 2)
    index.add(samples.vectors(n, d=d))
    flat = faiss_torch.IndexFlatL2(d)
    flat.add(samples.vectors(n, d=d))
    for one, name in ((index, "ivf"), (flat, "flat")):
        path = str(tmp_path / name)
        faiss_torch.write_index(one, path)
        tracemalloc.start()
        try:
            mapped = faiss_torch.read_index(path, faiss_torch.IO_FLAG_MMAP_IFC)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        data = mapped.codes.array if name == "flat" else mapped.invlists.list_codes(0).numpy()
        assert memory_is_mapped_from(path, data)


def memory_is_mapped_from(path, array):
    """Whether the array stands where the system maps the file."""
    address = array.ctypes.data
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if begin <= address < end:
                return line.rstrip().endswith(path)
    return False


def test_only_lists_that_are_asked_for_are_loaded(golden):
    lists = faiss_torch.read_index(str(golden / "ivf_l2.bin"), faiss_torch.IO_FLAG_MMAP).invlists
    sizes = lists.sizes.tolist()
    some = lists.loaded(torch.tensor([[3, -1], [3, 1]]))
    assert some.sizes.tolist() == [0, sizes[1], 0, sizes[3], 0]
    assert some.list_ids(3).tolist() == lists.list_ids(3).tolist()
    assert some.list_codes(1).tolist() == lists.list_codes(1).tolist()


def test_skipping_lists_is_refused_as_in_faiss(faiss_cpu, golden):
    path = str(golden / "ivf_l2.bin")
    for faiss in (faiss_cpu, faiss_torch):
        with pytest.raises(RuntimeError, match="il"):
            faiss.read_index(path, faiss.IO_FLAG_SKIP_IVF_DATA)
    assert faiss_torch.read_index(str(golden / "flat_l2.bin"), faiss_torch.IO_FLAG_SKIP_IVF_DATA).ntotal == 7


def test_mapping_needs_a_file(faiss_cpu, golden):
    path = str(golden / "ivf_l2.bin")
    data = np.fromfile(path, "uint8")
    for faiss in (faiss_cpu, faiss_torch):
        with pytest.raises(RuntimeError, match=r"[Ff]ile"):
            faiss.deserialize_index(data, faiss.IO_FLAG_MMAP)
        index = faiss.read_index(faiss.FileIOReader(path), faiss.IO_FLAG_MMAP)
        assert index.search(np.zeros((1, 4), "float32"), 1)[1].shape == (1, 1)
        assert faiss.deserialize_index(data, faiss.IO_FLAG_MMAP_IFC).ntotal == 20


@pytest.mark.parametrize("flags", MAPPING)
def test_damage_in_a_mapped_file_is_named(golden, tmp_path, flags):
    data = (golden / "ivf_l2.bin").read_bytes()
    for n in (0, 10, 300, len(data) - 1):
        (tmp_path / "index").write_bytes(data[:n])
        with pytest.raises(RuntimeError, match=r"index: index\."):
            faiss_torch.read_index(str(tmp_path / "index"), flag(flags))


def test_a_mapped_index_is_followed_by_the_next_one(golden, tmp_path, written):
    first, second = ((golden / f"{name}.bin").read_bytes() for name in ("ivf_l2", "ivf_sparse"))
    (tmp_path / "both").write_bytes(first + second)
    reader = faiss_torch.FileIOReader(str(tmp_path / "both"))
    indexes = [faiss_torch.read_index(reader, faiss_torch.IO_FLAG_MMAP) for _ in range(2)]
    assert [written(index) for index in indexes] == [first, second]
