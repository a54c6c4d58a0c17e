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
    assert index.this is index
    lists = ours.ArrayInvertedLists(2, 8)
    lists.this.disown()
    assert lists.this.own()


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
