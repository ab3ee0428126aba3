"""Where hidden states have to go for a reading judge to find a text better: along its probe's weights."""

from __future__ import annotations

import numpy as np

from rain_decoding.backends.directions import Direction
from rain_decoding.self_evaluation.cascade import CascadeJudge
from rain_decoding.self_evaluation.combination import CombinedJudge
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.reading.judge import ReadingJudge
from rain_decoding.self_evaluation.reading.probe import Line, Probe
from rain_decoding.self_evaluation.wrapping import WrappedJudge
from rain_decoding.types import Array


def probe_of(judge: ConversationEvaluator) -> Probe | None:
    """The probe by which a judge reads the generating model's own states; of several, the first. None: it does not."""
    if isinstance(judge, WrappedJudge):
        return probe_of(judge.judging)
    if isinstance(judge, CascadeJudge):
        return probe_of(judge.reading)
    if isinstance(judge, CombinedJudge):
        return next((probe for part in judge.judges.values() if (probe := probe_of(part))), None)
    if isinstance(judge, ReadingJudge) and not judge.evaluator.along:
        return judge.evaluator.probe
    return None


def direction_of(probe: Probe, strength: float, harmful: float = 0.0) -> Direction:
    """The direction in which the probe's value grows fastest, in each of its layers.

    Of its weights those for the answer's tokens count, not those for the state before the answer. Where what is asked
    for is `harmful` with this probability in [0, 1], and there is a wary line, it lies so far between the two lines'
    directions, as the score does.
    """
    vectors = _unit(probe)
    if probe.wary is not None:
        mixed = (1 - harmful) * vectors + harmful * _unit(probe.wary)
        vectors = mixed / _lengths(mixed)
    return Direction(probe.layers, vectors.astype(np.float32), strength)


def _unit(line: Line) -> Array:
    """A line's weights for the answer's tokens, of length 1 in each layer, `[layers, width]`."""
    own: Array = np.split(line.weights, 2, axis=1)[0].astype(np.float64)
    return own / _lengths(own)


def _lengths(vectors: Array) -> Array:
    """Of each, at least the smallest number there is, `[layers, 1]`."""
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.maximum(lengths, np.finfo(vectors.dtype).tiny)
