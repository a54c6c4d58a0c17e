"""The tables are complete: an index type has a name, a kind, a record, and a case.

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
from faiss_torch import gpu_names
from faiss_torch.attributes import annotated
from faiss_torch.contrib import factory_tools
from faiss_torch.devices.gpu_indexes import GpuIndex
from faiss_torch.gaps import GAPS
from faiss_torch.indexes.base import Index
from faiss_torch.io.records.table import RECORDS, record_for
from faiss_torch.kinds import KINDS, NOT_OFFERED, Part

from ..cases import CASES
from .api_pages import value_of_gpu_name
from .names import names_of

#: Bases that are not made themselves.
ABSTRACT = {"Index", "IndexFlatCodes", "IndexIVF", "ThreadedIndexBase"}
ABSTRACT_ON_GPUS = {"GpuIndex", "GpuIndexIVF"}

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
    "IndexScalarQuantizer": "agree/test_scalar_quantizer_indexes.py",
    "IndexIVFScalarQuantizer": "agree/test_scalar_quantizer_indexes.py",
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
        assert getattr(faiss_torch, cls.__name__, None) is cls, "missing in names.py"

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

    def test_has_a_kind(self, cls):
        assert [kind.cls for kind in KINDS].count(cls) == 1, "missing in kinds.py"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.cls.__name__)
class TestKind:
    def test_makes_its_type(self, kind):
        if kind.part is Part.NONE:
            assert (kind.pattern, kind.example, kind.build) == ("", "", None)
            return
        for metric in (faiss_torch.METRIC_L2, faiss_torch.METRIC_INNER_PRODUCT):
            index = faiss_torch.index_factory(8, kind.example, metric)
            assert type(index) is kind.cls
            assert (index.d, index.metric_type, index.ntotal) == (8, metric, 0)

    def test_describes_itself(self, kind):
        index = faiss_torch.index_factory(8, kind.example) if kind.example else kind.cls()
        for reverse in (faiss_torch.reverse_index_factory, factory_tools.reverse_index_factory):
            if kind.describe is None:
                with pytest.raises(NotImplementedError, match=kind.cls.__name__):
                    reverse(index)
                continue
            made = faiss_torch.index_factory(8, reverse(index))
            assert type(made) is kind.cls or not kind.example
            assert isinstance(index, type(made))
            assert reverse(made) == reverse(index)

    def test_goes_to_a_gpu_and_back(self, kind, gpus):
        index = faiss_torch.index_factory(8, kind.example) if kind.example else kind.cls()
        assert gpus.isGpuIndexImplemented(index) == bool(kind.gpu) == bool(kind.gpu_config)
        if not kind.gpu:
            return
        copied = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 0, index)
        assert type(copied) is getattr(gpus, kind.gpu)
        assert type(copied).plain_class is kind.cls
        assert type(copied._config) is getattr(gpus, kind.gpu_config)
        assert annotated(type(copied))["_config"] == kind.gpu_config
        assert type(gpus.index_gpu_to_cpu(copied)) is kind.cls
        if kind.describe:
            assert faiss_torch.reverse_index_factory(copied) == faiss_torch.reverse_index_factory(index)

    def test_is_not_among_those_that_are_not_offered(self, kind):
        assert kind.cls.__name__ not in {row.name for row in NOT_OFFERED}, "its row leaves NOT_OFFERED"


@pytest.fixture
def gpus():
    """The CPU stands for a GPU."""
    faiss_torch.set_gpu_devices(["cpu"])
    yield faiss_torch
    faiss_torch.set_gpu_devices(None)


def subclasses(cls: type) -> set[type]:
    return {cls}.union(*map(subclasses, cls.__subclasses__()))


def test_every_folder_of_indexes_is_looked_at():
    """The package's import brings classes from all folders."""
    names = {cls.__name__ for cls in subclasses(Index) if cls.__module__.startswith("faiss_torch.indexes.")}
    assert {name for name in names if not name.startswith("_")} == {cls.__name__ for cls in index_classes()} | ABSTRACT
    folders = {cls.__module__.split(".")[2] for cls in index_classes()}
    assert folders >= {"flat", "ivf", "composite"}


def test_every_gpu_class_has_a_kind():
    values = [value_of_gpu_name(name) for name in gpu_names.MODULE_OF]
    named = {value for value in values if isinstance(value, type) and issubclass(value, GpuIndex)}
    assert {cls.__name__ for cls in named} - ABSTRACT_ON_GPUS == {kind.gpu for kind in KINDS} - {""}


@pytest.mark.parametrize("row", NOT_OFFERED, ids=lambda row: row.name)
def test_what_is_not_offered_is_a_gap(row):
    assert row.name in GAPS
    assert row.part is not Part.NONE
    re.compile(row.pattern)


def test_tables_of_names_are_up_to_date():
    names = {cls.__name__ for cls in index_classes()}
    assert names >= NO_FILES | set(OWN_TESTS)
    assert names_of(faiss_torch) >= ABSTRACT


def test_no_fourcc_stands_for_two_records():
    fourccs = [record.fourcc for record in RECORDS]
    assert len(fourccs) == len(set(fourccs))
    assert all(len(fourcc) == 4 for fourcc in fourccs)


def test_every_case_is_offered():
    for case in CASES:
        assert case.cls in names_of(faiss_torch), case.name
