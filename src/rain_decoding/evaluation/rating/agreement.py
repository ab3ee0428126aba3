"""What ratings say: rates, preferences, how far raters agree with each other and with the judges, as flat rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from rain_decoding.evaluation.rating.questions import FIRST, NO, SECOND, SKIP, TIE, YES
from rain_decoding.evaluation.rating.store import POOLED, Ratings
from rain_decoding.evaluation.rating.study import Study
from rain_decoding.evaluation.rating.tasks import answer_id, pair_id, pairs
from rain_decoding.evaluation.suites import Metric
from rain_decoding.evaluation.summary import wins
from rain_decoding.measurement.records import Record
from rain_decoding.measurement.statistics import kappa, nominal_alpha, rate

Row = dict[str, Any]
Said = Mapping[tuple[str, str], str]
"""What one rater said, by task and question."""
ALL = "all"
"""All families together, and all raters."""
DIGITS = 4


def rating_rows(study: Study, ratings: Ratings) -> dict[str, list[Row]]:
    """Everything that the report shows.

    `rates`: per rater, decoder, family and question the share of rated answers with the wanted label. Answers of which
    the rater could not say (`skipped`) are in the denominator, those not rated (`unrated`) are not.
    `preferences`: answers beside the reference's, with wins / (wins + losses); `same` counts pairs of one and the same
    answer, which nobody is shown.
    `raters`: Krippendorff's alpha of all raters and Cohen's kappa of every two, over the `n` answers, or pairs of
    them, that at least two labelled; `agreed` is the share of two labels of one answer that are the same.
    `judges`: every automatic judge beside every rater, over the `n` answers that the rater labelled, each once. The
    value is the share to which the judge gave the rater's label, which it did not where it left it unscored; kappa is
    over those it scored. The counts say who called the answer what is asked: `both`, `rater_only`, `judge_only`,
    `neither`.
    `pair_judges`: the same for judges that compared two answers (`rain eval --pairwise`): the share of the `n` pairs
    that the rater compared, each once, in which the judge prefers the same answer, or neither where the rater does not.

    With several raters there is one more, `majority`: what most of them say. A tie has not the wanted label, stays
    in the denominator of rates and is counted as `ties`; judges are not compared with it. Intervals are 95%,
    clustered by subject.
    """
    said = _by_rater(ratings)
    answers = {answer_id(record): record for record in reversed(study.records)}
    voices = {**said, POOLED: _majority(said)} if len(said) > 1 else said
    return {
        "rates": [row for name, own in voices.items() for row in _rates(study, name, own)],
        "preferences": [row for name, own in voices.items() for row in _preferences(study, name, own)],
        "raters": list(_raters(study, answers, said)),
        "judges": [row for name, own in voices.items() for row in _judges(study, answers, name, own)],
        "pair_judges": [row for name, own in voices.items() for row in _pair_judges(study, name, own)],
    }


def _by_rater(ratings: Ratings) -> dict[str, Said]:
    said: dict[str, dict[tuple[str, str], str]] = {}
    for (rater, task, question), value in sorted(ratings.items()):
        said.setdefault(rater, {})[task, question] = value
    return dict(said)


def _majority(said: Mapping[str, Said]) -> Said:
    votes: dict[tuple[str, str], list[str]] = {}
    for own in said.values():
        for key, value in own.items():
            votes.setdefault(key, []).append(value)
    return {key: majority(values) for key, values in votes.items()}


def majority(values: Sequence[str]) -> str:
    """What most raters say, of those who could say something; `tie` where as many say something else."""
    first, *others = Counter(value for value in values if value != SKIP).most_common(2) or [(SKIP, 0)]
    return TIE if others and others[0][1] == first[1] else first[0]


def _rates(study: Study, rater: str, said: Said) -> Iterator[Row]:
    for family, metric in _metrics(study):
        for decoder in study.decoders:
            own = [r for r in study.records if (r["decoder"], r["family"]) == (decoder, family)]
            rated = [(r, said[key]) for r in own if (key := (answer_id(r), metric.question)) in said]
            wanted = YES if metric.wanted else NO
            share = rate([value == wanted for _, value in rated], [r["subject"] for r, _ in rated])
            if share is not None:
                yield {
                    "rater": rater,
                    "decoder": decoder,
                    "family": family,
                    "metric": metric.title,
                    "question": metric.question,
                    **share.rounded(),
                    "unrated": len(own) - len(rated),
                    "skipped": sum(value == SKIP for _, value in rated),
                    "ties": sum(value == TIE for _, value in rated),
                }


def _preferences(study: Study, rater: str, said: Said) -> Iterator[Row]:
    both = list(pairs(study))
    for family, own in study.metrics.items():
        for decoder in study.decoders:
            compared = [(a, b) for a, b in both if (a["decoder"], a["family"]) == (decoder, family)]
            found = [
                (ours, theirs, said[key])
                for ours, theirs in compared
                if (key := (pair_id(ours, theirs), own[0].question)) in said
            ]
            if found:
                signs = [_sign(ours, theirs, value) for ours, theirs, value in found]
                yield {
                    "rater": rater,
                    "decoder": decoder,
                    "reference": study.reference,
                    "family": family,
                    "metric": own[0].question,
                    "n": len(found),
                    **wins(signs, [ours["subject"] for ours, _, _ in found]),
                    "ties": sum(value == TIE for *_, value in found),
                    "skipped": sum(value == SKIP for *_, value in found),
                    "same": sum(ours["answer"] == theirs["answer"] for ours, theirs in compared),
                }


def _sign(ours: Record, theirs: Record, value: str) -> int:
    """1 where our answer was preferred, -1 where theirs was, else 0."""
    if value not in (FIRST, SECOND):
        return 0
    return 1 if (value == FIRST) == (answer_id(ours) < answer_id(theirs)) else -1


def _raters(study: Study, answers: Mapping[str, Record], said: Mapping[str, Said]) -> Iterator[Row]:
    compared = {pair_id(ours, theirs): ours for ours, theirs in pairs(study)}
    first = [(family, own[0]) for family, own in study.metrics.items()]
    for kind, shown, asked in (("answers", answers, _metrics(study)), ("pairs", compared, first)):
        for question, family, tasks in _groups(asked, shown):
            facts = {"rated": kind, "question": question, "family": family}
            labels = {
                name: {task: own[task, question] for task in tasks if own.get((task, question), SKIP) != SKIP}
                for name, own in said.items()
            }
            if row := _alpha(labels):
                yield {**facts, **row}
                for one, other in combinations(labels, 2):
                    if row := _kappa(labels, one, other):
                        yield {**facts, **row}


def _alpha(labels: Mapping[str, Mapping[str, str]]) -> Row | None:
    tasks = sorted({task for own in labels.values() for task in own})
    units = [[own[task] for own in labels.values() if task in own] for task in tasks]
    units = [unit for unit in units if len(unit) > 1]
    same = [one == other for unit in units for one, other in combinations(unit, 2)]
    if not units:
        return None
    return {"raters": ALL, "measure": "alpha", **_agreed(same, len(units), nominal_alpha(units))}


def _kappa(labels: Mapping[str, Mapping[str, str]], one: str, other: str) -> Row | None:
    tasks = [task for task in labels[one] if task in labels[other]]
    ours, theirs = ([labels[name][task] for task in tasks] for name in (one, other))
    if not tasks:
        return None
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    return {"raters": f"{one}, {other}", "measure": "kappa", **_agreed(same, len(tasks), kappa(ours, theirs))}


def _agreed(same: Sequence[bool], n: int, value: float | None) -> Row:
    return {"value": _rounded(value), "n": n, "agreed": _rounded(sum(same) / len(same))}


def _judges(study: Study, answers: Mapping[str, Record], rater: str, said: Said) -> Iterator[Row]:
    judges = dict.fromkeys(name for record in answers.values() for name in record["labels"])
    for question, family, tasks in _groups(_metrics(study), answers):
        rated = [(answers[task], said.get((task, question))) for task in tasks]
        for judge in judges:
            pairs_of_labels = [
                (record, value == YES, record["labels"][judge][question])
                for record, value in rated
                if value in (YES, NO) and question in record["labels"].get(judge, {})
            ]
            if pairs_of_labels:
                facts = {"rater": rater, "judge": judge, "question": question, "family": family}
                yield {**facts, **_against(pairs_of_labels)}


def _against(labels: Sequence[tuple[Record, bool, bool | None]]) -> Row:
    """A judge's labels against a rater's, as in the paper's Table 8."""
    accuracy = rate([ours == theirs for _, ours, theirs in labels], [r["subject"] for r, _, _ in labels])
    assert accuracy is not None
    scored = [(ours, theirs) for _, ours, theirs in labels if theirs is not None]
    counts = Counter(scored)
    return {
        **accuracy.rounded(),
        "kappa": _rounded(kappa([ours for ours, _ in scored], [theirs for _, theirs in scored])),
        "both": counts[True, True],
        "rater_only": counts[True, False],
        "judge_only": counts[False, True],
        "neither": counts[False, False],
        "unscored": len(labels) - len(scored),
    }


def _pair_judges(study: Study, rater: str, said: Said) -> Iterator[Row]:
    compared = {
        (c["judge"], c["question"], c["id"], c["seed"], c["decoder"]): c["better"]
        for c in study.comparisons
        if c["reference"] == study.reference
    }
    for judge, question in dict.fromkeys(key[:2] for key in compared):
        for family in [family for family, own in study.metrics.items() if own[0].question == question]:
            found: dict[str, tuple[str, int, int | None]] = {}
            for ours, theirs in pairs(study):
                value = said.get((task := pair_id(ours, theirs), question), SKIP)
                key = (judge, question, ours["id"], ours["seed"], ours["decoder"])
                if ours["family"] == family and value != SKIP and key in compared:
                    signs = {ours["decoder"]: 1, theirs["decoder"]: -1, TIE: 0, None: None}
                    found[task] = (ours["subject"], _sign(ours, theirs, value), signs[compared[key]])
            if found:
                facts = {"rater": rater, "judge": judge, "question": question, "family": family}
                yield {**facts, **_same_preference(list(found.values()))}


def _same_preference(found: Sequence[tuple[str, int, int | None]]) -> Row:
    """Subject, the rater's preference and the judge's of each pair: 1, -1, 0 for neither, None for unscored."""
    share = rate([ours == theirs for _, ours, theirs in found], [subject for subject, *_ in found])
    assert share is not None
    scored = [(ours, theirs) for _, ours, theirs in found if theirs is not None]
    return {
        **share.rounded(),
        "kappa": _rounded(kappa([ours for ours, _ in scored], [theirs for _, theirs in scored])),
        "unscored": len(found) - len(scored),
    }


def _groups(
    asked: Iterable[tuple[str, Metric]], shown: Mapping[str, Record]
) -> Iterator[tuple[str, str, list[str]]]:
    """Each question, per family and in all families where it is asked, with the tasks there."""
    where: dict[str, list[str]] = {}
    for family, metric in asked:
        where.setdefault(metric.question, []).append(family)
    for question, families in where.items():
        groups = [[family] for family in families] + [families] * (len(families) > 1)
        for group in groups:
            tasks = [task for task, record in shown.items() if record["family"] in group]
            yield question, ALL if len(group) > 1 else group[0], tasks


def _metrics(study: Study) -> Iterator[tuple[str, Metric]]:
    for family, metrics in study.metrics.items():
        for metric in metrics:
            yield family, metric


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
