"""Prints docs/format.md from the records: ``python -m faiss_torch.io.describe > docs/format.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .list_fields import Lists
from .not_offered import INDEXES_NOT_OFFERED, LISTS_NOT_OFFERED
from .primitives import MAX_NESTING
from .records.table import RECORDS, Record, flat, header, ivf_header

INTRODUCTION = f"""\
# The format of index files

*Printed from `RECORDS` by `python -m faiss_torch.io.describe > docs/format.md`; a test holds the two
together.*

The bytes are those of faiss 1.15, in both directions. Numbers are little-endian and nothing is aligned or
padded. An index begins with four characters, its fourcc, which say which fields follow. A vector is its
number of elements (uint64) and then the elements. An index inside another one stands there whole, its
fourcc included, at most {MAX_NESTING} levels deep; `null` alone stands for no index.

Lines marked (rule) take no bytes: a file that breaks one is refused with the name of the field. Lines
marked (nothing) take no bytes either: the attribute follows from the ones before.
"""


def table(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """A Markdown table of field rows."""
    yield "| type | name | meaning |"
    yield "|---|---|---|"
    for cells in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def section(record: Record) -> Iterator[str]:
    """The lines about one record; the parts that have a section of their own are named there."""
    yield f"## `{record.fourcc}`: {record.cls.__name__}"
    yield ""
    if record.legacy:
        yield "Read only: faiss no longer writes it."
        yield ""
    if record.becomes is not None:
        yield f"Read as {record.becomes.__name__}."
        yield ""
    rows = []
    fields = record.fields
    for title, part in (("Flat", flat), ("IVF header", ivf_header), ("Header", header)):
        if fields[: len(part)] == part:
            rows.append(("(part)", title, "see above"))
            fields = fields[len(part) :]
            break
    for field in fields:
        rows += [("(part)", "Inverted lists", "see above")] if isinstance(field, Lists) else field.rows()
    yield from table(rows)


def lines() -> Iterator[str]:
    """The whole page, line by line."""
    yield from INTRODUCTION.splitlines()
    yield ""
    for title, part in (("Header", header), ("Flat", flat), ("IVF header", ivf_header)):
        yield f"## {title}"
        yield ""
        own = part if part is header else part[len(header) :]
        rows = [] if part is header else [("(part)", "Header", "see above")]
        yield from table([*rows, *(row for field in own for row in field.rows())])
    yield "## Inverted lists"
    yield ""
    yield from table(Lists("invlists").rows())
    for record in RECORDS:
        yield from section(record)
    yield "## Not offered yet"
    yield ""
    yield "These are refused by name."
    yield ""
    yield from not_offered()


def not_offered() -> Iterator[str]:
    """The table of fourccs that are refused."""
    yield "| fourcc | class |"
    yield "|---|---|"
    for fourcc, name in sorted({**INDEXES_NOT_OFFERED, **LISTS_NOT_OFFERED}.items()):
        yield f"| `{fourcc.decode()}` | {name} |"


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    print(page(), end="")
