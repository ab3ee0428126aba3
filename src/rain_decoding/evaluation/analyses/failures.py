"""How often answers have the label that is not wanted: what ablations and attacks are measured by."""

from __future__ import annotations

from collections.abc import Iterator

from rain_decoding.evaluation.analyses.base import MISSING, Column, Part, Row
from rain_decoding.evaluation.suites import Family, Metric
from rain_decoding.evaluation.summary import label
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import Estimate, paired_difference, rate


def failures(part: Part) -> Iterator[Row]:
    """Per family, judge and decoder: the share of answers with the label that is not wanted, of all answers.

    `against` is the difference to the reference decoder, paired by prompt and seed.
    """
    for family, judge, metric in part.first_metrics():
        for name in part.plan.contenders:
            yield _row(part, family, judge, metric, name)


def _row(part: Part, family: Family, judge: str, metric: Metric, decoder: str) -> Row:
    reference = part.plan.reference
    records, base = part.of(decoder, family.name), part.of(reference, family.name)
    subjects = [record["subject"] for record in records]
    found, before = ([failed(r, judge, metric) for r in rows] for rows in (records, base))
    rates = part.row("rates", family=family.name, judge=judge, metric=metric.title, decoder=decoder)
    costs = part.row("costs", family=family.name, decoder=decoder)
    return {
        "family": family.name,
        "judge": judge,
        "failure": f"not {metric.question}" if metric.wanted else metric.question,
        "decoder": decoder,
        "rate": rounded(rate(found, subjects)),
        "against": None if decoder == reference else rounded(paired_difference(found, before, subjects)),
        **{key: rates[key] for key in ("malformed", "unscored")},
        **{key: costs[key] for key in ("search_tokens", "forward_passes")},
    }


def failed(record: Record, judge: str, metric: Metric) -> bool:
    """Whether the answer has the label that is not wanted. An unscored one has neither."""
    return label(record, judge, metric) is (not metric.wanted)


def rounded(estimate: Estimate | None) -> Row | None:
    """For JSON."""
    return estimate.rounded() if estimate else None


def columns(reference: str) -> tuple[Column, ...]:
    """What is shown of these rows."""
    return (
        Column("family", "family"),
        Column("failure", "answers"),
        Column("judge", "by"),
        Column("decoder", "decoder"),
        Column("rate", "share", "percent"),
        Column("against", f"against {reference}", "points"),
        *MISSING,
        Column("search_tokens", "tokens forwarded", "number"),
        Column("forward_passes", "passes", "number"),
    )
