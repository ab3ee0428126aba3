"""The report: one page that needs nothing else, with tables, plots and the samples to browse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rain_decoding.errors import MissingDependencyError
from rain_decoding.evaluation.plan import Plan
from rain_decoding.evaluation.records import Record
from rain_decoding.evaluation.report.plots import Plot, cost_plot, share_plot, span
from rain_decoding.evaluation.report.samples import SHOWN, shown_samples

COSTS = {"search_tokens": "tokens forwarded", "forward_passes": "passes", "seconds": "seconds"}
Row = dict[str, Any]


def render(
    records: list[Record], plan: Plan, summary: dict[str, Any], run: dict[str, Any], folder: Path
) -> str:
    """The page. Raises `MissingDependencyError` without Jinja2."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            "the report needs the package jinja2", hint='pip install "rain-decoding[eval]"'
        ) from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "number": _number}
    names = summary["decoders"]
    return environment.get_template("page.html").render(
        summary=summary,
        run=run,
        costs=COSTS,
        numbers={name: number for number, name in enumerate(names)},
        tables=list(_tables(summary)),
        axes=list(_axes_plots(plan, summary)),
        quality=list(_quality_plots(plan, summary)),
        samples=shown_samples(records, plan, folder),
        shown=SHOWN,
    )


def _tables(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Per family the metrics, and per decoder its rates, differences and costs."""
    for family, prompts in summary["prompts"].items():
        rates = _indexed(summary["rates"], family)
        differences = _indexed(summary["differences"], family)
        yield {
            "family": family,
            "prompts": prompts,
            "columns": list(dict.fromkeys((judge, metric) for _, judge, metric in rates)),
            "rates": rates,
            "differences": differences,
            "costs": {row["decoder"]: row for row in summary["costs"] if row["family"] == family},
        }


def _indexed(rows: list[Row], family: str) -> dict[tuple[str, str, str], Row]:
    return {(r["decoder"], r["judge"], r["metric"]): r for r in rows if r["family"] == family}


def _axes_plots(plan: Plan, summary: dict[str, Any]) -> Iterator[Plot]:
    """The suite's two questions against each other, for each judge that answered both."""
    if plan.suite.axes is None:
        return
    (x_family, x_question), (y_family, y_question) = plan.suite.axes
    for judge in summary["judges"]:
        x_rows = _asked(summary["rates"], x_family, judge, x_question)
        y_rows = _asked(summary["rates"], y_family, judge, y_question)
        if x_rows and y_rows:
            titles = tuple(
                f"{next(iter(rows.values()))['metric']}, {family}"
                for rows, family in ((x_rows, x_family), (y_rows, y_family))
            )
            points = [
                (name, number, span(x_rows[name]), span(y_rows[name]))
                for number, name in enumerate(summary["decoders"])
            ]
            yield share_plot(f"by {judge}", (titles[0], titles[1]), points)


def _quality_plots(plan: Plan, summary: dict[str, Any]) -> Iterator[Plot]:
    """Each family's first metric against every cost, by the first judge that answered it."""
    for family in plan.used_families:
        metric = family.metrics[0]
        for judge in summary["judges"]:
            rows = _asked(summary["rates"], family.name, judge, metric.question)
            if not rows:
                continue
            costs = {row["decoder"]: row for row in summary["costs"] if row["family"] == family.name}
            for key, title in COSTS.items():
                points = [
                    (name, number, span(costs[name][key]), span(rows[name]))
                    for number, name in enumerate(summary["decoders"])
                ]
                plot = cost_plot(f"{family.name}, by {judge}", (f"{title} per answer", metric.title), points)
                if plot is not None:
                    yield plot
            break


def _asked(rows: list[Row], family: str, judge: str, question: str) -> dict[str, Row]:
    found = (
        row for row in rows if (row["family"], row["judge"], row["question"]) == (family, judge, question)
    )
    return {row["decoder"]: row for row in found}


def _percent(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def _points(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    value, low, high = (100 * row[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _number(row: Row) -> str:
    digits = 2 if max(abs(row["value"]), abs(row["high"])) < 10 else 0
    value, low, high = (f"{row[key]:,.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
