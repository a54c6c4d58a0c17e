"""The module for ann-benchmarks, driven as that project drives it."""

from __future__ import annotations

import importlib
import itertools
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "ann_benchmarks"


@pytest.fixture
def algorithms(tmp_path, monkeypatch):
    """A package ann_benchmarks.algorithms with a base class and this project's folder."""
    for folder in ("ann_benchmarks", "ann_benchmarks/algorithms", "ann_benchmarks/algorithms/base"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    base = "class BaseANN:\n    def done(self):\n        pass\n"
    (tmp_path / "ann_benchmarks/algorithms/base/module.py").write_text(base)
    shutil.copytree(FOLDER, tmp_path / "ann_benchmarks/algorithms/faiss_torch")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("ann_benchmarks.algorithms.base.module")
    for name in [name for name in sys.modules if name.split(".")[0] == "ann_benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


def definitions(metric):
    """The runs that config.yml asks for: constructor, its arguments, and the arguments of queries."""
    config = yaml.safe_load((FOLDER / "config.yml").read_text())
    for entry in config["float"]["any"]:
        assert {"docker_tag", "module", "name", "disabled"} <= set(entry)
        for group in entry["run_groups"].values():
            for arguments in itertools.product(*group["args"]):
                base = [metric if each == "@metric" else each for each in entry["base_args"]]
                queries = list(itertools.product(*group["query_args"])) if "query_args" in group else [()]
                yield entry["module"], entry["constructor"], [*base, *arguments], queries


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_as_ann_benchmarks_does(algorithms: types.ModuleType, metric):
    """Fit, queries one by one, and a batch: the same ids, and those of the exact neighbours where all is searched."""
    rng = np.random.default_rng(0)
    X, Q = rng.standard_normal((3000, 12)), rng.standard_normal((20, 12))
    before = X.copy()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "angular" else x for x in (X, Q)]
    exact = np.argsort(((unit[1][:, None] - unit[0][None]) ** 2).sum(axis=2), axis=1)[:, :10]
    seen = set()
    for module, constructor, arguments, query_groups in definitions(metric):
        if len(arguments) > 1 and arguments[1] > 64:
            continue
        algorithm = getattr(importlib.import_module(f"{module}.module"), constructor)(*arguments)
        assert isinstance(algorithm, algorithms.BaseANN)
        algorithm.fit(X)
        for query_arguments in query_groups:
            if query_arguments:
                algorithm.set_query_arguments(*query_arguments)
            single = [algorithm.query(q, 10) for q in Q]
            algorithm.batch_query(Q, 10)
            assert [row.tolist() for row in algorithm.get_batch_results()] == [row.tolist() for row in single]
            found = np.mean([np.isin(row, one).mean() for row, one in zip(exact, single, strict=True)])
            everything = not query_arguments or query_arguments[0] >= arguments[1]
            assert found == 1 if everything else found > 0.1
            seen.add(str(algorithm))
        algorithm.done()
    assert {"FaissTorchFlat()", "FaissTorchIVF(n_list=32, n_probe=1)", "FaissTorchIVF(n_list=64, n_probe=200)"} <= seen
    np.testing.assert_array_equal(X, before)


def test_places_without_a_result(algorithms):
    """ann-benchmarks gets ids only."""
    module = importlib.import_module("ann_benchmarks.algorithms.faiss_torch.module")
    algorithm = module.FaissTorchFlat("euclidean")
    algorithm.fit(np.eye(3, dtype=np.float32))
    assert algorithm.query(np.zeros(3), 5).tolist() == [0, 1, 2]
    algorithm.batch_query(np.zeros((2, 3)), 5)
    assert [row.tolist() for row in algorithm.get_batch_results()] == [[0, 1, 2]] * 2
    with pytest.raises(NotImplementedError, match="hamming"):
        module.FaissTorchIVF("hamming", 4)
