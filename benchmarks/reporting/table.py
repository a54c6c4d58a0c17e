"""The latest record of each case as the table in README.md: ``python -m benchmarks.reporting.table [--write]``."""

from __future__ import annotations

import argparse
import pathlib
import statistics
from collections.abc import Iterable

from .. import records
from ..records import Record
from ..workloads.cases import CASES
from ..workloads.goals import OURS, figure, goal_text, runs_of

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
START, END = "<!-- table of records: python -m benchmarks.reporting.table --write -->\n", "<!-- end of the table -->\n"


def latest(path: pathlib.Path = records.RECORDS) -> dict[str, Record]:
    """Return the last record of each case beside faiss-cpu, in the order of the cases, without the sweeps."""
    found = records.measurements(path)
    return {case.name: found[case.name] for case in CASES if case.name in found and case.suite != "sweeps"}


def machines_of(found: Iterable[Record]) -> list[str]:
    """Return what records were made on, each machine and its versions once."""
    machines: dict[str, None] = {}
    for record in found:
        where = record["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items() if name != "numpy")
        machines[f"{where['gpu'] or where['cpu']}, {record['threads']} threads, {versions}"] = None
    return list(machines)


def time(seconds: float) -> str:
    """Return a time in milliseconds, to the microsecond where it is less than one of them."""
    return f"{1e3 * seconds:,.1f} ms" if seconds >= 1e-3 else f"{1e3 * seconds:.3f} ms"


def amount(record: Record, side: str) -> str:
    """Return the median of one side with its unit."""
    median = statistics.median(runs_of(record)[side])
    if "bytes" in record:
        return f"{median / (1 << 20):,.1f} MiB"
    return time(median)


def table(found: dict[str, Record]) -> str:
    """Return the table in Markdown, with what it was measured on below it."""
    if not found:
        return "No measurement is recorded yet.\n"
    goals = {case.name: case.goal for case in CASES}
    lines = [
        "| case | faiss-cpu | alone | faiss_torch | times as fast (range by quartiles) | goal (floor) | recorded |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, record in found.items():
        reached, goal, where = figure(record), goals[name], record["environment"]
        alone = time(record["faiss_alone"]) if "faiss_alone" in record else ""
        words = "" if record.get("quantity", "speed") == "speed" else f", {reached.quantity.text}"
        cells = [
            f"`{name}`",
            amount(record, "faiss"),
            alone,
            amount(record, OURS),
            f"{reached.text} ({reached.spread}){words}",
            goal_text(goal, reached.quantity) if goal else "",
            f"{where['date'][:10]}, {(where['commit'] or 'uncommitted')[:8]}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"Measured on: {machine}." for machine in machines_of(found.values())), ""])


def readme_with(text: str) -> str:
    """Return README.md with this table in its place."""
    content = README.read_text(encoding="utf-8")
    before, _, rest = content.partition(START)
    _, _, after = rest.partition(END)
    return before + START + text + END + after


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or write it into README.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reporting.table", description="The table of records in README"
    )
    parser.add_argument("--write", action="store_true", help="write it into README.md")
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS, help="the file of records")
    options = parser.parse_args(arguments)
    text = table(latest(options.records))
    if options.write:
        README.write_text(readme_with(text), encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    main()
