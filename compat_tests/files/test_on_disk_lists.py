"""Index files whose lists are in a file of their own: in both directions, and damaged ones."""

from __future__ import annotations

import importlib
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import faiss_torch
from faiss_torch.parts.lists.file_slots import FreeSlots

D, NLIST = 6, 5


def make(faiss, path, nb=100):
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(np.random.RandomState(1).rand(NLIST, D).astype("float32"))
    index = faiss.IndexIVFFlat(quantizer, D, NLIST)
    lists = faiss.OnDiskInvertedLists(NLIST, 4 * D, str(path))
    index.referenced_objects = [quantizer, lists]
    index.own_invlists = False
    index.replace_invlists(lists, False)
    xb = np.random.RandomState(2).rand(nb, D).astype("float32")
    for begin in range(0, nb, 9):
        index.add(xb[begin : begin + 9])
    index.nprobe = 3
    return index


@pytest.mark.parametrize("first", ["faiss", "faiss_torch"])
def test_one_goes_on_where_the_other_stopped(faiss_cpu, first, tmp_path):
    """Written by one, read and added to by the other, and read by the first again."""
    one, other = (faiss_cpu, faiss_torch) if first == "faiss" else (faiss_torch, faiss_cpu)
    path, xq = str(tmp_path / "index"), np.random.RandomState(3).rand(30, D).astype("float32")
    index = make(one, tmp_path / "lists")
    expected = index.search(xq, 5)
    one.write_index(index, path)
    again = other.read_index(path)
    for found, wanted in zip(again.search(xq, 5), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    again.add(xq)
    again.remove_ids(np.arange(0, 100, 2))
    other.write_index(again, path)
    last = one.read_index(path)
    assert last.ntotal == last.invlists.compute_ntotal() == 80
    for found, wanted in zip(last.search(xq, 5), again.search(xq, 5), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    theirs = faiss_cpu.downcast_InvertedLists((last if one is faiss_cpu else again).invlists)
    ours = (last if one is faiss_torch else again).invlists
    places = [[(il.lists.at(i).offset, il.lists.at(i).capacity) for i in range(NLIST)] for il in (theirs, ours)]
    assert places[0] == places[1]
    assert theirs.totsize == ours.totsize == os.path.getsize(tmp_path / "lists")


def merged(faiss, folder):
    """An empty index that got the lists of two files, in the format of the library."""
    merge_ondisk = importlib.import_module(f"{faiss.__name__}.contrib.ondisk").merge_ondisk
    xb = np.random.RandomState(2).rand(60, D).astype("float32")
    quantizer = faiss.IndexFlatL2(D)
    quantizer.add(np.random.RandomState(1).rand(NLIST, D).astype("float32"))
    trained = faiss.IndexIVFFlat(quantizer, D, NLIST)
    trained.referenced_objects = [quantizer]
    names = []
    for part in (slice(0, 40), slice(40, 60)):
        trained.add_with_ids(xb[part], np.arange(60)[part])
        names.append(str(folder / f"part{len(names)}"))
        faiss.write_index(trained, names[-1])
        trained.reset()
    merge_ondisk(trained, names, str(folder / "lists"))
    faiss.write_index(trained, str(folder / "index"))
    return xb


def test_merging_writes_the_same_bytes(faiss_cpu, tmp_path):
    merged(faiss_cpu, tmp_path)
    theirs = [(tmp_path / name).read_bytes() for name in ("index", "lists")]
    merged(faiss_torch, tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("index", "lists")] == theirs


@pytest.mark.parametrize("maker", ["faiss", "faiss_torch"])
def test_adding_to_merged_lists_overwrites_nothing(faiss_cpu, maker, tmp_path):
    """A file of merged lists says that the whole of it is free; faiss writes new entries over old ones."""
    xb = merged(faiss_cpu if maker == "faiss" else faiss_torch, tmp_path)
    index = faiss_torch.read_index(str(tmp_path / "index"))
    index.nprobe = NLIST
    index.add_with_ids(xb[:1] + 1, np.array([60]))
    index.add_with_ids(xb + 2, np.arange(61, 121))
    assert index.search(xb, 1)[1].ravel().tolist() == list(range(60))
    assert index.search(xb + 2, 1)[1].ravel().tolist() == list(range(61, 121))


def test_lists_without_a_filename():
    lists = faiss_torch.OnDiskInvertedLists(3, 4)
    with pytest.raises(RuntimeError, match=r"could not resize .*: the lists have no filename"):
        lists.add_entry(0, 1, np.zeros(4, "uint8"))
    assert (lists.compute_ntotal(), lists.totsize) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=6), st.data())
def test_what_is_in_use_is_not_free(pieces, data):
    slots = FreeSlots()
    free = data.draw(st.sets(st.integers(0, 50)))
    for byte in free:
        slots.free(byte, 1)
    slots.exclude((begin, begin + n) for begin, n in pieces)
    used = {byte for begin, n in pieces for byte in range(begin, begin + n)}
    ranges = [range(offset, offset + n) for offset, n in zip(slots.offsets, slots.capacities, strict=True)]
    assert [byte for one in ranges for byte in one] == sorted(free - used)


def test_what_was_read_is_written_again(tmp_path, written):
    index = make(faiss_torch, tmp_path / "lists")
    data = written(index)
    assert written(faiss_torch.deserialize_index(np.frombuffer(data, "uint8").copy())) == data
    empty = faiss_torch.IndexIVFFlat(faiss_torch.IndexFlatL2(D), D, NLIST)
    empty.replace_invlists(faiss_torch.OnDiskInvertedLists(NLIST, 4 * D, str(tmp_path / "none")))
    assert faiss_torch.deserialize_index(faiss_torch.serialize_index(empty)).invlists.compute_ntotal() == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("flags", ["IO_FLAG_MMAP", "IO_FLAG_READ_ONLY"])
def test_lists_are_mapped_and_searched(flags, tmp_path):
    """Beyond faiss, whose IO_FLAG_MMAP leaves these lists without their data."""
    index, path = make(faiss_torch, tmp_path / "lists"), str(tmp_path / "index")
    faiss_torch.write_index(index, path)
    again = faiss_torch.read_index(path, getattr(faiss_torch, flags))
    xq = np.random.RandomState(3).rand(3, D).astype("float32")
    np.testing.assert_array_equal(again.search(xq, 5)[1], index.search(xq, 5)[1])


def test_lists_without_their_data(tmp_path):
    path = str(tmp_path / "index")
    faiss_torch.write_index(make(faiss_torch, tmp_path / "lists"), path)
    index = faiss_torch.read_index(path, faiss_torch.IO_FLAG_SKIP_IVF_DATA)
    with pytest.raises(RuntimeError, match="read without their data"):
        index.search(np.zeros((1, D), "float32"), 1)
    index.invlists.do_mmap()
    assert index.search(np.zeros((1, D), "float32"), 1)[1][0, 0] >= 0


def test_a_read_only_file_is_not_written(tmp_path):
    path = str(tmp_path / "index")
    faiss_torch.write_index(make(faiss_torch, tmp_path / "lists"), path)
    before = (tmp_path / "lists").read_bytes()
    index = faiss_torch.read_index(path, faiss_torch.IO_FLAG_READ_ONLY)
    for change in (
        lambda: index.add(np.zeros((1, D), "float32")),
        lambda: index.remove_ids(np.array([3])),
        index.reset,
        lambda: index.invlists.resize(0, 1),
    ):
        with pytest.raises(RuntimeError, match="read-only"):
            change()
        assert index.ntotal == 100
    pointer = index.invlists.get_codes(int(index.invlists.sizes.argmax()))
    with pytest.raises(ValueError, match="read-only"):
        pointer[0] = 1
    assert (tmp_path / "lists").read_bytes() == before


def test_a_truncated_file_of_lists(tmp_path):
    path = str(tmp_path / "index")
    faiss_torch.write_index(make(faiss_torch, tmp_path / "lists"), path)
    os.truncate(tmp_path / "lists", 1000)
    with pytest.raises(RuntimeError, match=r"has 1000 bytes, but its inverted lists take .*: it is truncated"):
        faiss_torch.read_index(path)


def block(index):
    """The bytes of an index file before the block of lists, and that block as numbers that can be changed."""
    data = faiss_torch.serialize_index(index).tobytes()
    start = data.index(b"ilod") + 4
    numbers = list(struct.unpack(f"<{3 + 3 * NLIST}Q", data[start : start + 8 * (3 + 3 * NLIST)]))
    return data[:start], numbers, data[start + 8 * len(numbers) :]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, NLIST + 1, "nlist"),
        (1, 8, "code_size"),
        (2, NLIST - 1, "lists"),
        (2, 1 << 60, "lists"),
        (3, 1 << 40, "list 0 has size"),
        (4, 1 << 40, "list 0 reaches beyond"),
        (4, (1 << 64) - 1, "list 0 reaches beyond"),
        (5, 1 << 62, "list 0 has size"),
        (5, (1 << 64) - 1, "list 0 has size"),
    ],
)
def test_damaged_places_of_lists(tmp_path, place, value, message):
    before, numbers, after = block(make(faiss_torch, tmp_path / "lists"))
    numbers[place] = value
    damaged = before + struct.pack(f"<{len(numbers)}Q", *numbers) + after
    with pytest.raises(RuntimeError, match=message):
        faiss_torch.deserialize_index(np.frombuffer(damaged, "uint8").copy())


def test_damaged_slots_and_size(tmp_path):
    before, numbers, after = block(make(faiss_torch, tmp_path / "lists"))
    head = before + struct.pack(f"<{len(numbers)}Q", *numbers)
    slots = struct.unpack("<Q", after[:8])[0]
    assert slots > 0
    with pytest.raises(RuntimeError, match="slots"):
        faiss_torch.deserialize_index(np.frombuffer(head + after[:8] + b"\xff" * 8 + after[16:], "uint8").copy())
    with pytest.raises(RuntimeError, match="totsize"):
        faiss_torch.deserialize_index(np.frombuffer(head + after[:-8] + b"\xff" * 8, "uint8").copy())
    for end in range(len(head), len(head + after), 7):
        with pytest.raises(RuntimeError):
            faiss_torch.deserialize_index(np.frombuffer((head + after)[:end], "uint8").copy())


def test_a_file_that_cannot_be_made(tmp_path):
    lists = faiss_torch.OnDiskInvertedLists(3, 4, str(tmp_path / "no folder" / "lists"))
    with pytest.raises(RuntimeError, match=r"could not resize .*no folder"):
        lists.add_entry(0, 1, np.zeros(4, "uint8"))
    assert (lists.compute_ntotal(), lists.totsize) == (0, 0)


def test_stacked_lists_have_no_format(tmp_path):
    lists = faiss_torch.ArrayInvertedLists(NLIST, 4 * D)
    stack = faiss_torch.HStackInvertedLists(2, [lists, lists])
    with pytest.raises(RuntimeError, match="HStackInvertedLists have no format"):
        faiss_torch.write_InvertedLists(stack, str(tmp_path / "lists"))
