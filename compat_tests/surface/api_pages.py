"""Prints docs/api from the package and its table of gaps: ``python -m compat_tests.surface.api_pages``."""

from __future__ import annotations

import collections
import importlib
import inspect
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import faiss_torch
from faiss_torch import gaps, gpu_names, names

from .names import EXTENSIONS, functions_of

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "api"

INTRODUCTION = """\
# The names

*Printed from the package and `faiss_torch/gaps.py` by `python -m compat_tests.surface.api_pages`; a test holds them
together.*

Every public name of faiss-cpu 1.15.1, and of the GPU builds of faiss 1.15.0, is offered or is a gap with a reason.
A class that is a gap can be named, in a tuple for `isinstance`, in an annotation or an import: nothing is an instance
of it, and making one raises with that reason, as a RuntimeError and an AttributeError. So `hasattr(faiss,
"IndexHNSWFlat")` is True; `"IndexHNSWFlat" in dir(faiss)` is False. Using any other gap raises AttributeError with that
reason. The names for GPUs are there where torch sees an accelerator, or after `set_gpu_devices`; the others always, and
`from faiss_torch import *` gives these. `Array` stands for numpy.ndarray or torch.Tensor.
"""

#: (area, the modules whose names belong to it): the first that fits.
AREAS_BY_MODULE = (
    ("Constants", ("constants",)),
    ("Flat indexes", ("indexes.base", "indexes.flat")),
    ("Inverted-file indexes", ("indexes.ivf", "tools.ivflib", "tools.sliding")),
    ("Wrapping and composite indexes", ("indexes",)),
    ("Inverted lists", ("parts.lists",)),
    ("Search parameters and selectors", ("parts.params", "parts.selectors")),
    ("Clustering", ("parts", "tools.kmeans", "tools.batch_kmeans")),
    ("GPUs", ("devices",)),
    ("Factory and parameters", ("factory", "tools.autotune", "tools.operating_points")),
    ("Files", ("io",)),
    ("Random numbers", ("ops.random", "tools.random_arrays")),
    ("Distances, results and arrays", ("tools",)),
    ("Vectors and pointers", ("wrapper",)),
    ("Threads and interrupts", ("threads", "interrupts")),
    ("Names of the wrapper", ("swig",)),
    ("Running old code", ("alias",)),
)


class Name(NamedTuple):
    """One offered name."""

    name: str
    value: Any
    area: str


def area_of(module: str) -> str:
    """The area of a module."""
    return next(
        area
        for area, modules in AREAS_BY_MODULE
        if any(module == each or module.startswith(f"{each}.") for each in modules)
    )


def always_offered() -> list[str]:
    """The offered names, those for GPUs apart."""
    return [name for name in faiss_torch.__all__ if name not in gaps.GAPS | gpu_names.MODULE_OF]


def value_of_gpu_name(name: str) -> Any:
    """What a name stands for where there are GPUs."""
    return getattr(importlib.import_module(f"faiss_torch.{gpu_names.MODULE_OF[name]}"), name)


def offered() -> list[Name]:
    """All offered names, those for GPUs among them, in alphabetical order."""
    always = [Name(name, getattr(faiss_torch, name), area_of(names.MODULE_OF[name])) for name in always_offered()]
    for_gpus = [Name(name, value_of_gpu_name(name), "GPUs") for name in gpu_names.MODULE_OF]
    return sorted(always + for_gpus, key=lambda each: (each.name.lower(), each.name))


def signature(function: Any, of_class: bool = False) -> str:
    """The parameters and the result of a function, without quotation marks around the types."""
    found = inspect.signature(function)
    parts, star = [], False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        star = star or prefix == "*"
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{prefix}{parameter.name}: {parameter.annotation}{default}")
    result = "" if of_class or found.return_annotation in ("None", None) else f" -> {found.return_annotation}"
    return f"({', '.join(parts)}){result}"


def summary(value: Any) -> str:
    """The first line of a docstring, in words that Markdown leaves as they are."""
    first = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return " ".join(first.split()).replace("``", "`")


def attributes(cls: type) -> list[str]:
    """The names in the section Attributes of a class's docstring."""
    text = inspect.cleandoc(cls.__doc__ or "")
    section = re.search(r"^Attributes\n-+\n(.*?)(?=\n\S[^\n]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    lines = section.group(1).splitlines() if section else []
    heads = [line.partition(" : ")[0] for line in lines if line and not line.startswith(" ")]
    return [name for head in heads for name in head.split(", ")]


def methods(cls: type, public: Iterable[type]) -> Iterator[tuple[str, Any]]:
    """The methods and properties of a class that are not those of another offered class below it."""
    others = [base for base in cls.__mro__[1:] if base in public]
    for name, function in functions_of(cls):
        member = inspect.getattr_static(cls, name)
        inherited = any(inspect.getattr_static(base, name, None) is member for base in others)
        if name != "__init__" and not inherited and function.__module__.startswith("faiss_torch"):
            if isinstance(member, property) and not member.__doc__ and name in attributes(cls):
                continue  # the class says what it is
            yield name, member


def entry(each: Name, public: list[type]) -> Iterator[str]:
    """The lines about one name."""
    if inspect.isclass(each.value):
        heading = signature(each.value, of_class=True)
        bases = [f"`{base.__name__}`" for base in each.value.__mro__[1:] if base in public]
        yield f"### `{each.name}`"
        yield ""
        yield f"`{each.name}{heading}`"
        yield ""
        yield summary(each.value)
        yield ""
        if bases:
            yield f"Bases: {', '.join(bases)}."
            yield ""
        if attributes(each.value):
            yield f"Attributes: {', '.join(f'`{name}`' for name in attributes(each.value))}."
            yield ""
        for name, member in methods(each.value, public):
            if isinstance(member, property):
                yield f"- `{name}`: {summary(member)}"
            else:
                yield f"- `{name}{signature(getattr(each.value, name))}`: {summary(getattr(each.value, name))}"
        yield ""
    elif callable(each.value):
        yield f"- `{each.name}{signature(each.value)}`: {summary(each.value)}"
    else:
        shown = f" = {each.value!r}" if isinstance(each.value, (int, float, str)) else ""
        yield f"- `{each.name}{shown}`" + ("" if shown else f": {summary(type(each.value))}")


def page(area: str, entries: list[Name], public: list[type]) -> str:
    """The page of one area: functions and constants, then classes."""
    simple = [each for each in entries if not inspect.isclass(each.value)]
    classes = [each for each in entries if inspect.isclass(each.value)]
    lines = [f"# {area}", ""]
    for each in simple:
        lines += entry(each, public)
    lines += [""] if simple else []
    for each in classes:
        lines += entry(each, public)
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def gap_page() -> str:
    """The page of the gaps, by area and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in gaps.GAPS.items():
        groups.setdefault((gaps.AREAS[name], reason), []).append(name)
    lines = ["# What is not offered", ""]
    for (area, reason), missing in groups.items():
        lines += [f"## {area}", "", f"{reason[0].upper()}{reason[1:]}:", ""]
        classes = [f"`{name}`" for name in missing if name in gaps.CLASSES]
        others = [f"`{name}`" for name in missing if name not in gaps.CLASSES]
        if classes:
            lines += [f"Classes, which can be named: {', '.join(classes)}.", ""]
        if others:
            lines += [f"{'Others: ' if classes else ''}{', '.join(others)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def shares() -> list[tuple[str, int, int]]:
    """By area, how many of faiss's names are offered, and how many there are; the last row is the sum."""
    have = collections.Counter(each.area for each in offered() if each.name not in EXTENSIONS)
    lack = collections.Counter(gaps.AREAS.values())
    areas = [area for area, _ in AREAS_BY_MODULE]
    areas += [area for area in dict.fromkeys(gaps.AREAS.values()) if area not in areas]
    rows = [(area, have[area], have[area] + lack[area]) for area in areas]
    return [*rows, ("all", sum(have.values()), sum(have.values()) + sum(lack.values()))]


def file_of(area: str) -> str:
    """The file name of an area's page."""
    return re.sub(r"[^a-z]+", "_", area.lower()) + ".md"


def index_page(areas: Iterable[str]) -> str:
    """The first page: the share of faiss's names by area, and links."""
    lines = [*INTRODUCTION.splitlines(), "", "| area | offered | of faiss's | |", "|---|---:|---:|---:|"]
    for area, have, total in shares():
        title = f"[{area}]({file_of(area)})" if area in areas else area
        percent = f"{100 * have / total:.0f} %" if total else ""
        lines.append(f"| {title} | {have} | {total} | {percent} |")
    beyond = ", ".join(f"`{name}`" for name in sorted(EXTENSIONS))
    lines += ["", f"Beyond faiss: {beyond}.", "", "[What is not offered, and why](gaps.md)."]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """All pages by file name."""
    entries = offered()
    public = [each.value for each in entries if inspect.isclass(each.value)]
    found = {}
    for area, _ in AREAS_BY_MODULE:
        of_area = [each for each in entries if each.area == area]
        if of_area:
            found[area] = page(area, of_area, public)
    texts = {file_of(area): text for area, text in found.items()}
    return {"README.md": index_page(found), **texts, "gaps.md": gap_page()}


def main() -> None:
    """Write the pages, and print the share of faiss's names that is offered."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    for area, have, total in shares():
        print(f"{area:32} {have:4} of {total:4}")


if __name__ == "__main__":
    main()
