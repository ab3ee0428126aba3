"""Plots of a suite's two questions against each other, such as harmlessness against helpfulness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report.plots import Plot, share_plot, span

Row = dict[str, Any]


def axes_plots(plan: EvaluationPlan, summary: dict[str, Any]) -> Iterator[Plot]:
    """The suite's two questions against each other: for each judge that answered both, else for the first of each."""
    if plan.suite.axes is None:
        return
    across, upwards = plan.suite.axes
    found = [
        {
            judge: rows
            for judge in summary["judges"]
            if (rows := asked(summary["rates"], family, judge, question))
        }
        for family, question in (across, upwards)
    ]
    both = [(judge, judge) for judge in found[0] if judge in found[1]]
    firsts = list(zip(list(found[0])[:1], list(found[1])[:1], strict=False))
    for pair in both or firsts:
        x_rows, y_rows = found[0][pair[0]], found[1][pair[1]]
        titles = tuple(
            f"{next(iter(rows.values()))['metric']}, {family}"
            for rows, (family, _) in ((x_rows, across), (y_rows, upwards))
        )
        points = [
            (name, number, span(x_rows[name]), span(y_rows[name]))
            for number, name in enumerate(summary["decoders"])
            if all(name in rows and rows[name]["value"] is not None for rows in (x_rows, y_rows))
        ]
        yield share_plot(f"by {' and '.join(dict.fromkeys(pair))}", (titles[0], titles[1]), points)


def asked(rows: Sequence[Row], family: str, judge: str, question: str) -> dict[str, Row]:
    """By decoder the rows of this family, judge and question."""
    found = (
        row for row in rows if (row["family"], row["judge"], row["question"]) == (family, judge, question)
    )
    return {row["decoder"]: row for row in found}
