"""Coroutines get the answers that callers get, many at once share steps, and what is cancelled frees its slots."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import pytest
from decoder_worlds import babble_world

from rain_decoding import InputError, NumericalError, PlainDecoder, RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.asynchronous import Runner
from rain_decoding.decoding.decoder import Decoder

QUESTIONS = [
    "How do I bake a nut roll at the summer fair?",
    "How do I build a rabbit hutch beside the chapel?",
    "How do I spread a false story about Linnet by the duck pond?",
    "Where does the baker live?",
]
PATIENCE = 60


def decoders(backend: LocalBackend) -> list[Decoder]:
    return [RainDecoder(backend), PlainDecoder(backend, temperature=0.7)]


def idle(backend: LocalBackend) -> None:
    """Wait until the thread that works for coroutines has ended."""
    if (thread := Runner.of(backend).thread) is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_answers_and_commits_are_those_of_generate_and_stream(demo: LocalBackend) -> None:
    async def answers(decoder: Decoder) -> list[tuple[str, list[str]]]:
        async def both(question: str) -> tuple[str, list[str]]:
            stream = decoder.astream(question, seed=3, max_tokens=24)
            commits = [commit.text async for commit in stream]
            assert stream.completion is not None and stream.completion.text == "".join(commits).strip()
            return (await decoder.agenerate(question, seed=3, max_tokens=24)).text, commits

        return await asyncio.gather(*map(both, QUESTIONS))

    for decoder in decoders(demo):
        found = asyncio.run(answers(decoder))
        for question, (text, commits) in zip(QUESTIONS, found, strict=True):
            assert text == decoder.generate(question, seed=3, max_tokens=24).text
            assert commits == [commit.text for commit in decoder.stream(question, seed=3, max_tokens=24)]


def test_many_at_once_share_steps(demo: LocalBackend) -> None:
    decoder = PlainDecoder(demo)

    async def all_at_once() -> list[str]:
        found = await asyncio.gather(*(decoder.agenerate(q, max_tokens=16) for q in QUESTIONS))
        return [completion.text for completion in found]

    alone = 0
    for question in QUESTIONS:
        demo.clear()
        before = demo.counters.forward_passes
        decoder.generate(question, max_tokens=16)
        alone += demo.counters.forward_passes - before
    demo.clear()
    before = demo.counters.forward_passes
    asyncio.run(all_at_once())
    together = demo.counters.forward_passes - before
    assert together < alone * 2 / 3


def test_more_than_the_decoder_runs_at_once_wait(demo: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = PlainDecoder(demo)
    monkeypatch.setattr(PlainDecoder, "concurrency", 2)
    running = 0

    def watch() -> bool:
        nonlocal running
        running = max(running, len(Runner.of(demo)._running))
        return False

    async def seven() -> list[str]:
        found = (decoder.agenerate(q, max_tokens=6, cancelled=watch) for q in [*QUESTIONS, *QUESTIONS[:3]])
        return [completion.text for completion in await asyncio.gather(*found)]

    texts = asyncio.run(seven())
    assert texts == [decoder.generate(q, max_tokens=6).text for q in [*QUESTIONS, *QUESTIONS[:3]]]
    assert running == 2


async def first(stream: AsyncIterator[object]) -> object:
    return await anext(stream)


def test_what_is_cancelled_frees_its_slots(demo: LocalBackend) -> None:
    """Whether the coroutine is cancelled, the stream closed, or dropped."""
    decoder = PlainDecoder(demo)

    async def cancelled() -> None:
        task = asyncio.ensure_future(decoder.agenerate(QUESTIONS[0], cancelled=begun.set, max_tokens=200))
        await asyncio.to_thread(begun.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def closed() -> None:
        async with decoder.astream(QUESTIONS[0], max_tokens=200) as stream:
            await anext(stream)
        assert stream.completion is not None
        assert stream.completion.finish_reason in ("cancelled", "stop")

    async def dropped() -> None:
        await first(decoder.astream(QUESTIONS[0], max_tokens=200))
        gc.collect()

    async def with_the_loop() -> None:
        """The loop ends while an answer is sought."""
        stream = decoder.astream(QUESTIONS[0], max_tokens=200)
        streams.append(stream)
        await anext(stream)

    streams: list[object] = []
    pinned = demo.counters.kv_slots  # judges of other tests begin with it
    for leaving in (cancelled, closed, dropped, with_the_loop):
        begun = threading.Event()
        asyncio.run(leaving())
        idle(demo)
        demo.clear()
        assert demo.counters.kv_slots == pinned, leaving
        assert demo.pending == 0


def test_one_that_waits_for_room_can_be_cancelled(
    demo: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainDecoder, "concurrency", 1)
    decoder = PlainDecoder(demo)

    gate = threading.Event()

    def held() -> bool:
        gate.wait(PATIENCE)
        return False

    async def second_leaves() -> str:
        running = asyncio.ensure_future(decoder.agenerate(QUESTIONS[0], max_tokens=8, cancelled=held))
        waiting = asyncio.ensure_future(decoder.agenerate(QUESTIONS[1], max_tokens=8))
        while len(Runner.of(demo)._waiting) + len(Runner.of(demo)._running) < 2:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return (await running).text

    assert asyncio.run(second_leaves()) == decoder.generate(QUESTIONS[0], max_tokens=8).text


def test_errors_reach_who_asked_and_no_other(demo: LocalBackend) -> None:
    decoder = PlainDecoder(demo)

    async def ask() -> list[object]:
        return await asyncio.gather(
            decoder.agenerate(QUESTIONS[0], max_tokens=8),
            decoder.agenerate(QUESTIONS[0], max_tokens=0),
            decoder.agenerate(QUESTIONS[0], cancelled=lambda: 1 / 0),
            return_exceptions=True,
        )

    answer, bad, raised = asyncio.run(ask())
    assert answer.text == decoder.generate(QUESTIONS[0], max_tokens=8).text  # type: ignore[attr-defined]
    assert isinstance(bad, InputError) and isinstance(raised, ZeroDivisionError)


def test_an_error_of_the_model_is_raised() -> None:
    decoder = PlainDecoder(babble_world())

    async def iterate() -> None:
        async for _ in decoder.astream("poison"):
            pass

    with pytest.raises(NumericalError):
        asyncio.run(iterate())


def test_loops_of_several_threads_share_a_model(demo: LocalBackend) -> None:
    decoder, texts = PlainDecoder(demo), {}

    def ask(question: str) -> None:
        texts[question] = asyncio.run(decoder.agenerate(question, max_tokens=12)).text

    threads = [threading.Thread(target=ask, args=[question]) for question in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert texts == {question: decoder.generate(question, max_tokens=12).text for question in QUESTIONS}
