"""Attributes and arguments that are numbers take what faiss takes, and refuse the rest when they are given."""

from __future__ import annotations

import numpy as np
import pytest

D_IN = 4

#: What is no integer, whatever it looks like.
NO_INTEGERS = [2.5, 2.0, "8", None, np.float32(2)]


def ivf(faiss):
    return faiss.IndexIVFFlat(faiss.IndexFlatL2(D_IN), D_IN, 4)


OWNERS = {
    "ivf": ivf,
    "flat": lambda faiss: faiss.IndexFlatL2(D_IN),
    "random": lambda faiss: faiss.IndexRandom(D_IN),
    "shards": lambda faiss: faiss.IndexShards(D_IN),
    "of_a_search": lambda faiss: faiss.SearchParametersIVF(),
    "of_clustering": lambda faiss: faiss.ClusteringParameters(),
    "of_progressive_clustering": lambda faiss: faiss.ProgressiveDimClusteringParameters(),
    "clustering": lambda faiss: faiss.Clustering(D_IN, 2),
    "space": lambda faiss: faiss.ParameterSpace(),
    "range": lambda faiss: faiss.IDSelectorRange(1, 3),
    "direct_map": lambda faiss: faiss.DirectMap(),
    "id_map": lambda faiss: faiss.IndexIDMap(faiss.IndexFlatL2(D_IN)),
    "values": lambda faiss: faiss.ParameterRange(),
    "criterion": lambda faiss: faiss.IntersectionCriterion(2, 2),
}

INTEGERS = [
    ("ivf", "nprobe max_codes parallel_mode nlist ntotal d code_size"),
    ("flat", "ntotal d code_size"),
    ("random", "seed"),
    ("of_a_search", "nprobe max_codes max_empty_result_buckets"),
    ("of_clustering", "niter nredo seed min_points_per_centroid max_points_per_centroid decode_block_size init_method"),
    ("of_progressive_clustering", "progressive_dim_steps niter"),
    ("clustering", "k d niter"),
    ("space", "verbose n_experiments batchsize"),
    ("range", "imin imax"),
    ("direct_map", "type"),
]

SIZES = [
    ("ivf", "nprobe max_codes nlist code_size"),
    ("of_a_search", "nprobe max_codes"),
    ("of_clustering", "decode_block_size afkmc2_chain_length"),
    ("clustering", "k d"),
    ("space", "batchsize"),
]

#: Those that are C's int, and those that have room for more.
OF_32_BITS = [
    ("ivf", "d parallel_mode metric_type"),
    ("of_clustering", "niter nredo seed min_points_per_centroid max_points_per_centroid init_method"),
    ("of_progressive_clustering", "progressive_dim_steps"),
    ("space", "verbose n_experiments"),
    ("direct_map", "type"),
]
OF_64_BITS = [("flat", "ntotal"), ("random", "seed"), ("range", "imin imax"), ("criterion", "nq nnn gt_nnn")]

FLOATS = [("ivf", "metric_arg"), ("of_clustering", "early_stop_threshold"), ("space", "min_test_duration")]

FLAGS = [
    ("ivf", "verbose own_fields by_residual is_trained"),
    ("shards", "successive_ids"),
    ("of_a_search", "ensure_topk_full"),
    ("of_clustering", "spherical verbose"),
    ("space", "thread_over_batches"),
]


def each(table):
    return [(owner, name) for owner, names in table for name in names.split()]


def refuses(owner, name, value, error):
    before = getattr(owner, name)
    with pytest.raises(error):
        setattr(owner, name, value)
    assert getattr(owner, name) == before


@pytest.mark.parametrize(("owner", "name"), each(INTEGERS))
def test_an_integer_is_an_integer(faiss, owner, name):
    owner = OWNERS[owner](faiss)
    for value in NO_INTEGERS:
        refuses(owner, name, value, TypeError)
    refuses(owner, name, 2**70, OverflowError)
    setattr(owner, name, 3)
    assert getattr(owner, name) == 3


@pytest.mark.parametrize(("owner", "name"), each(SIZES))
def test_a_number_of_things_is_not_negative(faiss, owner, name):
    refuses(OWNERS[owner](faiss), name, -1, OverflowError)


@pytest.mark.parametrize(("owner", "name"), each(OF_32_BITS))
def test_an_int_has_32_bits(faiss, owner, name):
    owner = OWNERS[owner](faiss)
    for value in (1 << 31, -(1 << 31) - 1):
        refuses(owner, name, value, OverflowError)


@pytest.mark.parametrize(("owner", "name"), each(OF_64_BITS))
def test_ids_and_some_seeds_have_64_bits(faiss, owner, name):
    owner = OWNERS[owner](faiss)
    setattr(owner, name, 1 << 40)
    assert getattr(owner, name) == 1 << 40
    refuses(owner, name, 1 << 63, OverflowError)


def test_how_a_quantizer_trains_has_8_bits(faiss):
    refuses(ivf(faiss), "quantizer_trains_alone", 300, OverflowError)


@pytest.mark.parametrize(("owner", "name"), each(FLOATS))
def test_a_float_may_be_an_integer_and_no_string(faiss, owner, name):
    owner = OWNERS[owner](faiss)
    for value in ("8", None):
        refuses(owner, name, value, TypeError)
    setattr(owner, name, 3)
    assert getattr(owner, name) == 3.0


@pytest.mark.parametrize(("owner", "name"), each(FLAGS))
def test_a_flag_is_true_or_false(faiss, owner, name):
    owner = OWNERS[owner](faiss)
    for value in (1, 0.0, "True", None):
        refuses(owner, name, value, TypeError)
    for value in (True, False):
        setattr(owner, name, value)
        assert getattr(owner, name) is value


def test_integers_of_numpy_are_taken_beyond_faiss(ours):
    index = ivf(ours)
    index.nprobe = np.int64(3)
    assert type(index.nprobe) is int
    with pytest.raises(TypeError, match=r"nprobe: expected an integer, got '8' \(str\)"):
        index.nprobe = "8"


def test_a_metric_is_one_that_there_is(ours):
    index = ours.IndexFlatL2(D_IN)
    with pytest.raises(RuntimeError, match="invalid metric type 99"):
        index.metric_type = 99
    assert index.metric_type == ours.METRIC_L2


def test_numbers_in_constructors(faiss):
    quantizer = faiss.IndexFlatL2(D_IN)
    makers = [
        faiss.IndexFlatL2,
        faiss.IndexFlatIP,
        faiss.IndexRandom,
        lambda d: faiss.IndexFlat(d, faiss.METRIC_L2),
        lambda metric: faiss.IndexFlat(D_IN, metric),
        lambda nlist: faiss.IndexIVFFlat(quantizer, D_IN, nlist),
        lambda k: faiss.Clustering(D_IN, k),
        lambda niter: faiss.Kmeans(D_IN, 2, niter=niter),
        lambda nprobe: faiss.SearchParametersIVF(nprobe=nprobe),
        lambda imin: faiss.IDSelectorRange(imin, 9),
        lambda d: faiss.index_factory(d, "Flat"),
    ]
    for make in makers:
        for value in (4.5, 4.0, "4"):
            with pytest.raises(TypeError):
                make(value)


def test_numbers_in_calls(faiss):
    index = faiss.IndexFlatL2(D_IN)
    x = np.arange(5 * D_IN, dtype="float32").reshape(5, D_IN)
    index.add(x)
    lists = ivf(faiss)
    calls = [
        index.reconstruct,
        lambda n0: index.reconstruct_n(n0, 1),
        lambda ni: index.reconstruct_n(0, ni),
        lambda k: index.search(x, k),
        lists.get_list_size,
        faiss.IDSelectorRange(1, 3).is_member,
        faiss.omp_set_num_threads,
        lambda add_id: index.merge_from(faiss.IndexFlatL2(D_IN), add_id),
    ]
    for call in calls:
        for value in (1.0, "1"):
            with pytest.raises(TypeError):
                call(value)


def test_a_number_of_threads_below_one_counts_as_one(faiss):
    before = faiss.omp_get_max_threads()
    try:
        for number in (0, -1):
            faiss.omp_set_num_threads(2)
            faiss.omp_set_num_threads(number)
            assert faiss.omp_get_max_threads() == 1
    finally:
        faiss.omp_set_num_threads(before)


#: Attributes that are objects, with something that they are not.
OBJECTS = [
    ("ivf", "quantizer invlists direct_map cp clustering_index"),
    ("id_map", "index id_map"),
    ("clustering", "centroids iteration_stats"),
    ("space", "parameter_ranges"),
    ("values", "values"),
    ("criterion", "gt_D gt_I"),
    ("direct_map", "array"),
]


@pytest.mark.parametrize(("owner", "name"), each(OBJECTS))
def test_an_object_is_of_its_class(faiss, owner, name):
    for value in (3, np.zeros(3, "float32"), [1.0]):
        with pytest.raises(TypeError):
            setattr(OWNERS[owner](faiss), name, value)


def test_centroids_are_set_from_an_array(faiss):
    clustering = faiss.Clustering(D_IN, 2)
    faiss.copy_array_to_vector(np.arange(8, dtype="float32"), clustering.centroids)
    assert clustering.centroids.size() == 8


def test_what_to_do_with_an_array_of_centroids(ours):
    with pytest.raises(TypeError, match=r"expected Float32Vector, got ndarray; copy_array_to_vector\(array"):
        ours.Clustering(D_IN, 2).centroids = np.zeros((2, D_IN), "float32")


def test_the_cycles_of_partitioning(faiss):
    stats = faiss.cvar.partition_stats
    stats.bisect_cycles = 5
    stats.reset()
    assert (stats.bisect_cycles, stats.compress_cycles) == (0, 0)
    with pytest.raises(TypeError):
        stats.bisect_cycles = 2.5


def test_a_reset_keeps_the_training_of_replicas(ours):
    index = ours.IndexReplicas(D_IN)
    replica = ivf(ours)
    index.add_replica(replica)
    x = np.random.default_rng(1).random((200, D_IN), dtype="float32")
    index.train(x)
    index.add(x)
    index.reset()
    assert (index.ntotal, replica.ntotal, index.is_trained) == (0, 0, True)
    index.add(x)
    assert index.ntotal == 200


@pytest.mark.parametrize(
    ("cls", "integer", "flag"),
    [
        ("GpuIndexFlatConfig", "device", "useFloat16"),
        ("GpuMultipleClonerOptions", "shard_type", "shard"),
        ("GpuDistanceParams", "k", "ignoreOutDistances"),
    ],
)
def test_settings_of_gpus(gpus, cls, integer, flag):
    settings = getattr(gpus, cls)()
    for name, value in ((integer, 2.5), (integer, "1"), (flag, 1), (flag, "yes")):
        refuses(settings, name, value, TypeError)
    with pytest.raises(AttributeError):
        settings.useFloat17 = True
