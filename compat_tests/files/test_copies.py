"""clone_index, copy, deepcopy and pickle give an index of its own."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import faiss_torch

WAYS = {
    "clone_index": faiss_torch.clone_index,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
}


@pytest.fixture(params=list(WAYS))
def make_copy(request):
    return WAYS[request.param]


def test_a_copy_is_equal(samples, searchable, make_copy, written):
    index = samples.SAMPLES[searchable](faiss_torch)
    other = make_copy(index)
    assert type(other) is type(index)
    assert written(other) == written(index)
    queries = samples.vectors(4, d=index.d)
    for a, b in zip(index.search(queries, 3), other.search(queries, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert written(make_copy(other)) == written(index)


@pytest.mark.parametrize(
    "name", ["flat_l2", "ivf_l2", "ivf_array_map", "ivf_hashtable", "ivf_dedup_instances", "id_map2", "id_map_ivf"]
)
def test_changing_one_leaves_the_other(samples, name, make_copy, written):
    index = samples.SAMPLES[name](faiss_torch)
    other = make_copy(index)
    before = written(index)
    x = samples.vectors(40, seed=8)
    if name == "ivf_hashtable" or "id_map" in name:
        other.add_with_ids(x, np.arange(40) + 5000)
    else:
        other.add(x)
    assert written(index) == before
    after = written(other)
    index.reset()
    if hasattr(index, "quantizer"):
        index.quantizer.reset()
        index.nprobe = 77
    assert written(other) == after


def test_settings_that_no_file_keeps(samples, make_copy):
    index = samples.ivf(faiss_torch)
    index.max_codes, index.cp.niter, index.verbose, index.search_mode = 12, 3, True, "csr"
    other = make_copy(index)
    assert (other.max_codes, other.cp.niter, other.verbose, other.search_mode) == (12, 3, True, "csr")


def test_the_class_of_a_flat_index(samples):
    """A copy keeps IndexFlat, a file makes it IndexFlatL2 or IndexFlatIP, as in faiss."""
    index = faiss_torch.IndexFlat(4)
    assert all(type(make(index)) is faiss_torch.IndexFlat for make in WAYS.values())
    read = faiss_torch.deserialize_index(faiss_torch.serialize_index(index))
    assert type(read) is faiss_torch.IndexFlatL2
    read = faiss_torch.deserialize_index(
        faiss_torch.serialize_index(faiss_torch.IndexFlat(4, faiss_torch.METRIC_INNER_PRODUCT))
    )
    assert type(read) is faiss_torch.IndexFlatIP


def test_an_index_that_was_searched_is_copied_without_what_the_search_made(samples, make_copy):
    index = samples.flat(faiss_torch, n=1000)
    index.search(samples.vectors(3), 2)
    other = make_copy(index)
    np.testing.assert_array_equal(other.search(samples.vectors(3), 2)[1], index.search(samples.vectors(3), 2)[1])


def test_the_size_of_a_pickle(samples):
    index = samples.flat(faiss_torch, n=0)
    for _ in range(100):
        index.add(samples.vectors(10))
    assert len(pickle.dumps(index)) < 16 * 1000 + 5000


def test_a_mapped_index_is_copied_whole(golden, tmp_path, make_copy, written):
    data = (golden / "ivf_l2.bin").read_bytes()
    (tmp_path / "index").write_bytes(data)
    index = faiss_torch.read_index(str(tmp_path / "index"), faiss_torch.IO_FLAG_MMAP)
    other = make_copy(index)
    del index
    (tmp_path / "index").unlink()
    assert written(other) == data


def test_cloning_nothing():
    assert faiss_torch.clone_index(None) is None
