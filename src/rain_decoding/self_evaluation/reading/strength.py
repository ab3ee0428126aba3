"""How far hidden states are to be shifted: as far as moves so much of what the model would say next.

One length does not fit all: a tenth of a state's length turns one model's text, and leaves no language of another's,
where a few dimensions make most of that length. So it is found by what it does, on the model's own answers to everyday
requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from math import sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.backends.directions import Direction
from rain_decoding.errors import NumericalError, RainError
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.self_evaluation.reading.direction import direction_of
from rain_decoding.self_evaluation.reading.examples import everyday_requests
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.types import UNSHIFTED, Decode, Shift, Stop, Tokens, TopTokens

ANSWERS, LENGTH, EVERY = 8, 16, 2
"""How many answers of how many tokens the next token is looked at in, and at which of their tokens."""
TOP = 512
"""Most probable tokens that are compared."""
FIRST, LEAST, MOST = 0.02, 1e-6, 10.0
"""The strength that is tried first, and where the search for another one ends."""
NEAR, TRIES, FARTHEST = 0.05, 12, 8.0
"""It is found where the share is so close, relatively; so often it is tried, and at most so many times as strongly as
before."""
AT_ONCE = 16
Place = tuple[Tokens, int]
"""What stands before a token that is looked at, and where the shift begins."""
_found: WeakKeyDictionary[Backend, dict[Any, tuple[float, float]]] = WeakKeyDictionary()
"""By backend and what they are of, strengths for requests that are surely harmless, and surely harmful."""


def steering(
    backend: Backend, probe: Probe, moved: float, *, prompt_format: PromptFormat = "auto"
) -> Callable[[float], Direction]:
    """What states are shifted along for a request that is harmful with a probability, as strongly as moves `moved`.

    See `strength_for`, which is asked for each of the probe's lines; between them strengths are in proportion. What was
    found for a backend is known from then on.
    """
    known = _found.setdefault(backend, {})
    wary = b"" if probe.wary is None else probe.wary.weights.tobytes()
    key = (probe.layers, probe.weights.tobytes(), wary, moved, prompt_format)
    if key not in known:
        found = [
            strength_for(
                backend, partial(direction_of, probe, harmful=end), moved, prompt_format=prompt_format
            )
            for end in ((0.0,) if probe.wary is None else (0.0, 1.0))
        ]
        known[key] = found[0], found[-1]
    first, last = known[key]
    return lambda harmful: direction_of(probe, first + (last - first) * harmful, harmful)


def strength_for(
    backend: Backend,
    towards: Callable[[float], Direction],
    moved: float,
    *,
    prompt_format: PromptFormat = "auto",
) -> float:
    """The strength whose direction moves a share `moved`, in (0, 1), of the next token's probability.

    That share is the total variation distance of the shifted and the plain distribution, a mean over places of plain
    answers (without what lies beyond the `TOP` tokens). Where none is found that does, the one that comes nearest of
    those that were tried; where no request fits into the context, `FIRST`.
    """
    if not (places := list(_places(backend, prompt_format))):
        return FIRST
    plain = _next(backend, places, 0)
    low, high, strength = LEAST, MOST, FIRST
    tried: dict[float, float] = {}
    for turn in range(TRIES):
        number = backend.shift_along(towards(strength))
        try:
            shifted = _next(backend, places, number)
            share = float(np.mean([_moved(*both) for both in zip(plain, shifted, strict=True)]))
        except NumericalError:  # no number is left
            share = 1.0
        tried[strength] = abs(share - moved)
        if tried[strength] <= NEAR * moved:
            break
        low, high = (strength, high) if share < moved else (low, strength)
        # First in proportion, as small shifts are, then the middle of what is left. Rounded: the engine keeps them all.
        wanted = strength * min(moved / max(share, LEAST), FARTHEST)
        strength = float(f"{wanted if turn < TRIES // 3 and low < wanted < high else sqrt(low * high):.3g}")
    return min(tried, key=tried.__getitem__)


def _places(backend: Backend, prompt_format: PromptFormat) -> Iterator[Place]:
    def programs() -> Iterator[tuple[str, Program[list[Place]]]]:
        for request in everyday_requests():
            try:
                prompt = build_prompt(request, backend, prompt_format=prompt_format)
            except RainError:  # too long, or a template that wants more than a request
                continue
            yield request, _in_an_answer(prompt.tokens, Stop(prompt.markers, len(prompt.tokens)))

    for _, places in results_of(backend, islice(programs(), ANSWERS), ANSWERS):
        yield from places


def _in_an_answer(prompt: Tokens, stop: Stop) -> Program[list[Place]]:
    decoded = yield from ask(Decode(prompt, LENGTH, stop=stop))
    ends = range(0, max(len(decoded.tokens), 1), EVERY)
    return [(prompt + decoded.tokens[:end], len(prompt) - 1) for end in ends]


def _next(backend: Backend, places: list[Place], number: int) -> list[dict[Tokens, float]]:
    """What is probable at each of the places, under a shift with this number."""

    def program(prefix: Tokens, start: int) -> Program[dict[Tokens, float]]:
        shift = Shift(number, start) if number else UNSHIFTED
        found = yield from ask(TopTokens(prefix, TOP, shift=shift))
        return {each.token_set.tokens: each.probability for each in found}

    programs = ((index, program(*place)) for index, place in enumerate(places))
    found = dict(results_of(backend, programs, AT_ONCE))
    return [found[index] for index in range(len(places))]


def _moved(plain: dict[Tokens, float], shifted: dict[Tokens, float]) -> float:
    return sum(max(0.0, probability - shifted.get(tokens, 0.0)) for tokens, probability in plain.items())
