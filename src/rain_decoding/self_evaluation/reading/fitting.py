"""Fitting a probe: which layer, pooling and regularisation, and what its numbers mean, all on folds held out.

Folds are drawn by group, so that what is said of a prompt is never tried on an answer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from rain_decoding.self_evaluation.reading.states import Rows
from rain_decoding.types import Array, Layer

STRENGTHS = (1e-3, 1e-2)
"""Inverse regularisation strengths (C) to choose from."""
MARGIN = 0.01
"""What an unusual choice must gain in AUC: less is chance, and the usual one transfers better."""
BEGINNING = 0.25
"""What an answer's beginning weighs in the fit, beside 1 for the whole."""
PATIENCE = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""To choose from: after so many tokens, a value counts half of what it counts after many."""
FOLDS = 5

Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""Numbers of the rows to fit on, and of those held out."""


class Choice(NamedTuple):
    """How a probe is made."""

    layers: tuple[Layer, ...]
    pooling: str
    strength: float


class Lines(NamedTuple):
    """One regression a layer: the mean of their values is positive where an answer looks good."""

    weights: np.ndarray
    """`[layers, width]`."""
    bias: float


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
    lines: Lines
    scale: Scale
    held_out: np.ndarray

    def line(self, threshold: float) -> dict[str, Any]:
        """What a `Line` is made of, with this threshold."""
        return {
            "pooling": self.choice.pooling,
            **self.lines._asdict(),
            **self.scale._asdict(),
            "threshold": threshold,
        }


def fit(rows: Rows, *, seed: int = 0, choice: Choice | None = None) -> Fitted:
    """The probe whose held-out values put good whole answers before bad ones most often, or that of a `choice`.

    All layers together, and the mean over the tokens, are kept to unless another choice is better by `MARGIN`. Raises
    `ValueError` where the rows have too few groups or one label only.
    """
    folds = folds_of(rows, seed)
    if choice is not None:
        return _fitted(choice, _held_out(rows, choice.pooling, choice.strength, folds)[choice.layers], rows)
    held_out = {
        Choice(layers, pooling, strength): values
        for pooling, strength in product(rows.poolings, STRENGTHS)
        for layers, values in _held_out(rows, pooling, strength, folds).items()
    }
    whole = rows.whole

    def area(choice: Choice) -> float:
        unusual = choice.layers != rows.layers, choice.pooling != rows.poolings[0]
        return float(roc_auc_score(rows.good[whole], held_out[choice][whole])) - MARGIN * sum(unusual)

    best = max(held_out, key=area)
    return _fitted(best, held_out[best], rows)


def _fitted(choice: Choice, held_out: Array, rows: Rows) -> Fitted:
    """Fitted on all rows, as it was chosen."""
    lines = _lines([line_of(rows, layer, choice.pooling, choice.strength) for layer in choice.layers])
    return Fitted(choice, lines, calibrated(held_out, rows), held_out)


def folds_of(rows: Rows, seed: int) -> Folds:
    """Folds by group, with both labels in each."""
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(split.split(rows.good, rows.good, rows.groups))


def _held_out(rows: Rows, pooling: str, strength: float, folds: Folds) -> dict[tuple[Layer, ...], Array]:
    """Values of all rows by folds without them: of all layers together, and of each alone."""
    values = np.empty((len(rows.layers), len(rows.good)))
    for place, layer in enumerate(rows.layers):
        features = rows.of(layer, pooling)
        for fitted, held in folds:
            weights, bias = line_of(rows.only(fitted), layer, pooling, strength)
            values[place, held] = features[held] @ weights + bias
    together = {rows.layers: values.mean(axis=0)}
    return together | {(layer,): own for layer, own in zip(rows.layers, values, strict=True)}


def line_of(rows: Rows, layer: Layer, pooling: str, strength: float) -> tuple[Array, float]:
    """Logistic regression of the labels on standardised features, as weights `[width]` and bias over raw ones.

    A beginning weighs `BEGINNING` as much as a whole answer, and both labels weigh the same.
    """
    features = rows.of(layer, pooling)
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    weights = np.where(rows.whole, 1.0, BEGINNING)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    # One thread: so small a product gains nothing by more, which wait long for each other on a busy machine.
    with threadpool_limits(1):
        model.fit((features - centre) / spread, rows.good, sample_weight=weights)
    own = model.coef_[0] / spread
    return own, float(model.intercept_[0] - centre @ own)


def _lines(lines: Sequence[tuple[Array, float]]) -> Lines:
    return Lines(np.stack([weights for weights, _ in lines]), float(np.mean([bias for _, bias in lines])))


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
