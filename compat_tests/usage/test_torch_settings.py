"""The same results, dtypes and devices under any setting of torch's, and when it is put back."""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import operations
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch_settings import SETTINGS

import faiss_torch
from faiss_torch.ops.runtime import workers

#: Settings that leave traces in what is made once: a program has them from its start.
FROM_THE_START = ("bfloat16", "meta", "inference mode")

#: What runs under the other settings: products, searches on all paths, clusterings, and what is kept.
SOME = (
    *("every verb of flat_ip", "every verb of flat_NaNEuclidean", "every verb of ivf_flat", "flat", "inverted_file"),
    *("lists_on_disk_and_stacked", "kmeans", "other_clusterings", "neighbours_of_arrays", "bits", "tensors"),
)


#: Operations in which a Python float counts as a number of the default dtype.
_ARITHMETIC = {"add", "clamp", "div", "eq", "ge", "gt", "le", "lt", "mul", "ne", "pow", "sub", "where"}


@pytest.fixture(scope="module")
def ordinary() -> dict[str, Any]:
    """What all operations give in a program that leaves torch's settings alone."""
    given = operations.run(faiss_torch)
    assert not [text for text in given.values() if isinstance(text, str)]
    return given


def differences(found: Any, expected: Any) -> Iterator[str]:
    """Where two results differ, down to the last bit."""
    if isinstance(found, str) and found != expected:  # a type, or an error
        yield f"{found} instead of {expected if isinstance(expected, str) else 'results'}"
    elif isinstance(expected, np.ndarray):
        if found.dtype != expected.dtype or not np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f"):
            yield f"{found!r} instead of {expected!r}"
    elif isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            yield from differences(one, other)
    elif found != expected:
        yield f"{found!r} instead of {expected!r}"


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = {name: next(differences(found[name], expected[name]), None) for name in found}
    assert {name: what for name, what in wrong.items() if what is not None} == {}


@pytest.mark.slow
@pytest.mark.parametrize("setting", FROM_THE_START)
def test_a_setting_from_the_start(ordinary: dict[str, Any], setting: str, tmp_path: pathlib.Path) -> None:
    package = pathlib.Path(faiss_torch.__file__).parents[1]
    subprocess.run(
        [sys.executable, operations.__file__, setting, str(tmp_path / "given")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])},
        check=True,
        capture_output=True,
    )
    found = pickle.loads((tmp_path / "given").read_bytes())
    assert len(found) == len(ordinary) == 2 * len(operations.OPERATIONS)
    assert_same(found, ordinary)


@pytest.mark.slow
@pytest.mark.parametrize("setting", sorted(set(SETTINGS) - set(FROM_THE_START)))
def test_a_setting_for_a_while(ordinary: dict[str, Any], setting: str) -> None:
    assert_same(operations.run(faiss_torch, SOME, SETTINGS[setting]), ordinary)


def test_what_flushed_denormals_would_change(ours: ModuleType) -> None:
    x = np.full((3, 8), 1e-21, dtype="float32")
    with SETTINGS["flushed denormals"]():
        flushed = torch.full((1,), 1e-21) ** 2
        index = ours.IndexFlatL2(8)
        index.add(x)
        found = [index.search(np.zeros((nq, 8), dtype="float32"), 3)[0] for nq in (1, 200)]
    assert flushed == 0
    assert all((D > 0).all() for D in found)


class _Promotions(TorchDispatchMode):
    """Notes where operations on integers alone give floats that nobody has named the dtype of, or meet a float."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given, _ = tree_flatten((args, kwargs or {}))
        tensors = [each for each in given if isinstance(each, torch.Tensor)]
        if not tensors or any(each.is_floating_point() for each in tensors) or "dtype" in (kwargs or {}):
            return result
        name = function.overloadpacket.__name__
        gives_floats = isinstance(result, torch.Tensor) and result.is_floating_point() and name != "view"
        if gives_floats or (name in _ARITHMETIC and any(isinstance(each, float) for each in given)):
            lines = [each for each in traceback.extract_stack() if "faiss_torch" in pathlib.Path(each.filename).parts]
            self.found.add(f"{name}: {lines[-1].filename}:{lines[-1].lineno}" if lines else name)
        return result


@pytest.mark.slow
def test_integers_meet_no_float_of_the_default_dtype(ours: ModuleType) -> None:
    def noted() -> tuple[set[str], set[str]]:
        with _Promotions() as of_this:
            assert len(torch.arange(3) / 2) == 3
        with _Promotions() as of_operations:
            operations.run(ours, SOME)
        return {each.partition(":")[0] for each in of_this.found}, of_operations.found

    before = ours.omp_get_max_threads()
    ours.omp_set_num_threads(1)
    try:  # what a call calls stays in its thread, to which the mode belongs
        assert workers.conduct(noted, torch.device("cpu")) == ({"div"}, set())
    finally:
        ours.omp_set_num_threads(before)


def test_tensors_of_inference_mode_are_written_in_it_and_outside(ours: ModuleType) -> None:
    index = ours.index_factory(8, "IVF4,Flat")
    x = torch.from_numpy(np.random.RandomState(0).rand(400, 8).astype("float32"))
    index.train(x)
    index.add(x)
    index.make_direct_map()
    expected = index.search(x, 3)
    with torch.inference_mode():
        D, I, one = torch.empty(400, 3), torch.empty(400, 3, dtype=torch.int64), torch.zeros(8)
        index.search(x, 3, D=D, I=I)
        index.reconstruct(5, one)
    assert D.equal(expected[0])
    assert I.equal(expected[1])
    assert one.equal(x[5])
    index.search(x[:200].repeat(2, 1), 3, D=D, I=I)
    assert I[200:].equal(expected[1][:200])


def test_what_is_read_in_inference_mode_is_not_copied(ours: ModuleType) -> None:
    index = ours.IndexFlatL2(8)
    index.add(np.random.RandomState(0).rand(32, 8).astype("float32"))
    data = ours.serialize_index(index)
    with torch.inference_mode():
        read = ours.read_index(ours.ZeroCopyIOReader(ours.swig_ptr(data), data.size))
    assert np.shares_memory(read.codes.array, data)
