"""Pickles: those of faiss load, and ours stand alone and name nothing but what is public."""

from __future__ import annotations

import copy
import inspect
import io
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from in_processes import add_and_put

import faiss_torch

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

#: faiss's module names by the instruction sets that its builds have.
SWIG_MODULES = ["swigfaiss", "swigfaiss_avx2", "swigfaiss_avx512", "swigfaiss_avx512_spr", "swigfaiss_sve"]


def load_installed(data: bytes):
    """Load a pickle while `import faiss`, and so the modules that faiss's pickles name, mean this library."""
    faiss_torch.install()
    try:
        return pickle.loads(data)
    finally:
        faiss_torch.uninstall()


class Recorder(pickle.Unpickler):
    """Loads a pickle, and keeps which names it imports."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names = set()

    def find_class(self, module, name):
        self.names.add((module, name))
        return super().find_class(module, name)


# pickles of faiss


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_faiss_loads(faiss_cpu, samples, sample, read_bytes, written, protocol):
    theirs = samples.SAMPLES[sample](faiss_cpu)
    if theirs is None:
        return
    data = pickle.dumps({"index": theirs, "more": [theirs, "text"]}, protocol)
    loaded = load_installed(data)
    index = loaded["index"]
    assert type(index) is getattr(faiss_torch, type(theirs).__name__)
    assert loaded["more"][0] is index
    read = read_bytes(faiss_cpu.serialize_index(theirs).tobytes())
    assert written(index) == written(read)
    if sample in samples.SEARCHABLE:
        queries = samples.vectors(4, d=index.d)
        np.testing.assert_array_equal(index.search(queries, 3)[1], read.search(queries, 3)[1])
        np.testing.assert_allclose(index.search(queries, 3)[0], theirs.search(queries, 3)[0], rtol=1e-5)
        assert pickle.loads(pickle.dumps(index)).ntotal == index.ntotal


@pytest.mark.parametrize("module", SWIG_MODULES)
def test_each_build_of_faiss_names_a_module_of_its_own(faiss_cpu, samples, module):
    data = pickle.dumps(samples.flat(faiss_cpu), 2)
    renamed = data.replace(b"cfaiss.swigfaiss\n", f"cfaiss.{module}\n".encode())
    assert module.encode() in renamed
    assert type(load_installed(renamed)) is faiss_torch.IndexFlat


def test_what_faiss_hands_out_as_its_base_class_gets_its_own(faiss_cpu, samples):
    """``ivf.quantizer`` is an Index in faiss, and is pickled as one."""
    theirs = samples.ivf(faiss_cpu)
    assert type(theirs.quantizer) is faiss_cpu.Index
    index = load_installed(pickle.dumps(theirs.quantizer))
    assert type(index) is faiss_torch.IndexFlatL2
    assert index.search(samples.vectors(1), 2)[1].shape == (1, 2)


class Derived(faiss_torch.IndexFlatL2):
    """A class of a program's own."""


def test_a_class_of_the_programs_own_stays(faiss_cpu, samples):
    index = Derived.__new__(Derived)
    index.__setstate__({"this": faiss_cpu.serialize_index(samples.flat(faiss_cpu)).tobytes()})
    assert type(index) is Derived
    assert index.ntotal == 7


def test_a_damaged_pickle_of_faiss(faiss_cpu, samples):
    data = pickle.dumps(samples.flat(faiss_cpu), 2).replace(b"IxF2", b"Ix??")
    with pytest.raises(RuntimeError, match="Ix"):
        load_installed(data)


def test_a_one_dimensional_index_of_faiss_is_searched_as_one(faiss_cpu, samples):
    index = load_installed(pickle.dumps(samples.flat_one_dimension(faiss_cpu)))
    index.add(np.float32([[5.0]]))
    np.testing.assert_array_equal(index.search(np.float32([[7.0]]), 1)[0], [[2.0]])


# ours name what is public, and hold bytes


def composites(samples):
    """Indexes that have no file format, and objects that indexes are made and asked with."""
    flat, ids = samples.flat(faiss_torch), np.arange(3)
    shards = faiss_torch.IndexShards(samples.D)
    replicas = faiss_torch.IndexReplicas(samples.D)
    split = faiss_torch.IndexSplitVectors(samples.D)
    for holder, add in ((shards, "add_shard"), (replicas, "add_replica"), (split, "add_sub_index")):
        getattr(holder, add)(samples.flat(faiss_torch))
    lists = samples.ivf(faiss_torch).invlists
    batch = faiss_torch.IDSelectorBatch(ids)
    kmeans = faiss_torch.Kmeans(samples.D, 3)
    kmeans.train(samples.vectors(200))
    clustering = faiss_torch.Clustering(samples.D, 3)
    clustering.train(samples.vectors(200), faiss_torch.IndexFlatL2(samples.D))
    chosen = samples.id_map(faiss_torch, samples.flat(faiss_torch, n=0))
    return [
        shards,
        replicas,
        split,
        kmeans,
        clustering,
        lists,
        faiss_torch.HStackInvertedLists(2, [lists, lists]),
        faiss_torch.VStackInvertedLists(2, [lists, lists]),
        faiss_torch.SliceInvertedLists(lists, 1, 3),
        faiss_torch.MaskedInvertedLists(lists, lists),
        faiss_torch.StopWordsInvertedLists(lists, 2),
        faiss_torch.CappedInvertedLists(lists, 2),
        batch,
        faiss_torch.IDSelectorArray(ids),
        faiss_torch.IDSelectorBitmap(np.array([7], "uint8")),
        faiss_torch.IDSelectorTranslated(chosen, batch),
        faiss_torch.IDSelectorNot(faiss_torch.IDSelectorAnd(batch, faiss_torch.IDSelectorRange(0, 2))),
        faiss_torch.SearchParametersIVF(sel=batch, nprobe=3),
        faiss_torch.MatrixStats(samples.vectors(9)),
        faiss_torch.MapInt64ToInt64(8),
        faiss_torch.SlidingIndexWindow(samples.ivf(faiss_torch)),
        flat.codes,
        samples.id_map(faiss_torch, flat := samples.flat(faiss_torch, n=0)).id_map,
    ]


def made_without_arguments() -> list[object]:
    """An object of each public class that can be made without arguments."""
    found = []
    for name in dir(faiss_torch):
        cls = getattr(faiss_torch, name)
        if inspect.isclass(cls) and not name.startswith("_") and name != "IndexIVFStats":
            try:
                found.append(cls())
            except (TypeError, DeprecationWarning):
                continue
    return found


def assert_public(thing):
    """Its pickles name only what a program can name, hold bytes, and come back as what they were."""
    written = [pickle.dumps(thing, protocol) for protocol in PROTOCOLS]
    for data in [*written, bytes(ForkingPickler.dumps(thing))]:
        recorder = Recorder(data)
        assert type(recorder.load()) is type(thing)
        ours = {module for module, _ in recorder.names if module.partition(".")[0] == "faiss_torch"}
        assert ours <= {"faiss_torch"}
        torchs = {(module, name) for module, name in recorder.names if module.partition(".")[0] == "torch"}
        assert torchs <= {("torch", "device"), ("torch", "float32"), ("torch", "bfloat16")}


def test_every_public_class_is_pickled_by_its_public_name(samples):
    things = made_without_arguments()
    assert len(things) > 70
    for thing in [*things, *composites(samples)]:
        assert_public(thing)
        if not isinstance(thing, faiss_torch.OnDiskInvertedLists):  # of which there is one to a file
            assert type(copy.deepcopy(thing)) is type(thing)


def test_indexes_are_pickled_by_their_public_name(samples, searchable):
    index = samples.SAMPLES[searchable](faiss_torch)
    index.search(samples.vectors(3, d=index.d), 2)
    assert_public(index)
    assert_public(index.to("cpu", dtype=torch.bfloat16) if hasattr(index, "storage_dtype") else index)


def test_a_mapped_index_is_pickled_by_its_public_name(golden, tmp_path):
    (tmp_path / "index").write_bytes((golden / "ivf_l2.bin").read_bytes())
    assert_public(faiss_torch.read_index(str(tmp_path / "index"), faiss_torch.IO_FLAG_MMAP))


def test_a_gpu_index_is_pickled_by_its_public_name(samples):
    faiss_torch.set_gpu_devices(["cpu"])
    try:
        resources = faiss_torch.StandardGpuResources()
        index = faiss_torch.index_cpu_to_gpu(resources, 0, samples.ivf(faiss_torch))
        for thing in (index, resources, faiss_torch.GpuClonerOptions(), faiss_torch.GpuIndexFlatConfig()):
            assert_public(thing)
    finally:
        faiss_torch.set_gpu_devices(None)


def test_a_subclass_holds_bytes_too(samples):
    index = Derived(samples.D)
    index.add(samples.vectors(5))
    assert_public(index)
    loaded = pickle.loads(pickle.dumps(index))
    assert type(loaded) is Derived
    np.testing.assert_array_equal(loaded.reconstruct_n(), samples.vectors(5))


def test_a_pickle_with_its_buffers_apart(samples):
    """As dask and others send it: the arrays come back read-only, and the index can be changed all the same."""
    index, buffers = samples.flat(faiss_torch), []
    data = pickle.dumps(index, 5, buffer_callback=buffers.append)
    loaded = pickle.loads(data, buffers=[bytes(each.raw()) for each in buffers])
    assert buffers
    loaded.remove_ids(np.array([0]))
    loaded.add(samples.vectors(3))
    assert (loaded.ntotal, index.ntotal) == (9, 7)


def test_what_several_objects_share_they_share_again(samples):
    index = samples.ivf(faiss_torch)
    loaded, quantizer = pickle.loads(pickle.dumps((index, index.quantizer)))
    assert loaded.quantizer is quantizer


def test_a_name_that_is_not_there(samples):
    data = pickle.dumps(samples.flat(faiss_torch), 2).replace(b"GrowingTensor", b"GrewingTensor")
    with pytest.raises(AttributeError, match="GrewingTensor"):
        pickle.loads(data)


def test_a_copy_owns_what_it_is_made_of(faiss_cpu, samples):
    """As in faiss, where a copy is made of copies."""
    for faiss in (faiss_cpu, faiss_torch):
        for name in ("ivf_l2", "id_map"):
            index = samples.SAMPLES[name](faiss)
            assert not index.own_fields
            for make in (faiss.clone_index, copy.copy, copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))):
                assert make(index).own_fields, (faiss.__name__, name)
            assert not index.own_fields


# from process to process


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods())))
def test_an_index_goes_to_a_process_and_comes_back(samples, method):
    """It is read when the process that wrote it is gone."""
    context = multiprocessing.get_context(method)
    index, queue = samples.ivf_with_array_map(faiss_torch), context.Queue()
    process = context.Process(target=add_and_put, args=(index, samples.vectors(3, seed=9), queue))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    loaded = queue.get(timeout=10)
    assert (loaded.ntotal, index.ntotal) == (23, 20)
    np.testing.assert_array_equal(loaded.reconstruct(21), samples.vectors(3, seed=9)[1])
