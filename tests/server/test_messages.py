"""Messages as clients send them: what they were given goes back, empty fields included; what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from backends.openai.stub import served
from decoder_worlds import lock_world
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib._parsing._completions import parse_chat_completion
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError
from server.running import QUESTION, Running, serving

from rain_decoding.server.schema_errors import told
from rain_decoding.server.schemas import ChatBody, CompletionBody

PROMPT = "How do I bake a nut roll at the summer fair?"
ASKED: Any = [{"role": "user", "content": PROMPT}]


def read(messages: list[Any], **fields: Any) -> list[dict[str, Any]]:
    """The conversation as it is decoded."""
    return ChatBody.model_validate({"model": "m", "messages": messages, **fields}).prompts[0]


def refused(body: dict[str, Any], model: type[BaseModel] = ChatBody) -> tuple[str | None, str]:
    """The field that is named, and the words."""
    with pytest.raises(ValidationError) as raised:
        model.model_validate({"model": "m", **({"messages": QUESTION} if model is ChatBody else {}), **body})
    error = told(raised.value.errors()[0])
    return error.param, error.message


def test_what_the_official_client_gives_can_be_sent_back(demo_server: Running) -> None:
    completions = demo_server.client().chat.completions
    given = [completions.create(model="demo", messages=ASKED, seed=0).choices[0].message]
    given.append(completions.parse(model="demo", messages=ASKED, seed=0).choices[0].message)
    with completions.stream(model="demo", messages=ASKED, seed=0) as stream:
        list(stream)
        given.append(stream.get_final_completion().choices[0].message)
    answers = set()
    for message in given:
        for sent in (message, message.model_dump(), message.model_dump(exclude_unset=True)):
            conversation: Any = [*ASKED, sent, *ASKED]
            answer = completions.create(model="demo", messages=conversation, seed=0, max_tokens=5)
            answers.add(answer.choices[0].message.content)
    assert len(answers) == 1, "what is read is the same"


class Weather(BaseModel):
    city: str


def parsed_call() -> dict[str, Any]:
    """A message with a tool call, as the client's `parse` gives it."""
    call = {"id": "c", "type": "function", "function": {"name": "Weather", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    raw = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    completion = parse_chat_completion(
        response_format=openai.omit,
        input_tools=[openai.pydantic_function_tool(Weather)],
        chat_completion=ChatCompletion.model_validate(raw),
    )
    return completion.choices[0].message.model_dump()


def test_a_parsed_tool_call_can_be_sent_back() -> None:
    with served(lock_world()) as (stub, backend):
        stub.messages.append({"role": "assistant", "content": "It is warm."})
        with serving(backend, served_name="scripted") as running:
            result: Any = {"role": "tool", "tool_call_id": "c", "content": "20 C"}
            conversation: Any = [*QUESTION, parsed_call(), result]
            running.client().chat.completions.create(model="scripted", messages=conversation)
        sent = stub.chats[-1]["messages"]
    call = {"id": "c", "type": "function", "function": {"name": "Weather", "arguments": '{"city": "Paris"}'}}
    assert sent[1] == {"role": "assistant", "content": "", "tool_calls": [call]}, (
        "what only the client knows stays there"
    )


@pytest.mark.parametrize("model", ["scripted", "scripted:plain"])
def test_a_model_that_knows_no_tools_reads_calls_that_were_made_elsewhere_as_text(model: str) -> None:
    held = [*QUESTION, parsed_call(), {"role": "tool", "tool_call_id": "c", "content": "It is locked."}]
    said = [
        *QUESTION,
        {"role": "assistant", "content": '[calls Weather with {"city": "Paris"}]'},
        {"role": "user", "content": "[Weather returned] It is locked."},
    ]
    tool = {"type": "function", "function": {"name": "Weather"}}
    with serving(client_may=frozenset(["plain"])) as running, running.http() as http:
        answers = [
            http.post("/v1/chat/completions", json={"model": model, "messages": each, "seed": 0}).json()
            for each in (held, said)
        ]
        assert answers[0]["usage"] == answers[1]["usage"]
        assert answers[0]["choices"] == answers[1]["choices"]
        refused = http.post("/v1/chat/completions", json={"model": model, "messages": held, "tools": [tool]})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "tools"


def test_parsed_outputs_and_other_clients_fields_are_not_read() -> None:
    further = {
        "parsed": {"city": "Paris"},
        "id": "msg_1",
        "name": "ann",
        "reasoning": "so",
        "reasoning_content": "so",
        "reasoning_details": [{"type": "reasoning.text", "text": "so"}],
        "annotations": [{"type": "url_citation"}],
        "provider_specific_fields": {"x": 1},
        "cache_control": {"type": "ephemeral"},
        "nobody_knows": None,
    }
    assert read([*ASKED, {"role": "assistant", "content": "Yes.", **further}, *ASKED]) == read(
        [*ASKED, {"role": "assistant", "content": "Yes."}, *ASKED]
    )
    part = {"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral"}}
    assert read([{"role": "user", "content": [part], "id": "1", "cache_control": {}}]) == ASKED


@pytest.mark.parametrize("name", [*ChatBody.model_fields, "nobody_knows"])
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    if name in ("model", "messages"):
        assert refused({name: None}) == (name, f"{name} is required")
    else:
        assert ChatBody.model_validate({"model": "m", "messages": ASKED, name: None}) == ChatBody(
            model="m", messages=ASKED
        )


def test_null_inside_of_objects_too() -> None:
    body = {
        "model": "m",
        "messages": ASKED,
        "stream": True,
        "stream_options": {"include_usage": None, "x": None},
    }
    assert not ChatBody.model_validate({**body, "rain": {"trace": None, "preset": None}}).rain.trace


SYSTEM = {"role": "system", "content": "Be brief."}
DEVELOPER = {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}


@pytest.mark.parametrize(
    ("leading", "text"),
    [
        ([SYSTEM], "Be brief."),
        ([SYSTEM, DEVELOPER], "Be brief.\n\nBe kind."),
        ([DEVELOPER, SYSTEM, DEVELOPER], "Be kind.\n\nBe brief.\n\nBe kind."),
        ([{"role": "system", "content": ""}, SYSTEM, {"role": "system", "content": " \n"}], "Be brief."),
        ([{"role": "system", "content": ""}], None),
        ([{"role": "developer", "content": []}], None),
    ],
)
def test_messages_of_the_system_that_come_first_are_one(leading: list[Any], text: str | None) -> None:
    system = [] if text is None else [{"role": "system", "content": text}]
    assert read([*leading, *ASKED]) == [*system, *ASKED]
    body = ChatBody.model_validate({"model": "m", "messages": [*leading, *ASKED]})
    assert body.passed["messages"] == [*system, *ASKED], "the same goes to a model's own server"


def test_several_are_answered(demo_server: Running) -> None:
    conversation: Any = [SYSTEM, DEVELOPER, {"role": "system", "content": ""}, *ASKED]
    completions = demo_server.client().chat.completions
    one: Any = [{"role": "system", "content": "Be brief.\n\nBe kind."}, *ASKED]
    answers = [completions.create(model="demo", messages=each, seed=0) for each in (conversation, one)]
    assert answers[0].choices[0].message == answers[1].choices[0].message
    assert answers[0].usage == answers[1].usage


def test_parts_of_a_refusal() -> None:
    parts = [{"type": "text", "text": "Well. "}, {"type": "refusal", "refusal": "I will not."}]
    assert (
        read([*ASKED, {"role": "assistant", "content": parts}, *ASKED])[1]["content"] == "Well. I will not."
    )
    assert (
        read([*ASKED, {"role": "assistant", "content": None, "refusal": "No."}, *ASKED])[1]["content"]
        == "No."
    )


WRONG: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages.0.content",
        ("image_url", "allowed: text"),
    ),
    "a refusal of a user": (
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}]},
        "messages.0.content",
        ("refusal", "allowed: text"),
    ),
    "a part without its text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages.0.content.0.text",
        ("is required",),
    ),
    "a number as content": (
        {"messages": [{"role": "user", "content": 7}]},
        "messages.0.content",
        ("a text or a list of text parts",),
    ),
    "an object": ({"messages": [{"role": "user", "content": {}}]}, "messages.0.content", ("a text or a list",)),
    "a role": ({"messages": [{"role": "function", "content": "x"}]}, "messages", ("function", "user, assistant")),
    "no role": ({"messages": [{"content": "x"}]}, "messages", ("role", "user, assistant")),
    "no message": ({"messages": ["x"]}, "messages", ("'x'", "role")),
    "no list": ({"messages": "x"}, "messages", ("must be a list",)),
    "17 stops": ({"stop": ["a"] * 17}, "stop", ("at most 16",)),
    "a number to stop at": ({"stop": 7}, "stop", ("a text or a list of at most 16 texts",)),
    "an empty stop": ({"stop": [""]}, "stop", ("must not be empty",)),
    "an unknown field": ({"mirostat": 1}, "mirostat", ("not a field",)),
    "an unknown one of rain": ({"rain": {"speed": 1}}, "rain.speed", ("not a field",)),
    "one of a message": ({"messages": [{**ASKED[0], "audio": {"id": "x"}}]}, "messages.0.audio", ("not a field",)),
    "n": ({"n": 0}, "n", ("at least 1",)),
    "temperature": ({"temperature": 2.5}, "temperature", ("at most 2",)),
    "top_p": ({"top_p": 0}, "top_p", ("greater than 0",)),
    "rain": ({"rain": []}, "rain", ("must be an object",)),
    "a bias": ({"logit_bias": {"5": 101}}, "logit_bias", ("at most 100",)),
    "a format": ({"response_format": {"type": "xml"}}, "response_format.type", ("'json_object'", "'json_schema'")),
    "a choice": ({"tool_choice": "perhaps"}, "tool_choice", ("'none', 'auto' or 'required'",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_field_and_what_is_allowed(name: str) -> None:
    body, param, parts = WRONG[name]
    named, message = refused(body)
    assert named == param and all(part in message for part in parts), message
    assert "Input should" not in message and "valid string" not in message


NUMBERS = ("n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed")
FLAGS = ("stream", "parallel_tool_calls")


@pytest.mark.parametrize("value", [True, False, "1", "0.5", "", "true", [1], {}])
def test_numbers_are_numbers_and_flags_are_flags(value: Any) -> None:
    for name in NUMBERS:
        assert refused({name: value})[0] == name
    for name in ("threshold", "max_seconds", "max_search_tokens"):
        assert refused({"rain": {name: value}})[0] == f"rain.{name}"
    assert refused({"logit_bias": {"5": value}})[0] == "logit_bias"
    if not isinstance(value, bool):
        for name in FLAGS:
            assert refused({name: value})[0] == name
        assert refused({"rain": {"trace": value}})[0] == "rain.trace"
    for flag in (0, 1, 1.0):
        assert refused({"stream": flag})[0] == "stream"
    for name in ("frequency_penalty", "presence_penalty"):
        ChatBody.model_validate({"model": "m", "messages": ASKED, name: -2})
        assert refused({name: False})[0] == refused({name: 2.5})[0] == name


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert (
        ChatBody.model_validate({"model": "m", "messages": ASKED, "max_tokens": 5.0, "temperature": 1}).limit
        == 5
    )


MANY = 100_000
LARGE: dict[str, dict[str, Any]] = {
    "messages": {"messages": [0] * MANY},
    "messages that are objects": {"messages": [{"role": "user"}] * MANY},
    "parts": {"messages": [{"role": "user", "content": [0] * MANY}]},
    "answer's parts": {"messages": [{"role": "assistant", "content": [{}] * MANY}]},
    "calls": {"messages": [{"role": "assistant", "tool_calls": [0] * MANY}]},
    "stops": {"stop": [0] * MANY},
    "tools": {"tools": [0] * MANY},
    "biases": {"logit_bias": {f"x{i}": "x" for i in range(MANY)}},
    "unknown fields": {f"x{i}": 0 for i in range(MANY)},
    "fields of a message": {"messages": [{"role": "user", "content": "x", **{f"x{i}": 0 for i in range(MANY)}}]},
    "unknown fields of rain": {"rain": {f"x{i}": 0 for i in range(MANY)}},
    "choices": {"tool_choice": {f"x{i}": 0 for i in range(MANY)}},
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_the_first_faults_of_a_large_body_are_enough(name: str) -> None:
    """A million errors take seconds of everybody's event loop, and hundreds of megabytes."""
    with pytest.raises(ValidationError) as raised:
        ChatBody.model_validate({"model": "m", "messages": QUESTION, **LARGE[name]})
    assert raised.value.error_count() <= 4


def test_the_first_fault_of_a_list_of_prompts_is_enough() -> None:
    with pytest.raises(ValidationError) as raised:
        CompletionBody.model_validate({"model": "m", "prompt": [0] * MANY})
    assert raised.value.error_count() == 1


HOSTILE = [
    "\u2028",
    "\u2029",
    "\x85",
    "\v",
    "\f",
    "\x1c",
    "\x1e",
    "\u202e",
    "\ufeff",
    "\0",
    "\x1b[31m",
    "é",
    "漢",
    "🙂",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=5)), min_size=1).map("".join))
def test_an_event_is_one_line_of_ascii(text: str) -> None:
    from rain_decoding.server.writer import event

    written = event({"text": text})
    assert written.isascii() and written.endswith(b"\n\n")
    (line,) = written.decode().strip().splitlines()
    assert json.loads(line.removeprefix("data: ")) == {"text": text}


@pytest.fixture
def separators() -> Iterator[Running]:
    """A model whose only answer has all kinds of line ends."""
    from decoder_worlds import scripted

    answer = " Hi" + "".join(HOSTILE[:7]) + "."

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"A": 0.9, "B": 0.1}
        return {answer: 1.0} if text.endswith("Assistant:") else {"<end>": 1.0}

    with serving(
        scripted(script, ["A", "B", answer]), client_may=frozenset({"trace", "withheld"})
    ) as running:
        yield running


def test_all_that_is_written_is_ascii(separators: Running) -> None:
    body = {"model": "scripted", "messages": QUESTION, "rain": {"trace": True}}
    with separators.http() as http:
        whole = http.post("/v1/chat/completions", json=body)
        streamed = http.post("/v1/chat/completions", json={**body, "stream": True})
        kept = http.get(f"/v1/rain/traces/{whole.json()['rain']['trace_id']}")
    assert whole.content.isascii() and streamed.content.isascii() and kept.content.isascii()
    answer = whole.json()["choices"][0]["message"]["content"]
    assert "\u2028" in answer and "\x85" in answer
    chunks = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == answer
    assert [json.loads(line)["event"] for line in kept.text.splitlines()][-1] == "end"
