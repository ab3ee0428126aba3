"""States of answers with a known direction in them: what a probe has to find."""

from __future__ import annotations

import numpy as np

from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.probe import Probe
from rain_decoding.self_evaluation.reading.states import States
from rain_decoding.types import Message

WIDTH = 12


def example(number: int, good: bool, group: str) -> ReadingExample:
    return ReadingExample((Message("user", f"Question {number}?"),), f"Answer {number}.", good, group)


def answers(
    n: int = 200,
    *,
    layers: tuple[int, ...] = (1, 2, 3),
    telling: int = 2,
    strength: float = 3.0,
    seed: int = 0,
) -> tuple[list[tuple[int, States]], list[ReadingExample]]:
    """`n` answers, two to a group, of 3 to 40 tokens.

    In the layer `telling`, each token of a good answer lies `strength` along the first axis, of a bad one as far the
    other way; what else differs between groups is large, and means nothing.
    """
    rng = np.random.default_rng(seed)
    examples = [example(number, number % 2 == 0, f"group {number // 2}") for number in range(n)]
    states = []
    for number, each in enumerate(examples):
        if number % 2 == 0:
            own = rng.normal(size=(len(layers), 1, WIDTH)) * 2
        length = int(rng.integers(3, 41))
        drawn = rng.normal(size=(len(layers), 1 + length, WIDTH)) * 3 + own
        drawn[layers.index(telling), 1:, 0] += strength if each.good else -strength
        states.append((number, States(drawn[:, :1].astype(np.float32), drawn.astype(np.float32))))
    return states, examples


def probe(**changes: object) -> Probe:
    values: dict[str, object] = {
        "model": "m" * 32,
        "model_name": "model",
        "criterion_name": "kind",
        "examples": "e" * 64,
        "layers": (2,),
        "pooling": "mean",
        "weights": np.array([[1.0, -2.0, 0.5, 0.25]]),
        "bias": 0.5,
        "patience": 4.0,
        "slope": 2.0,
        "intercept": -0.25,
        "threshold": 0.75,
        "false_alarms": 0.05,
        "figures": {"auc": 0.9},
    }
    return Probe(**(values | changes))  # type: ignore[arg-type]
