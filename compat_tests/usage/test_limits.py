"""At the end of the interpreter, and where the system gives no threads or no memory: an error, and nothing is lost."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import faiss_torch


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    package = pathlib.Path(faiss_torch.__file__).parents[1]
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


INDEXES = """
import numpy as np, faiss_torch as faiss
x = np.random.RandomState(0).rand(20000, 16).astype("float32")
flat, lists = faiss.IndexFlatL2(16), faiss.index_factory(16, "IVF16,Flat")
for index in (flat, lists):
    index.train(x)
    index.add(x)
    for n in (1, 600):
        index.search(x[:n], 3)
"""

OF_DAEMONS = """
import sys, threading, time

def search(index, n):
    while True:
        index.search(x[:n], 3)

for n in (1, 16, 600, 5000):
    for index in (flat, lists):
        threading.Thread(target=search, args=(index, n), daemon=True).start()
time.sleep(0.3)
sys.stdout.write("ended")
"""


@pytest.mark.slow
def test_daemon_threads_that_search_when_the_interpreter_ends():
    done = run(INDEXES + OF_DAEMONS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended", "")


IN_DEL = """
class Keeper:
    def __init__(self):
        self.flat, self.lists, self.x, self.deserialize = flat, lists, x, faiss.deserialize_index
        self.bytes = faiss.serialize_index(lists)

    def __del__(self):
        for call in (
            lambda: self.flat.search(self.x[:600], 3),
            lambda: self.lists.search(self.x[:1], 3),
            lambda: self.flat.add(self.x),
            lambda: self.deserialize(self.bytes),
        ):
            try:
                call()
            except RuntimeError as error:
                print(error)

keeper = Keeper()
"""


@pytest.mark.slow
def test_calls_when_the_interpreter_takes_its_modules_apart():
    done = run(INDEXES + IN_DEL)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("atexit" in line for line in lines)


AT_EXIT = """
import atexit, sys

def last(moment):
    assert lists.search(x[:600], 1)[1].shape == lists.search(x[:600], 1)[1].shape == (600, 1)
    flat.add(x)
    print(moment, flat.ntotal, flat.search(x[:1], 1)[1][0, 0])

atexit.register(last, "after the import")
"""


@pytest.mark.slow
def test_calls_of_functions_that_atexit_calls():
    register = "import atexit\ndef first(): last('before it')\natexit.register(first)\n"
    done = run(register + INDEXES + AT_EXIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["after the import 40000 0", "before it 60000 0"]


NO_THREADS = """
import threading
threading.stack_size(1 << 45)  # for which there is no address space
new = faiss.IndexFlatL2(16)
faiss.omp_set_num_threads(3)
for what, call in {
    "search": lambda: flat.search(np.repeat(x, 3, 0), 3),
    "add": lambda: flat.add(x),
}.items():
    # the threads of the calls before are there; workers for three are not
    try:
        call()
        print(what, "done")
    except RuntimeError as error:
        print(what, "thread" in str(error))
threading.stack_size(0)
print(flat.ntotal in (20000, 40000), flat.search(x[:600], 1)[1][:3].ravel(), flat.search(x[:1], 1)[1].ravel())
"""


@pytest.mark.slow
def test_no_thread_can_be_started():
    done = run(INDEXES + NO_THREADS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["search True", "add done", "True [0 1 2] [0]"]


@pytest.mark.slow
def test_no_thread_can_be_started_from_the_first_call_on():
    program = """
import threading, numpy as np, faiss_torch as faiss
x = np.random.RandomState(0).rand(20000, 16).astype("float32")
threading.stack_size(1 << 45)
index = faiss.IndexFlatL2(16)
try:
    index.add(x)
except RuntimeError as error:
    print("thread" in str(error), index.ntotal)
threading.stack_size(0)
index.add(x)
print(index.search(x[:600], 1)[1][:3].ravel(), index.ntotal)
"""
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True 0", "[0 1 2] 20000"]


LITTLE_MEMORY = """
import resource, sys

def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

before = resource.getrlimit(resource.RLIMIT_AS)
for index, n in ((new_flat, 1), (new_flat, 600), (new_lists, 1), (new_lists, 600)):
    for room in (int(each) << 10 for each in sys.argv[1:]):
        resource.setrlimit(resource.RLIMIT_AS, (used() + room, before[1]))
        try:
            index.search(x[:n], 3)
        except (RuntimeError, MemoryError):
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    assert index.search(x[:n], 1)[1][0, 0] == 0
print("whole")
"""

NEW_INDEXES = """
import numpy as np, faiss_torch as faiss
x = np.random.RandomState(0).rand(20000, 16).astype("float32")
new_flat, new_lists = faiss.IndexFlatL2(16), faiss.index_factory(16, "IVF16,Flat")
for index in (new_flat, new_lists):
    index.train(x)
    index.add(x)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system does not say how much is used")
def test_searches_with_little_memory_left():
    done = run(NEW_INDEXES + LITTLE_MEMORY, 0, 256, 1024, 2048, 3072, 8192)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
