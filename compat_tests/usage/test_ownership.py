"""What programs do about the ownership of C++ objects works, and need not be done; and bounds of sorted ids."""

from __future__ import annotations

import numpy as np
import pytest


def test_python_owns_what_it_made(faiss):
    sel = faiss.IDSelectorBatch(np.arange(5))
    assert sel.this.own()
    params = faiss.SearchParametersIVF(sel=sel)
    assert params.this.own()
    assert sel.this.own()
    index = faiss.index_factory(4, "IVF2,Flat")
    assert index.this.own()
    both = faiss.IDSelectorAnd(sel, faiss.IDSelectorAll())
    assert both.this.own()


def test_disowned_objects_go_on(ours):
    index = ours.IndexFlatL2(4)
    index.this.disown()
    index.add(np.zeros((1, 4), dtype="float32"))
    lists = ours.ArrayInvertedLists(2, 8)
    lists.this.disown()
    assert lists.this.own()
    lists.thisown = False
    assert lists.thisown


def test_the_handle_of_an_object(faiss):
    index, other = faiss.IndexFlatL2(4), faiss.IndexFlatL2(4)
    assert int(index.this) == int(index.this) != int(other.this)
    assert index.this == index.this
    assert index.this != other.this
    index.this.acquire()
    assert index.this.own()
    assert index.thisown


def test_whatever_is_wrapped_has_a_handle(faiss):
    criterion = faiss.IntersectionCriterion(2, 2)
    names = (
        "ClusteringParameters SearchParametersIVF ParameterSpace ParameterRange Float32Vector OperatingPoints "
        "IndexIVFStats VectorIOWriter MapLong2Long PartitionStats DirectMap"
    )
    for made in (criterion, faiss.Clustering(4, 2), faiss.RandomGenerator(1), faiss.CodeSet(3)):
        assert isinstance(int(made.this), int)
        assert made.thisown
    for name in names.split():
        made = getattr(faiss, name)()
        made.this.acquire()
        assert made.this.own(), name


def test_what_an_index_is_made_of(faiss):
    quantizer = faiss.IndexFlatL2(4)
    index = faiss.IndexIVFFlat(quantizer, 4, 2)
    assert int(index.referenced_objects[0].this) == int(quantizer.this)
    id_map, shards = faiss.IndexIDMap(quantizer), faiss.IndexShards(4)
    shards.add_shard(quantizer)
    assert len(id_map.referenced_objects) == len(shards.referenced_objects) == 1
    kept = ["anything"]
    index.referenced_objects = kept
    assert index.referenced_objects is kept


def test_an_index_made_of_nothing_refers_to_nothing(ours):
    assert ours.IndexFlatL2(4).referenced_objects == []


def test_settings_of_other_indexes(faiss):
    params = faiss.SearchParametersIVF(max_lists_num=3)
    assert params.max_lists_num == 3
    assert faiss.SearchParametersIVF().max_lists_num == 0


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([], (0, 0)), ([1, 2], (0, 0)), ([9, 10], (0, 0)), ([5, 6, 9], (0, 2)), ([4, 5, 5, 8, 8, 9], (1, 5))],
)
def test_bounds_of_sorted_ids(faiss, ids, expected):
    sel = faiss.IDSelectorRange(5, 9, True)
    ids = np.array(ids, dtype="int64")
    bounds = np.full(2, 99, dtype="uint64")
    sel.find_sorted_ids_bounds(len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(bounds[:1]), faiss.swig_ptr(bounds[1:]))
    assert tuple(bounds) == expected
