"""Sample efficiency (the paper's Table 5): quality against cost, for every decoder over its budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rain_decoding.evaluation.analyses.base import (
    ASKED,
    MISSING,
    Analysis,
    Column,
    Experiment,
    Findings,
    Part,
    Row,
    Table,
    paper_preset,
    sensitive,
)
from rain_decoding.evaluation.report import COSTS
from rain_decoding.evaluation.report.plots import Curve, Plot, curve_plot, span
from rain_decoding.evaluation.suites import Family, Suite

BUDGETS = (2, 4, 8, 16)
"""Answers that a sampling baseline may decode; `plain-sampled` is the first of them."""
SIMULATIONS = (5, 15)
"""Simulations that a search may run, per answer (ours) or token set (the paper's), beside the preset's own."""


def curves(families: Sequence[Family]) -> dict[str, tuple[str, ...]]:
    """Decoders by the curve that they stand on, with rising budgets."""
    paper = f"rain:{paper_preset(families)}"
    return {
        "plain": ("plain",),
        **{kind: ("plain-sampled", *(f"{kind}-{k}" for k in BUDGETS)) for kind in ("best-of", "rejection")},
        "verify-regenerate": ("plain", *(f"verify-regenerate-{k}" for k in BUDGETS)),
        "self-refine": ("self-refine",),
        "rain:fast": (*(f"rain:fast@max_simulations={n}" for n in SIMULATIONS), "rain:fast"),
        "rain:balanced": (
            *(f"rain:balanced@max_simulations={n}" for n in SIMULATIONS),
            "rain:balanced",
            "rain:thorough",
        ),
        paper: (*(f"{paper}@max_simulations={n}@extra_simulations={n // 2}" for n in SIMULATIONS), paper),
    }


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """All of them, each once."""
    return tuple(dict.fromkeys(name for names in curves(families).values() for name in names))


def find(parts: Sequence[Part]) -> Findings:
    """A table per part, and plots of its first judge's labels."""
    tables, plots = [], []
    for part in parts:
        drawn = curves(part.plan.used_families)
        rows = list(_rows(part, drawn))
        columns = (
            *ASKED,
            Column("decoder", "decoder"),
            Column("rate", "share", "percent"),
            *MISSING,
            *(Column(key, title, "number") for key, title in COSTS.items()),
        )
        tables.append(Table(part.title, columns, rows))
        plots += list(_plots(part, drawn, rows))
    return Findings(tables, plots)


def _rows(part: Part, drawn: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    for family, judge, metric in part.first_metrics():
        for name in part.plan.contenders:
            rate = part.row("rates", family=family.name, judge=judge, metric=metric.title, decoder=name)
            costs = part.row("costs", family=family.name, decoder=name)
            yield {
                "family": family.name,
                "judge": judge,
                "metric": metric.title,
                "decoder": name,
                "curves": [curve for curve, names in drawn.items() if name in names],
                "rate": rate,
                "malformed": rate["malformed"],
                "unscored": rate["unscored"],
                **{key: costs[key] for key in COSTS},
            }


def _plots(part: Part, drawn: Mapping[str, Sequence[str]], rows: Sequence[Row]) -> Iterator[Plot]:
    groups = dict.fromkeys((row["family"], row["judge"], row["metric"]) for row in rows)
    for family, judge, metric in groups:
        own = {r["decoder"]: r for r in rows if (r["family"], r["judge"]) == (family, judge)}
        for key in ("search_tokens", "seconds"):
            lines = [
                Curve(curve, [(name, span(own[name][key]), span(own[name]["rate"])) for name in names])
                for curve, names in drawn.items()
            ]
            title = f"{part.plan.suite.name}, {family}, by {judge}"
            if plot := curve_plot(title, (f"{COSTS[key]} per answer", metric), lines):
                yield plot


ANALYSIS = Analysis(
    "efficiency",
    "Sample efficiency",
    "Quality against cost as each decoder's budget grows: answers decoded (k) or simulations of the search. Means per "
    "answer; seconds are those of one answer while others ran beside it (with --concurrency 1: alone).",
    "no sensitive prompts",
    Experiment("efficiency", decoders, sensitive),
    find,
)
