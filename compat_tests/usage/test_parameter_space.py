"""ParameterSpace: search parameters by name, and the search for the best."""

import numpy as np
import pytest


@pytest.fixture
def index(faiss):
    x = np.random.RandomState(0).rand(1000, 8).astype("float32")
    index = faiss.index_factory(8, "IVF20(IVF4,Flat),Flat")
    index.train(x)
    index.add(x)
    return index


def test_one_parameter(faiss, index):
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", 5)
    assert index.nprobe == 5
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", 7.9)
    assert index.nprobe == 7
    faiss.ParameterSpace().set_index_parameter(index, "max_codes", 300)
    assert index.max_codes == 300
    faiss.ParameterSpace().set_index_parameter(index, "max_codes", float("inf"))
    assert index.max_codes == 0


def test_the_quantizers_parameters(faiss, index):
    faiss.ParameterSpace().set_index_parameter(index, "quantizer_nprobe", 3)
    assert faiss.downcast_index(index.quantizer).nprobe == 3
    assert index.nprobe == 1


@pytest.mark.parametrize(
    ("text", "nprobe", "max_codes"),
    [("", 1, 0), ("nprobe=8", 8, 0), ("nprobe=8,max_codes=50", 8, 50), ("max_codes=5 nprobe=3.7", 3, 5),
     ("nprobe=100000", 100000, 0), ("nprobe=1e1", 10, 0), ("nprobe=4x", 4, 0)],
)  # fmt: skip
def test_several_parameters(faiss, index, text, nprobe, max_codes):
    faiss.ParameterSpace().set_index_parameters(index, text)
    assert (index.nprobe, index.max_codes) == (nprobe, max_codes)


@pytest.mark.parametrize("text", ["nprobe", "nprobe=", "=3", "nprobe=x", "efSearch=4", "d=4", "no_such=1"])
def test_what_is_not_a_parameter(faiss, index, text):
    with pytest.raises(RuntimeError):
        faiss.ParameterSpace().set_index_parameters(index, text)
    assert index.nprobe == 1


def test_a_flat_index_has_no_parameters(faiss):
    with pytest.raises(RuntimeError):
        faiss.ParameterSpace().set_index_parameter(faiss.IndexFlatL2(4), "nprobe", 2)
    space = faiss.ParameterSpace()
    space.initialize(faiss.IndexFlatL2(4))
    assert (space.parameter_ranges.size(), space.n_combinations()) == (0, 1)


def test_verbose_reaches_the_index(faiss, index):
    faiss.ParameterSpace().set_index_parameter(index, "verbose", 1)
    assert index.verbose


def ranges(faiss, space):
    each = [space.parameter_ranges.at(i) for i in range(space.parameter_ranges.size())]
    return {range_.name: faiss.vector_to_array(range_.values).tolist() for range_ in each}


def test_initialize(faiss, index):
    space = faiss.ParameterSpace()
    space.initialize(index)
    assert ranges(faiss, space) == {"nprobe": [1, 2, 4, 8, 16], "quantizer_nprobe": [1, 2]}
    assert space.n_combinations() == 10


def test_combinations(faiss, index):
    space = faiss.ParameterSpace()
    space.initialize(index)
    assert space.combination_name(0) == "nprobe=1,quantizer_nprobe=1"
    assert space.combination_name(7) == "nprobe=4,quantizer_nprobe=2"
    assert space.combination_ge(7, 1)
    assert not space.combination_ge(7, 3)
    space.set_index_parameters(index, 7)
    assert (index.nprobe, faiss.downcast_index(index.quantizer).nprobe) == (4, 2)


def test_add_range(faiss):
    space = faiss.ParameterSpace()
    space.add_range("nprobe").values.push_back(3)
    space.add_range("nprobe").values.push_back(5)
    space.add_range("max_codes").values.push_back(0)
    assert ranges(faiss, space) == {"nprobe": [3, 5], "max_codes": [0]}


@pytest.mark.parametrize("n_experiments", [0, 500])
@pytest.mark.parametrize("batchsize", [1 << 30, 7])
def test_explore(faiss, index, n_experiments, batchsize):
    xq = np.random.RandomState(1).rand(30, 8).astype("float32")
    index.nprobe = 20
    faiss.downcast_index(index.quantizer).nprobe = 4
    D, I = index.search(xq, 1)
    criterion = faiss.OneRecallAtRCriterion(30, 5)
    criterion.set_groundtruth(D, I)
    space = faiss.ParameterSpace()
    space.verbose = 0
    space.n_experiments = n_experiments
    space.batchsize = batchsize
    space.initialize(index)
    points = space.explore(index, xq, criterion)
    tried = [points.all_pts.at(i) for i in range(points.all_pts.size())]
    assert tried[0].key == "nprobe=1,quantizer_nprobe=1"
    if n_experiments == 0:
        assert [point.cno for point in tried] == list(range(10))
    else:
        assert tried[1].key == "nprobe=16,quantizer_nprobe=2"
    by_cno = {point.cno: point.perf for point in tried}
    assert 0 < by_cno[0] < by_cno[9] <= 1
    assert all(point.t > 0 for point in tried)
    best = points.optimal_pts.at(points.optimal_pts.size() - 1)
    assert best.perf == max(by_cno.values())
    with pytest.raises(AssertionError):
        space.explore(index, xq[:3], criterion)


def test_criteria(faiss):
    truth = np.array([[0, 1, 2], [3, 4, 5]])
    found = np.array([[7, 0, 1], [4, 5, 9]])
    D = np.zeros((2, 3), "float32")
    results = faiss.swig_ptr(D), faiss.swig_ptr(found)
    for criterion, expected in (
        (faiss.OneRecallAtRCriterion(2, 3), 1 / 2),
        (faiss.IntersectionCriterion(2, 3), 4 / 6),
    ):
        with pytest.raises(RuntimeError):
            criterion.evaluate(*results)
        criterion.set_groundtruth(None, truth)
        assert (criterion.gt_nnn, criterion.gt_I.size(), criterion.gt_D.size()) == (3, 6, 0)
        assert criterion.evaluate(*results) == pytest.approx(expected)


def test_criteria_take_arrays_too(ours):
    criterion = ours.IntersectionCriterion(2, 2)
    criterion.set_groundtruth(None, np.array([[0, 1, 2], [3, 4, 5]]))
    found = np.array([[1, 2], [3, 4]])
    assert criterion.evaluate(np.zeros((2, 2), "float32"), found) == pytest.approx(3 / 4)
    with pytest.raises(AssertionError):
        criterion.evaluate(np.zeros((2, 3), "float32"), found)


def test_operating_points(faiss):
    points = faiss.OperatingPoints()
    assert points.add(0.5, 1.0, "a", 1)
    assert points.add(0.9, 2.0, "b", 2)
    assert not points.add(0.4, 1.0, "worse", 3)
    assert not points.add(0.0, 0.1, "nothing", 4)
    assert points.add(0.7, 1.0, "as fast as a", 5)
    keys = [points.optimal_pts.at(i).key for i in range(points.optimal_pts.size())]
    assert keys == ["", "as fast as a", "b"]
    assert points.all_pts.size() == 5
    assert points.t_for_perf(0.6) == 1.0
    assert points.t_for_perf(0.8) == 2.0
    assert points.t_for_perf(0.95) == 1e50
    other = faiss.OperatingPoints()
    other.add(0.95, 3.0, "c", 6)
    assert points.merge_with(other, "other ") == 1
    assert points.optimal_pts.at(3).key == "other c"


def test_operating_points_as_text(faiss, tmp_path):
    points = faiss.OperatingPoints()
    points.add(0.5, 1.0, "a", 1)
    points.add(0.25, 2.0, "b", 2)
    points.all_to_gnuplot(str(tmp_path / "all"))
    points.optimal_to_gnuplot(str(tmp_path / "optimal"))
    assert (tmp_path / "all").read_text() == "0.5 1 a\n0.25 2 b\n"
    assert (tmp_path / "optimal").read_text() == "0 0\n0 0 \n0 1\n0.5 1 a\n"
