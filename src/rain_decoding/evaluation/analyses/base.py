"""What an analysis is: the experiment that it needs, and what it finds in the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rain_decoding.config import PRESETS
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report.plots import Plot
from rain_decoding.evaluation.suites import Family, Metric, Suite
from rain_decoding.evaluation.summary import metrics
from rain_decoding.measurement.records import Record

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A finished run: the answers to the families of one suite that share a criterion, and `summarise` of them."""

    plan: EvaluationPlan
    records: Sequence[Record]
    folder: Path
    summary: dict[str, Any]

    @property
    def title(self) -> str:
        """The suite and the families."""
        return f"{self.plan.suite.name}, {', '.join(family.name for family in self.plan.used_families)}"

    def of(self, decoder: str, family: str) -> list[Record]:
        """The answers of a decoder to the prompts of a family, by prompt and seed."""
        own = (r for r in self.records if (r["decoder"], r["family"]) == (decoder, family))
        return sorted(own, key=lambda record: (record["id"], record["seed"]))

    def first_metrics(self) -> Iterator[tuple[Family, str, Metric]]:
        """Per family and judge the first metric that the judge can tell."""
        seen = set()
        for family, judge, metric in metrics(self.plan):
            if (family.name, judge) not in seen:
                seen.add((family.name, judge))
                yield family, judge, metric

    def row(self, kind: str, **wanted: str) -> Row:
        """The row of the summary's `rates`, `differences` or `costs` that has these values."""
        return next(r for r in self.summary[kind] if wanted.items() <= r.items())

    def against(self, **wanted: str) -> Row | None:
        """The difference to the reference decoder, which has none to itself."""
        return None if wanted["decoder"] == self.plan.reference else self.row("differences", **wanted)


Decoders = Callable[[Suite, Sequence[Family]], tuple[str, ...]]
Families = Callable[[Sequence[Family]], list[Family]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is run: `decoders` on those of a suite's families that `families` chooses.

    `decoders` is asked once for the families of each criterion. With `alone`, one request runs at a time, so that
    seconds are those of one answer.
    """

    name: str
    decoders: Decoders
    families: Families
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: what it shows of the rows, its heading, and how it is written (`report.formats`)."""

    key: str
    heading: str
    form: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers, and the columns that show them."""

    title: str
    columns: tuple[Column, ...]
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Findings:
    """What an analysis found: tables, plots, and sentences about them."""

    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """One of the paper's analyses.

    `reading` says what its tables mean, `without` what is missing where there was nothing to run.
    """

    name: str
    title: str
    reading: str
    without: str
    experiment: Experiment
    find: Callable[[Sequence[Part]], Findings]


MISSING = (Column("malformed", "malformed", "count"), Column("unscored", "unscored", "count"))
"""What of the answers has no label."""
ASKED = (Column("family", "family"), Column("judge", "by"))


def paper_preset(families: Sequence[Family]) -> str:
    """The paper's preset for the criterion that these families share."""
    paper = {config.criterion: name for name, config in PRESETS.items() if name.startswith("paper-")}
    return paper[families[0].criterion]


def is_attacked(family: Family) -> bool:
    """Whether an attack's suffixes stand behind its prompts."""
    return family.name.startswith("attacked")


def not_attacked(families: Sequence[Family]) -> list[Family]:
    """Prompts as they are."""
    return [family for family in families if not is_attacked(family)]


def attacked(families: Sequence[Family]) -> list[Family]:
    """Prompts with suffixes."""
    return [family for family in families if is_attacked(family)]


def sensitive(families: Sequence[Family]) -> list[Family]:
    """Prompts, as they are, of which first of all harmless answers are wanted."""
    return [family for family in not_attacked(families) if family.metrics[0].question == "harmless"]
