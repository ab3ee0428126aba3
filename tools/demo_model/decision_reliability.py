"""How reliable the probabilities of decisions are on held-out answers of the demo world.

`PYTHONPATH=tools python -m demo_model.decision_reliability` prints the tables of docs/results/decisions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from rain_decoding import RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.calibration.labelled import LabelledAnswer
from rain_decoding.microworld.labelled import demo_answers
from rain_decoding.self_evaluation.decisions import probability
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.reading.learning import learn

ANSWERS = 200
EDGES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)


def asked(backend: Backend, criterion: str) -> RainDecoder:
    """The demo model, asked in both orders."""
    return RainDecoder(
        backend, criterion, SearchConfig.preset("balanced", votes="debiased", order_margin=1000.0)
    )


def read(backend: Backend, criterion: str, answers: Sequence[LabelledAnswer]) -> Evaluator:
    """A probe that was fitted on these answers."""
    examples = [
        ReadingExample(each.messages, each.answer.strip(), each.label == "positive", group=str(each.group))
        for each in answers
    ]
    return ReadingEvaluator(backend, learn(backend, examples, criterion), f"{criterion} (read)")


def told(decoder: RainDecoder, answers: Sequence[LabelledAnswer]) -> tuple[np.ndarray, np.ndarray]:
    """The probability that each answer is good, and whether it is."""
    found = [
        (probability(decoder.evaluator, decoder.judge(each.messages, each.answer.strip())), each.label)
        for each in answers
    ]
    scored = [(share, label == "positive") for share, label in found if share is not None]
    return np.array([share for share, _ in scored]), np.array([good for _, good in scored], dtype=float)


def row(name: str, shares: np.ndarray, good: np.ndarray) -> str:
    """Figures of one judge, and per range of probabilities: how many, their mean, and the share of good ones."""
    ranges = np.clip(np.digitize(shares, EDGES[1:-1]), 0, len(EDGES) - 2)
    cells, error = [], 0.0
    for place in range(len(EDGES) - 1):
        here = ranges == place
        if not here.any():
            cells.append("")
            continue
        gap = abs(shares[here].mean() - good[here].mean())
        error += gap * here.mean()
        cells.append(f"{here.sum()}: {shares[here].mean():.3f}, {good[here].mean():.3f}")
    right = ((shares > 0.5) == (good > 0.5)).mean()
    brier = ((shares - good) ** 2).mean()
    figures = f"{len(shares)} | {right:.1%} | {brier:.4f} | {error:.4f}"
    return f"| {name} | {figures} | " + " | ".join(cells) + " |"


def main() -> None:
    backend = load_backend("demo")
    heads = [f"{low:g} to {high:g}" for low, high in pairwise(EDGES)]
    print("| judge | answers | right | Brier score | calibration error | " + " | ".join(heads) + " |")
    print("|" + "---|" * (5 + len(heads)))
    for criterion in ("harmlessness", "helpfulness", "truthfulness"):
        answers = demo_answers(criterion, ANSWERS)
        print(row(f"{criterion}, asked", *told(asked(backend, criterion), answers)), flush=True)
    answers = demo_answers("harmlessness", ANSWERS)
    fitted_on = [each for each in answers if each.group % 2]
    held_out = [each for each in answers if not each.group % 2]
    reader = RainDecoder(backend, read(backend, "harmlessness", fitted_on))
    print(row("harmlessness, read", *told(reader, held_out)), flush=True)


if __name__ == "__main__":
    main()
