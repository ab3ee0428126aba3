"""One server of several models: further ones are loaded when they are first asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from decoder_worlds import BAD, CRITERION, GOOD
from server.running import (
    PATIENCE,
    QUESTION,
    GatedBackend,
    Running,
    gated_world,
    running_app,
    serving,
    until,
)

from rain_decoding import EndpointError, RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import UnsupportedError
from rain_decoding.server.config import PERMISSIONS
from rain_decoding.server.loading import application
from rain_decoding.server.settings import ServeSettings

FURTHER = "further"
DEMO_QUESTION = [{"role": "user", "content": "How do I bake a nut roll at the summer fair?"}]


class Loading:
    """Makes decoders of the scripted world behind a gate, and counts them; fails as often as it is told to."""

    def __init__(self, *failures: Exception):
        self.failures = list(failures)
        self.made: list[RainDecoder] = []
        self.asked, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()

    def __call__(self) -> RainDecoder:
        self.asked.release()
        assert self.gate.wait(PATIENCE)
        if self.failures:
            raise self.failures.pop(0)
        self.made.append(RainDecoder(gated_world(), CRITERION))
        return self.made[-1]


def ask(running: Running, model: str) -> httpx2.Response:
    with running.http() as http:
        body = {"model": model, "messages": QUESTION, "seed": 0}
        return http.post("/v1/chat/completions", json=body)


def said(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_what_is_asked_for_at_once_is_loaded_once_and_never_before() -> None:
    loading = Loading()
    with serving(others={FURTHER: loading}) as running, running.http() as http:
        listed = [each["id"] for each in http.get("/v1/models").json()["data"]]
        assert listed == ["scripted", FURTHER]
        assert http.get(f"/v1/models/{FURTHER}").json()["id"] == FURTHER
        assert said(ask(running, "scripted")) == GOOD and not loading.made
        loading.gate.clear()
        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(ask, running, FURTHER) for _ in range(3)]
            assert loading.asked.acquire(timeout=PATIENCE)
            assert said(ask(running, "scripted")) == GOOD, "others are answered meanwhile"
            loading.gate.set()
            assert [said(answer.result()) for answer in answers] == [GOOD] * 3
        assert len(loading.made) == 1
        assert running.metric("rain_answers_total", finish_reason="stop") == 5


def test_plain_decoding_is_permitted_and_named_for_each() -> None:
    loading = Loading()
    with serving(others={FURTHER: loading}, client_may=frozenset({"plain"})) as running:
        with running.http() as http:
            listed = [each["id"] for each in http.get("/v1/models").json()["data"]]
        assert listed == ["scripted", "scripted:plain", FURTHER, f"{FURTHER}:plain"]
        assert said(ask(running, f"{FURTHER}:plain")) == BAD
    with serving(others={FURTHER: loading}) as running:
        assert ask(running, f"{FURTHER}:plain").status_code == 403


def test_a_name_that_is_taken_already_is_the_first_models() -> None:
    loading = Loading()
    taken = {"scripted": loading, "scripted:plain": loading}
    with serving(others=taken, client_may=frozenset({"plain"})) as running:
        assert (said(ask(running, "scripted")), said(ask(running, "scripted:plain"))) == (GOOD, BAD)
    assert not loading.made


def test_an_unknown_name_is_answered_with_those_that_are_known() -> None:
    with serving(others={FURTHER: Loading()}) as running:
        error = ask(running, "furthest").json()["error"]
        assert error["code"] == "model_not_found" and "use 'scripted' or 'further'" in error["message"]
    loading = Loading()
    with serving(others={FURTHER: loading}, any_model=True) as running:
        assert said(ask(running, "furthest")) == GOOD and not loading.made
        assert said(ask(running, FURTHER)) == GOOD and loading.made


def test_what_could_not_be_loaded_is_tried_again_and_why_is_the_operators() -> None:
    loading = Loading(
        EndpointError("http://10.0.0.1 is down"), UnsupportedError("http://10.0.0.1 embeds only")
    )
    with serving(others={FURTHER: loading}) as running:
        for _ in range(2):
            answer = ask(running, FURTHER)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
            assert "10.0.0.1" not in answer.text
        assert said(ask(running, FURTHER)) == GOOD


def test_a_request_waits_for_a_model_no_longer_than_for_anything() -> None:
    loading = Loading()
    loading.gate.clear()
    with serving(others={FURTHER: loading}, max_seconds=0.2) as running:
        answer = ask(running, FURTHER)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_timeout")
        loading.gate.set()
        until(lambda: len(running.models.services) == 2)


def test_what_decodes_nothing_has_no_plain_decoding() -> None:
    body = {"state": "Hello.", "questions": {"polite": {"type": "noul", "instructions": "Is it?"}}}
    with serving(others={FURTHER: Loading()}, client_may=PERMISSIONS) as running, running.http() as http:
        for name in ("scripted:plain", f"{FURTHER}:plain"):
            assert http.post("/v1/systemone", json=body | {"model": name}).status_code == 404


def test_plain_decoding_keeps_its_name_whoever_else_is_called_so() -> None:
    """Behind another RAIN, which lists its plain decoding."""
    others = {name: Loading() for name in ("b:plain", "b")}
    with serving(others=others, client_may=frozenset({"plain"})) as running:
        assert running.models.names == ["scripted", "scripted:plain", "b", "b:plain"]
        assert said(ask(running, "b:plain")) == BAD and not others["b:plain"].made


def test_a_judge_that_is_another_model_is_loaded_once(demo_server: Running, tmp_path: Path) -> None:
    settings = ServeSettings(model=f"{demo_server.url}/v1", judge="demo", criterion="harmlessness")
    app = application(settings)
    with running_app(app) as running:
        assert ask(running, "demo:plain").status_code == 200
        first, second = (each.parser.decoders.operator for each in running.models.services)
        assert first.backend is not second.backend
        assert first.shared_judge is not None and first.shared_judge is second.shared_judge
        for operator in (first, second):
            operator.backend.close()


def test_who_leaves_while_it_loads_leaves_it_loading() -> None:
    loading = Loading()
    loading.gate.clear()
    with serving(others={FURTHER: loading}) as running:
        with running.http() as http, pytest.raises(httpx2.TimeoutException):
            body = {"model": FURTHER, "messages": QUESTION}
            http.post("/v1/chat/completions", json=body, timeout=0.2)
        loading.gate.set()
        assert said(ask(running, FURTHER)) == GOOD and len(loading.made) == 1


def test_what_is_loaded_when_it_shuts_down_is_not_served() -> None:
    loading = Loading()
    loading.gate.clear()
    with serving(others={FURTHER: loading}) as running, ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask, running, FURTHER)
        assert loading.asked.acquire(timeout=PATIENCE)
        running.stop()
        answer = waiting.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        loading.gate.set()


@pytest.mark.parametrize(("grace", "status"), [(PATIENCE, 200), (0.0, 503)])
def test_the_answers_of_all_models_are_finished_or_cancelled(grace: float, status: int) -> None:
    loading = Loading()
    with serving(others={FURTHER: loading}, grace_seconds=grace) as running:
        said(ask(running, FURTHER))
        backend = loading.made[0].backend
        assert isinstance(backend, GatedBackend)
        backend.gate.clear()
        backend.entered.clear()
        with ThreadPoolExecutor() as pool:
            late = pool.submit(ask, running, FURTHER)
            assert backend.entered.wait(PATIENCE)
            running.stop()
            until(lambda: not running.models.accepting)
            if status == 503:
                assert late.result().status_code == 503
            backend.gate.set()
            assert late.result().status_code == status


def test_every_kind_of_request_finds_its_model(demo: LocalBackend) -> None:
    decoder = RainDecoder(demo, "harmlessness")
    asked: dict[str, Any] = {"messages": QUESTION, "max_tokens": 4}
    question = {"type": "noul", "instructions": "Is it polite?"}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/messages": asked,
        "/v1/completions": {"prompt": "How", "max_tokens": 4},
        "/v1/responses": {"input": "How?", "max_output_tokens": 16},
        "/v1/systemone": {"state": "Hello.", "questions": {"polite": question}},
    }
    with (
        serving(others={FURTHER: lambda: decoder}, client_may=PERMISSIONS) as running,
        running.http() as http,
    ):
        counted = http.post("/v1/messages/count_tokens", json={"model": FURTHER, "messages": QUESTION})
        assert counted.json()["input_tokens"] == len(decoder.build_prompt(QUESTION).tokens)
        for path, body in bodies.items():
            answer = http.post(path, json=body | {"model": FURTHER})
            assert answer.status_code == 200 and answer.json()["model"] == FURTHER, answer.text
            assert http.post(path, json=body | {"model": "furthest"}).status_code == 404


@pytest.mark.parametrize(("named", "served"), [("", ["demo", "demo:plain"]), ("#demo:plain", ["demo:plain"])])
def test_what_a_server_lists_is_served_unless_one_is_named(
    demo_server: Running, named: str, served: list[str]
) -> None:
    """RAIN in front of another RAIN, whose plain decoding is a model as any other."""
    app = application(ServeSettings(model=f"{demo_server.url}/v1{named}", criterion="harmlessness"))
    with running_app(app) as running, running.http() as http:
        assert [each["id"] for each in http.get("/v1/models").json()["data"]] == served
        body = {"model": "demo:plain", "messages": DEMO_QUESTION, "max_tokens": 8, "seed": 0}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        *_, asked = running.models.services
        backend: Any = asked.parser.decoders.operator.backend
        assert (asked.parser.model, backend.endpoint.facts.model) == ("demo:plain", "demo:plain")
        assert len(running.models.services) == len(served)
        for service in running.models.services:
            service.parser.decoders.operator.backend.close()
