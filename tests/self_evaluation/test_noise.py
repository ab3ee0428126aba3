"""A judge that errs: how often, and always alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import pytest

from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.noise import NoisyEvaluator
from rain_decoding.types import Judgement, Message, Tokens

TEXTS = [f"Answer number {n}" for n in range(2000)]


@dataclass
class Parity(ConversationEvaluator):
    """Finds good the answers that end in an even digit, more or less so; ends in "?": unscored, "0": undecided."""

    prompt: Prompt
    warnings: list[str] = field(default_factory=list)
    closed: bool = False
    kept: list[str] = field(default_factory=list)

    def judge(self, answer: str, tokens: Tokens | None = None) -> Any:
        if answer.endswith("?"):
            return Judgement(None, answer, problem="who knows")
        last = int(answer[-1])
        return Judgement(0.0 if not last else last / 10 if last % 2 == 0 else -last / 10, answer)
        yield

    def held(self, answer: str) -> list[Tokens]:
        return [(1, 2, len(answer))]

    def retain(self, answer: str) -> None:
        self.kept.append(answer)

    def close(self) -> None:
        self.closed = True


class ParityEvaluator:
    name = "parity"

    def conversation(self, prompt: Prompt) -> Parity:
        return Parity(prompt)


def prompt(text: str = "Tell me.") -> Prompt:
    return Prompt("dialogue", (Message("user", text),), text, (1,), (), strip=True)


def judged(evaluator: Any, texts: list[str], asked: str = "Tell me.") -> list[float | None]:
    """What a new conversation says of the texts."""
    judge, scores = evaluator.conversation(prompt(asked)), []
    for text in texts:
        running = judge.judge(text)
        with pytest.raises(StopIteration) as ended:
            next(running)
        scores.append(ended.value.value.score)
    return scores


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_verdicts_are_turned_over_as_often_as_asked(flips: float) -> None:
    true = judged(ParityEvaluator(), TEXTS)
    said = judged(NoisyEvaluator(ParityEvaluator(), flips), TEXTS)
    decided = [(a, b) for a, b in zip(true, said, strict=True) if a]
    assert all(abs(a) == abs(b) for a, b in decided if b is not None)
    turned = sum(a != b for a, b in decided) / len(decided)
    # Five standard deviations of the share among independent draws.
    assert abs(turned - flips) <= 5 * sqrt(flips * (1 - flips) / len(decided))
    # Which are flipped has nothing to do with whether they are good.
    good = [a != b for a, b in decided if a > 0]
    assert abs(sum(good) / len(good) - flips) <= 5 * sqrt(flips * (1 - flips) / len(good))


def test_the_same_text_always_gets_the_same_verdict() -> None:
    evaluator = NoisyEvaluator(ParityEvaluator(), 0.5)
    once = judged(evaluator, TEXTS[:300])
    assert judged(evaluator, TEXTS[:300][::-1])[::-1] == once, "in another order, in another conversation"
    assert judged(NoisyEvaluator(ParityEvaluator(), 0.5), [t for t in TEXTS[:300] for _ in "ab"])[::2] == once
    assert judged(NoisyEvaluator(ParityEvaluator(), 0.5, seed=1), TEXTS[:300]) != once
    assert judged(evaluator, TEXTS[:300], "Tell me more.") != once, "another prompt"


def test_more_noise_adds_to_the_verdicts_turned_over() -> None:
    true = judged(ParityEvaluator(), TEXTS)
    said = [judged(NoisyEvaluator(ParityEvaluator(), flips), TEXTS) for flips in (0.1, 0.2, 0.4)]
    turned = [{n for n, (a, b) in enumerate(zip(true, own, strict=True)) if a != b} for own in said]
    assert turned[0] < turned[1] < turned[2]


def test_unscored_and_undecided_stay() -> None:
    assert judged(NoisyEvaluator(ParityEvaluator(), 1.0), ["why?", "10", "2", "3"]) == [None, 0.0, -0.2, 0.3]


def test_everything_else_is_the_judges_own() -> None:
    judge = NoisyEvaluator(ParityEvaluator(), 0.5).conversation(prompt())
    own = judge.judging
    assert isinstance(own, Parity) and judge.held("abc") == [(1, 2, 3)]
    judge.prompt = other = prompt("Another.")
    judge.retain("abc")
    judge.close()
    assert own.prompt is other is judge.prompt and own.kept == ["abc"] and own.closed
    assert judge.warnings is own.warnings
