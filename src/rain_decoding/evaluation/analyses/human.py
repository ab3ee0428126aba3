"""Judges against people (the paper's Table 8), where answers of the comparison have been rated."""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.evaluation.analyses.base import Analysis, Findings, Part
from rain_decoding.evaluation.analyses.comparison import EXPERIMENT

RATINGS = "ratings.jsonl"
"""The file that people's ratings are kept in, in the folder of a part."""


def find(parts: Sequence[Part]) -> Findings:
    """What to do: rate, or look at the ratings."""
    notes = []
    for part in parts:
        rated = (part.folder / RATINGS).exists()
        told = "has been rated: rain rate --report" if rated else "is not rated yet: rain rate"
        notes.append(f"{part.folder.name} {told} {part.folder}")
    return Findings(notes=notes)


ANALYSIS = Analysis(
    "human",
    "Judges against people",
    "Rates by people who did not know which decoder answered, beside those by the judges, and how far they agree.",
    "no answers to rate",
    EXPERIMENT,
    find,
)
