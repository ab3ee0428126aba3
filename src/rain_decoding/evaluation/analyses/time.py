"""Time ratio (the paper's Table 7): what RAIN costs as a multiple of plain decoding with a KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rain_decoding.evaluation.analyses.base import (
    Analysis,
    Column,
    Experiment,
    Findings,
    Part,
    Row,
    Table,
    not_attacked,
    paper_preset,
)
from rain_decoding.evaluation.analyses.comparison import OURS
from rain_decoding.evaluation.analyses.failures import rounded
from rain_decoding.evaluation.report import COSTS
from rain_decoding.evaluation.suites import Family, Suite
from rain_decoding.measurement.statistics import ratio_of_means

COLUMNS = {**COSTS, "completion_tokens": "tokens of an answer"}


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """Plain decoding and RAIN."""
    return ("plain", *OURS, f"rain:{paper_preset(families)}")


def find(parts: Sequence[Part]) -> Findings:
    """A table per part."""
    columns = (
        Column("family", "family"),
        Column("decoder", "decoder"),
        *(Column(key, title, "times") for key, title in COLUMNS.items()),
    )
    return Findings([Table(_title(part), columns, list(_rows(part))) for part in parts])


def _title(part: Part) -> str:
    return f"{part.title}: times {part.plan.reference}"


def _rows(part: Part) -> Iterator[Row]:
    for family in part.plan.used_families:
        base = part.of(part.plan.reference, family.name)
        for name in part.plan.contenders:
            if name == part.plan.reference:
                continue
            own = part.of(name, family.name)
            yield {
                "family": family.name,
                "decoder": name,
                **{cost: _ratio(own, base, cost) for cost in COLUMNS},
            }


def _ratio(ours: Sequence[Row], theirs: Sequence[Row], cost: str) -> Row | None:
    before, after = ([record["usage"][cost] for record in records] for records in (theirs, ours))
    return rounded(ratio_of_means(after, before, [record["subject"] for record in ours]))


ANALYSIS = Analysis(
    "time",
    "Time",
    "Mean cost over that of plain decoding, which has a KV cache here, with intervals from a bootstrap over whole "
    "subjects. One request runs at a time. Longer answers take longer: the last column is the ratio of their lengths.",
    "no prompts without an attack",
    Experiment("time", decoders, not_attacked, alone=True),
    find,
)
