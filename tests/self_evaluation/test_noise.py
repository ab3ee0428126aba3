"""A judge that errs: how often, and always alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import pytest
from decoder_worlds import GOOD, lock_world
from self_evaluation.reading.synthetic import probe

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.noise import NoisyEvaluator
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.types import LAST, Judgement, Message, Tokens

TEXTS = [f"Answer number {n}" for n in range(2000)]


@dataclass
class Parity(ConversationEvaluator):
    """Finds good the answers that end in an even digit, more or less so; ends in "?": unscored, "0": undecided.

    As a reading judge it costs nothing, and says where the text turned.
    """

    prompt: Prompt
    free = True
    warnings: list[str] = field(default_factory=list)
    closed: bool = False
    kept: list[str] = field(default_factory=list)

    def judge(self, answer: str, tokens: Tokens | None = None) -> Any:
        if answer.endswith("?"):
            return Judgement(None, answer, problem="who knows")
        last = int(answer[-1])
        score = 0.0 if not last else last / 10 if last % 2 == 0 else -last / 10
        return Judgement(score, answer, course=(0.5, score), sentences=(0, 1))
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


def judgements(evaluator: Any, texts: list[str], asked: str = "Tell me.") -> list[Judgement]:
    """What a new conversation says of the texts."""
    judge, found = evaluator.conversation(prompt(asked)), []
    for text in texts:
        running = judge.judge(text)
        with pytest.raises(StopIteration) as ended:
            next(running)
        found.append(ended.value.value)
    return found


def judged(evaluator: Any, texts: list[str], asked: str = "Tell me.") -> list[float | None]:
    """The scores of the texts."""
    return [each.score for each in judgements(evaluator, texts, asked)]


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


def test_a_flipped_verdict_does_not_say_where_the_text_turned() -> None:
    for flips in (0.0, 0.5, 1.0):
        told = judgements(NoisyEvaluator(ParityEvaluator(), flips), TEXTS[:100])
        for own, found in zip(judgements(ParityEvaluator(), TEXTS[:100]), told, strict=True):
            kept = (own.course, own.sentences) if found.score == own.score else ((), ())
            assert (found.course, found.sentences) == kept


def test_a_judge_that_reads_is_asked_as_often_where_it_might_err() -> None:
    backend = lock_world()
    weights = np.zeros((1, 2 * backend.engine.vocabulary_size))
    weights[0, backend.codec.encode(" a hairpin", start=False)[0]] = -50.0
    own = probe(layers=(LAST,), weights=weights, bias=5.0, threshold=0.0, patience=0.0)
    reading = RainDecoder(
        backend, ReadingEvaluator(backend, own, "kind"), SearchConfig.preset("balanced", read_every=1)
    )
    searches = [
        decoder.generate("Open the lock.", trace=True)
        for decoder in (reading, reading.judged_by(NoisyEvaluator(reading.evaluator, 0.0)))
    ]
    assert searches[0].text == GOOD and searches[0].usage.self_evaluations > 2
    assert searches[0].trace[1:-1] == searches[1].trace[1:-1]


def test_everything_else_is_the_judges_own() -> None:
    judge = NoisyEvaluator(ParityEvaluator(), 0.5).conversation(prompt())
    own = judge.judging
    assert isinstance(own, Parity) and judge.held("abc") == [(1, 2, 3)] and judge.free
    judge.prompt = other = prompt("Another.")
    judge.retain("abc")
    judge.close()
    assert own.prompt is other is judge.prompt and own.kept == ["abc"] and own.closed
    assert judge.warnings is own.warnings
