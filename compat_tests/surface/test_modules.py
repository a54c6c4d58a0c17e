"""Every module of faiss can be imported, and what is not offered in one can be named."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types

import pytest

import faiss_torch

#: Modules that are here for their names alone, and those of faiss's names that they do not have.
FOR_THEIR_NAMES = {
    "class_wrappers": set(),
    "contrib.rpc": {"safe_modules"},
    "contrib.client_server": set(),
}


def ours(name: str) -> types.ModuleType:
    return importlib.import_module(f"faiss_torch.{name}")


def test_every_module_of_faiss_can_be_imported(reference):
    names = [each.name for each in pkgutil.walk_packages(reference.__path__, "faiss.")]
    names = [name.removeprefix("faiss.") for name in names if not name.rpartition(".")[2].startswith("_")]
    names.remove("libfaiss")  # a library of C++, which Python cannot import
    assert {"swigfaiss", "loader", "class_wrappers", "contrib.rpc", "contrib.torch.clustering"} <= set(names)
    for name in names:
        assert inspect.ismodule(ours(name)), name


@pytest.mark.parametrize("name", FOR_THEIR_NAMES)
def test_names_can_be_imported_and_say_why_when_used(reference, name):
    """Nothing ends a program that imports a module and does not use it."""
    module = ours(name)
    theirs = vars(importlib.import_module(f"faiss.{name}"))
    own = {
        each
        for each, value in theirs.items()
        if not each.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", f"faiss.{name}") == f"faiss.{name}"
    }
    assert own >= FOR_THEIR_NAMES[name]
    for each in own - FOR_THEIR_NAMES[name]:
        value = getattr(module, each)
        assert inspect.isclass(value) == inspect.isclass(theirs[each]), each
        if isinstance(value, int) or (inspect.isclass(value) and issubclass(value, Exception)):
            continue
        with pytest.raises(RuntimeError, match=f"does not offer {each}: it"):
            value()
    assert "import" in module.__doc__
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = module.absent


def test_the_wrappers_are_an_attribute_as_in_faiss(reference):
    for name in ("class_wrappers", "extra_wrappers", "gpu_wrappers", "array_conversions", "loader", "swigfaiss"):
        assert inspect.ismodule(getattr(reference, name))
        assert inspect.ismodule(getattr(faiss_torch, name))


def test_a_program_that_only_imports_them(reference):
    faiss_torch.install()
    try:
        from faiss.class_wrappers import replace_method  # noqa: F401
        from faiss.contrib import rpc
        from faiss.contrib.client_server import SearchServer

        class Server(SearchServer):
            """Made only where the program serves."""

        with pytest.raises(rpc.ServerException, match="as a handler expects"):
            raise rpc.ServerException("as a handler expects")
        assert rpc.Client.__module__ == "faiss_torch.contrib.rpc"
    finally:
        faiss_torch.uninstall()
