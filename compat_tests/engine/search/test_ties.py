"""Of equal distances the lowest id comes first, and is kept, on every path of a search.

The data are few vectors that stand in many places, with whole numbers, so that different vectors tie as well, or with
any numbers, so that a path that computed a vector's distance differently in different places would be seen.
"""

import numpy as np
import pytest
import torch
from screening import few_queries_by_blocks

import faiss_torch
from faiss_torch.ops.runtime import arithmetic

METRICS = {"ip": faiss_torch.METRIC_INNER_PRODUCT, "l2": faiss_torch.METRIC_L2, "l1": faiss_torch.METRIC_L1}
NUMBERS = ("whole numbers", "any numbers")
ARITHMETICS = ("int8", "bf16", "float32", "none")


class Duplicates:
    """Vectors `xb` with ids, and queries `xq`, some of them vectors that are there."""

    def __init__(self, n, d, nq, numbers, ids=None, distinct=30):
        rng = np.random.RandomState(n + nq)
        make = (
            (lambda n: rng.randint(-2, 3, size=(n, d))) if numbers == "whole numbers" else (lambda n: rng.randn(n, d))
        )
        self.distinct = np.unique(make(distinct).astype("float32"), axis=0)
        self.which = rng.randint(len(self.distinct), size=n)
        self.xb = self.distinct[self.which]
        self.ids = np.arange(n) if ids is None else ids
        self.xq = np.concatenate([self.xb[:1], make(nq).astype("float32")])[:nq]

    def nearest(self, k, metric, allowed=None):
        """The ids that a search has to give, by distances in float64."""
        q, x = self.xq[:, None].astype("float64"), self.distinct[None].astype("float64")
        distances = {"ip": -q * x, "l2": (q - x) ** 2, "l1": np.abs(q - x)}[metric].sum(2)
        found = np.full((len(q), k), -1)
        rows = np.arange(len(self.ids)) if allowed is None else np.flatnonzero(allowed)
        for i, of_distinct in enumerate(distances):
            best = rows[np.lexsort((self.ids[rows], of_distinct[self.which[rows]]))][:k]
            found[i, : len(best)] = self.ids[best]
        return found


def shuffled_ids(n):
    return np.random.RandomState(n).permutation(5 * n)[:n]


def filled_ivf(data, metric, nlist=6, lists=None):
    quantizer = faiss_torch.IndexFlat(data.xb.shape[1], METRICS[metric])
    quantizer.add(np.random.RandomState(7).randn(nlist, data.xb.shape[1]).astype("float32"))
    index = faiss_torch.IndexIVFFlat(quantizer, data.xb.shape[1], nlist, METRICS[metric])
    if lists is not None:
        index.replace_invlists(lists(nlist, index.code_size))
    index.nprobe = nlist
    third = -(-len(data.xb) // 3)
    for begin in range(0, len(data.xb), third):
        index.add_with_ids(data.xb[begin : begin + third], data.ids[begin : begin + third])
    return index


def test_twelve_rows_of_which_each_is_there_three_times():
    """faiss gives 8, 4, 0."""
    xb = np.concatenate([np.eye(4, dtype="float32")] * 3)
    index = faiss_torch.IndexFlatIP(4)
    index.add(xb)
    assert index.search(xb[:4], 3)[1].tolist() == [[i, i + 4, i + 8] for i in range(4)]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d", "nq"), [(12, 4, 3), (3000, 8, 1), (3000, 8, 150), (34_000, 8, 1), (34_000, 8, 40)])
def test_flat(numbers, metric, n, d, nq):
    data = Duplicates(n, d, nq, numbers)
    index = faiss_torch.IndexFlat(d, METRICS[metric])
    index.add(data.xb)
    for k in (1, 10, 200):
        expected = data.nearest(k, metric)
        for _ in range(2):  # the second one may find copies of the vectors
            np.testing.assert_array_equal(index.search(data.xq, k)[1], expected)
        np.testing.assert_array_equal(faiss_torch.knn(data.xq, data.xb, k, metric=METRICS[metric])[1], expected)
    np.testing.assert_array_equal(index.assign(data.xq), data.nearest(1, metric))


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_flat_by_every_arithmetic(name, metric, numbers):
    data = Duplicates(3000, 16, 70, numbers)
    index = faiss_torch.IndexFlat(16, METRICS[metric])
    index.add(data.xb)
    with arithmetic.pinned(name):
        for k in (1, 10, 100):
            for _ in range(3):
                np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("nq", [1, 60])
@pytest.mark.parametrize("share", [0.02, 0.6])
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_filters(metric, nq, share, kind):
    data = Duplicates(4000, 8, nq, "whole numbers", None if kind == "flat" else shuffled_ids(4000))
    allowed = np.random.RandomState(1).rand(4000) < share
    sel = faiss_torch.IDSelectorBatch(data.ids[allowed])
    if kind == "flat":
        index, params = faiss_torch.IndexFlat(8, METRICS[metric]), faiss_torch.SearchParameters(sel=sel)
        index.add(data.xb)
    else:
        index, params = filled_ivf(data, metric), faiss_torch.SearchParametersIVF(sel=sel, nprobe=6)
    for k in (1, 10, 100):
        np.testing.assert_array_equal(index.search(data.xq, k, params=params)[1], data.nearest(k, metric, allowed))


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("mode", ["matrix", "csr"])
@pytest.mark.parametrize("name", ARITHMETICS)
def test_inverted_lists(numbers, metric, mode, name):
    """Ids count, and not the order in which they came."""
    for nq in (1, 60):
        data = Duplicates(2500, 16, nq, numbers, shuffled_ids(2500))
        index = filled_ivf(data, metric)
        index.search_mode = mode
        with arithmetic.pinned(name):
            for k in (1, 10, 100):
                for _ in range(2):
                    np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("nq", [1, 30])
def test_inverted_lists_by_blocks(metric, nq, monkeypatch):
    few_queries_by_blocks(monkeypatch, 1 << 20)
    data = Duplicates(5000, 16, nq, "whole numbers", shuffled_ids(5000))
    index = filled_ivf(data, metric)
    with arithmetic.pinned("int8"):
        for k in (1, 10, 100):
            for _ in range(2):
                np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_lists_in_a_file(metric, tmp_path):
    data = Duplicates(5000, 16, 20, "whole numbers", shuffled_ids(5000))

    def lists(nlist, code_size):
        return faiss_torch.OnDiskInvertedLists(nlist, code_size, str(tmp_path / "lists"))

    index = filled_ivf(data, metric, lists=lists)
    for k in (1, 10, 100):
        np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_lists_that_the_caller_chose(metric):
    data = Duplicates(2000, 8, 20, "whole numbers", shuffled_ids(2000))
    index = filled_ivf(data, metric)
    lists = np.tile(np.arange(6), (20, 1))
    found = index.search_preassigned(data.xq, 10, lists, np.zeros(lists.shape, "float32"))
    np.testing.assert_array_equal(found[1], data.nearest(10, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("own_ids", [False, True])
def test_shards(metric, threaded, own_ids):
    """Ids count, and not the order of the shards."""
    data = Duplicates(1500, 8, 20, "whole numbers", shuffled_ids(1500) if own_ids else None)
    index = faiss_torch.IndexShards(8, threaded, not own_ids)
    for part in np.array_split(np.arange(1500), 3):
        if own_ids:
            some = Duplicates(1500, 8, 20, "whole numbers")
            some.xb, some.ids = data.xb[part], data.ids[part]
            index.add_shard(filled_ivf(some, metric))
        else:
            index.add_shard(faiss_torch.IndexFlat(8, METRICS[metric]))
    if not own_ids:
        index.add(data.xb)
    for k in (1, 10, 700):
        np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_a_map_of_ids_keeps_the_order_of_what_it_maps(metric):
    data = Duplicates(900, 8, 20, "whole numbers")
    index = faiss_torch.IndexIDMap(faiss_torch.IndexFlat(8, METRICS[metric]))
    ids = shuffled_ids(900)
    index.add_with_ids(data.xb, ids)
    np.testing.assert_array_equal(index.search(data.xq, 50)[1], ids[data.nearest(50, metric)])


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_vectors_in_16_bits(metric):
    data = Duplicates(3000, 8, 20, "whole numbers", shuffled_ids(3000))
    flat = faiss_torch.IndexFlat(8, METRICS[metric])
    flat.add(data.xb)
    for index, ids in ((flat, np.arange(3000)), (filled_ivf(data, metric), data.ids)):
        index.to("cpu", dtype=torch.float16)
        data.ids = ids
        for k in (1, 10):
            np.testing.assert_array_equal(index.search(data.xq, k)[1], data.nearest(k, metric))


def test_equal_centroids():
    """k-means gives a vector to the first of equal centroids, and an inverted file its entry to the first list."""
    data = Duplicates(2000, 16, 2000, "whole numbers")
    x, centroids = data.xq, data.xb[:600]
    data.xb, data.which, data.ids = centroids, data.which[:600], data.ids[:600]
    index = faiss_torch.IndexFlatL2(16)
    index.add(centroids)
    expected = data.nearest(1, "l2")[:, 0]
    for name in ("int8", "float32"):
        with arithmetic.pinned(name):
            np.testing.assert_array_equal(index.assign(x)[:, 0], expected)
    lists = faiss_torch.IndexIVFFlat(index, 16, 600)
    lists.add(x)
    sizes = np.bincount(expected, minlength=600)
    assert [lists.get_list_size(i) for i in range(600)] == sizes.tolist()
