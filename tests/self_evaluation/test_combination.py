"""Several criteria at once: rules, syntax, and what a combined judgement says."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from decoder_worlds import WORDS, scripted

from rain_decoding import CriterionError, RainDecoder, SearchConfig
from rain_decoding.self_evaluation.combination import CLEAR, Combined, Part
from rain_decoding.self_evaluation.combination_syntax import Expression, Named, parse
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import Judgement


class Fixed:
    """Judges everything alike."""

    def __init__(self, name: str, score: float | None = 0.0):
        self.name, self.score = name, score
        self.warnings = [f"{name} warns"]

    def conversation(self, prompt: Any) -> Any:
        return self

    def judge(self, answer: str, tokens: Any = None) -> Any:
        return Judgement(self.score, answer, problem="" if self.score is not None else "no labels")
        yield


def combined(rule: Any, *parts: tuple[Any, ...]) -> Combined:
    return Combined(rule, [Part(Fixed(name), *rest) for name, *rest in parts])


def scores(rng: np.random.Generator) -> dict[str, float]:
    """Random scores, often at the ends and on thresholds."""
    choices = [-1.0, -0.5, 0.0, 0.5, 1.0, float(rng.uniform(-1, 1))]
    return {name: float(rng.choice(choices)) for name in "abc"}


def test_the_least_and_the_mean() -> None:
    least, mean = combined("min", "a", "b", "c"), combined("mean", ("a", 2.0), ("b", 0.5), "c")
    rng = np.random.default_rng(1)
    for _ in range(200):
        drawn = scores(rng)
        assert least.score(drawn) == sorted(drawn.values())[0]
        expected = np.average([drawn[name] for name in "abc"], weights=[2, 0.5, 1])
        assert mean.score(drawn) == pytest.approx(expected)


def test_a_missed_threshold_is_below_zero_and_all_that_holds_above() -> None:
    both = combined("thresholds", ("a", 1.0, 0.5), ("b", 1.0, -0.5), "c")
    rng = np.random.default_rng(2)
    for _ in range(500):
        drawn = scores(rng)
        holds = drawn["a"] > 0.5 and drawn["b"] > -0.5
        score = both.score(drawn)
        assert (CLEAR <= score <= 1) if holds else (-1 <= score <= -CLEAR)


def test_a_better_objective_or_a_smaller_shortfall_is_a_better_score() -> None:
    both = combined("thresholds", ("a", 1.0, 0.5), ("b", 1.0, -0.5), "c")
    grid = np.linspace(-1, 1, 41)
    held = [both.score({"a": 0.9, "b": 0.0, "c": float(value)}) for value in grid]
    assert held == sorted(set(held)) and held[-1] == 1
    for name in "ab":
        failed = [both.score({"a": 0.4, "b": -0.6, "c": 1.0, name: float(value)}) for value in grid]
        assert failed == sorted(failed)
    # The worse shortfall counts, in shares of what lies below the threshold: 1.5 for a, 0.5 for b.
    assert both.score({"a": -0.25, "b": 0.0, "c": 1.0}) == both.score({"a": 0.9, "b": -0.75, "c": 1.0})
    assert both.score({"a": -1.0, "b": -0.75, "c": 1.0}) == -1


def test_thresholds_without_an_objective_score_by_the_least_surplus() -> None:
    both = combined("thresholds", ("a", 1.0, 0.5), ("b", 1.0, 0.0))
    assert both.score({"a": 1.0, "b": 1.0}) == 1
    assert both.score({"a": 0.6, "b": 0.9}) == pytest.approx(both.score({"a": 0.9, "b": 0.2}))
    assert both.score({"a": 0.5, "b": 1.0}) < 0 < both.score({"a": 0.51, "b": 0.01})


@pytest.mark.parametrize(
    ("rule", "parts", "message"),
    [
        ("max", ["a"], "needs a rule"),
        ("min", [], "a combination needs a rule and parts"),
        ("min", ["a", "a"], "twice"),
        ("mean", [("a", 0.0)], "weight"),
        ("min", [("a", 1.0, 0.5)], "does not take thresholds"),
        ("thresholds", [("a", 1.0, 1.0)], r"not in \[-1, 1\)"),
        ("thresholds", [("a", 1.0, 0.5), "b", "c"], "2 parts have no threshold"),
    ],
)
def test_parts_that_do_not_fit_are_refused(rule: str, parts: list[Any], message: str) -> None:
    with pytest.raises(CriterionError, match=message):
        combined(rule, *parts)


def run(program: Any) -> Judgement:
    """Run a judgement whose parts ask for nothing."""
    from rain_decoding.scheduler import Scheduler, Task

    backend = scripted(lambda text: {"A": 1.0}, WORDS)
    task: Any = Task(program, 1)
    Scheduler.of(backend).start(task)
    assert task.done
    if task.error:
        raise task.error
    return task.result


def test_an_unscored_part_makes_the_whole_unscored_and_is_named() -> None:
    parts = [Part(Fixed("kind", 0.8)), Part(Fixed("clear", None)), Part(Fixed("short", None))]
    judge = Combined("min", parts).conversation(None)  # type: ignore[arg-type]
    judgement = run(judge.judge("Hello."))
    assert judgement.score is None
    assert judgement.problem == "clear: no labels; short: no labels"
    assert judgement.parts == {"kind": 0.8, "clear": None, "short": None}
    assert judge.warnings == ["kind warns", "clear warns", "short warns"]


def test_combinations_may_hold_others_and_say_all_scores() -> None:
    inner = Combined("mean", [Part(Fixed("a", 1.0), 3.0), Part(Fixed("b", -1.0))], "inner")
    outer = Combined("thresholds", [Part(Fixed("safe", 0.7), threshold=0.5), Part(inner)])
    judgement = run(outer.conversation(None).judge("x"))  # type: ignore[arg-type]
    assert judgement.parts == {"safe": 0.7, "inner": 0.5, "a": 1.0, "b": -1.0}
    assert judgement.score == outer.score({"safe": 0.7, "inner": 0.5})


# Syntax


def shape(parsed: Any) -> Any:
    """A parsed text as nested tuples."""
    if isinstance(parsed, Named):
        return parsed.text
    assert isinstance(parsed, Expression)
    return (parsed.rule, *((shape(term.of), term.weight, term.threshold) for term in parsed.terms))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("harmlessness", "harmlessness"),
        (" my folder/mine.toml ", "my folder/mine.toml"),
        ("min", "min"),
        ("min(a, b-c)", ("min", ("a", 1, None), ("b-c", 1, None))),
        ("mean( a*2 ,b * 0.5)", ("mean", ("a", 2, None), ("b", 0.5, None))),
        ("a>0.5, b", ("thresholds", ("a", 1, 0.5), ("b", 1, None))),
        ("a > -0.25", ("thresholds", ("a", 1, -0.25))),
        ("a>0, min(b, c)", ("thresholds", ("a", 1, 0), (("min", ("b", 1, None), ("c", 1, None)), 1, None))),
        (
            "min(\"principle: Short, (and) >polite*.\", 'x,y')",
            ("min", ("principle: Short, (and) >polite*.", 1, None), ("x,y", 1, None)),
        ),
        (
            "hf-classifier:ab/cd#positive=good one>0.9, e",
            ("thresholds", ("hf-classifier:ab/cd#positive=good one", 1, 0.9), ("e", 1, None)),
        ),
        ("mean(min(a,b)*3, c)", ("mean", (("min", ("a", 1, None), ("b", 1, None)), 3, None), ("c", 1, None))),
    ],
)
def test_what_is_read(text: str, expected: Any) -> None:
    assert shape(parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a criterion was expected at the end"),
        ("a,", "a criterion was expected at the end"),
        ("min(a", r"'\)' was expected at the end"),
        ("min(a>0.5, b)", r"'\)' was expected at '>0.5, b\)'"),
        ("min(a*2, b)", r"'\)' was expected at '\*2, b\)'"),
        ("mean(a*x)", r"a number was expected at 'x\)'"),
        ("a>", "a number was expected at the end"),
        ("a>0.5 b", "a number was expected at '0.5 b'"),
        ("a)", r"the end was expected at '\)'"),
        ('min("a, b)', "quotation mark"),
        ("max(a, b)", r"the end was expected at '\(a, b\)'"),
        ('""', "a criterion was expected"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(CriterionError, match=message) as caught:
        parse(text)
    assert "min(A, B)" in caught.value.hint


def test_texts_of_random_combinations_read_back() -> None:
    rng = np.random.default_rng(5)
    letters = itertools.cycle("abcdefgh")

    def one(depth: int) -> tuple[str, Any]:
        if depth == 0 or rng.random() < 0.4:
            name = next(letters)
            return name, name
        rule = str(rng.choice(["min", "mean"]))
        inner = [one(depth - 1) for _ in range(rng.integers(1, 4))]
        weights = [float(rng.integers(1, 9)) / 4 if rule == "mean" else 1.0 for _ in inner]
        texts = [
            f"{text}*{weight}" if rule == "mean" else text
            for (text, _), weight in zip(inner, weights, strict=True)
        ]
        terms = ((made, weight, None) for (_, made), weight in zip(inner, weights, strict=True))
        return f"{rule}({', '.join(texts)})", (rule, *terms)

    for _ in range(100):
        text, expected = one(3)
        assert shape(parse(text)) == expected
        assert shape(parse(f"x>0.5, {text}")) == ("thresholds", ("x", 1, 0.5), (expected, 1, None))


# In a decoder


def criterion(name: str, lead: str) -> Criterion:
    return Criterion(
        name=name,
        summary="",
        question="Options:\n(A) {option_1}\n(B) {option_2}",
        lead=lead,
        labels=(("A",), ("B",)),
        statements=(f"It is {name}.", "It is not."),
        both_orders=False,
    )


KIND, BRIEF = criterion("kind", "It is ("), criterion("brief", "So it is (")


def two_faced(text: str) -> dict[str, float]:
    """Is judged kind without " w3", and brief without " w5"; nothing else is known of it."""
    answer = text.rpartition("Assistant:")[2].partition("\nOptions")[0]
    if text.endswith("It is ("):
        return {"A": 0.1, "B": 0.9} if " w3" in answer else {"A": 0.9, "B": 0.1}
    if text.endswith("So it is ("):
        return {"A": 0.3, "B": 0.7} if " w5" in answer else {"A": 0.7, "B": 0.3}
    return (
        {" w3": 0.4, " w5": 0.3, " w1": 0.2}
        if answer == ""
        else {".": 1.0}
        if answer[-1] != "."
        else {"<end>": 1}
    )


def decoder(judge: Any) -> RainDecoder:
    config = SearchConfig(strategy="verify-first", votes="soft", sentence_tokens=(2, 6))
    return RainDecoder(scripted(two_faced, WORDS), judge, config)


def test_only_what_all_criteria_like_is_returned() -> None:
    assert decoder(KIND).generate("Say it.").text == "w5."
    assert decoder(BRIEF).generate("Say it.").text == "w3."
    shared = decoder(KIND)
    both = Combined("min", [Part(shared.evaluator), Part(shared.judged_by(BRIEF).evaluator)])
    completion = shared.judged_by(both).generate("Say it.", trace=True)
    assert completion.text == "w1."
    assert completion.parts == {"kind": pytest.approx(0.8), "brief": pytest.approx(0.4)}
    assert completion.score == pytest.approx(0.4)
    judged = [event for event in completion.trace if event["event"] == "judge"]
    assert all(event["parts"].keys() == {"kind", "brief"} for event in judged)
    assert {min(event["parts"].values()) for event in judged} == {event["score"] for event in judged}
    assert completion.trace[-1]["parts"] == completion.parts


def test_the_judge_prompts_of_all_parts_go_out_in_one_step() -> None:
    shared = decoder(KIND)
    both = Combined("min", [Part(shared.evaluator), Part(shared.judged_by(BRIEF).evaluator)])
    asked: list[int] = []
    backend: Any = shared.backend
    step = backend.step

    def counted() -> Any:
        asked.append(backend.pending)
        return step()

    backend.step = counted
    assert shared.judged_by(both).judge("Say it.", "w1.").score == pytest.approx(0.4)
    assert asked == [2]
