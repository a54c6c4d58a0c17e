"""docs/api is what the package and its gaps print, and every name stands there once."""

from __future__ import annotations

import inspect
import re

from faiss_torch import names
from faiss_torch.gaps import GAPS

from .api_pages import (
    AREAS_BY_MODULE,
    FOLDER,
    always_offered,
    area_of,
    attributes,
    offered,
    pages,
    shares,
    signature,
)
from .gpu_names import GPU_NAMES
from .names import EXTENSIONS, names_of


def test_the_committed_pages_are_the_printed_ones():
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    assert committed == pages(), "run python -m compat_tests.surface.api_pages"


def test_every_name_stands_on_one_page():
    found = pages()
    text = "\n".join(text for name, text in found.items() if name not in ("gaps.md", "README.md"))
    names = re.findall(r"^(?:### |- )`(\w+)", text, re.MULTILINE)
    for each in offered():
        assert names.count(each.name) >= 1, each.name
    classes = [each.name for each in offered() if inspect.isclass(each.value)]
    assert sorted(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) == sorted(classes)
    for name in GAPS:
        assert f"`{name}`" in found["gaps.md"], name


def test_no_page_depends_on_the_machine():
    for text in pages().values():
        assert not re.search(r" at 0x[0-9a-f]+", text)
        assert "device(type=" not in text


def test_shares_add_up(reference):
    total = shares()[-1]
    assert total[0] == "all"
    assert total[2] == len(names_of(reference) | GPU_NAMES), "every name of faiss is counted once"
    assert total[2] - total[1] == len(GAPS)
    assert total[1] == len({each.name for each in offered()} - EXTENSIONS)


def test_every_name_has_an_area():
    assert set(always_offered()) <= names.MODULE_OF.keys()
    areas = {area_of(names.MODULE_OF[name]) for name in always_offered()}
    assert areas | {"GPUs"} == {area for area, _ in AREAS_BY_MODULE}


def test_signature_and_attributes():
    def function(self, x: int, *, y: str = "a", **z: float) -> bool: ...

    assert signature(function) == "(x: int, *, y: str = 'a', **z: float) -> bool"

    class Described:
        """A class.

        Attributes
        ----------
        a, b : int
            Two numbers.
        c

        Notes
        -----
        d : none
        """

    assert attributes(Described) == ["a", "b", "c"]
