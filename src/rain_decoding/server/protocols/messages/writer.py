"""Answers as Anthropic's Messages write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rain_decoding.decoding.text_stream import ending_marker
from rain_decoding.server.answer import Answer
from rain_decoding.server.protocols.errors import anthropic_body
from rain_decoding.server.writer import Writer, event
from rain_decoding.types import Completion, FinishReason
from rain_decoding.web.errors import ApiError

STOP: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "budget": "max_tokens",
    "unjudged": "refusal",
    "cancelled": "end_turn",
}
"""From our reasons to Anthropic's; ours stands in `rain.finish_reason`."""


class MessagesWriter(Writer):
    """`POST /v1/messages`: one answer, a text and perhaps calls of tools."""

    def __init__(self, answer: Answer):
        super().__init__(answer)
        self.blocks = 0
        """How many blocks of the stream are complete."""

    def whole(self) -> dict[str, Any]:
        completion = self.answer.completions[0]
        text = self._said(completion)
        content = [{"type": "text", "text": text}] if text or not _calls(completion) else []
        return {
            **self._message([*content, *map(_tool_use, _calls(completion))]),
            **self._stop(completion),
            "usage": self._usage,
            "rain": self.answer.summary,
        }

    def begin(self) -> Iterator[bytes]:
        message = {**self._message([]), "stop_reason": None, "stop_sequence": None}
        usage = {**self._usage, "output_tokens": 0}
        yield self._event("message_start", message={**message, "usage": usage})
        yield self._start({"type": "text", "text": ""})

    def release(self, index: int, text: str, events: list[dict[str, Any]]) -> Iterator[bytes]:
        rain = {"rain": {"events": events}} if events else {}
        if text or rain:
            yield self._delta({"type": "text_delta", "text": text}, **rain)

    def end(self, index: int) -> Iterator[bytes]:
        completion = self.answer.completions[index]
        message = completion.message or {}
        if refusal := message.get("refusal"):
            yield self._delta({"type": "text_delta", "text": refusal})
        yield self._end()
        for call in _calls(completion):
            use = _tool_use(call)
            yield self._start({**use, "input": {}})
            yield self._delta({"type": "input_json_delta", "partial_json": json.dumps(use["input"])})
            yield self._end()
        usage = {"output_tokens": self._usage["output_tokens"]}
        rain = self.answer.rain[index]
        yield self._event("message_delta", delta=self._stop(completion), usage=usage, rain=rain)

    def finish(self) -> Iterator[bytes]:
        yield self._event("message_stop")

    def failed(self, error: ApiError) -> Iterator[bytes]:
        yield event(anthropic_body(error, self.answer.request.state.request_id), "error")

    def silence(self) -> bytes:
        return self._event("ping")

    @staticmethod
    def _said(completion: Completion) -> str:
        message = completion.message or {}
        return message.get("refusal") or message.get("content", completion.text) or ""

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        model = self.answer.body.model
        kind = {"id": self.answer.id, "type": "message", "role": "assistant", "model": model}
        return {**kind, "content": content}

    def _stop(self, completion: Completion) -> dict[str, Any]:
        """Why the answer ends, and which of the request's texts ended it."""
        if _calls(completion) and completion.finish_reason == "stop":
            return {"stop_reason": "tool_use", "stop_sequence": None}
        session = self.answer.exchange.session(0)
        marker = ending_marker(session.backend.codec, session.prompt, completion.tokens)
        if completion.finish_reason == "stop" and marker in self.answer.body.stop_strings:
            return {"stop_reason": "stop_sequence", "stop_sequence": marker}
        return {"stop_reason": STOP[completion.finish_reason], "stop_sequence": None}

    @property
    def _usage(self) -> dict[str, Any]:
        usage = self.answer.usage
        return {
            "input_tokens": usage["prompt_tokens"] or 0,
            "output_tokens": usage["completion_tokens"] or 0,
        }

    def _start(self, block: dict[str, Any]) -> bytes:
        return self._event("content_block_start", index=self.blocks, content_block=block)

    def _delta(self, delta: dict[str, Any], **further: Any) -> bytes:
        return self._event("content_block_delta", index=self.blocks, delta=delta, **further)

    def _end(self) -> bytes:
        self.blocks += 1
        return self._event("content_block_stop", index=self.blocks - 1)

    @staticmethod
    def _event(name: str, **data: Any) -> bytes:
        return event({"type": name, **data}, name)


def _calls(completion: Completion) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = (completion.message or {}).get("tool_calls") or []
    return calls


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    """A call of a chat as a block."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:  # what the model wrote is no JSON
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": function["arguments"]}
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}
