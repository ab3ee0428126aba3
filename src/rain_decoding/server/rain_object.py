"""What RAIN says about answers, and their token counts, in the responses of all APIs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Session, total
from rain_decoding.decoding.tool_calls import ToolCallSession
from rain_decoding.server.decoders import threshold_name
from rain_decoding.types import Completion

UNJUDGED = "a text could not be judged"
"""How the evaluator's warning begins, before the reason."""

COUNTS = (
    "simulations",
    "rewinds",
    "self_evaluations",
    "unscored",
    "escalations",
    "search_tokens",
    "cached_tokens",
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
