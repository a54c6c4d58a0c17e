"""The alias in the processes that this one starts.

A process that `multiprocessing` starts by spawn or forkserver, or that a program starts by `subprocess`, is a Python of
its own. It learns of the alias from its environment: a folder at the head of PYTHONPATH, with a sitecustomize that
Python imports when it starts (``startup/sitecustomize.py``), and a variable that says for which Python it is meant.
"""

from __future__ import annotations

import os
import pathlib
import sys

#: The folder on PYTHONPATH, and the variable beside it.
FOLDER = str(pathlib.Path(__file__).absolute().with_name("startup"))
VARIABLE = "FAISS_TORCH_ALIAS"


class _State:
    """Whether PYTHONPATH was there, and empty, before this process added to it."""

    was_empty = False


def _folders() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return path.split(os.pathsep) if path else []


def reach() -> None:
    """Have the processes that start from now on take over the alias."""
    if FOLDER in _folders():  # this process has it from its own parent
        return
    _State.was_empty = os.environ.get("PYTHONPATH") == ""
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *_folders()])
    os.environ[VARIABLE] = f"{sys.version_info[0]}.{sys.version_info[1]} {sys.prefix}"


def leave() -> None:
    """Undo `reach`: the environment is what it was, with what the program has changed in it since."""
    stop_waiting()
    os.environ.pop(VARIABLE, None)
    if FOLDER not in _folders():
        return
    rest = [folder for folder in _folders() if folder != FOLDER]
    if rest or _State.was_empty:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        del os.environ["PYTHONPATH"]


def stop_waiting() -> None:
    """Take away the finders that the start of this process put in their places."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not getattr(finder, "waits_for_faiss", False)]
