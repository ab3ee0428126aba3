"""Plots of the report as coordinates: points with intervals in a frame; the page draws them as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Any

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 26, 12, 42
"""Pixels of the frame, and of the margins in it."""

Span = tuple[float, float, float]
"""A value with the ends of its interval."""


@dataclass(frozen=True, slots=True)
class Point:
    """One decoder: where it stands, and its intervals, in pixels. `number` chooses colour and shape."""

    name: str
    number: int
    x: float
    y: float
    across: tuple[float, float]
    upwards: tuple[float, float]
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line through these pixels; a broken one is a level to compare with."""

    number: int
    through: Sequence[tuple[float, float]]
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: titles, (pixel, label) of the ticks, and the points; `legend` names what has a number."""

    title: str
    x_title: str
    y_title: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    points: Sequence[Point]
    lines: Sequence[Line] = ()
    legend: Sequence[tuple[str, int]] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, on a linear or a logarithmic axis."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)


def share_plot(title: str, titles: tuple[str, str], rows: Iterable[tuple[str, int, Span, Span]]) -> Plot:
    """Shares in [0, 1] on both axes."""
    across, upwards = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    return Plot(
        title,
        *titles,
        [(across(tick), f"{tick:.0%}") for tick in ticks],
        [(upwards(tick), f"{tick:.0%}") for tick in ticks],
        [_point(row, across, upwards, "{:.1%}") for row in rows],
    )


def cost_plot(
    title: str, titles: tuple[str, str], rows: Iterable[tuple[str, int, Span, Span]]
) -> Plot | None:
    """Shares against a cost above 0 on a logarithmic axis; None where nothing has a cost."""
    rows = [row for row in rows if min(row[2]) > 0]
    if not rows:
        return None
    ticks = _powers(min(min(row[2]) for row in rows), max(max(row[2]) for row in rows))
    across = Scale(ticks[0], ticks[-1], LEFT, WIDTH - RIGHT, logarithmic=True)
    upwards = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    return Plot(
        title,
        *titles,
        [(across(tick), f"{tick:,g}") for tick in ticks],
        [(upwards(tick), f"{tick:.0%}") for tick in (0, 0.25, 0.5, 0.75, 1)],
        [_point(row, across, upwards, "{:,.4g}") for row in rows],
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """Points that belong together, in their order: what each is called, and where it stands."""

    name: str
    points: Sequence[tuple[str, Span, Span]]


def curve_plot(title: str, titles: tuple[str, str], curves: Sequence[Curve]) -> Plot | None:
    """`cost_plot` with a line through the points of each curve; the curve chooses their colour and shape."""
    drawn = [(number, curve) for number, curve in enumerate(curves)]
    rows = [(name, number, x, y) for number, curve in drawn for name, x, y in curve.points]
    plot = cost_plot(title, titles, rows)
    return None if plot is None else _joined(plot, [curve.name for curve in curves])


def right_plot(
    title: str,
    titles: tuple[str, str],
    curves: Sequence[Curve],
    levels: Sequence[float],
    shares: Sequence[float],
) -> Plot:
    """Shares against how often a judge is right, with a broken line at each curve's level."""
    across = Scale(min(shares), max(shares), LEFT, WIDTH - RIGHT)
    upwards = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    rows = [(name, number, x, y) for number, curve in enumerate(curves) for name, x, y in curve.points]
    plot = Plot(
        title,
        *titles,
        [(across(tick), f"{tick:.0%}") for tick in shares],
        [(upwards(tick), f"{tick:.0%}") for tick in (0, 0.25, 0.5, 0.75, 1)],
        [_point(row, across, upwards, "{:.0%}") for row in rows],
    )
    ends = (plot.left, plot.right)
    broken = [
        Line(number, [(x, upwards(level)) for x in ends], broken=True) for number, level in enumerate(levels)
    ]
    joined = _joined(plot, [curve.name for curve in curves])
    return replace(joined, lines=[*joined.lines, *broken])


def _joined(plot: Plot, names: Sequence[str]) -> Plot:
    """The plot with lines through the points of each number."""
    numbers = dict.fromkeys(point.number for point in plot.points)
    lines = [Line(n, [(p.x, p.y) for p in plot.points if p.number == n]) for n in numbers]
    return replace(plot, lines=lines, legend=[(names[n], n) for n in numbers])


def _powers(low: float, high: float) -> list[float]:
    """1, 10, 100, ... around a range; with 3, 30, ... between where these are few."""
    first, last = floor(log10(low)), max(ceil(log10(high)), floor(log10(low)) + 1)
    steps = [10.0**power for power in range(first, last + 1)]
    return sorted([*steps, *(3 * step for step in steps[:-1])]) if len(steps) < 4 else steps


def _point(row: tuple[str, int, Span, Span], across: Scale, upwards: Scale, form: str) -> Point:
    name, number, x, y = row
    told = f"{name}: {form.format(x[0])}, {y[0]:.1%} ({y[1]:.1%} to {y[2]:.1%})"
    return Point(
        name,
        number,
        across(x[0]),
        upwards(y[0]),
        (across(x[1]), across(x[2])),
        (upwards(y[1]), upwards(y[2])),
        told,
    )


def span(row: dict[str, Any]) -> Span:
    """The estimate that stands in a row of the summary."""
    return row["value"], row["low"], row["high"]
