"""A classifier of words as judge of sentiment: `words:FILE`, fitted on labelled texts such as reviews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from rain_decoding.errors import InputError
from rain_decoding.evaluation.judges.base import Accuracy, Label
from rain_decoding.evaluation.provenance import file_hash
from rain_decoding.evaluation.suites.base import Item
from rain_decoding.evaluation.suites.reading import read_csv
from rain_decoding.measurement.statistics import rate
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.words import Words
from rain_decoding.types import Message

LONGEST = 64
"""Words of the beginnings that its errors are measured on."""
FOLDS = 5
LEAST = 20
"""Texts of each label without which nothing is fitted."""
LABELS = {"positive": True, "negative": False}


class WordsJudge:
    """Says whether the request continued by the answer is positive, by the words of texts that are labelled so.

    FILE is a CSV file with `review` and `sentiment` (positive or negative). It is fitted on whole texts; how often it
    errs is measured on the beginnings of those held out, since answers are no longer. Raises `InputError` for a file
    that does not fit.
    """

    questions: tuple[str, ...] = ("positive",)

    def __init__(self, name: str):
        self.name = self.source = name
        path = Path(name.partition(":")[2])
        examples = [_example(place, row) for place, row in read_csv(path, ["review", "sentiment"])]
        good = np.array([example.good for example in examples], dtype=bool)
        if min(good.sum(), (~good).sum()) < LEAST:
            raise InputError(
                f"{path}: {good.sum()} positive and {(~good).sum()} negative texts",
                hint=f"use at least {LEAST} of each",
            )
        self.version = file_hash(path)
        self.accuracy: Mapping[str, Accuracy] = {"positive": _accuracy(examples, good)}
        self._words = Words(examples)

    def label(self, item: Item, answer: str, questions: Sequence[str]) -> Label:
        if not answer.strip():
            return Label({"positive": None}, malformed=True, problem="the answer is empty")
        text = f"{item.prompt} {answer}"
        odds = float(self._words.log_odds([_text(text, True)])[0])
        return Label({"positive": odds > 0}, note=f"log-odds {odds:+.2f}")


def _accuracy(examples: Sequence[ReadingExample], good: np.ndarray) -> Accuracy:
    """How often each label is found, on folds held out."""
    said = np.zeros(len(examples), dtype=bool)
    for learned, held in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(good, good):
        words = Words([examples[place] for place in learned])
        said[held] = words.log_odds([_beginning(examples[place]) for place in held]) > 0
    yes, no = rate(said[good].tolist()), rate((~said[~good]).tolist())
    assert yes is not None and no is not None, "there are texts of both labels"
    return Accuracy(yes, no)


def _example(place: str, row: Mapping[str, str]) -> ReadingExample:
    if row["sentiment"] not in LABELS:
        raise InputError(f"{place}: sentiment = {row['sentiment']!r}", hint=f"use {' or '.join(LABELS)}")
    return _text(row["review"].replace("<br />", " "), LABELS[row["sentiment"]])


def _text(text: str, good: bool) -> ReadingExample:
    return ReadingExample((Message("user", "-"),), text, good, text)


def _beginning(example: ReadingExample) -> ReadingExample:
    return replace(example, answer=" ".join(example.answer.split()[:LONGEST]))
