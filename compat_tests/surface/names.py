"""What the tests of this folder share: which names a module has, and those that this library has beyond faiss."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Any

#: Names that this library has beyond faiss; its own modules come with them.
EXTENSIONS = {
    "FLT_MAX",
    "batch_kmeans",
    "install",
    "omp_get_num_threads",
    "reverse_index_factory",
    "set_gpu_devices",
    "uninstall",
}


def names_of(module: types.ModuleType) -> set[str]:
    """The public names of a module, submodules and imported modules apart."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and not isinstance(getattr(module, name), types.ModuleType)
    }


def offered_classes(reference: types.ModuleType, module: types.ModuleType) -> dict[str, tuple[type, type]]:
    """faiss's classes that are offered: by name, faiss's and ours."""
    shared = sorted(names_of(reference) & names_of(module))
    found = {name: (getattr(reference, name), getattr(module, name)) for name in shared}
    return {name: pair for name, pair in found.items() if inspect.isclass(pair[0])}


def functions_of(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class and its bases, as plain functions, and its constructor."""
    for name in dir(cls):
        if name.startswith("_") and name != "__init__":
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        if inspect.isfunction(member):
            yield name, member
