"""Indexes on several GPUs: replicas and shards, parameters, k-means, and what contrib does with GPUs."""

import copy
import pickle

import numpy as np
import pytest
import torch
from comparison import assert_same_neighbours, assert_same_ranges

D_, NB, NQ, K = 16, 900, 40, 6


def vectors(n, seed=0):
    return np.random.RandomState(seed).rand(n, D_).astype("float32")


XB, XQ = vectors(NB), vectors(NQ, seed=1)


def filled(faiss, description, metric="METRIC_L2"):
    index = faiss.index_factory(D_, description, getattr(faiss, metric))
    index.train(XB)
    if description.startswith("IDMap"):
        index.add_with_ids(XB, np.arange(NB) + 1000)
    else:
        index.add(XB)
    if "IVF" in description:
        faiss.extract_index_ivf(index).nprobe = 4
    return index


def options(faiss, **settings):
    co = faiss.GpuMultipleClonerOptions()
    for name, value in settings.items():
        setattr(co, name, value)
    return co


def assert_same_search(index, expected):
    assert_same_neighbours(*index.search(XQ, K), *expected.search(XQ, K))


def parts(index):
    return [index.at(i) for i in range(index.count())]


@pytest.mark.parametrize("description", ["Flat", "IVF12,Flat"])
@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_INNER_PRODUCT"])
def test_replicas(gpus, description, metric):
    cpu = filled(gpus, description, metric)
    index = gpus.index_cpu_to_all_gpus(cpu)
    assert isinstance(index, gpus.IndexReplicas)
    assert [part.getDevice() for part in parts(index)] == [0, 1]
    assert [part.ntotal for part in parts(index)] == [NB, NB]
    assert_same_search(index, cpu)
    index.add(XQ)
    cpu.add(XQ)
    assert_same_search(index, cpu)
    back = gpus.index_gpu_to_cpu(index)
    assert "Gpu" not in str(type(back))
    np.testing.assert_array_equal(gpus.serialize_index(back), gpus.serialize_index(cpu))


@pytest.mark.parametrize("metric", ["METRIC_L2", "METRIC_L1", "METRIC_Lp"])
def test_flat_shards(gpus, metric):
    cpu = gpus.IndexFlat(D_, getattr(gpus, metric))
    cpu.metric_arg = 3.0 if metric == "METRIC_Lp" else 0.0
    cpu.add(XB)
    index = gpus.index_cpu_to_gpus_list(cpu, options(gpus, shard=True), gpus=[1, 0, 1])
    assert isinstance(index, gpus.IndexShards)
    assert [(part.getDevice(), part.ntotal) for part in parts(index)] == [(1, 300), (0, 300), (1, 300)]
    assert_same_search(index, cpu)
    radius = float(cpu.search(XQ, 3)[0].mean())
    assert_same_ranges(index.range_search(XQ, radius), cpu.range_search(XQ, radius))
    with pytest.raises(RuntimeError, match="successive_ids"):
        index.add(XQ)
    assert index.ntotal == NB
    np.testing.assert_array_equal(gpus.index_gpu_to_cpu(index).reconstruct_n(0, NB), XB)


def test_empty_shards_are_filled_by_one_add(gpus):
    index = gpus.index_cpu_to_all_gpus(gpus.IndexFlatL2(D_), options(gpus, shard=True))
    index.add(XB)
    assert [part.ntotal for part in parts(index)] == [NB // 2, NB // 2]
    assert_same_search(index, filled(gpus, "Flat"))


@pytest.mark.parametrize("shard_type", [1, 2, 4])
@pytest.mark.parametrize("common", [False, True])
def test_ivf_shards(gpus, shard_type, common):
    cpu = filled(gpus, "IVF12,Flat")
    co = options(gpus, shard=True, shard_type=shard_type, common_ivf_quantizer=common)
    index = gpus.index_cpu_to_all_gpus(cpu, co)
    assert isinstance(index, gpus.IndexShardsIVF) == common
    ids = [np.concatenate([gpus.vector_to_array(p.getListIndices(i)) for i in range(12)]) for p in parts(index)]
    np.testing.assert_array_equal(np.sort(np.concatenate(ids)), np.arange(NB))
    if shard_type == 1:
        assert all((own % 2 == number).all() for number, own in enumerate(ids))
    elif shard_type == 2:
        assert ids[0].max() < NB // 2 <= ids[1].min()
    else:
        assert [part.getListLength(0) > 0 for part in parts(index)] == [True, False]
    assert_same_search(index, cpu)
    gpus.GpuParameterSpace().set_index_parameter(index, "nprobe", 9)
    assert [part.nprobe for part in parts(index)] == [9, 9]
    cpu.nprobe = 9
    assert_same_search(index, cpu)
    back = gpus.index_gpu_to_cpu(index)
    assert type(back) is gpus.IndexIVFFlat
    assert_same_search(back, cpu)
    if common:
        assert index.quantizer.ntotal == 12
        index.reset()
        index.add(XB)
        assert_same_search(index, cpu)


def test_what_cannot_be_sharded(gpus):
    cpu = filled(gpus, "IVF12,Flat")
    with pytest.raises(RuntimeError, match="shard_type 3 is not implemented, expected 1, 2 or 4"):
        gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=True, shard_type=3))
    with pytest.raises(RuntimeError, match="shards of an IndexIVFFlatDedup are not implemented"):
        gpus.index_cpu_to_all_gpus(filled(gpus, "IVF12,FlatDedup"), options(gpus, shard=True))
    cpu.reset()
    cpu.add_with_ids(XB, np.arange(NB) + 10**6)
    with pytest.raises(RuntimeError, match="shard_type 2 puts 0 of 900 vectors"):
        gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=True, shard_type=2))
    assert cpu.ntotal == NB
    shards = gpus.IndexShards(D_, False, False)
    for _ in range(2):
        shards.add_shard(filled(gpus, "Flat"))
    with pytest.raises(RuntimeError, match="successive_ids=True"):
        gpus.index_gpu_to_cpu(shards)
    with pytest.raises(RuntimeError):
        gpus.index_gpu_to_cpu(gpus.IndexShards(D_))


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("description", ["IDMap,Flat", "IDMap2,IVF12,Flat"])
def test_wrappers(gpus, description, shard):
    cpu = filled(gpus, description)
    index = gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=shard))
    assert type(index) is type(cpu)
    assert isinstance(index.index, gpus.IndexShards if shard else gpus.IndexReplicas)
    assert_same_search(index, cpu)
    ids = gpus.vector_to_array(index.id_map)
    np.testing.assert_array_equal(ids, np.arange(NB) + 1000)
    back = gpus.index_gpu_to_cpu(index)
    assert type(back.index) is (gpus.IndexFlat if description.endswith("p,Flat") else gpus.IndexIVFFlat)
    assert_same_search(back, cpu)
    index.reset()
    assert cpu.ntotal == back.ntotal == NB


def test_an_index_without_a_class_for_gpus_is_replicated(gpus):
    cpu = filled(gpus, "IVF12,FlatDedup")
    index = gpus.index_cpu_to_all_gpus(cpu)
    assert [type(part).__name__ for part in parts(index)] == ["IndexIVFFlatDedup"] * 2
    assert_same_search(index, cpu)


@pytest.mark.parametrize("several", [lambda faiss, i: faiss.index_cpu_to_all_gpus(i, ngpu=1), None])
def test_one_gpu(gpus, several):
    cpu = filled(gpus, "Flat")
    if several is None:
        index = gpus.index_cpu_to_gpu_multiple_py([gpus.StandardGpuResources()], cpu, gpus=[1])
    else:
        index = several(gpus, cpu)
    assert type(index) is gpus.GpuIndexFlat
    assert index.getDevice() == (several is None)
    assert_same_search(index, cpu)


def test_lists_of_gpus(gpus):
    cpu = filled(gpus, "Flat")
    resources = [gpus.StandardGpuResources() for _ in range(2)]
    index = gpus.index_cpu_to_gpu_multiple_py(resources, cpu)
    assert [part.getResources() for part in parts(index)] == resources
    assert [part.getDevice() for part in parts(index)] == [0, 1]
    index = gpus.index_cpu_to_gpu_multiple_py(resources, cpu, None, [1, 0])
    assert [part.getDevice() for part in parts(index)] == [1, 0]
    index = gpus.index_cpu_to_gpu_multiple(resources, [0, 0], cpu)
    assert [part.getDevice() for part in parts(index)] == [0, 0]
    with pytest.raises(RuntimeError, match="no GPU 2"):
        gpus.index_cpu_to_all_gpus(cpu, ngpu=3)


def test_float16_on_all(gpus):
    cpu = filled(gpus, "Flat")
    rounded = gpus.IndexFlat(D_)
    rounded.add(XB.astype("float16").astype("float32"))
    for shard in (False, True):
        index = gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=shard, useFloat16=True))
        assert [part.storage_dtype for part in parts(index)] == [torch.float16] * 2
        assert_same_search(index, rounded)


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("copying", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies_and_pickles(gpus, shard, copying):
    cpu = filled(gpus, "IVF12,Flat")
    index = copying(gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=shard)))
    assert [part.getDevice() for part in parts(index)] == [0, 1]
    assert_same_search(index, cpu)


@pytest.mark.parametrize("shard_type", [1, 2, 4])
def test_shards_of_an_inverted_file_with_vectors_in_no_list(gpus, shard_type):
    cpu = filled(gpus, "IVF12,Flat")
    cpu.add(np.full((2, D_), np.nan, "float32"))
    index = gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=True, shard_type=shard_type))
    assert index.ntotal == NB
    assert_same_search(index, cpu)


def test_parts_of_the_dimensions(gpus):
    cpu = gpus.IndexSplitVectors(D_)
    for part in np.split(XB[:9], 2, axis=1):
        flat = gpus.IndexFlatL2(D_ // 2)
        flat.add(part)
        cpu.add_sub_index(flat)
    index = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 1, cpu)
    back = gpus.index_gpu_to_cpu(index)
    several = gpus.index_cpu_to_all_gpus(cpu)
    for each, cls in ((index, "GpuIndexFlatL2"), (back, "IndexFlatL2"), (several, "IndexReplicas")):
        assert [type(part).__name__ for part in each.sub_indexes] == [cls] * 2
        assert_same_neighbours(*each.search(XQ, 1), *cpu.search(XQ, 1))
    assert [type(part).__name__ for part in cpu.sub_indexes] == ["IndexFlatL2"] * 2


def test_shards_on_one_gpu(gpus):
    """Shards that are on the CPU move as they are."""
    shards = gpus.IndexShards(D_, True, True)
    for part in np.array_split(XB, 3):
        flat = gpus.IndexFlatL2(D_)
        flat.add(part)
        shards.add_shard(flat)
    index = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 1, shards)
    assert [(type(part).__name__, part.getDevice()) for part in parts(index)] == [("GpuIndexFlatL2", 1)] * 3
    assert "Gpu" not in str(type(shards.at(0)))
    assert_same_search(index, filled(gpus, "Flat"))


# parameters


def test_parameter_space(gpus):
    cpu = gpus.index_factory(D_, "IVF40(IVF8,Flat),Flat")
    cpu.cp.min_points_per_centroid = 1
    cpu.train(XB)
    space = gpus.GpuParameterSpace()
    for index in (
        gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 0, cpu),
        gpus.index_cpu_to_all_gpus(cpu),
        gpus.index_cpu_to_all_gpus(cpu, options(gpus, shard=True)),
    ):
        space = gpus.GpuParameterSpace()
        space.initialize(index)
        ranges = {each.name: list(each.values) for each in space.parameter_ranges}
        assert ranges == {"nprobe": [1, 2, 4, 8, 16, 32], "quantizer_nprobe": [1, 2, 4]}
        space.set_index_parameters(index, "nprobe=7,quantizer_nprobe=3")
        for part in parts(index) if hasattr(index, "count") else [index]:
            assert (part.nprobe, part.quantizer.nprobe) == (7, 3)
        with pytest.raises(RuntimeError, match="could not set parameter"):
            space.set_index_parameter(index, "efSearch", 3)
    empty = gpus.GpuParameterSpace()
    empty.initialize(gpus.IndexReplicas())
    assert empty.parameter_ranges.size() == 0


def test_parameter_space_stops_at_2048(gpus):
    index = gpus.GpuIndexIVFFlat(gpus.StandardGpuResources(), 2, 20000)
    space = gpus.GpuParameterSpace()
    space.initialize(index)
    assert list(space.parameter_ranges.at(0).values) == [2**i for i in range(12)]


# clustering


@pytest.mark.parametrize(("gpu", "cls"), [(True, "IndexReplicas"), (-1, "IndexReplicas"), (1, "GpuIndexFlatL2")])
def test_kmeans(gpus, gpu, cls):
    on_cpu = gpus.Kmeans(D_, 9, niter=6)
    on_cpu.train(XB)
    on_gpu = gpus.Kmeans(D_, 9, niter=6, gpu=gpu)
    assert type(on_gpu.index).__name__ == cls
    assert on_gpu.train(XB) == pytest.approx(on_cpu.obj[-1], rel=1e-5)
    np.testing.assert_allclose(on_gpu.centroids, on_cpu.centroids, atol=1e-5)
    np.testing.assert_array_equal(on_gpu.assign(XQ)[1], on_cpu.assign(XQ)[1])
    assert on_gpu.index.ntotal == 9


def test_spherical_and_progressive_kmeans(gpus):
    spherical = gpus.Kmeans(D_, 9, spherical=True, gpu=1)
    assert type(spherical.index) is gpus.GpuIndexFlatIP
    spherical.train(XB)
    np.testing.assert_allclose(np.linalg.norm(spherical.centroids, axis=1), 1, rtol=1e-5)
    expected = gpus.Kmeans(D_, 9, progressive_dim_steps=3)
    progressive = gpus.Kmeans(D_, 9, progressive_dim_steps=3, gpu=True)
    assert isinstance(progressive.fac, gpus.GpuProgressiveDimIndexFactory)
    assert progressive.train(XB) == pytest.approx(expected.train(XB), rel=1e-4)
    assert progressive.fac.ncall == 3


def test_kmeans_without_gpus(no_gpus):
    for gpu in (True, 3, 0, False):
        kmeans = no_gpus.Kmeans(D_, 9, niter=2, gpu=gpu)
        assert type(kmeans.index) is no_gpus.IndexFlatL2
        assert kmeans.train(XB) > 0


def test_kmeans_on_more_gpus_than_there_are(gpus):
    with pytest.raises(RuntimeError, match="no GPU 2"):
        gpus.Kmeans(D_, 9, gpu=5)
    with pytest.raises(RuntimeError, match=r"5 GPUs asked for: expected 1 \.\.\. 2"):
        gpus.Kmeans(D_, 9, gpu=5, progressive_dim_steps=3)
    with pytest.raises(RuntimeError, match="0 GPUs asked for"):
        gpus.GpuProgressiveDimIndexFactory(0)


def test_clustering_with_an_index_on_a_gpu(gpus):
    reference, clustering = gpus.Clustering(D_, 9), gpus.Clustering(D_, 9)
    reference.train(XB, gpus.IndexFlatL2(D_))
    index = gpus.GpuIndexFlatL2(gpus.StandardGpuResources(), D_)
    clustering.train(XB, index)
    found, expected = (gpus.vector_to_array(each.centroids) for each in (clustering, reference))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(index.reconstruct_n(0, 9).ravel(), found, atol=1e-6)


def test_training_with_a_clustering_index_on_gpus(gpus):
    expected = gpus.index_factory(D_, "IVF12,Flat")
    expected.train(XB)
    index = gpus.index_factory(D_, "IVF12,Flat")
    index.clustering_index = gpus.index_cpu_to_all_gpus(gpus.IndexFlatL2(D_))
    index.train(XB)
    index.add(XB)
    expected.add(XB)
    assert_same_search(index, expected)


# contrib


def test_contrib(gpus):
    from faiss_torch.contrib import clustering, exhaustive_search, ivf_tools, torch_utils

    cpu = filled(gpus, "Flat")
    for shard in (False, True):
        found = exhaustive_search.knn_ground_truth(XQ, iter(np.array_split(XB, 4)), K, shard=shard)
        assert_same_neighbours(*found, *cpu.search(XQ, K))
    radius = float(cpu.search(XQ, 3)[0].mean())
    found = exhaustive_search.range_ground_truth(XQ, iter(np.array_split(XB, 4)), radius)
    assert_same_ranges(found, cpu.range_search(XQ, radius))
    on_gpus = gpus.index_cpu_to_all_gpus(cpu)
    found = exhaustive_search.range_search_gpu(XQ, radius, on_gpus, cpu, gpu_k=2)
    assert_same_ranges(found, cpu.range_search(XQ, radius))

    cpu = filled(gpus, "IVF12,Flat")
    index = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 1, cpu)
    lists = cpu.quantizer.search(XQ, 4)[1]
    found = ivf_tools.search_preassigned(index, XQ, K, lists)
    assert_same_neighbours(*found, *cpu.search(XQ, K))
    ivf_tools.add_preassigned(index, XQ, lists[:, 0].copy())
    cpu.add(XQ)
    assert_same_search(index, cpu)

    centroids = clustering.kmeans(7, clustering.DatasetAssignGPU(XB, 1), niter=3)
    expected = clustering.kmeans(7, clustering.DatasetAssign(XB), niter=3)
    np.testing.assert_allclose(centroids, expected, atol=1e-4)
    with torch_utils.using_stream(gpus.StandardGpuResources()):
        assert_same_search(index, cpu)
