"""Functions, methods and constructors take what faiss's take, and say the types of it."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from typing import Any

import faiss_torch

from .api_pages import offered
from .names import functions_of, names_of, offered_classes

#: Functions whose parameters have other names here, and why.
OTHER_PARAMETERS = {
    "clone_index": "faiss calls it arg1",
    "lo_build": "faiss says list_id here and list_no everywhere else",
    "metric_type_from_int": "faiss calls it x",
    "read_InvertedLists": "faiss has one form for readers and one for names; here one takes both",
    "write_InvertedLists": "faiss has one form for writers and one for names; here one takes both",
}

#: Methods whose parameters have other names here, and why.
OTHER_METHOD_PARAMETERS = {
    "add_sa_codes_c": "faiss calls the codes x in one class",
    "add_sub_index": "a parameter without a name in faiss",
    "check_can_add": "a pointer in faiss, of which only counts whether there is one",
    "encode_vectors": "faiss calls it include_listno in one class, include_listnos in the others",
    "is_member": "a parameter without a name in faiss in one class, called id in the others",
    "reconstruct_c": "faiss calls its parameters arg2 and v in one class",
    "push_back": "a parameter without a name in faiss",
    "read_bytes": "faiss calls it totsz",
    "train_q1": "an array brings its own n",
    "update_codes": "an array brings its own n",
    "write_bytes": "faiss calls it b",
}

#: Numbers of arguments that faiss's constructors and overloaded functions take and ours do not, and why.
OTHER_ARITIES = {
    "fourcc_inv": "the other form writes to a buffer of C",
    "Level1Quantizer": "made as part of an index only",
    "SIMDConfig": "its levels are those of the processor: torch chooses",
}

#: Parameters and results that may be anything, and why.
ANY = {
    "GpuIndexFlat.__init__": "the call forms of faiss",
    "GpuIndexIVFFlat.__init__": "the call forms of faiss",
    "GpuIndexIVFScalarQuantizer.__init__": "the call forms of faiss",
    "IDSelectorBatch.__init__": "an array, or a number and a pointer",
    "Kmeans.__init__": "settings of several types, by name",
    "SearchParameters.__init__": "settings of several types, by name",
    "_IDSelectorListed.__init__": "an array, or a number and a pointer",
    "_OneMetric.__init__": "the call forms of faiss",
}


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
    """Those of ours that follow faiss's may be more; they are for keywords."""
    different = {}
    other = set()
    checked = 0
    for name, (theirs, ours) in offered_classes(reference, faiss_torch).items():
        for method in dir(theirs):
            function = getattr(theirs, method)
            if method.startswith("_") or not callable(function) or not hasattr(ours, method):
                continue
            named = parameters(function)
            if named is None:
                continue
            own = [p.name for p in parameters(getattr(ours, method)) or ()]
            checked += 1
            if own[: len(named)] == [p.name for p in named]:
                continue
            if method in OTHER_METHOD_PARAMETERS:
                other.add(method)
            else:
                different[f"{name}.{method}"] = own, [p.name for p in named]
    assert checked > 500
    assert not different
    assert other == OTHER_METHOD_PARAMETERS.keys()


def arities(function: Callable[..., Any]) -> set[int]:
    """The numbers of arguments of a wrapped C++ function, from what SWIG says when it gets too many."""
    try:
        function(*[object()] * 40)
    except (TypeError, AttributeError) as error:
        text = str(error)
    prototypes = re.findall(r"^ +\S.*?\((.*)\)(?: const)?$", text, re.MULTILINE)
    return {0 if not arguments else 1 + re.sub(r"<[^>]*>", "", arguments).count(",") for arguments in prototypes}


def arities_of(cls: type) -> set[int]:
    """The numbers of arguments of a constructor of faiss; where its Python code stands before C++'s, of C++'s."""
    constructor = getattr(cls, "original_init", cls.__init__)
    named = [p for p in inspect.signature(constructor).parameters.values() if p.kind is not p.VAR_KEYWORD][1:]
    if any(p.kind is p.VAR_POSITIONAL for p in named):
        return arities(cls)
    return set(range(sum(p.default is p.empty for p in named), len(named) + 1))


def takes(function: Callable[..., Any], number: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind(*range(number))
    except TypeError:
        return False
    return True


def test_constructors_and_overloaded_functions_take_as_many_arguments(reference):
    forms = {name: arities_of(theirs) for name, (theirs, _) in offered_classes(reference, faiss_torch).items()}
    for name in sorted(names_of(reference) & names_of(faiss_torch)):
        theirs = getattr(reference, name)
        if callable(theirs) and not inspect.isclass(theirs) and parameters(theirs) is None:
            forms[name] = arities(theirs)
    assert forms["IndexIVFFlat"] == {0, 3, 4, 5}
    assert forms["write_index"] == {2, 3}
    different = {
        name: [number for number in sorted(numbers) if not takes(getattr(faiss_torch, name), number)]
        for name, numbers in forms.items()
    }
    assert {name for name, numbers in different.items() if numbers} == OTHER_ARITIES.keys(), different


def public_functions() -> dict[str, Callable[..., Any]]:
    """All functions, and the methods, properties and constructors of all classes, that are offered."""
    found = {}
    for each in offered():
        if inspect.isclass(each.value):
            for _, function in functions_of(each.value):
                if function.__module__.startswith("faiss_torch"):
                    found[function.__qualname__] = function
        elif callable(each.value):
            found[each.name] = each.value
    return found


def test_every_parameter_and_result_has_a_type():
    untyped, bare = set(), set()
    for name, function in public_functions().items():
        signature = inspect.signature(function)
        types_of = [p.annotation for p in signature.parameters.values() if p.name not in ("self", "cls")]
        types_of.append(signature.return_annotation)
        if inspect.Parameter.empty in types_of:
            untyped.add(name)
        if {"Any", Any} & {each for each in types_of if isinstance(each, (str, type(Any)))}:
            bare.add(name)
    assert not untyped
    assert bare == ANY.keys()
