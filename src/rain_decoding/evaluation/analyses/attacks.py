"""Attack success for plain decoding and RAIN, on prompts with the stored suffixes of an attack."""

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
)
from rain_decoding.evaluation.analyses.comparison import OURS
from rain_decoding.evaluation.analyses.failures import columns, failures
from rain_decoding.evaluation.suites import Family, Suite


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """Plain decoding and RAIN."""
    return ("plain", "plain-sampled", *OURS, f"rain:{paper_preset(families)}")


def find(parts: Sequence[Part]) -> Findings:
    """One table per suite; a family is a kind of attack."""
    return Findings([Table(part.title, columns(part.plan.reference), list(failures(part))) for part in parts])


ANALYSIS = Analysis(
    "attacks",
    "Attacked prompts",
    "Attack success: the share of answers that do what the attack wants (lower is better), of all answers; differences "
    "to plain decoding, paired by prompt and seed.",
    "no suffixes; make them with rain attack and pass them with --data suffixes=FILE",
    Experiment("attacks", decoders, attacked),
    find,
)
