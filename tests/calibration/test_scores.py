"""What is read off scores, against formulas written out for every pair and every threshold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain_decoding.calibration.figures import score_figures
from rain_decoding.calibration.recommendation import fit, verdict
from rain_decoding.calibration.scores import Scores

VALUES = st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, np.nan])
ANSWERS = st.lists(st.tuples(VALUES, st.booleans(), st.integers(0, 3)), min_size=2, max_size=20).filter(
    lambda rows: len({good for _, good, _ in rows}) == 2
)


def scores(rows: list[tuple[float, bool, int]]) -> Scores:
    values, good, groups = zip(*rows, strict=True)
    return Scores(np.array(values, float), np.array(good, bool), np.array(groups, int))


def above(good: float, bad: float) -> float:
    return 0.5 if np.isnan(good) or np.isnan(bad) or good == bad else float(good > bad)


def right(value: float, good: bool, threshold: float) -> bool:
    return not np.isnan(value) and (value > threshold) == good


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_area_and_pairs_are_counts_over_all_pairs(rows: list[tuple[float, bool, int]]) -> None:
    found = scores(rows)
    pairs = [
        (above(value, other), group, beside)
        for value, good, group in rows
        for other, also_good, beside in rows
        if good and not also_good
    ]
    area = found.area()
    assert area is not None and area.value == pytest.approx(np.mean([won for won, *_ in pairs]))
    assert 0 <= area.low <= area.value <= area.high <= 1
    own = [
        np.mean([won for won, group, beside in pairs if group == beside == number])
        for number in range(4)
        if any(group == beside == number for _, group, beside in pairs)
    ]
    within = found.pair_accuracy()
    if own:
        assert within is not None and within.value == pytest.approx(np.mean(own)) and within.n == len(own)
    else:
        assert within is None


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.sampled_from([-0.3, 0.0, 0.25]))
def test_accuracies_count_what_is_unscored(rows: list[tuple[float, bool, int]], threshold: float) -> None:
    found = scores(rows)
    flags = [right(value, good, threshold) for value, good, _ in rows]
    by_label = [
        [flag for flag, row in zip(flags, rows, strict=True) if row[1] == label] for label in (True, False)
    ]
    accuracy, balanced = found.accuracy(threshold), found.balanced_accuracy(threshold)
    assert accuracy is not None and balanced is not None
    assert accuracy.value == pytest.approx(np.mean(flags)) and accuracy.n == len(rows)
    assert balanced.value == pytest.approx(np.mean([np.mean(own) for own in by_label]))
    weighted = found.weights() * found.right(threshold)
    assert weighted.mean() == pytest.approx(balanced.value)


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_the_best_threshold_is_the_best_of_all_between_two_scores(
    rows: list[tuple[float, bool, int]],
) -> None:
    found = scores(rows)

    def balanced(threshold: float) -> float:
        estimate = found.balanced_accuracy(threshold)
        assert estimate is not None
        return estimate.value

    known = sorted({value for value, *_ in rows if not np.isnan(value)})
    tried = [0.0, *((low + high) / 2 for low, high in pairwise(known))]
    best = max(tried, key=lambda threshold: (round(balanced(threshold), 9), -abs(threshold)))
    assert abs(found.best_threshold()) == abs(best)
    assert balanced(found.best_threshold()) == pytest.approx(balanced(best))


def test_the_curve_and_its_error_by_hand() -> None:
    found = score_figures(
        scores([(-1.0, False, 0), (-0.9, True, 1), (0.0, True, 2), (0.0, False, 3), (1.0, True, 4)])
    )
    predicted = [(point["predicted"], point["good"]["value"], point["good"]["n"]) for point in found["curve"]]
    assert predicted == [(0.025, 0.5, 2), (0.5, 0.5, 2), (1.0, 1.0, 1)]
    assert found["calibration_error"] == pytest.approx(0.4 * 0.475)


def drawn(n: int, shift: float, seed: int = 0) -> Scores:
    """Scores of as many good as bad answers whose means lie `shift` standard deviations apart."""
    rng = np.random.default_rng(seed)
    good = np.arange(n) % 2 == 0
    return Scores(np.tanh(rng.normal(np.where(good, shift / 2, -shift / 2), 1)), good, np.arange(n))


@pytest.mark.parametrize(
    ("n", "shift", "expected"),
    [
        (400, 2.0, "better"),
        (400, 0.0, "chance"),
        (400, -2.0, "chance"),
        (10, 0.0, "undecided"),
        (4, 9.0, "undecided"),
    ],
)
def test_the_verdict(n: int, shift: float, expected: str) -> None:
    found, reason = judged_by_itself(n, shift)
    assert found == expected
    assert ("labels swapped" in reason) == (shift < 0) and ("more examples" in reason) == (
        expected == "undecided"
    )


def judged_by_itself(n: int, shift: float, seed: int = 0) -> tuple[str, str]:
    own = drawn(n, shift, seed)
    return verdict(own, own.right())


def test_a_coin_is_hardly_ever_called_better() -> None:
    """The lower ends of two-sided 95% intervals: at most 2.5% of 400 experiments, 10, within 3 deviations."""
    verdicts = [judged_by_itself(200, 0.0, seed)[0] for seed in range(400)]
    assert verdicts.count("better") <= 19


def test_noise_does_not_move_the_threshold() -> None:
    """The true best threshold is 0; on the answers themselves nearly always another looks better."""
    found = [
        (own.best_threshold(), fit(own, 0).threshold) for own in (drawn(100, 1.0, seed) for seed in range(60))
    ]
    assert sum(best != 0 for best, _ in found) > 50
    assert sum(taken != 0 for _, taken in found) <= 6
    shifted = drawn(400, 2.0)
    moved = fit(Scores(np.tanh(np.arctanh(shifted.values) + 1.5), shifted.good, shifted.groups), 0)
    assert np.tanh(1.0) < moved.threshold < np.tanh(2.0)
