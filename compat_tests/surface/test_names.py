"""Every name of faiss is offered or is a gap with a reason, strictly both ways."""

from __future__ import annotations

import inspect
import types

import pytest

import faiss_torch
from faiss_torch.gaps import AREAS, GAPS

from .gpu_names import GPU_NAMES
from .names import EXTENSIONS, names_of, offered_classes


def test_every_name_of_faiss_is_offered_or_a_gap(reference):
    missing = names_of(reference) - names_of(faiss_torch) - set(GAPS)
    assert not missing, "offer these, or give a reason in gaps.py"


def test_no_gap_is_offered():
    assert not set(GAPS) & names_of(faiss_torch), "these are offered: take them out of gaps.py"


def test_every_gap_is_a_name_of_faiss(reference):
    assert not set(GAPS) - names_of(reference) - GPU_NAMES


def test_nothing_else_is_public(reference):
    assert names_of(faiss_torch) - names_of(reference) - GPU_NAMES == EXTENSIONS


def test_a_gap_says_why():
    with pytest.raises(AttributeError, match="does not offer IndexHNSWFlat: graph indexes"):
        _ = faiss_torch.IndexHNSWFlat
    assert not hasattr(faiss_torch, "IndexHNSWFlat")
    with pytest.raises(ImportError):
        from faiss_torch import IndexHNSWFlat  # noqa: F401


@pytest.mark.parametrize("name", sorted(GAPS))
def test_every_gap_raises_its_reason(name):
    with pytest.raises(AttributeError) as raised:
        getattr(faiss_torch, name)
    assert GAPS[name] in str(raised.value)
    assert name in str(raised.value)


def test_an_unknown_name_has_pythons_message():
    with pytest.raises(AttributeError, match="module 'faiss_torch' has no attribute 'no_such_name'"):
        _ = faiss_torch.no_such_name


def test_no_name_has_two_reasons():
    from faiss_torch.gaps import _NAMES_BY_REASON

    assert len(GAPS) == sum(len(names.split()) for _, _, names in _NAMES_BY_REASON)
    assert AREAS.keys() == GAPS.keys()


@pytest.mark.parametrize("devices", [[], ["cpu"]], ids=["no GPUs", "a GPU"])
def test_the_names_of_a_star_import_are_the_offered_ones(devices):
    imported: dict[str, object] = {}
    faiss_torch.set_gpu_devices(devices)
    try:
        exec("from faiss_torch import *", imported)
        names, offered = faiss_torch.__all__, names_of(faiss_torch)
    finally:
        faiss_torch.set_gpu_devices(None)
    assert len(set(names)) == len(names)
    assert imported.keys() - {"__builtins__"} == offered, (
        "ruff check --preview --select F401,RUF022 --fix --unsafe-fixes faiss_torch/__init__.py"
    )
    assert ("GpuIndexFlatL2" in imported) == bool(devices)
    assert not [name for name, value in imported.items() if isinstance(value, types.ModuleType)]


def test_constants_have_faiss_values(reference):
    for name in sorted(names_of(reference) & names_of(faiss_torch)):
        theirs = getattr(reference, name)
        if isinstance(theirs, (int, float, str)):
            assert getattr(faiss_torch, name) == theirs, name


def test_classes_are_classes_and_have_faiss_bases(reference):
    """The lattice that ``isinstance`` sees, over the classes that both have."""
    offered = names_of(reference) & names_of(faiss_torch)
    for name in sorted(offered):
        assert inspect.isclass(getattr(reference, name)) == inspect.isclass(getattr(faiss_torch, name)), name
    for name, (theirs, ours) in offered_classes(reference, faiss_torch).items():
        bases = {base.__name__ for base in theirs.__mro__[1:]} & offered
        assert bases <= {base.__name__ for base in ours.__mro__}, name
