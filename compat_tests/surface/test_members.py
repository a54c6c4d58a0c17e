"""Every public method and attribute of an offered class is offered or a gap with a reason, strictly both ways."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types

import pytest

import faiss_torch

from .members import EXTENSIONS, GAPS, OF_THE_WRAPPER
from .names import offered_classes

#: faiss's modules whose classes are written in Python, not wrapped.
PYTHON = {"faiss", "faiss.extra_wrappers"}


@functools.cache
def set_by(cls: type) -> set[str]:
    """The attributes that the methods in the body of a class set."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }


@functools.cache
def members_of(cls: type) -> set[str]:
    """The public methods and attributes of a class: in it, annotated in it, or set by its methods."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("faiss_torch")]
    found = set(dir(cls)).union(*(inspect.get_annotations(base) for base in own), *map(set_by, own))
    return {member for member in found if not member.startswith("_")} - OF_THE_WRAPPER


def missing(reference: types.ModuleType) -> set[str]:
    """The members of faiss's classes that ours lack, as Class.member; what a base lacks stands there alone."""
    pairs = offered_classes(reference, faiss_torch)
    lacking = {
        name: {member for member in dir(theirs) if not member.startswith("_")} - OF_THE_WRAPPER - members_of(ours)
        for name, (theirs, ours) in pairs.items()
    }
    found = set()
    for name, (theirs, _) in pairs.items():
        of_bases = set().union(*(lacking.get(base.__name__, set()) for base in theirs.__mro__[1:]))
        found |= {f"{name}.{member}" for member in lacking[name] - of_bases}
    return found


def beyond(reference: types.ModuleType) -> set[str]:
    """The members of our classes that faiss's lack, as Class.member with the class that brings them in."""
    found = set()
    for theirs, ours in offered_classes(reference, faiss_torch).values():
        python = [base for base in theirs.__mro__ if base.__module__ in PYTHON]
        for member in members_of(ours) - set(dir(theirs)).union(*map(set_by, python)):
            first = [base for base in ours.__mro__ if base is not object and member in members_of(base)][-1]
            whole = f"{first.__name__}.*"
            found.add(whole if whole in EXTENSIONS else f"{first.__name__}.{member}")
    return found


def test_every_member_of_faiss_is_offered_or_a_gap(reference):
    assert sorted(missing(reference) - GAPS.keys()) == [], "offer these, or give a reason in members.py"


def test_no_member_gap_is_offered(reference):
    known = {place for place in GAPS if hasattr(reference, place.partition(".")[0])}  # the others: test_gpu_names.py
    assert sorted(known - missing(reference)) == [], "take these out of members.py"


def test_what_is_beyond_faiss_is_written_down(reference):
    assert sorted(beyond(reference) ^ EXTENSIONS.keys()) == []


def test_a_missing_member_is_an_attribute_error(ours):
    index = ours.IndexFlatL2(4)
    with pytest.raises(AttributeError):
        index.search1(None, None)
    with pytest.raises(AttributeError, match="nprobe"):
        index.nprobe = 4
