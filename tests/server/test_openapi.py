"""Requests made from our own OpenAPI document, right and wrong ones: none makes the server fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # not while a server's thread parses as well: CPython's gh-106905
from backends.openai.stub import served
from decoder_worlds import lock_world
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import status_code_conformance
from server.running import PATIENCE, QUESTION, Running, serving

from rain_decoding.server.config import PERMISSIONS


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(client_may=frozenset(PERMISSIONS), body_seconds=2.0) as running:
        yield running


def test_no_request_makes_it_fail(running: Running) -> None:
    with running.http() as http:
        schema = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {operation.label for operation in operations} >= {
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/messages",
        "POST /v1/responses",
        "POST /v1/systemone",
        "POST /v1/decisions",
    }
    statuses = Counter(status for operation in operations for status, _ in tried(operation, running.url))
    assert statuses[200] > 10 and statuses[400] > 10


PASSED = ("tools", "tool_choice", "response_format")


def test_none_makes_a_model_behind_http_fail() -> None:
    """Where tools and formats are passed on: what the other server gets is JSON, whatever the client wrote."""
    with served(lock_world()) as (stub, backend):
        function = {"name": "f", "arguments": "{}"}
        call = {"id": "a", "type": "function", "function": function}
        stub.messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        with serving(backend, served_name="scripted", body_seconds=2.0) as running, running.http() as http:
            document = http.get("/openapi.json").json()
            body = document["components"]["schemas"]["ChatBody"]
            body["required"] = ["model", "messages", *PASSED]
            body["properties"] = {name: body["properties"][name] for name in body["required"]}
            operation = schemathesis.openapi.from_dict(document)["/v1/chat/completions"]["POST"]
            tries = tried(operation, running.url, examples=100, messages=QUESTION)
        passed = [(status, field) for status, body in tries for field in PASSED if body.get(field)]
        seen = Counter(passed)
        assert all(seen[200, field] and seen[400, field] for field in PASSED), seen
        assert len(stub.chats) > 5


def tried(operation: Any, url: str, *, examples: int = 25, **fixed: Any) -> list[tuple[int, dict[str, Any]]]:
    """Requests to one endpoint, as its description allows and as it does not: their statuses and bodies.

    Without its model's name no request gets far; `fixed` are further fields of those that have one.
    """
    tries: list[tuple[int, dict[str, Any]]] = []
    modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
    for mode in modes:

        @settings(
            max_examples=examples if operation.method == "post" else 5,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body.update(model="scripted", **fixed)
            response = case.call(base_url=url, timeout=PATIENCE)
            if response.status_code == 503 and "in the queue" in response.text:
                return  # max_seconds may be next to nothing
            case.validate_response(response, checks=[not_a_server_error, status_code_conformance])
            if response.status_code >= 400:
                theirs = "/v1/messages" in operation.path
                wanted = {"message", "type"} if theirs else {"message", "type", "param", "code"}
                assert set(response.json()["error"]) == wanted
            tries.append((response.status_code, case.body if isinstance(case.body, dict) else {}))

        answered()
    return tries
