"""Comparisons of answers two by two, by judges that can say which of two is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rain_decoding.evaluation.judges import PairJudge
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import Item
from rain_decoding.measurement.records import Record

JUDGING = 8
"""Answers, or pairs of them, that are judged at the same time."""


def compare(records: Sequence[Record], plan: EvaluationPlan) -> list[dict[str, Any]]:
    """Each decoder's answers beside the reference's to the same prompt and seed, by the family's first metric.

    `better` is the name of the better decoder, "tie", or None where it is unscored. Answers that are the same are
    tied without asking; where one is missing, that is unscored. What the reference does not answer is left out.
    """
    judges = [judge for judge in plan.judges if isinstance(judge, PairJudge)]
    items = {item.id: item for item in plan.items}
    questions = {family.name: family.metrics[0].question for family in plan.suite.families}

    def compared(pair: tuple[PairJudge, Record, Record]) -> dict[str, Any]:
        judge, ours, theirs = pair
        return _compared(judge, items[ours["id"]], questions[ours["family"]], ours, theirs)

    with ThreadPoolExecutor(JUDGING) as pool:
        return list(pool.map(compared, _pairs(records, plan, judges)))


def _pairs(
    records: Sequence[Record], plan: EvaluationPlan, judges: Sequence[PairJudge]
) -> Iterator[tuple[PairJudge, Record, Record]]:
    reference = {(r["id"], r["seed"]): r for r in records if r["decoder"] == plan.reference}
    for judge in judges:
        for record in records:
            theirs = reference.get((record["id"], record["seed"]))
            if theirs is not None and record["decoder"] != plan.reference:
                yield judge, record, theirs


def _compared(judge: PairJudge, item: Item, question: str, ours: Record, theirs: Record) -> dict[str, Any]:
    better: str | None = "tie"
    problem = ours.get("problem") or theirs.get("problem") or ""
    if problem:
        better = None
    elif ours["answer"] != theirs["answer"]:
        preference = judge.prefers(item, ours["answer"], theirs["answer"], question)
        names = {"first": ours["decoder"], "second": theirs["decoder"], "tie": "tie", None: None}
        better, problem = names[preference.better], preference.problem
    return {
        "judge": judge.name,
        "question": question,
        "id": ours["id"],
        "family": ours["family"],
        "subject": ours["subject"],
        "seed": ours["seed"],
        "decoder": ours["decoder"],
        "reference": theirs["decoder"],
        "better": better,
        "problem": problem,
    }
