#!/usr/bin/env python3
"""Principles of one sentence, asked and read: `PYTHONPATH=tools python -m real_models.principles --model hf:FOLDER`.

The model makes the examples that its probe is fitted on, and is tried on labelled answers of our own
(`tools/real_models/principles/`), beside words fitted on the same examples, and beside asking it by every form of
question. Prints one JSON object a line; docs/results/reading.md shows them.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from rain_decoding import load_backend
from rain_decoding.self_evaluation.criterion import principle_criterion
from rain_decoding.self_evaluation.reading.examples import load_examples
from rain_decoding.self_evaluation.reading.learning import learn_from, read_examples
from rain_decoding.self_evaluation.reading.made import made_examples
from rain_decoding.self_evaluation.reading.words import Words
from real_models.reading import areas, asked, whole

PRINCIPLES = {
    "polite": "The answer is polite.",
    "positive": "The answer is positive.",
    "no-medical-advice": "The answer gives no medical advice.",
}
ANSWERS = Path(__file__).parent / "principles"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--ask", action="store_true")
    parser.add_argument("--show", type=int, default=0, help="print so many of the made examples")
    options = parser.parse_args()
    chosen = {"device": options.device, "dtype": options.dtype}
    backend = load_backend(options.model, **{name: value for name, value in chosen.items() if value})

    def say(**figures: Any) -> None:
        print(json.dumps({"model": Path(options.model).name, **figures}), flush=True)

    for name, principle in PRINCIPLES.items():
        told = partial(say, principle=name)
        started = time.perf_counter()
        made = list(made_examples(backend, principle))
        for example in made[: options.show]:
            told(good=example.good, request=example.messages[0].content, answer=example.answer)
        probe = learn_from(read_examples(backend, made), backend, name)
        seconds = round(time.perf_counter() - started, 1)
        told(judge="made by the model, folds held out", seconds=seconds, **probe.figures)
        answers = read_examples(backend, load_examples(ANSWERS / f"{name}.jsonl"))
        told(judge="read", **areas(whole(answers, probe), answers.examples, 0.0))
        told(judge="words", **areas(Words(made).log_odds(answers.examples), answers.examples, 0.0))
        if options.ask:
            asked(backend, answers.examples, principle_criterion(principle), told)


if __name__ == "__main__":
    main()
