"""From a number per token to one for the text so far. All are linear, so that states may be pooled as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Pooled = tuple[np.ndarray, np.ndarray]
"""What is pooled up to each token, `[tokens, ...]`, and over how many tokens that is about, float64 `[tokens]`."""

HALF_LIFE = 16.0
"""Tokens after which a token counts half, where later ones count more."""


def mean(values: np.ndarray) -> Pooled:
    """The mean over all tokens so far of `values` `[tokens, ...]`."""
    counts = np.arange(1, len(values) + 1, dtype=np.float64)
    return np.cumsum(values, axis=0) / _like(counts, values), counts


def exponential(values: np.ndarray) -> Pooled:
    """A mean in which a token counts half after `HALF_LIFE` further ones."""
    decay = 0.5 ** (1 / HALF_LIFE)
    sums = np.empty_like(values, dtype=np.float64)
    total = np.zeros(values.shape[1:])
    for place, value in enumerate(values):
        sums[place] = total = decay * total + value
    counts = (1 - decay ** np.arange(1, len(values) + 1)) / (1 - decay)
    return sums / _like(counts, values), counts


def _like(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, *[1] * (values.ndim - 1))


POOLINGS: dict[str, Callable[[np.ndarray], Pooled]] = {"mean": mean, "exponential": exponential}
