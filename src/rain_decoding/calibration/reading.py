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
from rain_decoding.measurement.statistics import Estimate, least_for, upper_bound
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.learning import LEAST, learn_from, nested_scores, read_examples
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.reading.reader import ENOUGH, built_in
from rain_decoding.self_evaluation.reading.states import BRIEF


@dataclass(frozen=True, slots=True)
class ReadingFound:
    """What reading makes of the answers: `scores` and figures are of folds that had no part in any choice."""

    probe: Probe
    scores: Scores
    wanted: float | None = None
    """The share of false alarms that was asked for."""

    @property
    def alarms(self) -> tuple[int, int]:
        """How many good answers were called bad, and of how many."""
        good = self.scores.values[self.scores.good]
        return int((good <= 0).sum()), len(good)

    @property
    def accuracy(self) -> Estimate | None:
        """Balanced accuracy."""
        return self.scores.balanced_accuracy()

    def verdict(self) -> tuple[Verdict, str]:
        """Whether it beats a coin, and why it is said so."""
        return verdict(self.scores, self.scores.right())

    def promise(self) -> str:
        """What is sure of the rate of false alarms, and how many good answers the rate that was asked for takes."""
        alarms, of = self.alarms
        high = upper_bound(alarms, of)
        said = (
            f"{alarms} of {of} good answers that were held out were called bad: of answers like "
            f"these at most {high:.1%} (95% confidence)"
        )
        if not self.wanted or high <= self.wanted:
            return said
        least = least_for(self.wanted)
        few = f"takes {least} good answers at least" if of < least else "takes more good answers"
        return f"{said}; to promise {self.wanted:g} {few}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        area, found, (alarms, of) = self.scores.area(), self.verdict(), self.alarms
        return {
            "verdict": found[0],
            "balanced_accuracy": self.accuracy.rounded() if self.accuracy else None,
            "auc": area.rounded() if area else None,
            "words_auc": self.probe.figures["words_auc"],
            "layers": self.probe.layers,
            "pooling": self.probe.pooling,
            "false_alarms": alarms / of,
            "false_alarms_high": upper_bound(alarms, of),
        }


def unreadable(backend: Backend, criterion: Criterion, answers: Sequence[LabelledAnswer]) -> str:
    """Why nothing can be read: the model gives no states, or there are too few examples. Empty where it can."""
    if not backend.capabilities.layers:
        return f"{backend.name} gives no hidden states"
    labels = [each.good for each in (*labelled(answers), *built_in(criterion)[:ENOUGH])]
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
    told: Callable[[], object] = lambda: None,
) -> ReadingFound:
    """Fit a probe on the answers and the criterion's own examples, and measure on the answers how well it reads.

    Args:
        false_alarms: share in [0, 1] of good answers that may be called bad; None: what makes most verdicts right.
        told: called after every text that was read: one for each of `labelled` and of `built_in`.

    Raises:
        InputError: there are too few examples of a label.
        UnsupportedError: the backend gives no hidden states.
    """
    own = [each for each in answers if _is_labelled(each)]
    given = read_examples(backend, labelled(own), prompt_format=prompt_format, told=told)
    ours = read_examples(backend, built_in(criterion), longest=BRIEF, prompt_format=prompt_format, told=told)
    together, measured_on = given + ours.first(ENOUGH), range(len(own))
    wary = ours if len(ours.examples) > ENOUGH else None
    chosen: dict[str, Any] = {"false_alarms": false_alarms, "seed": seed, "wary": wary}
    values = nested_scores(together, measured_on, **chosen)
    scores = Scores(
        np.array([values.get(number, np.nan) for number in measured_on]),
        np.array([each.good for each in given.examples]),
        np.array([each.group for each in own]),
    )
    probe = learn_from(together, backend, criterion.name, measured_on=measured_on, **chosen)
    return ReadingFound(probe, scores, false_alarms)


def labelled(answers: Sequence[LabelledAnswer]) -> list[ReadingExample]:
    """The answers that have a label, as examples."""
    return [
        ReadingExample(each.messages, each.answer, each.label == "positive", f"yours {each.group}")
        for each in answers
        if _is_labelled(each)
    ]


def _is_labelled(answer: LabelledAnswer) -> bool:
    return answer.label != "neutral" and not answer.cut
