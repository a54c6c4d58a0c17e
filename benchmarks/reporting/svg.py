"""Charts as SVG text: lines over two axes, bars against goals, and stacked bars.

The colours suit light and dark pages (``prefers-color-scheme``), and the size suits the width of a README. What a
point or a bar stands for is in its ``<title>``, which browsers show beside the pointer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from xml.sax.saxutils import escape

WIDTH = 860
FONT = 13
CHARACTER = 6.7  # the mean width of one, at this size of font
COLOURS = ("#7a8087", "#2f7dc4", "#d17a22", "#2f9a68", "#9a62c4", "#c4515c", "#3aa3a8", "#8f8f2a")
MORE_COLOURS = (*COLOURS[1:], "#5560c8", "#b0578f", "#7b5a3c", "#4f7f4a", "#c79a2b")

STYLE = """<style>
.bg{fill:#ffffff}.text{fill:#24292f}.muted{fill:#656d76}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.track{fill:#eaeef2}
.goal{stroke:#24292f}
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.text{fill:#d6dde4}.muted{fill:#9199a1}.grid{stroke:#2b3138}
.axis{stroke:#6e7681}.track{fill:#21262d}.goal{stroke:#d6dde4}}
</style>"""


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a line, the range in which its y lies, and what it stands for."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A line: its name in the legend, its points in order of x, and how it is drawn."""

    label: str
    points: Sequence[Point]
    colour: str
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """What an axis shows, with its unit, whether it is logarithmic, and a value that it has to reach."""

    label: str
    logarithmic: bool = True
    reaches: float | None = None


@dataclasses.dataclass(frozen=True)
class GoalBar:
    """A bar as long as the share of a goal that is reached; 1 is the goal."""

    label: str
    share: float
    low: float
    high: float
    floor: float
    text: str
    title: str


#: The part of a stack that takes the small ones together.
OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Stack:
    """A bar made of parts: their names and sizes."""

    label: str
    parts: Sequence[tuple[str, float]]
    text: str


def short(value: float) -> str:
    """Return a number for an axis: 0.05, 20, 5k, 1M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:.6g}"


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return round values between two, about four to eight of them."""
    if logarithmic and high > 10 * low:
        decades = math.log10(high / low)
        steps: tuple[int, ...] = (1,) if decades > 3 else (1, 3) if decades > 1.7 else (1, 2, 5)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
    else:
        rough = (high - low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        found = [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _range(values: Iterable[float], axis: Axis) -> tuple[float, float]:
    """Return a range that has room around some values."""
    values = [*values, *([] if axis.reaches is None else [axis.reaches])]
    low, high = min(values), max(values)
    if axis.logarithmic:
        room = max(1.12, (high / low) ** 0.04)
        return low / room, high * room
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _scale(low: float, high: float, start: float, end: float, logarithmic: bool) -> Callable[[float], float]:
    """Return the function from values to pixels."""
    change: Callable[[float], float] = math.log10 if logarithmic else float
    first, last = change(low), change(high)
    return lambda value: start + (change(value) - first) / (last - first) * (end - start)


def text(x: float, y: float, words: str, cls: str = "text", anchor: str = "start", more: str = "") -> str:
    """Return a text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{cls}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, cls: str, more: str = "") -> str:
    """Return a line element."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"{more}/>'


def _document(title: str, height: float, parts: Sequence[str]) -> str:
    """Return a whole SVG with its title above."""
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title, {chr(34): "&quot;"})}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="{FONT}">'
    )
    background = f'<rect width="{WIDTH}" height="{height:.0f}" class="bg"/>'
    heading = text(16, 26, title, more=' font-size="16" font-weight="600"')
    return "\n".join([head, STYLE, background, heading, *parts, "</svg>"]) + "\n"


def _legend(entries: Sequence[tuple[str, str, bool]], y: float) -> tuple[list[str], float]:
    """Return a legend in as many rows as it needs, and where it ends."""
    parts, x = [], 16.0
    for label, colour, dashed in entries:
        width = 34 + CHARACTER * len(label)
        if x + width > WIDTH - 16 and x > 16:
            x, y = 16.0, y + 20
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        parts.append(
            f'<line x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x + 20:.1f}" y2="{y - 4:.1f}" '
            f'stroke="{colour}" stroke-width="3"{dash}/>'
        )
        parts.append(text(x + 26, y, label))
        x += width + 12
    return parts, y


def no_record(title: str) -> str:
    """Return a chart that says that there is nothing to show yet."""
    return _document(title, 80, [text(16, 56, "not recorded yet", "muted")])


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Return lines over two axes, with the spread of each point."""
    lines = [each for each in lines if each.points]
    if not lines:
        return no_record(title)
    legend, legend_end = _legend([(each.label, each.colour, each.dashed) for each in lines], 52)
    left, right, top = 74.0, WIDTH - 24.0, legend_end + 34
    bottom = top + 320
    points = [point for each in lines for point in each.points]
    x_low, x_high = _range([point.x for point in points], x)
    y_low, y_high = _range([end for point in points for end in (point.low, point.high)], y)
    across = _scale(x_low, x_high, left, right, x.logarithmic)
    up = _scale(y_low, y_high, bottom, top, y.logarithmic)
    parts = list(legend)
    for value in ticks(y_low, y_high, y.logarithmic):
        parts.append(line(left, up(value), right, up(value), "grid"))
        parts.append(text(left - 8, up(value) + 4, short(value), "muted", "end"))
    for value in ticks(x_low, x_high, x.logarithmic):
        parts.append(line(across(value), top, across(value), bottom, "grid"))
        parts.append(text(across(value), bottom + 19, short(value), "muted", "middle"))
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts.append(line(left, top, left, bottom, "axis"))
    parts.append(text((left + right) / 2, bottom + 42, x.label, anchor="middle"))
    parts.append(text(16, top - 12, y.label))
    for each in lines:
        path = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in each.points)
        dash = ' stroke-dasharray="5 3"' if each.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{each.colour}" stroke-width="2"{dash}/>')
        for point in each.points:
            at = across(point.x)
            parts.append(
                f'<line x1="{at:.1f}" y1="{up(point.low):.1f}" x2="{at:.1f}" y2="{up(point.high):.1f}" '
                f'stroke="{each.colour}" stroke-width="1.2"/>'
            )
            parts.append(
                f'<circle cx="{at:.1f}" cy="{up(point.y):.1f}" r="3.4" fill="{each.colour}">'
                f"<title>{escape(point.title)}</title></circle>"
            )
    return _document(title, bottom + 58, parts)


def goal_chart(title: str, bars: Sequence[GoalBar]) -> str:
    """Return a bar for each goal on one logarithmic scale: the share of the goal that is reached."""
    if not bars:
        return no_record(title)
    reached, accepted, missed = COLOURS[3], COLOURS[1], COLOURS[2]
    entries = [("goal reached", reached, False), ("floor reached", accepted, False), ("below the floor", missed, False)]
    legend, legend_end = _legend(entries, 52)
    left, right, top, step = 236.0, WIDTH - 190.0, legend_end + 34, 22.0
    bottom = top + step * len(bars)
    low = min(0.1, *(0.8 * bar.low for bar in bars))
    high = max(2.0, *(1.1 * bar.high for bar in bars))
    across = _scale(low, high, left, right, True)
    parts = list(legend)
    for value in ticks(low, high, True):
        parts.append(line(across(value), top, across(value), bottom, "grid"))
        parts.append(text(across(value), top - 8, f"{100 * value:g} %", "muted", "middle"))
    for index, bar in enumerate(bars):
        y = top + step * index
        colour = reached if bar.share >= 1 else accepted if bar.share >= bar.floor else missed
        parts.append(f"<g><title>{escape(bar.title)}</title>")
        parts.append(text(left - 10, y + 15, bar.label, anchor="end"))
        parts.append(f'<rect x="{left:.1f}" y="{y + 4:.1f}" width="{right - left:.1f}" height="14" class="track"/>')
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 4:.1f}" width="{max(1.0, across(bar.share) - left):.1f}" height="14" '
            f'fill="{colour}"/>'
        )
        parts.append(line(across(bar.low), y + 11, across(bar.high), y + 11, "goal", ' stroke-width="1.4"'))
        parts.append(
            line(
                across(bar.floor),
                y + 2,
                across(bar.floor),
                y + 20,
                "goal",
                ' stroke-width="1.4" stroke-dasharray="3 2"',
            )
        )
        parts.append(text(right + 12, y + 15, bar.text))
        parts.append("</g>")
    parts.append(line(across(1), top - 4, across(1), bottom + 4, "goal", ' stroke-width="2"'))
    parts.append(
        text(16, bottom + 26, "Share of the goal. Long line: goal; dashed: floor; thin: range by quartiles.", "muted")
    )
    return _document(title, bottom + 42, parts)


def stacked_chart(title: str, stacks: Sequence[Stack], note: str) -> str:
    """Return bars of full width that are divided into their parts, each bar's own size beside it."""
    if not stacks:
        return no_record(title)
    names = list(dict.fromkeys(name for stack in stacks for name, _ in stack.parts))
    named = (name for name in names if name != OTHER)
    colours = {name: MORE_COLOURS[index % len(MORE_COLOURS)] for index, name in enumerate(named)}
    colours[OTHER] = COLOURS[0]
    legend, legend_end = _legend([(name, colours[name], False) for name in names], 52)
    left, right, top, step = 236.0, WIDTH - 100.0, legend_end + 20, 30.0
    parts = list(legend)
    for index, stack in enumerate(stacks):
        y, x = top + step * index, left
        whole = sum(size for _, size in stack.parts)
        parts.append(text(left - 10, y + 18, stack.label, anchor="end"))
        for name, size in stack.parts:
            width = size / whole * (right - left)
            percent = f"{100 * size / whole:.0f} %"
            parts.append(f"<g><title>{escape(f'{name}: {percent}')}</title>")
            parts.append(f'<rect x="{x:.1f}" y="{y + 3:.1f}" width="{width:.1f}" height="22" fill="{colours[name]}"/>')
            if width > 40:
                parts.append(text(x + width / 2, y + 18.5, percent, "", "middle", ' fill="#ffffff"'))
            parts.append("</g>")
            x += width
        parts.append(text(right + 10, y + 18, stack.text))
    bottom = top + step * len(stacks)
    parts.append(text(16, bottom + 22, note, "muted"))
    return _document(title, bottom + 38, parts)
