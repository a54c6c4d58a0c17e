"""What makes a tensor in the library's code names its dtype and its device: torch's defaults are the program's."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest
import torch
from torch.utils._device import _device_constructors

import faiss_torch

PACKAGE = pathlib.Path(faiss_torch.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: Functions that follow the default device, as torch itself lists them, and others that follow the default dtype.
FACTORIES = {function.__name__.removeprefix("fft_") for function in _device_constructors()} | {"from_file", "normal"}

#: Functions that ask for a default, or change a setting of the whole program or of the caller's thread.
FORBIDDEN = {"get_default_device", "get_default_dtype", "set_default_device", "set_default_dtype"} | {
    *("set_default_tensor_type", "set_deterministic_debug_mode", "set_flush_denormal", "set_float32_matmul_precision"),
    *("use_deterministic_algorithms",),
    *(name for name in dir(torch) if name.endswith("Tensor")),  # the classes of old, which make tensors
}


def mistakes(source: str) -> Iterator[str]:
    """What is wrong with a module, each as a line of text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            for alias in node.names:
                if alias.name in FACTORIES:
                    yield f"{node.lineno}: {alias.name} is to be called as torch.{alias.name}"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called, named = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        if not called.startswith("torch."):
            continue
        if node.func.attr in FACTORIES:
            for missing in sorted({"dtype", "device"} - named):
                yield f"{node.lineno}: {ast.unparse(node)} names no {missing}"
        elif node.func.attr in FORBIDDEN:
            yield f"{node.lineno}: {called} is not to be called"
        elif called in ("torch.finfo", "torch.Generator") and not (node.args or named):
            yield f"{node.lineno}: {called} follows a default"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_factories_name_dtype_and_device(file: pathlib.Path) -> None:
    found = list(mistakes(file.read_text()))
    if file.name == "torch_state.py":  # the one place that keeps the program's settings away from a call
        found = [each for each in found if "torch.set_flush_denormal" not in each]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.zeros(3)",
        "torch.arange(n, device=device)",
        "torch.tensor([1.0], dtype=torch.float32)",
        "torch.full((2,), 1.0, **settings)",
        "torch.fft.fftfreq(8)",
        "from torch import Tensor, empty",
        "torch.FloatTensor(3)",
        "torch.Tensor(3)",
        "torch.finfo().max",
        "torch.set_default_dtype(torch.float32)",
        "x = [torch.empty(n, dtype=x.dtype) for n in sizes]",
    ],
)
def test_what_is_found(line: str) -> None:
    assert list(mistakes(line))


@pytest.mark.parametrize(
    "line",
    [
        "torch.zeros(3, dtype=torch.float32, device=x.device)",
        "x.new_zeros(3)",
        "torch.zeros_like(x)",
        "from torch import Tensor",
        "torch.from_numpy(array)",
        "isinstance(x, torch.Tensor)",
        "np.zeros(3)",
        "torch.finfo(torch.float32).max",
    ],
)
def test_what_may_be_there(line: str) -> None:
    assert not list(mistakes(line))
