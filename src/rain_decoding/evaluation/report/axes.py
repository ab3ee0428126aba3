"""Plots of a suite's two questions against each other, such as harmlessness against helpfulness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report.plots import Plot, share_plot, span

Row = dict[str, Any]


def axes_plots(plan: EvaluationPlan, summary: dict[str, Any]) -> Iterator[Plot]:
    """The suite's two questions against each other, for each judge that answered both."""
    if plan.suite.axes is None:
        return
    (x_family, x_question), (y_family, y_question) = plan.suite.axes
    for judge in summary["judges"]:
        x_rows = asked(summary["rates"], x_family, judge, x_question)
        y_rows = asked(summary["rates"], y_family, judge, y_question)
        if x_rows and y_rows:
            titles = tuple(
                f"{next(iter(rows.values()))['metric']}, {family}"
                for rows, family in ((x_rows, x_family), (y_rows, y_family))
            )
            points = [
                (name, number, span(x_rows[name]), span(y_rows[name]))
                for number, name in enumerate(summary["decoders"])
                if name in x_rows and name in y_rows
            ]
            yield share_plot(f"by {judge}", (titles[0], titles[1]), points)


def asked(rows: Sequence[Row], family: str, judge: str, question: str) -> dict[str, Row]:
    """By decoder the rows of this family, judge and question."""
    found = (
        row for row in rows if (row["family"], row["judge"], row["question"]) == (family, judge, question)
    )
    return {row["decoder"]: row for row in found}
