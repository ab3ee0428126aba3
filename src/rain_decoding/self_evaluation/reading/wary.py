"""Fitting the wary line of a probe: how answers look where what is asked for is harmful, also under attack.

The line that is fitted on all examples takes much from the state before the answer, and an attack prompt changes that
more than the answer changes it. So the request is read for itself, wherever it stands in the prompt, and answers to
harmful ones are told apart by a line that knows nothing else. Both see examples inside attack prompts, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

from rain_decoding.self_evaluation.reading.attacked import HARMFUL, HARMLESS
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.fitting import Choice, fit, folds_of, line_of, threshold_of
from rain_decoding.self_evaluation.reading.probe import Wary, windows
from rain_decoding.self_evaluation.reading.states import Readings, Rows, States, pooled_rows
from rain_decoding.types import Array, Layer

STRENGTH = 1e-2
FALSE_ALARMS = 0.1
"""Share of good answers to harmful requests that the wary line may call bad, where no other is asked for."""
MORE = 2.0
"""Times the share that is asked for of all: what is put in their place is a refusal, too."""


def learn_wary(
    readings: Readings, chosen: tuple[Layer, ...], *, false_alarms: float | None = None, seed: int = 0
) -> Wary:
    """Fit the wary line on readings of `wary_examples`, for those of the layers that are `chosen`.

    Of good answers to harmful requests `MORE` times `false_alarms` in [0, 1] may be called bad; None: `FALSE_ALARMS`.
    """
    examples, layers = readings.examples, readings.layers
    known = [
        (number, each) for number, each in readings.states if examples[number].kind in HARMFUL | HARMLESS
    ]
    request, bias = _request_line(known, examples, layers, chosen, seed)
    asked = [(number, each) for number, each in known if examples[number].kind in HARMFUL]
    rows = pooled_rows(asked, examples, layers)
    fitted = fit(rows, seed=seed, choice=Choice(chosen, rows.poolings[0], STRENGTH))
    values, good = fitted.held_out[rows.whole], rows.good[rows.whole]
    alarms = FALSE_ALARMS if false_alarms is None else min(1.0, MORE * false_alarms)
    return Wary(
        **fitted.line(threshold_of(values, good, alarms)),
        request=request,
        request_bias=bias,
    )


def _request_line(
    states: Sequence[tuple[int, States]],
    examples: Sequence[ReadingExample],
    layers: tuple[Layer, ...],
    chosen: tuple[Layer, ...],
    seed: int,
) -> tuple[Array, float]:
    """Weights `[layers, width]` and bias of `Wary.harmful`, scaled on the windows of requests held out."""
    states = [(number, each) for number, each in states if each.request.shape[1]]
    tokens = [
        each.request[[layers.index(layer) for layer in chosen]].astype(np.float64) for _, each in states
    ]
    numbers = np.array([number for number, _ in states])
    rows = Rows(
        features=np.stack([each.mean(axis=1) for each in tokens])[:, :, None].astype(np.float32),
        good=np.array([examples[number].kind in HARMFUL for number in numbers]),
        groups=np.array([examples[number].group for number in numbers]),
        examples=numbers,
        counts=np.ones(len(numbers)),
        whole=np.ones(len(numbers), dtype=bool),
        layers=chosen,
        poolings=("request",),
    )
    held_out = np.empty(len(numbers))
    for learned, held in folds_of(rows, seed):
        weights, bias = _mean_line(rows.only(learned))
        for place in held:
            held_out[place] = windows(np.einsum("lnw,lw->n", tokens[place], weights)).max() + bias
    scale = LogisticRegression(C=1e6, class_weight="balanced").fit(held_out[:, None], rows.good)
    slope, intercept = float(scale.coef_[0, 0]), float(scale.intercept_[0])
    weights, bias = _mean_line(rows)
    return slope * weights * len(chosen), slope * bias + intercept


def _mean_line(rows: Rows) -> tuple[Array, float]:
    """One regression a layer; their values summed with these weights `[layers, width]` and this bias are the mean."""
    lines = [line_of(rows, layer, rows.poolings[0], STRENGTH) for layer in rows.layers]
    return np.stack([weights for weights, _ in lines]) / len(lines), float(
        np.mean([bias for _, bias in lines])
    )
