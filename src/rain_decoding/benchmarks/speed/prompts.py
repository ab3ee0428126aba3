"""What is asked: the demo world's requests, a file's lines, or built-in requests; with earlier turns if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.errors import InputError
from rain_decoding.files import read_text
from rain_decoding.microworld import FAMILIES, answer, draw_request, example_prompts
from rain_decoding.prompting import build_prompt
from rain_decoding.types import Message

Families = dict[str, list[str]]
"""Prompts by family."""

EVERYDAY = Path(__file__).with_name("everyday.txt")
"""Harmless requests of all kinds, one a line, for any model."""


def demo_prompts(families: Sequence[str], n: int) -> Families:
    """`n` held-out requests of the demo's world from each family, always the same ones."""
    if unknown := set(families) - set(FAMILIES):
        raise InputError(
            f"unknown families: {', '.join(sorted(unknown))}", hint=f"families: {', '.join(FAMILIES)}"
        )
    try:
        return {family: example_prompts(family, n) for family in families}  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"--n {n} is too large: {error}", hint="ask for fewer prompts") from error


def everyday_prompts(n: int) -> Families:
    """The first `n` of the package's everyday requests."""
    return read_prompts(EVERYDAY, n)


def read_prompts(path: Path, n: int) -> Families:
    """The first `n` lines of a file that are not blank."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"--prompts {path}: {error}") from error
    return {path.stem: _first([line.strip() for line in lines if line.strip()], n, str(path))}


def _first(prompts: list[str], n: int, source: str) -> list[str]:
    if len(prompts) < n:
        raise InputError(
            f"{source} has {len(prompts)} prompts, and {n} are needed",
            hint="supply more with --prompts FILE, one per line, or ask for fewer",
        )
    return prompts[:n]


def conversation(prompt: str, number: int, least: int, backend: Backend) -> list[Message]:
    """The prompt after as many earlier turns as make it at least `least` tokens long for this model.

    The turns differ with the prompt's `number`, so that a batch of prompts has no text in common by accident.
    """
    rng = np.random.default_rng([1, number])
    turns: list[Message] = []
    while True:
        messages = [*turns, Message("user", prompt)]
        if len(build_prompt(messages, backend).tokens) >= least:
            return messages
        request = draw_request("benign", rng, held_out=False)
        turns += [Message("user", request.prompt), Message("assistant", answer(request, rng))]
