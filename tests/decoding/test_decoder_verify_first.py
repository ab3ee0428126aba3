"""`RainDecoder` that verifies first: what it costs where text is good, and what it releases where it is not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from decoder_worlds import BAD, CRITERION, GOOD, WORDS, Script, lock_world, scripted

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.demo import SHOWCASE
from rain_decoding.microworld import FAMILIES, example_prompts, find_request, label
from rain_decoding.types import Completion, LabelProbabilities, Tokens

SENTENCES = SearchConfig(
    strategy="verify-first",
    sentence_tokens=(2, 6),
    alternatives=3,
    max_children=100,
    max_simulations=1000,
)
PROMPTS = [f"Question {number}?" for number in range(16)]
SENSITIVE, BENIGN = SHOWCASE[:3], SHOWCASE[3:]


@cache
def next_words(text: str) -> dict[str, float]:
    """Random sentences, other ones after every text."""
    if len(text.rpartition("Assistant:")[2]) > 40:
        return {"<end>": 1.0}
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    return dict(zip(WORDS[2:], rng.random(len(WORDS) - 2) ** 3 + 0.01, strict=True))


def chatter(judge: Script) -> Script:
    """A model of random sentences; `judge` gives label weights after an answer."""

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return judge(text.rpartition("Assistant:")[2].partition("\nOptions")[0])
        return next_words(text)

    return script


def content(answer: str) -> dict[str, float]:
    return {"A": 0.9, "B": 0.1}


def appalled(answer: str) -> dict[str, float]:
    return {"A": 0.1, "B": 0.9}


def squeamish(answer: str) -> dict[str, float]:
    return {"A": 0.1, "B": 0.9} if " w3" in answer else {"A": 0.9, "B": 0.1}


def torn(answer: str) -> dict[str, float]:
    """Scores with soft votes: -0.8 where there is a " w3", -0.1, 0.0 or 0.2 after other odd words, else 0.8."""
    for word, score in {" w3": -0.8, " w5": -0.1, " w6": 0.0, " w7": 0.2}.items():
        if word in answer:
            return {"A": (1 + score) / 2, "B": (1 - score) / 2}
    return {"A": 0.9, "B": 0.1}


TORN: dict[str, Any] = {"votes": "soft", "accept_value": 0.1, "undecided_margin": 0.3}
"""Between -0.2 and 0.4 nothing is decided."""


def speechless(answer: str) -> dict[str, float]:
    """Says nothing of answers that end in odd words."""
    if answer.count(" w3"):
        return {"A": 0.1, "B": 0.9}
    return {" w0": 1.0} if answer.rstrip(".").endswith((" w1", " w2", " w4")) else {"A": 0.9, "B": 0.1}


def chatterer(judge: Script = squeamish, **changes: Any) -> RainDecoder:
    return RainDecoder(scripted(chatter(judge), WORDS), CRITERION, SENTENCES.with_changes(**changes))


def demo_decoder(backend: LocalBackend, preset: str = "balanced", **changes: Any) -> RainDecoder:
    return RainDecoder(backend, "harmlessness", SearchConfig.preset(preset, **changes))


def comparable(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.score, completion.finish_reason


@pytest.fixture
def forgetful() -> LocalBackend:
    """The demo model that caches nothing of finished requests."""
    backend = load_backend("demo", prefix_cache_slots=0)
    assert isinstance(backend, LocalBackend)
    return backend


class Told:
    """What a trace tells, event by event: the tree, and which nodes were judged how."""

    def __init__(self, decoder: RainDecoder, completion: Completion):
        self.config, self.completion = decoder.config, completion
        self.eos = decoder.backend.codec.eos
        self.parents: dict[int, int] = {}
        self.tokens: dict[int, Tokens] = {0: ()}
        self.scores: dict[int, float | None] = {}

    def path(self, node: int) -> list[int]:
        """From below the prompt to the node."""
        return [] if node == 0 else [*self.path(self.parents[node]), node]

    def text(self, node: int) -> Tokens:
        """The answer that ends at the node."""
        return sum((self.tokens[part] for part in self.path(node)), ())

    def verified(self) -> Iterator[list[int]]:
        """For every good node so far: what of its path may be released because of it."""
        for node, score in self.scores.items():
            finished = self.tokens[node][-1] in self.eos
            margin = 0 if finished else self.config.undecided_margin
            if score is not None and score > self.config.accept_value + margin:
                path = self.path(node)
                yield path if finished else path[: max(0, len(path) - self.config.hold_back)]

    def commits(self) -> Iterator[int]:
        """Each committed node, when all before it has been read."""
        for event in self.completion.trace:
            match event["event"]:
                case "expand":
                    for child in event["children"]:
                        self.parents[child["id"]] = event["node"]
                        self.tokens[child["id"]] = tuple(child["tokens"])
                case "judge":
                    self.scores[event["node"]] = event["score"]
                case "commit":
                    yield event["node"]


@pytest.mark.parametrize("limit", [None, 1, 7])
@pytest.mark.parametrize("hold_back", [0, 1, 1000])
def test_good_text_is_plain_decodings_and_costs_as_many_passes(limit: int | None, hold_back: int) -> None:
    decoder = chatterer(content, hold_back=hold_back)
    plain = PlainDecoder(decoder.backend)
    for prompt in PROMPTS[:6]:
        expected = plain.generate(prompt, max_tokens=limit)
        completion = decoder.generate(prompt, max_tokens=limit)
        assert (completion.text, completion.tokens) == (expected.text, expected.tokens)
        assert completion.finish_reason == expected.finish_reason
        assert completion.score == 1 and completion.usage.rewinds == 0
        # The last judgement may need a pass of its own.
        extra = completion.usage.forward_passes - expected.usage.forward_passes
        assert extra in (0, 1)


@pytest.mark.parametrize("preset", ["fast", "balanced", "thorough"])
def test_good_text_of_the_demo_model_is_plain_decodings(demo: LocalBackend, preset: str) -> None:
    plain, decoder = PlainDecoder(demo), demo_decoder(demo, preset)
    for prompt in BENIGN:
        expected = plain.generate(prompt)
        demo.clear()
        completion = decoder.generate(prompt)
        assert completion.tokens == expected.tokens and completion.usage.rewinds == 0
        assert completion.usage.forward_passes - expected.usage.forward_passes in (0, 1)


@pytest.mark.parametrize("placement", ["criterion", "cheapest"])
@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_where_questions_cost_fewer_are_asked(
    demo: LocalBackend, preset: str, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text in as many passes, and fewer tokens read and questions asked."""
    free, decoder = demo.capabilities, demo_decoder(demo, preset, placement=placement)
    usage: dict[float, list[Any]] = {0.0: [], 0.35: []}
    for cost, found in usage.items():
        monkeypatch.setattr(demo, "capabilities", replace(free, prompt_token_cost=cost))
        for prompt in BENIGN:
            demo.clear()
            found.append(decoder.generate(prompt))
    every, some = usage.values()
    assert [each.tokens for each in every] == [each.tokens for each in some]
    assert [each.score for each in some] == pytest.approx([each.score for each in every], abs=1e-3)
    for figure in ("self_evaluations", "search_tokens"):
        before, after = (sum(getattr(each.usage, figure) for each in found) for found in usage.values())
        assert after < before, (figure, before, after)
    passes = [
        each.usage.forward_passes - other.usage.forward_passes
        for each, other in zip(every, some, strict=True)
    ]
    assert max(map(abs, passes)) <= 1


def prefixes(sequence: Tokens) -> set[Tokens]:
    return {sequence[: end + 1] for end in range(len(sequence))}


@pytest.mark.parametrize("placement", ["criterion", "cheapest"])
@pytest.mark.parametrize("hold_back", [0, 1, 1000])
def test_hardly_a_token_is_forwarded_twice_where_text_is_good(
    forgetful: LocalBackend, hold_back: int, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both orders at once: a second one asked later reads the beginning of its question again.
    decoder = demo_decoder(forgetful, hold_back=hold_back, order_margin=1000, placement=placement)
    assert decoder.judge(BENIGN[1], "No.").score is not None
    pinned = forgetful.engine.slots_used
    judged: list[Tokens] = []
    submit = forgetful.submit

    def noted(request: Any, owner: int) -> Any:
        if isinstance(request, LabelProbabilities):
            judged.append(request.prefix)
        return submit(request, owner)

    monkeypatch.setattr(forgetful, "submit", noted)
    completion = decoder.generate(BENIGN[0])
    assert completion.usage.rewinds == 0 and len(judged) >= 4
    generated = decoder.build_prompt(BENIGN[0]).tokens + completion.tokens[:-1]
    asked = set[Tokens]().union(*map(prefixes, judged))
    # What is asked in front of the conversation shares nothing with it, see `Trie.set_apart`.
    apart = prefixes(generated) & asked if placement == "criterion" else set()
    needed = [*prefixes(generated) | asked, *apart]
    # The last token of a judged text may merge with what follows it in a longer one, so it is not relied on. With the
    # question behind the conversation, generation's own tokens are judged.
    again = completion.usage.self_evaluations - 1 if placement == "criterion" else 0
    assert completion.usage.search_tokens == len(needed) - pinned + again


def test_a_bad_sentence_is_replaced() -> None:
    decoder = RainDecoder(lock_world(), CRITERION, SENTENCES.with_changes(sentence_tokens=(1, 8)))
    assert PlainDecoder(decoder.backend).generate("Open the lock.").text == BAD
    completion = decoder.generate("Open the lock.")
    assert (completion.text, completion.score, completion.finish_reason) == (GOOD, 1, "stop")
    # The plain sentence is bad, the other opening good, and then the text ends.
    assert completion.usage.rewinds == 1 and completion.usage.simulations == 3


def runs(decoder: Decoder, prompt: str, **options: Any) -> list[tuple[Any, ...]]:
    """The prompt alone, and streamed."""
    stream = decoder.stream(prompt, **options)
    pieces = list(stream)
    assert stream.completion is not None
    assert "".join(piece.text for piece in pieces) == stream.completion.text
    assert sum((piece.tokens for piece in pieces), ()) == stream.completion.tokens
    return [comparable(decoder.generate(prompt, **options)), comparable(stream.completion)]


@pytest.mark.parametrize("changes", [{}, {"first_good": True, "hold_back": 0}, {"hold_back": 1000}], ids=str)
def test_a_prompt_gives_the_same_alone_streamed_and_in_a_batch(changes: dict[str, Any]) -> None:
    batch = chatterer(**changes).generate_batch(PROMPTS, seed=3)
    assert sum(completion.usage.rewinds for completion in batch) > 16, "there is to be something to search"
    assert len({completion.text for completion in batch}) > 8
    for prompt, completion in list(zip(PROMPTS, batch, strict=True))[::3]:
        assert runs(chatterer(**changes), prompt, seed=3) == [comparable(completion)] * 2
    alone = [chatterer(**changes).generate(prompt, seed=3) for prompt in PROMPTS[::3]]
    assert [c.usage.simulations for c in alone] == [c.usage.simulations for c in batch[::3]]


def test_a_batch_takes_no_more_passes_than_its_longest_member() -> None:
    decoder = chatterer()
    batch = decoder.generate_batch(PROMPTS)
    assert decoder.backend.counters.forward_passes == max(c.usage.forward_passes for c in batch)


def test_the_demo_model_gives_the_same_alone_streamed_and_in_a_batch(demo: LocalBackend) -> None:
    prompts = [prompt for family in FAMILIES for prompt in example_prompts(family, 4)][:16]
    decoder = demo_decoder(demo)
    options: dict[str, Any] = {"max_tokens": 32, "seed": 2}
    batch = decoder.generate_batch(prompts, **options)
    assert len({c.text for c in batch}) > 8 and any(c.usage.rewinds for c in batch)
    rewound = next(index for index, c in enumerate(batch) if c.usage.rewinds)
    for index in {0, rewound, 15}:
        demo.clear()
        expected = (batch[index].text, batch[index].tokens)
        assert [run[:2] for run in runs(decoder, prompts[index], **options)] == [expected] * 2


@pytest.mark.parametrize("judge", [squeamish, torn, speechless])
@pytest.mark.parametrize("hold_back", [0, 1, 5, 1000])
def test_only_what_a_good_judgement_covers_is_released(judge: Script, hold_back: int) -> None:
    options: dict[str, Any] = {"hold_back": hold_back, "min_label_mass": 0.5}
    if judge is torn:
        options |= TORN
    decoder = chatterer(judge, **options)
    released = rewinds = 0
    for seed, prompt in enumerate(PROMPTS[:6]):
        stream = decoder.stream(prompt, seed=seed, trace=True)
        pieces = list(stream)
        assert stream.completion is not None
        told = Told(decoder, stream.completion)
        for node in told.commits():
            released += 1
            assert any(node in covered for covered in told.verified())
        rewinds += stream.completion.usage.rewinds
        assert "".join(piece.text for piece in pieces) == stream.completion.text
        if stream.completion.finish_reason == "stop":
            assert stream.completion.score is not None
            assert stream.completion.score > decoder.config.accept_value
        else:
            assert stream.completion.finish_reason == "unjudged" and judge is speechless
        if hold_back == 1000 and stream.completion.text:
            events = [event["event"] for event in stream.completion.trace]
            assert "judge" not in events[events.index("commit") :]
    assert released > 16 and rewinds > 16


def test_without_a_good_answer_the_least_bad_one_is_given_up_to() -> None:
    decoder = chatterer(appalled, max_simulations=6)
    for prompt in PROMPTS[:4]:
        completion = decoder.generate(prompt, trace=True)
        assert completion.text and completion.finish_reason == "stop" and completion.score == -1
        assert completion.usage.simulations >= 6
        told = Told(decoder, completion)
        first = next(told.commits())
        tried = [node for node in told.scores if told.parents[node] == 0]
        assert first in tried and len(tried) == 6 and not list(told.verified())


def test_the_limit_of_simulations_is_one_for_the_whole_answer() -> None:
    """Once it is used up, bad sentences are kept as they come: one judgement each."""
    decoder = chatterer(appalled, max_simulations=2)
    completion = decoder.generate(PROMPTS[0], trace=True)
    told = Told(decoder, completion)
    assert len(list(told.commits())) == completion.usage.simulations - 1


def test_text_that_cannot_be_judged_is_not_released() -> None:
    decoder = chatterer(hold_back=0)
    decoder.evaluator.min_label_mass = 1.1  # type: ignore[attr-defined]
    stream = decoder.stream(PROMPTS[0])
    assert "".join(commit.text for commit in stream) == ""
    completion = stream.completion
    assert completion is not None
    assert (completion.text, completion.finish_reason, completion.score) == ("", "unjudged", None)
    assert completion.usage.unscored == completion.usage.self_evaluations > 1


def test_an_alternative_that_cannot_be_judged_is_not_released() -> None:
    """The plain answer is bad, and of the only other the judge says nothing."""

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"B": 1.0} if " Sure" in text else {" Hm": 1.0}
        return {"<end>": 1.0} if text.endswith((" Sure", " Hm")) else {" Sure": 0.7, " Hm": 0.3}

    for on_unscored, expected in {"stop": ("", "unjudged"), "release": ("Hm", "stop")}.items():
        config = SENTENCES.with_changes(on_unscored=on_unscored, min_label_mass=0.5)
        decoder = RainDecoder(scripted(script, ["A", "B", " Sure", " Hm"]), CRITERION, config)
        completion = decoder.generate("Well?")
        assert (completion.text, completion.finish_reason) == expected
        assert completion.score is None


def test_on_unscored_release_gives_the_text_and_says_it_was_not_judged() -> None:
    decoder = chatterer(on_unscored="release")
    decoder.evaluator.min_label_mass = 1.1  # type: ignore[attr-defined]
    completion = decoder.generate(PROMPTS[0])
    assert completion.text == PlainDecoder(decoder.backend).generate(PROMPTS[0]).text
    assert completion.finish_reason == "stop" and completion.score is None


@pytest.mark.parametrize("hold_back", [0, 1, 1000])
@pytest.mark.parametrize("polls", [0, 3, 9, 20, 40])
def test_cancelling_keeps_what_was_released(polls: int, hold_back: int) -> None:
    decoder = chatterer(hold_back=hold_back)
    for prompt in PROMPTS[:4]:
        whole = list(decoder.stream(prompt))
        asked = iter(range(polls))
        stream = decoder.stream(prompt, cancelled=lambda asked=asked: next(asked, None) is None)  # type: ignore[misc]
        commits = [commit for commit in stream if commit.tokens]
        assert stream.completion is not None
        assert stream.completion.usage.forward_passes <= polls
        assert commits == whole[: len(commits)]
        assert stream.completion.tokens == sum((commit.tokens for commit in commits), ())
        if stream.completion.finish_reason != "stop":
            assert stream.completion.finish_reason == "cancelled"
            assert stream.completion.usage.forward_passes == polls
        assert decoder.backend.pending == 0


def within(decoder: RainDecoder, prompt: str, budget: int) -> list[Tokens]:
    """What the search without a budget has committed before it has forwarded so many tokens."""
    stream = decoder.stream(prompt)
    return [commit.tokens for commit in stream if commit.tokens and stream._task.forwarded < budget]


@pytest.mark.parametrize("judge", [squeamish, torn])
@pytest.mark.parametrize("hold_back", [0, 1, 1000])
def test_a_budget_adds_only_what_is_good(hold_back: int, judge: Script) -> None:
    options: dict[str, Any] = {"hold_back": hold_back}
    if judge is torn:
        options |= {"votes": "soft", "accept_value": 0.5, "undecided_margin": 0.3}
    decoder = chatterer(judge, **options)
    added = 0
    for number, prompt in enumerate(PROMPTS):
        completion = decoder.generate(prompt, max_search_tokens=300 + 100 * number, trace=True)
        told = Told(decoder, completion)
        # What is held back is released, too, if it is good.
        told.config = told.config.with_changes(hold_back=0)
        for node in told.commits():
            assert any(node in covered for covered in told.verified())
            added += completion.finish_reason == "budget"
    assert added


@pytest.mark.parametrize("hold_back", [0, 1, 1000])
def test_a_budget_keeps_what_was_released(hold_back: int) -> None:
    decoder = chatterer(hold_back=hold_back)
    kept = ended = 0
    for number, prompt in enumerate(PROMPTS):
        budget = (1, 500, 1000, 1500)[number % 4]
        early = within(decoder, prompt, budget)
        stream = decoder.stream(prompt, max_search_tokens=budget)
        commits = [commit.tokens for commit in stream if commit.tokens]
        completion = stream.completion
        assert completion is not None and sum(commits, ()) == completion.tokens
        assert commits[: len(early)] == early
        if completion.finish_reason == "budget":
            ended += 1
            kept += len(early)
            assert completion.usage.search_tokens >= budget
            assert not completion.tokens or completion.score is not None
        assert decoder.backend.pending == 0
    assert ended > 4 and (kept or hold_back == 1000)


def test_a_time_budget_ends_the_search() -> None:
    completion = chatterer().generate(PROMPTS[0], max_seconds=1e-9)
    assert (completion.text, completion.finish_reason, completion.score) == ("", "budget", None)
    assert completion.usage.forward_passes == 0


def test_closing_a_stream_stops_what_runs_ahead() -> None:
    decoder = chatterer(hold_back=0)
    stream = decoder.stream(PROMPTS[1])
    first = next(stream)
    assert decoder.backend.pending > 0
    stream.close()
    assert decoder.backend.pending == 0
    assert stream.completion is not None and stream.completion.tokens == first.tokens
    assert stream.completion.finish_reason == "cancelled"


def test_usage_counts_what_happened() -> None:
    for prompt in PROMPTS[:6]:
        decoder = chatterer()
        completion = decoder.generate(prompt, trace=True)
        usage, counters = completion.usage, decoder.backend.counters
        assert usage.search_tokens == counters.tokens_forwarded
        assert usage.forward_passes == counters.forward_passes
        scores = [event["score"] for event in completion.trace if event["event"] == "judge"]
        assert usage.simulations == len(scores)
        assert usage.rewinds == sum(score == -1 for score in scores)


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_a_completion_gives_back_all_memory_but_pinned_prefixes(forgetful: LocalBackend, preset: str) -> None:
    decoder = demo_decoder(forgetful, preset)
    assert decoder.judge(SENSITIVE[0], "No.").score is not None
    pinned = forgetful.engine.slots_used
    completion = decoder.generate(SENSITIVE[0])
    assert completion.usage.rewinds and completion.usage.peak_kv_slots > pinned
    assert forgetful.engine.slots_used == forgetful.counters.kv_slots == pinned
    stream = decoder.stream(SENSITIVE[1])
    next(stream)
    assert forgetful.engine.slots_used > pinned
    stream.close()
    assert forgetful.engine.slots_used == pinned and forgetful.pending == 0


@pytest.mark.parametrize("preset", ["fast", "balanced", "thorough"])
def test_answers_to_sensitive_prompts_are_harmless(demo: LocalBackend, preset: str) -> None:
    plain = PlainDecoder(demo).generate_batch(SENSITIVE)
    searched = demo_decoder(demo, preset).generate_batch(SENSITIVE)
    for prompt, before, completion in zip(SENSITIVE, plain, searched, strict=True):
        request = find_request(prompt)
        assert request is not None
        assert label(request, before.text).harmless is False
        assert completion.finish_reason == "stop" and completion.usage.rewinds
        found = label(request, completion.text)
        # A malformed answer is no harmful one, but the oracle does not call it harmless.
        assert found.harmless or (preset == "fast" and found.malformed)


@pytest.mark.parametrize(("placement", "readers"), [("criterion", 2), ("cheapest", 1)])
def test_a_conversation_does_not_pay_again_for_its_turns(
    demo: LocalBackend, placement: str, readers: int
) -> None:
    decoder, seen = demo_decoder(demo, placement=placement), []
    messages: list[dict[str, str]] = []
    demo.clear()
    for prompt in example_prompts("benign", 4):
        messages.append({"role": "user", "content": prompt})
        completion = decoder.generate(messages, seed=0)
        messages.append({"role": "assistant", "content": completion.text})
        seen.append(completion.usage.search_tokens)
    demo.clear()
    cold = decoder.generate(messages[:-1], seed=0)
    assert cold.text == completion.text
    earlier = cold.usage.prompt_tokens - len(decoder.build_prompt(messages[-2:-1]).tokens)
    # Generation reads the earlier turns, and the judge in a place of its own; tokens around a turn's end may merge.
    assert cold.usage.search_tokens - seen[-1] >= readers * (earlier - 8)
