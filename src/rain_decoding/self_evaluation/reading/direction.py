"""Where hidden states have to go for a reading judge to find a text better: along its probe's weights."""

from __future__ import annotations

import numpy as np

from rain_decoding.backends.directions import Direction
from rain_decoding.self_evaluation.cascade import CascadeJudge
from rain_decoding.self_evaluation.combination import CombinedJudge
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator
from rain_decoding.self_evaluation.reading.judge import ReadingJudge
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.wrapping import WrappedJudge


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


def direction_of(probe: Probe, strength: float) -> Direction:
    """The direction in which the probe's value grows fastest, in each of its layers.

    Of its weights those for the answer's tokens count, not those for the state before the answer.
    """
    own = np.split(probe.weights, 2, axis=1)[0]
    lengths = np.linalg.norm(own, axis=1, keepdims=True)
    vectors = own / np.maximum(lengths, np.finfo(own.dtype).tiny)
    return Direction(probe.layers, vectors.astype(np.float32), strength)
