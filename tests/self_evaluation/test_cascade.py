"""A cascade asks where the reading is unsure, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_worlds import BAD, CRITERION, GOOD, SCRIPT, lock_world
from self_evaluation.reading.synthetic import probe

from rain_decoding import (
    ConfigError,
    RainDecoder,
    SearchConfig,
    UnsupportedError,
    load_backend,
    load_criterion,
)
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Judging, SelfEvaluator
from rain_decoding.self_evaluation.loading import choose_judge
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.types import LAST, Judgement, Tokens


def reading(backend: Any, log_odds: float) -> ReadingEvaluator:
    """Says of every text that the log-odds that it is good are these."""
    weights = np.zeros((1, 2 * backend.engine.vocabulary_size))
    same = probe(layers=(LAST,), weights=weights, bias=log_odds, threshold=0.0, patience=0.0, slope=1.0)
    return ReadingEvaluator(backend, replace(same, intercept=0.0), "kind (read)")


class Silent:
    """A judge that never gives a score."""

    name = "silent"

    def conversation(self, prompt: Prompt) -> ConversationEvaluator:
        return SilentJudge(prompt)


class SilentJudge(ConversationEvaluator):
    def __init__(self, prompt: Prompt):
        self.prompt, self.warnings = prompt, ["nobody answered"]

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        yield from ()
        return Judgement(None, answer, problem="nobody answered", unreached=True)

    def held(self, answer: str) -> list[Tokens]:
        return []


@pytest.mark.parametrize("log_odds", [-3.0, -1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("sure", [0.5, 0.7, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("answer", [BAD, GOOD])
def test_what_is_read_surely_is_not_asked(log_odds: float, sure: float, answer: str) -> None:
    backend = lock_world()
    read, asked = reading(backend, log_odds), SelfEvaluator(backend, CRITERION, votes="soft")
    judgement = RainDecoder(backend, Cascade(read, asked, sure)).judge("Open the lock.", answer)
    alone = [RainDecoder(backend, each).judge("Open the lock.", answer).score for each in (read, asked)]
    good = 1 / (1 + np.exp(-log_odds))
    assert judgement.escalated == (max(good, 1 - good) < sure)
    assert judgement.score == alone[judgement.escalated]
    assert judgement.parts == (
        dict(zip(("kind (read)", "kind"), alone, strict=True)) if judgement.escalated else {}
    )


def test_the_search_goes_by_who_decides_and_counts_the_escalations() -> None:
    backend = lock_world()
    asked = SelfEvaluator(backend, CRITERION)
    for log_odds in (-0.5, 0.5):
        decoder = RainDecoder(backend, Cascade(reading(backend, log_odds), asked, 0.9))
        completion = decoder.generate("Open the lock.", trace=True)
        usage = completion.usage
        assert completion.text == GOOD and usage.rewinds >= 1
        assert usage.escalations == usage.self_evaluations > 0
        judged = [event for event in completion.trace if event["event"] == "judge"]
        assert all(event["escalated"] and set(event["parts"]) == {"kind (read)", "kind"} for event in judged)
    sure = RainDecoder(backend, Cascade(reading(backend, 5.0), asked, 0.9)).generate("Open the lock.")
    assert sure.text == BAD and sure.usage.escalations == 0 and sure.usage.self_evaluations > 0


def test_where_nobody_answers_the_reading_stands() -> None:
    backend = lock_world()
    decoder = RainDecoder(backend, Cascade(reading(backend, 0.5), Silent(), 0.9))
    judgement = decoder.judge("Open the lock.", GOOD)
    assert judgement.score == pytest.approx(np.tanh(0.25)) and judgement.problem == "nobody answered"
    completion = decoder.generate("Open the lock.")
    assert (
        completion.text == BAD and "nobody answered" in completion.warnings and not completion.usage.unscored
    )


def test_where_neither_can_judge_it_is_known_whether_anybody_was_reached() -> None:
    backend = lock_world()
    for read, unreached in ((Silent(), True), (reading(backend, 0.1), False)):
        judgement = RainDecoder(backend, Cascade(read, Silent(), 0.9)).judge("Open the lock.", GOOD)
        assert judgement.escalated and judgement.unreached is unreached
        assert (judgement.score is None) is unreached


def test_same_text_beside_others() -> None:
    backend = lock_world()
    decoder = RainDecoder(backend, Cascade(reading(backend, 0.5), SelfEvaluator(backend, CRITERION), 0.9))
    prompts = ["Open the lock.", "Open the door.", "Open it."]
    alone = [decoder.generate(prompt).text for prompt in prompts]
    assert [each.text for each in decoder.generate_batch(prompts)] == alone


def test_what_stands_behind_the_reading_is_named(tmp_path: Path) -> None:
    for name, text in SCRIPT.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    backend = load_backend(f"scripted:{tmp_path / 'model.toml'}")
    kind = load_criterion(tmp_path / "kind.toml")
    saved = tmp_path / "a+b.json"
    own = replace(reading(backend, 0.5).probe, model=backend.fingerprint, criterion_name="kind")
    own.save(saved)
    for behind, who in (("ask", backend), (f"scripted:{tmp_path / 'model.toml'}", None)):
        decoder = RainDecoder(backend, kind, judge=f"read#probe={saved}+{behind}")
        assert decoder.generate("Open the lock.").text == GOOD
        assert isinstance(decoder.evaluator, Cascade) and decoder.evaluator.sure == decoder.config.read_surely
        assert choose_judge(f"read+{behind}", backend).behind is not None
        assert (getattr(decoder.evaluator.behind, "backend", None) is who) or who is None
        assert len(decoder.loaded) == (who is None)
        decoder.close()
        for model in decoder.loaded:
            with pytest.raises(UnsupportedError, match="was closed"):
                model.engine  # type: ignore[attr-defined]  # noqa: B018
    never = RainDecoder(
        backend, kind, SearchConfig.preset("balanced", read_surely=0.5), judge=f"read#probe={saved}+ask"
    )
    assert never.generate("Open the lock.").text == BAD, "what is read is good"
    assert choose_judge(f"read#probe={saved}", backend).behind is None, "a file's name may hold a plus"
    assert choose_judge("read+hf-classifier:NAME", backend).behind == "hf-classifier:NAME"
    with pytest.raises(ConfigError, match=r"unknown judge 'read\+asking'"):
        choose_judge("read+asking", backend)
