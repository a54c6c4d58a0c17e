"""`import faiss` as another name of this library: `install` and `uninstall`.

A finder at the head of ``sys.meta_path`` answers every import of ``faiss`` and of a module below it with the
module of this library that stands at the same place, and with the same object, so that no module is loaded
twice. Modules that faiss has because it is wrapped C++ (``faiss.swigfaiss``, ``faiss.loader`` and their like)
hold nothing that ``faiss`` itself does not offer: they are answered with the library itself, which bears these
names too, for a program that changes its import.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from . import children
from .border import Tensors

_OURS = __name__.rpartition(".")[0]
_THEIRS = "faiss"

#: Modules of faiss whose names are all names of faiss itself.
_WHOLE = (
    "swigfaiss",
    "swigfaiss_avx2",
    "swigfaiss_avx512",
    "swigfaiss_avx512_spr",
    "swigfaiss_sve",
    "loader",
    "array_conversions",
    "extra_wrappers",
    "gpu_wrappers",
)

for _name in _WHOLE:
    sys.modules[f"{_OURS}.{_name}"] = sys.modules[_OURS]
    setattr(sys.modules[_OURS], _name, sys.modules[_OURS])


def _is_theirs(name: str) -> bool:
    return name == _THEIRS or name.startswith(_THEIRS + ".")


def _place(fullname: str) -> str | None:
    """Return the name of the module that answers an import of `fullname`, or None where that is not ours."""
    top, _, rest = fullname.partition(".")
    if top != _THEIRS:
        return None
    return f"{_OURS}.{rest}" if rest else _OURS


class _AliasLoader(importlib.abc.Loader):
    """Hands out a module that exists already under another name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # the module has run already; the import system put the alias's spec on it, which is not its own
        module.__spec__ = self._spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``faiss`` and what is below it in this library."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        name = _place(fullname)
        if name is None or importlib.util.find_spec(name) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _AliasLoader(name))


class _State:
    """What `install` did and what it found: the finder while installed, and the modules it put aside."""

    finder: _AliasFinder | None = None
    aside: dict[str, ModuleType] = {}  # noqa: RUF012


def _take_modules() -> dict[str, ModuleType]:
    """Remove ``faiss`` and what is below it from ``sys.modules`` and return what was there."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _is_theirs(name)}


def install() -> None:
    """Make ``import faiss``, ``from faiss import X`` and ``import faiss.contrib.Y`` give this library.

    It does not matter whether faiss is installed or was imported before: modules of the real faiss that are
    in ``sys.modules`` are put aside until `uninstall`. Names that a program bound before (``from faiss import
    X``) keep what they were bound to. A second call does nothing.

    The processes that this one starts take the alias over: those of ``multiprocessing``, by whatever method, and
    those of ``subprocess`` that run the same Python. They learn of it from PYTHONPATH and FAISS_TORCH_ALIAS in
    ``os.environ``, so not where a program gives them another environment, or Python an option to ignore it (-E, -I)
    or to start without site (-S); there, call it again.
    """
    if _State.finder is not None:
        return
    children.stop_waiting()
    _State.aside = _take_modules()
    _State.finder = _AliasFinder()
    sys.meta_path.insert(0, _State.finder)
    Tensors.as_arrays = f"{_OURS}.contrib.torch_utils" not in sys.modules
    importlib.import_module(_THEIRS)
    children.reach()


def uninstall() -> None:
    """Undo `install`: ``import faiss`` means again what it meant before, an already imported faiss included.

    ``os.environ`` is again what it was, and processes that start from now on have no alias. Without `install`
    before, here or in the process that started this one, it does nothing.
    """
    children.leave()
    if _State.finder is None:
        return
    sys.meta_path.remove(_State.finder)
    _State.finder = None
    Tensors.as_arrays = False
    _take_modules()
    sys.modules.update(_State.aside)
    _State.aside = {}
