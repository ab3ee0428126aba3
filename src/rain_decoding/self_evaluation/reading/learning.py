"""From labelled answers to a probe that says how good it is."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from rain_decoding.backends.base import Backend
from rain_decoding.errors import InputError
from rain_decoding.measurement.statistics import mean_of_rates, rate, roc_area, upper_bound
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_hash
from rain_decoding.self_evaluation.reading.fitting import Fitted, fit, folds_of, threshold_of
from rain_decoding.self_evaluation.reading.probe import Line, Probe, Wary, mixed_scores
from rain_decoding.self_evaluation.reading.states import (
    LONGEST,
    Readings,
    Rows,
    layers_to_read,
    read_states,
)
from rain_decoding.self_evaluation.reading.wary import learn_wary
from rain_decoding.self_evaluation.reading.words import Words
from rain_decoding.types import Layer

LEAST = 20
"""Examples of each label without which nothing is fitted."""


def learn(
    backend: Backend,
    examples: Sequence[ReadingExample],
    criterion: str,
    *,
    false_alarms: float | None = None,
    measured_on: Container[int] | None = None,
    prompt_format: PromptFormat = "auto",
    seed: int = 0,
    longest: int = LONGEST,
    told: Callable[[], object] = lambda: None,
    wary: Sequence[ReadingExample] = (),
) -> Probe:
    """Fit a probe of `criterion` for the backend's model on labelled examples.

    Args:
        false_alarms: share in [0, 1] of good answers that may be called bad; None: what makes most verdicts right.
        measured_on: numbers of the examples that figures are of (held out, as always), and the threshold, if there are
            `LEAST` of each label; None: all.
        longest: tokens of an answer that are read at most.
        told: called after every example that was read, of as many as there are.
        wary: the same examples and others behind them, for a wary line, see `wary_examples`; none: without one.

    Raises:
        InputError: there are too few examples of a label.
        UnsupportedError: the backend gives no hidden states.
    """
    for label, count in (
        ("good", sum(each.good for each in examples)),
        ("bad", sum(not each.good for each in examples)),
    ):
        if count < LEAST:
            raise InputError(
                f"{count} {label} examples", hint=f"reading needs at least {LEAST} of each label"
            )
    read = read_examples(backend, wary or examples, longest=longest, prompt_format=prompt_format, told=told)
    return learn_from(
        read.first(len(examples)),
        backend,
        criterion,
        false_alarms=false_alarms,
        measured_on=measured_on,
        seed=seed,
        wary=read if wary else None,
    )


def read_examples(
    backend: Backend,
    examples: Sequence[ReadingExample],
    *,
    longest: int = LONGEST,
    prompt_format: PromptFormat = "auto",
    told: Callable[[], object] = lambda: None,
) -> Readings:
    """The examples in the layers that a probe reads. Raises `UnsupportedError` where the backend gives none."""
    layers = layers_to_read(backend.capabilities.layers)
    states = []
    for each in read_states(backend, examples, layers, longest=longest, prompt_format=prompt_format):
        states.append(each)
        told()
    return Readings(examples, states, layers)


def nested_scores(
    readings: Readings,
    measured_on: Container[int],
    *,
    false_alarms: float | None = None,
    seed: int = 0,
    wary: Readings | None = None,
) -> dict[int, float]:
    """Scores in [-1, 1] of the whole answers among the examples `measured_on`, as `learn_from`'s probe gives them.

    Layers, pooling, strength, weights and threshold all come from folds without the answer, so that no choice flatters.
    """
    rows, states = readings.rows(), dict(readings.states)
    ours = _chosen(rows, measured_on)
    wary_line = cache(partial(_wary_line, wary, false_alarms=false_alarms, seed=seed))
    found: dict[int, float] = {}
    for learned, held in folds_of(rows, seed + 1):
        rest = rows.only(learned)
        fitted = fit(rest, seed=seed)
        line = Line(**fitted.line(_threshold(fitted, rest, _chosen(rest, measured_on), false_alarms)))
        also = wary_line(fitted.choice.layers)
        at = [rows.layers.index(layer) for layer in fitted.choice.layers]
        for number in rows.examples[held[ours[held]]].tolist():
            request, answer = states[number]
            harmful = also.harmful(request[at]) if also else 0.0
            found[number] = float(mixed_scores(line, also, answer[at], harmful)[-1])
    return found


def learn_from(
    readings: Readings,
    backend: Backend,
    criterion: str,
    *,
    false_alarms: float | None = None,
    measured_on: Container[int] | None = None,
    seed: int = 0,
    wary: Readings | None = None,
) -> Probe:
    """As `learn`, from readings of the examples by the backend's model, and of those of the wary line."""
    rows = readings.rows()
    fitted = fit(rows, seed=seed)
    chosen = _chosen(rows, measured_on)
    values, good = fitted.held_out[chosen], rows.good[chosen]
    threshold = _threshold(fitted, rows, chosen, false_alarms)
    return Probe(
        model=backend.fingerprint,
        model_name=backend.name,
        criterion_name=criterion,
        examples=examples_hash(readings.examples),
        layers=fitted.choice.layers,
        **fitted.line(threshold),
        false_alarms=float(np.mean(values[good] <= threshold)),
        wary=_wary_line(wary, fitted.choice.layers, false_alarms=false_alarms, seed=seed),
        figures=figures(fitted, rows, chosen, readings.examples, threshold, seed),
    )


def _wary_line(
    wary: Readings | None, layers: tuple[Layer, ...], *, false_alarms: float | None, seed: int
) -> Wary | None:
    return None if wary is None else learn_wary(wary, layers, false_alarms=false_alarms, seed=seed)


def _chosen(rows: Rows, measured_on: Container[int] | None) -> np.ndarray:
    """Which rows are whole answers of the examples `measured_on`; None: of all."""
    numbers = rows.examples.tolist()
    return rows.whole & [measured_on is None or number in measured_on for number in numbers]


def _threshold(fitted: Fitted, rows: Rows, chosen: np.ndarray, false_alarms: float | None) -> float:
    """By the chosen rows; by all whole answers where there are too few of them to put a threshold by."""
    good = rows.good[chosen]
    enough = min(good.sum(), (~good).sum()) >= LEAST
    measured = chosen if enough else rows.whole
    return threshold_of(fitted.held_out[measured], rows.good[measured], false_alarms)


def figures(
    fitted: Fitted,
    rows: Rows,
    chosen: np.ndarray,
    examples: Sequence[ReadingExample],
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    """How well the `chosen` rows were judged while held out: AUC and balanced accuracy with 95% intervals.

    Of false alarms there is the bound that their rate is below with 95% confidence, for good answers like these.
    Beside them, the same of words, on the same folds.
    """
    words = np.full(len(rows.good), np.nan)
    for learned, held in folds_of(rows, seed):
        ours = [place for place in held if chosen[place]]
        known = [examples[number] for number in rows.examples[learned[rows.whole[learned]]]]
        if ours:
            words[ours] = Words(known).log_odds([examples[rows.examples[place]] for place in ours])
    values, good, groups = fitted.held_out[chosen], rows.good[chosen], rows.groups[chosen]
    good_right = rate((values[good] > threshold).tolist(), groups[good].tolist())
    bad_right = rate((values[~good] <= threshold).tolist(), groups[~good].tolist())
    assert good_right is not None and bad_right is not None, "there are answers of both labels"
    right = mean_of_rates(good_right, bad_right)
    area = roc_area(float(roc_auc_score(good, values)), int(good.sum()), int((~good).sum()))
    alarms, n = int((values[good] <= threshold).sum()), int(good.sum())
    return {
        "examples": len(good),
        "false_alarms": {"alarms": alarms, "of": n, "high": round(upper_bound(alarms, n), 4)},
        "strength": fitted.choice.strength,
        "auc": area.rounded(),
        "balanced_accuracy": right.rounded() if right else None,
        "good_right": good_right.rounded(),
        "bad_right": bad_right.rounded(),
        "words_auc": round(float(roc_auc_score(good, words[chosen])), 4),
    }
