"""Anthropic's official client against a real `rain serve` process, unchanged: answers are those of the library."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from backends.openai.stub import Stub, served
from decoder_worlds import GOOD, lock_world
from server.running import PATIENCE, QUESTION, Running, serving
from server.test_openai_client import BAD
from server.test_openai_client import GOOD as BAKING

from rain_decoding import RainDecoder
from rain_decoding.backends.local import LocalBackend


def client(running: Running, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=running.url, api_key=key, max_retries=0, timeout=PATIENCE)


def request(prompt: str = BAD, **options: Any) -> dict[str, Any]:
    body = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    return {**body, "extra_body": {"seed": 0}, **options}


@pytest.fixture
def alone(demo: LocalBackend) -> RainDecoder:
    """The same decoder in this process."""
    return RainDecoder(demo)


def test_a_conversation_is_that_of_the_library(demo_server: Running, alone: RainDecoder) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": BAD},
        {"role": "assistant", "content": "I would rather not."},
        {"role": "user", "content": BAKING},
    ]
    expected = alone.generate([{"role": "system", "content": "Be brief."}, *turns], seed=0, max_tokens=100)
    parts = [{"type": "text", "text": BAKING[:10]}, {"type": "text", "text": BAKING[10:]}]
    turns[1]["content"] = [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "I would rather not."},
    ]
    turns[2]["content"] = parts
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    answer = client(demo_server).messages.create(**request(messages=turns, system=system))
    (block,) = answer.content
    assert (block.type, block.text) == ("text", expected.text)
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert answer.usage.input_tokens == expected.usage.prompt_tokens
    assert answer.usage.output_tokens == expected.usage.completion_tokens
    counted = client(demo_server).messages.count_tokens(model="demo", messages=turns, system=system)
    assert counted.input_tokens == expected.usage.prompt_tokens


def test_a_stream_is_the_same_text_in_pieces(demo_server: Running, alone: RainDecoder) -> None:
    with client(demo_server).messages.stream(**request()) as stream:
        events = list(stream)
        final = stream.get_final_message()
    expected = [commit.text for commit in alone.stream(BAD, seed=0, max_tokens=100) if commit.text]
    assert [event.text for event in events if event.type == "text"] == expected and len(expected) > 1
    own = [event.type for event in events if event.type not in ("text", "ping")]
    deltas = ["content_block_delta"] * len(expected)
    ends = ["content_block_stop", "message_delta", "message_stop"]
    assert own == ["message_start", "content_block_start", *deltas, *ends]
    usage = alone.generate(BAD, seed=0, max_tokens=100).usage
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    assert final.stop_reason == "end_turn"
    (said,) = (event for event in events if event.type == "message_delta")
    assert said.rain["rewinds"] == usage.rewinds > 0  # type: ignore[attr-defined]


def test_it_says_why_an_answer_ends(demo_server: Running) -> None:
    messages = client(demo_server).messages
    short = messages.create(**request(BAKING, max_tokens=3))
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = messages.create(**request(BAKING, stop_sequences=["zebra", "nut"]))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "nut")
    assert "nut" not in stopped.content[0].text  # type: ignore[union-attr]


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://example.org/x.png"}}
REFUSED = {
    "an image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, "image"),
    "a role": ({"messages": [{"role": "system", "content": "x"}]}, "role"),
    "no text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "content.0.text is required",
    ),
    "a prefill": ({"messages": [{"role": "assistant", "content": "x"}]}, "message"),
    "tools": ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, "tools"),
    "a tool of theirs": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
    "top_k": ({"extra_body": {"top_k": -5}}, "top_k"),
    "temperature": ({"extra_body": {"temperature": 1.5}}, "temperature"),
    "unknown": ({"extra_body": {"mirostat": 1}}, "mirostat"),
}


@pytest.mark.parametrize(("options", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_honoured_is_an_error_of_theirs(
    demo_server: Running, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        client(demo_server).messages.create(**request(**options))
    body: Any = raised.value.body
    assert body["type"] == "error" and set(body) == {"type", "error", "request_id"}
    assert body["error"]["type"] == "invalid_request_error" and named in body["error"]["message"]
    assert body["request_id"] == raised.value.response.headers["x-request-id"]


def test_all_errors_have_their_shape_and_keys_are_theirs() -> None:
    wanted = request(extra_body={}, model="scripted", messages=QUESTION)
    with serving(api_keys=("secret",), max_body_bytes=1000) as running:
        assert client(running, "secret").messages.create(**wanted).content[0].text == GOOD  # type: ignore[union-attr]
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            client(running, "other").messages.create(**wanted)
        with pytest.raises(anthropic.RequestTooLargeError) as large:
            client(running, "secret").messages.create(**{**wanted, "system": "x" * 1000})
        with pytest.raises(anthropic.NotFoundError) as absent:
            client(running, "secret").messages.create(**{**wanted, "model": "none"})
        with running.http() as http:
            foreign = http.post("/v1/messages", json={}, headers={"origin": "http://example.org"})
            batches = http.get("/v1/messages/batches", headers={"x-api-key": "secret"})
            other = http.get("/v1/messages-of-others", headers={"x-api-key": "secret"})
    kinds = [raised.value.body["error"]["type"] for raised in (unknown, large, absent)]  # type: ignore[index]
    assert kinds == ["authentication_error", "request_too_large", "not_found_error"]
    assert foreign.json()["error"]["type"] == "permission_error" and foreign.status_code == 403
    assert batches.status_code == other.status_code == 404
    assert batches.json()["type"] == "error" and batches.json()["error"]["type"] == "not_found_error"
    assert "type" not in other.json(), "that is nobody's path, and told in OpenAI's shape"


def test_what_fails_in_a_stream_is_an_event_of_theirs() -> None:
    from server.running import gated_world

    backend = gated_world()
    wanted = request(extra_body={}, model="scripted", messages=QUESTION)
    with serving(backend) as running:
        backend.gate.clear()
        with client(running).messages.stream(**wanted) as stream:
            events = iter(stream)
            assert next(events).type == "message_start"
            backend.error = RuntimeError("broken")
            backend.gate.set()
            with pytest.raises(anthropic.APIStatusError) as raised:
                list(events)
    assert raised.value.body["error"]["type"] == "api_error"  # type: ignore[index]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[Stub, Running]]:
    """In front of a server that knows tools."""
    with served(lock_world()) as (stub, backend), serving(backend, served_name="m") as running:
        yield stub, running


TOOL: Any = {"name": "open_door", "description": "Opens a door.", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_trip_with_a_tool(endpoint: tuple[Stub, Running], streamed: bool) -> None:
    stub, running = endpoint
    function = {"name": "open_door", "arguments": json.dumps({"how": "with the key"})}
    call = {"id": "call-0", "type": "function", "function": function}
    stub.chats.clear()
    stub.messages.clear()
    stub.messages += [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "assistant", "content": GOOD},
    ]
    wanted = request(model="m", messages=QUESTION, tools=[TOOL], tool_choice={"type": "any"})
    messages = client(running).messages
    if streamed:
        with messages.stream(**wanted) as stream:
            first = stream.get_final_message()
    else:
        first = messages.create(**wanted)
    assert first.stop_reason == "tool_use"
    said, use = first.content
    assert said.type == "text" and said.text == "Let me see."
    assert use.type == "tool_use" and (use.name, use.input) == ("open_door", {"how": "with the key"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "It is open."}
    content = [block.model_dump(exclude_none=True) for block in first.content]
    turns = [*QUESTION, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    second = messages.create(**request(model="m", messages=turns, tools=[TOOL]))
    assert second.content[0].text == GOOD and second.stop_reason == "end_turn"  # type: ignore[union-attr]
    sent, then = stub.chats
    assert sent["tool_choice"] == "required"
    described = {"name": "open_door", "description": "Opens a door.", "parameters": {"type": "object"}}
    assert sent["tools"] == [{"type": "function", "function": described}]
    assert then["messages"][1:] == [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-0", "content": "It is open."},
    ]


def test_what_the_page_shows_runs(demo_server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if "Anthropic" in block)
    exec(compile(example.replace("http://127.0.0.1:8000", demo_server.url), "serving.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", ["serving.md", "decisions.md"])
def test_the_curl_lines_of_the_pages_run(demo_server: Running, page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    lines = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line.replace("http://127.0.0.1:8000", demo_server.url))
        ran = subprocess.run([*words, "--fail-with-body"], capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0 and json.loads(ran.stdout)["model"] == "demo", ran.stdout
