"""How the package finds its names: each is imported when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

from . import gpu_names, names

_PACKAGE = __name__.rpartition(".")[0]

# A child of a fork would wait for ever for a module that another thread of its parent was importing.
_loading = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


def imported(module: str) -> Any:
    """Return a module of this package, by its name without the package's.

    The folder that it is in is imported first, as a thread would do that imports the folder: the lock of a module is
    never held while another thread, which holds that of the folder, waits for it.
    """
    with _loading:
        return _in_order(module)


def _in_order(module: str) -> Any:
    folder, _, rest = module.partition(".")
    if rest:
        importlib.import_module(f"{_PACKAGE}.{folder}")
    return importlib.import_module(f"{_PACKAGE}.{module}")


def attribute(name: str) -> Any:
    """Return what the package does not hold yet, or never holds; its ``__getattr__``.

    ``__all__`` is for `import *`: what is offered, and the classes that can be named alone.

    Raises
    ------
    AttributeError
        With the reason: there are no GPUs, or the name is not offered.
    """
    if name in names.MODULE_OF:
        value = getattr(imported(names.MODULE_OF[name]), name)
        if f"{_PACKAGE}.indexes.base" in sys.modules:
            imported("io")  # an object that writes an index when the interpreter ends can import nothing then
        _keep()
        return vars(sys.modules[_PACKAGE]).setdefault(name, value)
    if name in names.MODULES:
        return _in_order(name)  # modules of this package ask for others while they are imported: without the lock
    if name in gpu_names.MODULE_OF:  # not kept: a program may say later that there are no GPUs
        available = imported("devices.available")
        if not available.gpus_named():
            reason = f"torch sees no accelerator here; {available.ADVICE}"
            raise AttributeError(f"faiss_torch has {name} where there are GPUs, and {reason}")
        return getattr(imported(gpu_names.MODULE_OF[name]), name)
    if name == "__all__":
        gpus = _gpus_named()
        return [*names.PUBLIC, *(gpu_names.MODULE_OF if gpus else ()), *imported("gaps").named_classes(gpus)]
    return imported("gaps").missing(name, _gpus_named())


def _keep() -> None:
    """Have the package hold the names of all modules that are there."""
    package = vars(sys.modules[_PACKAGE])
    for module, there in names.NAMES_BY_MODULE:
        found = sys.modules.get(f"{_PACKAGE}.{module}")
        if found is None or getattr(found.__spec__, "_initializing", False):  # another thread is importing it
            continue
        for name in there.split():
            package.setdefault(name, getattr(found, name))


def attributes() -> list[str]:
    """Return the names that the package offers, those for GPUs only where there are some; its ``__dir__``."""
    for_gpus = gpu_names.MODULE_OF if _gpus_named() else ()
    return sorted({*vars(sys.modules[_PACKAGE]), *names.MODULE_OF, *names.MODULES, *for_gpus})


def _gpus_named() -> bool:
    named: bool = imported("devices.available").gpus_named()
    return named
