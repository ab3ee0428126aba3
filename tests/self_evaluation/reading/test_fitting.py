"""Fitting: it finds the layer that tells, does not fool itself, and its probabilities are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from self_evaluation.reading import synthetic
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from rain_decoding.self_evaluation.reading.fitting import Fitted, fit, folds_of, line_of, threshold_of
from rain_decoding.self_evaluation.reading.states import BEGINNINGS, Rows, layers_to_read, pooled_rows

LAYERS = (1, 2, 3)


def values_of(fitted: Fitted, rows: Rows) -> np.ndarray:
    """What the fitted lines make of other rows."""
    choice, (weights, bias) = fitted.choice, fitted.lines
    own = [rows.of(layer, choice.pooling) @ each for layer, each in zip(choice.layers, weights, strict=True)]
    return np.mean(own, axis=0) + bias


@pytest.fixture(scope="module")
def rows() -> Rows:
    states, examples = synthetic.answers(layers=LAYERS)
    return pooled_rows(states, examples, LAYERS)


def test_rows_are_pooled_beginnings() -> None:
    states, examples = synthetic.answers(4, layers=LAYERS)
    rows = pooled_rows(states, examples, LAYERS)
    for number, (_, each) in states:
        own = rows.only(rows.examples == number)
        length = each.shape[1] - 1
        ends = [end for end in BEGINNINGS if end < length] + [length]
        assert own.counts.tolist() == ends and own.whole.tolist() == [False] * (len(ends) - 1) + [True]
        parts = [np.concatenate([each[1, 1 : end + 1].mean(axis=0), each[1, 0]]) for end in ends]
        assert own.of(2, "mean") == pytest.approx(np.stack(parts), abs=1e-4)
        assert own.weights.sum() == pytest.approx(1) and set(own.good) == {examples[number].good}


def test_the_telling_layer_is_found_and_orders_new_answers(rows: Rows) -> None:
    fitted = fit(rows)
    assert fitted.choice.layers == (2,)
    fresh, examples = synthetic.answers(layers=LAYERS, seed=9)
    others = pooled_rows(fresh, examples, LAYERS)
    values = values_of(fitted, others)
    whole = others.whole
    assert roc_auc_score(others.good[whole], values[whole]) > 0.9
    held = roc_auc_score(rows.good[rows.whole], fitted.held_out[rows.whole])
    assert abs(roc_auc_score(others.good[whole], values[whole]) - held) < 0.06, (
        "held-out figures do not flatter"
    )


def test_where_nothing_tells_held_out_figures_say_so() -> None:
    states, examples = synthetic.answers(layers=LAYERS, strength=0.0)
    rows = pooled_rows(states, examples, LAYERS)
    fitted = fit(rows)
    assert 0.3 < roc_auc_score(rows.good[rows.whole], fitted.held_out[rows.whole]) < 0.65


def test_probabilities_are_shares_on_new_answers(rows: Rows) -> None:
    fitted = fit(rows)
    fresh, examples = synthetic.answers(2000, layers=LAYERS, seed=5)
    others = pooled_rows(fresh, examples, LAYERS)
    values = values_of(fitted, others)
    said = expit(fitted.scale.log_odds(values, others.counts))
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.6, 0.8), (0.8, 1.0)):
        chosen = (said >= low) & (said <= high)
        assert abs(others.good[chosen].mean() - said[chosen].mean()) < 0.12, f"{low}-{high}: {chosen.sum()}"


def test_a_group_is_never_on_both_sides(rows: Rows) -> None:
    for fitted, held in folds_of(rows, 0):
        assert not set(rows.groups[fitted]) & set(rows.groups[held])
        assert set(rows.good[held]) == {True, False}


def test_the_line_is_that_of_a_plain_regression(rows: Rows) -> None:
    features, whole = rows.of(2, "mean"), rows.whole
    weights, bias = line_of(rows.only(whole), 2, "mean", 0.1)
    plain = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000, tol=1e-8)
    scaler = StandardScaler().fit(features[whole])
    plain.fit(scaler.transform(features[whole]), rows.good[whole])
    expected = plain.decision_function(scaler.transform(features))
    assert features @ weights + bias == pytest.approx(expected, abs=1e-2)


def test_beginnings_weigh_a_quarter(rows: Rows) -> None:
    """As if every whole answer stood there four times."""
    often = np.concatenate([np.flatnonzero(~rows.whole), np.repeat(np.flatnonzero(rows.whole), 4)])
    scaler = StandardScaler().fit(rows.of(2, "mean"))
    labels = [np.count_nonzero(rows.good == label) for label in (False, True)]
    balance = {
        label: len(rows.good) / (2 * count) for label, count in zip((False, True), labels, strict=True)
    }
    plain = LogisticRegression(C=0.1 / 4, class_weight=balance, max_iter=1000, tol=1e-8)
    plain.fit(scaler.transform(rows.of(2, "mean")[often]), rows.good[often])
    weights, bias = line_of(rows, 2, "mean", 0.1)
    features = rows.of(2, "mean")
    expected = plain.decision_function(scaler.transform(features))
    assert features @ weights + bias == pytest.approx(expected, abs=1e-2)


def test_together_they_stay_unless_one_alone_is_clearly_better() -> None:
    """Every layer tells the same, each with noise of its own."""
    states, examples = synthetic.answers(layers=LAYERS, strength=1.5)
    for _, (_, each) in states:
        each[:, 1:, 0] = each[LAYERS.index(2), 1:, 0] + np.random.default_rng(each.size).normal(
            size=(*each.shape[:1], 1)
        )
    assert fit(pooled_rows(states, examples, LAYERS)).choice.layers == LAYERS


def test_the_same_seed_gives_the_same_probe(rows: Rows) -> None:
    one, other = fit(rows), fit(rows)
    assert one.choice == other.choice and np.array_equal(one.lines.weights, other.lines.weights)


def test_thresholds() -> None:
    values = np.array([-3.0, -2.0, -1.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    good = np.array([False, False, True, False, True, True, True, True])
    assert threshold_of(values, good, None) == pytest.approx(0.75)
    assert threshold_of(values, good, 0.0) == -1.0
    assert threshold_of(values, good, 0.25) == pytest.approx(np.quantile(values[good], 0.25))


@pytest.mark.parametrize(
    ("layers", "tried"),
    [((0,), (0,)), ((*range(1, 31), 0), (18, 21, 26)), ((1, 0), (1,)), ((1, 2, 3, 4), (2, 3))],
)
def test_layers_to_read(layers: tuple[int, ...], tried: tuple[int, ...]) -> None:
    assert layers_to_read(layers) == tried
