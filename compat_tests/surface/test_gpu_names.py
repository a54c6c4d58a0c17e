"""faiss's names for GPUs: each is offered or a gap, and seen only where there are GPUs."""

from __future__ import annotations

import inspect

import pytest

import faiss_torch
from faiss_torch.gaps import CLASSES, GAPS

from .gpu_names import GPU_CONSTANTS, GPU_MEMBERS, GPU_NAMES, GPU_NAMES_OF_FAISS_CPU
from .members import GAPS as MEMBER_GAPS
from .names import EXTENSIONS, names_of

OFFERED = sorted(GPU_NAMES - set(GAPS))


@pytest.fixture
def gpus():
    """The CPU stands for a GPU."""
    faiss_torch.set_gpu_devices(["cpu"])
    yield
    faiss_torch.set_gpu_devices(None)


@pytest.fixture
def no_gpus():
    """There are no GPUs, whatever the machine has."""
    faiss_torch.set_gpu_devices([])
    yield
    faiss_torch.set_gpu_devices(None)


@pytest.mark.parametrize("name", sorted(GPU_NAMES))
def test_every_name_is_offered_or_a_gap(name, gpus):
    assert (name in dir(faiss_torch)) == (name not in GAPS), "offer it, or give a reason in gaps.py: not both"
    assert hasattr(faiss_torch, name) == (name not in GAPS or name in CLASSES)


def test_nothing_else_appears_with_gpus(reference, gpus):
    assert names_of(faiss_torch) - names_of(reference) - EXTENSIONS == set(OFFERED)


@pytest.mark.parametrize("name", OFFERED)
def test_without_gpus_a_name_is_hidden_and_says_what_to_do(name, no_gpus):
    assert name not in dir(faiss_torch)
    with pytest.raises(AttributeError, match=rf"{name}.*set_gpu_devices"):
        getattr(faiss_torch, name)


@pytest.mark.parametrize("name", sorted(CLASSES & GPU_NAMES))
def test_a_class_that_is_not_offered_can_be_named_where_there_are_gpus(name, gpus):
    assert inspect.isclass(getattr(faiss_torch, name))
    with pytest.raises(RuntimeError, match=f"does not offer {name}"):
        getattr(faiss_torch, name)()
    faiss_torch.set_gpu_devices([])
    assert not hasattr(faiss_torch, name)


def test_what_faiss_cpu_has_too_is_always_there(reference, no_gpus):
    assert names_of(reference) >= GPU_NAMES_OF_FAISS_CPU
    assert names_of(faiss_torch) >= GPU_NAMES_OF_FAISS_CPU - set(GAPS)


def test_faiss_cpu_has_no_other(reference):
    assert not GPU_NAMES & names_of(reference)


def test_constants_have_faiss_values(gpus):
    assert GPU_CONSTANTS.keys() <= set(OFFERED)
    assert {name: getattr(faiss_torch, name) for name in GPU_CONSTANTS} == GPU_CONSTANTS


def parameters(function: object) -> list[str]:
    """The names of the parameters of a method."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", sorted(GPU_MEMBERS))
def test_members(name, gpus):
    """The methods with faiss's parameters, and the attributes with faiss's values."""
    cls = getattr(faiss_torch, name)
    for member, expected in GPU_MEMBERS[name].items():
        offered = f"{name}.{member}" not in MEMBER_GAPS
        if isinstance(expected, str):
            assert hasattr(cls, member) == offered, member
            if offered:
                assert parameters(getattr(cls, member))[: len(expected.split())] == expected.split(), member
        elif offered:
            assert getattr(cls(), member) == expected, member
