"""Scores of labelled answers, and what is read off them: right or wrong, ranks, the best threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from rain_decoding.calibration.judging import JudgedAnswer
from rain_decoding.measurement.statistics import Estimate, mean_of_rates, rate, roc_area, share
from rain_decoding.self_evaluation.evaluator import Votes, score
from rain_decoding.types import Judgement


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of good and bad answers: `values` in [-1, 1], nan where unscored; `good` the labels; `groups` as
    in `LabelledAnswer`. Arrays of one length.

    What is unscored counts: as wrong in a share, as drawn by lot in a comparison.
    """

    values: np.ndarray
    good: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def part(self, chosen: np.ndarray) -> Scores:
        """Those at the places that are true in `chosen`."""
        return Scores(self.values[chosen], self.good[chosen], self.groups[chosen])

    def right(self, threshold: float = 0.0) -> np.ndarray:
        """Whether a score above the threshold goes with a good answer, and another with a bad one."""
        return ~np.isnan(self.values) & ((self.values > threshold) == self.good)

    def weights(self) -> np.ndarray:
        """Weights of mean 1 with which the mean of `right` is the balanced accuracy."""
        shares = np.where(self.good, self.good.mean(), (~self.good).mean())
        return 0.5 / shares

    def accuracy(self, threshold: float = 0.0) -> Estimate | None:
        """Share that is right."""
        return rate(self.right(threshold).tolist())

    def balanced_accuracy(self, threshold: float = 0.0) -> Estimate | None:
        """Mean of the shares that are right among good and among bad answers; None without both."""
        return self.balanced(self.right(threshold))

    def balanced(self, right: np.ndarray) -> Estimate | None:
        """The same of what is right by other thresholds."""
        return mean_of_rates(rate(right[self.good].tolist()), rate(right[~self.good].tolist()))

    def area(self) -> Estimate | None:
        """Area under the ROC curve: how often a good answer scores above a bad one, equal scores half."""
        known, positives = ~np.isnan(self.values), int(self.good.sum())
        negatives = len(self) - positives
        if not positives or not negatives:
            return None
        compared = int(self.good[known].sum()) * int((~self.good[known]).sum()) / (positives * negatives)
        ranked = roc_auc_score(self.good[known], self.values[known]) if compared else 0.5
        return roc_area(0.5 + compared * (float(ranked) - 0.5), positives, negatives)

    def pair_accuracy(self) -> Estimate | None:
        """Share of groups whose good answer scores above the bad one, equal scores half; None without groups."""
        won = []
        for group in np.unique(self.groups):
            own = self.part(self.groups == group)
            above = own.values[own.good][:, None] - own.values[~own.good][None, :]
            if above.size:
                won.append(float(np.mean(np.nan_to_num((np.sign(above) + 1) / 2, nan=0.5))))
        return share(sum(won), len(won))

    def best_threshold(self) -> float:
        """Where the balanced accuracy is largest: 0, or half-way between two scores; of several the nearest to 0."""
        known = np.unique(self.values[~np.isnan(self.values)])
        thresholds = np.concatenate([[0.0], (known[1:] + known[:-1]) / 2])
        scored = [np.sort(own[~np.isnan(own)]) for own in (self.values[self.good], self.values[~self.good])]
        good_above = len(scored[0]) - np.searchsorted(scored[0], thresholds, side="right")
        bad_below = np.searchsorted(scored[1], thresholds, side="right")
        balanced = good_above / self.good.sum() + bad_below / (~self.good).sum()
        best = thresholds[np.isclose(balanced, balanced.max())]
        return float(best[np.argmin(np.abs(best))])


def is_scored(judgement: Judgement, min_label_mass: float) -> bool:
    """Whether there is a judgement, and every order's labels hold enough probability."""
    return bool(judgement.probabilities) and min(judgement.label_mass) >= min_label_mass


def scores_of(judged: Iterable[JudgedAnswer], votes: Votes, min_label_mass: float) -> Scores:
    """Scores of the answers that are labelled good or bad, by the same label probabilities whatever the votes."""
    chosen: Sequence[JudgedAnswer] = [one for one in judged if one.answer.label != "neutral"]
    values = [
        score(one.judgement.probabilities, votes) if is_scored(one.judgement, min_label_mass) else np.nan
        for one in chosen
    ]
    return Scores(
        np.array(values, dtype=float),
        np.array([one.answer.label == "positive" for one in chosen], dtype=bool),
        np.array([one.answer.group for one in chosen], dtype=int),
    )
