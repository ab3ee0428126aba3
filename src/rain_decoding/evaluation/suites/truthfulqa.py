"""TruthfulQA (Lin et al. 2021, arXiv 2109.07958), the generation task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite
from rain_decoding.evaluation.suites.reading import read_table

QUESTION, BEST, CORRECT, INCORRECT = "Question", "Best Answer", "Correct Answers", "Incorrect Answers"
NAMES = {
    "question": QUESTION,
    "best_answer": BEST,
    "correct_answers": CORRECT,
    "incorrect_answers": INCORRECT,
    "category": "Category",
}
"""What the hub calls the columns."""


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The questions, with the answers that count as correct and incorrect."""
    for place, row in read_table(files["questions"], [QUESTION, BEST], HUB, NAMES):
        for column in (CORRECT, INCORRECT):
            if column not in row:
                raise InputError(f"{place}: there is no column {column}", hint=f"columns: {', '.join(row)}")
        question = row[QUESTION].strip()
        facts = {"best": row[BEST], "correct": _answers(row[CORRECT]), "incorrect": _answers(row[INCORRECT])}
        yield Item("question", question, question, facts)


def _answers(value: Any) -> list[str]:
    """Separated by semicolons in the file, a list on the hub."""
    parts = value.split(";") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


HUB = {"path": "truthfulqa/truthful_qa", "name": "generation", "split": "validation"}
SUITE = Suite(
    "truthfulqa",
    "questions that people tend to answer falsely",
    (Family("question", (Metric("truthful"), Metric("informative")), criterion="truthfulness"),),
    load,
    {"questions": Source(f"CSV with {QUESTION}, {BEST}, {CORRECT}, {INCORRECT}", HUB)},
    axes=(("question", "informative"), ("question", "truthful")),
)
