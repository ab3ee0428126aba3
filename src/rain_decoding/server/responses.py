"""Completions and their pieces as OpenAI's API shapes them, with what RAIN adds in `rain`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Session, total
from rain_decoding.decoding.tool_calls import ToolCallSession
from rain_decoding.server.decoders import threshold_name
from rain_decoding.types import Completion, FinishReason

FINISH: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "budget": "length",
    "unjudged": "content_filter",
    "cancelled": "stop",
}
"""From our reasons to OpenAI's; ours stands in `rain.finish_reason`."""

UNJUDGED = "a text could not be judged"
"""How the evaluator's warning begins, before the reason."""

COUNTS = (
    "simulations",
    "rewinds",
    "self_evaluations",
    "unscored",
    "escalations",
    "search_tokens",
    "prefix_tokens",
    "forward_passes",
)


def rain_object(
    session: Session, completion: Completion, preset: str, trace_id: str | None
) -> dict[str, Any]:
    """What RAIN has to say about an answer; a text that was withheld stays with the operator."""
    search = session if isinstance(session, RainSession) else None
    described: dict[str, Any] = {
        "score": completion.score,
        "flagged": completion.flagged,
        "fallback": completion.fallback,
        "finish_reason": completion.finish_reason,
        **{name: getattr(completion.usage, name) for name in COUNTS},
        "seconds": round(completion.usage.seconds, 4),
        "seed": completion.seed,
        "preset": preset if search else None,
        "threshold": getattr(search.config, threshold_name(search.config)) if search else None,
        "criterion": search.criterion if search else None,
        "trace_id": trace_id,
    }
    attempts = len(session.attempts) if isinstance(session, ToolCallSession) else 0
    warnings = list(dict.fromkeys(map(_for_client, completion.warnings)))
    further = {"attempts": attempts, "parts": dict(completion.parts), "warnings": warnings}
    return described | {name: value for name, value in further.items() if value}


def _for_client(warning: str) -> str:
    """A warning without what a model's server said, which may name addresses."""
    return UNJUDGED if warning.startswith(UNJUDGED) else warning


def together(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One `rain` object for a response: that of its only answer, or sums and the answers' own."""
    if len(answers) == 1:
        return answers[0]
    sums = {name: sum(answer[name] for answer in answers) for name in COUNTS}
    return {**sums, "choices": list(answers)}


def usage_object(prompts: Iterable[int], completions: Iterable[Completion]) -> dict[str, Any]:
    """Token counts, None where not known. `prompts` are the lengths of the request's prompts, each counted once."""
    prompt, answer = sum(prompts), total(c.usage.completion_tokens for c in completions)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total((prompt, answer))}


def _finish(completion: Completion) -> str:
    calls = (completion.message or {}).get("tool_calls")
    return "tool_calls" if calls and completion.finish_reason == "stop" else FINISH[completion.finish_reason]


@dataclass(frozen=True)
class Shape:
    """How one kind of endpoint writes its answers."""

    prefix: str
    object: str
    chunk_object: str
    chat: bool

    def envelope(self, id: str, model: str, *, chunk: bool) -> dict[str, Any]:
        """What every object of one response has in common."""
        kind = self.chunk_object if chunk else self.object
        return {"id": id, "object": kind, "created": int(time.time()), "model": model}

    def choice(self, index: int, completion: Completion) -> dict[str, Any]:
        """A whole answer."""
        finish = _finish(completion)
        if not self.chat:
            return {"index": index, "text": completion.text, "logprobs": None, "finish_reason": finish}
        message = {"role": "assistant", "content": completion.text, "refusal": None}
        message |= completion.message or {}
        if completion.reasoning:
            message["reasoning_content"] = completion.reasoning
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}

    def start(self, index: int) -> dict[str, Any] | None:
        """The first piece of an answer, where there is one before its text."""
        return self._piece(index, {"role": "assistant", "content": ""}) if self.chat else None

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """Released text; empty for a piece that carries trace events only."""
        if not self.chat:
            return {"index": index, "text": text, "logprobs": None, "finish_reason": None}
        return self._piece(index, {"content": text} if text else {})

    def rest(self, index: int, completion: Completion) -> list[dict[str, Any]]:
        """What an answer holds besides its text, as pieces."""
        message = completion.message or {}
        calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", ()))]
        deltas: dict[str, Any] = {"tool_calls": calls, "refusal": message.get("refusal")}
        return [self._piece(index, {name: what}) for name, what in deltas.items() if what]

    def end(self, index: int, completion: Completion) -> dict[str, Any]:
        """The last piece of an answer."""
        finish = _finish(completion)
        if not self.chat:
            return {"index": index, "text": "", "logprobs": None, "finish_reason": finish}
        delta = {"reasoning_content": completion.reasoning} if completion.reasoning else {}
        return self._piece(index, delta, finish)

    @staticmethod
    def _piece(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


CHAT = Shape("chatcmpl-", "chat.completion", "chat.completion.chunk", chat=True)
TEXT = Shape("cmpl-", "text_completion", "text_completion", chat=False)
