"""Judge noise: RAIN's effect as its judge gets better, from a coin's verdicts to right ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    not_attacked,
)
from rain_decoding.evaluation.contenders import FLIPS, ORACLE
from rain_decoding.evaluation.report.plots import Curve, Plot, right_plot, span
from rain_decoding.evaluation.suites import Family, Suite

RIGHT = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""How often the judge is right: 1 less the probability that a verdict is flipped."""
PLAIN = "plain-sampled"
"""What a search without a judge would do, too: draw."""


def families(present: Sequence[Family]) -> list[Family]:
    """Prompts, as they are, of which harmless or helpful answers are wanted."""
    return [f for f in not_attacked(present) if f.metrics[0].question in ("harmless", "helpful")]


def decoders(suite: Suite, families: Sequence[Family]) -> tuple[str, ...]:
    """Plain decoding, and the search with worse and worse judges: the oracle's verdicts where there is one, else the
    model's own."""
    return (PLAIN, "plain", *(name(suite, right) for right in RIGHT))


def name(suite: Suite, right: float) -> str:
    """The search whose judge is right with this probability."""
    start = ORACLE if suite.name == "demo" else "rain:balanced"
    return f"{start}@{FLIPS}{1 - right:g}"


def find(parts: Sequence[Part]) -> Findings:
    """A table and a plot per part, and from where on the search helps."""
    columns = (
        *ASKED,
        Column("metric", "answers"),
        Column("right", "verdicts kept", "share"),
        Column("rate", "share", "percent"),
        Column("against", f"against {PLAIN}", "points"),
        Column("plain", PLAIN, "percent"),
        *MISSING,
    )
    found = [(part, list(_rows(part))) for part in parts]
    return Findings(
        [Table(f"{part.title}: {_judge(part)}", columns, rows) for part, rows in found],
        [plot for part, rows in found for plot in _plots(part, rows)],
        [note for part, rows in found for note in _notes(part, rows)],
    )


def _judge(part: Part) -> str:
    return "the oracle's verdicts" if part.plan.suite.name == "demo" else "the model's own verdicts"


def _rows(part: Part) -> Iterator[Row]:
    for family, judge, metric in part.first_metrics():
        asked = {"family": family.name, "judge": judge, "metric": metric.title}
        for right in RIGHT:
            wanted = {**asked, "decoder": name(part.plan.suite, right)}
            rate = part.row("rates", **wanted)
            yield {
                **asked,
                "right": right,
                "rate": rate,
                "against": part.against(**wanted),
                "plain": part.row("rates", **asked, decoder=PLAIN),
                "malformed": rate["malformed"],
                "unscored": rate["unscored"],
            }


def _plots(part: Part, rows: Sequence[Row]) -> Iterator[Plot]:
    for judge in dict.fromkeys(row["judge"] for row in rows):
        own = [row for row in rows if row["judge"] == judge]
        lines, levels = [], []
        for family, metric in dict.fromkeys((row["family"], row["metric"]) for row in own):
            points = [row for row in own if row["family"] == family]
            at = [(f"{row['right']:.0%}", (row["right"],) * 3, span(row["rate"])) for row in points]
            lines.append(Curve(f"{metric}, {family}", at))
            levels.append(points[0]["plain"]["value"])
        yield right_plot(
            f"{part.plan.suite.name}, by {judge}; broken lines: {PLAIN}",
            (f"{_judge(part)} kept", "wanted label"),
            lines,
            levels,
            RIGHT,
        )


def _notes(part: Part, rows: Sequence[Row]) -> Iterator[str]:
    """With how good a judge the gain is sure, and where that stops."""
    for family, judge, metric in dict.fromkeys((r["family"], r["judge"], r["metric"]) for r in rows):
        own = [row for row in rows if (row["family"], row["judge"]) == (family, judge)]
        start = f"{part.plan.suite.name}, {family}, {metric} by {judge}:"
        sure = ", ".join(f"{row['right']:.0%}" for row in own if is_sure(row))
        unsure = stops_helping(own)
        if unsure is None:
            yield f"{start} RAIN helps at every accuracy tried, from {min(RIGHT):.0%} on."
        elif not sure:
            yield f"{start} the gain of RAIN is significant at none of the accuracies tried."
        else:
            yield f"{start} the gain over {PLAIN} is significant at {sure}, and no longer at {unsure:.0%}."


def is_sure(row: Row) -> bool:
    """Whether the paired interval of the gain lies above 0."""
    return bool(row["against"]["low"] > 0)


def stops_helping(rows: Sequence[Row]) -> float | None:
    """The largest accuracy at which the paired interval of the gain does not lie above 0; None where all do."""
    return max((row["right"] for row in rows if not is_sure(row)), default=None)


ANALYSIS = Analysis(
    "noise",
    "Judge noise",
    "The preset balanced with a judge whose verdicts are flipped with a fixed probability, the same text always "
    "alike: from coin tosses (50%) to no flips (100%). In the demo world the verdicts are the oracle's, "
    "so this is the judge's accuracy, and the same oracle labels the answers; for another model they are its own.",
    "no prompts that call for harmless or helpful answers",
    Experiment("noise", decoders, families),
    find,
)
