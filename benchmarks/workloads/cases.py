"""What is measured: the cases, as rows.

A row says what is done (a function of `work`), on which workload, how results are compared (`compare`), how it is
measured (`measure`) and what it is to reach. Suites: "cpu" has the goals, "sweeps" vary one thing at a time and feed
the plots; "gpu" and "gpu_sweeps" are the same for machines with a GPU of CUDA or ROCm.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .goals import Goal

DEBIAN_MINILM = "debian_minilm"


@dataclasses.dataclass(frozen=True)
class Workload:
    """Which vectors, and how they are indexed and searched.

    Attributes
    ----------
    data : str
        "normal" (standard normal vectors) or "debian_minilm" (sentence embeddings, 58,004 and 2,000 x 384).
    nb, d, nq, k : int
    nlist, nprobe : int
        Of inverted files; nlist is the number of centroids of k-means too.
    niter : int
        Iterations of k-means.
    metric : str
        "L2" or "IP".
    path : str or None
        A path of this library's IVF search that is asked for, instead of the one that it chooses.
    dtype : str
        Of vectors that are made on a device: "float32" or "float16".
    sets : int
        Of vectors, each of nb, that are clustered at once.
    """

    nb: int = 262_144
    d: int = 128
    nlist: int = 512
    nprobe: int = 32
    nq: int = 2048
    k: int = 20
    niter: int = 25
    data: str = "normal"
    metric: str = "L2"
    path: str | None = None
    dtype: str = "float32"
    sets: int = 1

    def with_(self, **changes: Any) -> Workload:
        """Return the same with changes."""
        return dataclasses.replace(self, **changes)

    @property
    def calls(self) -> int:
        """Searches that are timed together, each with queries of its own: few queries come in many calls."""
        return max(1, min(64, 512 // self.nq))

    def scaled(self, scale: float) -> Workload:
        """Return the same in small, to try a benchmark out."""

        def smaller(n: int, least: int) -> int:
            return min(n, max(least, int(n * scale)))

        return self.with_(
            nb=smaller(self.nb, 1000),
            nq=smaller(self.nq, 4),
            nlist=smaller(self.nlist, 8),
            nprobe=smaller(self.nprobe, 4),
        )


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a measurement stands in a sweep: on which line of which plot, and at which value."""

    sweep: str
    line: str
    x: float


@dataclasses.dataclass(frozen=True)
class Case:
    """A row.

    Attributes
    ----------
    name : str
    work : str
        What is done, a name that `registry.prepare` knows.
    workload : Workload
    goal : Goal or None
    compare : str
        How results are compared, a name that `registry.comparison` knows.
    repeats : int
        Runs of each side.
    measure : str
        How it is measured, a name in `measure.MEASURES`.
    quantity : str
        What figure is made of the runs, a name in `goals.QUANTITIES`.
    options : tuple of (str, value)
        More for the work function.
    suite : str
    point : Point or None
    recall : bool
        Whether the record has the recall of both sides.
    rivals : tuple of str
        The libraries that it is measured beside, one after the other, where none is asked for; those that are not
        installed are left out.
    """

    name: str
    work: str
    workload: Workload
    goal: Goal | None = None
    compare: str = "neighbours"
    repeats: int = 5
    measure: str = "times"
    quantity: str = "speed"
    options: tuple[tuple[str, Any], ...] = ()
    suite: str = "cpu"
    point: Point | None = None
    recall: bool = False
    rivals: tuple[str, ...] = ("faiss-cpu",)

    @property
    def device(self) -> str:
        """Where this library works; faiss-cpu always works on the CPU."""
        return "cuda" if self.suite.startswith("gpu") else "cpu"

    @property
    def calls(self) -> int:
        """Calls that are timed together; times are those of one."""
        return self.workload.calls if self.work.endswith("_search") else 1

    @property
    def family(self) -> str:
        """The kind of index: ivf, flat, kmeans, or import."""
        return self.work.partition("_")[0]


S = Workload()
MILLION = S.with_(nb=1_000_000)
FLAT = S.with_(k=10)
MINILM = Workload(data=DEBIAN_MINILM, nb=58_004, d=384, nlist=256, nprobe=16, nq=2000, k=10)
SMALL = S.with_(nb=20_480, niter=10)
LARGE = S.with_(nlist=1024)
SUPER = (("theirs", "SuperKmeans"),)

# name, work, workload, goal, and what differs from the usual
CPU = (
    Case("ivf_build", "ivf_build", S, compare="centroids"),
    Case("ivf_add_s_one_call", "ivf_add", S, Goal(3, 1.5), "sizes", 9, options=(("calls", 1),)),
    Case("ivf_add_s_1000_calls", "ivf_add", S, Goal(1, 0.5), "sizes", 7, options=(("calls", 1000),)),
    Case("ivf_add_one_call", "ivf_add", MILLION, None, "sizes", 3, options=(("calls", 1),)),
    Case("ivf_add_1000_calls", "ivf_add", MILLION, None, "sizes", 3, options=(("calls", 1000),)),
    Case("ivf_search_nq19600", "ivf_search", S.with_(nq=19_600), Goal(12, 6)),
    Case("ivf_search_nq2048", "ivf_search", S, Goal(8, 4), repeats=9),
    Case("ivf_search_nq512", "ivf_search", S.with_(nq=512), Goal(6, 3), repeats=15),
    Case("ivf_search_nq128", "ivf_search", S.with_(nq=128), Goal(3, 1.5), repeats=21),
    Case("ivf_search_nq32", "ivf_search", S.with_(nq=32), Goal(2, 1.2), repeats=21),
    Case("ivf_search_nq8", "ivf_search", S.with_(nq=8), Goal(1.5, 1), repeats=21),
    Case("ivf_search_nq1", "ivf_search", S.with_(nq=1), Goal(1.2, 0.9), repeats=21),
    Case("ivf_debian_minilm_l2", "ivf_search", MINILM, Goal(8, 4), repeats=7, recall=True),
    Case("ivf_debian_minilm_ip", "ivf_search", MINILM.with_(metric="IP"), Goal(8, 4), repeats=7, recall=True),
    Case("flat_search_nq2048", "flat_search", FLAT, Goal(4, 2), repeats=7),
    Case("flat_search_nq32", "flat_search", FLAT.with_(nq=32), Goal(4, 2), repeats=11),
    Case("flat_search_nq1", "flat_search", FLAT.with_(nq=1), Goal(1.2, 0.9), repeats=11),
    Case("flat_20000_search_nq1", "flat_search", FLAT.with_(nb=20_000, nq=1), repeats=11),
    Case("flat_2000_search_nq1", "flat_search", FLAT.with_(nb=2_000, nq=1), repeats=11),
    Case("flat_debian_minilm_k10", "flat_search", MINILM, Goal(4, 2), repeats=7),
    Case("flat_debian_minilm_k100", "flat_search", MINILM.with_(k=100), Goal(4, 2), repeats=7),
    Case("flat_range_search_nq2048", "flat_range_search", S, Goal(4, 2), "range"),
    Case("ivf_range_search_nq2048", "ivf_range_search", S, Goal(4, 2), "range", 7),
    Case("ivf_filtered_50_percent_nq2048", "ivf_filtered_search", S, repeats=7, options=(("share", 0.5),)),
    Case("ivf_filtered_1_percent_nq2048", "ivf_filtered_search", S, repeats=7, options=(("share", 0.01),)),
    Case("ivf_filtered_50_percent_nq32", "ivf_filtered_search", S.with_(nq=32), repeats=11, options=(("share", 0.5),)),
    Case("ivf_filtered_1_percent_nq32", "ivf_filtered_search", S.with_(nq=32), repeats=11, options=(("share", 0.01),)),
    Case("ivf_filtered_50_percent_nq1", "ivf_filtered_search", S.with_(nq=1), repeats=11, options=(("share", 0.5),)),
    Case("ivf_filtered_1_percent_nq1", "ivf_filtered_search", S.with_(nq=1), repeats=11, options=(("share", 0.01),)),
    Case("flat_filtered_50_percent_nq64", "flat_filtered_search", S.with_(nq=64), repeats=7, options=(("share", 0.5),)),
    Case("flat_filtered_1_percent_nq64", "flat_filtered_search", S.with_(nq=64), repeats=7, options=(("share", 0.01),)),
    Case("kmeans_262144", "kmeans", LARGE, Goal(3, 1.5), "objective", 3),
    Case("kmeans_262144_super", "kmeans", LARGE, Goal(2, 1), "objective", 3, options=SUPER),
    Case("kmeans_20480", "kmeans", SMALL, Goal(3, 1.5), "centroids", 15),
    Case("kmeans_58004_384", "kmeans", MINILM, Goal(3, 1.5), "objective", 5),
    Case("ivf_memory_after_add", "ivf_memory", S, Goal(1.1, 1.2), "none", 3, "memory_after_add", "memory"),
    Case(
        "ivf_memory_peak_of_search",
        "ivf_memory",
        S.with_(nq=19_600),
        Goal(256, 512),
        "none",
        3,
        "memory_peak_of_search",
        "peak",
    ),
    Case("import_time", "import", S, Goal(0.1, 0.3), "none", 7, "import_time", "import"),
    Case("busy", "ivf_search", S.with_(nq=19_600), Goal(2.5, 2.5), repeats=3, measure="busy", quantity="busy"),
    Case(
        "two_threads",
        "ivf_search",
        S.with_(nq=512),
        Goal(1, 1),
        repeats=5,
        measure="two_threads",
        quantity="two_threads",
    ),
)

IVF_RIVALS = ("faiss-cpu", "flashlib", "torch-ivf")

GPU = (
    Case("gpu_ivf_build", "ivf_build", S, compare="centroids", suite="gpu"),
    Case("gpu_ivf_add_s_one_call", "ivf_add", S, None, "sizes", options=(("calls", 1),), suite="gpu"),
    Case("gpu_ivf_search_nq19600", "ivf_search", S.with_(nq=19_600), suite="gpu", rivals=IVF_RIVALS),
    Case("gpu_ivf_search_nq2048", "ivf_search", S, repeats=9, suite="gpu"),
    Case("gpu_ivf_search_nq512", "ivf_search", S.with_(nq=512), repeats=15, suite="gpu", rivals=IVF_RIVALS),
    Case("gpu_ivf_search_nq32", "ivf_search", S.with_(nq=32), repeats=31, suite="gpu"),
    Case("gpu_ivf_search_nq1", "ivf_search", S.with_(nq=1), repeats=21, suite="gpu", rivals=IVF_RIVALS),
    Case("gpu_ivf_debian_minilm_l2", "ivf_search", MINILM, repeats=7, suite="gpu"),
    Case("gpu_flat_search_nq2048", "flat_search", FLAT, suite="gpu"),
    Case("gpu_flat_search_nq1", "flat_search", FLAT.with_(nq=1), repeats=21, suite="gpu"),
    Case("gpu_flat_debian_minilm_k10", "flat_search", MINILM, suite="gpu"),
    Case("gpu_flat_range_search_nq2048", "flat_range_search", S, None, "range", suite="gpu"),
    Case("gpu_ivf_range_search_nq2048", "ivf_range_search", S, None, "range", suite="gpu"),
    Case("gpu_kmeans_262144", "kmeans", LARGE, None, "objective", 3, suite="gpu"),
    Case("gpu_kmeans_20480", "kmeans", SMALL, None, "centroids", suite="gpu"),
)

HALF = S.with_(dtype="float16", niter=10)

#: k-means of vectors that are on the GPU, or in memory that it reads.
ON_DEVICE = tuple(
    Case(
        f"gpu_{name}", work, workload, Goal(goal, 1), compare, repeats, suite="gpu", rivals=("flash-kmeans", "flashlib")
    )
    for work, compare, rows in (
        (
            "device_kmeans",
            "device_objective",
            (
                ("kmeans_8m_k1024", HALF.with_(nb=8_388_608, nlist=1024), 1.3, 5),
                ("kmeans_33m_k4096", HALF.with_(nb=33_554_432, nlist=4096), 1.3, 5),
                ("kmeans_20480_iterations", SMALL.with_(niter=25), 3, 15),
            ),
        ),
        (
            "device_nearest",
            "labels",
            (
                ("nearest_1m_k8192_half", HALF.with_(nb=1_048_576, nlist=8192), 1.3, 9),
                ("nearest_1m_k8192", S.with_(nb=1_048_576, nlist=8192), 2, 9),
                ("nearest_512k_d256_k16384", HALF.with_(nb=524_288, d=256, nlist=16_384), 1.4, 9),
            ),
        ),
        (
            "device_batch_kmeans",
            "device_objective",
            (("batch_kmeans_32", HALF.with_(nb=131_072, nlist=1024, sets=32), 1.5, 5),),
        ),
        (
            "host_kmeans",
            "device_objective",
            (("kmeans_out_of_core", HALF.with_(nb=67_108_864, nlist=16_384, niter=3), 3, 5),),
        ),
    )
    for name, workload, goal, repeats in rows
)

MILLION_K10 = Workload(nb=1_000_000, d=128, nq=10_000, k=10)

IVF_MILLION = MILLION_K10.with_(nlist=1024, nprobe=64)

#: Search of vectors, and of binary codes, that are on the GPU.
SEARCH_ON_DEVICE = (
    *(
        Case(f"gpu_{name}", "device_ivf", workload, goal, "device_lists", repeats, suite="gpu", rivals=("flashlib",))
        for name, workload, goal, repeats in (
            ("device_ivf_nq19600", S.with_(nq=19_600), Goal(3, 1), 9),
            ("device_ivf_nq512", S.with_(nq=512), Goal(1.5, 1), 15),
            ("device_ivf_nq1", S.with_(nq=1), Goal(1, 0.5), 31),
            ("device_ivf_1m", IVF_MILLION, Goal(3, 1), 7),
        )
    ),
    *(
        Case(f"gpu_{name}", "device_flat", workload, Goal(goal, 1), "device_neighbours", suite="gpu", rivals=rivals)
        for name, workload, goal, rivals in (
            ("flat_1m", MILLION_K10, 2.5, ("flashlib", "torch")),
            ("flat_1m_d1024_k10", MILLION_K10.with_(d=1024), 3, ("flashlib",)),
            ("flat_1m_d1024_k100", MILLION_K10.with_(d=1024, k=100), 3, ("flashlib",)),
        )
    ),
    *(
        Case(f"gpu_{name}", "device_hamming", workload, goal, "device_distances", suite="gpu", rivals=("torch",))
        for name, workload, goal in (
            # for 10,000 queries plain torch would take a minute a run
            ("hamming_10m_nq1000", Workload(nb=10_000_000, d=256, nq=1000, k=10), Goal(10, 1)),
            ("hamming_10m_nq1", Workload(nb=10_000_000, d=256, nq=1, k=10), Goal(2, 1)),
        )
    ),
)

# Sweeps: values and the runs of each side at each of them.
NQ = ((1, 9), (2, 9), (4, 9), (8, 9), (16, 9), (32, 9), (64, 9), (128, 9), (256, 7), (512, 5), (1024, 5))
NQ_IVF = (*NQ, (2048, 3), (4096, 3), (8192, 3), (19_600, 3))
NQ_MATRIX = (*NQ, (2048, 3))
NQ_CSR = ((16, 9), (32, 9), (64, 9), (128, 7), (256, 5), (512, 5), (1024, 3), (2048, 3), (8192, 3))
NQ_FLAT = (*NQ, (2048, 3))
NPROBE = (1, 2, 4, 8, 16, 32, 64, 128)
NLIST_NPROBE = (
    *((128, nprobe) for nprobe in (1, 2, 4, 8, 16)),
    *((512, nprobe) for nprobe in (1, 4, 16, 64)),
    *((2048, nprobe) for nprobe in (1, 4, 16, 64, 256)),
)
K = (1, 10, 20, 50, 100, 200, 500, 1000)
D = (16, 32, 64, 128, 256, 512, 1024)
NB = (16_384, 65_536, 262_144, 1_048_576)


NQ_GPU = ((1, 31), (8, 31), (64, 15), (512, 9), (4096, 7), (19_600, 5))
NQ_GPU_MATRIX = ((1, 31), (8, 31), (64, 9), (512, 5), (4096, 3))


def _gpu_sweep(name: str, line: str, x: int, workload: Workload, repeats: int, rivals: tuple[str, ...]) -> Case:
    return Case(
        f"gpu_sweep_{name}_{line}_{x}",
        "device_ivf",
        workload,
        compare="device_lists",
        repeats=repeats,
        suite="gpu_sweeps",
        point=Point(f"gpu_{name}", line, x),
        recall=name == "recall",
        rivals=rivals,
    )


def _sweep(name: str, line: str, x: int, work: str, workload: Workload, repeats: int, recall: bool = False) -> Case:
    return Case(
        f"sweep_{name}_{line}_{x}",
        work,
        workload,
        repeats=repeats,
        suite="sweeps",
        point=Point(name, line, x),
        recall=recall,
    )


SWEEPS = (
    *(_sweep("nq_ivf", "auto", nq, "ivf_search", S.with_(nq=nq), runs) for nq, runs in NQ_IVF),
    *(_sweep("nq_ivf", "matrix", nq, "ivf_search", S.with_(nq=nq, path="matrix"), runs) for nq, runs in NQ_MATRIX),
    *(_sweep("nq_ivf", "csr", nq, "ivf_search", S.with_(nq=nq, path="csr"), runs) for nq, runs in NQ_CSR),
    *(_sweep("nq_flat", "flat", nq, "flat_search", FLAT.with_(nq=nq), runs) for nq, runs in NQ_FLAT),
    *(_sweep("k", "ivf", k, "ivf_search", S.with_(nq=1024, k=k), 3) for k in K),
    *(
        _sweep("nlist_nprobe", f"nlist{nlist}", nprobe, "ivf_search", S.with_(nq=512, nlist=nlist, nprobe=nprobe), 3)
        for nlist, nprobe in NLIST_NPROBE
    ),
    *(_sweep("recall", DEBIAN_MINILM, n, "ivf_search", MINILM.with_(nq=1000, nprobe=n), 3, True) for n in NPROBE),
    *(_sweep("d", "ivf", d, "ivf_search", S.with_(nb=65_536, d=d, nlist=256, nprobe=16, nq=1024), 3) for d in D),
    *(_sweep("nb", "ivf", nb, "ivf_search", S.with_(nb=nb, nq=512), 3) for nb in NB),
    *(_sweep("nb", "flat", nb, "flat_search", FLAT.with_(nb=nb, nq=128), 3) for nb in NB),
)

GPU_SWEEPS = (
    *(_gpu_sweep("nq", "auto", nq, S.with_(nq=nq), runs, ("faiss-cpu", "flashlib")) for nq, runs in NQ_GPU),
    *(_gpu_sweep("nq", "csr", nq, S.with_(nq=nq, path="csr"), runs, ("faiss-cpu",)) for nq, runs in NQ_GPU),
    *(
        _gpu_sweep("nq", "matrix", nq, S.with_(nq=nq, path="matrix"), runs, ("faiss-cpu",))
        for nq, runs in NQ_GPU_MATRIX
    ),
    *(_gpu_sweep("recall", DEBIAN_MINILM, n, MINILM.with_(nprobe=n), 5, ("faiss-cpu", "flashlib")) for n in NPROBE),
)

CASES = (*CPU, *GPU, *ON_DEVICE, *SEARCH_ON_DEVICE, *SWEEPS, *GPU_SWEEPS)
SUITES = ("cpu", "sweeps", "gpu", "gpu_sweeps")
