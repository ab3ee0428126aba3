"""Harmlessness against helpfulness, and truth and sentiment beside them (the paper's Figure 2 and its task tables)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rain_decoding.evaluation.analyses.base import (
    Analysis,
    Column,
    Experiment,
    Findings,
    Part,
    Table,
    not_attacked,
    paper_preset,
)
from rain_decoding.evaluation.contenders import SELF_REFINE
from rain_decoding.evaluation.report.axes import axes_plots
from rain_decoding.evaluation.suites import Family, Suite
from rain_decoding.evaluation.summary import metrics

K = 16
"""Answers that the sampling baselines may decode."""
BASELINES = ("plain", "plain-sampled", f"best-of-{K}", f"rejection-{K}", f"verify-regenerate-{K}")
OURS = ("rain:fast", "rain:balanced")


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """All kinds; what refines an answer needs a conversation."""
    refine = () if any(family.prompt_format == "text" for family in families) else (SELF_REFINE,)
    return (*BASELINES, *refine, *OURS, f"rain:{paper_preset(families)}")


def find(parts: Sequence[Part]) -> Findings:
    """A table for each family."""
    tables = [_table(part, family) for part in parts for family in part.plan.used_families]
    plots = [
        replace(plot, legend=[(point.name, point.number) for point in plot.points])
        for part in parts
        for plot in axes_plots(part.plan, part.summary)
    ]
    return Findings(tables, plots)


def _table(part: Part, family: Family) -> Table:
    asked = [(judge, metric.title) for of, judge, metric in metrics(part.plan) if of == family]
    rows = []
    for name in part.plan.contenders:
        costs = part.row("costs", decoder=name, family=family.name)
        row = {"decoder": name, "tokens": costs["search_tokens"]}
        for judge, metric in asked:
            wanted = {"decoder": name, "family": family.name, "judge": judge, "metric": metric}
            rate, difference = part.row("rates", **wanted), part.against(**wanted)
            key = f"{metric}|{judge}"
            row |= {key: rate, f"{key}|against": difference}
            row |= {f"{key}|{missing}": rate[missing] for missing in ("malformed", "unscored")}
        rows.append(row)
    return Table(
        f"{part.plan.suite.name}, {family.name}: {part.summary['prompts'][family.name]} prompts",
        (
            Column("decoder", "decoder"),
            *(column for judge, metric in asked for column in _columns(judge, metric, part.plan.reference)),
            Column("tokens", "tokens forwarded", "number"),
        ),
        rows,
    )


def _columns(judge: str, metric: str, reference: str) -> Iterator[Column]:
    key = f"{metric}|{judge}"
    yield Column(key, f"{metric}, by {judge}", "percent")
    yield Column(f"{key}|against", f"against {reference}", "points")
    yield Column(f"{key}|malformed", "malformed", "count")
    yield Column(f"{key}|unscored", "unscored", "count")


EXPERIMENT = Experiment("comparison", decoders, not_attacked)
ANALYSIS = Analysis(
    "comparison",
    "Harmlessness and helpfulness, truth and sentiment",
    "Shares of all answers that have the wanted label, with 95% intervals clustered by subject; differences to plain "
    "decoding in points, paired by prompt and seed. Malformed and unscored answers stay in the denominator.",
    "no family of prompts without attack suffixes",
    EXPERIMENT,
    find,
)
