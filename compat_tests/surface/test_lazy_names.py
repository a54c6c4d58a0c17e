"""Names are imported when they are asked for: what says where they are agrees, and no program can tell but by time."""

from __future__ import annotations

import ast
import copyreg
import importlib
import os
import pathlib
import subprocess
import sys

import pytest

import faiss_torch
from faiss_torch import gpu_names, names, pickles

ROOT = pathlib.Path(faiss_torch.__file__).parents[1]
STUB = ast.parse((ROOT / "faiss_torch" / "__init__.pyi").read_text())


def value_of(name: str, module: str) -> object:
    return getattr(importlib.import_module(f"faiss_torch.{module}"), name)


def run(program: str) -> str:
    """What a program prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_type_checkers_are_told_the_same():
    imported = {
        each.name: node.module
        for node in STUB.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for each in node.names
    }
    assert imported == names.MODULE_OF
    exported = next(node for node in STUB.body if isinstance(node, ast.Assign))
    listed = ast.literal_eval(exported.value)
    assert sorted(listed) == sorted(names.PUBLIC)


def test_every_name_is_where_the_table_says():
    tables = (*names.NAMES_BY_MODULE, *gpu_names.NAMES_BY_MODULE)
    assert sum(len(there.split()) for _, there in tables) == len(names.MODULE_OF | gpu_names.MODULE_OF)
    assert not (names.MODULE_OF | gpu_names.MODULE_OF).keys() & names.MODULES
    for name, module in names.MODULE_OF.items():
        value = value_of(name, module)
        assert getattr(faiss_torch, name) is value
        defined = getattr(value, "__module__", None)
        assert defined in {None, f"faiss_torch.{module}"} or isinstance(value, (int, float, str)), name


def test_modules_are_attributes():
    package = pathlib.Path(faiss_torch.__file__).parent
    there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__", "__main__", "contrib", "names", "lazy"} == names.MODULES
    for module in names.MODULES:
        assert getattr(faiss_torch, module) is sys.modules[f"faiss_torch.{module}"]


def test_pickles_know_every_class_from_its_import_on():
    for name, module in pickles._MODULE_OF.items():
        value = value_of(name, module)
        if isinstance(value, type) and value.__name__ == name:
            assert copyreg.dispatch_table[value] is pickles._reduced, name
            assert pickles.named(name) is value


def test_a_name_for_gpus_goes_when_the_gpus_go():
    faiss_torch.set_gpu_devices(["cpu"])
    try:
        assert faiss_torch.GpuIndexFlatL2 is value_of("GpuIndexFlatL2", "devices.gpu_indexes")
    finally:
        faiss_torch.set_gpu_devices([])
    try:
        assert not hasattr(faiss_torch, "GpuIndexFlatL2")
    finally:
        faiss_torch.set_gpu_devices(None)


@pytest.mark.slow
def test_the_import_is_small_and_brings_torch():
    program = """
import sys
import faiss_torch
listed = dir(faiss_torch)
big = [name for name in ("indexes", "parts", "ops", "io", "tools", "kernels") if f"faiss_torch.{name}" in sys.modules]
print("torch" in sys.modules, "IndexFlatL2" in listed, "io" in listed, big)
"""
    assert run(program) == "True True True []\n"


@pytest.mark.slow
def test_an_index_of_a_module_is_pickled_by_its_public_name():
    program = """
import pickle
from faiss_torch.indexes.flat.flat import IndexFlatL2
written = pickle.dumps(IndexFlatL2(3))
print(b"indexes" in written, type(pickle.loads(written)) is IndexFlatL2)
"""
    assert run(program) == "False True\n"


@pytest.mark.slow
def test_many_threads_ask_at_once():
    """Some for the same name, some for a module that others need, some by an import."""
    program = """
import importlib, threading
import faiss_torch
asked = ["IndexIVFFlat", "read_index", "Kmeans", "io", "FileIOReader", "knn", "IndexIVFFlat", "index_factory"] * 2
modules = ["indexes.composite.shards", "tools.autotune", "contrib.evaluation", "contrib.ivf_tools"]
barrier, found = threading.Barrier(len(asked) + len(modules)), []
def ask(name):
    barrier.wait()
    found.append((name, getattr(faiss_torch, name)))
def load(module):
    barrier.wait()
    found.append((module, importlib.import_module(f"faiss_torch.{module}")))
threads = [threading.Thread(target=ask, args=(name,)) for name in asked]
threads += [threading.Thread(target=load, args=(name,)) for name in modules]
for each in threads: each.start()
for each in threads: each.join()
print(len(found), all(value is getattr(faiss_torch, name) for name, value in found if "." not in name))
"""
    assert run(program) == "20 True\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_a_thread_imports_finds_whole_modules():
    program = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")  # of a fork beside threads
import faiss_torch
begun = threading.Event()
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "faiss_torch.indexes.ivf.base":
            begun.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Watch())
thread = threading.Thread(target=lambda: faiss_torch.IndexIVFFlat)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    import signal
    signal.alarm(20)
    os._exit(0 if faiss_torch.IndexIVFFlat.__name__ == "IndexIVFFlat" else 1)
thread.join()
print(os.waitpid(child, 0)[1])
"""
    assert run(program) == "0\n"


@pytest.mark.slow
def test_what_has_been_imported_is_there_when_modules_are_taken_down():
    program = """
import faiss_torch
class Keeper:
    def __init__(self):
        self.index = faiss_torch.IndexFlatL2(2)
    def __del__(self):
        print(isinstance(self.index, faiss_torch.Index), len(faiss_torch.serialize_index(self.index)) > 0)
keeper = Keeper()
keeper.itself = keeper
"""
    assert run(program) == "True True\n"


@pytest.mark.slow
def test_the_first_use_may_be_at_the_interpreters_end():
    program = """
import atexit
import faiss_torch
@atexit.register
def last():
    index = faiss_torch.IndexFlatL2(2)
    print(len(faiss_torch.serialize_index(index)) > 0, faiss_torch.Kmeans.__name__)
"""
    assert run(program) == "True Kmeans\n"
