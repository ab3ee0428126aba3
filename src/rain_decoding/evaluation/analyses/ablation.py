"""Ablation (the paper's Table 4): the parts of the search switched off one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.evaluation.analyses.base import (
    Analysis,
    Experiment,
    Findings,
    Part,
    Table,
    attacked,
    paper_preset,
    sensitive,
)
from rain_decoding.evaluation.analyses.failures import columns, failures
from rain_decoding.evaluation.suites import Family, Suite

SWITCHES = (
    ("without similarity update", "similarity=off"),
    ("and without widening", "widening=off"),
    ("and without exploration", "exploration=0"),
)
"""What is switched off, each beside those before it."""


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """The paper's preset, whole and with more and more switched off."""
    whole = f"rain:{paper_preset(families)}"
    settings = [setting for _, setting in SWITCHES]
    return tuple("@".join([whole, *settings[:count]]) for count in range(len(settings) + 1))


def families(present: Sequence[Family]) -> list[Family]:
    """Prompts with an attack's suffixes, the first kind of them, as in the paper; else sensitive ones as they are."""
    return attacked(present)[:1] or sensitive(present)


def find(parts: Sequence[Part]) -> Findings:
    """One table; a decoder is called by what it lacks."""
    tables = []
    for part in parts:
        names = dict(zip(part.plan.contenders, ["full", *(name for name, _ in SWITCHES)], strict=True))
        rows = [
            {**row, "setting": row["decoder"], "decoder": names[row["decoder"]]} for row in failures(part)
        ]
        tables.append(Table(f"{part.title}: {part.plan.reference}", columns("full"), rows))
    return Findings(tables)


ANALYSIS = Analysis(
    "ablation",
    "Ablation",
    "Shares of answers that fail (a lower one is better) as parts of the paper's search are switched off, each beside "
    "those above it; differences to the full search, paired by prompt and seed.",
    "no sensitive prompts, and no prompts with an attack's suffixes",
    Experiment("ablation", decoders, families),
    find,
)
