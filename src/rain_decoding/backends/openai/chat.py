"""Whole messages by a server's own chat completions, which know tools and response formats."""

from __future__ import annotations

from typing import Any

from rain_decoding.backends.openai.client import Meter
from rain_decoding.backends.openai.endpoint import Endpoint, as_refused, short
from rain_decoding.backends.openai.wire import BadReply, read_cost
from rain_decoding.errors import ModelNotFoundError, RefusedError, UnsupportedError
from rain_decoding.types import Chat, Chatted


async def chat(endpoint: Endpoint, request: Chat, meter: Meter) -> Chatted:
    """The assistant's message.

    Raises `InputError` for what the server refuses, `UnsupportedError` where it has no chat completions.
    """
    facts = endpoint.facts
    body = {"model": facts.model, **facts.neutral(), **request.body, "seed": short(request.body["seed"])}
    if facts.thinking_switch:
        body["chat_template_kwargs"] = {"enable_thinking": request.thinking}
    try:
        chatted = await endpoint.client.post("chat/completions", body, read_message, meter=meter)
    except RefusedError as error:
        raise as_refused("chat/completions", error) from error
    except ModelNotFoundError as error:
        raise UnsupportedError(
            f"{facts.model} is served without chat completions", hint="omit tools and response_format"
        ) from error
    meter.forwarded(chatted.forwarded)
    return chatted


def read_message(data: Any) -> Chatted:
    """The first choice of a reply. Raises `BadReply` where it holds no message."""
    try:
        choice = data["choices"][0]
        given = choice["message"]
        message = {"role": "assistant", "content": _text(given.get("content"))}
        for name in ("refusal", "reasoning_content"):
            if text := _text(given.get(name)):
                message[name] = text
        if calls := [_call(call) for call in given.get("tool_calls") or ()]:
            message["tool_calls"] = calls
        finish = str(choice.get("finish_reason"))
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise BadReply(f"the reply has no message ({type(error).__name__}: {error})") from error
    if finish == "abort":
        raise BadReply("the server aborted the request")
    cost = read_cost(data)
    prompt = None if cost.prompt is None else cost.prompt + (cost.cached or 0)
    return Chatted(
        message,
        finish,
        prompt_tokens=prompt,
        completion_tokens=cost.completion,
        forwarded=(cost.prompt or 0) + (cost.completion or 0),
    )


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = {name: call["function"][name] for name in ("name", "arguments")}
    if not all(isinstance(text, str) for text in (call["id"], *function.values())):
        raise TypeError(f"the reply has an invalid tool call: {call!r}")
    return {"id": call["id"], "type": "function", "function": function}


def _text(value: Any) -> Any:
    if not isinstance(value, str | None):
        raise TypeError(f"the reply has {value!r} where a string is expected")
    return value
