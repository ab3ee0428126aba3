"""Rates with intervals, and paired differences bootstrapped by cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy.stats import bootstrap, norm

RESAMPLES = 2000
Z = float(norm.ppf(0.975))
"""Half width of a 95% interval, in standard deviations."""


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
    """Share of true flags with Wilson's interval; None without samples.

    Flags of one cluster tell less than as many independent ones. So the interval is that of the effective number
    of samples: as many as would vary as much if they were independent, and one per cluster where all flags agree.
    """
    if not flags:
        return None
    values = np.array([bool(flag) for flag in flags], dtype=float)
    share, n = float(values.mean()), len(values)
    low, high = _wilson(share, n if clusters is None else _effective_size(values - share, clusters))
    return Estimate(share, low, high, n)


def _wilson(share: float, n: float) -> tuple[float, float]:
    centre, half = share + Z**2 / (2 * n), Z * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = ((centre + side * half) / (1 + Z**2 / n) for side in (-1, 1))
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def _effective_size(residuals: np.ndarray, clusters: Sequence[Hashable]) -> float:
    """How many independent samples have a mean that varies as that of these clustered ones."""
    sums = np.array(list(_sums(residuals[:, None], clusters).values()))[:, 0]
    n, groups = len(residuals), len(sums)
    if not residuals.any() or not sums.any() or groups < 2:
        return groups
    # The design effect: the clusters' variance over that of independent samples, both unbiased.
    clustered = float((sums**2).sum()) * groups / (groups - 1)
    free = float((residuals**2).sum()) * n / (n - 1)
    return min(n, max(1.0, n * free / clustered))


def _sums(rows: Iterable[Sequence[float] | np.ndarray], clusters: Sequence[Hashable]) -> dict[Hashable, Any]:
    """The sum of the rows of each cluster."""
    sums: dict[Hashable, Any] = defaultdict(float)
    for row, cluster in zip(rows, clusters, strict=True):
        sums[cluster] = sums[cluster] + np.asarray(row, dtype=float)
    return sums


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0
) -> Estimate | None:
    """Mean of `ours - theirs` over paired samples; the interval resamples whole clusters."""
    differences = [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
    return _cluster_ratio(differences, [1.0] * len(differences), clusters, seed=seed)


def mean(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Estimate | None:
    """Mean of the values; the interval resamples whole clusters."""
    return paired_difference(values, [0.0] * len(values), clusters, seed=seed)


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
    sums = _sums(list(zip(numerators, denominators, strict=True)), clusters)
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
