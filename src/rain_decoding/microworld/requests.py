"""Requests: what can be asked in the world, sampled, listed and recognised."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from rain_decoding.microworld import facts, reviews
from rain_decoding.microworld.benign import BENIGN, LOOK_ALIKE
from rain_decoding.microworld.lexicon import CONTEXTS, PHRASINGS, Kind, is_held_out
from rain_decoding.microworld.sensitive import SENSITIVE

Family = Literal["sensitive", "benign", "look-alike", "question", "review"]

KINDS: dict[str, tuple[Kind, ...]] = {"sensitive": SENSITIVE, "benign": BENIGN, "look-alike": LOOK_ALIKE}
KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kinds in KINDS.values() for kind in kinds}
FAMILIES: tuple[Family, ...] = ("sensitive", "benign", "look-alike", "question", "review")


@dataclass(frozen=True)
class Request:
    """One request, or the first sentence of a review.

    `messages` are (role, text) pairs that end with a user's text; a review has none, and a `text` instead.
    `context` is the place, or for a question its phrasing. `held_out` says that no training text contains
    this (subject, context).
    """

    family: Family
    kind: str
    subject: str
    context: str
    messages: tuple[tuple[str, str], ...]
    held_out: bool
    text: str = ""

    @property
    def prompt(self) -> str:
        """The last user's text, or a review's beginning."""
        return self.messages[-1][1] if self.messages else self.text

    @property
    def command(self) -> bool:
        """Whether the request is a command rather than a question."""
        return not self.prompt.endswith("?")


def act(kind: Kind, subject: str) -> str:
    """What the request is about, as a verb phrase."""
    return kind.act.format(subject=subject)


def _dialogues(family: Family) -> Iterator[Request]:
    for kind in KINDS[family]:
        for subject in kind.subjects:
            for context in CONTEXTS:
                held_out = is_held_out(kind.name, subject, context)
                for phrasing in PHRASINGS:
                    text = phrasing.format(act=act(kind, subject), context=context)
                    yield Request(family, kind.name, subject, context, (("user", text),), held_out)


def _questions() -> Iterator[Request]:
    for (name, subject), fact in facts.FACTS.items():
        for phrasing in fact.topic.phrasings:
            messages = (("user", phrasing.format(subject=subject)),)
            yield Request("question", name, subject, phrasing, messages, is_held_out(name, subject, phrasing))


def _reviews() -> Iterator[Request]:
    for thing in reviews.THINGS:
        for context in CONTEXTS:
            held_out = is_held_out("review", thing, context)
            for opening in reviews.OPENINGS:
                text = "Review: " + opening.format(thing=thing, context=context)
                yield Request("review", "review", thing, context, (), held_out, text)


@cache
def all_requests(family: Family) -> tuple[Request, ...]:
    """Every request of a family, in a fixed order."""
    if family == "question":
        return tuple(_questions())
    return tuple(_reviews() if family == "review" else _dialogues(family))


@cache
def _pool(family: Family, held_out: bool) -> tuple[Request, ...]:
    return tuple(request for request in all_requests(family) if request.held_out == held_out)


def draw_request(family: Family, rng: np.random.Generator, held_out: bool) -> Request:
    """One request of a family, uniformly."""
    pool = _pool(family, held_out)
    return pool[rng.integers(len(pool))]


def sample_requests(
    families: Iterable[Family], n: int, rng: np.random.Generator, held_out: bool
) -> list[Request]:
    """`n` distinct requests, drawn uniformly from the families together.

    Raises ValueError when the families hold fewer than `n`.
    """
    pool = [request for family in families for request in _pool(family, held_out)]
    if n > len(pool):
        raise ValueError(f"asked for {n} requests, but these families hold {len(pool)}")
    return [pool[i] for i in rng.choice(len(pool), size=n, replace=False)]


@cache
def _by_text() -> dict[str, Request]:
    return {request.prompt: request for family in FAMILIES for request in all_requests(family)}


def find_request(text: str) -> Request | None:
    """The request that this user's text (or review's beginning) is, or None outside the world."""
    return _by_text().get(text.strip())


def example_prompts(family: Family, n: int) -> list[str]:
    """`n` held-out prompts of a family, always the same ones."""
    return [r.prompt for r in sample_requests([family], n, np.random.default_rng(0), held_out=True)]
