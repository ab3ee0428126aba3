"""From what a caller names to an evaluator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rain_decoding.backends.base import Backend
from rain_decoding.errors import ConfigError
from rain_decoding.plugins import Entry, Forms
from rain_decoding.self_evaluation.combination import Combined, Part
from rain_decoding.self_evaluation.combination_syntax import Expression, Named, parse
from rain_decoding.self_evaluation.criterion import Criterion, load_criterion, principle_criterion
from rain_decoding.self_evaluation.elsewhere import ElsewhereEvaluator
from rain_decoding.self_evaluation.evaluator import BOTH_ORDERS, Evaluator, SelfEvaluator, Votes

PRINCIPLE = "principle:"
"""What a criterion in one sentence begins with."""


def _classifier(name: str) -> Evaluator:
    from rain_decoding.self_evaluation.classifier import load_classifier

    return load_classifier(name)


EVALUATORS: Forms[Evaluator] = Forms(
    "rain_decoding.evaluators",
    "judge",
    [
        Entry(
            "hf-classifier:NAME_OR_FOLDER[#OPTION=VALUE&...]",
            _classifier,
            "a sequence classifier",
            extra="hf",
        )
    ],
    unknown=ConfigError,
)
"""What judges by labels of its own and not by a criterion. All have something behind the colon."""


def has_labels(name: str) -> bool:
    """Whether a judge of this name is one of `EVALUATORS`, and not a backend or a criterion."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in EVALUATORS


def load_evaluator(
    backend: Backend,
    criterion: str | Criterion | Evaluator,
    *,
    votes: Votes = "hard",
    min_label_mass: float = 0.0,
    order_margin: float = BOTH_ORDERS,
    cheapest: bool = False,
    judge: Backend | None = None,
) -> Evaluator:
    """The evaluator for a criterion, given as such, by name or file, or as a combination of names.

    The model of `backend` judges its own text, or that of `judge` does. `cheapest`: see `SearchConfig.placement`.
    Another `Evaluator` stays what it is. Raises `CriterionError` for what cannot be read or found, and what loading a
    classifier raises.
    """
    loader = _Loader(backend, judge or backend, votes, min_label_mass, order_margin, cheapest)
    if isinstance(criterion, str):
        return loader.named(criterion)
    return loader.criterion(criterion) if isinstance(criterion, Criterion) else criterion


@dataclass(frozen=True)
class _Loader:
    backend: Backend
    judge: Backend
    votes: Votes
    min_label_mass: float
    order_margin: float
    cheapest: bool

    def named(self, text: str) -> Evaluator:
        """What a text names. A sentence or a file's name may hold what looks like a combination."""
        if text.startswith(PRINCIPLE) or _is_file(text):
            return self._one(text)
        return self._build(parse(text))

    def _build(self, parsed: Named | Expression) -> Evaluator:
        if isinstance(parsed, Named):
            return self._one(parsed.text)
        parts = [
            Part(self._build(term.of), term.weight, term.threshold, term.of.text) for term in parsed.terms
        ]
        return Combined(parsed.rule, parts, parsed.text)

    def _one(self, name: str) -> Evaluator:
        folders = self.judge.criteria_dirs
        if name.startswith(PRINCIPLE):
            return self.criterion(principle_criterion(name.removeprefix(PRINCIPLE), search_dirs=folders))
        if has_labels(name):
            entry, rest = EVALUATORS.find(name)
            return entry.load(rest)
        return self.criterion(load_criterion(name, search_dirs=folders))

    def criterion(self, criterion: Criterion) -> Evaluator:
        if self.cheapest and criterion.suffix_as_good and self.judge is self.backend:
            criterion = replace(criterion, placement="suffix")
        own = SelfEvaluator(
            self.judge,
            criterion,
            votes=self.votes,
            min_label_mass=self.min_label_mass,
            order_margin=self.order_margin,
        )
        return own if self.judge is self.backend else ElsewhereEvaluator(own)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False
