"""Programs that say `import faiss`: run unchanged, or after `install`, with the real faiss there or not."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import faiss_torch
from faiss_torch.__main__ import main

PACKAGE_PARENT = pathlib.Path(faiss_torch.__file__).resolve().parents[1]

# as sitecustomize, it makes the real faiss impossible to import
WITHOUT_FAISS = """
    import importlib.abc, sys

    class NoFaiss(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path=None, target=None):
            if fullname == "faiss":
                raise ModuleNotFoundError("No module named 'faiss'", name=fullname)

    sys.meta_path.insert(0, NoFaiss())
"""

FLAT_PROGRAM = """
    import numpy as np
    import faiss

    random = np.random.RandomState(7)
    xb = random.random_sample((3000, 24)).astype("float32")
    xq = random.random_sample((200, 24)).astype("float32")
    index = faiss.IndexFlatL2(24)
    print(index.is_trained, index.ntotal)
    index.add(xb)
    print(index.ntotal)
    print(index.search(xb[:5], 4)[1])
    D, I = index.search(xq, 4)
    print(I[:5], I[-5:], D.dtype, I.dtype)
"""

IVF_PROGRAM = """
    import numpy as np
    import faiss

    random = np.random.RandomState(8)
    xb = random.random_sample((6000, 24)).astype("float32")
    xb[:, 0] += np.arange(6000) / 1000
    xq = random.random_sample((200, 24)).astype("float32")
    xq[:, 0] += np.arange(200) / 40
    quantizer = faiss.IndexFlatL2(24)
    index = faiss.IndexIVFFlat(quantizer, 24, 40, faiss.METRIC_L2)
    assert not index.is_trained
    index.train(xb)
    assert index.is_trained
    index.add(xb)
    print(index.search(xq, 4)[1])
    index.nprobe = 10
    print(index.search(xq, 4)[1])
"""


@pytest.fixture
def python(tmp_path):
    """Return a function that runs python in a folder of its own and gives back what it printed."""

    def run(*arguments, without_faiss=False, status=0, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        paths = [str(PACKAGE_PARENT)]
        if without_faiss:
            hook = tmp_path / "hook"
            hook.mkdir(exist_ok=True)
            (hook / "sitecustomize.py").write_text(textwrap.dedent(WITHOUT_FAISS))
            paths.insert(0, str(hook))
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


@pytest.mark.parametrize("program", [FLAT_PROGRAM, IVF_PROGRAM], ids=["flat", "ivf"])
def test_unchanged_program_prints_what_it_prints_with_faiss(python, program):
    """The same file, run by plain python and by ``python -m faiss_torch``."""
    theirs = python("program.py", program=program)
    assert python("-m", "faiss_torch", "program.py", program=program) == theirs


SELF_DESCRIPTION = """
    import sys
    import faiss
    import beside

    if __name__ == "__main__":
        print(faiss.__name__, sys.argv, beside.VALUE, __file__)
"""


@pytest.mark.parametrize("without_faiss", [False, True])
def test_script_finds_what_python_gives_it(python, tmp_path, without_faiss):
    """Arguments, the main module's name, and the script's own folder on the path."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "beside.py").write_text("VALUE = 5")
    (tmp_path / "inner" / "program.py").write_text(textwrap.dedent(SELF_DESCRIPTION))
    printed = python("-m", "faiss_torch", "inner/program.py", "--x", "-m", "y", without_faiss=without_faiss)
    assert printed == "faiss_torch ['inner/program.py', '--x', '-m', 'y'] 5 inner/program.py\n"


def test_module_and_code(python, tmp_path):
    """The options -m and -c, with arguments."""
    program = "import sys, faiss; print(faiss.__name__, __name__, sys.argv[1:])"
    printed = python("-m", "faiss_torch", "-m", "program", "a", "-c", program=program)
    assert printed == "faiss_torch __main__ ['a', '-c']\n"
    printed = python("-m", "faiss_torch", "-c", program + "; print(sys.argv[0])", "b", "c")
    assert printed == "faiss_torch __main__ ['b', 'c']\n-c\n"


def test_exit_status_and_errors_of_the_program_come_through(python):
    """A program's own exit status and its traceback."""
    python("-m", "faiss_torch", "program.py", status=3, program="import sys; sys.exit(3)")
    errors = python("-m", "faiss_torch", "program.py", status=1, program="import faiss\nfaiss.IndexFlatL2(4).nprobe")
    assert "program.py" in errors
    assert "AttributeError" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "usage:"), (["-m"], "usage:"), (["-x", "program.py"], "-x"), (["absent.py"], "'absent.py'")],
)
def test_wrong_command_lines(capsys, arguments, message):
    """What cannot be run is named, with the status 2, and nothing is installed."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert sys.modules.get("faiss") is not faiss_torch


def test_help(capsys):
    """The usage is printed on demand."""
    assert main(["--help"]) == 0
    assert "program.py" in capsys.readouterr().out


IMPORTS = """
    import importlib.util, sys
    assert "faiss" not in sys.modules
    import faiss_torch
    faiss_torch.install()
    faiss_torch.install()

    import faiss
    import faiss.contrib.evaluation
    import faiss.contrib.torch_utils
    import faiss.swigfaiss
    import faiss.loader as loader
    from faiss import IndexFlatL2, contrib, swigfaiss
    from faiss.contrib.exhaustive_search import knn
    from faiss.contrib import datasets
    import faiss_torch.contrib.datasets

    assert faiss is faiss_torch
    assert IndexFlatL2 is faiss_torch.IndexFlatL2
    assert datasets is faiss_torch.contrib.datasets
    assert sys.modules["faiss.contrib.evaluation"] is faiss_torch.contrib.evaluation
    assert contrib is faiss_torch.contrib
    assert loader.IndexFlatL2 is swigfaiss.IndexFlatL2 is IndexFlatL2
    assert knn is faiss_torch.knn
    assert faiss.__spec__.name == "faiss_torch"
    assert datasets.__spec__.name == "faiss_torch.contrib.datasets"
    assert not hasattr(datasets, "__path__")
    assert importlib.util.find_spec("faiss") is not None
    assert importlib.util.find_spec("faiss.contrib.evaluation") is not None
    assert importlib.util.find_spec("faiss.contrib.absent") is None
    try:
        import faiss.contrib.absent
    except ModuleNotFoundError as error:
        assert "faiss.contrib.absent" in str(error), error
    else:
        raise AssertionError("a module that does not exist was found")

    del sys.modules["faiss"]
    import faiss as again
    assert again is faiss_torch

    faiss_torch.uninstall()
    faiss_torch.uninstall()
    assert not [name for name in sys.modules if name.partition(".")[0] == "faiss"]
    assert faiss_torch.swigfaiss is faiss_torch
"""


@pytest.mark.parametrize("without_faiss", [False, True])
def test_install_answers_every_import(python, without_faiss):
    """Each form of import gives this library's own modules, and none twice."""
    after = """
    try:
        import faiss as real
    except ModuleNotFoundError:
        print("none")
    else:
        print(real.__name__)
    """
    printed = python("program.py", without_faiss=without_faiss, program=IMPORTS + after)
    assert printed == ("none\n" if without_faiss else "faiss\n")


def test_uninstall_gives_an_imported_faiss_back(python):
    """The modules of the real faiss are the very same objects after uninstall, and work."""
    printed = python(
        "program.py",
        program="""
        import sys
        import faiss as real
        import faiss.contrib.evaluation as evaluation
        before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "faiss"}

        import faiss_torch
        faiss_torch.install()
        import faiss
        assert faiss is faiss_torch
        import faiss.contrib.datasets
        assert real.contrib.evaluation is evaluation
        faiss_torch.uninstall()

        import faiss
        assert faiss is real
        after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "faiss"}
        assert after == before
        import faiss.contrib.inspect_tools
        assert faiss.contrib.inspect_tools.faiss is real
        print(real.IndexFlatL2(3).d)
        """,
    )
    assert printed == "3\n"


@pytest.mark.parametrize("name", ["swigfaiss", "swigfaiss_avx2", "loader", "extra_wrappers", "gpu_wrappers"])
def test_modules_of_the_wrapper_with_a_changed_import(python, name):
    """They are there without `install`, by each form of import, and hold what the package holds."""
    program = f"""
    import importlib.util
    import faiss_torch.{name}
    assert importlib.util.find_spec("faiss_torch.{name}") is not None
    import faiss_torch.{name} as by_name
    from faiss_torch import {name}
    from faiss_torch.{name} import IndexFlatL2
    assert by_name is {name} is faiss_torch.{name}
    assert IndexFlatL2 is faiss_torch.IndexFlatL2
    assert faiss_torch.__spec__.name == "faiss_torch"
    print({name}.IndexFlatL2(3).d)
    """
    assert python("program.py", program=program) == "3\n"
