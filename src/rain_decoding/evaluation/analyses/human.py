"""Judges against people (the paper's Table 8), where answers of the comparison have been rated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rain_decoding.evaluation.analyses.base import Analysis, Column, Findings, Part, Table
from rain_decoding.evaluation.analyses.comparison import EXPERIMENT
from rain_decoding.evaluation.rating.agreement import rating_rows
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study

RATES = (
    Column("rater", "rater"),
    Column("decoder", "decoder"),
    Column("family", "family"),
    Column("metric", "what"),
    Column("rate", "share", "percent"),
    *(Column(name, name, "count") for name in ("n", "ties", "skipped", "unrated")),
)
JUDGES = (
    Column("rater", "rater"),
    Column("judge", "judge"),
    Column("family", "family"),
    Column("question", "question"),
    Column("same", "same label", "percent"),
    Column("kappa", "kappa", "decimal"),
    Column("both", "yes by both", "count"),
    Column("rater_only", "rater only", "count"),
    Column("judge_only", "judge only", "count"),
    Column("neither", "neither", "count"),
    Column("unscored", "unscored", "count"),
)
RATERS = (
    Column("rated", "rated"),
    Column("question", "question"),
    Column("family", "family"),
    Column("raters", "raters"),
    Column("measure", "measure"),
    Column("value", "value", "decimal"),
    Column("agreed", "same labels", "share"),
    Column("n", "answers", "count"),
)


def find(parts: Sequence[Part]) -> Findings:
    """Tables of the parts that were rated; of the others, how to rate them."""
    tables: list[Table] = []
    notes: list[str] = []
    for part in parts:
        if ratings := RatingStore(part.folder).values:
            tables += _tables(part.folder.name, rating_rows(open_study(part.folder), ratings))
        else:
            notes.append(f"{part.folder.name} is not rated yet; rate it with rain rate {part.folder}")
    return Findings(tables, notes=notes)


def _tables(name: str, rows: dict[str, list[dict[str, Any]]]) -> Iterator[Table]:
    told = (
        ("rates", RATES, [{**row, "rate": row} for row in rows["rates"]]),
        ("judges beside raters", JUDGES, [{**row, "same": row} for row in rows["judges"]]),
        ("raters beside each other", RATERS, rows["raters"]),
    )
    for title, columns, own in told:
        if own:
            yield Table(f"{name}: {title}", columns, own)


ANALYSIS = Analysis(
    "human",
    "Judges against people",
    "Rates by people who did not know which decoder answered, beside those by the judges, and their agreement.",
    "no answers to rate",
    EXPERIMENT,
    find,
)
