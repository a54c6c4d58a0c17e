"""`import faiss` gives this library in the processes that a program starts, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import faiss_torch
from faiss_torch import children

CHILDREN = """
    import multiprocessing, subprocess, sys
    from concurrent.futures import ProcessPoolExecutor

    import numpy as np
    import torch

    import faiss

    def search(xb):
        index = faiss.IndexFlatL2(4)
        index.add(xb)
        return faiss.__name__, index.search(xb[2:3], 1)[1].item()

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, item):
            return search(np.eye(4, dtype="float32"))[0]

    if __name__ == "__main__":
        xb = np.eye(4, dtype="float32")
        for method in multiprocessing.get_all_start_methods():
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(*pool.map(search, [xb]))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            print(*executor.map(search, [xb]))
        loader = torch.utils.data.DataLoader(Rows(), num_workers=1, multiprocessing_context="spawn")
        print([names for batch in loader for names in batch])
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "beside"], check=True)
"""

PRINTED = [
    *["('faiss_torch', 2)"] * (len({"fork", "spawn", "forkserver"}) + 1),
    "['faiss_torch', 'faiss_torch']",
    "faiss_torch",
]

#: A program whose own child says what faiss is.
BESIDE = """
    import subprocess, sys
    code = "import faiss; print(faiss.__name__)"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the methods that start a process are others")
def test_processes_of_a_program_that_is_run_unchanged(python):
    """A Pool by each method, an executor, the workers of a DataLoader, and a child of a program that is started."""
    printed = python("-m", "faiss_torch", "program.py", program=CHILDREN, beside=BESIDE)
    assert printed.splitlines() == PRINTED


@pytest.mark.slow
def test_processes_of_a_program_that_installs_the_alias(python):
    """Before its main part, and in it alone: the child runs the former again."""
    program = """
    import multiprocessing, os, subprocess, sys
    before = dict(os.environ)
    SHOW = [sys.executable, "-c", "import faiss; print(faiss.__name__)"]

    def name(_):
        import faiss
        return faiss.__name__

    if __name__ == "__main__":
        import faiss_torch
        faiss_torch.install()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(name, [0]), flush=True)
        subprocess.run(SHOW, check=True)
        faiss_torch.uninstall()
        assert dict(os.environ) == before
        subprocess.run(SHOW, check=True)
    """
    assert python("program.py", program=program).splitlines() == ["['faiss_torch']", "faiss_torch", "faiss"]


@pytest.mark.slow
def test_a_child_can_uninstall_what_its_parent_installed(python):
    """With faiss imported already or not, and for its own children too."""
    child = """
    import os, subprocess, sys
    if sys.argv[1] == "imported":
        import faiss
    import faiss_torch
    faiss_torch.uninstall()
    import faiss
    print(faiss.__name__, "FAISS_TORCH_ALIAS" in os.environ, flush=True)
    subprocess.run([sys.executable, "-c", "import faiss; print(faiss.__name__)"], check=True)
    """
    program = """
    import subprocess, sys
    for when in ("imported", "not yet"):
        subprocess.run([sys.executable, "child.py", when], check=True)
    """
    printed = python("-m", "faiss_torch", "program.py", program=program, child=child)
    assert printed.splitlines() == ["faiss False", "faiss"] * 2


# the environment


@pytest.mark.parametrize("path", [None, "", "/one", os.pathsep.join(["/one", "", "/two"])])
def test_the_environment_is_what_it_was(monkeypatch, path):
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    before = dict(os.environ)
    faiss_torch.install()
    faiss_torch.install()
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == children.FOLDER
    assert os.environ["PYTHONPATH"].count(children.FOLDER) == 1
    faiss_torch.uninstall()
    assert dict(os.environ) == before


def test_what_a_program_changes_in_the_environment_stays(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/one")
    faiss_torch.install()
    os.environ["PYTHONPATH"] += os.pathsep + "/two"
    faiss_torch.uninstall()
    assert os.environ["PYTHONPATH"] == os.pathsep.join(["/one", "/two"])
    faiss_torch.install()
    del os.environ["PYTHONPATH"]
    faiss_torch.uninstall()
    assert "PYTHONPATH" not in os.environ
    assert children.VARIABLE not in os.environ


# how a child starts


STATE = """
import sys
print(sys.path, "sitecustomize" in sys.modules, getattr(sys.modules.get("sitecustomize"), "VALUE", None))
print(sorted({"faiss_torch", "torch", "numpy", "faiss", "typing", "importlib.util"} & set(sys.modules)))
"""


def started(tmp_path, *options: str, hooked: bool, theirs: str | None = None, alias: str | None = None):
    """What a Python prints of its state that starts with the folder of the hook on its path, or without."""
    folder = tmp_path / "user"
    folder.mkdir(exist_ok=True)
    if theirs is not None:
        (folder / "sitecustomize.py").write_text(theirs)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([*([children.FOLDER] if hooked else []), str(folder)])
    environment[children.VARIABLE] = alias or f"{sys.version_info[0]}.{sys.version_info[1]} {sys.prefix}"
    command = [sys.executable, *options, "-c", STATE]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [None, "VALUE = 5", "import no_such_module", "1 / 0"])
@pytest.mark.parametrize("options", [(), ("-s",), ("-E",), ("-I",)], ids=lambda options: " ".join(options) or "-")
def test_a_child_starts_as_it_would_without(tmp_path, theirs, options):
    """The same path, the user's own sitecustomize and its errors, and nothing imported that waits for faiss."""
    without = started(tmp_path, *options, hooked=False, theirs=theirs)
    assert started(tmp_path, *options, hooked=True, theirs=theirs) == without
    assert "torch" not in without[0].splitlines()[1]


@pytest.mark.slow
def test_a_python_of_another_environment_is_left_alone(tmp_path, monkeypatch):
    """It reads PYTHONPATH, and may have no faiss_torch."""
    monkeypatch.setattr(
        sys.modules[__name__], "STATE", "import sys; print([type(each).__name__ for each in sys.meta_path])"
    )
    assert "_Finder" in started(tmp_path, hooked=True)[0]
    assert "_Finder" not in started(tmp_path, hooked=True, alias="2.7 /elsewhere")[0]


@pytest.mark.slow
def test_looking_for_faiss_loads_nothing(python):
    """As libraries do that ask whether there is a faiss."""
    child = """
    import importlib.util, sys
    assert importlib.util.find_spec("faiss") is not None
    assert "torch" not in sys.modules
    import faiss.contrib.datasets
    import faiss, faiss_torch
    assert faiss is faiss_torch
    assert faiss.__spec__.name == "faiss_torch"
    assert importlib.util.find_spec("faiss.contrib.absent") is None
    """
    program = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, 'child.py']).returncode)"
    python("-m", "faiss_torch", "program.py", program=program, child=child)
