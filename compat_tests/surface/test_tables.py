"""The tables are complete: an index type has a name, a record, a description, and a case.

A type that lacks one of them is named here with the place where it is missing.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import faiss_torch
import faiss_torch.indexes
from faiss_torch import factory
from faiss_torch.indexes.base import Index
from faiss_torch.io.records.table import RECORDS, record_for

from ..cases import CASES
from .names import names_of

#: Bases that are not made themselves.
ABSTRACT = {"Index", "IndexFlatCodes", "IndexIVF", "ThreadedIndexBase"}

#: A description for each row of the factory's INDEX_RULES.
WHOLE = ("IDMap2,Flat", "IDMap,Flat", "Flat")

#: Types that no description makes, in faiss neither.
NO_DESCRIPTION = {"IndexFlatL2", "IndexFlatIP", "IndexFlat1D"}

#: Types that faiss has no file format for, and no description.
NO_FILES = {"IndexShards", "IndexShardsIVF", "IndexReplicas", "IndexSplitVectors", "IndexRandom"}

#: Types made of others, or of nothing, which have tests of their own instead of a case.
OWN_TESTS = {
    "IndexIDMap": "usage/test_id_map.py",
    "IndexIDMap2": "usage/test_id_map.py",
    "IndexShards": "usage/test_shards.py",
    "IndexShardsIVF": "usage/test_shards.py",
    "IndexReplicas": "usage/test_replicas.py",
    "IndexSplitVectors": "usage/test_split_vectors.py",
    "IndexRandom": "agree/test_index_random.py",
}


def index_classes() -> list[type[Index]]:
    """All index classes of the package's modules."""
    found = {}
    for module in pkgutil.walk_packages(faiss_torch.indexes.__path__, "faiss_torch.indexes."):
        for name, cls in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(cls) and issubclass(cls, Index) and not name.startswith("_"):
                found[cls.__name__] = cls
    return [found[name] for name in sorted(found) if name not in ABSTRACT]


@pytest.mark.parametrize("cls", index_classes(), ids=lambda cls: cls.__name__)
class TestIndexType:
    def test_has_a_public_name(self, cls):
        assert getattr(faiss_torch, cls.__name__, None) is cls, "missing in __init__.py"

    def test_has_an_empty_constructor(self, cls):
        assert cls().ntotal == 0, "readers make an index without arguments"

    def test_has_a_record(self, cls):
        if cls.__name__ in NO_FILES:
            assert record_for(cls()) is None
        else:
            assert record_for(cls()) is not None, "missing in io/records/table.py"

    def test_has_a_case(self, cls):
        if cls.__name__ in OWN_TESTS:
            assert cls.__name__ in (Path(__file__).parents[1] / OWN_TESTS[cls.__name__]).read_text()
        else:
            assert cls.__name__ in {case.cls for case in CASES}, "missing in compat_tests/cases.py"

    def test_has_a_description(self, cls):
        if cls.__name__ in NO_DESCRIPTION | NO_FILES:
            return
        codes = [f"IVF4,{name}" for _, name in factory.CODE_NAMES]
        made = {type(factory.index_factory(8, description)) for description in [*WHOLE, *codes]}
        assert cls in made, "missing in factory.py"


def test_abstract_and_described_names_exist():
    names = {cls.__name__ for cls in index_classes()}
    assert names >= NO_DESCRIPTION | NO_FILES | set(OWN_TESTS)
    assert names_of(faiss_torch) >= ABSTRACT


def test_no_fourcc_stands_for_two_records():
    fourccs = [record.fourcc for record in RECORDS]
    assert len(fourccs) == len(set(fourccs))
    assert all(len(fourcc) == 4 for fourcc in fourccs)


@pytest.mark.parametrize("table", ["INDEX_RULES", "COARSE_RULES", "CODE_RULES"])
def test_factory_patterns(table):
    patterns = [rule.pattern for rule in getattr(factory, table)]
    assert len(patterns) == len(set(patterns))
    if table == "INDEX_RULES":
        matching = [[pattern for pattern in patterns if re.fullmatch(pattern, text)] for text in WHOLE]
        assert matching == [[pattern] for pattern in patterns]


def test_reverse_factory_names_a_subclass_before_its_base():
    classes = [cls for cls, _ in factory.CODE_NAMES]
    for position, cls in enumerate(classes):
        assert not any(issubclass(later, cls) for later in classes[position + 1 :]), cls
    assert {name for _, name in factory.CODE_NAMES} == {rule.pattern for rule in factory.CODE_RULES}


def test_every_case_is_offered():
    for case in CASES:
        assert case.cls in names_of(faiss_torch), case.name
