#!/usr/bin/env python3
"""Whether a model tells true answers from false ones: `python -m real_models.truth --model gguf:FILE --questions CSV`.

A probe is fitted on the built-in examples of `truthfulness` and tried on TruthfulQA's own answers: of each question the
best one, and the first of the false ones. Beside it stand words fitted on the same examples and, with `--ask N`, the
model asked about both answers to N of the questions, by every form of question. Prints one JSON object a line.

CSV is the released TruthfulQA.csv, with `Question`, `Best Answer` and `Incorrect Answers` (separated by semicolons).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rain_decoding import load_backend, load_criterion
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.learning import learn_from, read_examples
from rain_decoding.self_evaluation.reading.reader import ENOUGH
from rain_decoding.self_evaluation.reading.states import BRIEF
from rain_decoding.self_evaluation.reading.words import Words
from rain_decoding.types import Message
from real_models.reading import areas, asked, whole

CRITERION = "truthfulness"


def answers(path: Path, count: int) -> Iterator[ReadingExample]:
    """A true and a false answer to each of `count` questions, drawn by a fixed seed."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Incorrect Answers"].strip()]
    for place in sorted(np.random.default_rng(0).permutation(len(rows))[:count]):
        row = rows[place]
        false = row["Incorrect Answers"].split(";")[0].strip()
        for text, good in ((row["Best Answer"].strip(), True), (false, False)):
            messages = (Message("user", row["Question"].strip()),)
            yield ReadingExample(messages, text, good, row["Question"], "true" if good else "false")


def first_questions(examples: Sequence[ReadingExample], count: int) -> Sequence[ReadingExample]:
    """The answers to the first `count` questions, of examples as `answers` gives them."""
    return examples[: 2 * count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100, help="questions")
    parser.add_argument("--ask", type=int, default=0, help="questions whose answers are asked about, too")
    options = parser.parse_args()
    backend = load_backend(options.model)
    criterion = load_criterion(CRITERION, search_dirs=backend.criteria_dirs)

    def say(**figures: Any) -> None:
        print(json.dumps({"model": Path(options.model).name, **figures}), flush=True)

    ours = read_examples(backend, examples_of(criterion)[:ENOUGH], longest=BRIEF)
    probe = learn_from(ours, backend, CRITERION)
    say(set="built-in, folds held out", **probe.figures)
    theirs = read_examples(backend, list(answers(options.questions, options.n)))
    say(set="TruthfulQA", judge="read", **areas(whole(theirs, probe), theirs.examples, 0.0))
    words = Words(ours.examples).log_odds(theirs.examples)
    say(set="TruthfulQA", judge="words", **areas(words, theirs.examples, 0.0))
    if options.ask:
        some = first_questions(theirs.examples, options.ask)
        asked(backend, some, criterion, partial(say, set="TruthfulQA"))


if __name__ == "__main__":
    main()
