"""Prompts are read beside the model's thread, each client's in turn, and what cannot fit is not read to its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from decoder_worlds import GOOD
from server.running import PATIENCE, QUESTION, gated_world, serving, until
from server.test_many_at_once import background

from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.scripted import ScriptedCodec
from rain_decoding.errors import ContextLengthError, InputError
from rain_decoding.server.reading import PIECE, PromptReader, check_fits
from rain_decoding.web import bodies
from rain_decoding.web.bodies import REFUSED_RATE, SMALL, Pace
from rain_decoding.web.errors import ApiError

BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}


class Prompts:
    """Prompts to read that note the order they are read in; the first one waits until `go`."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.go = threading.Event()

    def __call__(self, name: str) -> Callable[[], Any]:
        def read() -> str:
            assert self.go.wait(PATIENCE)
            self.order.append(name)
            return name

        return read


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), PATIENCE))


def test_clients_take_turns() -> None:
    prompts = Prompts()

    async def work() -> None:
        reader = PromptReader(100, PATIENCE)
        asked = [reader.read("many", prompts(f"many {n}")) for n in range(20)]
        asked += [reader.read(one, prompts(one)) for one in ("ann", "bob")]
        tasks = [asyncio.create_task(each) for each in asked]
        await asyncio.sleep(0)  # all have queued
        prompts.go.set()
        await asyncio.gather(*tasks)

    run(work)
    assert prompts.order[:3] == ["many 0", "ann", "bob"], "nobody waits for more than one prompt of another"
    assert prompts.order[3:] == [f"many {n}" for n in range(1, 20)]


def test_who_left_is_not_read_for() -> None:
    prompts = Prompts()

    async def work() -> None:
        reader = PromptReader(100, PATIENCE)
        tasks = [asyncio.create_task(reader.read("one", prompts(str(n)))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        prompts.go.set()
        assert [await tasks[0], await tasks[2]] == ["0", "2"]

    run(work)
    assert prompts.order == ["0", "2"]


def test_where_it_is_full_the_one_with_most_gives_way() -> None:
    prompts = Prompts()

    async def work() -> None:
        reader = PromptReader(4, PATIENCE)
        first = asyncio.create_task(reader.read("many", prompts("0")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the first one is being read, the others wait
        many = [asyncio.create_task(reader.read("many", prompts(str(n)))) for n in range(1, 5)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await reader.read("many", prompts("too much"))
        assert refused.value.status == 429
        other = asyncio.create_task(reader.read("ann", prompts("ann")))
        await asyncio.sleep(0)
        prompts.go.set()
        results = await asyncio.gather(first, *many, other, return_exceptions=True)
        assert results[:4] == ["0", "1", "2", "3"] and results[5] == "ann"
        assert isinstance(results[4], ApiError) and results[4].status == 429

    run(work)


def test_errors_are_the_askers_and_what_hangs_holds_up_nobody_for_long() -> None:
    hanging = threading.Event()

    def broken() -> Any:
        raise InputError("no prompt")

    async def work() -> None:
        reader = PromptReader(10, 0.2)
        with pytest.raises(InputError, match="no prompt"):
            await reader.read("ann", broken)
        stuck = asyncio.create_task(reader.read("ann", lambda: hanging.wait(PATIENCE)))  # type: ignore[arg-type, return-value]
        await asyncio.sleep(0)
        assert await reader.read("bob", lambda: "read") == "read"  # type: ignore[arg-type, return-value]
        with pytest.raises(ApiError) as late:
            await stuck
        assert late.value.status == 504
        hanging.set()

    run(work)


class Counting(ScriptedCodec):
    """Counts the characters that it is given."""

    def __init__(self) -> None:
        super().__init__(["<end>", "ab"], "<end>")
        self.read = 0

    def encode(self, text: str, *, start: bool = True) -> tuple[int, ...]:
        self.read += len(text)
        return super().encode(text, start=start)


def test_what_cannot_fit_is_not_read_to_its_end() -> None:
    codec = Counting()
    check_fits(["x" * 1000], codec, 1000)
    assert codec.read == 0, "it may fit, and is read once"
    with pytest.raises(ContextLengthError):
        check_fits(["x" * 10**7], codec, 1000)
    assert codec.read <= 2 * PIECE
    codec.read = 0
    with pytest.raises(ContextLengthError):
        check_fits(["y" * 300] * 10_000, codec, 1000)
    assert codec.read <= 2 * 1000 + PIECE
    check_fits(["ab" * 900], codec, 1000)


@pytest.mark.parametrize("text", ["The nut roll. ", "a", " ", "<|end|>", "\n", "é漢🙂", "\u200b", "0"])
def test_what_fits_is_not_refused(demo: LocalBackend, text: str) -> None:
    """However it is cut, the sum of the pieces is hardly more than the whole."""
    codec, context = demo.codec, 3 * PIECE
    whole = text * (context // len(codec.encode(text * 10, start=False)) * 9)
    length = len(codec.encode(whole, start=False))
    check_fits([whole], codec, length)


def test_a_prompt_that_is_read_slowly_stops_no_answer() -> None:
    """The model goes on while another client's prompt is being read."""
    backend = gated_world()
    reading, go = threading.Event(), threading.Event()
    encode = backend.codec.encode

    def slow(text: str, *, start: bool = True) -> tuple[int, ...]:
        if "a long story" in text:
            reading.set()
            assert go.wait(PATIENCE)
        return encode(text, start=start)

    backend.codec.encode = slow  # type: ignore[method-assign]
    backend.gate.clear()
    long: Any = [{"role": "user", "content": "Tell me a long story."}]
    with serving(backend) as running, background(running, 1) as first:
        running.settle(1)
        with background(running, 1, messages=long) as second:
            assert reading.wait(PATIENCE)
            backend.gate.set()
            until(lambda: bool(first))
            assert first[0].choices[0].message.content == GOOD and not second
            go.set()
        assert second[0].choices[0].message.content


def test_answers_of_one_prompt_read_it_once() -> None:
    backend, seen = gated_world(), []
    encode = backend.codec.encode

    def noted(text: str, *, start: bool = True) -> tuple[int, ...]:
        seen.append(text)
        return encode(text, start=start)

    with serving(backend) as running, running.http() as http:
        backend.codec.encode = noted  # type: ignore[method-assign]
        http.post("/v1/chat/completions", json={**BODY, "n": 4})
        assert sum(text.endswith("Assistant:") for text in seen) == 1


def test_whoever_has_large_bodies_refused_waits_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def work() -> None:
        monkeypatch.setattr(bodies.asyncio, "sleep", sleep)
        pace = Pace()
        pace.charge("bad", 5 * REFUSED_RATE)
        pace.charge("clumsy", SMALL)
        for client in ("good", "clumsy"):
            await pace.wait(client)
        assert not slept
        pace.charge("bad", 3 * REFUSED_RATE)
        await pace.wait("bad")
        assert slept == [pytest.approx(8, abs=1)]
        pace.charge("bad", 1000 * REFUSED_RATE)
        await pace.wait("bad")
        assert slept[1] == bodies.MOST_PACED

    run(work)


def test_only_large_bodies_wait_and_only_refused_ones_are_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, charged = [], []

    async def wait(_: Pace, client: str) -> None:
        waited.append(client)

    monkeypatch.setattr(Pace, "wait", wait)
    monkeypatch.setattr(Pace, "charge", lambda _, client, size: charged.append((client, size > SMALL)))
    large = {**BODY, "user": "x" * 2 * SMALL}
    with serving() as running, running.http() as http:
        assert http.post("/v1/chat/completions", json=BODY).status_code == 200
        assert (waited, charged) == ([], [])
        assert http.post("/v1/chat/completions", json=large).status_code == 200
        assert (waited, charged) == (["127.0.0.1"], [])
        assert http.post("/v1/chat/completions", json={**large, "n": 0}).status_code == 400
        assert (waited, charged) == (["127.0.0.1"] * 2, [("127.0.0.1", True)])
    with serving(api_keys=("a",)) as running, running.http() as http:
        key = {"authorization": "Bearer a"}
        assert http.post("/v1/chat/completions", json={**large, "n": 0}, headers=key).status_code == 400
        assert charged[-1] == (waited[-1], True) and waited[-1] not in ("", "127.0.0.1")
