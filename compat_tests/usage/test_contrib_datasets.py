"""contrib.datasets: classes over files that a user has, with faiss's names and values."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

NAMES = ["sift1M", "gist1M", "bigann1M", "deep100k", "music-100", "glove", "dino100000"]
ROWS = {"base": 130, "query": 7, "learn": 140}


@pytest.fixture
def datasets(faiss):
    """The module of the implementation under test."""
    return importlib.import_module(f"{faiss.__name__}.contrib.datasets")


@pytest.fixture
def in_folder(datasets, tmp_path):
    """The module, whose data sets are in a folder."""
    before = datasets.dataset_basedir
    datasets.set_dataset_basedir(f"{tmp_path}/")
    yield datasets
    datasets.dataset_basedir = before


def vectors(part, d, kind="float32"):
    numbers = np.random.RandomState(len(part) + d).rand(ROWS[part], d) * 255
    return numbers.astype(kind)


def groundtruth(k=100):
    return np.random.RandomState(5).randint(1000, size=(ROWS["query"], k)).astype("int32")


def write_vecs(path, x):
    """Write fvecs, ivecs or bvecs: each row behind its length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = np.full((len(x), 1), x.shape[1], "<i4").view("uint8")
    path.write_bytes(np.hstack([lengths, np.ascontiguousarray(x).view("uint8")]).tobytes())


def write(folder, name):
    """Write small files under the names that a data set reads; return its vectors, and what its ground truth is."""
    if name in ("sift1M", "gist1M"):
        d, prefix = (128, "sift") if name == "sift1M" else (960, "gist")
        parts = {part: vectors(part, d) for part in ROWS}
        for part, x in parts.items():
            write_vecs(folder / name / f"{prefix}_{part}.fvecs", x)
        write_vecs(folder / name / f"{prefix}_groundtruth.ivecs", groundtruth())
    elif name == "bigann1M":
        parts = {part: vectors(part, 128, "uint8") for part in ROWS}
        for part, x in parts.items():
            write_vecs(folder / "bigann" / f"bigann_{part}.bvecs", x)
        write_vecs(folder / "bigann/gnd/idx_1M.ivecs", groundtruth())
    elif name == "deep100k":
        parts = {part: vectors(part, 96) for part in ROWS}
        for part, file in (("base", "base"), ("query", "deep1B_queries"), ("learn", "learn")):
            write_vecs(folder / "deep1b" / f"{file}.fvecs", parts[part])
        write_vecs(folder / "deep1b/deep100k_groundtruth.ivecs", groundtruth())
    elif name == "music-100":
        parts = {"base": vectors("base", 100), "query": vectors("query", 100)}
        (folder / name).mkdir()
        parts["base"].tofile(folder / name / "database_music100.bin")
        parts["query"].tofile(folder / name / "query_music100.bin")
        np.save(folder / name / "gt.npy", groundtruth())
    elif name == "glove":
        parts = {"base": vectors("base", 100), "query": vectors("query", 100)}
        (folder / name).mkdir()
        with pytest.importorskip("h5py").File(folder / name / "glove-100-angular.hdf5", "w") as file:
            file["train"], file["test"], file["neighbors"] = parts["base"], parts["query"], groundtruth()
        parts = {part: x / np.linalg.norm(x, axis=1, keepdims=True) for part, x in parts.items()}
    else:
        parts = {part: vectors(part, 1024, "uint8") for part in ROWS}
        root = folder / "dino_vitl_10B"
        for number, part in enumerate(np.split(parts["base"], [50, 100])):
            write_vecs(root / "chunked_base_10B" / f"chunk_{number:04}.bvecs", part)
        write_vecs(root / "queries_clean.bvecs", parts["query"])
        write_vecs(root / "train_queries_99M.bvecs", parts["learn"])
        (root / "gts").mkdir()
        np.save(root / "gts/gts_dino_patch_100000_k10.npy", groundtruth(10))
    return parts


@pytest.mark.parametrize("name", NAMES)
def test_vectors_come_from_their_files(in_folder, tmp_path, name):
    parts = write(tmp_path, name)
    dataset = in_folder.dataset_from_name(name)
    assert isinstance(dataset, in_folder.Dataset)
    for part, read in (("base", dataset.get_database()), ("query", dataset.get_queries())):
        assert (read.dtype, read.shape) == (np.float32, (ROWS[part], dataset.d))
        np.testing.assert_allclose(read, parts[part], rtol=1e-6)
    if "learn" in parts:
        np.testing.assert_array_equal(dataset.get_train(maxtrain=20), parts["learn"][:20].astype("float32"))
        if not name.startswith("dino"):
            np.testing.assert_array_equal(dataset.get_train(), parts["learn"].astype("float32"))
    expected = groundtruth(10 if name.startswith("dino") else 100)
    np.testing.assert_array_equal(dataset.get_groundtruth(4), expected[:, :4])
    np.testing.assert_array_equal(dataset.get_groundtruth(k=10), expected[:, :10])


def test_sizes_and_metrics(in_folder, tmp_path):
    write(tmp_path, "dino100000")
    write(tmp_path, "glove")
    sizes = {}
    for name in ("sift1M", "gist1M", "bigann10M", "bigann1B", "deep1M", "deep1B", "music-100", "glove", "dino100000"):
        dataset = in_folder.dataset_from_name(name)
        sizes[name] = (dataset.d, dataset.nt, dataset.nb, dataset.nq, dataset.metric)
    assert sizes == {
        "sift1M": (128, 100_000, 1_000_000, 10_000, "L2"),
        "gist1M": (960, 100_000, 1_000_000, 10_000, "L2"),
        "bigann10M": (128, 10**8, 10**7, 10_000, "L2"),
        "bigann1B": (128, 10**8, 10**9, 10_000, "L2"),
        "deep1M": (96, 358_480_000, 10**6, 10_000, "L2"),
        "deep1B": (96, 358_480_000, 10**9, 10_000, "L2"),
        "music-100": (100, 0, 10**6, 10_000, "IP"),
        "glove": (100, 0, ROWS["base"], ROWS["query"], "IP"),
        "dino100000": (1024, 99_000_000, 100_000, 100_000, "L2"),
    }


@pytest.mark.parametrize("name", ["bigann1M", "deep100k"])
def test_parts_of_a_database(in_folder, tmp_path, name):
    parts = write(tmp_path, name)
    dataset = in_folder.dataset_from_name(name)
    dataset.nb = ROWS["base"]  # the file here is smaller than the real one
    batches = [list(dataset.database_iterator(bs=20, split=(3, rank))) for rank in range(3)]
    assert [len(x) for x in batches[0]] == [20, 20, 3]
    assert all(x.dtype == np.float32 for part in batches for x in part)
    np.testing.assert_array_equal(np.vstack([x for part in batches for x in part]), parts["base"].astype("float32"))


def test_batches_over_the_ends_of_files(in_folder, tmp_path):
    parts = write(tmp_path, "dino100000")
    dataset = in_folder.DatasetDINO10B(110, ignore_supported=True)
    assert [len(x) for x in dataset.database_iterator(bs=40)] == [40, 40, 30]
    np.testing.assert_array_equal(np.vstack(list(dataset.database_iterator(bs=40))), parts["base"][:110])
    assert [len(x) for x in dataset.train_iterator(bs=100)] == [100, 40]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda module: module.dataset_from_name("nothing"), RuntimeError),
        (lambda module: module.dataset_from_name("deep5T"), AssertionError),
        (lambda module: module.dataset_from_name("deep3M"), AssertionError),
        (lambda module: module.dataset_from_name("bigann3M"), AssertionError),
        (lambda module: module.DatasetGlove(download=True), AssertionError),
        (lambda module: module.DatasetBigANN(1000).get_database(), AssertionError),
        (lambda module: module.DatasetDeep1B().get_database(), AssertionError),
        (lambda module: module.DatasetDINO10B(7), ValueError),
        (lambda module: module.DatasetDINO10B(100_000), AssertionError),
        (lambda module: module.DatasetSIFT1M().get_queries(), FileNotFoundError),
    ],
)
def test_what_is_not_there(in_folder, call, error):
    pytest.importorskip("h5py")
    with pytest.raises(error):
        call(in_folder)


def test_a_ground_truth_is_not_longer_than_it_is(in_folder, tmp_path):
    for name in ("sift1M", "bigann1M", "deep100k", "music-100"):
        write(tmp_path, name)
        with pytest.raises(AssertionError):
            in_folder.dataset_from_name(name).get_groundtruth(101)
    write(tmp_path, "dino100000")
    with pytest.raises(NotImplementedError):
        in_folder.dataset_from_name("dino100000").get_groundtruth(11)
    with pytest.raises(NotImplementedError):
        in_folder.dataset_from_name("dino100000").get_train()


def test_readers_have_their_names_here_too(datasets, faiss):
    vecs_io = importlib.import_module(f"{faiss.__name__}.contrib.vecs_io")
    for name in ("fvecs_read", "ivecs_read", "bvecs_mmap", "fvecs_mmap", "bvecs_iter", "bvecs_iter_chunked"):
        assert getattr(datasets, name) is getattr(vecs_io, name)
    x = datasets.sanitize(np.arange(6).reshape(2, 3).T)
    assert (x.dtype, x.flags.c_contiguous) == (np.float32, True)


def test_a_folder_without_a_slash(ours, tmp_path):
    """faiss puts names together as they are."""
    from faiss_torch.contrib import datasets

    before = datasets.dataset_basedir
    try:
        datasets.set_dataset_basedir(tmp_path)
        assert datasets.DatasetSIFT1M().basedir == f"{tmp_path}/sift1M/"
    finally:
        datasets.dataset_basedir = before
