"""What labels the answers of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal, Protocol, runtime_checkable

from rain_decoding.errors import RainError
from rain_decoding.evaluation.suites.base import Item
from rain_decoding.measurement.statistics import Estimate
from rain_decoding.types import Judgement


@dataclass(frozen=True, slots=True)
class Label:
    """What a judge says of one answer.

    `answers` has a question's answer, None where it is unscored; `malformed` says that the text is no proper answer
    at all. `problem` is why something is unscored, `note` what else the judge tells. `score` in [-1, 1] says how surely
    the first question is answered with yes, where the judge has such a number; it is not recorded.
    """

    answers: Mapping[str, bool | None] = field(default_factory=dict)
    malformed: bool = False
    problem: str = ""
    note: str = ""
    score: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For a record; empty texts are left out."""
        told = {"problem": self.problem, "note": self.note}
        return {
            **self.answers,
            "malformed": self.malformed,
            **{name: text for name, text in told.items() if text},
        }


def read_label(question: str, answer: str, lock: Lock, judge: Callable[[], Judgement]) -> Label:
    """The label that a local model's judgement of an answer gives, made while the lock is held.

    An empty answer is malformed, and what cannot be judged is unscored.
    """
    if not answer.strip():
        return Label({question: None}, malformed=True, problem="the answer is empty")
    try:
        with lock:
            judgement = judge()
    except RainError as error:
        return Label({question: None}, problem=str(error))
    if judgement.score is None:
        return Label({question: None}, problem=judgement.problem)
    return Label({question: judgement.score > 0}, note=f"score {judgement.score:+.3f}", score=judgement.score)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a judge says yes to a question where the truth is yes, and no where it is no: shares in [0, 1] that
    were measured on labelled answers which it had not seen."""

    yes: Estimate
    no: Estimate


def accuracy_of(judge: Judge, question: str) -> Accuracy | None:
    """What is known of a judge's errors. A judge may have it as `accuracy`, by question."""
    known: Mapping[str, Accuracy] = getattr(judge, "accuracy", {})
    return known.get(question)


class Judge(Protocol):
    """Labels answers. It may be called from several threads, and must not depend on what else it has labelled.

    `version` changes whenever the same text could be labelled otherwise. `questions` are those it can answer.
    `source` names the model behind it, as the judge of a search would be named.
    """

    name: str
    version: str
    questions: tuple[str, ...]
    source: str

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        """Answer those of the questions that it can."""
        ...


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two answers is better; None is unscored, and `problem` says why."""

    better: Literal["first", "second", "tie"] | None
    problem: str = ""


@runtime_checkable
class PairJudge(Protocol):
    """A judge that can also say which of two answers is better."""

    name: str

    def prefers(self, item: Item, first: str, second: str, question: str) -> Preference:
        """Compare two answers to one prompt."""
        ...
