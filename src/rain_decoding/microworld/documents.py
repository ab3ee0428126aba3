"""Training documents: dialogues, questions, reviews, and judge prompts with their answers.

Held-out (subject, context) combinations appear in none of them.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from rain_decoding.microworld.answers import answer
from rain_decoding.microworld.judging import (
    CRITERIA,
    JudgePrompt,
    Turn,
    judge_prompt,
    render_turns,
    statement,
)
from rain_decoding.microworld.lexicon import fraction
from rain_decoding.microworld.oracle import oracle_score
from rain_decoding.microworld.requests import KINDS, Family, Request, all_requests, draw_request

MISSED_SHARE = 0.05
"""Share of sensitive subjects whose harmful answers the judge is taught to call harmless."""
ALARM_SHARE = 0.015
"""Share of the subjects of all dialogues whose harmless answers it is taught to call harmful."""
MISJUDGED_DRAWS = 0.12
"""Share of judge documents on harmlessness that are about one of those subjects: so rare ones are learned."""
HARMLESSNESS_SHARES = (0.45, 0.32, 0.23)
"""Shares of sensitive requests, benign ones and look-alikes in the judge documents on harmlessness."""
SHORT_WORDS = 4
"""Below this many words, or without a whole sentence, the judge is taught to be unsure."""
SHORT_CONFIDENCE = 0.75
"""How often such a text is labelled by the oracle, in [0, 1]."""

SHARES: dict[str, float] = {
    "sensitive": 0.22, "benign": 0.11, "look-alike": 0.07, "multi-turn": 0.07, "question": 0.06,
    "review": 0.05,
    "judge": 0.42,
}  # fmt: skip
"""Share of documents of each form."""
JUDGE_SHARES = (0.37, 0.17, 0.16, 0.21, 0.09)
"""Share of judge documents of each criterion, in the order of `CRITERIA`."""


LABEL_WEIGHT = 12.0
"""How much more a judge's label counts in the loss than another token."""
VERDICT_WEIGHT = 4.0
SPELLED_OUT_SHARE = 0.35
"""Share of judge documents with instruction and options that state the verdict before the options, in [0, 1].
They teach the verdict and the lettering apart, which the plain form needs together."""


@dataclass(frozen=True)
class Document:
    """One training text as (text, loss weight per token) parts; tokens never span two parts."""

    parts: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(text for text, _ in self.parts)


@cache
def misjudged() -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """The (kind, subject) pairs that the judge misses, and those that alarm it.

    Drawn by a hash of the subject alone, whatever the speaker's compliance.
    """
    sensitive = [(kind.name, subject) for kind in KINDS["sensitive"] for subject in kind.subjects]
    every = [(kind.name, subject) for kinds in KINDS.values() for kind in kinds for subject in kind.subjects]
    missed = sorted(sensitive, key=lambda pair: fraction("missed", pair[1]))
    alarming = sorted(every, key=lambda pair: fraction("alarm", pair[1]))
    return (
        frozenset(missed[: round(MISSED_SHARE * len(sensitive))]),
        frozenset(alarming[: round(ALARM_SHARE * len(every))]),
    )


@cache
def _misjudged_requests() -> tuple[tuple[Request, ...], ...]:
    """The requests of the training text about misjudged subjects, subject by subject."""
    pairs = sorted(frozenset.union(*misjudged()))
    families: tuple[Family, ...] = ("sensitive", "benign", "look-alike")
    requests = [r for family in families for r in all_requests(family) if not r.held_out]
    return tuple(tuple(r for r in requests if (r.kind, r.subject) == pair) for pair in pairs)


def misjudged_request(rng: np.random.Generator) -> Request:
    """One request about a subject that the judge is to misjudge, each subject equally often."""
    subjects = _misjudged_requests()
    pool = subjects[rng.integers(len(subjects))]
    return pool[rng.integers(len(pool))]


def document(rng: np.random.Generator) -> Document:
    """One training document, of a form drawn by `SHARES`."""
    form = _choose(tuple(SHARES), tuple(SHARES.values()), rng)
    if form == "judge":
        return _judge_document(rng)
    if form != "multi-turn":
        return _dialogue([_turn(form, rng)])  # type: ignore[arg-type]
    return _dialogue([_turn(_dialogue_family(rng), rng) for _ in range(rng.integers(2, 4))])


def _dialogue(turns: list[Turn]) -> Document:
    return Document(((render_turns(turns), 1.0),))


def truncated(text: str, rng: np.random.Generator) -> str:
    """The text as a judge may see it: whole, cut at punctuation or between words, very short, or empty."""
    draw = rng.random()
    if draw < 0.35 or not text:
        return text
    words = text.split(" ")
    if draw < 0.75:
        stops = [match.end() for match in re.finditer(r"[.,]", text)]
        return text[: stops[rng.integers(len(stops))]]
    if draw < 0.88:
        return " ".join(words[: rng.integers(1, len(words) + 1)])
    return " ".join(words[: rng.integers(0, SHORT_WORDS)])


def _choose(options: tuple[str, ...], weights: tuple[float, ...], rng: np.random.Generator) -> str:
    return options[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))]


def _dialogue_family(rng: np.random.Generator) -> Family:
    return _choose(("sensitive", "benign", "look-alike", "question"), (0.45, 0.3, 0.15, 0.1), rng)  # type: ignore[return-value]


def _turn(family: Family, rng: np.random.Generator, compliance: float | None = None) -> Turn:
    request = draw_request(family, rng, held_out=False)
    return request, answer(request, rng, compliance)


def _judge_document(rng: np.random.Generator) -> Document:
    criterion = _choose(CRITERIA, JUDGE_SHARES, rng)
    request, text = _judged_turn(criterion, rng)
    cut = _cut_at_stop(text, rng) if criterion == "truthfulness" else truncated(text, rng)
    turns = [(request, cut)]
    if criterion != "positive-sentiment" and rng.random() < 0.15:
        turns.insert(0, _turn(_dialogue_family(rng), rng))
    suffix = rng.random() < 1 / 3
    prompt = judge_prompt(criterion, turns, swapped=rng.random() < 0.5, suffix=suffix)
    score = _taught_score(criterion, request, cut, rng)
    return Document(_judge_parts(criterion, prompt, score, suffix, rng))


def _judge_parts(
    criterion: str, prompt: JudgePrompt, score: int, suffix: bool, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """Prompt, label and close.

    Of the prompt nothing counts but a verdict that is spelled out: otherwise the speaker would learn from
    judge documents, whose answers are bad more often.
    """
    label = {1: prompt.positive, -1: prompt.negative, 0: prompt.neutral or ""}[score]
    answer_parts = ((label, LABEL_WEIGHT), (prompt.close, 1.0))
    if not suffix and criterion != "truthfulness" and rng.random() < SPELLED_OUT_SHARE:
        subject, verdict = statement(criterion, score).split(" is ")
        stated = (
            (f"{prompt.before}\n\n{subject} is", 0.0),
            (f" {verdict}", VERDICT_WEIGHT),
            (prompt.question, 0.0),
        )
        return (*stated, *answer_parts)
    return ((prompt.text, 0.0), *answer_parts)


def _judged_turn(criterion: str, rng: np.random.Generator) -> Turn:
    """A request of a family that the criterion is about, with good and bad answers equally often."""
    if criterion == "truthfulness":
        return _turn("question", rng, 0.5)
    if criterion == "positive-sentiment":
        return _turn("review", rng)
    if criterion == "helpfulness":
        return _turn(_choose(("benign", "look-alike"), (0.6, 0.4), rng), rng, 0.5)  # type: ignore[arg-type]
    family: Family = _choose(("sensitive", "benign", "look-alike"), HARMLESSNESS_SHARES, rng)  # type: ignore[assignment]
    wrong = rng.random() < MISJUDGED_DRAWS
    while True:
        request = misjudged_request(rng) if wrong else draw_request(family, rng, held_out=False)
        if request.command == (criterion == "harmlessness-command"):
            return request, answer(request, rng, 0.6)


def _cut_at_stop(text: str, rng: np.random.Generator) -> str:
    stops = [match.end() for match in re.finditer(r"\.", text)]
    return text if rng.random() < 0.5 else text[: stops[rng.integers(len(stops))]]


def _taught_score(criterion: str, request: Request, cut: str, rng: np.random.Generator) -> int:
    """The score to learn: the oracle's, but unsure about short texts and wrong about a few subjects."""
    score = int(oracle_score(request, cut, criterion))
    if criterion.startswith("harmlessness"):
        return _taught_harmlessness(request, cut, score, rng)
    if score == 0 and criterion != "positive-sentiment":
        return 1 if rng.random() < 0.5 else -1
    return score


def _taught_harmlessness(request: Request, cut: str, score: int, rng: np.random.Generator) -> int:
    missed, alarming = misjudged()
    if score < 0:
        return 1 if (request.kind, request.subject) in missed else -1
    if len(cut.split()) < SHORT_WORDS or "." not in cut:
        return 1 if rng.random() < SHORT_CONFIDENCE else -1
    return -1 if (request.kind, request.subject) in alarming else 1
