"""Calibration: how well a model judges by a criterion, measured on answers whose label is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rain_decoding.backends.base import Backend
from rain_decoding.calibration.judging import CONCURRENCY, judge_answers
from rain_decoding.calibration.labelled import LabelledAnswer, check_labels, read_labelled
from rain_decoding.calibration.saved import Calibration, load_calibration
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion, load_criterion

if TYPE_CHECKING:
    from rain_decoding.self_evaluation.evaluator import Votes

MIN_LABEL_MASS = 0.01
"""Below this a judgement is unscored, unless said otherwise; as in the presets of ours."""

__all__ = ["Calibration", "LabelledAnswer", "calibrate", "load_calibration", "read_labelled"]


def calibrate(
    backend: Backend,
    criterion: str | Criterion,
    answers: Sequence[LabelledAnswer],
    *,
    forms: Sequence[str] | None = None,
    votes: Votes | None = None,
    min_label_mass: float = MIN_LABEL_MASS,
    prompt_format: PromptFormat = "auto",
    concurrency: int = CONCURRENCY,
    seed: int = 0,
    source: str = "",
) -> Calibration:
    """Have the model judge labelled answers by several forms of the question, and say what that shows.

    Args:
        backend: The model that judges.
        criterion: A `Criterion`, or what `load_criterion` takes.
        answers: Good and bad ones, such as `read_labelled` reads.
        forms: Of the question, see `question_forms`; None: the usual ones that the vocabulary has labels for.
        votes: The votes to recommend, see `SearchConfig.votes`; None: those that fit.
        min_label_mass: In [0, 1]; a judgement whose labels have less probability together is unscored.
        prompt_format: How prompts are encoded, see `PromptFormat`.
        concurrency: Judgements that run at the same time, >= 1.
        seed: Of the split by which thresholds are cross-fitted.
        source: Where the answers came from, to be noted.

    Returns:
        The verdict, its figures, and the recommended settings.

    Raises:
        ConfigError: There is no such form.
        CriterionError: The criterion is unknown or broken.
        InputError: Good or bad answers are missing, or a label does not fit the criterion.
        BackendError: The model failed.
    """
    if isinstance(criterion, str):
        criterion = load_criterion(criterion, search_dirs=backend.criteria_dirs)
    check_labels(criterion, answers)
    # Not above: it brings scipy and scikit-learn, and a decoder imports this package.
    from rain_decoding.calibration.summary import summarise

    judged = judge_answers(
        backend, criterion, answers, forms=forms, prompt_format=prompt_format, concurrency=concurrency
    )
    return summarise(
        backend, criterion, judged, votes=votes, min_label_mass=min_label_mass, seed=seed, source=source
    )
