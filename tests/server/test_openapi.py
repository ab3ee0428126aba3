"""Requests made from our own OpenAPI document, right and wrong ones: none makes the server fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import status_code_conformance
from server.running import PATIENCE, Running, serving

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
    }
    statuses = Counter(status for operation in operations for status in tried(operation, running.url))
    assert statuses[200] > 10 and statuses[400] > 10


def tried(operation: Any, url: str) -> list[int]:
    """Statuses of requests to one endpoint, as its description allows and as it does not."""
    statuses = []
    modes = list(GenerationMode) if operation.method == "post" else [GenerationMode.POSITIVE]
    for mode in modes:

        @settings(
            max_examples=40 if operation.method == "post" else 5,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "scripted"  # else no request gets past its model's name
            response = case.call(base_url=url, timeout=PATIENCE)
            case.validate_response(response, checks=[not_a_server_error, status_code_conformance])
            if response.status_code >= 400:
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            statuses.append(response.status_code)

        answered()
    return statuses
