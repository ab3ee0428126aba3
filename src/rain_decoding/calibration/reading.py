"""How well reading a model tells labelled answers apart, beside asking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rain_decoding.backends.base import Backend
from rain_decoding.calibration.labelled import LabelledAnswer
from rain_decoding.calibration.recommendation import verdict
from rain_decoding.calibration.saved import Verdict
from rain_decoding.calibration.scores import Scores
from rain_decoding.measurement.statistics import Estimate, least_for
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.learning import LEAST, learn_from, nested_values, read_rows
from rain_decoding.self_evaluation.reading.probe import Probe


@dataclass(frozen=True, slots=True)
class ReadingFound:
    """What reading makes of the answers: `scores` and figures are of folds that had no part in any choice."""

    probe: Probe
    scores: Scores
    wanted: float | None = None
    """The share of false alarms that was asked for."""

    @property
    def accuracy(self) -> Estimate | None:
        """Balanced accuracy."""
        return self.scores.balanced_accuracy()

    def verdict(self) -> tuple[Verdict, str]:
        """Whether it beats a coin, and why it is said so."""
        return verdict(self.scores, self.scores.right())

    def promise(self) -> str:
        """What is sure of the rate of false alarms, and how many good answers the rate that was asked for takes."""
        found = self.probe.figures["false_alarms"]
        said = (
            f"{found['alarms']} of {found['of']} good answers that were held out were called bad: of answers like "
            f"these at most {found['high']:.1%} (95% confidence)"
        )
        if not self.wanted or found["high"] <= self.wanted:
            return said
        least = least_for(self.wanted)
        few = f"takes {least} good answers at least" if found["of"] < least else "takes more good answers"
        return f"{said}; to promise {self.wanted:g} {few}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        area, found = self.scores.area(), self.verdict()
        return {
            "verdict": found[0],
            "balanced_accuracy": self.accuracy.rounded() if self.accuracy else None,
            "auc": area.rounded() if area else None,
            "words_auc": self.probe.figures["words_auc"],
            "layers": self.probe.layers,
            "pooling": self.probe.pooling,
            "false_alarms": self.probe.false_alarms,
            "false_alarms_high": self.probe.figures["false_alarms"]["high"],
        }


def unreadable(backend: Backend, criterion: Criterion, answers: Sequence[LabelledAnswer]) -> str:
    """Why nothing can be read: the model gives no states, or there are too few examples. Empty where it can."""
    if not backend.capabilities.layers:
        return f"{backend.name} gives no hidden states"
    labels = [each.good for each in examples_together(criterion, answers)]
    good, bad = labels.count(True), labels.count(False)
    return "" if min(good, bad) >= LEAST else f"{good} good and {bad} bad answers, {LEAST} of each are needed"


def read_answers(
    backend: Backend,
    criterion: Criterion,
    answers: Sequence[LabelledAnswer],
    *,
    false_alarms: float | None = None,
    prompt_format: PromptFormat = "auto",
    seed: int = 0,
    told: Callable[[int, int], object] = lambda done, of: None,
) -> ReadingFound:
    """Fit a probe on the answers and the criterion's own examples, and measure on the answers how well it reads.

    Args:
        false_alarms: share in [0, 1] of good answers that may be called bad; None: what makes most verdicts right.
        told: hears how many answers of how many were read.

    Raises:
        InputError: there are too few examples of a label.
        UnsupportedError: the backend gives no hidden states.
    """
    together = examples_together(criterion, answers)
    own = [place for place, each in enumerate(answers) if each.label != "neutral" and not each.cut]
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        told(done, len(together))

    rows = read_rows(backend, together, prompt_format=prompt_format, told=count)
    ours = range(len(own))
    values = nested_values(rows, ours, false_alarms=false_alarms, seed=seed)
    scores = Scores(
        np.tanh([values.get(number, np.nan) for number in ours]),
        np.array([together[number].good for number in ours]),
        np.array([answers[place].group for place in own]),
    )
    probe = learn_from(
        rows, together, backend, criterion.name, false_alarms=false_alarms, measured_on=ours, seed=seed
    )
    return ReadingFound(probe, scores, false_alarms)


def examples_together(criterion: Criterion, answers: Sequence[LabelledAnswer]) -> list[ReadingExample]:
    """The labelled answers first, then the criterion's own examples."""
    labelled = [
        ReadingExample(each.messages, each.answer, each.label == "positive", f"yours {each.group}")
        for each in answers
        if each.label != "neutral" and not each.cut
    ]
    return [*labelled, *examples_of(criterion)]
