"""Lists that are not in memory: searched in portions with the results of lists in memory, whatever the portions are."""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import faiss_torch
from faiss_torch.ops.scoring.ragged import moves_of_removal, order_after_removal
from faiss_torch.parts.lists import inverted_lists, portions
from faiss_torch.parts.lists.file_slots import FreeSlots

D, NLIST, NB, NQ = 5, 16, 900, 60


def data(n, seed):
    """Few distinct values, so that distances tie."""
    return np.random.RandomState(seed).randint(3, size=(n, D)).astype("float32")


def make(metric, kind, tmp_path):
    """Two indexes of the same content: lists in memory, and lists of some other kind."""
    quantizer = faiss_torch.IndexFlat(D, metric)
    quantizer.add(np.random.RandomState(1).rand(NLIST, D).astype("float32") * 2)
    expected = faiss_torch.IndexIVFFlat(quantizer, D, NLIST, metric)
    expected.add(data(NB, seed=2))
    if kind == "mapped":
        faiss_torch.write_index(expected, str(tmp_path / "index"))
        return expected, faiss_torch.read_index(str(tmp_path / "index"), faiss_torch.IO_FLAG_MMAP)
    index = faiss_torch.IndexIVFFlat(quantizer, D, NLIST, metric)
    if kind == "stacked":
        half = faiss_torch.IndexIVFFlat(quantizer, D, NLIST, metric)
        half.add(data(NB, seed=2)[: NB // 2])
        rest = faiss_torch.IndexIVFFlat(quantizer, D, NLIST, metric)
        rest.add_with_ids(data(NB, seed=2)[NB // 2 :], np.arange(NB // 2, NB))
        index.replace_invlists(faiss_torch.HStackInvertedLists(2, [half.invlists, rest.invlists]))
        index.ntotal = NB
        return expected, index
    index.replace_invlists(faiss_torch.OnDiskInvertedLists(NLIST, 4 * D, str(tmp_path / "lists")))
    index.add(data(NB, seed=2))
    return expected, index


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "kind", "budget"),
    [
        ("METRIC_L2", "on disk", 1),
        ("METRIC_L2", "on disk", 4000),
        ("METRIC_L2", "on disk", 1 << 30),
        ("METRIC_L2", "mapped", 4000),
        ("METRIC_L2", "stacked", 4000),
        ("METRIC_INNER_PRODUCT", "on disk", 4000),
        ("METRIC_L1", "on disk", 4000),
    ],
)
def test_portions_do_not_change_results(monkeypatch, tmp_path, metric, kind, budget):
    monkeypatch.setattr(portions, "LOADED_BYTES", budget)
    expected, index = make(getattr(faiss_torch, metric), kind, tmp_path)
    xq = data(NQ, seed=3)
    for nprobe, max_codes, mode, k in (
        (1, 0, "auto", 3),
        (5, 70, "matrix", 4),
        (NLIST, 0, "csr", 10),
        (7, 100, "csr", 1),
    ):
        for one in (expected, index):
            one.nprobe, one.max_codes, one.search_mode = nprobe, max_codes, mode
        for found, wanted in zip(index.search(xq, k), expected.search(xq, k), strict=True):
            np.testing.assert_array_equal(found, wanted)
        radius = float(np.median(expected.search(xq, k)[0][:, 0])) + 1e-3
        for found, wanted in zip(index.range_search(xq, radius), expected.range_search(xq, radius), strict=True):
            np.testing.assert_array_equal(found, wanted)
    for max_codes, ensure_topk_full in ((0, False), (40, False), (40, True)):
        selected = faiss_torch.SearchParametersIVF(sel=faiss_torch.IDSelectorRange(100, 300), nprobe=NLIST)
        selected.max_codes, selected.ensure_topk_full = max_codes, ensure_topk_full
        for found, wanted in zip(
            index.search(xq, 4, params=selected), expected.search(xq, 4, params=selected), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(
        index.search_and_return_codes(xq, 4, include_listnos=True),
        expected.search_and_return_codes(xq, 4, include_listnos=True),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(index.reconstruct_n(7, 20), expected.reconstruct_n(7, 20))
    index.make_direct_map()
    np.testing.assert_array_equal(index.reconstruct(3), expected.reconstruct_n(3, 1)[0])
    assert index.invlists.elsewhere() is not None


def test_a_portion_is_no_larger_than_said(monkeypatch, tmp_path):
    _, index = make(faiss_torch.METRIC_L2, "on disk", tmp_path)
    loaded = []
    original = type(index.invlists).loaded

    def counting(lists, list_nos, device=None):
        storage = original(lists, list_nos, device)
        loaded.append((int(storage.sizes.sum()) * (4 * D + 8), int((storage.sizes > 0).sum())))
        return storage

    monkeypatch.setattr(type(index.invlists), "loaded", counting)
    monkeypatch.setattr(portions, "LOADED_BYTES", 4000)
    index.nprobe = NLIST
    index.search(data(NQ, seed=3), 2)
    assert len(loaded) > 2
    assert all(nbytes <= 4000 or lists == 1 for nbytes, lists in loaded)
    assert sum(nbytes for nbytes, _ in loaded) == NB * (4 * D + 8)


def test_nothing_to_search(tmp_path):
    _, index = make(faiss_torch.METRIC_L2, "on disk", tmp_path)
    assert index.search(data(0, seed=3), 2)[1].shape == (0, 2)
    assert index.range_search(data(0, seed=3), 1.0)[0].tolist() == [0]
    index.reset()
    assert index.search(data(2, seed=3), 2)[1].tolist() == [[-1, -1]] * 2
    assert index.range_search(data(2, seed=3), 9.0)[0].tolist() == [0, 0, 0]
    nan = np.full((1, D), np.nan, "float32")
    assert index.search(nan, 2)[1].tolist() == [[-1, -1]]


def test_random_changes_of_lists_on_disk(tmp_path):
    """Whatever is done, lists in a file and lists in memory hold the same."""
    random = np.random.RandomState(5)
    on_disk = faiss_torch.OnDiskInvertedLists(6, 3, str(tmp_path / "lists"))
    in_memory = faiss_torch.ArrayInvertedLists(6, 3)
    for step in range(200):
        n, list_no = random.randint(12), random.randint(6)
        ids = torch.from_numpy(random.randint(1000, size=n))
        codes = torch.from_numpy(random.randint(256, size=(n, 3)).astype("uint8"))
        list_nos = torch.from_numpy(random.randint(6, size=n))
        size = in_memory.list_size(list_no)
        new_size = random.randint(size + 1)
        modulus = random.randint(2, 9)
        selector = faiss_torch.IDSelectorArray(np.arange(step % modulus, 1000, modulus))
        for lists in (on_disk, in_memory):
            if step % 5 < 3:
                lists.add_to_lists(list_nos, ids, codes)
            elif step % 5 == 3:
                lists.resize(list_no, new_size)
            elif step % 10 == 4:
                lists.remove_entries(selector)
        for i in range(6):
            assert on_disk.list_ids(i).tolist() == in_memory.list_ids(i).tolist()
            assert on_disk.list_codes(i).tolist() == in_memory.list_codes(i).tolist()
        used = sorted(
            [(one.offset, one.capacity * 11) for one in (on_disk.lists.at(i) for i in range(6)) if one.capacity]
            + list(zip(on_disk.slots.offsets, on_disk.slots.capacities, strict=True))
        )
        ends = [offset + nbytes for offset, nbytes in used]
        assert [offset for offset, _ in used] + [on_disk.totsize] == [0, *ends]  # no byte is lost or used twice


def test_free_slots():
    slots = FreeSlots()
    assert slots.allocate(1) is None
    slots.free(0, 100)
    assert [slots.allocate(30), slots.allocate(30), slots.allocate(40)] == [0, 30, 60]
    slots.free(0, 30)
    slots.free(60, 40)
    assert (slots.offsets, slots.capacities) == ([0, 60], [30, 40])
    assert slots.allocate(35) == 60
    slots.free(30, 30)
    assert (slots.offsets, slots.capacities) == ([0, 95], [60, 5])
    slots.free(60, 35)
    assert (slots.offsets, slots.capacities) == ([0], [100])


def test_order_after_removal():
    def one_by_one(selected):
        keep, i, end = list(range(len(selected))), 0, len(selected)
        while i < end:
            if selected[keep[i]]:
                end -= 1
                keep[i] = keep[end]
            else:
                i += 1
        return keep[:end]

    random = np.random.RandomState(1)
    for n in (0, 1, 2, 7, 30):
        for share in (0.0, 0.3, 0.7, 1.0):
            selected = random.rand(n) < share
            assert order_after_removal(torch.from_numpy(selected)).tolist() == one_by_one(selected)


def test_removal_from_several_lists():
    sizes = [5, 0, 8, 1, 30, 2]
    random = np.random.RandomState(2)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        selected = torch.from_numpy(random.rand(sum(sizes)) < share)
        gaps, movers, left = moves_of_removal(selected, torch.tensor(sizes))
        entries = torch.arange(sum(sizes))
        entries[gaps] = movers
        for part, begin, size, n in zip(
            selected.split(sizes), np.cumsum([0, *sizes]), sizes, left.tolist(), strict=False
        ):
            assert (entries[begin : begin + size][:n] - begin).tolist() == order_after_removal(part).tolist()


def test_merged_lists_have_the_room_that_they_need(monkeypatch):
    codes = torch.arange(3000).to(torch.uint8)[:, None].expand(-1, 4).contiguous()
    list_nos = torch.arange(3000) % 7
    at_once, in_parts, source = (faiss_torch.ArrayInvertedLists(7, 4) for _ in range(3))
    for lists in (at_once, source):
        lists.add_to_lists(list_nos, torch.arange(3000) + 5, codes)
    monkeypatch.setattr(inverted_lists.chunks, "rows_within", lambda *sizes: 100)
    in_parts.merge_from(source, 0)
    assert len(in_parts._codes) == len(at_once._codes)
    for i in range(7):
        assert in_parts.list_ids(i).tolist() == at_once.list_ids(i).tolist()
        assert in_parts.list_codes(i).tolist() == at_once.list_codes(i).tolist()


def test_hidden_entries_of_capped_lists_are_renumbered():
    lists = faiss_torch.ArrayInvertedLists(1, 1)
    lists.add_to_lists(torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.zeros(5, 1, dtype=torch.uint8))
    faiss_torch.CappedInvertedLists(lists, 2).renumber_ids(torch.arange(5) + 10)
    assert lists.list_ids(0).tolist() == [10, 11, 12, 13, 14]


def test_what_lists_refuse(tmp_path):
    """What faiss does not check."""
    lists = faiss_torch.ArrayInvertedLists(4, 8)
    part = faiss_torch.SliceInvertedLists(lists, 0, 2)
    for wrong in ((-1, 2), (3, 2), (0, 5)):
        with pytest.raises(RuntimeError, match="not within the 4 lists"):
            faiss_torch.SliceInvertedLists(lists, *wrong)
    with pytest.raises(RuntimeError, match=r"outside 0 \.\.\. 1"):
        part.list_size(2)
    with pytest.raises(RuntimeError, match="cannot be written to"):
        part.reset()
    with pytest.raises(RuntimeError, match="cannot be written to"):
        faiss_torch.ArrayInvertedLists(2, 8).merge_from(part, 0)
    with pytest.raises(RuntimeError, match="cannot be written to"):
        faiss_torch.ArrayInvertedLists(2, 8).copy_subset_to(part, 0, 0, 9)
    with pytest.raises(RuntimeError, match="outside the inverted lists"):
        part.positions_of(torch.tensor([1 << 32 | 5]))
    with pytest.raises(RuntimeError, match="differ"):
        faiss_torch.OnDiskInvertedLists(4, 8, str(tmp_path / "lists")).merge_from_multiple([part], 1)
    bare = faiss_torch.InvertedLists(1, 4)
    for use in (
        lambda: bare.list_ids(0),
        lambda: bare.list_codes(0),
        lambda: bare.resize(0, 1),
        lambda: bare.write_entries(0, 0, torch.zeros(1), torch.zeros(1, 4)),
        lambda: bare.add_to_lists(torch.zeros(1), torch.zeros(1), torch.zeros(1, 4)),
    ):
        with pytest.raises(RuntimeError, match="InvertedLists"):
            use()


def test_a_stack_refuses_to_be_added_to_and_the_index_stays(tmp_path):
    _, index = make(faiss_torch.METRIC_L2, "stacked", tmp_path)
    for change in (
        lambda: index.add(data(3, seed=3)),
        lambda: index.remove_ids(np.arange(50)),
        index.reset,
    ):
        with pytest.raises(RuntimeError, match="cannot be written to"):
            change()
        assert index.ntotal == index.invlists.compute_ntotal() == NB


def test_a_pickle_names_the_file(tmp_path):
    expected, index = make(faiss_torch.METRIC_L2, "on disk", tmp_path)
    again = pickle.loads(pickle.dumps(index))
    for found, wanted in zip(again.search(data(NQ, seed=3), 3), expected.search(data(NQ, seed=3), 3), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert again.invlists.filename == index.invlists.filename


def test_shards_that_do_not_exist_are_refused(tmp_path):
    expected, _ = make(faiss_torch.METRIC_L2, "stacked", tmp_path)
    with pytest.raises(RuntimeError, match=r"gave shards from 0 to 15, expected 0 \.\.\. 2"):
        faiss_torch.shard_ivf_index_centroids(expected, 3, str(tmp_path / "%d"), lambda i, n: i)


def test_merging_into_an_index_with_ids():
    """faiss merges the lists and forgets the ids."""
    indexes = []
    for first, n in ((100, 30), (500, 20)):
        quantizer = faiss_torch.IndexFlatL2(D)
        quantizer.add(np.eye(D, dtype="float32"))
        index = faiss_torch.IndexIDMap(faiss_torch.IndexIVFFlat(quantizer, D, D))
        index.add_with_ids(np.random.RandomState(n).rand(n, D).astype("float32"), np.arange(n) + first)
        indexes.append(index)
    faiss_torch.merge_into(*indexes, False)
    assert [index.ntotal for index in indexes] == [50, 0]
    indexes[0].index.nprobe = D
    for first, n in ((100, 30), (500, 20)):
        found = indexes[0].search(np.random.RandomState(n).rand(n, D).astype("float32"), 1)[1]
        np.testing.assert_array_equal(found.ravel(), np.arange(n) + first)


#: What a child process does under a limit of its memory: 64 MiB of lists, 40 MiB of room for them and for the work.
PROGRAM = """
import resource, sys
import numpy as np
import faiss_torch
from faiss_torch.parts.lists import portions

def data(n, seed):
    return np.random.RandomState(seed).rand(n, 64).astype("float32")

def in_use():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))

def fill(nb, lists):
    quantizer = faiss_torch.IndexFlatL2(64)
    quantizer.add(data(128, 1))
    index = faiss_torch.IndexIVFFlat(quantizer, 64, 128)
    if lists == "disk":
        index.replace_invlists(faiss_torch.OnDiskInvertedLists(128, 256, sys.argv[2] + "/lists"), True)
    for begin in range(0, nb, 5000):
        index.add(data(5000, begin))
    index.nprobe = 8
    return index, index.search(data(500, 7), 5)

faiss_torch.omp_set_num_threads(2)
portions.LOADED_BYTES = 4 << 20
fill(10000, "disk")  # everything that is made once is there
resource.setrlimit(resource.RLIMIT_DATA, (in_use() + (40 << 20),) * 2)
index, (D, I) = fill(250000, sys.argv[1])
assert index.ntotal * 264 > 60 << 20
np.save(sys.argv[2] + "/I.npy", I)
faiss_torch.write_index(index, sys.argv[2] + "/index")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the system's account of memory")
def test_lists_larger_than_the_memory_that_a_process_may_use(tmp_path):
    """250,000 vectors are added and searched where their lists would not fit; the same in memory fails."""

    def run(where, folder):
        paths = str(pathlib.Path(faiss_torch.__file__).resolve().parents[1])
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, where, str(folder)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("disk", tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "other").mkdir()
    assert run("memory", tmp_path / "other").returncode != 0
    index = faiss_torch.read_index(str(tmp_path / "index"))
    in_memory = faiss_torch.ArrayInvertedLists(index.nlist, index.code_size)
    index.invlists.copy_subset_to(in_memory, faiss_torch.InvertedLists.SUBSET_TYPE_INVLIST, 0, index.nlist)
    index.replace_invlists(in_memory, True)
    index.nprobe = 8
    xq = np.random.RandomState(7).rand(500, 64).astype("float32")
    np.testing.assert_array_equal(index.search(xq, 5)[1], np.load(tmp_path / "I.npy"))
