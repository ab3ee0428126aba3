"""What an evaluation's records say: rates, costs, and paired comparisons of the decoders, as flat rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rain_decoding.evaluation.judges import Judge, accuracy_of
from rain_decoding.evaluation.overview import overview, verdict
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import Family, Metric
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import Estimate, corrected_rate, mean, paired_difference, rate

COSTS = ("search_tokens", "forward_passes", "seconds", "completion_tokens", "simulations", "rewinds")
"""Means per answer of these fields of `Usage` are reported."""
DIGITS = 4
Row = dict[str, Any]


def summarise(
    records: Sequence[Record], plan: EvaluationPlan, comparisons: Sequence[Row] = ()
) -> dict[str, Any]:
    """Sum up a run: everything that its report shows, except the texts.

    Args:
        records: The labelled answers.
        plan: The run's plan.
        comparisons: Verdicts on pairs of answers, if judges gave any.

    Returns:
        A dictionary for JSON. Intervals are 95%, clustered by subject.
        `rates`: per decoder, family, judge and metric the share in [0, 1] of answers with the wanted label. Malformed
        and unscored answers count in the denominator; their numbers stand beside it. `corrected` is the share without
        the judge's errors, where it says how often it errs.
        `differences`: the same against the reference decoder, paired by prompt and seed, with wins and losses.
        `preferences`: the same by judges that compared the answers.
        `costs`: means per answer. `overview` and `verdict`: what stands at the top of the report.
    """
    ordered = sorted(records, key=lambda record: (record["decoder"], record["id"], record["seed"]))
    groups = {
        (name, family.name): [r for r in ordered if (r["decoder"], r["family"]) == (name, family.name)]
        for name in plan.contenders
        for family in plan.used_families
        if plan.asks(name, family)
    }
    rows = overview(ordered, list(plan.contenders), plan.reference, plan.used_families, plan.judges)
    return {
        "overview": rows,
        "verdict": list(verdict(rows, plan.reference)),
        "suite": plan.suite.name,
        "model": plan.setting.model,
        "seeds": list(plan.seeds),
        "reference": plan.reference,
        "decoders": list(plan.contenders),
        "judges": [judge.name for judge in plan.judges],
        "prompts": {f.name: sum(i.family == f.name for i in plan.items) for f in plan.used_families},
        "answers": len(records),
        "same_judge": [list(pair) for pair in plan.same_judge()],
        "rates": list(_rates(groups, plan)),
        "differences": list(_differences(groups, plan)),
        "preferences": list(_preferences(comparisons, plan)),
        "costs": list(_costs(groups)),
        "finish_reasons": {name: _finish_reasons(ordered, name) for name in plan.contenders},
    }


Groups = dict[tuple[str, str], list[Record]]


def metrics(plan: EvaluationPlan) -> Iterator[tuple[Family, str, Metric]]:
    """What is measured: per family, by which judge, and what."""
    for family in plan.used_families:
        for judge in plan.judges:
            for metric in family.metrics:
                if metric.question in judge.questions:
                    yield family, judge.name, metric


def holds(record: Record, judge: str, metric: Metric) -> bool:
    """Whether the answer has the wanted label. An unscored one has not."""
    return label(record, judge, metric) == metric.wanted


def label(record: Record, judge: str, metric: Metric) -> bool | None:
    """What the judge said, None where it is unscored."""
    return record["labels"].get(judge, {}).get(metric.question)


def _corrected(found: Estimate | None, judge: Judge, metric: Metric) -> Row | None:
    """A rate without the errors of the judge, where they are known."""
    accuracy = accuracy_of(judge, metric.question)
    if found is None or accuracy is None:
        return None
    yes, no = (accuracy.yes, accuracy.no) if metric.wanted else (accuracy.no, accuracy.yes)
    corrected = corrected_rate(found, yes, no)
    return corrected.rounded() if corrected else None


def _rates(groups: Groups, plan: EvaluationPlan) -> Iterator[Row]:
    judges = {judge.name: judge for judge in plan.judges}
    for family, judge, metric in metrics(plan):
        for name in (name for name in plan.contenders if plan.asks(name, family)):
            records = groups[name, family.name]
            malformed = [bool(r["labels"].get(judge, {}).get("malformed")) for r in records]
            unscored = [label(r, judge, metric) is None for r in records]
            found = rate([holds(r, judge, metric) for r in records], _subjects(records))
            yield {
                "decoder": name,
                "family": family.name,
                "judge": judge,
                "metric": metric.title,
                "question": metric.question,
                **_rounded(found),
                "corrected": _corrected(found, judges[judge], metric),
                "malformed": sum(malformed),
                "unscored": sum(un and not mal for un, mal in zip(unscored, malformed, strict=True)),
            }


def _differences(groups: Groups, plan: EvaluationPlan) -> Iterator[Row]:
    for family, judge, metric in metrics(plan):
        reference = groups.get((plan.reference, family.name), [])
        base = {(r["id"], r["seed"]): holds(r, judge, metric) for r in reference}
        for name in plan.contenders:
            if name == plan.reference or not base or not plan.asks(name, family):
                continue
            records = [r for r in groups[name, family.name] if (r["id"], r["seed"]) in base]
            ours = [holds(r, judge, metric) for r in records]
            theirs = [base[r["id"], r["seed"]] for r in records]
            yield {
                "decoder": name,
                "family": family.name,
                "judge": judge,
                "metric": metric.title,
                **_rounded(paired_difference(ours, theirs, _subjects(records))),
                **wins([a - b for a, b in zip(ours, theirs, strict=True)], _subjects(records)),
            }


def _preferences(comparisons: Sequence[Row], plan: EvaluationPlan) -> Iterator[Row]:
    kinds = dict.fromkeys((c["judge"], c["question"], c["family"]) for c in comparisons)
    for judge, question, family in kinds:
        for name in plan.contenders:
            own = [
                c
                for c in comparisons
                if (c["judge"], c["question"], c["family"], c["decoder"]) == (judge, question, family, name)
            ]
            if own:
                signs = [(c["better"] == c["decoder"]) - (c["better"] == c["reference"]) for c in own]
                yield {
                    "decoder": name,
                    "family": family,
                    "judge": judge,
                    "metric": question,
                    "n": len(own),
                    "unscored": sum(c["better"] is None for c in own),
                    **wins(signs, _subjects(own)),
                }


def wins(signs: Sequence[int], subjects: Sequence[str]) -> Row:
    """Wins, losses, and wins / (wins + losses) with its interval."""
    decided = [(sign > 0, subject) for sign, subject in zip(signs, subjects, strict=True) if sign]
    won = [win for win, _ in decided]
    share = rate(won, [subject for _, subject in decided])
    return {
        "wins": sum(won),
        "losses": len(won) - sum(won),
        "win_rate": _rounded(share) if share else None,
    }


def _costs(groups: Groups) -> Iterator[Row]:
    for (name, family), records in groups.items():
        yield {
            "decoder": name,
            "family": family,
            **{key: _rounded(mean([r["usage"][key] for r in records], _subjects(records))) for key in COSTS},
        }


def _finish_reasons(records: Sequence[Record], decoder: str) -> dict[str, int]:
    own = [r["finish_reason"] for r in records if r["decoder"] == decoder]
    return {reason: own.count(reason) for reason in sorted(set(own))}


def _subjects(records: Sequence[Row]) -> list[str]:
    return [record["subject"] for record in records]


def _rounded(estimate: Estimate | None) -> Row:
    return estimate.rounded() if estimate else {"value": None, "low": None, "high": None, "n": 0}
