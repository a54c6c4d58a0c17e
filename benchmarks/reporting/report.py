"""The records as one page and as plots: ``python -m benchmarks.reporting.report``.

Writes ``report.html``, which needs nothing beside itself, and each plot as an SVG.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping
from html import escape

from .. import records
from ..workloads.goals import goal_text
from . import plots
from .table import machines_of

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "benchmarks"

#: Recall from which on queries for a dollar are compared.
LEAST_RECALL = 0.95

STYLE = """
:root{color-scheme:light dark;--text:#24292f;--muted:#656d76;--line:#d8dee4;--back:#ffffff}
@media (prefers-color-scheme:dark){:root{--text:#d6dde4;--muted:#9199a1;--line:#2b3138;--back:#0d1117}}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;color:var(--text);
background:var(--back);max-width:900px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;width:100%;font-size:12.5px}
td,th{border-bottom:1px solid var(--line);padding:3px 6px;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}
svg{max-width:100%;height:auto;margin:1.4em 0 0}
p.note{color:var(--muted);margin:.2em 0 0;font-size:13.5px}
.reached{color:#2f9a68}.floor{color:#2f7dc4}.below{color:#d17a22}
"""


def _row(cells: list[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def goals_table(measured: plots.Measured) -> str:
    """Return the goals as an HTML table."""
    head = ["case", "what", "goal (floor)", "reached", "range", "state", "recorded"]
    lines = [_row(head, "th")]
    for case, record, found in plots.goal_rows(measured):
        better = found.share_of(case.goal.goal) >= 1
        accepted = found.share_of(case.goal.floor) >= 1
        state, words = ("reached", "goal") if better else ("floor", "floor") if accepted else ("below", "below")
        where = record["environment"]
        lines.append(
            _row(
                [
                    escape(case.name),
                    escape(found.quantity.text),
                    escape(goal_text(case.goal, found.quantity)),
                    f"<b>{escape(found.text)}</b>",
                    escape(found.spread),
                    f'<span class="{state}">{words}</span>',
                    escape(f"{where['date'][:10]}, {(where['commit'] or 'uncommitted')[:8]}"),
                ]
            )
        )
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def worth_table(measured: plots.Measured, prices: Mapping[str, float], least_recall: float) -> str:
    """Return what is done for a dollar as an HTML table, with its heading; nothing where no price is known."""
    found = plots.worth(measured, prices, least_recall)
    if not found:
        return ""
    lines = [_row(["side", "machine", "queries per second", "dollars an hour", "queries for a dollar"], "th")]
    for each in found:
        figures = [f"{each.per_second:,.0f}", f"{each.dollars:g}", f"{each.queries_per_dollar:,.0f}"]
        lines.append(_row([escape(each.side), escape(each.machine), *figures]))
    heading = f"<h2>Queries for a dollar, at a recall of {least_recall:g} or more</h2>"
    return heading + "\n<table>\n" + "\n".join(lines) + "\n</table>\n"


def page(path: pathlib.Path, prices: Mapping[str, float] | None = None, least_recall: float = LEAST_RECALL) -> str:
    """Return the whole page."""
    measured = plots.read(path)
    found = [record for each in measured.values() for record in each.values()]
    machines = "".join(f'<p class="note">Measured on: {escape(machine)}.</p>\n' for machine in machines_of(found))
    figures = "\n".join(f'{svg}<p class="note">{escape(note)}</p>' for svg, note in plots.all_plots(path).values())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>faiss_torch: benchmarks</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<h1>faiss_torch: benchmarks</h1>\n"
        "<p>Both sides take turns in one process, on the same data and the same lists, and their results were equal. "
        "A figure is the ratio of the medians, with the range in which the quartiles of both sides put it.</p>\n"
        f"{machines}<h2>Goals</h2>\n{goals_table(measured)}\n"
        f"{worth_table(measured, prices or {}, least_recall)}<h2>Plots</h2>\n{figures}\n</body>\n</html>\n"
    )


def write(
    path: pathlib.Path,
    folder: pathlib.Path,
    prices: Mapping[str, float] | None = None,
    least_recall: float = LEAST_RECALL,
) -> list[pathlib.Path]:
    """Write the page and the plots, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"report.html": page(path, prices, least_recall)}
    contents |= {f"{name}.svg": svg for name, (svg, _) in plots.all_plots(path).items()}
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def main(arguments: list[str] | None = None) -> int:
    """Write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reporting.report", description="The records as a page and plots"
    )
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS, help="the file of records")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER, help="the folder to write to")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="MACHINE=DOLLARS",
        help="what a machine costs an hour, by a part of the name of its GPU or CPU; may be repeated",
    )
    parser.add_argument("--recall", type=float, default=LEAST_RECALL, help="least recall of what is compared by price")
    options = parser.parse_args(arguments)
    try:
        prices = {name: float(dollars) for name, _, dollars in (each.rpartition("=") for each in options.price)}
    except ValueError:
        parser.error(f"--price: got {options.price}, expected MACHINE=DOLLARS")
    for file in write(options.records, options.output, prices, options.recall):
        print(file)
    return 0


if __name__ == "__main__":
    main()
