"""Pickles that stand alone: they hold bytes, and name classes as programs do.

pickle writes down an object's class by the module that it stands in, and torch hands tensors to another process by
file descriptors. Here a pickle names a class by its public name, whichever module holds it, and holds the bytes of
tensors. It outlives a move of modules, goes through a ``multiprocessing.Queue``, and needs no process but the one
that reads it. Copies by `copy` go the same way, with the tensors copied where they are.
"""

from __future__ import annotations

import copy
import copyreg
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

_BY_NAME: dict[str, Callable[..., Any]] = {}
_NAMES: dict[Callable[..., Any], str] = {}


def register(public: Mapping[str, Any]) -> None:
    """Have pickles name the public classes, and what their objects are made of, by these names.

    Parameters
    ----------
    public : mapping
        The names of the package, and what they stand for.
    """
    parts = {
        name: getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        for module, names in _PARTS
        for name in names.split()
    }
    for name, value in {**public, **parts}.items():
        if not callable(value) or getattr(value, "__name__", None) != name:
            continue
        _BY_NAME[name] = value
        _NAMES[value] = name
        if isinstance(value, type):
            copyreg.pickle(value, _reduced)


def named(name: str) -> Callable[..., Any]:
    """Return the class or function of a name in a pickle.

    Raises
    ------
    AttributeError
        If there is none.
    """
    if name not in _BY_NAME:
        raise AttributeError(f"a pickle of {_PACKAGE} needs {name}, which this version does not have")
    return _BY_NAME[name]


def _reduced(thing: Any) -> tuple[Any, ...]:
    """What pickle and copy make an object of: a name, the arguments to call it with, and the state."""
    function, arguments, *rest = thing.__reduce_ex__(2)
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]
        function, arguments, made = arguments[0], arguments[1:], _unpickled
    else:
        made = _called
    return made, (_NAMES[function], *_standing_alone(arguments)), *map(_standing_alone, rest)


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
