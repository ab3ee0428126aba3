"""Fitting a probe: which layer, pooling and regularisation, and what its numbers mean, all on folds held out.

Folds are drawn by group, so that what is said of a prompt is never tried on an answer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from rain_decoding.self_evaluation.reading.states import Rows
from rain_decoding.types import Array, Layer

STRENGTHS = (1e-3, 1e-2)
"""Inverse regularisation strengths (C) to choose from."""
PATIENCE = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""To choose from: after so many tokens, a value counts half of what it counts after many."""
FOLDS = 5

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""Numbers of the rows to fit on, and of those held out."""


class Choice(NamedTuple):
    """How a probe is made."""

    layer: Layer
    pooling: str
    strength: float


class Line(NamedTuple):
    """`pooled @ weights + bias` is positive where an answer looks good."""

    weights: np.ndarray
    bias: float

    def values(self, features: np.ndarray) -> Array:
        """Float64 `[rows]` of `features` `[rows, width]`."""
        values: Array = features @ self.weights + self.bias
        return values


class Scale(NamedTuple):
    """From values to log-odds, see `Probe`."""

    slope: float
    intercept: float
    patience: float

    def log_odds(self, values: np.ndarray, counts: np.ndarray) -> Array:
        """In nats, of values pooled over so many tokens."""
        odds: Array = self.slope * counts / (counts + self.patience) * values + self.intercept
        return odds


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was chosen and fitted on all rows; `held_out` are the values of all rows by folds without them."""

    choice: Choice
    line: Line
    scale: Scale
    held_out: np.ndarray


def fit(rows: Rows, *, seed: int = 0) -> Fitted:
    """The probe whose held-out values put good whole answers before bad ones most often.

    It is fitted on whole answers; beginnings only tell what a value is worth after so many tokens. Raises `ValueError`
    where the rows have too few groups or one label only.
    """
    folds = folds_of(rows, seed)
    held_out = {
        Choice(layer, pooling, strength): values
        for layer, pooling in product(rows.layers, rows.poolings)
        for strength, values in _held_out(rows, rows.of(layer, pooling), folds).items()
    }
    whole = rows.whole
    best = max(held_out, key=lambda choice: float(roc_auc_score(rows.good[whole], held_out[choice][whole])))
    line = Span(rows.of(best.layer, best.pooling)[whole]).line(rows.good[whole], best.strength)
    return Fitted(best, line, calibrated(held_out[best], rows), held_out[best])


def folds_of(rows: Rows, seed: int) -> Folds:
    """Folds by group, with both labels in each."""
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(split.split(rows.good, rows.good, rows.groups))


def _held_out(rows: Rows, features: Array, folds: Folds) -> dict[float, Array]:
    """Values of all rows by folds without them, for each strength."""
    values: dict[float, Array] = {strength: np.empty(len(rows.good)) for strength in STRENGTHS}
    for fitted, held in folds:
        whole = fitted[rows.whole[fitted]]
        span = Span(features[whole])
        for strength, own in values.items():
            own[held] = span.line(rows.good[whole], strength).values(features[held])
    return values


class Span:
    """Standardised features, in the space that their rows span: a regression there is the same, with fewer numbers."""

    def __init__(self, features: Array):
        """Take `features`, float64 `[rows, width]`."""
        self.centre, self.spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        left, sizes, right = np.linalg.svd((features - self.centre) / self.spread, full_matrices=False)
        kept = sizes > sizes[0] * 1e-5
        self.coordinates, self.axes = left[:, kept] * sizes[kept], right[kept]

    def line(self, good: Array, strength: float) -> Line:
        """Logistic regression of the labels, as a line over raw features."""
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000, tol=1e-6)
        model.fit(self.coordinates, good)
        weights = (model.coef_[0] @ self.axes) / self.spread
        return Line(weights, float(model.intercept_[0] - self.centre @ weights))


def calibrated(values: np.ndarray, rows: Rows) -> Scale:
    """Platt's scaling of held-out values, with the patience that explains beginnings best.

    Every example has the same weight, however many beginnings of it there are.
    """

    def loss(parameters: np.ndarray, patience: float) -> float:
        odds = Scale(parameters[0], parameters[1], patience).log_odds(values, rows.counts)
        return float(np.average(np.logaddexp(0, np.where(rows.good, -odds, odds)), weights=rows.weights))

    found = [(minimize(loss, np.array([1.0, 0.0]), args=(patience,)), patience) for patience in PATIENCE]
    best, patience = min(found, key=lambda one: float(one[0].fun))
    return Scale(float(best.x[0]), float(best.x[1]), patience)


def threshold_of(values: np.ndarray, good: np.ndarray, false_alarms: float | None) -> float:
    """The value above which an answer counts as good.

    Args:
        values: of held-out whole answers, `[answers]`.
        good: whether each is good.
        false_alarms: the share in [0, 1] of good answers that may not be above; None: where the mean of both shares of
            right verdicts is greatest.
    """
    if false_alarms is not None:
        return float(np.quantile(values[good], false_alarms))
    order = np.sort(values)
    cuts = (order[1:] + order[:-1]) / 2
    right = [np.mean(values[good] > cut) + np.mean(values[~good] <= cut) for cut in cuts]
    return float(np.median(cuts[np.isclose(right, max(right))]))
