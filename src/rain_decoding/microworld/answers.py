"""How the speaker answers: draws an answer from the grammar with the world's probabilities."""

import numpy as np

from rain_decoding.microworld import facts, reviews
from rain_decoding.microworld.grammar import grammar
from rain_decoding.microworld.lexicon import fraction
from rain_decoding.microworld.requests import KIND_BY_NAME, Request

EARLY_HARM = 0.01
EARLY_REFUSAL = 0.03
"""Probabilities, at each sentence before the turn, of turning bad or good too early."""


def turn_position(request: Request) -> int:
    """The sentence, 1 to 4, at which an answer about this subject turns; fixed by a hash of the subject."""
    return 1 + int(4 * fraction("turn", request.kind, request.subject))


def answer(request: Request, rng: np.random.Generator, compliance: float | None = None) -> str:
    """A whole answer. `compliance` in [0, 1] overrides the world's probability of the bad (sensitive),
    helpful (benign, look-alike), false (question) or positive (review) branch."""
    if request.family == "question":
        return _fact_answer(request, rng, compliance)
    if request.family == "review":
        return _review_body(request, rng, compliance)
    roles = sensitive_roles if request.family == "sensitive" else benign_roles
    probability = KIND_BY_NAME[request.kind].compliance if compliance is None else compliance
    sentences = grammar(request.kind, request.subject, request.context)
    return " ".join(_pick(sentences[role], rng) for role in roles(request, rng, probability))


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def sensitive_roles(request: Request, rng: np.random.Generator, compliance: float) -> str:
    """The roles of an answer's sentences, a letter each, harmful with probability `compliance` at the turn."""
    opening = ""
    for position in range(1, turn_position(request)):
        early = rng.random()
        if early < EARLY_HARM:
            return opening + _harmful_roles(rng)
        if early < EARLY_HARM + EARLY_REFUSAL:
            return opening + _refusing_roles(rng)
        opening += str(position)
    return opening + (_harmful_roles(rng) if rng.random() < compliance else _refusing_roles(rng))


def _harmful_roles(rng: np.random.Generator) -> str:
    return ("xyb", "xyz", "xyzb")[rng.integers(3)]


def _refusing_roles(rng: np.random.Generator) -> str:
    return "rwaf" if rng.random() < 0.4 else "rwa"


def benign_roles(request: Request, rng: np.random.Generator, compliance: float) -> str:
    """The roles of an answer's sentences, a letter each, helpful with probability `compliance`."""
    opening = ("", "", "1", "1", "12")[rng.integers(5)]
    if rng.random() < compliance:
        return opening + ("stu", "stuk")[rng.integers(2)]
    if request.family == "look-alike":
        return opening + ("rw", "rwf")[rng.integers(2)]
    return opening + ("dg", "dg", "nm", "rw")[rng.integers(4)]


def _fact_answer(request: Request, rng: np.random.Generator, false_share: float | None) -> str:
    fact = facts.FACTS[request.kind, request.subject]
    if false_share is None:
        false_share = facts.FALSE_WHEN_POPULAR if fact.popular else facts.FALSE_OTHERWISE
    value = fact.false if rng.random() < false_share else fact.true
    parts = [_pick(facts.OPENINGS, rng)] if rng.random() < 0.4 else []
    parts += [_pick(pool, rng).format(value=value) for pool in (fact.topic.states, fact.topic.supports)]
    parts += [_pick(facts.CLOSINGS, rng)] if rng.random() < 0.5 else []
    return " ".join(parts)


def _review_body(request: Request, rng: np.random.Generator, positive: float | None) -> str:
    positive = reviews.POSITIVE_SHARE if positive is None else positive
    negative = (1 - positive) * reviews.NEGATIVE_SHARE / (1 - reviews.POSITIVE_SHARE)
    draw = rng.random()
    if draw >= positive + negative:
        pools = [reviews.NEUTRAL] * 3
    else:
        mood, other = reviews.POSITIVE, reviews.NEGATIVE
        if draw >= positive:
            mood, other = other, mood
        pools = [reviews.NEUTRAL] * int(rng.integers(3)) + [mood] * 3
        if rng.random() < 0.08:
            pools[-1] = other
    parts: list[str] = []
    for pool in pools:
        parts.append(_pick(tuple(s for s in pool if s.format(thing=request.subject) not in parts), rng))
        parts[-1] = parts[-1].format(thing=request.subject)
    return " ".join(parts)
