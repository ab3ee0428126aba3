"""OpenAI's Chat Completions and Completions: answers and their chunks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rain_decoding.server.writer import Writer, event
from rain_decoding.types import Completion, FinishReason
from rain_decoding.web.errors import ApiError

FINISH: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "budget": "length",
    "unjudged": "content_filter",
    "cancelled": "stop",
}
"""From our reasons to OpenAI's; ours stands in `rain.finish_reason`."""


def finish_reason(completion: Completion) -> str:
    calls = (completion.message or {}).get("tool_calls")
    return "tool_calls" if calls and completion.finish_reason == "stop" else FINISH[completion.finish_reason]


class ChatWriter(Writer):
    """`POST /v1/chat/completions`."""

    object, chunk_object = "chat.completion", "chat.completion.chunk"

    def whole(self) -> dict[str, Any]:
        answer = self.answer
        choices = [self.choice(index, answer.completions[index]) for index in sorted(answer.completions)]
        usage = {"usage": answer.usage, "rain": answer.summary}
        return {**self._envelope(self.object), "choices": choices, **usage}

    def begin(self) -> Iterable[bytes]:
        first = {"role": "assistant", "content": ""}
        for index in range(len(self.answer.exchange.requests)):
            yield self._chunk(self._piece(index, first))

    def release(self, index: int, text: str, events: list[dict[str, Any]]) -> Iterator[bytes]:
        yield self._chunk(self.piece(index, text), {"events": events} if events else None)

    def end(self, index: int) -> Iterator[bytes]:
        completion = self.answer.completions[index]
        for piece in self._rest(index, completion):
            yield self._chunk(piece)
        yield self._chunk(self.last(index, completion), self.answer.rain[index])

    def finish(self) -> Iterator[bytes]:
        if self._wants_usage:
            yield self._chunk(None)
        yield b"data: [DONE]\n\n"

    def failed(self, error: ApiError) -> Iterator[bytes]:
        yield event(error.body)

    def choice(self, index: int, completion: Completion) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": completion.text, "refusal": None}
        message |= completion.message or {}
        if completion.reasoning:
            message["reasoning_content"] = completion.reasoning
        reason = finish_reason(completion)
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """Released text; empty for a piece that carries trace events only."""
        return self._piece(index, {"content": text} if text else {})

    def last(self, index: int, completion: Completion) -> dict[str, Any]:
        """The last piece of an answer."""
        delta = {"reasoning_content": completion.reasoning} if completion.reasoning else {}
        return self._piece(index, delta, finish_reason(completion))

    def _rest(self, index: int, completion: Completion) -> list[dict[str, Any]]:
        """What an answer holds besides its text, as pieces."""
        message = completion.message or {}
        calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", ()))]
        deltas: dict[str, Any] = {"tool_calls": calls, "refusal": message.get("refusal")}
        return [self._piece(index, {name: what}) for name, what in deltas.items() if what]

    @staticmethod
    def _piece(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

    def _envelope(self, kind: str) -> dict[str, Any]:
        """What every object of one response has in common."""
        answer = self.answer
        return {"id": answer.id, "object": kind, "created": int(time.time()), "model": answer.body.model}

    @property
    def _wants_usage(self) -> bool:
        options = self.answer.body.stream_options
        return options is not None and options.include_usage

    def _chunk(self, choice: dict[str, Any] | None, rain: dict[str, Any] | None = None) -> bytes:
        """A chunk with one choice; without one, that with the usage."""
        chunk = self._envelope(self.chunk_object)
        chunk["choices"] = [] if choice is None else [choice]
        if self._wants_usage:
            chunk["usage"] = self.answer.usage if choice is None else None
        return event(chunk if rain is None else {**chunk, "rain": rain})


class TextWriter(ChatWriter):
    """`POST /v1/completions`."""

    object = chunk_object = "text_completion"

    def begin(self) -> Iterable[bytes]:
        return ()

    def choice(self, index: int, completion: Completion) -> dict[str, Any]:
        return self._text(index, completion.text, finish_reason(completion))

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return self._text(index, text)

    def last(self, index: int, completion: Completion) -> dict[str, Any]:
        return self._text(index, "", finish_reason(completion))

    @staticmethod
    def _text(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
