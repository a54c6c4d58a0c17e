"""What a case is to reach: quantities that are worked out from the runs of a record, and the goals set for them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

Runs = Mapping[str, list[float]]
OURS = "faiss_torch"
MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A figure that is made of two series of runs.

    Attributes
    ----------
    text : str
        What the figure says.
    unit : str
        How it is written behind the number.
    at_most : bool
        Whether less is better.
    of : function (runs, rival) -> (series, series or None, factor)
        The figure of a record is the median of the first series over that of the second, times the factor.
    """

    text: str
    unit: str
    at_most: bool
    of: Callable[[Runs, str], tuple[list[float], list[float] | None, float]]


QUANTITIES = {
    "speed": Quantity("times as fast", "x", False, lambda runs, rival: (runs[rival], runs[OURS], 1.0)),
    "memory": Quantity("memory, times the other's", "x", True, lambda runs, rival: (runs[OURS], runs[rival], 1.0)),
    "peak": Quantity("memory beyond the index", " MiB", True, lambda runs, rival: (runs[OURS], None, 1 / MEBIBYTE)),
    "import": Quantity("time to import", " s", True, lambda runs, rival: (runs[OURS], None, 1.0)),
    "busy": Quantity(
        "time with a busy core, times quiet", "x", True, lambda runs, rival: (runs[f"{OURS} busy"], runs[OURS], 1.0)
    ),
    "two_threads": Quantity(
        "throughput of two threads, times one",
        "x",
        False,
        lambda runs, rival: (runs[OURS], runs[f"{OURS} two threads"], 1.0),
    ),
}


@dataclasses.dataclass(frozen=True)
class Goal:
    """What is aimed at, and what is the least (of memory: the most) to be accepted; in the quantity's unit."""

    goal: float
    floor: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """The figure of a record, and the range in which the quartiles of its runs put it."""

    quantity: Quantity
    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The figure with its unit."""
        return written(self.value, self.quantity)

    @property
    def spread(self) -> str:
        """The range."""
        return f"{number(self.low)} to {number(self.high)}"

    def share_of(self, goal: float) -> float:
        """Return how much of a goal is reached, 1 where it just is, whichever direction is better."""
        return goal / max(self.value, 1e-12) if self.quantity.at_most else self.value / goal


def number(value: float) -> str:
    """Return a number with about three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def written(value: float, quantity: Quantity) -> str:
    """Return a number with its unit."""
    return number(value) + quantity.unit


def goal_text(goal: Goal, quantity: Quantity) -> str:
    """Return goal and floor as they are set, such as "12x (6x)"."""
    return f"{goal.goal:g}{quantity.unit} ({goal.floor:g}{quantity.unit})"


def quartiles(runs: list[float]) -> tuple[float, float]:
    """Return the first and the third quartile."""
    if len(runs) < 2:
        return runs[0], runs[0]
    first, _, third = statistics.quantiles(runs, n=4, method="inclusive")
    return first, third


def runs_of(record: Mapping[str, Any]) -> Runs:
    """Return the single runs of a record: seconds, or bytes."""
    runs: Runs = record["bytes"] if "bytes" in record else record["seconds"]
    return runs


def rival_key(rival: str) -> str:
    """Return the name of a rival's runs: faiss-cpu's are those of the module ``faiss``."""
    return "faiss" if rival == "faiss-cpu" else rival


def figure(record: Mapping[str, Any]) -> Figure:
    """Return the figure of a record: the ratio of medians, and how far the quartiles of both sides let it range."""
    quantity = QUANTITIES[record.get("quantity", "speed")]
    above, below, factor = quantity.of(runs_of(record), rival_key(record.get("rival", "faiss-cpu")))
    low, high = (factor * end for end in quartiles(above))
    value = factor * statistics.median(above)
    if below is not None:
        first, third = quartiles(below)
        value, low, high = value / statistics.median(below), low / third, high / first
    return Figure(quantity, value, low, high)
