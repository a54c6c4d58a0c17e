"""Run a program in which ``faiss`` is this library: ``python -m faiss_torch program.py ARGS``."""

from __future__ import annotations

import os
import runpy
import sys
from types import ModuleType

from .alias import install

USAGE = """\
usage: python -m faiss_torch program.py [ARGS ...]
       python -m faiss_torch -m module [ARGS ...]
       python -m faiss_torch -c code [ARGS ...]

Runs an unchanged Python program in which `import faiss` gives faiss_torch."""


def _run_code(code: str) -> None:
    """Run a piece of code as the main module."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(code, "<string>", "exec"), module.__dict__)


def _set_first_path(folder: str) -> None:
    """Put a folder at the head of ``sys.path``, where Python has put the working directory."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def main(arguments: list[str]) -> int:
    """Run the program that the arguments name, as ``python`` would.

    ``sys.argv``, ``sys.path[0]`` and ``__name__`` are what the program would find if it was run by itself.

    Parameters
    ----------
    arguments : list of str
        What followed ``python -m faiss_torch`` on the command line.

    Returns
    -------
    int
        The exit status, where the program did not end with one of its own.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not arguments or (arguments[0] in ("-m", "-c") and len(arguments) < 2):
        print(USAGE, file=sys.stderr)
        return 2

    option, rest = arguments[0], arguments[1:]
    if option not in ("-m", "-c") and option.startswith("-"):
        print(f"{USAGE}\n\nunknown option: {option}", file=sys.stderr)
        return 2
    if option not in ("-m", "-c") and not os.path.exists(option):
        print(f"python -m faiss_torch: cannot open {option!r}: no such file", file=sys.stderr)
        return 2
    install()
    if option == "-m":
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        _set_first_path("")
        _run_code(rest[0])
    else:
        sys.argv = [option, *rest]
        _set_first_path(os.path.dirname(os.path.realpath(option)))
        runpy.run_path(option, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
