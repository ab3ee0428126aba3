"""TruthfulQA's answers as examples: in pairs, and the same ones every time."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from real_models.truth import answers, first_questions

QUESTIONS = [f"How many lives has cat {number}?" for number in range(20)]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A file in TruthfulQA's form, whose last question has no false answer."""
    file = tmp_path / "TruthfulQA.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        rows = [(question, f" One, {question}", f"Nine, {question}; Seven") for question in QUESTIONS]
        csv.writer(opened).writerows(
            [("Question", "Best Answer", "Incorrect Answers"), *rows, ("Is it so?", "Yes", " ")]
        )
    return file


def test_each_question_has_its_true_answer_and_a_false_one(released: Path) -> None:
    found = list(answers(released, 100))
    assert [each.messages[0].content for each in found] == [each for each in QUESTIONS for _ in range(2)]
    for true, false in zip(found[::2], found[1::2], strict=True):
        question = true.messages[0].content
        assert (true.answer, true.good, true.kind) == (f"One, {question}", True, "true")
        assert (false.answer, false.good, false.kind) == (f"Nine, {question}", False, "false")
        assert true.group == false.group == question, "folds do not part them"


def test_as_many_questions_are_drawn_and_asked_about_as_wanted(released: Path) -> None:
    drawn = list(answers(released, 7))
    assert drawn == list(answers(released, 7)) and len({each.group for each in drawn}) == 7
    some = first_questions(drawn, 3)
    assert len({each.group for each in some}) == 3 and [each.good for each in some] == [True, False] * 3
