"""Rates with intervals, and paired differences bootstrapped by cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap

RESAMPLES = 2000


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
    if not flags:
        return None
    successes, n = sum(map(bool, flags)), len(flags)
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Mean of `ours - theirs` over paired samples; the interval resamples whole clusters."""
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    return _cluster_ratio(differences, [1.0] * len(differences), clusters, seed=seed)


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
