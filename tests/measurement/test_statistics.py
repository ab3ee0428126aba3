"""Rates and paired differences against hand-computed values and simulated coverage."""

import random

import numpy as np
import pytest
from scipy.stats import binom, norm

from rain_decoding.measurement.statistics import (
    Estimate,
    corrected_rate,
    kappa,
    least_for,
    mean,
    mean_of_rates,
    nominal_alpha,
    paired_difference,
    rate,
    ratio_of_means,
    removed_share,
    roc_area,
    share,
    surely_below,
    upper_bound,
)


def test_rate_is_wilsons_interval():
    # Wilson for 8 of 10 at z = 1.959964: centre (0.8 + z^2/20) / (1 + z^2/10), half width by hand.
    z = 1.959963984540054
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    half = z / (1 + z**2 / 10) * np.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    estimate = rate([True] * 8 + [False] * 2)
    assert estimate is not None
    assert estimate.value == 0.8
    assert estimate.low == pytest.approx(centre - half)
    assert estimate.high == pytest.approx(centre + half)
    assert estimate.n == 10


def test_nothing_measured_is_none():
    assert rate([]) is None
    assert paired_difference([], [], []) is None
    assert removed_share([0, 0], [1, 0], ["a", "b"]) is None


def test_removed_share_counts_what_came_back():
    # 4 before; of these 3 are gone, and one new one came: (4 - 2) / 4.
    estimate = removed_share([1, 1, 1, 1, 0], [0, 0, 0, 1, 1], list("abcde"))
    assert estimate is not None
    assert estimate.value == 0.5


def test_equal_samples_have_no_difference():
    estimate = paired_difference([1, 0, 1], [1, 0, 1], ["a", "b", "c"])
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_clusters_widen_the_interval():
    """Twenty copies of each sample carry no more information than one, if they belong to one cluster."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, 40).astype(float)
    ours, zeros = np.repeat(base, 20), np.zeros(800)
    by_cluster = paired_difference(ours, zeros, np.repeat(np.arange(40), 20).tolist())
    as_if_free = paired_difference(ours, zeros, list(range(800)))
    assert by_cluster is not None and as_if_free is not None
    assert by_cluster.high - by_cluster.low > 3 * (as_if_free.high - as_if_free.low)
    # The normal approximation over 40 independent clusters.
    half = 1.96 * base.std() / np.sqrt(40)
    assert by_cluster.high - by_cluster.low == pytest.approx(2 * half, rel=0.15)


def test_coverage_of_the_interval():
    """The 95% interval holds the true difference in about 95% of simulated experiments."""
    rng = np.random.default_rng(2)
    hits, runs = 0, 120
    for run in range(runs):
        subjects = rng.normal(0.3, 0.5, 30)
        values = (subjects[:, None] + rng.normal(0, 0.3, (30, 4))).ravel()
        estimate = paired_difference(values, np.zeros(120), np.repeat(np.arange(30), 4).tolist(), seed=run)
        assert estimate is not None
        hits += estimate.low <= 0.3 <= estimate.high
    assert 0.87 <= hits / runs <= 0.99


def test_half_successes_are_shares():
    assert share(0, 0) is None
    whole, halves = rate([True] * 3 + [False]), share(3.0, 4)
    assert whole == halves


def test_the_mean_of_two_rates_by_hand():
    # Wilson for 8 of 10: 0.490 to 0.943; for 5 of 10: 0.237 to 0.763; both distances as squares, halved.
    estimate = mean_of_rates(rate([True] * 8 + [False] * 2), rate([True] * 5 + [False] * 5))
    assert estimate is not None and estimate.n == 20
    assert estimate.value == pytest.approx(0.65)
    assert estimate.low == pytest.approx(0.65 - np.hypot(0.3098, 0.2634) / 2, abs=2e-4)
    assert estimate.high == pytest.approx(0.65 + np.hypot(0.1434, 0.2634) / 2, abs=2e-4)
    assert mean_of_rates(None, estimate) is None


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_coverage_of_an_area_under_the_curve(shift):
    """Normal scores a distance apart: the true area is known, and the interval holds it in about 95% of 400 draws."""
    rng = np.random.default_rng(3)
    truth, hits = norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(400):
        good, bad = rng.normal(shift, 1, 30), rng.normal(0, 1, 40)
        estimate = roc_area(float(np.mean(good[:, None] > bad[None, :])), 30, 40)
        hits += estimate.low <= truth <= estimate.high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_perfect_area_is_not_certain():
    few, many = roc_area(1.0, 3, 3), roc_area(1.0, 300, 300)
    assert few.high == many.high == 1.0
    assert few.low < 0.6 < 0.97 < many.low
    worst = roc_area(0.0, 3, 3)
    assert (worst.low, worst.high) == (0.0, pytest.approx(1 - few.low))


def test_few_samples_show_no_small_difference():
    assert surely_below(Estimate(0.0, 0.0, 0.0, 123), 0.03)
    assert not surely_below(Estimate(0.0, 0.0, 0.0, 122), 0.03)
    assert not surely_below(Estimate(0.0, -0.1, 0.031, 5000), 0.03)
    assert not surely_below(None, 0.03)


def test_a_rate_over_clusters_is_as_uncertain_as_over_their_number():
    flags, clusters = [True] * 8 + [False] * 2, list("abcdefghij")
    assert rate(flags, clusters) == rate(flags), "every sample is a cluster of its own"
    copies = rate(flags * 5, clusters * 5)
    assert copies is not None and copies.n == 50
    alone = rate(flags)
    assert alone is not None and (copies.low, copies.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert rate([True] * 50, clusters * 5).low == pytest.approx(rate([True] * 10).low)  # type: ignore[union-attr]


def test_coverage_of_a_rate_over_clusters():
    """Clusters that differ much: the 95% interval holds the true rate in about 95% of simulated experiments."""
    rng = np.random.default_rng(3)
    hits = naive = 0
    for _ in range(400):
        chances = rng.beta(0.5, 0.5, 30)
        flags = (rng.random((30, 6)) < chances[:, None]).ravel().tolist()
        clustered, free = rate(flags, np.repeat(np.arange(30), 6).tolist()), rate(flags)
        assert clustered is not None and free is not None
        hits += clustered.low <= 0.5 <= clustered.high
        naive += free.low <= 0.5 <= free.high
    assert 0.91 <= hits / 400 <= 0.98 and naive / 400 < 0.8


def test_the_mean_of_costs():
    estimate = mean([1, 2, 3, 10], list("aabb"))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (4, 1.5, 6.5)


def coincidences(units: list[list[str]]) -> float:
    """Krippendorff's alpha by his coincidence matrix (2011, section C), written out pair by pair."""
    matrix: dict[tuple[str, str], float] = {}
    for unit in units:
        for i, one in enumerate(unit):
            for j, other in enumerate(unit):
                if i != j:
                    matrix[one, other] = matrix.get((one, other), 0) + 1 / (len(unit) - 1)
    values = sorted({value for pair in matrix for value in pair})
    totals = {value: sum(matrix.get((value, other), 0) for other in values) for value in values}
    n = sum(totals.values())
    chance = sum(total * (total - 1) for total in totals.values())
    agreed = sum(matrix.get((value, value), 0) for value in values)
    return ((n - 1) * agreed - chance) / (n * (n - 1) - chance)


def test_alpha_of_the_example_in_krippendorff_2011() -> None:
    # "Computing Krippendorff's Alpha-Reliability", section C: nominal data, four observers, twelve units, 0.743.
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert {len(row) for row in rows} == {12}
    units = [[row[unit] for row in rows if row[unit] != "."] for unit in range(12)]
    assert nominal_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_and_kappa_of_random_labels_by_other_formulas() -> None:
    rng = random.Random(0)
    for _ in range(100):
        kinds = "abcd"[: rng.randint(2, 4)]
        units = [[rng.choice(kinds) for _ in range(rng.randint(0, 4))] for _ in range(20)]
        paired = [unit for unit in units if len(unit) > 1]
        assert nominal_alpha(units) == pytest.approx(coincidences(paired))
        ours, theirs = ([rng.choice(kinds) for _ in range(30)] for _ in range(2))
        agreed = sum(a == b for a, b in zip(ours, theirs, strict=True)) / 30
        chance = sum(ours.count(kind) * theirs.count(kind) for kind in kinds) / 30**2
        assert kappa(ours, theirs) == pytest.approx((agreed - chance) / (1 - chance))


def test_alpha_and_kappa_of_one_label_throughout_say_nothing() -> None:
    assert nominal_alpha([["a", "a"], ["a", "a", "a"], ["b"]]) is None
    assert nominal_alpha([]) is None
    assert kappa(["a", "a"], ["a", "a"]) is None and kappa([], []) is None
    assert nominal_alpha([["a", "a"], ["b", "b"]]) == 1


def test_a_ratio_of_means_is_not_the_mean_of_ratios() -> None:
    found = ratio_of_means([2, 8, 30], [1, 2, 10], ["a", "b", "c"])
    assert found is not None and found.value == pytest.approx(40 / 13)
    assert 2 <= found.low < found.value < found.high <= 4, "within the ratios of single clusters"
    assert ratio_of_means([1, 2], [0, 0], ["a", "b"]) is None


def test_a_corrected_rate_is_the_true_one_where_the_errors_are_known() -> None:
    sure = Estimate(0.9, 0.9, 0.9, 10**6), Estimate(0.8, 0.8, 0.8, 10**6)
    for truth in (0.0, 0.2, 0.7, 1.0):
        seen = truth * 0.9 + (1 - truth) * 0.2
        found = corrected_rate(Estimate(seen, seen, seen, 50), *sure)
        assert found is not None and found.value == pytest.approx(truth) and found.n == 50
        assert found.low == pytest.approx(found.high)
    assert corrected_rate(Estimate(0.5, 0.4, 0.6, 50), sure[0], Estimate(0.1, 0.0, 0.2, 10)) is None


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.8])
def test_the_interval_of_a_corrected_rate_covers_the_truth(truth: float) -> None:
    rng, yes, no, covered = np.random.default_rng(5), 0.85, 0.9, 0
    for _ in range(400):
        seen = rng.binomial(120, truth * yes + (1 - truth) * (1 - no))
        apparent = share(seen, 120)
        known = share(rng.binomial(60, yes), 60), share(rng.binomial(90, no), 90)
        assert apparent and known[0] and known[1]
        found = corrected_rate(apparent, known[0], known[1])
        assert found is not None and 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= truth <= found.high
    assert covered / 400 > 0.92


@pytest.mark.parametrize(("events", "n"), [(0, 20), (1, 20), (3, 160), (19, 20)])
def test_an_upper_bound_is_where_so_few_events_would_be_too_lucky(events: int, n: int) -> None:
    bound = upper_bound(events, n)
    assert binom.cdf(events, n, bound) == pytest.approx(0.05)
    assert upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n)) and upper_bound(n, n) == 1


@pytest.mark.parametrize("rate_wanted", [0.01, 0.05, 0.3])
def test_samples_that_a_bound_takes(rate_wanted: float) -> None:
    least = least_for(rate_wanted)
    assert upper_bound(0, least) <= rate_wanted < upper_bound(0, least - 1)


@pytest.mark.parametrize("wanted", [0.02, 0.1])
def test_the_bound_holds_for_a_threshold_that_was_put_by_the_same_samples(wanted: float) -> None:
    rng = np.random.default_rng(4)
    missed, n = 0, 80
    for _ in range(1000):
        values = rng.random(n)  # a threshold t has the false alarm rate t
        threshold = float(np.quantile(values, wanted))
        missed += threshold > upper_bound(int((values <= threshold).sum()), n)
    assert missed / 1000 < 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
