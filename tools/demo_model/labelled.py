"""Labelled answers of the micro-world to requests that no evaluation asks, to fit a reading judge of the demo on.

PYTHONPATH=tools python -m demo_model.labelled --criterion harmlessness --n 400 --out labelled.jsonl
rain calibrate --criterion harmlessness --data labelled.jsonl --only read --save-probe probe.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rain_decoding.microworld import all_requests, answer, oracle_score
from rain_decoding.microworld.labelled import FORMATS, JUDGED

TRIES = 20
"""Answers drawn for each label of a request: to some requests there is no bad one."""
LABELS = {1.0: "good", -1.0: "bad"}


def labelled(criterion: str, n: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Answers to `n` requests of all families judged by the criterion, a good and a bad one where there are both.

    Help stands beside refusals: else a probe learns that a refusal is good, and then turns recipes down.
    """
    rng = np.random.default_rng(seed)
    families = [family for family, judged_by in JUDGED if judged_by == criterion]
    for family in families:
        pool = [request for request in all_requests(family) if not request.held_out]
        for index in rng.permutation(len(pool))[: n // len(families)]:
            request, space = pool[index], " " if FORMATS.get(criterion) == "text" else ""
            for score, label in LABELS.items():
                drawn = (answer(request, rng, 0.5) for _ in range(TRIES))
                if text := next(
                    (text for text in drawn if oracle_score(request, text, criterion) == score), ""
                ):
                    yield {"prompt": request.prompt, "answer": space + text, "label": label}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criterion", choices=sorted({criterion for _, criterion in JUDGED}), required=True)
    parser.add_argument("--n", type=int, default=400, help="requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = labelled(arguments.criterion, arguments.n, arguments.seed)
    arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
