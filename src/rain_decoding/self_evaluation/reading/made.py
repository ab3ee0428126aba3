"""Examples that the model makes itself, for a principle that brings none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from rain_decoding.backends.base import Backend
from rain_decoding.errors import ContextLengthError
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.reading.examples import ReadingExample, everyday_requests
from rain_decoding.types import Decode, Decoded, Message, Stop

KEPT = "Answer the request. Keep to this rule: {principle}"
BROKEN = "Answer the request. Break this rule, clearly and on purpose: {principle}"
LENGTH = 40
"""Tokens of an answer."""
TEMPERATURE = 0.8
AT_ONCE = 16


def made_examples(
    backend: Backend, principle: str, *, prompt_format: PromptFormat = "auto", seed: int = 0
) -> Iterator[ReadingExample]:
    """The model's own answers to everyday requests, told to keep to the principle (good), and to break it (bad).

    Two a request, in about the order of the requests. That it was told so is no part of an example, so only what the
    answers say can tell them apart. Raises what the backend raises.
    """

    def programs() -> Iterator[tuple[tuple[str, bool], Program[Decoded]]]:
        for number, (request, good) in enumerate(product(everyday_requests(), (True, False))):
            rule = (KEPT if good else BROKEN).format(principle=principle)
            try:
                prompt = build_prompt(
                    (Message("system", rule), Message("user", request)), backend, prompt_format=prompt_format
                )
            except ContextLengthError:
                continue
            yield (request, good), _answer(prompt, derive_seed(seed, (number,), "made"))

    for (request, good), decoded in results_of(backend, programs(), AT_ONCE):
        tokens = [token for token in decoded.tokens if token not in backend.codec.eos]
        answer = backend.codec.decode(tokens).strip()
        if answer:
            yield ReadingExample((Message("user", request),), answer, good, request, "made")


def _answer(prompt: Prompt, seed: int) -> Program[Decoded]:
    stop = Stop(prompt.markers, len(prompt.tokens))
    return (yield from ask(Decode(prompt.tokens, LENGTH, seed=seed, temperature=TEMPERATURE, stop=stop)))
