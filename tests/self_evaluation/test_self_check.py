"""The check whether asking beats a coin: what it counts, what it keeps, and what a decoder makes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platformdirs import user_cache_path

from rain_decoding import ConfigError, RainDecoder, load_criterion
from rain_decoding.backends.scripted import Rule, ScriptedBackend, ScriptedCodec
from rain_decoding.self_evaluation.evaluator import SelfEvaluator, description
from rain_decoding.self_evaluation.loading import JudgeChoice, choose_judge, load_evaluator
from rain_decoding.self_evaluation.reading.examples import examples_of
from rain_decoding.self_evaluation.self_check import LOOKED_AT, check, is_checked


def doubt_of(evaluator: SelfEvaluator) -> str:
    return check(evaluator).doubt(evaluator)


HARMLESS = replace(load_criterion("harmlessness"), examples=(), instruction="")
ANSWERS = {(each.messages[-1].content, each.answer): each.good for each in examples_of(HARMLESS)}


def judge(knows: bool) -> ScriptedBackend:
    """Says which statement is right where it knows; else always that the answer is good."""
    codec = ScriptedCodec(["<end>", "A", "B"], "<end>")

    def logits(tokens: Any) -> np.ndarray:
        text = codec.decode(tokens)
        good = not knows or any(
            label and request in text and answer in text for (request, answer), label in ANSWERS.items()
        )
        first_is_good = "(A) The assistant's answer is harmless" in text
        return np.array([-9.0, 5.0, 0.0] if good == first_is_good else [-9.0, 0.0, 5.0])

    return ScriptedBackend(logits, codec, name="judge")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_one_that_knows_is_trusted_and_one_that_says_the_same_of_all_is_not(own_cache: Path) -> None:
    assert doubt_of(SelfEvaluator(judge(True), HARMLESS)) == ""
    for file in own_cache.rglob("*.json"):
        file.unlink()
    doubt = doubt_of(SelfEvaluator(judge(False), HARMLESS))
    assert f"right about {LOOKED_AT} of {2 * LOOKED_AT} examples of harmlessness" in doubt


def test_the_finding_is_kept_and_a_broken_file_is_written_anew(own_cache: Path) -> None:
    evaluator = SelfEvaluator(judge(True), HARMLESS)
    assert doubt_of(evaluator) == ""
    (file,) = own_cache.rglob("*.json")
    kept = file.read_text()
    file.write_text('{"right": 3, "of": 24}')
    assert "right about 3 of 24" in doubt_of(evaluator), "it was read, not found again"
    file.write_text("{")
    assert doubt_of(evaluator) == "" and file.read_text() == kept


def test_one_that_cannot_be_asked_is_not_in_doubt_before_somebody_asks(own_cache: Path) -> None:
    """A server of it may be there for plain decoding."""
    speaks = ScriptedBackend.from_rules([Rule(after="Assistant:", tokens={" Hi.": 1.0})])
    with pytest.warns(UserWarning, match="no examples"):
        decoder = RainDecoder(speaks, "harmlessness", judge="auto")
    assert not list(own_cache.rglob("checks/*.json"))
    with pytest.raises(ConfigError, match="no tokens for the criterion's labels"):
        decoder.generate("Well?", max_tokens=4)


def test_what_is_checked() -> None:
    backend = judge(True)
    assert is_checked(backend, HARMLESS)
    assert not is_checked(backend, replace(HARMLESS, reading_file=None))


def test_nothing_is_searched_by_a_judge_in_doubt() -> None:
    evaluator = SelfEvaluator(judge(False), HARMLESS)
    evaluator.doubt = "judge knows nothing"
    with pytest.warns(UserWarning, match=r"judge knows nothing\. It judges and flags"):
        decoder = RainDecoder(evaluator.backend, evaluator)
    assert decoder.open("Well?", max_tokens=4).config.proposals == ()  # type: ignore[attr-defined]
    evaluator.doubt = ""
    assert RainDecoder(evaluator.backend, evaluator).open("Well?", max_tokens=4).config.proposals  # type: ignore[attr-defined]


def test_who_judges_is_said_in_a_line_with_what_was_found() -> None:
    for knows, right in ((True, 2 * LOOKED_AT), (False, LOOKED_AT)):
        evaluator = load_evaluator(judge(knows), HARMLESS, judge=JudgeChoice(choose=True))
        assert description(evaluator) == (
            f"harmlessness: judge is asked, right about {right} of {2 * LOOKED_AT} examples"
        )
        shutil.rmtree(user_cache_path("rain-decoding"))
    nothing = replace(HARMLESS, reading_file=None)
    chosen = choose_judge("auto", judge(True))
    assert "since the criterion has no examples" in description(
        load_evaluator(judge(True), nothing, judge=chosen)
    )
