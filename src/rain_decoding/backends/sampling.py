"""From logits and uniform numbers to tokens. One rule for every local backend.

A draw takes the first token id whose cumulative probability, in the order of ids, exceeds the uniform number.
"""

from __future__ import annotations

import numpy as np


def probabilities(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Float64 probabilities `[n, vocabulary]` of logits of that shape.

    `top_k` keeps the k most probable tokens and all that tie with the last of them (0: all). `top_p` keeps the
    smallest set of most probable tokens that holds at least that probability. What is kept is renormalised.
    """
    scaled = logits.astype(np.float64) / temperature
    if 0 < top_k < scaled.shape[1]:
        threshold = np.partition(scaled, -top_k, axis=1)[:, -top_k, None]
        scaled = np.where(scaled >= threshold, scaled, -np.inf)
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result = exponentials / exponentials.sum(axis=1, keepdims=True)
    return _nucleus(result, top_p) if top_p < 1.0 else result


def _nucleus(probs: np.ndarray, top_p: float) -> np.ndarray:
    order = np.argsort(-probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    ordered[before >= top_p] = 0.0
    kept = np.zeros_like(probs)
    np.put_along_axis(kept, order, ordered, axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


def log_probability(logits: np.ndarray, token: int) -> float:
    """Natural logarithm of one token's probability, from one row of logits."""
    largest = logits.max()
    total = np.exp(logits - largest, dtype=np.float64).sum()
    return float(logits[token] - largest - np.log(total))


def draw(probs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One token id per row of `probs` `[n, vocabulary]` for uniform numbers `[n]` in [0, 1)."""
    cumulative = np.cumsum(probs, axis=1)
    above = cumulative > (uniform * cumulative[:, -1])[:, None]
    return np.argmax(above, axis=1)


def most_probable(probs: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The `count` most probable ids of one row with their probabilities; ties by lower id; none of probability 0."""
    order = np.argsort(-probs, kind="stable")[:count]
    return [(int(token), float(probs[token])) for token in order if probs[token] > 0]
