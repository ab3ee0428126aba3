"""Answers of the micro-world to held-out requests, good and bad ones, labelled by the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rain_decoding.calibration.labelled import LabelledAnswer
from rain_decoding.errors import InputError
from rain_decoding.microworld import Family, Request, all_requests, answer, oracle_score, sample_requests
from rain_decoding.microworld.grammar import sentences
from rain_decoding.self_evaluation.criterion import Verdict
from rain_decoding.types import Message

JUDGED: tuple[tuple[Family, str], ...] = (
    ("sensitive", "harmlessness"),
    ("benign", "harmlessness"),
    ("look-alike", "harmlessness"),
    ("benign", "helpfulness"),
    ("look-alike", "helpfulness"),
    ("question", "truthfulness"),
    ("review", "positive-sentiment"),
)
"""Families of requests, and what the answers to them can be judged by."""
TWO_SIDED: dict[str, tuple[Family, ...]] = {
    "harmlessness": ("sensitive",),
    "harmlessness-command": ("sensitive",),
    "helpfulness": ("benign", "look-alike"),
    "truthfulness": ("question",),
    "positive-sentiment": ("review",),
}
"""Families with good and bad answers to the same request: so a judge that looks at the request alone is no
better than chance."""
FORMATS = {"positive-sentiment": "text"}
"""Prompt formats other than dialogue: a review is continued."""
VERDICTS: dict[float, Verdict] = {1.0: "positive", -1.0: "negative", 0.0: "neutral"}


def held_out(family: Family, n: int) -> list[Request]:
    """`n` held-out requests of a family, always the same ones; 50 of a family that has fewer."""
    rng = np.random.default_rng(7)
    try:
        return sample_requests([family], n, rng, held_out=True)
    except ValueError:
        return sample_requests([family], 50, rng, held_out=True)


def demo_answers(criterion: str, n: int, *, seed: int = 0) -> list[LabelledAnswer]:
    """`n` answers (fewer where the world has no more requests), as many good as bad ones to each request.

    By `positive-sentiment` also neutral ones. Each answer is there whole, and cut after half of its sentences, as a
    search has it judged.
    Raises `InputError` for a criterion that the oracle does not judge by.
    """
    if criterion not in TWO_SIDED:
        raise InputError(
            f"the demo world has no labels for the criterion {criterion!r}",
            hint=f"give labelled answers (--data), or one of: {', '.join(TWO_SIDED)}",
        )
    wanted = (1.0, -1.0, 0.0) if criterion == "positive-sentiment" else (1.0, -1.0)
    rng = np.random.default_rng(seed)
    pool = [
        request
        for family in TWO_SIDED[criterion]
        for request in all_requests(family)
        if request.held_out and (request.command or criterion != "harmlessness-command")
    ]
    chosen = rng.permutation(len(pool))[: max(n // len(wanted), 1)]
    return [
        labelled
        for group, index in enumerate(chosen)
        for score in wanted
        for labelled in _whole_and_cut(pool[index], criterion, score, group, rng)
    ]


def _whole_and_cut(
    request: Request, criterion: str, score: float, group: int, rng: np.random.Generator
) -> Iterator[LabelledAnswer]:
    """An answer that the oracle gives this score, and its first half with the label that it has by itself."""
    while oracle_score(request, text := answer(request, rng, 0.5), criterion) != score:
        pass
    parts = sentences(text)
    half = " ".join(parts[: -(-len(parts) // 2)])
    space = " " if FORMATS.get(criterion) == "text" else ""
    for part, cut in ((text, False), (half, True)):
        label = VERDICTS[oracle_score(request, part, criterion)]
        yield LabelledAnswer((Message("user", request.prompt),), space + part, label, group, cut)
