"""From readings to a probe: what is said of an answer comes from folds that have not seen it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from self_evaluation.reading import synthetic
from self_evaluation.reading.test_wary import LAYERS, drawn
from sklearn.metrics import roc_auc_score

from rain_decoding.self_evaluation.reading.fitting import folds_of
from rain_decoding.self_evaluation.reading.learning import learn_from, nested_scores
from rain_decoding.self_evaluation.reading.states import Readings
from rain_decoding.self_evaluation.reading.wary import learn_wary


def readings(n: int = 200, **kind: Any) -> Readings:
    states, examples = synthetic.answers(n, layers=LAYERS, **kind)
    return Readings(examples, states, LAYERS)


def area(found: Readings, scores: dict[int, float]) -> float:
    numbers = sorted(scores)
    return float(
        roc_auc_score([found.examples[each].good for each in numbers], [scores[each] for each in numbers])
    )


@pytest.mark.parametrize("careful", [False, True])
def test_nested_scores_are_those_of_probes_fitted_without_the_answer(demo: Any, careful: bool) -> None:
    own, wary = drawn(1, 90), drawn(2) if careful else None
    own = replace(own, examples=[replace(each, kind="") for each in own.examples])
    found = nested_scores(own, range(90), wary=wary, seed=3)
    assert set(found) == set(range(90))
    rows = own.rows()
    for learned, held in folds_of(rows, 4):
        rest = sorted(set(rows.examples[learned].tolist()))
        probe = learn_from(own.only(rest), demo, "kind", seed=3, wary=wary)
        at = [LAYERS.index(layer) for layer in probe.layers]
        for number in set(rows.examples[held].tolist()):
            states = dict(own.states)[number]
            score = probe.scores(states.answer[at], probe.harmful(states.request[at]))[-1]
            assert found[number] == pytest.approx(score)


def test_fewer_false_alarms_hold_for_both_lines(demo: Any) -> None:
    own, wary = drawn(1, 90), drawn(2)
    usual, strict = (learn_from(own, demo, "kind", false_alarms=alarms, wary=wary) for alarms in (0.05, 0.02))
    assert usual.wary is not None and strict.wary is not None
    assert usual.wary.threshold == learn_wary(wary, usual.layers).threshold
    assert strict.wary.threshold < usual.wary.threshold and strict.threshold < usual.threshold


def test_nested_scores_of_labels_without_meaning_are_those_of_a_coin() -> None:
    found = readings(strength=0.0)
    assert 0.3 < area(found, nested_scores(found, range(200))) < 0.7


def test_a_few_measured_answers_that_no_fold_but_one_has(demo: Any) -> None:
    found = readings()
    probe = learn_from(found, demo, "kind", measured_on=range(2))
    assert probe.figures["examples"] == 2 and np.isfinite(probe.figures["words_auc"])
    assert set(nested_scores(found, range(2))) == {0, 1}


def test_readings_are_put_together_and_parted() -> None:
    one, other = readings(6), readings(4, seed=1)
    both = replace(one, states=one.states[1:]) + other  # the first did not fit
    assert [number for number, _ in both.states] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert both.examples == [*one.examples, *other.examples]
    some = both.only([7, 0, 2, 7])
    assert [number for number, _ in some.states] == [0, 2, 3]
    assert (
        some.states[0][1] is other.states[1][1] is some.states[2][1] and some.examples[2] is one.examples[2]
    )
    assert both.first(7).examples == both.examples[:7] and len(both.first(99).examples) == 10
