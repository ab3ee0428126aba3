"""From labelled answers to a probe that says how good it is."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from rain_decoding.backends.base import Backend
from rain_decoding.errors import InputError
from rain_decoding.measurement.statistics import mean_of_rates, rate, roc_area, upper_bound
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_hash
from rain_decoding.self_evaluation.reading.fitting import Fitted, fit, folds_of, threshold_of
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.reading.states import (
    LONGEST,
    Rows,
    States,
    layers_to_read,
    pooled_rows,
    read_states,
)
from rain_decoding.self_evaluation.reading.wary import learn_wary
from rain_decoding.self_evaluation.reading.words import Words
from rain_decoding.types import Array

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
        measured_on: numbers of the examples that threshold and figures are of (held out, as always); None: all.
        longest: tokens of an answer that are read at most.
        told: called after every example that was read, of as many as there are.
        wary: the same examples and others behind them, for a wary line, see `wary_examples`; none: without one.

    Raises:
        InputError: there are too few examples of a label.
        UnsupportedError: the backend gives no hidden states.
    """
    states = read_examples(backend, wary or examples, longest=longest, prompt_format=prompt_format, told=told)
    layers = layers_to_read(backend.capabilities.layers)
    ours = [(number, each) for number, each in states if number < len(examples)]
    rows = pooled_rows(ours, examples, layers)
    probe = learn_from(
        rows, examples, backend, criterion, false_alarms=false_alarms, measured_on=measured_on, seed=seed
    )
    return replace(probe, wary=learn_wary(states, wary, layers, probe.layers, seed=seed)) if wary else probe


def read_rows(
    backend: Backend,
    examples: Sequence[ReadingExample],
    *,
    prompt_format: PromptFormat = "auto",
    told: Callable[[], object] = lambda: None,
) -> Rows:
    """Pooled states of the examples in the layers that a probe reads. Raises as `learn`."""
    states = read_examples(backend, examples, prompt_format=prompt_format, told=told)
    return pooled_rows(states, examples, layers_to_read(backend.capabilities.layers))


def read_examples(
    backend: Backend,
    examples: Sequence[ReadingExample],
    *,
    longest: int = LONGEST,
    prompt_format: PromptFormat = "auto",
    told: Callable[[], object] = lambda: None,
) -> list[tuple[int, States]]:
    """States of the examples in the layers that a probe reads. Raises as `learn`."""
    for label, count in (
        ("good", sum(each.good for each in examples)),
        ("bad", sum(not each.good for each in examples)),
    ):
        if count < LEAST:
            raise InputError(
                f"{count} {label} examples", hint=f"reading needs at least {LEAST} of each label"
            )
    layers = layers_to_read(backend.capabilities.layers)
    states = []
    for each in read_states(backend, examples, layers, longest=longest, prompt_format=prompt_format):
        states.append(each)
        told()
    return states


def nested_values(
    rows: Rows, measured_on: Container[int], *, false_alarms: float | None = None, seed: int = 0
) -> dict[int, float]:
    """For each of the examples `measured_on` how far its value lies above the threshold, float.

    Layers, pooling, strength, weights and threshold all come from folds without it, so that no choice flatters.
    """
    ours = rows.whole & np.array([number in measured_on for number in rows.examples])
    found: dict[int, float] = {}
    for learned, held in folds_of(rows, seed + 1):
        rest = rows.only(learned)
        fitted = fit(rest, seed=seed)
        own = rest.whole & np.array([number in measured_on for number in rest.examples])
        threshold = threshold_of(fitted.held_out[own], rest.good[own], false_alarms)
        mine = held[ours[held]]
        values = fitted.values(rows.only(mine)) - threshold
        found.update(zip(rows.examples[mine].tolist(), values.tolist(), strict=True))
    return found


def learn_from(
    rows: Rows,
    examples: Sequence[ReadingExample],
    backend: Backend,
    criterion: str,
    *,
    false_alarms: float | None = None,
    measured_on: Container[int] | None = None,
    seed: int = 0,
) -> Probe:
    """As `learn`, from the pooled states of the examples by the backend's model."""
    fitted = fit(rows, seed=seed)
    chosen = rows.whole & np.array([measured_on is None or number in measured_on for number in rows.examples])
    values, good = fitted.held_out[chosen], rows.good[chosen]
    threshold = threshold_of(values, good, false_alarms)
    return Probe(
        model=backend.fingerprint,
        model_name=backend.name,
        criterion_name=criterion,
        examples=examples_hash(examples),
        layers=fitted.choice.layers,
        **fitted.line(threshold),
        false_alarms=float(np.mean(values[good] <= threshold)),
        figures=figures(fitted, rows, chosen, examples, threshold, seed),
    )


def figures(
    fitted: Fitted,
    rows: Rows,
    chosen: Array,
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
