"""Every scripted function is one: where TorchScript refuses it, it would run as plain Python, and slower, unnoticed."""

import importlib
import inspect
import pkgutil
import warnings

import pytest
import torch

from faiss_torch import ops
from faiss_torch.ops.runtime.scripted import _scripting, scripted


def _scripted_functions():
    code = scripted(lambda: None).__code__
    for module in pkgutil.walk_packages(ops.__path__, ops.__name__ + "."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if function.__code__ is code and function.__module__ == module.name:
                yield pytest.param(function.__wrapped__, id=name)


SCRIPTED = list(_scripted_functions())


def test_there_are_some():
    assert len(SCRIPTED) > 5


@pytest.mark.parametrize("function", SCRIPTED)
def test_it_compiles(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the deprecation
        assert isinstance(torch.jit.script(function), torch.jit.ScriptFunction)


def test_what_cannot_be_scripted_runs_as_python_and_the_log_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(_scripting, "said", False)

    @scripted
    def by_name(values: dict) -> list:
        return sorted(values, key=values.get)

    @scripted
    def by_value(values: dict) -> list:
        return sorted(values.values(), key=abs)

    assert by_name({"b": 2, "a": 1}) == ["a", "b"]
    assert by_name({"b": 1, "a": 2}) == ["b", "a"]
    assert by_value({"b": 2, "a": 1}) == [1, 2]
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "faiss_torch"
    assert "by_name" in caplog.text
