"""Best of k, rejection and verify-then-regenerate against answers decoded and judged one by one; self-refinement."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from decoder_worlds import BAD, CRITERION, GOOD, babble_world, lock_world, scripted

from rain_decoding import (
    InputError,
    NumericalError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    SelfRefineDecoder,
    UnsupportedError,
)
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.baselines import BestOfDecoder, JudgedDecoder, RegenerateDecoder, RejectionDecoder
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.types import Completion, Decode, Judgement, Stop, Tokens

DECODERS = [BestOfDecoder, RejectionDecoder, RegenerateDecoder]
PROMPTS = [f"Question {number}?" for number in range(12)]


class Answer(NamedTuple):
    """An answer of the reference."""

    text: str
    tokens: Tokens
    score: float
    logprob: float


@cache
def reference(prompt: str, seed: int | None, number: int = 0, votes: Any = "hard") -> Answer:
    """Sample `number` for a request with `seed`, or the greedy answer, alone on a fresh model, and its judgement."""
    backend = babble_world()
    built = build_prompt(prompt, backend)
    draw = None if seed is None else derive_seed(seed, built.tokens, "answer", number)
    request = Decode(built.tokens, 256, seed=draw, stop=Stop(built.markers, len(built.tokens)))
    handle = backend.submit(request, backend.new_owner())
    replies: list[Any] = []
    while not replies:
        replies = backend.step()
    assert replies[0].handle is handle
    tokens = replies[0].value.tokens
    text = backend.codec.decode(tokens).strip()
    score = RainDecoder(babble_world(), CRITERION, SearchConfig(votes=votes)).judge(prompt, text).score
    assert score is not None
    return Answer(text, tokens, score, log_probability(backend, built.tokens, tokens))


def log_probability(backend: Any, prefix: Tokens, tokens: Tokens) -> float:
    """The sum of the tokens' log-probabilities, from the script itself."""
    total = 0.0
    for position, token in enumerate(tokens):
        logits = backend.engine.logits(prefix + tokens[:position]).astype(float)
        total += logits[token] - np.log(np.exp(logits).sum())
    return total


def best(answers: list[Answer]) -> Answer:
    """The best judged answer; of equals the most probable."""
    top = max(answer.score for answer in answers)
    return max((answer for answer in answers if answer.score == top), key=lambda answer: answer.logprob)


def first_good(answers: list[Answer]) -> tuple[Answer, int]:
    """The first good answer, else the best one, and how many had to be looked at."""
    for position, answer in enumerate(answers):
        if answer.score > 0:
            return answer, position + 1
    return best(answers), len(answers)


def comparable(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.score, completion.finish_reason


@pytest.mark.parametrize("votes", ["hard", "soft", "debiased"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_best_of_k_is_the_best_of_k_samples(k: int, votes: Any) -> None:
    decoder = BestOfDecoder(babble_world(), CRITERION, k, votes=votes)
    for prompt in PROMPTS[:6]:
        completion = decoder.generate(prompt, seed=3)
        expected = best([reference(prompt, 3, number, votes) for number in range(k)])
        assert (completion.text, completion.tokens) == (expected.text, expected.tokens)
        assert completion.score == pytest.approx(expected.score)
        assert completion.finish_reason == "stop"
        assert completion.usage.self_evaluations == k and completion.usage.unscored == 0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_rejection_takes_the_first_good_sample(k: int) -> None:
    decoder = RejectionDecoder(babble_world(), CRITERION, k)
    looked = set()
    for seed, prompt in enumerate(PROMPTS):
        completion = decoder.generate(prompt, seed=seed)
        samples = [reference(prompt, seed, number) for number in range(k)]
        expected, count = first_good(samples)
        assert (completion.text, completion.score) == (expected.text, expected.score)
        # A text that comes again is not judged again.
        assert completion.usage.self_evaluations == len({sample.text for sample in samples[:count]})
        looked.add(count)
    assert looked >= set(range(1, k + 1)), "the prompts are to need different numbers of samples"


@pytest.mark.parametrize("k", [1, 2, 4])
def test_regeneration_begins_with_the_greedy_answer(k: int) -> None:
    decoder = RegenerateDecoder(babble_world(), CRITERION, k)
    looked = set()
    for prompt in PROMPTS:
        greedy = reference(prompt, None)
        assert greedy.text == PlainDecoder(babble_world()).generate(prompt).text
        expected, count = first_good([greedy, *(reference(prompt, 5, number) for number in range(k - 1))])
        completion = decoder.generate(prompt, seed=5)
        assert (completion.text, completion.score) == (expected.text, expected.score)
        looked.add(count)
    assert 1 in looked and (k == 1 or len(looked) > 1)


def test_the_bad_answer_of_a_world_of_two_is_replaced() -> None:
    prompt = "Open the lock."
    assert RegenerateDecoder(lock_world(), CRITERION, 1).generate(prompt).text == BAD
    for decoder in (kind(lock_world(), CRITERION, 24) for kind in DECODERS):
        completion = decoder.generate(prompt)
        assert (completion.text, completion.score, completion.finish_reason) == (GOOD, 1, "stop")


@pytest.mark.parametrize("kind", DECODERS)
def test_a_batch_gives_what_each_prompt_gives_alone(kind: type[JudgedDecoder]) -> None:
    decoder = kind(babble_world(), CRITERION, 3)
    batch = decoder.generate_batch(PROMPTS, seed=2)
    alone = [kind(babble_world(), CRITERION, 3).generate(prompt, seed=2) for prompt in PROMPTS]
    assert [comparable(c) for c in batch] == [comparable(c) for c in alone]
    for together, single in zip(batch, alone, strict=True):
        assert together.usage.self_evaluations == single.usage.self_evaluations
    others = decoder.generate_batch(PROMPTS, seed=3)
    assert [c.text for c in others] != [c.text for c in batch]


@pytest.mark.parametrize("kind", DECODERS)
def test_a_stream_is_one_commit(kind: type[JudgedDecoder]) -> None:
    decoder = kind(babble_world(), CRITERION, 3)
    stream = decoder.stream(PROMPTS[0], seed=4)
    (commit,) = list(stream)
    assert stream.completion is not None
    assert commit.text == stream.completion.text != ""
    assert (commit.tokens, commit.value) == (stream.completion.tokens, stream.completion.score)
    assert comparable(stream.completion) == comparable(decoder.generate(PROMPTS[0], seed=4))


@pytest.mark.parametrize("kind", DECODERS)
def test_limits_and_stop_strings(kind: type[JudgedDecoder]) -> None:
    decoder = kind(babble_world(), CRITERION, 3)
    short = decoder.generate(PROMPTS[0], max_tokens=3)
    assert (len(short.tokens), short.finish_reason) == (3, "length")
    assert short.score is not None
    for prompt in PROMPTS:
        cut = decoder.generate(prompt, stop=(",",))
        assert "," not in cut.text and cut.finish_reason == "stop"


def test_answers_decode_side_by_side_and_share_what_they_have_in_common(demo: LocalBackend) -> None:
    from rain_decoding.microworld import example_prompts
    from rain_decoding.microworld.oracle_judge import OracleEvaluator

    (prompt,) = example_prompts("benign", 1)
    completion = BestOfDecoder(demo, OracleEvaluator(), 6).generate(prompt)
    demo.clear()
    built = build_prompt(prompt, demo)
    stop = Stop(built.markers, len(built.tokens))
    answers: list[Tokens] = []
    for number in range(6):
        seed = derive_seed(0, built.tokens, "answer", number)
        demo.submit(Decode(built.tokens, 256, seed=seed, stop=stop), demo.new_owner())
        while len(answers) <= number:
            answers += [reply.value.tokens for reply in demo.step()]
    # The last token of an answer is never forwarded; the start of sequence may be pinned.
    texts = [built.tokens + answer[:-1] for answer in answers]
    distinct = {text[:length] for text in texts for length in range(1, len(text) + 1)}
    assert len(distinct) - 1 <= completion.usage.search_tokens <= len(distinct)
    assert completion.usage.forward_passes == max(map(len, answers))
    assert completion.tokens in answers


class LengthEvaluator(ConversationEvaluator):
    """Likes longer answers, but none is good: a thousand characters would be. Without `odd` it cannot judge odd
    lengths."""

    name = "length"

    def __init__(self, odd: bool = True):
        self.odd = odd

    def conversation(self, prompt: Prompt) -> Any:
        self.prompt, self.warnings = prompt, ["by length"]
        return self

    def judge(self, answer: str, tokens: Tokens | None = None) -> Generator[Any, Any, Judgement]:
        if len(answer) % 2 and not self.odd:
            return Judgement(None, answer, problem="odd")
        return Judgement(len(answer) / 1000 - 1, answer)
        yield  # makes this a generator that asks for nothing


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_a_budget_returns_the_best_of_the_attempts_it_paid_for(attempts: int) -> None:
    paid = RejectionDecoder(babble_world(), LengthEvaluator(), attempts).generate(PROMPTS[0])
    assert paid.score is not None and paid.score < 0 and paid.finish_reason == "stop"
    budget = paid.usage.search_tokens + 1
    decoder = RejectionDecoder(babble_world(), LengthEvaluator(), 6)
    completion = decoder.generate(PROMPTS[0], max_search_tokens=budget)
    assert completion.finish_reason == "budget"
    assert (completion.text, completion.score) == (paid.text, paid.score)
    assert completion.usage.search_tokens >= budget


def test_a_larger_budget_never_gives_a_worse_answer() -> None:
    """Answers of a best-of-k that end early are judged while the others go on."""
    whole = BestOfDecoder(babble_world(), LengthEvaluator(), 6).generate(PROMPTS[0])
    texts = {reference(PROMPTS[0], 0, number).text for number in range(6)}
    scores = []
    for budget in np.linspace(100, 0.9 * whole.usage.search_tokens, 10).astype(int).tolist():
        decoder = BestOfDecoder(babble_world(), LengthEvaluator(), 6)
        completion = decoder.generate(PROMPTS[0], max_search_tokens=budget)
        assert completion.finish_reason == "budget"
        assert completion.text in texts if completion.score is not None else completion.text == ""
        scores.append(-2.0 if completion.score is None else completion.score)
    assert scores == sorted(scores) and len(set(scores)) > 1
    assert scores[-1] <= (whole.score or 0)


@pytest.mark.parametrize("kind", DECODERS)
def test_cancelled_gives_nothing(kind: type[JudgedDecoder]) -> None:
    polls = iter(range(1000))
    decoder = kind(babble_world(), CRITERION, 3)
    completion = decoder.generate(PROMPTS[0], cancelled=lambda: next(polls) >= 4)
    assert (completion.text, completion.finish_reason, completion.score) == ("", "cancelled", None)
    assert completion.usage.forward_passes == 4
    assert decoder.backend.pending == 0


@pytest.mark.parametrize("kind", DECODERS)
def test_what_cannot_be_judged_is_not_released(kind: type[JudgedDecoder]) -> None:
    decoder = kind(lock_world(), CRITERION, 3, min_label_mass=1.0)
    decoder.evaluator.min_label_mass = 1.1  # type: ignore[attr-defined]
    completion = decoder.generate("Open the lock.")
    assert (completion.text, completion.finish_reason, completion.score) == ("", "unjudged", None)
    assert completion.usage.unscored == completion.usage.self_evaluations > 0


@pytest.mark.parametrize("kind", DECODERS)
def test_an_unscored_answer_ranks_below_every_scored_one(kind: type[JudgedDecoder]) -> None:
    decoder = kind(babble_world(), LengthEvaluator(odd=False), 6)
    unscored = 0
    for prompt in PROMPTS:
        completion = decoder.generate(prompt)
        if completion.score is None:
            assert (completion.text, completion.finish_reason) == ("", "unjudged")
        else:
            raw = decoder.backend.codec.decode(completion.tokens)
            assert len(raw) % 2 == 0 and completion.score < 0
        assert completion.warnings == ["by length"]
        unscored += completion.usage.unscored
    assert unscored


def test_a_failing_model_fails_its_request_alone() -> None:
    decoder = BestOfDecoder(babble_world(), CRITERION, 3)
    expected = comparable(decoder.generate(PROMPTS[0]))
    with pytest.raises(NumericalError):
        decoder.generate("Drink poison?")
    assert comparable(decoder.generate(PROMPTS[0])) == expected
    assert decoder.backend.pending == 0


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_is_a_whole_number(k: Any) -> None:
    with pytest.raises(InputError, match="k = "):
        BestOfDecoder(lock_world(), CRITERION, k)


def second_thoughts(first: str, second: str) -> Any:
    """A model that answers `first`, finds that rude, and then answers `second`; "Sure" is judged bad."""

    def script(text: str) -> dict[str, float]:
        last = text.rpartition("Human:")[2]
        if text.endswith("It is ("):
            return {"B": 0.9, "A": 0.1} if " Sure" in last else {"A": 0.9, "B": 0.1}
        if not text.endswith("Assistant:"):
            return {"<end>": 1.0}
        if "Now answer the request again" in last:
            assert "Assistant: Rude" in text and f"Assistant:{first}" in text
            return {second: 1.0}
        if "Look at your last answer again" in last:
            assert all(statement in last for statement in CRITERION.statements)
            return {" Rude": 1.0}
        return {first: 1.0}

    return scripted(script, ("A", "B", " Sure", " No", " Well", " Rude"))


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [(" Sure", " No", "No"), (" No", " Sure", "No"), (" No", " Well", "No"), (" Sure", " Sure", "Sure")],
)
def test_self_refinement_keeps_the_better_answer(first: str, second: str, answer: str) -> None:
    decoder = SelfRefineDecoder(second_thoughts(first, second), CRITERION)
    completion = decoder.generate("Open the lock.")
    assert (completion.text, completion.score) == (answer, 1 if answer != "Sure" else -1)
    assert completion.finish_reason == "stop" and completion.seed == 0
    assert completion.usage.self_evaluations == (1 if first == second else 2)


def test_self_refinement_needs_statements_and_a_conversation() -> None:
    with pytest.raises(UnsupportedError, match="length"):
        SelfRefineDecoder(babble_world(), LengthEvaluator())
    with pytest.raises(UnsupportedError, match="conversation"):
        SelfRefineDecoder(babble_world(), CRITERION, prompt_format="text").generate("Once")


def test_self_refinement_on_the_demo_model_never_lowers_its_own_score(demo: LocalBackend) -> None:
    from rain_decoding.microworld import example_prompts

    decoder = SelfRefineDecoder(demo, "harmlessness", votes="debiased")
    for prompt in example_prompts("sensitive", 3):
        completion = decoder.generate(prompt)
        greedy = RegenerateDecoder(demo, "harmlessness", 1, votes="debiased").generate(prompt)
        assert completion.score is not None and greedy.score is not None
        assert completion.score >= greedy.score - 1e-3
