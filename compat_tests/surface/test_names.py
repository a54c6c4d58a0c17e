"""Every name of faiss is offered or is a gap with a reason, strictly both ways; signatures agree."""

from __future__ import annotations

import inspect
import types

import pytest

import faiss_torch
from faiss_torch.gaps import GAPS

#: Names that this library has beyond faiss; its own modules come with them.
EXTENSIONS = {"FLT_MAX", "install", "omp_get_num_threads", "reverse_index_factory", "uninstall"}


#: Functions whose parameters have other names here, and why.
OTHER_PARAMETERS = {
    "clone_index": "faiss calls it arg1",
    "lo_build": "faiss says list_id here and list_no everywhere else",
    "metric_type_from_int": "faiss calls it x",
    "read_InvertedLists": "faiss has one form for readers and one for names; here one takes both",
    "write_InvertedLists": "faiss has one form for writers and one for names; here one takes both",
}


#: Methods of readers and writers of the same kind.
OTHER_METHOD_PARAMETERS = {
    "read_bytes": "faiss calls it totsz",
    "write_bytes": "faiss calls it b",
}


def names_of(module: types.ModuleType) -> set[str]:
    """The public names of a module, submodules and imported modules apart."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and not isinstance(getattr(module, name), types.ModuleType)
    }


def test_every_name_of_faiss_is_offered_or_a_gap(reference):
    missing = names_of(reference) - names_of(faiss_torch) - set(GAPS)
    assert not missing, "offer these, or give a reason in gaps.py"


def test_no_gap_is_offered():
    assert not set(GAPS) & names_of(faiss_torch), "these are offered: take them out of gaps.py"


def test_every_gap_is_a_name_of_faiss(reference):
    assert not set(GAPS) - names_of(reference)


def test_nothing_else_is_public(reference):
    assert names_of(faiss_torch) - names_of(reference) == EXTENSIONS


def test_a_gap_says_why():
    with pytest.raises(AttributeError, match="does not offer IndexHNSWFlat: graph indexes"):
        _ = faiss_torch.IndexHNSWFlat
    assert not hasattr(faiss_torch, "IndexHNSWFlat")
    with pytest.raises(ImportError):
        from faiss_torch import IndexHNSWFlat  # noqa: F401


def test_an_unknown_name_has_pythons_message():
    with pytest.raises(AttributeError, match="module 'faiss_torch' has no attribute 'no_such_name'"):
        _ = faiss_torch.no_such_name


def test_no_name_has_two_reasons():
    from faiss_torch.gaps import _NAMES_BY_REASON

    assert len(GAPS) == sum(len(names.split()) for _, names in _NAMES_BY_REASON)


def parameters(function: object) -> list[inspect.Parameter] | None:
    """The parameters of a function; None where faiss does not name them (overloaded functions of C++)."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    return None if any(p.kind is p.VAR_POSITIONAL for p in found) else found


def offered_functions(reference: types.ModuleType) -> dict[str, list[inspect.Parameter]]:
    """faiss's functions that are offered and whose parameters it names."""
    found = {}
    for name in sorted(names_of(reference) & names_of(faiss_torch)):
        theirs = getattr(reference, name)
        if callable(theirs) and not inspect.isclass(theirs):
            named = parameters(theirs)
            if named is not None:
                found[name] = named
    return found


def test_functions_have_faiss_parameters(reference):
    different = {}
    for name, theirs in offered_functions(reference).items():
        ours = parameters(getattr(faiss_torch, name))
        assert ours is not None, name
        if [p.name for p in ours] != [p.name for p in theirs]:
            different[name] = [p.name for p in ours], [p.name for p in theirs]
        else:
            assert [p.default for p in ours] == [p.default for p in theirs], name
    assert different.keys() == OTHER_PARAMETERS.keys(), different


def test_methods_have_faiss_parameters(reference):
    """Methods that faiss writes in Python: clients call those by keyword."""
    different = {}
    other = set()
    checked = 0
    for name in sorted(names_of(reference) & names_of(faiss_torch)):
        theirs = getattr(reference, name)
        if not inspect.isclass(theirs):
            continue
        for method in dir(theirs):
            function = getattr(theirs, method)
            if method.startswith("_") or getattr(function, "__module__", "") != "faiss.class_wrappers":
                continue
            named = [p.name for p in parameters(function) or ()]
            own = [p.name for p in parameters(getattr(getattr(faiss_torch, name), method)) or ()]
            checked += 1
            if own[: len(named)] == named:
                continue
            if method in OTHER_METHOD_PARAMETERS:
                other.add(method)
            else:
                different[f"{name}.{method}"] = own, named
    assert checked > 50
    assert not different
    assert other == OTHER_METHOD_PARAMETERS.keys()


def test_constants_have_faiss_values(reference):
    for name in sorted(names_of(reference) & names_of(faiss_torch)):
        theirs = getattr(reference, name)
        if isinstance(theirs, (int, float, str)):
            assert getattr(faiss_torch, name) == theirs, name


def test_classes_are_classes_and_have_faiss_bases(reference):
    """The lattice that ``isinstance`` sees, over the classes that both have."""
    offered = names_of(reference) & names_of(faiss_torch)
    for name in sorted(offered):
        theirs, ours = getattr(reference, name), getattr(faiss_torch, name)
        assert inspect.isclass(theirs) == inspect.isclass(ours), name
        if inspect.isclass(theirs):
            bases = {base.__name__ for base in theirs.__mro__[1:]} & offered
            assert bases <= {base.__name__ for base in ours.__mro__}, name
