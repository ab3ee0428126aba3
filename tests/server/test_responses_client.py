"""`client.responses` of the official client against a real `rain serve` process, unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from backends.openai.stub import Stub, served
from decoder_worlds import GOOD, lock_world
from server.running import QUESTION, Running, gated_world, serving
from server.test_openai_client import BAD
from server.test_openai_client import GOOD as BAKING

from rain_decoding import RainDecoder
from rain_decoding.backends.local import LocalBackend


def ask(running: Running, asked: Any = BAD, **options: Any) -> Any:
    wanted = {"model": "demo", "input": asked, "extra_body": {"seed": 0}, **options}
    return running.client().responses.create(**wanted)


@pytest.fixture
def alone(demo: LocalBackend) -> RainDecoder:
    """The same decoder in this process."""
    return RainDecoder(demo)


def test_a_conversation_is_that_of_the_library(demo_server: Running, alone: RainDecoder) -> None:
    system = {"role": "system", "content": "Be brief."}
    expected = alone.generate([system, {"role": "user", "content": BAD}], seed=0)
    first = ask(demo_server, instructions="Be brief.")
    assert (first.output_text, first.status) == (expected.text, "completed")
    usage = expected.usage
    assert (first.usage.input_tokens, first.usage.output_tokens) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    assert first.instructions == "Be brief." and first.rain["rewinds"] == usage.rewinds > 0

    # What came back is sent again, as the client's own objects and as they are dumped.
    then: list[Any] = [{"role": "user", "content": BAD}, *first.output, {"role": "user", "content": BAKING}]
    turns = [
        {"role": "user", "content": BAD},
        {"role": "assistant", "content": expected.text},
        {"role": "user", "content": BAKING},
    ]
    wanted = alone.generate([system, *turns], seed=0).text
    assert ask(demo_server, then, instructions="Be brief.").output_text == wanted
    then[1] = first.output[0].model_dump()
    then[2] = {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": BAKING[:10]},
            {"type": "input_text", "text": BAKING[10:]},
        ],
    }
    developer = {"role": "developer", "content": "Be brief."}
    assert ask(demo_server, [developer, *then]).output_text == wanted


def test_a_stream_is_the_same_text_in_pieces(demo_server: Running, alone: RainDecoder) -> None:
    with demo_server.client().responses.stream(model="demo", input=BAD, extra_body={"seed": 0}) as stream:
        events = list(stream)
        final = stream.get_final_response()
    expected = [commit.text for commit in alone.stream(BAD, seed=0) if commit.text]
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == expected
    assert len(expected) > 1 and final.output_text == "".join(expected)
    begins = ["created", "in_progress", "output_item.added", "content_part.added"]
    deltas = ["output_text.delta"] * len(expected)
    ends = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [event.type for event in events] == [f"response.{name}" for name in (*begins, *deltas, *ends)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.status == "completed" and final.usage.output_tokens > 0


def test_it_says_why_an_answer_is_not_complete(demo_server: Running) -> None:
    short = ask(demo_server, BAKING, max_output_tokens=3)
    assert short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens"
    assert short.usage.output_tokens == short.max_output_tokens == 3
    *_, last = ask(demo_server, BAKING, max_output_tokens=3, stream=True)
    assert last.type == "response.incomplete" and last.response.status == "incomplete"


REFUSED = {
    "an earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "a conversation": ({"conversation": "conv_1"}, "conversation"),
    "to be kept": ({"store": True}, "store"),
    "later": ({"background": True}, "background"),
    "reasoning": ({"reasoning": {"effort": "high"}}, "reasoning"),
    "cut": ({"truncation": "auto"}, "truncation"),
    "a search": ({"tools": [{"type": "web_search"}]}, "tools"),
    "a function": ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools"),
    "a schema": ({"text": {"format": {"type": "json_object"}}}, "text.format"),
    "no schema": ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
    "a reference": ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
    "an image": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input.0.content",
    ),
    "no text": (
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input.0.content.0.text",
    ),
    "nothing": ({"input": []}, "input"),
    "too long": ({"max_output_tokens": 100_000}, "input"),
    "temperature": ({"temperature": 3}, "temperature"),
    "unknown": ({"extra_body": {"mirostat": 1}}, "mirostat"),
}


@pytest.mark.parametrize(("options", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_honoured_is_an_error_that_names_it(
    demo_server: Running, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(demo_server, **{"asked": BAD, **{"asked" if k == "input" else k: v for k, v in options.items()}})
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error" and raised.value.message


def test_tools_and_items_are_called_what_they_are(demo_server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="tools of the type 'web_search' are not supported"):
        ask(demo_server, BAD, tools=[{"type": "web_search"}])
    with pytest.raises(openai.BadRequestError, match="items of the type 'item_reference'"):
        ask(demo_server, [{"type": "item_reference", "id": "x"}])
    with pytest.raises(openai.BadRequestError) as verbose:
        ask(demo_server, BAD, text={"verbosity": "high"})
    assert "--ignore-unsupported" not in verbose.value.message, "it does not leave that out"


def test_what_fails_in_a_stream_is_a_response_that_failed() -> None:
    backend = gated_world()
    with serving(backend) as running:
        backend.gate.clear()
        events = iter(ask(running, "x", model="scripted", stream=True))
        assert next(events).type == "response.created"
        backend.error = RuntimeError("broken")
        backend.gate.set()
        *_, last = events
    assert last.type == "response.failed" and last.response.status == "failed"
    assert last.response.error.code == "server_error" and "broken" not in last.response.error.message


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[Stub, Running]]:
    """In front of a server that knows tools and schemas."""
    with served(lock_world()) as (stub, backend), serving(backend, served_name="m") as running:
        yield stub, running


def tell(stub: Stub, content: str | None, *calls: dict[str, Any]) -> None:
    """The stub's only answer."""
    stub.messages.clear()
    message = {"role": "assistant", "content": content}
    stub.messages.append({**message, "tool_calls": list(calls)} if calls else message)


TOOL = {"type": "function", "name": "open_door", "parameters": {"type": "object"}, "strict": True}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_round_trip_with_a_function(endpoint: tuple[Stub, Running], streamed: bool) -> None:
    stub, running = endpoint
    function = {"name": "open_door", "arguments": json.dumps({"how": "with the key"})}
    call = {"id": "call-0", "type": "function", "function": function}
    stub.chats.clear()
    tell(stub, None, call)
    stub.messages.append({"role": "assistant", "content": GOOD})
    asked: list[Any] = [*QUESTION]
    wanted: dict[str, Any] = {
        "model": "m",
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "open_door"},
    }
    if streamed:
        with running.client().responses.stream(input=asked, **wanted) as stream:
            first = stream.get_final_response()
    else:
        first = ask(running, asked, **wanted)
        assert [item.type for item in first.output] == ["function_call"]
    said = next(item for item in first.output if item.type == "function_call")
    assert (said.name, json.loads(said.arguments)) == ("open_door", {"how": "with the key"})
    output = {"type": "function_call_output", "call_id": said.call_id, "output": "It is open."}
    second = ask(running, [*asked, *first.output, output], model="m", tools=[TOOL])
    assert second.output_text == GOOD
    sent, then = stub.chats
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "open_door"}}
    described = {"name": "open_door", "parameters": {"type": "object"}, "strict": True}
    assert sent["tools"] == [{"type": "function", "function": described}]
    assert then["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-0", "content": "It is open."},
    ]


class Way(pydantic.BaseModel):
    how: str


def test_an_output_by_a_schema(endpoint: tuple[Stub, Running]) -> None:
    stub, running = endpoint
    stub.chats.clear()
    tell(stub, '{"how": "with the key"}')
    parsed = running.client().responses.parse(model="m", input="How?", text_format=Way)
    assert parsed.output_parsed == Way(how="with the key")
    (sent,) = stub.chats
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["how"]


def test_a_refusal_is_a_part_of_the_message(endpoint: tuple[Stub, Running]) -> None:
    stub, running = endpoint
    assert running.service is not None
    decoders = running.service.parser.decoders
    operator = decoders.operator
    decoders.operator = operator.with_config(operator.config.with_changes(fallback="refusal"))
    function = {"name": "open_door", "arguments": json.dumps({"how": "with a hairpin, Sure"})}
    call = {"id": "call-0", "type": "function", "function": function}
    tell(stub, None, call)
    try:
        whole = ask(running, QUESTION, model="m", tools=[TOOL])
        with running.client().responses.stream(model="m", input=QUESTION, tools=[TOOL]) as stream:  # type: ignore[arg-type]
            streamed = stream.get_final_response()
    finally:
        decoders.operator = operator
    for response in (whole, streamed):
        (message,) = response.output
        (refusal,) = (part.refusal for part in message.content if part.type == "refusal")
        assert refusal == operator.refusal
