"""The plots of the report, made from records."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..records import Record, measurements, profiles
from ..workloads import rivals
from ..workloads.cases import CASES, CPU
from ..workloads.goals import OURS, Figure, figure, goal_text, number, quartiles, rival_key
from . import svg
from .svg import COLOURS, Axis, Line, Point

GREY, BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, OLIVE = COLOURS
Measured = dict[str, dict[str, Record]]


def read(path: pathlib.Path) -> Measured:
    """Return the last record of each case beside each rival, by rival and case."""
    return {rival: measurements(path, rival) for rival in rivals.NAMES}


def goal_rows(measured: Measured) -> list[tuple[Any, Record, Figure]]:
    """Return the cases that have goals, with their records and figures, in the order of the cases."""
    records = measured["faiss-cpu"]
    return [
        (case, records[case.name], figure(records[case.name])) for case in CPU if case.goal and case.name in records
    ]


def goals(measured: Measured) -> str:
    """Each goal, and how much of it is reached."""
    bars = []
    for case, _, found in goal_rows(measured):
        ends = sorted(_share(end, case.goal.goal, found) for end in (found.low, found.high))
        target = goal_text(case.goal, found.quantity)
        bars.append(
            svg.GoalBar(
                label=case.name,
                share=found.share_of(case.goal.goal),
                low=ends[0],
                high=ends[1],
                floor=_share(case.goal.floor, case.goal.goal, found),
                text=f"{found.text} of {case.goal.goal:g}{found.quantity.unit}",
                title=f"{case.name}: {found.text} ({found.quantity.text}), goal and floor {target}",
            )
        )
    return svg.goal_chart("Goals, beside faiss-cpu", bars)


def _share(value: float, goal: float, found: Figure) -> float:
    return goal / max(value, 1e-12) if found.quantity.at_most else value / goal


def sweep(measured: Measured, name: str, line: str, rival: str = "faiss-cpu") -> list[Record]:
    """Return the records of one line of a sweep, in order of x."""
    names = [case.name for case in CASES if case.point and (case.point.sweep, case.point.line) == (name, line)]
    found = [measured[rival][each] for each in names if each in measured[rival]]
    return sorted(found, key=lambda record: float(record["point"]["x"]))


def points(
    records: Sequence[Record],
    side: str,
    x: Callable[[Record], float],
    y: Callable[[Record, float], float],
    unit: str,
) -> list[Point]:
    """Return a point for each record: its x, and its y from the seconds of one side, with the quartiles."""
    found = []
    for record in records:
        runs = record["seconds"][side]
        low, high = sorted(y(record, seconds) for seconds in quartiles(runs))
        value = y(record, statistics.median(runs))
        title = f"{side}: {number(value)} {unit} ({number(low)} to {number(high)})"
        found.append(Point(x(record), value, low, high, f"{title}; {_setting(record)}"))
    return found


def _setting(record: Record) -> str:
    """Return what is searched, and how, in one line."""
    work = record["workload"]
    lists = f", nlist={work['nlist']}, nprobe={work['nprobe']}" if record["point"]["line"] != "flat" else ""
    path = f", path {record['path'][0]}" if record.get("path") else ""
    return f"nb={work['nb']:,}, d={work['d']}, nq={work['nq']:,}, k={work['k']}{lists}{path}"


def at_x(record: Record) -> float:
    """Return where a record stands in its sweep."""
    return float(record["point"]["x"])


def per_second(record: Record, seconds: float) -> float:
    """Return queries per second."""
    return float(record["workload"]["nq"]) / seconds


def per_query(record: Record, seconds: float) -> float:
    """Return milliseconds per query."""
    return 1e3 * seconds / float(record["workload"]["nq"])


QPS = Axis("queries per second")


def _lines(measured: Measured, name: str, line: str, x: Callable[[Record], float] = at_x) -> list[Line]:
    """Return queries per second of faiss-cpu, this library and each rival along one line of a sweep."""
    records = sweep(measured, name, line)
    lines = [
        Line("faiss-cpu", points(records, "faiss", x, per_second, "QPS"), GREY),
        Line("faiss_torch", points(records, OURS, x, per_second, "QPS"), BLUE),
    ]
    for rival, colour in zip(rivals.RIVALS, (PURPLE, RED, OLIVE), strict=False):  # the last one is in no sweep
        records = sweep(measured, name, line, rival)
        lines.append(Line(rival, points(records, rival_key(rival), x, per_second, "QPS"), colour))
    return lines


def nq_ivf(measured: Measured) -> str:
    """Queries per second by the size of the batch, of each path and rival."""
    return _by_path(measured, "nq_ivf", "IVF-Flat: nb=262,144, d=128, nlist=512, nprobe=32, k=20")


def _by_path(measured: Measured, name: str, title: str) -> str:
    lines = _lines(measured, name, "auto")
    for path, colour in (("matrix", ORANGE), ("csr", GREEN)):
        records = sweep(measured, name, path)
        lines.append(
            Line(f"faiss_torch, path {path}", points(records, OURS, at_x, per_second, "QPS"), colour, dashed=True)
        )
    return svg.line_chart(title, Axis("nq, queries in a batch"), QPS, lines)


def gpu_nq(measured: Measured) -> str:
    """Queries per second on a GPU by the size of the batch, of each path and rival."""
    title = "IVF-Flat on a GPU: nb=262,144, d=128, nlist=512, nprobe=32, k=20"
    return _by_path(measured, "gpu_nq", title + _crossing(measured))


def _crossing(measured: Measured) -> str:
    """Say from which batch on the path csr is the faster one, if it is known."""
    matrix, csr = (
        {at_x(record): statistics.median(record["seconds"][OURS]) for record in sweep(measured, "gpu_nq", path)}
        for path in ("matrix", "csr")
    )
    faster = [nq for nq in sorted(set(matrix) & set(csr)) if csr[nq] < matrix[nq]]
    return f"; csr is faster from nq={faster[0]:,.0f} on" if faster else ""


def nq_flat(measured: Measured) -> str:
    """Queries per second of a flat index by the size of the batch."""
    title = "Flat: nb=262,144, d=128, k=10"
    return svg.line_chart(title, Axis("nq, queries in a batch"), QPS, _lines(measured, "nq_flat", "flat"))


def recall(measured: Measured, sweep_name: str = "recall", where: str = "", nq: str = "1,000") -> str:
    """Queries per second by recall, along nprobe."""
    lines = []
    for rival, colour in zip(rivals.NAMES, (GREY, PURPLE, RED, OLIVE), strict=False):
        records, side = sweep(measured, sweep_name, "debian_minilm", rival), rival_key(rival)
        lines.append(Line(rival, _by_recall(records, side), colour))
    ours = sweep(measured, sweep_name, "debian_minilm")
    lines.insert(1, Line("faiss_torch", _by_recall(ours, OURS), BLUE))
    title = f"IVF-Flat{where}: debian_minilm, 58,004 x 384, nlist=256, nprobe 1 to 128, nq={nq}"
    return svg.line_chart(title, Axis("recall@10", logarithmic=False), QPS, lines)


def _by_recall(records: Sequence[Record], side: str) -> list[Point]:
    return points(records, side, lambda record: float(record["recall"][side]), per_second, "QPS")


def growth(measured: Measured) -> str:
    """Time of a query by the number of vectors."""
    lines = []
    for kind, label, dashed in (("ivf", "IVF512,Flat, nprobe=32, nq=512", False), ("flat", "Flat, nq=128", True)):
        records = sweep(measured, "nb", kind)
        for side, name, colour in (("faiss", "faiss-cpu", GREY), (OURS, "faiss_torch", BLUE)):
            found = points(records, side, at_x, per_query, "ms")
            lines.append(Line(f"{name}, {label}", found, colour, dashed))
    return svg.line_chart("Growth with nb (d=128)", Axis("nb, vectors"), Axis("milliseconds per query"), lines)


def by_k(measured: Measured) -> str:
    """Queries per second by k."""
    title = "IVF-Flat: nb=262,144, d=128, nlist=512, nprobe=32, nq=1,024"
    return svg.line_chart(title, Axis("k"), QPS, _lines(measured, "k", "ivf"))


def by_d(measured: Measured) -> str:
    """Queries per second by d."""
    title = "IVF-Flat: nb=65,536, nlist=256, nprobe=16, k=20, nq=1,024"
    return svg.line_chart(title, Axis("d, dimensions"), QPS, _lines(measured, "d", "ivf"))


def lists(measured: Measured) -> str:
    """Times as fast as faiss-cpu by nprobe, for several nlist."""
    lines = []
    for nlist, colour in ((128, ORANGE), (512, BLUE), (2048, GREEN)):
        found = []
        for record in sweep(measured, "nlist_nprobe", f"nlist{nlist}"):
            reached = figure(record)
            title = f"{reached.text} ({reached.spread}); {_setting(record)}"
            found.append(Point(at_x(record), reached.value, reached.low, reached.high, title))
        lines.append(Line(f"nlist={nlist}", found, colour))
    title = "IVF-Flat: nlist and nprobe (nb=262,144, d=128, k=20, nq=512)"
    return svg.line_chart(title, Axis("nprobe"), Axis("times as fast as faiss-cpu", reaches=1.0), lines)


#: Parts of a run that are shown by themselves; the others are taken together.
LARGEST_STEPS = 6


def steps(path: pathlib.Path) -> str:
    """The time of a run by step."""
    stacks = []
    found = profiles(path)
    for name in (case.name for case in CASES if case.name in found):
        profile = found[name]
        parts = list(profile["steps"].items())
        rest = sum(size for _, size in parts[LARGEST_STEPS:])
        parts = parts[:LARGEST_STEPS] + ([(svg.OTHER, rest)] if rest else [])
        stacks.append(svg.Stack(name, parts, f"{1e3 * profile['seconds_of_run']:,.4g} ms"))
    note = "Sampled: where this library's threads were, by function of the engine."
    return svg.stacked_chart("Time by step", stacks, note)


def all_plots(path: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Return each plot's SVG and a line that says how to read it, by the name of its file."""
    measured = read(path)
    return {
        "goals": (
            goals(measured),
            "A bar ends at the ratio of medians; the thin line is its range by quartiles.",
        ),
        "qps_nq_ivf": (nq_ivf(measured), "Higher is better. Each point is a median, its stroke the quartiles."),
        "qps_nq_flat": (nq_flat(measured), "Exact search, higher is better."),
        "recall_qps": (recall(measured), "Up and to the right is better; both sides probe the same lists."),
        "steps": (steps(path), "Which part of a search takes how much of it."),
        "growth_nb": (growth(measured), "Lower is better. A straight line of slope 1 is cost in proportion to nb."),
        "lists": (lists(measured), "Above 1 this library is faster than faiss-cpu."),
        "qps_k": (by_k(measured), "Higher is better."),
        "qps_d": (by_d(measured), "Higher is better."),
        **gpu_plots(measured),
    }


def gpu_plots(measured: Measured) -> dict[str, tuple[str, str]]:
    """Return the plots of what was measured on a GPU; none where nothing was."""
    found = {}
    if sweep(measured, "gpu_nq", "auto"):
        found["gpu_qps_nq"] = (gpu_nq(measured), "Queries and results are on the GPU; faiss-cpu has all cores.")
    if sweep(measured, "gpu_recall", "debian_minilm"):
        chart = recall(measured, "gpu_recall", " on a GPU", "2,000")
        found["gpu_recall_qps"] = (chart, "Up and to the right is better; all sides probe the same lists.")
    return found


class Worth(NamedTuple):
    """What a machine does for its price.

    Attributes
    ----------
    side, machine : str
    per_second : float
        Queries, at the least recall that is asked for or above.
    dollars : float
        Of the machine for an hour.
    """

    side: str
    machine: str
    per_second: float
    dollars: float

    @property
    def queries_per_dollar(self) -> float:
        """Queries for a dollar."""
        return self.per_second * 3600 / self.dollars


def worth(measured: Measured, prices: Mapping[str, float], least_recall: float) -> list[Worth]:
    """Return what each side does for its price, the best first.

    Parameters
    ----------
    measured : Measured
    prices : mapping of str to float
        Dollars an hour of machines, by a part of the name of their GPU, or of their CPU for what needs no GPU.
    least_recall : float
        Of the runs of the sweeps over recall that count, the fastest ones do.
    """
    best: dict[tuple[str, str], Worth] = {}
    for name in ("recall", "gpu_recall"):
        for rival in rivals.NAMES:
            for record in sweep(measured, name, "debian_minilm", rival):
                for side, reached in record["recall"].items():
                    where = record["environment"]
                    machine = where["cpu"] if name == "recall" or side == "faiss" else where["gpu"]
                    price = next((price for part, price in prices.items() if part in (machine or "")), None)
                    if price is None or reached < least_recall:
                        continue
                    speed = per_second(record, statistics.median(record["seconds"][side]))
                    found = Worth(side, machine, speed, price)
                    if (side, machine) not in best or best[side, machine].per_second < speed:
                        best[side, machine] = found
    return sorted(best.values(), key=lambda each: -each.queries_per_dollar)
