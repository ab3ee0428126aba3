"""What ratings say, recounted one by one from random runs and raters."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from evaluation.rating.rated import DECODERS, ratings, study

from rain_decoding.evaluation.rating.agreement import majority, rating_rows
from rain_decoding.evaluation.rating.study import Study
from rain_decoding.evaluation.rating.tasks import answer_id, pair_id, pair_tasks
from rain_decoding.measurement.statistics import rate

Said = dict[tuple[str, str, str], str]
RATERS = ["rater 0", "rater 1", "rater 2"]


@pytest.fixture(params=range(4))
def case(request: Any, tmp_path: Path) -> tuple[Study, Said, dict[str, list[dict[str, Any]]]]:
    run = study(tmp_path / "run", request.param)
    said = ratings(run, request.param)
    return run, said, rating_rows(run, said)


def pooled(said: Said, task: str, question: str) -> str | None:
    """What most raters say, written out."""
    votes = [said[rater, task, question] for rater in RATERS if (rater, task, question) in said]
    counts = Counter(vote for vote in votes if vote != "skip")
    if not counts:
        return "skip" if votes else None
    most = max(counts.values())
    winners = [vote for vote, count in counts.items() if count == most]
    return winners[0] if len(winners) == 1 else "tie"


def voice(said: Said, rater: str, task: str, question: str) -> str | None:
    return pooled(said, task, question) if rater == "majority" else said.get((rater, task, question))


def test_rates_are_shares_of_all_rated_answers(case: Any) -> None:
    run, said, rows = case
    assert len(rows["rates"]) == (len(RATERS) + 1) * len(DECODERS) * 3
    for row in rows["rates"]:
        own = [r for r in run.records if (r["decoder"], r["family"]) == (row["decoder"], row["family"])]
        votes = [(voice(said, row["rater"], answer_id(r), row["question"]), r["subject"]) for r in own]
        rated = [(vote, subject) for vote, subject in votes if vote is not None]
        expected = rate([vote == "yes" for vote, _ in rated], [subject for _, subject in rated])
        assert expected is not None
        assert expected.rounded() == {key: row[key] for key in ("value", "low", "high", "n")}
        assert row["unrated"] == len(own) - len(rated)
        assert row["skipped"] == sum(vote == "skip" for vote, _ in rated)
        assert row["ties"] == sum(vote == "tie" for vote, _ in rated)
    assert any(row["ties"] for row in rows["rates"]) and any(row["skipped"] for row in rows["rates"])


def test_an_unwanted_label_is_counted_by_its_absence(case: Any) -> None:
    from rain_decoding.evaluation.suites import Metric

    run, said, rows = case
    turned = Study(run.records, {"sensitive": (Metric("harmless", wanted=False),)}, run.reference)
    for row in rating_rows(turned, said)["rates"]:
        (usual,) = (r for r in rows["rates"] if all(r[k] == row[k] for k in ("rater", "decoder", "family")))
        assert row["metric"] == "not harmless"
        expected = usual["n"] - usual["skipped"] - usual["ties"] - round(usual["value"] * usual["n"])
        assert round(row["value"] * row["n"]) == expected


def test_preferences_count_wins_over_the_reference(case: Any) -> None:
    run, said, rows = case
    tasks = {task.id: task for task in pair_tasks(run)}
    plain = {r["id"]: r for r in run.records if r["decoder"] == "plain"}
    assert {row["decoder"] for row in rows["preferences"]} == set(DECODERS) - {"plain"}
    for row in rows["preferences"]:
        counts: Counter[str] = Counter()
        for r in run.records:
            if (r["decoder"], r["family"]) != (row["decoder"], row["family"]):
                continue
            other = plain[r["id"]]
            if r["answer"] == other["answer"]:
                counts["same"] += 1
                continue
            task = tasks[pair_id(r, other)]
            vote = voice(said, row["rater"], task.id, row["metric"])
            if vote in ("first", "second"):
                better = task.answers[0 if vote == "first" else 1]
                counts["wins" if better == r["answer"] else "losses"] += 1
            elif vote is not None:
                counts["ties" if vote == "tie" else "skipped"] += 1
        kinds = ("wins", "losses", "ties", "skipped", "same")
        assert {kind: row[kind] for kind in kinds} == {kind: counts[kind] for kind in kinds}
        decided = counts["wins"] + counts["losses"]
        assert row["n"] == decided + counts["ties"] + counts["skipped"]
        if decided:
            assert row["win_rate"]["value"] == pytest.approx(counts["wins"] / decided, abs=1e-4)


def test_judges_are_compared_answer_by_answer(case: Any) -> None:
    run, said, rows = case
    answers = {answer_id(r): r for r in run.records}
    assert {(row["judge"], row["family"]) for row in rows["judges"]} == {
        (judge, family) for judge in ("oracle", "llm:x#y") for family in ("sensitive", "benign", "all")
    }
    for row in rows["judges"]:
        counts: Counter[Any] = Counter()
        for task, r in answers.items():
            vote = voice(said, row["rater"], task, row["question"])
            if row["family"] in (r["family"], "all") and vote in ("yes", "no"):
                counts[vote == "yes", r["labels"][row["judge"]][row["question"]]] += 1
        assert row["both"] == counts[True, True] and row["neither"] == counts[False, False]
        assert row["rater_only"] == counts[True, False] and row["judge_only"] == counts[False, True]
        assert row["unscored"] == counts[True, None] + counts[False, None]
        assert row["n"] == sum(counts.values())
        assert row["value"] == pytest.approx((row["both"] + row["neither"]) / row["n"], abs=1e-4)
        assert row["kappa"] == pytest.approx(two_by_two(row), abs=1e-4)


def test_judges_that_compared_are_compared_pair_by_pair(case: Any) -> None:
    run, said, rows = case
    tasks = {task.id: task for task in pair_tasks(run)}
    records = {(r["id"], r["decoder"]): r for r in run.records}
    assert {row["family"] for row in rows["pair_judges"]} == {"sensitive", "benign"}
    for row in rows["pair_judges"]:
        found: dict[str, tuple[str, str | None]] = {}
        for c in run.comparisons:
            ours, theirs = records[c["id"], c["decoder"]], records[c["id"], "plain"]
            task = tasks.get(pair_id(ours, theirs))
            if task is None or c["family"] != row["family"]:
                continue
            vote = voice(said, row["rater"], task.id, row["question"])
            if vote in ("first", "second", "tie"):
                better = {"first": task.answers[0], "second": task.answers[-1], "tie": "tie"}[vote]
                judged = {c["decoder"]: ours["answer"], "plain": theirs["answer"], "tie": "tie", None: None}
                found[task.id] = (better, judged[c["better"]])
        same = [better == judged for better, judged in found.values()]
        assert row["n"] == len(same) > 0 and row["value"] == pytest.approx(sum(same) / len(same), abs=1e-4)
        assert row["unscored"] == sum(judged is None for _, judged in found.values())
    assert any(row["unscored"] for row in rows["pair_judges"])


def two_by_two(row: dict[str, Any]) -> float:
    """Cohen's kappa from the four counts."""
    a, b, c, d = (row[name] for name in ("both", "rater_only", "judge_only", "neither"))
    n = a + b + c + d
    chance = ((a + b) * (a + c) + (c + d) * (b + d)) / n**2
    return ((a + d) / n - chance) / (1 - chance)


def test_raters_are_compared_over_what_two_labelled(case: Any) -> None:
    run, said, rows = case
    measures = Counter((row["rated"], row["measure"]) for row in rows["raters"])
    assert measures["answers", "kappa"] == 3 * measures["answers", "alpha"] > 0
    assert measures["pairs", "kappa"] == 3 * measures["pairs", "alpha"] > 0
    shown = {
        "answers": {answer_id(r): r for r in run.records},
        "pairs": {task.id: {"family": task.answers[0].split()[-1][:-1]} for task in pair_tasks(run)},
    }
    for row in rows["raters"]:
        raters = RATERS if row["raters"] == "all" else row["raters"].split(", ")
        same, units = [], 0
        for task, r in shown[row["rated"]].items():
            if row["family"] not in (r["family"], "all"):
                continue
            votes = [said.get((rater, task, row["question"]), "skip") for rater in raters]
            labels = [vote for vote in votes if vote != "skip"]
            units += len(labels) > 1
            same += [a == b for a, b in combinations(labels, 2)]
        assert row["n"] == units and row["agreed"] == pytest.approx(sum(same) / len(same), abs=1e-4)


def test_one_rater_has_no_majority_and_nobody_to_agree_with(tmp_path: Path) -> None:
    run = study(tmp_path / "run")
    rows = rating_rows(run, ratings(run, 0, raters=1))
    assert {row["rater"] for row in rows["rates"]} == {"rater 0"} and rows["raters"] == []


def test_majorities() -> None:
    assert majority(["yes", "no", "yes"]) == "yes"
    assert majority(["yes", "no"]) == "tie"
    assert majority(["yes", "no", "skip", "no"]) == "no"
    assert majority(["skip", "skip"]) == "skip"
    assert majority(["first", "tie", "second"]) == "tie"
    assert majority(["tie", "tie", "second"]) == "tie"
