"""`RainDecoder` with another model as its judge, and with another criterion for one request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from decoder_worlds import (
    BAD,
    CRITERION,
    GOOD,
    PLAIN_SEARCH,
    SCRIPT,
    babble_world,
    divided_world,
    lock_world,
)
from self_evaluation import judges

from rain_decoding import (
    BestOfDecoder,
    ConfigError,
    CriterionError,
    InputError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    load_backend,
)
from rain_decoding.backends.local import LocalBackend
from rain_decoding.types import LabelProbabilities

SEARCHES = {
    "paper": PLAIN_SEARCH,
    "verify-first": SearchConfig(strategy="verify-first", votes="soft", sentence_tokens=(2, 6)),
}


def test_an_evaluator_takes_no_other_judge() -> None:
    speaker, judge = divided_world()
    evaluator = RainDecoder(speaker, CRITERION, judge=judge).evaluator
    with pytest.raises(ConfigError, match="judges by itself"):
        RainDecoder(speaker, evaluator, judge=judge)


@pytest.mark.parametrize("search", SEARCHES)
def test_one_model_answers_and_another_judges(search: str) -> None:
    speaker, judge = divided_world()
    with pytest.raises(ConfigError, match="no tokens for the criterion's labels"):
        RainDecoder(speaker, CRITERION, SEARCHES[search]).generate("Open the lock.")
    alone = RainDecoder(lock_world(), CRITERION, SEARCHES[search]).generate("Open the lock.")
    before = speaker.counters.tokens_forwarded
    completion = RainDecoder(speaker, CRITERION, SEARCHES[search], judge=judge).generate("Open the lock.")
    assert (completion.text, completion.score) == (GOOD, pytest.approx(alone.score))
    usage, own = completion.usage, alone.usage
    assert (usage.simulations, usage.self_evaluations) == (own.simulations, own.self_evaluations)
    assert usage.judge_tokens == judge.counters.tokens_forwarded > 0 == own.judge_tokens
    assert usage.search_tokens == usage.judge_tokens + speaker.counters.tokens_forwarded - before
    assert speaker.pending == 0 and judge.pending == 0


def test_many_searches_share_a_judge_and_answer_as_alone() -> None:
    config = replace(PLAIN_SEARCH, candidates=4, max_simulations=6)
    judge = babble_world()
    decoders = [RainDecoder(babble_world(), CRITERION, config, judge=judge) for _ in range(2)]
    prompts = [f"Question {number}?" for number in range(6)]
    alone = [decoders[0].generate(prompt).text for prompt in prompts]
    assert [c.text for c in decoders[0].generate_batch(prompts)] == alone
    # Two decoders in turn, each of which steps the judge for both.
    streams = [decoder.stream(prompt) for decoder, prompt in zip(decoders, prompts, strict=False)]
    for stream in streams:
        list(stream)
    assert [stream.completion.text for stream in streams if stream.completion] == alone[:2]


def test_an_error_of_the_judge_ends_the_request() -> None:
    speaker, judge = divided_world()

    def broken(*_: Any) -> Any:
        raise RuntimeError("out of order")

    decoder = RainDecoder(speaker, CRITERION, PLAIN_SEARCH, judge=judge)
    judge.submit = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of order"):
        decoder.generate("Open the lock.")
    assert speaker.pending == 0


class Owners:
    """Watches who holds something on a backend."""

    def __init__(self, backend: Any, monkeypatch: pytest.MonkeyPatch):
        self.held: set[int] = set()
        new, finish = backend.new_owner, backend.finish
        monkeypatch.setattr(backend, "new_owner", lambda: self._add(new()))
        monkeypatch.setattr(
            backend, "finish", lambda who, *keep: (self.held.discard(who), finish(who, *keep))
        )

    def _add(self, owner: int) -> int:
        self.held.add(owner)
        return owner


def test_the_judges_memory_is_given_back_however_a_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    speaker, judge = divided_world()
    owners = Owners(judge, monkeypatch)
    decoder = RainDecoder(speaker, CRITERION, PLAIN_SEARCH, judge=judge)
    decoder.generate("Open the lock.")
    decoder.judge("Open the lock.", BAD)
    assert not owners.held
    with decoder.stream("Open the lock.") as stream:
        next(stream)
        assert owners.held
    assert not owners.held
    batch = decoder.iterate_batch(["Open it.", "Open that.", "Open the lock."], concurrency=2)
    next(batch)
    batch.close()
    assert not owners.held


def test_the_judges_kv_does_not_grow_with_the_requests() -> None:
    judge = judges.backend(judges.tokenizer("byte-level"), prefix_cache_slots=0)
    config = SearchConfig(strategy="verify-first", votes="soft", sentence_tokens=(2, 6), max_simulations=4)
    decoder = RainDecoder(babble_world(), CRITERION, config, judge=judge)
    assert isinstance(judge, LocalBackend)
    pinned = judge.engine.slots_used
    for number in range(3):
        decoder.generate(f"Question {number}?", max_tokens=10)
        assert judge.engine.slots_used == pinned
    assert judge.counters.peak_kv_slots > pinned


def test_the_demo_model_judged_by_another_copy_of_itself_answers_the_same(demo: LocalBackend) -> None:
    from rain_decoding.demo import SHOWCASE

    other = load_backend("demo")
    config = SearchConfig.preset("balanced", placement="criterion")  # a judge elsewhere has no cheaper place
    for prompt in (SHOWCASE[0], SHOWCASE[3]):
        own = RainDecoder(demo, "harmlessness", config).generate(prompt)
        completion = RainDecoder(demo, "harmlessness", config, judge=other).generate(prompt)
        assert completion.text == own.text
        assert completion.score == pytest.approx(own.score, abs=1e-4)
        assert completion.usage.self_evaluations == own.usage.self_evaluations


def test_a_judge_may_be_named(tmp_path: Any) -> None:
    path = tmp_path / "judge.toml"
    path.write_text(SCRIPT["model.toml"], encoding="utf-8")
    speaker, _ = divided_world()
    decoder = RainDecoder(speaker, CRITERION, PLAIN_SEARCH, judge=f"scripted:{path}")
    assert decoder.generate("Open the lock.").text == GOOD
    assert decoder.evaluator.name == f"kind by scripted:{path}"


# Per request


def test_one_request_may_be_judged_by_another_criterion() -> None:
    from rain_decoding.demo import SHOWCASE

    decoder = RainDecoder(load_backend("demo"), "harmlessness")  # of its own: judging pins prefixes
    before = decoder.evaluator
    combined = decoder.generate(SHOWCASE[3], criterion="min(harmlessness, helpfulness)", max_tokens=60)
    assert combined.parts.keys() == {"harmlessness", "helpfulness"}
    principle = decoder.generate(SHOWCASE[3], principle="The answer is polite.", trace=True, max_tokens=10)
    assert principle.trace[0]["criterion"] == "principle: The answer is polite."
    plain = decoder.generate(SHOWCASE[3], trace=True, max_tokens=10)
    assert plain.trace[0]["criterion"] == "harmlessness" and decoder.evaluator is before


def test_criteria_of_requests_are_kept_ready_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from rain_decoding.decoding import rain_decoder as module

    monkeypatch.setattr(module, "EVALUATORS", 2)
    decoder = RainDecoder(lock_world(), CRITERION, PLAIN_SEARCH)
    criteria = [replace(CRITERION, name=f"kind {number}") for number in range(3)]
    options = [module.Options(criterion=criterion) for criterion in criteria]
    made = [decoder.evaluator_for(one) for one in options]
    assert decoder.evaluator_for(options[2]) is made[2] and decoder.evaluator_for(options[1]) is made[1]
    assert decoder.evaluator_for(options[0]) is not made[0], "the oldest was let go"
    assert decoder.generate("Open the lock.", criterion=criteria[0]).text == GOOD


def test_what_a_request_cannot_ask_for() -> None:
    backend = lock_world()
    decoder = RainDecoder(backend, CRITERION, PLAIN_SEARCH)
    with pytest.raises(InputError, match="exclude each other"):
        decoder.generate("Hi", criterion="harmlessness", principle="It is kind.")
    with pytest.raises(CriterionError, match="unknown criterion 'harmlesness'"):
        decoder.generate("Hi", criterion="min(harmlesness, helpfulness)")
    with pytest.raises(CriterionError, match="the principle is empty"):
        decoder.generate("Hi", principle=" ")
    with pytest.raises(InputError, match="plain decoding is not judged"):
        PlainDecoder(backend).generate("Hi", principle="It is kind.")
    with pytest.raises(InputError, match="the criterion it was made with"):
        BestOfDecoder(backend, CRITERION, 2).generate("Hi", criterion="harmlessness")


def test_the_speaker_is_asked_for_no_labels() -> None:
    speaker, judge = divided_world()
    asked: list[Any] = []
    submit = speaker.submit
    speaker.submit = lambda request, owner: (asked.append(request), submit(request, owner))[1]  # type: ignore[method-assign]
    RainDecoder(speaker, CRITERION, PLAIN_SEARCH, judge=judge).generate("Open the lock.")
    assert asked and not any(isinstance(request, LabelProbabilities) for request in asked)
