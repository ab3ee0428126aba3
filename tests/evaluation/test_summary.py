"""The summary of an evaluation, from records made by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rain_decoding import SearchConfig
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import contender
from rain_decoding.evaluation.judges import Label, Preference
from rain_decoding.evaluation.pairwise import compare
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.suites import Family, Item, Metric, Suite
from rain_decoding.evaluation.summary import COSTS, summarise
from rain_decoding.measurement.statistics import paired_difference, rate

DECODERS = ("plain-sampled", "plain", "rain:fast")


class Aunt:
    """A judge that is never asked here but for comparisons: she likes the longer answer, if it is not odd."""

    name, version, source = "aunt", "1", "aunt"
    questions: tuple[str, ...] = ("harmless", "refused")

    def label(self, sample: Item, answer: str, questions: Any) -> Label:
        raise NotImplementedError

    def prefers(self, sample: Item, first: str, second: str, question: str) -> Preference:
        assert question == "harmless"
        if "?" in first + second:
            return Preference(None, "who knows")
        return Preference("first" if len(first) > len(second) else "second")


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """Eight prompts about four subjects."""
    for number in range(8):
        yield Item("f", f"prompt {number}", f"subject {number // 2}")


SUITE = Suite("s", "", (Family("f", (Metric("harmless"), Metric("refused", wanted=False))),), load)


@pytest.fixture
def plan() -> EvaluationPlan:
    contenders = {name: contender(name, SearchConfig()) for name in DECODERS}
    return EvaluationPlan.load(SUITE, contenders, Setting(), judges=(Aunt(),), seeds=(0, 1))


def records(
    plan: EvaluationPlan, labels: Mapping[str, Any], answers: Mapping[str, Any] | None = None
) -> list[Any]:
    """Records where a decoder's label or answer to prompt i is entry i of its list, over both seeds."""
    return [
        {
            "id": sample.id,
            "family": sample.family,
            "subject": sample.subject,
            "decoder": name,
            "seed": seed,
            "finish_reason": "stop",
            "answer": answers[name][index] if answers else "x",
            "usage": dict.fromkeys(COSTS, 10 * (index + 1)),
            "labels": {"aunt": {"harmless": labels[name][index], "refused": None, "malformed": False}},
        }
        for name in plan.contenders
        for seed in plan.seeds
        for index, sample in enumerate(plan.items)
    ]


T, F = True, False
LABELS = {
    "plain-sampled": [T, T, T, T, F, F, F, None],
    "plain": [T, F, F, F, F, F, F, F],
    "rain:fast": [T, T, T, T, T, T, F, F],
}


def rows(found: list[Any], decoder: str, metric: str = "harmless") -> Any:
    (row,) = (row for row in found if (row["decoder"], row["metric"]) == (decoder, metric))
    return row


def test_unscored_and_malformed_answers_stay_in_the_denominator(plan: EvaluationPlan) -> None:
    made = records(plan, LABELS)
    made[0]["labels"]["aunt"] = {"harmless": None, "refused": None, "malformed": True}
    found = summarise(made, plan)["rates"]
    row = rows(found, "plain-sampled")
    assert (row["value"], row["n"], row["unscored"], row["malformed"]) == (0.4375, 16, 2, 1)
    refused = rows(found, "plain", "not refused")
    assert (refused["value"], refused["unscored"]) == (0, 16), "unscored is not the same as not refused"
    # Both seeds of a prompt, and both prompts of a subject, make one cluster.
    row = rows(found, "rain:fast")
    expected = rate([True] * 6 + [False] * 2 + [True] * 6 + [False] * 2, [s.subject for s in plan.items] * 2)
    assert expected is not None
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (0.75, expected.low, expected.high), abs=1e-4
    )


def test_comparisons_are_with_plain_decoding_and_paired(plan: EvaluationPlan) -> None:
    made = records(plan, LABELS)
    summary = summarise(made[::-1], plan)
    assert summary["reference"] == "plain-sampled", "the first plain decoder"
    row = rows(summary["differences"], "rain:fast")
    assert (row["wins"], row["losses"], row["win_rate"]["value"]) == (4, 0, 1)
    ours = [bool(label) for label in LABELS["rain:fast"]] * 2
    theirs = [bool(label) for label in LABELS["plain-sampled"]] * 2
    expected = paired_difference(ours, theirs, [s.subject for s in plan.items] * 2)
    assert expected is not None and row["value"] == expected.value == 0.25
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=0.13)
    row = rows(summary["differences"], "plain")
    assert (row["wins"], row["losses"]) == (0, 6)
    assert summary == summarise(made, plan), "the order of the records means nothing"


def test_costs_are_means_per_answer(plan: EvaluationPlan) -> None:
    row = summarise(records(plan, LABELS), plan)["costs"][0]
    assert row["search_tokens"]["value"] == 45 and row["search_tokens"]["n"] == 16


def test_preferences_count_wins_losses_and_what_is_unscored(plan: EvaluationPlan) -> None:
    answers = {
        "plain-sampled": ["abc"] * 8,
        "plain": ["abc"] * 8,
        "rain:fast": ["abcd", "abcd", "abcd", "ab", "abc", "abc", "?", "?"],
    }
    made = records(plan, LABELS, answers)
    summary = summarise(made, plan, compare(made, plan))
    row = rows(summary["preferences"], "rain:fast")
    assert (row["wins"], row["losses"], row["unscored"], row["n"]) == (6, 2, 4, 16)
    assert row["win_rate"]["value"] == 0.75
    same = rows(summary["preferences"], "plain")
    assert (same["wins"], same["losses"], same["unscored"], same["win_rate"]) == (0, 0, 0, None)


def test_what_the_reference_does_not_answer_is_not_compared() -> None:
    metrics = (Metric("harmless"),)
    families = (Family("f", metrics), Family("g", metrics, prompt_format="text"))

    def both(files: Mapping[str, Path | None]) -> Iterator[Item]:
        yield from (Item(name, f"{name} {number}", f"{number}") for name in "fg" for number in range(3))

    names = ("plain+principle", "rain:fast")
    plan = EvaluationPlan.load(
        Suite("s", "", families, both),
        {name: contender(name, SearchConfig()) for name in names},
        Setting(),
        judges=(Aunt(),),
    )
    assert plan.reference == "plain+principle"
    answers = {"plain+principle": ["ab"] * 6, "rain:fast": ["abc"] * 6}
    made = [
        record
        for record in records(plan, {name: [T] * 6 for name in names}, answers)
        if (record["id"], record["decoder"], record["seed"]) in plan.keys
    ]
    assert len(made) == 3 + 6
    compared = compare(made, plan)
    assert [(row["family"], row["better"]) for row in compared] == [("f", "rain:fast")] * 3
    (row,) = summarise(made, plan, compared)["preferences"]
    assert (row["family"], row["wins"], row["n"]) == ("f", 3, 3)


@pytest.mark.parametrize(
    ("decoder", "model", "search_judge", "source", "same"),
    [
        ("rain-oracle", "demo", None, "oracle", True),
        ("rain", "demo", None, "oracle", False),
        ("plain", "hf:m", None, "m", False),
        ("best-of-2", "hf:m", None, "m", True),
        ("rain", "openai:http://h/v1#m", None, "http://h/v1#m", True),
        ("rain", "openai:http://h/v1#m", None, "http://h/v1#n", False),
        ("rain", "hf:m", "ask", "m", True),
        ("rain", "hf:m", "read#probe=a+b.json", "hf:m", True),
        ("rain", "hf:m", "auto", "m", True),
        ("rain", "demo", "openai:http://h/v1#m", "http://h/v1#m", True),
        ("rain", "openai:http://h/v1#m", "hf:other", "http://h/v1#m", False),
        ("plain", "demo", "openai:http://h/v1#m", "http://h/v1#m", False),
        ("rain", "hf:m", "read:hf:other#probe=p.json", "hf:other", True),
        ("rain", "hf:m", "read:hf:other#probe=p.json", "hf:m", False),
        ("rain", "hf:m", "read+openai:http://h/v1#m", "http://h/v1#m", True),
        ("rain", "hf:m", "read:hf:other+ask", "hf:m", True),
        ("rain", "hf:m", "read+hf-classifier:c", "hf-classifier:c", True),
        ("rain:balanced@judge=ask", "hf:m", "read:hf:other", "hf:m", True),
        ("rain:balanced@judge=read:hf:other", "hf:m", "ask", "hf:other", True),
        ("best-of-2@judge=read:hf:other", "hf:m", None, "m", False),
    ],
)
def test_a_judge_that_the_search_asked_is_noticed(
    decoder: str, model: str, search_judge: str | None, source: str, same: bool
) -> None:
    plan = judged_by(source, decoder, Setting(model, judge=search_judge))
    assert plan.same_judge() == ([(decoder, "aunt")] if same else [])


def test_a_classifier_as_criterion_judges_alone() -> None:
    for source, same in (("hf-classifier:c", True), ("m", False)):
        plan = judged_by(source, "rain", Setting("hf:m"), criterion="hf-classifier:c")
        assert bool(plan.same_judge()) == same


def judged_by(source: str, decoder: str, setting: Setting, **options: Any) -> EvaluationPlan:
    """The plan of one decoder, whose answers a judge of this source labels."""
    judge = Aunt()
    judge.source = source
    contenders = {decoder: contender(decoder, SearchConfig())}
    return EvaluationPlan.load(SUITE, contenders, setting, judges=(judge,), **options)
