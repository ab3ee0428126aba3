"""A model behind HTTP behind `rain serve`: nobody waits for another, and what fails there fails cleanly here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from backends.openai.stub import Fault, Stub, cut_stream, served, slow, status
from decoder_worlds import GOOD, lock_world
from server.running import QUESTION, Running, serving, until
from server.test_many_at_once import background, post

from rain_decoding import SearchConfig
from rain_decoding.backends import arrivals
from rain_decoding.backends.openai import backend as endpoint_backend
from rain_decoding.backends.openai.backend import EndpointBackend

SEARCH = SearchConfig.preset("balanced", top_k=5, sentence_tokens=(2, 32))
NEVER = 3600.0
"""Seconds that no test waits."""
Pair = tuple[Stub, EndpointBackend]


@pytest.fixture
def upstream() -> Iterator[Pair]:
    with served(lock_world()) as pair:
        yield pair


def gateway(backend: EndpointBackend, **config: Any) -> Any:
    return serving(backend, search=SEARCH, served_name="scripted", **config)


def ask(running: Running, **options: Any) -> Any:
    body: dict[str, Any] = {"model": "scripted", "messages": QUESTION, "seed": 0}
    return running.client().chat.completions.create(**{**body, **options})


def ready(running: Running) -> bool:
    with running.http() as http:
        return http.get("/readyz").status_code == 200


def test_many_at_once(upstream: Pair) -> None:
    _, backend = upstream
    with gateway(backend, max_concurrent=8) as running:
        with background(running, 12) as outcomes:
            pass
        assert [outcome.choices[0].message.content for outcome in outcomes] == [GOOD] * 12
        assert all(outcome.rain["rewinds"] for outcome in outcomes)
        running.settle()
    assert backend.pending == 0 and not backend._streams


def test_nobody_waits_for_an_answer_that_does_not_come(
    upstream: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the backend that waits is woken by who comes and by who leaves."""
    stub, backend = upstream
    monkeypatch.setattr(arrivals, "PATIENCE", NEVER)
    with gateway(backend) as running:
        stub.faults.append(slow)
        leaving = post(running, stream=True)
        until(lambda: len(stub.asked) == 1)
        assert ask(running).choices[0].message.content == GOOD
        running.settle(1)
        leaving.close()
        running.settle(0)
        assert backend.pending == 0 and not backend._streams
        assert running.metric("rain_answers_total", finish_reason="cancelled") == 1


def test_the_time_of_a_request_ends_although_nothing_comes(upstream: Pair) -> None:
    stub, backend = upstream
    stub.always = slow
    with gateway(backend, max_seconds=0.3) as running:
        answer = ask(running)
        assert (answer.rain["finish_reason"], answer.choices[0].finish_reason) == ("budget", "length")


def failures(running: Running) -> tuple[int, str]:
    """Status and code that a request gets, streamed or not; nothing is told of where the model is."""
    with pytest.raises(openai.APIStatusError) as whole:
        ask(running)
    with pytest.raises(openai.APIError) as streamed:
        list(ask(running, stream=True))
    assert whole.value.code == streamed.value.code and whole.value.type == "server_error"
    assert "127.0.0.1" not in whole.value.message + streamed.value.message
    return whole.value.status_code, str(whole.value.code)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (status(503), (502, "upstream_failed")),
        (status(401), (502, "upstream_failed")),
        (cut_stream(0), (502, "upstream_failed")),
        (slow, (504, "upstream_timeout")),
    ],
    ids=["503", "401", "cut", "slow"],
)
def test_what_fails_upstream_is_told_in_openais_shape_and_passes(
    upstream: Pair, fault: Fault, told: tuple[int, str]
) -> None:
    stub, backend = upstream
    backend.endpoint.client.timeout = 0.2 if fault is slow else 5.0
    with gateway(backend, stuck_seconds=NEVER) as running:
        stub.always = fault
        assert failures(running) == told
        stub.always = None
        assert ask(running).choices[0].message.content == GOOD
        assert ready(running)


def test_readiness_follows_the_upstream(upstream: Pair) -> None:
    stub, backend = upstream
    with gateway(backend) as running, running.http() as http:
        assert ready(running)
        stub.always = status(500)
        assert failures(running)[0] == 502
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the model's server keeps failing")
        stub.always = None
        until(lambda: ready(running))


def test_an_upstream_that_hangs_trips_the_watchdog_until_it_answers(
    upstream: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, backend = upstream
    monkeypatch.setattr(endpoint_backend, "CHECK_SECONDS", 0.2)
    backend.endpoint.client.timeout = NEVER
    with gateway(backend, stuck_seconds=0.2) as running:
        stub.always = slow
        with background(running, 3) as outcomes:
            pass
        assert {(one.status_code, one.code) for one in outcomes} == {(504, "upstream_timeout")}
        running.settle()
        asked = len(stub.asked)
        until(lambda: len(stub.asked) > asked + 1)  # it is asked whether it is back
        assert not ready(running)
        with pytest.raises(openai.InternalServerError) as refused:
            ask(running)
        assert (refused.value.status_code, refused.value.code) == (503, "backend_stuck")
        stub.always = None
        until(lambda: ready(running))
        assert ask(running).choices[0].message.content == GOOD


def test_an_answer_that_goes_on_is_not_stuck(upstream: Pair) -> None:
    """One request hangs; as long as others get on, none is failed."""
    stub, backend = upstream
    with gateway(backend, stuck_seconds=3.0) as running:
        stub.faults.append(slow)
        leaving = post(running)
        until(lambda: len(stub.asked) == 1)
        assert running.service is not None
        worker = running.service.worker
        first = worker.pending[0]
        ended = threading.Event()
        threading.Timer(4.0, ended.set).start()
        while not ended.is_set():
            assert ask(running).choices[0].message.content == GOOD
        assert not first.cancelled
        leaving.close()
        running.settle()


def test_what_cannot_be_judged_is_held_back_and_no_error(upstream: Pair) -> None:
    stub, backend = upstream

    def fails_judging(handler: Any, body: dict[str, Any]) -> None:
        if body["prompt"].endswith("It is ("):
            status(500)(handler, body)
        else:
            handler.answer(body)

    stub.always = fails_judging
    with gateway(backend) as running:
        with pytest.warns(UserWarning, match="could not be judged"):
            answer = ask(running)
        assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("content_filter", "")
        assert answer.rain["warnings"] == ["a text could not be judged"], "without what that server said"
