"""Answers as OpenAI's Responses write them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rain_decoding.server.answer import Answer
from rain_decoding.server.protocols.responses.body import ResponsesBody
from rain_decoding.server.writer import Writer, event
from rain_decoding.types import Completion, FinishReason
from rain_decoding.web.errors import ApiError

INCOMPLETE: Mapping[FinishReason, str] = {
    "length": "max_output_tokens",
    "budget": "max_output_tokens",
    "unjudged": "content_filter",
}
"""Why an answer is not complete, from our reasons; ours stands in `rain.finish_reason`."""

ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "user",
)
"""Fields of a request that a response says again."""


class ResponsesWriter(Writer):
    """`POST /v1/responses`: one message, and perhaps calls of functions."""

    def __init__(self, body: ResponsesBody, answer: Answer):
        super().__init__(answer)
        self.body = body
        self.created = time.time()
        self.sent = 0
        """Events of the stream so far."""
        self.said = ""
        """Text of the message so far."""
        self.message_id = answer.id.replace("resp_", "msg_", 1)

    def whole(self) -> dict[str, Any]:
        completion = self.answer.completions[0]
        return self._response(_status(completion), self._output(completion), completion)

    def begin(self) -> Iterator[bytes]:
        running = self._response("in_progress", [])
        yield self._event("response.created", response=running)
        yield self._event("response.in_progress", response=running)
        yield self._event("response.output_item.added", output_index=0, item=self._message([], "in_progress"))
        yield self._event("response.content_part.added", **self._place, part=_output_text(""))

    def release(self, index: int, text: str, events: list[dict[str, Any]]) -> Iterator[bytes]:
        self.said += text
        rain = {"rain": {"events": events}} if events else {}
        if text or rain:
            yield self._event("response.output_text.delta", **self._place, delta=text, logprobs=[], **rain)

    def end(self, index: int) -> Iterator[bytes]:
        completion = self.answer.completions[index]
        yield self._event("response.output_text.done", **self._place, text=self.said, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=_output_text(self.said))
        if refusal := _refusal(completion):
            yield from self._refused(refusal)
        message, *calls = self._items(completion)
        yield self._event("response.output_item.done", output_index=0, item=message)
        for place, call in enumerate(calls, 1):
            yield from self._called(place, call)

    def finish(self) -> Iterator[bytes]:
        completion = self.answer.completions[0]
        status = _status(completion)
        response = self._response(status, self._items(completion), completion)
        yield self._event(f"response.{status}", response=response)

    def failed(self, error: ApiError) -> Iterator[bytes]:
        response = self._response("failed", [])
        response["error"] = {"code": "server_error", "message": error.message}
        yield self._event("response.failed", response=response)

    def _refused(self, refusal: str) -> Iterator[bytes]:
        """A part of the message behind its text."""
        place = {**self._place, "content_index": 1}
        part = {"type": "refusal", "refusal": ""}
        yield self._event("response.content_part.added", **place, part=part)
        yield self._event("response.refusal.delta", **place, delta=refusal)
        yield self._event("response.refusal.done", **place, refusal=refusal)
        yield self._event("response.content_part.done", **place, part={**part, "refusal": refusal})

    def _called(self, place: int, call: dict[str, Any]) -> Iterator[bytes]:
        """An item of its own."""
        where = {"output_index": place, "item_id": call["id"]}
        begun = {**call, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=place, item=begun)
        yield self._event("response.function_call_arguments.delta", **where, delta=call["arguments"])
        yield self._event("response.function_call_arguments.done", **where, arguments=call["arguments"])
        yield self._event("response.output_item.done", output_index=place, item=call)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.message_id, "output_index": 0, "content_index": 0}

    def _output(self, completion: Completion) -> list[dict[str, Any]]:
        """The items, without a message that says nothing beside calls."""
        message, *calls = self._items(completion)
        silent = calls and not any(part.get("text") or part.get("refusal") for part in message["content"])
        return calls if silent else [message, *calls]

    def _items(self, completion: Completion) -> list[dict[str, Any]]:
        """The message, then the calls."""
        chat = completion.message or {}
        text = chat.get("content", completion.text) or ""
        refusal = _refusal(completion)
        parts = [_output_text(text)] + ([{"type": "refusal", "refusal": refusal}] if refusal else [])
        status = "completed" if _status(completion) == "completed" else "incomplete"
        calls = [
            {
                "type": "function_call",
                "id": f"fc_{place}_{self.answer.id}",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
                "status": "completed",
            }
            for place, call in enumerate(chat.get("tool_calls") or ())
        ]
        return [self._message(parts, status), *calls]

    def _message(self, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
        kind = {"type": "message", "id": self.message_id, "role": "assistant"}
        return {**kind, "status": status, "content": content}

    def _response(
        self, status: str, output: list[dict[str, Any]], completion: Completion | None = None
    ) -> dict[str, Any]:
        """The response object; with the usage and what RAIN says where it is complete."""
        body = self.body.model_dump(
            include={*ECHOED, "tools", "tool_choice", "text"}, by_alias=True, exclude_none=True
        )
        reason = INCOMPLETE.get(completion.finish_reason) if completion else None
        return {
            **{name: body.get(name) for name in ECHOED},
            "id": self.answer.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.body.model,
            "output": output,
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "text": {"format": {"type": "text"}, **body.get("text", {})},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools", []),
            "truncation": "disabled",
            "usage": self._usage if completion else None,
            **({"rain": self.answer.summary} if completion else {}),
        }

    @property
    def _usage(self) -> dict[str, Any]:
        usage = self.answer.usage
        return {
            "input_tokens": usage["prompt_tokens"] or 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"] or 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"] or 0,
        }

    def _event(self, name: str, **data: Any) -> bytes:
        self.sent += 1
        return event({"type": name, "sequence_number": self.sent - 1, **data}, name)


def _status(completion: Completion) -> str:
    return "incomplete" if completion.finish_reason in INCOMPLETE else "completed"


def _refusal(completion: Completion) -> str:
    return (completion.message or {}).get("refusal") or ""


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
