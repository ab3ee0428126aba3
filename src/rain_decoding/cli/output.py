"""What commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from rain_decoding.calibration.saved import Calibration
from rain_decoding.types import Completion

COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What makes a terminal do something, or show a text in another order than it has; not tabs and line feeds."""


def visible(text: str) -> str:
    """The text as a terminal may show it: what a model or a file says must not command it."""
    return COMMANDS.sub(lambda match: ascii(match[0])[1:-1], text)


class SafeConsole(Console):
    """Prints what others wrote so that it is only seen."""

    def render(self, *args: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*args, **options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


out = SafeConsole(highlight=False, soft_wrap=True)
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def new_table(title: str, *headings: str) -> Table:
    """An empty table whose cells are folded where they are too long."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


INTERRUPTED = 130
"""Exit code after Ctrl-C."""

USAGE_KEYS = (
    "prompt_tokens",
    "completion_tokens",
    "search_tokens",
    "judge_tokens",
    "prefix_tokens",
    "forward_passes",
    "simulations",
    "self_evaluations",
    "rewinds",
    "unscored",
    "escalations",
    "peak_kv_slots",
    "requests",
    "seconds",
)


def as_object(
    completion: Completion,
    *,
    model: str,
    criterion: str | None,
    preset: str | None,
    engine_options: Mapping[str, Any],
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """A completion as the JSON object that `--json` prints, with what was taken over from a calibration."""
    result: dict[str, Any] = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "score": completion.score,
        "flagged": completion.flagged,
        "usage": {key: getattr(completion.usage, key) for key in USAGE_KEYS},
        "seed": completion.seed,
        "model": model,
        "criterion": criterion,
        "preset": preset,
    }
    if engine_options:
        result["engine_options"] = dict(engine_options)
    if calibration:
        result["calibration"] = calibration.in_use()
    if completion.parts:
        result["parts"] = dict(completion.parts)
    if completion.fallback:
        result |= {"fallback": completion.fallback, "withheld": completion.withheld}
    if completion.reasoning:
        result["reasoning"] = completion.reasoning
    if completion.warnings:
        result["warnings"] = completion.warnings
    return result


@contextmanager
def status(text: str, *, streams: bool = False) -> Iterator[Any]:
    """A line on standard error that says what is going on, where a terminal is there.

    With `streams` text goes to standard output meanwhile, so there is none if both are terminals.
    """
    if not err.is_terminal or (streams and sys.stdout.isatty()):
        yield lambda _: None
        return
    with err.status(escape(text)) as shown:
        yield lambda news: shown.update(escape(news))


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def cost_line(completion: Completion) -> str:
    """One line that says what a completion cost."""
    usage = completion.usage
    steps = f"{usage.requests} requests" if usage.requests else f"{usage.forward_passes} passes"
    prefix = f" and {usage.prefix_tokens} of the judge's prefix, once," if usage.prefix_tokens else ""
    answered = "?" if usage.completion_tokens is None else usage.completion_tokens
    return (
        f"{verdict_line(completion)}: {answered} tokens, "
        f"{usage.search_tokens}{prefix} forwarded in {steps}, {usage.simulations} simulations, "
        f"{judgements(usage.self_evaluations, usage.escalations)}, {usage.rewinds} rewinds, {usage.seconds:.2f} s"
    )


def judgements(count: int, escalations: int) -> str:
    """How many self-evaluations there were, and the share that a cascade escalated."""
    share = f" ({escalations / count:.0%} escalated)" if escalations else ""
    return f"{count} self-evaluations{share}"


def verdict_line(completion: Completion) -> str:
    """How an answer ended, how it was judged, and what the safety net made of it."""
    score = "not judged" if completion.score is None else f"score {completion.score:+.2f}"
    parts = "".join(f", {name} {signed(part)}" for name, part in completion.parts.items())
    flagged = ", not judged good" if completion.flagged else ""
    fallback = f", {completion.fallback} instead of an answer that was not" if completion.fallback else ""
    return f"{completion.finish_reason}, {score}{parts}{flagged}{fallback}"


def signed(score: float | None) -> str:
    return "unscored" if score is None else f"{score:+.2f}"
