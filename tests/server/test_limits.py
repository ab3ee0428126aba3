"""What is refused at the door: broken bodies, large and slow ones, wrong keys, and what is the operator's."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server.running import PATIENCE, QUESTION, Running, gated_world, serving

from rain_decoding.errors import ConfigError
from rain_decoding.server.config import PERMISSIONS, ServerConfig, read_api_keys
from rain_decoding.web import protocol

BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}
HEAD = "POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-type: application/json\n"


@pytest.fixture(scope="module")
def running() -> Any:
    with serving(
        max_body_bytes=20_000, max_prompt_bytes=10_000, max_prompt_tokens=500, max_tokens=50
    ) as running:
        yield running


def post(running: Running, content: bytes | str, **headers: str) -> tuple[int, dict[str, Any]]:
    with running.http() as http:
        response = http.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json", **headers}
        )
        return response.status_code, response.json()["error"]


def with_text(text: str) -> str:
    return json.dumps({**BODY, "messages": [{"role": "user", "content": text}]})


BROKEN: dict[str, tuple[bytes | str, int]] = {
    "no JSON": ("{", 400),
    "empty": ("", 400),
    "a list": ("[]", 400),
    "bad UTF-8": (b'{"model": "\xff\xfe"}', 400),
    "half a surrogate": ('{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "half a surrogate in a stop string": ('{"model": "m", "messages": [], "stop": "\\ud800"}', 400),
    "a field with half a surrogate": ('{"model": "scripted", "\\ud800": 1}', 400),
    "nested": ("[" * 5000, 400),
    "nested where nobody looks": (
        '{"model": "scripted", "metadata": ' + '{"a":' * 300 + "1" + "}" * 301,
        400,
    ),
    "a long number": ('{"model": "scripted", "seed": ' + "9" * 5000 + "}", 400),
    "not a number": ('{"model": "scripted", "messages": [], "temperature": NaN}', 400),
    "too many tokens": (with_text("x" * 1000), 400),
    "a long prompt": (with_text("x" * 11_000), 413),
    "a large body": (with_text("x" * 30_000), 413),
    "blank": (with_text(" "), 400),
}


@pytest.mark.parametrize(("content", "status"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_and_large_bodies(running: Running, content: bytes | str, status: int) -> None:
    told, error = post(running, content)
    assert told == status
    assert error["type"] == "invalid_request_error" and error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_sent_as_json_is_told_so(running: Running, kind: str) -> None:
    _, error = post(running, json.dumps(BODY), **{"content-type": kind})
    assert f"with the content type application/json, not '{kind}'" in error["message"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode())))
def test_fuzzed_bodies_are_the_clients_fault(running: Running, content: bytes) -> None:
    assert post(running, content)[0] == 400


def test_a_byte_order_mark_is_no_part_of_a_body(running: Running) -> None:
    with running.http() as http:
        content = b"\xef\xbb\xbf" + json.dumps(BODY).encode()
        sent = {"content-type": "application/json"}
        assert http.post("/v1/chat/completions", content=content, headers=sent).status_code == 200


def test_a_body_that_lies_about_its_length(running: Running) -> None:
    with running.connect(HEAD + "content-length: 999999999\n\n", b"{") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with running.connect(HEAD + "transfer-encoding: chunked\n\n", b"5000\r\n" + b"x" * 0x5000) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_slow_senders_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server of their own: nobody else has to hurry."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with serving(body_seconds=0.1) as running:
        with running.connect("POST /v1/chat/completions HTTP/1.1\nhost:") as connection:
            assert connection.recv(100) == b""
        monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
        with running.connect(HEAD + "content-length: 100\n\n", b'{"model') as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_a_large_head(running: Running) -> None:
    with running.connect(HEAD + "x-large: " + "x" * 100_000) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_other_paths_and_methods_are_errors_in_the_same_shape(running: Running) -> None:
    with running.http() as http:
        for method, path, status in (
            ("GET", "/v1/none", 404),
            ("GET", "/v1/completions", 405),
            ("GET", "/v1/models/x", 404),
        ):
            response = http.request(method, path)
            assert response.status_code == status
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_operators_ceiling_of_tokens(running: Running) -> None:
    assert post(running, json.dumps({**BODY, "max_tokens": 51}))[1]["param"] == "max_tokens"


ASKED = {
    "criterion": {"rain": {"criterion": "helpfulness"}},
    "principle": {"rain": {"principle": "The answer is short."}},
    "preset": {"rain": {"preset": "fast"}},
    "threshold": {"rain": {"threshold": -1}},
    "budget": {"rain": {"max_search_tokens": 100}},
    "plain": {"model": "scripted:plain"},
    "trace": {"rain": {"trace": True}},
}


WITHOUT_A_FIELD = {"decisions", "judge", "relax", "withheld"}
"""Permissions that no field of a chat asks for: see test_permissions.py, and for decisions test_decisions.py."""


def test_every_permission_is_tested() -> None:
    assert set(ASKED) | WITHOUT_A_FIELD == set(PERMISSIONS)


@pytest.mark.parametrize("permission", ASKED)
def test_alignment_is_the_operators_unless_allowed_by_name(running: Running, permission: str) -> None:
    status, error = post(running, json.dumps({**BODY, **ASKED[permission]}))
    assert status == 403 and error["type"] == "permission_error"
    assert f"--client-may {permission}" in error["message"]
    with serving(client_may=frozenset({permission})) as allowing, allowing.http() as http:
        response = http.post("/v1/chat/completions", json={**BODY, **ASKED[permission]})
        # The scripted model has no label tokens for other criteria than its own.
        assert response.status_code == 200 or permission in ("criterion", "principle")
        assert response.status_code != 403
        others = [name for name in ASKED if name != permission]
        assert post(allowing, json.dumps({**BODY, **ASKED[others[0]]}))[0] == 403
        assert http.get("/v1/rain/config").json()["client_may"] == [permission]


def test_keys() -> None:
    with (
        serving(api_keys=("first", "sécond"), client_may=frozenset({"trace"})) as running,
        running.http() as http,
    ):
        assert [http.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Basic first"}):
            response = http.get("/v1/models", headers=headers)
            assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            running.client("wrong").models.list()
        answer: Any = running.client("first").chat.completions.create(
            **BODY, extra_body={"rain": {"trace": True}}
        )
        trace = f"/v1/rain/traces/{answer.rain['trace_id']}"
        # A trace is for the key that asked for it.
        assert http.get(trace, headers={"authorization": "Bearer first"}).status_code == 200
        other = {"authorization": "Bearer sécond".encode()}
        assert http.get("/v1/models", headers=other).status_code == 200
        assert http.get(trace, headers=other).status_code == 404


def test_key_files(tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n one \n\ntwo\n")
    assert read_api_keys(file) == ("one", "two")
    file.write_text("\ufeffone\r\n\r\ntwo\r\n", encoding="utf-8")
    assert read_api_keys(file) == ("one", "two"), "as some editors write files"
    file.write_text("# none\n")
    with pytest.raises(ConfigError, match="no API key"):
        read_api_keys(file)


@pytest.mark.parametrize(
    ("option", "value"), [("max_concurrent", 0), ("max_seconds", 0.0), ("client_may", {"everything"})]
)
def test_wrong_values_are_errors(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        ServerConfig(**{option: value})


def test_other_origins_are_not_let_in_unless_named() -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    with serving(gated_world()) as running, running.http() as http:
        assert "access-control-allow-origin" not in http.options("/v1/completions", headers=asked).headers
    with serving(cors_origins=("https://a.example",), api_keys=("key",)) as running, running.http() as http:
        allowed = http.options("/v1/completions", headers=asked)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = http.options("/v1/completions", headers={**asked, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


IGNORED = {
    "typical_p": 0.5,
    "repetition_penalty": 1.1,
    "min_p": 0.1,
    "logprobs": True,
    "presence_penalty": 0,
}
"""Of these all but the last would be refused."""


@pytest.mark.parametrize("path", ["chat/completions", "completions", "messages", "responses"])
def test_an_operator_may_have_answers_made_without_what_is_not_supported(path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "chat/completions": BODY,
        "completions": {"model": "scripted", "prompt": "Human: Well?\n\nAssistant:", "max_tokens": 20},
        "messages": {"model": "scripted", "messages": QUESTION, "max_tokens": 20},
        "responses": {"model": "scripted", "input": "Well?"},
    }
    body = bodies[path]
    with serving() as strict, serving(ignore_unsupported=True) as lenient:
        with strict.http() as http:
            plain = http.post(f"/v1/{path}", json=body)
            assert plain.status_code == 200
            for name in ("typical_p", "repetition_penalty", "min_p", "logprobs"):
                refused = http.post(f"/v1/{path}", json={**body, name: IGNORED[name]})
                assert refused.status_code == 400 and f"{name} " in refused.text
                assert "is not supported" in refused.text and "--ignore-unsupported" in refused.text
        with lenient.http() as http:
            assert "x-rain-left-out" not in http.post(f"/v1/{path}", json=body).headers
            answer = http.post(f"/v1/{path}", json={**body, **IGNORED})
            assert answer.status_code == 200
            assert {"typical_p", "repetition_penalty", "min_p", "logprobs"} <= set(
                answer.headers["x-rain-left-out"].split(", ")
            )
            text = ("id", "created", "created_at", "usage", "rain")
            assert _without(answer.json(), text) == _without(plain.json(), text)
            for name, value in {"best_of": 3, "documents": ["a"], "previous_response_id": "x"}.items():
                refused = http.post(f"/v1/{path}", json={**body, name: value})
                assert refused.status_code == 400 and name in refused.text


def _without(data: Any, names: tuple[str, ...]) -> Any:
    if isinstance(data, dict):
        return {name: _without(value, names) for name, value in data.items() if name not in names}
    return [_without(value, names) for value in data] if isinstance(data, list) else data
