"""What a calibration measures of one form of the question, for JSON: figures with their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from rain_decoding.backends.base import Codec
from rain_decoding.calibration.judging import JudgedAnswer, fresh_tokens
from rain_decoding.calibration.scores import Scores, is_scored, scores_of
from rain_decoding.measurement.statistics import Estimate, mean, rate
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Votes, log_odds, score

VOTES: tuple[Votes, ...] = get_args(Votes)
BINS = 10
"""Of the calibration curve."""

Figures = dict[str, Any]


def form_figures(
    codec: Codec, criterion: Criterion, judged: Sequence[JudgedAnswer], min_label_mass: float
) -> Figures:
    """Figures of the answers that were judged by `criterion`, which has the form of the question.

    `label_mass`: what the labels hold in the order where they hold less. `position_bias` in nats:
    see `position_biases`. `order_agreement`: how often both orders name the same statement.
    `tokens_per_judgement`: see `fresh_tokens`. `votes`: what follows from the scores, by kind of votes; `cut` is the
    same for answers cut after half of their text. Counts and shares include what is unscored. What cannot be
    measured with these answers or this criterion is None.
    """
    whole = [one for one in judged if not one.answer.cut]
    cut = [one for one in judged if one.answer.cut]
    scored = [one for one in whole if is_scored(one.judgement, min_label_mass)]
    groups = [one.answer.group for one in scored]
    masses = [min(one.judgement.label_mass) for one in whole if one.judgement.label_mass]
    biases = position_biases(scored)
    return {
        "n": len(whole),
        "unscored": len(whole) - len(scored),
        "too_long": len(whole) - len(masses),
        "label_mass": {
            "mean": _rounded(mean(masses, [one.answer.group for one in whole if one.judgement.label_mass])),
            "percentile_5": _percentile(masses, 5),
            "share_below_minimum": _rounded(rate([mass < min_label_mass for mass in masses])),
        },
        "position_bias": {
            "mean": _rounded(mean(biases.tolist(), groups)),
            "standard_deviation": round(float(np.std(biases)), 4),
            "percentile_95_absolute": _percentile(np.abs(biases), 95),
        }
        if len(biases)
        else None,
        "order_agreement": _order_agreement(scored),
        "tokens_per_judgement": _average([fresh_tokens(codec, criterion, one) for one in whole]),
        "statement_accuracy": _statement_accuracy(whole, min_label_mass)
        if len(criterion.statements) == 3
        else None,
        "votes": {
            votes: {
                **score_figures(scores_of(whole, votes, min_label_mass)),
                "cut": score_figures(scores_of(cut, votes, min_label_mass)) if cut else None,
            }
            for votes in VOTES
        },
    }


def score_figures(scores: Scores, threshold: float = 0.0) -> Figures:
    """Figures of scores. A score above the threshold says "good"; the areas and the curve need no threshold."""
    curve, error = _curve(scores)
    return {
        "accuracy": _rounded(scores.accuracy(threshold)),
        "balanced_accuracy": _rounded(scores.balanced_accuracy(threshold)),
        "auc": _rounded(scores.area()),
        "pair_accuracy": _rounded(scores.pair_accuracy()),
        "calibration_error": error,
        "curve": curve,
    }


def position_biases(judged: Sequence[JudgedAnswer]) -> np.ndarray:
    """How much each judgement leans to the first option, in nats: half the difference of the orders' log-odds.

    Empty where only one order is asked.
    """
    orders = [one.judgement.probabilities for one in judged]
    return np.array([(log_odds(two[0]) - log_odds(two[1])) / 2 for two in orders if len(two) == 2])


def _order_agreement(scored: Sequence[JudgedAnswer]) -> Figures | None:
    both = [one.judgement.probabilities for one in scored if len(one.judgement.probabilities) == 2]
    return _rounded(rate([score(two[:1], "hard") == score(two[1:], "hard") for two in both]))


def _statement_accuracy(whole: Sequence[JudgedAnswer], min_label_mass: float) -> Figures | None:
    """Share of answers, neutral ones too, whose own statement holds the most probability over the orders."""
    verdicts = ("positive", "negative", "neutral")
    return _rounded(
        rate(
            [
                is_scored(one.judgement, min_label_mass)
                and verdicts[int(np.argmax(np.mean(one.judgement.probabilities, axis=0)))] == one.answer.label
                for one in whole
            ]
        )
    )


def _curve(scores: Scores) -> tuple[list[Figures], float | None]:
    """The calibration curve and the expected calibration error.

    A score s predicts that the answer is good with probability (s + 1) / 2. Per bin of predictions that is not
    empty: their mean, and the share of good answers. The error is the mean distance of the two, weighted by size.
    """
    known = ~np.isnan(scores.values)
    predicted, good = (scores.values[known] + 1) / 2, scores.good[known]
    if not len(predicted):
        return [], None
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    points, error = [], 0.0
    for place in np.unique(places):
        own = places == place
        average = float(predicted[own].mean())
        points.append({"predicted": round(average, 4), "good": _rounded(rate(good[own].tolist()))})
        error += own.mean() * abs(average - good[own].mean())
    return points, round(float(error), 4)


def _rounded(estimate: Estimate | None) -> Figures | None:
    return estimate.rounded() if estimate else None


def _percentile(values: Sequence[float] | np.ndarray, percent: float) -> float | None:
    return float(f"{np.percentile(values, percent):.4g}") if len(values) else None


def _average(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 1) if values else None
