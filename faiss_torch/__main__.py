"""Run a program in which ``faiss`` is this library: ``python -m faiss_torch program.py ARGS``."""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
from types import ModuleType
from typing import Any

from .alias import install

USAGE = """\
usage: python -m faiss_torch program.py [ARGS ...]
       python -m faiss_torch -m module [ARGS ...]
       python -m faiss_torch -c code [ARGS ...]

Runs an unchanged Python program in which `import faiss` gives faiss_torch."""


def _new_main(**attributes: Any) -> dict[str, Any]:
    """Make the main module anew, as python does, and return its names.

    It stays when the program has ended, for threads and exit handlers; a process that ``multiprocessing`` starts finds
    the program by it.
    """
    module = ModuleType("__main__")
    if "__annotations__" in vars(sys.modules["__main__"]):  # before Python 3.14
        module.__annotations__ = {}
    vars(module).update(__builtins__=builtins, **attributes)
    sys.modules["__main__"] = module
    return vars(module)


def _run_code(code: str) -> None:
    """Run a piece of code as the main module."""
    exec(compile(code, "<string>", "exec", dont_inherit=True), _new_main())


def _run_file(path: str) -> None:
    """Run a file of Python as the main module."""
    whole = os.path.abspath(path)
    with io.open_code(whole) as file:
        code = compile(file.read(), whole, "exec", dont_inherit=True)
    loader = importlib.machinery.SourceFileLoader("__main__", whole)
    exec(code, _new_main(__file__=whole, __cached__=None, __loader__=loader))


def _run_module(name: str, change_argv: bool = True) -> None:
    """Run a module as the main module, by what ``python -m`` calls for it."""
    _new_main()
    runpy._run_module_as_main(name, change_argv)  # type: ignore[attr-defined]


def _set_first_path(folder: str) -> None:
    """Put a folder at the head of ``sys.path``, where Python has put the working directory."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def _run_path(path: str) -> None:
    """Run a file, or a folder or archive with a ``__main__.py``."""
    if pkgutil.get_importer(path) is None:
        _set_first_path(os.path.dirname(os.path.realpath(path)))
        _run_file(path)
    else:
        _set_first_path(os.path.abspath(path))
        _run_module("__main__", change_argv=False)


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
        _run_module(rest[0])
    elif option == "-c":
        sys.argv = ["-c", *rest[1:]]
        _set_first_path("")
        _run_code(rest[0])
    else:
        sys.argv = [option, *rest]
        _run_path(option)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
