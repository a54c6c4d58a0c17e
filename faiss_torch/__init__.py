"""faiss_torch: the Python API of faiss over a torch engine.

``import faiss_torch as faiss`` in place of ``import faiss``: the same names, results, index files and seeds, on any
device torch runs on. See README.md.

A name is imported when a program asks for it. `names` says where each one is; type checkers read ``__init__.pyi``.
"""

from . import forks  # noqa: F401  a fork is prepared for, whatever the program has used before it
from .alias import install, uninstall  # noqa: F401
from .lazy import attribute as __getattr__  # noqa: F401
from .lazy import attributes as __dir__  # noqa: F401
from .pickles import _called, _unpickled  # noqa: F401
