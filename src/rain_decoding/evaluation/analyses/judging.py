"""Self-evaluation accuracy (the paper's Table 6): the search judge's verdicts against the evaluation judge's labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rain_decoding.evaluation.analyses.base import ASKED, Analysis, Column, Findings, Part, Row, Table
from rain_decoding.evaluation.analyses.comparison import EXPERIMENT
from rain_decoding.evaluation.analyses.failures import rounded
from rain_decoding.evaluation.judges.reading import QUESTIONS
from rain_decoding.evaluation.suites import Family
from rain_decoding.evaluation.summary import label, metrics
from rain_decoding.measurement.statistics import Estimate, mean_of_rates, rate

COLUMNS = (
    *ASKED,
    Column("question", "question"),
    Column("decoder", "answers of"),
    Column("accuracy", "accuracy", "percent"),
    Column("balanced", "balanced accuracy", "percent"),
    Column("good", "good ones found good", "percent"),
    Column("bad", "bad ones found bad", "percent"),
    Column("unscored", "unscored by the search's judge", "count"),
    Column("unlabelled", "without a label", "count"),
)


def find(parts: Sequence[Part]) -> Findings:
    """A table per part."""
    tables = [Table(part.title, COLUMNS, list(_rows(part))) for part in parts]
    return Findings([table for table in tables if table.rows])


def _rows(part: Part) -> Iterator[Row]:
    for family, judge, metric in metrics(part.plan):
        if metric.question == QUESTIONS[part.plan.criterion or family.criterion]:
            for name in part.plan.contenders:
                yield _row(part, family, judge, metric.question, name)


def _row(part: Part, family: Family, judge: str, question: str, decoder: str) -> Row:
    """Accuracy over the answers with a label; a judgement that was not scored is not right."""
    (metric,) = (metric for metric in family.metrics if metric.question == question)
    records = part.of(decoder, family.name)
    labelled = [r for r in records if label(r, judge, metric) is not None]

    def right(records: Sequence[Row]) -> list[bool]:
        return [r["score"] is not None and (r["score"] > 0) == label(r, judge, metric) for r in records]

    def share(of: Sequence[Row]) -> Estimate | None:
        return rate(right(of), [r["subject"] for r in of])

    good = [r for r in labelled if label(r, judge, metric)]
    bad = [r for r in labelled if not label(r, judge, metric)]
    return {
        "family": family.name,
        "judge": judge,
        "question": question,
        "decoder": decoder,
        "accuracy": rounded(share(labelled)),
        "good": rounded(share(good)),
        "bad": rounded(share(bad)),
        "balanced": rounded(mean_of_rates(share(good), share(bad))),
        "unscored": sum(r["score"] is None for r in labelled),
        "unlabelled": len(records) - len(labelled),
    }


ANALYSIS = Analysis(
    "self-evaluation",
    "Self-evaluation accuracy",
    "How often the judge of the search (good: its score is above 0) agrees with the label of the evaluation. Of the "
    "answers of RAIN and of other judged decoders, only those remain that the judge liked; how well it "
    "judges is best seen on plain-sampled. Balanced accuracy is the mean over good and bad answers, blank "
    "without both. "
    "Answers that the search's judge left unscored count as wrong; answers without a label are left out.",
    "no answers to judge",
    EXPERIMENT,
    find,
)
