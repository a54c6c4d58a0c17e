"""Indexes on one GPU: copying there and back, the classes, all verbs, copies, pickles and files."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours, assert_same_ranges

D_, NB, NQ, K = 24, 700, 30, 7
METRICS = ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1", "METRIC_Lp"]


def vectors(n=NB, d=D_, seed=0):
    return np.random.RandomState(seed).rand(n, d).astype("float32")


XB, XQ = vectors(), vectors(NQ, seed=1)
IDS = np.arange(NB) * 3 + 2**33


def flat(faiss, metric="METRIC_L2"):
    index = faiss.IndexFlat(D_, getattr(faiss, metric))
    index.metric_arg = 3.0 if metric == "METRIC_Lp" else 0.0
    index.add(XB)
    return index


def ivf(faiss, metric="METRIC_L2"):
    metric = getattr(faiss, metric)
    index = faiss.IndexIVFFlat(faiss.IndexFlat(D_, metric), D_, 16, metric)
    index.cp.min_points_per_centroid = 1
    index.train(XB)
    index.add_with_ids(XB, IDS)
    index.nprobe = 5
    return index


def id_map(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(D_))
    index.add_with_ids(XB, IDS)
    return index


def ivf_over_ivf(faiss):
    index = faiss.index_factory(D_, "IVF16(IVF4,Flat),Flat")
    index.train(XB)
    index.add(XB)
    index.nprobe = 5
    return index


INDEXES = {
    "flat": flat,
    "flat_ip": lambda faiss: flat(faiss, "METRIC_INNER_PRODUCT"),
    "ivf": ivf,
    "ivf_ip": lambda faiss: ivf(faiss, "METRIC_INNER_PRODUCT"),
    "id_map": id_map,
    "ivf_over_ivf": ivf_over_ivf,
}


@pytest.fixture(params=INDEXES)
def cpu_index(request, gpus):
    return INDEXES[request.param](gpus)


@pytest.fixture
def res(gpus):
    return gpus.StandardGpuResources()


def to_gpu(faiss, index, device=1, **options):
    chosen = faiss.GpuClonerOptions()
    for name, value in options.items():
        setattr(chosen, name, value)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device, index, chosen)


def innermost(index):
    return index.index if hasattr(index, "index") else index


def assert_same_search(index, expected, xq=XQ):
    assert_same_neighbours(*index.search(xq, K), *expected.search(xq, K))


# there and back


def test_a_copy_finds_the_same(gpus, cpu_index):
    index = to_gpu(gpus, cpu_index)
    assert innermost(index).getDevice() == 1
    assert index.device.type == innermost(index).device.type
    assert index.ntotal == cpu_index.ntotal == NB
    assert_same_search(index, cpu_index)
    back = gpus.index_gpu_to_cpu(index)
    assert type(back) is type(cpu_index)
    assert back.device.type == "cpu"
    np.testing.assert_array_equal(gpus.serialize_index(back), gpus.serialize_index(cpu_index))


def test_a_copy_is_a_copy(gpus, cpu_index):
    before = gpus.serialize_index(cpu_index)
    index = to_gpu(gpus, cpu_index)
    index.reset()
    assert index.ntotal == 0
    np.testing.assert_array_equal(gpus.serialize_index(cpu_index), before)
    cpu_index.reset()
    other = to_gpu(gpus, INDEXES["flat"](gpus))
    plain = gpus.index_gpu_to_cpu(other)
    other.reset()
    assert plain.ntotal == NB


def test_settings_come_along(gpus):
    cpu = ivf(gpus)
    cpu.verbose = True
    cpu.max_codes = 321
    cpu.cp.niter = 3
    cpu.parallel_mode = 1
    index = to_gpu(gpus, cpu)
    assert (index.verbose, index.nprobe, index.max_codes) == (True, 5, 321)
    index.cp.niter = 4
    assert cpu.cp.niter == 3
    back = gpus.index_gpu_to_cpu(index)
    assert (back.nprobe, back.max_codes, back.cp.niter, back.parallel_mode) == (5, 321, 4, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics(gpus, res, metric):
    cpu = flat(gpus, metric)
    assert_same_search(gpus.index_cpu_to_gpu(res, 0, cpu), cpu)
    built = gpus.GpuIndexFlat(res, D_, cpu.metric_type)
    built.metric_arg = cpu.metric_arg
    built.add(XB)
    assert_same_search(built, cpu)


def test_keywords(gpus):
    assert list(inspect.signature(gpus.index_cpu_to_gpu).parameters) == ["provider", "device", "index", "options"]
    index = gpus.index_cpu_to_gpu(
        provider=gpus.StandardGpuResources(), device=0, index=flat(gpus), options=gpus.GpuClonerOptions()
    )
    assert index.getDevice() == 0


@pytest.mark.parametrize(
    ("cpu", "gpu"),
    [
        (lambda faiss: faiss.IndexFlat(4), "GpuIndexFlat"),
        (lambda faiss: faiss.IndexFlatL2(4), "GpuIndexFlatL2"),
        (lambda faiss: faiss.IndexFlatIP(4), "GpuIndexFlatIP"),
        (lambda faiss: faiss.index_factory(4, "IVF2,Flat"), "GpuIndexIVFFlat"),
    ],
)
def test_classes(gpus, cpu, gpu):
    index = to_gpu(gpus, cpu(gpus))
    assert type(index).__name__ == gpu
    assert type(index) is getattr(gpus, gpu)
    assert isinstance(index, gpus.GpuIndex)
    assert isinstance(index, gpus.Index)
    assert gpus.isGpuIndex(index)
    assert gpus.tryCastGpuIndex(index) is index
    assert gpus.downcast_index(index) is index
    plain = cpu(gpus)
    assert not gpus.isGpuIndex(plain)
    assert gpus.tryCastGpuIndex(plain) is None
    assert gpus.isGpuIndexImplemented(plain)
    assert "Gpu" not in str(type(gpus.index_gpu_to_cpu(index)))
    if hasattr(plain, "nprobe"):
        assert isinstance(index, gpus.GpuIndexIVF)
        assert isinstance(index.quantizer, gpus.GpuIndexFlat)
        assert index.quantizer.getDevice() == 1


def test_nprobe_is_an_attribute_of_inverted_files_only(gpus):
    assert not hasattr(to_gpu(gpus, flat(gpus)), "nprobe")
    index = to_gpu(gpus, ivf(gpus))
    index.nprobe = 9
    assert index.getNumProbes() == 9
    index.setNumProbes(11)
    assert index.nprobe == 11
    with pytest.raises(AttributeError):
        index.nprobes = 3


@pytest.mark.parametrize("description", ["IDMap,Flat", "IDMap2,Flat", "IVF4,FlatDedup"])
def test_an_index_without_a_class_for_gpus_keeps_its_own(gpus, description):
    cpu = gpus.index_factory(D_, description)
    cpu.train(XB)
    cpu.add_with_ids(np.concatenate([XB, XB[:9]]), np.arange(NB + 9))
    index = to_gpu(gpus, cpu)
    assert type(index) is type(cpu)
    assert index.ntotal == cpu.ntotal
    assert_same_search(index, cpu)
    if hasattr(index, "index"):
        assert isinstance(index.index, gpus.GpuIndexFlat)
    np.testing.assert_array_equal(gpus.serialize_index(gpus.index_gpu_to_cpu(index)), gpus.serialize_index(cpu))


def test_flat_1d(gpus):
    cpu = gpus.IndexFlat1D()
    cpu.add(XB[:, :1].copy())
    index = to_gpu(gpus, cpu)
    np.testing.assert_array_equal(index.search(XQ[:, :1].copy(), 3)[1], cpu.search(XQ[:, :1].copy(), 3)[1])


def test_from_one_gpu_to_another(gpus):
    first = to_gpu(gpus, flat(gpus), device=0)
    second = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 1, first)
    assert (first.getDevice(), second.getDevice()) == (0, 1)
    assert_same_search(second, first)


def test_moving_by_to(gpus):
    index = to_gpu(gpus, ivf(gpus))
    expected = index.search(XQ, K)
    index.to("cpu")
    assert index.device.type == "cpu"
    assert index.getDevice() == (1 if gpus.get_num_gpus() and "cpu" in str(_device(gpus)) else -1)
    assert_same_neighbours(*index.search(XQ, K), *expected)


def _device(faiss):
    """The device that stands for GPU 1."""
    return faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), 1, _config(faiss, 1)).device


def _config(faiss, device, cls="GpuIndexFlatConfig", **settings):
    config = getattr(faiss, cls)()
    config.device = device
    for name, value in settings.items():
        setattr(config, name, value)
    return config


@pytest.mark.parametrize("wrong", [None, "index", np.zeros((2, 2))])
def test_what_is_no_index(gpus, res, wrong):
    for function in (
        lambda: gpus.index_cpu_to_gpu(res, 0, wrong),
        lambda: gpus.index_gpu_to_cpu(wrong),
        lambda: gpus.index_cpu_to_all_gpus(wrong),
    ):
        with pytest.raises(TypeError, match="expected an index"):
            function()


# the constructors


@pytest.mark.parametrize(("cls", "plain"), [("GpuIndexFlatL2", "IndexFlatL2"), ("GpuIndexFlatIP", "IndexFlatIP")])
def test_flat_constructors(gpus, res, cls, plain):
    cpu = getattr(gpus, plain)(D_)
    cpu.add(XB)
    empty = getattr(gpus, cls)(res, D_, _config(gpus, 1))
    assert (empty.d, empty.ntotal, empty.is_trained, empty.getDevice()) == (D_, 0, True, 1)
    empty.add(XB)
    assert empty.getNumVecs() == NB
    assert_same_search(empty, cpu)
    copied = getattr(gpus, cls)(res, cpu, _config(gpus, 1))
    assert copied.getDevice() == 1
    assert_same_search(copied, cpu)
    assert getattr(gpus, cls)(res, np.int64(3)).getDevice() == 0
    other = gpus.IndexFlat(D_, gpus.METRIC_L1)
    with pytest.raises(RuntimeError, match=f"{cls}: cannot copy an index of metric 2"):
        getattr(gpus, cls)(res, other)
    with pytest.raises(RuntimeError, match="metric 2"):
        copied.copyFrom(other)
    with pytest.raises(RuntimeError, match="metric 2"):
        copied.copyTo(other)
    assert_same_search(copied, cpu)


def test_configuration_is_taken_by_value(gpus, res):
    config = _config(gpus, 1)
    index = gpus.GpuIndexFlatL2(res, 4, config)
    config.device = 0
    assert index.getDevice() == 1


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        ("GpuIndexFlat", (4,)),
        ("GpuIndexFlat", ()),
        ("GpuIndexFlat", (4, 1, 2)),
        ("GpuIndexFlat", ("4", 1)),
        ("GpuIndexFlatL2", ()),
        ("GpuIndexFlatL2", (4, 1)),
        ("GpuIndexFlatL2", (4, None)),
        ("GpuIndexIVFFlat", (4,)),
        ("GpuIndexIVFFlat", (4, 2, 1, 1)),
        ("GpuIndexIVFFlat", ("4", 2)),
    ],
)
def test_wrong_arguments(gpus, res, cls, arguments):
    with pytest.raises(TypeError, match=rf"{cls}: expected \(resources, .*got \(resources"):
        getattr(gpus, cls)(res, *arguments)


def test_a_flat_index_is_no_inverted_file(gpus, res):
    with pytest.raises(TypeError):
        gpus.GpuIndexIVFFlat(res, flat(gpus))
    with pytest.raises(TypeError):
        gpus.GpuIndexFlat(res, ivf(gpus))
    index = gpus.GpuIndexFlat(res, flat(gpus))
    with pytest.raises(TypeError, match="expected an IndexFlat, got IndexIVFFlat"):
        index.copyFrom(ivf(gpus))
    with pytest.raises(TypeError, match="expected an IndexFlat, got IndexIVFFlat"):
        index.copyTo(ivf(gpus))
    assert_same_search(index, flat(gpus))


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1"])
def test_ivf_makes_its_quantizer(gpus, res, metric):
    config = _config(gpus, 1, "GpuIndexIVFFlatConfig")
    index = gpus.GpuIndexIVFFlat(res, D_, 16, getattr(gpus, metric), config)
    assert not index.is_trained
    assert index.getNumLists() == index.nlist == 16
    assert index.quantizer.getDevice() == index.getDevice() == 1
    assert index.quantizer.metric_type == index.metric_type
    assert index.cp.spherical == (metric == "METRIC_INNER_PRODUCT")
    with pytest.raises(RuntimeError, match="not trained"):
        index.add(XB)
    index.train(XB)
    index.add(XB)
    cpu = gpus.index_gpu_to_cpu(index)
    index.nprobe = cpu.nprobe = 4
    assert_same_search(index, cpu)
    assert sum(index.getListLength(i) for i in range(16)) == NB
    listed = np.sort(np.concatenate([gpus.vector_to_array(index.getListIndices(i)) for i in range(16)]))
    np.testing.assert_array_equal(listed, np.arange(NB))
    data = gpus.vector_to_array(index.getListVectorData(3)).view("float32").reshape(-1, D_)
    np.testing.assert_array_equal(data, XB[gpus.vector_to_array(index.getListIndices(3))])
    index.reserveMemory(1000)
    assert index.reclaimMemory() >= 0
    index.updateQuantizer()
    assert_same_search(index, cpu)


def test_ivf_over_the_quantizer_of_a_cpu_index(gpus, res):
    cpu = ivf(gpus)
    index = gpus.GpuIndexIVFFlat(res, cpu.quantizer, D_, 16, gpus.METRIC_L2, _config(gpus, 1, "GpuIndexIVFFlatConfig"))
    assert index.is_trained
    assert index.quantizer is cpu.quantizer
    assert cpu.quantizer.device.type == "cpu"
    for part in np.array_split(np.arange(NB), 5):
        index.add_with_ids(XB[part], IDS[part])
    index.nprobe = 5
    assert_same_search(index, cpu)
    assert_same_search(copy.deepcopy(index), cpu)
    with pytest.raises(RuntimeError, match="quantizer has 24 dimensions, expected 8"):
        gpus.GpuIndexIVFFlat(res, cpu.quantizer, 8, 16)
    with pytest.raises(RuntimeError, match="at least one list"):
        gpus.GpuIndexIVFFlat(res, 8, 0)


def test_ivf_copies(gpus, res):
    cpu = ivf(gpus)
    index = gpus.GpuIndexIVFFlat(res, cpu, _config(gpus, 1, "GpuIndexIVFFlatConfig"))
    assert index.getDevice() == index.quantizer.getDevice() == 1
    assert_same_search(index, cpu)
    other = gpus.IndexIVFFlat(gpus.IndexFlatIP(3), 3, 2, gpus.METRIC_INNER_PRODUCT)
    index.copyTo(other)
    assert (other.d, other.nlist, other.metric_type, other.nprobe) == (D_, 16, gpus.METRIC_L2, 5)
    assert type(other.quantizer) is gpus.IndexFlat
    np.testing.assert_array_equal(gpus.serialize_index(other), gpus.serialize_index(cpu))
    cpu.reset()
    index.copyFrom(cpu)
    assert index.ntotal == 0
    assert other.ntotal == NB


def test_flat_copies(gpus, res):
    index = gpus.GpuIndexFlatL2(res, 3)
    cpu = flat(gpus)
    index.copyFrom(cpu)
    assert (index.d, index.ntotal, index.getDevice()) == (D_, NB, 0)
    target = gpus.IndexFlat(5)
    index.copyTo(target)
    assert (target.d, target.ntotal, target.code_size) == (D_, NB, 4 * D_)
    index.reset()
    assert_same_search(target, cpu)


def test_ids_of_32_bits(gpus, res):
    config = _config(gpus, 0, "GpuIndexIVFFlatConfig", indicesOptions=gpus.INDICES_32_BIT)
    for low_bits in (False, True):
        index = gpus.GpuIndexIVFFlat(res, D_, 4, gpus.METRIC_L2, *([config] if low_bits else []))
        index.train(XB)
        index.add_with_ids(XB, IDS)
        np.testing.assert_array_equal(index.search(XB[:9], 1)[1].ravel(), IDS[:9] - (2**33 if low_bits else 0))


@pytest.mark.parametrize("cls", ["GpuIndex", "GpuIndexIVF"])
def test_base_classes_are_abstract(gpus, cls):
    with pytest.raises(AttributeError, match=f"{cls} is abstract"):
        getattr(gpus, cls)()


def test_paging_size(gpus, res):
    index = gpus.GpuIndexFlatL2(res, 4)
    assert index.getMinPagingSize() == 256 << 20
    index.setMinPagingSize(0)
    assert index.getMinPagingSize() == 0


# float16


def test_flat_in_float16(gpus, res):
    cpu = flat(gpus)
    rounded = gpus.IndexFlat(D_)
    rounded.add(XB.astype("float16").astype("float32"))
    index = to_gpu(gpus, cpu, useFloat16=True)
    assert index.storage_dtype == torch.float16
    assert_same_search(index, rounded)
    assert index.memory_held()[1] <= 0.6 * to_gpu(gpus, cpu).memory_held()[1]
    built = gpus.GpuIndexFlatL2(res, D_, _config(gpus, 1, useFloat16=True))
    built.add(XB)
    assert_same_search(built, rounded)
    built.copyFrom(cpu)
    assert built.storage_dtype == torch.float16
    back = gpus.index_gpu_to_cpu(index)
    assert back.storage_dtype == torch.float32
    np.testing.assert_array_equal(back.reconstruct_n(0, NB), XB.astype("float16").astype("float32"))
    assert pickle.loads(pickle.dumps(index)).storage_dtype == torch.float16
    assert copy.deepcopy(built).storage_dtype == torch.float16


def test_ivf_in_float16(gpus):
    cpu = ivf(gpus)
    index = to_gpu(gpus, cpu, useFloat16=True)
    assert (index.storage_dtype, index.quantizer.storage_dtype) == (torch.float16, torch.float32)
    rounded = gpus.IndexIVFFlat(cpu.quantizer, D_, 16)
    rounded.nprobe = 5
    list_nos = cpu.quantizer.search(XB, 1)[1].ravel()
    rounded.add_core(NB, XB.astype("float16").astype("float32"), IDS, list_nos)
    assert_same_search(index, rounded)
    assert index.memory_held() == ("IVFLists", NB * (2 * D_ + 8))
    index = to_gpu(gpus, cpu, useFloat16CoarseQuantizer=True)
    assert (index.storage_dtype, index.quantizer.storage_dtype) == (torch.float32, torch.float16)
    wrapped = to_gpu(gpus, id_map(gpus), useFloat16=True)
    assert wrapped.index.storage_dtype == torch.float16


def test_own_quantizer_in_float16(gpus, res):
    config = gpus.GpuIndexIVFFlatConfig()
    config.flatConfig.useFloat16 = True
    index = gpus.GpuIndexIVFFlat(res, D_, 4, gpus.METRIC_L2, config)
    index.train(XB)
    index.add(XB)
    assert index.quantizer.storage_dtype == torch.float16
    assert index.search(XB[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


# verbs that faiss's indexes on GPUs lack


def test_remove_ids_and_selectors(gpus, cpu_index):
    index = to_gpu(gpus, cpu_index)
    ids = cpu_index.search(XQ, K)[1]
    sel = gpus.IDSelectorNot(gpus.IDSelectorBatch(np.unique(ids[:, :3])))
    if hasattr(index, "nprobe"):
        params = gpus.SearchParametersIVF(sel=sel, nprobe=7)
    else:
        params = gpus.SearchParameters(sel=sel)
    found, expected = index.search(XQ, K, params=params), cpu_index.search(XQ, K, params=params)
    assert_same_neighbours(*found, *expected)
    assert not np.isin(found[1], ids[:, :3]).any()
    removed = index.remove_ids(np.unique(ids[:, 0]))
    assert removed == cpu_index.remove_ids(np.unique(ids[:, 0])) == len(np.unique(ids[:, 0]))
    assert_same_search(index, cpu_index)


def test_range_search_and_reconstruct(gpus, cpu_index):
    index = to_gpu(gpus, cpu_index)
    D, I = cpu_index.search(XQ, 4)
    radius = float(D[:, -1].mean())
    found = index.range_search(XQ, radius)
    assert found[0].dtype == np.uint64
    assert_same_ranges(found, cpu_index.range_search(XQ, radius))
    for each in (index, cpu_index) if hasattr(index, "nprobe") else ():
        each.set_direct_map_type(gpus.DirectMap.Hashtable)
    np.testing.assert_array_equal(index.reconstruct_batch(I[:, 0]), cpu_index.reconstruct_batch(I[:, 0]))


def test_more_than_2048(gpus):
    d, nb, nlist = 4, 9000, 2500
    x = vectors(nb, d)
    cpu = gpus.IndexIVFFlat(gpus.IndexFlatL2(d), d, nlist)
    cpu.cp.niter, cpu.cp.min_points_per_centroid = 1, 1
    cpu.train(x)
    cpu.add(x)
    cpu.nprobe = 2300
    index = to_gpu(gpus, cpu)
    assert_same_neighbours(*index.search(x[:3], 3000), *cpu.search(x[:3], 3000))
    flat_index = to_gpu(gpus, cpu.quantizer)
    assert flat_index.search(x[:3], 2400)[1].shape == (3, 2400)


def test_tensors(gpus):
    index = to_gpu(gpus, flat(gpus))
    on_device = torch.from_numpy(XQ).to(index.device)
    D, I = index.search(on_device, K)
    assert D.device == I.device == on_device.device
    out_D, out_I = torch.empty_like(D), torch.empty_like(I)
    index.search(on_device.half().float(), K, D=out_D, I=out_I)
    assert_same_neighbours(D.cpu(), I.cpu(), *index.search(XQ, K))
    index.add(on_device)
    assert index.ntotal == NB + NQ
    assert index.assign(torch.from_numpy(XQ), 2).device.type == "cpu"


@pytest.mark.parametrize("n", [0, 1])
def test_few_vectors_and_queries(gpus, n):
    for cpu in (gpus.IndexFlatL2(3), gpus.IndexIDMap2(gpus.IndexFlatIP(3))):
        x = np.ones((n, 3), dtype="float32")
        if n:
            cpu.add_with_ids(x, np.arange(n)) if hasattr(cpu, "index") else cpu.add(x)
        index = to_gpu(gpus, cpu)
        I = index.search(np.ones((2, 3), dtype="float32"), 4)[1]
        assert (I >= 0).sum() == 2 * n
        assert index.search(np.empty((0, 3), dtype="float32"), 4)[1].shape == (0, 4)
        assert gpus.index_gpu_to_cpu(index).ntotal == n


# copies, pickles, files


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies_and_pickles(gpus, cpu_index, copying):
    index = to_gpu(gpus, cpu_index)
    new = copying(index)
    assert type(new) is type(index)
    assert innermost(new).getDevice() == innermost(index).getDevice() == 1
    assert new.device == index.device
    assert_same_search(new, cpu_index)
    new.reset()
    assert (new.ntotal, index.ntotal) == (0, NB)
    assert_same_search(index, cpu_index)
    assert_same_search(gpus.clone_index(index), cpu_index)


def test_referenced_objects_and_paging_size_are_kept(gpus):
    index = to_gpu(gpus, flat(gpus))
    index.referenced_objects = ["something"]
    index.setMinPagingSize(17)
    for new in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        assert new.getMinPagingSize() == 17
        assert new.referenced_objects == ["something"]
    assert gpus.index_gpu_to_cpu(index).referenced_objects == ["something"]


def test_a_pickle_without_its_gpu(gpus):
    data = pickle.dumps(to_gpu(gpus, flat(gpus)))
    gpus.set_gpu_devices(["cpu"])
    with pytest.raises(RuntimeError, match="no GPU 1"):
        pickle.loads(data)


def test_files_hold_the_index_of_the_cpu(gpus, cpu_index, tmp_path):
    index = to_gpu(gpus, cpu_index)
    path = str(tmp_path / "index")
    gpus.write_index(index, path)
    read = gpus.read_index(path)
    assert "Gpu" not in str(type(read))
    assert_same_search(read, cpu_index)
    np.testing.assert_array_equal(gpus.serialize_index(index), gpus.serialize_index(cpu_index))
    assert_same_search(to_gpu(gpus, read), cpu_index)


def test_files_of_lists_that_are_mapped(gpus, tmp_path):
    cpu = ivf(gpus)
    path = str(tmp_path / "index")
    gpus.write_index(cpu, path)
    index = to_gpu(gpus, gpus.read_index(path, gpus.IO_FLAG_MMAP))
    assert_same_search(index, cpu)
    index.add_with_ids(XB[:3], np.arange(3))
    assert index.ntotal == NB + 3


def test_lists_on_disk_are_loaded(gpus, tmp_path):
    cpu = ivf(gpus)
    on_disk = ivf(gpus)
    lists = gpus.OnDiskInvertedLists(16, on_disk.code_size, str(tmp_path / "lists"))
    lists.merge_from(on_disk.invlists, 0)
    on_disk.replace_invlists(lists)
    for dtype in (torch.float32, torch.float16):
        index = to_gpu(gpus, on_disk, useFloat16=dtype == torch.float16)
        assert isinstance(index.invlists, gpus.ArrayInvertedLists)
        assert index.storage_dtype == dtype
        assert_same_neighbours(*index.search(XQ, K), *cpu.to("cpu", dtype=dtype).search(XQ, K))
    assert on_disk.invlists is lists


def test_no_room_on_the_device(gpus, monkeypatch, cpu_index):
    """A copy or a move for which there is no memory leaves everything as it was."""
    import faiss_torch.parts.growing

    index = to_gpu(gpus, cpu_index)

    def no_memory(*arguments, **named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 100 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(faiss_torch.parts.growing, "zeros", no_memory)
        patched.setattr(faiss_torch.parts.lists.storage, "zeros", no_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            to_gpu(gpus, cpu_index)
        with pytest.raises(RuntimeError, match="out of memory"):
            gpus.index_gpu_to_cpu(index)
    assert index.ntotal == cpu_index.ntotal == NB
    assert_same_search(index, cpu_index)
