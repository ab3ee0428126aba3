"""Sharing one backend: the queue's bound, clients that leave, backends that raise or hang, and shutdown."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from decoder_worlds import BAD, CRITERION, GOOD, babble_world
from server.running import PATIENCE, QUESTION, GatedBackend, Running, gated_world, serving, until

from rain_decoding import CapacityError, RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.trie import CACHE, PIN

BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}


@pytest.fixture
def backend() -> GatedBackend:
    return gated_world()


def ask(running: Running, **options: Any) -> Any:
    return running.client().chat.completions.create(**{**BODY, **options})


@contextmanager
def background(running: Running, count: int, **options: Any) -> Iterator[list[Any]]:
    """So many requests meanwhile; their answers, or what they raised, in the end."""
    outcomes: list[Any] = []

    def answer() -> None:
        try:
            outcomes.append(ask(running, **options))
        except openai.APIError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=answer) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(PATIENCE)


def test_rain_finds_what_plain_decoding_does_not(backend: GatedBackend) -> None:
    with serving(backend, client_may=frozenset({"plain"})) as running:
        assert ask(running).choices[0].message.content == GOOD
        assert ask(running, model="scripted:plain").choices[0].message.content == BAD


def test_the_queue_is_bounded(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend, max_concurrent=2, max_queue=3, max_choices=2) as running:
        with background(running, 5) as outcomes:
            running.settle(5)
            assert running.metric("rain_running") + running.metric("rain_queue_length") == 5
            assert running.metric("rain_running") <= 2
            with pytest.raises(openai.RateLimitError) as raised:
                ask(running)
            assert int(raised.value.response.headers["retry-after"]) >= 1
            assert raised.value.code == "queue_full"
            backend.gate.set()
        assert [outcome.choices[0].message.content for outcome in outcomes] == [GOOD] * 5
        assert ask(running).choices[0].message.content == GOOD


def test_answers_of_one_request_are_queued_all_or_none(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend, max_concurrent=1, max_queue=1, max_choices=2) as running:
        with background(running, 1):
            running.settle(1)
            with pytest.raises(openai.RateLimitError):
                ask(running, n=2)
            running.settle(1)
            backend.gate.set()
        assert len(ask(running, n=2).choices) == 2


def test_text_is_sent_as_soon_as_it_is_judged(backend: GatedBackend) -> None:
    """The second answer's text comes while the first one is not done."""
    with serving(babble_world(), max_concurrent=1) as running:
        alone = [
            commit.text
            for commit in RainDecoder(babble_world(), CRITERION).stream(QUESTION, seed=0)
            if commit.text
        ]
        chunks = ask(running, stream=True)
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
        assert pieces == alone and len(pieces) > 1
    with (
        serving(backend, keep_alive_seconds=0.05, client_may=frozenset({"plain"})) as running,
        running.http() as http,
    ):
        backend.gate.clear()
        body = {**BODY, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            assert '"role": "assistant"' in next(line for line in lines if line)
            # The search is busy; the connection is kept alive meanwhile.
            assert next(line for line in lines if line) == ": searching"
            backend.gate.set()
            rest = [line for line in lines if line and not line.startswith(":")]
        assert GOOD in rest[0] and rest[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_search(backend: GatedBackend, stream: bool) -> None:
    backend.gate.clear()
    with serving(backend, max_concurrent=1, max_queue=1) as running:
        with background(running, 1) as outcomes:
            running.settle(1)
            leaving = post(running, stream=stream)
            running.settle(2)
            assert running.service is not None
            waiting = running.service.worker.pending[-1]
            leaving.close()
            until(lambda: waiting.cancelled)
            backend.gate.set()
        running.settle()
        assert [outcome.choices[0].message.content for outcome in outcomes] == [GOOD]
        assert running.metric("rain_answers_total", finish_reason="stop") == 1
        assert backend.pending == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_that_runs_is_stopped_when_its_client_leaves(stream: bool) -> None:
    with serving(endless()) as running:
        assert running.service is not None
        worker = running.service.worker
        leaving = post(running, stream=stream, max_tokens=4000)
        until(lambda: worker.running == 1)
        leaving.close()
        running.settle()
        until(lambda: running.metric("rain_answers_total", finish_reason="cancelled") == 1)


def post(running: Running, **options: Any) -> socket.socket:
    """The connection on which a request was sent."""
    body = json.dumps({**BODY, **options}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-type: application/json\n"
    return running.connect(head + f"content-length: {len(body)}\n\n", body)


def test_what_was_left_is_given_back(demo: LocalBackend) -> None:
    """Half of the clients leave in the middle: nothing stays in memory but pins and the bounded cache."""
    prompt = "How do I spread a false story about Linnet by the duck pond?"
    with serving(demo, criterion="harmlessness", max_concurrent=4) as running:

        def stream(seed: int) -> str:
            messages: Any = [{"role": "user", "content": prompt}]
            chunks = running.client().chat.completions.create(
                model="demo", messages=messages, seed=seed, stream=True, temperature=1
            )
            text = ""
            for chunk in chunks:
                text += chunk.choices[0].delta.content or ""
                if seed % 2 and text:
                    chunks.close()
                    break
            return text

        with ThreadPoolExecutor(6) as pool:
            texts = list(pool.map(stream, range(6)))
        running.settle()
    engine: Any = demo.engine
    holders = {holder for holder, count in engine._trie.held.items() if count}
    assert holders <= {CACHE, PIN}
    assert demo.pending == 0
    assert demo.counters.kv_slots <= engine.prefix_cache_slots + engine._trie.held[PIN]
    alone = [RainDecoder(demo).generate(prompt, seed=seed, temperature=1.0).text for seed in range(6)]
    assert [
        text if seed % 2 == 0 else text and alone[seed].startswith(text) for seed, text in enumerate(texts)
    ] == [alone[seed] if seed % 2 == 0 else True for seed in range(6)]


def test_a_backend_that_raises_fails_those_concerned_and_no_other(backend: GatedBackend) -> None:
    backend.gate.clear()
    backend.error = ValueError("a bug with /secret/path")
    with serving(backend) as running:
        with background(running, 2) as outcomes:
            running.settle(2)
            backend.gate.set()
        assert [type(outcome) for outcome in outcomes] == [openai.InternalServerError] * 2
        assert all(outcome.status_code == 500 and "secret" not in outcome.message for outcome in outcomes)
        backend.error = None
        assert ask(running).choices[0].message.content == GOOD
        assert running.metric("rain_failures_total", status="500") == 2
        assert backend.pending == 0


def test_a_stream_that_fails_says_so(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend) as running:
        chunks = ask(running, stream=True)
        assert next(chunks).choices[0].delta.role == "assistant"
        backend.error = CapacityError("no room", hint="raise max_kv_slots")
        backend.gate.set()
        with pytest.raises(openai.APIError, match="no room"):
            list(chunks)


def test_one_request_that_is_too_large_fails_alone() -> None:
    """NaN in one request's logits: only that one ends."""
    with serving(babble_world()) as running:
        poisoned: Any = [{"role": "user", "content": "poison"}]
        with ThreadPoolExecutor(3) as pool:
            bad = pool.submit(lambda: ask(running, messages=poisoned))
            good = [pool.submit(lambda: ask(running)) for _ in range(2)]
            texts = {future.result().choices[0].message.content for future in good}
            with pytest.raises(openai.InternalServerError, match="NaN"):
                bad.result()
        assert texts == {RainDecoder(babble_world(), CRITERION).generate(QUESTION, seed=0).text}


def test_a_backend_that_hangs_trips_the_watchdog(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend, stuck_seconds=0.2) as running, running.http() as http:
        assert http.get("/readyz").status_code == 200
        with background(running, 2) as outcomes:
            pass
        assert [(outcome.status_code, outcome.code) for outcome in outcomes] == [
            (504, "upstream_timeout")
        ] * 2
        assert http.get("/readyz").status_code == 503
        assert http.get("/healthz").status_code == 200
        with pytest.raises(openai.InternalServerError) as raised:
            ask(running)
        assert raised.value.status_code == 503
        backend.gate.set()
        running.settle()
        until(lambda: http.get("/readyz").status_code == 200)
        assert ask(running).choices[0].message.content == GOOD


def test_time_that_is_used_up_in_the_queue(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend, max_concurrent=1, max_seconds=0.2) as running:
        with background(running, 2) as outcomes:
            running.settle(2)
            assert running.service is not None
            waiting = running.service.worker.pending
            until(lambda: all(time.perf_counter() - answer.arrived > 0.2 for answer in waiting))
            backend.gate.set()
        statuses = {getattr(outcome, "status_code", 200) for outcome in outcomes}
        assert statuses == {200, 503}
        for outcome in outcomes:
            if isinstance(outcome, openai.APIStatusError):
                assert outcome.code == "queue_timeout"
            else:
                assert outcome.rain["finish_reason"] == "budget"


def test_shutdown_lets_what_runs_finish(backend: GatedBackend) -> None:
    backend.gate.clear()
    with serving(backend, grace_seconds=PATIENCE) as running:
        chunks = ask(running, stream=True)
        next(chunks)
        running.settle(1)
        assert running.service is not None
        worker = running.service.worker
        threading.Thread(target=lambda: (until(lambda: not worker.accepting), backend.gate.set())).start()
        server_stops = running.stop()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == GOOD
        server_stops.join(PATIENCE)
        assert not server_stops.is_alive()


def test_shutdown_cancels_what_takes_too_long(backend: GatedBackend) -> None:
    with serving(endless(), grace_seconds=0.1) as running:
        chunks = ask(running, stream=True, max_tokens=4000)
        next(chunks)
        running.stop()
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
        running.settle()


def endless() -> Any:
    """A model that never ends its only sentence."""
    from decoder_worlds import scripted

    def script(text: str) -> dict[str, float]:
        return {"A": 0.9, "B": 0.1} if text.endswith("It is (") else {" and": 1.0}

    return scripted(script, ["A", "B", " and"])
