"""Makes ``import faiss`` mean faiss_torch in a process that was started by one in which it does.

`faiss_torch.install` puts this folder at the head of PYTHONPATH, so that a Python which starts imports this file in the
place of the user's own sitecustomize. That one is run from here, and the folder leaves ``sys.path`` again. Until the
program imports faiss, nothing else is imported.
"""

import os
import sys

TYPE_CHECKING = False  # typing's own, without its import: every Python that starts pays for what is imported here
if TYPE_CHECKING:
    from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))


class _Loader:
    """Loads faiss by installing the alias."""

    def create_module(self, spec: "Any") -> "Any":
        import faiss_torch

        faiss_torch.install()
        self._spec = faiss_torch.__spec__
        return faiss_torch

    def exec_module(self, module: "Any") -> None:
        # the import system put faiss's spec on the module, which is not its own
        module.__spec__ = self._spec


class _Finder:
    """Finds faiss, and faiss_torch where this file is: the one that the parent uses."""

    waits_for_faiss = True

    def find_spec(self, fullname: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if fullname not in ("faiss", "faiss_torch"):
            return None
        from importlib.machinery import ModuleSpec, PathFinder

        if fullname == "faiss_torch":
            return PathFinder.find_spec(fullname, [os.path.dirname(os.path.dirname(_FOLDER))])
        loader: Any = _Loader()
        return ModuleSpec(fullname, loader)


sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != _FOLDER]
sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401  the user's own; where there is none, the error is what Python expects
finally:
    # a Python of another environment, which reads PYTHONPATH too, is left alone
    if os.environ.get("FAISS_TORCH_ALIAS") == f"{sys.version_info[0]}.{sys.version_info[1]} {sys.prefix}":
        sys.meta_path.insert(0, _Finder())
