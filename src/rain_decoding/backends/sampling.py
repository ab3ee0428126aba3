"""From logits and uniform numbers to tokens. One rule for every local backend.

A draw takes the first token id whose cumulative probability, in the order of ids, exceeds the uniform number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rain_decoding.types import LogitBias, Tokens


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Float64 probabilities along the last axis."""
    above = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at a tiny temperature, all but the largest come to nothing
        exponentials = np.exp(above / temperature)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def biased(logits: np.ndarray, bias: LogitBias, answers: Sequence[Tokens]) -> np.ndarray:
    """Logits `[n, vocabulary]` behind as many answers so far, with the bias added."""
    logits = logits.copy()
    for token, value in bias.tokens:
        logits[:, token] += value
    if bias.frequency or bias.presence:
        for row, answer in zip(logits, answers, strict=True):
            held, counts = np.unique(np.array(answer, dtype=np.int64), return_counts=True)
            row[held] -= bias.frequency * counts + bias.presence
    return logits


PLAUSIBLE = 0.1
"""Tokens less probable than this share of the most probable one are none that contrast may choose."""
WIDEST = 20.0
"""No difference between two prompts' log-probabilities counts more, in nats: one of them may rule a token out."""


def contrasted(own: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """Logits `[n, vocabulary]` with those of another prompt counting `weight` >= 0 times against them, float64.

    What is improbable by its `own` logits stays impossible (contrastive decoding, arXiv 2210.15097): else the contrast
    would be largest where both prompts say nothing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        here, there = np.log(softmax(own)), np.log(softmax(other))
        scores = here + weight * np.minimum(here - there, WIDEST)
    implausible = here < np.log(PLAUSIBLE) + here.max(axis=-1, keepdims=True)
    return np.where(implausible, -np.inf, scores)


def conditionals(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may be drawn and their probabilities: ids int64 `[n, m]`, ascending, and float64 `[n, m]`.

    `logits` are `[n, vocabulary]`. `top_k` keeps the k most probable tokens and all that tie with the last of them
    (0: all). `top_p` keeps the smallest set of most probable tokens that holds at least that probability. What is
    kept is renormalised; rows that keep fewer tokens than others end in entries of probability 0.
    """
    ids, kept = _most_probable(logits, top_k)
    probs = softmax(kept, temperature)
    return ids, _nucleus(probs, top_p) if top_p < 1.0 else probs


def _most_probable(logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and logits of the `top_k` largest of each row and their ties; -inf where a row has fewer than another."""
    rows, size = logits.shape
    if not 0 < top_k < size:
        return np.broadcast_to(np.arange(size), logits.shape), logits
    threshold = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
    row, column = np.nonzero(logits >= threshold)
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.zeros((rows, counts.max()), dtype=np.int64)
    kept = np.full(ids.shape, -np.inf, dtype=logits.dtype)
    ids[row, place], kept[row, place] = column, logits[row, column]
    return ids, kept


def _nucleus(probs: np.ndarray, top_p: float) -> np.ndarray:
    order = np.argsort(-probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    ordered[before >= top_p] = 0.0
    kept = np.zeros_like(probs)
    np.put_along_axis(kept, order, ordered, axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


def draw(probs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The place drawn in each row of `probs` `[n, m]` by uniform numbers `[n]` in [0, 1)."""
    cumulative = np.cumsum(probs, axis=1)
    above = cumulative > (uniform * cumulative[:, -1])[:, None]
    return np.argmax(above, axis=1)


def log_probability(logits: np.ndarray, token: int) -> float:
    """Natural logarithm of one token's probability, from one row of logits."""
    above = logits - logits.max()
    return float(above[token]) - math.log(np.exp(above).sum(dtype=np.float64))


def most_probable(probs: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The `count` most probable ids of one row with their probabilities; ties by lower id; none of probability 0."""
    order = np.argsort(-probs, kind="stable")[:count]
    return [(int(token), float(probs[token])) for token in order if probs[token] > 0]
