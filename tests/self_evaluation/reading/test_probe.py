"""Probes: their numbers by the formula, token by token, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from self_evaluation.reading.synthetic import probe

from rain_decoding import ConfigError
from rain_decoding.self_evaluation.reading.pooling import HALF_LIFE, POOLINGS, exponential, mean
from rain_decoding.self_evaluation.reading.probe import load_probe
from rain_decoding.types import VALUES

STATES = np.array([[[1.0, 2.0], [1.0, 0.0], [0.0, 1.0], [4.0, 0.5]]], dtype=np.float32)


def test_log_odds_and_scores_by_hand() -> None:
    # Projections 1, -2, 3; their running means 1, -0.5, 2/3; what stands before adds 1, the bias 0.5.
    values, evidence = np.array([2.5, 1.0, 13 / 6]), 2 * np.array([1 / 5, 2 / 6, 3 / 7])
    assert probe().log_odds(STATES) == pytest.approx(evidence * values - 0.25)
    assert probe().scores(STATES) == pytest.approx(np.tanh(evidence * (values - 0.75) / 2))


def test_layers_are_averaged() -> None:
    weights = np.random.default_rng(3).normal(size=(2, 4))
    states = np.random.default_rng(4).normal(size=(2, 9, 2)).astype(np.float32)
    both = probe(layers=(1, 2), weights=weights)
    alone = [probe(weights=weights[[place]]).log_odds(states[[place]]) for place in (0, 1)]
    assert both.log_odds(states) == pytest.approx(np.mean(alone, axis=0))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_beginning_scores_as_in_the_whole(pooling: str) -> None:
    states = np.random.default_rng(0).normal(size=(1, 50, 2)).astype(np.float32)
    one = probe(pooling=pooling)
    for end in (1, 7, 49):
        assert one.scores(states[:, : end + 1]) == pytest.approx(one.scores(states)[:end])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_states_may_be_pooled_before_or_after_they_are_projected(pooling: str) -> None:
    states = np.random.default_rng(1).normal(size=(20, 5))
    weights = np.arange(5.0)
    pooled, counts = POOLINGS[pooling](states)
    projected, again = POOLINGS[pooling](states @ weights)
    assert projected == pytest.approx(pooled @ weights) and counts == pytest.approx(again)


def test_poolings_against_plain_sums() -> None:
    values = np.random.default_rng(2).normal(size=30)
    weights = 0.5 ** (np.arange(30)[::-1] / HALF_LIFE)
    assert mean(values)[0][-1] == pytest.approx(values.mean()) and mean(values)[1][-1] == 30
    assert exponential(values)[0][-1] == pytest.approx((values * weights).sum() / weights.sum())
    assert exponential(values)[1][-1] == pytest.approx(weights.sum())


def test_a_saved_probe_is_the_same(tmp_path: Path) -> None:
    probe().save(tmp_path / "probe.json")
    again = load_probe(tmp_path / "probe.json")
    assert np.array_equal(again.scores(STATES), probe().scores(STATES))
    assert (again.layers, again.figures, again.criterion_name) == ((2,), {"auc": 0.9}, "kind")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "no probe of the form"),
        ({"pooling": "best"}, "pooling = 'best'"),
        ({"layers": ["two"]}, "layers = .'two'"),
        ({"layers": [-2]}, "layers = .-2"),
        ({"layers": []}, "layers = "),
        ({"layers": [1, 2]}, "not two a layer"),
        ({"weights": [[1.0, None]]}, "no complete probe"),
        ({"weights": [[1.0, float("nan"), 0.0, 1.0]]}, "no finite number"),
        ({"slope": float("inf")}, "no finite number"),
        ({"weights": [[1.0, 2.0, 3.0]]}, "not two a layer"),
        ({"more": 1}, "more"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "probe.json"
    probe().save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_probe(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "not json"])
def test_what_is_no_probe(tmp_path: Path, text: str) -> None:
    (tmp_path / "probe.json").write_text(text)
    with pytest.raises(ConfigError, match="no probe"):
        load_probe(tmp_path / "probe.json")
    with pytest.raises(ConfigError, match="no probe"):
        load_probe(tmp_path / "missing.json")


def test_it_holds_for_its_model_and_criterion_only() -> None:
    own: dict[str, Any] = {
        "model": "m" * 32,
        "model_name": "model",
        "criterion_name": "kind",
        "layers": (1, 2),
    }
    probe().check(**own)
    with pytest.raises(ConfigError, match="of the model model, not other"):
        probe().check(**own | {"model": "x" * 32, "model_name": "other"})
    with pytest.raises(ConfigError, match="'kind', not 'helpful'"):
        probe().check(**own | {"criterion_name": "helpful"})
    with pytest.raises(ConfigError, match="does not give here"):
        probe().check(**own | {"layers": (VALUES,)})


@pytest.mark.parametrize("pooling", ["mean", "exponential"])
@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
def test_of_a_fixed_length_it_is_linear(pooling: str, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    own = probe(pooling=pooling, layers=(1, 2, 3), weights=rng.normal(size=(3, 8)))
    states = rng.normal(size=(3, 1 + tokens, 4))
    linear = own.linear(tokens)
    odds = float((linear.weights * states).sum()) + linear.constant
    assert odds == pytest.approx(own.log_odds(states)[-1])
    assert (odds > linear.threshold) == (own.scores(states)[-1] > 0)
