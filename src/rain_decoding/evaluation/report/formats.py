"""How the numbers of summaries are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def percent(row: Row | None) -> str:
    """A share with its interval."""
    if row is None or row["value"] is None:
        return "-"
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def points(row: Row | None) -> str:
    """A difference of shares in points, with its interval."""
    if row is None or row["value"] is None:
        return "-"
    value, low, high = (100 * row[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def number(row: Row | None) -> str:
    """A mean with its interval."""
    if row is None or row["value"] is None:
        return "-"
    digits = 2 if max(abs(row["value"]), abs(row["high"])) < 10 else 0
    value, low, high = (f"{row[key]:,.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def times(row: Row | None) -> str:
    """A ratio with its interval."""
    return "-" if row is None else f"{row['value']:.2f} x ({row['low']:.2f} to {row['high']:.2f})"


def decimal(value: float | None) -> str:
    """A measure of agreement."""
    return "-" if value is None else f"{value:.2f}"


def count(value: int | None) -> str:
    """A number of answers; none is not worth a figure."""
    return str(value) if value else ""


FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": count,
    "decimal": decimal,
    "share": lambda value: f"{value:.0%}",
    "percent": percent,
    "points": points,
    "number": number,
    "times": times,
}
"""How the cells of a column can be written."""
