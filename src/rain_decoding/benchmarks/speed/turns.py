"""A conversation that goes on: what each turn costs where the earlier ones are still cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.benchmarks.speed.contenders import Contender
from rain_decoding.prompting import build_prompt
from rain_decoding.types import Message


def converse(
    contender: Contender, prompts: Sequence[str], backend: Backend, model: Any, *, max_tokens: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Answer the prompts as turns of one conversation; yields what each turn cost.

    `fresh_tokens` is how much longer the prompt is than the conversation was after the turn before.
    """
    contender.reset()
    messages: list[Message] = []
    before = 0
    for turn, prompt in enumerate(prompts, start=1):
        messages.append(Message("user", prompt))
        length = len(build_prompt(messages, backend).tokens)
        with contender.counted(model) as forwards:
            run = contender.answer([messages], max_tokens=max_tokens, concurrency=1, seed=seed)
        messages.append(Message("assistant", run.texts[0]))
        yield {
            "contender": contender.name,
            "turn": turn,
            "prompt_tokens": length,
            "fresh_tokens": length - before,
            "tokens_released": run.tokens_released,
            "tokens_forwarded": forwards.tokens,
            "passes": forwards.passes,
        }
        before = length + run.tokens_released
