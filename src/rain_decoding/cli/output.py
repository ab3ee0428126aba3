"""What commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from rain_decoding.types import Completion

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

USAGE_KEYS = (
    "prompt_tokens",
    "completion_tokens",
    "search_tokens",
    "forward_passes",
    "simulations",
    "self_evaluations",
    "rewinds",
    "unscored",
    "peak_kv_slots",
    "seconds",
)


def as_object(completion: Completion, *, model: str, criterion: str | None, preset: str | None) -> dict[str, Any]:
    """A completion as the JSON object that `--json` prints."""
    result: dict[str, Any] = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "score": completion.score,
        "usage": {key: getattr(completion.usage, key) for key in USAGE_KEYS},
        "seed": completion.seed,
        "model": model,
        "criterion": criterion,
        "preset": preset,
    }
    if completion.reasoning:
        result["reasoning"] = completion.reasoning
    if completion.warnings:
        result["warnings"] = completion.warnings
    return result


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def cost_line(completion: Completion) -> str:
    """One line that says what a completion cost."""
    usage = completion.usage
    score = "not judged" if completion.score is None else f"score {completion.score:+.2f}"
    return (
        f"{completion.finish_reason}, {score}: {usage.completion_tokens} tokens, {usage.search_tokens} forwarded in "
        f"{usage.forward_passes} passes, {usage.simulations} simulations, {usage.self_evaluations} self-evaluations, "
        f"{usage.rewinds} rewinds, {usage.seconds:.2f} s"
    )
