"""Rates, ranks and means with 95% intervals, and paired differences bootstrapped by cluster.

scipy is imported where it is used: it takes longer than all else that a command starts with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, hypot, log, sqrt
from typing import Any

import numpy as np

RESAMPLES = 2000
ALPHA = 0.05
"""What a one-sided bound misses."""
Z = 1.959963984540054
"""Quantile of the normal distribution that a two-sided 95% interval reaches to."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval, over `n` samples."""

    value: float
    low: float
    high: float
    n: int

    def rounded(self) -> dict[str, Any]:
        """For JSON, to four places."""
        return {
            key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()
        }


def rate(flags: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Estimate | None:
    """Share of true flags, with Wilson's 95% interval.

    Args:
        flags: What was observed.
        clusters: The cluster of each flag; None: all are independent. Flags of one cluster tell less than
            independent ones, so the interval is that of the effective number of samples: as many as would vary as much
            if they were independent, and one per cluster where all flags agree.

    Returns:
        The share in [0, 1]; None without flags.
    """
    if clusters is None or not flags:
        return share(sum(map(bool, flags)), len(flags))
    values = np.array([bool(flag) for flag in flags], dtype=float)
    value = float(values.mean())
    return Estimate(value, *_wilson(value, _effective_size(values - value, clusters)), len(values))


def share(successes: float, n: int) -> Estimate | None:
    """`successes` of `n` with Wilson's interval. Half successes make it wider than it need be."""
    if not n:
        return None
    value = successes / n
    return Estimate(value, *_wilson(value, n), n)


def upper_bound(events: int, n: int) -> float:
    """What the probability of an event seen in `events` of `n` > 0 samples is below: one-sided, 95%, exact.

    Clopper and Pearson's bound. It also holds where a threshold was put so that just these events lie below it.
    """
    from scipy.stats import binomtest

    return float(binomtest(events, n, alternative="less").proportion_ci(1 - ALPHA, method="exact").high)


def least_for(bound: float) -> int:
    """Samples without which even no event at all gives no `upper_bound` as low as `bound` in (0, 1)."""
    return ceil(log(ALPHA) / log(1 - bound))


def _wilson(value: float, n: float) -> tuple[float, float]:
    """The interval of a share of `n` independent samples."""
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _effective_size(residuals: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """How many independent samples have a mean that varies as that of these clustered ones."""
    sums = _sums(residuals[:, None], clusters)[:, 0]
    n, groups = len(residuals), len(sums)
    if not residuals.any() or not sums.any() or groups < 2:
        return groups
    # The design effect: the clusters' variance over that of independent samples, both unbiased.
    clustered = float((sums**2).sum()) * groups / (groups - 1)
    free = float((residuals**2).sum()) * n / (n - 1)
    return min(n, max(1.0, n * free / clustered))


def _sums(rows: Iterable[Sequence[float] | np.ndarray], clusters: Sequence[Hashable]) -> np.ndarray:
    """The sum of the rows of each cluster, one row per cluster."""
    sums: dict[Hashable, Any] = defaultdict(float)
    for row, cluster in zip(rows, clusters, strict=True):
        sums[cluster] = sums[cluster] + np.asarray(row, dtype=float)
    return np.array(list(sums.values()))


def mean_of_rates(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """The mean of two independent rates; the interval adds theirs up as squares (Newcombe 1998, MOVER)."""
    if one is None or other is None:
        return None
    value = (one.value + other.value) / 2
    low = value - hypot(one.value - one.low, other.value - other.low) / 2
    high = value + hypot(one.high - one.value, other.high - other.value) / 2
    return Estimate(value, low, high, one.n + other.n)


def corrected_rate(apparent: Estimate, yes: Estimate, no: Estimate) -> Estimate | None:
    """A rate as it would be without the errors of the judge that counted (Rogan and Gladen 1978).

    The interval adds up what each of the three leaves open as squares, on the side where it moves the result (Newcombe
    1998, MOVER): it is wider than the apparent rate's, all the more where the judge is known from few answers.

    Args:
        apparent: The share of answers that the judge said yes of.
        yes: How often it says yes where the truth is yes, on answers of known truth.
        no: How often it says no where the truth is no.

    Returns:
        The share in [0, 1] whose truth is yes; None where the judge is no better than chance.
    """
    informed = yes.value + no.value - 1
    if informed <= 0:
        return None
    value = (apparent.value + no.value - 1) / informed

    def reach(of_apparent: float, of_no: float, of_yes: float) -> float:
        parts = (
            of_apparent - apparent.value,
            (1 - value) * (of_no - no.value),
            value * (of_yes - yes.value),
        )
        return hypot(*parts) / informed

    low = value - reach(apparent.low, no.low, yes.high)
    high = value + reach(apparent.high, no.high, yes.low)
    value, low, high = (min(max(each, 0.0), 1.0) for each in (value, low, high))
    return Estimate(value, low, high, apparent.n)


def roc_area(value: float, positives: int, negatives: int) -> Estimate:
    """An area under the ROC curve in [0, 1] with the interval of Newcombe (2006, method 5).

    As Wilson's, it solves for the areas from which the value lies 1.96 standard deviations away, so that it does
    not shrink to a point at 0 and 1. The deviation is that of Hanley and McNeil.
    """

    from scipy.optimize import brentq

    def low(area: float) -> float:
        def excess(theta: float) -> float:
            return (area - theta) ** 2 - (Z * _area_deviation(theta, positives, negatives)) ** 2

        return float(brentq(excess, 0.0, min(area, 1 - 1e-12))) if area > 0 else 0.0

    return Estimate(value, low(value), 1 - low(1 - value), positives + negatives)


def _area_deviation(theta: float, positives: int, negatives: int) -> float:
    size = (positives + negatives) / 2 - 1
    spread = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return sqrt(theta * (1 - theta) * spread / (positives * negatives))


def mean(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate | None:
    """Mean of values, with a 95% interval from resampled clusters.

    Args:
        values: What was observed.
        clusters: The cluster of each value.
        seed: Seed of the resampling.

    Returns:
        The mean; None without values.
    """
    return paired_difference(values, [0.0] * len(values), clusters, seed=seed)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Mean of `ours - theirs`, with a 95% interval from resampled clusters.

    Args:
        ours: Values of one side.
        theirs: Values of the other side for the same samples, in the same order.
        clusters: The cluster of each pair.
        seed: Seed of the resampling.

    Returns:
        The mean difference; None without samples.
    """
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    return _cluster_ratio(differences, [1.0] * len(differences), clusters, seed=seed)


def surely_below(difference: Estimate | None, margin: float) -> bool:
    """Whether a difference of shares is below `margin` at 95% confidence.

    With no event among n samples, the upper end of the 95% interval is log(40) / n, whatever a bootstrap says:
    fewer samples than log(40) / margin cannot show it.
    """
    return difference is not None and difference.n >= log(40) / margin and difference.high <= margin


def removed_share(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Share of what was counted before that is gone after: (sum before - sum after) / sum before.

    Args:
        before: Counts before.
        after: Counts after for the same samples, in the same order.
        clusters: The cluster of each sample.
        seed: Seed of the resampling.

    Returns:
        The share, at most 1, with a 95% interval; None where nothing was counted before.
    """
    differences = [float(a) - float(b) for a, b in zip(before, after, strict=True)]
    return _cluster_ratio(differences, [float(value) for value in before], clusters, seed=seed)


def ratio_of_means(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Mean of `ours` over the mean of `theirs`, with a 95% interval from resampled clusters.

    Args:
        ours: Values of one side.
        theirs: Values of the other side for the same samples, in the same order.
        clusters: The cluster of each pair.
        seed: Seed of the resampling.

    Returns:
        The ratio; None where `theirs` add up to 0.
    """
    return _cluster_ratio([float(v) for v in ours], [float(v) for v in theirs], clusters, seed=seed)


def _cluster_ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable], *, seed: int
) -> Estimate | None:
    """Sum of numerators over sum of denominators, with a percentile interval from resampled clusters."""
    if not numerators or not sum(denominators):
        return None
    tops, bottoms = _sums(list(zip(numerators, denominators, strict=True)), clusters).T
    value = float(tops.sum() / bottoms.sum())
    if len(tops) < 2 or np.allclose(tops, value * bottoms):
        return Estimate(value, value, value, len(numerators))
    from scipy.stats import bootstrap

    result = bootstrap(
        (tops, bottoms),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(low), float(high), len(numerators))


def _ratio(tops: np.ndarray, bottoms: np.ndarray, axis: int = -1) -> np.ndarray:
    total = bottoms.sum(axis=axis)
    return np.divide(tops.sum(axis=axis), total, out=np.zeros_like(total), where=total != 0)


def nominal_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for labels without an order: 1 is full agreement, 0 that of chance.

    `units` has the labels that each unit got, from however many raters labelled it; fewer than two say nothing. None
    where all labels are the same, since then nothing shows what chance would do (Krippendorff 2011, section C).
    """
    counts = [Counter(labels) for labels in units if len(labels) > 1]
    totals = sum(counts, Counter[Hashable]())
    n = totals.total()
    expected = sum(count * (n - count) for count in totals.values())
    if not expected:
        return None
    observed = sum(
        count * (unit.total() - count) / (unit.total() - 1) for unit in counts for count in unit.values()
    )
    return 1 - (n - 1) * observed / expected


def kappa(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two raters' labels; None where both gave one and the same label throughout, or none."""
    from sklearn.metrics import cohen_kappa_score

    if len({*ours, *theirs}) < 2:
        return None
    return float(cohen_kappa_score(ours, theirs))
