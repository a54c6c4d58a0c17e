"""No figure on red: the tests that must pass before a run may record anything."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable

from ..workloads.cases import Case

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "compat_tests"

#: The tests beside faiss that belong to each kind of index; the engine's are run for all.
AGREE = {"ivf": "agree/test_ivf_flat.py", "flat": "agree/test_flat.py", "kmeans": "agree/test_kmeans.py"}


def selection(cases: Iterable[Case]) -> list[str]:
    """Return the tests of the engine, and those of the indexes that some cases are about."""
    families = {case.family for case in cases}
    return ["engine", *(path for family, path in AGREE.items() if family in families)]


def passes(tests: Iterable[str]) -> bool:
    """Run tests, given by their paths below compat_tests, and return whether they passed."""
    missing = [name for name in ("pytest", "hypothesis", "pytest_timeout") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"nothing is recorded before the tests have passed, and {', '.join(missing)} is missing: "
            "python -m pip install .[bench,test], or --no-record"
        )
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
    command += [str(TESTS / test) for test in tests]
    print("tests first: " + " ".join(tests), flush=True)
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    print("\n".join(lines[-1:] if done.returncode == 0 else lines[-40:]), flush=True)
    return done.returncode == 0
