"""Every class, function, method and property that is offered says in its first line what it is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from .api_pages import methods, offered

#: The words that NumPy's style gives the sections of a docstring.
SECTIONS = {"Parameters", "Returns", "Raises", "Attributes", "Notes", "See Also", "Examples", "Yields", "Warns"}


def documented() -> Iterator[tuple[str, object]]:
    """All functions and classes, and the methods and properties of the classes, that are offered."""
    names = offered()
    public = [each.value for each in names if inspect.isclass(each.value)]
    for each in names:
        if inspect.isclass(each.value):
            yield each.name, each.value
            for method, _ in methods(each.value, public):
                yield f"{each.name}.{method}", inspect.getattr_static(each.value, method)
        elif callable(each.value):
            yield each.name, each.value


def docstrings() -> dict[str, str]:
    """Their docstrings; that of the base where a method has none."""
    found = dict(documented())
    texts = {}
    for name in found:
        cls, _, method = name.partition(".")
        texts[name] = inspect.getdoc(getattr(found[cls], method) if method else found[cls]) or ""
    return texts


def test_everything_has_a_summary():
    summaries = {name: text.partition("\n\n")[0] for name, text in docstrings().items()}
    assert len(summaries) > 800
    assert {name for name, summary in summaries.items() if not summary} == set(), "no docstring"
    assert {name for name, summary in summaries.items() if summary and summary[-1] not in ".:"} == set()
    assert {name for name, summary in summaries.items() if len(summary) > 300} == set(), "longer than a summary"


def test_sections_are_those_of_numpy():
    titles = {
        (name, title, len(rule) == len(title))
        for name, text in docstrings().items()
        for title, rule in re.findall(r"^(\S[^\n]*)\n(-{3,})$", text, re.MULTILINE)
    }
    assert len(titles) > 300
    assert {entry for entry in titles if entry[1] not in SECTIONS or not entry[2]} == set()
