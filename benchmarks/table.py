"""The latest record of each case as the table in README.md: ``python -m benchmarks.table [--write]``."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from . import run
from .cases import CASES

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- table of records: python -m benchmarks.table --write -->\n", "<!-- end of the table -->\n"


def latest() -> dict[str, dict[str, Any]]:
    """Return the last record of each case, in the order of the cases."""
    lines = run.RECORDS.read_text().splitlines() if run.RECORDS.exists() else []
    found = {record["case"]: record for record in map(json.loads, lines)}
    return {case.name: found[case.name] for case in CASES if case.name in found}


def table(records: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown, with what it was measured on below it."""
    if not records:
        return "No measurement is recorded yet.\n"
    lines = ["| case | faiss-cpu | alone | faiss_torch | times as fast | recorded |", "|---|---|---|---|---|---|"]
    machines = []
    for name, record in records.items():
        theirs, ours = (1e3 * record["median_seconds"][side] for side in ("faiss", "faiss_torch"))
        alone = 1e3 * record["faiss_alone"]
        where = record["environment"]
        versions = where["versions"]
        machine = (
            f"{where['gpu'] or where['cpu']}, {record['threads']} threads, torch {versions['torch']}, "
            f"faiss-cpu {versions['faiss-cpu']}"
        )
        if machine not in machines:
            machines.append(machine)
        date, commit = where["date"][:10], (where["commit"] or "uncommitted")[:8]
        times = " | ".join(f"{milliseconds:,.1f} ms" for milliseconds in (theirs, alone, ours))
        lines.append(f"| `{name}` | {times} | {record['ratio']:.2f} | {date}, {commit} |")
    return "\n".join([*lines, "", *(f"Measured on: {machine}." for machine in machines), ""])


def readme_with(text: str) -> str:
    """Return README.md with this table in its place."""
    content = README.read_text()
    before, _, rest = content.partition(START)
    _, _, after = rest.partition(END)
    return before + START + text + END + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(readme_with(table(latest())))
    else:
        print(table(latest()), end="")
