"""`RainDecoder` on the demo model: batches, memory and counts on the real engine."""

from __future__ import annotations

from typing import Any

import pytest

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend

QUICK = SearchConfig.preset(
    "paper-hh",
    candidates=4,
    max_simulations=5,
    extra_simulations=2,
    min_evaluations=1,
    token_set_lengths=(1, 2, 4),
)
LIMIT: dict[str, Any] = {"max_tokens": 16, "seed": 2}


@pytest.fixture
def decoder(demo: LocalBackend) -> RainDecoder:
    return RainDecoder(demo, "harmlessness", QUICK)


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    from rain_decoding.microworld import FAMILIES, example_prompts

    return [prompt for family in FAMILIES for prompt in example_prompts(family, 4)][:16]


def test_a_batch_of_16_gives_what_prompts_give_alone_and_after_others(
    decoder: RainDecoder, prompts: list[str]
) -> None:
    batch = decoder.generate_batch(prompts, **LIMIT)
    after = decoder.generate(prompts[0], **LIMIT)
    assert (after.text, after.score) == (batch[0].text, batch[0].score)
    for index in (0, 5, 10):
        decoder.backend.clear()
        alone = decoder.generate(prompts[index], **LIMIT)
        assert (alone.tokens, alone.score) == (batch[index].tokens, batch[index].score)
        assert alone.usage.simulations == batch[index].usage.simulations
    assert len({c.text for c in batch}) > 8


def kept_slots(decoder: RainDecoder, prompt: str, text: str, tokens: int) -> int:
    """What a finished conversation keeps: its prompt and answer of `tokens`, and the judge's reading of it."""
    built = decoder.build_prompt(prompt)
    (read,) = decoder.evaluator.conversation(built).held(text)
    return len(built.tokens) + tokens + len(read)


def test_closing_a_stream_gives_its_memory_back(
    demo: LocalBackend, decoder: RainDecoder, prompts: list[str]
) -> None:
    demo.clear()
    pinned = demo.engine.slots_used
    stream = decoder.stream(prompts[0], **LIMIT)
    first = next(stream)
    held = demo.engine.slots_used - pinned
    stream.close()
    assert stream.completion is not None
    kept = kept_slots(decoder, prompts[0], stream.completion.text, len(first.tokens))
    assert demo.engine.slots_used <= pinned + kept < pinned + held
    demo.clear()
    assert demo.engine.slots_used == pinned


def test_a_finished_search_keeps_only_its_conversation(
    demo: LocalBackend, decoder: RainDecoder, prompts: list[str]
) -> None:
    demo.clear()
    pinned = demo.engine.slots_used
    completion = decoder.generate(prompts[1], **LIMIT)
    kept = kept_slots(decoder, prompts[1], completion.text, completion.usage.completion_tokens)
    assert demo.engine.slots_used <= pinned + kept
    assert completion.usage.peak_kv_slots > demo.engine.slots_used


def test_usage_equals_what_the_engine_forwarded(
    demo: LocalBackend, decoder: RainDecoder, prompts: list[str]
) -> None:
    before = demo.counters.tokens_forwarded, demo.counters.forward_passes
    completion = decoder.generate(prompts[2], **LIMIT)
    assert completion.usage.search_tokens == demo.counters.tokens_forwarded - before[0]
    assert completion.usage.forward_passes == demo.counters.forward_passes - before[1]


def test_pieces_join_to_the_text(decoder: RainDecoder, prompts: list[str]) -> None:
    stream = decoder.stream(prompts[3], **LIMIT)
    pieces = "".join(commit.text for commit in stream)
    assert stream.completion is not None and pieces == stream.completion.text != ""


def test_a_failed_step_frees_everything(
    demo: LocalBackend, decoder: RainDecoder, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = demo.engine.slots_used
    calls = 0
    forward = demo.engine.forward

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(demo.engine, "forward", fail)
    with pytest.raises(KeyboardInterrupt):
        decoder.generate_batch(prompts[:3], **LIMIT)
    assert demo.pending == 0
    demo.clear()
    assert demo.engine.slots_used == pinned


def test_streams_of_one_backend_do_not_take_each_others_replies(
    demo: LocalBackend, decoder: RainDecoder, prompts: list[str]
) -> None:
    """Two streams read in turn, and a judgement in between, give what each gives alone."""
    plain, rain = PlainDecoder(demo, temperature=1.0), decoder
    alone = [plain.generate(prompts[0], max_tokens=24).text, rain.generate(prompts[1], max_tokens=12).text]
    streams = [plain.stream(prompts[0], max_tokens=24), rain.stream(prompts[1], max_tokens=12)]
    pieces = ["", ""]
    open_streams = {0, 1}
    while open_streams:
        for index in sorted(open_streams):
            commit = next(streams[index], None)
            if commit is None:
                open_streams.remove(index)
            else:
                pieces[index] += commit.text
                assert rain.judge(prompts[0], "That is kind.").score is not None
    assert pieces == alone
