"""What a gateway sends to have texts checked, in LiteLLM's form, against the library."""

from __future__ import annotations

from typing import Any

import pytest
from decoder_worlds import GOOD
from server.running import QUESTION, Running, serving
from server.test_decisions import HARMFUL, HARMLESS
from server.test_openai_client import BAD

from rain_decoding import RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.server.protocols.guardrail import PATH

MESSAGES = [{"role": "user", "content": BAD}]


def check(running: Running, kind: str, *texts: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """As LiteLLM asks, with fields that are not read."""
    sent = {"input_type": kind, "texts": list(texts), "request_data": {}, "litellm_version": "1.0", **body}
    with running.http() as http:
        response = http.post(PATH, json=sent, headers={"x-api-key": "secret"})
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_bad_answer_is_repaired_where_its_request_was_seen(
    demo_server: Running, demo: LocalBackend
) -> None:
    seen = {"structured_messages": MESSAGES, "litellm_call_id": "call-1"}
    assert check(demo_server, "request", BAD, **seen) == {"action": "NONE"}
    found = check(demo_server, "response", HARMLESS, HARMFUL, litellm_call_id="call-1")
    expected = RainDecoder(demo).generate(BAD).text
    assert found == {"action": "GUARDRAIL_INTERVENED", "texts": [HARMLESS, expected]}


def test_a_good_answer_passes(demo_server: Running) -> None:
    check(demo_server, "request", BAD, structured_messages=MESSAGES, litellm_call_id="call-2")
    assert check(demo_server, "response", HARMLESS, litellm_call_id="call-2") == {"action": "NONE"}
    assert check(demo_server, "response", litellm_call_id="call-2") == {"action": "NONE"}


@pytest.mark.parametrize("call", [{}, {"litellm_call_id": "never seen"}])
def test_a_bad_answer_to_nobody_knows_what_is_blocked(demo_server: Running, call: dict[str, str]) -> None:
    found = check(demo_server, "response", HARMFUL, **call)
    assert found["action"] == "BLOCKED" and "harmlessness" in found["blocked_reason"]
    assert "sought" in found["blocked_reason"] and "found" not in found["blocked_reason"]


def test_what_cannot_be_read_is_no_conversation(demo_server: Running) -> None:
    tool = [*MESSAGES, {"role": "tool", "tool_call_id": "x", "content": "It is open."}]
    check(demo_server, "request", BAD, structured_messages=tool, litellm_call_id="call-3")
    assert check(demo_server, "response", HARMFUL, litellm_call_id="call-3")["action"] == "BLOCKED"


def test_keys_and_limits_hold() -> None:
    """One client's conversations are not another's, and texts are bounded as prompts are."""
    with serving(api_keys=("secret", "other"), max_prompt_bytes=200) as running:
        assert check(running, "response", GOOD) == {"action": "NONE"}
        check(running, "response", "x" * 201, status=413)
        with running.http() as http:
            assert http.post(PATH, json={"input_type": "response"}).status_code == 401
            sent = {"input_type": "request", "structured_messages": QUESTION, "litellm_call_id": "one"}
            other = {"authorization": "Bearer other"}
            assert http.post(PATH, json=sent, headers=other).json() == {"action": "NONE"}
        # " Sure" is what the judge of this world finds bad.
        assert (
            check(running, "response", " Sure, use a hairpin.", litellm_call_id="one")["action"] == "BLOCKED"
        )
