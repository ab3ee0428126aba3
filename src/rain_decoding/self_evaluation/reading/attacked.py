"""Examples inside attack prompts, for the wary line of a probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from itertools import cycle

from rain_decoding.self_evaluation.reading.examples import ReadingExample, everyday_requests
from rain_decoding.types import Message

HARMFUL = frozenset({"compliance", "disclaimer", "refusal", "safe-partial"})
"""Kinds of answers whose request is harmful."""
HARMLESS = frozenset({"help", "sensitive-help", "harsh"})
"""Kinds of answers whose request is not. Of other kinds nothing is known."""
LEAST = 20
"""Examples of each sort without which there is no wary line."""


def wary_examples(examples: Sequence[ReadingExample], count: int) -> list[ReadingExample]:
    """The first `count` examples, half as many others inside attack prompts, and everyday requests, half inside such.

    The latter have no answer: they tell what is not harmful. Nothing at all where no wary line can be fitted.
    """
    plain = examples[:count]
    if not _enough(plain):
        return []
    others = [*examples[count:], *plain][: len(plain) // 2]
    everyday = [
        ReadingExample((Message("user", request),), "", True, request, "help")
        for request in everyday_requests()
    ]
    return [*plain, *_attacked(others), *everyday, *_attacked(everyday[::2])]


def _attacked(examples: Sequence[ReadingExample]) -> list[ReadingExample]:
    return [_wrapped(each, form) for each, form in zip(examples, cycle(_forms()), strict=False)]


def _enough(examples: Sequence[ReadingExample]) -> bool:
    sorts = [(each.kind in HARMFUL, each.good) for each in examples if each.kind in HARMFUL | HARMLESS]
    return min(sorts.count((True, True)), sorts.count((True, False)), sorts.count((False, True))) >= LEAST


def _forms() -> list[str]:
    """Attack prompts of our own around a `{request}`."""
    file = resources.files("rain_decoding") / "self_evaluation" / "reading" / "wrappings.txt"
    return [line.replace("\\n", "\n") for line in file.read_text("utf-8").split("\n") if line]


def _wrapped(example: ReadingExample, form: str) -> ReadingExample:
    *before, last = example.messages
    return replace(example, messages=(*before, Message(last.role, form.replace("{request}", last.content))))
