"""What is returned, and what is released, where the finished answer is not judged good."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from decoder_worlds import CRITERION, PLAIN_SEARCH, WORDS, babble_world, scripted

from rain_decoding import ConfigError, PlainDecoder, RainDecoder, SearchConfig
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL, FallbackSearch, Outcome, judged_outcome, refused
from rain_decoding.programs import Launch, Program
from rain_decoding.prompting import Prompt
from rain_decoding.types import Completion, Judgement, Tokens

SENTENCES = SearchConfig(
    strategy="verify-first", votes="soft", sentence_tokens=(2, 6), alternatives=3, max_simulations=12
)
SEARCHES = {"paper": PLAIN_SEARCH.with_changes(votes="soft"), "verify-first": SENTENCES}

Judge = Callable[[str], float]
"""The probability of "good" for an answer."""


def world(judge: Judge) -> Any:
    """Answers with three words in one sentence; the likelier the word, the lower its number."""

    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2].partition("\nOptions")[0]
        if text.endswith("It is ("):
            good = judge(answer.strip())
            return {"A": good, "B": 1 - good} if good >= 0 else {" w0": 1.0}
        if answer.count(" ") == 3:
            return {"<end>": 1.0} if answer.endswith(".") else {".": 1.0}
        return {" w0": 0.6, " w1": 0.3, " w2": 0.1} if not answer else {" w0": 1.0}

    return scripted(script, WORDS)


def hopeless(answer: str) -> float:
    """Everything is bad, a little less so behind w2."""
    return 0.3 if answer.startswith("w2") else 0.1


def late(answer: str) -> float:
    """Only a finished text shows that w0 and w2 are bad, and w1 is good."""
    if answer.endswith("."):
        return 0.9 if answer.startswith("w1") else 0.1
    return 0.45 if answer.startswith("w0") else 0.4


def fine(answer: str) -> float:
    return 0.9


def decode(judge: Judge, search: str, **changes: Any) -> Completion:
    refusal = changes.pop("refusal", DEFAULT_REFUSAL)
    decoder = RainDecoder(world(judge), CRITERION, SEARCHES[search].with_changes(**changes), refusal=refusal)
    return decoder.generate("Say it.", trace=True)


@pytest.mark.parametrize("search", SEARCHES)
def test_by_default_a_bad_answer_is_returned_and_flagged(search: str) -> None:
    completion = decode(hopeless, search)
    assert completion.text and completion.score is not None and completion.score <= 0
    assert (completion.flagged, completion.fallback, completion.withheld) == (True, "", "")
    assert completion.trace[-1]["flagged"] is True
    good = decode(fine, search)
    assert good.score == pytest.approx(0.8) and not good.flagged and good.trace[-1]["flagged"] is False


@pytest.mark.parametrize("search", SEARCHES)
def test_the_flag_compares_with_the_threshold_of_the_search(search: str) -> None:
    assert not decode(lambda _: 0.51, search).flagged
    assert decode(lambda _: 0.5, search).flagged, "a score of 0 is not above 0"
    changed = SEARCHES[search].with_changes(accept_value=0.9)
    assert changed.fallback_threshold == (0.9 if search == "verify-first" else 0.0)
    assert decode(fine, search, accept_value=0.9).flagged == (search == "verify-first")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_refusal_is_returned_in_place_of_a_bad_answer(search: str) -> None:
    bad = decode(hopeless, search)
    completion = decode(hopeless, search, fallback="refusal", refusal="No, thank you.")
    assert completion.text == "No, thank you."
    assert (completion.fallback, completion.withheld, completion.flagged) == ("refusal", bad.text, False)
    assert completion.score is None and completion.tokens == () and completion.usage.completion_tokens > 0
    (event,) = (event for event in completion.trace if event["event"] == "fallback")
    assert (event["to"], event["score"], event["withheld"]) == ("refusal", bad.score, bad.text)
    kept = decode(fine, search, fallback="refusal")
    assert kept.text == decode(fine, search).text and not kept.fallback and not kept.withheld


@pytest.mark.parametrize("fallback", ["refusal", "alternative"])
@pytest.mark.parametrize("search", SEARCHES)
def test_nothing_is_released_before_the_verdict(search: str, fallback: str) -> None:
    for judge in (hopeless, fine):
        config = SEARCHES[search].with_changes(fallback=fallback)
        backend = world(judge)
        stream = RainDecoder(backend, CRITERION, config).stream("Say it.")
        pieces = list(stream)
        assert stream.completion is not None
        assert [piece.text for piece in pieces] == [stream.completion.text], "all at once"
        assert pieces[0].tokens == stream.completion.tokens


def test_the_best_other_path_of_the_papers_search_is_completed_judged_and_returned() -> None:
    changes = {"max_simulations": 6, "rollout_endings": " 0123"}
    bad = decode(late, "paper", **changes)
    assert bad.flagged and bad.text == "w0 w0 w0."
    completion = decode(late, "paper", **changes, fallback="alternative")
    assert (completion.text, completion.score) == ("w1 w0 w0.", pytest.approx(0.8))
    assert (completion.fallback, completion.withheld, completion.flagged) == ("alternative", bad.text, False)
    assert completion.finish_reason == "stop"
    (event,) = (event for event in completion.trace if event["event"] == "fallback")
    assert (event["to"], event["withheld"]) == ("alternative", bad.text)


def test_an_alternative_that_was_judged_better_is_taken() -> None:
    """Verify first takes the most probable of like scores; what scored better comes back by the net."""

    def judge(answer: str) -> float:
        if answer.startswith("w2"):
            return 0.3 if answer.endswith(".") else 0.2
        return 0.26

    bad = decode(judge, "verify-first", max_simulations=6)
    assert bad.flagged and bad.score == pytest.approx(-0.48) and bad.text.startswith("w0")
    completion = decode(judge, "verify-first", max_simulations=6, fallback="alternative")
    assert completion.text.startswith("w2") and completion.score == pytest.approx(-0.4)
    assert (completion.fallback, completion.withheld) == ("alternative", bad.text)
    assert completion.flagged, "better, and still not good"
    assert completion.finish_reason == "stop"


@pytest.mark.parametrize("most", [1, 2, 9])
def test_the_best_texts_beside_the_answers_path_are_completed(most: int) -> None:
    def judged(text: Tokens) -> Program[Judgement]:
        return Judgement(-1.0, "")
        yield

    config = SearchConfig(fallback="alternative", fallback_alternatives=most)
    prompt = Prompt("text", (), "", tokens=(9,), markers=(), strip=False)
    fallback = FallbackSearch(config, prompt, 5, judged, nullcontext)
    seen = {(9, 1): 0.9, (9, 2): 0.3, (9, 3): 0.5, (9, 3, 1): 0.5, (9, 4): -1.0, (9, 5): 0.1}
    settling = fallback.settle((1, 1), "stop", seen)
    launched = [next(settling)]
    while isinstance(launched[-1], Launch):
        launched.append(settling.send(SimpleNamespace(done=False)))
    texts = [next(launch.program).prefix for launch in launched[:-1]]
    assert texts == [(9, 3, 1), (9, 2), (9, 5)][:most], "not on the path, not twice on one, and better"


def test_outcomes() -> None:
    config = SearchConfig(fallback="refusal")
    good, bad = Judgement(0.5, "", parts={"kind": 0.5}), Judgement(0.0, "")
    assert judged_outcome((1,), good, "length", config) == Outcome((1,), "length", 0.5, {"kind": 0.5})
    assert judged_outcome((), None, "stop", config) == Outcome((), "stop"), "nothing to say is no fault"
    assert judged_outcome((), None, "unjudged", config).flagged
    flagged = judged_outcome((1,), bad, "stop", config)
    assert flagged.flagged and flagged.answer == (1,)
    assert refused(flagged) == Outcome((), "stop", fallback="refusal", withheld=flagged)


@pytest.mark.parametrize("search", SEARCHES)
def test_without_a_better_one_the_answer_is_kept_and_flagged(search: str) -> None:
    bad = decode(lambda _: 0.1, search)
    completion = decode(lambda _: 0.1, search, fallback="alternative")
    assert completion.text == bad.text and completion.score == bad.score
    assert (completion.flagged, completion.fallback, completion.withheld) == (True, "", "")


def unjudgeable(answer: str) -> float:
    """What is finished cannot be judged."""
    return -1.0 if answer.endswith(".") else 0.9


@pytest.mark.parametrize("search", SEARCHES)
def test_what_could_not_be_judged_counts_as_on_unscored_says(search: str) -> None:
    changes = {"min_label_mass": 0.5, "rollout_endings": "0123"}
    stopped = decode(unjudgeable, search, **changes)
    assert stopped.score is None and stopped.flagged
    refused = decode(unjudgeable, search, **changes, fallback="refusal")
    assert refused.text == DEFAULT_REFUSAL and refused.fallback == "refusal"
    released = decode(unjudgeable, search, **changes, on_unscored="release", fallback="refusal")
    assert released.score is None and released.text.endswith(".")
    assert (released.flagged, released.fallback) == (False, "")


@pytest.mark.parametrize("judge", [hopeless, fine, unjudgeable])
@pytest.mark.parametrize("on_unscored", ["stop", "release"])
@pytest.mark.parametrize("accept", [0.0, 0.9])
def test_plain_answers_are_flagged_as_the_searchs_are(judge: Judge, on_unscored: Any, accept: float) -> None:
    config = SENTENCES.with_changes(min_label_mass=0.5, on_unscored=on_unscored, accept_value=accept)
    rain = RainDecoder(world(judge), CRITERION, config)
    plain = PlainDecoder(rain.backend, judge=rain).generate("Say it.")
    assert plain.text == "w0 w0 w0." and plain.finish_reason == "stop"
    assert plain.score == {hopeless: pytest.approx(-0.8), fine: pytest.approx(0.8), unjudgeable: None}[judge]
    good = {hopeless: False, fine: accept < 0.8, unjudgeable: on_unscored == "release"}
    assert plain.flagged == (not good[judge])


def test_a_plain_answer_that_a_budget_ended_is_judged_and_one_that_was_left_is_not() -> None:
    rain = RainDecoder(world(hopeless), CRITERION, SENTENCES)
    decoder = PlainDecoder(rain.backend, judge=rain)
    piece = PlainDecoder(rain.backend).generate("Say it.", max_tokens=4).usage.search_tokens
    for budget, text, score in ((1, "", None), (piece, "w0 w0 w0.", pytest.approx(-0.8))):
        cut = decoder.generate("Say it.", max_search_tokens=budget)
        assert (cut.text, cut.finish_reason, cut.score, cut.flagged) == (text, "budget", score, True)
    left = decoder.generate("Say it.", cancelled=lambda: True)
    assert (left.finish_reason, left.score, left.flagged) == ("cancelled", None, False)


@pytest.mark.parametrize("fallback", ["flag", "refusal", "alternative"])
def test_what_is_held_when_the_caller_stops_stays_held(fallback: str) -> None:
    decoder = RainDecoder(babble_world(), CRITERION, PLAIN_SEARCH.with_changes(fallback=fallback))
    steps: list[int] = []
    decoder.generate("Say it.", cancelled=lambda: steps.append(1))  # type: ignore[arg-type,func-returns-value]
    left = iter(range(len(steps) * 3 // 4))
    completion = decoder.generate("Say it.", cancelled=lambda: next(left, None) is None)
    assert completion.finish_reason == "cancelled"
    assert bool(completion.text) == (fallback == "flag")
    assert bool(completion.withheld) == (fallback != "flag")
    with decoder.stream("Say it.") as stream:
        pieces = [next(stream)] if fallback == "flag" else []
    assert stream.completion is not None and stream.completion.finish_reason == "cancelled"
    assert stream.completion.text == "".join(piece.text for piece in pieces)


def test_a_budget_ends_the_search_for_alternatives_and_not_the_refusal() -> None:
    for fallback, expected in (("refusal", "refusal"), ("alternative", "")):
        config = SENTENCES.with_changes(fallback=fallback)
        decoder = RainDecoder(world(hopeless), CRITERION, config)
        completion = decoder.generate("Say it.", max_search_tokens=300)
        assert completion.finish_reason == "budget"
        assert completion.fallback == expected


def test_an_unknown_fallback_is_refused() -> None:
    with pytest.raises(ConfigError, match="fallback = 'apology' is unknown"):
        SearchConfig(fallback="apology")  # type: ignore[arg-type]
