"""What users do with the library, in short: one generator per operation.

What an operation does before its first ``yield`` runs under a setting of torch's. What it does between the two runs
when the setting is put back, with what was made under it. It gives lists of arrays and numbers at both places.

``python operations.py SETTING FILE`` runs all of them in a new process that has the setting before the library is
imported, and pickles what they gave.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from cases import CASES
from torch_settings import SETTINGS

Results = list[Any]
Operation = Callable[[ModuleType], Iterator[Results]]

OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    OPERATIONS[function.__name__] = function
    return function


# --- data ----------------------------------------------------------------------------------------------------------


def vectors(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randn(n, d).astype("float32")


def whole_numbers(n: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).permutation(10 * n)[:n].astype("int64")


XB, XQ = vectors(3000), vectors(260, seed=1)


def found_by(index: Any, xq: np.ndarray = XQ, k: int = 7, **settings: Any) -> Results:
    """Searches of one, some and many queries: the last ones with copies that the others were worth."""
    return [index.search(xq[:nq], k, **settings) for nq in (1, 40, len(xq), 40, 1)]


def ivf(faiss: ModuleType, xb: np.ndarray | None = XB, nprobe: int = 5, metric: int = 1) -> Any:
    index = faiss.index_factory(24, "IVF16,Flat", metric)
    index.train(XB)
    index.nprobe = nprobe
    if xb is not None:
        index.add(xb)
    return index


# --- indexes -------------------------------------------------------------------------------------------------------


def _every_verb(case: Any, faiss: ModuleType) -> Iterator[Results]:
    index = case.filled(faiss)
    xb, xq = case.xb, case.xq
    radius = float(np.median(index.search(xq, 3)[0]))
    results: Results = [index.ntotal, index.search(xq, 4), index.search(xq[:1], 200), index.assign(xq, 2)]
    if case.range_search:
        results += [index.range_search(xq, radius)]
    if case.selector:
        sel = faiss.IDSelectorBatch(np.arange(0, 90, 2))
        results += [index.search(xq, 4, params=case.search_parameters(faiss, sel=sel))]
    if case.reconstruct == "direct map":
        index.make_direct_map()
    if case.reconstruct != "never":
        results += [index.reconstruct(3), index.reconstruct_n(0, 5), index.reconstruct_batch(np.array([4, 0, 9]))]
    if case.search_and_reconstruct:
        results += [index.search_and_reconstruct(xq, 3)]
    if case.sa_codec:
        codes = index.sa_encode(xb[:5])
        results += [codes, index.sa_decode(codes)]
    copies = [faiss.clone_index(index), pickle.loads(pickle.dumps(index))]
    copies += [faiss.deserialize_index(faiss.serialize_index(index))]
    if case.nlist:
        index.set_direct_map_type(faiss.DirectMap.NoMap)
    if case.takes_ids:
        index.add_with_ids(xb[:9], np.arange(1000, 1009))
    if case.merge_from:
        other = case.trained(faiss)
        other.add(xb[20:50])
        index.merge_from(other, index.ntotal if case.nlist else 0)
    if case.remove_ids:
        results += [index.remove_ids(np.array([2, 3, 5])), index.remove_ids(faiss.IDSelectorRange(10, 20))]
    results += [index.ntotal, index.search(xq, 4), *(copy.search(xq, 4) for copy in copies)]
    yield results
    index.add(xb)
    for copy in copies:
        copy.add(xb[:30])
    results = [each.search(xq, 5) for each in (index, *copies)]
    if case.remove_ids and not case.nlist:
        results += [each.remove_ids(np.array([0, 7])) for each in (index, *copies)]
    index.reset()
    index.add(xb)
    yield [*results, index.search(xq, 5), faiss.serialize_index(index)]


for _case in CASES:
    OPERATIONS[f"every verb of {_case.name}"] = lambda faiss, case=_case: _every_verb(case, faiss)


@operation
def flat(faiss: ModuleType) -> Iterator[Results]:
    index = faiss.IndexFlatL2(24)
    index.add(XB)
    few = faiss.IndexFlatIP(24)
    few.add(XB[:200])
    yield found_by(index) + found_by(few) + [index.range_search(XQ[:90], 20.0)]
    for each in (index, few):
        each.add(XB[:1])
        each.add(XB)
    yield found_by(index) + found_by(few)


@operation
def large_flat(faiss: ModuleType) -> Iterator[Results]:
    index = faiss.IndexFlatL2(16)
    index.add(vectors(40000, 16))
    xq = vectors(len(XQ), 16, 1)
    yield found_by(index, xq)
    index.add(vectors(500, 16, 2))
    yield found_by(index, xq)


@operation
def flat_in_half_precision(faiss: ModuleType) -> Iterator[Results]:
    index = faiss.IndexFlatL2(24)
    index.to("cpu", dtype=torch.float16)
    index.add(XB)
    yield found_by(index)
    index.add(XB[:5])
    yield found_by(index)


@operation
def inverted_file(faiss: ModuleType) -> Iterator[Results]:
    index, similar = ivf(faiss), ivf(faiss, metric=0)
    results = found_by(index) + found_by(similar) + [index.range_search(XQ, 25.0), index.range_search(XQ[:2], 25.0)]
    for mode in ("matrix", "csr"):
        index.search_mode = mode
        results += found_by(index)
    index.search_mode = "auto"
    yield results
    for each in (index, similar):
        for part in np.array_split(XQ[:70], 7):
            each.add(part)
    yield found_by(index) + found_by(similar) + [index.range_search(XQ, 25.0)]


@operation
def inverted_file_filtered(faiss: ModuleType) -> Iterator[Results]:
    index = ivf(faiss)
    selectors = [
        faiss.IDSelectorRange(100, 2000),
        faiss.IDSelectorBatch(whole_numbers(300)),
        faiss.IDSelectorArray(whole_numbers(30)),
        faiss.IDSelectorNot(faiss.IDSelectorRange(5, 2900)),
        faiss.IDSelectorBitmap(np.full(375, 0b10110101, "uint8")),
        faiss.IDSelectorAnd(faiss.IDSelectorRange(0, 900), faiss.IDSelectorRange(300, 3000)),
        faiss.IDSelectorXOr(faiss.IDSelectorRange(0, 900), faiss.IDSelectorRange(300, 3000)),
    ]
    params = [faiss.SearchParametersIVF(sel=sel, nprobe=6) for sel in selectors]
    yield [found_by(index, params=each) for each in params] + [index.range_search(XQ, 25.0, params=params[0])]
    yield [found_by(index, params=each) for each in params]


@operation
def inverted_file_by_ids(faiss: ModuleType) -> Iterator[Results]:
    results: Results = []
    indexes, ids = [], whole_numbers(3000)
    for kind in (faiss.DirectMap.Array, faiss.DirectMap.Hashtable):
        index = ivf(faiss, None)
        index.set_direct_map_type(kind)
        if kind == faiss.DirectMap.Array:
            index.add(XB)
        else:
            index.add_with_ids(XB, ids)
            results += [index.remove_ids(ids[:20]), index.reconstruct(int(ids[70]))]
            index.update_vectors(ids[50:60], XQ[:10])
        indexes.append(index)
    results += [found_by(each) for each in indexes]
    yield results
    indexes[0].add(XB[:40])
    indexes[1].add_with_ids(XB[:40], np.arange(100000, 100040))
    yield [found_by(each) for each in indexes]


@operation
def inverted_file_preassigned(faiss: ModuleType) -> Iterator[Results]:
    index = ivf(faiss)
    coarse, lists = index.quantizer.search(XQ, 5)
    yield [
        index.search_preassigned(XQ, 6, lists, coarse),
        index.range_search_preassigned(XQ, 22.0, lists, coarse),
        [index.get_list_size(i) for i in range(16)],
        index.search_and_return_codes(XQ[:50], 3, include_listnos=True),
    ]
    yield [index.search_preassigned(XQ, 6, lists, coarse)]


@operation
def lists_on_disk_and_stacked(faiss: ModuleType) -> Iterator[Results]:
    with tempfile.TemporaryDirectory() as folder:
        index = ivf(faiss, None)
        lists = faiss.OnDiskInvertedLists(16, index.code_size, f"{folder}/lists")
        index.own_invlists = False
        index.replace_invlists(lists, False)
        index.add(XB)
        parts = [ivf(faiss, XB[:900]), ivf(faiss, XB[900:])]
        both = faiss.InvertedListsPtrVector()
        for part in parts:
            both.push_back(part.invlists)
        stacked = ivf(faiss, None)
        stacked.own_invlists = False
        stack = faiss.HStackInvertedLists(2, both.data())
        stacked.replace_invlists(stack, False)
        stacked.ntotal = 3000
        faiss.write_index(index, f"{folder}/index")
        mapped = faiss.read_index(f"{folder}/index", faiss.IO_FLAG_MMAP)
        yield found_by(index) + found_by(stacked) + found_by(mapped) + [stack.list_size(3)]
        index.add(XB[:30])
        yield found_by(index) + found_by(stacked) + found_by(mapped) + [index.remove_ids(np.arange(20))]


@operation
def ids_of_one_s_own(faiss: ModuleType) -> Iterator[Results]:
    ids = whole_numbers(3000)
    maps = [faiss.IndexIDMap(faiss.IndexFlatL2(24)), faiss.IndexIDMap2(faiss.IndexFlatIP(24))]
    maps += [faiss.IndexIDMap2(ivf(faiss, None))]
    for each in maps:
        each.add_with_ids(XB, ids)
    results = [found_by(each) for each in maps] + [maps[1].reconstruct(int(ids[5])), maps[0].range_search(XQ, 20.0)]
    results += [each.remove_ids(ids[:100]) for each in maps] + [found_by(each) for each in maps]
    sel = faiss.IDSelectorBatch(ids[500:700])
    yield [*results, maps[0].search(XQ, 3, params=faiss.SearchParameters(sel=sel))]
    for each in maps:
        each.add_with_ids(XB[:30], np.arange(50000, 50030))
    results = [found_by(each) for each in maps] + [maps[1].reconstruct(50003)]
    yield results + [each.remove_ids(np.arange(50000, 50010)) for each in maps]


@operation
def indexes_of_several(faiss: ModuleType) -> Iterator[Results]:
    shards, replicas, split = faiss.IndexShards(24), faiss.IndexReplicas(24), faiss.IndexSplitVectors(24)
    kept = [[faiss.IndexFlatL2(24) for _ in range(2)] for _ in range(2)]
    for one, other in zip(*kept, strict=True):
        shards.add_shard(one)
        replicas.add_replica(other)
    for d in (10, 14):
        part = faiss.IndexFlatL2(d)
        part.add(vectors(300, d))
        kept.append(part)
        split.add_sub_index(part)
    shards.add(XB)
    replicas.add(XB)
    split.sync_with_sub_indexes()
    made_up = faiss.IndexRandom(24, 1000, seed=3)
    yield found_by(shards) + found_by(replicas) + [split.search(XQ, 1), made_up.search(XQ, 4), made_up.reconstruct(5)]
    yield found_by(shards) + found_by(replicas) + [split.search(XQ, 1), made_up.search(XQ, 4)]


@operation
def operations_on_inverted_files(faiss: ModuleType) -> Iterator[Results]:
    index, other = ivf(faiss, XB[:1500]), ivf(faiss, None)
    other.add_with_ids(XB[1500:], np.arange(1500, 3000))
    faiss.merge_into(index, other, False)
    of_queries, centroids_of = np.empty(len(XQ), "int64"), np.empty((len(XQ), 4), "int32")
    D, I = np.empty((len(XQ), 4), "float32"), np.empty((len(XQ), 4), "int64")
    pointers = [faiss.swig_ptr(a) for a in (D, I, np.empty((len(XQ), 5), "int32"), centroids_of)]
    faiss.search_centroid(index, faiss.swig_ptr(XQ), len(XQ), faiss.swig_ptr(of_queries))
    faiss.search_and_return_centroids(index, len(XQ), faiss.swig_ptr(XQ), 4, *pointers)
    params = faiss.SearchParametersIVF(nprobe=3)
    results = [*found_by(index), of_queries, centroids_of, D, I]
    results += list(faiss.search_with_parameters(index, XQ, 5, params))
    results += list(faiss.range_search_with_parameters(index, XQ, 20.0, params))
    held = ivf(faiss, None)
    window = faiss.SlidingIndexWindow(held)
    slices = [ivf(faiss, XB[i * 500 : i * 500 + 500]) for i in range(3)]
    for i, one in enumerate(slices):
        window.step(one, i > 1)
    results += found_by(held)
    faiss.set_invlist_range(index, 2, 5, faiss.get_invlist_range(held, 2, 5))
    space = faiss.ParameterSpace()
    space.initialize(index)
    space.set_index_parameters(index, "nprobe=6")
    yield results + found_by(index)
    index.add(XB[:20])
    yield found_by(index) + found_by(held)


@operation
def files(faiss: ModuleType) -> Iterator[Results]:
    indexes = [ivf(faiss), faiss.IndexIDMap2(faiss.IndexFlatL2(24)), faiss.IndexFlatIP(24)]
    indexes[1].add_with_ids(XB, whole_numbers(3000))
    indexes[2].add(XB)
    read, results = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in indexes:
            faiss.write_index(index, f"{folder}/index")
            read.append(faiss.read_index(f"{folder}/index"))
            results += [faiss.serialize_index(index), found_by(read[-1])]
    yield results
    for index in read[:2]:
        index.add_with_ids(XB[:9], np.arange(70000, 70009))
    read[2].add(XB[:9])
    yield [found_by(index) for index in read] + [faiss.serialize_index(index) for index in read]


# --- clustering ----------------------------------------------------------------------------------------------------


@operation
def kmeans(faiss: ModuleType) -> Iterator[Results]:
    results: Results = []
    made = []
    for settings in ({}, {"spherical": True, "nredo": 2}, {"int_centroids": True}, {"k": 200, "niter": 3}):
        options = {"k": 20, "niter": 6, "seed": 5, **settings}
        made.append(faiss.Kmeans(24, **options))
        results += [made[-1].train(XB), made[-1].centroids, made[-1].obj, made[-1].assign(XQ)]
    weighted = faiss.Kmeans(24, 20, niter=4)
    weighted.train(XB, weights=np.linspace(0.5, 2, 3000, dtype="float32"))
    clustering, index = faiss.Clustering(24, 20), faiss.IndexFlatL2(24)
    clustering.train(XB, index)
    obj = [clustering.iteration_stats.at(i).obj for i in range(clustering.iteration_stats.size())]
    results += [weighted.centroids, faiss.vector_to_array(clustering.centroids), obj, found_by(index)]
    for init in (faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS, faiss.ClusteringInitMethod_AFK_MC2):
        cp = faiss.ClusteringParameters()
        cp.init_method = init
        other = faiss.Clustering(24, 20, cp)
        other.train(XB, faiss.IndexFlatL2(24))
        results += [faiss.vector_to_array(other.centroids)]
    yield results
    yield [each.assign(XQ) for each in made] + [made[0].train(XB), made[0].centroids]


@operation
def other_clusterings(faiss: ModuleType) -> Iterator[Results]:
    numbers = XB[:300, :1].copy()
    one_d = faiss.Clustering1D(5)
    one_d.train_exact(numbers)
    of_numbers, of_vectors = np.empty(7, "float32"), np.empty((9, 24), "float32")
    balance = faiss.kmeans1d(faiss.swig_ptr(numbers), 300, 7, faiss.swig_ptr(of_numbers))
    error = faiss.kmeans_clustering(24, 3000, 9, faiss.swig_ptr(XB), faiss.swig_ptr(of_vectors))
    progressive = faiss.ProgressiveDimClustering(24, 8)
    progressive.train(3000, faiss.swig_ptr(XB), faiss.ProgressiveDimIndexFactory())
    centroids = [faiss.vector_to_array(each.centroids) for each in (one_d, progressive)]
    yield [*centroids, balance, of_numbers, error, of_vectors]
    yield []


@operation
def several_clusterings_at_once(faiss: ModuleType) -> Iterator[Results]:
    found = faiss.batch_kmeans(XB.reshape(3, 1000, 24), 10, niter=5)
    yield list(found)
    yield list(faiss.batch_kmeans(XB.reshape(3, 1000, 24), 10, niter=5))


# --- functions -----------------------------------------------------------------------------------------------------


@operation
def neighbours_of_arrays(faiss: ModuleType) -> Iterator[Results]:
    xb, xq = np.abs(XB[:500]), np.abs(XQ)
    results: Results = [
        faiss.knn(XQ, XB, 5),
        faiss.knn(XQ[:1], XB, 5),
        faiss.knn(XQ, XB, 5, faiss.METRIC_INNER_PRODUCT),
    ]
    for metric in (0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25):
        results += [faiss.knn(xq[:30], xb, 4, metric=metric, metric_arg=3)]
        results += [faiss.pairwise_distances(xq[:30], xb, metric=metric, metric_arg=3)]
    yield [*results, faiss.pairwise_distances(XQ, XB)]
    yield [faiss.knn(XQ, XB, 5), faiss.pairwise_distances(XQ, XB)]


@operation
def bits(faiss: ModuleType) -> Iterator[Results]:
    rng = np.random.RandomState(3)
    codes, queries = (rng.randint(256, size=(n, 16)).astype("uint8") for n in (2000, 300))
    shared = np.empty((300, 2000), "int32")
    faiss.hammings(*map(faiss.swig_ptr, (queries, codes)), 300, 2000, 16, faiss.swig_ptr(shared))
    count = np.empty(1, "uint64")
    faiss.crosshamming_count_thres(faiss.swig_ptr(codes), 2000, 40, 16, faiss.swig_ptr(count))
    packed = faiss.pack_bitstrings(rng.randint(16, size=(20, 6)), 4)
    set_of_codes = faiss.CodeSet(2)
    binary = np.empty(15, "uint8")
    faiss.real_to_binary(120, faiss.swig_ptr(XB), faiss.swig_ptr(binary))
    yield [
        faiss.knn_hamming(queries, codes, 5),
        faiss.knn_hamming(queries[:1], codes, 5),
        shared,
        count,
        packed,
        faiss.unpack_bitstrings(packed, 6, 4),
        set_of_codes.insert(codes[:, :2].copy()),
        binary,
    ]
    yield [faiss.knn_hamming(queries, codes, 5), set_of_codes.insert(codes[:, 1:3].copy())]


@operation
def heaps_and_sorting(faiss: ModuleType) -> Iterator[Results]:
    D = np.abs(vectors(60, 40)).reshape(3, 20, 40)
    D.sort(2)
    I = whole_numbers(2400).reshape(3, 20, 40)
    heap = faiss.ResultHeap(20, 5)
    heap.add_result(D[0], I[0])
    best, most = faiss.kmin(XB[:40], 6), faiss.kmax(XB[:40], 6)
    lims, perm = faiss.bucket_sort(whole_numbers(300) % 7, nbucket=7)
    table = (whole_numbers(120) % 9).reshape(20, 6).astype("int32")
    limits = faiss.matrix_bucket_sort_inplace(table)
    numbers = faiss.MapInt64ToInt64(64)
    numbers.add(np.arange(50), whole_numbers(50))
    order = np.empty(300, "uint64")
    faiss.fvec_argsort(300, faiss.swig_ptr(XB), faiss.swig_ptr(order))
    yield [best, most, lims, perm, table, limits, numbers.lookup(np.arange(60)), order, faiss.merge_knn_results(D, I)]
    heap.add_result(D[1], I[1])
    heap.finalize()
    yield [heap.D, heap.I, numbers.lookup(np.arange(60))]


@operation
def norms_and_sums(faiss: ModuleType) -> Iterator[Results]:
    x, y = XB[:200].copy(), XB[:200].copy()
    faiss.normalize_L2(x)
    faiss.fvec_renorm_L2(24, 200, faiss.swig_ptr(y))
    norms, squares, out = np.empty(200, "float32"), np.empty(200, "float32"), np.empty((5, 200), "float32")
    faiss.fvec_norms_L2(faiss.swig_ptr(norms), faiss.swig_ptr(XB), 24, 200)
    faiss.fvec_norms_L2sqr(faiss.swig_ptr(squares), faiss.swig_ptr(XB), 24, 200)
    a, b, c = XB[0].copy(), XB[1].copy(), np.empty(24, "float32")
    pointers = faiss.swig_ptr(a), faiss.swig_ptr(b)
    faiss.fvec_madd(24, pointers[0], 0.5, pointers[1], faiss.swig_ptr(c))
    faiss.pairwise_L2sqr(24, 5, faiss.swig_ptr(XQ), 200, faiss.swig_ptr(XB), faiss.swig_ptr(out))
    stats = faiss.MatrixStats(XB)
    yield [x, y, norms, squares, c, out, stats.comments, stats.max_norm2] + [
        getattr(faiss, name)(*pointers, 24) for name in ("fvec_L2sqr", "fvec_inner_product", "fvec_L1", "fvec_Linf")
    ]
    yield []


@operation
def numbers_drawn(faiss: ModuleType) -> Iterator[Results]:
    perm = np.empty(100, "int32")
    faiss.rand_perm(faiss.swig_ptr(perm), 100, 5)
    yield [faiss.rand(50), faiss.randn((30, 3), 7), faiss.randint(20, vmax=9), faiss.rand_smooth_vectors(20, 6), perm]
    yield [faiss.rand(50), faiss.randn((30, 3), 7), faiss.rand_smooth_vectors(20, 6)]


@operation
def results_compared(faiss: ModuleType) -> Iterator[Results]:
    I = whole_numbers(300).reshape(30, 10)
    criterion = faiss.OneRecallAtRCriterion(30, 5)
    criterion.set_groundtruth(None, I)
    D = np.zeros((30, 5), "float32")
    points = faiss.OperatingPoints()
    points.add(0.5, 1.0, "a")
    yield [
        faiss.eval_intersection(I, I[:, ::-1].copy()),
        faiss.imbalance_factor(4, faiss.swig_ptr(np.array([1, 2, 3, 4]))),
        criterion.evaluate(faiss.swig_ptr(D), faiss.swig_ptr(I[:, :5].copy())),
        [int(each) for each in np.atleast_1d(faiss.checksum(XB))],
        points.t_for_perf(0.3),
    ]
    yield []


# --- beside faiss's names ------------------------------------------------------------------------------------------


@operation
def devices(faiss: ModuleType) -> Iterator[Results]:
    faiss.set_gpu_devices(["cpu", "cpu"])
    try:
        co = faiss.GpuMultipleClonerOptions()
        co.shard = True
        index = faiss.index_cpu_to_all_gpus(ivf(faiss), co=co)
        resources = faiss.StandardGpuResources()
        flat = faiss.GpuIndexFlatL2(resources, 24)
        flat.add(XB)
        halves = faiss.IndexFlatL2(24)
        halves.add(XB)
        halves.to("cpu", dtype=torch.bfloat16)
        kmeans = faiss.Kmeans(24, 20, niter=3, gpu=True)
        kmeans.train(XB)
        results = found_by(index) + found_by(flat) + found_by(halves) + [kmeans.centroids]
        results += [faiss.knn_gpu(resources, XQ, XB, 5), faiss.pairwise_distance_gpu(resources, XQ, XB)]
        yield results + found_by(faiss.index_gpu_to_cpu(index))
        yield found_by(index) + found_by(flat) + found_by(halves)
    finally:
        faiss.set_gpu_devices(None)


@operation
def contributed(faiss: ModuleType) -> Iterator[Results]:
    def contrib(name: str) -> Any:
        return importlib.import_module(f"faiss_torch.contrib.{name}")

    index = ivf(faiss)
    dataset = contrib("datasets").SyntheticDataset(24, 500, 700, 40, metric="L2")
    clustering = contrib("clustering")
    plain = contrib("exhaustive_search")
    knn = plain.knn_ground_truth(XQ[:50], iter([XB[:1000], XB[1000:]]), 4)
    centroids = clustering.kmeans(10, clustering.DatasetAssign(XB), 4, verbose=False)
    results = [dataset.get_train(), dataset.get_database(), dataset.get_groundtruth(3), knn, centroids]
    search = contrib("big_batch_search").big_batch_search
    results += [search(index, XQ, 6, method=name) for name in ("knn_function", "index")]
    results += [clustering.two_level_clustering(XB, 3, 12, min_points_per_centroid=1)[0]]
    yield [*results, contrib("inspect_tools").get_invlist(index.invlists, 3)]
    yield [search(index, XQ, 6, method="knn_function")]


@operation
def tensors(faiss: ModuleType) -> Iterator[Results]:
    xb, xq = torch.from_numpy(XB.copy()), torch.from_numpy(XQ.copy())
    learnt = xq.clone().requires_grad_() if not torch.is_inference_mode_enabled() else xq
    index = faiss.IndexFlatL2(24)
    index.add(xb)
    inverted = ivf(faiss, xb)
    mapped = faiss.IndexIDMap2(faiss.IndexFlatL2(24))
    mapped.add_with_ids(xb, torch.from_numpy(whole_numbers(3000)))
    unit = xb.clone()
    faiss.normalize_L2(unit)
    kmeans = faiss.Kmeans(24, 10, niter=3)
    kmeans.train(xb)
    results = [index.search(learnt, 3), inverted.search(xq, 3), mapped.search(xq[:5], 3), index.range_search(xq, 20.0)]
    results += [inverted.range_search(xq, 20.0), faiss.knn(xq, xb, 3), faiss.pairwise_distances(learnt, xb), unit]
    results += [kmeans.centroids, index.reconstruct_n(0, 4), faiss.kmin(xb[:9], 3), faiss.randn(4, 4)]
    results += [index.search_and_reconstruct(xq, 2), index.sa_encode(xb), index.search(xq.double(), 2)]
    yield results
    index.add(xb[:3])
    inverted.add(xb[:3])
    yield [index.search(xq, 3), inverted.search(xq, 3), mapped.search(xq[:5], 3)]


# --- running them --------------------------------------------------------------------------------------------------


def described(result: Any) -> Any:
    """A result as lists of arrays and numbers, each behind its type, dtype and device."""
    if isinstance(result, torch.Tensor):
        assert not result.requires_grad
        return f"tensor {result.dtype} {result.device}", result.numpy(force=True).copy()
    if isinstance(result, np.ndarray):
        return f"array {result.dtype}", result.copy()
    if isinstance(result, (list, tuple)):
        return [described(each) for each in result]
    return type(result).__name__, result


def run(
    faiss: ModuleType,
    names: Iterable[str] = tuple(OPERATIONS),
    setting: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> dict[str, Any]:
    """Return what operations give under a setting and when it is put back; where one fails, the text of its error."""
    running = {name: OPERATIONS[name](faiss) for name in names}

    def step(operation: Iterator[Results]) -> Any:
        try:
            return described(next(operation))
        except Exception:
            return traceback.format_exc()

    with setting():
        given = {name: step(each) for name, each in running.items()}
    given |= {f"{name}, afterwards": step(each) for name, each in running.items()}
    for each in running.values():
        each.close()  # type: ignore[attr-defined]
    return given


if __name__ == "__main__":
    with SETTINGS[sys.argv[1]]():
        import faiss_torch
    with open(sys.argv[2], "wb") as file:
        pickle.dump(run(faiss_torch, setting=SETTINGS[sys.argv[1]]), file)
