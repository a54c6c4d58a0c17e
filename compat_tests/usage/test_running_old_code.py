"""Programs that say `import faiss`: run unchanged, or after `install`, with the real faiss there or not."""

from __future__ import annotations

import sys
import textwrap
import zipfile

import pytest

import faiss_torch
from faiss_torch.__main__ import main

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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("without_faiss", [False, True])
def test_script_finds_what_python_gives_it(python, tmp_path, without_faiss):
    """Arguments, the main module's name, and the script's own folder on the path."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "beside.py").write_text("VALUE = 5")
    (tmp_path / "inner" / "program.py").write_text(textwrap.dedent(SELF_DESCRIPTION))
    printed = python("-m", "faiss_torch", "inner/program.py", "--x", "-m", "y", without_faiss=without_faiss)
    program = tmp_path / "inner" / "program.py"
    assert printed == f"faiss_torch ['inner/program.py', '--x', '-m', 'y'] 5 {program}\n"


@pytest.mark.slow
def test_module_and_code(python, tmp_path):
    """The options -m and -c, with arguments."""
    program = "import sys, faiss; print(faiss.__name__, __name__, sys.argv[1:])"
    printed = python("-m", "faiss_torch", "-m", "program", "a", "-c", program=program)
    assert printed == "faiss_torch __main__ ['a', '-c']\n"
    printed = python("-m", "faiss_torch", "-c", program + "; print(sys.argv[0])", "b", "c")
    assert printed == "faiss_torch __main__ ['b', 'c']\n-c\n"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


MAIN_MODULE = """
    import __main__, atexit, pickle, sys

    def function():
        pass

    def at_exit():
        pickle.loads(pickle.dumps(function))
        print(sys.modules["__main__"] is __main__)

    atexit.register(at_exit)
    spec = getattr(__spec__, "name", None), getattr(__spec__, "origin", None)
    print(__name__, __package__, type(__loader__), __file__, spec, sys.argv, sys.path[0], function.__annotations__)
    print(sorted(vars(__main__)), __main__.function is function)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["inner/program.py"], ["-m", "inner.program"], ["-m", "inner"], ["inner"], ["a.zip"]]
)
def test_the_main_module_is_as_python_makes_it(python, tmp_path, arguments):
    """For a file, a module, a package, a folder and an archive; also when the program has ended."""
    (tmp_path / "inner").mkdir()
    for name in ("program", "__main__"):
        (tmp_path / "inner" / f"{name}.py").write_text(textwrap.dedent(MAIN_MODULE))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "inner" / "program.py", "__main__.py")
    assert python("-m", "faiss_torch", *arguments, "x", "-y") == python(*arguments, "x", "-y")


@pytest.mark.slow
def test_code_is_compiled_without_the_futures_of_this_library(python):
    code = "def f(x: 1 + 1): pass\nprint(f.__annotations__, sorted(globals()))"
    assert python("-m", "faiss_torch", "-c", code) == python("-c", code)
    assert python("-m", "faiss_torch", "program.py", program=code) == python("program.py", program=code)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["-m", "absent"], ["-m", "inner"], ["inner"]])
def test_what_has_no_main_module(python, tmp_path, arguments):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "__init__.py").write_text("")
    assert python("-m", "faiss_torch", *arguments, status=1) == python(*arguments, status=1)
