"""Rates, ranks and means with 95% intervals, and paired differences bootstrapped by cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from math import hypot, log, sqrt
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import bootstrap

RESAMPLES = 2000
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


def rate(flags: Sequence[bool]) -> Estimate | None:
    """Share of true flags with Wilson's interval; None without samples."""
    return share(sum(map(bool, flags)), len(flags))


def share(successes: float, n: int) -> Estimate | None:
    """`successes` of `n` with Wilson's interval. Half successes make it wider than it need be."""
    if not n:
        return None
    value = successes / n
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return Estimate(value, max(centre - half, 0.0), min(centre + half, 1.0), n)


def mean_of_rates(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """The mean of two independent rates; the interval adds theirs up as squares (Newcombe 1998, MOVER)."""
    if one is None or other is None:
        return None
    value = (one.value + other.value) / 2
    low = value - hypot(one.value - one.low, other.value - other.low) / 2
    high = value + hypot(one.high - one.value, other.high - other.value) / 2
    return Estimate(value, low, high, one.n + other.n)


def roc_area(value: float, positives: int, negatives: int) -> Estimate:
    """An area under the ROC curve in [0, 1] with the interval of Newcombe (2006, method 5).

    As Wilson's, it solves for the areas from which the value lies 1.96 standard deviations away, so that it does
    not shrink to a point at 0 and 1. The deviation is that of Hanley and McNeil.
    """

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
    """Mean of the values; the interval resamples whole clusters."""
    return paired_difference(values, [0.0] * len(values), clusters, seed=seed)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Mean of `ours - theirs` over paired samples; the interval resamples whole clusters."""
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
    """Share of what was counted before that is gone after: (sum before - sum after) / sum before."""
    differences = [float(a) - float(b) for a, b in zip(before, after, strict=True)]
    return _cluster_ratio(differences, [float(value) for value in before], clusters, seed=seed)


def _cluster_ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable], *, seed: int
) -> Estimate | None:
    """Sum of numerators over sum of denominators, with a percentile interval from resampled clusters."""
    if not numerators or not sum(denominators):
        return None
    sums: dict[Hashable, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for numerator, denominator, cluster in zip(numerators, denominators, clusters, strict=True):
        sums[cluster] += (numerator, denominator)
    tops, bottoms = np.array(list(sums.values())).T
    value = float(tops.sum() / bottoms.sum())
    if len(sums) < 2 or np.allclose(tops, value * bottoms):
        return Estimate(value, value, value, len(numerators))
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
