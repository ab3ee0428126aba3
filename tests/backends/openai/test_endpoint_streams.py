"""One streamed request per answer: who goes on with it, when it is given up, and what an answer costs in requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from backends.openai.stub import Stub, cut_stream, served, status
from decoder_worlds import BAD, CRITERION, GOOD, babble_world, lock_world, scripted

from rain_decoding import EndpointError, PlainDecoder, RainDecoder, SearchConfig
from rain_decoding.backends.base import Handle, Reply
from rain_decoding.backends.openai.backend import EndpointBackend
from rain_decoding.types import Decode, Decoded, Stop

SENTENCES = [" One fish swims here.", " Two fish swim there.", " Red fish rest.", " Blue fish sleep well."]


def fine(text: str) -> dict[str, float]:
    """Four sentences, all judged kind in either order of the options."""
    if text.endswith("It is ("):
        kind = 0.9 if "(A) It is kind." in text else 0.1
        return {"A": kind, "B": 1 - kind}
    said = text.rpartition("Assistant:")[2]
    words = [word for sentence in SENTENCES for word in pieces(sentence)]
    follows = [word for count, word in enumerate(words) if "".join(words[:count]) == said]
    return {follows[0] if follows else "<end>": 1.0}


def pieces(sentence: str) -> list[str]:
    return [f" {word}" for word in sentence[1:-1].split()] + ["."]


def fine_world() -> Any:
    return scripted(fine, ["A", "B", *dict.fromkeys(word for one in SENTENCES for word in pieces(one))])


@pytest.fixture
def lock() -> Iterator[tuple[Stub, EndpointBackend]]:
    with served(lock_world()) as pair:
        yield pair


def replies(backend: EndpointBackend, *handles: Handle) -> list[Reply]:
    found: dict[Handle, Reply] = {}
    while len(found) < len(handles):
        found |= {reply.handle: reply for reply in backend.step()}
    return [found[handle] for handle in handles]


@pytest.mark.parametrize("orders", [1, 2])
def test_fine_text_costs_one_stream_and_one_request_per_order_and_sentence(orders: int) -> None:
    criterion = replace(CRITERION, both_orders=orders == 2)
    config = SearchConfig.preset("balanced", sentence_tokens=(2, 32))
    with served(fine_world()) as (stub, backend):
        completion = RainDecoder(backend, criterion, config).generate("Tell me of fish.")
    assert completion.text == "".join(SENTENCES).strip()
    assert completion.score == pytest.approx(0.8)
    streamed = [body for body in stub.asked if body.get("stream")]
    assert len(streamed) == 1 and all(body["max_tokens"] == 1 for body in stub.asked if body not in streamed)
    assert len(stub.asked) == completion.usage.requests == 1 + orders * len(SENTENCES)


def test_plain_decoding_is_one_request(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    completion = PlainDecoder(backend).generate("Well?")
    assert (completion.text, completion.finish_reason) == (BAD, "stop")
    assert len(stub.asked) == 1 == completion.usage.requests
    sampled = PlainDecoder(backend, temperature=1.0).generate("Well?", seed=3)
    assert sampled.text in (BAD, GOOD) and len(stub.asked) == 2


def test_the_search_rewinds_and_goes_on_by_another_stream(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    config = SearchConfig.preset("balanced", sentence_tokens=(2, 32))
    completion = RainDecoder(backend, CRITERION, config).generate("Well?")
    assert completion.text == GOOD and completion.score is not None and completion.score > 0
    assert completion.usage.rewinds == 1
    assert completion.usage.requests == len(stub.asked)


def test_a_stream_is_cut_off_where_nobody_wants_it(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    prompt = backend.codec.encode("Assistant:")
    stub.held_after = 2
    for give_up in ("cancel", "retain", "finish", "other"):
        stub.gone.clear()
        owner = backend.new_owner()
        handle = backend.submit(Decode(prompt, 1, horizon=9), owner)
        assert len(replies(backend, handle)[0].value.tokens) == 1
        match give_up:
            case "cancel":
                backend.cancel(backend.submit(Decode(prompt + handle.decoded, 9, horizon=9), owner))
            case "retain":
                backend.retain(owner, [prompt + backend.codec.encode(" No", start=False)])
            case "finish":
                backend.finish(owner)
            case "other":
                backend.submit(Decode(prompt + backend.codec.encode(" No", start=False), 1, horizon=9), owner)
        assert not any(stream.tokens for stream in backend._streams)
        assert stub.gone.wait(5), give_up
        backend.finish(owner)


def test_what_was_kept_is_kept(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    prompt, owner = backend.codec.encode("Assistant:"), backend.new_owner()
    (first,) = replies(backend, backend.submit(Decode(prompt, 2, horizon=9), owner))
    text = prompt + first.value.tokens
    backend.retain(owner, [text])
    (second,) = replies(backend, backend.submit(Decode(text, 9, horizon=9), owner))
    assert second.value.reason == "stop" and len(stub.asked) == 1
    assert backend.codec.decode(first.value.tokens + second.value.tokens) == f" {BAD}"
    assert second.value.tokens[-1] in backend.codec.eos


def test_alternatives_have_streams_of_their_own(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    prompt, owner = backend.codec.encode("Assistant:"), backend.new_owner()
    requests = [Decode(prompt, 9, seed=seed) for seed in range(12)]
    texts = {
        backend.codec.decode(reply.value.tokens)
        for reply in replies(backend, *(backend.submit(request, owner) for request in requests))
    }
    assert texts == {f" {BAD}", f" {GOOD}"} and len(stub.asked) == 12 and not backend._streams


def test_a_broken_stream_goes_on_behind_what_has_arrived(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    stub.faults += [cut_stream(2), status(503), cut_stream(1)]
    backend.endpoint.client.attempts = 4
    (reply,) = replies(backend, backend.submit(Decode(backend.codec.encode("Assistant:"), 9), 1))
    assert backend.codec.decode(reply.value.tokens) == f" {BAD}"
    assert [body["prompt"] for body in stub.asked] == [
        "Assistant:",
        "Assistant: Sure, take",
        "Assistant: Sure, take",
        "Assistant: Sure, take a hairpin",
    ]


def test_a_stream_that_stays_broken_is_an_error_and_no_short_text(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    stub.always = cut_stream(1)
    prompt = backend.codec.encode("Assistant:")
    for request in (Decode(prompt, 9), Decode(prompt, 9, horizon=9)):
        handle = backend.submit(request, 1)
        (reply,) = replies(backend, handle)
        assert isinstance(reply.error, EndpointError) and reply.error.retryable
        assert handle.requests == 3
    assert not backend._streams


def test_markers_end_a_stream_within_the_text(lock: tuple[Stub, EndpointBackend]) -> None:
    _, backend = lock
    prompt = backend.codec.encode("Assistant:")
    request = Decode(prompt, 9, stop=Stop((", take a",), len(prompt)))
    (reply,) = replies(backend, backend.submit(request, 1))
    assert reply.value == Decoded(reply.value.tokens, "stop")
    assert backend.codec.decode(reply.value.tokens) == " Sure, take a hairpin"


def test_batches_and_one_by_one_agree() -> None:
    prompts = [f"Tell me {word}." for word in ("this", "that", "more", "less", "all")]
    config = SearchConfig.preset("balanced", sentence_tokens=(2, 8))
    with served(babble_world()) as (_, backend):
        decoder = RainDecoder(backend, CRITERION, config)
        together = [each.text for each in decoder.generate_batch(prompts, seed=1, max_tokens=30)]
        assert together == [decoder.generate(prompt, seed=1, max_tokens=30).text for prompt in prompts]
