"""The report: one page that needs nothing else, with tables, plots and the samples to browse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report.axes import asked, axes_plots
from rain_decoding.evaluation.report.explained import explanations
from rain_decoding.evaluation.report.plots import Plot, cost_plot, span
from rain_decoding.evaluation.report.samples import SHOWN, shown_samples
from rain_decoding.evaluation.report.templates import template
from rain_decoding.measurement.records import Record

COSTS = {"search_tokens": "tokens forwarded", "forward_passes": "passes", "seconds": "seconds"}
Row = dict[str, Any]


def render(
    records: list[Record], plan: EvaluationPlan, summary: dict[str, Any], run: dict[str, Any], folder: Path
) -> str:
    """The page. Raises `MissingDependencyError` without Jinja2."""
    names = summary["decoders"]
    samples = shown_samples(records, plan, folder)
    return template("page.html").render(
        summary=summary,
        suite=plan.suite,
        explained=explanations(plan),
        run=run,
        costs=COSTS,
        faults={
            fault: found["judge"] for row in summary["overview"] for fault, found in row["faults"].items()
        },
        corrected=any(found["corrected"] for row in summary["overview"] for found in row["faults"].values()),
        numbers={name: number for number, name in enumerate(names)},
        tables=list(_tables(summary)),
        axes=list(axes_plots(plan, summary)),
        quality=list(_quality_plots(plan, summary)),
        samples=samples,
        sampled={(answer["decoder"], sample["family"]) for sample in samples for answer in sample["answers"]},
        shown=SHOWN,
    )


def render_paper(summary: dict[str, Any], plots: dict[str, list[Plot]]) -> str:
    """The page of the paper's analyses; `plots` are those of each analysis."""
    return template("paper.html").render(summary=summary, plots=plots)


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


def _quality_plots(plan: EvaluationPlan, summary: dict[str, Any]) -> Iterator[Plot]:
    """Each family's first metric against every cost, by the first judge that answered it."""
    for family in plan.used_families:
        metric = family.metrics[0]
        for judge in summary["judges"]:
            rows = asked(summary["rates"], family.name, judge, metric.question)
            if not rows:
                continue
            costs = {row["decoder"]: row for row in summary["costs"] if row["family"] == family.name}
            for key, title in COSTS.items():
                points = [
                    (name, number, span(costs[name][key]), span(rows[name]))
                    for number, name in enumerate(summary["decoders"])
                    if name in costs and rows[name]["value"] is not None
                ]
                plot = cost_plot(f"{family.name}, by {judge}", (f"{title} per answer", metric.title), points)
                if plot is not None:
                    yield plot
            break
