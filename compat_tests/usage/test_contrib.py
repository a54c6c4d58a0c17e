"""faiss.contrib and faiss_torch.contrib, used the same way."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
import time

import numpy as np
import pytest

# faiss's own module leaves its thread pools open
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def contrib(faiss):
    """Return a function that imports a contrib module of the implementation under test."""
    return lambda name: importlib.import_module(f"{faiss.__name__}.contrib.{name}")


@pytest.fixture
def dataset(contrib):
    return contrib("datasets").SyntheticDataset(16, 1000, 800, 50)


def ivf_index(faiss, dataset, nlist=16, nprobe=4, metric=1):
    index = faiss.index_factory(dataset.d, f"IVF{nlist},Flat", metric)
    index.train(dataset.get_train())
    index.add(dataset.get_database())
    index.nprobe = nprobe
    return index


class TestDatasets:
    def test_vectors_are_those_of_the_seed(self, dataset):
        assert [dataset.get_train().shape, dataset.get_database().shape, dataset.get_queries().shape] == [
            (1000, 16),
            (800, 16),
            (50, 16),
        ]
        np.testing.assert_allclose(dataset.get_train()[0, :3], [-0.4199153, 0.3588596, 0.0662048], rtol=1e-5)
        np.testing.assert_allclose(dataset.get_queries()[-1, -3:], [-0.143513, 0.9364688, 0.6538075], rtol=1e-5)
        assert dataset.get_train(maxtrain=7).shape == (7, 16)
        dataset.check_sizes()

    @pytest.mark.parametrize("metric", ["L2", "IP"])
    def test_ground_truth(self, faiss, contrib, metric):
        dataset = contrib("datasets").SyntheticDataset(8, 0, 200, 10, metric)
        index = faiss.IndexFlatL2(8) if metric == "L2" else faiss.IndexFlatIP(8)
        index.add(dataset.get_database())
        np.testing.assert_array_equal(dataset.get_groundtruth(20), index.search(dataset.get_queries(), 20)[1])

    def test_iterator(self, dataset):
        np.testing.assert_array_equal(np.vstack(list(dataset.database_iterator(bs=300))), dataset.get_database())
        parts = [np.vstack(list(dataset.database_iterator(bs=100, split=(3, rank)))) for rank in range(3)]
        assert [len(part) for part in parts] == [266, 267, 267]
        np.testing.assert_array_equal(np.vstack(parts), dataset.get_database())

    def test_base_class_has_no_vectors(self, contrib):
        with pytest.raises(NotImplementedError):
            contrib("datasets").Dataset().get_queries()


LIMS_REF, IREF = np.array([0, 3, 5, 5, 5]), np.array([1, 2, 3, 5, 6])
LIMS_NEW, INEW = np.array([0, 2, 4, 5, 5]), np.array([1, 2, 6, 7, 1])


class TestEvaluation:
    def test_knn_intersection(self, contrib):
        measure = contrib("evaluation").knn_intersection_measure
        assert measure(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 5]])) == 0.75
        with pytest.raises(AssertionError):
            measure(np.zeros((2, 2)), np.zeros((2, 3)))

    def test_range_precision_and_recall(self, contrib):
        evaluation = contrib("evaluation")
        assert evaluation.range_PR(LIMS_REF, IREF, LIMS_NEW, INEW) == (0.6, 0.6)
        precision, recall = evaluation.range_PR(LIMS_REF, IREF, LIMS_NEW, INEW, mode="average")
        assert precision == pytest.approx((1 + 0.5 + 0 + 1) / 4)
        assert recall == pytest.approx((2 / 3 + 0.5 + 0 + 1) / 4)
        with pytest.raises(AssertionError):
            evaluation.range_PR(LIMS_REF, IREF, LIMS_NEW, INEW, mode="other")

    @pytest.mark.parametrize(
        ("ngt", "nres", "ninter", "expected"),
        [
            ([0], [0], [0], (1, 1)),
            ([0], [2], [0], (0, 0)),
            ([3], [0], [0], (1, 0)),
            ([2], [4], [1], (0.25, 0.5)),
        ],
    )
    @pytest.mark.parametrize("mode", ["overall", "average"])
    def test_counts(self, contrib, ngt, nres, ninter, expected, mode):
        counts = (np.array(values) for values in (ngt, nres, ninter))
        assert contrib("evaluation").counts_to_PR(*counts, mode=mode) == expected

    @pytest.mark.parametrize("mode", ["overall", "average"])
    def test_several_thresholds_give_what_each_gives(self, faiss, contrib, dataset, mode):
        evaluation = contrib("evaluation")
        exact = faiss.IndexFlatL2(16)
        exact.add(dataset.get_database())
        lims_ref, _, Iref = exact.range_search(dataset.get_queries(), 6.0)
        lims, D, I = ivf_index(faiss, dataset, nprobe=2).range_search(dataset.get_queries(), 8.0)
        thresholds = np.array([2.0, 4.0, 5.0, 6.0])
        curve = evaluation.range_PR_multiple_thresholds(lims_ref, Iref, lims, D, I, thresholds, mode=mode)
        for i, threshold in enumerate(thresholds):
            cut_lims, _, cut_I = evaluation.filter_range_results(lims, D, I, threshold)
            point = evaluation.range_PR(lims_ref, Iref, cut_lims, cut_I, mode=mode)
            np.testing.assert_allclose([curve[0][i], curve[1][i]], point)
        assert curve[1][0] < curve[1][-1]

    def test_sorting_inside_queries(self, contrib):
        evaluation = contrib("evaluation")
        lims, D, I = np.array([0, 3, 3, 5]), np.array([3.0, 1, 2, 0.5, 0.1]), np.array([9, 7, 8, 2, 1])
        I2, D2 = evaluation.sort_range_res_2(lims, D, I)
        np.testing.assert_array_equal(I2, [7, 8, 9, 1, 2])
        np.testing.assert_array_equal(D2, [1, 2, 3, 0.1, 0.5])
        np.testing.assert_array_equal(evaluation.sort_range_res_1(lims, I), [7, 8, 9, 1, 2])

    def test_reference_with_draws(self, contrib):
        check = contrib("evaluation").check_ref_knn_with_draws
        D = np.array([[1.0, 2.0, 2.0, 3.0]])
        check(D, np.array([[4, 5, 6, 7]]), D, np.array([[4, 6, 5, 7]]))
        # what shares the last distance may be any
        check(D, np.array([[4, 5, 6, 7]]), D, np.array([[4, 5, 6, 8]]))
        with pytest.raises(AssertionError):
            check(D, np.array([[4, 5, 6, 7]]), D, np.array([[5, 4, 6, 7]]))
        with pytest.raises(AssertionError):
            check(D, np.array([[4, 5, 6, 7]]), D + 0.1, np.array([[4, 5, 6, 7]]))

    def test_reference_of_range_search(self, contrib):
        check = contrib("evaluation").check_ref_range_results
        lims, D, I = np.array([0, 2, 3]), np.array([1.0, 2.0, 3.0]), np.array([5, 6, 7])
        check(lims, D, I, lims, D[[1, 0, 2]], I[[1, 0, 2]])
        with pytest.raises(AssertionError):
            check(lims, D, I, lims, D[[1, 0, 2]], I)
        with pytest.raises(AssertionError):
            check(lims, D, I, np.array([0, 1, 3]), D, I)
        with pytest.raises(AssertionError):
            check(lims, D, I, lims, D, np.array([5, 6, 8]))


class TestOperatingPoints:
    def test_only_optimal_points_are_kept(self, contrib):
        points = contrib("evaluation").OperatingPoints()
        assert points.add_operating_point("slow", 0.5, 2.0)
        assert not points.add_operating_point("slower", 0.5, 3.0)
        assert points.add_operating_point("better", 0.9, 2.0)
        assert points.add_operating_point("fast", 0.3, 1.0)
        assert [key for key, _, _ in points.operating_points] == ["better", "fast"]
        assert sorted(key for key, _, _ in points.suboptimal_points) == ["slow", "slower"]
        assert points.is_pareto_optimal(0.4, 1.5)
        assert not points.is_pareto_optimal(0.4, 2.5)

    def test_ranges(self, contrib):
        points = contrib("evaluation").OperatingPointsWithRanges()
        points.add_range("nprobe", [1, 2, 4])
        points.add_range("ht", [10, 20])
        assert points.num_experiments() == 6
        assert [tuple(points.cno_to_key(i)) for i in range(6)] == [
            (0, 0),
            (1, 0),
            (2, 0),
            (0, 1),
            (1, 1),
            (2, 1),
        ]
        assert points.get_parameters(points.cno_to_key(4)) == {"nprobe": 2, "ht": 20}
        assert tuple(points.do_nothing_key()) == (0, 0)
        assert points.sample_experiments(0)[:2] == [0, 5]
        assert sorted(points.sample_experiments(0)) == list(range(6))
        assert points.sample_experiments(4) == [0, 5, 4, 1]
        assert points.compare_keys(np.array([1, 1]), np.array([0, 1])) == 1
        assert points.compare_keys(np.array([0, 1]), np.array([1, 1])) == -1
        assert points.compare_keys(np.array([1, 0]), np.array([0, 1])) == 0
        points.add_operating_point(points.cno_to_key(3), 0.5, 2.0)
        assert points.predict_bounds(points.cno_to_key(4)) == (1.0, 2.0)
        assert points.predict_bounds(points.cno_to_key(0)) == (0.5, 0.0)
        assert points.should_run_experiment(points.cno_to_key(4))
        points.restrict_range("nprobe", 4)
        assert points.ranges[0] == ("nprobe", [1, 2])
        with pytest.raises(RuntimeError, match="efSearch"):
            points.restrict_range("efSearch", 4)

    def test_timer(self, faiss, contrib):
        before = faiss.omp_get_max_threads()
        timer = contrib("evaluation").RepeatTimer(warmup=2, nt=1, runs=5)
        seen = [faiss.omp_get_max_threads() for _ in timer]
        assert seen == [1] * 5
        assert faiss.omp_get_max_threads() == before
        assert timer.nruns() == 3
        assert timer.ms() >= 0
        assert timer.ms_std() >= 0


class TestExhaustiveSearch:
    @pytest.mark.parametrize("metric", [0, 1])
    def test_knn_ground_truth(self, faiss, contrib, dataset, metric):
        index = faiss.IndexFlat(16, metric)
        index.add(dataset.get_database())
        D, I = index.search(dataset.get_queries(), 7)
        new_D, new_I = contrib("exhaustive_search").knn_ground_truth(
            dataset.get_queries(), dataset.database_iterator(bs=130), 7, metric, ngpu=0
        )
        np.testing.assert_array_equal(new_I, I)
        np.testing.assert_allclose(new_D, D, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(("metric", "radius"), [(0, 4.0), (1, 6.0)])
    def test_range_ground_truth(self, faiss, contrib, dataset, metric, radius):
        index = faiss.IndexFlat(16, metric)
        index.add(dataset.get_database())
        expected = index.range_search(dataset.get_queries(), radius)
        found = contrib("exhaustive_search").range_ground_truth(
            dataset.get_queries(), dataset.database_iterator(bs=130), radius, metric_type=metric, ngpu=0
        )
        contrib("evaluation").check_ref_range_results(*expected, *found)
        assert [part.dtype for part in found] == [np.uint64, np.float32, np.int64]
        assert 0 < len(found[1]) < 50 * 800

    @pytest.mark.parametrize(("metric", "radius"), [(0, 4.0), (1, 6.0)])
    @pytest.mark.parametrize("as_array", [True, False])
    def test_range_search_by_knn(self, faiss, contrib, dataset, metric, radius, as_array):
        index = faiss.IndexFlat(16, metric)
        index.add(dataset.get_database())
        expected = index.range_search(dataset.get_queries(), radius)
        found = contrib("exhaustive_search").range_search_gpu(
            dataset.get_queries(), radius, index, dataset.get_database() if as_array else index, gpu_k=8
        )
        contrib("evaluation").check_ref_range_results(*expected, *found)

    def test_range_search_by_knn_alone(self, faiss, contrib, dataset):
        index = faiss.IndexFlatL2(16)
        index.add(dataset.get_database())
        lims, D, _ = contrib("exhaustive_search").range_search_gpu(dataset.get_queries(), 6.0, index, None, gpu_k=8)
        assert np.diff(lims).max() == 8
        assert D.max() < 6.0

    def test_thresholds(self, contrib):
        search = contrib("exhaustive_search")
        D, I = np.array([1.0, 3.0, 2.0, 5.0], dtype="float32"), np.array([4, 5, 6, 7])
        lims, _, ids = search.threshold_radius(np.array([0, 2, 2, 4], dtype="uint64"), D, I, 2.5)
        np.testing.assert_array_equal(lims, [0, 1, 1, 2])
        np.testing.assert_array_equal(ids, [4, 6])
        nres, distances, ids = search.threshold_radius_nres(np.array([2, 0, 2]), D, I, 2.5, keep_max=True)
        np.testing.assert_array_equal(nres, [1, 0, 1])
        np.testing.assert_array_equal(distances, [3, 5])
        np.testing.assert_array_equal(ids, [5, 7])

    @pytest.mark.parametrize(("metric", "radius"), [(0, 4.5), (1, 5.0)])
    def test_radius_shrinks_to_a_number_of_results(self, faiss, contrib, dataset, metric, radius):
        search = contrib("exhaustive_search")
        index = faiss.IndexFlat(16, metric)
        index.add(dataset.get_database())
        xq = dataset.get_queries()
        expected = index.range_search(xq, radius)
        found = search.range_search_max_results(
            index,
            search.exponential_query_iterator(xq, start_bs=4),
            1e10 if metric == 1 else -1e10,
            min_results=len(expected[1]),
            clip_to_min=True,
        )
        contrib("evaluation").check_ref_range_results(*expected, *found[1:])
        wide = search.range_search_max_results(index, [xq], radius, max_results=len(expected[1]) + 1)
        assert wide[0] == radius
        contrib("evaluation").check_ref_range_results(*expected, *wide[1:])

    def test_batches_double(self, contrib):
        batches = contrib("exhaustive_search").exponential_query_iterator(np.arange(100), start_bs=8, max_bs=30)
        assert [len(batch) for batch in batches] == [8, 16, 32, 32, 12]

    def test_knn_is_the_function(self, faiss, contrib):
        assert contrib("exhaustive_search").knn is faiss.knn


class TestVecsIO:
    def test_integers(self, contrib, tmp_path):
        vecs_io, path = contrib("vecs_io"), str(tmp_path / "x.ivecs")
        x = np.array([[1, -2, 3], [4, 5, 6]])
        vecs_io.ivecs_write(path, x)
        assert (tmp_path / "x.ivecs").read_bytes().hex(" ", 4) == (
            "03000000 01000000 feffffff 03000000 03000000 04000000 05000000 06000000"
        )
        np.testing.assert_array_equal(vecs_io.ivecs_read(path), x)
        np.testing.assert_array_equal(vecs_io.ivecs_mmap(path), x)

    def test_floats(self, contrib, tmp_path):
        vecs_io, path = contrib("vecs_io"), str(tmp_path / "x.fvecs")
        x = np.random.RandomState(1).randn(5, 3)
        vecs_io.fvecs_write(path, x)
        for read in (vecs_io.fvecs_read(path), vecs_io.fvecs_mmap(path)):
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, x.astype("float32"))

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes of this kind")
    def test_through_a_pipe(self, ours, tmp_path):
        from faiss_torch.contrib import vecs_io

        os.mkfifo(tmp_path / "pipe")
        x = np.random.RandomState(1).rand(50, 3).astype("float32")
        writer = threading.Thread(target=vecs_io.fvecs_write, args=(str(tmp_path / "pipe"), x))
        writer.start()
        np.testing.assert_array_equal(vecs_io.fvecs_read(str(tmp_path / "pipe")), x)
        writer.join()

    def bvecs(self, x):
        header = np.full((len(x), 1), x.shape[1], dtype="<i4").view("uint8")
        return np.hstack([header, x]).tobytes()

    def test_bytes(self, contrib, tmp_path):
        vecs_io = contrib("vecs_io")
        x = np.random.RandomState(1).randint(256, size=(25, 6)).astype("uint8")
        (tmp_path / "x.bvecs").write_bytes(self.bvecs(x))
        np.testing.assert_array_equal(vecs_io.bvecs_mmap(str(tmp_path / "x.bvecs")), x)
        batches = list(vecs_io.bvecs_iter(str(tmp_path / "x.bvecs"), batch_size=10))
        assert [len(batch) for batch in batches] == [10, 10, 5]
        np.testing.assert_array_equal(np.vstack(batches), x)

    @pytest.mark.parametrize("batch_size", [1, 7, 10, 13, 25, 100])
    def test_chunks(self, contrib, tmp_path, batch_size):
        x = np.random.RandomState(1).randint(256, size=(25, 6)).astype("uint8")
        for i, part in enumerate(np.split(x, [10, 12, 22])):
            (tmp_path / f"chunk_{i:04}.bvecs").write_bytes(self.bvecs(part))
        batches = list(contrib("vecs_io").bvecs_iter_chunked(str(tmp_path), batch_size=batch_size))
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        np.testing.assert_array_equal(np.vstack(batches), x)

    def test_bad_chunks(self, contrib, tmp_path):
        read = contrib("vecs_io").bvecs_iter_chunked
        with pytest.raises(ValueError, match="No chunk files"):
            next(read(str(tmp_path)))
        x = np.zeros((2, 3), dtype="uint8")
        (tmp_path / "chunk_0000.bvecs").write_bytes(self.bvecs(x))
        (tmp_path / "chunk_0002.bvecs").write_bytes(self.bvecs(x))
        with pytest.raises(ValueError, match="Gap"):
            next(read(str(tmp_path)))
        (tmp_path / "chunk_two.bvecs").write_bytes(self.bvecs(x))
        with pytest.raises(ValueError, match="Invalid chunk filename"):
            next(read(str(tmp_path)))


class TestInspectAndIVFTools:
    def test_inverted_lists(self, faiss, contrib, dataset):
        tools = contrib("inspect_tools")
        index = ivf_index(faiss, dataset)
        sizes = tools.get_invlist_sizes(index.invlists)
        assert sizes.shape == (16,)
        assert sizes.sum() == 800
        for i in range(16):
            ids, codes = tools.get_invlist(index.invlists, i)
            assert codes.shape == (sizes[i], 64)
            np.testing.assert_array_equal(codes.view("float32"), dataset.get_database()[ids])
        index.reset()
        ids, codes = tools.get_invlist(index.invlists, 0)
        assert (ids.shape, codes.shape) == ((0,), (0, 64))

    def test_flat(self, faiss, contrib, dataset):
        tools = contrib("inspect_tools")
        index = faiss.IndexFlatL2(16)
        index.add(dataset.get_database())
        np.testing.assert_array_equal(tools.get_flat_data(index), dataset.get_database())
        np.testing.assert_array_equal(tools.get_flat_codes(index), dataset.get_database().view("uint8"))

    def test_preassigned(self, faiss, contrib, dataset):
        tools = contrib("ivf_tools")
        index = ivf_index(faiss, dataset)
        xq = dataset.get_queries()
        D, I = index.search(xq, 5)
        coarse_D, coarse_I = index.quantizer.search(xq, 4)
        for coarse in (coarse_D, None):
            new_D, new_I = tools.search_preassigned(index, xq, 5, coarse_I, coarse)
            np.testing.assert_array_equal(new_I, I)
            np.testing.assert_allclose(new_D, D, rtol=1e-5)
        expected = index.range_search(xq, 6.0)
        found = tools.range_search_preassigned(index, xq, 6.0, coarse_I)
        contrib("evaluation").check_ref_range_results(*expected, *found)
        with pytest.raises(AssertionError):
            tools.search_preassigned(index, xq, 5, coarse_I[:, :2])
        with pytest.raises(AssertionError):
            tools.search_preassigned(index, xq[:, :8].copy(), 5, coarse_I)

    @pytest.mark.parametrize("with_ids", [True, False])
    def test_add_preassigned(self, faiss, contrib, dataset, with_ids):
        index = ivf_index(faiss, dataset)
        index.reset()
        lists = np.arange(800, dtype="int64") % 16
        ids = np.arange(800, dtype="int64") * 3 if with_ids else None
        contrib("ivf_tools").add_preassigned(index, dataset.get_database(), lists, ids)
        assert index.ntotal == 800
        found, _ = contrib("inspect_tools").get_invlist(index.invlists, 5)
        np.testing.assert_array_equal(found, np.arange(5, 800, 16) * (3 if with_ids else 1))

    def test_other_order_of_lists(self, faiss, contrib, dataset):
        index = ivf_index(faiss, dataset)
        D, I = index.search(dataset.get_queries(), 5)
        contrib("ivf_tools").sort_invlists_by_size(index)
        sizes = contrib("inspect_tools").get_invlist_sizes(index.invlists)
        assert (np.diff(sizes) >= 0).all()
        new_D, new_I = index.search(dataset.get_queries(), 5)
        np.testing.assert_array_equal(new_I, I)
        np.testing.assert_allclose(new_D, D, rtol=1e-6)
        with pytest.raises(AssertionError):
            contrib("ivf_tools").permute_invlists(index, np.zeros(16, dtype="int64"))

    def test_other_quantizer(self, faiss, contrib, dataset):
        index = ivf_index(faiss, dataset)
        I = index.search(dataset.get_queries(), 5)[1]
        new = faiss.IndexFlatL2(16)
        contrib("ivf_tools").replace_ivf_quantizer(index, new)
        assert new.ntotal == 16
        np.testing.assert_array_equal(index.search(dataset.get_queries(), 5)[1], I)


class TestFactoryTools:
    @pytest.mark.parametrize(
        ("key", "size"),
        [
            ("Flat", 512),
            ("IVF64,Flat", 512),
            ("IVF64_HNSW32,SQ8", 128),
            ("IVF64,PQ8x4", 4),
            ("PQ16+8", 24),
            ("PQ16,RFlat", 528),
            ("SQ6", 96),
            ("SQ4", 64),
            ("SQfp16", 256),
            ("HNSW16", 640),
            ("HNSW32,SQ8", 384),
            ("PCA64,IVF16,Flat", 256),
            ("OPQ8_32,PQ8", 8),
            ("OPQ8,SQ8", 128),
            ("RR32,Flat", 128),
            ("IMI2x8,PQ8,Refine(SQ8)", 136),
        ],
    )
    def test_code_size(self, contrib, key, size):
        assert contrib("factory_tools").get_code_size(128, key) == size

    def test_unknown_string(self, contrib):
        with pytest.raises(RuntimeError, match="Flut"):
            contrib("factory_tools").get_code_size(128, "IVF64,Flut")

    @pytest.mark.parametrize("key", ["Flat", "IVF16,Flat", "IVF16(IVF4,Flat),Flat"])
    def test_reverse(self, faiss, contrib, key):
        assert contrib("factory_tools").reverse_index_factory(faiss.index_factory(16, key)) == key


class TestClustering:
    def test_python_kmeans(self, faiss, contrib, dataset, tmp_path):
        clustering = contrib("clustering")
        # a distribution that leaves clusters empty
        x = dataset.get_train().copy()
        x[:500] = x[0]
        reference = faiss.Kmeans(16, 20, niter=10)
        reference.train(x)
        centroids, stats = clustering.kmeans(
            20, clustering.DatasetAssign(x), 10, checkpoint=str(tmp_path / "c.npy"), return_stats=True
        )
        error, reference_error = (faiss.knn(x, c, 1)[0].sum() for c in (centroids, reference.centroids))
        assert error < reference_error * 1.1
        assert len(stats) == 10
        assert stats[-1]["obj"] < stats[0]["obj"]
        np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), centroids)

    def test_two_levels(self, faiss, contrib, dataset):
        x = dataset.get_train()
        reference = faiss.Kmeans(16, 24, max_points_per_centroid=1000)
        reference.train(x)
        centroids, stats = contrib("clustering").two_level_clustering(x, 4, 24, min_points_per_centroid=1)
        assert centroids.shape == (24, 16)
        assert len(stats) == 5
        assert faiss.knn(x, centroids, 1)[0].sum() < 1.15 * faiss.knn(x, reference.centroids, 1)[0].sum()

    def test_training_by_two_levels(self, faiss, contrib, dataset):
        index = faiss.index_factory(16, "IVF16,Flat")
        contrib("clustering").train_ivf_index_with_2level(
            index, dataset.get_train(), rebalance=False, min_points_per_centroid=1
        )
        assert index.is_trained
        assert index.quantizer.ntotal == 16

    def test_balanced_assignment(self, faiss, contrib, dataset):
        clustering = contrib("clustering")
        km = faiss.Kmeans(16, 20)
        km.train(dataset.get_train())
        x = dataset.get_database() + np.float32(0.3)
        plain = clustering.imbalance_factor(20, faiss.knn(x, km.centroids, 1)[1].ravel())
        assign, stats = clustering.balanced_assignment_with_penalties(x, km.centroids, alpha=0.1, maxk=20)
        assert assign.shape == (800,)
        assert stats["imf"] == pytest.approx(clustering.imbalance_factor(20, assign))
        assert 1 <= stats["imf"] < plain
        assert stats["binsize_max"] == np.bincount(assign).max()

    def test_imbalance_factor(self, contrib):
        imbalance_factor = contrib("clustering").imbalance_factor
        assert imbalance_factor(4, np.array([0, 1, 2, 3])) == pytest.approx(1)
        assert imbalance_factor(4, np.array([2, 2, 2, 2])) == pytest.approx(4)


class TestBigBatchSearch:
    @pytest.mark.parametrize("method", ["knn_function", "pairwise_distances", "index"])
    @pytest.mark.parametrize("threaded", [0, 1, 2])
    @pytest.mark.parametrize("metric", [0, 1])
    def test_same_as_search(self, faiss, contrib, dataset, method, threaded, metric):
        index = ivf_index(faiss, dataset, metric=metric)
        xq = dataset.get_queries()
        D, I = index.search(xq, 6)
        new_D, new_I = contrib("big_batch_search").big_batch_search(
            index, xq, 6, method=method, threaded=threaded, prefetch_threads=2
        )
        np.testing.assert_array_equal(new_I, I)
        np.testing.assert_allclose(new_D, D, rtol=1e-4, atol=1e-4)

    def test_goes_on_from_a_checkpoint(self, faiss, contrib, dataset, tmp_path):
        search = contrib("big_batch_search").big_batch_search
        index = ivf_index(faiss, dataset)
        xq, checkpoint = dataset.get_queries(), str(tmp_path / "checkpoint")
        settings = {"threaded": 2, "checkpoint": checkpoint, "checkpoint_freq": 0}
        with pytest.raises(ZeroDivisionError):
            search(index, xq, 6, crash_at=9, **settings)
        visited = []

        def knn(*arguments, **keywords):
            visited.append(1)
            return faiss.knn(*arguments, **keywords)

        found = search(index, xq, 6, knn=knn, **settings)
        assert len(visited) <= 7
        np.testing.assert_array_equal(found[1], index.search(xq, 6)[1])

    @pytest.mark.parametrize("verbose", [0, 1, 2, 3])
    @pytest.mark.parametrize("threaded", [0, 1, 2])
    def test_progress(self, faiss, contrib, dataset, capsys, verbose, threaded):
        index = ivf_index(faiss, dataset, nlist=4)
        contrib("big_batch_search").big_batch_search(
            index, dataset.get_queries(), 6, verbose=verbose, threaded=threaded
        )
        printed = re.sub(r"(\d+ days?, )?\d+(:\d\d)*(\.\d+)?", "#", capsys.readouterr().out)
        end = "\n" if verbose == 3 else "\r"
        times = "prep q # prep b # comp # res # wait in # wait out #"
        lines = [] if verbose == 1 else [f"[# s] list #/# times {times} eta # mem #{end}"] * 4
        before = "coarse quantization\rcoarse quantization: # s\nbucket sort\r  number of -#s: #\nbucket sort: # s\n"
        behind = "finalize heap\rfinalize heap: # s\n"
        if verbose == 0:
            before = behind = ""
        assert printed == before + "".join(lines) + behind

    def test_lines_of_long_searches(self, ours, capsys, monkeypatch):
        from faiss_torch.contrib.big_batch_search import Progress

        monkeypatch.setattr(time, "time", lambda: 0.0)
        for verbose, lines in ((2, 1001), (3, 1501)):
            progress = Progress(2000, verbose)
            for list_no in range(1501):
                progress.report(list_no)
            assert capsys.readouterr().out.count("list ") == lines

    def test_other_types_are_refused(self, faiss, contrib, dataset):
        index = faiss.IndexFlatL2(16)
        with pytest.raises((RuntimeError, AttributeError)):
            contrib("big_batch_search").big_batch_search(index, dataset.get_queries(), 6)


def test_torch_utils_makes_tensors_the_default():
    """Importing it changes what verbs without an input array return, and nothing else."""
    torch = pytest.importorskip("torch")
    import faiss_torch

    sys.modules.pop("faiss_torch.contrib.torch_utils", None)
    index = faiss_torch.IndexFlatL2(3)
    index.add(np.eye(3, dtype="float32"))
    assert isinstance(index.reconstruct(1), np.ndarray)
    names = dict(vars(faiss_torch))
    verbs = dict(vars(faiss_torch.Index))
    torch_utils = importlib.import_module("faiss_torch.contrib.torch_utils")  # anew, whoever imported it before

    assert dict(vars(faiss_torch)) == names
    assert dict(vars(faiss_torch.Index)) == verbs
    for given in (index.reconstruct(1), index.reconstruct_n(1, 1)[0]):
        assert isinstance(given, torch.Tensor)
        assert given.tolist() == [0, 1, 0]
    out = np.empty(3, "float32")
    assert index.reconstruct(2, out) is out
    assert isinstance(index.search(out[None], 1)[0], np.ndarray)
    x = torch.arange(6, dtype=torch.float32)
    pointer = torch_utils.swig_ptr_from_FloatTensor(x)
    np.testing.assert_array_equal(faiss_torch.rev_swig_ptr(pointer, 6), x.numpy())
    with pytest.raises(AssertionError):
        torch_utils.swig_ptr_from_IndicesTensor(x)
    with torch_utils.using_stream(None):
        pass
