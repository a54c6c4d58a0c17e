"""The table of cases has every goal that is set, and every name in it means something."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")

#: Goal and floor of each case that has one.
GOALS = {
    "ivf_search_nq19600": (12, 6),
    "ivf_search_nq2048": (8, 4),
    "ivf_search_nq512": (6, 3),
    "ivf_search_nq128": (3, 1.5),
    "ivf_search_nq32": (2, 1.2),
    "ivf_search_nq8": (1.5, 1),
    "ivf_search_nq1": (1.2, 0.9),
    "ivf_debian_minilm_l2": (8, 4),
    "ivf_debian_minilm_ip": (8, 4),
    "flat_search_nq2048": (4, 2),
    "flat_search_nq32": (4, 2),
    "flat_search_nq1": (1.2, 0.9),
    "flat_debian_minilm_k10": (4, 2),
    "flat_debian_minilm_k100": (4, 2),
    "flat_range_search_nq2048": (4, 2),
    "ivf_range_search_nq2048": (4, 2),
    "kmeans_262144": (3, 1.5),
    "kmeans_262144_super": (2, 1),
    "kmeans_20480": (3, 1.5),
    "kmeans_58004_384": (3, 1.5),
    "ivf_add_s_one_call": (3, 1.5),
    "ivf_add_s_1000_calls": (1, 0.5),
    "ivf_memory_after_add": (1.1, 1.2),
    "ivf_memory_peak_of_search": (256, 512),
    "import_time": (0.1, 0.3),
    "busy": (2.5, 2.5),
    "two_threads": (1, 1),
}


def test_goals():
    """Each goal has its case, and the floor is on the other side of it."""
    from benchmarks.workloads.cases import CPU
    from benchmarks.workloads.goals import QUANTITIES

    cases = {case.name: case for case in CPU if case.goal}
    assert {name: (case.goal.goal, case.goal.floor) for name, case in cases.items()} == GOALS
    for case in cases.values():
        less_is_better = QUANTITIES[case.quantity].at_most
        assert (case.goal.floor >= case.goal.goal) if less_is_better else (case.goal.floor <= case.goal.goal)


def test_workloads():
    """The workloads that the goals name."""
    from benchmarks.workloads.cases import CPU, Workload

    cases = {case.name: case.workload for case in CPU}
    normal = {"nb": 262_144, "d": 128, "nlist": 512, "nprobe": 32, "k": 20}
    assert cases["ivf_search_nq19600"] == Workload(nq=19_600, **normal)
    assert cases["flat_search_nq32"] == Workload(nq=32, **{**normal, "k": 10})
    minilm = {"data": "debian_minilm", "nb": 58_004, "d": 384, "nlist": 256, "nprobe": 16, "nq": 2000}
    assert cases["ivf_debian_minilm_ip"] == Workload(**minilm, k=10, metric="IP")
    assert cases["flat_debian_minilm_k100"] == Workload(**minilm, k=100)
    assert (cases["kmeans_262144"].nlist, cases["kmeans_262144"].niter) == (1024, 25)
    assert (cases["kmeans_20480"].nlist, cases["kmeans_20480"].niter) == (512, 10)
    assert (cases["kmeans_58004_384"].nlist, cases["kmeans_58004_384"].d) == (256, 384)


def test_every_row_names_what_there_is():
    """Names are unique; work, comparison, measure and quantity are names of their tables."""
    from benchmarks.measuring.measure import MEASURES
    from benchmarks.workloads.cases import CASES, SUITES
    from benchmarks.workloads.goals import QUANTITIES
    from benchmarks.workloads.registry import ON_DEVICE, comparison
    from benchmarks.workloads.work import WORK

    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.suite in SUITES
        assert case.measure in MEASURES
        assert case.quantity in QUANTITIES
        assert callable(comparison(case.compare))
        if case.measure in {"times", "busy", "two_threads"}:
            assert case.work in (*WORK, *ON_DEVICE)
        assert (case.point is not None) == case.suite.endswith("sweeps")
        assert case.device == ("cuda" if case.suite.startswith("gpu") else "cpu")


def test_sweeps():
    """nq runs from 1 to 19,600 on every path that takes it; the other sweeps have several values each."""
    from benchmarks.workloads.cases import SWEEPS

    lines: dict[tuple[str, str], list[float]] = {}
    for case in SWEEPS:
        lines.setdefault((case.point.sweep, case.point.line), []).append(case.point.x)
    assert lines["nq_ivf", "auto"][0] == 1
    assert lines["nq_ivf", "auto"][-1] == 19_600
    assert {line for sweep, line in lines if sweep == "nq_ivf"} == {"auto", "matrix", "csr"}
    assert {sweep for sweep, _ in lines} == {"nq_ivf", "nq_flat", "nlist_nprobe", "k", "d", "nb", "recall"}
    assert all(len(values) >= 4 and values == sorted(values) for values in lines.values())


def test_radius():
    """Within the radius a query has about a hundred results on average."""
    import faiss

    from benchmarks.workloads.cases import Workload
    from benchmarks.workloads.work import ivf_range_search, radius

    small = Workload(nb=20_000, d=16, nlist=16, nprobe=8, nq=500)
    lims, *_ = ivf_range_search(faiss, small, "cpu")()
    assert 70 < lims[-1] / 500 < 130
    assert radius(small, "flat") < radius(small, "ivf")


#: Goals of k-means on a GPU, beside the best of the libraries named there.
GPU_GOALS = {
    "gpu_kmeans_8m_k1024": 1.3,
    "gpu_nearest_1m_k8192_half": 1.3,
    "gpu_nearest_1m_k8192": 2,
    "gpu_nearest_512k_d256_k16384": 1.4,
    "gpu_kmeans_33m_k4096": 1.3,
    "gpu_kmeans_20480_iterations": 3,
    "gpu_batch_kmeans_32": 1.5,
    "gpu_kmeans_out_of_core": 3,
}

#: Goals of search there.
GPU_SEARCH_GOALS = {
    "gpu_device_ivf_nq19600": 3,
    "gpu_device_ivf_nq512": 1.5,
    "gpu_device_ivf_nq1": 1,
    "gpu_device_ivf_1m": 3,
    "gpu_flat_1m": 2.5,
    "gpu_flat_1m_d1024_k10": 3,
    "gpu_flat_1m_d1024_k100": 3,
    "gpu_hamming_10m_nq1000": 10,
    "gpu_hamming_10m_nq1": 2,
}


def test_goals_on_a_gpu():
    """Each has its case, which says beside whom, and what is done there has a name."""
    from benchmarks.workloads import device_work, registry, rivals
    from benchmarks.workloads.cases import ON_DEVICE, SEARCH_ON_DEVICE

    assert {case.name: case.goal.goal for case in SEARCH_ON_DEVICE} == GPU_SEARCH_GOALS
    for case in SEARCH_ON_DEVICE:
        assert all(case.work in rivals.RIVALS[rival].work for rival in case.rivals)
    assert set(registry.COMPARED_ON_DEVICE) == device_work.COMPARISONS.keys()
    assert set(registry.ON_DEVICE) == device_work.WORK.keys()

    cases = {case.name: case for case in ON_DEVICE}
    assert {name: case.goal.goal for name, case in cases.items()} == GPU_GOALS
    for case in cases.values():
        assert case.rivals == ("flash-kmeans", "flashlib")
        assert case.work in device_work.WORK
        assert all(case.work in rivals.RIVALS[rival].work for rival in case.rivals)
