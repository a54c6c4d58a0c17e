"""Every name of faiss is offered or is a gap with a reason, strictly both ways."""

from __future__ import annotations

import inspect
import pickle
import types

import pytest

import faiss_torch
from faiss_torch.gaps import AREAS, CLASSES, GAPS, named_classes

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
    with pytest.raises(AttributeError, match="does not offer write_index_binary: binary indexes"):
        _ = faiss_torch.write_index_binary
    assert not hasattr(faiss_torch, "write_index_binary")
    with pytest.raises(ImportError):
        from faiss_torch import write_index_binary  # noqa: F401


@pytest.mark.parametrize("name", sorted(GAPS))
def test_every_gap_raises_its_reason(name):
    """A class when one is made, anything else when it is named."""
    with pytest.raises(AttributeError) as raised:
        getattr(faiss_torch, name)()
    assert GAPS[name] in str(raised.value)
    assert name in str(raised.value)


def test_the_gaps_that_are_classes_are_those_of_faiss(reference):
    """What faiss's own code leaves behind (a loop variable, the class of another package) is none."""
    theirs = {name: getattr(reference, name) for name in GAPS if hasattr(reference, name)}
    classes = {name for name, value in theirs.items() if inspect.isclass(value)}
    assert classes - CLASSES == {"the_class", "Version"}
    assert CLASSES - classes <= GPU_NAMES
    assert {name for name in GPU_NAMES & CLASSES if not name[0].isupper() or "_" in name} == set()


@pytest.mark.parametrize("name", sorted(CLASSES - GPU_NAMES))
def test_a_class_that_is_not_offered_can_be_named(name):
    cls = getattr(faiss_torch, name)
    assert inspect.isclass(cls)
    assert cls is getattr(faiss_torch, name)
    assert (cls.__name__, cls.__module__) == (name, "faiss_torch")
    assert GAPS[name] in cls.__doc__
    assert name not in dir(faiss_torch)
    index = faiss_torch.IndexFlatL2(4)
    assert not isinstance(index, (cls, faiss_torch.IndexIVF))
    assert isinstance(index, (cls, faiss_torch.Index))
    assert not issubclass(faiss_torch.IndexFlatL2, cls)
    assert not issubclass(cls, faiss_torch.Index)
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_what_a_program_does_with_a_class_that_it_never_makes():
    from faiss_torch import IndexBinaryIDMap, IndexHNSWFlat

    def search(index: faiss_torch.IndexHNSW | faiss_torch.IndexIVFPQ | None) -> IndexBinaryIDMap | None: ...

    class Reduction(faiss_torch.PCAMatrix):
        """Made only by programs with such vectors."""

    assert hasattr(faiss_torch, "IndexHNSWFlat")
    assert {IndexHNSWFlat: "graph"}[faiss_torch.IndexHNSWFlat] == "graph"
    with pytest.raises(RuntimeError, match="does not offer PCAMatrix: vector transforms"):
        Reduction(8, 4)
    with pytest.raises(AttributeError, match=r"does not offer ProductQuantizer\.Train_default: product quantisation"):
        _ = faiss_torch.ProductQuantizer.Train_default
    assert not hasattr(faiss_torch.ProductQuantizer, "Train_default")


def test_the_reason_comes_back_from_a_process():
    """A pool pickles errors, and waits for ever for one that cannot be read."""
    with pytest.raises(NotImplementedError) as raised:
        faiss_torch.IndexHNSWFlat(4, 32)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (type(raised.value), str(raised.value))


def test_a_pickle_of_an_index_that_is_not_offered(reference):
    data = pickle.dumps(reference.IndexHNSWFlat(4, 8))
    faiss_torch.install()
    try:
        with pytest.raises(RuntimeError, match="does not offer IndexHNSWFlat: graph indexes"):
            pickle.loads(data)
    finally:
        faiss_torch.uninstall()


def test_an_unknown_name_has_pythons_message():
    with pytest.raises(AttributeError, match="module 'faiss_torch' has no attribute 'no_such_name'"):
        _ = faiss_torch.no_such_name


def test_no_name_has_two_reasons():
    from faiss_torch.gaps import _NAMES_BY_REASON

    assert len(GAPS) == sum(len(names.split()) for _, _, *both in _NAMES_BY_REASON for names in both)
    assert AREAS.keys() == GAPS.keys()


@pytest.mark.parametrize("devices", [[], ["cpu"]], ids=["no GPUs", "a GPU"])
def test_the_names_of_a_star_import_are_the_offered_ones_and_the_named_classes(devices):
    imported: dict[str, object] = {}
    faiss_torch.set_gpu_devices(devices)
    try:
        exec("from faiss_torch import *", imported)
        names, offered = faiss_torch.__all__, names_of(faiss_torch)
    finally:
        faiss_torch.set_gpu_devices(None)
    assert len(set(names)) == len(names)
    assert imported.keys() - {"__builtins__"} == offered | set(named_classes(bool(devices))), (
        "ruff check --preview --select F401,RUF022 --fix --unsafe-fixes faiss_torch/__init__.pyi"
    )
    assert ("GpuIndexFlatL2" in imported) == ("GpuIndexIVFPQ" in imported) == bool(devices)
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
