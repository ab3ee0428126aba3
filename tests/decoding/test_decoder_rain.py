"""`RainDecoder` on scripted models: what it commits, what it costs, and where it stops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from decoder_worlds import (
    BAD,
    CRITERION,
    GOOD,
    PLAIN_SEARCH,
    babble_world,
    lock_world,
    thinking_world,
)

from rain_decoding import (
    ContextLengthError,
    InputError,
    NumericalError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
)
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.types import Completion

BABBLE_SEARCH = replace(
    PLAIN_SEARCH,
    candidates=4,
    token_set_lengths=(1, 2, 3),
    similarity=True,
    widening=True,
    max_simulations=6,
)
PROMPTS = [f"Question {number}?" for number in range(16)]


def lock_decoder(**changes: Any) -> RainDecoder:
    return RainDecoder(lock_world(), CRITERION, replace(PLAIN_SEARCH, **changes))


def babble_decoder(**changes: Any) -> RainDecoder:
    return RainDecoder(babble_world(), CRITERION, replace(BABBLE_SEARCH, **changes))


def comparable(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.score, completion.finish_reason


def test_the_greedy_answer_is_bad_and_the_search_rewinds_to_the_good_one() -> None:
    decoder = lock_decoder()
    assert PlainDecoder(decoder.backend).generate("Open the lock.").text == BAD
    assert decoder.judge("Open the lock.", BAD).score == -1

    stream = decoder.stream("Open the lock.", trace=True)
    commits = list(stream)
    completion = stream.completion
    assert completion is not None
    assert completion.text == GOOD
    assert completion.score == 1 and completion.finish_reason == "stop"

    # By hand, with U = 2 p sqrt(N) / (1 + n) and Q = 0 for what is unvisited or judged -1:
    #   simulation 1 is the root's own.
    #   2 (N = 1): Sure 2 * 0.7 = 1.4, No 0.6           -> Sure, bad
    #   3 (N = 2): Sure 1.4 * 1.414 / 2 = 0.99, No 0.85 -> Sure, bad
    #   4 (N = 3): Sure 1.4 * 1.732 / 3 = 0.81, No 1.04 -> No, good
    #   5 (N = 4): Sure 1.4 * 2 / 3 = 0.93, No 1 + 0.6  -> No, good
    # Both have 2 visits now; No has the larger value, 2 > min_evaluations and 1 > value_threshold.
    assert (commits[0].text, commits[0].value, commits[0].visits, commits[0].simulations) == (
        "No",
        1.0,
        2.0,
        5,
    )
    assert all(commit.value == 1 for commit in commits[1:])
    judged = [event["score"] for event in completion.trace if event["event"] == "judge"]
    assert judged[1:5] == [-1, -1, 1, 1]
    rewound = [event["node"] for event in completion.trace if event["event"] == "rewind"]
    assert completion.usage.rewinds == len(rewound) == judged.count(-1)


@pytest.mark.parametrize("seed", range(3))
def test_the_pieces_of_a_stream_join_to_the_text(seed: int) -> None:
    decoder = babble_decoder()
    for prompt in PROMPTS[:2]:
        stream = decoder.stream(prompt, seed=seed)
        pieces = list(stream)
        assert stream.completion is not None
        assert "".join(piece.text for piece in pieces) == stream.completion.text != ""
        assert sum((piece.tokens for piece in pieces), ()) == stream.completion.tokens
        numbers = [piece.simulations for piece in pieces if piece.tokens]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("make", [babble_decoder, lambda: PlainDecoder(babble_world(), temperature=1.0)])
def test_a_batch_gives_what_each_prompt_gives_alone_and_after_others(make: Any) -> None:
    decoder: Decoder = make()
    batch = decoder.generate_batch(PROMPTS, seed=3)
    again = decoder.generate_batch(PROMPTS[::-4], seed=3)[::-1]
    alone = [make().generate(prompt, seed=3) for prompt in PROMPTS[::2]]
    assert [comparable(c) for c in batch[::2]] == [comparable(c) for c in alone]
    assert [comparable(c) for c in batch[3::4]] == [comparable(c) for c in again]
    assert len({completion.text for completion in batch}) > 8
    assert [c.usage.simulations for c in batch[::2]] == [c.usage.simulations for c in alone]


def test_a_batch_takes_no_more_passes_than_its_longest_member() -> None:
    decoder = babble_decoder()
    batch = decoder.generate_batch(PROMPTS[:6])
    assert decoder.backend.counters.forward_passes == max(c.usage.forward_passes for c in batch)


def test_other_seeds_give_other_texts() -> None:
    decoder = babble_decoder()
    assert len({decoder.generate(PROMPTS[0], seed=seed).text for seed in range(6)}) > 1


def test_iterate_batch_is_lazy_and_yields_what_is_finished_first() -> None:
    taken: list[int] = []

    def prompts() -> Any:
        for number, prompt in enumerate(PROMPTS):
            taken.append(number)
            yield prompt

    results = PlainDecoder(babble_world()).iterate_batch(prompts(), concurrency=2)
    next(results)
    assert len(taken) <= 3
    assert sorted([index for index, _ in results]) != list(range(16))  # one was taken before
    assert taken == list(range(16))


def test_usage_counts_what_happened() -> None:
    decoder = babble_decoder()
    backend = decoder.backend
    before = backend.counters.tokens_forwarded
    completion = decoder.generate(PROMPTS[0], trace=True)
    usage = completion.usage
    assert usage.search_tokens == backend.counters.tokens_forwarded - before
    assert usage.forward_passes == backend.counters.forward_passes
    assert usage.completion_tokens == len(completion.tokens)
    assert usage.prompt_tokens == len(decoder.build_prompt(PROMPTS[0]).tokens)
    judgements = [event for event in completion.trace if event["event"] == "judge"]
    assert usage.simulations == len(judgements)
    # The returned text is judged once more at the end, unless that is remembered.
    new = sum(not event["remembered"] for event in judgements)
    assert usage.self_evaluations in (new, new + 1)
    assert completion.trace[-1]["usage"]["search_tokens"] == usage.search_tokens


@pytest.mark.parametrize("budget", [300, 1000, 2000, 4000])
def test_a_token_budget_holds_up_to_one_step_and_returns_what_was_judged_good(budget: int) -> None:
    decoder = babble_decoder()
    unlimited = decoder.stream(PROMPTS[1])
    searched = list(unlimited)
    assert unlimited.completion is not None
    assert unlimited.completion.usage.search_tokens > 4000, "the budgets are to matter"
    stream = decoder.stream(PROMPTS[1], max_search_tokens=budget)
    steps: list[int] = []
    forward = decoder.backend.engine.forward  # type: ignore[attr-defined]

    def spy(sequences: Any, owners: Any) -> Any:
        forwarded = forward(sequences, owners)
        steps.append(sum(forwarded.counts))
        return forwarded

    decoder.backend.engine.forward = spy  # type: ignore[attr-defined]
    commits = list(stream)
    completion = stream.completion
    assert completion is not None and completion.finish_reason == "budget"
    # What the search had settled stays; what the budget adds to it was judged, and not bad.
    settled = sum(a == b for a, b in zip(commits, searched, strict=False))
    assert commits[:settled] == searched[:settled]
    assert all(commit.value >= 0 for commit in commits[settled:])
    # After the budget only the returned text is judged: one step.
    assert sum(steps[:-2]) < budget <= completion.usage.search_tokens
    assert completion.usage.search_tokens == sum(steps)
    assert "".join(commit.text for commit in commits) == completion.text
    if completion.text:
        assert completion.score is not None


def test_a_time_budget_ends_the_search() -> None:
    completion = babble_decoder().generate(PROMPTS[0], max_seconds=1e-9)
    assert completion.finish_reason == "budget"
    assert completion.text == "" and completion.score is None
    assert completion.usage.forward_passes == 0


@pytest.mark.parametrize("make", [babble_decoder, lambda: PlainDecoder(babble_world())])
@pytest.mark.parametrize("polls", [0, 5, 12])
def test_cancelled_is_asked_before_every_step(make: Any, polls: int) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > polls

    completion = make().generate(PROMPTS[0], cancelled=cancelled)
    assert completion.finish_reason == "cancelled"
    assert completion.usage.forward_passes == polls
    assert asked == polls + 1


def test_closing_a_stream_keeps_what_was_committed() -> None:
    decoder = babble_decoder()
    whole = decoder.generate(PROMPTS[0])
    stream = decoder.stream(PROMPTS[0], trace=True)
    first = next(stream)
    stream.close()
    completion = stream.completion
    assert completion is not None and completion.finish_reason == "cancelled"
    assert whole.tokens[: len(completion.tokens)] == completion.tokens == first.tokens
    assert completion.usage.simulations > 0 and completion.trace[-1]["event"] == "end"
    assert list(stream) == []
    stream.close()
    assert decoder.backend.pending == 0


def test_closing_a_stream_whose_work_is_done_gives_the_whole_answer() -> None:
    stream = lock_decoder().stream("Open the lock.")
    shown = next(stream).text
    while not stream._task.done:
        shown += next(stream).text
    stream.close()  # before the iteration has seen its end
    assert stream.completion is not None
    assert (stream.completion.text, stream.completion.finish_reason) == (GOOD, "stop")
    assert shown + "".join(commit.text for commit in stream) == GOOD


def test_closing_a_stream_that_failed_raises_nothing() -> None:
    stream = babble_decoder().stream("Drink poison?")
    with pytest.raises(NumericalError):
        next(stream)
    stream.close()
    assert stream.completion is None


def test_an_abandoned_stream_leaves_nothing_queued() -> None:
    decoder = babble_decoder()
    for _ in decoder.stream(PROMPTS[0]):
        break
    assert decoder.backend.pending == 0


def test_text_that_cannot_be_judged_is_not_released() -> None:
    decoder = lock_decoder(min_label_mass=1.0)
    decoder.evaluator.min_label_mass = 1.1  # type: ignore[attr-defined]
    stream = decoder.stream("Open the lock.")
    assert "".join(commit.text for commit in stream) == ""
    completion = stream.completion
    assert completion is not None
    assert (completion.text, completion.finish_reason, completion.score) == ("", "unjudged", None)
    assert completion.usage.unscored == completion.usage.self_evaluations > 0


def test_on_unscored_release_gives_the_text_and_says_it_was_not_judged() -> None:
    decoder = lock_decoder(on_unscored="release")
    decoder.evaluator.min_label_mass = 1.1  # type: ignore[attr-defined]
    completion = decoder.generate("Open the lock.")
    assert completion.text == BAD
    assert completion.finish_reason == "stop" and completion.score is None


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_the_token_limit(limit: int) -> None:
    plain = PlainDecoder(babble_world()).generate(PROMPTS[0], max_tokens=limit)
    assert len(plain.tokens) == limit and plain.finish_reason == "length"
    decoder = babble_decoder()
    searched = decoder.generate(PROMPTS[0], max_tokens=limit)
    last_set = max(decoder.config.token_set_lengths)
    assert limit <= len(searched.tokens) < limit + last_set
    assert searched.finish_reason == "length"


@pytest.mark.parametrize("make", [babble_decoder, lambda: PlainDecoder(babble_world())])
def test_a_stop_string_ends_the_text_and_is_left_out(make: Any) -> None:
    whole = make().generate(PROMPTS[2]).text
    assert whole.count(",") > 0
    stream = make().stream(PROMPTS[2], stop=(",",))
    pieces = "".join(commit.text for commit in stream)
    assert pieces == stream.completion.text and "," not in pieces
    assert stream.completion.finish_reason == "stop"
    if isinstance(make(), PlainDecoder):
        assert pieces == whole.split(",")[0].strip()


def next_turn_world() -> Any:
    from decoder_worlds import scripted

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"A": 1.0}
        follows = {
            "Assistant:": " Yes",
            " Yes": ".",
            ".": "\n\n",
            "\n\n": "Human",
            "Human": ":",
            "n:": " Yes",
        }
        return {next((word for end, word in follows.items() if text.endswith(end)), "<end>"): 1.0}

    return scripted(script, ["A", "B", " Yes", ".", "\n\n", "Human", ":"])


@pytest.mark.parametrize("kind", ["plain", "rain"])
def test_the_next_turns_marker_ends_the_text(kind: str) -> None:
    backend = next_turn_world()
    decoder = PlainDecoder(backend) if kind == "plain" else RainDecoder(backend, CRITERION, PLAIN_SEARCH)
    stream = decoder.stream("Well?")
    assert "".join(commit.text for commit in stream) == "Yes."
    assert stream.completion is not None
    assert (stream.completion.text, stream.completion.finish_reason) == ("Yes.", "stop")


def test_nan_is_an_error_of_its_own_request_alone() -> None:
    decoder = babble_decoder()
    expected = [comparable(decoder.generate(prompt)) for prompt in PROMPTS[:3]]
    with pytest.raises(NumericalError, match="NaN"):
        decoder.generate("Drink poison?")
    finished: dict[int, Completion] = {}
    with pytest.raises(NumericalError, match="NaN") as caught:
        finished.update(decoder.iterate_batch([*PROMPTS[:3], "Drink poison?"]))
    assert "prompt 3" in "".join(caught.value.__notes__)
    assert decoder.backend.pending == 0
    assert [comparable(c) for c in decoder.generate_batch(PROMPTS[:3])] == expected


def test_reasoning_is_kept_apart_and_never_judged() -> None:
    decoder = RainDecoder(thinking_world(), CRITERION, PLAIN_SEARCH, thinking=True)
    stream = decoder.stream("Well?", trace=True)
    assert "".join(commit.text for commit in stream) == "No."
    completion = stream.completion
    assert completion is not None
    assert (completion.text, completion.reasoning) == ("No.", "plot, then")
    assert completion.score == 1
    seen = [event["judged"] for event in completion.trace if event["event"] == "judge"]
    assert seen and not any("plot" in text or "think" in text for text in seen)


def test_without_thinking_the_template_closes_the_reasoning() -> None:
    completion = RainDecoder(thinking_world(), CRITERION, PLAIN_SEARCH).generate("Well?")
    assert (completion.text, completion.reasoning) == ("No.", "")


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_reasoning_that_uses_up_the_limit_leaves_no_answer(limit: int) -> None:
    decoder = RainDecoder(thinking_world(), CRITERION, PLAIN_SEARCH, thinking=True)
    completion = decoder.generate("Well?", max_tokens=limit)
    assert (completion.text, completion.finish_reason, completion.score) == ("", "length", None)


def test_reasoning_heeds_budgets() -> None:
    decoder = RainDecoder(thinking_world(), CRITERION, PLAIN_SEARCH, thinking=True)
    completion = decoder.generate("Well?", max_search_tokens=1)
    assert (completion.text, completion.finish_reason) == ("", "budget")
    assert completion.usage.forward_passes == 1


def test_a_text_prompt_is_continued_as_it_stands() -> None:
    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"A": 1.0}
        return {" more" if text.endswith("Once") else "<end>": 1.0}

    from decoder_worlds import scripted

    backend = scripted(script, ["A", "B", " more"])
    decoder = RainDecoder(backend, CRITERION, PLAIN_SEARCH, prompt_format="text")
    completion = decoder.generate("Once", trace=True)
    assert completion.text == " more"
    assert {event["judged"] for event in completion.trace if event["event"] == "judge"} == {"Once more"}
    with pytest.raises(InputError, match="one text"):
        decoder.generate(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
            + [{"role": "user", "content": "c"}]
        )


def test_a_system_message_reaches_the_model_and_not_the_judge() -> None:
    prompts: list[str] = []

    def script(text: str) -> dict[str, float]:
        prompts.append(text)
        return {"A": 1.0} if text.endswith("It is (") else {" Yes" if text.endswith(":") else "<end>": 1.0}

    from decoder_worlds import scripted

    backend = scripted(script, ["A", "B", " Yes"])
    completion = RainDecoder(backend, CRITERION, PLAIN_SEARCH).generate(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Well?"}]
    )
    assert completion.text == "Yes"
    judged = [text for text in prompts if text.endswith("It is (")]
    spoken = [text for text in prompts if not text.endswith("It is (")]
    assert judged and not any("Be brief." in text for text in judged)
    assert any("Be brief." in text for text in spoken)


BAD_OPTIONS = [
    {"max_tokens": 0},
    {"max_tokens": -3},
    {"max_tokens": 2.5},
    {"max_tokens": True},
    {"max_seconds": 0},
    {"max_seconds": "long"},
    {"max_seconds": float("nan")},
    {"max_search_tokens": 0},
    {"seed": 1.5},
    {"seed": "x"},
    {"stop": (3,)},
    {"stop": 3},
    {"stop": "\ud800"},
    {"temprature": 1},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
@pytest.mark.parametrize("make", [lock_decoder, lambda: PlainDecoder(lock_world())], ids=["rain", "plain"])
def test_bad_options_are_named(make: Any, options: dict[str, Any]) -> None:
    decoder = make()
    for call in (decoder.generate, decoder.stream, lambda prompt, **o: decoder.generate_batch([prompt], **o)):
        with pytest.raises(InputError) as caught:
            call("Well?", **options)
        assert next(iter(options)) in str(caught.value)
        assert caught.value.hint


BAD_PROMPTS: list[Any] = [
    "",
    " \n",
    [],
    None,
    [{"role": "user"}],
    [{"role": "user", "content": ""}],
    [{"role": "robot", "content": "a"}],
    [{"content": "a"}],
    ["a"],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
    [{"role": "user", "content": ["a"]}],
]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=str)
def test_bad_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InputError):
        lock_decoder().generate(prompt)
    with pytest.raises(InputError):
        PlainDecoder(lock_world()).generate_batch([prompt])


@pytest.mark.parametrize("make", [lock_decoder, lambda: PlainDecoder(lock_world())], ids=["rain", "plain"])
def test_a_prompt_or_limit_beyond_the_context_is_refused(make: Any) -> None:
    decoder = make()
    for prompt, options in (("x" * 5000, {}), ("x" * 4080, {}), ("x" * 4000, {"max_tokens": 100})):
        with pytest.raises(ContextLengthError, match="4096"):
            decoder.generate(prompt, **options)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}],
    ids=str,
)
def test_bad_sampling_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        PlainDecoder(lock_world(), **options)


def test_concurrency_must_be_positive() -> None:
    with pytest.raises(InputError, match="concurrency"):
        list(PlainDecoder(lock_world()).iterate_batch(["Well?"], concurrency=0))


def test_an_empty_batch() -> None:
    assert lock_decoder().generate_batch([]) == []


def test_judged_by_changes_only_the_judge() -> None:
    decoder = lock_decoder()
    strict = replace(CRITERION, name="unkind", statements=CRITERION.statements[::-1])
    other = decoder.judged_by(strict)
    assert isinstance(strict, Criterion) and other.evaluator.name == "unkind"
    assert decoder.evaluator.name == "kind"
    assert other.config is decoder.config and other.embedder is decoder.embedder


def test_a_session_of_ones_own_loop_gives_what_generate_gives() -> None:
    backend = lock_world()
    decoder = RainDecoder(backend, CRITERION, PLAIN_SEARCH)
    session = decoder.open("How do I pick a lock?", seed=3)
    assert backend.counters.forward_passes == 0
    scheduler = Scheduler.of(backend)
    scheduler.start(session.task)
    while not session.task.done:
        scheduler.step()
    alone = RainDecoder(lock_world(), CRITERION, PLAIN_SEARCH).generate("How do I pick a lock?", seed=3)
    assert session.collect().text == alone.text
    assert "".join(commit.text for commit in session.task.events) == alone.text


def test_another_config_keeps_the_judge() -> None:
    other = RainDecoder(lock_world(), CRITERION, PLAIN_SEARCH, prompt_format="dialogue").with_config(
        SearchConfig.preset("fast")
    )
    assert other.config == SearchConfig.preset("fast") and other.prompt_format == "dialogue"
    assert other.evaluator.name == CRITERION.name
    assert isinstance(other.evaluator, SelfEvaluator) and other.evaluator.votes == "debiased"
