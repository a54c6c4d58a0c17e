"""Pickles that stand alone: they hold bytes, and name classes as programs do.

pickle writes down an object's class by the module that it stands in, and torch hands tensors to another process by
file descriptors. Here a pickle names a class by its public name, whichever module holds it, and holds the bytes of
tensors. It outlives a move of modules, goes through a ``multiprocessing.Queue``, and needs no process but the one
that reads it. Copies by `copy` go the same way, with the tensors copied where they are.

pickle asks a table of classes (``copyreg``) how an object is written down. Importing all modules to fill it would take
longer than many programs: a class enters when its module is imported.
"""

from __future__ import annotations

import copy
import copyreg
import importlib.abc
import importlib.machinery
import pickle
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from . import gpu_names, lazy, names
from .border import tensor_of

_PACKAGE = __name__.rpartition(".")[0]

#: What public objects are made of, by module. A name stands in pickles: it stays when what it names moves.
_PARTS = (
    ("pickles", "_tensor"),
    ("wrapper.vectors", "ObjectVector"),
    ("ops.search.paths", "Path"),
    ("parts.growing", "GrowingTensor"),
    ("parts.reverse_map", "ReverseMap"),
    ("parts.lists.file_slots", "FreeSlots"),
    ("parts.selectors", "_ListedIds _Table"),
    ("parts.lists.on_disk", "_ListsOf"),
    ("indexes.composite.id_map", "_CopiedIds _SelectorOfWrapped"),
    ("indexes.composite.shards", "IDSelectorShifted"),
    ("io.mapped_lists", "_ListsInFile MappedInvertedLists"),
    ("tools.heaps", "HeapArray"),
    ("tools.stats", "PerDimStats"),
    ("wrapper.pointers", "Pointer"),
    ("devices.gpu_indexes", "_restored"),
)

#: The module of each name that a pickle can hold.
_MODULE_OF = {
    **{name: module for module, names_there in _PARTS for name in names_there.split()},
    **gpu_names.MODULE_OF,
    **names.MODULE_OF,
}


def _names_by_module() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, module in _MODULE_OF.items():
        found.setdefault(f"{_PACKAGE}.{module}", []).append(name)
    return found


_NAMES_BY_MODULE = _names_by_module()


def named(name: str) -> Callable[..., Any]:
    """Return the class or function of a name in a pickle.

    Raises
    ------
    AttributeError
        If there is none.
    """
    if name in _MODULE_OF:
        value = getattr(lazy.imported(_MODULE_OF[name]), name)
        if _bears(value, name):
            return cast("Callable[..., Any]", value)
    raise AttributeError(f"a pickle of {_PACKAGE} needs {name}, which this version does not have")


def _bears(value: Any, name: str) -> bool:
    """Whether a class or function is called so; another name for it is not written down."""
    return callable(value) and getattr(value, "__name__", None) == name


def _name_of(function: Callable[..., Any]) -> str:
    """The name of a class or function in a pickle."""
    name = function.__name__
    if name not in _MODULE_OF or named(name) is not function:
        raise pickle.PicklingError(f"no pickle of {_PACKAGE} can name {function!r}")
    return name


def _register(module: ModuleType) -> None:
    """Have pickles name the classes of a module."""
    for name in _NAMES_BY_MODULE[module.__name__]:
        value = getattr(module, name)
        if isinstance(value, type) and _bears(value, name):
            copyreg.pickle(value, _reduced)


class _Finder(importlib.abc.MetaPathFinder):
    """Has classes registered when their modules are imported, whoever imports them; finds nothing by itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _NAMES_BY_MODULE:
            return None
        others = (each for each in sys.meta_path if each is not self and hasattr(each, "find_spec"))
        found = (each.find_spec(fullname, path, target) for each in others)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs a module by its own loader, then has its classes registered."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(module)


def _reduced(thing: Any) -> tuple[Any, ...]:
    """What pickle and copy make an object of: a name, the arguments to call it with, and the state."""
    function, arguments, *rest = thing.__reduce_ex__(2)
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]
        function, arguments, made = arguments[0], arguments[1:], _unpickled
    else:
        made = _called
    return made, (_name_of(function), *_standing_alone(arguments)), *map(_standing_alone, rest)


def _unpickled(name: str, *arguments: Any) -> Any:
    """A new object of a class, whose state follows in the pickle."""
    cls: Any = named(name)
    return cls.__new__(cls, *arguments)


def _called(name: str, *arguments: Any) -> Any:
    """What a class or function makes of arguments."""
    return named(name)(*arguments)


# a pickle names these as attributes of the package
_unpickled.__module__ = _called.__module__ = _PACKAGE


def _standing_alone(value: Any) -> Any:
    """A value with `_Alone` in the place of its tensors."""
    if isinstance(value, Tensor):
        return _Alone(value)
    if type(value) in (tuple, list):
        replaced = [_standing_alone(each) for each in value]
        changed = any(new is not old for new, old in zip(replaced, value, strict=True))
        return type(value)(replaced) if changed else value
    if type(value) is dict:
        found = {key: _standing_alone(each) for key, each in value.items()}
        return found if any(found[key] is not value[key] for key in value) else value
    return value


class _Alone:
    """Stands for a tensor while an object is pickled or copied, and comes back as one."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        with torch.inference_mode(False):  # what is made in it could not be changed outside
            return copy.deepcopy(self._tensor, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        tensor = self._tensor.detach().contiguous()
        values = tensor.reshape(-1).view(torch.uint8).numpy(force=True)
        return _called, ("_tensor", values, str(tensor.dtype).removeprefix("torch."), [*tensor.shape], tensor.device)


def _tensor(values: np.ndarray, dtype: str, shape: list[int], device: torch.device) -> Tensor:
    """The tensor of a pickle, from the bytes of its elements."""
    if not values.flags.writeable:
        values = values.copy()
    with torch.inference_mode(False):
        return tensor_of(values).view(getattr(torch, dtype)).reshape(shape).to(device)


sys.meta_path.insert(0, _Finder())
for _name in _NAMES_BY_MODULE:
    if _name in sys.modules and _name != __name__:
        _register(sys.modules[_name])
